"""A real Amp database, migrated and read back: `make demo`, or `python examples/demo.py [DIRECTORY]`.

The databases in amp-databases.tar.gz were written by Amp 1.0.1 (and, in python2/, by Amp 0.6.1 on
Python 2.7) for 20 images of a Cu/Pt slab: neighbour lists, fingerprints and their derivatives.
"""

import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import ampstore

HERE = Path(__file__).resolve().parent


def main() -> None:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="ampstore-demo-"))
    with tarfile.open(HERE / "amp-databases.tar.gz") as tar:
        tar.extractall(directory, filter="data")
    databases = directory / "amp-databases"

    step(f"1. Migrate what Amp wrote: ampstore migrate {databases}")
    subprocess.run([sys.executable, "-m", "ampstore", "migrate", str(databases)], check=True)

    step('2. Read it as Amp does: ampstore.FileDatabase("amp-neighborlists")')
    legacy = ampstore.LegacyDatabase(databases / "amp-neighborlists")
    with ampstore.FileDatabase(databases / "amp-neighborlists", "r") as database:
        key = database.keys()[0]
        neighbours, offsets = database[key][0]
        print(f"{len(database)} entries; atom 0 of {key} has {len(neighbours)} neighbours,")
        print(f"whose offsets are {offsets[:3].tolist()} …")
        print(f"the same as the legacy pickle says: {(legacy[key][0][0] == neighbours).all()}")

    step("3. Use it as a shelve: ampstore.open(...)")
    file = databases / "amp-fingerprints.ampdb" / "store.sqlite3"
    with ampstore.open(file) as shelf:
        symbol, fingerprint = next(iter(shelf.values()))[0]
        print(f"{len(shelf)} fingerprints; the first atom is {symbol}: {[round(x, 4) for x in fingerprint[:4]]} …")
        shelf["note"] = {"cutoff": 4.0, "made for": "the demo"}
        print(f"shelf['note'] = {shelf['note']}")

        step(f"4. Look into it with plain sqlite3, while the shelf is open: sqlite3 -readonly {file}")
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        print("select * from entries limit 3")
        for row in connection.execute("select * from entries limit 3"):
            print("  " + " | ".join(map(str, row)))
        connection.close()
        del shelf["note"]
    print(f"\nThe databases are in {databases}")


def step(title: str) -> None:
    print(f"\n{title}", flush=True)


if __name__ == "__main__":
    main()
