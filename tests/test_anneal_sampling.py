"""What a search at a fixed temperature samples, against statistical mechanics.

Every test states its own significance and has a fixed seed, so that it either holds or never did.
"""

import math

import numpy as np
import pytest

from ampstore.anneal import Exponential, Nudge, Shift, anneal, ladder, replica_exchange
from ampstore.anneal.chain import Chain

THIN = 40
"""Moves between two samples: more than the correlation time of the walks below."""


def samples(loss, start, width, temperature, count, seed, move=Shift):
    """States of a walk at one temperature, thinned."""
    schedule = Exponential(temperature, temperature, (count + 50) * THIN)
    chain = Chain(np.array([start]), loss, move(width), schedule, np.random.default_rng(seed))
    chain.advance(50 * THIN)
    found = []
    for _ in range(count):
        chain.advance(THIN)
        found.append(float(chain.state[0]))
    return np.array(found)


def kolmogorov_smirnov(found, density, low, high):
    """p-value of the two-sided Kolmogorov-Smirnov test of samples against a density, asymptotic."""
    grid = np.linspace(low, high, 20001)
    weights = density(grid)
    cdf = np.concatenate([[0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
    cdf /= cdf[-1]
    expected = np.interp(np.sort(found), grid, cdf)
    n = len(found)
    distance = max((np.arange(1, n + 1) / n - expected).max(), (expected - np.arange(n) / n).max())
    x = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    return min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101)))


@pytest.mark.parametrize("move", [Shift, Nudge])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_a_harmonic_well_is_sampled_as_a_gaussian(move, temperature):
    """Kolmogorov-Smirnov at 0.1 %, and the variance k_B T / k within 4 standard errors (3000 samples)."""
    width = 2.5 * math.sqrt(temperature)
    found = samples(lambda x: 0.5 * float(x[0]) ** 2, 0.0, width, temperature, 3000, seed=2, move=move)
    deviation = math.sqrt(temperature)
    p = kolmogorov_smirnov(found, lambda x: np.exp(-0.5 * x * x / temperature), -8 * deviation, 8 * deviation)
    assert p > 1e-3
    assert abs(found.var() / temperature - 1) < 4 * math.sqrt(2 / len(found))


def double_well(x):
    """Minima at -1 and 1, a barrier of 1 between them, the right one lower by 0.2."""
    y = float(x[0])
    return (y * y - 1) ** 2 - 0.1 * y


def test_a_double_well_is_sampled_by_its_boltzmann_weights():
    """At k_B T = 0.5: Kolmogorov-Smirnov at 0.1 %, and the share of the right well within 4 standard errors."""
    found = samples(double_well, 1.0, 2.0, 0.5, 4000, seed=3)

    def density(x):
        return np.exp(-((x * x - 1) ** 2 - 0.1 * x) / 0.5)

    assert kolmogorov_smirnov(found, density, -3, 3) > 1e-3
    grid = np.linspace(-3, 3, 20001)
    right = density(grid)[grid > 0].sum() / density(grid).sum()
    error = math.sqrt(right * (1 - right) / len(found))
    assert abs((found > 0).mean() - right) < 4 * error


def test_these_tests_notice_a_temperature_that_is_a_quarter_off():
    """Or they would show nothing."""
    found = samples(lambda x: 0.5 * float(x[0]) ** 2, 0.0, 2.5, 1.25, 3000, seed=2)
    assert kolmogorov_smirnov(found, lambda x: np.exp(-0.5 * x * x), -8, 8) < 1e-3
    assert abs(found.var() - 1) > 4 * math.sqrt(2 / len(found))


def test_uphill_moves_are_accepted_with_the_metropolis_probability():
    """A fixed climb of 1 at k_B T = 2 is made in exp(-1/2) of 20,000 cases, within 4 standard errors."""

    class Climb:
        def __call__(self, state, rng):
            return 1.0

        def undo(self, state):
            pass

    result = anneal(0, lambda _: 0.0, Climb(), Exponential(2.0, 2.0, 20000), rng=np.random.default_rng(4))
    expected = math.exp(-0.5)
    assert abs(result.acceptance - expected) < 4 * math.sqrt(expected * (1 - expected) / 20000)


def deep_wells(x):
    """Minima at -1 and 1 with a barrier of 20 between them."""
    y = float(x[0])
    return 20 * (y * y - 1) ** 2


def test_replica_exchange_reaches_both_wells_where_a_single_chain_does_not():
    """At k_B T = 0.5 the barrier is 40: a chain of as many moves stays; the lowest rung has been in both halves."""
    seen = []

    def watched(x):
        return deep_wells(x)

    single = Chain(np.array([-1.0]), watched, Shift(0.3), Exponential(0.5, 0.5, 60000), np.random.default_rng(5))
    for _ in range(600):
        single.advance(100)
        seen.append(single.state[0])
    assert max(seen) < 0
    from ampstore.anneal.exchange import Swaps, _rungs

    rng = np.random.default_rng(5)
    schedules = [Exponential(t, t, 6000) for t in ladder(20.0, 0.5, 10)]
    swaps = Swaps(
        _rungs(np.array([-1.0]), deep_wells, Shift(0.3), schedules, rng, np.copy, 1, lambda: 0.0, None), rng, 20
    )
    cold = []
    for _ in range(300):
        swaps.make_round(None)
        cold.append(float(swaps.rungs[0].state[0]))
    right = np.mean(np.array(cold[50:]) > 0)
    assert 0.1 < right < 0.9
    assert min(swaps.done[i] / swaps.tried[i] for i in range(9)) > 0.2


def test_replica_exchange_samples_every_temperature_of_its_ladder():
    """Exchanges leave the Boltzmann distribution of each rung as it is: variance k_B T / k within 4 standard errors."""
    from ampstore.anneal.exchange import Swaps, _rungs

    rng = np.random.default_rng(6)
    temperatures = [0.5, 1.0, 2.0]
    schedules = [Exponential(t, t, 10**6) for t in temperatures]
    loss = lambda x: 0.5 * float(x[0]) ** 2  # noqa: E731
    swaps = Swaps(_rungs(np.zeros(1), loss, Shift(2.5), schedules, rng, np.copy, 1, lambda: 0.0, None), rng, 30)
    found = []
    for _ in range(1500):
        swaps.make_round(None)
        found.append([float(rung.state[0]) for rung in swaps.rungs])
    variances = np.var(found[50:], axis=0)
    assert np.abs(variances / temperatures - 1).max() < 4 * math.sqrt(2 / 1450)
    assert [round(rate, 1) for rate in (swaps.done[0] / swaps.tried[0],)] > [0.5]


def test_the_result_of_an_exchange_names_its_rates():
    """One for each pair of neighbours."""
    result = replica_exchange(
        np.array([-1.0]),
        deep_wells,
        Shift(0.3),
        ladder(20.0, 0.5, 4),
        rng=np.random.default_rng(1),
        rounds=40,
        every=10,
    )
    assert len(result.swap_rates) == 3
    assert all(0 < rate <= 1 for rate in result.swap_rates)
    assert sorted(result.walkers) == [0, 1, 2, 3]
    assert len(result.traces) == 4
