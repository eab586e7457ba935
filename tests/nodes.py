"""Nodes for tests: an sshd of one's own on a free port of the loopback interface, with keys of its own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
AllowStreamLocalForwarding no
X11Forwarding no
SetEnv {mark}
{more}
"""

CLIENT = """
Host {name}
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {directory}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {directory}/{name}.known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    LogLevel ERROR
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as end:
        return end.getsockname()[1]


def need_sshd():
    if SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        message = "there is no sshd, or no ssh: apt-get install openssh-server openssh-client"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


class Cluster:
    """Some nodes, and the configuration of an ssh that reaches them."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.servers = {}
        self.ports = {}
        self.config = self.directory / "ssh_config"
        self.config.write_text("")
        for name in ("host_key", "user_key", "other_key"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name)]
            subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root wants it

    def add(self, name, more=""):
        """Start the sshd of a node."""
        port = free_port()
        file = self.directory / f"{name}.sshd_config"
        file.write_text(CONFIG.format(port=port, directory=self.directory, mark=MARK, more=more))
        log = (self.directory / f"{name}.log").open("wb")
        with log:
            self.servers[name] = subprocess.Popen([SSHD, "-D", "-e", "-f", str(file)], stderr=log, stdin=-3)
        self.alias(name, port)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            assert time.monotonic() < deadline, (self.directory / f"{name}.log").read_text()
            time.sleep(0.02)

    def alias(self, name, port, key="host_key"):
        """Make a port known as a host."""
        self.ports[name] = port
        public = (self.directory / f"{key}.pub").read_text()
        (self.directory / f"{name}.known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
        with self.config.open("a") as file:
            file.write(CLIENT.format(name=name, port=port, user=getpass.getuser(), directory=self.directory))

    @property
    def ssh(self):
        return ["ssh", "-F", str(self.config)]

    def close(self):
        for server in self.servers.values():
            server.terminate()
            server.wait(10)


MARK = f"AMPSTORE_TEST_RUN={os.getpid()}"
"""In the environment of all processes that tests start here, and of those that sshd starts for them."""

os.environ.update([MARK.split("=")])


def processes(*words):
    """Processes of this run of tests whose command line has all of these words in it: pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours = MARK.encode() in (entry / "environ").read_bytes().split(b"\0")
                if state not in "ZX" and ours and all(word in line for word in words):
                    found[int(entry.name)] = line
    return found


def await_that(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)
