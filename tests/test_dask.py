"""A Dask cluster as the place to work: real processes, killed, lost, grown."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy
import pytest
from test_parallel import List, deadly, jobs, leaver, returns_a_lock, slow_square, square, unlucky

from ampstore import Data, FileDatabase
from ampstore.errors import CalculatorError, ParallelError, WorkerError
from ampstore.parallel import dask, read_plan, run

distributed = pytest.importorskip("distributed") if not os.environ.get("CI") else __import__("distributed")


@pytest.fixture(autouse=True)
def nothing_leaks():
    """Every test gives back its threads, but for the pools that Dask keeps for later."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10
    while (
        new := [t for t in threading.enumerate() if t not in before and not t.daemon]
    ) and time.monotonic() < deadline:
        if all(thread.name.startswith(("Dask-", "TCP-Executor", "asyncio_")) for thread in new):
            break
        time.sleep(0.05)
    assert all(thread.name.startswith(("Dask-", "TCP-Executor", "asyncio_")) for thread in new), new


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of one thread each."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def in_dask(function, work, cluster):
    run(function, work, read_plan({"dask": cluster}))
    return work


def kill_a_worker(client):
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)


def slow_rows(image, key):
    """Something like a fingerprint."""
    time.sleep(0.003)
    return [("Cu", list(numpy.sin(numpy.arange(20.0) * image)))]


def big(image, key):
    return b"x" * 3_000_000


class FailsToLoad:
    """Pickles here, but not there."""

    def __reduce__(self):
        return _explode, (os.getpid(),)

    def __call__(self, image, key):
        return image


def _explode(master):
    if os.getpid() != master:
        raise FileNotFoundError("weights.dat")
    return FailsToLoad()


def test_all_jobs_are_done_once(client):
    """Every result comes in, none twice; the client stays open."""
    work = in_dask(square, List(jobs(300)), client)
    assert work.results == {f"k{n}": n**2 for n in range(300)}
    assert client.status == "running"


def test_a_cluster_can_be_given_by_its_address(cluster, client):
    """The connection is made for the calculation and closed after it; the cluster stays."""
    clients = len(cluster.scheduler.clients)
    work = in_dask(square, List(jobs(50)), cluster.scheduler_address)
    assert len(work.results) == 50
    deadline = time.monotonic() + 10
    while len(cluster.scheduler.clients) > clients and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(cluster.scheduler.clients) == clients


def test_failures_are_those_of_their_images(client):
    """An exception, sys.exit, a result or an image that cannot travel: all others are done."""
    work = in_dask(unlucky, List(jobs(30)), client)
    assert len(work.results) == 29
    assert work.failures["k13"].cause == "ValueError: 13 is unlucky"
    assert "raise ValueError" in work.failures["k13"].traceback
    work = in_dask(leaver, List(jobs(8)), client)
    assert set(work.failures) == {"k3"}
    assert len(work.results) == 7
    work = in_dask(returns_a_lock, List(jobs(8)), client)
    assert set(work.failures) == {"k2"}
    assert len(work.results) == 7
    work = in_dask(square, List([("k0", 1), ("k1", threading.Lock()), ("k2", 2)]), client)
    assert set(work.failures) == {"k1"}
    assert set(work.results) == {"k0", "k2"}


def test_a_worker_killed_in_the_middle_costs_nothing(client, tmp_path):
    """Every image is stored once, with the same values as after serial work."""
    images = {f"k{n}": n for n in range(400)}
    lines, stored_before = [], []

    def kill_in_the_middle():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not stored_before:
            with FileDatabase(tmp_path / "dask") as database:
                if len(database) > 50:
                    stored_before.append(len(database))
            time.sleep(0.01)
        kill_a_worker(client)

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    with Data(tmp_path / "dask", calculator=slow_rows) as data:
        data.calculate_items(images, {"dask": client}, log=lines.append)
    killer.join(60)
    with Data(tmp_path / "serial", calculator=slow_rows) as data:
        data.calculate_items(images)
    with FileDatabase(tmp_path / "dask") as dask_s, FileDatabase(tmp_path / "serial") as serial_s:
        assert dict(dask_s.items()) == dict(serial_s.items())
    assert " Calculated 400 new images." in lines
    assert stored_before[0] < 400
    client.wait_for_workers(2, timeout=60)


def test_a_poisonous_image_is_named_and_all_others_are_done(cluster, client, monkeypatch):
    """Also those that were on the worker which it killed."""
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    work = in_dask(deadly, List(jobs(40)), client)
    assert set(work.failures) == {"k5", "k25"}
    assert all("poisonous" in failure.cause for failure in work.failures.values())
    assert work.results == {f"k{n}": n for n in range(40) if n not in (5, 25)}
    client.wait_for_workers(2, timeout=60)


def test_few_chunks_are_under_way(cluster, client):
    """The scheduler holds two for each thread, whatever there is to do, and none at the end."""
    most = []
    work = List(jobs(300))
    work.on_result = lambda: most.append(len(cluster.scheduler.tasks))
    in_dask(slow_square, work, client)
    assert len(work.results) == 300
    assert 1 <= max(most) <= 4
    deadline = time.monotonic() + 10
    while cluster.scheduler.tasks and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not cluster.scheduler.tasks


def test_a_chunk_ends_early_when_its_results_are_large():
    """What it leaves is handed out again, so nobody holds a thousand large results."""
    packed = [(f"k{n}", dask._dumps(n)) for n in range(100)]
    outcomes, _ = dask.calculate_packed("name", dask._dumps(big), packed)
    assert 1 <= len(outcomes) <= 4


def test_large_results_all_arrive(client):
    """Three megabytes each."""
    work = in_dask(big, List(jobs(20)), client)
    assert {len(value) for value in work.results.values()} == {3_000_000}
    assert len(work.results) == 20


def test_a_function_that_workers_cannot_load_is_refused(client):
    """With the worker's own words, and before thousands of images fail one by one."""
    with pytest.raises(CalculatorError, match=r"cannot load it: FileNotFoundError: weights.dat"):
        in_dask(FailsToLoad(), List(jobs(30)), client)


def test_a_function_that_cannot_be_pickled_is_refused(client):
    """At once."""
    lock = threading.Lock()
    with pytest.raises(CalculatorError, match="cannot be pickled for Dask"):
        in_dask(lambda image, key: lock, List(jobs(3)), client)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    """Within a bound."""
    monkeypatch.setattr(dask, "CONNECT", 0.5)
    start = time.monotonic()
    for address in ("tcp://127.0.0.1:9", "nonsense://x", "no address", ""):
        with pytest.raises(WorkerError, match="no Dask scheduler at"):
            in_dask(square, List(jobs(3)), address)
    assert time.monotonic() - start < 60


def test_what_is_no_cluster_is_refused(cluster):
    """Other types, closed clients, wrong numbers."""
    closed = distributed.Client(cluster, set_as_default=False)
    closed.close()
    for wrong in (5, ["tcp://127.0.0.1:9"], closed):
        with pytest.raises(ParallelError):
            in_dask(square, List(jobs(3)), wrong)
    with pytest.raises(ParallelError, match="'cores' must be a positive number"):
        read_plan({"dask": "tcp://127.0.0.1:9", "cores": 0})


def test_missing_dask_is_named(monkeypatch):
    """With the extra that has it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ParallelError, match=r"pip install 'ampstore\[dask\]'"):
        in_dask(square, List(jobs(3)), "tcp://127.0.0.1:9")


def script(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )


CALCULATOR = """
    import sys, threading, time
    from distributed import Client, LocalCluster
    from ampstore import Data, FileDatabase
    from ampstore.errors import WorkerError

    class Result:
        def __init__(self, number):
            self.number = number

    class Squares:
        def calculate(self, image, key):
            time.sleep(0.005)
            return Result(image**2).number

    images = {f"k{n}": n for n in range(200)}
"""


def test_a_calculator_of_a_script_or_notebook_works(tmp_path, cluster):
    """Unguarded, since nothing imports the script; the code travels."""
    done = script(
        tmp_path,
        CALCULATOR
        + f"""
    data = Data("squares", calculator=Squares())
    data.calculate_items(images, {{"dask": "{cluster.scheduler_address}"}})
    print(data["k14"], len(FileDatabase("squares")))
    """,
    )
    assert done.stdout.split() == ["196", "200"], done.stderr


def test_a_cluster_that_is_lost_is_named_and_what_was_finished_is_stored(tmp_path):
    """Without waiting for it to come back; another run does the rest."""
    done = script(
        tmp_path,
        CALCULATOR
        + """
    if __name__ == "__main__":
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL")
        client = Client(cluster)
        threading.Timer(0.6, cluster.close).start()
        data = Data("squares", calculator=Squares())
        try:
            data.calculate_items(images, {"dask": client})
        except WorkerError as err:
            print(type(err).__name__, "Dask cluster is lost" in str(err))
        some = len(FileDatabase("squares"))
        print(0 < some < 200)
        data.calculate_items(images)
        print(len(FileDatabase("squares")))
    """,
    )
    assert done.stdout.split() == ["WorkerError", "True", "True", "200"], done.stderr


def test_a_cluster_without_workers_is_waited_for(tmp_path):
    """Batch systems start them later; all of the growing cluster is used."""
    done = script(
        tmp_path,
        CALCULATOR
        + """
    if __name__ == "__main__":
        cluster = LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL")
        with cluster, Client(cluster) as client:
            threading.Timer(0.5, cluster.scale, [2]).start()
            Data("squares", calculator=Squares()).calculate_items(images, {"dask": client})
            print(len(FileDatabase("squares")))
    """,
    )
    assert done.stdout.split() == ["200"], done.stderr
