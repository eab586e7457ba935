"""The readers in examples/, written from docs/ alone, read what ampstore wrote."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ampstore import Store
from ampstore.codec import same

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.append(str(EXAMPLES))
import read_store  # noqa: E402 - not a package

VALUES = {
    "text": "some text",
    "record": {"energy": -1.5, "names": ["Cu"] * 40},
    "neighbours": [(np.arange(30), np.arange(90).reshape(30, 3) % 3 - 1) for _ in range(20)],
    "fingerprint": [("Cu", [0.5, -0.0] * 10), ("Pt", [1e-300] * 20)],
    "derivatives": {(i, "Cu", j, "Pt", 0): [0.0, i / 7, j / 3] for i in range(40) for j in range(20)},
    "noise": np.random.default_rng(1).bytes(500),
}


@pytest.mark.parametrize("compacted", [False, True])
def test_the_example_reads_a_store(tmp_path, compacted):
    """Every codec, with dictionary and planes or without, is read by a program that shares nothing with ampstore."""
    with Store(tmp_path / "a.db") as store:
        store.put_many(VALUES)
        rng = np.random.default_rng(3)
        common = rng.integers(-1, 2, (12, 40, 3))
        for n in range(60):
            moved = common.copy()
            moved[rng.integers(0, 12, 5), rng.integers(0, 40, 5)] += 1
            store[f"lists {n}"] = [(np.arange(40), offsets.copy()) for offsets in moved]
            store[f"fingerprint {n}"] = [("Cu", (rng.random(20) * 0.01 + 1).tolist()) for _ in range(20)]
        if compacted:
            store.compact()
            codecs = {row[2].partition(":")[0] for row in store.backend.scan()}
            assert "vectors1+planes8+zstd" in codecs
            assert store.backend.dictionaries()
        for key, value in store.items():
            assert same(read_store.read(tmp_path / "a.db", key), value), key
    with pytest.raises(KeyError):
        read_store.read(tmp_path / "a.db", "absent")


def test_the_example_imports_no_ampstore(tmp_path):
    """It works where ampstore is not installed, and lists the keys."""
    with Store(tmp_path / "a.db") as store:
        store["a"] = [1, 2]
    program = (
        "import sys; sys.modules['ampstore'] = None; sys.path.insert(0, sys.argv[2])\n"
        "import read_store; print(read_store.read(sys.argv[1], 'a'))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.db", EXAMPLES], capture_output=True, text=True)
    assert done.stdout == "[1, 2]\n", done.stderr
    script = [sys.executable, EXAMPLES / "read_store.py", tmp_path / "a.db"]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout == "a\n"
    assert subprocess.run([*script, "a"], capture_output=True, text=True, check=True).stdout == "[1, 2]\n"
