"""The functions of Amp for workers: same names, same results, and workers of Amp's kind that go wrong."""

import gc
import inspect
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import pytest
from nodes import Cluster, await_that, need_sshd, processes

import ampstore
from ampstore import Logger, MessageDictionary, make_sublists, setup_parallel, start_workers
from ampstore.errors import LaunchError, ParallelError, WorkerLostError
from ampstore.parallel.crew import command_line

WORKER = Path(__file__).with_name("amp_worker.py")
COMMAND = f"{sys.executable} {WORKER}"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path_factory):
    """No test leaves a worker behind."""
    yield
    gc.collect()
    await_that(lambda: not processes(str(WORKER)) and not sessions(), 20)


def sessions():
    return [thread for thread in threading.enumerate() if "ampstore" in thread.name]


def ignore(*_, **__):
    pass


def setup(cores=2, mode="data", **more):
    hosts = cores if isinstance(cores, dict) else {"localhost": cores}
    parallel = {"cores": hosts, "envcommand": None, "timeout": 20, **more}
    return setup_parallel(parallel, f"{COMMAND} {mode}", ignore)


def serve(server, images):
    """Amp's loop for data, as it is in every version."""
    master, _, n_pids = server
    parts, results, done = make_sublists(images, n_pids), {}, 0
    while done < n_pids:
        message = master.recv_pyobj()
        worker = int(message["id"])
        if message["subject"] == "<purpose>":
            master.send_pyobj("triple")
        elif message["subject"] == "<request>":
            values = {"factor": 3, "images": {key: images[key] for key in parts[worker]}}
            master.send_pyobj(values[message["data"]])
        elif message["subject"] == "<result>":
            results.update(message["data"])
            master.send_string("thanks")
            done += 1
        else:
            master.send_string("go on")
    master.close()
    return results


IMAGES = {f"k{n}": n for n in range(250)}
RESULTS = {f"k{n}": ["triple", 3 * n] for n in range(250)}


def test_signatures_are_those_of_amp():
    """Programs that call them by position or by name go on to work."""
    assert list(inspect.signature(setup_parallel).parameters) == ["parallel", "workercommand", "log", "setup_publisher"]
    names = ["process_ids", "workerhostname", "workercommand", "log", "envcommand"]
    assert list(inspect.signature(start_workers).parameters) == names
    assert list(inspect.signature(make_sublists).parameters) == ["masterlist", "n"]
    assert list(inspect.signature(MessageDictionary).parameters) == ["process_id"]


def test_messages_have_the_form_of_amp():
    """A plain dict with three keys; the number of the worker is passed on as it was given."""
    message = MessageDictionary("7")
    assert message("<request>", "images") == {"id": "7", "subject": "<request>", "data": "images"}
    assert message("<purpose>") == {"id": "7", "subject": "<purpose>", "data": None}
    assert type(message("x")) is dict


def test_sublists_are_random_and_even():
    """Everything is there once, sizes differ by one at most, the caller's list is left alone."""
    items = list(range(23))
    lists = make_sublists(items, 5)
    assert [len(found) for found in lists] == [5, 5, 5, 4, 4]
    assert sorted(sum(lists, [])) == items == list(range(23))
    assert [len(found) for found in make_sublists({"a": 1, "b": 2}.keys(), 3)] == [1, 1, 0]


def test_sublists_use_numpys_stream_as_amp_does():
    """A seeded program gets the same sublists and, after that, the same numbers."""
    numpy.random.seed(3)
    lists, after = make_sublists(range(10), 3), numpy.random.rand()
    numpy.random.seed(3)
    order = list(range(10))
    numpy.random.shuffle(order)
    assert lists == [[order.pop() for _ in range(size)] for size in (4, 3, 3)]
    assert numpy.random.rand() == after


@pytest.mark.parametrize("n", [0, -1])
def test_work_is_not_lost_in_no_sublists(n):
    """Zero workers is an error, not an empty list."""
    with pytest.raises(ValueError, match=f"n={n}"):
        make_sublists([1, 2], n)


def test_workers_of_amp_calculate():
    """They do not flush their handshake, talk in pickles, and end by themselves."""
    log = io.StringIO()
    server = setup_parallel({"cores": {"localhost": 3}, "envcommand": None}, f"{COMMAND}", Logger(log))
    assert {"master", "mastersocket", "connections", "n_pids"} == set(server.keys())
    assert server["n_pids"] == 3
    host, port = server["mastersocket"].split(":")
    assert (host, port.isdecimal()) == ("127.0.0.1", True)
    assert [len(workers) for workers in server["connections"]] == [3]
    assert not hasattr(server["connections"][0], "logout")
    assert serve(server, IMAGES) == RESULTS
    assert "Session 2 (localhost): log and error to /tmp/worker-2.log" in log.getvalue()
    del server


def test_the_result_unpacks_as_that_of_amp_0_6_1():
    """Socket, connections, number of processes."""
    master, connections, n_pids = server = setup(2)
    assert (master, connections, n_pids) == (server["master"], server["connections"], 2)
    assert dict(server)["n_pids"] == 2
    assert serve((master, connections, n_pids), IMAGES) == RESULTS


def test_loss_workers_hear_the_publisher_until_the_connections_are_dropped():
    """Amp 1.x: a PUB socket beside the master; nobody tells the workers to stop."""
    server = setup_parallel({"cores": {"localhost": 2}}, f"{COMMAND} loss", ignore, True)
    losses = list(training(server, steps=3))
    assert [loss for loss, _ in losses] == [3.0, 3.0, 4.0, 4.0, 5.0, 5.0]
    pids = {pid for _, pid in losses}
    assert len(pids) == 2
    assert pids <= processes(str(WORKER)).keys()
    server["connections"] = None
    await_that(lambda: not processes(str(WORKER)))


def training(server, steps):
    """Amp's loop for losses (1.x): announce until all have subscribed, then a vector a step."""
    master, publisher = server["master"], server["publisher"]
    ready = set()
    while len(ready) < server["n_pids"]:
        publisher.send_pyobj("test message")
        if not master.poll(50):
            continue
        message = master.recv_pyobj()
        if message["data"] == "publisher":
            master.send_pyobj(server["publisher_socket"])
        elif message["subject"] == "subscriber working":
            ready.add(message["id"])
            master.send_string("good")
        elif message["subject"] == "<purpose>":
            master.send_pyobj("calculate_loss_function")
        else:
            master.send_string("good")
    for step in range(steps):
        publisher.send_pyobj([1.0, 2.0 + step])
        for _ in range(server["n_pids"]):
            data = master.recv_pyobj()["data"]
            master.send_string("good")
            yield data["loss"], data["pid"]
    master.close()
    publisher.close()


def test_a_loss_worker_that_is_killed_is_noticed():
    """Amp's loop would wait for ever."""
    server = setup_parallel({"cores": {"localhost": 2}}, f"{COMMAND} loss", ignore, True)
    with pytest.raises(WorkerLostError, match=r"worker [01] on localhost is lost: it ended with signal 9"):
        for _, pid in training(server, steps=1000):
            os.kill(pid, signal.SIGKILL)
    server["master"].close()
    server["publisher"].close()


def test_start_workers_leaves_the_address_to_the_command():
    """On this machine a list comes back; the workers end when it is dropped."""
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.REP)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    workers = start_workers([4, 5], "localhost", f"{COMMAND} data %s 127.0.0.1:{port}", ignore, None)
    assert isinstance(workers, list)
    assert len(workers) == 2
    assert "localhost" in repr(workers[0])
    asked = set()
    while asked != {"4", "5"}:
        assert socket.poll(10_000)
        asked.add(socket.recv_pyobj()["id"])
        socket.send_pyobj({})
    del workers
    await_that(lambda: not processes(str(WORKER)))
    socket.close(0)
    context.term()


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("early", "(?s)worker [01] ended with exit code 5 before it was ready.*no such module"),
        ("mute", "worker [01] did not say <amp-connect> within 1.5 s"),
        ("garbage", "(?s)worker 0 did not say <amp-connect> within 1.5 s.*nonsense"),
    ],
)
def test_workers_that_do_not_begin_are_named(mode, reason):
    """With what they printed, within the time-out; the others are ended."""
    start = time.monotonic()
    with pytest.raises(LaunchError, match=reason):
        setup(2, mode, timeout=1.5)
    assert time.monotonic() - start < 60


def test_a_program_that_is_not_there_is_named():
    """As an error, not as silence."""
    with pytest.raises(LaunchError, match=r"(?s)exit code 127.*No such file.*no-such-python"):
        setup_parallel({"cores": {"localhost": 1}}, "/no-such-python -m amp.model", ignore)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("dies", "worker 1 on localhost is lost: it ended with signal 9"),
        ("half", "worker [01] on localhost is lost: it ended with exit code 6"),
        ("bytes", "worker [01] on localhost is lost: it ended with exit code 7"),
        ("silent", "worker [01] on localhost is lost: it has not asked for work within"),
    ],
)
def test_a_worker_that_goes_wrong_is_named(mode, reason):
    """The program that waits gets an error; Amp alone would wait for ever."""
    Path("/tmp/ampstore-was-here").unlink(missing_ok=True)
    server = setup(2, mode, timeout=3)
    with pytest.raises(WorkerLostError, match=reason):
        serve(server, IMAGES)
    server["master"].close()
    assert not Path("/tmp/ampstore-was-here").exists()


def test_a_message_over_the_limit_is_named(monkeypatch):
    """It is never taken in; the worker that sent it is said to be lost."""
    monkeypatch.setenv("AMPSTORE_LARGEST_MESSAGE", "2000000")
    server = setup(2, "huge")
    with pytest.raises(WorkerLostError, match="over the limit"):
        serve(server, IMAGES)
    server["master"].close()


@pytest.mark.parametrize("mode", ["stranger", "twice", "doubles"])
def test_messages_that_make_no_sense_are_dropped(mode):
    """A number that nobody has, a list from a second connection, a result that was sent already."""
    server = setup(1, mode)
    master = server["master"]
    assert serve(server, IMAGES) == RESULTS
    assert master.dropped == (0 if mode == "doubles" else 1)


@pytest.mark.parametrize(
    ("parallel", "error", "reason"),
    [
        ({"cores": {"-oProxyCommand=touch x": 1}}, ParallelError, "no name of a host"),
        ({"cores": {"node 1": 1}}, ParallelError, "no name of a host"),
        ({"cores": {"localhost": -1}}, ParallelError, "no number of workers"),
        ({"cores": {"localhost": "2"}}, ParallelError, "no number of workers"),
        ({"cores": {}}, ParallelError, "nobody"),
        ({"cores": {"localhost": 0}}, ParallelError, "nobody"),
        ({}, ParallelError, "no 'cores'"),
        ({"cores": {"localhost": 1}, "timeout": "soon"}, ParallelError, "timeout"),
        ({"cores": {"localhost": 1}, "launcher": "rsh"}, ParallelError, "launcher"),
        ({"cores": {"localhost": 1}, "envcommand": 5}, ParallelError, "envcommand"),
    ],
)
def test_a_parallel_that_makes_no_sense_is_refused(parallel, error, reason):
    """Before anything is started."""
    with pytest.raises(error, match=reason):
        setup_parallel(parallel, COMMAND, ignore)


def test_no_directory_is_left_by_a_failure(tmp_path, monkeypatch):
    """Nor by a run that went well."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(LaunchError):
        setup(1, "early")
    server = setup(1)
    serve(server, IMAGES)
    assert list(tmp_path.iterdir())
    del server
    gc.collect()
    await_that(lambda: not list(tmp_path.iterdir()))


def test_the_command_of_a_worker_bears_any_interpreter(monkeypatch):
    """A path with blanks and % in front is taken as it is; quotes work as in a shell."""
    monkeypatch.setattr(sys, "executable", "/opt/my %s python 100%/bin/python")
    program = sys.executable
    assert command_line(f"{program} -m amp.model %s n1:5", 3) == [program, "-m", "amp.model", "3", "n1:5"]
    assert command_line(f"{program} -m amp.model %s n1:5", 3, "/there/python")[0] == "/there/python"
    assert command_line("python 'a b' 50%% %s", 0) == ["python", "a b", "50%", "0"]
    with pytest.raises(TypeError, match="one %s"):
        command_line("python -m amp.model", 0)
    with pytest.raises(ParallelError, match="makes no sense"):
        command_line("python 'a %s", 0)


def test_a_stranger_on_the_port_is_hung_up_on():
    """Only processes that were started here reach the master, whoever else runs them."""
    server = setup(1)
    asking = (
        "import sys, zmq\n"
        "socket = zmq.Context().socket(zmq.REQ)\nsocket.linger = 0\nsocket.connect('tcp://' + sys.argv[1])\n"
        "socket.send_pyobj({'id': '0', 'subject': '<result>', 'data': {'k0': 'wrong'}})\n"
        "print('answer' if socket.poll(1500) else 'silence')\n"
    )
    stranger = subprocess.Popen(
        [sys.executable, "-c", asking, server["mastersocket"]], stdout=subprocess.PIPE, text=True
    )
    assert stranger.communicate(timeout=60)[0] == "silence\n"
    assert serve(server, IMAGES) == RESULTS


def test_nothing_outlives_a_program_that_is_killed(tmp_path):
    """A master that dies by kill -9 ends workers that do not listen to anybody."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom ampstore import setup_parallel\n"
        f"found = setup_parallel({{'cores': {{'localhost': 2}}}}, {COMMAND + ' silent'!r}, print)\n"
        "print('ready', flush=True)\ntime.sleep(600)\n"
    )
    master = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    with master.stdout:
        while "ready" not in master.stdout.readline():
            pass
    assert len(processes(str(WORKER), "silent")) == 2
    master.kill()
    master.wait()
    await_that(lambda: not processes(str(WORKER)), 20)


def test_threads_end_with_the_workers():
    """The thread that serves the sessions is gone when they are."""
    server = setup(1)
    assert sessions()
    serve(server, IMAGES)
    del server
    gc.collect()
    await_that(lambda: not sessions())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes."""
    need_sshd()
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.add("node1")
        found.add("node2")
        yield found
    finally:
        found.close()


def test_workers_of_amp_on_two_nodes(cluster):
    """Numbers count up over the hosts; one connection for each, which has `logout`."""
    server = setup({"node1": 2, "localhost": 1, "node2": 1}, ssh=cluster.ssh)
    kinds = [hasattr(connection, "logout") for connection in server["connections"]]
    assert kinds == [True, False, True]
    assert server["n_pids"] == 4
    assert serve(server, IMAGES) == RESULTS
    for connection in server["connections"]:
        if hasattr(connection, "logout"):
            connection.logout()
            connection.logout()
            assert "ended" in repr(connection)


def test_loss_workers_on_two_nodes_find_the_publisher(cluster):
    """Each is told the port that it has on its own node."""
    parallel = {"cores": {"node1": 1, "node2": 1}, "ssh": cluster.ssh}
    server = setup_parallel(parallel, f"{COMMAND} loss", ignore, setup_publisher=True)
    losses = []
    with pytest.raises(WorkerLostError, match=r"worker [01] on node[12] is lost"):
        for loss, pid in training(server, steps=1000):
            losses.append(loss)
            if len(losses) == 4:
                os.kill(pid, signal.SIGKILL)
    assert losses[:4] == [3.0, 3.0, 4.0, 4.0]
    server["master"].close()
    server["publisher"].close()


def test_start_workers_on_a_node(cluster, monkeypatch):
    """AMPSTORE_SSH is for functions that have no argument for it."""
    monkeypatch.setenv("AMPSTORE_SSH", " ".join(cluster.ssh))
    connection = start_workers([0], "node1", f"{COMMAND} silent %s x:1", ignore, "true")
    assert len(processes(str(WORKER), "silent")) == 1
    connection.logout()
    assert not processes(str(WORKER))
    with pytest.raises(LaunchError, match="(?s)no workers on node2: .*no such queue"):
        start_workers([0], "node2", f"{COMMAND} silent %s x:1", ignore, "echo no such queue >&2; false")


def test_the_names_are_public():
    """As in Amp, one import is enough."""
    assert ampstore.setup_parallel is setup_parallel
