"""Ctrl-C and SIGTERM, answered between two moves.

The first signal asks the search to stop: it finishes its move, writes its checkpoint, and puts the
handlers back. Then SIGINT lets the search return what it has, as Amp's does; SIGTERM goes on to end
the program, by the program's own handler if it has one, else with SystemExit(143). A second signal
acts at once, as it would have without us.

In other threads than the main one nothing is touched: Python gives signals to the main one only.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

_Handler = Callable[[int, FrameType | None], object] | int | None

_DEFAULT = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class Interrupts:
    """Context in which signals are reasons to stop.

    Parameters
    ----------
    stops : list of str
        Gets the name of the signal.
    terminate : bool
        Answer SIGTERM too: there is something to save.
    """

    def __init__(self, stops: list[str], *, terminate: bool) -> None:
        self._stops = stops
        self._answered = (signal.SIGINT, signal.SIGTERM) if terminate else (signal.SIGINT,)
        self._before: dict[int, _Handler] = {}
        self._came: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._answered:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()
        if exc[0] is None and self._came is not None:
            self._pass_on(self._came)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._came is not None:
            self._restore()
            signal.raise_signal(number)
            return
        self._came = number
        self._stops.append(signal.Signals(number).name)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int) -> None:
        if self._before[number] != _DEFAULT[signal.Signals(number)]:
            signal.raise_signal(number)
        elif number == signal.SIGTERM:
            raise SystemExit(128 + number)
