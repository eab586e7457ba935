"""F19: pickles of every Python from 2.7 on, every protocol, NumPy 1 and 2."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ampstore
from ampstore.codec import same
from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule
from faults.old_pickles import VALUES

PROGRAM = Path(__file__).with_name("old_pickles.py")
ARRAYS = {
    "neighborlists": [(np.arange(3), np.arange(9).reshape(3, 3))],
    "arrays": [np.linspace(0, 1, 7), np.array(["Cu", "Pt"]), np.float64(0.1), np.int64(-3)],
}


def interpreters():
    """Version -> command of every Python that is on PATH or kept by pyenv."""
    found = {}
    names = [shutil.which(f"python{version}") for version in ("2.7", *(f"3.{minor}" for minor in range(4, 16)))]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for command in [sys.executable, *filter(None, names), *root.glob("versions/*/bin/python")]:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([command, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), str(command))
    return found


def alike(value):
    """A value of Python 3 as one of Python 2 is read: its dictionaries may have another order, its names are text."""
    if isinstance(value, dict) and type(value) is dict:
        return sorted((repr(key), alike(item)) for key, item in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(alike, value))
    return value


@pytest.mark.fault("F19", "pickles of every Python that is installed, all protocols")
def test_pickles_of_every_python_and_protocol_give_identical_values(fault, tmp_path):
    """Read as a legacy file, and migrated, each is the value that was written."""
    found = interpreters()
    database = tmp_path / "all.ampdb"
    (database / "loose").mkdir(parents=True)
    expected = {}
    for version, command in found.items():
        done = subprocess.run([command, PROGRAM], capture_output=True, timeout=120, check=True)
        for protocol, name, stream in json.loads(done.stdout):
            key = f"{version}-{protocol}-{name}"
            expected[key] = ARRAYS.get(name, VALUES.get(name))
            (database / "loose" / key).write_bytes(bytes.fromhex(stream))
    fault.fact(pythons=" ".join(sorted(found, key=lambda text: [int(part) for part in text.split(".")])))

    def compare(look, what):
        for key, value in expected.items():
            fault.injected()
            read = look(key)
            equal = same(alike(read), alike(value)) if key.startswith("2.") else same(read, value)
            if not equal:
                fault.wrong(f"{key} {what}: {read!r}, not {value!r}")

    compare(lambda key: load_legacy(key, (database / "loose" / key).read_bytes(), Rule()), "as a file")
    assert ampstore.import_legacy(database, remove_source=True).complete
    with ampstore.FileDatabase(database) as migrated:
        compare(migrated.__getitem__, "migrated")


@pytest.mark.fault("F19", "module names of NumPy 1 and 2 under both, and every real database of Amp")
def test_names_of_numpy_1_and_2_mean_the_same(fault, corpus, manifest):
    """A stream that names numpy.core or numpy._core, of any protocol, is the same array; so is all of the corpus."""
    import canonical
    from test_safety import entries

    values = [np.arange(6.0).reshape(2, 3), np.float64(0.1), np.array(["Cu"]), np.array([1, None], dtype=object)]
    values += [
        np.array([(1, 2.5)], dtype="i4,f8"),
        np.arange(4, dtype=">i2")[::2],
        np.array("2020", "M8[s]"),
        np.bool_(1),
    ]
    for protocol in range(6):
        for value in values:
            stream = pickle.dumps(value, protocol)
            for module in (b"numpy.core", b"numpy._core"):
                fault.injected()
                named = renamed(stream, module)
                for read in (Rule().loads("k", named), load_legacy("k", named, Rule())):
                    if not same(read, pickle.loads(stream)):
                        fault.wrong(f"{value!r} of protocol {protocol} under {module!r} is {read!r}")
    for name, database in manifest.items():
        stored = entries(corpus / name)
        for key, facts in database["entries"].items():
            fault.injected()
            if canonical.exact(load_legacy(key, stored[key], Rule())) != facts["exact"]:
                fault.wrong(f"{name} {key}")


def renamed(stream, module):
    """A stream that names another module for NumPy's builders, with the lengths of its texts and frames set right."""
    stream = re.sub(rb"cnumpy\._?core\.", b"c" + module + b".", stream)

    def text(match):
        name = module + b"." + match[2]
        return b"\x8c" + bytes([len(name)]) + name

    changed = re.sub(rb"\x8c(.)numpy\._?core\.(multiarray|numeric)", text, stream, flags=re.DOTALL)
    if changed[2:3] == b"\x95":
        changed = changed[:3] + (len(changed) - 11).to_bytes(8, "little") + changed[11:]
    return changed
