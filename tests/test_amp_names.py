"""ampstore.amp against a record of the names and signatures of amp.utilities; Amp itself is not needed."""

import inspect
import json
import subprocess
import sys
import textwrap

import pytest

import ampstore.amp
from ampstore.amp.overlay import NAMES, install
from ampstore.amp.workers import on_ampstore
from ampstore.errors import AmpMissingError

FUNCTIONS = {  # name -> parameters, as the reference page and Amp 1.0.1 have them
    "Annealer": "calc, images, Tmax=None, Tmin=None, steps=None, updates=None, train_forces=True",
    "Data": "filename, db=..., calculator=None",
    "Data.calculate_items": "self, images, parallel, log=None",
    "Data.close": "self",
    "Data.open": "self, mode='r'",
    "FileDatabase": "filename",
    "FileDatabase.archive": "self",
    "FileDatabase.close": "self",
    "FileDatabase.keys": "self",
    "FileDatabase.open": "filename, flag=None",
    "FileDatabase.values": "self",
    "Logger": "file, overwrite=False",
    "Logger.__call__": "self, message, toc=False, tic=False, check=False, flush=True",
    "Logger.tic": "self, label=None",
    "MessageDictionary": "process_id",
    "MessageDictionary.__call__": "self, subject, data=None",
    "assign_cores": "cores, log=None",
    "get_hash": "atoms",
    "hash_images": "images, log=None, ordered=False",
    "importer": "name",
    "make_filename": "label, base_filename",
    "make_sublists": "masterlist, n",
    "now": "with_utc=False",
    "randomize_images": "images, fraction=0.8",
    "setup_parallel": "parallel, workercommand, log, setup_publisher=False",
    "start_workers": "process_ids, workerhostname, workercommand, log, envcommand",
    "string2dict": "text",
    "Annealer.anneal": "self",
    "Annealer.auto": "self, minutes, steps=2000",
    "Annealer.copy_state": "self, state",
    "Annealer.get_loss": "self, state",
    "Annealer.move": "self, state",
    "Annealer.round_figures": "x, n",
    "Annealer.save_state": "self, fname=None",
    "Annealer.set_schedule": "self, schedule",
    "Annealer.set_user_exit": "self, signum, frame",
    "Annealer.time_string": "seconds",
    "Annealer.update": "self, step, T, L, acceptance, improvement",
}

ATTRIBUTES = {  # of the class Annealer
    "Tmax": 20.0,
    "Tmin": 2.5,
    "steps": 10000,
    "updates": 50,
    "copy_strategy": "copy",
    "user_exit": False,
    "save_state_on_exit": False,
}


def ours(path):
    thing = ampstore.amp
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def recorded(parameters):
    """Parameters of a record, by evaluating it as the head of a lambda."""
    return list(inspect.signature(eval(f"lambda {parameters}: None")).parameters.values())


@pytest.mark.parametrize("path", FUNCTIONS)
def test_takes_what_amp_takes(path):
    """The same parameters in the same order with the same defaults; what ampstore adds has a default and comes last."""
    theirs = recorded(FUNCTIONS[path])
    mine = list(inspect.signature(ours(path)).parameters.values())
    assert [each.name for each in mine[: len(theirs)]] == [each.name for each in theirs]
    for wanted, found in zip(theirs, mine, strict=False):
        assert found.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, found
        if wanted.default is not wanted.empty and wanted.default is not ...:
            assert (found.default or None) == (wanted.default or None), found
    for added in mine[len(theirs) :]:
        assert added.default is not added.empty or added.kind is added.VAR_KEYWORD, added


def test_every_name_of_the_reference_is_there():
    """And nothing else but what puts them into Amp."""
    exceptions = {"ConvergenceOccurred", "TrainingConvergenceError", "MetaDict"}
    assert set(NAMES) == {path.partition(".")[0] for path in FUNCTIONS} | exceptions
    assert set(ampstore.amp.__all__) == {*NAMES, "install", "uninstall"}
    for name in ampstore.amp.__all__:
        assert getattr(ampstore.amp, name) is not None
    assert set(ampstore.amp.__all__) <= set(dir(ampstore.amp))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ampstore.amp.nonsense


def test_classes_have_amps_bases_and_attributes():
    """Programs of Amp catch, subclass and read them."""
    assert ampstore.amp.ConvergenceOccurred.__bases__ == (Exception,)
    assert ampstore.amp.TrainingConvergenceError.__bases__ == (Exception,)
    assert issubclass(ampstore.amp.MetaDict, dict)
    assert ampstore.amp.MetaDict.metadata == {}
    for name, value in ATTRIBUTES.items():
        assert getattr(ampstore.amp.Annealer, name) == value, name


def test_data_moves_numpys_stream_on_where_work_is_divided(tmp_path):
    """By one shuffle of the missing images, and not at all on one core or where nothing is missing."""
    numpy = pytest.importorskip("numpy")
    data = ampstore.amp.Data(tmp_path / "squares", calculator=pow2)

    def drawn(images, parallel):
        numpy.random.seed(3)
        data.calculate_items(images, parallel)
        return numpy.random.rand()

    def after_shuffle_of(count):
        numpy.random.seed(3)
        numpy.random.shuffle(list(range(count)))
        return numpy.random.rand()

    assert drawn({"a": 1, "b": 2}, {"cores": 1}) == after_shuffle_of(0)
    assert drawn({"a": 1, "c": 3, "d": 4, "e": 5}, {"cores": {"localhost": 2}}) == after_shuffle_of(3)
    assert drawn({"a": 1, "c": 3}, {"cores": {"localhost": 2}}) == after_shuffle_of(0)
    assert data["e"] == 25
    data.close()


def pow2(image):
    return image**2


@pytest.mark.parametrize(
    ("command", "started"),
    [
        ("/usr/bin/python -m amp.model", "/usr/bin/python -m ampstore.amp -m amp.model"),
        ("python3 -m amp.descriptor.gaussian 0", "python3 -m ampstore.amp -m amp.descriptor.gaussian 0"),
        ("python3 -m mine.amp.worker", "python3 -m mine.amp.worker"),
        ("python3 -m ampere.worker", "python3 -m ampere.worker"),
        ("python3 worker.py", "python3 worker.py"),
    ],
)
def test_workers_of_amp_are_started_on_ampstore(command, started):
    """Those that are modules of Amp; other commands stay as they are."""
    calls = []
    setup = on_ampstore(lambda *given: calls.append(given))
    setup({"cores": {}}, command, log=None, setup_publisher=True)
    assert calls == [({"cores": {}}, started, None, True)]


def test_install_says_where_there_is_no_amp(monkeypatch):
    """An ImportError that names this Python and the way out."""
    monkeypatch.setitem(sys.modules, "amp", None)
    with pytest.raises(AmpMissingError, match="pip install amp-atomistics") as caught:
        install()
    assert isinstance(caught.value, ImportError)
    assert caught.value.interpreter == sys.executable


# -- a stand-in for Amp: a package with the names, and none of the work -------------------------------------------

STAND_IN = {
    "__init__.py": "from .utilities import hash_images\n",
    "utilities.py": """
        import ampstore

        def get_hash(atoms):
            return ampstore.get_hash(atoms, SCHEME) if SCHEME else "0"
        def hash_images(images, log=None, ordered=False):
            return "stock"
        def make_filename(label, base_filename, directory=None):
            return "stock"
        def check_images(images, forces):
            return hash_images
        class Data: ...
        class MetaDict(dict): ...
        def setup_parallel(parallel, workercommand, log): ...
        """,
    "late.py": "from .utilities import hash_images, MetaDict\n",
    "worker.py": """
        import sys
        from .utilities import hash_images
        if __name__ == "__main__":
            print(__name__, sys.argv[1:], hash_images.__module__)
        """,
    "broken/__init__.py": "",
}


@pytest.fixture
def stand_in(tmp_path):
    """Function that runs a program in which `amp` is the stand-in, and gives its output."""

    def run(*words, scheme="v2", expect=0):
        for name, text in STAND_IN.items():
            path = tmp_path / "site" / "amp" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"SCHEME = {scheme!r}\n{textwrap.dedent(text)}")
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});" + words[0]]
            if len(words) == 1
            else [sys.executable, *words],
            cwd=tmp_path,
            env={"PYTHONPATH": f"{tmp_path / 'site'}", "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == expect, done.stderr
        return done.stdout.strip() if expect == 0 else done.stderr.strip()

    return run


def test_install_replaces_by_identity_and_uninstall_restores(stand_in):
    """Before and after: in Amp's modules, in those of the program, and not in what only has the same name."""
    program = """
import amp, amp.utilities, types
from amp.utilities import hash_images as mine
namesake = types.ModuleType("namesake"); sys.modules["namesake"] = namesake
namesake.hash_images = "something else"
stock = mine
import ampstore.amp
ampstore.amp.install()
import amp.late
new = ampstore.amp.hash_images
assert mine is stock is amp.hash_images is amp.late.hash_images is amp.utilities.check_images(0, 0) is new
assert namesake.hash_images == "something else"
ampstore.amp.uninstall()
assert mine is stock is amp.hash_images is amp.late.hash_images is amp.utilities.hash_images
assert mine(0) == "stock" and ampstore.amp.hash_images is new is ampstore.hash_images
ampstore.amp.uninstall()
print("well")
"""
    assert stand_in(program) == "well"


def test_names_that_ampstore_cannot_replace_stay_amps_own(stand_in):
    """One that takes an argument of which ampstore knows nothing; keys of an unknown generation."""
    program = "import ampstore.amp; print(*ampstore.amp.install())"
    replaced = {"get_hash", "hash_images", "Data", "MetaDict", "setup_parallel"}
    assert set(stand_in(program).split()) == replaced
    assert set(stand_in(program, scheme="").split()) == replaced - {"get_hash", "hash_images"}


@pytest.mark.parametrize("scheme", ["v2", "v1", "v0"])
def test_keys_are_of_the_generation_of_the_installed_amp(stand_in, scheme):
    """So databases of that Amp are found again."""
    program = """
import ampstore, ampstore.amp, amp.utilities
from ase.build import bulk
atoms = bulk("Pt") * (4, 3, 3)
ampstore.amp.install()
[key] = amp.utilities.hash_images([atoms])
print(*[scheme for scheme in ("v2", "v1", "v0") if ampstore.get_hash(atoms, scheme) == key])
print(key == amp.utilities.get_hash(atoms))
"""
    assert stand_in(program, scheme=scheme).split() == [scheme, "True"]


def test_a_script_runs_as_python_would_run_it(stand_in, tmp_path):
    """Its arguments, its directory first on the path, its name; with ampstore in Amp."""
    directory = tmp_path / "scripts"
    directory.mkdir()
    (directory / "neighbour.py").write_text("value = 5\n")
    (directory / "script.py").write_text(
        "import json, sys, neighbour, amp\n"
        "print(json.dumps([__name__, sys.argv, sys.path[0], __file__, neighbour.value, amp.hash_images.__module__]))\n"
    )
    found = json.loads(stand_in("-m", "ampstore.amp", "scripts/script.py", "--cores", "4"))
    script = "scripts/script.py"
    assert found == ["__main__", [script, "--cores", "4"], str(directory), script, 5, "ampstore.images.reading"]


def test_a_module_runs_as_python_m_would_run_it(stand_in):
    """Amp's workers are started so."""
    found = stand_in("-m", "ampstore.amp", "-m", "amp.worker", "0", "node1:3125")
    assert found == "__main__ ['0', 'node1:3125'] ampstore.images.reading"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["nothing.py"], "there is no script 'nothing.py'"), (["-m"], "-m wants the name of a module")],
)
def test_a_command_line_that_names_nothing(stand_in, words, sentence):
    """One sentence and no traceback."""
    assert stand_in("-m", "ampstore.amp", *words, expect=1) == f"ampstore.amp: {sentence}"


def test_the_exit_code_of_a_script_is_kept(stand_in, tmp_path):
    """sys.exit(7) in a script ends the program so."""
    (tmp_path / "script.py").write_text("import sys; sys.exit(7)\n")
    stand_in("-m", "ampstore.amp", "script.py", expect=7)


def test_a_script_on_a_python_without_amp(tmp_path):
    """One sentence, not a traceback."""
    (tmp_path / "script.py").write_text("")
    program = (
        "import sys; sys.modules['amp'] = None; sys.argv[1:] = ['script.py'];"
        "import ampstore.amp.__main__ as m; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install amp-atomistics" in done.stderr
    assert "Traceback" not in done.stderr
