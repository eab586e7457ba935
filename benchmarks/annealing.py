"""`python -m benchmarks.annealing`: what a step of annealing costs, and what the steps find.

    overhead   time per step at 1,000 parameters where the loss costs nothing: ampstore, simanneal, SciPy's
               dual_annealing, the loop of Amp; in turns, ratios within a round
    quality    the loss after equal numbers of evaluations, medians and quartiles of 20 seeds: a round trip
               through 20 cities, Rastrigin and Rosenbrock in ten dimensions

The loop of Amp is written anew from what it does: a copy of the state per step, a Python loop over its
entries, random numbers of the standard library for the acceptance.
"""

import contextlib
import io
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import numpy as np
import scipy.optimize
import simanneal
from rich.console import Console

from ampstore.anneal import (
    Adaptive,
    Exponential,
    Nudge,
    Reverse,
    Scale,
    Swap,
    anneal,
    ladder,
    replica_exchange,
)
from benchmarks.document import Metrics, document, write
from benchmarks.report import Sheet, show

PARAMETERS = 1000
EVALUATIONS = 20_000
DIMENSIONS = 10
SEEDS = 20

# -- overhead ------------------------------------------------------------------------------------


def nothing(_: object) -> float:
    """Loss that costs nothing."""
    return 0.0


def ampstore_steps(steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    anneal(np.ones(PARAMETERS), nothing, Scale(), Exponential(20.0, 2.5, steps), rng=rng)


def ampstore_one_entry(steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    anneal(np.ones(PARAMETERS), nothing, Nudge(0.001), Exponential(20.0, 2.5, steps), rng=rng)


class Simanneal(simanneal.Annealer):
    """simanneal with the fastest move and copy that it can be given."""

    copy_strategy = "method"
    updates = 0

    def move(self) -> None:
        self.state *= 1.0 + 0.001 * (np.random.rand(PARAMETERS) - 0.5)

    def energy(self) -> float:
        return 0.0


def simanneal_steps(steps: int, seed: int) -> None:
    np.random.seed(seed)
    random.seed(seed)
    annealer = Simanneal(np.ones(PARAMETERS))
    annealer.set_schedule({"tmax": 20.0, "tmin": 2.5, "steps": steps, "updates": 0})
    annealer.anneal()


def scipy_steps(steps: int, seed: int) -> None:
    bounds = [(0.0, 2.0)] * PARAMETERS
    scipy.optimize.dual_annealing(nothing, bounds, maxfun=steps, no_local_search=True, rng=seed, x0=np.ones(PARAMETERS))


def legacy_steps(steps: int, seed: int) -> None:
    np.random.seed(seed)
    random.seed(seed)
    state = np.ones(PARAMETERS)
    current = best_loss = nothing(state)
    best = state.copy()
    factor = -math.log(20.0 / 2.5)
    for step in range(1, steps):
        temperature = 20.0 * math.exp(factor * step / steps)
        before, loss_before = state.copy(), current
        draws = np.random.rand(len(state))
        for index in range(len(state)):
            state[index] *= 1.0 + 0.001 * (draws[index] - 0.5)
        current = nothing(state)
        change = current - loss_before
        if change > 0.0 and math.exp(-change / temperature) < random.random():
            state, current = before, loss_before
        elif current < best_loss:
            best, best_loss = state.copy(), current
    del best


def numbers_alone(steps: int, seed: int) -> None:
    """Draw and multiply as the move of ampstore does, with no search around it."""
    move, rng, state = Scale(), np.random.default_rng(seed), np.ones(PARAMETERS)
    for _ in range(steps):
        state = move(state, rng)


OVERHEAD: dict[str, tuple[Callable[[int, int], None], int]] = {
    "ampstore": (ampstore_steps, 20_000),
    "simanneal": (simanneal_steps, 10_000),
    "scipy dual_annealing": (scipy_steps, 4_000),
    "the loop of Amp": (legacy_steps, 400),
    "the random vectors alone": (numbers_alone, 20_000),
    "ampstore, one entry a move": (ampstore_one_entry, 20_000),
}


def overhead(rounds: int, share: float) -> dict[str, list[float]]:
    """Microseconds per step of every engine in every round; one round more comes first and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in OVERHEAD}
    order = random.Random(0)
    for number in range(rounds + 1):
        for name in order.sample(list(OVERHEAD), len(OVERHEAD)):
            run, steps = OVERHEAD[name]
            steps = max(100, int(steps * share))
            with contextlib.redirect_stderr(io.StringIO()):
                start = time.perf_counter()
                run(steps, number)
                spent = time.perf_counter() - start
            if number:
                times[name].append(1e6 * spent / steps)
    return times


def overhead_sheet(times: dict[str, list[float]]) -> Sheet:
    """Tabulate them beside ampstore's."""
    rows = []
    for name, found in times.items():
        ratios = [one / base for one, base in zip(found, times["ampstore"], strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        rows.append([name, f"{median(found):.2f}", f"{min(found):.2f}", spread])
    header = ["engine", "µs per step", "best round", "times ampstore (min-max)"]
    return Sheet(f"A step at {PARAMETERS:,} parameters, the loss costs nothing", header, rows)


# -- quality -------------------------------------------------------------------------------------

# Latitude and longitude of twenty cities of the USA, degrees.
CITIES = np.radians([
    (40.72, 74.00), (34.05, 118.25), (41.88, 87.63), (29.77, 95.38), (33.45, 112.07), (39.95, 75.17), (29.53, 98.47),
    (32.78, 96.80), (32.78, 117.15), (37.30, 121.87), (42.33, 83.05), (37.78, 122.42), (30.32, 81.70), (39.79, 86.15),
    (30.25, 97.75), (39.98, 82.98), (32.75, 97.33), (35.23, 80.85), (35.12, 89.97), (39.28, 76.62),
])  # fmt: skip


def distances() -> list[list[float]]:
    """Miles between the cities on a sphere."""
    latitude, longitude = CITIES.T
    cosine = np.sin(latitude[:, None]) * np.sin(latitude) + np.cos(latitude[:, None]) * np.cos(latitude) * np.cos(
        longitude[:, None] - longitude
    )
    return np.where(np.eye(len(CITIES)) > 0, 0.0, 3963 * np.arccos(np.clip(cosine, -1, 1))).tolist()


MILES = distances()


def trip(order: Any) -> float:
    return sum(MILES[here][there] for here, there in zip(order, (*order[1:], order[0]), strict=True))


def rastrigin(x: Any) -> float:
    if np.abs(x).max() > 5.12:
        return math.inf
    return float(10 * len(x) + (x * x - 10 * np.cos(2 * np.pi * x)).sum())


def rosenbrock(x: Any) -> float:
    if np.abs(x).max() > 5.12:
        return math.inf
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def start(problem: str, seed: int) -> Any:
    """Where every engine begins with this seed."""
    rng = np.random.default_rng(1000 + seed)
    return rng.permutation(len(MILES)).tolist() if problem == "trip" else rng.uniform(-5.12, 5.12, DIMENSIONS)


LOSSES: dict[str, Callable[[Any], float]] = {"trip": trip, "rastrigin": rastrigin, "rosenbrock": rosenbrock}
TITLES = {
    "trip": "Round trip through 20 cities, miles",
    "rastrigin": "Rastrigin, 10 dimensions; 0 is the best",
    "rosenbrock": "Rosenbrock, 10 dimensions; 0 is the best",
}
# First and last temperature, and width of the moves, chosen by hand; all engines use the same.
TUNED = {"trip": (1000.0, 10.0, 0.0), "rastrigin": (10.0, 0.05, 1.0), "rosenbrock": (100.0, 0.01, 0.2)}


def exponential(problem: str, seed: int, evaluations: int, move: Any = None) -> float:
    t_max, t_min, width = TUNED[problem]
    move = move or (Swap() if problem == "trip" else Nudge(width))
    copy = list.copy if problem == "trip" else np.copy
    schedule = Exponential(t_max, t_min, evaluations - 1)
    rng = np.random.default_rng(seed)
    return anneal(start(problem, seed), LOSSES[problem], move, schedule, rng=rng, copy=copy).loss


def turned(problem: str, seed: int, evaluations: int) -> float:
    return exponential(problem, seed, evaluations, Reverse())


def adaptive(problem: str, seed: int, evaluations: int) -> float:
    t_max, t_min, width = TUNED[problem]
    move, copy = (Swap(), list.copy) if problem == "trip" else (Nudge(width), np.copy)
    schedule = Adaptive(t_max, t_min, evaluations - 1)
    rng = np.random.default_rng(seed)
    return anneal(start(problem, seed), LOSSES[problem], move, schedule, rng=rng, copy=copy).loss


def exchange(problem: str, seed: int, evaluations: int) -> float:
    t_max, t_min, width = TUNED[problem]
    move, copy = (Swap(), list.copy) if problem == "trip" else (Nudge(width), np.copy)
    every, rungs = 20, 8
    rounds = (evaluations - rungs) // (every * rungs)
    found = replica_exchange(
        start(problem, seed), LOSSES[problem], move, ladder(t_max / 2, t_min, rungs), rng=np.random.default_rng(seed),
        rounds=rounds, every=every, copy=copy,
    )  # fmt: skip
    return found.loss


def polished(problem: str, seed: int, evaluations: int) -> float:
    """Three quarters of the evaluations anneal, SciPy's L-BFGS-B has the rest."""
    t_max, t_min, width = TUNED[problem]
    loss, steps = LOSSES[problem], 3 * evaluations // 4
    schedule = Exponential(t_max, t_min, steps - 1)
    found = anneal(start(problem, seed), loss, Nudge(width), schedule, rng=np.random.default_rng(seed), copy=np.copy)
    bounds = [(-5.12, 5.12)] * DIMENSIONS
    rest = scipy.optimize.minimize(
        loss, found.state, bounds=bounds, method="L-BFGS-B", options={"maxfun": evaluations - steps}
    )
    return min(found.loss, float(rest.fun))


class Peer(simanneal.Annealer):
    """simanneal with the same moves, temperatures and number of evaluations."""

    updates = 0

    def __init__(self, problem: str, seed: int) -> None:
        self.copy_strategy = "slice" if problem == "trip" else "method"
        super().__init__(start(problem, seed))
        self.loss, self.width = LOSSES[problem], TUNED[problem][2]

    def move(self) -> None:
        state = self.state
        if self.width:
            index = random.randrange(len(state))
            state[index] += self.width * (2 * random.random() - 1)
        else:
            i, j = random.randrange(len(state)), random.randrange(len(state))
            state[i], state[j] = state[j], state[i]

    def energy(self) -> float:
        return self.loss(self.state)


def peer(problem: str, seed: int, evaluations: int) -> float:
    random.seed(seed)
    annealer = Peer(problem, seed)
    t_max, t_min, _ = TUNED[problem]
    annealer.set_schedule({"tmax": t_max, "tmin": t_min, "steps": evaluations - 1, "updates": 0})
    return annealer.anneal()[1]


def dual(problem: str, seed: int, evaluations: int, local: bool = True) -> float:
    """SciPy's own temperatures; for the round trip the order of the numbers is the order of the cities."""
    loss, first = LOSSES[problem], start(problem, seed)
    if problem == "trip":
        bounds, first = [(0.0, 1.0)] * len(first), np.argsort(first) / len(first)
        function = lambda x: loss(np.argsort(x).tolist())  # noqa: E731
    else:
        bounds, function = [(-5.12, 5.12)] * DIMENSIONS, loss
    # maxfun is looked at between local searches, each of which may take some hundred more.
    calls, lowest = 0, math.inf

    def counted(x: Any) -> float:
        nonlocal calls, lowest
        calls += 1
        found = function(x)
        if calls <= evaluations:
            lowest = min(lowest, found)
        return found

    scipy.optimize.dual_annealing(
        counted, bounds, maxfun=evaluations, maxiter=10**6, no_local_search=not local, rng=seed, x0=first
    )
    return lowest


def dual_alone(problem: str, seed: int, evaluations: int) -> float:
    return dual(problem, seed, evaluations, local=False)


QUALITY: dict[str, tuple[Callable[[str, int, int], float], set[str]]] = {
    "ampstore, exponential": (exponential, set(LOSSES)),
    "simanneal, the same schedule": (peer, set(LOSSES)),
    "ampstore, adaptive": (adaptive, set(LOSSES)),
    "ampstore, replica exchange of 8": (exchange, set(LOSSES)),
    "ampstore, parts turned round": (turned, {"trip"}),
    "ampstore, then L-BFGS-B": (polished, {"rastrigin", "rosenbrock"}),
    "scipy dual_annealing": (dual, set(LOSSES)),
    "scipy dual_annealing, no local search": (dual_alone, set(LOSSES)),
}


def quality(seeds: int, evaluations: int) -> dict[str, dict[str, list[float]]]:
    """Lowest loss of every engine for every seed, by problem."""
    found: dict[str, dict[str, list[float]]] = {}
    with Console(stderr=True).status("") as status, contextlib.redirect_stderr(io.StringIO()):
        for problem in LOSSES:
            found[problem] = {}
            for name, (run, problems) in QUALITY.items():
                status.update(f"{problem}: {name}")
                if problem in problems:
                    found[problem][name] = [run(problem, seed, evaluations) for seed in range(seeds)]
    return found


def quality_sheet(problem: str, found: dict[str, list[float]], evaluations: int) -> Sheet:
    """Tabulate medians and spread."""
    best = min(min(losses) for losses in found.values())
    rows = []
    for name, losses in found.items():
        low, _, high = quantiles(losses, n=4, method="inclusive")
        near = sum(loss <= best + 0.001 * abs(best) + 1e-3 for loss in losses)
        numbers = (median(losses), low, high, min(losses), max(losses))
        rows.append([name, *(f"{number:.4g}" for number in numbers), f"{near} of {len(losses)}"])
    header = ["engine", "median", "lower quartile", "upper quartile", "least", "greatest", "at the best known"]
    return Sheet(f"{TITLES[problem]}; {evaluations:,} evaluations, {len(losses)} seeds", header, rows)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Counted rounds of the overhead.")
@click.option("--seeds", type=click.IntRange(2), default=SEEDS, show_default=True, help="Searches of each engine.")
@click.option("--evaluations", type=click.IntRange(100), default=EVALUATIONS, show_default=True)
@click.option("--only", type=click.Choice(["overhead", "quality"]))
@click.option("--quick", is_flag=True, help="A few seconds: fewer steps, rounds and seeds.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers here.")
def main(rounds: int, seeds: int, evaluations: int, only: str | None, quick: bool, json_file: Path | None) -> None:
    """Time a step of annealing beside its peers, and compare what equal numbers of evaluations find."""
    if quick:
        rounds, seeds, evaluations = min(rounds, 3), min(seeds, 3), min(evaluations, 2000)
    console, numbers = Console(), dict[str, Any]()
    if not console.is_terminal:
        console = Console(width=150)
    if only != "quality":
        numbers["overhead"] = overhead(rounds, 0.2 if quick else 1.0)
        show(overhead_sheet(numbers["overhead"]), console)
    if only != "overhead":
        numbers["quality"] = quality(seeds, evaluations)
        for problem, found in numbers["quality"].items():
            show(quality_sheet(problem, found, evaluations), console)
    if json_file:
        write(json_file, document("annealing", _metrics(numbers.get("overhead", {})), **numbers))


def _metrics(times: dict[str, list[float]]) -> Metrics:
    """Time of a step of ampstore relative to each other engine, round by round."""
    return {
        f"step | {name}": [one / other for one, other in zip(times["ampstore"], found, strict=True)]
        for name, found in times.items()
        if not name.startswith("ampstore")
    }


if __name__ == "__main__":
    main()
