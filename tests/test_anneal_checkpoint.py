"""Searches that are stopped in every way, and go on as if they never had been."""

import copy
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ampstore
from ampstore import Store
from ampstore.anneal import (
    Adaptive,
    Checkpoint,
    Exponential,
    Geometric,
    Linear,
    Nudge,
    Scale,
    Shift,
    Swap,
    anneal,
    independent_restarts,
    ladder,
    replica_exchange,
)
from ampstore.errors import CheckpointError, ScheduleError


def generator(seed=1, bits=np.random.PCG64):
    return np.random.Generator(bits(seed))


def bumpy(x):
    x = np.asarray(x, float)
    return float((x * x - 3 * np.cos(3 * x)).sum())


def disorder(order):
    return float(sum(abs(place - value) for place, value in enumerate(order)))


def wander(x, rng):
    """A move that draws from the search's own generator."""
    return x + rng.normal(0, 0.2, len(x))


def outcome(result):
    """Everything of a result but the seconds, to the last bit."""
    trace = {name: column.tobytes() for name, column in result.trace.columns().items() if name != "elapsed"}
    states = [np.asarray(state).tobytes() for state in (result.state, result.final_state)]
    counts = [result.steps, result.accepted, result.improved, result.not_finite, result.evaluations]
    return states, counts, result.loss, result.final_loss, trace


SEARCHES = {
    "shift": (np.full(9, 2.0), bumpy, lambda: Shift(0.3), Exponential(5, 0.1, 3000)),
    "scale": (np.full(9, 2.0), bumpy, lambda: Scale(0.1), Linear(5, 0.1, 3000)),
    "nudge": (np.full(9, 2.0), bumpy, lambda: Nudge(0.5), Adaptive(5, 0.01, 3000)),
    "swap": (list(range(20))[::-1], disorder, Swap, Geometric(9, 0.3, 3000)),
    "function": (np.full(4, 2.0), bumpy, lambda: wander, Adaptive(5, 0.1, 3000)),
}


@pytest.fixture(params=SEARCHES)
def search(request):
    """Function that runs one kind of search with more keywords."""
    state, loss, move, schedule = SEARCHES[request.param]

    def run(**more):
        more = {"rng": generator(), "loss": loss, **more}
        return anneal(state, move=move(), schedule=schedule, **more)

    run.loss = loss
    return run


@pytest.fixture(params=["dict", "store", "shelf"])
def mapping(request, tmp_path):
    """What a checkpoint can be kept in."""
    if request.param == "dict":
        yield {}
    elif request.param == "store":
        with Store(tmp_path / "a.db") as store:
            yield store
    else:
        with ampstore.open(tmp_path / "a.db") as shelf:
            yield shelf


class StopAt:
    """A loss that, at one of its calls, does something."""

    def __init__(self, loss, call, act):
        self.loss, self.call, self.act, self.calls = loss, call, act, 0

    def __call__(self, state):
        self.calls += 1
        if self.calls == self.call:
            self.act()
        return self.loss(state)


# -- going on ----------------------------------------------------------------------------------


def test_a_stopped_search_goes_on_bit_for_bit(search, mapping):
    """Stopped at several steps on the way, each time gone on with new objects."""
    expected = outcome(search())
    for call in (2, 65, 777, 1500):
        stops = []
        stopping = StopAt(search.loss, call, lambda: stops.append("enough"))  # noqa: B023
        result = (
            search(rng=generator(99), loss=stopping, checkpoint=mapping, resume=call > 2, stops=stops)
            if call > 2
            else (search(loss=stopping, checkpoint=mapping, stops=stops))
        )
        assert result.stopped == "enough"
    result = search(rng=generator(99), checkpoint=mapping, resume=True)
    assert result.stopped == ""
    assert outcome(result) == expected


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox])
def test_every_generator_of_numpy_can_be_gone_on_with(bits, tmp_path):
    """Its state lies in the checkpoint, and comes back out of a store."""
    state, loss, schedule = np.full(301, 2.0), bumpy, Exponential(50, 1, 500)
    expected = outcome(anneal(state, loss, Shift(0.1), schedule, rng=generator(5, bits)))
    with Store(tmp_path / "a.db") as store:
        stops = []
        stopping = StopAt(loss, 222, lambda: stops.append("x"))
        anneal(state, stopping, Shift(0.1), schedule, rng=generator(5, bits), checkpoint=store, stops=stops)
        rng = generator(6, bits)
        assert outcome(anneal(state, loss, Shift(0.1), schedule, rng=rng, checkpoint=store, resume=True)) == expected


def test_checkpoints_do_not_change_a_search(search):
    """However many there are."""
    results = [
        search(checkpoint=Checkpoint({}, seconds=None, steps=steps), points=points)
        for steps, points in ((1, 100), (37, 100), (10**6, 100))
    ]
    assert [outcome(result) for result in results] == [outcome(search())] * 3


def test_a_finished_search_is_not_done_again(search, mapping):
    """Its result comes from the checkpoint."""
    expected = search(checkpoint=mapping)
    never = StopAt(search.loss, 1, lambda: pytest.fail("the loss was called"))
    again = search(loss=never, checkpoint=mapping, resume=True)
    assert outcome(again) == outcome(expected)
    assert again.elapsed == expected.elapsed


def test_without_resume_a_search_starts_anew(search, mapping):
    """And takes the place of the old one."""
    first = search(checkpoint=mapping)
    second = search(rng=generator(2), checkpoint=mapping)
    assert outcome(first) != outcome(second)
    assert outcome(search(checkpoint=mapping, resume=True)) == outcome(second)


def test_resume_starts_where_there_is_no_checkpoint(search, mapping):
    """So that one program can be started again and again."""
    assert outcome(search(checkpoint=mapping, resume=True)) == outcome(search())


def test_checkpoints_of_a_dict_are_not_changed_by_the_search_that_goes_on():
    """They are copies."""
    kept, seen = {}, []

    def look(point):
        seen.append((kept["annealing:anneal"], copy.deepcopy(kept["annealing:anneal"])))

    checkpoint = Checkpoint(kept, seconds=None, steps=50)
    anneal(np.ones(5), bumpy, Nudge(0.3), Linear(3, 1, 1000), rng=generator(), checkpoint=checkpoint, progress=look)
    assert len({id(value) for value, _ in seen}) > 10
    for value, as_it_was in seen:
        assert value["memory"]["state"].tobytes() == as_it_was["memory"]["state"].tobytes()
        assert value["memory"]["best"].tobytes() == as_it_was["memory"]["best"].tobytes()


def test_several_searches_share_a_mapping_under_their_names(mapping):
    """The key says what it is."""
    for name in ("first", "second"):
        anneal(np.ones(2), bumpy, Shift(1), Linear(2, 1, 20), rng=generator(), checkpoint=Checkpoint(mapping, name))
    assert {"annealing:first", "annealing:second"} == set(mapping)


# -- kill -9 -----------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    import numpy as np
    from ampstore import Store
    from ampstore.anneal import *

    path, kind, steps, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

    def loss(x):
        global calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        x = np.asarray(x, float)
        return float((x * x - 3 * np.cos(3 * x)).sum())

    calls = 0
    rng = np.random.default_rng(8)
    with Store(path) as store:
        checkpoint = Checkpoint(store, "killed", seconds=None, steps=29)
        if kind == "exchange":
            rungs = ladder(5, 0.1, 3)
            replica_exchange(np.full(5, 2.0), loss, Nudge(0.5), rungs, rng=rng, rounds=steps // 30, every=10,
                             checkpoint=checkpoint, resume=True)
        else:
            move = {"shift": Shift, "nudge": Nudge}[kind](0.3)
            anneal(np.full(33, 2.0), loss, move, Adaptive(5, 0.1, steps), rng=rng, checkpoint=checkpoint, resume=True)
"""


def killed_and_resumed(tmp_path, kind, kills, seed):
    """Kill one search at `kills` random steps, each time in a new process; the memory that it ends with."""
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    draw = random.Random(seed)
    steps = 60 * kills
    memories = []
    for name, calls in (("killed.db", [draw.randrange(2, 58) for _ in range(kills)]), ("whole.db", [])):
        codes = [
            subprocess.run(
                [sys.executable, script, tmp_path / name, kind, str(steps), str(call)], check=False
            ).returncode
            for call in [*calls, 0]
        ]
        assert codes == [-signal.SIGKILL] * len(calls) + [0]
        with Store(tmp_path / name, "r") as store:
            value = store["annealing:killed"]
        assert value["finished"]
        memories.append(without_seconds(value["memory"]))
    return memories


def without_seconds(value):
    """The same with every array as bytes and no times in it."""
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key != "elapsed"}
    if isinstance(value, list):
        return [without_seconds(item) for item in value]
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("kind", ["shift", "nudge", "exchange"])
def test_killed_at_random_steps_it_ends_bit_for_bit_the_same(tmp_path, kind):
    """By kill -9 four times on the way: states, losses, random numbers, trace, counts."""
    killed, whole = killed_and_resumed(tmp_path, kind, 4, seed=4)
    assert killed == whole


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["shift", "nudge", "exchange"])
def test_killed_at_a_hundred_random_steps_it_ends_bit_for_bit_the_same(tmp_path, kind):
    """The long version."""
    killed, whole = killed_and_resumed(tmp_path, kind, 100, seed=5)
    assert killed == whole


# -- signals -----------------------------------------------------------------------------------


def handlers():
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def test_ctrl_c_ends_a_search_with_what_it_has_and_it_can_go_on(search, mapping):
    """The handlers are what they were, during the next search too."""
    before = handlers()
    interrupted = StopAt(search.loss, 100, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = search(loss=interrupted, checkpoint=mapping)
    assert (result.stopped, result.steps) == ("SIGINT", 99)
    assert handlers() == before
    assert outcome(search(rng=generator(7), checkpoint=mapping, resume=True)) == outcome(search())


def test_sigterm_writes_the_checkpoint_and_ends_the_program(search, mapping):
    """With the exit code that a shell reports for it."""
    before = handlers()
    terminated = StopAt(search.loss, 100, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        search(loss=terminated, checkpoint=mapping)
    assert caught.value.code == 143
    assert handlers() == before
    assert mapping["annealing:anneal"]["memory"]["step"] == 99
    assert outcome(search(rng=generator(7), checkpoint=mapping, resume=True)) == outcome(search())


def test_a_second_ctrl_c_acts_at_once(search):
    """For a loss that takes hours."""
    before = handlers()

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        search(loss=StopAt(search.loss, 100, twice), checkpoint={})
    assert handlers() == before


def test_without_a_checkpoint_sigterm_is_left_alone(search):
    """There is nothing to save."""
    seen = []
    search(loss=StopAt(search.loss, 5, lambda: seen.append(handlers())))
    assert seen[0][1] == signal.SIG_DFL
    assert seen[0][0] != handlers()[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_programs_own_handler_is_called_after_the_checkpoint(search, number):
    """Not swallowed."""
    seen, kept = [], {}
    before = signal.signal(number, lambda *_: seen.append(kept["annealing:anneal"]["memory"]["step"]))
    try:
        result = search(loss=StopAt(search.loss, 100, lambda: os.kill(os.getpid(), number)), checkpoint=kept)
    finally:
        signal.signal(number, before)
    assert seen == [99]
    assert result.stopped == number.name


def test_a_signal_that_the_program_ignores_stays_ignored(search):
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = search(loss=StopAt(search.loss, 100, lambda: os.kill(os.getpid(), signal.SIGINT)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.stopped == ""


def test_handlers_are_put_back_when_the_loss_raises(search):
    """Whatever happens."""
    before = handlers()

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(loss=StopAt(search.loss, 100, fail), checkpoint={})
    assert handlers() == before


def test_a_search_in_another_thread_is_the_same_search(search, tmp_path):
    """Signals are the main thread's; everything else works."""
    with ThreadPoolExecutor(1) as pool, Store(tmp_path / "a.db") as store:
        assert outcome(pool.submit(search, checkpoint=store).result()) == outcome(search())


# -- losses that raise ---------------------------------------------------------------------------


def test_a_loss_that_raises_leaves_the_checkpoint_from_which_it_goes_on(search, mapping):
    """Bit for bit, once the loss works again."""

    def fail():
        raise OSError("the disk of the images is gone")

    checkpoint = Checkpoint(mapping, seconds=None, steps=40)
    with pytest.raises(OSError, match="disk of the images") as caught:
        search(loss=StopAt(search.loss, 1000, fail), checkpoint=checkpoint)
    assert "step 999 of 3000" in caught.value.__notes__[0]
    assert mapping["annealing:anneal"]["memory"]["step"] == 960
    assert outcome(search(rng=generator(3), checkpoint=mapping, resume=True)) == outcome(search())


# -- checkpoints of something else ---------------------------------------------------------------

ONE = {"state": np.ones(3), "loss": bumpy, "move": Shift(0.1), "schedule": Linear(2, 1, 50), "rng": generator()}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"state": np.ones(4)}, "state"),
        ({"state": np.ones(3, int)}, "state"),
        ({"state": [1.0, 1.0, 1.0]}, "state"),
        ({"move": Nudge(0.1)}, "move"),
        ({"schedule": Linear(3, 1, 50)}, "schedule"),
        ({"schedule": Exponential(2, 1, 50)}, "schedule"),
        ({"points": 5}, "points"),
        ({"rng": generator(1, np.random.SFC64)}, "PCG64"),
    ],
)
def test_the_checkpoint_of_another_search_is_refused_and_kept(changed, named):
    """The sentence says what differs."""
    kept = {}
    anneal(**ONE, checkpoint=kept)
    before = dict(kept)
    with pytest.raises(CheckpointError, match=named):
        anneal(**{**ONE, **changed}, checkpoint=kept, resume=True)
    assert kept == before


def test_the_checkpoint_of_another_problem_is_refused():
    """What the loss depends on cannot be seen, but it can be named."""
    kept = {}
    anneal(**ONE, checkpoint=Checkpoint(kept, problem="Cu, EMT"))
    anneal(**ONE, checkpoint=Checkpoint(kept, problem="Cu, EMT"), resume=True)
    with pytest.raises(CheckpointError, match="'Cu, EMT'"):
        anneal(**ONE, checkpoint=Checkpoint(kept, problem="Pt, EMT"), resume=True)


@pytest.mark.parametrize("value", ["text", {"format": "something"}, None, [1, 2]])
def test_an_entry_that_is_no_checkpoint_is_refused(value):
    """And not overwritten."""
    kept = {"annealing:anneal": value}
    with pytest.raises(CheckpointError, match="no checkpoint"):
        anneal(**ONE, checkpoint=kept, resume=True)
    assert kept == {"annealing:anneal": value}


def test_a_checkpoint_of_another_version_is_refused():
    """By both versions."""
    kept = {}
    anneal(**ONE, checkpoint=kept)
    kept["annealing:anneal"]["version"] = 7
    with pytest.raises(CheckpointError, match="version 7, this ampstore reads 1"):
        anneal(**ONE, checkpoint=kept, resume=True)


def test_a_checkpoint_is_made_every_one_or_more_steps():
    """Never every zero."""
    with pytest.raises(ScheduleError):
        Checkpoint({}, steps=0)


def test_checkpoints_are_made_when_their_time_has_come():
    """By the clock that was given, and not before."""

    class Counting(dict):
        writes = 0

        def __setitem__(self, key, value):
            self.writes += 1
            super().__setitem__(key, value)

    kept, hours = Counting(), iter(range(0, 10**9, 3600))
    anneal(**ONE, checkpoint=Checkpoint(kept, seconds=1.0, clock=lambda: next(hours)))
    assert kept.writes > 3
    rare = Counting()
    anneal(**ONE, checkpoint=Checkpoint(rare, seconds=1.0, clock=lambda: 0.0))
    assert rare.writes == 2


# -- the trace in the store ----------------------------------------------------------------------


def test_the_trace_can_be_read_with_plain_sqlite3(tmp_path, raw):
    """As columns, without ampstore."""
    with Store(tmp_path / "a.db") as store:
        result = anneal(**ONE, checkpoint=Checkpoint(store, "fit", seconds=None, steps=7), points=25)
    columns = "step, temperature, loss, best, acceptance, improvement, elapsed"
    rows = raw(tmp_path / "a.db", f"select {columns} from trace where run = 'fit' and chain = 0 order by step")
    assert rows == [tuple(point) for point in result.trace]
    command = ["sqlite3", tmp_path / "a.db", "select count(*), min(best) from trace"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("26|")
    assert float(shown.split("|")[1]) == pytest.approx(result.loss)


def test_a_new_search_of_the_same_name_replaces_the_rows(tmp_path, raw):
    """Those of another name stay."""
    with Store(tmp_path / "a.db") as store:
        for name, points in (("fit", 25), ("other", 10), ("fit", 5)):
            anneal(**ONE, checkpoint=Checkpoint(store, name), points=points)
    counts = raw(tmp_path / "a.db", "select run, count(*) from trace group by run order by run")
    assert counts == [("fit", 6), ("other", 11)]


def test_a_container_of_amp_can_keep_searches(tmp_path, raw):
    """With the rows of their traces."""
    with ampstore.FileDatabase(tmp_path / "searches") as database:
        result = anneal(**ONE, checkpoint=database, points=10)
        assert outcome(anneal(**ONE, checkpoint=database, points=10, resume=True)) == outcome(result)
    assert raw(tmp_path / "searches.ampdb" / "store.sqlite3", "select count(*) from trace") == [(11,)]


def test_a_checkpoint_object_may_be_used_for_one_search_after_the_other(tmp_path, raw):
    """Also of fewer chains: nothing of the old ones stays."""
    with Store(tmp_path / "a.db") as store:
        checkpoint = Checkpoint(store, "fit")
        exchange(checkpoint=checkpoint, points=10)
        for resume in (False, True):
            anneal(**ONE, checkpoint=checkpoint, points=3, resume=resume)
            assert raw(tmp_path / "a.db", "select run, chain, count(*) from trace group by run, chain") == [
                ("fit", 0, 4)
            ]


def test_clearing_a_store_clears_the_traces(tmp_path, raw):
    """They are contents."""
    with Store(tmp_path / "a.db") as store:
        anneal(**ONE, checkpoint=store)
        store.clear()
    assert raw(tmp_path / "a.db", "select count(*) from trace") == [(0,)]


def test_a_resumed_search_has_every_row_once(tmp_path, raw):
    """Also those that were written after the last checkpoint."""
    stops = []
    loss = StopAt(bumpy, 30, lambda: stops.append("x"))
    with ampstore.open(tmp_path / "a.db") as shelf:
        anneal(**{**ONE, "loss": loss}, checkpoint=shelf, points=50, stops=stops)
        anneal(**ONE, checkpoint=shelf, points=50, resume=True)
    assert raw(tmp_path / "a.db", "select step from trace order by step") == [(step,) for step in range(51)]


# -- replica exchange and restarts -----------------------------------------------------------------


def exchange(**more):
    more = {"rng": generator(), "loss": bumpy, **more}
    return replica_exchange(
        np.full(3, 2.0), move=Nudge(0.5), temperatures=ladder(9, 0.1, 4), rounds=30, every=25, **more
    )


def test_an_exchange_that_is_stopped_goes_on_bit_for_bit(mapping):
    """By Ctrl-C in the middle of a round; it ends between two."""
    expected = exchange()
    stopping = StopAt(bumpy, 1111, lambda: os.kill(os.getpid(), signal.SIGINT))
    stopped = exchange(loss=stopping, checkpoint=mapping)
    assert stopped.stopped == "SIGINT"
    assert stopped.steps % 100 == 0
    result = exchange(rng=generator(9), checkpoint=mapping, resume=True)
    assert outcome(result) == outcome(expected)
    assert (result.swap_rates, result.walkers) == (expected.swap_rates, expected.walkers)


IN_PROCESSES = """
    import os, sys, time
    from concurrent.futures import ProcessPoolExecutor
    import numpy as np
    from ampstore import Store
    from ampstore.anneal import *

    def loss(x):
        time.sleep(0.001)
        return float((x * x).sum())

    if __name__ == "__main__":
        with Store(sys.argv[1]) as store, ProcessPoolExecutor(2) as pool:
            pool.submit(loss, np.ones(1)).result()
            print("ready", flush=True)
            rng = np.random.default_rng(1)
            result = replica_exchange(np.ones(3), loss, Nudge(0.5), [1.0, 2.0], rng=rng, rounds=100, every=50,
                                      executor=pool, checkpoint=store)
            print(result.stopped, store["annealing:anneal"]["memory"]["round"] * 100 == result.steps)
"""


def test_ctrl_c_that_reaches_the_workers_too_ends_an_exchange_between_two_rounds(tmp_path):
    """As in a terminal: the whole process group gets it."""
    script = tmp_path / "processes.py"
    script.write_text(textwrap.dedent(IN_PROCESSES))
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "a.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "SIGINT True\n"
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0


def test_an_exchange_has_a_trace_for_each_rung(tmp_path, raw):
    """In the table, by chain."""
    with Store(tmp_path / "a.db") as store:
        exchange(checkpoint=store, points=10)
    rows = raw(tmp_path / "a.db", "select chain, count(*), min(temperature) from trace group by chain order by chain")
    assert [row[:2] for row in rows] == [(number, 11) for number in range(4)]
    assert [row[2] for row in rows] == ladder(9, 0.1, 4)


def test_the_checkpoint_of_another_ladder_is_refused():
    """Temperatures are part of the search."""
    kept = {}
    exchange(checkpoint=kept)
    with pytest.raises(CheckpointError, match="temperatures|schedule"):
        replica_exchange(
            np.full(3, 2.0), bumpy, Nudge(0.5), ladder(8, 0.1, 4), rng=generator(), rounds=30, every=25,
            checkpoint=kept, resume=True,
        )  # fmt: skip


def test_restarts_that_are_stopped_go_on_bit_for_bit(mapping):
    """All of them."""

    def run(loss=bumpy, **more):
        more = {"rng": generator(), **more}
        return independent_restarts(np.full(3, 2.0), loss, Shift(0.5), Linear(5, 0.1, 400), count=3, **more)

    expected = run()
    stopped = run(StopAt(bumpy, 500, lambda: os.kill(os.getpid(), signal.SIGINT)), checkpoint=mapping)
    assert {result.stopped for result in stopped.results} == {"SIGINT"}
    found = run(rng=generator(5), checkpoint=mapping, resume=True)
    assert [outcome(result) for result in found.results] == [outcome(result) for result in expected.results]
    assert math.isfinite(found.best.loss)


def test_no_thread_is_left_behind():
    """Segments and signals need none."""
    before = threading.active_count()
    anneal(**ONE, checkpoint={})
    assert threading.active_count() == before
