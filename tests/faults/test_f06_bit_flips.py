"""F6: single bits flip in the files at rest."""

import contextlib
import shutil
import sqlite3

import numpy
import pytest

import ampstore
from ampstore.errors import AmpstoreError
from faults.acknowledged import digest


def contents(chooser):
    values = {f"list{n}": ["word", n, 0.5 * n] * chooser.randrange(1, 60) for n in range(25)}
    values |= {f"array{n}": numpy.random.default_rng(n).random((chooser.randrange(1, 40), 20)) for n in range(25)}
    return values | {"big": numpy.arange(30_000.0)}


def made_store(directory, values):
    with ampstore.Store(directory / "a.db") as store:
        store.put_many(values)
        store.compact()
    return directory / "a.db", directory / "a.db"


def made_loose(directory, values):
    database = ampstore.LegacyDatabase(directory / "a.ampdb")
    database.update(values)
    database.close()
    return directory / "a.ampdb", directory / "a.ampdb" / "loose"


def made_archive(directory, values):
    made_loose(directory, values)
    ampstore.LegacyDatabase(directory / "a.ampdb").archive()
    return directory / "a.ampdb", directory / "a.ampdb" / "archive.tar.gz"


def flip(file, offset, bit):
    """Flip one bit; twice is as before."""
    with open(file, "r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ (1 << bit)]))


def look(fault, opened, wanted, case, checked):
    """Every key gives its value or one of our errors; how many gave an error or are gone."""
    gone = 0
    for key, right in wanted.items():
        try:
            found = digest(opened[key])
        except (AmpstoreError, KeyError):
            gone += 1
            continue
        except Exception as err:
            fault.wrong(f"{case}: {key} raised {err!r}")
            continue
        if found != right and checked:
            fault.wrong(f"{case}: {key} has another value")
    return gone


@pytest.mark.fault("F6", "single-bit flips in a store")
def test_a_flipped_bit_in_a_store_never_gives_a_wrong_value(fault, elsewhere):
    """The entry gives an error, `verify` tells, and a flip in a payload leaves all the others readable."""
    values = contents(fault.random)
    path, file = made_store(elsewhere, values)
    wanted = {key: digest(value) for key, value in values.items()}
    sound, size, hit, refused = file.read_bytes(), file.stat().st_size, 0, 0
    for number in range(fault.times(120, 7400)):
        offset, bit = fault.random.randrange(size), fault.random.randrange(8)
        flip(file, offset, bit)
        case = f"bit {bit} of byte {offset}, {number}"
        gone = 0
        try:
            with ampstore.Store(path, "w") as store:
                gone = look(fault, store, wanted, case, True)
                if (gone or set(store) != set(wanted)) and not list(store.verify()):
                    fault.wrong(f"{case}: {gone} entries gave no value, and verify finds nothing")
        except AmpstoreError:
            refused += 1
        except Exception as err:
            fault.wrong(f"{case}: {err!r}")
        hit += bool(gone)
        if gone > 1 and gone > len(wanted) // 2:
            fault.fact(most_of_the_store_unreadable=int(fault.facts.get("most_of_the_store_unreadable", 0)) + 1)
        for suffix in ("-wal", "-shm"):
            (elsewhere / f"a.db{suffix}").unlink(missing_ok=True)
        file.write_bytes(sound)
        fault.injected()
    fault.fact(entries_hit=hit, refused_as_a_whole=refused)


@pytest.mark.fault("F6", "single-bit flips in archive.tar.gz, which has one checksum for all of it")
def test_a_flipped_bit_in_an_archive_never_gives_a_wrong_value(fault, elsewhere):
    """The members give an error, and `verify` tells; the bits of gzip's header that mean nothing do no harm."""
    values = contents(fault.random)
    path, file = made_archive(elsewhere, values)
    wanted = {key: digest(value) for key, value in values.items()}
    size, hit = file.stat().st_size, 0
    for number in range(fault.times(25, 1200)):
        offset, bit = fault.random.randrange(size), fault.random.randrange(8)
        flip(file, offset, bit)
        case = f"bit {bit} of byte {offset}, {number}"
        with ampstore.FileDatabase(path, "r") as database:
            told = bool(list(database.verify()))
            hit += told
            gone = look(fault, database, wanted, case, True)
            if gone and not told:
                fault.wrong(f"{case}: {gone} entries are gone, and verify finds nothing")
        flip(file, offset, bit)
        fault.injected()
    fault.fact(archives_hit=hit)


@pytest.mark.fault("F6", "single-bit flips in loose pickles, which have no checksum: no crash, the others exact")
def test_a_flipped_bit_in_a_loose_file_harms_no_other(fault, elsewhere):
    """A legacy pickle has no checksum, so a flipped digit is another digit; that ends when it is folded in."""
    values = contents(fault.random)
    path, directory = made_loose(elsewhere, values)
    wanted = {key: digest(value) for key, value in values.items()}
    with ampstore.FileDatabase(path, "r") as database:
        for number in range(fault.times(40, 700)):
            key = fault.random.choice(sorted(wanted))
            file = directory / key
            sound = file.read_bytes()
            offset, bit = fault.random.randrange(len(sound)), fault.random.randrange(8)
            flip(file, offset, bit)
            case = f"{key}: bit {bit} of byte {offset}, {number}"
            look(fault, database, {key: wanted[key]}, case, False)
            others = {other: wanted[other] for other in fault.random.sample(sorted(wanted), 5) if other != key}
            if look(fault, database, others, case, True):
                fault.wrong(f"{case}: another entry cannot be read")
            file.write_bytes(sound)
            fault.injected()
    shutil.rmtree(path)


@pytest.mark.fault("F6", "single-bit flips in the rows of dictionaries, which many entries need")
def test_a_flipped_bit_in_a_dictionary_never_gives_a_wrong_value(fault, elsewhere):
    """The entries that need it give errors, the others are exact, and `verify` tells."""
    path = elsewhere / "a.db"
    values = {f"k{n}": [("Cu", [0.5 * n, 0.25, f"word{n % 7}"] * 6), n] for n in range(800)} | {
        "other": "no dictionary"
    }
    with ampstore.Store(path) as store:
        store.put_many(values)
        store.compact()
    wanted = {key: digest(values[key]) for key in [*fault.random.sample(sorted(values), 20), "other"]}
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute("SELECT id, data FROM dictionary").fetchall()
        assert rows
        for number in range(fault.times(8, 700)):
            identity, sound = fault.random.choice(rows)
            bit = fault.random.randrange(8 * len(sound))
            flipped = bytearray(sound)
            flipped[bit // 8] ^= 1 << bit % 8
            connection.execute("UPDATE dictionary SET data = ? WHERE id = ?", (bytes(flipped), identity))
            case = f"bit {bit} of dictionary {identity}, {number}"
            with ampstore.Store(path, "r") as store:
                gone = look(fault, store, wanted, case, True)
                if digest(store["other"]) != wanted["other"]:
                    fault.wrong(f"{case}: an entry without a dictionary is another")
                if not list(store.verify()):
                    fault.wrong(f"{case}: {gone} entries gave no value, and verify finds nothing")
            connection.execute("UPDATE dictionary SET data = ? WHERE id = ?", (sound, identity))
            fault.injected()
