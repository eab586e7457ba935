"""Errors are part of the interface: their types, their attributes and their sentences."""

import copy
import errno
import inspect
import pickle

import pytest

from ampstore import errors
from ampstore.codec import Codec
from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule

PUBLIC = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, Exception) and cls.__module__ == errors.__name__
}


def table():
    """Error -> names of its builtin bases, as the docstring of the module draws them."""
    found = {}
    for line in errors.__doc__.splitlines():
        words = line.replace(",", " ").lstrip(" │├└─").split()
        if words and words[0] in PUBLIC:
            found[words[0]] = [word for word in words[1:] if word.endswith("Error") and word not in PUBLIC]
    return found


ARGUMENTS = {
    "KeyTypeError": (5,),
    "InvalidKeyError": ("a/b", "it has a slash; use another name"),
    "EncodeError": ("mypkg.Thing", "TypeError: cannot pickle it"),
    "ForbiddenGlobalError": ("os", "system"),
    "EntryTooLargeError": (5_000_000_000, 4_294_967_296),
    "CorruptEntryError": ("the key", "its bytes do not fit"),
    "MissingDictionaryError": ("the key", 40312),
    "SettingError": ("AMPSTORE_NETWORK_FS", "maybe", ("wal", "spool", "refuse")),
    "QueryError": ("select x from entry", "no such column: x"),
    "UnknownCodecError": ("the key", "frames2", "which no installed package provides; install it"),
    "LegacyPickleError": ("the key", "EOFError: torn"),
    "DamagedArchiveError": ("the key", "incorrect data check"),
    "ImageFormatError": ("images.foo", "suffix '.foo': nothing reads it"),
    "HashSchemeError": ("v9", ("v0", "v1", "v2")),
    "MixedSchemesError": ("results.db", "v1", "v2"),
    "NotAnImageError": ("str",),
    "ParameterTextError": ("it calls eval", 3),
    "TimerError": ("train",),
    "UnreadableImagesError": ("images.traj", "it is empty"),
}


def example(name):
    """One error of every class."""
    cls = PUBLIC[name]
    if issubclass(cls, errors.StoreError):
        return cls("/data/my.store")
    return cls(*ARGUMENTS.get(name, ()))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_errors_survive_pickle_and_copy(name):
    """An error that crosses a process border has the same type, arguments, attributes and sentence."""
    error = example(name)
    error.add_note("seen in a test")
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for found in [*copies, copy.copy(error), copy.deepcopy(error)]:
        assert type(found) is type(error)
        assert found.args == error.args
        assert vars(found) == vars(error)
        assert str(found) == str(error)
        assert repr(found) == repr(error)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_errors_have_the_builtin_bases_of_the_table(name):
    """Old `except` clauses go on to work: the table in the docstring is true and complete."""
    rows = table()
    assert name in rows, f"{name} is missing in the table"
    bases = {"PicklingError": pickle.PicklingError, "UnpicklingError": pickle.UnpicklingError}
    builtin = {base for base in PUBLIC[name].__mro__ if base.__module__ in ("builtins", "_pickle", "pickle")}
    for base in rows[name]:
        expected = bases.get(base) or getattr(__import__("builtins"), base)
        assert issubclass(PUBLIC[name], expected)
        builtin -= set(expected.__mro__)
    assert builtin <= {Exception, BaseException, object, pickle.PickleError}
    assert issubclass(PUBLIC[name], errors.AmpstoreError)
    if name != "AmpstoreError":
        assert PUBLIC[name].__doc__


@pytest.mark.parametrize("name", sorted(name for name in PUBLIC if issubclass(PUBLIC[name], errors.StoreError)))
def test_store_errors_name_the_place_and_a_way_out(name):
    """A store's error says which store, what is wrong, and takes another sentence."""
    error = example(name)
    assert str(error).startswith("/data/my.store: ")
    assert len(str(error)) > len("/data/my.store: ") + 10
    other = PUBLIC[name]("/data/my.store", "do this instead")
    assert str(other) == "/data/my.store: do this instead"
    assert (other.location, other.detail) == ("/data/my.store", "do this instead")


WAYS_OUT = {
    "MissingStoreError": "flag 'c'",
    "NotAStoreError": "another name",
    "DamagedStoreError": "ampstore verify",
    "ForeignSchemaError": "ampstore salvage",
    "NewerStoreError": "upgrade ampstore",
    "OutdatedStoreError": "ampstore upgrade",
    "ReadOnlyError": "'w' or 'c'",
    "AccessError": "check the owner",
    "StorageError": "free space",
    "NetworkFileSystemError": "local disk",
    "SettingError": "set it to one of wal, spool, refuse",
    "BusyError": "timeout=",
    "ClosedError": "closed",
    "KeyTypeError": "str(key)",
    "InvalidKeyError": "use another name",
    "ForbiddenGlobalError": 'allow=["os.system"]',
    "EntryTooLargeError": "split it",
    "CorruptEntryError": "setting it again",
    "MissingDictionaryError": "no dictionary 40312",
    "UnknownCodecError": "install it",
    "LegacyPickleError": "setting it again",
    "DamagedArchiveError": "ampstore salvage",
}


@pytest.mark.parametrize("name", sorted(WAYS_OUT))
def test_messages_say_what_to_do(name):
    """Every sentence ends in a way out."""
    assert WAYS_OUT[name] in str(example(name))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("KeyTypeError", ["int", "5"]),
        ("InvalidKeyError", ["'a/b'", "slash"]),
        ("EncodeError", ["mypkg.Thing", "cannot pickle"]),
        ("ForbiddenGlobalError", ["os.system"]),
        ("EntryTooLargeError", ["5,000,000,000", "4,294,967,296"]),
        ("CorruptEntryError", ["'the key'", "do not fit"]),
        ("LegacyPickleError", ["'the key'", "torn"]),
    ],
)
def test_messages_name_the_value(name, values):
    """The sentence has the key, the global or the size in it."""
    for value in values:
        assert value in str(example(name))


def test_attributes_spare_the_parsing_of_text():
    """What the sentence says is an attribute as well."""
    assert example("KeyTypeError").key == 5
    assert vars(example("InvalidKeyError")) == {"key": "a/b", "reason": ARGUMENTS["InvalidKeyError"][1]}
    assert vars(example("EncodeError")) == {"kind": "mypkg.Thing", "reason": "TypeError: cannot pickle it"}
    assert vars(example("ForbiddenGlobalError")) == {"module": "os", "name": "system", "action": "read"}
    assert vars(example("EntryTooLargeError")) == {"size": 5_000_000_000, "limit": 4_294_967_296}
    assert vars(example("CorruptEntryError")) == {"key": "the key", "reason": "its bytes do not fit"}
    assert vars(example("LegacyPickleError")) == {"key": "the key", "reason": "EOFError: torn"}


@pytest.mark.parametrize(
    ("module", "name", "entry"),
    [
        ("os", "system", "os.system"),
        ("posix", "system", "posix.system"),
        ("__builtin__", "eval", "__builtin__.eval"),
        ("numpy.testing", "runstring", "numpy.testing.runstring"),
        ("ase.io", "read", "ase.io.read"),
        ("mypkg.types", "Thing", "mypkg"),
        ("", "", ""),
    ],
)
def test_refused_globals_are_offered_as_narrowly_as_is_sensible(module, name, entry):
    """Of the standard library, numpy and ase one name is offered; of a user's package all of it."""
    error = errors.ForbiddenGlobalError(module, name)
    assert f'allow=["{entry}"]' in str(error)
    assert f"{module}.{name}" in str(error)
    assert "trust" in str(error)


def test_refusals_say_which_border():
    """Reading and storing are told apart."""
    assert "refused reading" in str(errors.ForbiddenGlobalError("a", "b"))
    assert "refused storing" in str(errors.ForbiddenGlobalError("a", "b", "write"))


def test_errors_are_caught_as_what_old_programs_expect():
    """Programs that were written for shelve, pickle and files catch what they always caught."""
    with pytest.raises(pickle.UnpicklingError):
        Rule().loads("k", b"cos\nsystem\n.")
    with pytest.raises(pickle.PicklingError):
        Codec("*").encode(lambda: 1)
    with pytest.raises(TypeError):
        Codec("*").encode(lambda: 1)
    with pytest.raises(ValueError, match="'k'"):
        Rule().loads("k", b"")
    with pytest.raises(ValueError, match="'k'"):
        load_legacy("k", b"", Rule())
    assert isinstance(errors.StorageError("x", "no space"), OSError)
    assert errors.StorageError("x").errno in (None, errno.ENOSPC, "x")
