"""Amp's `Annealer`: searches the parameters of a calculator's model before gradient descent.

    Annealer(calc=calc, images=images, Tmax=20, Tmin=1, steps=4000)     anneals at once, as in Amp
    calc.train(images=images)                                           goes on from the best state

What a calculator has to have (the protocol of Amp):

    calc.descriptor.calculate_fingerprints(images=, parallel=, log=, calculate_derivatives=)
    calc.model.fit(trainingimages=, descriptor=, log=, parallel=, only_setup=True)
    calc.model.vector                          the parameters, a sequence of floats; read and set
    calc.model.lossfunction.get_loss(vector, lossprime=False)["loss"]
    calc.model.lossfunction.raise_ConvergenceOccurred, .log_losses     set False meanwhile, if there
    calc.model.lossfunction._step, ._cleanup() reset and called at the end, if there
    calc._log, calc._parallel                  if there

Kept from Amp: the constructor does the search, `state` is then the best vector, entries that are 0 do
not move, SIGINT ends the search and keeps what it found, the defaults (with losses of order 1 they
accept nearly every move: give temperatures of the size of the changes of the loss, or ask `auto`).

Not kept: flags and signal handlers are put back whatever happens; it works in any thread; `auto` and
`save_state` work; all `steps` moves are made, the last one at `Tmin`; nothing is printed to stdout.
Random numbers come from `rng`, by default one that is seeded from numpy.random, so `numpy.random.seed`
decides as before, but the numbers are others.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from copy import copy, deepcopy
from typing import Any

import numpy
from numpy.random import Generator

from ampstore.anneal.checkpoint import Checkpoint
from ampstore.anneal.estimate import estimate_schedule
from ampstore.anneal.estimate import round_figures as rounded
from ampstore.anneal.moves import Scale
from ampstore.anneal.result import Result
from ampstore.anneal.run import anneal
from ampstore.anneal.schedule import Exponential, Schedule
from ampstore.anneal.trace import Point
from ampstore.errors import CalculatorError, ScheduleError
from ampstore.log import as_log

_NAMES = {"tmax": "Tmax", "tmin": "Tmin", "steps": "steps", "updates": "updates"}


class Annealer:
    """Simulated annealing of a calculator's parameters, or of any state.

    Parameters
    ----------
    calc : Amp, or anything with the protocol of the module
        Its model gets the best parameters.
    images : list of ase.Atoms, dict by hash, or name of a trajectory
        What the loss is computed for.
    Tmax, Tmin : float, optional
        Temperatures of the first and last step, in units of the loss.
    steps : int, optional
        Number of moves.
    updates : int, optional
        Lines in the log, and points of the trace, besides the first one.
    train_forces : bool
        Whether the loss needs derivatives of the fingerprints.
    state, loss : sequence of float, callable(state) -> float
        In place of `calc` and `images`: anything that `anneal` takes.
    move : Move, optional
        See `ampstore.anneal.moves`. The default multiplies each entry by 1 + u, u within 0.0005 of 0. A
        subclass may define `move(self, state)` instead, as for Amp: in place, returning nothing. Then a search
        goes on bit for bit only if that takes its random numbers from `self.rng`.
    rng : numpy.random.Generator, optional
        Decides everything random.
    checkpoint, resume : as for `anneal`
        With a store as checkpoint a search that was killed goes on.
    schedule : Schedule, optional
        In place of `Tmax`, `Tmin` and `steps`.
    run : bool, default True
        Search at once. False: prepare only; `anneal` does it later.
    log : Logger or callable, optional
        Gets the table; the calculator's own by default.

    Attributes
    ----------
    state : array
        Before `anneal` the initial state, afterwards the best one.
    loss, result : float, Result
        Of the best state, after `anneal`.
    start : float
        When the search began, seconds since 1970.
    user_exit : bool
        Set it to end the search after the move that is being made.

    Raises
    ------
    ScheduleError
        (a ValueError) for Tmin <= 0, Tmax < Tmin, steps < 1.
    CalculatorError
        If `calc` has not got what is needed.
    """

    Tmax: float = 20.0
    Tmin: float = 2.5
    steps: int = 10000
    updates: float = 50.0
    copy_strategy: str = "copy"
    user_exit: bool = False
    save_state_on_exit: bool = False

    def __init__(
        self,
        calc: Any = None,
        images: Any = None,
        Tmax: float | None = None,  # noqa: N803 - Amp's name
        Tmin: float | None = None,  # noqa: N803
        steps: int | None = None,
        updates: float | None = None,
        train_forces: bool = True,
        *,
        state: Any = None,
        loss: Callable[[Any], float] | None = None,
        move: Any = None,
        rng: Generator | None = None,
        checkpoint: Checkpoint | MutableMapping[str, Any] | None = None,
        resume: bool = False,
        schedule: Schedule | None = None,
        run: bool = True,
        log: Callable[..., object] | None = None,
    ) -> None:
        for name, value in (("Tmax", Tmax), ("Tmin", Tmin), ("steps", steps), ("updates", updates)):
            if value is not None:
                setattr(self, name, value)
        self._elapsed = 0.0  # seconds, at the last point
        self._given_schedule = schedule
        self.schedule()  # bad temperatures are known before the fingerprints are computed
        self.rng = rng or numpy.random.default_rng(numpy.random.randint(0, 2**31, 4))
        self.calc = calc
        self.start = time.time()
        self.result: Result | None = None
        self.loss: float | None = None
        self._move, self._checkpoint, self._resume = move, checkpoint, resume
        self._default_move = Scale()
        self._log = as_log(log if log is not None else getattr(calc, "_log", None))
        if calc is None:
            if loss is None or state is None:
                raise CalculatorError("NoneType", "give calc= and images=, or state= and loss=")
            self._loss: Callable[[Any], Any] = loss
            self.state = _vector(state)
        else:
            self._loss = _loss_of(calc)
            _prepare(calc, images, train_forces, self._log)
            self.state = numpy.array(calc.model.vector, float)
        if run:
            self.anneal()

    def set_user_exit(self, signum: int | None = None, frame: object = None) -> None:  # noqa: ARG002 - Amp's
        """End the search after the move that is being made; takes what a signal handler gets."""
        self.user_exit = True

    # -- the schedule --------------------------------------------------------------------------

    def schedule(self) -> Schedule:
        """Schedule of the next search."""
        return self._given_schedule or Exponential(self.Tmax, self.Tmin, self.steps)

    def set_schedule(self, schedule: Mapping[str, float] | Schedule) -> None:
        """Take over a schedule: one, or what `auto` returns."""
        if isinstance(schedule, Schedule):
            self._given_schedule = schedule
            return
        if missing := [name for name in ("tmax", "tmin", "steps") if name not in schedule]:
            raise ScheduleError("schedule", dict(schedule), f"it has no {missing[0]!r}")
        for name, attribute in _NAMES.items():
            if name in schedule:
                setattr(self, attribute, int(schedule[name]) if name == "steps" else schedule[name])
        self._given_schedule = None
        self.schedule()

    def auto(self, minutes: float, steps: int = 2000) -> dict[str, float]:
        """Find a schedule for a search of so many minutes; `steps` moves at each temperature tried.

        Returns
        -------
        dict
            tmax: 98 % of the moves are accepted; tmin: none improves; steps, updates. For `set_schedule`.
        """
        with self._quiet(), self._parameters_kept():
            found = estimate_schedule(
                self.state, self.get_loss, self._the_move(), rng=self.rng, minutes=minutes, trials=steps,
                copy=self.copy_state,
            )  # fmt: skip
        schedule = {"tmax": found.t_max, "tmin": found.t_min, "steps": found.steps, "updates": self.updates}
        self._log(f"Annealing for {minutes:g} min.: Tmax {found.t_max:g}, Tmin {found.t_min:g}, {found.steps} steps.")
        return schedule

    # -- the search ----------------------------------------------------------------------------

    def anneal(self) -> tuple[Any, float]:
        """Search; the best state and its loss. The calculator's model has the state afterwards.

        SIGINT ends the search, and what it found counts. Whatever the loss raises goes up; the flags of the
        loss function are as before even then, and the model has the parameters it began with.
        """
        schedule, stops = self.schedule(), list[str]()
        self.start, self.user_exit = time.time(), False
        self._log(f"Annealing: from {schedule.t_max:g} to {schedule.t_min:g} in {schedule.steps} steps.")
        self._log(_HEADER)

        def loss(state: Any) -> float:
            found = self.get_loss(state)
            if self.user_exit:
                stops.append("user_exit")
            return found

        with self._quiet(), self._parameters_kept():
            result = anneal(
                self.state, loss, self._the_move(), schedule, rng=self.rng, checkpoint=self._checkpoint,
                resume=self._resume, points=max(1, round(self.updates)), copy=self.copy_state, progress=self._tell,
                stops=stops,
            )  # fmt: skip
            self.state, self.loss, self.result = result.state, result.loss, result
        self.user_exit = bool(result.stopped)
        if self.save_state_on_exit:
            self.save_state()
        ended = f" (ended by {result.stopped})" if result.stopped else ""
        self._log(f"Annealed: best loss {result.loss:.4e} after {result.steps} steps{ended}.")
        return self.state, self.loss

    def _tell(self, point: Point) -> None:
        self._elapsed = point.elapsed
        self.update(*point[:3], point.acceptance, point.improvement)

    def _the_move(self) -> Any:
        if self._move is not None:
            return self._move
        return self._default_move if type(self).move is Annealer.move else _Legacy(self)

    def get_loss(self, state: Any) -> float:
        """Loss of a state."""
        loss = self._loss(state)
        return float(loss["loss"] if isinstance(loss, Mapping) else loss)

    def move(self, state: Any) -> None:
        """Multiply every entry by 1 + u, in place, u uniform within 0.0005 of 0."""
        state *= self.rng.uniform(1 - self._default_move.width, 1 + self._default_move.width, len(state))

    def update(
        self,
        step: int,
        T: float,  # noqa: N803 - Amp's name
        L: float,  # noqa: N803
        acceptance: float,
        improvement: float,
    ) -> None:
        """Write one line of the table to the log: also the time that went by, and that is left.

        Parameters
        ----------
        step : int
            Moves made; at 0 there are no shares and times yet.
        T, L : float
            Temperature and loss.
        acceptance, improvement : float
            Shares of the moves since the last line, 0 to 1, that were accepted, and that lowered the loss.
        """
        line = f"{step:10d}  {T:12.2e}  {L:14.4e}"
        if step:
            left = self._elapsed / step * max(self.schedule().steps - step, 0)
            shares = f"  {100 * acceptance:7.2f}%  {100 * improvement:7.2f}%"
            line += f"{shares}  {self.time_string(self._elapsed)}  {self.time_string(left)}"
        self._log(line)

    # -- states --------------------------------------------------------------------------------

    def copy_state(self, state: Any) -> Any:
        """A copy by `copy_strategy`: 'copy', 'method', 'slice' or 'deepcopy'; arrays are always really copied."""
        if self.copy_strategy not in _COPIES:
            raise ScheduleError("copy_strategy", self.copy_strategy, f"it is one of {', '.join(_COPIES)}")
        return state.copy() if isinstance(state, numpy.ndarray) else _COPIES[self.copy_strategy](state)

    def save_state(self, fname: str | None = None) -> str:
        """Write the state to a file in NumPy's format, without pickles; read it with `numpy.load`.

        Parameters
        ----------
        fname : str, optional
            Exactly this name; by default one with the time and the loss.

        Returns
        -------
        str
            The name.
        """
        loss = self.get_loss(self.state) if self.loss is None else self.loss
        name = fname or f"{time.strftime('%Y-%m-%dT%H%M%S')}_loss_{loss:.4e}.npy"
        with open(name, "wb") as file:
            numpy.save(file, numpy.asarray(self.state), allow_pickle=False)
        return name

    @staticmethod
    def round_figures(x: float, n: int) -> float:
        """`x` with `n` significant figures; 0 stays 0."""
        return rounded(x, n)

    @staticmethod
    def time_string(seconds: float) -> str:
        """Hours, minutes and seconds: '   1:02:03'."""
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours:4d}:{minutes:02d}:{rest:02d}"

    # -- the calculator ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """The loss function neither converges nor logs within the block."""
        function: Any = None if self.calc is None else self.calc.model.lossfunction
        before = {name: getattr(function, name) for name in _FLAGS if hasattr(function, name)}
        try:
            for name in before:
                setattr(function, name, False)
            yield
        finally:
            for name, value in before.items():
                setattr(function, name, value)
            if hasattr(function, "_step"):
                function._step = 0  # noqa: SLF001 - Amp counts the steps of a training there
            if hasattr(function, "_cleanup"):
                function._cleanup()  # noqa: SLF001 - ends Amp's worker sessions

    @contextlib.contextmanager
    def _parameters_kept(self) -> Iterator[None]:
        """Afterwards the model has `state`, whatever the loss function left there."""
        try:
            yield
        finally:
            if self.calc is not None:
                self.calc.model.vector = self.state


_FLAGS = ("raise_ConvergenceOccurred", "log_losses")

_HEADER = (
    f"{'Step':>10}  {'Temperature':>12}  {'Loss':>14}  {'Accept':>8}  {'Improve':>8}  "
    f"{'Elapsed':>10}  {'Remaining':>10}"
)

_COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy,
    "method": lambda state: state.copy(),
    "slice": lambda state: state[:],
    "deepcopy": deepcopy,
}


class _Legacy:
    """The move of a subclass written for Amp: in place, without a word, so the state is copied before."""

    def __init__(self, annealer: Annealer) -> None:
        self._annealer = annealer

    def __call__(self, state: Any, _: Generator, /) -> Any:
        new = self._annealer.copy_state(state)
        returned: Any = self._annealer.move(new)  # type: ignore[func-returns-value]
        return new if returned is None else returned


def _vector(state: Any) -> Any:
    """Sequences of numbers as float arrays, which can be scaled; other states as they are."""
    if isinstance(state, Sequence) and state and all(isinstance(entry, float) for entry in state):
        return numpy.array(state, float)
    return state


def _loss_of(calc: Any) -> Callable[[Any], Any]:
    for name in ("descriptor", "model"):
        if getattr(calc, name, None) is None:
            raise CalculatorError(type(calc).__name__, f"it has no {name}; see ampstore.anneal.annealer")

    def loss(vector: Any) -> Any:
        return calc.model.lossfunction.get_loss(vector, lossprime=False)

    return loss


def _prepare(calc: Any, images: Any, train_forces: bool, log: Callable[..., object]) -> None:
    """Fingerprints of the images, and a model that can compute its loss."""
    from ampstore.images import hash_images

    log("Simulated annealing of the parameters.")
    log(f" {type(calc.descriptor).__name__}, {type(calc.model).__name__}")
    images = hash_images(images, log=log)
    parallel = getattr(calc, "_parallel", {"cores": 1})
    calc.descriptor.calculate_fingerprints(
        images=images, parallel=parallel, log=log, calculate_derivatives=train_forces
    )
    calc.model.fit(
        trainingimages=images, descriptor=calc.descriptor, log=log, parallel=parallel, only_setup=True
    )  # fmt: skip
    if calc.model.vector is None:
        raise CalculatorError(type(calc).__name__, "its model has no parameters after fit(only_setup=True)")
