"""Data: calculates what is missing, keeps it at once, shares the work, ends cleanly."""

import contextlib
import importlib
import os
import pickle
import random
import shelve
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import ampstore
import ampstore.shelve
from ampstore.data import Data
from ampstore.data.interrupts import Interrupts
from ampstore.data.progress import Progress
from ampstore.data.task import GROUP_RESULTS, Task
from ampstore.database import FileDatabase
from ampstore.errors import (
    CalculationError,
    CalculatorError,
    InvalidKeyError,
    KeyTypeError,
    ParallelError,
)
from ampstore.legacy import LegacyDatabase
from ampstore.parallel import Failure
from ampstore.store import Store
from ampstore.store.claims import Taken

TESTS = Path(__file__).resolve().parent


class Memory(dict):
    """A database as small as Amp asks for: no `in`, no items."""

    files = {}

    @classmethod
    def open(cls, filename, mode):
        return cls.files.setdefault(str(filename), cls())

    def close(self):
        pass

    __contains__ = None


DATABASES = {
    "FileDatabase": FileDatabase,
    "LegacyDatabase": LegacyDatabase,
    "Store": Store,
    "ampstore": ampstore,
    "ampstore.shelve": ampstore.shelve,
    "shelve": shelve,
    "dictionary": Memory,
}
PARALLEL = [None, {"cores": 1}, {"cores": 2, "envcommand": None}, {"cores": {"localhost": 2}}]


@pytest.fixture(params=DATABASES)
def db(request):
    Memory.files = {}
    return DATABASES[request.param]


class Squares:
    """A calculator in the manner of Amp, which writes down every call."""

    def __init__(self, calls=None, seconds=0.0):
        self.calls, self.seconds = calls, seconds
        self.globals, self.keyed, self.parallel_command = {"power": 2}, {}, "calculate_squares"

    def calculate(self, image, key):
        note(self.calls, key)
        time.sleep(self.seconds)
        if image == 13:
            raise ValueError("13 is unlucky")
        return value_of(image)


def value_of(image):
    return [("Cu", [float(image), image**2 + 0.5]), ("Pt", [0.0] * 20)]


def note(calls, key):
    if calls is not None:
        descriptor = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{key} {os.getpid()}\n".encode())
        os.close(descriptor)


def calls_in(path):
    """How often each key was calculated."""
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def images(count, start=0):
    return {f"k{n}": n for n in range(start, start + count) if n != 13}


def image_only(image):
    return value_of(image)


def image_and_key(image, key):
    return [key, image]


def image_and_option(image, cutoff=6.5):
    return [image, cutoff]


def image_and_named_key(image, *, factor=2, key=None):
    return [image, key]


def sleepy_square(image):
    time.sleep(0.02)
    return value_of(image)


# -- the contract, for every database --------------------------------------------------------------


@pytest.mark.parametrize("parallel", PARALLEL, ids=str)
def test_missing_items_are_calculated_once(db, parallel, tmp_path):
    """Values are there afterwards; what is there already is not calculated again."""
    with Data(tmp_path / "d", db, Squares(str(tmp_path / "calls"))) as data:
        assert data.calculate_items(images(40), parallel) == []
        assert data.d is None
        assert data["k7"] == value_of(7)
        data.calculate_items(images(60), parallel)
        assert [data[f"k{n}"] for n in range(14, 60)] == [value_of(n) for n in range(14, 60)]
    assert calls_in(tmp_path / "calls") == Counter(list(images(60)))


def test_a_data_opens_by_itself_and_stays_open(db, tmp_path):
    """data[key] opens for reading; close may come any number of times; open twice is once."""
    data = Data(tmp_path / "d", db, Squares())
    data.calculate_items(images(3), {"cores": 1})
    assert data.d is None
    assert data["k1"] == value_of(1)
    handle = data.d
    assert handle is not None
    data.open()
    assert data.d is handle
    assert [*data.d.keys()] and len(data.d) == 3
    data.close()
    data.close()
    assert data.d is None
    data.open("c")
    data.d["more"] = 5
    data.close()
    assert data["more"] == 5
    with pytest.raises(KeyError):
        data["nothing"]
    data.close()


def test_a_failure_stops_no_other_image(db, tmp_path):
    """One error at the end, with key, cause and traceback; everything else is stored."""
    with Data(tmp_path / "d", db, Squares()) as data:
        with pytest.raises(CalculationError, match="1 calculation failed") as caught:
            data.calculate_items({**images(30), "k13": 13}, {"cores": 1})
        assert caught.value.failures == [("k13", "ValueError: 13 is unlucky")]
        assert "raise ValueError" in str(caught.value)
        assert data["k29"] == value_of(29)
        failures = data.calculate_items({"k13": 13}, {"cores": 1}, on_error="collect")
        assert failures[0][:2] == ("k13", "ValueError: 13 is unlucky")
        assert pickle.loads(pickle.dumps(caught.value)).failures == caught.value.failures


def test_a_data_pickles_without_what_is_open(db, tmp_path):
    """Also with a module as database."""
    if db is Memory:
        pytest.skip("lives in one process")
    with Data(tmp_path / "d", db, Squares()) as data:
        data.calculate_items(images(3), {"cores": 1})
        data.open()
        with pickle.loads(pickle.dumps(data)) as copy:
            assert copy.d is None
            data.close()
            assert copy["k2"] == value_of(2)
            assert (copy.filename, copy.db) == (data.filename, data.db)


@pytest.mark.parametrize("parallel", [{"cores": 1}, {"cores": 2}], ids=str)
def test_a_result_that_cannot_be_stored_is_a_failure_of_its_image(db, parallel, tmp_path):
    """The others in its group are stored."""
    if db is Memory:
        pytest.skip("stores everything")
    with Data(tmp_path / "d", db, one_generator) as data:
        failures = data.calculate_items(images(10), parallel, on_error="collect")
        assert [failure.key for failure in failures] == ["k4"]
        assert data["k9"] == value_of(9)


class Unreadable(dict):
    """Images that are read when they are asked for."""

    def __getitem__(self, key):
        if key == "k3":
            raise OSError("the file is torn")
        return super().__getitem__(key)


@pytest.mark.parametrize("parallel", [{"cores": 1}, {"cores": 2}], ids=str)
def test_an_image_that_cannot_be_read_is_a_failure(parallel, tmp_path):
    """Of that image only."""
    with Data(tmp_path / "d", calculator=image_only) as data:
        failures = data.calculate_items(Unreadable(images(10)), parallel, on_error="collect")
        assert [failure[:2] for failure in failures] == [("k3", "OSError: the file is torn")]
        assert data["k9"] == value_of(9)


def test_a_database_that_fails_ends_the_run(tmp_path):
    """A full disk is no failure of an image; the error is the database's own."""

    class Full(Memory):
        def update(self, other):
            raise OSError(28, "No space left on device")

    with Data(tmp_path / "d", Full, image_only) as data, pytest.raises(OSError, match="No space"):
        data.calculate_items(images(10), None)


def one_generator(image):
    return (n for n in ()) if image == 4 else value_of(image)


# -- calculators -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calculator", "value"),
    [
        (Squares(), value_of(3)),
        (image_only, value_of(3)),
        (image_and_key, ["k3", 3]),
        (image_and_option, [3, 6.5]),
        (str, None),
        (float.hex, "0x1.8000000000000p+1"),
    ],
    ids=["calculate", "image", "image and key", "image and option", "class", "builtin"],
)
def test_calculators(calculator, value, tmp_path):
    """Objects with `calculate`, and callables of image, or of image and key."""
    with Data(tmp_path / "d", calculator=calculator) as data:
        if value is None:
            with pytest.raises(CalculatorError, match="it is a class"):
                data.calculate_items({"k3": 3}, None)
        else:
            data.calculate_items({"k3": 3.0 if calculator is float.hex else 3}, None)
            assert data["k3"] == value


def test_methods_that_take_only_an_image_work_too(tmp_path):
    """calculate(image)."""

    class Plain:
        def calculate(self, image):
            return image + 1

    with Data(tmp_path / "d", calculator=Plain()) as data:
        data.calculate_items({"a": 1}, {"cores": 1})
        assert data["a"] == 2


def test_a_second_argument_named_key_gets_the_key(tmp_path):
    """Even with a default."""

    def calculate(image, key=None):
        return key

    with Data(tmp_path / "d", calculator=calculate) as data:
        data.calculate_items({"a": 1}, {"cores": 1})
        assert data["a"] == "a"


class ReadsNeighbours:
    """A calculator that needs what another Data holds, as Amp's fingerprints need neighbour lists."""

    def __init__(self, neighbours):
        self.keyed = {"neighborlist": neighbours}

    def calculate(self, image, key):
        return [self.keyed["neighborlist"][key], image]


@pytest.mark.parametrize("parallel", [{"cores": 1}, {"cores": 2}], ids=str)
def test_a_calculator_may_hold_another_data(parallel, tmp_path):
    """Workers read it from its place."""
    with Data(tmp_path / "n", calculator=image_only) as neighbours:
        neighbours.calculate_items(images(20), parallel)
        with Data(tmp_path / "f", calculator=ReadsNeighbours(neighbours)) as data:
            data.calculate_items(images(20), parallel)
            assert data["k5"] == [value_of(5), 5]


# -- clear errors before work starts ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("calculator", "given", "parallel", "error", "message"),
    [
        (None, {"a": 1}, None, CalculatorError, "give Data a calculator"),
        (5, {"a": 1}, None, CalculatorError, "no method `calculate`"),
        (lambda: 1, {"a": 1}, None, CalculatorError, "must take an image"),
        (lambda a, b, c: 1, {"a": 1}, None, CalculatorError, "must take an image"),
        (lambda image: image, {"a": 1}, {"cores": 2}, CalculatorError, "cannot be pickled"),
        (image_only, {"a": 1}, {}, ParallelError, "no 'cores'"),
        (image_only, [1, 2], None, TypeError, "hash_images"),
        (image_only, {5: 1}, None, KeyTypeError, "str"),
        (image_only, {"\ud800": 1}, None, InvalidKeyError, "surrogate"),
    ],
)
def test_bad_input_is_refused_before_work_starts(calculator, given, parallel, error, message, tmp_path):
    """The sentence says what to do, and nothing was calculated."""
    with Data(tmp_path / "d", calculator=calculator) as data, pytest.raises(error, match=message):
        data.calculate_items(given, parallel)


def test_on_error_is_checked(tmp_path):
    """Two words only."""
    with Data(tmp_path / "d", calculator=image_only) as data, pytest.raises(ValueError, match="collect"):
        data.calculate_items({}, None, on_error="ignore")


def test_amp_calls_it_with_a_log(tmp_path):
    """Positional, a log that takes tic and toc; lines of text arrive."""
    lines = []
    with Data(str(tmp_path / "d"), calculator=image_only) as data:
        data.calculate_items(images(3), {"cores": 1}, lambda text, tic=None, toc=None: lines.append(text))
        assert any("3 new calculations needed" in line for line in lines)
        assert any("Calculated 3 new images" in line for line in lines)


# -- nothing missing -------------------------------------------------------------------------------


def test_nothing_missing_costs_the_same_whatever_is_stored(tmp_path):
    """One image at every step of a simulation: no listing, no opening."""
    times = {}
    for entries in (20, 20_000):
        database = FileDatabase(tmp_path / f"d{entries}")
        database.update({f"k{n}": [float(n)] for n in range(entries)})
        database.close()
        with Data(tmp_path / f"d{entries}", calculator=image_only) as data:
            data.calculate_items({"k7": 7}, {"cores": 1})
            times[entries] = min(timed(lambda: data.calculate_items({"k7": 7}, {"cores": 1})) for _ in range(300))
    assert times[20_000] < 3 * times[20] + 5e-5
    assert times[20_000] < 1e-3


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_a_removed_container_is_noticed(tmp_path):
    """A program that starts afresh under the same name finds nothing, though the Data stayed open."""
    with Data(tmp_path / "d", calculator=Squares(str(tmp_path / "calls"))) as data:
        for _ in range(2):
            data.calculate_items(images(3), {"cores": 1})
            shutil.rmtree(tmp_path / "d.ampdb")
        data.calculate_items(images(3), {"cores": 1})
        assert data["k1"] == value_of(1)
    assert set(calls_in(tmp_path / "calls").values()) == {3}


def test_nothing_missing_writes_nothing(tmp_path):
    """Works in a read-only directory."""
    with Data(tmp_path / "d", calculator=image_only) as data:
        data.calculate_items(images(3), {"cores": 1})
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "d.ampdb").iterdir()}
    with Data(tmp_path / "d", calculator=image_only) as data:
        data.calculate_items(images(3), {"cores": 1})
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "d.ampdb").iterdir()} == before


def test_an_old_handle_reads_after_close(tmp_path):
    """Amp takes `d`, closes the Data, and reads on."""
    data = Data(tmp_path / "d", calculator=image_only)
    data.calculate_items(images(3), {"cores": 1})
    data.open()
    handle = data.d
    data.close()
    assert handle["k1"] == value_of(1)
    handle.close()


# -- groups, by a clock that the test moves --------------------------------------------------------


class Recorder:
    """A sink that takes as long as it is told."""

    def __init__(self, clock, cost):
        self.clock, self.cost, self.groups = clock, cost, []

    def take(self, keys, most):
        return Taken(list(keys[:most]), [], [], len(keys[:most]))

    def holds(self, key):
        return True

    def put(self, pairs):
        self.groups.append(len(pairs))
        self.clock[0] += self.cost

    def release(self, keys=None):
        pass

    def tell(self, progress, failures, *, ended=False):
        pass


def task_with(cost, count):
    clock = [0.0]
    sink = Recorder(clock, cost)
    task = Task(
        images(count),
        list(images(count)),
        sink,
        Progress(count, clock=lambda: clock[0]),
        Interrupts(),
        lambda: clock[0],
    )
    return task, sink, clock


def test_results_that_take_long_are_stored_at_once():
    """Storing 1 ms, calculating 50 ms: nothing waits."""
    task, sink, clock = task_with(0.001, 50)
    for key in images(50):
        clock[0] += 0.05
        task.result(key, 1)
        task.tick()
    task.finish()
    assert len(sink.groups) == 49
    assert max(sink.groups) == 1


def test_results_that_take_short_are_grouped():
    """Storing costs 5 % of the time at most, and half a second is the longest that a result waits."""
    task, sink, clock = task_with(0.1, 20_000)
    waits, began = [], 0.0
    for key in images(20_000):
        clock[0] += 0.002
        began = began if task._group else clock[0]
        before = len(sink.groups)
        task.result(key, 1)
        if len(sink.groups) > before:
            waits.append(clock[0] - sink.cost - began)
    task.finish()
    assert sum(sink.groups) == 19_999
    assert max(waits) <= 0.51
    assert 150 <= sum(sink.groups) / len(sink.groups) <= GROUP_RESULTS


def test_a_thousand_results_are_enough():
    """However fast they come."""
    task, sink, _ = task_with(1.0, 5000)
    for key in images(5000):
        task.result(key, 1)
    task.finish()
    assert max(sink.groups) == GROUP_RESULTS


def test_a_log_gets_a_line_a_minute():
    """Where there is no terminal."""
    clock, lines = [0.0], []
    progress = Progress(100, lines.append, lambda: clock[0])
    progress._on_terminal = False
    for _ in range(100):
        clock[0] += 10
        progress.done += 1
        progress.tick()
    progress.close()
    assert 12 <= len(lines) <= 17
    assert "7 of 100 calculated" in lines[0]


def test_a_terminal_gets_a_bar(capsys):
    """On stderr, after a second."""
    clock = [0.0]
    progress = Progress(3, None, lambda: clock[0])
    progress._on_terminal = True
    for _ in range(3):
        clock[0] += 0.9
        progress.done += 1
        progress.tick()
    progress.close()
    seen = capsys.readouterr()
    assert "3/3" in seen.err
    assert seen.out == ""


# -- other programs, kills and signals -------------------------------------------------------------


def program(directory, count, cores, seconds, lease):
    """What a master does, as a program of its own."""
    data = Data(directory / "d", calculator=Squares(str(directory / "calls"), seconds))
    data.calculate_items(images(count), {"cores": cores}, lease=lease)
    data.close()
    print("done", flush=True)


def start(directory, count, cores=1, seconds=0.0, lease=60.0, **options):
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\nfrom pathlib import Path\nimport test_data\n"
        f"test_data.program(Path({str(directory)!r}), {count}, {cores!r}, {seconds}, {lease})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def await_calls(directory, count, seconds=60):
    deadline = time.monotonic() + seconds
    while sum(calls_in(directory / "calls").values()) < count:
        assert time.monotonic() < deadline, "nothing is calculated"
        time.sleep(0.005)


def stored(directory):
    with FileDatabase(directory / "d", "r") as database:
        assert list(database.verify()) == []
        assert all(database[key] == value_of(int(key[1:])) for key in database)
        return set(database.keys())


def claims_left(directory, raw):
    return raw(directory / "d.ampdb" / "store.sqlite3", "SELECT count(*) FROM claim")[0][0]


@pytest.mark.parametrize(
    ("kills", "count", "cores"),
    [
        (4, 400, 1),
        (4, 400, 2),
        pytest.param(100, 2000, 1, marks=pytest.mark.soak),
        pytest.param(100, 2000, 2, marks=pytest.mark.soak),
    ],
)
def test_kill_9_loses_only_what_was_in_flight(tmp_path, kills, count, cores):
    """At the end every image is stored, and few were calculated again."""
    seed = random.randrange(10**6)
    print("seed", seed)
    rng, killed = random.Random(seed), 0
    seconds = 0.005
    while killed < kills:
        master = start(tmp_path, count, cores, seconds, stdin=subprocess.DEVNULL)
        before = sum(calls_in(tmp_path / "calls").values())
        share = (count - before) / (kills - killed)
        with contextlib.suppress(AssertionError):
            await_calls(tmp_path, before + rng.randrange(max(1, int(share))) + 1, 20)
        finished = master.poll() is not None
        master.kill()
        master.communicate()
        killed += 1
        if finished:
            break
    master = start(tmp_path, count, cores)
    assert master.communicate(timeout=60)[0] == "done\n"
    assert stored(tmp_path) == set(images(count))
    calls = calls_in(tmp_path / "calls")
    again = sum(calls.values()) - len(calls)
    print(f"{killed} kills, {count} images, {again} calculated again")
    # In flight: what a worker is at and what it is ahead (0.1 s), and a group that is not stored yet.
    assert again <= killed * cores * 25


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_masters_share_the_work(tmp_path, count, raw):
    """Four programs on one store: each image is calculated once, none is missing."""
    masters = [start(tmp_path, count, cores, 0.01) for cores in (1, 1, 1, 2)]
    for master in masters:
        out, err = master.communicate(timeout=200)
        assert (out, err) == ("done\n", "")
    calls = calls_in(tmp_path / "calls")
    assert calls == Counter(list(images(count)))
    assert stored(tmp_path) == set(images(count))
    assert claims_left(tmp_path, raw) == 0
    assert len({line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()}) >= 2


def test_a_master_that_was_stopped_past_its_lease_goes_on(tmp_path, raw):
    """Others take over what it had; what it was at comes late and does no harm."""
    count, lease = 150, 1.0
    first = start(tmp_path, count, 1, 0.01, lease)
    await_calls(tmp_path, 20)
    os.kill(first.pid, signal.SIGSTOP)
    others = [start(tmp_path, count, 1, 0.01, lease) for _ in range(2)]
    for master in others:
        assert master.communicate(timeout=60) == ("done\n", "")
    assert stored(tmp_path) == set(images(count))
    os.kill(first.pid, signal.SIGCONT)
    assert first.communicate(timeout=60) == ("done\n", "")
    calls = calls_in(tmp_path / "calls")
    assert set(calls) == set(images(count))
    # What it was at, and results that it had not stored: those were calculated while it held the claim.
    assert sum(calls.values()) - count + 1 <= 12
    assert claims_left(tmp_path, raw) == 0


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_stop_cleanly(tmp_path, raw, number, code, cores):
    """What is finished is stored, claims are given back, the answer comes soon."""
    master = start(tmp_path, 5000, cores, 0.01, start_new_session=True)
    await_calls(tmp_path, 30)
    began = time.monotonic()
    os.killpg(master.pid, number)  # as a terminal or a batch system does
    out, err = master.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert (master.returncode, out) == (code, "")
    assert err == "" or (
        number == signal.SIGINT and err.count("Traceback") == 1 and err.endswith("KeyboardInterrupt\n")
    )
    assert claims_left(tmp_path, raw) == 0
    calls = calls_in(tmp_path / "calls")
    assert len(set(calls) - stored(tmp_path)) <= cores * 20


def test_handlers_of_the_program_are_put_back(tmp_path):
    """After the run, and after one that raised; a handler of the program is left alone."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Data(tmp_path / "d", calculator=Squares()) as data:
        data.calculate_items(images(3), None)
        with pytest.raises(CalculationError):
            data.calculate_items({"k13": 13}, None)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

        seen = []
        signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
        try:
            data.calc = lambda image: os.kill(os.getpid(), signal.SIGTERM)
            data.calculate_items({"a": 1}, None)
        finally:
            signal.signal(signal.SIGTERM, before[0])
        assert seen == [1]
        assert data["a"] is None


def test_a_signal_waits_for_the_end_of_a_write():
    """Shields nest; the signal is answered after the outer one."""
    done = []
    with Interrupts() as interrupts, pytest.raises(SystemExit) as caught:
        with interrupts.shielded():
            with interrupts.shielded():
                os.kill(os.getpid(), signal.SIGTERM)
            done.append("written")
        done.append("not reached")
    assert (done, caught.value.code) == (["written"], 143)


def test_it_works_in_a_thread(tmp_path):
    """Where no handlers can be set."""
    import threading

    with Data(tmp_path / "d", calculator=image_only) as data:
        thread = threading.Thread(target=data.calculate_items, args=(images(10), {"cores": 2}))
        thread.start()
        thread.join(60)
        assert data["k9"] == value_of(9)


def test_workers_that_die_cost_nothing(tmp_path):
    """Ninety per cent of the workers are killed one after another; all images are stored, nothing hangs."""
    master = start(tmp_path, 500, 2, 0.005)
    killed = set()
    for turn in range(9):
        await_calls(tmp_path, 40 * (turn + 1))
        workers = [int(line.split()[1]) for line in (tmp_path / "calls").read_text().splitlines()]
        victim = next(pid for pid in reversed(workers) if pid not in killed)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        killed.add(victim)
    out, err = master.communicate(timeout=60)
    assert (master.returncode, out) == (0, "done\n"), err
    assert stored(tmp_path) == set(images(500))
    calls = calls_in(tmp_path / "calls")
    assert sum(calls.values()) - len(calls) <= len(killed)


def test_the_example_runs(tmp_path):
    """Descriptors of a trajectory: serial, killed and resumed, on all cores."""
    example = importlib.util.spec_from_file_location("example", TESTS.parent / "examples" / "descriptors.py").origin
    done = subprocess.run(
        [sys.executable, example, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "resumed" in done.stdout
    assert "all cores" in done.stdout


def test_failures_are_exported():
    """What calculate_items returns can be named."""
    assert Failure("k", "cause", "").cause == "cause"
