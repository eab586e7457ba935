"""What the codec promises: the value that went in comes out, or an error does."""

import collections
import copy
import copyreg
import datetime
import decimal
import fractions
import io
import itertools
import math
import pathlib
import pickle
import random
import threading
import uuid
from typing import NamedTuple

import ase
import numpy as np
import pytest
import zstandard
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator, SinglePointDFTCalculator
from ase.cell import Cell
from ase.constraints import FixAtoms, FixBondLengths, FixedPlane
from hypothesis import given, settings
from hypothesis import strategies as st

import ampstore.codec as codec_module
from ampstore.codec import Blob, Codec, same, summarise
from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule
from ampstore.errors import CorruptEntryError, EncodeError, EntryTooLargeError, ForbiddenGlobalError, UnknownCodecError


class POINT(NamedTuple):
    x: int
    y: int


class Plain:
    """An object of a program's own class."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return type(other) is Plain and other.number == self.number

    __hash__ = None


def through(value, codec=None):
    """Value after a round trip."""
    codec = codec or Codec()
    blob = codec.encode(value)
    return codec.decode("k", blob.codec, blob.size, blob.checksum, blob.payload)


BUILTINS = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    -(2**63),
    10**400,
    0.0,
    -0.0,
    math.inf,
    5e-324,
    1.5 + 2j,
    complex(-0.0, math.inf),
    "",
    "Cu",
    "ü\x00\n\U0001f9ea",
    "\ud800",
    "x" * 70_000,
    b"",
    b"\x00\xff" * 40_000,
    bytearray(b"abc"),
    [],
    (),
    {},
    set(),
    frozenset(),
    [1, 2.5, "Cu", None],
    (1, (2, (3, ()))),
    {"a": [1], 2: {"b": (None,)}, (0, "Cu"): 1.5},
    {1, 2, 3},
    frozenset({"a", "b"}),
    range(3, 100, 7),
    range(10**20),
    slice(1, None, -2),
    Ellipsis,
    NotImplemented,
    [[("Cu", [0.1] * 20), ("Pt", [0.0] * 20)]],
]

LIBRARY = [
    datetime.date(2026, 1, 2),
    datetime.time(1, 2, 3, 4, fold=1),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30), "IST")),
    datetime.timedelta(-1, 2, 3),
    decimal.Decimal("1.10"),
    decimal.Decimal("-Infinity"),
    fractions.Fraction(-22, 7),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.Counter("abracadabra"),
    collections.deque([1, 2, 3], maxlen=5),
    collections.deque(),
    collections.ChainMap({"a": 1}, {"b": 2}),
    pathlib.Path("/a/b"),
    pathlib.PurePosixPath("a"),
    pathlib.PureWindowsPath("C:/a"),
    uuid.UUID(int=5),
]

ARRAYS = [
    *[
        np.arange(6).astype(code).reshape(2, 3)
        for code in "? b B h H i I l L q Q e f d g F D G".split()  # every kind of number that numpy has
    ],
    np.arange(12.0).reshape(3, 4, order="F"),
    np.arange(24.0).reshape(2, 3, 4)[:, ::2, ::-1],
    np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    np.arange(5, dtype=">f8"),
    np.arange(5, dtype=">i2").reshape(5, 1),
    np.array(1.5),
    np.array(3, dtype=">i4"),
    np.empty((0,)),
    np.empty((0, 3), dtype="i4"),
    np.empty((2, 0, 5), dtype="S3"),
    np.array(["Cu", "Platinum"]),
    np.array(["Cu", "Pt"], dtype=">U4"),
    np.array([b"Cu", b"Pt"]),
    np.array([(1, 2.5, b"a")], dtype=[("n", "i4"), ("x", "f8"), ("s", "S2")]),
    np.zeros(3, dtype=np.dtype([("n", "i1"), ("x", "f8")], align=True)),
    np.zeros(3, dtype=[("v", "f4", (2, 3)), ("inner", [("a", "u1"), ("b", ">i8")])]),
    np.zeros(2, dtype={"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [8, 0], "itemsize": 24}),
    np.zeros(2, dtype=[(("a title", "a"), "f8")]),
    np.zeros(2, dtype="V7"),
    np.array(["2026-01-02T03:04:05", "NaT"], dtype="datetime64[ms]"),
    np.array([1, -5], dtype="timedelta64[25us]"),
    np.array([1, "Cu", None, (2.5, [3])], dtype=object),
    np.array([[{"a": 1}, fractions.Fraction(1, 3)]], dtype=object),
    np.array([(1, "Cu")], dtype=[("n", "i4"), ("o", object)]),
    np.array([], dtype=object),
    np.arange(200_000.0),
]

SCALARS = [
    np.float64(0.1),
    np.float32(-0.0),
    np.int64(-5),
    np.uint8(255),
    np.bool_(True),
    np.complex128(1 + 2j),
    np.str_("Cu"),
    np.bytes_(b"Cu"),
    np.datetime64("2026-01-02", "D"),
    np.timedelta64(5, "ns"),
    np.array([(1, 2.5)], dtype="i4,f8")[0],
    np.dtype("f8"),
    np.dtype(">i4"),
    np.dtype([("a", "f8"), ("b", object)]),
]

ERRORS = [
    ValueError("no", 5),
    KeyError("k"),
    OSError(2, "gone", "name"),
    UnicodeDecodeError("ascii", b"\xff", 0, 1, "why"),
    SyntaxError("bad", ("file", 1, 2, "text")),
    SyntaxError("bad"),
    StopIteration(3),
    ExceptionGroup("two", [ValueError(1), TypeError("x")]),
]


def assert_equal_arrays(found, expected):
    assert type(found) is type(expected)
    assert found.dtype == expected.dtype
    assert found.dtype.isalignedstruct == expected.dtype.isalignedstruct
    assert found.shape == expected.shape
    if expected.dtype.hasobject:
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("values", [BUILTINS, LIBRARY], ids=["builtins", "library"])
def test_values_come_back_with_their_exact_types(values):
    """What comes back has the type, the bits and the repr of what went in."""
    for value in values:
        for found in (through(value), through([value, Ellipsis])[0]):
            assert type(found) is type(value)
            assert found == value
            assert repr(found) == repr(value) or isinstance(value, set | frozenset)


@pytest.mark.parametrize("protocol", range(6))
def test_values_of_every_protocol_load(protocol):
    """What any pickle protocol wrote loads under the rule."""
    for value in [*BUILTINS, *LIBRARY]:
        stream = Rule().dumps(value, protocol)
        for found in (Rule().loads("k", stream), load_legacy("k", stream, Rule())):
            assert type(found) is type(value)
            assert found == value


def test_nan_comes_back_bit_by_bit():
    """A NaN keeps its payload, which == cannot tell."""
    odd = np.frombuffer(bytes.fromhex("0100000000dead7f")[::1], dtype="<f8").copy()
    assert through(odd).tobytes() == odd.tobytes()
    assert same(through([math.nan, -math.nan]), [math.nan, -math.nan])


def test_arrays_come_back_alike_and_writable():
    """An array keeps dtype, shape, byte order and bytes; what comes back may be changed."""
    for array in ARRAYS:
        for found in (through(array), through({"a": [array, Ellipsis]})["a"][0]):
            if array.dtype.byteorder == ">" and not array.flags.forc:
                continue
            assert_equal_arrays(found, array)
            assert found.flags.writeable


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol_load_as_pickle_loads_them(protocol):
    """Arrays that any pickle protocol wrote load under the rule, as safe as pickle loads them."""
    for array in ARRAYS:
        stream = pickle.dumps(array, protocol)
        # NumPy itself turns big-endian numbers of the older protocols round.
        assert_equal_arrays(Rule().loads("k", stream), pickle.loads(stream))
        assert_equal_arrays(load_legacy("k", stream, Rule()), pickle.loads(stream, encoding="latin1"))


def test_numpy_scalars_and_dtypes_keep_their_type():
    """numpy.float64 does not become float; a dtype stays a dtype."""
    for value, protocol in itertools.product(SCALARS, range(6)):
        found = Rule().loads("k", Rule().dumps(value, protocol))
        assert type(found) is type(value)
        assert found == value
        assert pickle.dumps(found) == pickle.dumps(value)


def test_dtypes_beside_arrays_come_back_as_dtypes():
    """A dtype that is a value stands in the value itself, shared with an array or not."""
    kind = np.dtype("<f8")
    found = through({"kind": kind, "array": np.arange(3, dtype=kind), "other": [np.dtype(">i2")]})
    assert found["kind"] == kind
    assert type(found["kind"]) is type(kind)
    assert type(found["other"][0]) is type(np.dtype(">i2"))
    assert found["array"].tolist() == [0, 1, 2]


def test_matrices_and_masked_arrays_come_back():
    """Subclasses of ndarray keep class, mask and fill value."""
    matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    assert_equal_arrays(through(matrix), matrix)
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1.0)
    structured = np.ma.masked_array([(1, 2.5)], mask=[(True, False)], dtype="i4,f8")
    for value in (masked, structured, np.ma.masked_array([], mask=[])):
        found = through(value)
        assert type(found) is type(value)
        assert found.dtype == value.dtype
        assert found.mask.tolist() == value.mask.tolist()
        assert found.filled().tolist() == value.filled().tolist()


def test_exceptions_are_values():
    """An exception keeps class, arguments and attributes."""
    for error, protocol in itertools.product(ERRORS, range(6)):
        found = Rule().loads("k", Rule().dumps(error, protocol))
        assert type(found) is type(error)
        assert repr(found) == repr(error)
        assert found.__dict__ == error.__dict__
        assert str(found) == str(error)


def test_exceptions_are_values_whatever_other_packages_register(monkeypatch):
    """As tblib does for Dask: what a store holds must not depend on what else was imported."""
    monkeypatch.setitem(copyreg.dispatch_table, ValueError, lambda error: (print, (str(error),)))
    found = through(ValueError("a", 1))
    assert type(found) is ValueError
    assert found.args == ("a", 1)


def test_default_dictionaries_keep_their_factory():
    """A defaultdict of lists makes lists again."""
    value = collections.defaultdict(list, a=[1])
    found = through(value)
    assert type(found) is collections.defaultdict
    assert found["b"] == []
    assert found["a"] == [1]
    assert through(collections.defaultdict(None, a=1)).default_factory is None
    counts = through(collections.defaultdict(collections.Counter))
    assert counts["x"] == collections.Counter()


def slab():
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.set_constraint([FixAtoms([0, 1]), FixBondLengths([[0, 2]]), FixedPlane([3], [0, 0, 1])])
    atoms.info = {"name": "a slab", "id": uuid.UUID(int=1)}
    atoms.set_array("extra", np.arange(8)[:, None] * 1.5)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.arange(24.0).reshape(8, 3), stress=None)
    return atoms


@pytest.mark.parametrize("protocol", range(6))
def test_atoms_keep_constraints_info_and_results(protocol):
    """An ase.Atoms comes back with all that ASE hangs on it."""
    atoms = slab()
    rule = Rule()
    found = rule.loads("k", rule.dumps(atoms, protocol))
    assert type(found) is ase.Atoms
    assert found == atoms
    assert found.info == atoms.info
    assert found.arrays["extra"].tolist() == atoms.arrays["extra"].tolist()
    assert [type(one) for one in found.constraints] == [type(one) for one in atoms.constraints]
    assert [one.todict() for one in found.constraints if type(one) is FixAtoms] == [atoms.constraints[0].todict()]
    assert found.get_potential_energy() == -1.5
    assert found.get_forces(apply_constraint=False).tolist() == np.arange(24.0).reshape(8, 3).tolist()
    found.positions += 1.0
    assert found != atoms


def test_other_things_of_ase_come_back():
    """Cells, band paths, formulas, single atoms, trajectories."""
    cell = Cell.fromcellpar([1, 2, 3, 90, 90, 120])
    assert through(cell).array.tolist() == cell.array.tolist()
    assert through(ase.Atom("Cu", (1, 2, 3))).symbol == "Cu"
    atoms = molecule("H2O")
    assert str(through(atoms.symbols)) == "OH2"
    assert str(through(atoms.symbols.formula)) == str(atoms.symbols.formula)
    path = bulk("Cu").cell.bandpath("GX", npoints=5)
    assert through(path).kpts.tolist() == path.kpts.tolist()
    atoms.calc = SinglePointDFTCalculator(atoms, energy=1.0)
    images = through([slab(), atoms, slab()])
    assert [len(image) for image in images] == [8, 3, 8]
    assert images[1].get_potential_energy() == 1.0


def test_values_may_hold_themselves_and_share():
    """Loops and shared parts come back as loops and shared parts."""
    loop = [1]
    loop.append(loop)
    found = through(loop)
    assert found[1] is found
    inner = np.arange(3)
    pair = through([inner, {"again": inner}])
    assert pair[0] is pair[1]["again"]
    mapping = {}
    mapping["me"] = mapping
    found = through(mapping)
    assert found["me"] is found


def test_every_decode_is_a_fresh_object():
    """A change to what was read does not show at the next read."""
    codec = Codec()
    for value in ([1, [2]], np.arange(3.0), {"a": np.zeros(2, dtype=">f8")}):
        blob = codec.encode(value)
        first, second = (codec.decode("k", blob.codec, blob.size, blob.checksum, blob.payload) for _ in range(2))
        assert first is not second
        assert same(first, second)
    found = through(np.arange(3.0))
    found[0] = 9
    assert through(np.arange(3.0))[0] == 0


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
KEYS = st.text(max_size=5) | st.integers() | st.tuples(st.integers(), st.text(max_size=2)) | st.floats(allow_nan=False)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.frozensets(KEYS, max_size=4)
        | st.lists(st.floats(), min_size=1, max_size=40)
    ),
    max_leaves=25,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_nested_builtins_survive(value):
    """Any nesting of builtins comes back the very same, and its summary is one short line."""
    assert same(through(value), value)
    line = summarise(value)
    assert len(line) <= 120
    assert "\n" not in line


@given(VALUES, st.integers(1, 19))
@settings(max_examples=50, deadline=None)
def test_digest_does_not_depend_on_compression(value, level):
    """The first 16 bytes of the checksum say whether values are equal, whatever the level."""
    value = [value] * 3
    one, two = Codec(level=1).encode(value), Codec(level=level).encode(value)
    assert one.checksum[:16] == two.checksum[:16]
    assert one.size == two.size
    assert through(value, Codec(level=level)) is not None


def test_equal_values_have_equal_blobs():
    """The encoding is deterministic, so an unchanged value need not be written."""
    value = {"Cu": [0.1 * n for n in range(300)]}
    assert Codec().encode(value) == Codec().encode(copy.deepcopy(value))


def test_bytes_that_do_not_compress_are_kept_raw():
    """Compression has to pay: random bytes and tiny values are stored as they are."""
    noise = random.Random(1).randbytes(100_000)
    blob = Codec().encode(noise)
    assert blob.codec == "pickle5"
    assert len(blob.payload) == blob.size < 100_100
    assert "zstd" in Codec().encode(b"\x00" * 100_000).codec
    assert "zstd" not in Codec().encode("Cu").codec


DAMAGED = [
    Codec().encode((1, "Cu", range(3))),
    Codec().encode({1, 2.5}),
    Codec().encode({"a": [0.0] * 40, "b": "Cu" * 60, "c": range(5)}),
]


@pytest.mark.parametrize("blob", DAMAGED, ids=lambda blob: blob.codec)
def test_no_single_flipped_bit_goes_unseen(blob):
    """Every bit of payload and checksum, flipped alone, is an error or changes nothing."""
    codec = Codec()
    expected = codec.decode("k", *(blob.codec, blob.size, blob.checksum, blob.payload))
    for position in range(8 * len(blob.payload)):
        payload = bytearray(blob.payload)
        payload[position // 8] ^= 1 << position % 8
        with pytest.raises(CorruptEntryError, match="'k'"):
            codec.decode("k", blob.codec, blob.size, blob.checksum, bytes(payload))
    for position in range(8 * len(blob.checksum)):
        checksum = bytearray(blob.checksum)
        checksum[position // 8] ^= 1 << position % 8
        with pytest.raises(CorruptEntryError):
            codec.check("k", blob.codec, blob.size, bytes(checksum), blob.payload)
        try:
            found = codec.decode("k", blob.codec, blob.size, bytes(checksum), blob.payload)
        except CorruptEntryError:
            continue
        assert same(found, expected)


def test_no_burst_of_damage_yields_a_wrong_value():
    """Random flips, swaps and cuts of larger entries are errors or change nothing."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    codec = Codec()
    for value in (np.arange(9000.0), {"Cu": list(range(2000)), "x": Ellipsis}, chance.randbytes(9000), slab()):
        blob = codec.encode(value)
        for _ in range(300):
            payload = bytearray(blob.payload)
            for _ in range(chance.choice((1, 1, 2, 5))):
                payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
            if chance.random() < 0.2:
                del payload[chance.randrange(len(payload)) :]
            if bytes(payload) == blob.payload:
                continue
            with pytest.raises(CorruptEntryError):
                codec.decode("k", blob.codec, blob.size, blob.checksum, bytes(payload))


def forged(payload, size, name="pickle5+zstd"):
    """Row whose CRC is right."""
    return name, size, codec_module._checksum(b"", payload), payload


@pytest.mark.parametrize("wrong", [0, 1, 999, 10**6, 2**62, -1])
def test_frames_with_another_size_are_refused(wrong):
    """The size in the row and the size in the frame must agree."""
    stream = pickle.dumps(b"\x00" * 900, 5)
    frame = zstandard.ZstdCompressor().compress(stream)
    with pytest.raises(CorruptEntryError):
        Codec().decode("k", *forged(frame, wrong))
    assert Codec().decode("k", *forged(frame, len(stream))) == b"\x00" * 900


@pytest.mark.parametrize("claim", [2**40, 2**62, 2**64 - 3])
def test_frames_that_claim_too_much_are_refused(claim):
    """A frame that says it holds a terabyte gets no memory, whether the row agrees or not."""
    header = bytes.fromhex("28b52ffde0") + claim.to_bytes(8, "little")
    for size in (claim, 100):
        with pytest.raises(CorruptEntryError):
            Codec().decode("k", *forged(header + b"\x01\x00\x00", size))


def test_bombs_cannot_grow_past_their_row():
    """A frame without a size, or with more in it than it says, is refused."""
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"\x00" * 10**6)
    for size in (10, 10**6, 2**64 - 1):
        with pytest.raises(CorruptEntryError):
            Codec().decode("k", *forged(unsized, size))
    with pytest.raises(CorruptEntryError):
        Codec().decode("k", *forged(b"", 0))


def test_negative_sizes_are_refused():
    """A row that says its entry has -1 bytes is damaged."""
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 10**4)
    with pytest.raises(CorruptEntryError):
        Codec().decode("k", *forged(unsized, -1))


def test_unknown_codecs_are_named():
    """A codec of a later version is an error that says so."""
    blob = Codec().encode([1])
    with pytest.raises(UnknownCodecError, match=r"pickle9.*newer"):
        Codec().decode("k", "pickle9", *blob[2:])
    with pytest.raises(CorruptEntryError, match="newer"):
        Codec().decode("k", "pickle5+lz4", *blob[2:])


def test_values_over_the_limit_are_refused(monkeypatch):
    """One entry may not be longer than the reader would accept."""
    monkeypatch.setattr(codec_module, "LARGEST", 1000)
    with pytest.raises(EntryTooLargeError, match="1,000"):
        Codec().encode(b"x" * 1001)


# What may be named.


def test_own_classes_need_permission():
    """Objects of a program's own classes go in and out where `allow` names them, and nowhere else."""
    value = {"mine": Plain(5)}
    with pytest.raises(ForbiddenGlobalError, match=Plain.__module__.replace(".", r"\.")) as caught:
        Codec().encode(value)
    assert caught.value.action == "write"
    package = Plain.__module__.partition(".")[0]
    for allow in ([package], [Plain.__module__], [f"{Plain.__module__}.Plain"], "*", (package, "other")):
        assert through(value, Codec(allow)) == value
    blob = Codec([package]).encode(value)
    for allow in ((), ["other"], [package + "x"], [package[:-1]], [f"{Plain.__module__}.Plai"]):
        with pytest.raises(ForbiddenGlobalError):
            Codec(allow).decode("k", blob.codec, blob.size, blob.checksum, blob.payload)


def test_named_tuples_need_permission():
    """A namedtuple is a class of the program."""
    with pytest.raises(ForbiddenGlobalError):
        Codec().encode(POINT(1, 2))
    found = through(POINT(1, 2), Codec([__name__]))
    assert type(found) is POINT


def test_allow_must_be_a_list():
    """A text would be read letter by letter."""
    with pytest.raises(TypeError, match=r'allow=\["mypkg"\]'):
        Codec("mypkg")


@pytest.mark.parametrize("value", [int, list, ValueError, np.ndarray, ase.Atoms, collections.Counter, Plain, object])
def test_classes_are_no_values(value):
    """A class is refused when written, with an error that says what to do."""
    with pytest.raises((EncodeError, ForbiddenGlobalError), match=r"store its name|open with allow"):
        Codec().encode([value])


@pytest.mark.parametrize("value", [len, print, math.sin, np.sin, np.load, pickle.loads, test_classes_are_no_values])
def test_functions_are_no_values(value):
    """A function is refused when written; nobody stores what cannot be read back."""
    with pytest.raises((EncodeError, ForbiddenGlobalError)):
        Codec().encode({"call": value})


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


class Failing:
    def __reduce__(self):
        raise TypeError("not me")


@pytest.mark.parametrize(
    "make",
    [threading.Lock, lambda: lambda: 1, lambda: (n for n in "a"), deep, Failing, lambda: type("L", (), {})()],
    ids=["lock", "lambda", "generator", "deep", "failing", "local"],
)
@pytest.mark.parametrize("allow", [(), "*"], ids=["safe", "anything"])
def test_what_cannot_be_pickled_is_refused(make, allow):
    """The error is one of ours, and those that `shelve` programs catch."""
    value = make()
    with pytest.raises((EncodeError, ForbiddenGlobalError)) as caught:
        Codec(allow).encode(value)
    if allow:
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, pickle.PicklingError)
        assert isinstance(caught.value, EncodeError)
    while isinstance(value, list) and value:  # free it level by level
        value = value[0]


def test_a_failed_encode_leaves_the_codec_usable():
    """One refused value does not spoil the next."""
    codec = Codec()
    with pytest.raises(ForbiddenGlobalError):
        codec.encode([1, Plain(2)])
    assert through([1, 2], codec) == [1, 2]


def test_one_codec_serves_many_threads():
    """Threads share a codec without sharing a zstd context."""
    codec, failures = Codec(), []

    def work(number):
        value = {"n": [number] * 500, "a": np.full(500, number, dtype=">i4")}
        for _ in range(50):
            if not same(through(value, codec), value):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Summaries.


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ([("Cu", [0.1] * 20)] * 37, "list of 37 (symbol, float[20])"),
        ([(np.zeros(66, int), np.zeros((66, 3), int))] * 20, "list of 20 (int64[66], int64[66, 3])"),
        ({(0, "Cu", 1, "Pt", 2): [0.1] * 20}, "dict of 1 (int, symbol, int, symbol, int): float[20]"),
        ([], "empty list"),
        (None, "None"),
        (b"abc", "bytes of 3"),
    ],
)
def test_summaries_say_what_a_value_is(value, line):
    """The lines that people see in listings."""
    assert summarise(value) == line


class Odd:
    @property
    def dtype(self):
        raise RuntimeError("no")

    def __len__(self):
        raise RuntimeError("no")


class OddDict(dict):
    def items(self):
        raise RuntimeError("no")


LONG = type("L" * 300, (), {})


def test_summaries_never_fail_and_stay_short():
    """Whatever the value, its summary is one line of at most 120 characters."""
    nested = ()
    for _ in range(9):
        nested = (nested,) * 5
    wide = np.zeros((1,) * 32)
    fields = np.zeros(2, dtype=[(f"field{n}", "f8") for n in range(90)])
    odd = [Odd(), [Odd()], OddDict(a=1), nested, (wide,) * 5, fields, {(wide,) * 5: 1} if False else 0, LONG()]
    odd += [[LONG()], {"a": LONG()}, (LONG(),) * 5, deep()[0], Failing(), {"k" * 500: "v" * 500}, range(10**30)]
    odd += [[[[[[1]]]]], {1: {2: {3: {4: 5}}}}, "\ud800" * 3, "a\nb", [("\n", "\n")] * 2]
    for value in [*BUILTINS, *LIBRARY, *ARRAYS, *SCALARS, *ERRORS, slab(), *odd]:
        for each in (value, [value], (value,) * 5, {"k": value}):
            line = summarise(each)
            assert isinstance(line, str)
            assert 0 < len(line) <= 120
            assert "\n" not in line


# Blobs.


def test_blobs_name_their_parts():
    """A blob is a tuple that the backend stores as it is."""
    blob = Codec().encode([1.5] * 10)
    assert isinstance(blob, Blob)
    assert blob._fields == ("codec", "kind", "size", "checksum", "payload")
    assert blob.kind == "float[10]" or "float[10]" in blob.kind
    assert len(blob.checksum) == 20
    assert Codec().check("k", blob.codec, blob.size, blob.checksum, blob.payload)


ONE = np.float64(1)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, True), (0.0, -0.0), ([1], (1,)), (ONE, 1.0), ("a", b"a"), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.float32(0.0), np.float32(-0.0)), (np.int64(1), np.uint64(1)), (np.str_("a"), "a"),
        (np.str_("a"), np.str_("b")), (ONE.tobytes(), ONE), (ONE.tobytes(), np.array(ONE)),
        (b"ab", bytearray(b"ab")), (1.5, [1.5]), ("a", object()),
        (np.array(ONE), np.array([ONE])), ({"a": [1.0, ONE]}, {"a": [ONE, 1.0]}), ([[1], [2, 3]], [[1, 2], [3]]),
    ],
)  # fmt: skip
def test_same_tells_what_equality_does_not(a, b):
    """Types, signs of zero and order make a difference."""
    assert not same(a, b)
    assert same([a, b, a], [a, b, a])


def test_same_looks_through_sharing():
    """A value that shares its parts equals one that repeats them, loops included."""
    part = [1.5, math.nan]
    assert same([part, part], [[1.5, math.nan], [1.5, math.nan]])
    one, two = [1], [1]
    one.append(one)
    two.append(two)
    assert same(one, two)
    assert not same([part, part], [[1.5, math.nan], [1.5, 0.0]])
    assert not same([lambda: 1], [lambda: 1])
    deep = []
    for _ in range(64):
        deep = [deep, deep]  # a tree of 2**64 lists
    assert same(deep, copy.deepcopy(deep))


LEAVES = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.text(max_size=3), st.binary(max_size=9), st.none(),
    st.floats().map(np.float64), st.integers(0, 9).map(np.int64), st.text("ab", max_size=2).map(np.str_),
    st.integers(0, 2).map(np.arange),
)  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text("ab"), inner)
)


@given(TREES, TREES)
def test_same_is_what_pickles_without_sharing_tell(a, b):
    """Written with no memo, two values have the same bytes if and only if they are the same."""

    def written(value):
        pickler = pickle._Pickler(file := io.BytesIO(), 5)
        pickler.fast = True
        pickler.dump(value)
        return file.getvalue()

    assert same(a, copy.deepcopy(a))
    assert same(a, b) == (written(a) == written(b))
