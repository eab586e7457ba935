"""What a search looked like, point by point."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

Column = numpy.ndarray[Any, numpy.dtype[Any]]


class Point(NamedTuple):
    """One point of a trace.

    Attributes
    ----------
    step : int
        Moves made.
    temperature : float
        In units of the loss.
    loss : float
        Of the state at this step.
    best : float
        Lowest loss so far.
    acceptance : float
        Share of the moves since the last point that were accepted, 0 to 1.
    improvement : float
        Share of them that lowered the loss.
    elapsed : float
        Seconds of work since step 0, those before a resume included.
    """

    step: int
    temperature: float
    loss: float
    best: float
    acceptance: float
    improvement: float
    elapsed: float


class Trace:
    """The points of a search, oldest first; each column is an array.

    Attributes
    ----------
    step : (n_points,) int64 array
    temperature, loss, best, acceptance, improvement, elapsed : (n_points,) float64 arrays
        See `Point`.
    """

    def __init__(self, points: Iterable[Sequence[float]] = ()) -> None:
        self._points = [Point._make(point) for point in points]

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> "Trace":
        """A trace from its columns."""
        return cls(zip(*(columns[name].tolist() for name in Point._fields), strict=True))

    def append(self, point: Point) -> None:
        """Add the next point."""
        self._points.append(point)

    def since(self, start: int) -> list[Point]:
        """Points from number `start` on."""
        return self._points[start:]

    def columns(self) -> dict[str, Column]:
        """All columns by name."""
        return {name: self._column(name) for name in Point._fields}

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self._points)

    def __getitem__(self, index: int) -> Point:
        return self._points[index]

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} points>"

    def __getattr__(self, name: str) -> Column:
        if name not in Point._fields:
            raise AttributeError(f"a trace has no column {name!r}; it has {', '.join(Point._fields)}")
        return self._column(name)

    def _column(self, name: str) -> Column:
        kind = numpy.int64 if name == "step" else numpy.float64
        return numpy.array([getattr(point, name) for point in self._points], kind)
