"""The values: generic ones made up, atomistic ones varied from what real Amp wrote.

Each non-zero float of a template is multiplied by 1 + 1e-3 times a normal number, each neighbour
list has a few offsets moved by one cell. So no two values compress against each other, while
types, keys, order and the many exact zeros stay those of Amp.
"""

import gzip
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ampstore.codec.legacy import load_legacy
from ampstore.codec.safe import Rule

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "amp-databases.tar.gz"
TEMPLATE_FOLDER = "corpus_templates"
KINDS = ("neighborlists", "fingerprints", "fingerprint-primes")
TEMPLATES = 4
"""Different structures that the values of one kind are varied from, at most."""


class Values(NamedTuple):
    """One kind of values to time.

    Attributes
    ----------
    name : str
    entries : int
        How many a store holds in a default run; chosen so that all kinds take about as long.
    make : callable
        Value number i, the same in every run.
    """

    name: str
    entries: int
    make: Callable[[int], object]


class Source(NamedTuple):
    """Templates of one cell size: for each kind of Amp, values that it wrote."""

    atoms: int
    kinds: dict[str, list[object]]


def all_values(corpus: Path | None, full: bool) -> list[Values]:
    """Everything that can be timed with the templates of `corpus`."""
    values = [Values("generic 1 kB", 1000, generic)]
    for atoms in (20, 48) if full else (20,):
        source = load(corpus or default_corpus(), atoms)
        scale = max(1, atoms // 20) ** 2
        values += [_varied("neighbour lists", source, "neighborlists", 80 // scale)]
        values += [_varied("fingerprints", source, "fingerprints", 1000 // scale)]
        values += [_varied("derivatives", source, "fingerprint-primes", 12 // scale + 4)]
    return values


def default_corpus() -> Path:
    """Where templates come from: AMPSTORE_CORPUS, else the examples."""
    return Path(os.environ.get("AMPSTORE_CORPUS") or EXAMPLES)


def key_of(number: int) -> str:
    """Make a key like Amp's: 32 hexadecimal digits."""
    return md5(b"benchmark %d" % number, usedforsecurity=False).hexdigest()


def generic(number: int) -> object:
    """About 1 kB of what a program keeps about a calculation: text, numbers, flags, lists."""
    rng = random.Random(number)
    return {
        "name": f"calculation {number}",
        "converged": rng.random() < 0.9,
        "steps": rng.randrange(1000),
        "energy": rng.gauss(-100, 10),
        "symbols": [rng.choice(("Cu", "Pt", "O", "H")) for _ in range(20)],
        "forces": [tuple(rng.gauss(0, 1) for _ in range(3)) for _ in range(20)],
        "notes": " ".join(rng.choice(("relaxed", "slab", "with", "four", "layers", "fixed")) for _ in range(30)),
    }


def vary(value: object, rng: random.Random) -> object:
    """Make a value of the same structure and types with numbers of its own."""
    if isinstance(value, float):
        return type(value)(value * (1 + 1e-3 * rng.gauss(0, 1)))
    if isinstance(value, np.ndarray):
        return _moved(value, rng) if value.ndim == 2 else value.copy()
    if isinstance(value, list | tuple):
        return type(value)([vary(item, rng) for item in value])
    if isinstance(value, dict):
        return {key: vary(item, rng) for key, item in value.items()}
    return value


def equal(one: object, other: object) -> bool:
    """Whether two values are the same to the type of the last number; -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return equal(list(one.items()), list(other.items()))
    return repr(one) == repr(other)


def load(corpus: Path, atoms: int) -> Source:
    """Templates for cells of `atoms` atoms, or of the nearest size that the corpus has.

    Parameters
    ----------
    corpus : Path
        A directory of atomsNN.pkl.gz (lists of neighbour lists, fingerprints, derivatives of one
        structure), itself or as `corpus_templates`, a directory of .ampdb containers, or a .tar.gz of those.
    """
    below = corpus / TEMPLATE_FOLDER
    if (file := (below if below.is_dir() else corpus) / f"atoms{atoms}.pkl.gz").is_file():
        structures: Any = load_legacy(file.name, gzip.decompress(file.read_bytes()), Rule())
        return Source(atoms, {kind: [one[index] for one in structures] for index, kind in enumerate(KINDS)})
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for kind, key, data in _legacy_files(corpus):
        found[kind].append(load_legacy(key, data, Rule()))
    if not all(found.values()):
        raise FileNotFoundError(f"{corpus} has no legacy containers of all of {', '.join(KINDS)}")
    return _of_size(found, atoms)


def _of_size(found: dict[str, list[Any]], atoms: int) -> Source:
    sizes = {len(value) for value in found["neighborlists"]}
    nearest = min(sizes, key=lambda size: (abs(size - atoms), size))
    chosen = {kind: [value for value in found[kind] if _atoms(value) == nearest] for kind in KINDS}
    return Source(nearest, {kind: values[:TEMPLATES] for kind, values in chosen.items()})


def _atoms(value: Any) -> int:
    if isinstance(value, dict):  # derivatives: (index, symbol, neighbour's index, its symbol, direction)
        return 1 + int(max(key[0] for key in value))
    return len(value)


def _legacy_files(corpus: Path) -> Iterator[tuple[str, str, bytes]]:
    """Kind, key and bytes of every entry of the containers of Amp in a directory or tarball."""
    if corpus.is_dir():
        files = ((file.as_posix(), file.read_bytes()) for file in sorted(corpus.rglob("*")) if file.is_file())
        return _entries(files)
    return _entries(_members(corpus.read_bytes()))


def _entries(files: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, str, bytes]]:
    for name, data in files:
        container, _, inside = name.rpartition(".ampdb/")
        kind = next((kind for kind in KINDS if container.endswith(f"-{kind}")), "")
        if kind and inside.startswith("loose/"):
            yield kind, inside.removeprefix("loose/"), data
        elif kind and inside == "archive.tar.gz":
            yield from ((kind, key, content) for key, content in _members(data))


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if file := tar.extractfile(member):
                yield member.name, file.read()


def _varied(title: str, source: Source, kind: str, entries: int) -> Values:
    templates = source.kinds[kind]

    def make(number: int) -> object:
        return vary(templates[number % len(templates)], random.Random(f"{kind} {number}"))

    return Values(f"{title}, {source.atoms} atoms", entries, make)


def _moved(offsets: np.ndarray, rng: random.Random) -> np.ndarray:
    """Offsets of neighbours, two of which crossed a cell border."""
    moved = offsets.copy()
    for _ in range(min(2, len(moved))):
        moved[rng.randrange(len(moved))] += [rng.randint(-1, 1) for _ in range(moved.shape[1])]
    return moved
