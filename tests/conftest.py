"""Fixtures that several test modules share."""

import contextlib
import gc
import json
import os
import shutil
import signal
import sqlite3
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings
from postgres import connect, new_schema
from postgres import provide as provide_postgres

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("AMPSTORE_CORPUS", ROOT.parent / "shared" / "legacy"))
"""Databases that real Amp wrote, with a manifest of their contents."""


settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_configure():
    """Ctrl-C as in a terminal: a run that a script starts in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Directory with the legacy databases, unpacked once; tests copy what they change."""
    if not CORPUS.is_dir():
        message = f"the legacy corpus is not at {CORPUS}; set AMPSTORE_CORPUS"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    directory = tmp_path_factory.mktemp("corpus")
    with tarfile.open(CORPUS / "databases.tar.gz") as tar:
        tar.extractall(directory, filter="fully_trusted")
    if str(CORPUS) not in sys.path:
        sys.path.append(str(CORPUS))
    return directory / "databases"


@pytest.fixture(scope="session")
def manifest(corpus):
    """True contents of the databases that are not hostile: name -> {"entries": {key: {...}}}."""
    return json.loads((CORPUS / "manifest.json").read_text())["databases"]


@pytest.fixture(scope="session")
def hostile(corpus):
    """What each hostile database must and must not yield."""
    return json.loads((CORPUS / "hostile.json").read_text())


@pytest.fixture
def copy_of(corpus, tmp_path):
    """Function that copies one database of the corpus into this test's directory."""

    def copy(name):
        target = tmp_path / Path(name).name
        shutil.copytree(corpus / name, target, symlinks=True)
        return target

    return copy


@pytest.fixture
def raw():
    """Function that reads rows of a store with plain sqlite3, round ampstore."""

    def rows(path, sql, *parameters):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, parameters).fetchall()

    return rows


_temporary = []
"""Directories that this process made in the directory for temporary files, since the last look."""


def _mkdtemp(*args, make=tempfile.mkdtemp, **more):
    _temporary.append(make(*args, **more))
    return _temporary[-1]


tempfile.mkdtemp = _mkdtemp


@pytest.fixture(autouse=True)
def nothing_leaks():
    """Every test gives back its threads, file descriptors, child processes and temporary directories."""
    gc.collect()
    gc.freeze()  # the second look need not walk what was there before: 40 ms a test instead of 200
    threads, descriptors, children = threading.active_count(), _descriptors(), _children()
    _temporary.clear()
    yield
    gc.collect()
    end = time.monotonic() + 5
    while (threading.active_count() > threads or _ours(descriptors)) and time.monotonic() < end:
        time.sleep(0.01)  # a thread that stood in line behind a process that was just killed ends by itself
    assert threading.active_count() <= threads, threading.enumerate()
    assert not _ours(descriptors)
    assert not _children() - children, _children() - children
    left = [
        path
        for path in _temporary
        if Path(path).name.startswith("ampstore")
        and not Path(path).name.startswith(("ampstore-shim-", "ampstore-pg-"))
        and os.path.lexists(path)
    ]
    assert not left, left


# Of multiprocessing, and servers of the suite itself, which several tests share: they stay until the run ends.
_STAY = ("resource_tracker", "forkserver", "sshd", "postgres")


def _children():
    """Child processes, running or not waited for: pid and command line."""
    try:
        # One call where there is no child, as in nearly all tests; looking through /proc costs some ms.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                command = (entry / "cmdline").read_text().replace("\0", " ")[:300]
                if not any(name in command for name in _STAY):
                    found.add(f"{entry.name}: {command}")
    return found


def _ours(before):
    """Descriptors of stores that were not there before."""
    return {name for name in _descriptors() - before if "sqlite" in name or ".db" in name or "ampdb" in name}


def _descriptors():
    found = set()
    for entry in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        with contextlib.suppress(OSError):
            found.add(f"{entry.name}:{os.readlink(entry)}")
    return found


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server, shared by the tests of this process; see tests/postgres.py."""
    server = provide_postgres()
    yield server
    server.close()


@pytest.fixture
def schema(postgres):
    """Name of a schema of this test alone, dropped afterwards."""
    name = new_schema()
    yield name
    with contextlib.closing(connect(postgres.url(name))) as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
