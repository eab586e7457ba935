"""Hostile pickles: nothing is imported, called or changed, and nothing grows without bound.

Streams are written by hand, opcode by opcode, since no pickler would write them.
"""

import collections
import contextlib
import copyreg
import fractions
import itertools
import os
import pathlib
import pickle
import pickletools
import random
import struct
import subprocess
import sys
import tarfile
import uuid

import ase
import ase.atoms
import ase.cell
import ase.constraints
import numpy as np
import pytest

from ampstore.codec import safe as codec_safe
from ampstore.codec import same
from ampstore.codec.legacy import load_legacy
from ampstore.codec.opcodes import check_memo, check_stream, may_nest_deeply
from ampstore.codec.safe import Rule
from ampstore.errors import CodecError, CorruptEntryError, EncodeError, ForbiddenGlobalError, LegacyPickleError

OURS = (ForbiddenGlobalError, CorruptEntryError, LegacyPickleError)
HEAD = b"\x80\x05"


# Pieces of streams.


def text(value):
    """BINUNICODE of a str."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    """LONG1 of an int."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def named(module, name):
    """STACK_GLOBAL."""
    return text(module) + text(name) + b"\x93"


def called(function, *arguments):
    """REDUCE of a function with arguments that are pieces themselves."""
    return function + b"(" + b"".join(arguments) + b"tR"


def whole(*pieces):
    """A stream of protocol 5."""
    return HEAD + b"".join(pieces) + b"."


def attribute(key, value):
    """BUILD of one attribute through the state that is set with setattr."""
    return b"N}" + text(key) + value + b"s\x86b"


def item(key, value):
    """BUILD of one attribute through the state that goes to __dict__."""
    return b"}" + text(key) + value + b"sb"


RANGE = called(named("builtins", "range"), number(10**10))
ARRAY = called(named("numpy.core.multiarray", "_reconstruct"), named("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")


def dtype(spec, *state):
    made = called(named("numpy", "dtype"), text(spec), b"\x89", b"\x88")
    return made + (b"(" + b"".join(state) + b"tb" if state else b"")


def refused(stream):
    """Both doors refuse a stream with an error of ours that names the key or the global."""
    found = []
    for load in (lambda: Rule().loads("the key", stream), lambda: load_legacy("the key", stream, Rule())):
        with pytest.raises(OURS) as caught:
            load()
        found.append(caught.value)
        assert "the key" in str(caught.value) or isinstance(caught.value, ForbiddenGlobalError)
    return found


NAMES = """
os system|os popen|os execv|os fork|os putenv|os remove|os.path join|posix system|posix fork|nt system
posixpath join|subprocess Popen|subprocess check_output|subprocess getoutput|commands getoutput|popen2 popen3
pty spawn|os _exit|builtins eval|builtins exec|builtins __import__|builtins open|builtins compile
builtins globals|builtins locals|builtins vars|builtins setattr|builtins delattr|builtins hasattr
builtins type|builtins super|builtins classmethod|builtins staticmethod|builtins property|builtins map
builtins filter|builtins zip|builtins enumerate|builtins iter|builtins input|builtins breakpoint|builtins exit
builtins quit|builtins help|builtins print|builtins memoryview|builtins dir|builtins id|builtins next
builtins sum|builtins sorted|builtins reversed|builtins max|builtins len|builtins __build_class__
builtins __dict__|builtins object.__subclasses__|builtins str.format|builtins bytes.fromhex|__builtin__ eval
__builtin__ execfile|__builtin__ apply|__builtin__ file|__builtin__ reduce|__builtin__ input
__builtin__ __import__|__builtin__ buffer|__builtin__ intern|__builtin__ reload|copy_reg add_extension
copyreg add_extension|copyreg __newobj__|copyreg pickle|copyreg _extension_registry|copyreg dispatch_table
importlib import_module|importlib.util spec_from_file_location|imp load_source|runpy run_path|runpy run_module
operator attrgetter|operator methodcaller|operator itemgetter|functools partial|functools reduce
_functools partial|types FunctionType|types CodeType|types MethodType|types ModuleType|types SimpleNamespace
marshal loads|ctypes CDLL|ctypes cdll|ctypes pythonapi|_ctypes dlopen|code interact
code InteractiveInterpreter|codeop compile_command|shutil rmtree|shutil copy|socket socket
socket create_connection|ssl SSLContext|http.client HTTPConnection|sys exit|sys modules|sys path|sys settrace
sys setrecursionlimit|threading Thread|threading _start_new_thread|_thread start_new_thread|asyncio run
multiprocessing Process|concurrent.futures ThreadPoolExecutor|signal alarm|pickle loads|pickle load
pickle Unpickler|_pickle loads|shelve open|dbm open|sqlite3 connect|zipfile ZipFile|tempfile mktemp
tempfile NamedTemporaryFile|webbrowser open|smtplib SMTP|urllib.request urlopen|logging.config dictConfig
timeit timeit|cProfile run|pdb run|bdb Bdb|doctest testmod|unittest main|inspect getattr_static|gc get_objects
weakref finalize|atexit register|site main|sysconfig get_paths|venv create|ensurepip bootstrap
idlelib.pyshell main|lib2to3.main main|test.support script_helper|antigravity geohash|this s|turtle Screen
tkinter Tk|antigravity webbrowser|numpy load|numpy fromfile|numpy memmap|numpy save|numpy loadtxt
numpy genfromtxt|numpy DataSource|numpy frombuffer|numpy vectorize|numpy fromfunction|numpy apply_along_axis
numpy f2py|numpy.f2py compile|numpy.f2py.crackfortran myeval|numpy.testing runstring
numpy.testing._private.utils runstring|numpy.testing rundocs|numpy.distutils.exec_command exec_command
numpy.ctypeslib load_library|numpy.core.multiarray fromfile|numpy.core.multiarray os
numpy.core.multiarray _reconstruct.__globals__|numpy._core.multiarray ndarray.__reduce__
numpy.core._internal ctypes|numpy._core._methods os|numpy.core.records recarray|numpy.core.numeric os
numpy.core numeric._frombuffer|numpy._core.numeric fromfile|numpy.lib.npyio load|numpy.lib._npyio_impl load
numpy.random _pickle.__randomstate_ctor|numpy.ma.core os|numpy core.multiarray._reconstruct
numpy ndarray.fromfile|numpy os|numpy.rec fromfile|numpy.compat.py3k os_fspath|numpy.lib.utils safe_eval
numpy dtype.__new__|numpy ndarray.tofile|numpy ufunc|ase.io read|ase.io write|ase.io.formats read
ase.db connect|ase.visualize view|ase.calculators.emt EMT|ase.utils import_module
ase.calculators.calculator FileIOCalculator|ase.calculators.calculator os
ase.calculators.genericfileio BaseProfile|ase.io.jsonio object_hook|ase.io.trajectory Trajectory
ase.atoms Atoms.write|ase.atoms np|ase.atoms Atoms.__init__.__globals__|ase.atoms warnings.sys.modules
ase.cli.main main|ase.config cfg|ase.parallel world|ase.calculators.singlepoint os|ase.constraints np
ase.constraints sys|ase.constraints.fix_atoms np|ase.db.row np|ase.dft.kpoints re|pathlib os
pathlib Path.unlink|pathlib Path.write_text|pathlib Path.home|pathlib io.open|collections namedtuple
collections _sys|collections abc|collections UserDict|collections Counter.__init__.__globals__|datetime sys
datetime datetime.now|decimal getcontext|decimal setcontext|decimal localcontext|fractions re
fractions operator|uuid getnode|uuid uuid1|uuid os|uuid _load_system_functions|uuid SafeUUID|_codecs lookup
_codecs decode|_codecs register|codecs open|_codecs escape_decode|ampstore open|ampstore.shelve open
ampstore.codec.safe Rule|ampstore.codec.safe _resolve|__main__ main|__main__ __builtins__|buıltins eval
οs system|os\u200b system|os systém|OS system|Os System|ｏｓ system| os system|os  system|builtins.eval eval
os. system|.os system|os system.|builtins .eval|builtins eval.|..os system|builtins/../os system
numpy..f2py compile|exceptions eval|__builtin__ Ellipsis.__class__|builtins Ellipsis.__reduce_ex__
builtins ValueError.__subclasses__|no.such module
"""
HOSTILE = [tuple(pair.split(" ", 1)) for line in NAMES.strip().splitlines() for pair in line.split("|")]
HOSTILE += [("", ""), ("", "eval"), ("os", ""), ("\x00", "\x00"), ("builtins", "\ud800"), ("a" * 70_000, "b")]
HOSTILE += [("builtins", "eval\x00"), ("builtins\x00", "eval"), ("builtins", "__class__.__base__.__subclasses__")]


def ways(module, name):
    """Every way in which a stream of any protocol names a global and calls it with "x"."""
    lines = f"{module}\n{name}\n".encode("utf-8", "surrogatepass")
    stack = named(module, name)
    if "\n" not in module + name:
        yield b"c" + lines + b"."
        yield b"c" + lines + b"(S'x'\ntR."  # protocol 0
        yield b"(S'x'\ni" + lines + b"."  # INST
        yield b"(c" + lines + b"U\x01xo."  # OBJ
        yield b"\x80\x02c" + lines + b"U\x01x\x85R."
        yield b"\x80\x02c" + lines + b"U\x01x\x85\x81."  # NEWOBJ
        yield b"\x80\x03]c" + lines + b"X\x01\x00\x00\x00x\x85Ra."
    yield HEAD + stack + b"."
    yield HEAD + stack + text("x") + b"\x85R."
    yield HEAD + stack + text("x") + b"\x85\x81."
    yield HEAD + stack + text("x") + b"\x85}\x92."  # NEWOBJ_EX
    yield HEAD + b"}" + text("k") + stack + b")Rs."
    yield HEAD + stack + item("a", b"N") + b"."
    yield HEAD + b"\x95" + struct.pack("<Q", len(stack) + 3) + stack + b")R."


@pytest.fixture
def unchanged(tmp_path, monkeypatch):
    """The test leaves no file, no new module, no child and the same process state."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    state = process_state()
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    new = {name for name in set(sys.modules) - before if not name.startswith(("numpy", "encodings"))}
    assert not new, new
    assert state == process_state()


def process_state():
    environment = hash(frozenset((name, value) for name, value in os.environ.items() if "PYTEST" not in name))
    tables = len(copyreg.dispatch_table), len(copyreg._extension_registry), len(codec_safe.GUARDS)
    return environment, tuple(sys.path), os.getcwd(), sys.getrecursionlimit(), os.umask(os.umask(0o22)), tables


for _module, _names in codec_safe.CLASSES.items():  # imported once, by the first who names them
    with contextlib.suppress(CorruptEntryError, AttributeError):
        for _name in _names:
            Rule().find(_module, _name)

CALLS = []


def _trap(event, arguments):
    if CALLS and event in ("os.system", "subprocess.Popen", "os.exec", "os.fork", "exec", "socket.__new__", "import"):
        CALLS[-1].append((event, arguments))


sys.addaudithook(_trap)


@pytest.fixture
def audited():
    """What Python's own audit events say of imports, programs and sockets."""
    Rule().loads("k", pickle.dumps([np.arange(3), ase.Atoms("Cu"), np.ma.masked_array([1])], 2))
    CALLS.append([])
    yield CALLS[-1]
    CALLS.pop()


def test_no_name_outside_the_list_is_reached_by_any_opcode(unchanged, audited):
    """Hundreds of names, each by all opcodes that name one: nothing is imported, nothing called."""
    streams = [(pair, stream) for pair in HOSTILE for stream in ways(*pair)]
    assert len(HOSTILE) > 250
    assert len(streams) > 3000
    for _, stream in streams:
        refused(stream)
    assert audited == []


def test_refusals_name_the_global(unchanged):
    """The error has module and name as the stream spells them, and says how to allow it."""
    for error in refused(whole(called(named("os", "system"), text("touch x")))):
        assert isinstance(error, ForbiddenGlobalError)
        assert (error.module, error.name, error.action) == ("os", "system", "read")
        assert "os.system" in str(error)
    for error in refused(b"c__builtin__\neval\n(S'1'\ntR."):
        assert "eval" in str(error)


def test_names_reached_through_the_list_are_refused(unchanged, audited):
    """Attributes of allowed modules and classes are not allowed for that."""
    for module in ("builtins", "numpy", "ase.atoms", "collections", "numpy.core.multiarray", "pathlib", "uuid"):
        for name in ("__dict__", "__builtins__", "__loader__", "__spec__", "__import__", "sys", "os", "__class__"):
            for stream in ways(module, name):
                refused(stream)
    assert audited == []


def test_persistent_ids_and_extensions_are_refused(unchanged):
    """Both are hooks of which a stored value makes no use."""
    for stream in (b"Pos.system\n.", whole(text("os.system") + b"Q"), b"\x80\x02\x82\x01.", b"\x80\x02\x83\x01\x00."):
        refused(stream)
    copyreg.add_extension("os", "system", 0x7F1)
    try:
        for stream in (b"\x80\x02\x83\xf1\x07.", b"\x80\x02\x84\xf1\x07\x00\x00X\x01\x00\x00\x00x\x85R."):
            refused(stream)
    finally:
        copyreg.remove_extension("os", "system", 0x7F1)


def test_only_one_attribute_can_be_asked_for(unchanged):
    """`getattr` is there for one method of ASE's calculators, and for nothing else."""
    calculator = named("ase.calculators.singlepoint", "SinglePointCalculator") + b")\x81"
    function = named("builtins", "getattr")
    for owner, name in itertools.product(
        (calculator, text("x"), named("ase.atoms", "Atoms"), named("builtins", "ValueError"), function, ARRAY),
        (
            "__class__",
            "__init__",
            "__reduce__",
            "__globals__",
            "calculate",
            "__dict__",
            "_deprecated_get_spin_polarize",
        ),
    ):
        refused(whole(called(function, owner, text(name))))
    for owner in (text("x"), named("ase.atoms", "Atoms"), b"}", ARRAY, function):
        refused(whole(called(function, owner, text("_deprecated_get_spin_polarized"))))
    refused(whole(called(function, calculator, text("__class__"), b"N")))


GADGETS = {
    "set of a range": called(named("builtins", "set"), RANGE),
    "frozenset of a range": called(named("builtins", "frozenset"), RANGE),
    "set of a text": called(named("builtins", "set"), text("abc")),
    "bytearray of a size": called(named("builtins", "bytearray"), number(10**10)),
    "bytearray of a range": called(named("builtins", "bytearray"), RANGE),
    "bytearray with a codec": called(named("builtins", "bytearray"), text("x"), text("zlib_codec")),
    "bytes of a size": called(named("builtins", "bytes"), number(10**10)),
    "list of a range": called(named("builtins", "list"), RANGE),
    "tuple of a range": called(named("builtins", "tuple"), RANGE),
    "dict of a range": called(named("builtins", "dict"), RANGE),
    "str of a number": called(named("builtins", "str"), number(5)),
    "int of a text": called(named("builtins", "int"), text("9" * 4000)),
    "object": called(named("builtins", "object")),
    "deque of a range": called(named("collections", "deque"), RANGE),
    "OrderedDict of a range": called(named("collections", "OrderedDict"), RANGE),
    "Counter of a range": called(named("collections", "Counter"), RANGE),
    "Counter of a text": called(named("collections", "Counter"), text("abc")),
    "ChainMap of a range": called(named("collections", "ChainMap"), RANGE),
    "defaultdict that calls": called(named("collections", "defaultdict"), named("collections", "deque"), RANGE),
    "defaultdict of a function": called(named("collections", "defaultdict"), named("_codecs", "encode")),
    "complex of a range": called(named("builtins", "complex"), RANGE),
    "Decimal of a range": called(named("decimal", "Decimal"), RANGE),
    "Fraction that is a power": called(named("fractions", "Fraction"), text("1e999999999")),
    "Fraction of a range": called(named("fractions", "Fraction"), RANGE),
    "group of a range": called(named("builtins", "ExceptionGroup"), text("x"), RANGE),
    "base group of a range": called(named("builtins", "BaseExceptionGroup"), text("x"), RANGE),
    "syntax error of a range": called(named("builtins", "SyntaxError"), text("x"), RANGE),
    "tab error of a range": called(named("builtins", "TabError"), text("x"), RANGE),
    "group made bare": named("builtins", "ExceptionGroup") + b"(" + text("x") + RANGE + b"t\x81",
    "path of a range": called(named("pathlib", "PurePosixPath"), RANGE),
    "uuid of a range": called(named("uuid", "UUID"), RANGE),
    "atoms of a range": called(named("ase.atoms", "Atoms"), RANGE),
    "atom of a range": called(named("ase.atom", "Atom"), text("Cu"), RANGE),
    "fixed atoms of a range": called(named("ase.constraints", "FixAtoms"), RANGE),
    "cell of a range": called(named("ase.cell", "Cell"), RANGE),
    "symbols of a range": called(named("ase.symbols", "Symbols"), RANGE),
    "formula that repeats": called(named("ase.formula", "Formula"), text("Cu999999999")),
    "neighbours of a range": called(named("ase.neighborlist", "NeighborList"), RANGE),
    "band path": called(named("ase.dft.kpoints", "BandPath"), RANGE),
    "row of a range": called(named("ase.db.row", "AtomsRow"), RANGE),
    "ndarray that is called": called(named("numpy", "ndarray"), number(10**10) + b"\x85"),
    "ndarray made bare": named("numpy", "ndarray") + number(10**10) + b"\x85\x85\x81",
    "matrix of a text": called(named("numpy", "matrix"), text("1 2")),
    "masked array": called(named("numpy.ma", "MaskedArray"), RANGE),
    "dtype of a range": called(named("numpy", "dtype"), RANGE),
    "dtype of a dict": called(named("numpy", "dtype"), b"}"),
    "dtype of a list": called(named("numpy", "dtype"), b"](" + text("f8") * 2 + b"\x86a"),
    "scalar of objects": called(named("numpy.core.multiarray", "scalar"), dtype("O"), b"C\x08aaaaaaaa"),
    "scalar of no dtype": called(named("numpy.core.multiarray", "scalar"), text("f8"), b"C\x08aaaaaaaa"),
    "scalar that is short": called(named("numpy.core.multiarray", "scalar"), dtype("S1000000"), b"C\x01a"),
    "buffer of objects": called(
        named("numpy.core.numeric", "_frombuffer"), b"C\x08aaaaaaaa", dtype("O"), b"K\x01\x85", text("C")
    ),
    "buffer of a range": called(
        named("numpy.core.numeric", "_frombuffer"), RANGE, dtype("f8"), b"K\x01\x85", text("C")
    ),
    "buffer that is short": called(
        named("numpy.core.numeric", "_frombuffer"), b"C\x08aaaaaaaa", dtype("f8"), number(10**10) + b"\x85", text("C")
    ),
    "huge array": called(
        named("numpy.core.multiarray", "_reconstruct"), named("numpy", "ndarray"), number(10**10) + b"\x85", b"C\x01b"
    ),
    "array of another class": called(
        named("numpy.core.multiarray", "_reconstruct"), named("builtins", "list"), b"K\x00\x85", b"C\x01b"
    ),
    "masked array of another class": called(
        named("numpy.ma.core", "_mareconstruct"),
        named("numpy", "ndarray"),
        named("numpy", "ndarray"),
        b"K\x00\x85",
        b"C\x01b",
    ),
    "huge masked array": called(
        named("numpy.ma.core", "_mareconstruct"),
        named("numpy.ma", "MaskedArray"),
        named("numpy", "ndarray"),
        number(10**10) + b"\x85",
        b"C\x01b",
    ),
    "encode with a codec": called(named("_codecs", "encode"), text("x" * 99), text("zlib_codec")),
    "encode with another": called(named("_codecs", "encode"), text("x"), text("rot13")),
    "encode with a handler": called(named("_codecs", "encode"), text("x"), text("latin1"), text("strict")),
    "reconstructor of a guard": called(
        named("copyreg", "_reconstructor"), named("numpy", "ndarray"), named("builtins", "object"), b"N"
    ),
    "reconstructor of a range": called(
        named("copyreg", "_reconstructor"),
        named("ase.calculators.calculator", "Parameters"),
        named("builtins", "dict"),
        RANGE,
    ),
    "reconstructor of a base": called(
        named("copyreg", "_reconstructor"), named("ase.atoms", "Atoms"), named("builtins", "ValueError"), b"N"
    ),
    # The state of an array or dtype, which numpy believes.
    "objects without a list": ARRAY + b"(K\x01" + number(9999) + b"\x85" + dtype("O") + b"\x89]Natb",
    "objects in bytes": ARRAY + b"(K\x01K\x01\x85" + dtype("O") + b"\x89C\x08aaaaaaaatb",
    "flags that lie": ARRAY
    + b"(K\x01"
    + number(9999)
    + b"\x85"
    + dtype("f8", b"K\x03", text("<"), b"NNN", number(-1), number(-1), b"K\x3f")
    + b"\x89]Natb",
    "fields outside": dtype(
        "V8",
        b"K\x03",
        text("|"),
        b"N",
        text("a") + b"\x85",
        b"}" + text("a") + dtype("f8") + b"M\xff\x7f\x86s",
        b"K\x08K\x01K\x10",
    ),
    "a size below zero": dtype("V8", b"K\x03", text("|"), b"NNN", number(-8), number(1), b"K\x00"),
    "a dtype with junk": dtype("f8", b"K\x03", text("<")),
    "zeros without bytes": ARRAY + b"(K\x01" + number(10**15) + b"\x85" + dtype("V0") + b"\x89C\x00tb",
    "a shape below zero": ARRAY + b"(K\x01" + number(-5) + b"\x85" + dtype("f8") + b"\x89C\x00tb",
    "a shape of floats": ARRAY + b"(K\x01G\x3f\xf0\x00\x00\x00\x00\x00\x00\x85" + dtype("f8") + b"\x89C\x00tb",
    "an array twice": ARRAY + (b"(K\x01K\x01\x85" + dtype("f8") + b"\x89C\x08aaaaaaaatb") * 2,
    "a state of nothing": ARRAY + b"Nb",
    "junk in time": called(named("datetime", "datetime"), b"C\x0aaaaaaaaaaa", text("tz")),
    "junk in days": called(named("datetime", "timedelta"), number(10**100)),
    "a date of bytes": called(named("datetime", "date"), b"C\x04\xff\xff\xff\xff"),
    "junk in slices": called(named("builtins", "slice"), b"NNNN"),
    "arithmetic by update": b"]" + RANGE + b"\x85b",
}


@pytest.mark.parametrize("gadgets", [list(GADGETS)[:40], list(GADGETS)[40:]], ids=["builtins", "numpy"])
def test_allowed_names_take_no_arguments_that_no_writer_gives(gadgets, unchanged, audited):
    """Builders refuse to multiply: ten bytes never become ten gigabytes, pointers are not made up."""
    for name in gadgets:
        try:
            refused(whole(GADGETS[name]))
        except BaseException as err:
            err.add_note(name)
            raise
    assert audited == []


LIES = [
    (b"K\x03", text("<"), b"NNN", number(-1), number(-1), b"K\x3f"),
    (b"K\x04", text("<"), b"NNN", number(1), number(99), b"K\x01"),
    (b"K\x03", text("|"), b"NN}", b"K\x08K\x01K\x00"),
    (b"K\x03", text("|"), b"N)}", b"K\x08K\x01K\x3f"),
    (
        b"K\x03",
        text("|"),
        b"N",
        text("a") + b"\x85",
        b"}" + text("a") + dtype("O") + b"K\x00\x86s",
        b"K\x08K\x01K\x00",
    ),
    (b"K\x03", text("|"), dtype("O") + b"K\x01\x85\x86", b"NN", b"K\x08K\x01K\x00"),
    (b"K\x04", text("<"), b"NNN", number(-1), number(-1), b"K\x00", b"}(C\x01sK\x01K\x01K\x01t\x86"),
    (b"K\x04", text("<"), b"NNN", number(-1), number(-1), b"K\x00", b"}(C\x01qK\x00K\x00K\x00t\x86"),
]


def test_numpy_is_never_handed_the_state_of_a_stream(unchanged):
    """Whatever a stream says of flags, fields and sizes, a dtype that comes out is one that numpy makes itself."""
    buffer = named("numpy.core.numeric", "_frombuffer")
    for spec, lie in itertools.product(("f8", "V8", "O", "M8[s]", "m8", "U2", "S8", "?", "(2,)f4", "i4,i4"), LIES):
        kind = dtype(spec, *lie)
        for stream in (
            whole(kind),
            whole(called(buffer, b"C\x08aaaaaaaa", kind, b"K\x01\x85", text("C"))),
            whole(called(buffer, b"\x96" + struct.pack("<Q", 8) + b"a" * 8, kind, b"K\x01\x85", text("C"))),
            whole(called(named("numpy.core.multiarray", "scalar"), kind, b"C\x08aaaaaaaa")),
            whole(ARRAY + b"(K\x01K\x01\x85" + kind + b"\x89C\x08aaaaaaaatb"),
            whole(ARRAY + b"(K\x01K\x01\x85" + kind + b"\x89]Natb"),
            whole(ARRAY + b"(K\x01M\xff\x7f\x85" + kind + b"\x89]Natb"),
        ):
            for load in (Rule().loads, lambda key, data: load_legacy(key, data, Rule())):
                try:
                    value = load("k", stream)
                except OURS:
                    continue
                made = value if isinstance(value, np.dtype) else value.dtype
                honest = pickle.loads(pickle.dumps(made))
                assert (made, made.flags, made.itemsize) == (honest, honest.flags, honest.itemsize)
                assert made.hasobject == ("O" in repr(made))
                assert repr(value) == repr(pickle.loads(pickle.dumps(value)))


def test_dtypes_cannot_be_changed_under_an_array(unchanged):
    """Fields and sizes that change after the array was made would let it read behind its memory."""
    kind = dtype("V8") + b"q\x01"
    stream = whole(
        b"(" + ARRAY + b"(K\x01K\x01\x85" + kind + b"\x89C\x08aaaaaaaatbq\x02",
        b"h\x01(K\x03" + text("|") + b"NNN" + number(10**6) + b"K\x01K\x10tbt",
    )
    try:
        array = Rule().loads("k", stream)[0]
    except OURS:
        return
    assert array.dtype.itemsize == 8
    assert array.tobytes() == b"a" * 8


def snapshot(cls):
    return dict(vars(cls)), cls.__name__, cls.__qualname__, cls.__bases__, cls.__doc__


CLASSES = [
    ("pathlib", "PurePosixPath", pathlib.PurePosixPath),
    ("pathlib", "PosixPath", pathlib.PosixPath),
    ("collections", "Counter", collections.Counter),
    ("collections", "ChainMap", collections.ChainMap),
    ("collections", "OrderedDict", collections.OrderedDict),
    ("collections", "deque", collections.deque),
    ("uuid", "UUID", uuid.UUID),
    ("fractions", "Fraction", fractions.Fraction),
    ("ase.atoms", "Atoms", ase.Atoms),
    ("ase.cell", "Cell", ase.cell.Cell),
    ("ase.constraints", "FixAtoms", ase.constraints.FixAtoms),
    ("builtins", "ValueError", ValueError),
    ("builtins", "SyntaxError", SyntaxError),
    ("builtins", "complex", complex),
    ("builtins", "list", list),
    ("builtins", "set", set),
    ("numpy", "ndarray", np.ndarray),
    ("numpy", "dtype", np.dtype),
    ("numpy", "matrix", np.matrix),
    ("numpy.ma", "MaskedArray", np.ma.MaskedArray),
    ("numpy.core.multiarray", "_reconstruct", None),
    ("numpy.core.multiarray", "scalar", None),
    ("copyreg", "_reconstructor", None),
    ("_codecs", "encode", None),
    ("builtins", "Ellipsis", None),
    ("builtins", "NotImplemented", None),
]
CHANGES = [
    *[
        (name, text("x"))
        for name in ("__init__", "__new__", "evil", "__name__", "__qualname__", "__doc__", "__module__")
    ],
    ("__setstate__", named("builtins", "complex")),
    ("__reduce__", named("builtins", "ValueError")),
    ("__bases__", named("builtins", "ValueError") + b"\x85"),
    ("__class__", named("ase.atoms", "Atoms")),
    ("__defaults__", b"N\x85"),
    ("__code__", b"N"),
    ("__dict__", b"}"),
    ("__call__", named("builtins", "range")),
    ("real", named("builtins", "ValueError")),
    ("build", named("builtins", "range")),
    ("cls", named("builtins", "complex")),
    ("_build", named("builtins", "complex")),
]


@pytest.mark.parametrize(("module", "name", "cls"), CLASSES, ids=lambda part: part if isinstance(part, str) else "")
def test_streams_cannot_change_what_they_name(module, name, cls, unchanged):
    """BUILD on a class, a builder or a constant is refused, and nothing has changed afterwards."""
    before = snapshot(cls) if cls else None
    for (key, value), build in itertools.product(CHANGES, (attribute, item)):
        target = named(module, name)
        refused(whole(target + build(key, value)))
        refused(whole(target + b"0" + target + build(key, value) + b"0N"))
        refused(f"c{module}\n{name}\n".encode() + build(key, value) + b".")
        if cls:
            assert snapshot(cls) == before
    refused(whole(named(module, name) + b"N}(" + text("a") + b"K\x01" + text("b") + b"K\x02u\x86b"))
    refused(whole(named(module, name) + b"K\x01a"))
    refused(whole(named(module, name) + b"K\x01K\x02s"))
    refused(whole(named(module, name) + b"(K\x01\x90"))


def test_a_change_is_not_seen_while_the_stream_goes_on(unchanged):
    """The class is never changed, not even until the end of the load."""
    class_ = named("collections", "Counter")
    stream = whole(class_, attribute("evil", b"K\x01"), b"0", called(named("os", "system"), text("x")))
    for error in refused(stream):
        assert not isinstance(error, ForbiddenGlobalError)
    assert not hasattr(collections.Counter, "evil")


@pytest.mark.parametrize("spec", ["f8", "i4", "?", "U3", "M8[s]", "O", ">f8", "V4"])
def test_numpys_own_dtypes_stay_as_they_are(spec, unchanged):
    """BUILD on a dtype that a stream names does not reach the one that all arrays share."""
    shared = np.dtype(spec)
    before = shared.__reduce__(), shared.flags, shared.itemsize, hash(shared)
    for state in (
        (b"K\x03", text(">"), b"NNN", number(-1), number(-1), b"K\x00"),
        (b"K\x03", text("<"), b"NNN", number(16), number(16), b"K\x3f"),
        (
            b"K\x03",
            text("|"),
            b"N",
            text("a") + b"\x85",
            b"}" + text("a") + dtype("O") + b"K\x00\x86s",
            b"K\x08K\x08K\x3f",
        ),
    ):
        for copied in (b"\x88", b"\x89"):
            made = called(named("numpy", "dtype"), text(spec), b"\x89", copied)
            stream = whole(made + b"(" + b"".join(state) + b"tb")
            for load in (lambda: Rule().loads("k", stream), lambda: load_legacy("k", stream, Rule())):  # noqa: B023
                try:
                    load()
                except OURS:
                    pass
                assert (shared.__reduce__(), shared.flags, shared.itemsize, hash(shared)) == before
                assert np.dtype(spec) is shared or spec not in ("f8", "i4", "?")


def test_errors_leave_nothing_half_built(unchanged):
    """A stream that fails after much work leaves the rule as usable as before."""
    rule = Rule()
    for stream in (
        whole(ARRAY + b"Nb"),
        whole(dtype("O") + b"Nb"),
        b"cos\nsystem\n.",
        whole(GADGETS["set of a range"]),
    ):
        with pytest.raises(OURS):
            rule.loads("k", stream)
        for value in (np.array([1, None], dtype=object), ase.Atoms("Cu"), {1, 2}, collections.Counter("aa")):
            assert same(rule.loads("k", rule.dumps(value)), value)


class Thing:
    """A class of ours."""


def test_allowed_packages_lend_only_what_they_define(unchanged):
    """`allow` admits what a package defines, not what it merely imports."""
    rule = Rule([__name__])
    assert type(rule.loads("k", whole(named(__name__, "Thing") + b")\x81"))) is Thing
    for name in ("os", "os.system", "subprocess.Popen", "sys.modules", "pickle.loads", "builtins.eval", "np.load"):
        with pytest.raises(OURS):
            rule.loads("k", whole(called(named(__name__, name), text("x"))))
    with pytest.raises(OURS):
        rule.loads("k", whole(called(named("os", "system"), text("x"))))


# Bombs, each in a process that may not have more than 2 GB.

BOMB = """
import resource, sys, time
from ampstore.codec.safe import Rule
from ampstore.codec.legacy import load_legacy
import numpy, ase
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from ampstore.errors import CodecError
import base64, json
for name, data in json.load(sys.stdin).items():
    stream, start = base64.b64decode(data), time.monotonic()
    for door in ("store", "legacy"):
        try:
            value = Rule().loads("k", stream) if door == "store" else load_legacy("k", stream, Rule())
        except CodecError as err:
            print(name, door, "refused", type(err).__name__)
        else:
            print(name, door, "value", type(value).__name__)
            del value
    assert time.monotonic() - start < 10, name
    status = open("/proc/self/status").read()  # getrusage begins with the peak of the parent
    peak = int(status.split("VmHWM:")[1].split()[0])
    assert peak < 1_500_000, (name, peak)
print("survived", flush=True)
"""

DEEP = 200_000
BOMBS = {
    "long_binput": HEAD + b"Nr\xff\xff\xff\x7f.",
    "long_binput, larger": HEAD + b"Nr\xff\xff\xff\xff.",
    "put": b"Np4294967295\n.",
    "put, larger": b"Np999999999999999999\n.",
    "put, spelt oddly": b"Np 4_000_000_000\n.",
    "put behind a text": whole(text("r" * 300) + b"r\xff\xff\xff\xff"),
    "get": b"g4294967295\n.",
    "long_binget": HEAD + b"j\xff\xff\xff\xff.",
    "binbytes8": HEAD + b"\x8e" + struct.pack("<Q", 10 * 2**30) + b"x.",
    "binbytes8, absurd": HEAD + b"\x8e" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "bytearray8": HEAD + b"\x96" + struct.pack("<Q", 10 * 2**30) + b"x.",
    "bytearray8 beside an array": HEAD + ARRAY + b"\x96" + struct.pack("<Q", 10 * 2**30) + b"x.",
    "binbytes8 beside an array": HEAD + ARRAY + b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "binunicode8": HEAD + b"\x8d" + struct.pack("<Q", 10 * 2**30) + b"x.",
    "binunicode": b"X\xff\xff\xff\xffx.",
    "binstring": b"T\xff\xff\xff\x7fx.",
    "frame": HEAD + b"\x95" + struct.pack("<Q", 2**62) + b"N.",
    "frame beside an array": HEAD + ARRAY + b"\x95" + struct.pack("<Q", 2**62) + b"N.",
    "long4": HEAD + b"\x8b\xff\xff\xff\x7f\x01.",
    "long4, negative": HEAD + b"\x8b\xff\xff\xff\xff\x01.",
    "int in text": b"I" + b"9" * 100_000 + b"\n.",
    "long in text": b"L" + b"9" * 100_000 + b"L\n.",
    "complex of text": whole(called(named("builtins", "complex"), text("1" * 100_000))),
    "decimal": whole(called(named("decimal", "Decimal"), text("1e999999999"))),
    "deep lists": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "deep lists by marks": b"(" * DEEP + b"l" * DEEP + b".",
    "deep tuples": HEAD + b")" + b"\x85" * DEEP + b".",
    "deep dicts": HEAD + b"}" + b"K\x00}" * DEEP + b"s" * DEEP + b".",
    "deep marks": b"(" * 10**6 + b".",
    "deep frozensets": HEAD + b"(" * 5000 + b"\x91" * 5000 + b".",
    "deep classes": HEAD + b"".join([named("builtins", "ValueError") + b"("] * 5000) + b"tR" * 5000 + b".",
    "memo cycle": HEAD + b"]\x94" + b"h\x00a" * 1000 + b".",
    "laughs": HEAD
    + b"]\x94"
    + b"".join(b"](" + b"h" + bytes([n]) * 1 + (b"h" + bytes([n])) * 9 + b"e\x94" for n in range(60))
    + b".",
    "many copies": HEAD
    + b"("
    + b"N" * 5000
    + b"l\x94"
    + b"".join([named("builtins", "frozenset") + b"h\x00\x85R0"] * 1000)
    + b".",
} | {f"gadget: {name}": whole(piece) for name, piece in GADGETS.items()}

IN_STORE_BOMBS = ("long_binput", "long_binput, larger", "put", "put, larger", "put, spelt oddly", "put behind a text")
"""These would make the unpickler ask for gigabytes."""


def test_bombs_stay_small_and_quick():
    """No stream of a few bytes takes gigabytes or minutes, and the process lives on."""
    import base64
    import json

    data = json.dumps({name: base64.b64encode(stream).decode() for name, stream in BOMBS.items()})
    done = subprocess.run([sys.executable, "-c", BOMB], input=data, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    lines = done.stdout.splitlines()
    assert lines[-1] == "survived"
    for line in lines[:-1]:
        if line.startswith("gadget"):
            assert "refused" in line, line
        if any(line.startswith((f"{name} legacy", f"{name} store")) for name in IN_STORE_BOMBS):
            assert "refused" in line, line


@pytest.mark.parametrize("name", IN_STORE_BOMBS)
def test_streams_may_not_name_far_memo_places(name):
    """The scan refuses the index before any memory is asked for, in a store as in a legacy file."""
    for check in (check_memo, check_stream):
        with pytest.raises(ValueError, match="memo index|no pickle"):
            check(BOMBS[name])


def test_a_slice_of_slices_is_refused_when_it_is_written():
    """Nobody stores what cannot be read back."""
    for value in (slice(slice(1)), slice((1, 2))):
        with pytest.raises(EncodeError):
            Rule().dumps(value)
    assert Rule().loads("k", Rule().dumps(slice(1, None, 2))) == slice(1, None, 2)


def test_the_scan_passes_every_stream_that_a_pickler_writes():
    """No protocol's own streams are refused, whatever lengths their texts have."""
    chance = random.Random(5)
    for protocol in range(6):
        for _ in range(60):
            texts = ["r" * chance.choice((0, 1, 30, 47, 48, 49, 255, 256, 70_000)) + "p9999999" for _ in range(5)]
            value = {one: [one, one.encode() * 2, bytearray(b"rp"), len(one), -1.5, (1, 2), {"x"}] for one in texts}
            stream = pickle.dumps([value, np.arange(9.0), ase.Atoms("Cu"), 10**400], protocol)
            check_memo(stream)
            check_stream(stream)
            assert not may_nest_deeply(stream)


def test_a_far_memo_place_is_found_behind_every_opcode():
    """Wherever a pickler could have stopped, an index that no stream needs is refused; within a text it is text."""
    value = {"rp": [1.5, (1.5, 2.5, -3.5), 7, 300, 1 << 20, "x" * 23, "r" * 24, "r" * 200, True, None, ["Cu", "Cu"]]}
    stream = pickle.dumps(value, 5)[11:]  # without PROTO and FRAME, whose length would not be right
    starts = [position for _, _, position in pickletools.genops(stream)]
    for start in starts[1:]:
        with pytest.raises(ValueError, match="memo index"):
            check_stream(stream[:start] + b"r\xff\xff\xff\x7f" + stream[start:])
    check_stream(pickle.dumps("r\x7f\x7f\x7f\x7f" * 20, 5))


def test_many_tuples_are_not_deep():
    """Only tuples are counted, not every text with a "t" in it; what is read carefully comes back equal."""
    texts = [f"tttt{n}" for n in range(20_000)]
    assert not may_nest_deeply(pickle.dumps(texts))
    assert may_nest_deeply(pickle.dumps([(n,) for n in range(60_000)]))
    value = {(n, (n, "t")): uuid.UUID(int=n) for n in range(30_000)}
    for protocol in (0, 2, 5):
        stream = Rule().dumps(value, protocol)
        assert Rule().loads("k", stream) == value


# Mutations of good streams.

GOOD = [
    [("Cu", [0.1, 0.0, -1.5] * 4), ("Pt", [2.5] * 3)],
    {"energy": -1.5, "forces": np.arange(6.0).reshape(2, 3), "name": "particular"},
    [np.array([1, "Cu", None], dtype=object), np.array([(1, 2.5)], dtype="i4,f8")],
    {(0, "Cu", np.int64(1), np.str_("Pt"), 2): [0.5]},
    ase.Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 1.5]], constraint=ase.constraints.FixAtoms([0])),
    [fractions.Fraction(1, 3), uuid.UUID(int=7), collections.Counter("aab"), pathlib.PurePosixPath("a/b")],
    [np.ma.masked_array([1.0, 2.0], mask=[0, 1]), np.matrix([[1.0]]), np.arange(4, dtype=">i2")[::2]],
    collections.defaultdict(list, a=[{1, 2}, frozenset({3}), bytearray(b"abc"), range(5), Ellipsis]),
]
PIECES = [bytes([code]) for code in range(256)] + [
    named("os", "system"),
    b"cos\nsystem\n",
    RANGE,
    ARRAY,
    dtype("f8"),
    dtype("O"),
    attribute("x", b"N"),
    b"tR",
    b")R",
    b"(i",
    b"\x81",
    b"h\x00",
    b"h\x05",
]


def mutant(stream, chance, streams):
    """A damaged or spliced stream, with no memo place far away."""
    data = bytearray(stream)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        kind, place = chance.randrange(6), chance.randrange(len(data) + 1)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1 and place < len(data):
            data[place] = chance.randrange(256)
        elif kind == 2:
            del data[place : place + chance.choice((1, 2, 8, len(data)))]
        elif kind == 3:
            data[place:place] = chance.choice(PIECES)
        elif kind == 4:
            other = chance.choice(streams)
            start = chance.randrange(len(other))
            data[place:place] = other[start : start + chance.randrange(60)]
        else:
            data[place : place + chance.randrange(9)] = data[: chance.randrange(40)]
        if not data:
            data = bytearray(b".")
    return bytes(data)


def test_mutated_streams_yield_a_value_or_an_error_of_ours(unchanged):
    """Thousands of damaged streams import nothing, write nothing and raise nothing else."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    streams = [Rule().dumps(value, protocol) for value in GOOD for protocol in (0, 2, 4, 5)]
    rule, outcomes = Rule(), collections.Counter()
    for number_ in range(6000):
        stream = mutant(chance.choice(streams), chance, streams)
        try:
            check_memo(stream)
        except ValueError:
            continue  # the unpickler would ask for gigabytes
        for load in (rule.loads, lambda key, data: load_legacy(key, data, rule)):
            try:
                load("k", stream)
                outcomes["value"] += 1
            except OURS:
                outcomes["error"] += 1
            except BaseException as err:
                err.add_note(f"seed {seed}, number {number_}: {stream!r}")
                raise
    assert outcomes["value"] > 50, outcomes
    assert outcomes["error"] > 3000, outcomes
    # Whatever they did, good streams still load.
    for value in GOOD:
        assert type(Rule().loads("k", Rule().dumps(value))) is type(value)
    assert np.dtype("f8").flags == 0
    assert np.dtype("f8").byteorder == "="


def test_truncated_streams_are_errors(unchanged):
    """A stream that is cut anywhere is no value."""
    for value, protocol in itertools.product(GOOD, (0, 2, 5)):
        stream = Rule().dumps(value, protocol)
        for size in range(0, len(stream), 1 + len(stream) // 200):
            refused(stream[:size])


# The corpus of real legacy databases.


def entries(directory):
    """Name -> bytes of a legacy container; loose files win."""
    found = {}
    archive = directory / "archive.tar.gz"
    if archive.is_file():
        with tarfile.open(archive) as tar:
            found = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    loose = directory / "loose"
    if loose.is_dir():
        found |= {path.name: path.read_bytes() for path in loose.iterdir() if path.is_file()}
    return found


def test_hostile_pickles_of_the_corpus_are_refused(corpus, hostile, unchanged, audited):
    """Every hostile file is refused by name, and the two good ones beside them load."""
    facts = hostile["databases"]["pickles-loose"]
    (directory,) = [path for path in (corpus / "hostile").iterdir() if path.name.startswith("pickles-loose")]
    stored = entries(directory)
    assert set(facts["bad"]) <= set(stored)
    assert len(facts["bad"]) > 30
    for name in facts["bad"]:
        with pytest.raises((LegacyPickleError, ForbiddenGlobalError)):
            load_legacy(name, stored[name], Rule())
    for name, expected in facts["good"].items():
        assert repr(load_legacy(name, stored[name], Rule())) == expected
    assert audited == []


def test_every_value_of_the_corpus_loads_exactly(corpus, manifest):
    """Python 2 and 3, all protocols, NumPy 1 and 2: the digest of each value is the manifest's."""
    import canonical

    counted = 0
    for name, database in manifest.items():
        stored = entries(corpus / name)
        for key, facts in database["entries"].items():
            value = load_legacy(key, stored[key], Rule())
            assert canonical.exact(value) == facts["exact"], (name, key)
            counted += 1
    assert counted > 500


def test_python_2_names_mean_what_they_meant():
    """`__builtin__.unicode` is str, `copy_reg` is copyreg, text and bytes of Python 2 are text."""
    for stream, expected in (
        (b"c__builtin__\nset\n((lp0\nI1\natR.", {1}),
        (b"c__builtin__\nxrange\n(I0\nI5\ntR.", range(5)),
        (b"cexceptions\nValueError\n(S'no'\ntR.", ValueError("no")),
        (b"S'Cu\\xe4'\n.", "Cuä"),
        (b"cfractions\nFraction\n(S'1/3'\ntR.", fractions.Fraction(1, 3)),
        (b"cpathlib._local\nPurePosixPath\n(Va\ntR.", pathlib.PurePosixPath("a")),
    ):
        assert repr(load_legacy("k", stream, Rule())) == repr(expected)


def test_every_error_is_one_of_ours():
    """The three refusals share a base that a program can catch."""
    assert all(issubclass(error, CodecError) for error in OURS)


def test_what_was_checked_once_is_known_again_and_nothing_else_is():
    """Reading twice checks once; a stream that differs in one byte is checked."""
    rule = Rule()
    good = pickle.dumps({"a text with r in it": [1.0, 2.0]}, 5)
    assert rule.loads("key", good) == rule.loads("key", good)
    assert rule._sound == {hash(good)}
    for place in range(2, len(good) - 1):
        bad = good[:place] + b"r\xff\xff\xff\x7f" + good[place:]
        with contextlib.suppress(CorruptEntryError):  # in the middle of a text it may be text
            rule.loads("key", bad)
            check_stream(bad)  # what was read is sound
    assert hash(b"never read") not in rule._sound


def test_nothing_is_known_by_its_hash_where_hashes_can_be_foreseen():
    """PYTHONHASHSEED tells an attacker which streams have the same hash."""
    program = """
import pickle
from ampstore.codec.safe import Rule
rule = Rule()
rule.loads("key", pickle.dumps([1.0], 5))
print(len(rule._sound))
"""
    for seed, known in [("random", "1"), ("0", "0"), ("42", "0")]:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == known
