"""Entries by number for training, and structures as files of other programs."""

import importlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import iread

import ampstore
from ampstore import Dataset, FileDatabase, Store
from ampstore.errors import (
    CorruptEntryError,
    ImageFormatError,
    MissingStoreError,
    NotAnImageError,
    UnreadableImagesError,
)
from ampstore.images.files import key_of, text_of

VALUES = {f"k{n:03}": [n, [n / 2] * 5] for n in range(100)}


def total(key, value):
    """A transform that workers can be sent."""
    return int(key[1:]), sum(value[1])


def failing(key, value):
    raise ZeroDivisionError("no such thing")


@pytest.fixture
def path(tmp_path):
    with Store(tmp_path / "a.db") as store:
        store.put_many(VALUES)
    return tmp_path / "a.db"


# -- a dataset -----------------------------------------------------------------------------------


def test_numbers_are_those_of_the_order_of_insertion(path):
    """From the end too, and nothing beyond it."""
    with Dataset(path) as dataset:
        assert len(dataset) == 100
        assert dataset.keys == list(VALUES)
        assert dataset[3] == VALUES["k003"]
        assert dataset[-1] == VALUES["k099"]
        with pytest.raises(IndexError, match="0 to 99"):
            dataset[100]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 32, 64, 65, 100])
def test_a_batch_comes_in_the_order_that_was_asked_for(path, size):
    """Whatever size of statement reads it."""
    numbers = [n * 37 % 100 for n in range(size)]
    with Dataset(path) as dataset:
        assert dataset.__getitems__(numbers) == [VALUES[f"k{n:03}"] for n in numbers]


def test_a_number_that_comes_twice_gets_two_objects(path):
    """A transform may change what it is given."""
    with Dataset(path) as dataset:
        first, second = dataset.__getitems__([4, 4])
        assert first == second
        assert first is not second


def test_keys_can_be_chosen_and_samples_made(path):
    """In their order."""
    with Dataset(path, ["k007", "k002"], total) as dataset:
        assert dataset.__getitems__([0, 1]) == [(7, 17.5), (2, 5.0)]


def test_a_dataset_pickles_as_its_location_and_keys(path):
    """No handle goes along; numbers stay what they are when others add entries."""
    with Dataset(path) as dataset:
        assert dataset[5] == VALUES["k005"]
        data = pickle.dumps(dataset)
    with Store(path) as store:
        del store["k000"]
        store["new"] = 1
    with pickle.loads(data) as copy:
        assert len(copy) == 100
        assert copy[5] == VALUES["k005"]
        with pytest.raises(KeyError, match="k000"):
            copy[0]
        with pytest.raises(KeyError, match="k000"):
            copy.__getitems__([1, 0])


def test_it_opens_nothing_before_it_reads_and_reads_only(path, tmp_path):
    """Also in a directory that is made later; a place without a store is named."""
    late = Dataset(tmp_path / "late.db")
    with pytest.raises(MissingStoreError, match=r"late\.db"):
        len(late)
    os.rename(path, tmp_path / "late.db")
    assert len(late) == 100
    late.close()
    late.close()
    assert late[0] == VALUES["k000"]
    late.close()


def test_a_container_shows_its_tiers(tmp_path):
    """A loose file wins, in a batch as for one."""
    with FileDatabase(tmp_path / "c") as database:
        database.update({"a": 1, "b": 2})
    loose = tmp_path / "c.ampdb" / "loose"
    loose.mkdir(exist_ok=True)
    (loose / "b").write_bytes(pickle.dumps(20, 2))
    (loose / "d").write_bytes(pickle.dumps(4, 2))
    with Dataset(tmp_path / "c") as dataset, FileDatabase(tmp_path / "c") as database:
        assert dataset.keys == ["a", "b", "d"]
        assert dataset.__getitems__([2, 0, 1]) == [4, 1, 20]
        assert database.get_many(["d", "nothing", "b"]) == {"d": 4, "b": 20}
        database.archive()
        assert dataset.__getitems__([2, 0, 1]) == [4, 1, 20]
        assert database.get_many(["d", "nothing", "b"]) == {"d": 4, "b": 20}


def test_errors_name_the_entry(path):
    """A damaged one by its key; a transform's own error gets a note."""
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entry SET payload = x'00' WHERE key = 'k009'")
    with Dataset(path) as dataset, pytest.raises(CorruptEntryError, match="k009"):
        dataset.__getitems__([8, 9])
    with Dataset(path, transform=failing) as dataset, pytest.raises(ZeroDivisionError) as caught:
        dataset[7]
    assert "'k007'" in caught.value.__notes__[0]


def test_importing_it_imports_no_torch(path):
    """Which takes a second or more."""
    program = f"import sys, ampstore; ampstore.Dataset({str(path)!r})[0]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_both_kinds_read_through_one_dataset(path, method):
    """What a DataLoader does, without PyTorch: the dataset was read here before, and goes to other processes."""
    with Dataset(path) as dataset:
        assert dataset[0] == VALUES["k000"]
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            batches = list(pool.map(dataset.__getitems__, [[1, 2], [99, 0], [50]], timeout=120))
        assert batches == [[VALUES[f"k{n:03}"] for n in numbers] for numbers in ([1, 2], [99, 0], [50])]
        assert dataset[3] == VALUES["k003"]


@pytest.mark.parametrize(("workers", "method"), [(0, None), (2, "fork"), (2, "spawn")])
def test_a_dataloader_reads_every_entry_once(path, workers, method):
    """PyTorch's own, shuffled, in this process and in workers of both kinds; also after reading here."""
    torch = pytest.importorskip("torch")
    with Dataset(path, transform=total) as dataset:
        assert dataset[0] == (0, 0.0)
        options = {"multiprocessing_context": method, "timeout": 120} if workers else {}
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=16, shuffle=True, num_workers=workers, collate_fn=list, **options
        )
        for _ in range(2 if method != "spawn" else 1):
            batches = list(loader)
            assert [len(batch) for batch in batches] == [16] * 6 + [4]
            samples = [sample for batch in batches for sample in batch]
            assert sorted(samples) == [total(key, value) for key, value in VALUES.items()]
            assert samples != sorted(samples)


# -- structures as files -------------------------------------------------------------------------


def structures():
    slab = bulk("Cu", cubic=True)
    slab.rattle(seed=1)
    slab.calc = SinglePointCalculator(slab, energy=-1.5, forces=slab.positions * 0.25)
    return {"00ff": slab, "t": molecule("H2O"), "0012": bulk("Pt"), "1e5": bulk("Au"), "a/b é": molecule("CO")}


@pytest.mark.parametrize("suffix", ["db", "extxyz", "xyz"])
def test_structures_go_out_and_come_back_under_their_keys(tmp_path, suffix):
    """Also those that look like numbers; energies and forces go along."""
    images = structures()
    with Store(tmp_path / "a.db") as store, Store(tmp_path / "b.db") as back:
        store.put_many(images)
        assert ampstore.export_images(store, tmp_path / f"x.{suffix}") == 5
        assert ampstore.import_images(tmp_path / f"x.{suffix}", back) == 5
        assert list(back) == list(images)
        for key, image in images.items():
            assert abs(back[key].positions - image.positions).max() < 1e-8
            assert (back[key].numbers == image.numbers).all()
            assert (back[key].pbc == image.pbc).all()
            assert "ampstore_key" not in back[key].info
        assert back["00ff"].get_potential_energy() == pytest.approx(-1.5)
        assert abs(back["00ff"].get_forces() - images["00ff"].get_forces()).max() < 1e-7


def test_other_programs_find_the_key(tmp_path):
    """ASE alone: a key-value pair that can be selected, and an item of info."""
    ampstore.export_images(structures(), tmp_path / "x.db", ["00ff", "t"])
    ampstore.export_images(structures(), tmp_path / "x.extxyz", ["00ff", "t"])
    assert [row.natoms for row in connect(tmp_path / "x.db").select(ampstore_key="00ff")] == [4]
    assert [image.info["ampstore_key"] for image in iread(tmp_path / "x.extxyz")] == ["00ff", "key:t"]


@pytest.mark.parametrize(
    "key", ["0012", "1e5", "nan", "-Inf", "T", "false", "1_0", "a b", "key:x", "ü/%", "é", "1d5", "ok"]
)
def test_texts_of_keys_lead_back_to_the_keys(key):
    """And to no number."""
    text = text_of(key)
    assert key_of(text) == key
    assert (text == key) == (key == "ok")


def test_structures_without_a_key_get_that_of_their_hash(tmp_path):
    """Files that other programs wrote."""
    image = bulk("Cu")
    with connect(tmp_path / "x.db") as database:
        database.write(image)
    found = {}
    ampstore.import_images(tmp_path / "x.db", found)
    assert list(found) == [ampstore.get_hash(image)]


def test_an_export_is_whole_or_not_there(tmp_path):
    """A value that is no structure, a name that is taken."""
    with pytest.raises(NotAnImageError, match="'n'"):
        ampstore.export_images({"a": bulk("Cu"), "n": 3}, tmp_path / "x.extxyz")
    assert os.listdir(tmp_path) == []
    (tmp_path / "x.db").write_bytes(b"")
    with pytest.raises(FileExistsError):
        ampstore.export_images(structures(), tmp_path / "x.db")
    with pytest.raises(KeyError):
        ampstore.export_images(structures(), tmp_path / "y.db", ["nothing"])
    assert os.listdir(tmp_path) == ["x.db"]


def test_files_that_nobody_can_read_are_named(tmp_path):
    """Unknown, missing, damaged."""
    with pytest.raises(ImageFormatError, match="adapters"):
        ampstore.export_images({}, tmp_path / "x.foo")
    with pytest.raises(FileNotFoundError):
        ampstore.import_images(tmp_path / "x.db", {})
    (tmp_path / "x.extxyz").write_text("3\nLattice=\nnonsense\n")
    with pytest.raises(UnreadableImagesError, match=r"x\.extxyz"):
        ampstore.import_images(tmp_path / "x.extxyz", {})


def test_an_adapter_of_an_installed_package_is_found_by_the_suffix(tmp_path, monkeypatch):
    """Through its entry point, loaded when it is needed."""
    package = tmp_path / "site" / "framespkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "def write(path, pairs):\n"
        "    with open(path, 'w') as f:\n"
        "        for key, atoms in pairs: f.write(f'{key} {atoms.get_chemical_formula()}\\n')\n"
        "def read(path):\n"
        "    from ase.build import molecule\n"
        "    with open(path) as f:\n"
        "        for line in f: yield line.split()[0], molecule(line.split()[1])\n"
    )
    info = tmp_path / "site" / "framespkg-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: framespkg\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ampstore.adapters]\nframes = framespkg\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    found = {}
    assert ampstore.export_images({"w": molecule("H2O")}, tmp_path / "x.frames") == 1
    assert (tmp_path / "x.frames").read_text() == "w H2O\n"
    assert ampstore.import_images(tmp_path / "x.frames", found) == 1
    assert found["w"] == molecule("H2O")
