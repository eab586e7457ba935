"""Moves: how a search gets from one state to the next.

    move(state, rng) -> new state            a function; `state` stays as it is
    move(state, rng) -> Moved(new, change)   the same, and the change of the loss is known
    move(state, rng) -> change, EVALUATE     an object with `undo(state)`: changes `state` in place

A new state may be a buffer of the move's own which the next call but one overwrites: the search
copies what it keeps. A move that draws in blocks has `memory()` and `recall(memory, rng)`, so that a
checkpoint can be taken in the middle of a block. No move here copies or allocates anything per step.
"""

import math
from collections.abc import Callable, Mapping, MutableSequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy
from numpy.random import Generator

from ampstore.anneal.blocks import Rows, Uniforms
from ampstore.errors import ScheduleError

Vector = numpy.ndarray[Any, numpy.dtype[numpy.float64]]


class _Evaluate:
    """Type of `EVALUATE`."""

    def __repr__(self) -> str:
        return "EVALUATE"

    def __reduce__(self) -> str:
        return "EVALUATE"


EVALUATE = _Evaluate()
"""Returned by a move in place that does not know the change of the loss: it has to be evaluated."""


class Moved(NamedTuple):
    """A new state and what it changed.

    Attributes
    ----------
    state : object
    change : float
        New loss minus old loss.
    """

    state: Any
    change: float


class Move(Protocol):
    """What every move is: see the module."""

    def __call__(self, state: Any, rng: Generator, /) -> Any:
        """Go to another state."""
        ...


@runtime_checkable
class InPlace(Protocol):
    """A move that changes the state itself and can take that back."""

    def __call__(self, state: Any, rng: Generator, /) -> float | _Evaluate:
        """Change the state; the change of the loss, or `EVALUATE`."""
        ...

    def undo(self, state: Any, /) -> object:
        """Take the last change back, exactly."""
        ...


class _WholeVector:
    """Moves all entries of a float vector at once, from one buffer into another."""

    def __init__(self, width: float, centre: float, combine: Callable[..., object]) -> None:
        self.width = _positive("width", width)
        self._centre, self._combine = centre, combine
        self._rows: Rows | None = None
        self._here = self._there = numpy.empty(0)

    def __call__(self, state: Vector, rng: Generator, /) -> Vector:
        """New state, in a buffer that the next call but one overwrites."""
        rows = self._rows
        if rows is None or rows.rng is not rng:
            rows = self._start(numpy.size(state), rng)
        if state is self._here:
            new = self._there
        elif state is self._there:
            new = self._here
        else:
            new = self._here
            if new.size != numpy.size(state):
                rows = self._start(numpy.size(state), rng)
                new = self._here
        self._combine(state, (rows.left or rows.refill()).pop(), new)
        return new

    def _start(self, size: int, rng: Generator) -> Rows:
        self._rows = Rows(rng, size, self._centre, self.width)
        self._here, self._there = numpy.empty(size), numpy.empty(size)
        return self._rows

    def memory(self) -> dict[str, object]:
        """Where it is in its random numbers."""
        return {} if self._rows is None else {"size": self._rows.size, "rows": self._rows.memory()}

    def recall(self, memory: Mapping[str, Any], rng: Generator) -> None:
        """Go on from a checkpoint."""
        self._rows = None
        if memory:
            self._start(memory["size"], rng).recall(memory["rows"])


class Scale(_WholeVector):
    """Multiplies every entry of a float vector by 1 + u, u uniform within `width` of 0.

    Amp's move. Entries that are 0 never move, and with a width below 1 none changes its sign.

    Parameters
    ----------
    width : float, default 0.0005
        Largest relative change.
    """

    def __init__(self, width: float = 0.0005) -> None:
        super().__init__(width, 1.0, numpy.multiply)


class Shift(_WholeVector):
    """Adds u to every entry of a float vector, u uniform within `width` of 0.

    Parameters
    ----------
    width : float
        Largest change, in units of the entries.
    """

    def __init__(self, width: float) -> None:
        super().__init__(width, 0.0, numpy.add)


class _Drawing:
    """A move in place that takes single numbers from a block."""

    def __init__(self) -> None:
        self._numbers: Uniforms | None = None

    def _start(self, rng: Generator) -> Uniforms:
        self._numbers = Uniforms(rng)
        return self._numbers

    def draw(self, rng: Generator) -> float:
        """The next number in [0, 1)."""
        numbers = self._numbers
        if numbers is None or numbers.rng is not rng:
            numbers = self._start(rng)
        return (numbers.left or numbers.refill()).pop()

    def memory(self) -> dict[str, object]:
        """Where it is in its random numbers."""
        return {} if self._numbers is None else self._numbers.memory()

    def recall(self, memory: Mapping[str, Any], rng: Generator) -> None:
        """Go on from a checkpoint."""
        self._numbers = None
        if memory:
            self._start(rng).recall(memory)


class Nudge(_Drawing):
    """Adds u to one entry of a vector, in place, u uniform within `width` of 0.

    Parameters
    ----------
    width : float
        Largest change, in units of the entries.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = _positive("width", width)
        self._index, self._old = 0, 0.0

    def __call__(self, state: MutableSequence[float], rng: Generator, /) -> float | _Evaluate:
        """Change one entry; the loss has to be evaluated."""
        self._index = index = int(len(state) * self.draw(rng))
        self._old = old = state[index]
        state[index] = old + self.width * (2.0 * self.draw(rng) - 1.0)
        return EVALUATE

    def undo(self, state: MutableSequence[float], /) -> None:
        """Put the entry back."""
        state[self._index] = self._old


class Swap(_Drawing):
    """Exchanges two entries of a list or vector, in place; the entries chosen may be the same."""

    def __init__(self) -> None:
        super().__init__()
        self._pair = 0, 0

    def __call__(self, state: MutableSequence[Any], rng: Generator, /) -> float | _Evaluate:
        """Exchange two entries; the loss has to be evaluated."""
        size = len(state)
        self._pair = int(size * self.draw(rng)), int(size * self.draw(rng))
        self.undo(state)
        return EVALUATE

    def undo(self, state: MutableSequence[Any], /) -> None:
        """Exchange them again."""
        i, j = self._pair
        state[i], state[j] = state[j], state[i]


class Reverse(_Drawing):
    """Turns a part of a list or vector round, in place: two edges of a round trip change.

    References
    ----------
    Lin, Bell System Technical Journal 44, 2245 (1965).
    """

    def __init__(self) -> None:
        super().__init__()
        self._span = 0, 0

    def __call__(self, state: MutableSequence[Any], rng: Generator, /) -> float | _Evaluate:
        """Turn a part round; the loss has to be evaluated."""
        size = len(state)
        i, j = int(size * self.draw(rng)), int(size * self.draw(rng))
        self._span = (i, j + 1) if i <= j else (j, i + 1)
        self.undo(state)
        return EVALUATE

    def undo(self, state: MutableSequence[Any], /) -> None:
        """Turn it round again."""
        start, stop = self._span
        part = state[start:stop]
        state[start:stop] = part[::-1].copy() if isinstance(part, numpy.ndarray) else part[::-1]


def _positive(name: str, value: object) -> float:
    number = float(value)  # type: ignore[arg-type]
    if not (math.isfinite(number) and number > 0):
        raise ScheduleError(name, value, "it is a finite number above 0")
    return number
