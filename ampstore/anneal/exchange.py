"""Replica exchange, and independent restarts.

Every replica walks at a temperature of its own; after each round neighbours on the ladder may exchange
their states, so that what is stuck at a low temperature gets out at a high one.

    round     every rung makes `every` moves, anywhere: in this thread, in threads, in processes
    swaps     pairs (0 1)(2 3).. and (1 2)(3 4).. in turns, accepted with probability
              min(1, exp((1/T_low - 1/T_high) * (loss_low - loss_high)))

Each rung has a generator of its own, spawned from `rng`, which then decides the swaps: the result does
not depend on who worked when. A rung travels to another process and back as a pickle, its loss
included, so rounds should take much longer than that.

References: Swendsen, Wang, Phys. Rev. Lett. 57, 2607 (1986); Earl, Deem, Phys. Chem. Chem. Phys. 7, 3910 (2005).
"""

import math
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from copy import deepcopy
from typing import Any

from numpy.random import Generator

from ampstore.anneal.blocks import set_state, spawn
from ampstore.anneal.chain import Chain, Copy, Loss
from ampstore.anneal.checkpoint import Checkpoint, Memory, facts_of
from ampstore.anneal.interrupts import Interrupts
from ampstore.anneal.progress import Progress, watch
from ampstore.anneal.result import ExchangeResult, Result
from ampstore.anneal.schedule import Exponential, Schedule, rising, whole


def replica_exchange(
    state: Any,
    loss: Loss,
    move: Any,
    temperatures: Sequence[float],
    *,
    rng: Generator,
    rounds: int,
    every: int = 100,
    executor: Executor | None = None,
    checkpoint: Checkpoint | MutableMapping[str, Any] | None = None,
    resume: bool = False,
    points: int = 100,
    copy: Copy = deepcopy,
    progress: Progress | bool | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ExchangeResult:
    """Search with one replica for each temperature of a ladder, which exchange their states.

    Parameters
    ----------
    state, loss, move, copy
        As for `anneal`; every replica begins at `state` and has a copy of the move.
    temperatures : sequence of float
        The ladder, rising, at least two; see `ladder`.
    rng : numpy.random.Generator
        Spawns a generator for each replica and decides the swaps. It must come from a seed, as
        `numpy.random.default_rng` makes it.
    rounds, every : int
        Number of rounds, and moves of each replica in one.
    executor : concurrent.futures.Executor, optional
        Where the replicas work; else in this thread. The result is the same for all. Processes need
        a loss and a move that can be pickled.
    checkpoint, resume, points, progress, clock
        As for `anneal`; the checkpoint's `steps` count rounds, progress that of the lowest rung.

    Returns
    -------
    ExchangeResult

    Raises
    ------
    ScheduleError
        If the temperatures are no ladder.
    LossError, MoveError, CheckpointError
        As for `anneal`.
    """
    schedules = [Exponential(t, t, whole("rounds", rounds) * whole("every", every)) for t in rising(temperatures)]
    kept = Checkpoint.of(checkpoint)
    facts = facts_of("replica exchange", schedules[0], state, move, whole("points", points))
    facts |= {"temperatures": [schedule.t_max for schedule in schedules], "every": every}
    memory = kept.begin(facts, resume) if kept else None
    rungs = _rungs(state, loss, move, schedules, rng, copy, points, clock, memory)
    swaps = Swaps(rungs, rng, every)
    if memory is not None:
        swaps.recall(memory)

    def save() -> None:
        if kept:
            kept.save(facts, swaps.memory(), [rung.trace for rung in swaps.rungs], done=swaps.rungs[0].finished)

    stops: list[str] = []
    with Interrupts(stops, terminate=kept is not None), watch(progress, schedules[0].steps) as watcher:
        if memory is None:
            save()
        watcher.look(swaps.rungs[0])
        began = swaps.round
        while swaps.round < rounds and not stops:
            try:
                swaps.make_round(executor)
            except (KeyboardInterrupt, BrokenExecutor):  # Ctrl-C reached the processes of the executor too
                if stops and swaps.between_rounds:
                    break
                raise
            watcher.look(swaps.rungs[0])
            if kept and kept.due(swaps.round - 1, swaps.round):
                save()
        if memory is None or swaps.round > began:
            save()
        return swaps.result(stops[0] if stops and swaps.round < rounds else "")


def _rungs(
    state: Any,
    loss: Loss,
    move: Any,
    schedules: Iterable[Schedule],
    rng: Generator,
    copy: Copy,
    points: int,
    clock: Callable[[], float],
    memory: Memory | None,
) -> list[Chain]:
    schedules = list(schedules)
    memories = memory["rungs"] if memory else [None] * len(schedules)
    generators = spawn(rng, len(schedules))
    return [
        Chain(state, loss, deepcopy(move), schedule, own, copy=copy, points=points, clock=clock, memory=its)
        for schedule, own, its in zip(schedules, generators, memories, strict=True)
    ]


class Swaps:
    """The ladder: rungs that walk, and exchanges between neighbours.

    Parameters
    ----------
    rungs : list of Chain
        By rising temperature.
    rng : numpy.random.Generator
        Decides the exchanges.
    every : int
        Moves in a round.
    """

    def __init__(self, rungs: list[Chain], rng: Generator, every: int) -> None:
        self.rungs = rungs
        self.rng = rng
        self.every = every
        self.round = 0
        self.tried = [0] * (len(rungs) - 1)
        self.done = [0] * (len(rungs) - 1)
        self.walkers = list(range(len(rungs)))

    def make_round(self, executor: Executor | None) -> None:
        """Advance every rung, then let neighbours exchange."""
        self.rungs = walk(self.rungs, self.every, executor)
        for low in range(self.round % 2, len(self.rungs) - 1, 2):
            self.tried[low] += 1
            if self._accepts(low):
                self._exchange(low)
        self.round += 1

    @property
    def between_rounds(self) -> bool:
        """Whether no rung has begun the next round."""
        return all(rung.step == self.round * self.every for rung in self.rungs)

    def _accepts(self, low: int) -> bool:
        cold, hot = self.rungs[low], self.rungs[low + 1]
        gain = (1 / cold.schedule.t_max - 1 / hot.schedule.t_max) * (cold.loss - hot.loss)
        return self.rng.random() < math.exp(min(gain, 0.0))

    def _exchange(self, low: int) -> None:
        cold, hot = self.rungs[low], self.rungs[low + 1]
        # Copies: a state may be a buffer of the move that made it.
        cold.state, hot.state = hot.copy(hot.state), cold.copy(cold.state)
        cold.loss, hot.loss = hot.loss, cold.loss
        self.done[low] += 1
        self.walkers[low : low + 2] = self.walkers[low + 1], self.walkers[low]

    def memory(self) -> Memory:
        """Everything that the rest of the search depends on."""
        return {
            "rungs": [rung.memory() for rung in self.rungs],
            "generator": self.rng.bit_generator.state,
            "round": self.round,
            "tried": self.tried[:],
            "done": self.done[:],
            "walkers": self.walkers[:],
        }

    def recall(self, memory: Memory) -> None:
        """Go on from a checkpoint; the rungs did so already."""
        set_state(self.rng.bit_generator, memory["generator"])
        self.round = memory["round"]
        self.tried, self.done = list(memory["tried"]), list(memory["done"])
        self.walkers = list(memory["walkers"])

    def result(self, stopped: str) -> ExchangeResult:
        """The best of all rungs."""
        results = [Result.of(rung) for rung in self.rungs]
        best = min(results, key=lambda result: result.loss)
        sums = {
            name: sum(getattr(result, name) for result in results)
            for name in ("steps", "accepted", "improved", "not_finite", "evaluations", "elapsed")
        }
        return ExchangeResult(
            state=best.state,
            loss=best.loss,
            final_state=best.final_state,
            final_loss=best.final_loss,
            **sums,
            stopped=stopped,
            trace=best.trace,
            temperatures=tuple(rung.schedule.t_max for rung in self.rungs),
            traces=tuple(rung.trace for rung in self.rungs),
            swap_rates=rates(self.tried, self.done),
            walkers=tuple(self.walkers),
        )


def rates(tried: Sequence[int], done: Sequence[int]) -> tuple[float, ...]:
    """Share of the swaps that were accepted, by pair of rungs."""
    return tuple(accepted / max(count, 1) for count, accepted in zip(tried, done, strict=True))


def walk(chains: list[Chain], moves: int, executor: Executor | None) -> list[Chain]:
    """The chains after so many moves of each."""
    if executor is None:
        return [advanced(chain, moves) for chain in chains]
    futures = [executor.submit(advanced, chain, moves) for chain in chains]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def advanced(chain: Chain, moves: int) -> Chain:
    """The chain after so many moves; the same object unless it came from another process."""
    chain.advance(moves)
    return chain
