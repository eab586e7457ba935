"""What users may rely on: names, signatures, types, and one version everywhere."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import api
import pytest
from conftest import ROOT

SCRIPT = """
from pathlib import Path
import ampstore
from ampstore import Data, FileDatabase, Store

with ampstore.open(Path("results.db"), "c", allow=["mypackage"]) as shelf:
    shelf["a"] = [1.0, 2.0]
    value: object = shelf["a"]
    names: list[str] = list(shelf)

with Store("results.db") as store:
    store.put_many({"b": 1})
    absent: list[str] = store.missing(["a", "c"])
    entries: int = store.stats().entries
    with store.batch():
        store["c"] = 2

database = FileDatabase("label-fingerprints")
keys: list[str] = database.keys()
try:
    database["x"]
except ampstore.CorruptEntryError as err:
    print(err.key)
"""
WRONG = """
import ampstore
with ampstore.Store("results.db") as store:
    number: int = store["a"]
    store.put_many(3)
    ampstore.open("results.db", flag="x")
"""


def test_the_public_names_and_signatures_are_those_that_were_written_down():
    """A change that is meant: `python tests/api.py --write`, and a line in the changelog."""
    assert api.text() == api.SNAPSHOT.read_text()


@pytest.fixture(scope="module")
def user_environment(tmp_path_factory):
    """Python of an environment into which the package was copied as pip installs it."""
    directory = tmp_path_factory.mktemp("user") / "environment"
    venv.create(directory, with_pip=False)
    site = sysconfig.get_path("purelib", vars={"base": str(directory), "platbase": str(directory)})
    command = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--target", site, str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    return directory / "bin" / "python"


def run_mypy(user_environment, directory, script):
    (directory / "script.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(user_environment), "script.py"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)


def test_a_user_script_is_well_typed(user_environment, tmp_path):
    """`mypy --strict` from outside, with the installed package's own types."""
    done = run_mypy(user_environment, tmp_path, SCRIPT)
    assert "Success" in done.stdout, done.stdout


def test_a_wrong_user_script_is_found_out(user_environment, tmp_path):
    """The types are really read: each of the three mistakes is an error."""
    done = run_mypy(user_environment, tmp_path, WRONG)
    assert re.findall(r"script.py:(\d+): error", done.stdout) == ["4", "5", "6"], done.stdout


def test_one_version_everywhere():
    """pyproject.toml, the citation and the recipe."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'set version = "{version}"' in (ROOT / "recipe" / "meta.yaml").read_text()


def test_the_recipe_asks_for_the_dependencies_of_the_project():
    """One list, written twice."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run = (ROOT / "recipe" / "meta.yaml").read_text().split("  run:")[1].split("\n\n")[0]
    asked = {line.strip("- ").replace(" ", "") for line in run.splitlines() if line.strip()}
    assert asked == {f"python{project['requires-python']}", *project["dependencies"]}


def test_the_workflow_runs_what_ci_runs():
    """Hosted runs do the same as a run at home, on every Python that is supported."""
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert ".ci/run" in workflow
    from releases import SUPPORTED

    for version in SUPPORTED:
        assert f'"{version}"' in workflow


def test_contributing_names_every_make_target():
    """What a developer may want to run."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for target in set(targets) - {"clean", "demo", "soak"}:
        assert f"make {target}" in contributing, target
    assert Path(ROOT / "CITATION.cff").is_file()
