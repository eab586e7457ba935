"""A claimant: `python -m faults.claimant STORE LOG KEYS SECONDS LEASE` calculates what nobody else does.

Each result is a line of the common log, written after the call returned: key, owner, stored or fenced.
"""

import os
import sys
import time
from pathlib import Path

import ampstore
from ampstore.codec import Codec


def main(path: Path, log: Path, number: int, seconds: float, lease: float) -> None:
    keys = [f"k{n}" for n in range(number)]
    line = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    with ampstore.Store(path) as store:
        claims = store.claims(lease)
        with claims.kept():
            while keys := store.missing(keys):
                taken = claims.take(keys, 1)
                if not taken.mine:
                    time.sleep(0.02)
                for key in taken.mine:
                    time.sleep(seconds)
                    late = claims.put([(key, Codec().encode([claims.owner] * 50))])
                    what = "fenced" if key in late else "stored"
                    os.write(line, f"{key} {claims.owner} {what}\n".encode())
                    os.fsync(line)
        claims.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
