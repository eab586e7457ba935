"""A schedule from trial moves: what Amp and simanneal call `auto`."""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from numpy.random import Generator

from ampstore.anneal.chain import Chain, Copy, Loss
from ampstore.anneal.schedule import Exponential, whole
from ampstore.errors import ScheduleError

ALL = 0.98
"""Share of the moves that a start at `t_max` accepts."""

_FACTOR = 1.5
_MOST = 60  # temperatures that are tried: a factor of 4e10


def estimate_schedule(
    state: Any,
    loss: Loss,
    move: Any,
    *,
    rng: Generator,
    minutes: float,
    trials: int = 200,
    copy: Copy = deepcopy,
    clock: Callable[[], float] = time.perf_counter,
) -> Exponential:
    """Find temperatures and a number of steps for a search that takes so many minutes.

    Parameters
    ----------
    state, loss, move, rng, copy
        As for `anneal`; the state is not changed.
    minutes : float
        Time that the search may take.
    trials : int
        Moves at each temperature that is tried.
    clock : callable
        Seconds.

    Returns
    -------
    Exponential
        `t_max`: the lowest tried temperature (a factor of 1.5 apart) at which 98 % of the moves are
        accepted; `t_min`: the first below, on the way down from there, at which no move lowers the
        loss; `steps`: `minutes` by the time that a trial took. Temperatures have two figures.

    Raises
    ------
    ScheduleError
        If `minutes` or `trials` are not positive, or no trial move changes the loss.
    """
    if not minutes > 0:
        raise ScheduleError("minutes", minutes, "a search takes more than no time")
    walk = _Trials(state, loss, move, rng, whole("trials", trials), copy)
    start = clock()
    t_max = _hottest(walk, _typical_change(walk))
    t_min = _coldest(walk, t_max)
    steps = max(1, int(60 * minutes * walk.moves / max(clock() - start, 1e-9)))
    high, low = round_figures(t_max, 2), round_figures(t_min, 2)
    return Exponential(max(high, low), low, steps)


def round_figures(number: float, figures: int) -> float:
    """The number with so many significant figures; 0 stays 0."""
    return float(f"{number:.{figures - 1}e}")


class _Trials:
    """A walk at one temperature after the other."""

    def __init__(self, state: Any, loss: Loss, move: Any, rng: Generator, trials: int, copy: Copy) -> None:
        self.state, self.trials, self.moves = state, trials, 0
        self._given = loss, move, rng, copy

    def at(self, temperature: float) -> Chain:
        """The walk after `trials` moves at this temperature, from where the last one ended."""
        loss, move, rng, copy = self._given
        schedule = Exponential(temperature, temperature, self.trials)
        chain = Chain(self.state, loss, move, schedule, rng, copy=copy, points=1)
        chain.advance(self.trials)
        self.state = chain.state
        self.moves += self.trials
        return chain


def _typical_change(walk: _Trials) -> float:
    """Size of the change of the loss by some move that changes it."""
    for _ in range(10):
        before = walk.at(1e300)
        first, last = before.trace[0].loss, before.loss
        if first != last:
            return abs(last - first)
    raise ScheduleError("move", walk.trials, "no trial move changed the loss; is it the move of this state?")


def _hottest(walk: _Trials, temperature: float) -> float:
    if walk.at(temperature).accepted / walk.trials > ALL:
        for _ in range(_MOST):
            lower = temperature / _FACTOR
            if walk.at(lower).accepted / walk.trials < ALL:
                return temperature
            temperature = lower
    for _ in range(_MOST):
        temperature *= _FACTOR
        if walk.at(temperature).accepted / walk.trials >= ALL:
            return temperature
    raise ScheduleError("t_max", temperature, f"no temperature accepts {ALL:.0%} of the moves")


def _coldest(walk: _Trials, temperature: float) -> float:
    for _ in range(_MOST):
        temperature /= _FACTOR
        if not walk.at(temperature).improved:
            return temperature
    return temperature
