"""Pickles that attack: where their names come from, the ways in which a stream names and calls one, and a fuzzer.

The names are those of the published pickle exploits and of the scanners that look for them (posix, subprocess,
builtins, importlib, runpy, pty, code, ctypes, functools, operator, types, marshal, ...), of what runs text or opens
files in the packages that a value may name something of (numpy, ase, the standard library), and what can be
reached by attributes of the names that are allowed. `tests/test_safety.py` has the first list and the ways.
"""

import pickletools
import random
import struct
from collections.abc import Iterator

from test_safety import HEAD, HOSTILE, named, number, text, ways

from ampstore.codec.names import CLASSES, GUARDS

MORE = """
os spawnl|os spawnvp|os posix_spawn|os startfile|os unlink|os rename|os environ|os chmod|os kill|os open|os write
os.path os.system|posix posix_spawn|posix execve|nt _getfullpathname|subprocess run|subprocess call
subprocess check_call|subprocess getstatusoutput|subprocess _args_from_interpreter_flags|_posixsubprocess fork_exec
builtins getattr.__call__|builtins object.__reduce_ex__|builtins object.__init_subclass__|builtins type.__call__
builtins type.mro|builtins dict.fromkeys|builtins bytes.decode|builtins str.join|builtins str.encode
builtins int.from_bytes|builtins float.fromhex|builtins range.__getattribute__|builtins callable|builtins isinstance
builtins repr|builtins format|builtins chr|builtins pow|builtins round|builtins hash|builtins copyright
builtins credits|builtins license|builtins anext|builtins aiter|builtins ascii|builtins bin|importlib __import__
importlib reload|importlib._bootstrap _load|importlib._bootstrap_external SourceFileLoader
importlib.machinery SourceFileLoader|importlib.metadata entry_points|importlib.resources files|imp load_dynamic
pkgutil get_data|pkgutil resolve_name|pkgutil walk_packages|zipimport zipimporter|runpy _run_code|code compile_command
code InteractiveConsole|codeop Compile|pty fork|pty openpty|pdb Pdb|pdb runeval|bdb Bdb.run|trace Trace|profile run
cProfile runctx|timeit repeat|timeit Timer|doctest debug_script|unittest.mock patch|unittest.mock _importer
ctypes CFUNCTYPE|ctypes memmove|ctypes string_at|ctypes util.find_library|ctypes.util find_library|_ctypes CFuncPtr
_ctypes call_function|cffi FFI|mmap mmap|array array|struct unpack|operator call|operator setitem|operator concat
operator imul|operator mul|operator pow|operator lshift|_operator attrgetter|_operator methodcaller
functools partialmethod|functools singledispatch|functools lru_cache|functools cached_property|functools wraps
itertools starmap|itertools chain.from_iterable|itertools repeat|itertools product|itertools cycle|itertools count
types CoroutineType|types GeneratorType|types new_class|types DynamicClassAttribute|types GenericAlias
typing get_type_hints|typing ForwardRef|typing _eval_type|inspect getsource|dataclasses make_dataclass|enum Enum
abc ABCMeta|weakref proxy|weakref ref|copy deepcopy|copy copy|copy _reconstruct|copyreg __newobj_ex__
copyreg __reduce_ex__|copyreg constructor|copyreg remove_extension|pickle _loads|pickle _Unpickler|pickle whichmodule
pickle decode_long|_pickle load|_pickle Unpickler|_pickle dump|cPickle loads|dill loads|cloudpickle loads|joblib load
marshal load|marshal dumps|shelve DbfilenameShelf|dbm.gnu open|dbm.dumb open|sqlite3 Connection|sqlite3 dbapi2.connect
sqlite3.dbapi2 connect|_sqlite3 connect|sqlalchemy create_engine|sqlalchemy text|alembic.config main|zstandard open
filelock FileLock|zmq Context|click launch|click edit|rich.console Console|xml.etree.ElementTree parse|xml.sax parse
plistlib load|json load|json loads|configparser ConfigParser|tomllib load|csv reader|fileinput input|linecache getline
glob glob|shutil copytree|shutil move|shutil unpack_archive|shutil make_archive|tarfile open
tarfile TarFile.extractall|zipfile main|gzip open|bz2 open|lzma open|tempfile mkdtemp|tempfile TemporaryDirectory
tempfile _get_candidate_names|io open|io FileIO|io open_code|io BytesIO|_io open|_io FileIO|_pyio open
codecs getreader|codecs lookup|codecs decode|_codecs escape_encode|_codecs charmap_build|_codecs unregister
encodings search_function|socket socketpair|socketserver TCPServer|http.server HTTPServer|http.server test|ftplib FTP
telnetlib Telnet|imaplib IMAP4_stream|nntplib NNTP|poplib POP3|xmlrpc.client ServerProxy|urllib.request urlretrieve
urllib.request build_opener|asyncio create_subprocess_shell|asyncio.subprocess create_subprocess_exec
multiprocessing.pool Pool|multiprocessing.managers BaseManager|multiprocessing.reduction DupFd
multiprocessing.util Finalize|concurrent.futures.process ProcessPoolExecutor|threading Timer|threading settrace
sched scheduler|signal signal|signal raise_signal|atexit _run_exitfuncs|faulthandler _sigsegv
faulthandler dump_traceback|resource setrlimit|gc collect|gc freeze|sys _getframe|sys addaudithook|sys setprofile
sys displayhook|sys stdout.write|sys intern|sys set_int_max_str_digits|site addsitedir|sysconfig get_config_vars
platform popen|platform _syscmd_file|getpass getpass|webbrowser get|webbrowser GenericBrowser|crypt crypt
curses initscr|readline read_init_file|rlcompleter Completer|logging FileHandler|logging.handlers SocketHandler
logging.config listen|warnings warn|traceback print_exc|ssl create_default_context|hashlib file_digest
uuid _ipconfig_getter|uuid _popen|uuid subprocess|uuid uuid4|random Random|secrets token_bytes|decimal Context
decimal Decimal.from_float|fractions Fraction.from_float|fractions Decimal|datetime date.fromtimestamp
datetime datetime_CAPI|datetime datetime.strptime|collections OrderedDict.fromkeys|collections Counter.fromkeys
collections deque.extend|collections _itemgetter|collections _chain|collections recursive_repr|pathlib Path.open
pathlib Path.mkdir|pathlib Path.cwd|pathlib PosixPath.rmdir|pathlib PosixPath.symlink_to|pathlib fnmatch
pathlib sys.modules|numpy lib.npyio.load|numpy loads|numpy asarray|numpy array|numpy zeros|numpy ones|numpy empty
numpy full|numpy arange|numpy tile|numpy fromstring|numpy fromiter|numpy fromregex|numpy open_memmap|numpy savez
numpy savetxt|numpy piecewise|numpy frompyfunc|numpy apply_over_axes|numpy set_printoptions|numpy set_string_function
numpy seterrcall|numpy seterr|numpy test|numpy source|numpy lookfor|numpy info|numpy deprecate|numpy nditer
numpy ndindex|numpy recarray|numpy chararray|numpy poly1d|numpy errstate|numpy busday_count
numpy.lib.format open_memmap|numpy.lib.format read_array|numpy.lib.utils _Deprecate|numpy.ma.mrecords fromtextfile
numpy.ma.core fromfunction|numpy.core.multiarray frombuffer|numpy.core.multiarray add_docstring
numpy.core.multiarray set_typeDict|numpy.core.multiarray array|numpy.core.multiarray ndarray.dump
numpy.core.fromnumeric resize|numpy.core.function_base linspace|numpy.core._internal _ctypes
numpy.core._dtype_ctypes dtype_from_ctypes_type|numpy.core.records fromfile|numpy.testing assert_raises
numpy.testing._private.utils measure|numpy.testing._private.utils run_threaded|numpy.distutils.cpuinfo getoutput
numpy.distutils.lib2def getnm|numpy.f2py main|numpy.f2py.diagnose run_command|numpy.ctypeslib as_array
numpy.ctypeslib ndpointer|numpy.random RandomState|numpy.random mtrand._rand|numpy.polynomial Polynomial
numpy.linalg.linalg inv|numpy._pytesttester PytestTester|numpy.compat.py3k npy_load_module|numpy.array_api asarray
scipy.io loadmat|scipy.optimize minimize|scipy.LowLevelCallable os|matplotlib.pyplot savefig|pandas read_pickle
pandas eval|torch load|torch.serialization load|tensorflow keras.models.load_model|sklearn.externals joblib.load
ase Atoms.edit|ase.atoms Atoms.todict|ase.atoms Atoms.fromdict|ase.atoms copy|ase.atoms numbers
ase.atoms string2symbols|ase.io.ulm open|ase.io.ulm ulmopen|ase.io.jsonio read_json|ase.io.jsonio decode
ase.io.pickletrajectory PickleTrajectory|ase.io.bundletrajectory BundleTrajectory|ase.io.formats parse_filename
ase.io.gpumd read_gpumd|ase.io.animation write_gif|ase.db.core connect|ase.db.core Database
ase.db.sqlite SQLite3Database|ase.db.app main|ase.db.row AtomsRow.toatoms|ase.db.row atoms2dict
ase.calculators.calculator Calculator|ase.calculators.calculator get_calculator_class
ase.calculators.calculator subprocess.check_call|ase.calculators.vasp Vasp|ase.calculators.espresso Espresso
ase.calculators.lj LennardJones|ase.calculators.abinit Abinit|ase.calculators.socketio SocketIOCalculator
ase.calculators.socketio SocketServer|ase.calculators.checkpoint Checkpoint
ase.calculators.loggingcalc LoggingCalculator|ase.utils devnull|ase.utils opencew|ase.utils workdir
ase.utils lazyproperty|ase.utils.plugins list_functions|ase.utils.sphinx create_png_files
ase.utils.parsemath eval_expression|ase.parallel paropen|ase.parallel parprint|ase.visualize.viewers view
ase.visualize.external viewers|ase.gui.gui GUI|ase.gui.ag main|ase.cli.run Run|ase.cli.exec main|ase.optimize BFGS
ase.optimize.optimize Optimizer|ase.md.verlet VelocityVerlet|ase.build molecule|ase.cluster.wulff wulff|ase.test test
ase.test.testsuite test|ase.thermochemistry IdealGasThermo|ase.vibrations Vibrations|ase.constraints dict2constraint
ase.constraints slice2enlist|ase.constraints Filter|ase.cell Cell.new|ase.cell Cell.fromcellpar|ase.formula parse
ase.symbols Symbols.get_chemical_formula|ase.lattice lattice_attr|ase.dft.kpoints bandpath
ase.neighborlist NeighborList.update|ase.neighborlist neighbor_list|ase.spacegroup crystal
ase.calculators.singlepoint SinglePointDFTCalculator.get_bz_k_points|amp Amp.load|amp.utilities Logger
amp.utilities FileDatabase|amp.model.neuralnetwork NeuralNetwork|ampstore Store|ampstore FileDatabase|ampstore install
ampstore.cli main|ampstore.backend SQLite|ampstore.launch start|ampstore.launch.command os|ampstore.codec.guard Guard
ampstore.codec.names GUARDS|ampstore.codec.safe importlib.import_module|ampstore.worker main|ampstore.amp.workers os
hypothesis find|pytest main|_pytest.monkeypatch MonkeyPatch|pip main|setuptools setup|distutils.core run_setup
pydoc pipepager|pydoc locate|pydoc tempfilepager|idlelib.rpc SocketIO|mailcap findmatch|nturl2path url2pathname
sre_compile compile|re compile|re.sub os|string Formatter|textwrap os|gettext translation|locale setlocale
wsgiref.simple_server demo_app|_frozen_importlib _find_and_load|_frozen_importlib_external SourceFileLoader
_imp create_dynamic|_imp exec_dynamic|_thread exit|_thread interrupt_main|_signal alarm|_socket socket
_ssl _SSLContext|_winapi CreateProcess|winreg CreateKey|_testcapi crash_no_current_thread
_testinternalcapi get_configs|_xxsubinterpreters run_string|_interpreters exec|__future__ annotations
__main__ __dict__|__main__ os.system|__mp_main__ main|builtins.__dict__ eval|sys.modules os
test.support.script_helper spawn_python|conftest pytest|test_safety os.system|faults.gadgets os
"""
NAMES = sorted(
    {tuple(pair.split(" ", 1)) for line in MORE.strip().splitlines() for pair in line.split("|")} | set(HOSTILE)
)

CHAINS = (
    "__class__",
    "__class__.__base__",
    "__base__.__subclasses__",
    "__init__.__globals__",
    "__new__",
    "__reduce_ex__",
    "__dict__",
    "__getattribute__",
    "__subclasshook__",
    "mro",
    "__init__.__builtins__.eval",
    "__module__.__class__",
)


def chains() -> Iterator[tuple[str, str]]:
    """Attributes of everything that is allowed."""
    allowed = {(module, name) for module, names in CLASSES.items() for name in names} | set(GUARDS)
    for module, name in sorted(allowed):
        for chain in CHAINS:
            yield module, f"{name}.{chain}"


def streams(module: str, name: str) -> Iterator[bytes]:
    """Every way to a name: GLOBAL, STACK_GLOBAL, INST, OBJ, REDUCE, NEWOBJ, NEWOBJ_EX, BUILD, other builders."""
    yield from ways(module, name)
    found = named(module, name)
    yield HEAD + found + b"N}" + text("x") + b"Ns\x86b."  # BUILD with the state that is set by setattr
    yield HEAD + named("collections", "defaultdict") + found + b"\x85R}" + text("k") + b"Nsb."
    yield HEAD + named("builtins", "getattr") + found + text("__call__") + b"\x86R)R."
    yield HEAD + named("copyreg", "_reconstructor") + found + named("builtins", "object") + b"N\x87R."
    yield HEAD + named("numpy.core.multiarray", "_reconstruct") + found + b"K\x00\x85C\x01b\x87R."
    yield HEAD + named("numpy", "dtype") + found + b"\x85R."
    yield HEAD + named("builtins", "ValueError") + found + text("x") + b"\x86R."
    if "\n" not in module + name:
        yield b"P" + f"{module}.{name}".encode("utf-8", "surrogatepass") + b"\n."  # persistent id, as text
    yield HEAD + text(f"{module}.{name}") + b"Q."  # and from the stack


EXTENSIONS = [b"\x80\x02\x82\x01)R.", b"\x80\x02\x83\x01\x00)R.", b"\x80\x02\x84\x01\x00\x00\x00)R."]

_ALLOWED = sorted({(m, n) for m, names in CLASSES.items() for n in names if not m.startswith("ase")} | set(GUARDS))
_OPCODES = [op for op in pickletools.opcodes if op.code not in ("r", "p", ".")]
_CALLS = (b")R", b")\x81", b"}b", b"\x85R", b"\x86R", b"(tR", b"]a", b"K\x00Ks", b"\x94", b"h\x00")
_VALUES = (b"N", b"K\x05", b"}", b"]", b")", b"(", b"\x8f", text("f8"), text("x"), number(2**70))


def fuzzed(chance: random.Random) -> bytes:
    """A stream of random opcodes with arguments that mostly fit, names of both kinds, and a memo that is used."""
    parts = [HEAD] if chance.random() < 0.8 else []
    for _ in range(chance.randrange(1, 40)):
        kind = chance.random()
        if kind < 0.12:
            parts.append(named(*chance.choice(_ALLOWED)))
        elif kind < 0.15:
            parts.append(named(*chance.choice(HOSTILE)))
        elif kind < 0.35:  # what makes calls and changes
            parts.append(
                chance.choice(
                    (b")R", b")\x81", b"}b", b"\x85R", b"\x86R", b"(tR", b"]a", b"K\x00Ks", b"\x94", b"h\x00")
                )
            )
        elif kind < 0.5:
            parts.append(
                chance.choice((b"N", b"K\x05", b"}", b"]", b")", b"(", b"\x8f", text("f8"), text("x"), number(2**70)))
            )
        else:
            parts.append(_opcode(chance))
    return b"".join(parts) + b"."


def _opcode(chance: random.Random) -> bytes:
    op = chance.choice(_OPCODES)
    code, argument = op.code.encode("latin-1"), op.arg
    if argument is None:
        return code
    body = chance.randbytes(chance.randrange(9))
    if argument.n >= 0:
        value = chance.choice((chance.randrange(6), chance.randrange(256)))
        return code + value.to_bytes(argument.n, "little") if argument.n < 8 else code + struct.pack(">d", value)
    line = chance.choice(
        (b"1", b"0", b"-5", b"1.5", b"'x'", b"builtins", b"os", b"00", b"1L", body.replace(b"\n", b""))
    )
    if argument.n == pickletools.UP_TO_NEWLINE:
        return code + line + b"\n" + (chance.choice((b"range", b"system", b"set")) + b"\n" if code in b"ci" else b"")
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4}.get(argument.n, 8)
    if argument.n == pickletools.TAKEN_FROM_ARGUMENT4U:
        width = 4
    return code + len(body).to_bytes(width, "little") + body
