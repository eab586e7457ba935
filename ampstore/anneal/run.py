"""`anneal`: one search from its start, or from a checkpoint, to its end."""

import time
from collections.abc import Callable, Iterator, MutableMapping
from copy import deepcopy
from typing import Any

from numpy.random import Generator

from ampstore.anneal.chain import Chain, Copy, Loss
from ampstore.anneal.checkpoint import Checkpoint, facts_of
from ampstore.anneal.interrupts import Interrupts
from ampstore.anneal.progress import Progress, watch
from ampstore.anneal.result import Result
from ampstore.anneal.schedule import Schedule, whole

SEGMENT = 0.05  # seconds between two looks at the clock


def anneal(
    state: Any,
    loss: Loss,
    move: Any,
    schedule: Schedule,
    *,
    rng: Generator,
    checkpoint: Checkpoint | MutableMapping[str, Any] | None = None,
    resume: bool = False,
    points: int = 100,
    copy: Copy = deepcopy,
    progress: Progress | bool | None = None,
    stops: list[str] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Search for a state of low loss by simulated annealing.

    Parameters
    ----------
    state : object
        Where the search begins: a vector, a list, anything that can be copied. It is not changed.
    loss : callable(state) -> float
        What is made small. NaN and infinite losses are rejected and counted.
    move : callable(state, rng)
        Goes to another state; see `ampstore.anneal.moves` for what it may return.
    schedule : Schedule
        Temperatures in units of the loss, and the number of moves.
    rng : numpy.random.Generator
        The same generator in the same state gives the same search.
    checkpoint : Checkpoint or mapping, optional
        Where the search is kept: at the start, at intervals, when SIGINT or SIGTERM comes, and at its end.
    resume : bool, default False
        Go on from the checkpoint, bit for bit as if never stopped; start where there is none. The state of
        `rng` comes from the checkpoint. A search that was finished is not done again.
    points : int, default 100
        Points of the trace, equally far apart, besides that of step 0.
    copy : callable, default copy.deepcopy
        Copies a state; `list.copy` is faster for lists of numbers.
    progress : bool or callable, optional
        True: a live line on a terminal. A callable gets each new `Point`. None: nothing is shown.
    stops : list of str, optional
        Append a reason to it, from a signal handler, another thread or the loss, to end the search.
    clock : callable
        Seconds, for the column `elapsed`.

    Returns
    -------
    Result
        With the best state. SIGINT ends the search early and returns it too, with `stopped` set; after
        SIGTERM the checkpoint is written and SystemExit(143) raised.

    Raises
    ------
    LossError, MoveError
        For a loss or move that gives back something that cannot be used.
    CheckpointError
        If the checkpoint is of another search, another version or another kind of generator.
    Exception
        Whatever `move` or `loss` raise, with a note of the step. `state` and the last checkpoint are as
        they were.

    References
    ----------
    Metropolis et al., J. Chem. Phys. 21, 1087 (1953); Kirkpatrick, Gelatt, Vecchi, Science 220, 671 (1983).
    """
    kept = Checkpoint.of(checkpoint)
    facts = facts_of("anneal", schedule, state, move, whole("points", points))
    memory = kept.begin(facts, resume) if kept else None
    chain = Chain(state, loss, move, schedule, rng, copy=copy, points=points, clock=clock, memory=memory)
    if stops is not None:
        chain.stops = stops

    def save() -> None:
        if kept:
            kept.save(facts, chain.memory(), [chain.trace], done=chain.finished)

    with Interrupts(chain.stops, terminate=kept is not None), watch(progress, schedule.steps) as watcher:
        if memory is None:
            save()
        watcher.look(chain)
        for before in _segments(chain, kept, clock):
            watcher.look(chain)
            if kept and kept.due(before, chain.step):
                save()
        if memory is None or chain.step > memory["step"]:
            save()
        return Result.of(chain)


def _segments(chain: Chain, kept: Checkpoint | None, clock: Callable[[], float]) -> Iterator[int]:
    """Advance until the end, some moves at a time; the step before each segment."""
    moves = 1
    while not chain.finished and not chain.stops:
        start, before = clock(), chain.step
        chain.advance(kept.moves_left(before, moves) if kept else moves)
        spent = max(clock() - start, 1e-9)
        yield before
        moves = max(1, min(4 * moves, int((chain.step - before) * SEGMENT / spent)))
