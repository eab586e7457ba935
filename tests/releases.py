"""The wheel as users get it: on every Python that is found here, and with the oldest dependencies that it allows.

    python tests/releases.py                   # all of them
    python tests/releases.py --python 3.12     # one
    python tests/releases.py --oldest          # the floors of pyproject.toml only, on the oldest Python

Each gets an empty environment, the wheel that pip makes of the sdist (never the checkout) and those tests that need
no server. Pythons are looked for on PATH and below pyenv's root. Exit code 0 if all passed; a Python that is asked for
by name and is not here fails.
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
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
LIMIT = 900  # seconds for one step
TESTS = ("test_store.py", "test_shelf.py", "test_codec.py", "test_columns.py", "test_images.py", "test_schema.py")
TESTS_NEED = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6.100")
LEFT_OUT = "million or thirty_two or eight_processes or kill"
"""Tests that take minutes with processes and the disk; the others tell versions apart as well."""

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet")


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


def build(directory):
    """The sdist, and of that the wheel; no directory of a checkout is near it."""
    builder = Path(directory) / "builder"
    _run(sys.executable, "-m", "venv", builder)
    python = builder / "bin" / "python"
    _run(python, *PIP, "install", "hatchling>=1.25")
    _run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", directory, cwd=ROOT)
    sdist = next(Path(directory).glob("*.tar.gz"))
    _run(python, *PIP, "wheel", "--no-deps", "-w", directory, sdist)
    wheel = next(Path(directory).glob("*.whl"))
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes, {wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
    return wheel


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
    total = sum((counts for _, counts in outcomes), Counter())
    counts = ", ".join(f"{number} {what}" for what, number in total.items())
    spent = time.monotonic() - started
    print(f"{label}: NumPy {numpy}, ASE {ase}, SQLAlchemy {sqlalchemy}: {counts} ({spent:.0f} s)", flush=True)
    return all(passed for passed, _ in outcomes)


def _outcome(python, place, name):
    """Whether one file of tests passed in time, and how many of its tests did what; what failed is shown."""
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "pythonpath=tests")
    options += ("-m", "not soak", "-k", f"not ({LEFT_OUT})")
    command = [str(python), "-m", "pytest", *options, f"tests/{name}"]
    try:
        done = subprocess.run(
            command, cwd=place, env=_environment(), timeout=LIMIT, check=False, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired as err:
        print(f"  {name}: not done within {LIMIT} s: {(err.stdout or b'').decode()[-200:]}", flush=True)
        return False, Counter({"files not done": 1})
    lines = done.stdout.strip().splitlines() or [done.stderr]
    if done.returncode:
        print(*lines[-40:], sep="\n")
    print(f"  {name}: {lines[-1]}", flush=True)
    counts = re.findall(r"(\d+) (passed|failed|skipped|deselected|errors?)", lines[-1])
    return done.returncode == 0, Counter({what: int(number) for number, what in counts})


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


def _run(*command, cwd=None):
    command = list(map(str, command))
    return subprocess.run(command, cwd=cwd, check=True, timeout=LIMIT, stdout=subprocess.PIPE, text=True).stdout


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
        wheel = build(directory)
        for version, python in wanted.items():
            passed.append(check(f"Python {version}", python, wheel, (), directory))
        if not options.python:
            version, python = next(iter(found.items()))
            passed.append(check(f"Python {version} oldest", python, wheel, floors(), directory))
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
