"""A writer that does everything to a container until it is killed: `python -m faults.writer CONTAINER LOG NAME SEED`.

Its keys begin with its name, so that no other writer touches them. Loose files are written as ampstore
writes them, whole; torn ones of legacy programs are another fault.
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy

from ampstore import FileDatabase
from ampstore.codec.legacy import dump_legacy
from ampstore.codec.safe import Rule
from ampstore.errors import AmpstoreError, BusyError
from ampstore.legacy.loose import Loose
from ampstore.transfer import import_legacy
from faults.acknowledged import Acknowledged

KEYS = 40


class Writer:
    """One writer and what it can do."""

    def __init__(self, container: Path, log: Path, name: str, seed: int) -> None:
        self.container, self.name = container, name
        self.log, self.random = Acknowledged(log), random.Random(seed)
        self.database = FileDatabase(container, timeout=60)

    def key(self) -> str:
        return f"{self.name}-{self.random.randrange(KEYS)}"

    def value(self) -> object:
        number = self.random.randrange(2**30)
        if self.random.random() < 0.5:
            return ["value", number] * self.random.randrange(1, 50)
        return numpy.random.default_rng(number).random(self.random.randrange(1, 2000))

    def set(self) -> None:
        values = {self.key(): self.value()}
        with self.log.writing(values):
            for key, value in values.items():
                self.database[key] = value

    def put_many(self) -> None:
        values = {self.key(): self.value() for _ in range(self.random.randrange(1, 20))}
        with self.log.writing(values):
            self.database.update(values)

    def delete(self) -> None:
        key = self.key()
        with self.log.writing({key: None}):
            self.database.pop(key, None)

    def loose(self) -> None:
        key, value = self.key(), self.value()
        with self.log.writing({key: value}):
            Loose(self.container / "loose").write(key, dump_legacy(value, Rule()))

    def migrate(self) -> None:
        if self.container.is_dir():  # it may be the first thing of all that is done
            import_legacy(self.container, remove_source=True, timeout=60)

    def archive(self) -> None:
        self.database.archive()

    def compact(self) -> None:
        if store := self.database.store:
            store.compact()

    def work(self) -> None:
        """For ever: mostly small writes, now and then what moves everything."""
        often: list[Callable[[], None]] = [self.set, self.put_many, self.delete, self.loose]
        seldom: list[Callable[[], None]] = [self.migrate, self.archive, self.compact]
        while True:
            self.random.choice(often if self.random.random() < 0.9 else seldom)()


if __name__ == "__main__":
    try:
        Writer(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])).work()
    except BusyError as busy:
        sys.exit(f"hung: {busy}")
    except (AmpstoreError, OSError) as err:
        sys.exit(json.dumps(["wrong", repr(err)]))
