"""What users install: wheel and sdist, with migrations and types, in an empty environment."""

import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest
from conftest import ROOT

CORE = {"alembic", "ase", "click", "filelock", "numpy", "rich", "sqlalchemy", "zstandard"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist of this tree."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "-w", str(directory), str(ROOT)]
    subprocess.run(command, check=True)
    return next(directory.glob("*.whl"))


def test_core_dependencies_are_the_eight():
    """Everything else is an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name.split(">")[0] for name in project["dependencies"]} == CORE
    assert project["requires-python"] == ">=3.11"


def test_wheel_ships_migrations_types_and_licence(built):
    """migrations/ of the checkout is ampstore/migrations in the wheel."""
    names = set(zipfile.ZipFile(built).namelist())
    assert {"ampstore/py.typed", "ampstore/migrations/env.py", "ampstore/migrations/versions/0001_entries.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "migrations/", "benchmarks/")) for name in names)


def test_wheel_works_where_there_is_no_checkout(built, tmp_path):
    """Creating a store finds the migrations inside the package."""
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--target", str(site), str(built)], check=True
    )
    program = f"""
import sys
sys.path[:] = [{str(site)!r}] + [path for path in sys.path if path not in ("", {str(ROOT)!r})]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import ampstore, ampstore.schema
assert ampstore.__file__.startswith({str(site)!r}), ampstore.__file__
with ampstore.open({str(tmp_path / "a.db")!r}) as shelf:
    shelf["a"] = 1
print(ampstore.schema.migrations())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(site / "ampstore" / "migrations"), done.stderr


def test_sdist_builds_the_same_package(tmp_path):
    """By the build backend, then read as a tar."""
    program = f"from hatchling.build import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    hatchling = pytest.importorskip("hatchling.build", reason="hatchling is only in the build environment")
    assert hatchling
    name = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()[
        -1
    ]
    names = {member.split("/", 1)[-1] for member in tarfile.open(tmp_path / name).getnames()}
    assert {
        "migrations/env.py",
        "ampstore/store/store.py",
        "tests/test_store.py",
        "README.md",
        "LICENSE",
        "Makefile",
    } <= names


def test_the_command_is_installed(built):
    """The entry point of the wheel."""
    metadata = zipfile.ZipFile(built)
    points = next(name for name in metadata.namelist() if name.endswith("entry_points.txt"))
    assert "ampstore = ampstore.__main__:main" in metadata.read(points).decode()


def test_makefile_builds_its_environment_with_the_standard_library():
    """`make demo` and `make test` need Python, git and make, nothing else."""
    assert venv
    makefile = (ROOT / "Makefile").read_text()
    assert "-m venv" in makefile
    for command in ("make demo", "make test"):
        assert command in (ROOT / "README.md").read_text()
