"""What was injected and what became of it: one JSON file for every test.

A test asks the fixture `fault` for its seed and its number of injections, counts them, and hands
every verdict over. At the end of the test the record is written, and the test fails if anything was
lost, wrong or hung.
"""

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.judge import Verdict

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDS = Path(os.environ.get("AMPSTORE_FAULT_RECORDS", ROOT / ".faults"))


@dataclass
class Fault:
    """Record of one test.

    Attributes
    ----------
    number : str
        "F1" to "F34", as docs/reliability.md lists them.
    what : str
        What is injected.
    long : bool
        Whether this is the long run.
    seed : int
    random : random.Random
        Made from the seed.
    """

    number: str
    what: str
    test: str
    long: bool
    seed: int
    injections: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    facts: dict[str, object] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def times(self, short: int, long: int) -> int:
        """How often to inject."""
        return long if self.long else short

    def some(self, every: Sequence[int], short: int, long: int) -> Sequence[int]:
        """Where to inject: all places if there are few, else as many at random."""
        number = self.times(short, long)
        return every if len(every) <= number else sorted(self.random.sample(every, number))

    def injected(self, number: int = 1) -> None:
        """Count injections."""
        self.injections += number

    def judged(self, verdict: Verdict) -> None:
        """Add a verdict."""
        self.verdict += verdict

    def hung(self, note: str) -> None:
        """Something passed its stated time."""
        self.verdict.add("hung", note)

    def wrong(self, note: str) -> None:
        """A value, an exception or an exit code is not the documented one."""
        self.verdict.add("wrong", note)

    def lost(self, note: str) -> None:
        """An acknowledged entry is gone."""
        self.verdict.add("lost", note)

    def fact(self, **facts: object) -> None:
        """Note something for the table: a version, a size, a ratio."""
        self.facts |= facts

    def as_dict(self) -> dict[str, object]:
        """What the JSON holds."""
        return {
            "fault": self.number,
            "what": self.what,
            "test": self.test,
            "long": self.long,
            "seed": self.seed,
            "injections": self.injections,
            "lost": self.verdict.lost,
            "wrong": self.verdict.wrong,
            "hung": self.verdict.hung,
            "seconds": round(time.monotonic() - self.started, 1),
            "facts": self.facts,
            "notes": self.verdict.notes,
        }

    def write(self, directory: Path) -> None:
        """Write the record; one file to a test, so that several processes may run the suite."""
        directory.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() else "_" for c in self.test.rpartition("/")[2])
        (directory / f"{name}.json").write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n")


def new_seed() -> int:
    """The seed that is asked for, or a new one."""
    return int(os.environ.get("AMPSTORE_FAULT_SEED") or random.SystemRandom().randrange(2**32))
