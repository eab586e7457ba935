"""What a person should know about the place where a store lies, and what to do about it.

Every check gives findings: what was looked at, whether it is well, what was found, what to do. Nothing is changed;
the speed test writes a file of its own beside the store and removes it. Damage inside the store is the business of
`verify`, which reads all of it.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from ampstore import schema
from ampstore.backend import about
from ampstore.errors import AmpstoreError
from ampstore.filesystem import file_system
from ampstore.legacy import container_path
from ampstore.store import Store
from ampstore.transfer import STORE_NAME

State = Literal["ok", "note", "bad"]

LITTLE_SPACE = 1 << 30
FEW_INODES = 1000
LARGE_WAL = 64 << 20
SLOW_FSYNC = 0.05  # seconds
SPEED_TEST = 20
PACKAGES = ("numpy", "ase", "sqlalchemy", "alembic", "zstandard", "filelock", "click", "rich")
OPTIONAL = ("psycopg", "pyzmq", "distributed", "matplotlib")


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    subject : str
    state : {"ok", "note", "bad"}
        "note" is worth knowing; "bad" keeps a store from working as promised.
    found : str
    advice : str
        What to do; "" if nothing.
    """

    subject: str
    state: State
    found: str
    advice: str = ""


def examine(path: Path, *, speed: bool = True) -> Iterator[Finding]:
    """Findings about a store's file, a container, or a directory in which one is to be made.

    Parameters
    ----------
    path : Path
    speed : bool
        Also measure how fast the directory takes small synced writes; a second at most.
    """
    directory, file = _place(path)
    checks: list[Callable[[], Iterator[Finding]]] = [_software, lambda: _directory(directory)]
    if file is not None:
        checks += [lambda: _permissions(file), lambda: _wal(file), lambda: _locks(file), lambda: _format(file)]
        checks += [lambda: _leftovers(file)]
    if speed and os.access(directory, os.W_OK):
        checks.append(lambda: _speed(directory))
    for check in checks:
        yield from check()


def _place(path: Path) -> tuple[Path, Path | None]:
    """The directory, and the file of the store if there is one."""
    container = container_path(path)
    if container.is_dir():
        file = container / STORE_NAME
        return container, file if file.is_file() else None
    if path.is_dir():
        return path, None
    return path.absolute().parent, path if path.exists() else None


def _software() -> Iterator[Finding]:
    linked = ".".join(map(str, about.LINKED))
    bugs = about.bugs()
    if bugs:
        for bug in bugs:
            mended = " or ".join(".".join(map(str, one)) for one in bug.mended)
            yield Finding(f"SQLite {linked}", "note", f"{bug.name}: {bug.says}", f"mended in {mended}")
    else:
        yield Finding(f"SQLite {linked}", "ok", "no bug is known that a store could meet")
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ampstore", "ok", f"{schema.version()}, format {schema.KNOWN[-1]}, Python {python}")
    yield Finding("packages", "ok", ", ".join(f"{name} {number}" for name, number in _versions()))


def _versions() -> Iterator[tuple[str, str]]:
    for name in (*PACKAGES, *OPTIONAL):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            if name in PACKAGES:
                yield name, "missing"


def _directory(directory: Path) -> Iterator[Finding]:
    kind = file_system(directory)
    if kind.shared:
        yield Finding(
            "file system",
            "bad",
            f"{kind.name}: several hosts may have it mounted, so that SQLite's WAL cannot be used",
            "use a container, whose writers spool; or a local disk, or a PostgreSQL URL; see docs/howto/network.md",
        )
    else:
        yield Finding("file system", "ok", kind.name)
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    little = free < LITTLE_SPACE
    yield Finding(
        "free space",
        "bad" if little else "ok",
        f"{free / 1e9:.1f} GB",
        "a full disk stops every write; make room before the next calculation" if little else "",
    )
    if room.f_files:
        few = room.f_favail < FEW_INODES
        yield Finding(
            "free inodes", "bad" if few else "ok", f"{room.f_favail:,}", "remove or archive small files" if few else ""
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        yield Finding(
            "directory",
            "note",
            f"{directory} cannot be written by this user",
            "open with 'r', or ask its owner: SQLite keeps -wal and -shm beside the store",
        )


def _permissions(file: Path) -> Iterator[Finding]:
    found = file.stat()
    names = [name for name in (f"{file}-wal", f"{file}-shm") if os.path.exists(name)]
    odd = [name for name in names if os.stat(name).st_mode & 0o666 != found.st_mode & 0o666]
    if not os.access(file, os.R_OK):
        yield Finding("permissions", "bad", f"{file.name} cannot be read by this user", "ask its owner")
    elif odd:
        other = ", ".join(os.path.basename(name) for name in odd)
        yield Finding(
            "permissions", "note", f"{other} and {file.name} differ in their mode", f"chmod them as {file.name}"
        )
    else:
        writable = "read and written" if os.access(file, os.W_OK) else "read"
        yield Finding("permissions", "ok", f"{file.name} has mode {found.st_mode & 0o777:o} and can be {writable}")


def _wal(file: Path) -> Iterator[Finding]:
    try:
        size = os.stat(f"{file}-wal").st_size
    except FileNotFoundError:
        yield Finding("WAL", "ok", "none: nobody has the store open for writing")
        return
    if size > LARGE_WAL:
        yield Finding(
            "WAL",
            "note",
            f"{size / 1e6:.0f} MB",
            "a reader or a large transaction holds it back; `ampstore compact` cuts it off when they are done",
        )
    else:
        yield Finding("WAL", "ok", f"{size / 1e6:.1f} MB; it belongs to the store: copy with `ampstore backup`")


def _locks(file: Path) -> Iterator[Finding]:
    found = about.holders(file)
    if found:
        yield Finding("locks", "ok", "held by " + ", ".join(f"{number} ({name})" for number, name in found.items()))
    else:
        yield Finding("locks", "ok", "none on this host")


def _format(file: Path) -> Iterator[Finding]:
    try:
        with Store(file, "r", timeout=5.0) as store:
            info = store.info()
            entries = len(store)
    except AmpstoreError as err:
        yield Finding("store", "bad", str(err), f"`ampstore salvage {file} NEW` gets out what is whole")
        return
    latest = info["format"] == schema.KNOWN[-1]
    yield Finding(
        "store",
        "ok" if latest else "note",
        f"{entries:,} entries, format {info['format']}, created by {info.get('created_by', 'an unknown program')}",
        "" if latest else "it is upgraded, after a backup, when it is next opened for writing",
    )


def _leftovers(file: Path) -> Iterator[Finding]:
    """Files that a program which was killed left beside the store."""
    names = [entry.name for entry in os.scandir(file.parent) if entry.name.endswith(".new") and entry.name[:1] == "."]
    if names:
        shown = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
        yield Finding("left-overs", "note", f"{len(names)}: {shown}", "of programs that were killed; remove them")


def _speed(directory: Path) -> Iterator[Finding]:
    """How long a small write takes until the disk has it; at most a second of it."""
    block, times = os.urandom(4096), list[float]()
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            end = time.monotonic() + 1.0
            while len(times) < SPEED_TEST and time.monotonic() < end:
                start = time.perf_counter()
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - start)
    except OSError as err:
        yield Finding("speed", "bad", f"a file of 80 kB could not be written: {err.strerror}", "see free space")
        return
    middle = statistics.median(times)
    slow = middle > SLOW_FSYNC
    found = f"{1000 * middle:.1f} ms for 4 kB until the disk has them"
    with contextlib.suppress(statistics.StatisticsError):
        found += f", {1000 * max(times):.1f} ms at worst"
    advice = "durability='full' and sync() wait for that; set many entries in one batch()" if slow else ""
    yield Finding("speed", "note" if slow else "ok", found, advice)
