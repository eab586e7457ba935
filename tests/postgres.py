"""A PostgreSQL server for tests: started when the first test asks, one for each process of pytest.

AMPSTORE_TEST_POSTGRES_URL names a server to use instead; tests that stop or kill it are skipped then.
"""

import contextlib
import ctypes
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

USER, PASSWORD = "amp", "s3cret/pass:word@%"
"""The password has what a URL must escape."""

_SETTINGS = {
    "fsync": "off",  # nothing here takes the power away; a process that is killed loses nothing by it
    "max_connections": "100",
    "shared_buffers": "32MB",
    "autovacuum_naptime": "1s",
    "password_encryption": "scram-sha-256",
}


def programs():
    """Directory with initdb and postgres; None if there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda name: int(name.split("/")[4]))
    return Path(found[-1]).parent if found else None


def _owner():
    """Arguments of subprocess for an ordinary user: the server refuses to run as root."""
    if os.geteuid():
        return None, {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found, {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise RuntimeError("there is neither a user postgres nor nobody")


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


class Server:
    """A server of our own in a temporary directory.

    Reached by a socket in `directory` without, and by 127.0.0.1 with a password.
    """

    ours = True

    def __init__(self):
        self.programs = programs()
        self.directory = Path(tempfile.mkdtemp(prefix="ampstore-pg-", dir="/tmp"))
        owner, self.as_owner = _owner()
        if owner:
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        self.directory.chmod(0o755)
        self.data = self.directory / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None
        self._make()
        self.start()

    def _make(self):
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [self.programs / "initdb", "-D", self.data, "-U", USER, "--pwfile", secret, "--no-sync"]
        command += ["-E", "UTF8", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self.as_owner)
        secret.unlink()

    def start(self):
        """Start it, and wait until it answers."""
        settings = {**_SETTINGS, "port": self.port, "listen_addresses": "127.0.0.1"}
        settings["unix_socket_directories"] = self.directory
        command = [self.programs / "postgres", "-D", self.data]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                preexec_fn=_die_with_parent,
                **self.as_owner,
            )
        self.wait()

    def wait(self):
        """Until it takes connections."""
        import psycopg

        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(host=str(self.directory), port=self.port, user=USER, dbname="postgres").close()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self, how=signal.SIGINT):
        """End it: SIGINT breaks the connections off, SIGQUIT skips the checkpoint."""
        self.process.send_signal(how)
        self.process.wait(60)

    def kill(self):
        """SIGKILL for the server and all of its processes."""
        pids = [self.process.pid, *self._children()]
        self.process.send_signal(signal.SIGSTOP)  # it must not bring anything up again meanwhile
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)

    @contextlib.contextmanager
    def frozen(self):
        """SIGSTOP for the server and all of its processes, SIGCONT at the end."""
        os.kill(self.process.pid, signal.SIGSTOP)  # first: it must not start others meanwhile
        pids = [*self._children(), self.process.pid]
        try:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _children(self):
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def url(self, schema, *, tcp=False, password=None, **options):
        """URL of a store; by TCP it needs a password."""
        secret = f":{quote(password, safe='')}" if password else ""
        query = {"schema": schema, **options}
        if not tcp:
            query |= {"host": self.directory, "port": self.port}
        place = f"127.0.0.1:{self.port}" if tcp else ""
        return f"postgresql+psycopg://{USER}{secret}@{place}/postgres?" + "&".join(
            f"{name}={quote(str(value), safe='/')}" for name, value in query.items()
        )

    def close(self):
        """Stop it and remove everything."""
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)


class Given:
    """A server that somebody else runs."""

    ours = False

    def __init__(self, url):
        self.given = url

    def url(self, schema, **options):
        given = {"schema": schema, **options}
        query = "&".join(f"{name}={quote(str(value), safe='/')}" for name, value in given.items())
        return f"{self.given}{'&' if '?' in self.given else '?'}{query}"

    def close(self):
        """It is not ours."""


def provide():
    """A server, or a reason why there is none."""
    pytest.importorskip("psycopg") if not os.environ.get("CI") else __import__("psycopg")
    if url := os.environ.get("AMPSTORE_TEST_POSTGRES_URL"):
        return Given(url)
    if programs() is None:
        message = "no PostgreSQL server: install the package postgresql, or set AMPSTORE_TEST_POSTGRES_URL"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return Server()


def connect(url):
    """A connection of psycopg to the schema of a URL, round ampstore."""
    import psycopg

    base, _, query = url.replace("+psycopg", "").partition("?")
    options = dict(pair.split("=", 1) for pair in query.split("&"))
    schema = unquote(options.pop("schema")).replace('"', '""')
    for ours in ("sync",):
        options.pop(ours, None)
    query = "&".join(f"{name}={value}" for name, value in options.items())
    connection = psycopg.connect(f"{base}?{query}", autocommit=True)
    connection.execute("SELECT set_config('search_path', %s, false)", (f'"{schema}"',))
    return connection


def new_schema():
    """A name that nobody else has."""
    return f"test_{uuid.uuid4().hex[:12]}"
