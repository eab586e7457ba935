"""Salvage: stores that are damaged page by page, damaged archives, half-written containers."""

import contextlib
import gzip
import io
import json
import os
import pickle
import random
import shutil
import sqlite3
import struct
import tarfile

import pytest
from click.testing import CliRunner

import ampstore
from ampstore.backend.pages import Pages
from ampstore.cli import main
from ampstore.codec import Codec
from ampstore.errors import MissingStoreError, NotAStoreError, UnknownCodecError
from ampstore.salvage import salvage
from ampstore.salvage.copies import StoreCopy

PAGE = 4096


@pytest.fixture(scope="module")
def damaged_once(tmp_path_factory):
    """A store with interior pages, overflow chains and free pages, and its true contents."""
    path = tmp_path_factory.mktemp("salvage") / "store.db"
    rng = random.Random(7)

    def value(length):
        return [("Cu", [rng.random() for _ in range(length)])]

    with ampstore.Store(path, "c") as store:
        with store.batch():
            for n in range(260):
                store[f"{n:03d}-{'k' * 120}"] = value(rng.choice([3, 20, 60, 800]))
        keys = list(store)
        for key in keys[::5] + keys[100:160]:
            store.pop(key, None)
        for key in keys[1::7]:
            store[key] = value(30)
        truth = dict(store.items())
    return path, truth


@pytest.fixture
def copy(damaged_once, tmp_path):
    path, _ = damaged_once
    return shutil.copy(path, tmp_path / "damaged.db")


@pytest.fixture
def truth(damaged_once):
    return damaged_once[1]


def recovered(path):
    """values, doubtful keys, lost keys, and whether all keys are known, without making a store."""
    codec, values, unsure, lost = Codec(), {}, set(), set()
    with Pages(path) as pages:
        place = StoreCopy(pages, codec)
        for key in place.keys():
            version = place.version(key)
            if version.row is None:
                lost.add(key)
                continue
            if version.doubt:
                unsure.add(key)
            try:
                values[key] = codec.decode(key, *version.row[1:2], *version.row[3:5], version.row.payload)
            except UnknownCodecError:  # a bit of its name
                assert version.doubt
        return values, unsure, lost, place.complete


def assert_true(path, truth, most_lost):
    """Nothing wrong, nothing lost without a word, no more lost than the damage can hold."""
    values, unsure, lost, complete = recovered(path)
    assert {key for key in values if values[key] != truth.get(key)} <= unsure
    assert complete
    assert set(truth) - set(values) <= lost
    assert lost <= set(truth)
    assert not unsure
    assert len(lost) <= most_lost


def kinds_of_pages(path):
    """What each page is, by plain sqlite3 and the file format: header, interior, leaf, overflow, free."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        count = connection.execute("PRAGMA page_count").fetchone()[0]
        free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema"))
    data = path.read_bytes()
    kinds = {data[n * PAGE] for n in range(1, count)}
    return count, free, roots, kinds


def test_the_damaged_store_has_pages_of_every_kind(damaged_once):
    """Interior and leaf pages of table and index, overflow and free pages: the tests below meet them all."""
    _, free, roots, kinds = kinds_of_pages(damaged_once[0])
    assert {2, 5, 10, 13, 0} <= kinds
    assert free > 10
    assert (roots["entry"], roots["sqlite_autoindex_entry_1"]) == (4, 5)


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ("noise", 3),
        ("zeros", 6),
        ("half", 6),
        pytest.param("noise", 1, marks=pytest.mark.soak),
        pytest.param("zeros", 1, marks=pytest.mark.soak),
        pytest.param("half", 1, marks=pytest.mark.soak),
    ],
)
def test_a_store_with_any_one_page_gone_gives_back_all_other_entries(damaged_once, tmp_path, truth, how, step):
    """Page by page: no wrong value, no entry lost without a word, none lost that was not on the page."""
    data, path = damaged_once[0].read_bytes(), tmp_path / "damaged.db"
    rng = random.Random(3)
    for page in [*range(6), *range(6, len(data) // PAGE, step)]:
        broken = bytearray(data)
        start, end = page * PAGE, (page + 1) * PAGE
        if how == "half":
            end -= PAGE // 2
        broken[start:end] = bytes(end - start) if how == "zeros" else rng.randbytes(end - start)
        path.write_bytes(broken)
        # A leaf of the table has at most so many rows; interior pages and the header take nothing with them.
        assert_true(path, truth, 0 if page in (0, 3, 4) else 20)


def test_header_and_the_root_of_the_table_gone_lose_nothing(copy, truth, damaged_once):
    """Two at once: the index says which rows of the scattered pages count."""
    data = bytearray(damaged_once[0].read_bytes())
    for page in (0, 3):
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    copy.write_bytes(data)
    assert_true(copy, truth, 0)


def test_with_both_trees_gone_what_may_have_been_deleted_is_told(copy, truth, damaged_once):
    """Header, table and index without roots: every entry is there, and deleted ones are named as doubtful."""
    data = bytearray(damaged_once[0].read_bytes())
    for page in (0, 3, 4):
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    copy.write_bytes(data)
    values, unsure, _, complete = recovered(copy)
    assert not complete
    assert truth.keys() <= values.keys()
    assert {key for key in values if values[key] != truth.get(key)} <= unsure


@pytest.mark.parametrize("files", [50, pytest.param(5000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_flipped_bits_give_no_wrong_value(damaged_once, tmp_path, truth, files):
    """Files with three random bits flipped: each entry is right, named as lost, or named as doubtful."""
    data, path, rng = damaged_once[0].read_bytes(), tmp_path / "damaged.db", random.Random(11)
    for _ in range(files):
        broken = bytearray(data)
        for _ in range(3):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        values, unsure, lost, complete = recovered(path)
        wrong = {key for key in values if values[key] != truth.get(key)} - unsure
        assert not wrong
        assert not complete or set(truth) - set(values) <= lost | unsure


def test_a_file_cut_off_anywhere_gives_back_what_is_left(damaged_once, tmp_path, truth):
    """Truncated at 40 places: what comes out is right."""
    data, path, rng = damaged_once[0].read_bytes(), tmp_path / "damaged.db", random.Random(5)
    for _ in range(40):
        path.write_bytes(data[: rng.randrange(PAGE, len(data))])
        values, unsure, _, _ = recovered(path)
        assert {key for key in values if values[key] != truth.get(key)} <= unsure


# -- the WAL ---------------------------------------------------------------------------------------


@pytest.fixture
def with_wal(tmp_path):
    """A store whose last commits are in its WAL only, as a killed writer leaves it: main, WAL and contents."""
    path, left = tmp_path / "store.db", tmp_path / "left.db"
    with ampstore.Store(path, "c") as store:
        store.put_many((f"k{n:03d}", [("Cu", [float(n)] * 40)]) for n in range(60))
        store.sync()
        before = dict(store.items())
        for n in range(20, 90):
            store[f"k{n:03d}"] = [("Pt", [n / 7] * 90)]
        del store["k010"]
        truth = dict(store.items())
        shutil.copy(path, left)
        shutil.copy(f"{path}-wal", f"{left}-wal")
    return left, before, truth


def test_commits_in_the_wal_are_found(with_wal):
    """A writer that was killed left them there, and nowhere else."""
    path, _, truth = with_wal
    values, unsure, lost, complete = recovered(path)
    assert (values, unsure, lost, complete) == (truth, set(), set(), True)


def test_the_wal_alone_gives_back_what_it_has(with_wal):
    """The main file is gone: entries of the WAL's pages come out, and they are right."""
    path, _, truth = with_wal
    path.unlink()
    values, unsure, _, _ = recovered(path)
    assert len(values) > 60
    assert {key for key in values if values[key] != truth.get(key)} <= unsure


@pytest.mark.parametrize("place", ["salt", "first frame", "middle", "last frame"])
def test_commits_behind_a_damaged_frame_are_found(with_wal, place):
    """SQLite stops at the damage without a word; here the rest is read, and what is not certain is told."""
    path, before, truth = with_wal
    data = bytearray((path.parent / f"{path.name}-wal").read_bytes())
    frames = (len(data) - 32) // (PAGE + 24)
    frame = {"salt": 0, "first frame": 0, "middle": frames // 2, "last frame": frames - 1}[place]
    at = 16 if place == "salt" else 32 + frame * (PAGE + 24) + 24 + 3000
    data[at] ^= 0x55
    (path.parent / f"{path.name}-wal").write_bytes(data)
    values, unsure, lost, _ = recovered(path)
    assert {key for key in values if values[key] != truth.get(key)} <= unsure
    assert set(truth) - set(values) <= lost
    assert len(set(truth) - set(values)) < 20
    assert not [key for key in values if key not in truth and key not in before]


def test_uncommitted_frames_are_not_taken(with_wal):
    """Frames behind the last commit belong to a transaction that never was."""
    path, before, truth = with_wal
    wal = path.parent / f"{path.name}-wal"
    data = wal.read_bytes()
    commits = [at for at in range(32, len(data) - PAGE, PAGE + 24) if struct.unpack(">I", data[at + 4 : at + 8])[0]]
    wal.write_bytes(data[: commits[0] + PAGE + 24 + 500])  # one commit and part of the next
    with contextlib.closing(sqlite3.connect(path)) as connection:
        keys = {row[0] for row in connection.execute("SELECT key FROM entry")}
    shutil.copy(path, path.parent / "again.db")
    values, _, _, _ = recovered(path)
    assert values.keys() == keys
    assert truth.keys() != keys


# -- hostile files ---------------------------------------------------------------------------------


def test_pages_that_name_each_other_end(tmp_path, damaged_once):
    """Interior pages in a circle, chains that bite their tails, a million cells: an end is found."""
    data = bytearray(damaged_once[0].read_bytes())
    rng = random.Random(1)
    for page in range(5, len(data) // PAGE):
        if data[page * PAGE] in (0, 13):
            data[page * PAGE : page * PAGE + 4] = struct.pack(">I", rng.randrange(1, len(data) // PAGE))
    for page in range(5, 60):
        data[page * PAGE : page * PAGE + 8] = bytes([5, 0, 0, 7, 255, 0, 16, 0])
    (tmp_path / "x.db").write_bytes(data)
    recovered(tmp_path / "x.db")


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000, os.urandom(9000)])
def test_files_that_hold_nothing_give_nothing(tmp_path, content):
    """Empty, zeros, noise: no entry, no error, and no claim that nothing was lost."""
    (tmp_path / "x.db").write_bytes(content)
    values, _, lost, complete = recovered(tmp_path / "x.db")
    assert (values, lost, complete) == ({}, set(), False)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    """A missing file, a FIFO."""
    with pytest.raises(MissingStoreError):
        Pages(tmp_path / "none.db")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotAStoreError):
        Pages(tmp_path / "fifo")


# -- into a new store ------------------------------------------------------------------------------


def test_salvage_makes_a_new_store_in_the_old_order(damaged_once, tmp_path, truth):
    """A whole store comes out whole: entries, order, noted facts; and `verify` finds nothing."""
    source = shutil.copy(damaged_once[0], tmp_path / "a.db")
    with ampstore.Store(source, "w") as store:
        store.note("scheme", "v2")
    report = salvage(source, tmp_path / "new.db")
    assert report.whole
    with ampstore.Store(tmp_path / "new.db", "r") as store:
        assert list(store.items()) == list(truth.items())
        assert store.noted("scheme") == "v2"
        assert not list(store.verify())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "new.db"]


def test_the_destination_is_never_overwritten(copy, tmp_path):
    """A name that is taken is an error, and what is there stays."""
    (tmp_path / "there.db").write_text("mine")
    with pytest.raises(FileExistsError):
        salvage(copy, tmp_path / "there.db")
    assert (tmp_path / "there.db").read_text() == "mine"


def test_second_copies_give_back_what_is_lost(copy, tmp_path, truth):
    """With a backup nothing is lost: values with the digest that was lost are certain, others are named."""
    with ampstore.Store(copy, "r") as store:
        store.backup(tmp_path / "backup.db")
    with ampstore.Store(tmp_path / "backup.db", "w") as store:
        store["unrelated"] = 1
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        key, number = connection.execute("SELECT key, length(payload) FROM entry ORDER BY 2 DESC").fetchone()
        connection.execute("UPDATE entry SET payload = zeroblob(?) WHERE key = ?", (number, key))
        connection.commit()
    without = salvage(copy, tmp_path / "one.db")
    assert [finding.key for finding in without.lost] == [key]
    report = salvage(copy, tmp_path / "two.db", second=[tmp_path / "backup.db"])
    assert report.whole
    assert report.restored == 1
    with ampstore.Store(tmp_path / "two.db", "r") as store:
        assert dict(store.items()) == truth


def test_a_copy_with_another_value_is_told(tmp_path):
    """What was lost and what the copy has are not the same: it is written and named, or left out on demand."""
    for name, value in (("a.db", [1.5] * 50), ("b.db", [2.5] * 50)):
        with ampstore.Store(tmp_path / name, "c") as store:
            store["key"] = value
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("UPDATE entry SET payload = x'00'")
        connection.commit()
    report = salvage(tmp_path / "a.db", tmp_path / "c.db", second=[tmp_path / "b.db"])
    assert [finding.key for finding in report.unsure] == ["key"]
    assert not report.whole
    report = salvage(tmp_path / "a.db", tmp_path / "d.db", second=[tmp_path / "b.db"], certain=True)
    with ampstore.Store(tmp_path / "d.db", "r") as store:
        assert len(store) == report.written == 0


# -- archives --------------------------------------------------------------------------------------


def archive_of(path, values, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for key, value in values.items():
            data = pickle.dumps(value, 0)
            member = tarfile.TarInfo(key)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def archive(tmp_path):
    rng = random.Random(2)
    values = {f"{n:040x}": [("Cu", [rng.random() for _ in range(60)])] for n in range(150)}
    archive_of(tmp_path / "archive.tar.gz", values)
    return tmp_path / "archive.tar.gz", values


def test_a_truncated_archive_gives_every_whole_member(archive, tmp_path):
    """Cut at half: all members before the cut, and the archive is named."""
    path, values = archive
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = salvage(path, tmp_path / "new.db")
    assert 60 < report.written < 90
    assert not report.complete
    assert not report.unsure
    with ampstore.Store(tmp_path / "new.db", "r") as store:
        assert all(values[key] == value for key, value in store.items())


def test_gzip_members_behind_a_damaged_one_are_found(archive, tmp_path):
    """Two archives joined end to end, the first with a hole: those before it are doubtful, the second is whole."""
    path, values = archive
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 3000] = random.Random(4).randbytes(3000)
    more = {f"more{n}": [n] * 300 for n in range(20)}
    archive_of(tmp_path / "more.tar.gz", more)
    path.write_bytes(data + (tmp_path / "more.tar.gz").read_bytes())
    report = salvage(path, tmp_path / "new.db")
    unsure = {finding.key for finding in report.unsure}
    with ampstore.Store(tmp_path / "new.db", "r") as store:
        found = dict(store.items())
    assert {key for key in found if found[key] != (values | more)[key]} <= unsure
    assert more.keys() <= found.keys() - unsure
    assert len(found) > 50
    assert not report.whole


def test_one_wrong_bit_in_an_archive_never_passes_as_certain(archive, tmp_path):
    """A wrong bit may change one digit and nothing else, so values of such an archive are named as doubtful."""
    path, values = archive
    data, rng = path.read_bytes(), random.Random(9)
    for n in range(4):
        broken = bytearray(data)
        broken[rng.randrange(200, len(data) - 8)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        report = salvage(path, tmp_path / f"{n}.db")
        with ampstore.Store(tmp_path / f"{n}.db", "r") as store:
            wrong = {key for key, value in store.items() if values.get(key) != value}
        assert wrong <= {finding.key for finding in report.unsure}
        assert not report.whole


def test_a_damaged_tar_header_hides_one_member_only(tmp_path):
    """The gzip stream is whole, one header is not: all other members come out."""
    values = {f"k{n}": [n] * 50 for n in range(20)}
    archive_of(tmp_path / "plain.tar", values, "w:")
    data = bytearray((tmp_path / "plain.tar").read_bytes())
    place = data.find(b"k7\0")
    data[place : place + 300] = bytes(300)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data))
    report = salvage(tmp_path / "a.tar.gz", tmp_path / "new.db")
    with ampstore.Store(tmp_path / "new.db", "r") as store:
        assert dict(store.items()) == {key: value for key, value in values.items() if key != "k7"}
    assert report.written == 19


# -- containers ------------------------------------------------------------------------------------


def test_a_half_written_container_gives_every_tier(tmp_path):
    """Loose files win over the store, the store over the archive; a torn file is named, a link not followed."""
    container = tmp_path / "c.ampdb"
    with ampstore.FileDatabase(container) as database:
        database["stored"] = 1
        database["both"] = "store"
        database["torn"] = "store"
    archive_of(container / "archive.tar.gz", {"archived": 3, "both": "archive"})
    (container / "loose" / "both").write_bytes(pickle.dumps("loose", 0))
    (container / "loose" / "torn").write_bytes(pickle.dumps("newer", 0)[:-3])
    (container / "loose" / "gone").write_bytes(b"")
    (tmp_path / "secret").write_bytes(pickle.dumps("secret", 0))
    (container / "loose" / "link").symlink_to(tmp_path / "secret")
    (container / "store.sqlite3").write_bytes((container / "store.sqlite3").read_bytes()[PAGE:].rjust(1 << 16, b"\0"))
    report = salvage(tmp_path / "c", tmp_path / "new.db")
    with ampstore.Store(tmp_path / "new.db", "r") as store:
        found = dict(store.items())
    assert {key: found[key] for key in ("archived", "both")} == {"archived": 3, "both": "loose"}
    assert "link" not in found
    assert "torn" in {finding.key for finding in report.unsure} | {finding.key for finding in report.lost}


def test_what_was_deleted_after_folding_does_not_come_back(tmp_path):
    """The store took the archive over; the archive stays and counts no longer."""
    container = tmp_path / "c.ampdb"
    container.mkdir()
    archive_of(container / "archive.tar.gz", {"a": 1, "b": 2})
    with ampstore.FileDatabase(container) as database:
        del database["a"]
    report = salvage(container, tmp_path / "new.db")
    with ampstore.Store(tmp_path / "new.db", "r") as store:
        assert dict(store.items()) == {"b": 2}
    assert report.whole


# -- the command -----------------------------------------------------------------------------------


def test_the_command_lists_what_is_lost_and_leaves_with_1(copy, tmp_path):
    """Exit code 0 if all is there, 1 if not, 2 if the destination exists; --json says the same."""
    whole = CliRunner().invoke(main, ["salvage", str(copy), str(tmp_path / "a.db"), "--json"])
    assert whole.exit_code == 0
    assert json.loads(whole.stdout)["whole"] is True
    again = CliRunner().invoke(main, ["salvage", str(copy), str(tmp_path / "a.db")])
    assert again.exit_code == 2
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        key = connection.execute("SELECT key FROM entry").fetchone()[0]
        connection.execute("UPDATE entry SET size = size + 1 WHERE key = ?", (key,))
        connection.commit()
    lost = CliRunner().invoke(main, ["salvage", str(copy), str(tmp_path / "b.db")])
    assert lost.exit_code == 1
    assert f"lost: {key}" in lost.stderr
