"""Which texts can be the name of a loose file or an archive member, and which files are ours.

    .ampstore-PROCESS-RANDOM.tmp             is being written
    .ampstore-PROCESS-RANDOM-MTIME.KEY       was moved aside, to be removed if it is what it was at MTIME (ns)

The name tells the process, so that the next one knows whether it has ended, and needs no lock for it.
"""

import os
import re
from typing import NamedTuple

from ampstore.errors import InvalidKeyError
from ampstore.owner import process_has_ended, this_process

_OURS = ".ampstore-"
_NAME = re.compile(r"\.ampstore-([0-9]+:[0-9a-f]*-[0-9]*)-[0-9a-f]{16}(?:\.tmp|-([0-9]+)\.(.*))", re.DOTALL)


class Problem(NamedTuple):
    """Something in a container that holds no entry.

    Attributes
    ----------
    name : str
        Of the file or archive member.
    where : {"loose", "archive"}
    reason : str
    """

    name: str
    where: str
    reason: str


def reason_against(name: str) -> str:
    """Why a text cannot name an entry of the legacy layout, "" if it can."""
    if not name or name in (".", ".."):
        return "it names no file"
    if "/" in name:
        return "it has a slash, and would leave the container"
    if "\0" in name:
        return "it has a NUL character"
    if is_left_over(name):
        return "it is the name of a temporary file"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is not UTF-8, and keys are text"
    return f"it has {size} bytes, and file names end at 255" if size > 255 else ""


def check_name(key: str) -> None:
    """Refuse a key that the legacy layout cannot hold.

    Raises
    ------
    InvalidKeyError
    """
    if reason := reason_against(key):
        raise InvalidKeyError(key, reason)


def temporary_name() -> str:
    """Name for a file that is not finished; cannot be guessed, and is never taken for an entry."""
    return f"{_OURS}{this_process()}-{os.urandom(8).hex()}.tmp"


def aside_name(name: str, mtime_ns: int) -> str:
    """Name for a file on its way out, which others have a copy of if its mtime is this one.

    Should it not be, and its process be killed, then the name tells whose value it is; keys that are
    too long for that are left out.
    """
    aside = f"{_OURS}{this_process()}-{os.urandom(8).hex()}-{mtime_ns}."
    return aside + name if len((aside + name).encode()) <= 255 else aside


def is_ours(name: str) -> bool:
    """Whether `temporary_name` made this name."""
    return name.startswith(_OURS)


class Unfinished(NamedTuple):
    """What the name of a file of ours tells.

    Attributes
    ----------
    ended : bool
        Its process is known to have ended.
    mtime_ns : int or None
        Where it was moved aside: what it may be removed with.
    key : str
        Name that it had, "" if that is not known.
    """

    ended: bool
    mtime_ns: int | None
    key: str


def unfinished(name: str) -> Unfinished | None:
    """What the name of a file of ours tells; None if it is of an ampstore that named no process."""
    if not (found := _NAME.fullmatch(name)):
        return None
    return Unfinished(process_has_ended(found[1]), int(found[2]) if found[2] else None, found[3] or "")


def is_left_over(name: str) -> bool:
    """Whether a killed process (ours, or an NFS client) left this file behind."""
    return name.startswith((_OURS, ".nfs"))
