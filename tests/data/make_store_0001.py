"""Makes store-0001.sqlite3; run once, with the first ampstore. The file is never made again."""

from pathlib import Path

import numpy as np

import ampstore

path = Path(__file__).with_name("store-0001.sqlite3")
with ampstore.Store(path, "c") as store:
    store["fingerprints"] = [("Cu", [0.5, -0.0, 1e-300]), ("Pt", [])]
    store["text"] = "ü" * 1000
    store["number"] = 12345678901234567890
    store["array"] = np.array([[1, 2], [3, 4]], np.int16)
