"""Runs jobs of faults.session from a test."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from faults.judge import Verdict, compare, judge
from faults.processes import environment, need, python
from faults.shim import Action, Call, built

__all__ = ["Action", "Call", "Sessions", "Verdict", "compare", "judge"]


class Sessions:
    """One process that plays sessions, each in a fresh directory.

    Attributes
    ----------
    directory : Path
        Where the stores are.
    log : Path
        What is acknowledged.
    seed : int
    """

    directory: Path
    log: Path
    seed: int

    def __init__(self) -> None:
        need("gcc")
        self._process = subprocess.Popen(
            python("session"),
            env=environment(LD_PRELOAD=str(built())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate(timeout=60)

    def play(
        self,
        session: str,
        action: Action = Action.NOTHING,
        calls: Call = Call.CHANGES,
        at: int = 0,
        error: int = 0,
        again: bool = False,
        *,
        fresh: bool = True,
        **more: object,
    ) -> Mapping[str, object]:
        """Play one session with one fault; its answer."""
        if fresh:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.mkdir()
            self.log.unlink(missing_ok=True)
        job = {"session": session, "directory": str(self.directory), "log": str(self.log), "seed": self.seed, **more}
        job["arm"] = [action, calls, at, error, again]
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that plays sessions has died"
        return json.loads(line)  # type: ignore[no-any-return]

    def judge(self, session: str) -> Verdict:
        """The verdict on what the last session left."""
        path = self.directory / ("c.ampdb" if session == "container" else "a.db")
        return judge(path, [self.log]) if path.exists() or self._acknowledged() else Verdict()

    def _acknowledged(self) -> bool:
        return self.log.exists() and b"! " in self.log.read_bytes()
