"""Processes that are started, killed and traced; each wait is bounded, whoever passes it has hung."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


def python(module: str, *arguments: object) -> list[str]:
    """Command that runs a module of this package."""
    return [sys.executable, "-m", f"faults.{module}", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Environment in which `faults` can be imported and bytecode does not disturb a trace."""
    return {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONDONTWRITEBYTECODE": "1", **more}


def start(command: Sequence[object], **more: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        list(map(str, command)),
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def kill(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill -9 of a process and all that it started; what it had printed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return process.communicate()


class Ended:
    """How a process ended: `code` is None if it hung and had to be killed; a signal is negative."""

    def __init__(self, code: int | None, output: str, errors: str) -> None:
        self.code, self.output, self.errors = code, output, errors

    @property
    def hung(self) -> bool:
        """Whether it passed its time."""
        return self.code is None


def finish(process: subprocess.Popen[str], timeout: float) -> Ended:
    """Wait for the end of a process, at most `timeout` seconds."""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        output, errors = kill(process)
        return Ended(None, output, errors)
    return Ended(process.returncode, output, errors)


def run(command: Sequence[object], timeout: float = 60, **more: str) -> Ended:
    """Run a command to its end."""
    return finish(start(command, **more), timeout)


def strace(trace: Path, *options: str) -> list[str]:
    """Prefix of a command: strace with its output in a file."""
    need("strace")
    return ["strace", "-f", "-qq", "-o", str(trace), *options]


def need(tool: str) -> str:
    """Path of a tool; without it the test is skipped, and fails where everything has to be there."""
    found = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
    if not found:
        absent(f"{tool} is not installed")
    return str(found)


def absent(reason: str) -> None:
    """A fault that cannot be injected here: skipped, but a failure in CI."""
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def shim(source: str, directory: Path, name: str = "shim") -> str:
    """Shared library of C source for LD_PRELOAD."""
    gcc, code, library = need("gcc"), directory / f"{name}.c", directory / f"{name}.so"
    code.write_text(source)
    subprocess.run(
        [gcc, "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, code, "-ldl"], check=True, timeout=60
    )
    return str(library)


def mounted_tmpfs(directory: Path, size: str) -> None:
    """Mount a small file system; it has to be unmounted by the caller."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory], check=False, capture_output=True, text=True
    )
    if done.returncode:
        absent(f"mounting a tmpfs needs root: {done.stderr.strip()}")
