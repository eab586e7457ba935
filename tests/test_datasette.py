"""The metadata for Datasette, read by Datasette itself."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

from ampstore import FileDatabase

METADATA = ROOT / "examples" / "datasette.yaml"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The store of a container."""
    path = tmp_path_factory.mktemp("datasette") / "label.ampdb"
    with FileDatabase(path) as database:
        database.update({f"key {n}": [float(n)] * 100 for n in range(5)})
    return path / "store.sqlite3"


def get(file, address):
    command = [sys.executable, "-m", "datasette", "--get", address, "-i", str(file), "-m", str(METADATA)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_entries_are_shown_with_sensible_columns(file):
    """The view for people, and what its columns mean."""
    shown = json.loads(get(file, "/store/entries.json?_shape=objects&_facet=codec"))
    assert [row["kind"] for row in shown["rows"]] == ["float[100]"] * 5
    assert shown["columns"] == ["key", "kind", "bytes", "stored", "ratio", "codec", "written"]
    assert "Bytes before compression" in get(file, "/store/entries")


@pytest.mark.parametrize("query", ["kinds", "growth"])
def test_the_questions_have_answers(file, query):
    """SQL of the metadata runs on the schema that there is."""
    rows = json.loads(get(file, f"/store/{query}.json?_shape=objects"))["rows"]
    assert rows[0]["entries"] == 5
