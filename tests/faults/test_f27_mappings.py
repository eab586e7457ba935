"""F27, F28, F30: state machines with kills, fuzzed files, 32 threads."""

import contextlib
import multiprocessing
import os
import random
import shutil
import sqlite3
import threading

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from test_safety import GOOD
from test_state_machine import KEYS, VALUES, FileDatabaseMachine, LegacyMachine, ShelfMachine, StoreMachine

import ampstore
from ampstore.codec import Codec, same
from ampstore.errors import AmpstoreError, CodecError
from faults.acknowledged import Acknowledged
from faults.judge import judge

KILLS = 0


class Killed:
    """A rule: a child writes, and is killed before it can close anything; what was acknowledged is there."""

    @rule(items=st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
    def child_writes_and_is_killed(self, items):
        global KILLS
        KILLS += 1
        self.mapping.close()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                mapping = self.open()
                for key, value in items.items():
                    mapping[key] = value
                os.kill(os.getpid(), 9)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
        self.oracle.update(items)
        self.mapping = self.open()


MACHINES = [type(machine.__name__, (Killed, machine), {}) for machine in (StoreMachine, ShelfMachine, LegacyMachine)]
MACHINES.append(type("FileDatabaseMachine", (Killed, FileDatabaseMachine), {}))


@pytest.mark.fault("F27", "random operations, reopened, and written to by children that are killed, beside a dict")
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_no_sequence_with_kills_tells_it_from_a_dict(fault, machine):
    """Hypothesis looks for one; injections are the kills."""
    before = KILLS
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    examples = fault.times(8, 100)
    options = settings(max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(hypothesis_seed(fault.seed)(machine), settings=options)
    fault.injected(KILLS - before)


def mutated(data, chance):
    """Bytes with some of them changed, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place, kind = chance.randrange(len(data) + 1), chance.randrange(4)
        if kind == 0 and place < len(data):
            data[place] = chance.randrange(256)
        elif kind == 1:
            del data[place : place + chance.choice((1, 4, 100))]
        elif kind == 2:
            data[place:place] = data[place : place + chance.randrange(20)]
        else:
            data[place:place] = chance.randbytes(chance.randrange(1, 9))
        if not data:
            return b"\0"
    return bytes(data)


def fuzz_codec(number, seed, found):
    """Mutate blobs of every codec, with checksums that fit and that do not."""
    import zlib

    chance, codec = random.Random(seed), Codec()
    values = [*GOOD, [("Cu", [0.5] * 20)] * 9, {(0, "Cu", 1, "Pt", 2): [0.5, 0.0]}, list(range(5000)), "text" * 100]
    blobs = [codec.encode(value) for value in values]
    for count in range(number):
        value, blob = chance.choice(list(zip(values, blobs, strict=True)))
        payload = mutated(blob.payload, chance)
        honest = chance.random() < 0.5
        checksum = blob.checksum[:16] + zlib.crc32(payload).to_bytes(4) if honest else blob.checksum
        try:
            read = codec.decode("k", blob.codec, blob.size, checksum, payload)
        except CodecError:
            continue
        except BaseException as err:
            found.put(f"seed {seed}, {count}: {err!r} from {blob.codec} {payload[:500].hex()}")
            continue
        if not honest and payload != blob.payload and not same(read, value):
            found.put(f"seed {seed}, {count}: another value under the old checksum")
    found.put(None)


@pytest.mark.fault("F28", "mutated payloads of every codec, with and without a checksum that fits")
def test_mutated_streams_crash_nothing_and_give_no_wrong_value(fault):
    """An error of ours, or a value; never a crash, a foreign error or, under the old checksum, another value."""
    context = multiprocessing.get_context("spawn")
    for _ in range(fault.times(1, 8)):
        found, number = context.Queue(), 10_000
        process = context.Process(target=fuzz_codec, args=(number, fault.random.randrange(2**32), found))
        process.start()
        with contextlib.suppress(Exception):
            while (line := found.get(timeout=300)) is not None:
                fault.wrong(line)
        process.join(60)
        if process.is_alive():
            process.kill()
            fault.hung("reading mutated streams")
        elif process.exitcode:
            fault.wrong(f"the reader died with {process.exitcode}")
        fault.injected(number)


@pytest.mark.fault("F28", "mutated bytes of a store's file")
def test_a_mutated_file_gives_right_values_or_named_errors(fault, tmp_path):
    """Opening, reading, verifying and closing end with values that were written or errors of ours.

    A damaged index that names the row of another key is noticed by the key that stands in the row.
    """
    path, values = tmp_path / "a.db", {f"k{n}": [n, [n / 3] * 40, "x" * n] for n in range(60)}
    with ampstore.Store(path) as store:
        store.update(values)
    whole = path.read_bytes()
    for number in range(fault.times(60, 1500)):
        data = bytearray(whole)
        for _ in range(fault.random.choice((1, 3, 30))):
            data[fault.random.randrange(0 if number % 3 else 4096, len(data))] = fault.random.randrange(256)
        copy = tmp_path / "b.db"
        copy.write_bytes(data)
        fault.injected()
        try:
            with ampstore.Store(copy, "r") as store:
                for key, value in values.items():
                    try:
                        found = store[key]
                        if found != value:
                            fault.wrong(f"{key} is {found!r}")
                    except (KeyError, AmpstoreError):
                        pass
                list(store.verify())
        except AmpstoreError:
            pass
        except Exception as err:
            fault.wrong(f"foreign error {err!r}")
        for left in tmp_path.glob("b.db*"):
            left.unlink()


@pytest.mark.fault("F30", "32 threads on one Store: set, get, delete, batch, iterate")
def test_32_threads_share_one_store(fault, tmp_path, elsewhere):
    """Each thread reads back what it wrote; shared keys hold whole values; the judge finds all."""
    path = tmp_path / "a.db"
    store = ampstore.Store(path)
    seeds = [fault.random.randrange(2**32) for _ in range(32)]

    def work(number):
        chance, log = random.Random(seeds[number]), Acknowledged(elsewhere / f"log{number}")
        mine = {}
        for step in range(fault.times(15, 150)):
            key, value = f"{number}-{chance.randrange(20)}", [number, step] * chance.randrange(1, 300)
            kind = chance.random()
            if kind < 0.6:
                with log.writing({key: value}):
                    store[key] = value
                mine[key] = value
            elif kind < 0.75:
                with log.writing({key: None}):
                    store.pop(key, None)
                mine.pop(key, None)
            elif kind < 0.9:
                values = {f"{number}-{n}": [number, step, n] for n in range(20, 23)}
                with log.writing(values), store.batch():
                    store.update(values)
                mine |= values
            else:
                for other, found in store.items():
                    if str(found[0]) != other.split("-")[0]:
                        fault.wrong(f"{other} holds {found!r}")
            for key in [key for key in mine if chance.random() < 0.1]:
                if store.get(key) != mine[key]:
                    fault.wrong(f"{key} of thread {number} is {store.get(key)!r}")
        log.close()

    def watched(number):
        try:
            work(number)
        except (AmpstoreError, sqlite3.Error, AssertionError) as err:
            fault.wrong(f"thread {number}: {err!r}")

    threads = [threading.Thread(target=watched, args=(number,), daemon=True) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(fault.times(200, 3000))
        if thread.is_alive():
            fault.hung(thread.name)
    fault.injected(32 * fault.times(15, 150))
    store.close()
    fault.judged(judge(path, list(elsewhere.iterdir())))
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
