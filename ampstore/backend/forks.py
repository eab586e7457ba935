"""Before this process forks, it closes its connections; each thread opens a new one with its next operation.

SQLite keeps the locks of a process in its memory, one table for each file, and a child inherits the
table but not the locks. A connection that the child opens then believes in a lock that only the
parent had. When the parent has gone, the next program takes itself for the last one and deletes the
WAL, and what the child commits afterwards is lost, without an error. A mutex that another thread had
at that moment stays locked for ever in the child.

A connection in a transaction cannot be closed, nor one that another thread uses for longer than
`LONGEST_WAIT`. Then the parent goes on as if nothing had been, and the child is refused the file by name.

A fork and exec, as of `subprocess`, comes not by here and needs nothing of this.
"""

import contextlib
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from ampstore.late import late_logger

log = late_logger(__name__)

LONGEST_WAIT = 1.0
"""Seconds for which a fork waits for the operations of other threads."""

_HERE = os.path.dirname(__file__) + os.sep
_HELPERS = frozenset((_HERE + "turns.py", __file__))  # threads that wait in a queue have no connection

Identity = tuple[int, int]


class Member(Protocol):
    """Connections to one file."""

    def identity(self) -> Identity | None:
        """Device and inode of the file, None if it is gone."""

    def is_idle(self) -> bool:
        """Whether no connection is in a transaction."""

    def take_all(self) -> list[sqlite3.Connection]:
        """All connections; every thread opens a new one when it needs it."""

    def close_taken(self, taken: list[sqlite3.Connection]) -> None:
        """Close connections, and whatever rests on their files."""

    def forget_parent(self) -> None:
        """Keep what a child inherited, and use none of it."""


_members: "weakref.WeakSet[Member]" = weakref.WeakSet()
_gate = threading.Event()
_gate.set()
_at_the_gate: set[int] = set()
_inherited: set[Identity] = set()
_in_use: set[Identity] = set()


def register(member: Member) -> None:
    """Let these connections be closed before a fork."""
    _members.add(member)


def wait_for_fork() -> None:
    """Wait while another thread forks; to be called with no connection in hand."""
    if not _gate.is_set():
        _at_the_gate.add(threading.get_ident())
        try:
            _gate.wait(2 * LONGEST_WAIT)
        finally:
            _at_the_gate.discard(threading.get_ident())


def is_inherited(identity: Identity | None) -> bool:
    """Whether SQLite's state of a file came from the parent of this process."""
    return identity in _inherited


def _before() -> None:
    """Close what is idle; remember what is not."""
    _gate.clear()
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        with _no_other_thread():
            alone = not any(map(_uses_a_connection, _other_stacks()))
            idle = [member for member in list(_members) if alone and member.is_idle()]
            if len(idle) == len(_members) or time.monotonic() > deadline or not alone_may_help():
                taken = [(member, member.take_all()) for member in idle]
                break
        time.sleep(0.001)
    for member, connections in taken:
        member.close_taken(connections)
    _in_use.update(identity for member in set(_members) - set(idle) if (identity := member.identity()))


def alone_may_help() -> bool:
    """Whether there is another thread at all to wait for."""
    return threading.active_count() > 1


def _after_in_parent() -> None:
    _in_use.clear()
    _gate.set()


def _after_in_child() -> None:
    global _gate  # noqa: PLW0603 - a thread of the parent may hold its lock
    _inherited.update(_in_use)
    _in_use.clear()
    _at_the_gate.clear()
    _gate = threading.Event()
    _gate.set()
    for member in list(_members):
        member.forget_parent()


@contextlib.contextmanager
def _no_other_thread() -> Iterator[None]:
    """Python switches to no other thread in the block, which must not wait for anything."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def _other_stacks() -> Iterator[FrameType]:
    here = threading.get_ident()
    for thread, frame in sys._current_frames().items():  # noqa: SLF001 - the only way to see what others do
        if thread != here and thread not in _at_the_gate:
            yield frame


def _uses_a_connection(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_HERE) and name not in _HELPERS:
            return True
        frame = frame.f_back
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
