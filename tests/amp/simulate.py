"""Load a trained Amp calculator, run some steps of dynamics with it, print energies and what was stored as JSON."""

import json

from amp import Amp
from amp.utilities import FileDatabase
from ase import units
from ase.md.verlet import VelocityVerlet
from train import emt_images


def main():
    calc = Amp.load("small.amp", label="small")
    [atoms] = emt_images(1)
    atoms.calc = calc
    energies, forces = [], []
    dynamics = VelocityVerlet(atoms, timestep=2 * units.fs)
    for _ in range(4):
        dynamics.run(1)
        energies.append(float(atoms.get_potential_energy()))
        forces.append(atoms.get_forces().tolist())
    stored = {name: len(FileDatabase(f"small-{name}").keys()) for name in ("neighborlists", "fingerprints")}
    print(json.dumps({"energies": energies, "forces": forces, "stored": stored, "module": FileDatabase.__module__}))


if __name__ == "__main__":
    main()
