"""F34: a search that is killed at any step and resumed."""

import pytest
from test_anneal_checkpoint import killed_and_resumed


@pytest.mark.fault("F34", "kill -9 of a search at random steps, resumed each time")
@pytest.mark.parametrize("kind", ["shift", "nudge", "exchange"])
def test_a_killed_search_has_the_trajectory_of_one_that_was_not(fault, tmp_path, kind):
    """States, losses, random numbers, trace and counts are those of a search that was left alone, bit for bit."""
    kills = fault.times(2, 35)
    killed, whole = killed_and_resumed(tmp_path, kind, kills, seed=fault.seed)
    fault.injected(kills)
    if killed != whole:
        fault.wrong(f"{kind}: another trajectory")
