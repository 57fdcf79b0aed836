"""The memory that tiles may take is that of the container, with files as the kernel lays them, and in real groups."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from upscaling.free_memory import VERSION_1, VERSION_2, free_memory

ROOT = Path(__file__).parents[1]
MEMORY = Path("/sys/fs/cgroup/memory")
MIB = 2**20


def group(folder, names, limit, usage, droppable=0):
    """The files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, usage)):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {droppable}\n")


@pytest.fixture
def root(tmp_path):
    """A root folder without a group, where this process is in lines() of proc."""
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def test_version_2_counts_every_parent_and_what_can_be_dropped(root):
    (root / "proc/self/cgroup").write_text("0::/system.slice/docker-1f.scope/inner\n")
    mount = root / "sys/fs/cgroup"
    group(mount / "system.slice", VERSION_2, "max", 9 * MIB)
    group(mount / "system.slice/docker-1f.scope", VERSION_2, 64 * MIB, 50 * MIB, 6 * MIB)
    group(mount / "system.slice/docker-1f.scope/inner", VERSION_2, 60 * MIB, 10 * MIB)
    group(mount / "system.slice/another", VERSION_2, 1 * MIB, 0)
    assert free_memory(root) == 20 * MIB
    group(mount / "system.slice/docker-1f.scope/inner", VERSION_2, 60 * MIB, 61 * MIB)  # beyond it, for a moment
    assert free_memory(root) == 0


@pytest.mark.parametrize("path", ["docker/1f", ""])
def test_version_1_beside_an_empty_version_2(root, path):
    """In a container the mount is the group itself, and its path exists only outside."""
    (root / "proc/self/cgroup").write_text("5:cpu,cpuacct:/docker/2e\n4:memory:/docker/1f\n0::/\n")
    group(root / "sys/fs/cgroup/memory/docker/2e", VERSION_1, 1 * MIB, 0)  # of another process
    group(root / "sys/fs/cgroup/memory" / path, VERSION_1, 64 * MIB, 50 * MIB, 6 * MIB)
    (root / "sys/fs/cgroup/unified").mkdir()
    assert free_memory(root) == 20 * MIB


@pytest.mark.parametrize("limit", ["max", 2**63 - 4096])
def test_without_a_limit_it_is_the_machines(root, limit):
    assert free_memory(root) == pytest.approx(psutil.virtual_memory().available, rel=0.5)  # no Linux
    (root / "proc/self/cgroup").write_text("4:memory:/\n0::/\n")
    group(root / "sys/fs/cgroup", VERSION_2, limit, MIB)
    group(root / "sys/fs/cgroup/memory", VERSION_1, limit, MIB)
    assert free_memory(root) == pytest.approx(psutil.virtual_memory().available, rel=0.5)


def test_a_real_group_of_this_kernel_makes_tiles_smaller():
    """Version 1, or version 2 where memory is delegated; as root."""
    first = MEMORY.is_dir()
    folder = (MEMORY if first else MEMORY.parent) / f"srgan-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / (VERSION_1 if first else VERSION_2)[0]).write_text(str(300 * MIB))
    except OSError:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip("no control group can be made here")
    program = "from upscaling.upscaler import largest_tile; print(largest_tile())"
    join = f'echo $$ > {folder}/cgroup.procs && exec "$@"'
    command = ["sh", "-c", join, "sh", sys.executable, "-c", program]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    finally:
        folder.rmdir()
    assert result.returncode == 0 and 64 <= int(result.stdout) <= (300 * MIB / 2 / 6000) ** 0.5, result.stderr
