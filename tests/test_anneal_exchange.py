"""Replica exchange and restarts on any executor: the result does not depend on who worked when."""

from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from test_anneal_checkpoint import bumpy, generator, outcome, wander

from ampstore.anneal import (
    Adaptive,
    Exponential,
    Nudge,
    Shift,
    anneal,
    independent_restarts,
    ladder,
    replica_exchange,
)
from ampstore.errors import ScheduleError

MOVES = {"shift": Shift(0.3), "nudge": Nudge(0.5), "function": wander}


@pytest.fixture
def executors():
    """Executors with different numbers of workers, and one that does the last task first."""
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(5) as five, ProcessPoolExecutor(2) as processes:
        yield {"one thread": one, "five threads": five, "two processes": processes, "backwards": Backwards()}


class Backwards:
    """An executor that begins with the last task, when the first result is asked for."""

    def __init__(self):
        self.tasks = []

    def submit(self, function, *arguments):
        task = Task(self, function, arguments)
        self.tasks.append(task)
        return task


class Task(Future):
    def __init__(self, owner, function, arguments):
        super().__init__()
        self.owner, self.call = owner, lambda: function(*arguments)

    def result(self, timeout=None):
        while self.owner.tasks:
            task = self.owner.tasks.pop()
            task.set_result(task.call())
        return super().result(timeout)


def exchange(move, executor=None, seed=1):
    return replica_exchange(
        np.full(4, 2.0), bumpy, move, ladder(9, 0.1, 5), rng=generator(seed), rounds=12, every=20, executor=executor
    )


@pytest.mark.parametrize("move", MOVES)
def test_an_exchange_does_not_depend_on_its_workers(move, executors):
    """None, threads, processes, in any order: the same to the last bit, of every rung."""
    expected = exchange(MOVES[move])
    for executor in executors.values():
        found = exchange(MOVES[move], executor)
        assert outcome(found) == outcome(expected)
        assert (found.swap_rates, found.walkers) == (expected.swap_rates, expected.walkers)
        for one, other in zip(found.traces, expected.traces, strict=True):
            assert one.loss.tobytes() == other.loss.tobytes()
    assert outcome(exchange(MOVES[move], seed=2)) != outcome(expected)


def test_an_exchange_counts_the_moves_of_all_rungs():
    """And its best is the best of all of them."""
    result = exchange(MOVES["nudge"])
    assert result.steps == 5 * 12 * 20
    assert result.evaluations == result.steps + 5
    assert result.loss == min(trace.best[-1] for trace in result.traces) == bumpy(result.state)
    assert result.temperatures == tuple(ladder(9, 0.1, 5))


def test_restarts_do_not_depend_on_their_workers_and_the_best_is_kept(executors):
    """Each is the search that its generator makes alone."""
    state, schedule = np.full(3, 2.0), Adaptive(5, 0.1, 300)

    def run(executor=None):
        return independent_restarts(
            state, bumpy, Shift(0.4), schedule, rng=generator(), count=4, executor=executor, segments=7
        )

    expected = run()
    alone = [anneal(state, bumpy, Shift(0.4), schedule, rng=own) for own in generator().spawn(4)]
    assert [outcome(result) for result in expected.results] == [outcome(result) for result in alone]
    assert expected.best.loss == min(result.loss for result in alone)
    for executor in executors.values():
        assert [outcome(result) for result in run(executor).results] == [outcome(result) for result in alone]


def test_what_a_loss_raises_in_a_worker_comes_out(executors):
    """With the step."""
    for executor in (None, *executors.values()):
        with pytest.raises(ZeroDivisionError) as caught:
            replica_exchange(
                np.ones(1), failing, Shift(0.1), [1.0, 2.0], rng=generator(), rounds=3, every=5, executor=executor
            )
        assert "of 15" in str(getattr(caught.value, "__notes__", caught.value.__cause__))


def failing(x):
    return 0.0 if x[0] == 1.0 else 1 / 0


@pytest.mark.parametrize("temperatures", [[], [1.0], [2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, float("nan")]])
def test_what_is_no_ladder_is_refused(temperatures):
    """At least two, above 0, rising."""
    with pytest.raises(ScheduleError, match="temperatures"):
        replica_exchange(np.ones(1), bumpy, Shift(1), temperatures, rng=generator(), rounds=2)


@pytest.mark.parametrize(("rounds", "every"), [(0, 5), (5, 0), (1.5, 2)])
def test_exchanges_of_no_length_are_refused(rounds, every):
    """As schedules of no steps are."""
    with pytest.raises(ScheduleError, match="rounds|every"):
        replica_exchange(np.ones(1), bumpy, Shift(1), [1.0, 2.0], rng=generator(), rounds=rounds, every=every)


def test_restarts_of_no_number_are_refused():
    """There is no best of none."""
    with pytest.raises(ScheduleError, match="count"):
        independent_restarts(np.ones(1), bumpy, Shift(1), Exponential(2, 1, 10), rng=generator(), count=0)
