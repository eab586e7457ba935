"""One search: a state, its loss, and the moves that are accepted or rejected.

    trial    move -> loss or change -> accept if lower, or with probability exp(-change / temperature)
    segment  many trials in one loop without a look at the clock; ends where something is due
    memory   everything as plain values; a chain that recalls it makes the very same trials

A random number for the acceptance is drawn for uphill moves only. A loss of NaN or infinity is
rejected and counted.
"""

import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy
from numpy.random import Generator

from ampstore.anneal.blocks import Uniforms, set_state
from ampstore.anneal.moves import EVALUATE, Moved
from ampstore.anneal.schedule import CHUNK, Schedule
from ampstore.anneal.trace import Point, Trace
from ampstore.errors import LossError, MoveError

Loss = Callable[[Any], float]
Copy = Callable[[Any], Any]

_COUNTS = ("step", "accepted", "improved", "not_finite", "evaluations")


class Chain:
    """A search that can be advanced, remembered and gone on with.

    Parameters
    ----------
    state : object
        Where it begins. It is copied, never changed.
    loss : callable(state) -> float
    move : Move
        See `ampstore.anneal.moves`.
    schedule : Schedule
    rng : numpy.random.Generator
        The only source of randomness, of the moves as of the acceptance.
    copy : callable(state) -> state
        A copy that later moves do not change.
    points : int
        Points of the trace besides that of step 0.
    clock : callable
        Monotonic time, seconds.
    memory : mapping, optional
        Of an earlier chain of the same search, which this one goes on with; `state` is not used then.

    Attributes
    ----------
    state, loss : object, float
        Where it is.
    best, best_loss : object, float
        The best state so far, the first one included; best of equal ones is the earliest.
    step, accepted, improved, not_finite, evaluations : int
        Moves made; accepted; that lowered the loss; whose loss was NaN or infinite; calls of the loss.
    trace : Trace
    stops : list of str
        Reasons to stop: filled by whoever wants it, looked at before every move.

    Raises
    ------
    LossError
        If the loss of `state` is not finite.
    """

    def __init__(
        self,
        state: Any,
        loss: Loss,
        move: Any,
        schedule: Schedule,
        rng: Generator,
        *,
        copy: Copy = deepcopy,
        points: int = 100,
        clock: Callable[[], float] = time.perf_counter,
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.move, self.rng, self.copy = loss, move, rng, copy
        self.schedule = schedule.fresh()
        self.points = points
        self.step = self.accepted = self.improved = self.not_finite = self.evaluations = 0
        self.trace = Trace()
        self.stops: list[str] = []
        self.elapsed = 0.0
        self._clock = clock
        self._in_place = hasattr(move, "undo")
        self._uniforms = Uniforms(rng)
        self._at_point = [0, 0, 0]  # step, accepted and improved at the last point of the trace
        self._at_chunk = 0  # accepted at the start of this chunk
        if memory is not None:
            self.recall(memory)
            return
        self.state = copy(state)
        self.loss = self.best_loss = self._evaluate(self.state)
        if not math.isfinite(self.loss):
            raise LossError(self.loss, 0)
        self.best = copy(self.state)
        self._add_point()

    @property
    def finished(self) -> bool:
        """Whether all moves were made."""
        return self.step >= self.schedule.steps

    @property
    def temperature(self) -> float:
        """Temperature of the last move."""
        return self.schedule.temperature(self.step)

    def advance(self, moves: int) -> None:
        """Make so many moves, or fewer if the schedule ends or there is a reason to stop.

        Whatever the move or the loss raises goes up with a note of the step. The state is then that
        of the last whole step, but random numbers are spent: go on from a memory, not from here.
        """
        until = min(self.step + moves, self.schedule.steps)
        start, spent = self._clock(), self.elapsed
        try:
            while self.step < until and not self.stops:
                # Chunks and points lie where they would without any segments.
                chunk = self.step - self.step % CHUNK + CHUNK
                last = min(until, chunk, self._next_point(self.step))
                self._trials(self.schedule.temperatures(self.step + 1, last))
                if self.step == self._next_point(self.step - 1):
                    self.elapsed = spent + self._clock() - start
                    self._add_point()
                if self.step == chunk:  # after the point, which has the temperature of its move
                    self.schedule.note(chunk, self.accepted - self._at_chunk, CHUNK)
                    self._at_chunk = self.accepted
        finally:
            self.elapsed = spent + self._clock() - start

    def _next_point(self, step: int) -> int:
        """First step after `step` that has a point in the trace."""
        steps, points = self.schedule.steps, self.points
        return -(-(step * points // steps + 1) * steps // points)

    def _add_point(self) -> None:
        step, accepted, improved = self._at_point
        moves = max(self.step - step, 1)
        shares = (self.accepted - accepted) / moves, (self.improved - improved) / moves
        self.trace.append(Point(self.step, self.temperature, self.loss, self.best_loss, *shares, self.elapsed))
        self._at_point = [self.step, self.accepted, self.improved]

    # One loop, since a function call more per move would be a tenth of what a move costs.
    def _trials(self, temperatures: list[float]) -> None:  # noqa: C901, PLR0912, PLR0915
        """Make a move at each temperature."""
        state, current, best_loss = self.state, self.loss, self.best_loss
        move, function, rng, in_place, stops = self.move, self.function, self.rng, self._in_place, self.stops
        left, refill, exp, infinity = self._uniforms.left, self._uniforms.refill, math.exp, math.inf
        done = accepted = improved = not_finite = evaluated = 0
        moved, outcome, value = False, None, None
        try:
            for temperature in temperatures:
                if stops:
                    break
                outcome = move(state, rng)
                if in_place:
                    moved, candidate = True, state
                    if outcome is EVALUATE:
                        evaluated += 1
                        value = function(state)
                        new = float(value)
                    else:
                        new = current + outcome
                elif type(outcome) is Moved:
                    candidate, new = outcome.state, current + outcome.change
                elif outcome is None:
                    raise MoveError(_name(move), "nothing", self.step + done + 1)  # noqa: TRY301
                else:
                    candidate = outcome
                    evaluated += 1
                    value = function(candidate)
                    new = float(value)
                change = new - current
                if -infinity < change <= 0.0:
                    state, current = candidate, new
                    accepted += 1
                    if change:
                        improved += 1
                        if new < best_loss:
                            self._keep(state)
                            self.best_loss = best_loss = new
                elif -infinity < change < infinity:
                    if exp(-change / temperature) > (left or refill()).pop():
                        state, current = candidate, new
                        accepted += 1
                    elif in_place:
                        move.undo(state)
                else:
                    not_finite += 1
                    if in_place:
                        move.undo(state)
                moved = False
                done += 1
        except BaseException as err:
            if moved:
                move.undo(state)
            err.add_note(f"ampstore.anneal: at step {self.step + done + 1} of {self.schedule.steps}")
            self._explain(err, outcome, value, self.step + done + 1)
            raise
        finally:
            self.state, self.loss = state, float(current)
            self.step += done
            self.accepted += accepted
            self.improved += improved
            self.not_finite += not_finite
            self.evaluations += evaluated

    def _explain(self, err: BaseException, outcome: object, value: object, step: int) -> None:
        """Name the move or loss that gave back what the arithmetic of `_trials` could not use."""
        ours = err.__traceback__ is not None and err.__traceback__.tb_next is None  # no frame below that loop
        if type(err) not in (TypeError, ValueError) or not ours or not callable(self.move):
            return
        if type(outcome) is Moved or (self._in_place and outcome is not EVALUATE):
            raise MoveError(_name(self.move), repr(outcome), step) from err
        raise LossError(value, step) from err

    def _evaluate(self, state: Any) -> float:
        self.evaluations += 1
        value: object = self.function(state)
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError) as err:
            raise LossError(value, self.step) from err

    def _keep(self, state: Any) -> None:
        """Keep a copy of the best state, in the array that there is if it fits."""
        best = self.best
        if type(state) is type(best) is numpy.ndarray and _is_alike(state, best):
            numpy.copyto(best, state)
        else:
            self.best = self.copy(state)

    def exact(self) -> None:
        """Evaluate the losses that are sums of changes, so that they carry no sum of rounding errors."""
        if self.evaluations <= self.step:
            self.loss, self.best_loss = self._evaluate(self.state), self._evaluate(self.best)

    # -- memory --------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Everything that the rest of the search depends on, as plain values that nothing changes later."""
        return {
            "state": self.copy(self.state),
            "loss": self.loss,
            "best": self.copy(self.best),
            "best_loss": self.best_loss,
            "temperature": self.temperature,
            "elapsed": self.elapsed,
            **{name: getattr(self, name) for name in _COUNTS},
            "at_point": self._at_point[:],
            "at_chunk": self._at_chunk,
            "trace": self.trace.columns(),
            "generator": self.rng.bit_generator.state,
            "uniforms": self._uniforms.memory(),
            "schedule": self.schedule.memory(),
            "move": self.move.memory() if hasattr(self.move, "memory") else {},
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Go on from a memory, its random numbers included."""
        set_state(self.rng.bit_generator, memory["generator"])
        self.state, self.best = self.copy(memory["state"]), self.copy(memory["best"])
        self.loss, self.best_loss, self.elapsed = memory["loss"], memory["best_loss"], memory["elapsed"]
        for name in _COUNTS:
            setattr(self, name, memory[name])
        self._at_point, self._at_chunk = list(memory["at_point"]), memory["at_chunk"]
        self.trace = Trace.from_columns(memory["trace"])
        self._uniforms.recall(memory["uniforms"])
        self.schedule.recall(memory["schedule"])
        if hasattr(self.move, "recall"):
            self.move.recall(memory["move"], self.rng)


def _is_alike(state: Any, best: Any) -> bool:
    return bool(state.shape == best.shape and state.dtype == best.dtype and not state.dtype.hasobject)


def _name(move: object) -> str:
    return getattr(move, "__qualname__", type(move).__qualname__)
