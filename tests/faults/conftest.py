"""The fixtures of the fault suite."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from faults.record import RECORDS, Fault, new_seed

PASSED = pytest.StashKey[bool]()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long version of every fault")


def pytest_collection_modifyitems(config, items):
    """Long runs have hours, not minutes."""
    if config.getoption("--long", default=False):
        for item in items:
            if item.get_closest_marker("fault"):
                item.add_marker(pytest.mark.timeout(3 * 3600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Remember whether the body of the test passed: a record must not say 0, 0, 0 after a failure."""
    report = yield
    if call.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def fault(request):
    """Record of this test's injections, from its marker `fault(number, what)`."""
    number, what = request.node.get_closest_marker("fault").args
    long = request.config.getoption("--long", default=False)
    record = Fault(number, what, request.node.nodeid, long, new_seed())
    print(f"{number}: AMPSTORE_FAULT_SEED={record.seed}")
    yield record
    if not request.node.stash.get(PASSED, False):
        record.wrong("the test itself failed")
    record.write(RECORDS)
    assert record.injections, "nothing was injected"
    assert record.verdict.survived, f"seed {record.seed}: {record.as_dict()}"


@pytest.fixture
def elsewhere():
    """Directory on another file system than the store's, where there is one."""
    memory = Path("/dev/shm")
    directory = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None)
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def player():
    """The process that plays scripted sessions; it imports everything once."""
    from faults.sessions import Sessions

    with Sessions() as playing:
        yield playing


@pytest.fixture
def sessions(player, fault, elsewhere):
    """Scripted sessions, each in a child under the shim; in memory, as only processes die here, no disk does."""
    player.directory, player.log, player.seed = elsewhere / "session", elsewhere / "session.log", fault.seed
    return player
