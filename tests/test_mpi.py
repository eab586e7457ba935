"""MPI as the place to work: mpiexec for real."""

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

BESIDE_PYTHON = os.path.dirname(sys.executable)  # where the wheel of MPICH puts it
MPIEXEC = shutil.which("mpiexec", path=f"{BESIDE_PYTHON}{os.pathsep}{os.environ.get('PATH', '')}")
MISSING = MPIEXEC is None or importlib.util.find_spec("mpi4py") is None

pytestmark = pytest.mark.skipif(MISSING and not os.environ.get("CI"), reason="there is no mpiexec, or no mpi4py")

ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OPENBLAS_NUM_THREADS": "1",
}

PROGRAM = """
import os, sys
from mpi4py.futures import MPIPoolExecutor
from ampstore import Data, FileDatabase
from ampstore.errors import CalculationError


class Squares:
    def calculate(self, image, key):
        if image == 13:
            raise ValueError("13 is unlucky")
        if image == 150 and os.environ.get("DIE"):
            os._exit(9)
        return [("Cu", [float(image) ** 2, float(os.getpid())])]


if __name__ == "__main__":
    images = {f"k{n}": n for n in range(300)}
    data = Data("squares", calculator=Squares())
    with MPIPoolExecutor() as executor:
        try:
            data.calculate_items(images, {"executor": executor})
        except CalculationError as err:
            print(len(err.failures), err.failures[0][0], err.failures[0][1])
    data.close()
    with FileDatabase("squares") as found:
        values = dict(found.items())
    pids = {row[0][1][1] for row in values.values()}
    print(len(values), values["k14"][0][1][0], len(pids), float(os.getpid()) in pids)
"""


def run(path, *, processes=3, **environment):
    program = path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    return subprocess.run(
        [MPIEXEC, "-n", str(processes), sys.executable, "-m", "mpi4py.futures", program],
        cwd=path,
        env=os.environ | ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def stored(path):
    from ampstore import FileDatabase

    with FileDatabase(path / "squares") as database:
        return set(database.keys())


def test_an_mpi_pool_does_the_work(tmp_path):
    """Two workers share it, the master does none; the failure of one image is only its own."""
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    failure, result = done.stdout.splitlines()
    assert failure == "1 k13 ValueError: 13 is unlucky"
    assert result == "299 196.0 2 False"


def test_what_was_finished_before_a_process_died_is_stored(tmp_path):
    """MPI ends the whole program then; the next run does only the rest."""
    assert run(tmp_path, DIE="1").returncode != 0
    before = stored(tmp_path)
    assert 0 < len(before) < 299
    assert "k150" not in before
    assert run(tmp_path).returncode == 0
    assert len(stored(tmp_path)) == 299
