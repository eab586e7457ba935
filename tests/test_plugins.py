"""Codecs of other packages: named in the row, loaded when they are named, never taken from elsewhere."""

import subprocess
import sys

import pytest

from ampstore import FileDatabase, Store
from ampstore.codec import Codec, plugins
from ampstore.codec.naming import parse
from ampstore.errors import CorruptEntryError, EncodeError, UnknownCodecError

MODULE = """
import json

def encode(value):
    if value == "refuse":
        raise RuntimeError("no")
    if value == "text":
        return "text"
    return json.dumps(value).encode() if isinstance(value, dict) else None

def decode(stream):
    return json.loads(stream)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Function that installs a package with entry points for this test."""
    plugins.load.cache_clear()

    def install(points, module="other_json", code=MODULE, name="other"):
        (tmp_path / "site").mkdir(exist_ok=True)
        (tmp_path / "site" / f"{module}.py").write_text(code)
        info = tmp_path / "site" / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[ampstore.codecs]\n" + "\n".join(points) + "\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        return tmp_path / "site"

    yield install
    plugins.load.cache_clear()
    for name in ("other_json", "broken_json"):
        sys.modules.pop(name, None)


def test_values_go_through_a_codec_that_the_caller_names(installed, tmp_path, raw):
    """It is asked first, named in the row, and compacted like any other; what it leaves goes the usual way."""
    installed(["json2 = other_json"])
    with Store(tmp_path / "a.db", codecs=["json2"]) as store:
        store.put_many({str(n): {"name": f"calculation {n}", "steps": [n] * 99} for n in range(80)})
        store["list"] = [1, 2]
        assert store.compact().kinds[0].codec == "json2"
    codecs = {codec.partition("+")[0] for (codec,) in raw(tmp_path / "a.db", "select codec from entry")}
    assert codecs == {"json2", "pickle5"}
    with Store(tmp_path / "a.db", "r") as store:
        assert store["7"] == {"name": "calculation 7", "steps": [7] * 99}
        assert not list(store.verify())


def test_nothing_is_loaded_before_it_is_named(installed, tmp_path):
    """Opening, writing and reading other rows does not import a codec that is merely installed."""
    site = installed(["json2 = other_json"])
    program = (
        "import sys; from ampstore import Store\n"
        f"with Store({str(tmp_path / 'a.db')!r}) as store:\n"
        "    store['a'] = {'b': 1}; store['a']\n"
        "print('other_json' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    "name", ["json2", "os", "os.path", "other_json", "pickle6", "columns2", "a" * 64, "this", "ampstore.codec"]
)
def test_rows_that_name_what_is_not_installed_are_named(name):
    """A module that could be imported is none that is: only entry points of the group count."""
    before = set(sys.modules)
    blob = Codec().encode({"a": 1})
    with pytest.raises(UnknownCodecError, match="install") as caught:
        Codec().decode("the key", name, *blob[2:])
    assert (caught.value.key, caught.value.codec) == ("the key", name)
    assert "other_json" not in sys.modules
    assert "this" not in sys.modules
    assert not {module for module in set(sys.modules) - before if module.startswith("ampstore.codec.p")}
    with pytest.raises(UnknownCodecError, match=f"codecs names the codec '{name}'"):
        Codec(codecs=[name])


@pytest.mark.parametrize(
    "name",
    ["", "+zstd", "../x", "a:b", "os:system", "pickle5+zstd:", "pickle5+zstd:0", "pickle5+zstd:99999999999",
     "pickle5+zstd+zstd", "pickle5\n", "PICKLE5", "columns1+planes8:3", "a" * 65, "ä", "columns1+zstd:٣", "x" * 10**6],
)  # fmt: skip
def test_names_that_are_none_are_damage(name):
    """What no writer makes is refused before anything is looked up, with a short sentence."""
    blob = Codec().encode({"a": 1})
    with pytest.raises(CorruptEntryError, match="unknown codec") as caught:
        Codec().decode("k", name, *blob[2:])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["pickle5", "columns1+zstd", "vectors1+planes8+zstd:40312", "a.b-c_1+planes8"])
def test_names_come_back(name):
    """A name is the sum of its parts."""
    assert str(parse(name)) == name


def test_names_of_ampstore_cannot_be_taken(installed, tmp_path):
    """A package that claims pickle5 is not asked."""
    installed(["pickle5 = other_json", "columns1 = other_json"])
    blob = Codec().encode({"a": 1})
    assert Codec().decode("k", *(blob.codec, *blob[2:])) == {"a": 1}
    assert "other_json" not in sys.modules
    with pytest.raises(UnknownCodecError, match="no name for"):
        Codec(codecs=["pickle5"])


def test_two_packages_with_one_name_are_refused(installed):
    """Neither of the two is taken by chance."""
    installed(["json2 = other_json"])
    installed(["json2 = broken_json"], "broken_json", "", "another")
    with pytest.raises(UnknownCodecError, match="several installed packages provide"):
        Codec(codecs=["json2"])


@pytest.mark.parametrize(
    ("code", "reason"), [("1 / 0", "ZeroDivisionError"), ("", "no functions"), ("encode = decode = 5", "no functions")]
)
def test_broken_packages_are_named(installed, code, reason):
    """One that does not load, or is no codec, is an error that says so."""
    installed(["json2 = broken_json"], "broken_json", code)
    with pytest.raises(UnknownCodecError, match=reason):
        Codec(codecs=["json2"])


def test_failures_of_a_codec_are_ours(installed):
    """What it raises becomes the error of the entry."""
    installed(["json2 = other_json"])
    codec = Codec(codecs=["json2"])
    with pytest.raises(EncodeError, match="RuntimeError: no"):
        codec.encode("refuse")
    with pytest.raises(EncodeError, match="not bytes"):
        codec.encode("text")
    blob = Codec().encode({"a": 1})
    with pytest.raises(CorruptEntryError, match="json2 stream is damaged"):
        codec.decode("k", "json2", *blob[2:])


def test_handles_that_are_pickled_keep_their_codecs(installed, tmp_path):
    """A store or container in another process writes as here."""
    import pickle

    installed(["json2 = other_json"])
    with Store(tmp_path / "a.db", codecs=["json2"]) as store, pickle.loads(pickle.dumps(store)) as copy:
        assert copy.codec.codecs == ("json2",)
    with FileDatabase(tmp_path / "a", codecs=["json2"]) as database, pickle.loads(pickle.dumps(database)) as copy:
        assert copy.codec.codecs == database.codec.codecs == ("json2",)
        copy["a"] = {"b": 1}
        assert copy.store.read_blob("a")[0] == "json2"
