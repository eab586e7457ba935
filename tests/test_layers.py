"""The architecture: imports go down only, and heavy ones happen late."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

FLOORS = [
    {"errors", "durable", "ddl", "filesystem", "late"},
    {"log", "owner", "network"},
    {"lease"},
    {"codec", "tables", "images", "cores"},
    {"backend", "schema", "anneal", "messages", "launch"},
    {"store", "legacy", "spool", "parallel"},
    {"shelf", "transfer", "spooled", "worker"},
    {"shelve", "database", "doctor", "salvage"},
    {"data", "readers"},
    {"overview"},
    {"report"},
    {"amp", "cli"},
    {"__main__"},
]
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

KNOWS = {  # third-party module -> the only parts that may import it
    "psycopg": {"backend", "schema"},
    "sqlite3": {"backend", "schema"},
    "sqlalchemy": {"tables", "backend", "schema"},
    "alembic": {"schema"},
    "pickle": {"codec", "errors", "shelf"},
    "zstandard": {"codec"},
    "tarfile": {"legacy"},
    "filelock": {"legacy", "transfer"},
    "click": {"cli"},
    "rich": {"anneal", "cli", "data", "images"},
    "ase": {"amp", "images"},
    "zmq": {"messages"},
    "ClusterShell": {"cores"},
    "distributed": {"parallel"},
    "matplotlib": {"anneal", "report"},
}


def imports(path):
    """Every module that a file imports, also inside functions; not those for type checkers only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    return [
        path
        for path in (ROOT / "ampstore").rglob("*.py")
        if path.name != "__init__.py" or path.parent.name != "ampstore"
    ]


def part_of(path):
    return path.relative_to(ROOT / "ampstore").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    """A part imports parts of lower floors only; inside a package anything goes."""
    part = part_of(path)
    for name in imports(path):
        if name.startswith("ampstore."):
            other = name.split(".")[1]
            assert other == part or FLOOR[other] < FLOOR[part], f"{part} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_part_that_knows_a_library_imports_it(path):
    """SQL stays in the backend, pickle in the codec, tar in legacy."""
    for name in imports(path):
        allowed = KNOWS.get(name.split(".")[0])
        assert allowed is None or part_of(path) in allowed, f"{path} imports {name}"


def test_every_part_has_a_floor():
    """A new module is entered in the house."""
    assert {part_of(path) for path in modules()} == set(FLOOR)


def modules_after(code):
    program = f"import sys\n{code}\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


@pytest.mark.parametrize(
    "heavy", ["ase", "alembic", "sqlalchemy", "zmq", "numpy", "click", "rich", "sqlite3", "distributed", "psycopg"]
)
def test_importing_ampstore_does_not_import(heavy):
    """`import ampstore` is cheap: names are loaded when they are used."""
    assert heavy not in modules_after("import ampstore")


def test_opening_a_store_at_head_imports_neither_sqlalchemy_nor_ase(tmp_path):
    """Only upgrading needs Alembic; the SQL of everything else was compiled before."""
    import ampstore

    ampstore.open(tmp_path / "a.db").close()
    loaded = modules_after(f"import ampstore; ampstore.open({str(tmp_path / 'a.db')!r}).close()")
    assert not loaded & {"alembic", "sqlalchemy", "ase", "numpy", "click", "rich", "psycopg", "importlib.metadata"}


def test_a_first_get_imports_no_more_than_it_needs(tmp_path):
    """What is seldom used is imported when it is: together these took as long as all that is needed."""
    import ampstore

    with ampstore.open(tmp_path / "a.db") as store:
        store["a"] = [("Pt", [0.5, 1.5])] * 100
    loaded = modules_after(f"import ampstore; ampstore.open({str(tmp_path / 'a.db')!r})['a']")
    seldom = {
        "ctypes",
        "dataclasses",
        "decimal",
        "fractions",
        "hashlib",
        "inspect",
        "json",
        "random",
        "secrets",
        "socket",
        "uuid",
    }
    assert not loaded & {*seldom, "hmac", "logging", "tempfile", "subprocess", "numpy", "ampstore.store.compaction"}


def test_the_compiled_statements_are_those_of_core():
    """`python -m ampstore.backend.core` was run after the last change of a statement."""
    from ampstore.backend import core

    assert (ROOT / "ampstore" / "backend" / "compiled.py").read_text() == core.source()


def test_every_dialect_has_every_statement():
    """None is missing, and none has a name that nobody looks for."""
    from ampstore.backend import compiled, statements

    names = set(statements.Statements.__annotations__)
    assert set(compiled.SQLITE) == set(compiled.POSTGRESQL) == names
    assert set(compiled.SERVER) == set(statements.ServerStatements.__annotations__)


def test_creating_a_store_imports_neither_alembic_nor_sqlalchemy(tmp_path):
    """Its tables were compiled before, too; upgrades go through Alembic."""
    loaded = modules_after(f"import ampstore; ampstore.open({str(tmp_path / 'a.db')!r}).close()")
    assert not loaded & {"alembic", "sqlalchemy", "ase", "numpy", "click", "rich"}


def test_the_tables_of_a_new_store_are_those_of_the_revisions():
    """`python -m ampstore.schema` was run after the last revision."""
    from ampstore import schema

    assert (ROOT / "ampstore" / "ddl.py").read_text() == schema.source_of_ddl()


def test_lazy_names_are_the_public_names():
    """Every name in __all__ can be had, and dir() shows it."""
    import ampstore

    for name in ampstore.__all__:
        assert getattr(ampstore, name) is not None
    assert set(ampstore.__all__) <= set(dir(ampstore))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ampstore.nonsense
