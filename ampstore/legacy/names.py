"""Which texts can be the name of a loose file or an archive member, and which files are ours."""

import secrets
from typing import NamedTuple

from ampstore.errors import InvalidKeyError

_OURS = ".ampstore-"


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
    return f"{_OURS}{secrets.token_hex(8)}.tmp"


def is_ours(name: str) -> bool:
    """Whether `temporary_name` made this name."""
    return name.startswith(_OURS)


def is_left_over(name: str) -> bool:
    """Whether a killed process (ours, or an NFS client) left this file behind."""
    return name.startswith((_OURS, ".nfs"))
