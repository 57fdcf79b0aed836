"""How much memory this process can still take, of the machine and of the container that it may run in."""

import contextlib
from pathlib import Path

import psutil

# Where Linux mounts control groups, from /, with the names of their files: limit, use, and what of it is files that are
# dropped when memory is needed (in memory.stat). In version 1 the statistics of parents are those with "total_".
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
MOUNTS = {
    VERSION_1: ["sys/fs/cgroup/memory"],
    VERSION_2: ["sys/fs/cgroup", "sys/fs/cgroup/unified"],  # the latter beside version 1
}


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that are free on the machine, or in the control group that has least left, if that is less.

    root: the folder that holds proc and sys. Source: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and
    cgroup-v2.rst.
    """
    left, groups = [psutil.virtual_memory().available], ""
    with contextlib.suppress(OSError):  # not Linux
        groups = (root / "proc/self/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)  # such as 4:memory:/docker/1f, in version 2 0::/docker/1f
        if controllers and "memory" not in controllers.split(","):
            continue
        names = VERSION_1 if controllers else VERSION_2
        for mount in MOUNTS[names]:
            group = root / mount / path.lstrip("/")
            # Its parents have limits too. In a container the mount may be the group itself, and the path one that
            # exists only outside.
            for folder in (group, *group.parents):
                with contextlib.suppress(OSError, ValueError, LookupError):  # no group; "max": no limit
                    left.append(bytes_left(folder, *names))
    return max(0, min(left))


def bytes_left(folder: Path, limit: str, usage: str, droppable: str) -> int:
    """Return the bytes up to the limit of one control group. limit, usage, droppable: as in MOUNTS.

    Raises OSError if there is no such group, and ValueError if it has no limit.
    """
    statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    used = int((folder / usage).read_text()) - int(statistics[droppable])
    return int((folder / limit).read_text()) - used
