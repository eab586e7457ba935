"""Fingerprints of EMT images by Amp's Gaussian descriptor alone, without a model; printed as JSON."""

import json
import sys

import numpy as np
from amp.descriptor.gaussian import Gaussian
from amp.utilities import FileDatabase, Logger, hash_images
from ase.build import add_adsorbate, fcc110


def main():
    cores = int(sys.argv[1])
    slab = fcc110("Cu", (3, 2, 4), vacuum=4.0)
    add_adsorbate(slab, "Pt", 2.0, "hollow")
    images = []
    for seed in range(3):
        images.append(slab.copy())
        images[-1].rattle(0.1, seed=seed)
    np.random.seed(7)
    hashed = hash_images(images)
    descriptor = Gaussian(cutoff=4.0, dblabel="few")
    parallel = {"cores": 1 if cores == 1 else {"localhost": cores}, "envcommand": None}
    descriptor.calculate_fingerprints(
        images=hashed, parallel=parallel, log=Logger("few-log.txt"), calculate_derivatives=True
    )
    result = {
        "keys": list(hashed),
        "fingerprints": contents("few-fingerprints"),
        "primes": {
            key: sorted((list(map(str, which)), which[4], numbers) for which, numbers in value.items())
            for key, value in raw("few-fingerprint-primes").items()
        },
        "random": float(np.random.rand()),
        "module": FileDatabase.__module__,
    }
    print(json.dumps(result))


def raw(name):
    database = FileDatabase(name)
    return {key: database[key] for key in sorted(database.keys())}


def contents(name):
    return {key: [[symbol, list(map(float, numbers))] for symbol, numbers in value] for key, value in raw(name).items()}


if __name__ == "__main__":
    main()
