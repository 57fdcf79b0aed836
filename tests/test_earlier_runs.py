"""A picture whose run was killed goes on from its last finished strips, to the bits of an undisturbed run."""

import itertools
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from thorough import often

import upscale
from upscaling.earlier_runs import RECORD
from upscaling.models import Networks
from upscaling.plan import Job
from upscaling.upscaler import Upscaler
from upscaling.video.reader import Video
from utils import remove_partial_files

ROOT = Path(__file__).parents[1]
# It adds the mean of each tile, so that other tiles, or the same in another place, give other pixels.
PROGRAM = """if True:
    import os, signal, sys
    import numpy as np
    from pathlib import Path
    from upscaling.upscale_file import upscale_file
    from upscaling.network import Network
    from upscaling.photo.reader import open_photo
    from upscaling.upscaler import Upscaler

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def work(path, target, scale=2, name="one", tile=48, part=None, stop_at=0, stop=die):
        seen, progress = [], []

        def function(lr):
            seen.extend(lr)
            if len(seen) == stop_at:
                stop()
            return (lr * 0.9 + lr.mean((1, 2, 3), keepdims=True) * 0.1).repeat(2, axis=1).repeat(2, axis=2)

        upscaler = Upscaler(Network(function, 2), scale, tile)
        upscaler.batch = 1
        report = lambda *done: progress.append(done)
        upscale_file(open_photo(path), Path(target), upscaler, report, name, None, True, part)
        return len(seen), progress
"""
NAMES = {}
exec(PROGRAM, NAMES)
work = NAMES["work"]
PICTURES = {
    "colour.png": ((140, 70, 3), np.uint8),
    "grey.png": ((140, 70), np.uint8),
    "alpha.png": ((140, 70, 4), np.uint8),
    "deep.png": ((140, 70), np.uint16),
    "colour.tif": ((140, 70, 3), np.uint8),
}


def make(path, shape=(140, 70, 3), dtype=np.uint8):
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)).save(path)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def killed(source, target, at, scale=2):
    """Upscale in a process that ends itself in the middle of tile number `at`."""
    program = f"{PROGRAM}\n    work({str(source)!r}, {str(target)!r}, {scale}, stop_at={at})"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == -signal.SIGKILL
    remove_partial_files.cache_clear()  # as in a new process
    assert not target.exists()


def interrupted(source, target, at, scale=2):
    """Ctrl-C in the middle of tile number `at`, which takes no process."""

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(source, target, scale, stop_at=at, stop=stop)
    assert not target.exists()


RUNS = list(itertools.product(PICTURES, [2, 3]))


@pytest.mark.parametrize(
    "end, name, scale", [(interrupted, *run) for run in RUNS] + [(killed, *run) for run in often(RUNS[::3], RUNS)]
)
def test_a_run_that_was_ended_goes_on_to_the_same_bits(tmp_path, end, name, scale):
    source, target, straight = tmp_path / name, tmp_path / f"out-{name}", tmp_path / f"straight-{name}"
    make(source, *PICTURES[name])
    in_all, _ = work(source, straight, scale)
    assert in_all == 8 * 4  # windows of 48 pixels over 156 and 86, at most 16 from one to the next
    end(source, target, 23, scale)  # the third tile of the sixth strip
    again, progress = work(source, target, scale)
    assert again == in_all - 20
    assert progress[0] == (0, 12) and progress[-1] == (12, 12)
    assert np.array_equal(pixels(target), pixels(straight))
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name, straight.name}


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("count", [3, 11])
@pytest.mark.parametrize("name", PICTURES)
def test_parts_of_a_picture_give_the_same_bits(tmp_path, name, count, scale):
    """In any order, and one of them began before; the last of them finds all, and makes none."""
    source, target, straight = tmp_path / name, tmp_path / f"out-{name}", tmp_path / f"straight-{name}"
    make(source, *PICTURES[name])
    in_all, _ = work(source, straight, scale)
    interrupted(source, target, 7, scale)  # the first strip is there
    runs = [work(source, target, scale, part=(number, count)) for number in reversed(range(count))]
    assert sum(tiles for tiles, _ in runs) == in_all - 4
    assert all(progress[-1] == (tiles, tiles) for tiles, progress in runs)
    assert not target.exists() and work(source, target, scale)[0] == 0
    assert np.array_equal(pixels(target), pixels(straight))
    assert {path.name for path in tmp_path.iterdir()} == {source.name, target.name, straight.name}


@pytest.mark.parametrize("failed, tiles", [(0, "all"), (2, "its own")])
def test_what_a_part_that_failed_lacks_is_made_in_the_end(tmp_path, failed, tiles):
    source, target, straight = tmp_path / "a.png", tmp_path / "out.png", tmp_path / "straight.png"
    make(source)
    in_all, _ = work(source, straight)
    others = [work(source, target, part=(number, 3))[0] for number in range(3) if number != failed]
    assert 0 < sum(others) < in_all
    assert work(source, target)[0] == (in_all if tiles == "all" else in_all - sum(others))
    assert np.array_equal(pixels(target), pixels(straight))


def test_killed_twice_and_at_the_end(tmp_path):
    source, target = tmp_path / "a.png", tmp_path / "out.png"
    make(source)
    work(source, tmp_path / "straight.png")
    killed(source, target, 7)
    killed(source, target, 18)  # it begins with the second strip
    assert len(list((tmp_path / ".out.png.strips").glob("*.npz"))) == 1 + 4
    assert work(source, target)[0] == 32 - 20
    assert np.array_equal(pixels(target), pixels(tmp_path / "straight.png"))


@pytest.mark.parametrize("change, again", [("source", 32), ("identity", 32), ("a damaged strip", 24)])
def test_what_is_stale_or_damaged_is_made_again(tmp_path, change, again):
    source, target = tmp_path / "a.png", tmp_path / "out.png"
    make(source)
    interrupted(source, target, 23)
    if change == "source":
        Image.fromarray(255 - pixels(source)).save(source)
    elif change == "a damaged strip":  # the third of five: two are used
        path = sorted((tmp_path / ".out.png.strips").glob("*.npz"))[2]
        path.write_bytes(path.read_bytes()[:-200])
    assert work(source, target, name="another" if change == "identity" else "one")[0] == again
    work(source, tmp_path / "straight.png")
    assert np.array_equal(pixels(target), pixels(tmp_path / "straight.png"))
    assert not (tmp_path / ".out.png.strips").exists()


def test_with_less_memory_the_strips_are_used_and_the_rest_is_made_of_smaller_tiles(tmp_path):
    source, target, straight = (tmp_path / name for name in ("a.png", "out.png", "straight.png"))
    make(source)
    work(source, straight)
    (smaller_tiles, _) = work(source, tmp_path / "smaller.png", tile=40)
    interrupted(source, target, 23)
    rows = sum(len(np.load(path)["strip"]) for path in (tmp_path / ".out.png.strips").glob("*.npz"))
    assert 0 < work(source, target, tile=40)[0] < smaller_tiles
    assert 100 < rows < 280 and np.array_equal(pixels(target)[:rows], pixels(straight)[:rows])
    assert pixels(target).shape == (280, 140, 3) and not np.array_equal(pixels(target), pixels(straight))


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a small file system and returns its folder; only root may."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no file system may be mounted here")
        return folder

    yield mounted
    subprocess.run(["umount", folder], capture_output=True)


# The strips take 118 kB. On the first disk they do not fit, on the second nothing fits beside them.
@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("options", ["size=128k", "size=144k", "nr_inodes=6"])
def test_a_disk_too_full_for_strips_has_room_for_the_result(tmp_path, small_disk, options, suffix):
    source, straight, target = tmp_path / "a.png", tmp_path / "straight.png", small_disk(options) / f"out.{suffix}"
    make(source)
    assert work(source, straight) == work(source, target)
    assert np.array_equal(pixels(target), pixels(straight))
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("seconds, kept", [(20, False), (90, True)])
def test_the_command_keeps_strips_of_what_takes_long(tmp_path, monkeypatch, seconds, kept):
    """Ctrl-C, and the same command again; the estimate of the time is given."""
    monkeypatch.chdir(tmp_path)
    make("a.png")
    calls, whole = [], Networks.super_resolve

    def counted(networks, restore, lr):
        calls.append(len(lr))
        if len(calls) == 10:
            raise KeyboardInterrupt
        return whole(networks, restore, lr)

    monkeypatch.setattr(Networks, "super_resolve", counted)
    monkeypatch.setattr("upscaling.plan.QUICK", 0)
    monkeypatch.setattr(Upscaler, "seconds", lambda upscaler, pixels: seconds)
    monkeypatch.setattr("upscaling.upscaler.largest_tile", lambda: 48)  # one tile at a time
    words = ["a.png", "--model=espcn", "--tile=48"]
    assert upscale.main(upscale.command_line(words)) == 130
    assert Path(".a_x4.png.strips").exists() == kept
    assert upscale.main(upscale.command_line(words)) == 0
    assert len(calls) == 10 + 32 - (8 if kept else 0)
    assert {path.name for path in Path(".").iterdir()} == {"a.png", "a_x4.png", RECORD}


def test_strips_of_a_video_are_kept_where_its_frames_are_slow():
    for frames, seconds, kept in ((100, 9, False), (100, 11, True), (10000, 900, False), (0, 0, False)):
        job = Job(Video(Path("a.mp4"), (9, 9), frames, Fraction(25)), Path("b.mp4"), None)
        assert job.is_resumable(seconds) == kept
