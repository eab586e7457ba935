"""Work on other hosts, through a real sshd: results at once, what is lost given to others, nothing left behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nodes import Cluster, await_that, free_port, need_sshd, processes
from test_parallel import List, deadly, jobs, pid_of_worker, returns_a_lock, slow_square, square, unlucky

from ampstore.errors import CalculatorError, LaunchError
from ampstore.parallel import read_plan, remote, run

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes, and some that are not what they should be."""
    need_sshd()
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        banner = found.directory / "banner"
        banner.write_text("Welcome to the cluster!\n" * 40)
        found.add("node1")
        found.add("node2")
        greet = 'echo no tty; yes greetings | head -2000; echo more >&2; sleep 1; exec sh -c "$SSH_ORIGINAL_COMMAND"'
        found.add("greeting", f"Banner {banner}\nForceCommand {greet}")
        found.alias("refusing", free_port())
        found.alias("impostor", found.ports["node1"], key="other_key")
        yield found
    finally:
        found.close()


@pytest.fixture
def mute(cluster):
    """A host whose port accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as end:
        cluster.alias("mute", end.getsockname()[1])
        yield "mute"


@pytest.fixture(autouse=True)
def nothing_is_left(cluster):
    """No test leaves a process behind, here or on a node."""
    yield
    await_that(lambda: not ours(cluster), 20)


OURS = ("ampstore.worker", "ampstore.parallel.worker", "import os;exec(b''.join(", "-F", "sshd: ")


def ours(cluster):
    """Processes that belong to a run: sessions, node programs, agents and their workers."""
    return {
        pid: line
        for pid, line in processes().items()
        if pid not in [server.pid for server in cluster.servers.values()] and any(word in line for word in OURS)
    }


def agents():
    return list(processes("-m", "ampstore.worker"))


def plan_for(cluster, hosts, **more):
    return read_plan({"cores": hosts, "ssh": cluster.ssh, "timeout": 20, **more})


def on_nodes(cluster, function, work, hosts=None, **more):
    run(function, work, plan_for(cluster, hosts or {"node1": 2, "node2": 2}, **more))
    return work


def test_two_nodes_share_the_work(cluster):
    """Every result arrives once; all processes of both nodes work."""
    work = on_nodes(cluster, pid_of_worker, List(jobs(200)))
    assert work.results.keys() == {f"k{n}" for n in range(200)}
    assert len(set(work.results.values())) == 4
    assert not work.failures


def test_many_small_jobs_do_not_wait_for_each_other(cluster):
    """A host has the next jobs before it has done the last; one way there and back for each would take minutes."""
    work = on_nodes(cluster, square, List(jobs(6000)))
    assert len(work.results) == 6000


def test_failures_and_poison_are_those_of_their_image(cluster):
    """What an image raises, what cannot travel, and what kills its worker; all others are done."""
    work = on_nodes(cluster, unlucky, List(jobs(30)))
    assert work.failures["k13"].cause == "ValueError: 13 is unlucky"
    assert "raise ValueError" in work.failures["k13"].traceback
    assert len(work.results) == 29
    work = on_nodes(cluster, returns_a_lock, List(jobs(10)))
    assert "_thread.lock" in work.failures["k2"].cause
    assert len(work.results) == 9
    work = List([("a", 1), ("b", threading.Lock()), ("c", 2)])
    on_nodes(cluster, square, work)
    assert work.results == {"a": 1, "c": 4}
    assert "pickle" in work.failures["b"].cause
    work = on_nodes(cluster, deadly, List(jobs(40)))
    assert set(work.failures) == {"k5", "k25"}
    assert "2 workers died at it" in work.failures["k5"].cause
    assert len(work.results) == 38


class Thing:
    """A result of a class that no rule admits."""


def make_thing(image, key):
    return Thing()


def test_results_of_unknown_classes_are_refused_with_the_way_out(cluster):
    """What comes from another machine is read by the safe rule only."""
    work = on_nodes(cluster, make_thing, List(jobs(2)), {"node1": 1})
    assert "test_remote" in work.failures["k0"].cause
    assert not work.results


class Homesick:
    """A calculator that can be loaded in the process that made it only."""

    def __init__(self):
        self.home = os.getpid()

    def __call__(self, image, key):
        return image

    def __setstate__(self, state):
        if os.getpid() != state["home"]:
            raise ValueError("I travel badly")


def test_a_calculator_that_cannot_be_loaded_on_a_node_is_refused(cluster):
    """The host and the traceback are in the error; nothing hangs."""
    with pytest.raises(CalculatorError, match="node1.*I travel badly"):
        on_nodes(cluster, Homesick(), List(jobs(5)), {"node1": 1})


VICTIMS = {
    "worker": ["ampstore.parallel.worker"],
    "agent": ["-m", "ampstore.worker"],
    "node program": ["-c", "import os;exec(b''.join("],
    "ssh": ["ssh", "-F"],
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_what_is_killed_is_replaced(cluster, victim):
    """Whatever dies by SIGKILL in the middle, all work is done, and nobody is left behind."""
    work, killed = List(jobs(400)), []

    def kill():
        if len(work.results) in (40, 150):
            found = processes(*VICTIMS[victim])
            killed.append(min(pid for pid, line in found.items() if ("-F" in line) == (victim == "ssh")))
            os.kill(killed[-1], signal.SIGKILL)

    work.on_result = kill
    on_nodes(cluster, slow_square, work)
    assert len(set(killed)) == 2
    assert work.results == {f"k{n}": n**2 for n in range(400)}
    assert not work.failures


def test_a_host_that_hangs_is_noticed(cluster, monkeypatch):
    """An agent that is stopped gives no sign of life; others do its work."""
    monkeypatch.setattr(remote, "SILENCE", 4.0)
    work, stopped = List(jobs(300)), []

    def stop():
        if len(work.results) == 40:
            stopped.append(min(agents()))
            os.kill(stopped[-1], signal.SIGSTOP)

    work.on_result = stop
    on_nodes(cluster, slow_square, work)
    assert stopped
    assert work.results == {f"k{n}": n**2 for n in range(300)}


def test_a_job_with_which_hosts_are_lost_again_and_again_is_reported(cluster):
    """It is not tried for ever."""
    work = on_nodes(cluster, kills_agents, List(jobs(3)), {"node1": 1, "node2": 1})
    assert "hosts were lost with it" in work.failures["k1"].cause
    assert work.results == {"k0": 0, "k2": 2}


def kills_agents(image, key):
    if key == "k1":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return image


def test_ctrl_c_ends_all_and_keeps_what_has_arrived(cluster):
    """The error goes up; results that are there were handed in; the fixture sees that nothing is left."""
    work = List(jobs(400))

    def interrupt():
        if len(work.results) == 30:
            raise KeyboardInterrupt

    work.on_result = interrupt
    with pytest.raises(KeyboardInterrupt):
        on_nodes(cluster, slow_square, work)
    assert len(work.results) >= 30
    assert not work.failures


def test_a_master_that_was_busy_for_long_does_not_take_hosts_for_lost(cluster, monkeypatch, caplog):
    """Signs of life that came while a result was stored count."""
    monkeypatch.setattr(remote, "SILENCE", 3.0)
    work = List(jobs(40))
    work.on_result = lambda: time.sleep(4 if len(work.results) == 5 else 0)
    on_nodes(cluster, square, work)
    assert len(work.results) == 40
    assert "is lost" not in caplog.text


def sleeps_on_a_node(image, key):
    Path(image, key).touch()
    time.sleep(60)


MASTER = """
from ampstore.parallel import read_plan, run
from test_parallel import List
from test_remote import sleeps_on_a_node
work = List([(f"k{{n}}", {marks!r}) for n in range(8)])
run(sleeps_on_a_node, work, read_plan({{"cores": {{"node1": 2, "node2": 2}}, "ssh": {ssh!r}}}))
"""


def test_nothing_outlives_a_master_that_is_killed(cluster, tmp_path):
    """A master that dies by kill -9 ends calculations, agents and sessions on both nodes."""
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "script.py"
    script.write_text(MASTER.format(marks=str(marks), ssh=cluster.ssh))
    master = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(TESTS)})
    try:
        await_that(lambda: len(list(marks.iterdir())) == 4)
        assert len(agents()) == 2
        assert len(processes("ampstore.parallel.worker")) == 4
        assert ours(cluster)
    finally:
        master.kill()
        master.wait()
    await_that(lambda: not ours(cluster) and not agents() and not processes("ampstore.parallel.worker"), 20)


def test_hosts_that_cannot_be_used_are_left_out(cluster):
    """The others do the work."""
    work = on_nodes(cluster, square, List(jobs(50)), {"refusing": 2, "node1": 2})
    assert len(work.results) == 50


@pytest.mark.parametrize(
    ("host", "more", "reason"),
    [
        ("refusing", {}, "Connection refused"),
        ("impostor", {}, "Host key verification failed|HOST IDENTIFICATION HAS CHANGED"),
        ("node1", {"python": "/no/such/python"}, "is there a Python at /no/such/python"),
        ("node1", {"python": "/bin/false"}, "ended with exit code 1"),
        ("node1", {"envcommand": "echo no such module >&2; exit 9"}, "exit code 9.*no such module"),
        ("node1", {"envcommand": "if then ("}, "[Ss]yntax error"),
        ("node1", {"ssh": "/no/such/ssh"}, "/no/such/ssh cannot be run"),
        ("node1", {"ssh": "/bin/cat"}, "ended with exit code|did not answer"),
        ("no-such-host.invalid", {}, "resolve|known"),
    ],
)
def test_why_a_host_cannot_be_used_is_said(cluster, host, more, reason):
    """The error has the host, what happened, and the last lines of ssh or the node."""
    work = List(jobs(3))
    with pytest.raises(LaunchError, match=f"(?s)no workers on {host}: .*({reason})") as caught:
        on_nodes(cluster, square, work, {host: 1}, **more)
    assert caught.value.host == host
    assert len(work.pending) == 3


def test_a_host_that_accepts_and_never_answers_is_given_up_in_time(cluster, mute):
    """It is said how long it was waited."""
    start = time.monotonic()
    with pytest.raises(LaunchError, match="no workers on mute: "):
        on_nodes(cluster, square, List(jobs(3)), {mute: 1}, timeout=2)
    assert time.monotonic() - start < 30


def test_banners_greetings_and_slow_logins_do_no_harm(cluster):
    """2,000 lines on stdout before anything else, a banner, a second of sleep."""
    assert len(on_nodes(cluster, square, List(jobs(20)), {"greeting": 2}).results) == 20


def test_a_path_with_blanks_and_percent_signs_is_no_trouble(cluster, tmp_path):
    """Neither in the interpreter nor in the commands before it."""
    python = tmp_path / "my %s 100%python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    work = on_nodes(cluster, square, List(jobs(5)), {"node1": 1}, python=str(python), envcommand="X='a b %d'; export X")
    assert len(work.results) == 5


def variable(image, key):
    return os.environ.get("AMPSTORE_TEST_VARIABLE")


def test_the_environment_is_prepared_by_the_users_command(cluster):
    """`envcommand` runs in a login shell, before the worker."""
    more = {"envcommand": "export AMPSTORE_TEST_VARIABLE='set on the node'"}
    assert on_nodes(cluster, variable, List(jobs(1)), {"node1": 1}, **more).results == {"k0": "set on the node"}


SRUN = """#!{python}
import os, sys
words = [word for word in sys.argv[1:] if word.startswith("--")]
with open({log!r}, "a") as file:
    print(*words, file=file)
command = sys.argv[1 + len(words):]
if "--nodelist=closed" in words:
    sys.exit("srun: error: Unable to create step")
os.execvp(command[0], command)
"""


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """A job of SLURM, and an srun that starts its step here."""
    log = tmp_path / "srun.log"
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "srun").write_text(SRUN.format(python=sys.executable, log=str(log)))
    (directory / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return log


def test_srun_is_used_where_ssh_is_closed(cluster, srun):
    """Inside a SLURM job a host that ssh cannot reach is tried by srun."""
    assert len(on_nodes(cluster, square, List(jobs(30)), {"refusing": 3}).results) == 30
    assert "--nodelist=refusing" in srun.read_text()
    assert "--cpus-per-task=3" in srun.read_text()


def test_srun_alone_where_it_is_asked_for(cluster, srun):
    """No ssh is tried; srun's own error is in ours."""
    assert len(on_nodes(cluster, square, List(jobs(30)), {"node1": 2, "n2": 2}, launcher="srun").results) == 30
    assert len(srun.read_text().splitlines()) == 2
    with pytest.raises(LaunchError, match="(?s)srun ended with exit code 1.*Unable to create step"):
        on_nodes(cluster, square, List(jobs(3)), {"closed": 1}, launcher="srun")


def triple(image, key):
    return [3.0 * image, key]


def test_data_calculates_on_nodes(cluster, tmp_path, monkeypatch):
    """Each result is stored by the master alone; a second run finds all of them."""
    from ampstore import Data

    data = Data(tmp_path / "results", calculator=triple)
    images = dict(jobs(60))
    log = []
    parallel = {"cores": {"node1": 2, "node2": 2}, "envcommand": None, "ssh": cluster.ssh}
    assert data.calculate_items(images, parallel, log=lambda line: log.append(line)) == []
    assert data["k7"] == [21.0, "k7"]
    assert " Calculated 60 new images." in log
    monkeypatch.setenv("AMPSTORE_SSH", "/no/such/ssh")
    assert data.calculate_items(images, {"cores": {"node1": 2, "node2": 2}, "envcommand": None}) == []
    data.close()


def listening(host="127.0.0.1"):
    """Ports of this machine on which somebody listens, and on what addresses."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A":
                    address, port = words[1].split(":")
                    found.add((address, int(port, 16)))
    return found


def test_an_intruder_on_the_port_gets_nothing_and_changes_nothing(cluster, caplog):
    """The ports are of the loopback interface; whoever is no worker is hung up on before he says anything."""
    before = listening()
    work, heard, tried = List(jobs(300)), [], []

    def intrude():
        if len(work.results) not in (50, 100, 150):
            return
        new = {entry for entry in listening() - before if entry[1] not in cluster.ports.values()}
        assert {address for address, _ in new} == {"0100007F"}
        for _, port in new:
            try:
                end = socket.create_connection(("127.0.0.1", port), 5)
            except ConnectionRefusedError:
                continue  # of another program, which has closed it by now; there are six of ours, see below
            tried.append(port)
            with end:
                end.settimeout(5)
                with contextlib.suppress(ConnectionError):
                    end.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + b"\0" * 48)
                with contextlib.suppress(ConnectionError):
                    heard.append(end.recv(1000))

    work.on_result = intrude
    on_nodes(cluster, slow_square, work)
    assert work.results == {f"k{n}": n**2 for n in range(300)}
    assert len(tried) == 6
    assert not any(heard)
    assert caplog.text.count("that is no worker") == 2  # one line for each node
