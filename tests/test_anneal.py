"""One search: schedules, moves, what is accepted, what is refused."""

import math
import pickle

import numpy as np
import pytest

from ampstore.anneal import (
    EVALUATE,
    Adaptive,
    Exponential,
    Geometric,
    Linear,
    Moved,
    Nudge,
    Reverse,
    Scale,
    Shift,
    Swap,
    anneal,
    estimate_schedule,
    ladder,
)
from ampstore.errors import LossError, MoveError, ScheduleError

SCHEDULES = [Exponential, Linear, Geometric, Adaptive]


def generator(seed=1):
    return np.random.default_rng(seed)


def bowl(x):
    return float(((x - 1.0) ** 2).sum())


# -- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(
    ("t_max", "t_min", "steps"), [(20.0, 2.5, 10000), (1.0, 1e-9, 7), (3.3, 3.3, 5), (2.0, 1.0, 1)]
)
def test_first_and_last_temperature_are_exact(kind, t_max, t_min, steps):
    """Not nearly: the very numbers that were asked for, at step 0 and at the last step."""
    schedule = kind(t_max, t_min, steps)
    assert schedule.temperature(0) == t_max
    assert schedule.temperature(steps) == t_min


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_trace_begins_at_t_max_and_ends_at_t_min(kind):
    """Every one of the steps is made, the last one at t_min."""
    result = anneal(np.zeros(3), bowl, Shift(0.1), kind(5.0, 0.01, 1234), rng=generator())
    assert (result.steps, result.evaluations) == (1234, 1235)
    assert (result.trace[0].step, result.trace[0].temperature) == (0, 5.0)
    assert (result.trace[-1].step, result.trace[-1].temperature) == (1234, 0.01)


def test_exponential_is_that_of_the_legacy():
    """T = Tmax * exp(-ln(Tmax / Tmin) * step / steps)."""
    schedule = Exponential(20.0, 2.5, 10000)
    for step in (1, 17, 5000, 9999):
        assert schedule.temperature(step) == pytest.approx(20.0 * math.exp(-math.log(8) * step / 10000), rel=1e-14)


def test_linear_and_geometric_have_their_shapes():
    """A straight line; plateaus that lose the same factor each."""
    line = Linear(10.0, 2.0, 8)
    assert [line.temperature(step) for step in range(9)] == [10, 9, 8, 7, 6, 5, 4, 3, 2]
    stairs = Geometric(8.0, 1.0, 8, plateaus=4)
    assert [stairs.temperature(step) for step in range(1, 9)] == pytest.approx([8, 8, 4, 4, 2, 2, 1, 1])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_temperatures_never_rise_but_in_the_adaptive_schedule(kind):
    """And stay within their ends."""
    result = anneal(np.zeros(3), bowl, Shift(0.5), kind(5.0, 0.01, 5000), rng=generator(), points=5000)
    temperatures = result.trace.temperature
    assert temperatures.max() <= 5.0
    assert temperatures.min() >= 0.01
    assert kind is Adaptive or (np.diff(temperatures) <= 0).all()


def test_adaptive_leads_the_acceptance_to_its_target():
    """44 % in the middle of the search, whatever the width of the moves."""
    for width in (0.05, 0.4):
        schedule = Adaptive(100.0, 1e-6, 40000)
        trace = anneal(np.zeros(5), bowl, Shift(width), schedule, rng=generator(), points=100).trace
        middle = (trace.step > 10000) & (trace.step <= 26000)
        assert abs(trace.acceptance[middle].mean() - 0.44) < 0.05


def test_adaptive_keeps_nothing_from_one_search_for_the_next():
    """One schedule object may be used again."""
    schedule = Adaptive(10.0, 0.01, 2000)
    first, second = (anneal(np.zeros(2), bowl, Shift(0.3), schedule, rng=generator()) for _ in range(2))
    assert first.final_loss == second.final_loss


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(
    ("t_max", "t_min", "steps"),
    [(1, 0, 10), (1, -1, 10), (1, 2, 10), (1, 0.5, 0), (1, 0.5, 1.5), (math.nan, 1, 10), (math.inf, 1, 5), ("x", 1, 5)],
)
def test_impossible_schedules_are_refused_by_name(kind, t_max, t_min, steps):
    """Tmin <= 0, Tmax < Tmin, steps < 1 and what is no number."""
    with pytest.raises(ScheduleError, match="t_max|t_min|steps") as caught:
        kind(t_max, t_min, steps)
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_steps_outside_the_schedule_are_refused():
    """There is no temperature after the last step."""
    for step in (-1, 11):
        with pytest.raises(ScheduleError, match="0 to 10"):
            Linear(2, 1, 10).temperature(step)


def test_ladder_rises_by_equal_factors_between_exact_ends():
    """For replica exchange."""
    rungs = ladder(8.0, 1.0, 4)
    assert (rungs[0], rungs[-1]) == (1.0, 8.0)
    assert [high / low for low, high in zip(rungs, rungs[1:], strict=False)] == pytest.approx([2, 2, 2])


# -- the search --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_search_finds_the_bottom_of_a_bowl(kind):
    """From far away, to 1 % of where it began."""
    result = anneal(np.full(6, 4.0), bowl, Shift(0.1), kind(5.0, 1e-4, 20000), rng=generator())
    assert result.loss < 0.01 * bowl(np.full(6, 4.0))
    assert result.loss == bowl(result.state)
    assert result.final_loss == bowl(result.final_state)
    assert result.loss == result.trace.best[-1]


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox])
@pytest.mark.parametrize("move", [Scale(0.05), Shift(0.1), Nudge(0.5)], ids=lambda move: type(move).__name__)
def test_the_same_seed_gives_the_same_search(bits, move):
    """A move object may be used again; another seed gives another search."""
    first, second, other = (
        anneal(np.full(7, 2.0), bowl, move, Exponential(1, 0.1, 3000), rng=np.random.Generator(bits(seed)))
        for seed in (3, 3, 4)
    )
    assert first.state.tobytes() == second.state.tobytes()
    assert first.trace.loss.tolist() == second.trace.loss.tolist()
    assert first.trace.loss.tolist() != other.trace.loss.tolist()


def test_the_initial_state_is_not_changed_and_counts_as_best():
    """At the bottom nothing better can be found."""
    start = np.ones(5)
    result = anneal(start, bowl, Scale(0.01), Exponential(1e3, 1e2, 500), rng=generator())
    assert start.tolist() == [1.0] * 5
    assert result.state.tolist() == [1.0] * 5
    assert result.loss == 0.0
    assert result.final_loss > 0


def test_the_number_of_points_does_not_change_the_search():
    """Nor does what they are shown to."""
    runs = [
        anneal(np.zeros(3), bowl, Shift(0.2), Adaptive(3, 0.1, 1000), rng=generator(), points=points, progress=show)
        for points, show in ((1, None), (7, True), (1000, lambda point: None))
    ]
    assert len({run.final_state.tobytes() for run in runs}) == 1
    assert [len(run.trace) for run in runs] == [2, 8, 1001]


def test_points_are_told_in_order_once_each():
    """To the callback."""
    told = []
    result = anneal(np.zeros(3), bowl, Shift(0.2), Linear(3, 0.1, 100), rng=generator(), points=9, progress=told.append)
    assert told == list(result.trace)
    assert result.trace.step.tolist() == [0, 12, 23, 34, 45, 56, 67, 78, 89, 100]


def test_counts_add_up():
    """Points carry shares of the moves since the point before."""
    result = anneal(np.zeros(3), bowl, Shift(0.3), Exponential(1, 0.1, 1000), rng=generator(), points=10)
    assert result.trace.acceptance[1:].sum() * 100 == pytest.approx(result.accepted)
    assert result.trace.improvement[1:].sum() * 100 == pytest.approx(result.improved)
    assert 0 < result.improved < result.accepted < 1000
    assert result.acceptance == result.accepted / 1000


# -- moves -------------------------------------------------------------------------------------


def trip(cities):
    """Length of a round trip and the places, on a circle in shuffled order."""
    angles = 2 * np.pi * np.arange(cities) / cities
    places = np.column_stack([np.cos(angles), np.sin(angles)])
    places = places[np.random.default_rng(5).permutation(cities)]

    def length(order):
        route = places[np.asarray(order)]
        return float(np.linalg.norm(route - np.roll(route, 1, axis=0), axis=1).sum())

    return length


@pytest.mark.parametrize("move", [Swap(), Reverse()], ids=lambda move: type(move).__name__)
@pytest.mark.parametrize("kind", [list, np.array], ids=["list", "array"])
def test_orders_stay_orders(move, kind):
    """Every city once, in place, and the search gets shorter trips."""
    length = trip(12)
    start = kind(range(12))
    result = anneal(start, length, move, Exponential(2, 0.05, 4000), rng=generator())
    assert sorted(result.state) == list(range(12))
    assert list(start) == list(range(12))
    assert result.loss < 0.75 * length(range(12))


class Flip:
    """One spin of an Ising ring turned round, in place; knows what that changes."""

    def __init__(self, tells):
        self.tells = tells

    def __call__(self, spins, rng):
        self.at = at = int(rng.integers(len(spins)))
        spins[at] = -spins[at]
        neighbours = spins[at - 1] + spins[(at + 1) % len(spins)]
        return -2.0 * spins[at] * neighbours if self.tells else EVALUATE

    def undo(self, spins):
        spins[self.at] = -spins[self.at]


def ising(spins):
    return -float(sum(spins[i] * spins[i - 1] for i in range(len(spins))))


def test_a_move_that_tells_the_change_saves_the_evaluations():
    """The same search, but for the calls of the loss: one at the start, two exact ones at the end."""
    start = [1, -1] * 15
    evaluating, telling = (
        anneal(start, ising, Flip(tells), Exponential(3, 0.2, 2000), rng=generator()) for tells in (False, True)
    )
    assert evaluating.final_state == telling.final_state
    assert evaluating.trace.loss.tolist() == telling.trace.loss.tolist()
    assert (evaluating.evaluations, telling.evaluations) == (2001, 3)
    assert telling.loss == ising(telling.state) < ising(start)


def test_a_function_may_tell_the_change_too():
    """As Moved(state, change); the state that it got stays as it is."""

    def step(x, rng):
        return x + 1 if rng.random() < 0.5 else x - 1

    def step_and_tell(x, rng):
        new = step(x, rng)
        return Moved(new, float(new * new - x * x))

    runs = [anneal(50, lambda x: x * x, move, Linear(10, 1, 500), rng=generator()) for move in (step, step_and_tell)]
    assert runs[0].trace.loss.tolist() == runs[1].trace.loss.tolist()
    assert runs[1].evaluations == 3


def test_a_rejected_move_in_place_is_undone():
    """At a temperature near nothing only improvements stay, so the loss never rises."""
    seen = []
    start = np.full(20, 3.0)

    def watched(x):
        seen.append(bowl(x))
        return seen[-1]

    result = anneal(start, watched, Nudge(1.0), Exponential(1e-300, 1e-300, 3000), rng=generator(), points=3000)
    assert (np.diff(result.trace.loss) <= 0).all()
    assert result.final_loss == bowl(result.final_state) == result.loss == min(seen)


def test_whole_vector_moves_reach_both_sides_alike():
    """Scale and Shift are symmetric: mean of the moves 0 within 4 standard errors, and never over the width."""
    for move, centre in ((Scale(0.5), 1.0), (Shift(0.5), 0.0)):
        rng, state = generator(11), np.full(1000, centre)
        moved = np.array([move(np.ones(1000) if centre else state, rng).copy() for _ in range(200)]) - centre
        assert np.abs(moved).max() < 0.5
        assert np.abs(moved).max() > 0.4999
        error = 0.5 / math.sqrt(3 * moved.size)
        assert abs(moved.mean()) < 4 * error
        assert moved.var() == pytest.approx(0.25 / 3, rel=0.01)


def test_scale_leaves_zeros_alone():
    """As Amp's move does."""
    result = anneal(np.array([0.0, 2.0]), lambda x: float(x[1]), Scale(), Exponential(1, 0.1, 50), rng=generator())
    assert result.state[0] == 0.0
    assert result.state[1] != 2.0


@pytest.mark.parametrize("width", [0, -1, math.nan, math.inf])
def test_moves_of_no_width_are_refused(width):
    """They would go nowhere."""
    for kind in (Scale, Shift, Nudge):
        with pytest.raises(ScheduleError, match="width"):
            kind(width)


def test_states_that_change_their_length_are_kept_whole():
    """The best state is a copy of what it was, not of what fits."""

    def grow(x, rng):
        return np.append(x, 1.0) if rng.random() < 0.5 else x[:-1]

    result = anneal(np.ones(5), lambda x: abs(len(x) - 9.0), grow, Linear(2, 0.1, 500), rng=generator())
    assert len(result.state) == 9
    assert result.loss == 0


# -- losses and moves that are wrong -------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("move", [Shift(0.1), Nudge(0.1)], ids=["new state", "in place"])
def test_losses_that_are_not_finite_are_rejected_and_counted(bad, move):
    """Also minus infinity, which is lower than everything."""
    calls = []

    def loss(x):
        calls.append(x[0])
        return bad if x[0] > 1.02 else 0.0

    result = anneal(np.ones(1), loss, move, Exponential(1, 0.1, 400), rng=generator())
    refused = sum(x > 1.02 for x in calls)
    assert result.not_finite == refused > 0
    assert result.accepted == 400 - refused
    assert result.final_state[0] <= 1.02


@pytest.mark.parametrize("bad", [math.nan, math.inf, None, "lots", [1, 2]])
def test_a_search_does_not_begin_where_the_loss_is_no_finite_number(bad):
    """Nothing could be compared with it."""
    with pytest.raises(LossError, match="initial state"):
        anneal(np.ones(2), lambda x: bad, Shift(1), Linear(2, 1, 10), rng=generator())


@pytest.mark.parametrize("bad", [None, "lots", [1, 2], np.array([1.0, 2.0])])
def test_a_loss_that_is_no_number_later_is_named_with_its_step(bad):
    """At the step where it happened."""
    values = iter([1.0, 0.5, 0.2])
    with pytest.raises(LossError, match=r"at step 3 is"):
        anneal(np.ones(2), lambda x: next(values, bad), Shift(1), Linear(2, 1, 10), rng=generator())


class Silent:
    def __call__(self, state, rng):
        state[0] += 1

    def undo(self, state):
        state[0] -= 1


@pytest.mark.parametrize("move", [lambda state, rng: None, Silent()], ids=["new state", "in place"])
def test_a_move_that_returns_nothing_is_refused_with_what_to_return(move):
    """A function forgot its return; a move in place has to say what it changed."""
    with pytest.raises(MoveError, match=r"at step 1.*EVALUATE"):
        anneal([1.0, 2.0], sum, move, Linear(2, 1, 10), rng=generator())


def test_what_a_loss_raises_comes_out_with_the_step_and_leaves_the_state_alone():
    """The very exception, with a note; the state in place is that of the step before."""
    start, seen = np.full(4, 2.0), []

    def loss(x):
        seen.append(x.copy())
        if len(seen) == 38:
            raise ZeroDivisionError("the loss is tired")
        return bowl(x)

    from ampstore.anneal.chain import Chain

    chain = Chain(start, loss, Nudge(0.1), Linear(2, 1, 100), generator())
    with pytest.raises(ZeroDivisionError, match="tired") as caught:
        chain.advance(100)
    assert "step 37 of 100" in caught.value.__notes__[0]
    assert chain.step == 36
    assert bowl(chain.state) == chain.loss
    assert start.tolist() == [2.0] * 4


def test_type_errors_of_the_users_own_code_are_not_renamed():
    """Only what the search itself could not use becomes a LossError."""

    def loss(x):
        return x + "a" if calls.append(1) or len(calls) > 3 else 1.0

    calls = []
    with pytest.raises(TypeError) as caught:
        anneal(np.ones(2), loss, Shift(1), Linear(2, 1, 10), rng=generator())
    assert not isinstance(caught.value, LossError)


# -- estimate_schedule ---------------------------------------------------------------------------


def test_an_estimated_schedule_accepts_nearly_all_at_its_start_and_improves_nothing_at_its_end():
    """98 % at t_max (a factor of 1.5 below less); the steps fill the minutes."""
    ticks = iter(range(10**9))
    length = trip(30)
    schedule = estimate_schedule(
        list(range(30)), length, Swap(), rng=generator(), minutes=1.0, trials=500, clock=lambda: next(ticks)
    )
    hot = anneal(list(range(30)), length, Swap(), Exponential(schedule.t_max, schedule.t_max, 5000), rng=generator())
    assert 0.96 < hot.acceptance <= 1.0
    cold = anneal(hot.final_state, length, Swap(), Exponential(schedule.t_min, schedule.t_min, 20000), rng=generator())
    late = anneal(cold.final_state, length, Swap(), Exponential(schedule.t_min, schedule.t_min, 500), rng=generator())
    assert late.improved < 10
    assert schedule.t_min < schedule.t_max
    assert schedule.steps % 60 == 0  # the clock ticked once


def test_estimates_of_what_cannot_be_estimated_are_refused():
    """No time, or a loss that nothing changes."""
    for minutes in (0, -1, math.nan):
        with pytest.raises(ScheduleError, match="minutes"):
            estimate_schedule(np.ones(2), bowl, Shift(1), rng=generator(), minutes=minutes)
    with pytest.raises(ScheduleError, match="no trial move changed the loss"):
        estimate_schedule(np.ones(2), lambda x: 1.0, Shift(1), rng=generator(), minutes=1)
