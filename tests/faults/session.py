"""Scripted sessions under the shim, each in a child of its own: `python -m faults.session`, jobs on stdin.

The parent has imported everything, so that a child starts in milliseconds and thousands of crash
points can be tried. A job is a line of JSON, and so is the answer:

    {"session": "store", "directory": ..., "log": ..., "arm": [action, calls, at, error, again], ...}
    {"code": 0, "errors": ["StorageError"], "calls": 212}

Codes: 0 all steps returned or raised one of ampstore's errors, 3 something else was raised, -9 killed,
null hung. A step whose call returned is acknowledged; after an error the session goes on with the next.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy

import ampstore
import ampstore.backend.wal
from ampstore.codec.legacy import dump_legacy
from ampstore.codec.safe import Rule
from ampstore.errors import AmpstoreError
from ampstore.legacy.loose import Loose
from ampstore.transfer import export_legacy, import_legacy
from faults.acknowledged import Acknowledged
from faults.shim import Shim

Step = tuple[Mapping[str, object], Callable[[], object]]

ampstore.backend.wal.WAL_BOUND = 200_000  # so that a short session has checkpoints too
ampstore.backend.wal.UNCHECKED = 30_000


def _value(chooser: random.Random) -> object:
    number = chooser.randrange(2**30)
    if chooser.random() < 0.7:
        return ["value", number] * chooser.randrange(1, 40)
    return numpy.random.default_rng(number).random(chooser.randrange(1, 2500))


def store(directory: Path, options: Mapping[str, object], chooser: random.Random) -> Iterator[Step]:
    """One store: created, written in all ways, checkpointed by its bound, compacted, synced, opened again."""
    for part in range(2):
        with ampstore.Store(directory / "a.db", "c", **options) as opened:
            for number in range(12):
                key = f"k{chooser.randrange(12)}"
                values = {key: _value(chooser)}
                yield values, lambda key=key, values=values: opened.__setitem__(key, values[key])
                if number % 4 == 1:
                    values = {f"m{part}-{number}-{n}": _value(chooser) for n in range(chooser.randrange(2, 12))}
                    yield values, lambda values=values: opened.put_many(values)
                if number % 4 == 3:
                    key = f"k{chooser.randrange(12)}"
                    yield {key: None}, lambda key=key: opened.pop(key, None)
                if number == 6:
                    yield {}, opened.sync
            yield {}, opened.compact


def small(directory: Path, options: Mapping[str, object], chooser: random.Random) -> Iterator[Step]:
    """The shortest session that creates, writes, deletes and syncs."""
    with ampstore.Store(directory / "a.db", "c", **options) as opened:
        for number in range(4):
            values = {f"k{number}": _value(chooser)}
            yield values, lambda values=values: opened.put_many(values)
        yield {"k1": None}, lambda: opened.pop("k1", None)
        yield {}, opened.sync


def creation(directory: Path, options: Mapping[str, object], chooser: random.Random) -> Iterator[Step]:
    """A store is made, and takes one entry."""
    with ampstore.Store(directory / "a.db", "c", **options) as opened:
        values = {"k": _value(chooser)}
        yield values, lambda: opened.put_many(values)


def copied(directory: Path, options: Mapping[str, object], chooser: random.Random) -> Iterator[Step]:
    """A store is filled, and a backup of it is made."""
    with ampstore.Store(directory / "a.db", "c", **options) as opened:
        values = {f"k{number}": _value(chooser) for number in range(6)}
        yield values, lambda: opened.put_many(values)
        yield {}, lambda: opened.backup(directory / "copy.db")


def container(directory: Path, options: Mapping[str, object], chooser: random.Random) -> Iterator[Step]:
    """A container: legacy files come, are migrated, archived, overwritten, exported and deleted."""
    path = directory / "c.ampdb"
    loose, timeout = Loose(path / "loose"), float(options.get("timeout") or 5)  # type: ignore[arg-type]
    with ampstore.FileDatabase(path, **options) as opened:
        for part in range(2):
            for _ in range(5):
                key, value = f"k{chooser.randrange(8)}", _value(chooser)
                yield {key: value}, lambda key=key, value=value: loose.write(key, dump_legacy(value, Rule()))
                key, value = f"k{chooser.randrange(8)}", _value(chooser)
                yield {key: value}, lambda key=key, value=value: opened.__setitem__(key, value)
            key = f"k{chooser.randrange(8)}"
            yield {key: None}, lambda key=key: opened.pop(key, None)
            if part:
                yield {}, opened.archive
            else:
                yield {}, lambda: import_legacy(path, remove_source=True, timeout=timeout)
            yield {}, lambda part=part: export_legacy(opened, directory / f"out{part}", archive=bool(part))


SESSIONS = {"store": store, "small": small, "creation": creation, "copied": copied, "container": container}


class Slowest:
    """Longest time that a step of this process took."""

    seconds = 0.0


def play(job: Mapping[str, object], shim: Shim) -> list[str]:
    """Run the steps of a session; the names of the errors that were raised."""
    log, errors = Acknowledged(str(job["log"])), list[str]()
    lines = 0
    steps = SESSIONS[str(job["session"])](
        Path(str(job["directory"])),
        dict(job.get("options") or {}),
        random.Random(job["seed"]),  # type: ignore[call-overload]
    )
    while True:
        try:
            values, call = next(steps)
        except StopIteration:
            return errors
        except AmpstoreError as err:  # opening or closing failed: that is the end of the session
            return [*errors, type(err).__name__]
        log.begin(values)
        lines += len(values)
        shim.mark(lines)
        started = time.monotonic()
        try:
            call()
        except AmpstoreError as err:
            errors.append(type(err).__name__)
            continue
        finally:
            Slowest.seconds = max(Slowest.seconds, time.monotonic() - started)
        log.done(values)
        lines += len(values)
        shim.mark(lines)
        if not values:
            shim.mark(-lines)


def _child(job: Mapping[str, object], answer: int) -> None:
    shim, code, errors = Shim(), 0, list[str]()
    try:
        if job.get("record"):
            shim.record(os.open(str(job["record"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666))
        action, calls, at, error, again = job.get("arm") or (0, 0, 0, 0, False)  # type: ignore[misc]
        shim.arm(str(job["directory"]), action, calls, at, error, again)
        shim.filesystem(int(job.get("filesystem") or 0))  # type: ignore[call-overload]
        errors = play(job, shim)
    except BaseException:
        code, errors = 3, [*errors, traceback.format_exc()]
    counts = {"calls": shim.calls, "slowest": Slowest.seconds}
    shim.arm("", 0, 0)
    os.write(answer, json.dumps({"code": code, "errors": errors, **counts}).encode())
    os._exit(code)


def _run(job: Mapping[str, object]) -> dict[str, object]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(job, writing)
    os.close(writing)
    deadline = time.monotonic() + float(job.get("timeout") or 60)  # type: ignore[arg-type]
    hung = False
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline and not hung:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    with os.fdopen(reading) as file:
        text = file.read()
    code = os.waitstatus_to_exitcode(ended[1])
    answer = json.loads(text) if text else {"errors": [], "calls": 0}
    return {**answer, "code": None if hung else code}


def _warm() -> None:
    """Import and run once what creating a store needs (Alembic: 0.5 s), in the parent."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        for session in SESSIONS.values():
            for _, call in session(path, {}, random.Random(0)):
                call()


def main() -> None:
    _warm()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
