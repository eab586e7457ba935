"""Fit a Morse potential to copper: labelled by EMT, annealed, killed, resumed, polished.

    python examples/morse.py [DIRECTORY]

Everything lies in one store: the images with their energies, and the search. A process that anneals is
killed with SIGKILL on its way; the next one goes on, and ends in the same state to the last bit as a
search that was never stopped. SciPy then walks the rest of the way down.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from scipy.optimize import minimize

from ampstore import Checkpoint, Store
from ampstore.anneal import Exponential, Result, Scale, anneal

START = np.array([0.2, 1.0, 3.2, 1.0])
"""Depth (eV), width (1/Å), distance (Å), energy of one atom (eV): far from copper."""

CUTOFF = 6.0  # Å
SCHEDULE = Exponential(0.3, 1e-4, 5000)  # eV per atom


def labelled_images() -> list[Atoms]:
    """Strained and rattled cells of 32 atoms with energies by EMT."""
    images = []
    for number, strain in enumerate(np.linspace(0.94, 1.08, 12)):
        atoms = bulk("Cu", a=3.6 * strain, cubic=True).repeat(2)
        atoms.rattle(0.03 * (number % 3), seed=number)
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
        images.append(atoms)
    return images


def loss_of(images: list[Atoms]) -> Callable[[np.ndarray], float]:
    """Root mean square error of the energies, eV per atom, as a function of the four parameters."""
    pairs = [neighbor_list("d", atoms, CUTOFF) for atoms in images]
    distances = np.concatenate(pairs)
    starts = np.cumsum([0, *(len(found) for found in pairs[:-1])])
    sizes = np.array([len(atoms) for atoms in images])
    energies = np.array([atoms.get_potential_energy() for atoms in images]) / sizes

    def loss(parameters: np.ndarray) -> float:
        depth, width, distance, alone = parameters
        decay = np.exp(-width * (distances - distance))
        morse = np.add.reduceat(depth * decay * (decay - 2), starts) / (2 * sizes) + alone
        return float(np.sqrt(np.mean((morse - energies) ** 2)))

    return loss


def search(store: Store, name: str) -> Result:
    """Anneal, from the checkpoint of this name if there is one."""
    loss = loss_of(store["images"])
    checkpoint = Checkpoint(store, name, steps=200, problem="Morse potential of copper, EMT")
    move = Scale(0.02)
    return anneal(START, loss, move, SCHEDULE, rng=np.random.default_rng(1), checkpoint=checkpoint, resume=True)


def kill_on_its_way(path: Path) -> int:
    """Let another process anneal, kill it when some of the way is done; the step that its checkpoint has."""
    process = subprocess.Popen([sys.executable, __file__, "--anneal", str(path)])
    try:
        with Store(path, "r") as store:
            while process.poll() is None and step_of(store) < SCHEDULE.steps // 4:
                time.sleep(0.005)
            process.kill()
            process.wait()
            return step_of(store)
    finally:
        process.kill()
        process.wait()


def step_of(store: Store) -> int:
    """How far the checkpoint is."""
    kept = store.get("annealing:killed")
    return kept["memory"]["step"] if kept else 0


def main(directory: Path) -> None:
    path = directory / "copper.db"
    with Store(path, "n") as store:
        store["images"] = labelled_images()
        loss = loss_of(store["images"])
        print(f"{len(store['images'])} images of {len(store['images'][0])} atoms, labelled by EMT, are in {path}")
        print(f"loss of the first guess: {1000 * loss(START):.1f} meV per atom")

    print(f"\nkilled, the checkpoint has step {kill_on_its_way(path)} of {SCHEDULE.steps}")
    with Store(path) as store:
        resumed, whole = search(store, "killed"), search(store, "never stopped")
    same = resumed.state.tobytes() == whole.state.tobytes() and resumed.final_loss == whole.final_loss
    print(f"resumed: {resumed.steps} steps, loss {1000 * resumed.loss:.2f} meV per atom")
    print(f"the same to the last bit as a search that was never stopped: {same}")

    polished = minimize(loss, resumed.state, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-6})
    depth, width, distance, _ = polished.x
    print(f"\npolished by SciPy: {1000 * polished.fun:.2f} meV per atom")
    print(f"depth {depth:.3f} eV, width {width:.3f} 1/Å, distance {distance:.3f} Å")
    picture = directory / "annealing.png"
    resumed.plot()[0].figure.savefig(picture)
    print(f"\nthe search: {picture}, or `ampstore anneal-report {path} --output report.html`")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--anneal"]:
        with Store(sys.argv[2]) as opened:
            search(opened, "killed")
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="ampstore-morse-")))
