"""Does everything to a container in 1 GB: `python -m faults.tar_reader CONTAINER`; prints what it took."""

import json
import resource
import sys
import time
from pathlib import Path

import ampstore
from ampstore.errors import AmpstoreError


def main(container: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    start, good = time.monotonic(), False
    with ampstore.FileDatabase(container) as database:
        keys = database.keys()
        good = "good" in keys and database["good"] == "fine"
        for key in keys[:100]:
            try:
                database[key]
            except AmpstoreError:
                pass
        for _ in database.verify():
            pass
        if len(keys) < 50_000:
            ampstore.LegacyDatabase(container).keys()
            ampstore.import_legacy(container)
            database.archive()
            good = good and database["good"] == "fine"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"good": good, "keys": len(keys), "peak_mb": peak, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
