"""Hash schemes of a store: noted, refused where they would be mixed, and changed without touching values."""

import json
import os
import pickle
import shelve
import signal
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from click.testing import CliRunner
from conftest import CORPUS

import ampstore
from ampstore import FileDatabase, Store
from ampstore.cli import main
from ampstore.data import Data
from ampstore.errors import HashSchemeError, MixedSchemesError, UnreadableImagesError
from ampstore.images import MetaDict, get_hash, hash_images
from ampstore.images.schemes import NOTE
from ampstore.legacy import LegacyDatabase
from ampstore.transfer import rekey
from ampstore.transfer.rekeying import CHUNK

KEEPING = {"FileDatabase": FileDatabase, "Store": Store, "ampstore": ampstore}
PLAIN = {"LegacyDatabase": LegacyDatabase, "shelve": shelve}


def structures(count, seed=0):
    """Different cells of 30 atoms: v1 and v0 of theirs differ, too."""
    rng = np.random.default_rng(seed)
    return [Atoms("Cu30", rng.normal(size=(30, 3)), cell=[9, 9, 9], pbc=True) for _ in range(count)]


def energy(image):
    """A calculator: a number that tells images apart."""
    return float(image.positions[0, 0])


def calculated(path, db, images, scheme):
    with Data(path, db, energy) as data:
        data.calculate_items(hash_images(images, scheme=scheme))


def filled(path, images, scheme):
    """A store as if calculated under a scheme, without a note."""
    with Store(path) as store:
        store.update({get_hash(image, scheme): energy(image) for image in images})
    return path


def contents(path):
    with Store(path, "r") as store:
        return dict(store)


def under(scheme, images):
    return {get_hash(image, scheme): energy(image) for image in images}


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


# -- what Data notes and refuses ---------------------------------------------------------------------


@pytest.mark.parametrize("db", KEEPING.values(), ids=KEEPING)
def test_the_scheme_is_noted_with_the_first_results_and_others_are_refused(db, tmp_path):
    """A ValueError that names both schemes and the way out; nothing is calculated, other images neither."""
    path, images = tmp_path / "d", structures(3)
    calculated(path, db, images, "v1")
    with pytest.raises(MixedSchemesError, match=r"'v1', not 'v2'.*ampstore rekey .* --from v1 --to v2"):
        calculated(path, db, images, "v2")
    with pytest.raises(MixedSchemesError):
        calculated(path, db, structures(1, seed=9), "v2")
    calculated(path, db, structures(4, seed=9), "v1")
    with Data(path, db) as data:
        data.open()
        assert len(data.d) == 7


@pytest.mark.parametrize("db", [*KEEPING.values(), *PLAIN.values()], ids=[*KEEPING, *PLAIN])
def test_results_that_exist_under_another_scheme_are_not_calculated_again(db, tmp_path):
    """Where nothing was noted the images that are missing are looked for under the other schemes."""
    path, images = str(tmp_path / "d"), structures(5)
    with Data(path, db) as data:
        data.open("c")
        data.d.update(under("v0", images))
    with pytest.raises(MixedSchemesError, match="'v0', not 'v2'"):
        calculated(path, db, images, "v2")
    calculated(path, db, structures(2, seed=9), "v2")
    calculated(path, db, images, "v0")
    with Data(path, db) as data:
        data.open()
        assert len(list(data.d.keys())) == 7


def test_a_store_that_held_entries_before_gets_no_note(tmp_path, raw):
    """Nobody can say what those are; an empty store gets one, also if it had another before."""
    path = filled(tmp_path / "a.db", structures(2), "v2")
    calculated(path, Store, structures(4), "v2")
    notes = "SELECT value FROM info WHERE name = 'hash scheme'"
    assert raw(path, notes) == []
    with Store(path) as store:
        store.clear()
    for scheme in ("v1", "v2"):
        calculated(path, Store, structures(1), scheme)
        assert raw(path, notes) == [(scheme,)]
        with Store(path) as store:
            store.clear()


def test_images_without_a_scheme_are_not_judged(tmp_path):
    """Keys of a program's own are nobody's business; neither are keys that are all there."""
    path, images = tmp_path / "a.db", structures(2)
    calculated(path, Store, images, "v1")
    with Data(path, Store, energy) as data:
        data.calculate_items({"mine": images[0]})
        data.calculate_items({get_hash(images[0], "v1"): images[0]})


def test_an_unreadable_image_does_not_hide_the_scheme_of_others(tmp_path):
    """What cannot be hashed is passed over."""
    images = structures(2)
    path = filled(tmp_path / "a.db", images, "v1")
    found = MetaDict({"f" * 32: "no image"} | hash_images(images))
    found.metadata = {"scheme": "v2"}
    with Data(path, Store, energy) as data, pytest.raises(MixedSchemesError):
        data.calculate_items(found)


def test_a_program_that_was_slower_is_refused(tmp_path, monkeypatch):
    """Two programs begin one store with two schemes: one of them notes its own, the other is told."""
    path, images = tmp_path / "a.db", structures(1)
    noted = Store.renote

    def beaten(self, name, was, value):
        noted(self, name, was, "v1")
        return noted(self, name, was, value)

    monkeypatch.setattr(Store, "renote", beaten)
    with pytest.raises(MixedSchemesError, match="'v1', not 'v2'"):
        calculated(path, Store, images, "v2")


def test_nothing_missing_asks_for_no_scheme(tmp_path, monkeypatch):
    """The step of a simulation costs what it did."""
    images = hash_images(structures(1))
    with Data(tmp_path / "d", FileDatabase, energy) as data:
        data.calculate_items(images)
        monkeypatch.setattr(FileDatabase, "noted", None)
        monkeypatch.setattr(Store, "noted", None)
        assert data.calculate_items(images) == []


# -- changing the keys -------------------------------------------------------------------------------


def test_entries_get_their_new_keys_and_keep_their_rows(tmp_path, raw):
    """Kind, size, checksum, time and payload stay; the scheme is noted; doing it again changes nothing."""
    images = structures(CHUNK + 30)
    path = filled(tmp_path / "a.db", images, "v1")
    rows = "SELECT id, codec, kind, size, checksum, written_at, payload FROM entry ORDER BY id"
    before = raw(path, rows)
    with Store(path) as store:
        report = rekey(store, images, "v1")
        assert (report.changed, report.unchanged, report.left) == (CHUNK + 30, 0, [])
        assert report.complete
        again = rekey(store, iter(images), "v1")
        assert (again.changed, again.unchanged, again.complete) == (0, CHUNK + 30, True)
        assert store.noted(NOTE) == "v2"
        assert list(store.verify()) == []
    assert raw(path, rows) == before
    assert contents(path) == under("v2", images)
    calculated(path, Store, structures(CHUNK + 31), "v2")


def test_entries_of_other_images_stay_and_are_guarded(tmp_path):
    """Listed, and never calculated again unnoticed: the store notes that old keys may be there."""
    images = structures(6)
    path = tmp_path / "a.db"
    calculated(path, Store, images, "v1")
    with Store(path) as store:
        report = rekey(store, images[:4], "v1")
        assert sorted(problem.name for problem in report.left) == sorted(under("v1", images[4:]))
        assert store.noted(NOTE) == "v2 v1"
    with pytest.raises(MixedSchemesError, match="'v1', not 'v2'"):
        calculated(path, Store, images, "v2")
    with pytest.raises(MixedSchemesError, match="'v2', not 'v1'"):
        calculated(path, Store, structures(1, seed=9), "v1")
    calculated(path, Store, images[:4], "v2")
    with Store(path) as store:
        assert rekey(store, images[4:], "v1").left  # those of the first four are known to nobody now
        report = rekey(store, images, "v1")
        assert report.complete
        assert store.noted(NOTE) == "v2"


def test_images_that_match_nothing_change_nothing(tmp_path):
    """The note stays, and so do the entries."""
    path = tmp_path / "a.db"
    calculated(path, Store, structures(3), "v1")
    with Store(path) as store:
        assert len(rekey(store, structures(2, seed=9), "v1").left) == 3
        assert store.noted(NOTE) == "v1"


def test_a_value_under_both_keys_is_kept_once_if_it_is_the_same(tmp_path):
    """Equal: the old one goes. Different, or damaged: both stay and are listed."""
    images = structures(3)
    path = filled(tmp_path / "a.db", images, "v1")
    same, other, damaged = (get_hash(image) for image in images)
    with Store(path) as store:
        store[same] = energy(images[0])
        store[other] = "something else"
        store[damaged] = energy(images[2])
        store.backend.connection().execute("UPDATE entry SET payload = x'00' WHERE key = ?", (damaged,))
        for dry_run in (True, False):
            report = rekey(store, images, "v1", dry_run=dry_run)
            assert (report.changed, report.dropped, len(report.left)) == (0, 1, 2)
        assert "another value" in report.left[0].reason
        assert "damaged" in report.left[1].reason
        assert get_hash(images[0], "v1") not in store
        assert store[get_hash(images[1], "v1")] == energy(images[1])
        assert store[other] == "something else"
        assert store[get_hash(images[2], "v1")] == energy(images[2])


def test_a_key_that_several_structures_share_is_left(tmp_path):
    """Above 1000 atoms v1 leaves out numbers in the middle; nobody can say whose value it is."""
    numbers, positions = [29, 78] * 501, np.random.default_rng(1).normal(size=(1002, 3))
    one = Atoms(numbers, positions)
    other = Atoms([*numbers[:500], *numbers[501:499:-1], *numbers[502:]], positions)
    path = filled(tmp_path / "a.db", [one], "v1")
    with Store(path) as store:
        report = rekey(store, [one, other], "v1")
        assert [problem.reason for problem in report.left] == ["several of the images have this key"]
        assert get_hash(one, "v1") in store


def test_a_third_scheme_is_refused(tmp_path):
    """A store of v2 has no keys of v1 to be changed to v0; an unknown name lists the known."""
    path = tmp_path / "a.db"
    calculated(path, Store, structures(1), "v2")
    with Store(path) as store:
        with pytest.raises(MixedSchemesError):
            rekey(store, structures(1), "v1", "v0")
        with pytest.raises(HashSchemeError):
            rekey(store, structures(1), "v1", "v9")


def test_a_dry_run_writes_nothing(tmp_path):
    """Its numbers are those of the run."""
    images = structures(4)
    path = filled(tmp_path / "a.db", images, "v1")
    before = path.read_bytes()
    with Store(path, "r") as store:
        report = rekey(store, images[:3], "v1", dry_run=True)
    assert (report.entries, report.changed, len(report.left), report.dry_run) == (4, 3, 1, True)
    assert path.read_bytes() == before


def test_a_container_that_amp_wrote_is_taken_over(copy_of, manifest):
    """The databases of real Amp 0.6.1: same values, keys of 1.x, also after a look without writing."""
    frames = json.loads((CORPUS / "images.json").read_text())
    images = [
        Atoms(
            frame["numbers"],
            np.array([float.fromhex(text) for text in frame["positions"]]).reshape(-1, 3),
            cell=np.array([float.fromhex(text) for text in frame["cell"]]).reshape(3, 3),
            pbc=frame["pbc"],
        )
        for group in frames.values()
        for frame in group
    ]
    path = copy_of("v061-py27/amp-fingerprints.ampdb")
    entries = manifest["v061-py27/amp-fingerprints.ampdb"]["entries"]
    with FileDatabase(path) as database:
        legacy = {key: database[key] for key in database.keys()}
        assert legacy.keys() == entries.keys()
        with pytest.raises(MixedSchemesError, match=r"'v[01]', not 'v2'"), Data(path, calculator=energy) as data:
            data.calculate_items(hash_images(images))
        assert not (path / "store.sqlite3").exists()
        scheme = next(name for name in ("v1", "v0") if entries.keys() <= {get_hash(image, name) for image in images})
        foreseen = database.rekey(images, scheme, dry_run=True)
        assert (foreseen.changed, foreseen.complete) == (len(entries), True)
        assert database.unfolded()
        report = database.rekey(images, scheme)
        assert (report.changed, report.left) == (len(entries), [])
        assert database.unfolded() == []
        keys = {get_hash(image, scheme): get_hash(image) for image in images}
        assert {key: database[key] for key in database.keys()} == {keys[old]: legacy[old] for old in legacy}


def test_a_loose_file_that_holds_no_value_is_left(tmp_path):
    """It stays where it is and is listed."""
    images = structures(2)
    path = tmp_path / "a.ampdb"
    with FileDatabase(path) as database:
        database[get_hash(images[0], "v1")] = 1.0
        (path / "loose" / get_hash(images[1], "v1")).write_bytes(pickle.dumps(2.0)[:5])
        (path / "loose" / "torn").write_bytes(pickle.dumps([1.0] * 100)[:50])
        report = database.rekey(images, "v1")
        assert report.changed == 1
        assert {problem.name for problem in report.left} == {"torn", get_hash(images[1], "v1")}


KILLED = """
import sys
import ase.io
from ampstore import Store
from ampstore.transfer import rekey
def ready(done, total):
    print(done, flush=True)
with Store(sys.argv[1]) as store:
    rekey(store, sys.argv[2], "v1", progress=ready)
"""


def test_killed_in_the_middle_it_goes_on(tmp_path):
    """Killed between two chunks: every value is under one key, and the next call does the rest."""
    images = structures(8 * CHUNK)
    path, frames = filled(tmp_path / "a.db", images, "v1"), tmp_path / "images.traj"
    with Store(path) as store:
        store.note(NOTE, "v1")
    ase.io.write(frames, images)
    with subprocess.Popen([sys.executable, "-c", KILLED, path, frames], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    with Store(path) as store:
        assert len(store) == len(images)
        changed = len(store) - len(store.missing(under("v2", images)))
        assert CHUNK <= changed
        assert store.noted(NOTE) == ("v2 v1" if changed < len(images) else "v2")
        report = rekey(store, frames, "v1")
        assert (report.changed, report.unchanged, report.complete) == (len(images) - changed, changed, True)
    assert contents(path) == under("v2", images)


# -- the command -------------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path):
    """A trajectory of three images, and a store with their values under v1."""
    images = structures(3)
    ase.io.write(tmp_path / "images.traj", images)
    return filled(tmp_path / "a.db", images, "v1"), tmp_path / "images.traj", images


def test_the_command_changes_keys(frames):
    """A sentence, or JSON; 0 when nothing is left, --dry-run writes nothing."""
    path, trajectory, images = frames
    dry = run("rekey", path, trajectory, "--from", "v1", "--dry-run")
    assert (dry.exit_code, dry.stdout.count("3 would be changed from v1 to v2")) == (0, 1)
    assert contents(path) == under("v1", images)
    done = run("rekey", path, trajectory, "--from", "v1", "--to", "v2", "--json")
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert (facts["entries"], facts["changed"], facts["left"], facts["dry_run"]) == (3, 3, [], False)
    assert contents(path) == under("v2", images)
    assert json.loads(run("info", path, "--json").stdout)["hash scheme"] == "v2"


def test_the_command_leaves_with_1_if_entries_are_left(frames):
    """Each is named on the other channel."""
    path, trajectory, images = frames
    with Store(path) as store:
        store["notes"] = "of a person"
    done = run("rekey", path, trajectory, "--from", "v1")
    assert done.exit_code == 1
    assert "left: notes (store): none of the images has this key" in done.stderr
    assert contents(path) == {**under("v2", images), "notes": "of a person"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere.db", "i.traj"], 2),
        (["a.db", "nowhere.traj"], 2),
        (["a.db", "a.db"], 1),
        (["a.db", "i.traj", "v9"], 2),
    ],
)
def test_wrong_usage_of_the_command(tmp_path, monkeypatch, arguments, code):
    """No store, no images, no such scheme: 2. A file without images: 1. Nothing is written."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("i.traj", structures(1))
    filled(tmp_path / "a.db", structures(1), "v1")
    path, images, *scheme = arguments
    assert run("rekey", path, images, "--from", *(scheme or ["v1"])).exit_code == code
    assert contents(tmp_path / "a.db") == under("v1", structures(1))


def test_a_container_is_changed_by_the_command(tmp_path):
    """Files of legacy programs are folded first; the suffix may be left out."""
    images = structures(2)
    ase.io.write(tmp_path / "images.traj", images)
    with LegacyDatabase.open(tmp_path / "label") as database:
        database.update(under("v1", images))
    assert run("rekey", tmp_path / "label", tmp_path / "images.traj", "--from", "v1").exit_code == 0
    with FileDatabase(tmp_path / "label", "r") as database:
        assert {key: database[key] for key in database.keys()} == under("v2", images)
        assert database.unfolded() == []


def test_images_that_end_early_are_refused_before_anything_changes(frames):
    """A file that was cut off: UnreadableImagesError, and the store is as it was."""
    path, trajectory, images = frames
    trajectory.write_bytes(trajectory.read_bytes()[:-400])
    with Store(path) as store, pytest.raises(UnreadableImagesError):
        rekey(store, trajectory, "v1")
    assert contents(path) == under("v1", images)
