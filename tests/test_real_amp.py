"""Real Amp, stock and on ampstore: the same numbers, on one core and on two.

`make amp` makes the environments; $AMPSTORE_AMP and $AMPSTORE_AMP_DEBIAN name interpreters elsewhere that have
Amp 1.x or Debian's 0.6.1, and this ampstore.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = ROOT / "tests" / "amp"
TOLERANCE = 1e-10


def interpreter(variable, version):
    """The Python that has this Amp; a reason to skip or fail where there is none."""
    python = Path(os.environ.get(variable) or ROOT / ".amp" / version / "bin" / "python")
    if not python.exists():
        message = f"there is no Amp {version} at {python}; run `make amp` or set {variable}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return python


@pytest.fixture(scope="session")
def amp():
    """Python with Amp 1.x."""
    return interpreter("AMPSTORE_AMP", "1.0.1")


@pytest.fixture(scope="session")
def old_amp():
    """Python with Debian's Amp 0.6.1."""
    return interpreter("AMPSTORE_AMP_DEBIAN", "0.6.1")


def run(python, directory, *words, text=False):
    """What an Amp script prints, read as JSON; `words` are those after `python`."""
    (directory / "tempfiles").mkdir(parents=True, exist_ok=True)  # two workers of Amp race to make it
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, *map(str, words)], cwd=directory, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout if text else json.loads(done.stdout.splitlines()[-1])


ON_AMPSTORE = ("-m", "ampstore.amp")


@pytest.fixture(scope="module")
def trained(amp, tmp_path_factory):
    """A directory in which stock Amp trained on one core, and what it printed."""
    directory = tmp_path_factory.mktemp("stock")
    return directory, run(amp, directory, SCRIPTS / "train.py")


def assert_same_training(ours, stock):
    """Equal keys, fingerprints and random numbers; losses, parameters, energy and forces to 1e-10."""
    for name in ("converged", "keys", "fingerprints", "primes", "random"):
        assert ours[name] == stock[name], name
    assert len(stock["losses"]) > 3
    for name in ("losses", "vector", "energy"):
        assert ours[name] == pytest.approx(stock[name], rel=0, abs=TOLERANCE), name
    for mine, theirs in zip(ours["forces"], stock["forces"], strict=True):
        assert mine == pytest.approx(theirs, rel=0, abs=TOLERANCE)
    assert (ours["module"], stock["module"]) == ("ampstore.database", "amp.utilities")


def processes_in(directory):
    """Number and command line of every process that works in a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(entry / "cwd")) == directory:
                found.append((int(entry.name), (entry / "cmdline").read_bytes().split(b"\0")))
        except OSError:
            continue
    return found


def assert_nothing_runs_in(directory):
    """Workers are gone a moment after their master, at the latest."""
    deadline = time.monotonic() + 10
    while (left := processes_in(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_training_on_one_core_is_that_of_stock_amp(amp, trained, tmp_path):
    """The same script, unchanged: the same fingerprints, losses, network, energy and forces."""
    _, stock = trained
    ours = run(amp, tmp_path, *ON_AMPSTORE, SCRIPTS / "train.py")
    assert_same_training(ours, stock)
    for name in ("neighborlists", "fingerprints", "fingerprint-primes"):
        container = tmp_path / f"small-{name}.ampdb"
        assert (container / "store.sqlite3").is_file()
        assert not list((container / "loose").iterdir())


def test_training_on_two_cores_is_that_of_stock_amp(amp, tmp_path):
    """Images are divided by the same random numbers, so sums round alike; workers run on ampstore or on stock Amp."""
    command = (SCRIPTS / "train.py", "--cores", 2)
    stock = run(amp, tmp_path / "stock", *command)
    ours = run(amp, tmp_path / "ours", *ON_AMPSTORE, *command)
    mixed = run(amp, tmp_path / "mixed", *ON_AMPSTORE, "--stock-workers", *command)
    assert_same_training(ours, stock)
    assert_same_training(mixed, stock)
    assert_nothing_runs_in(tmp_path / "ours")
    assert_nothing_runs_in(tmp_path / "mixed")


def test_a_worker_that_dies_ends_the_training_with_an_error(amp, tmp_path):
    """Amp itself would wait for ever. The other worker is gone, too."""
    command = [amp, *ON_AMPSTORE, SCRIPTS / "train.py", "--cores", "2", "--anneal", "100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as master:
        try:
            log, deadline = tmp_path / "small-log.txt", time.monotonic() + 60
            while not (log.exists() and "1.00e-02" in log.read_text()) and time.monotonic() < deadline:
                time.sleep(0.1)
            workers = [pid for pid, words in processes_in(tmp_path) if b"amp.model" in words]
            assert len(workers) == 2, processes_in(tmp_path)
            os.kill(workers[0], signal.SIGKILL)
            _, error = master.communicate(timeout=60)
        finally:
            master.kill()
    assert master.returncode == 1
    assert "WorkerLostError" in error
    assert_nothing_runs_in(tmp_path)


@pytest.mark.parametrize("cores", [1, 2])
def test_annealing_before_training(amp, cores, tmp_path):
    """`Annealer(calc=calc, images=images)`, then `calc.train`: the script of Amp's documentation."""
    found = run(amp, tmp_path, *ON_AMPSTORE, SCRIPTS / "train.py", "--cores", cores, "--anneal", 8)
    assert found["converged"]
    assert len(found["losses"]) > 8
    assert found["losses"][-1] < found["losses"][0]
    assert_nothing_runs_in(tmp_path)


def test_databases_of_stock_amp_are_adopted_and_given_back(amp, trained, tmp_path):
    """Stock Amp wrote them, ampstore uses and extends them, `ampstore export` makes them stock Amp's again."""
    directory = tmp_path / "run"
    shutil.copytree(trained[0], directory)
    ours = run(amp, directory, *ON_AMPSTORE, SCRIPTS / "train.py", "--images", 6)
    assert "5 of 6 images are there" in (directory / "small-log.txt").read_text()
    run(amp, directory, "-m", "ampstore", "export", "small-fingerprints.ampdb", "back.ampdb", text=True)
    program = (
        "import json; from amp.utilities import FileDatabase as F; d = F('back');"
        "print(json.dumps({k: [[s, list(map(float, n))] for s, n in d[k]] for k in d.keys()}))"
    )
    stock = run(amp, directory, "-c", program)
    assert stock == ours["fingerprints"]
    assert len(stock) == 7  # six to train on, one to predict


def test_dynamics_with_a_trained_network(amp, trained, tmp_path):
    """Every step stores its image; energies and forces are those of stock Amp."""
    for name in ("stock", "ours"):
        (tmp_path / name).mkdir()
        shutil.copy(trained[0] / "small.amp", tmp_path / name)
    stock = run(amp, tmp_path / "stock", SCRIPTS / "simulate.py")
    ours = run(amp, tmp_path / "ours", *ON_AMPSTORE, SCRIPTS / "simulate.py")
    assert ours["energies"] == pytest.approx(stock["energies"], rel=0, abs=TOLERANCE)
    assert ours["forces"] == stock["forces"]
    assert ours["stored"] == stock["stored"]
    assert ours["stored"]["fingerprints"] >= 4
    assert ours["module"] == "ampstore.database"


def test_commands_of_amp_on_ampstore(amp, trained, tmp_path):
    """`amp-compress` packs a database into one file; Amp's reader of training logs understands ours."""
    directory = tmp_path / "run"
    shutil.copytree(trained[0], directory)
    keys = len(list((directory / "small-fingerprints.ampdb" / "loose").iterdir()))
    compress = amp.parent / "amp-compress"
    run(amp, directory, *ON_AMPSTORE, compress, "small-fingerprints.ampdb", text=True)
    assert not list((directory / "small-fingerprints.ampdb" / "loose").iterdir())
    program = "from ampstore import FileDatabase; print(len(FileDatabase('small-fingerprints')))"
    assert run(amp, directory, "-c", program) == keys
    run(amp, tmp_path / "ours", *ON_AMPSTORE, SCRIPTS / "train.py")
    program = (
        "import json; from amp.analysis import read_trainlog;"
        "found = read_trainlog('small-log.txt'); print(json.dumps(found['no_images']))"
    )
    assert run(amp, tmp_path / "ours", "-c", program) == 5


REFERENCES = """
import gc, json, sys, warnings
import amp
from amp.utilities import Data, hash_images                 # a program's own reference, made before
import amp.model.neuralnetwork, amp.regression              # modules of Amp imported before
from ampstore.amp.overlay import NAMES
stock = {name: vars(amp.utilities)[name] for name in NAMES}

import ampstore.amp
replaced = ampstore.amp.install()
again = ampstore.amp.install()
import amp.descriptor.gaussian, amp.descriptor.zernike      # and after
from amp.utilities import Annealer

def modules():
    return [vars(module) for name, module in sys.modules.items() if name.partition(".")[0] in ("amp", "__main__")]

def holding(objects):
    wanted = {id(thing) for thing in objects.values()}
    return sorted((space["__name__"], name) for space in modules() for name in space if id(space[name]) in wanted)

left = holding(stock)
ours = all("ampstore" in f"{thing.__module__}" for thing in (Data, hash_images, Annealer, amp.hash_images))
kept = amp.utilities.check_images.__module__
ampstore.amp.uninstall()
restored = all(vars(amp.utilities)[name] is stock[name] for name in NAMES)
back = Data is stock["Data"] and amp.descriptor.gaussian.Data is stock["Data"] and Annealer is not stock["Annealer"]
print(json.dumps([sorted(replaced), replaced == again, left, ours, kept, restored, back]))
"""


@pytest.mark.parametrize("version", ["amp", "old_amp"])
def test_install_leaves_no_reference_to_amps_own(version, request, tmp_path):
    """In modules imported before and after; Amp's other names stay; uninstall gives everything back."""
    python = request.getfixturevalue(version)
    replaced, again, left, ours, kept, restored, back = run(python, tmp_path, "-c", REFERENCES)
    assert len(replaced) == 19
    assert again
    assert left == []
    assert ours
    assert kept == "amp.utilities"
    assert restored
    assert back


@pytest.mark.parametrize("cores", [1, 2])
def test_descriptors_of_amp_0_6_1(old_amp, cores, tmp_path):
    """Keys of its own generation, the same fingerprints and primes, the same random numbers afterwards."""
    stock = run(old_amp, tmp_path / "stock", SCRIPTS / "describe.py", cores)
    ours = run(old_amp, tmp_path / "ours", *ON_AMPSTORE, SCRIPTS / "describe.py", cores)
    assert (ours.pop("module"), stock.pop("module")) == ("ampstore.database", "amp.utilities")
    assert ours == stock
    assert len(ours["primes"]) == 3
    assert_nothing_runs_in(tmp_path / "ours")


@pytest.mark.parametrize("workers", ["ours", "stock"])
@pytest.mark.parametrize("version", ["amp", "old_amp"])
def test_workers_of_amp_at_our_sockets(version, workers, request, tmp_path):
    """`python -m amp.descriptor.gaussian`, on ampstore or as Amp made it, gets its images and gives its results."""
    python = request.getfixturevalue(version)
    stock = run(python, tmp_path / "stock", SCRIPTS / "describe.py", 1)
    ours = run(python, tmp_path / "ours", SCRIPTS / "workers.py", 2, workers)
    for name in ("keys", "fingerprints", "primes"):
        assert ours[name] == stock[name]
    assert_nothing_runs_in(tmp_path / "ours")
