"""Make environments that have real Amp, with this ampstore installed in them.

    python tests/amp/environment.py                  # both, below .amp/
    python tests/amp/environment.py --only 1.0.1

1.0.1   the sdist of PyPI with the NumPy and ASE of its time: everything works, two cores included. Its Fortran
        parts are built where there is a gfortran; without, Amp falls back to Python by itself.
0.6.1   Debian's package python3-amp, seen through an environment of the system's Python: utilities and
        descriptors work; `Amp(...)` itself does not with Debian's newer ASE.

What is there already is left alone. apt-get is asked, as root only, for what is missing. Every step has a time limit.
Exit code 0 if each wanted environment is there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".amp"
LIMIT = 600  # seconds for one step

PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
ERA = ("numpy==1.24.4", "ase==3.22.1", "setuptools<60", "wheel")  # numpy.distutils ends with setuptools 60
_one_apt_at_a_time = threading.Lock()

LOOK = """
import warnings; warnings.simplefilter("ignore")
import sys, amp, amp.utilities, ampstore, numpy, ase
fortran = getattr(amp, "fmodules", None) is not None
print(f"Python {sys.version.split()[0]}, NumPy {numpy.__version__}, ASE {ase.__version__}, Fortran {fortran}")
"""


def make_1_0_1(directory):
    """PyPI's Amp 1.0.1 in an environment of Python 3.11 to itself."""
    python = _python_3_11()
    if not shutil.which("gfortran"):
        _apt("gfortran", "libc6-dev", must=False)
    _run(f"environment {directory.name}", python, "-m", "venv", "--without-pip", "--clear", directory)
    inside = directory / "bin" / "python"
    _run("NumPy and ASE", *_pip(inside), "install", *ERA)
    # No cache: a wheel that was built where there was no gfortran would come back without Fortran.
    build = ("--no-cache-dir", "--no-build-isolation", "--no-binary", "amp-atomistics")
    _run("Amp", *_pip(inside), "install", *build, "amp-atomistics==1.0.1")
    _run(f"ampstore into {directory.name}", *_pip(inside), "install", "--editable", f"{ROOT}[parallel]")


def make_0_6_1(directory):
    """Debian's Amp, and ampstore beside it."""
    python = "/usr/bin/python3"
    if subprocess.run([python, "-W", "ignore", "-c", "import amp.utilities"], capture_output=True, cwd="/").returncode:
        _apt("python3-amp")
    _run(
        f"environment {directory.name}",
        python,
        "-m",
        "venv",
        "--without-pip",
        "--system-site-packages",
        "--clear",
        directory,
    )
    _run(
        f"ampstore into {directory.name}",
        *_pip(directory / "bin" / "python"),
        "install",
        "--editable",
        f"{ROOT}[parallel]",
    )


MAKERS = {"1.0.1": make_1_0_1, "0.6.1": make_0_6_1}


def make(version):
    """Make one environment unless it is there; whether it is there now."""
    directory = HOME / version
    ready, recipe = directory / "ready", _recipe(version)
    try:
        if not (ready.is_file() and ready.read_text() == recipe):
            MAKERS[version](directory)
            ready.write_text(recipe)
        found = subprocess.run(
            [directory / "bin" / "python", "-c", LOOK],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError, LookupError) as err:
        print(f"Amp {version}: not to be had here: {err}\n{getattr(err, 'stderr', None) or ''}")
        return False
    print(f"Amp {version}: {directory / 'bin' / 'python'} ({found.stdout.strip()})")
    return True


def _recipe(version):
    """Text that changes when the environment has to be made anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["parallel"]]
    return "\n".join([version, str(ROOT), *ERA, *needs])


def _python_3_11():
    """NumPy 1.24.4 has wheels up to Python 3.11, and ampstore wants that at least."""
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        raise LookupError("there is no Python 3.11 on the PATH; install one")
    return found


def _pip(python):
    """Pip of this Python at work on another one, which needs none."""
    return sys.executable, *PIP, "--python", python


def _apt(*packages, must=True):
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        if must:
            raise LookupError(f"the package {packages[0]} is missing; as root: apt-get install {' '.join(packages)}")
        return
    options = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "check": must}
    with _one_apt_at_a_time:
        _run("package lists", "apt-get", "update", "-qq", **options)
        install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
        _run(f"package {packages[0]}", *install, *packages, **options)


def _run(what, *command, check=True, env=None):
    start = time.monotonic()
    subprocess.run(list(map(str, command)), check=check, timeout=LIMIT, env=env, stdout=subprocess.DEVNULL, cwd=ROOT)
    print(f"  {what}: {time.monotonic() - start:.0f} s", flush=True)


def main():
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MAKERS, help="make only this one")
    only = parser.parse_args().only
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(make, [only] if only else MAKERS))
    sys.exit(not all(made))


if __name__ == "__main__":
    main()
