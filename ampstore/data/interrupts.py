"""Ctrl-C and SIGTERM, answered between two writes.

A batch system sends SIGTERM some time before it kills. Both signals end a calculation in the same
way: what is finished is stored, claims are given back. Then KeyboardInterrupt or SystemExit(143)
goes up, 143 being what a shell reports for a program that SIGTERM ended.

Handlers are set in the main thread only, only where the program has not set its own, and put back.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupts:
    """Context in which both signals raise, but not within `shielded`."""

    def __init__(self) -> None:
        self._before: dict[int, _Handler] = {}
        self._depth = 0
        self._pending: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, ours in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == ours:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """A signal waits until the block has ended."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._pending is not None and not self._depth:
                number, self._pending = self._pending, None
                _raise(number)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._depth:
            self._pending = number
        else:
            _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    raise KeyboardInterrupt
