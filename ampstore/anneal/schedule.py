"""Temperatures over the steps of a search.

Step 0 is the initial state, step k the state after k moves; move k is judged at `temperature(k)`. So
a schedule has `t_max` at step 0 and exactly `t_min` at its last step, which is number `steps`.

    Exponential   t_max * (t_min / t_max) ** (step / steps)            Kirkpatrick et al. 1983
    Linear        a straight line
    Geometric     equal plateaus, each lower than the one before by the same factor
    Adaptive      the temperature follows the acceptance              Lam and Delosme 1988

Temperatures are computed one by one with `math`, not as arrays: the same step has the same bits
whatever is computed beside it, so that a resumed search is the search.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ampstore.errors import ScheduleError

CHUNK = 64
"""Steps whose temperatures are made together; a schedule adapts between two chunks."""


@dataclass(frozen=True)
class Schedule:
    """Temperatures from `t_max` down to `t_min`; subclasses say how.

    Parameters
    ----------
    t_max, t_min : float
        Temperatures of the first and the last step in units of the loss (k_B = 1), 0 < t_min <= t_max.
        Equal ones sample at a fixed temperature.
    steps : int
        Number of moves, at least 1.

    Raises
    ------
    ScheduleError
        (a ValueError) for anything else.
    """

    t_max: float
    t_min: float
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "t_max", _temperature("t_max", self.t_max))
        object.__setattr__(self, "t_min", _temperature("t_min", self.t_min))
        object.__setattr__(self, "steps", whole("steps", self.steps))
        if self.t_max < self.t_min:
            raise ScheduleError("t_max", self.t_max, f"it must not be below t_min={self.t_min!r}")

    def temperature(self, step: int) -> float:
        """Temperature at which move number `step` is judged.

        Parameters
        ----------
        step : int
            Moves made, 0 <= step <= `steps`.

        Returns
        -------
        float
            In units of the loss (k_B = 1): exactly `t_max` at step 0, exactly `t_min` at the last step.

        Raises
        ------
        ScheduleError
            If `step` is outside the schedule.

        References
        ----------
        Kirkpatrick, Gelatt, Vecchi, Science 220, 671 (1983).
        """
        if not 0 <= step <= self.steps:
            raise ScheduleError("step", step, f"this schedule has steps 0 to {self.steps}")
        if step == 0:
            return self.t_max
        return self.t_min if step == self.steps else self.between(step)

    def temperatures(self, first: int, last: int) -> list[float]:
        """Temperatures of the steps `first` to `last`, both included and none of them step 0."""
        between = self.between
        if last < self.steps:
            return [between(step) for step in range(first, last + 1)]
        return [*(between(step) for step in range(first, self.steps)), self.t_min]

    def between(self, step: int) -> float:
        """Temperature of a step that is neither the first nor the last."""
        raise NotImplementedError

    @property
    def span(self) -> float:
        """Natural logarithm of `t_min` / `t_max`."""
        return math.log(self.t_min) - math.log(self.t_max)

    def fresh(self) -> "Schedule":
        """A schedule for one search: itself, unless it keeps a memory of what was accepted."""
        return self

    def note(self, step: int, accepted: int, moves: int) -> None:
        """Hear, at the end of each chunk of steps, how many of its moves were accepted."""

    def memory(self) -> dict[str, float]:
        """What it has learnt, for a checkpoint."""
        return {}

    def recall(self, memory: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""

    def facts(self) -> dict[str, object]:
        """Name and parameters, by which a checkpoint knows its own search."""
        return {"kind": type(self).__name__, "t_max": self.t_max, "t_min": self.t_min, "steps": self.steps}


@dataclass(frozen=True)
class Exponential(Schedule):
    """The same factor from each step to the next: the schedule of Kirkpatrick et al. (1983)."""

    _rate: float = field(default=0.0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_rate", self.span / self.steps)

    def between(self, step: int) -> float:
        """Temperature of a step that is neither the first nor the last."""
        return self.t_max * math.exp(self._rate * step)


@dataclass(frozen=True)
class Linear(Schedule):
    """The same difference from each step to the next."""

    def between(self, step: int) -> float:
        """Temperature of a step that is neither the first nor the last."""
        return self.t_max + (self.t_min - self.t_max) * (step / self.steps)


@dataclass(frozen=True)
class Geometric(Schedule):
    """Plateaus of equal length, each lower than the one before by the same factor.

    Parameters
    ----------
    t_max, t_min, steps
        As in `Schedule`.
    plateaus : int, default 20
        At least 2.
    """

    plateaus: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if whole("plateaus", self.plateaus) < 2:
            raise ScheduleError("plateaus", self.plateaus, "there must be at least 2")

    def between(self, step: int) -> float:
        """Temperature of a step that is neither the first nor the last."""
        plateau = (step - 1) * self.plateaus // self.steps
        return self.t_max * math.exp(self.span * (plateau / (self.plateaus - 1)))

    def facts(self) -> dict[str, object]:
        """Name and parameters, by which a checkpoint knows its own search."""
        return {**super().facts(), "plateaus": self.plateaus}


@dataclass(frozen=True)
class Adaptive(Schedule):
    """Lets the temperature follow the share of moves that are accepted.

    The share is led from 1 to 0.44 during the first 15 % of the steps, held until 65 %, and led
    towards 0 afterwards. The temperature is lowered where more is accepted than that, raised where
    less is, stays within `t_min` and `t_max`, begins at `t_max` and ends at `t_min`.

    References
    ----------
    Lam, Delosme, Yale technical reports 8816 and 8817 (1988); the simplification by Swartz and Sechen,
    ICCAD 1990, and Boyan, PhD thesis, Carnegie Mellon (1998).
    """

    _known: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def between(self, step: int) -> float:  # noqa: ARG002 - it depends on what was heard
        """Temperature of a step that is neither the first nor the last."""
        return self._known.get("temperature", self.t_max)

    def fresh(self) -> "Adaptive":
        """A schedule with an empty memory."""
        return Adaptive(self.t_max, self.t_min, self.steps)

    def note(self, step: int, accepted: int, moves: int) -> None:
        """Hear how many of the last moves were accepted, and move the temperature."""
        before = self._known.get("acceptance", 0.5)
        weight = min(1.0, moves / 500)
        acceptance = before + weight * (accepted / moves - before)
        # A quarter of the steps is enough to go all the way from t_max to t_min.
        factor = math.exp(self.span * min(1.0, 4 * moves / self.steps))
        now = self.between(step) * (factor if acceptance > self.target(step) else 1 / factor)
        self._known.update(acceptance=acceptance, temperature=min(max(now, self.t_min), self.t_max))

    def target(self, step: int) -> float:
        """Share of moves that should be accepted at a step."""
        done = step / self.steps
        if done < 0.15:
            return float(0.44 + 0.56 * 560 ** (-done / 0.15))
        return 0.44 if done < 0.65 else float(0.44 * 440 ** (-(done - 0.65) / 0.35))

    def memory(self) -> dict[str, float]:
        """What it has learnt, for a checkpoint."""
        return dict(self._known)

    def recall(self, memory: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""
        self._known.clear()
        self._known.update(memory)


def ladder(t_max: float, t_min: float, rungs: int) -> list[float]:
    """Temperatures for replica exchange, from `t_min` up to `t_max` by equal factors.

    References
    ----------
    Earl, Deem, Phys. Chem. Chem. Phys. 7, 3910 (2005), section 3.2.
    """
    if whole("rungs", rungs) < 2:
        raise ScheduleError("rungs", rungs, "a ladder has at least 2")
    schedule = Exponential(t_max, t_min, rungs - 1)
    return [schedule.temperature(step) for step in reversed(range(rungs))]


def rising(temperatures: Sequence[float]) -> list[float]:
    """The temperatures of a ladder, checked.

    Raises
    ------
    ScheduleError
        If there are less than two, or they do not rise.
    """
    checked = [_temperature("temperatures", value) for value in temperatures]
    if len(checked) < 2 or any(low >= high for low, high in pairwise(checked)):
        raise ScheduleError("temperatures", list(temperatures), "a ladder has at least 2, each above the one before")
    return checked


def _temperature(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ScheduleError(name, value, "a temperature is a finite number above 0")
    return number


def whole(name: str, value: object) -> int:
    """A whole number of at least 1, checked."""
    try:
        number: int = int(value)  # type: ignore[call-overload]
        is_whole = bool(number == value)
    except (TypeError, ValueError, OverflowError):
        number, is_whole = 0, False
    if not is_whole or number < 1:
        raise ScheduleError(name, value, "it is a whole number of at least 1")
    return number
