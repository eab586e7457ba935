"""What a store may do where several hosts share the file system: the policy, and the one warning about it.

SQLite's WAL needs memory that all who have the file open share, which processes of one host have only. On a
shared file system stores are kept in a rollback journal; containers, which several hosts write to, get a spool
besides (see `ampstore.spool`). `AMPSTORE_NETWORK_FS` lets the user decide:

    spool     what is said above; the default
    wal       as on a local disk: right if all who open the store are on one host, and fatal if not
    refuse    an error at the first write

One statfs for each device that a process meets.
"""

import errno
import os
from pathlib import Path
from typing import Literal, cast

from ampstore.errors import NetworkFileSystemError, SettingError
from ampstore.filesystem import FileSystem, file_system
from ampstore.late import late_logger

log = late_logger(__name__)

SETTING = "AMPSTORE_NETWORK_FS"
CHOICES = ("wal", "spool", "refuse")

_NO_ANSWER = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing about the path: to take it for a local one would be fatal on a shared one."""

Policy = Literal["wal", "spool", "refuse"]

_known: dict[int, FileSystem] = {}
_warned: set[str] = set()


def setting() -> Policy:
    """What the user wants on shared file systems.

    Raises
    ------
    SettingError
        (a ValueError) if that is none of `CHOICES`.
    """
    chosen = os.environ.get(SETTING) or "spool"
    if chosen not in CHOICES:
        raise SettingError(SETTING, chosen, CHOICES)
    return cast("Policy", chosen)


def shared_file_system(path: Path) -> FileSystem | None:
    """The shared file system that a path, or the directory that it will be in, lies on; None on a local one."""
    for place in (path, *path.parents):
        try:
            device = os.stat(place).st_dev
            if device not in _known:
                _known[device] = file_system(place)
        except OSError as err:
            if err.errno in _NO_ANSWER:
                raise
            continue
        return _known[device] if _known[device].shared else None
    return None


def may_be_spooled(path: Path) -> bool:
    """Whether reading must reckon with writers on other hosts; what a user refuses is only writing."""
    return setting() != "wal" and shared_file_system(path) is not None


def spools(path: Path, what: str = "one maintainer at a time changes its SQLite file; writers spool beside it") -> bool:
    """Whether a store must do without WAL; says so once for every path.

    Parameters
    ----------
    path : Path
        Of the store or container; it need not exist.
    what : str
        What is done, for the warning.

    Raises
    ------
    NetworkFileSystemError
        (an OSError) if the user wants no store there.
    SettingError
    """
    chosen = setting()
    found = shared_file_system(path)
    if found is None or chosen == "wal":
        return False
    if chosen == "refuse":
        raise NetworkFileSystemError(
            str(path),
            f"it lies on {found.name}, which several hosts may share, and {SETTING}=refuse; keep it on a local disk,"
            f" or set {SETTING}=spool",
        )
    if not {str(path), str(path.parent)} & _warned:  # the store of a container that was named already
        _warned.add(str(path))
        log.warning(
            "%s lies on %s, which several hosts may share, and SQLite's WAL works on one host only: %s "
            "(%s=wal|spool|refuse decides)",
            path,
            found.name,
            what,
            SETTING,
        )
    return True
