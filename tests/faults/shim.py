"""The shim of shim.c: built with gcc, preloaded into a process, armed there through ctypes."""

import ctypes
import os
import shutil
import subprocess
from enum import IntEnum, IntFlag
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from ampstore import filesystem

SOURCE = Path(__file__).with_name("shim.c")


class Action(IntEnum):
    """What happens at the call that is counted to."""

    NOTHING = 0
    KILL = 1
    FAIL = 2
    TEAR = 3
    """Half of the write is done, then the process dies."""


class Call(IntFlag):
    """Kinds of calls that are counted."""

    WRITE = 1
    SYNC = 2
    SIZE = 4
    NAME = 8
    OPEN = 16
    READ = 32
    LOCK = 64
    FLOCK = 128

    CHANGES = WRITE | SYNC | SIZE | NAME


@cache
def built() -> Path:
    """The shared library, built once for this process."""
    library = Path(mkdtemp(prefix="ampstore-shim-")) / "shim.so"
    gcc = shutil.which("gcc")
    if not gcc:
        raise FileNotFoundError("gcc")
    command = [gcc, "-O1", "-shared", "-fPIC", "-Wall", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return library


class Shim:
    """The shim in this process, which was started with it in LD_PRELOAD."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_calls.restype = ctypes.c_long
        self._library.faults_mark.argtypes = [ctypes.c_long]

    def arm(self, directory: str, action: int, calls: int, at: int = 0, error: int = 0, again: bool = False) -> None:
        """Count calls on files below a directory; act at the `at`-th, and at all later ones with `again`."""
        arguments = (directory.encode(), action, calls, ctypes.c_long(at), error, int(again))
        self._library.faults_arm(*arguments)

    def filesystem(self, magic: int) -> None:
        """Let statfs say that the directory is on a file system of this kind, and the table of mounts nothing."""
        if magic:
            filesystem.MOUNTS = os.devnull
        self._library.faults_filesystem(magic)

    def record(self, descriptor: int) -> None:
        """Record all calls into a file."""
        self._library.faults_record(descriptor)

    def mark(self, number: int) -> None:
        """Note in the record that something was acknowledged."""
        self._library.faults_mark(number)

    @property
    def calls(self) -> int:
        """Calls counted so far."""
        return int(self._library.faults_calls())
