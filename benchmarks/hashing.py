"""What a key costs beside the loop that formats number by number.

The loop is written anew from the description of the text that Amp hashes: one `%` for each number,
strings added up, positions through the Atom objects of ASE, as one iterates over a structure. A
second one takes the rows of the position array instead, which no Atom object is made for.
"""

import hashlib
import random
import time
from collections.abc import Callable

import numpy as np
from ase import Atoms

from ampstore.images import get_hash, get_hashes, hash_images

SIZES = (20, 50, 100, 200)
REFERENCE = "loop over Atom objects"


def loop_over_atoms(atoms: Atoms) -> str:
    """Key by one format per number, positions from Atom objects."""
    text = _before_positions(atoms)
    for atom in atoms:
        for coordinate in atom.position:
            text += "%.15f" % coordinate  # noqa: UP031 - the form that is specified
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def loop_over_rows(atoms: Atoms) -> str:
    """Key by one format per number, positions from the array."""
    text = _before_positions(atoms)
    for position in atoms.positions:
        for coordinate in position:
            text += "%.15f" % coordinate  # noqa: UP031
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _before_positions(atoms: Atoms) -> str:
    text = str(atoms.pbc)
    for length in atoms.cell.flatten():
        text += "%.15f" % length  # noqa: UP031
    for number in atoms.numbers:
        text += "%3d" % number  # noqa: UP031
    return text


Images = list[Atoms]
ENGINES: dict[str, Callable[[Images], list[str]]] = {
    REFERENCE: lambda images: [loop_over_atoms(atoms) for atoms in images],
    "loop over rows": lambda images: [loop_over_rows(atoms) for atoms in images],
    "get_hash": lambda images: [get_hash(atoms) for atoms in images],
    "get_hashes": get_hashes,
    "hash_images": lambda images: list(hash_images(images)),
}


def trajectory(atoms: int, count: int) -> Images:
    """Frames of one system: cell and elements stay, positions change."""
    rng = np.random.default_rng(atoms)
    first = _structure(atoms, rng)
    return [_moved(first, rng) for _ in range(count)]


def different(atoms: int, count: int) -> Images:
    """Structures that share nothing: each its own cell and elements."""
    rng = np.random.default_rng(atoms)
    return [_structure(atoms, rng) for _ in range(count)]


def _structure(atoms: int, rng: np.random.Generator) -> Atoms:
    edge = (12 * atoms) ** (1 / 3) * rng.uniform(0.95, 1.05)
    positions = rng.uniform(-0.5, edge, (atoms, 3))
    return Atoms(rng.choice([29, 78], atoms), positions, cell=[edge, edge, 1.1 * edge], pbc=True)


def _moved(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    frame: Atoms = atoms.copy()  # type: ignore[no-untyped-call]
    frame.positions += rng.normal(scale=0.05, size=frame.positions.shape)
    return frame


INPUTS = {"frames of one trajectory": trajectory, "different cells and elements": different}

Times = dict[str, dict[str, list[float]]]
"""Seconds of the processor per image: by the heading of a table, by engine, of each round."""


def measure(rounds: int, numbers: int, progress: Callable[[str], object]) -> Times:
    """Time every engine on every size; `numbers` is how many atoms each hashes in a round."""
    found: Times = {}
    for title, make in INPUTS.items():
        for atoms in SIZES:
            heading = f"{title}, {atoms} atoms"
            progress(heading)
            images = make(atoms, max(4, numbers // atoms))
            _compare(images)
            times = found[heading] = {name: [] for name in ENGINES}
            for number in range(rounds + 1):
                for name in random.Random(number).sample(list(ENGINES), len(ENGINES)):
                    seconds = _timed(ENGINES[name], images)
                    if number:
                        times[name].append(seconds)
    return found


def _timed(engine: Callable[[Images], list[str]], images: Images) -> float:
    start = time.thread_time()  # of the processor: nothing here waits, and other programs do not count
    engine(images)
    return (time.thread_time() - start) / len(images)


def _compare(images: Images) -> None:
    keys = {name: engine(images) for name, engine in ENGINES.items()}
    for name, found in keys.items():
        if found != keys[REFERENCE]:
            raise AssertionError(f"{name} gave other keys than the {REFERENCE}")
