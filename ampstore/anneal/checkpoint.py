"""Searches kept in a mapping: a Store, a Shelf, a dict.

One entry, ``annealing:NAME``, holds everything that a search needs to go on as if it had never
stopped, and what it was a search for. A Store gets the trace as rows of a table too, for those who
look with plain sqlite3: ``select step, loss from trace where run = 'NAME'``.
"""

import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from ampstore.anneal.schedule import Schedule
from ampstore.anneal.trace import Point
from ampstore.errors import CheckpointError, ScheduleError

PREFIX = "annealing:"
"""First part of the keys of checkpoints."""

FORMAT = "ampstore annealing"
VERSION = 1

Memory = dict[str, Any]


class Checkpoint:
    """Where a search is kept, and how often.

    Parameters
    ----------
    mapping : Store, Shelf, dict or another mapping
        What holds it. Nothing else is asked of it than getting and setting values.
    name : str, default "anneal"
        Of the search; its key is ``annealing:`` and this.
    seconds : float or None, default 60
        Longest time between two checkpoints; None: no limit.
    steps : int, optional
        Moves (rounds, for replica exchange) after which there is one, whatever the time.
    problem : str
        Said to the loss, the data and whatever else is not seen in the state: a checkpoint with another
        one is refused.
    """

    def __init__(
        self,
        mapping: MutableMapping[str, Any],
        name: str = "anneal",
        *,
        seconds: float | None = 60.0,
        steps: int | None = None,
        problem: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if steps is not None and steps < 1:
            raise ScheduleError("steps", steps, "a checkpoint is made every 1 or more steps")
        self.mapping = mapping
        self.name = name
        self.key = PREFIX + name
        self.seconds = seconds
        self.steps = steps
        self.problem = problem
        self._clock = clock
        self._saved_at = clock()
        self._rows: dict[int, int] = {}  # points that each chain has in the table

    @classmethod
    def of(cls, given: "Checkpoint | MutableMapping[str, Any] | None") -> "Checkpoint | None":
        """A checkpoint from what a caller gave: one, a mapping, or nothing."""
        return given if given is None or isinstance(given, Checkpoint) else cls(given)

    def begin(self, facts: Mapping[str, Any], resume: bool) -> Memory | None:
        """Memory of the search that is to go on, None if it starts anew.

        Parameters
        ----------
        facts : mapping
            What the search is, see `facts_of`.
        resume : bool
            Go on from the checkpoint if there is one.

        Raises
        ------
        CheckpointError
            If it is of another search or version.
        """
        self._rows.clear()
        self._saved_at = self._clock()
        try:
            value = self.mapping[self.key] if resume else None
        except KeyError:
            resume = False
        if not resume:
            return None
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise CheckpointError(self.name, "it is no checkpoint of a search")
        if value["version"] != VERSION:
            raise CheckpointError(self.name, f"it has version {value['version']}, this ampstore reads {VERSION}")
        for name, wanted in self._facts(facts).items():
            if (found := value["search"].get(name)) != wanted:
                raise CheckpointError(self.name, f"its {name} is {found!r}, that of this search {wanted!r}")
        memory: Memory = value["memory"]
        return memory

    def save(self, facts: Mapping[str, Any], memory: Memory, traces: Iterable[Iterable[Point]], *, done: bool) -> None:
        """Write the search as it is now."""
        self._write_rows(traces)
        search = self._facts(facts)
        self.mapping[self.key] = {
            "format": FORMAT, "version": VERSION, "search": search, "finished": done, "memory": memory
        }  # fmt: skip
        self._saved_at = self._clock()

    def due(self, before: int, now: int) -> bool:
        """Whether to save, having gone from one step to another since the last question."""
        if self.steps is not None and before // self.steps != now // self.steps:
            return True
        return self.seconds is not None and self._clock() - self._saved_at >= self.seconds

    def moves_left(self, step: int, moves: int) -> int:
        """So many moves, or fewer if a checkpoint is due before."""
        return moves if self.steps is None else min(moves, self.steps - step % self.steps)

    def _facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {**facts, "problem": self.problem}

    def _write_rows(self, traces: Iterable[Iterable[Point]]) -> None:
        # A shelf has its store as `dict`, as in the standard library; a FileDatabase as `store`, once it is made.
        places: tuple[Any, ...] = (
            self.mapping,
            getattr(self.mapping, "dict", None),
            getattr(self.mapping, "store", None),
        )
        put_trace = next((place.put_trace for place in places if hasattr(place, "put_trace")), None)
        if put_trace is None:
            return
        for chain, trace in enumerate(traces):
            points = list(trace)
            written = self._rows.get(chain)
            if written != len(points):
                put_trace(self.name, chain, points[written or 0 :], replace=written is None)
            self._rows[chain] = len(points)


def facts_of(kind: str, schedule: Schedule, state: Any, move: Any, points: int) -> dict[str, Any]:
    """What a search is, as far as it can be seen: by this a checkpoint knows its own."""
    return {
        "kind": kind,
        "schedule": schedule.facts(),
        "state": shape_of(state),
        "move": getattr(move, "__qualname__", type(move).__qualname__),
        "points": points,
    }


def shape_of(state: Any) -> str:
    """Type and size of a state in a few words."""
    kind = type(state).__name__
    if hasattr(state, "shape") and hasattr(state, "dtype"):
        return f"{kind} of {state.dtype} {tuple(state.shape)}"
    return f"{kind} of {len(state)}" if hasattr(state, "__len__") else kind
