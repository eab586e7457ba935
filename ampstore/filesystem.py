"""What kind of file system a path lies on, and which of them several hosts share.

Linux says it by a number in statfs. Python's `os.statvfs` does not hand that number out, so libc is asked. That takes
ctypes, some 5 ms to import, so the table of mounts is asked first: it is believed where it says that a device is one
of the usual local kinds. Devices that are not in it (subvolumes of btrfs, mounts of another namespace), and all other
kinds, are a question for statfs.
A kind that is not known here counts as local, as nearly all of them are; FUSE counts as shared, since what it
shows may be anywhere.
"""

import functools
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ctypes


class FileSystem(NamedTuple):
    """A kind of file system.

    Attributes
    ----------
    name : str
        "ext", "nfs", ...; "unknown" where the system does not say.
    shared : bool
        Several hosts may have it mounted, so that shared memory and locks of one host do not reach all
        who use a file.
    """

    name: str
    shared: bool


SHARED = {
    0x6969: "nfs",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x19830326: "beegfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x517B: "smb",
    0x00C36400: "ceph",
    0x65735546: "fuse",
    0x5346414F: "afs",
    0x73757245: "coda",
    0x7461636F: "ocfs2",
    0x01161970: "gfs2",
    0x01021997: "9p",
    0xAAD7AAEA: "panfs",
    0x20030528: "orangefs",
}
LOCAL = {
    0xEF53: "ext",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x858458F6: "ramfs",
    0x73717368: "squashfs",
    0x9660: "iso9660",
    0x4D44: "vfat",
}

MOUNTS = "/proc/self/mountinfo"
"""Where Linux lists the mounts that a process sees, by device."""

PLAIN = (b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"tmpfs", b"zfs", b"f2fs")
"""Kinds that are local whenever the table of mounts says so."""

_SIZE_OF_STATFS = 256  # bytes; the real structure has 120 on 64-bit Linux
_BITS = 0xFFFFFFFF


def file_system(path: str | os.PathLike[str]) -> FileSystem:
    """Kind of the file system that a file or directory lies on.

    Parameters
    ----------
    path : path-like
        Something that exists.

    Raises
    ------
    OSError
        As for any call on a path.
    """
    if kind := _plain_kind(os.stat(path).st_dev):
        return FileSystem(kind, shared=False)
    return _by_statfs(path)


def _plain_kind(device: int) -> str:
    """Kind of the file system on a device if the table of mounts says that it is a plain local one, else ""."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open(MOUNTS, "rb") as table:
            for line in table:
                mount, _, source = line.partition(b" - ")  # after a hyphen: kind, source, options
                if mount.split()[2:3] == [number]:
                    kind = source.split()[0]
                    return kind.decode() if kind in PLAIN else ""
    except (OSError, IndexError):
        pass
    return ""


def _by_statfs(path: str | os.PathLike[str]) -> FileSystem:
    import ctypes

    statfs = _statfs()
    if statfs is None:
        return FileSystem("unknown", shared=False)
    found = ctypes.create_string_buffer(_SIZE_OF_STATFS)
    if statfs(os.fsencode(path), found):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(path))
    magic = ctypes.c_long.from_buffer(found).value & _BITS  # f_type, a long, comes first
    if magic in SHARED:
        return FileSystem(SHARED[magic], shared=True)
    return FileSystem(LOCAL.get(magic, f"0x{magic:x}"), shared=False)


@functools.cache
def _statfs() -> "ctypes._NamedFuncPointer | None":
    if not os.path.isdir("/proc/self"):  # the structure is that of Linux
        return None
    import ctypes

    return getattr(ctypes.CDLL(None, use_errno=True), "statfs", None)
