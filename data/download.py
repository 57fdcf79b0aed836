"""Download public super-resolution sets: resume interrupted downloads, verify the archive, unpack it atomically.

`python data/download.py --help` lists the sets.
"""

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import sys
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils import Parser, UserError, exit_status, reason

BLOCK = 1 << 18  # bytes that are read at a time
AGAIN = "run the same command again to resume"


class Source(NamedTuple):
    """An archive with a set of pictures, and where they are put."""

    url: str
    size: int  # of the archive in bytes
    sha256: str  # of the archive
    inside: str  # folder of the pictures in the archive
    target: str  # folder of the set, in the folder --into
    below: str = "."  # folder of the pictures, in the target


# data/README.md says who published the sizes and hashes.
DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
DIV2K_TRAIN = "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"
DIV2K_VALID = "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"
EDSR_HASH = "80c21c333bbf6ceb5308b7243761f8284478274413a97b96f1d63e9045fd93e8"
EDSR = "https://cv.snu.ac.kr/research/EDSR/benchmark.tar", 250_112_000, EDSR_HASH
SETS = {
    "div2k": Source(DIV2K + "DIV2K_train_HR.zip", 3_530_603_713, DIV2K_TRAIN, "DIV2K_train_HR", "div2k"),
    "div2k_valid": Source(DIV2K + "DIV2K_valid_HR.zip", 448_993_893, DIV2K_VALID, "DIV2K_valid_HR", "div2k_valid"),
    "bsd100": Source(*EDSR, "benchmark/B100/HR", "benchmark/BSD100", "HR"),
    "set5": Source(*EDSR, "benchmark/Set5/HR", "benchmark/Set5", "HR"),
    "set14": Source(*EDSR, "benchmark/Set14/HR", "benchmark/Set14", "HR"),
}


@contextlib.contextmanager
def network(source: Source) -> Iterator[None]:
    """Turn network errors in the block into a UserError."""
    try:
        yield
    except (http.client.HTTPException, OSError) as error:
        code = f"HTTP {error.code}: " if hasattr(error, "code") else ""
        why = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise UserError(f"{source.url}: {code}{why}; {AGAIN}, or see data/README.md") from error


def request(source: Source, start: int) -> tuple[http.client.HTTPResponse, int]:
    """Request the archive from byte `start` on; return (response, byte at which its body starts, `start` or 0).

    Raises UserError if there is no response or the archive has another size.
    """
    headers = {"Range": f"bytes={start}-"} if start else {}
    with network(source):
        answer = urllib.request.urlopen(urllib.request.Request(source.url, headers=headers), timeout=60)
    first, total = 0, answer.length  # a server that ignores Range sends all of it
    if answer.status == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        first, total = map(int, match.groups()) if match else (-1, None)
    if first in (0, start) and (total or source.size) == source.size:
        return answer, first
    answer.close()
    raise UserError(f"{source.url}: not the {source.size} bytes it should be; the archive there has changed")


def transfer(source: Source, part: Path) -> None:
    """Download the missing bytes of the archive into `part`. Raises UserError if the connection breaks."""
    have = part.stat().st_size if part.exists() else 0  # bytes
    if have == source.size:
        return
    print(f"{source.url}: {source.size / 1e6:.0f} MB", flush=True)
    answer, done = request(source, have if have < source.size else 0)
    bar = tqdm(desc=part.stem, total=source.size, initial=done, unit="B", unit_scale=True, disable=None)
    with answer, bar, open(part, "ab" if done else "wb") as file:
        while done < source.size:
            with network(source):
                block = answer.read1(BLOCK)
            if not block:
                raise UserError(f"{source.url}: broke off after {done} of {source.size} bytes; {AGAIN}")
            done += file.write(block[: source.size - done])
            bar.update(done - bar.n)


def fetch(source: Source, folder: Path) -> Path:
    """Download the archive into `folder` unless it is there, and verify it; return its path.

    Raises UserError if it cannot be downloaded or has a wrong hash; it is then deleted.
    """
    archive = folder / source.url.rsplit("/", 1)[-1]
    part = archive.with_name(archive.name + ".part")
    folder.mkdir(parents=True, exist_ok=True)
    if archive.exists():
        os.replace(archive, part)  # verified like a new one, and completed if it is too short
    transfer(source, part)
    print(f"{archive}: checking", flush=True)
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != source.sha256:
        part.unlink()  # resuming would not repair it
        hashes = f"SHA-256 {digest} instead of {source.sha256}"
        raise UserError(f"{source.url}: came with {hashes}; deleted, run the same command again")
    os.replace(part, archive)
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar into `folder`, and nothing outside it. Raises UserError if it is damaged or unsafe."""
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    file.extract(name, folder)  # without .. and the root of any name, and links as plain files
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")  # refuses names and links that lead outside
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{archive}: damaged ({error}); delete it and run the same command again") from error


def download(source: Source, into: Path) -> str:
    """Download a set into the folder `into` unless it is there; return the line to print.

    Raises UserError if the archive cannot be downloaded or unpacked, and OSError if the disk is full.
    """
    target, downloads = into / source.target, into / "downloads"
    if target.exists() and any(target.iterdir()):
        return f"{target}: is there already and left as it is"
    archive = fetch(source, downloads)
    unpacked = downloads / f"{target.name}.unpacking"  # where no training or evaluation looks for pictures
    shutil.rmtree(unpacked, ignore_errors=True)  # left over from a run that was killed
    try:
        unpack(archive, unpacked)
        count = len(list((unpacked / source.inside).glob("*.png")))
        if not count:
            raise UserError(f"{archive}: no pictures in its folder {source.inside}")
        target.mkdir(parents=True, exist_ok=True)
        target.rmdir()  # Windows cannot rename onto an existing folder, even if it is empty
        whole = unpacked / ".set"
        (whole / source.below).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / source.inside).rename(whole / source.below)
        whole.rename(target)  # so the set appears at once
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return f"{target}: {count} pictures; {archive} can be deleted"


def main(argv: Sequence[str] | None = None, sets: Mapping[str, Source] = SETS) -> int:
    """Download one set and return the exit status. argv: the arguments, by default those of the process."""
    parser = Parser(prog="download.py", description="Fetch a public super-resolution set.")
    listed = "; ".join(f"{name}: {source.size / 1e6:.0f} MB to {source.target}" for name, source in sets.items())
    parser.add_argument("name", choices=sets, help=listed)
    parser.add_argument("--into", type=Path, default=Path("data"), metavar="FOLDER", help="default: data")
    options = parser.parse_args(argv)

    def work() -> int:
        try:
            print(download(sets[options.name], options.into))
        except OSError as error:  # an error of the disk; those of the network are UserErrors
            place = error.filename or options.into
            raise UserError(f"{place}: {reason(error)}; make room, or use --into") from error
        return 0

    return exit_status("download.py", work, f"interrupted; {AGAIN}")


if __name__ == "__main__":
    sys.exit(main())
