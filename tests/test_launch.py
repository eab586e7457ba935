"""Sessions: frames whole, connections carried, workers ended with what started them."""

import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from nodes import await_that, processes

from ampstore.errors import LaunchError, ParallelError
from ampstore.launch import LOCAL, Options, Pump, check_host, node, open_sessions
from ampstore.launch import session as session_module
from ampstore.launch.command import commands
from ampstore.launch.node import Frames, Streams, owner, watch


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process and no thread outlives its session."""
    threads, before = threading.active_count(), set(processes())
    yield
    await_that(lambda: threading.active_count() <= threads and not set(processes()) - before, 20)


def programs():
    """Programs of nodes that are running here."""
    return list(processes("import os;exec(b''.join("))


@pytest.fixture
def session():
    """A session on this machine."""
    found = open_sessions({LOCAL: 1}, Options.read({}), Pump())[LOCAL]
    yield found
    found.close(10)
    assert found.over


def python(code):
    return [sys.executable, "-c", code]


# -- sessions --------------------------------------------------------------------------------------


def test_a_worker_prints_without_flushing(session):
    """It has a terminal, so Python sends every line at once."""
    session.start(3, python("import time; print('ready'); time.sleep(60)"))
    await_that(lambda: session.output(3) == "ready\n")
    assert session.exits == {}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("import sys; sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9), ("pass", 0)],
)
def test_how_a_worker_ended_is_known(session, code, exit_code):
    """Exit code, or signal as a negative number."""
    session.start(0, python(code))
    await_that(lambda: session.exits == {0: exit_code})


def test_a_program_that_is_not_there_ends_at_once(session):
    """As in a shell, with 127 and a sentence."""
    session.start(0, ["/no such/program", "x"])
    await_that(lambda: session.exits == {0: 127})
    assert "/no such/program" in session.last_lines(0)


def test_arguments_environment_and_directory_arrive_as_they_are(session, tmp_path):
    """No shell touches them."""
    words = ["a b", "%s", "$HOME", "'", '"', "ü", ";true"]
    code = "import os, sys; print(sys.argv[1:], os.environ['X Y'], os.getcwd())"
    session.start(0, [*python(code), *words], environment={"X Y": "1 %"}, directory=str(tmp_path))
    await_that(lambda: 0 in session.exits)
    assert session.output(0) == f"{words} 1 % {tmp_path}\n"


def test_what_is_secret_goes_by_stdin(session):
    """It stands neither in the arguments nor in the environment of any process; stdin stays open."""
    code = "import sys; print(len(sys.stdin.readline())); sys.stdin.read(); print('end')"
    session.start(0, python(code), text="the secret of the test\n")
    await_that(lambda: session.output(0) == "23\n")
    found = processes("sys.stdin.readline()")
    assert found
    for pid, line in {**found, **processes()}.items():
        assert "the secret" not in line
        with open(f"/proc/{pid}/environ", "rb") as file:
            assert b"the secret" not in file.read()


def test_a_worker_that_prints_without_end_is_bounded(session):
    """The last bytes are kept; other workers are not held up."""
    session.start(0, python("while True: print('x' * 1000)"))
    session.start(1, python("print('here')"))
    await_that(lambda: session.output(1) == "here\n")
    assert len(session.output(0)) <= session_module.OUTPUT
    session.signal(0, signal.SIGKILL)
    await_that(lambda: session.exits == {0: -9, 1: 0})


def test_what_a_worker_leaves_behind_ends_with_it(session):
    """Programs that it started, unless they made themselves independent."""
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid)"
    session.start(0, python(code))
    await_that(lambda: 0 in session.exits)
    pid = int(session.output(0))
    await_that(lambda: not running(pid))


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


DEAF = "import signal; signal.signal(15, signal.SIG_IGN); signal.signal(1, signal.SIG_IGN); "


@pytest.mark.parametrize("deaf", ["", DEAF])
def test_workers_end_with_their_session(deaf):
    """Also those that do not listen to signals."""
    session = open_sessions({LOCAL: 1}, Options.read({}), Pump())[LOCAL]
    for number in range(3):
        session.start(number, python(f"{deaf}print('ready'); import time; time.sleep(600)"))
    await_that(lambda: all(session.output(number) for number in range(3)))
    pids = processes("print('ready')")
    assert len(pids) == 3
    session.close()
    session.close(10)
    assert session.lost == "it was closed"
    await_that(lambda: not any(running(pid) for pid in pids))
    session.close()
    session.signal(0, signal.SIGTERM)


def test_workers_end_when_the_program_on_the_node_is_killed():
    """The session is lost, and its terminals hang up."""
    session = open_sessions({LOCAL: 1}, Options.read({}), Pump())[LOCAL]
    session.start(0, python("print('ready'); import time; time.sleep(600)"))
    await_that(lambda: session.output(0))
    pids = processes("print('ready')")
    assert len(pids) == 1
    os.kill(*programs(), signal.SIGKILL)
    await_that(lambda: session.lost)
    assert session.lost == "its program ended with exit code -9"
    await_that(lambda: not any(running(pid) for pid in pids))
    with pytest.raises(LaunchError, match="no workers on localhost: its program ended with exit code -9"):
        session.check()


def test_a_node_that_falls_silent_is_lost(monkeypatch):
    """A program that is stopped gives no sign of life."""
    monkeypatch.setattr(session_module, "SILENCE", 1.0)
    session = open_sessions({LOCAL: 1}, Options.read({}), Pump())[LOCAL]
    os.kill(*programs(), signal.SIGSTOP)
    await_that(lambda: session.lost == "it has been silent for 1 s")


def test_a_node_that_talks_nonsense_is_lost(session, monkeypatch):
    """The thread that serves all sessions goes on."""
    session._pump.call(lambda: session._take_all([(node.EXIT, 0, b"no number")]))
    await_that(lambda: session.lost)
    assert "does not send" in session.lost


def test_a_program_of_the_user_in_place_of_ssh_is_asked_for_the_node(tmp_path):
    """The option `ssh`: a command line, or a list; the last word is for the shell of the node."""
    fake = tmp_path / "my ssh"
    fake.write_text('#!/bin/sh\nfor last; do :; done\necho noise\nexec sh -c "$last"\n')
    fake.chmod(0o755)
    options = Options.read({"ssh": [str(fake), "-F", "x"]})
    session = open_sessions({"node7": 1}, options, Pump())["node7"]
    session.start(0, python("print('there')"))
    await_that(lambda: session.output(0) == "there\n")
    session.close(10)


# -- commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "", "a b", "a;b", "a\nb", "$(x)", None, 5, "a/b", "ü"])
def test_what_is_no_host_is_refused(host):
    """It could be an option for ssh, or a command for a shell."""
    with pytest.raises(ParallelError, match="no name of a host"):
        check_host(host)


@pytest.mark.parametrize("host", ["node1", "user@node1.cluster.org", "10.0.0.7", "[fe80::1]", "my_alias"])
def test_hosts(host):
    """Whatever the user's ssh may know."""
    assert check_host(host) == host


def test_ssh_asks_nothing_and_checks_hosts():
    """The user's own ssh and config; no option turns off the check of host keys."""
    (command,) = commands("node1", 4, Options.read({"timeout": 7}))
    assert command[0] == "ssh"
    assert command[-3:-1] == ["--", "node1"]
    assert {"BatchMode=yes", "ConnectTimeout=7"} <= set(command)
    assert not any("StrictHostKeyChecking" in word or "KnownHosts" in word for word in command)


def test_options_come_from_parallel_then_from_the_environment(monkeypatch):
    """So functions without an argument for them can be told as well."""
    monkeypatch.setenv("AMPSTORE_SSH", "ssh -F 'my config'")
    monkeypatch.setenv("AMPSTORE_PYTHON", "/opt/python")
    monkeypatch.setenv("AMPSTORE_LAUNCHER", "srun")
    monkeypatch.setenv("AMPSTORE_LAUNCH_TIMEOUT", "5")
    assert Options.read({}) == (None, "/opt/python", ("ssh", "-F", "my config"), "srun", 5.0)
    given = {"ssh": "rsh", "python": "p", "launcher": "ssh", "timeout": 9, "envcommand": "x"}
    assert Options.read(given) == ("x", "p", ("rsh",), "ssh", 9.0)


@pytest.mark.parametrize(
    "given", [{"ssh": ""}, {"ssh": []}, {"ssh": 5}, {"ssh": "'"}, {"timeout": -1}, {"timeout": "x"}, {"launcher": "x"}]
)
def test_options_that_make_no_sense_are_refused(given):
    """With the argument in the error."""
    with pytest.raises(ParallelError):
        Options.read(given)


# -- frames and streams ----------------------------------------------------------------------------


def pipe_of_frames(marker=b""):
    reader, writer = os.pipe()
    return Frames(reader, reader, marker), writer


@pytest.mark.parametrize("seed", range(20))
def test_frames_arrive_whole_after_any_noise(seed):
    """However the bytes are cut, and whatever stands before the marker."""
    rng = random.Random(seed)
    frames, writer = pipe_of_frames(b"<marker>")
    sent = [(rng.randrange(256), rng.randrange(1 << 32), rng.randbytes(rng.randrange(3000))) for _ in range(20)]
    noise = rng.randbytes(500).replace(b"<", b"") + b"<mark<marker"
    stream = noise + b"<marker>" + b"".join(node.HEAD.pack(k, n, len(c)) + c for k, n, c in sent)
    found = []
    while stream:
        cut = rng.randrange(1, 700)
        os.write(writer, stream[:cut])
        stream = stream[cut:]
        found += frames.receive()
    assert found == sent
    assert bytes(frames.noise) == noise
    assert frames.receive() == []
    assert not frames.ended
    os.close(writer)
    frames.receive()
    assert frames.ended
    os.close(frames.reader)


def test_a_frame_that_claims_to_be_huge_ends_the_session():
    """Nothing is allocated for it."""
    frames, writer = pipe_of_frames()
    os.write(writer, node.HEAD.pack(1, 0, node.LARGEST + 1) + b"x" * 100)
    assert frames.receive() == []
    assert frames.ended
    os.close(writer)
    os.close(frames.reader)


class Carried:
    """A connection that travels between two ends in this process."""

    def __init__(self, connections):
        self.selector = selectors.DefaultSelector()
        down, up = os.pipe(), os.pipe()
        self.ends = Frames(down[0], up[1]), Frames(up[0], down[1])
        self.dropped = []
        self.streams = [Streams(frames, self.selector, self.dropped.append) for frames in self.ends]
        self.sockets = []
        for number in range(connections):
            pairs = [socket.socketpair() for _ in self.ends]
            for streams, (_, inner) in zip(self.streams, pairs, strict=True):
                streams.add(number, inner, number)
            self.sockets.append([outer for outer, _ in pairs])
        self.most = 0

    def turn(self):
        for frames, streams in zip(self.ends, self.streams, strict=True):
            watch(self.selector, frames.reader, selectors.EVENT_READ, lambda _, f=frames, s=streams: take(f, s))
            events = selectors.EVENT_WRITE if frames.outgoing else 0
            watch(self.selector, frames.writer, events, lambda _, f=frames: f.flush())
            self.most = max(self.most, len(frames.outgoing))
        for key, events in self.selector.select(0.05):
            if self.selector.get_map().get(key.fd) is key:
                key.data(events)

    def close(self):
        for streams in self.streams:
            streams.close()
        for frames in self.ends:
            os.close(frames.reader)
            os.close(frames.writer)
        for end in [end for pair in self.sockets for end in pair]:
            end.close()
        self.selector.close()


def take(frames, streams):
    for kind, number, content in frames.receive():
        if kind == node.DATA:
            streams.data(number, content)
        elif kind == node.CREDIT:
            streams.grant(number, int(content))
        else:
            streams.end(number)


def test_connections_are_carried_whole_and_one_that_nobody_reads_holds_up_no_other():
    """20 MB each, both ways at the same time; memory stays within the window."""
    carried = Carried(3)
    data = random.Random(1).randbytes(20 << 20)
    found = {}

    def talk(end, index):
        writer = threading.Thread(target=end.sendall, args=(data,))
        writer.start()
        got = bytearray()
        while len(got) < len(data):
            got += end.recv(1 << 16)
        writer.join()
        found[index] = bytes(got)

    stuck = threading.Thread(target=lambda: suppressed(carried.sockets[0][0].sendall, data))
    stuck.start()
    talkers = [
        threading.Thread(target=talk, args=(end, (number, side)))
        for number in (1, 2)
        for side, end in enumerate(carried.sockets[number])
    ]
    for thread in talkers:
        thread.start()
    deadline = time.monotonic() + 60
    while len(found) < 4 and time.monotonic() < deadline:
        carried.turn()
    assert all(value == data for value in found.values())
    assert len(found) == 4
    assert carried.most < 4 * node.WINDOW
    assert stuck.is_alive()
    carried.sockets[0][0].shutdown(socket.SHUT_RDWR)
    stuck.join()
    for thread in talkers:
        thread.join()
    carried.close()


def suppressed(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        pass


def test_the_end_of_a_connection_arrives_after_its_last_byte():
    """And is told at the end where it happened."""
    carried = Carried(2)
    here, there = carried.sockets[1]
    here.sendall(b"last words")
    here.close()
    there.settimeout(0.01)
    got, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline:
        carried.turn()
        try:
            piece = there.recv(100)
        except TimeoutError:
            continue
        if not piece:
            break
        got += piece
    assert got == b"last words"
    assert carried.dropped == [1]
    carried.close()


def test_the_kernel_tells_whose_connection_it_is():
    """A process that was started here, or one below it, or nobody's."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    connect = f"import socket, sys; s = socket.create_connection(('127.0.0.1', {port})); sys.stdin.read()"
    below = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {connect!r}])"
    for code, expected in ((connect, 5), (below, 5)):
        process = subprocess.Popen(python(code), stdin=subprocess.PIPE, start_new_session=True)
        end, peer = listener.accept()
        assert owner(peer[1], port, {5: process.pid, 6: os.getpid()}) == expected
        assert owner(peer[1], port, {6: 1}) is None
        assert owner(peer[1], port, {}) is None
        end.close()
        process.stdin.close()
        process.wait(20)
    listener.close()


def test_the_program_for_nodes_needs_nothing_but_an_old_python():
    """Its text is sent to whatever Python there is: standard library, syntax of 3.8."""
    import ast

    with open(node.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read(), feature_version=(3, 8))
    imported = {alias.name for found in ast.walk(tree) if isinstance(found, ast.Import) for alias in found.names}
    imported |= {found.module for found in ast.walk(tree) if isinstance(found, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)
