"""F4: the power goes, and the disk has what was synced and any part of the rest."""

import errno
import random
import shutil

import pytest

import ampstore
from ampstore.errors import AmpstoreError
from ampstore.legacy.names import is_ours
from faults.acknowledged import DELETED, digest, expected_after
from faults.powercut import FAILED_SYNC, MARK, Disk, File, History, read
from faults.sessions import Action, Call

NAMES = {"store": "a.db", "container": "c.ampdb"}


class Crashes:
    """Crash states of one recorded session, each put into a directory and looked at."""

    def __init__(self, fault, sessions, session, durability):
        self.fault, self.sessions, self.session, self.durability = fault, sessions, session, durability
        self.place = sessions.directory.parent / "after"
        self.record = sessions.directory.parent / "record"

    def play(self, *inject):
        """Record a session; every recording has a seed of its own."""
        self.record.unlink(missing_ok=True)
        self.sessions.seed = self.fault.random.randrange(2**30)
        options = {"durability": self.durability}
        answer = self.sessions.play(self.session, *inject, record=str(self.record), options=options)
        assert answer["code"] == 0, answer
        self.errors = answer["errors"]

    def look(self, number, after_failure=None):
        """`number` crash states, spread over the whole record, or over as many calls after the sync that failed."""
        operations = list(read(self.record))
        first = next((n for n, o in enumerate(operations) if o.kind == FAILED_SYNC), 0) if after_failure else 0
        within = min(len(operations) - first, after_failure or len(operations))
        history, disk = History(self.sessions.log), Disk(self.sessions.directory)
        lines = synced = 0
        moments = sorted(first + self.fault.random.randrange(within) for _ in range(number))
        for index, operation in enumerate(operations):
            if operation.kind == MARK:
                mark = operation.offset if operation.offset < 2**63 else operation.offset - 2**64
                lines, synced = max(lines, mark), -mark if mark < 0 else synced
            else:
                disk.apply(operation)
            while moments and moments[0] == index:
                moments.pop(0)
                seed = self.fault.random.randrange(2**30)
                self.put(disk.crash(random.Random(seed)))
                self.judge(history, lines, synced, f"operation {index} of session {self.sessions.seed}, crash {seed}")
                self.fault.injected()

    def put(self, files):
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        for path, contents in sorted(files.items()):
            if contents is None:
                (self.place / path).mkdir(exist_ok=True)
            else:
                (self.place / path).write_bytes(contents)

    def judge(self, history, lines, synced, case):
        """Compare what is there with what has to be."""
        path = self.place / NAMES[self.session]
        try:
            opened = ampstore.Store(path) if self.session == "store" else ampstore.FileDatabase(path)
            with opened:
                found = {key: digest(opened[key]) for key in opened}
                damage = [d for d in opened.verify() if not is_ours(d.key)]
                opened["after the crash"] = 1
        except (AmpstoreError, OSError, KeyError) as err:
            self.fault.wrong(f"{case}: {err!r}")
            return
        if damage:
            self.fault.wrong(f"{case}: {damage}")
        first = history.acknowledged[lines] if self.durability == "full" else history.acknowledged[synced]
        possible = history.states[first : history.begun[lines] + 1]
        if self.durability == "full":
            self.acknowledged(found, lines, case)
        if self.errors:  # some steps were taken back, so there is no one order of commits
            return
        if self.session == "container":
            self.each(found, possible, case)
        elif found not in possible:
            kind = self.fault.wrong if found in history.states[history.begun[lines] + 1 :] else self.fault.lost
            at = history.states.index(found) if found in history.states else "no commit"
            kind(f"{case}: as after {at}, may be after {first} to {history.begun[lines]}")

    def acknowledged(self, found, lines, case):
        """Every key has the value that was acknowledged last, or one that was begun after it."""
        for key, may in expected_after(self.sessions.log.read_bytes().splitlines(keepends=True)[:lines]).items():
            if found.get(key, DELETED) not in may.possible:
                self.fault.lost(f"{case}: {key!r} is {found.get(key)}, may be {may.possible}")

    def each(self, found, possible, case):
        """Loose files and store are two places: each key for itself has a value that it may have."""
        for key in {key for state in possible for key in state} | found.keys():
            if found.get(key) not in {state.get(key) for state in possible}:
                self.fault.lost(f"{case}: {key!r} is {found.get(key)}")


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("session", ["store", "container"])
@pytest.mark.fault("F4", "power cut: unsynced writes dropped, torn, reordered")
def test_a_power_cut_takes_what_the_durability_says(fault, sessions, session, durability):
    """What was acknowledged is there with "full"; with "normal" it is as after some commit since the last sync."""
    crashes = Crashes(fault, sessions, session, durability)
    recordings = fault.times(1, 20)
    for _ in range(recordings):
        crashes.play()
        crashes.look(fault.times(60, 6000) // recordings)
    fault.fact(session=session, durability=durability)


@pytest.mark.fault("F4", "power cut after a backup was made")
def test_a_backup_that_was_made_is_there_after_a_power_cut(fault, sessions):
    """Whole and under its name, in every state that the disk may be in."""
    crashes = Crashes(fault, sessions, "copied", "normal")
    for _ in range(fault.times(1, 20)):
        crashes.play()
        disk = Disk(sessions.directory)
        for operation in read(crashes.record):
            if operation.kind != MARK:
                disk.apply(operation)
        wanted = History(sessions.log).states[-1]
        for _ in range(fault.times(10, 100)):
            crashes.put(disk.crash(fault.random))
            fault.injected()
            try:
                with ampstore.Store(crashes.place / "copy.db", "r") as copy:
                    if {key: digest(value) for key, value in copy.items()} != wanted or list(copy.verify()):
                        fault.wrong("the copy is another")
            except (AmpstoreError, OSError) as err:
                fault.lost(f"the copy: {err!r}")


@pytest.mark.fault("F8", 'fsync fails once, the cache forgets what was not synced, then the power goes; "full"')
def test_nothing_is_acknowledged_on_the_strength_of_a_sync_that_failed(fault, sessions):
    """An fsync after a failed one says yes, though the pages that the first could not write are gone.

    Nor is the store damaged: a checkpoint that believed that fsync would copy pages of a WAL with a gap.
    """
    crashes = Crashes(fault, sessions, "store", "full")
    total = int(sessions.play("store", calls=Call.SYNC, options={"durability": "full"})["calls"])
    for _ in range(fault.times(2, 50)):
        crashes.play(Action.FAIL, Call.SYNC, fault.random.randrange(1, total + 1), errno.EIO)
        crashes.look(fault.times(15, 30))
        crashes.look(fault.times(15, 30), after_failure=100)


def test_the_replayer_keeps_what_was_synced_and_loses_the_rest():
    """The model itself: a file without a sync may be empty, one with a sync may not."""
    file = File()
    file.pending.append((0, b"a" * 1024))
    file.sync()
    file.pending.append((0, b"b" * 1024))
    seen = {file.crash(random.Random(seed)) for seed in range(200)}
    assert {b"a" * 1024, b"b" * 1024, b"a" * 512 + b"b" * 512, b"b" * 512 + b"a" * 512} == seen


@pytest.mark.fault("F4", "the same for plain sqlite3 without any sync, to show that the replayer finds what is lost")
def test_the_replayer_finds_losses_where_nothing_is_synced(sessions, fault, monkeypatch):
    """A disk that keeps nothing: "full" without its syncs loses entries, and the judge sees it."""
    crashes = Crashes(fault, sessions, "store", "full")
    crashes.play()
    monkeypatch.setattr(File, "sync", lambda _: None)
    crashes.look(20)
    assert fault.verdict.lost or fault.verdict.wrong
    fault.fact(found=fault.verdict.lost + fault.verdict.wrong)
    fault.verdict = type(fault.verdict)()
