"""Cores of a machine that this process may use: its CPU affinity, and the quotas of its cgroups.

`os.cpu_count()` is what the machine has: in a container with two cores of 64 it says 64.

    cgroup v2   <mount>/<path>/cpu.max                          "200000 100000": two cores
    cgroup v1   <mount>/<path>/cpu.cfs_quota_us, ..._period_us  -1: no quota

A quota of any parent counts too. A quota of 2.5 cores gives 2: one worker more would only have all of
them throttled.
"""

import os
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ampstore.cores.job import Reader, read_text

_CGROUP = "/proc/self/cgroup"
_MOUNTS = "/proc/self/mountinfo"
_STATUS = "/proc/self/status"
_DEEPEST = 64
_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*([0-9,-]+)\s*$", re.MULTILINE)


def usable_cores(reader: Reader = read_text) -> int:
    """Cores that this process may use, at least 1.

    Parameters
    ----------
    reader : callable, optional
        Path -> text of a file, OSError if there is none.
    """
    return max(1, min([_affinity(reader), *map(int, _quotas(reader))]))


def _affinity(reader: Reader) -> int:
    match = _ALLOWED.search(_text(reader, _STATUS))
    if match is not None:
        bounds = [part.partition("-") for part in match[1].split(",") if part]
        return sum(int(last or first) - int(first) + 1 for first, _, last in bounds)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(reader: Reader) -> Iterator[float]:
    """Cores that the cgroups of this process may use."""
    mounts = list(_mounts(reader))
    for line in _text(reader, _CGROUP).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        for kind, root, point, options in mounts:
            if (kind == "cgroup2" and not controllers) or (kind == "cgroup" and "cpu" in names and "cpu" in options):
                for directory in _upwards(path, root, point):
                    yield from _quota(reader, directory)


def _mounts(reader: Reader) -> Iterator[tuple[str, str, str, list[str]]]:
    """Kind, root, mount point and options of all mounted cgroup trees."""
    for line in _text(reader, _MOUNTS).splitlines():
        before, _, after = line.partition(" - ")
        mount, kind = before.split(" "), after.split(" ")
        if len(mount) >= 5 and len(kind) >= 3 and kind[0].startswith("cgroup"):
            yield kind[0], _unescaped(mount[3]), _unescaped(mount[4]), kind[2].split(",")


def _upwards(path: str, root: str, point: str) -> Iterator[str]:
    """Directories of a cgroup and its parents, as far as they are mounted here."""
    here = PurePosixPath(path)
    inside = here.relative_to(root) if here.is_relative_to(root) and ".." not in here.parts else PurePosixPath()
    for directory in [inside, *inside.parents][:_DEEPEST]:
        yield str(PurePosixPath(point) / directory)


def _quota(reader: Reader, directory: str) -> Iterator[float]:
    words = _text(reader, f"{directory}/cpu.max").split()
    if not words:
        words = [_text(reader, f"{directory}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) == 2 and all(word.isdecimal() and word.isascii() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _text(reader: Reader, path: str) -> str:
    try:
        return reader(path)
    except (OSError, ValueError):
        return ""


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
