"""Keys byte for byte those of Amp, dictionaries of images, divisions of them, and parameter texts."""

import collections
import contextlib
import copy
import gc
import io
import itertools
import json
import math
import pickle
import sqlite3
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from conftest import CORPUS
from hypothesis import given, settings
from hypothesis import strategies as st

from ampstore.errors import (
    HashSchemeError,
    ImageError,
    MixedSchemesError,
    NotAnImageError,
    ParameterTextError,
    UnreadableImagesError,
)
from ampstore.images import (
    SCHEMES,
    MetaDict,
    OrderedMetaDict,
    check_scheme,
    digits,
    get_hash,
    get_hashes,
    hash_images,
    hashing,
    importer,
    literals,
    make_filename,
    new_keys,
    randomize_images,
    read_images,
    string2dict,
)
from ampstore.images import progress as progress_module
from ampstore.log import Logger


def rebuilt(vector):
    """The structure of one test vector."""
    floats = [float.fromhex(text) for text in vector["positions"]]
    cell = np.array([float.fromhex(text) for text in vector["cell"]]).reshape(3, 3)
    positions = np.array(floats).reshape(-1, 3)
    return Atoms(vector["numbers"], positions=positions, cell=cell, pbc=vector["pbc"])


@pytest.fixture(scope="session")
def vectors():
    """Structures and the keys that three generations of Amp gave them."""
    if not CORPUS.is_dir():
        pytest.skip(f"the legacy corpus is not at {CORPUS}")
    found = json.loads((CORPUS / "hashes.json").read_text())["vectors"]
    return [(vector["name"], rebuilt(vector), vector["hash"]) for vector in found]


def loop_text(atoms):
    """The text of v2 number by number, from its description."""
    text = str(np.array(atoms.pbc))
    for number in atoms.cell.flatten():
        text += "%.15f" % number  # noqa: UP031 - the form that is specified
    for number in atoms.numbers:
        text += "%3d" % number  # noqa: UP031 - the form that is specified
    for position in atoms.positions:
        for number in position:
            text += "%.15f" % number  # noqa: UP031 - the form that is specified
    return text


@pytest.fixture
def images():
    """Five small structures, all different, with energies."""
    found = [molecule("H2O"), bulk("Cu"), molecule("CH4"), bulk("Pt", cubic=True), Atoms("Au", cell=[9, 9, 9])]
    for n, atoms in enumerate(found):
        atoms.calc = SinglePointCalculator(atoms, energy=float(n))
    return found


@pytest.fixture
def page():
    """A Logger that writes to memory."""
    return Logger(io.StringIO())


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("scheme", ["v0", "v1", "v2"])
def test_keys_are_those_of_every_generation_of_amp(vectors, scheme):
    """All vectors, one by one and together."""
    assert len(vectors) >= 48
    expected = {name: keys[scheme] for name, _, keys in vectors}
    assert {name: get_hash(atoms, scheme) for name, atoms, _ in vectors} == expected
    assert get_hashes((atoms for _, atoms, _ in vectors), scheme) == list(expected.values())


def test_v2_is_the_default(vectors):
    """Without a scheme a key is that of Amp 1.x."""
    name, atoms, keys = vectors[20]
    assert get_hash(atoms) == keys["v2"] != keys["v1"], name


@pytest.mark.parametrize("few", [0, 10**9], ids=["fields", "format"])
def test_both_ways_of_formatting_give_every_key(vectors, monkeypatch, few):
    """Keys do not depend on the number of atoms where the way changes."""
    monkeypatch.setattr(hashing, "_FEW", few)
    for name, atoms, keys in vectors:
        for scheme in keys:
            assert get_hash(atoms, scheme) == keys[scheme], name


@pytest.mark.parametrize("atoms", [4, 40, 1500])
def test_arrays_of_other_types_give_the_same_keys(atoms):
    """Keys are those of the numbers, however an array holds them."""
    positions = np.random.default_rng(atoms).normal(size=(atoms, 3)).astype("f4")
    plain = Atoms([29] * atoms, positions.astype(float), cell=[5, 6, 7])
    other = plain.copy()
    other.arrays["numbers"] = plain.numbers.astype("u1")
    other.arrays["positions"] = positions
    strided = plain.copy()
    strided.arrays["numbers"] = np.repeat(plain.numbers, 2)[::2]
    strided.arrays["positions"] = np.asfortranarray(plain.positions)
    for scheme in SCHEMES:
        key = get_hash(plain, scheme)
        assert [get_hash(other, scheme), get_hash(strided, scheme)] == [key, key]
        assert get_hashes([other, plain, strided], scheme) == [key] * 3


def test_keys_are_right_without_extended_precision(vectors, monkeypatch):
    """Machines whose long double has 53 bits format one by one."""
    monkeypatch.setattr(digits, "EXACT", False)
    for name, atoms, keys in vectors:
        assert get_hash(atoms) == keys["v2"], name
    assert get_hashes(atoms for _, atoms, _ in vectors) == [keys["v2"] for _, _, keys in vectors]


def formatted(numbers):
    return ("%.15f" * len(numbers) % tuple(numbers)).encode()


inside = st.floats(-998.9, 998.9)
near_ties = st.builds(
    lambda n, d, k: n / 2**k + d * 5e-16, st.integers(-(2**20), 2**20), st.integers(-3, 3), st.integers(11, 60)
)


@settings(max_examples=400, deadline=None)
@given(st.lists(inside | near_ties | st.floats(-1e-13, 1e-13), min_size=1, max_size=40))
def test_fields_hold_what_percent_formatting_gives(numbers):
    """Digit for digit, signs of zero and ties included."""
    assert digits.text(digits.fields(np.array(numbers))) == formatted(numbers)


def test_fields_of_many_random_numbers():
    """A million digits, of many magnitudes; some lie so close to a tie that they are rounded exactly."""
    rng = np.random.default_rng(7)
    numbers = rng.normal(size=60000) * 10.0 ** rng.integers(-16, 2, 60000)
    numbers[::7] = np.round(numbers[::7])
    assert digits.text(digits.fields(numbers)) == formatted(numbers.tolist())


EDGES = [0.9999999999999999, 1.9999999999999998, 998.9999999999999, 0.0, 1e-300, 5e-324, 0.5e-15, 1.5e-15, 2.0**-50]
EDGES += [n + 0.5 for n in range(5)] + [(2 * n + 1) * 2.0**-16 for n in range(3)]


def test_fields_at_the_edges():
    """Carries into the integer part, denormals, numbers that end exactly at a half."""
    for number in (*EDGES, *(-number for number in EDGES)):
        assert digits.text(digits.fields(np.array([number]))) == formatted([number])
    assert digits.text(digits.fields(np.array(EDGES))) == formatted(EDGES)


@pytest.mark.parametrize("number", [999.0, -1e22, 1e300, math.nan, math.inf, -math.inf])
def test_numbers_without_a_field_are_formatted_one_by_one(number):
    """Large and not finite numbers have no field, and their images the right key, alone and among others."""
    assert digits.fields(np.array([1.0, number])) is None
    atoms = Atoms("Cu30", positions=np.random.default_rng(0).normal(size=(30, 3)))
    other = atoms.copy()
    atoms.positions[7, 1] = number
    expected = hashing._md5(loop_text(atoms).encode())
    assert get_hash(atoms) == expected
    assert get_hashes([other, atoms, other]) == [get_hash(other), expected, get_hash(other)]


def test_zero_and_minus_zero_have_different_keys():
    """As in Amp: they are different texts."""
    plain, minus = Atoms("H", [[0.0, 0, 0]]), Atoms("H", [[-0.0, 0, 0]])
    assert get_hash(plain) != get_hash(minus)
    assert get_hash(Atoms("H", cell=[0.0, 1, 1])) != get_hash(Atoms("H", cell=[-0.0, 1, 1]))


def test_differences_below_half_of_the_last_digit_vanish():
    """4e-16 is nothing, 6e-16 is another structure."""
    zero, near, far = (Atoms("H", [[x, 0, 0]]) for x in (0.0, 4e-16, 6e-16))
    assert get_hash(zero) == get_hash(near) != get_hash(far)


def test_all_nan_are_one():
    """The sign and payload of a NaN do not enter; infinities differ by sign."""
    keys = [get_hash(Atoms("H", [[x, 0, 0]])) for x in (math.nan, -math.nan, math.inf, -math.inf)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_structure_has_a_key(scheme):
    """No atoms, ghosts, the heaviest element, huge cells, more than 1000 atoms."""
    odd = [
        Atoms(),
        Atoms(cell=[1e300] * 3, pbc=True),
        Atoms([0, 118], [[0, 0, 0], [1e22, 0, -1e22]]),
        Atoms([29] * 1200, positions=np.zeros((1200, 3))),
        Atoms([999, 1000, -1], positions=np.zeros((3, 3))),
    ]
    keys = [get_hash(atoms, scheme) for atoms in odd]
    assert len(set(keys)) == len(odd)
    assert get_hashes(odd, scheme) == keys
    wide = [Atoms([z] * 30, positions=np.ones((30, 3))) for z in (1000, -7, 99)]
    assert get_hashes(wide, scheme) == [get_hash(atoms, scheme) for atoms in wide]
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


def test_boundary_text_is_numpys():
    """All eight forms."""
    for boundary in itertools.product([False, True], repeat=3):
        assert hashing._BOUNDARIES[bytes(boundary)].decode() == str(np.array(boundary))


@pytest.mark.parametrize("largest", [9, 78, 118])
def test_numbers_of_v1_are_numpys_text(largest):
    """With NumPy's defaults for v1, and with its threshold raised for v1-long."""
    for count in (0, 1, 2, 23, 24, 25, 26, 48, 49, 72, 73, 999, 1000, 1001, 1500):
        numbers = np.random.default_rng(count).integers(1, largest + 1, count)
        assert hashing._number_text("v1")(numbers.tolist()).decode() == str(numbers)
        with np.printoptions(threshold=999999999):
            assert hashing._number_text("v1-long")(numbers.tolist()).decode() == str(numbers)


def test_keys_do_not_depend_on_print_options(vectors):
    """NumPy's options are the caller's own business."""
    with np.printoptions(linewidth=20, threshold=3, edgeitems=1, precision=2):
        for name, atoms, keys in vectors:
            assert {scheme: get_hash(atoms, scheme) for scheme in keys} == keys, name


def alloys_that_differ_in_the_middle():
    numbers = [29, 78] * 550
    positions = np.random.default_rng(1).normal(size=(1100, 3))
    swapped = numbers[:500] + numbers[501:499:-1] + numbers[502:]
    return Atoms(numbers, positions), Atoms(swapped, positions)


def test_middle_elements_of_large_images_enter_v2_and_the_long_forms_only():
    """Two alloys of 1100 atoms that differ by a swap in the middle share their key in v0 and v1."""
    one, other = alloys_that_differ_in_the_middle()
    assert {scheme for scheme in SCHEMES if get_hash(one, scheme) == get_hash(other, scheme)} == {"v0", "v1"}


def test_what_does_not_enter_a_key():
    """Tags, momenta, moments, charges, masses, constraints, info and results leave it alone."""
    plain = bulk("Cu") * (2, 2, 2)
    rich = plain.copy()
    rich.set_tags(range(8))
    rich.set_momenta(np.ones((8, 3)))
    rich.set_initial_magnetic_moments([1] * 8)
    rich.set_initial_charges([1] * 8)
    rich.set_masses([1] * 8)
    rich.set_constraint(FixAtoms([0]))
    rich.info["x"] = 1
    rich.calc = SinglePointCalculator(rich, energy=1.0)
    assert get_hash(rich) == get_hash(plain)
    assert get_hash(plain[::-1]) != get_hash(plain)


def test_hashing_leaves_the_image_as_it_was():
    """Neither arrays nor their memory change."""
    atoms = bulk("Cu") * (3, 3, 3)
    before = {name: array.copy() for name, array in atoms.arrays.items()}
    get_hash(atoms)
    get_hashes([atoms, atoms])
    assert all((atoms.arrays[name] == array).all() for name, array in before.items())


def test_database_rows_have_keys(tmp_path, images):
    """A row of an ASE database is hashed without making Atoms of it."""
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(images[3])
    assert get_hash(next(ase.db.connect(tmp_path / "a.db").select())) == get_hash(images[3])


def test_key_of_something_else_is_a_type_error():
    """The message says what came and what belongs there."""
    for wrong in (None, [], "Cu", 3, Atoms("H")[0]):
        with pytest.raises(NotAnImageError, match=f"{type(wrong).__name__} is not an image"):
            get_hash(wrong)


def test_unknown_scheme_lists_the_known():
    """A ValueError that names the choices."""
    for scheme in ("v3", "", None, 2, ["v2"]):
        with pytest.raises(HashSchemeError, match=r"v2, v1, v0"):
            get_hash(Atoms("H"), scheme)


def test_mixing_schemes_is_refused_with_the_way_out():
    """A store that notes another generation than is asked for is not read in vain."""
    assert check_scheme(None, "v1") == "v1"
    assert check_scheme("v2", "v2") == "v2"
    assert check_scheme("v2 v1", "v2") == "v2"  # some keys may be of v1
    with pytest.raises(
        MixedSchemesError, match=r"a\.ampdb: .*'v1', not 'v2'.*ampstore rekey a\.ampdb IMAGES --from v1 --to v2"
    ) as caught:
        check_scheme("v1", "v2", "a.ampdb")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(HashSchemeError):
        check_scheme("v1", "v9")


def test_new_keys_lead_from_one_generation_to_another(vectors, caplog):
    """Every image has its pair; what two images share is left out and logged."""
    found = new_keys([atoms for _, atoms, _ in vectors], "v1", "v2")
    assert found == {keys["v1"]: keys["v2"] for _, _, keys in vectors}
    one, other = alloys_that_differ_in_the_middle()
    with caplog.at_level("WARNING"):
        assert new_keys([one, bulk("Cu"), other, one], "v1") == {get_hash(bulk("Cu"), "v1"): get_hash(bulk("Cu"))}
    assert get_hash(one, "v1") in caplog.text


def test_threads_get_the_same_keys(vectors):
    """Four threads hash everything at once."""
    results = []
    expected = [keys["v2"] for _, _, keys in vectors]

    def work():
        results.append([get_hash(atoms) for _, atoms, _ in vectors] == expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_import_needs_neither_ase_nor_numpy():
    """They come with the first image."""
    program = "import sys, ampstore.images; print({'ase', 'numpy', 'rich'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


# ---------------------------------------------------------------- dictionaries


def test_list_becomes_a_dictionary_of_the_same_objects(images):
    """Keys are the hashes, in the order of the list."""
    found = hash_images(images)
    assert isinstance(found, MetaDict)
    assert list(found) == [get_hash(atoms) for atoms in images]
    assert all(one is other for one, other in zip(found.values(), images, strict=True))
    assert found.metadata == {"duplicates": {}, "scheme": "v2"}


@pytest.mark.parametrize("ordered", [False, True])
def test_of_duplicates_the_last_is_kept_in_the_place_of_the_first(images, ordered):
    """Occurrences are counted per key."""
    again = [atoms.copy() for atoms in images]
    found = hash_images([*images, again[1], again[0], again[1]], ordered=ordered)
    assert list(found) == [get_hash(atoms) for atoms in images]
    assert found[get_hash(images[1])] is not images[1]
    assert found.metadata["duplicates"] == {get_hash(images[1]): 3, get_hash(images[0]): 2}
    assert isinstance(found, MetaDict)
    assert isinstance(found, collections.OrderedDict) == ordered


def test_duplicates_belong_to_one_result(images):
    """A later call does not change what an earlier one counted."""
    first = hash_images(images + images)
    second = hash_images(images)
    assert len(first.metadata["duplicates"]) == 5
    assert second.metadata["duplicates"] == {}
    assert MetaDict.metadata == {}


def test_none_stays_none(page):
    """Before anything else."""
    assert hash_images(None, log=page) is None
    assert page.file.getvalue() == ""


@pytest.mark.parametrize("kind", [dict, MetaDict, collections.OrderedDict, types.MappingProxyType])
def test_anything_with_keys_passes_through(kind, page, images):
    """The same object, after its count was logged."""
    given_ = kind({get_hash(atoms): atoms for atoms in images})
    assert hash_images(given_, log=page) is given_
    assert page.file.getvalue().split()[:5] == ["5", "unique", "images", "after", "hashing."]


def test_log_has_the_line_that_amps_tools_read(page, images):
    """The number is the first token of it; every repeat is warned of; the last line has the time."""
    key = get_hash(images[2])
    hash_images([*images, images[2].copy(), images[2].copy()], log=page)
    lines = page.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines if "unique images after hashing." in line] == ["5"]
    assert len([line for line in lines if "Warning" in line and key in line]) == 2
    assert lines[-1].endswith((" us", " ms", " s", " min."))


def test_any_callable_is_a_log(images):
    """A log is called with a line, without keywords that it may not know."""
    lines = []
    hash_images(images, log=lines.append)
    assert any("5 unique images after hashing." in line for line in lines)


def test_failed_hashing_leaves_the_log_usable(page, images):
    """The next attempt on the same log works."""
    with pytest.raises(NotAnImageError):
        hash_images([*images, 3], log=page)
    assert page.tics == {}
    hash_images(images, log=page)


def test_one_atoms_object_asks_for_a_list():
    """Its atoms are not images."""
    for function in (hash_images, read_images, randomize_images):
        with pytest.raises(TypeError, match=r"put it in a list: \[atoms\]"):
            function(molecule("H2O"))


def test_what_cannot_be_iterated_is_no_image():
    """A TypeError that names the type."""
    for wrong in [3, 2.5, True]:
        with pytest.raises(NotAnImageError, match=type(wrong).__name__):
            hash_images(wrong)


def test_wrong_item_is_named_by_its_place(images):
    """Lists of lists, of names and of None are refused at the place."""
    for wrong in [None, "a.traj", [molecule("H2O")], 5]:
        with pytest.raises(NotAnImageError, match=rf"image 5 is of type {type(wrong).__name__}"):
            hash_images([*images, wrong])


def test_lists_and_iterators(images):
    """Whatever can be iterated."""
    for kind in [list, tuple, iter, lambda images: (atoms for atoms in images)]:
        assert list(hash_images(kind(images))) == [get_hash(atoms) for atoms in images]


def test_nothing_gives_an_empty_dictionary():
    """No images, no error."""
    assert hash_images([]) == {}


def test_iterator_that_changes_one_object_is_hashed_as_it_goes():
    """A simulation that yields itself at every step gives a key per step."""

    def steps():
        atoms = bulk("Cu") * (3, 3, 3)
        for _ in range(20):
            atoms.positions[0, 0] += 0.01
            expected.append(get_hash(atoms))
            yield atoms

    expected = []
    assert list(hash_images(steps())) == expected
    assert len(set(expected)) == 20


def test_iterators_are_streamed():
    """Of a long iterator only a bounded number of images is alive at a time."""
    alive = 0
    most = 0

    class Counted(Atoms):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def source():
        nonlocal alive, most
        for _ in range(3000):
            alive += 1
            most = max(most, alive)
            yield Counted("Cu20", positions=np.zeros((20, 3)))

    gc.collect()
    assert len(hash_images(source())) == 1
    assert most < 600


WRITERS = ["a.traj", "a.extxyz", "a.xyz", "a.db", "a.json", "a.extxyz.gz"]


@pytest.mark.parametrize("name", WRITERS)
def test_files_that_ase_reads(tmp_path, images, name):
    """Trajectories, databases and extended xyz, by str and by Path, all images of them."""
    path = tmp_path / name
    if "xyz" in name:
        images = images[:4]
        for atoms in images:  # the format keeps eight decimals
            atoms.positions = atoms.positions.round(6)
            atoms.cell = atoms.cell.array.round(6)
    ase.io.write(path, images, format="extxyz" if "xyz" in name else None)
    for found in (
        hash_images(path),
        hash_images(str(path)),
        {get_hash(atoms): atoms for atoms in read_images(path)},
    ):
        assert list(found) == [get_hash(atoms) for atoms in ase.io.read(path, ":")]
        assert [atoms.get_potential_energy() for atoms in found.values()] == [float(n) for n in range(len(images))]
    if "xyz" not in name:
        assert list(found) == [get_hash(atoms) for atoms in images]


def test_open_trajectories_and_databases(tmp_path, images):
    """The objects of ASE are taken as well as their files."""
    ase.io.write(tmp_path / "a.traj", images)
    with ase.io.Trajectory(tmp_path / "a.traj") as trajectory:
        assert list(hash_images(trajectory)) == [get_hash(atoms) for atoms in images]
        assert list(hash_images(trajectory[1:3])) == [get_hash(atoms) for atoms in images[1:3]]
    for name in ("a.db", "a.json"):
        with ase.db.connect(tmp_path / name) as database:
            for atoms in images:
                database.write(atoms)
        database = ase.db.connect(tmp_path / name)
        assert list(hash_images(database)) == [get_hash(atoms) for atoms in images]
        found = hash_images(database.select("energy>2"))
        assert [type(atoms) for atoms in found.values()] == [Atoms] * 2


def test_part_of_a_file_is_chosen_as_in_ase(tmp_path, images):
    """file@index is ASE's own notation."""
    ase.io.write(tmp_path / "a.traj", images)
    assert list(hash_images(f"{tmp_path}/a.traj@1:3")) == [get_hash(atoms) for atoms in images[1:3]]


def test_database_is_read_in_a_read_only_directory(tmp_path, images):
    """Reading writes nothing."""
    directory = tmp_path / "ro"
    directory.mkdir()
    with ase.db.connect(directory / "a.db") as database:
        for atoms in images:
            database.write(atoms)
    before = (directory / "a.db").read_bytes()
    directory.chmod(0o500)
    try:
        assert len(hash_images(directory / "a.db")) == 5
    finally:
        directory.chmod(0o700)
    assert (directory / "a.db").read_bytes() == before
    assert len(list(directory.iterdir())) == 1


def test_missing_file_is_file_not_found(tmp_path):
    """Also where the name has an @ in it."""
    for name in ("a.traj", "a.db", "a.traj@:", "a"):
        with pytest.raises(FileNotFoundError, match="no such file of images"):
            hash_images(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.json", "a.extxyz", "a.nonsense", "a"])
def test_unreadable_file_is_one_kind_of_error(tmp_path, name):
    """Whatever ASE raises, the error names the file and the cause, and the file stays as it was."""
    path = tmp_path / name
    for content in (b"", b"nonsense\n" * 100, b"\x00\xff" * 500):
        path.write_bytes(content)
        with pytest.raises(UnreadableImagesError, match=r"a[.\w]*: no images could be read: ") as caught:
            hash_images(path)
        assert isinstance(caught.value, OSError) and isinstance(caught.value, ImageError)
        assert path.read_bytes() == content
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_truncated_file_says_how_far_it_was_read(tmp_path):
    """The number of images before the damage is in the error."""
    path = tmp_path / "a.extxyz"
    ase.io.write(path, [bulk("Cu", cubic=True) for _ in range(5)])
    path.write_text(path.read_text() + "1\nProperties=species:S:1:pos:R:3\nCu 0 zero 0\n")
    with pytest.raises(UnreadableImagesError, match="after 5 images"):
        hash_images(path)


def test_sqlite_file_of_another_program_is_not_touched(tmp_path):
    """ASE would create its tables in it."""
    path = tmp_path / "results.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine(x)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(UnreadableImagesError, match="not a database of ASE"):
        hash_images(path)
    assert path.read_bytes() == before


def test_progress_is_called_with_done_and_total(tmp_path, images):
    """The total is known for lists, trajectories and databases."""
    ase.io.write(tmp_path / "a.traj", images)
    ase.io.write(tmp_path / "a.db", images)
    for source, total in ((images, 5), (iter(images), None), (tmp_path / "a.traj", 5), (tmp_path / "a.db", 5)):
        calls = []
        hash_images(source, progress=lambda done, total, calls=calls: calls.append((done, total)))
        assert calls == [(n, total) for n in range(1, 6)]


def test_bar_is_drawn_on_stderr_if_asked_for(images, capsys):
    """progress=True shows a bar, and all images come through it."""
    found = hash_images(images * 3, progress=True)
    assert len(found) == 5 and set(found.metadata["duplicates"].values()) == {3}
    captured = capsys.readouterr()
    assert "hashing images" in captured.err and captured.out == ""


def test_bar_appears_on_a_terminal_after_a_while_only(images, monkeypatch):
    """Short work shows nothing; long work shows a bar; a file gets none."""
    for patience, terminal, shown in ((100.0, True, False), (0.0, True, True), (0.0, False, False)):
        screen = io.StringIO()
        screen.isatty = lambda terminal=terminal: terminal
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(progress_module, "PATIENCE", patience)
        hash_images(images)
        assert ("hashing images" in screen.getvalue()) == shown


# ---------------------------------------------------------------- MetaDict


@pytest.mark.parametrize("kind", [MetaDict, OrderedMetaDict])
def test_metadata_belongs_to_the_instance(kind):
    """What one dict notes no other sees, nor the class."""
    one, other = kind(a=1), kind({"b": 2})
    one.metadata["x"] = 1
    assert other.metadata == {} and kind.metadata == {}
    assert kind([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    assert isinstance(one, dict)


@pytest.mark.parametrize("kind", [MetaDict, OrderedMetaDict])
def test_metadata_survives_pickling(kind):
    """Workers see the duplicates that the master counted, with every protocol."""
    one = kind(b=1, a=2)
    one.metadata = {"duplicates": {"b": 2}}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(one, protocol))
        assert type(twin) is kind and list(twin.items()) == [("b", 1), ("a", 2)]
        assert twin.metadata == {"duplicates": {"b": 2}}


@pytest.mark.parametrize("kind", [MetaDict, OrderedMetaDict])
@pytest.mark.parametrize("duplicate", [lambda one: one.copy(), copy.copy, copy.deepcopy])
def test_copy_has_its_own_metadata(kind, duplicate):
    """Same images, another dict, other counts."""
    one = kind(a=1)
    one.metadata["duplicates"] = {"a": 2}
    twin = duplicate(one)
    twin["b"] = 2
    twin.metadata["duplicates"]["b"] = 2
    assert type(twin) is kind
    assert one == {"a": 1} and one.metadata == {"duplicates": {"a": 2}}
    assert twin.metadata == {"duplicates": {"a": 2, "b": 2}}


# ---------------------------------------------------------------- training and test images


def amps_division(count, fraction):
    """Indices of the training images as the description of Amp's draws says."""
    tests = []
    while len(tests) < count - int(fraction * count):
        drawn = np.random.randint(count)
        if drawn not in tests:
            tests.append(drawn)
    return [n for n in range(count) if n not in tests]


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 0.7, 0.8, 0.99, 1])
def test_global_stream_is_used_as_amp_uses_it(fraction):
    """The same division, and the same number drawn afterwards."""
    for count in (0, 1, 2, 10, 57):
        np.random.seed(count)
        expected, after = amps_division(count, fraction), np.random.rand()
        np.random.seed(count)
        train, test = randomize_images(list(range(count)), fraction)
        assert train == expected
        assert test == [n for n in range(count) if n not in expected]
        assert np.random.rand() == after


def test_seed_gives_a_division_without_the_global_stream():
    """A seed repeats itself, a generator goes on, and NumPy's global stream is left alone."""
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    train, test = randomize_images(range(100), 0.8, rng=5)
    assert (train, test) == randomize_images(range(100), 0.8, rng=5)
    assert len(train) == 80 and sorted(train + test) == list(range(100))
    assert train == sorted(train) and test == sorted(test)
    generator = np.random.default_rng(5)
    assert randomize_images(range(100), rng=generator) == (train, test)
    assert randomize_images(range(100), rng=generator) != (train, test)
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.0001, math.nan, math.inf])
def test_fraction_outside_0_to_1_is_refused(fraction):
    """Below zero Amp never ends."""
    for rng in (None, 1):
        with pytest.raises(ValueError, match="from 0 to 1"):
            randomize_images([1, 2, 3], fraction, rng=rng)


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.extxyz"])
def test_every_image_of_a_file_is_divided(tmp_path, images, name):
    """Not only the last one of a database."""
    ase.io.write(tmp_path / name, images[:4])
    train, test = randomize_images(str(tmp_path / name), 0.5, rng=0)
    assert len(train) == len(test) == 2


def test_dictionary_of_images_is_divided(images):
    """What hash_images returned can be divided."""
    train, test = randomize_images(hash_images(images), 0.6, rng=0)
    assert len(train) == 3 and {id(atoms) for atoms in train + test} == {id(atoms) for atoms in images}


def test_division_is_linear():
    """A quarter of a million test images: a list of drawn ones would take hours to search."""
    train, test = randomize_images(range(500_000), 0.5, rng=3)
    assert len(train) == len(test) == 250_000
    train, test = randomize_images(range(100_000), 0.5)
    assert len(train) == len(test) == 50_000


# ---------------------------------------------------------------- names


def test_make_filename():
    """None saves nothing, an empty label changes nothing, others go in front."""
    assert make_filename(None, "-log.txt") is None
    assert make_filename("", "log.txt") == "log.txt"
    assert make_filename("amp", "-log.txt") == "amp-log.txt"
    for wrong in ((3, "a"), (Path("a"), "b"), ("a", None), ("a", 3), (None, 3)):
        with pytest.raises(TypeError, match="are str"):
            make_filename(*wrong)


def test_importer_finds_what_amp_asks_for(monkeypatch):
    """A pxssh of its own comes before pexpect's; other names are None."""
    from ase.neighborlist import NeighborList

    assert importer("NeighborList") is NeighborList
    assert importer("other") is None
    package, inside = types.ModuleType("pexpect"), types.ModuleType("pexpect.pxssh")
    package.pxssh = inside
    monkeypatch.setitem(sys.modules, "pxssh", None)
    monkeypatch.setitem(sys.modules, "pexpect", package)
    monkeypatch.setitem(sys.modules, "pexpect.pxssh", inside)
    assert importer("pxssh") is inside
    alone = types.ModuleType("pxssh")
    monkeypatch.setitem(sys.modules, "pxssh", alone)
    assert importer("pxssh") is alone
    monkeypatch.setitem(sys.modules, "pxssh", None)
    monkeypatch.setitem(sys.modules, "pexpect.pxssh", None)
    with pytest.raises(ImportError):
        importer("pxssh")


# ---------------------------------------------------------------- parameter texts


def evaluated(text):
    """What Amp's own way gives: eval with the names that it supplies."""
    names = {"OrderedDict": collections.OrderedDict, "array": np.array, "matrix": np.matrix, "np": np}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(text, names)


@pytest.mark.parametrize("name", ["061/amp-0.6.1-py27", "061/amp-0.6.1-py37", "amp-1.0.1", "amp-1.0.1-numpy2"])
def test_amp_files_are_read(corpus, name):
    """The file and both texts inside it, equal to what evaluating them gives."""
    text = (corpus / "amp-files" / f"{name}.amp").read_text()
    outer = string2dict(text)
    assert outer == evaluated(text) and set(outer) == {"descriptor", "model"}
    for inner in outer.values():
        assert repr(string2dict(inner)) == repr(evaluated(inner))
    model = string2dict(outer["model"])
    assert isinstance(model["weights"], collections.OrderedDict) and isinstance(model["fprange"], dict)


def test_every_amp_file_is_among_them(corpus):
    """No file of the corpus is forgotten above."""
    assert len(list((corpus / "amp-files").rglob("*.amp"))) == 4


LITERALS = [
    "dict(a=1, b=dict(c=[1, 2.5, -3e-05], d=(1,), e=()))",
    "{'a': None, 1: True, (1, 'x'): {}}",
    "OrderedDict([('b', 1), ('a', OrderedDict())])",
    "dict(a=set([1, 2]), b={3}, c=set(), d=frozenset([1]))",
    "[u'Cu', b'x', 'a' 'b', -1, +2, -1.5, 1e300, 2+3j, 1-2j, -0.0]",
    "list((1, 2)) ",
    "tuple([1, 2])",
    "dict([('a', 1)])",
    "dict({'a': 1}, b=2)",
    "\n\n   dict(a=\n1)\n\n",
    "'text'",
    "3",
]


def test_literals_and_containers():
    """Equal to what Amp's way gives, types included."""
    for text in LITERALS:
        assert repr(string2dict(text)) == repr(evaluated(text.strip()))


ARRAYS = [
    np.array([[1.5, -2.0], [3.0, 4.0]]),
    np.array([1, 2], dtype="int32"),
    np.array([1.5], dtype="float32"),
    np.array(["Cu", "Pt"]),
    np.array([True, False]),
    np.array([1, None], dtype=object),
    np.array([1 + 2j]),
    np.array([np.nan, np.inf, -np.inf]),
    np.zeros((0, 3)),
    np.array(2.5),
    np.array([2**64 - 1], dtype="uint64"),
    np.linspace(0, 49, 50).reshape(5, 10),
]


def test_arrays_come_back_from_their_text():
    """The text of an array, bare or with numpy in front."""
    for array in ARRAYS:
        text = repr(array)
        for form in (text, f"np.{text}", f"numpy.{text.replace('dtype=float32', 'dtype=np.float32')}"):
            found = string2dict(f"dict(a={form})")["a"]
            assert found.dtype == array.dtype and found.shape == array.shape
            assert repr(found) == text


SCALARS = [
    ("np.float64(1.5)", np.float64(1.5)),
    ("np.float32(1.5)", np.float32(1.5)),
    ("np.int64(-3)", np.int64(-3)),
    ("np.str_('Cu')", np.str_("Cu")),
    ("np.bool_(True)", np.bool_(True)),
    ("numpy.float64(-1e-05)", np.float64(-1e-05)),
    ("np.float64(inf)", np.float64("inf")),
]


def test_numpy_scalars_come_back_from_their_text():
    """As NumPy 2 writes them."""
    for text, expected in SCALARS:
        found = string2dict(text)
        assert found == expected and type(found) is type(expected)


def test_bare_words_of_numpy():
    """NaN and inf, in lists and arrays, with and without a sign and a prefix; NumPy 2's booleans."""
    found = string2dict("[nan, inf, -inf, np.nan, numpy.inf, np.True_, np.False_]")
    assert math.isnan(found[0]) and math.isnan(found[3])
    assert found[1:3] == [math.inf, -math.inf] and found[4:] == [math.inf, True, False]
    assert np.isnan(string2dict("array([nan, 1.0])")[0])


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrix_is_a_matrix():
    """Old parameter files have them."""
    found = string2dict("dict(w=matrix([[1.0, 2.0], [3.0, 4.0]]))")["w"]
    assert type(found) is np.matrix and found.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_long_integers_of_python_2():
    """2L is 2; an L in a text stays."""
    text = """dict(a=2L, b=[10L, 0l], c='2L', d="it's 3L", e={3L: 4L}, f=u'''5L "x" ''', g='a\\'6L')"""
    expected = {"a": 2, "b": [10, 0], "c": "2L", "d": "it's 3L", "e": {3: 4}, "f": '5L "x" ', "g": "a'6L"}
    assert string2dict(text) == expected


REFUSED = [
    ("__import__('os').system('true')", "call"),
    ("open('/etc/passwd')", "call of 'open'"),
    ("os.system('true')", "call of 'os.system'"),
    ("np.load('x')", "call of 'np.load'"),
    ("np.array.__class__([1])", "call"),
    ("dict.__class__", "name 'dict.__class__'"),
    ("dict(a=1).update", "name"),
    ("[].__class__", "name"),
    ("dict", "name 'dict'"),
    ("x", "name 'x'"),
    ("np.os", "name 'np.os'"),
    ("eval('1')", "call"),
    ("float64(1.0)", "call"),
    ("(lambda: 1)()", "call"),
    ("lambda: 1", "a lambda"),
    ("[x for x in (1, 2)]", "a comprehension"),
    ("{x for x in (1, 2)}", "a comprehension"),
    ("{x: 1 for x in (1, 2)}", "a comprehension"),
    ("list(x for x in (1, 2))", "a comprehension"),
    ("f'{1}'", "an f-string"),
    ("9**9**9", "arithmetic"),
    ("10**10", "arithmetic"),
    ("'a' * 1000000000", "arithmetic"),
    ("[0] * 10", "arithmetic"),
    ("1 + 1", "arithmetic"),
    ("'a' + 'b'", "arithmetic"),
    ("1 < 2", "a comparison"),
    ("1 if 2 else 3", "a condition"),
    ("1 and 2", "and/or"),
    ("not 1", "sign"),
    ("~1", "sign"),
    ("-'a'", "sign"),
    ("-True", "sign"),
    ("[1, 2][0]", "a subscript"),
    ("[*[1]]", "a star"),
    ("dict(*[1])", "a star"),
    ("dict(**{'a': 1})", r"\*\*"),
    ("{**{}}", r"\*\*"),
    ("(x := 1)", "an assignment"),
    ("dict(a=...)", "shortened"),
    ("array([1, ..., 2])", "shortened"),
    ("array([1], dtype=evil)", "dtype"),
    ("array([1], dtype='i4,f8')", "dtype"),
    ("array([1], dtype=[('a', 'i4')])", "dtype"),
    ("array([1], dtype='datetime64[s]')", "dtype"),
    ("array([1], copy=False)", "array takes"),
    ("array()", "array takes"),
    ("array([1, 2], shape=(2,))", "shape"),
    ("array([], shape=(-5, 3))", "."),
    ("array([], shape='x')", "shape"),
    ("array([[1], [1, 2]])", "."),
    ("array(['x'], dtype='f8')", "."),
    ("matrix('1 2; 3 4')", "matrix takes"),
    ("np.float64([1])", "number"),
    ("np.float64(1, 2)", "one value"),
    ("{[]: 1}", "unhashable"),
    ("set([[]])", "unhashable"),
    ("set(3)", "not iterable"),
    ("dict([1])", "."),
    ("", "."),
    ("   ", "."),
    ("dict(a=", "."),
    ("a = 1", "."),
    ("1; 2", "."),
    ("import os", "."),
    ("dict(a=1)\0", "."),
    ("'\ud800'", "."),
    ("1" * 5000, "."),
    ("dict(a=1, a=2)", "."),
    ("dict(2=1)", "."),
    ("await x", "."),
    ("yield", "."),
]


@pytest.mark.parametrize("part", range(4))
def test_anything_else_is_refused(part):
    """A ValueError that names what is not allowed; nothing runs."""
    for text, reason in REFUSED[part::4]:
        with pytest.raises(ParameterTextError, match=reason) as caught:
            pytest.fail(f"{text[:60]!r} became {string2dict(text)!r}")
        assert isinstance(caught.value, ValueError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


DEEP = [
    "(" * 10_000 + ")" * 10_000,
    "[" * 150 + "]" * 150,
    "{1:" * 150 + "1" + "}" * 150,
    "dict(a=" * 150 + "1" + ")" * 150,
    "-" * 100_000 + "1",
    "not " * 50_000 + "1",
    "x" + ".a" * 50_000,
    "1" + "+1" * 50_000,
    "[" * 100_000,
]


def test_depth_is_bounded():
    """Deep texts end in an error, not in the interpreter's stack."""
    for text in DEEP:
        with pytest.raises(ParameterTextError):
            string2dict(text)


def test_deep_enough_texts_are_read():
    """Sixty containers inside each other are fine."""
    found = string2dict("[" * 60 + "]" * 60)
    for _ in range(59):
        (found,) = found
    assert found == []


def test_size_is_bounded(monkeypatch):
    """Long texts and arrays that would need far more memory than their text are refused before they are made."""
    with pytest.raises(ParameterTextError, match="more than 4,000,000"):
        string2dict(" " * 4_000_001)
    for text in ("array(['a', 'b'], dtype='U999999')", "array(['" + "x" * 60_000 + "'," + "''," * 1200 + "])"):
        monkeypatch.setattr(literals, "MAX_ARRAY", 4_000_000)
        with pytest.raises(ParameterTextError, match="bytes is over the limit"):
            string2dict(text)


def test_other_types_are_type_errors():
    """The text of a file is a str."""
    for wrong in [None, b"dict()", 3, {}]:
        with pytest.raises(TypeError, match="str"):
            string2dict(wrong)


def test_error_names_the_line():
    """A damaged file of many lines can be repaired."""
    with pytest.raises(ParameterTextError, match="line 3"):
        string2dict("dict(a=1,\n b=2,\n c=boom)")
    with pytest.raises(ParameterTextError, match=r"line \d"):
        string2dict("dict(a=1,\n b=2,\n c=)")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_repr_of_plain_values_is_read_back(value):
    """Whatever Python writes of plain values comes back."""
    assert repr(string2dict(f"dict(a={value!r})")["a"]) == repr(value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="dict(ary)[]{}=,:'\"0123.-+*e L\\nanf_@#\n", max_size=60))
def test_any_text_is_read_or_refused(text):
    """No text leads to another error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ParameterTextError):
            string2dict(text)
