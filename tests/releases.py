"""The wheel as users get it: on every Python that is found here, and with the oldest dependencies that it allows.

    python tests/releases.py                   # all of them
    python tests/releases.py --python 3.12     # one
    python tests/releases.py --oldest          # the floors of pyproject.toml only, on the oldest Python

Each gets an empty environment, the wheel (never the checkout) and those tests that need no server. Pythons are looked
for on PATH and below pyenv's root. Exit code 0 if all passed; a Python that is asked for by name and is not here fails.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
LIMIT = 900  # seconds for one step
TESTS = ("test_store.py", "test_shelf.py", "test_codec.py", "test_columns.py", "test_images.py", "test_schema.py")
TESTS_NEED = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def pythons():
    """Interpreter by version, of those that are supported."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in SUPPORTED:
        candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python"), sys.executable]
        for candidate in filter(None, candidates):
            if _version(candidate) == version:
                found[version] = str(candidate)
                break
    return found


def _version(python):
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()


def floors():
    """The dependencies as `name==oldest`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.sub(">=", "==", dependency) for dependency in project["dependencies"]]


def check(label, python, wheel, pins, directory):
    """Install and test; whether all passed."""
    started = time.monotonic()
    environment = Path(directory) / label.replace(" ", "-")
    _run(python, "-m", "venv", environment)
    inside = environment / "bin" / "python"
    _run(inside, *PIP, "install", wheel, *pins, *TESTS_NEED)
    versions = _run(
        inside, "-c", "import numpy, ase, sqlalchemy as s; print(numpy.__version__, ase.__version__, s.__version__)"
    )
    place = _tests_only(environment)
    outcomes = [_outcome(inside, place, name) for name in TESTS]
    numpy, ase, sqlalchemy = versions.split()
    passed = f"{sum(outcomes)} of {len(TESTS)} files of tests passed ({time.monotonic() - started:.0f} s)"
    print(f"{label}: NumPy {numpy}, ASE {ase}, SQLAlchemy {sqlalchemy}: {passed}", flush=True)
    return all(outcomes)


def _outcome(python, place, name):
    """Whether one file of tests passed in time; what failed is shown."""
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "pythonpath=tests")
    command = [str(python), "-m", "pytest", *options, f"tests/{name}"]
    try:
        done = subprocess.run(
            command, cwd=place, env=_environment(), timeout=LIMIT, check=False, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as err:
        print(f"  {name}: not done within {LIMIT} s: {(err.stdout or b'').decode()[-200:]}", flush=True)
        return False
    lines = done.stdout.strip().splitlines() or [done.stderr]
    if done.returncode:
        print(*lines[-40:], sep="\n")
    print(f"  {name}: {lines[-1]}", flush=True)
    return done.returncode == 0


def _tests_only(environment):
    """A directory with the tests and what they read, and no package that could be imported in the wheel's place."""
    place = environment / "checkout"
    place.mkdir()
    for name in ("tests", "examples", "migrations", "pyproject.toml", "README.md"):
        (place / name).symlink_to(ROOT / name)
    return place


def _environment():
    corpus = os.environ.get("AMPSTORE_CORPUS", str(ROOT.parent / "shared" / "legacy"))
    return {**os.environ, "AMPSTORE_CORPUS": corpus, "PYTHONPATH": ""}


def _run(*command):
    return subprocess.run(list(map(str, command)), check=True, timeout=LIMIT, stdout=subprocess.PIPE, text=True).stdout


def main():
    """Build once, then one environment after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", choices=SUPPORTED, action="append", help="only this one; repeatable")
    parser.add_argument("--oldest", action="store_true", help="only the oldest dependencies")
    options = parser.parse_args()
    found = pythons()
    if absent := [version for version in options.python or () if version not in found]:
        sys.exit(f"no Python {', '.join(absent)} here; there are {', '.join(found) or 'none'}")
    wanted = {} if options.oldest else {version: found[version] for version in options.python or found}
    print("Pythons here:", ", ".join(found), flush=True)
    passed = []
    with tempfile.TemporaryDirectory() as directory:
        _run(sys.executable, *PIP, "wheel", "--no-deps", "-w", directory, ROOT)
        wheel = next(Path(directory).glob("*.whl"))
        for version, python in wanted.items():
            passed.append(check(f"Python {version}", python, wheel, (), directory))
        if not options.python:
            version, python = next(iter(found.items()))
            passed.append(check(f"Python {version} oldest", python, wheel, floors(), directory))
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
