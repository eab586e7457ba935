"""Train a small network on EMT images as Amp users do, and print what came out as JSON.

Nothing here knows of ampstore: `python train.py` runs stock Amp, `python -m ampstore.amp train.py` ampstore.
"""

import argparse
import json
import os

import numpy as np
from amp import Amp
from amp.descriptor.gaussian import Gaussian
from amp.model import LossFunction
from amp.model.neuralnetwork import NeuralNetwork
from amp.utilities import FileDatabase, TrainingConvergenceError, hash_images
from ase.build import add_adsorbate, fcc110
from ase.calculators.emt import EMT


def emt_images(number):
    """Rattled slabs of copper with a platinum atom on top, with EMT's energies and forces."""
    slab = fcc110("Cu", (2, 2, 2), vacuum=4.0)
    add_adsorbate(slab, "Pt", 2.0, "hollow")
    images = []
    for seed in range(number):
        image = slab.copy()
        image.rattle(0.1, seed=seed)
        image.calc = EMT()
        image.get_potential_energy()
        image.get_forces()
        images.append(image)
    return images


def recorded(lossfunction):
    """List to which this loss function adds every loss; the last one of a training leaves by an exception."""
    history = []
    get_loss = lossfunction.get_loss

    def recording(*args, **keywords):
        found = get_loss(*args, **keywords)
        history.append(float(found["loss"]))
        return found

    lossfunction.get_loss = recording
    return history


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--anneal", type=int, default=0, help="steps of the annealer before training")
    options = parser.parse_args()
    images = emt_images(options.images)
    np.random.seed(7)
    calc = Amp(
        descriptor=Gaussian(cutoff=4.0),
        model=NeuralNetwork(hiddenlayers=(3, 2), randomseed=7),
        cores=options.cores,
        label="small",
    )
    calc.model.lossfunction = LossFunction(convergence={"energy_rmse": 0.02, "force_rmse": 0.5})
    losses = recorded(calc.model.lossfunction)
    if options.anneal:
        from amp.utilities import Annealer

        Annealer(calc=calc, images=images, Tmax=0.01, Tmin=0.001, steps=options.anneal)
    try:
        calc.train(images=images)
        converged = True
    except TrainingConvergenceError:
        converged = False
    probe = images[0].copy()
    probe.rattle(0.02, seed=99)
    probe.calc = calc
    result = {
        "converged": converged,
        "losses": losses,
        "vector": [float(number) for number in calc.model.vector],
        "energy": float(probe.get_potential_energy()),
        "forces": probe.get_forces().tolist(),
        "keys": sorted(hash_images(images)),
        "fingerprints": contents("small-fingerprints"),
        "primes": {key: sorted(map(repr, value.items())) for key, value in raw("small-fingerprint-primes").items()},
        "random": float(np.random.rand()),
        "module": FileDatabase.__module__,
        "files": sorted(os.listdir(".")),
    }
    print(json.dumps(result))


def raw(name):
    database = FileDatabase(name)
    return {key: database[key] for key in sorted(database.keys())}


def contents(name):
    return {key: [[symbol, list(map(float, numbers))] for symbol, numbers in value] for key, value in raw(name).items()}


if __name__ == "__main__":
    main()
