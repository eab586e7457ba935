"""Workers: results at once, deaths survived, poison named, nothing hangs."""

import concurrent.futures
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ampstore.errors import CalculatorError, ParallelError, WorkerError
from ampstore.parallel import Failure, local, read_plan, run
from ampstore.parallel import executor as executor_module
from ampstore.parallel.channel import Channel, receive_frame, send_frame
from ampstore.parallel.plan import usable_cores
from ampstore.parallel.work import Pace, run_here

TESTS = Path(__file__).resolve().parent


class List:
    """The simplest Work: a list of jobs."""

    def __init__(self, jobs):
        self.pending = list(jobs)
        self.images = dict(jobs)
        self.results = {}
        self.failures = {}
        self.order = []
        self.on_result = lambda: None

    @property
    def exhausted(self):
        return not self.pending

    @property
    def remaining(self):
        return len(self.pending)

    def take(self, most):
        taken, self.pending = self.pending[:most], self.pending[most:]
        return taken

    def still(self, key):
        return True

    def again(self, keys, *, last=False):
        jobs = [(key, self.images[key]) for key in keys]
        self.pending = self.pending + jobs if last else jobs + self.pending

    def result(self, key, value):
        assert key not in self.results
        self.results[key] = value
        self.order.append(key)
        self.on_result()

    def failure(self, failure):
        self.failures[failure.key] = failure

    def tick(self):
        return 0.5


def square(image, key):
    return image**2


def slow_square(image, key):
    time.sleep(0.005)
    return image**2


def pid_of_worker(image, key):
    time.sleep(0.02)
    return os.getpid()


def unlucky(image, key):
    if image == 13:
        raise ValueError("13 is unlucky")
    return image


def deadly(image, key):
    if image in (5, 25):
        os.kill(os.getpid(), signal.SIGKILL)
    return image


def deadly_once(image, key):
    if image == 5 and not os.path.exists(os.environ["AMPSTORE_TEST_MARK"]):
        open(os.environ["AMPSTORE_TEST_MARK"], "w").close()
        os._exit(7)
    return image


def leaver(image, key):
    if image == 3:
        sys.exit("leaving")
    return image


def returns_a_lock(image, key):
    return threading.Lock() if image == 2 else image


def big(image, key):
    return b"x" * 3_000_000


class Loads:
    """Pickles here, but not there."""

    def __init__(self):
        self.master = os.getpid()

    def __setstate__(self, state):
        if os.getpid() != state["master"]:
            raise RuntimeError("I travel badly")
        self.__dict__.update(state)

    def __call__(self, image, key):
        return image


class DiesWhenLoaded(Loads):
    def __setstate__(self, state):
        if os.getpid() != state["master"]:
            os._exit(9)


def jobs(count):
    return [(f"k{n}", n) for n in range(count)]


def in_processes(function, count, cores=2):
    work = List(jobs(count))
    run(function, work, read_plan({"cores": {"localhost": cores}}))
    return work


def test_all_jobs_are_done_once():
    """Every result arrives, none twice."""
    assert in_processes(square, 500).results == {f"k{n}": n**2 for n in range(500)}


def test_workers_that_die_while_others_have_all_keys_are_replaced():
    """Somebody must ask for work that comes back."""

    class Waiting(List):
        asked = 0

        def take(self, most):
            self.asked += 1
            if self.asked == 5:
                os.kill(children()[0], signal.SIGKILL)
            return super().take(most) if self.asked > 10 else []

        @property
        def remaining(self):
            return len(self.pending) if self.asked < 1 or self.asked > 10 else 0

        def tick(self):
            return 0.02

    work = Waiting(jobs(3))
    run(square, work, read_plan({"cores": {"localhost": 1}}))
    assert len(work.results) == 3


def test_work_is_shared():
    """More than one process works."""
    assert len(set(in_processes(pid_of_worker, 60).results.values())) == 2


def test_no_more_workers_than_jobs():
    """One job needs one process."""
    assert in_processes(square, 1, cores=8).results == {"k0": 0}


def test_a_failing_job_is_reported_with_its_traceback():
    """The others are done."""
    work = in_processes(unlucky, 30)
    assert len(work.results) == 29
    assert work.failures["k13"].cause == "ValueError: 13 is unlucky"
    assert "raise ValueError" in work.failures["k13"].traceback


def test_sys_exit_in_a_calculation_is_a_failure():
    """A calculator that leaves takes nobody along."""
    work = in_processes(leaver, 10)
    assert work.failures["k3"].cause == "SystemExit: leaving"
    assert len(work.results) == 9


def test_a_result_that_cannot_travel_is_a_failure():
    """Its key is named."""
    work = in_processes(returns_a_lock, 10)
    assert "pickle" in work.failures["k2"].cause
    assert len(work.results) == 9


def test_an_image_that_cannot_travel_is_a_failure():
    """Its key is named."""
    work = List([("a", 1), ("b", threading.Lock()), ("c", 2)])
    run(unlucky, work, read_plan({"cores": {"localhost": 2}}))
    assert work.results == {"a": 1, "c": 2}
    assert "pickle" in work.failures["b"].cause


def test_large_results_arrive_whole():
    """3 MB each."""
    assert {len(value) for value in in_processes(big, 10).results.values()} == {3_000_000}


def test_a_job_of_a_worker_that_died_is_done_by_another(tmp_path, monkeypatch):
    """One death is bad luck."""
    monkeypatch.setenv("AMPSTORE_TEST_MARK", str(tmp_path / "mark"))
    work = in_processes(deadly_once, 40)
    assert work.results == {f"k{n}": n for n in range(40)}
    assert not work.failures


def test_a_poisonous_job_is_reported():
    """A job that kills two workers is not given to a third; the others are done."""
    work = in_processes(deadly, 40)
    assert set(work.failures) == {"k5", "k25"}
    assert work.failures["k5"].cause == "poisonous: 2 workers died at it, the last one by SIGKILL (out of memory?)"
    assert len(work.results) == 38


def children():
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    commands = {int(pid): Path(f"/proc/{int(pid)}/cmdline") for pid in found.stdout.split()}
    return [pid for pid, line in commands.items() if line.exists() and b"ampstore.parallel" in line.read_bytes()]


def test_killing_workers_one_after_another_loses_nothing():
    """Nine of ten workers that are alive are killed at random moments; all jobs are done."""
    seed = random.randrange(10**6)
    print("seed", seed)
    rng, killed = random.Random(seed), []
    work = List(jobs(600))

    def kill_somebody():
        if len(work.results) % 60 == 30 and len(killed) < 9:
            victim = rng.choice(children())
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    work.on_result = kill_somebody
    run(slow_square, work, read_plan({"cores": {"localhost": 4}}))
    assert len(killed) == 9
    assert {**work.results, **work.failures}.keys() == {f"k{n}" for n in range(600)}
    assert not work.failures


def test_a_worker_that_is_stopped_is_replaced(monkeypatch):
    """One that gets SIGSTOP alone would otherwise hold its jobs for ever."""
    monkeypatch.setattr(local, "STOPPED", 0.5)
    work, stopped = List(jobs(100)), []

    def stop():
        if len(work.results) == 30:
            stopped.append(children()[0])
            os.kill(stopped[0], signal.SIGSTOP)

    work.on_result = stop
    run(slow_square, work, read_plan({"cores": {"localhost": 2}}))
    assert stopped
    assert work.results == {f"k{n}": n**2 for n in range(100)}


def test_a_calculator_that_cannot_be_pickled_is_refused_before_work_starts():
    """The reason and the way out are in the sentence."""
    work = List(jobs(5))
    with pytest.raises(CalculatorError, match="cannot be pickled.*'cores': 1"):
        run(lambda image, key: image, work, read_plan({"cores": {"localhost": 2}}))
    assert len(work.pending) == 5


def test_a_calculator_that_cannot_be_loaded_by_workers_is_refused():
    """The traceback of the worker is in the error; nothing hangs."""
    with pytest.raises(CalculatorError, match="I travel badly"):
        in_processes(Loads(), 5)


def test_workers_that_die_before_they_begin_are_not_started_for_ever():
    """After three in a row it is given up."""
    with pytest.raises(WorkerError, match="died before they began.*exit code 9"):
        in_processes(DiesWhenLoaded(), 5)


def test_nothing_is_left_behind():
    """Processes end with the run, also with one that failed."""
    in_processes(square, 10)
    with pytest.raises(CalculatorError):
        in_processes(Loads(), 5)
    assert children() == []


def run_script(tmp_path, text, *arguments):
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=False,
    )


HEAD = """
from ampstore.parallel import read_plan, run
from test_parallel import List, jobs, square
class Result:
    def __init__(self, value): self.value = value
def calculate(image, key):
    return Result(image)
def main(function):
    work = List(jobs(20))
    run(function, work, read_plan({"cores": {"localhost": 2}}))
    print(sorted(getattr(v, "value", v) for v in work.results.values()) == [f(n) for n in range(20)])
"""


def test_a_calculator_of_a_guarded_script_works(tmp_path):
    """Workers import the script under another name, its classes under their own."""
    done = run_script(tmp_path, HEAD + "f = lambda n: n\nif __name__ == '__main__':\n    main(calculate)\n")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_an_unguarded_script_works_with_a_calculator_of_a_module(tmp_path):
    """Scripts for Amp have no guard, and workers do not import them."""
    done = run_script(tmp_path, HEAD + "f = lambda n: n * n\nmain(square)\n")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_an_unguarded_script_with_its_own_calculator_is_told_what_to_do(tmp_path):
    """No endless chain of processes."""
    done = run_script(tmp_path, HEAD + "f = lambda n: n\nmain(calculate)\n")
    assert done.returncode == 1
    assert 'if __name__ == "__main__"' in done.stderr


def test_workers_end_with_their_master(tmp_path):
    """Killing the master (-9) ends workers too, also in the middle of a calculation."""
    text = (
        "import os, time\nfrom ampstore.parallel import read_plan, run\nfrom test_parallel import List, jobs, sleeper\n"
        "run(sleeper, List(jobs(4)), read_plan({'cores': {'localhost': 2}}))\n"
    )
    (tmp_path / "script.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "AMPSTORE_TEST_MARK": str(tmp_path / "pids")}
    master = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=environment)
    await_that(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    master.kill()
    master.wait()
    await_that(lambda: not any(is_running(pid) for pid in pids))


def sleeper(image, key):
    with open(os.environ["AMPSTORE_TEST_MARK"], "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(60)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def await_that(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor])
def test_any_executor_does_the_work(kind):
    """Threads and processes; failures are reported one by one; the executor stays open."""
    import multiprocessing

    options = {"mp_context": multiprocessing.get_context("spawn")} if "Process" in kind.__name__ else {}
    with kind(2, **options) as executor:
        work = List(jobs(200))
        run(unlucky, work, read_plan({"executor": executor}))
        assert len(work.results) == 199
        assert work.failures["k13"].cause == "ValueError: 13 is unlucky"
        assert executor.submit(len, "abc").result(30) == 3
        if options:
            work = List(jobs(10))
            run(returns_a_lock, work, read_plan({"executor": executor}))
            assert len(work.results) == 9
            assert "pickle" in work.failures["k2"].cause
            with pytest.raises(CalculatorError, match="pickled"):
                run(lambda image, key: image, List(jobs(3)), read_plan({"executor": executor}))


def test_an_executor_that_breaks_is_named():
    """It cannot be mended, but what is finished was handed in."""
    import multiprocessing

    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        with pytest.raises(WorkerError, match="executor broke"):
            run(deadly, List(jobs(40)), read_plan({"executor": executor}))


def test_an_executor_that_is_shut_down_or_cancels_is_named():
    """Whenever that happens."""
    work = List(jobs(40))
    work.on_result = lambda: executor.shutdown(wait=False, cancel_futures=True)
    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(WorkerError, match="executor"),
    ):
        run(slow_square, work, read_plan({"executor": executor}))
    assert work.results
    with pytest.raises(WorkerError, match="takes nothing"):
        run(slow_square, List(jobs(3)), read_plan({"executor": executor}))


def test_a_chunk_that_takes_longer_than_was_thought_ends_early(monkeypatch):
    """Its results come in, and what it leaves is handed out again."""
    monkeypatch.setattr(executor_module, "LONGEST", 0.0)
    outcomes, _ = executor_module.calculate_chunk(executor_module.Shared(square), jobs(10))
    assert outcomes == [("k0", 0, None)]
    work = List(jobs(50))
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        run(square, work, read_plan({"executor": executor}))
    assert work.results == {f"k{n}": n**2 for n in range(50)}


def test_serial_work_stays_in_this_process():
    """cores=1 starts nothing."""
    work = List(jobs(3))
    run(pid_of_worker, work, read_plan({"cores": 1}))
    assert set(work.results.values()) == {os.getpid()}


def test_ctrl_c_is_not_a_failure_of_an_image():
    """It goes up."""

    def interrupted(image, key):
        raise KeyboardInterrupt

    work = List(jobs(3))
    with pytest.raises(KeyboardInterrupt):
        run_here(interrupted, work)
    assert not work.failures


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({}, "no 'cores'"),
        ({"envcommand": None}, "no 'cores'"),
        (4, "not a mapping"),
        ({"cores": 0}, "positive"),
        ({"cores": -2}, "positive"),
        ({"cores": "4"}, "positive"),
        ({"cores": True}, "positive"),
        ({"cores": 2.5}, "positive"),
        ({"cores": {}}, "localhost"),
        ({"cores": {"-oProxyCommand=x": 4}}, "no name of a host"),
        ({"cores": {"node7": 0}}, "positive"),
        ({"cores": {"localhost": 0}}, "positive"),
        ({"executor": 5}, "Executor"),
    ],
)
def test_a_parallel_that_says_nothing_is_refused(parallel, message):
    """With the way out, and as the errors that Amp raises."""
    with pytest.raises(ParallelError, match=message) as caught:
        read_plan(parallel)
    assert isinstance(caught.value, (ValueError, KeyError))
    assert "{'cores': 4}" in str(caught.value)


def test_plans():
    """What each form means."""
    import numpy

    assert read_plan(None)[:2] == (1, True)
    assert read_plan({"cores": 1, "envcommand": "x"})[:2] == (1, True)
    assert read_plan({"cores": numpy.int64(3)})[:2] == (3, False)
    assert read_plan({"cores": {"localhost": 1}})[:2] == (1, False)
    assert read_plan({"cores": None})[:2] == (usable_cores(), False)
    assert read_plan({"dask": "tcp://host:8786"}).dask == "tcp://host:8786"
    assert read_plan({"dask": "tcp://host:8786", "cores": 12}).width == 12


def test_chunks_fit_the_pace():
    """About 0.1 s of work, one job while nothing is known, fewer near the end."""
    pace = Pace(4)
    assert pace.chunk(10_000) == 1
    pace.note(0.001)
    assert pace.chunk(10_000) == 100
    assert pace.chunk(16) == 2
    assert pace.chunk(1) == 1
    pace.seconds = 3.0
    assert pace.chunk(10_000) == 1


def test_the_master_does_not_wait_for_a_worker_that_does_not_read():
    """What the socket does not take stays behind, and arrives in order later."""
    import socket

    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    frames = [bytes([n]) * 500_000 for n in range(20)]
    for frame in frames:
        channel.send(frame)
    assert channel.sending
    found = []
    reader = threading.Thread(target=lambda: found.extend(receive_frame(theirs) for _ in frames))
    reader.start()
    await_that(lambda: channel.flush() or not channel.sending)
    reader.join()
    assert found == frames
    send_frame(theirs, b"answer")
    assert channel.receive() == ([b"answer"], True)
    theirs.close()
    assert channel.receive() == ([], False)
    assert receive_frame(theirs) is None
    channel.close()


def test_a_failure_is_one_line_and_a_traceback():
    """Of messages with many lines the first one."""
    assert Failure.of("k", ValueError("a\nb"))[:2] == ("k", "ValueError: a")
    assert Failure.of("k", ValueError()).cause == "ValueError"
