"""Descriptors of a trajectory through Data: `python examples/descriptors.py [DIRECTORY]`.

A trajectory of a Cu/Pt crystal is made with ASE's EMT potential. For each image the radial symmetry
functions of Behler and Parrinello, J. Chem. Phys. 134, 074106 (2011), are calculated: first in this
process, then by a program that is killed in the middle and started again, then on all cores.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import Trajectory
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.neighborlist import neighbor_list

from ampstore.data import Data

IMAGES = 150


class SymmetryFunctions:
    """G2 of each atom for each element: sum over neighbours of exp(-eta r^2 / rc^2) fc(r).

    Parameters
    ----------
    cutoff : float, Å
    etas : sequence of float
        Without unit.
    elements : sequence of str
    """

    def __init__(self, cutoff: float = 5.0, etas: tuple[float, ...] = (0.05, 4.0, 20.0, 80.0), elements=("Cu", "Pt")):
        self.cutoff, self.etas, self.elements = cutoff, etas, elements

    def calculate(self, image: Atoms, key: str) -> list[tuple[str, list[float]]]:  # noqa: ARG002
        """Symbol and descriptor (elements x etas) of each atom."""
        center, other, distance = neighbor_list("ijd", image, self.cutoff)
        smooth = 0.5 * (1 + np.cos(np.pi * distance / self.cutoff))
        symbols = np.array(image.get_chemical_symbols())
        columns = []
        for element in self.elements:
            of_element = symbols[other] == element
            for eta in self.etas:
                terms = np.exp(-eta * (distance / self.cutoff) ** 2) * smooth * of_element
                columns.append(np.bincount(center, terms, minlength=len(image)))
        table = np.transpose(columns)
        return [(symbol, row.tolist()) for symbol, row in zip(symbols.tolist(), table, strict=True)]


def make_trajectory(path: Path) -> None:
    """Molecular dynamics of 32 atoms at 600 K with EMT."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.symbols[::4] = "Pt"
    atoms.calc = EMT()
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(7))
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    with Trajectory(path, "w", atoms) as trajectory:
        for _ in range(IMAGES):
            dynamics.run(1)
            trajectory.write()


def read_images(path: Path) -> dict[str, Atoms]:
    """Images of a trajectory by key; a program of Amp would use hash_images here."""
    with Trajectory(path) as trajectory:
        return {f"image-{number:04d}": atoms for number, atoms in enumerate(trajectory)}


def main(directory: Path) -> None:
    step(f"1. A trajectory of {IMAGES} images, with energies of EMT")
    make_trajectory(directory / "md.traj")
    images = read_images(directory / "md.traj")

    step("2. Serial, 40 images: Data('serial').calculate_items(images, {'cores': 1})")
    some = dict(list(images.items())[:40])
    with Data(directory / "serial", calculator=SymmetryFunctions()) as data:
        print(f"{timed(data.calculate_items, some, {'cores': 1}):.2f} s")
        times = [timed(data.calculate_items, some, {"cores": 1}) for _ in range(10)]
        print(f"again, with all of them there: {1000 * min(times):.2f} ms")
        symbol, descriptor = data["image-0000"][0]
        print(f"the first atom is {symbol}: {[round(x, 3) for x in descriptor]}")

    step("3. Killed with kill -9 in the middle, then started again")
    program = subprocess.Popen([sys.executable, __file__, "--calculate", str(directory)])
    with Data(directory / "killed") as data:
        while count(data) < 30 and program.poll() is None:
            time.sleep(0.01)
        program.kill()
        program.wait()
        kept = count(data)
        print(f"killed: {kept} of {IMAGES} are stored")
        data.calc = SymmetryFunctions()
        seconds = timed(data.calculate_items, images, {"cores": 1}, lambda line: print(f"resumed:{line}"))
        print(f"resumed: {count(data)} of {IMAGES} are stored after {seconds:.2f} s")

    step("4. On all cores: calculate_items(images, {'cores': None})")
    with Data(directory / "parallel", calculator=SymmetryFunctions()) as data:
        print(f"all cores: {timed(data.calculate_items, images, {'cores': None}):.2f} s for {IMAGES} images")
        with Data(directory / "killed") as other:
            print(f"the same values as in step 3: {all(data[key] == other[key] for key in images)}")
    print(f"\nThe databases are in {directory}")


def count(data: Data) -> int:
    data.close()
    data.open()
    return len(data.d)


def timed(function, *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def step(title: str) -> None:
    print(f"\n{title}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--calculate"]:
        place = Path(sys.argv[2])
        Data(place / "killed", calculator=SymmetryFunctions()).calculate_items(
            read_images(place / "md.traj"), {"cores": 1}
        )
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="ampstore-descriptors-")))
