"""The same search many times with random numbers of its own each time; the best is kept."""

from collections.abc import MutableMapping
from concurrent.futures import Executor
from copy import deepcopy
from typing import Any, NamedTuple

from numpy.random import Generator

from ampstore.anneal.blocks import spawn
from ampstore.anneal.chain import Chain, Copy, Loss
from ampstore.anneal.checkpoint import Checkpoint, facts_of
from ampstore.anneal.exchange import walk
from ampstore.anneal.interrupts import Interrupts
from ampstore.anneal.result import Result
from ampstore.anneal.schedule import Schedule, whole


class Restarts(NamedTuple):
    """Outcome of several independent searches.

    Attributes
    ----------
    best : Result
        Of the lowest loss; the earliest of equal ones.
    results : list of Result
        All of them, in order of their generators.
    """

    best: Result
    results: list[Result]


def independent_restarts(
    state: Any,
    loss: Loss,
    move: Any,
    schedule: Schedule,
    *,
    rng: Generator,
    count: int,
    executor: Executor | None = None,
    checkpoint: Checkpoint | MutableMapping[str, Any] | None = None,
    resume: bool = False,
    segments: int = 20,
    points: int = 100,
    copy: Copy = deepcopy,
) -> Restarts:
    """Anneal `count` times from the same state, each with a generator spawned from `rng`.

    Parameters
    ----------
    state, loss, move, schedule, checkpoint, resume, points, copy
        As for `anneal`; the checkpoint's `steps` count segments.
    rng : numpy.random.Generator
        Only spawns; it must come from a seed, as `numpy.random.default_rng` makes it.
    count : int
        Number of searches, at least 1.
    executor : concurrent.futures.Executor, optional
        Where they work; else in this thread. The result is the same for all.
    segments : int
        Parts in which each search travels to the executor: between two of them there can be a checkpoint.

    Returns
    -------
    Restarts
    """
    kept = Checkpoint.of(checkpoint)
    facts = facts_of("restarts", schedule, state, move, whole("points", points)) | {"count": whole("count", count)}
    memory = kept.begin(facts, resume) if kept else None
    memories = memory["chains"] if memory else [None] * count
    chains = [
        Chain(state, loss, deepcopy(move), schedule, own, copy=copy, points=points, memory=its)
        for own, its in zip(spawn(rng, count), memories, strict=True)
    ]
    moves = -(-schedule.steps // whole("segments", segments))
    done = memory["segment"] if memory else 0

    def save() -> None:
        if kept:
            remembered = {"chains": [chain.memory() for chain in chains], "segment": done}
            kept.save(facts, remembered, [chain.trace for chain in chains], done=chains[0].finished)

    stops: list[str] = []
    with Interrupts(stops, terminate=kept is not None):
        while not chains[0].finished and not stops:
            chains = walk(chains, moves, executor)
            done += 1
            if chains[0].finished or (kept and kept.due(done - 1, done)):
                save()
        if stops:
            save()
            for chain in chains:
                chain.stops += stops
        results = [Result.of(chain) for chain in chains]
    return Restarts(min(results, key=lambda result: result.loss), results)
