"""Why a target is not reached, by target: kept apart, since it changes as the code does."""

_SMALL = "small values, to the minimal sqlite3 loop"
_AHEAD = "ahead of it in every operation, on every kind of values"
_UNCHECKED = "it checks, compresses and refuses nothing: no checksum, no SHA-256, no allow-list"
_FILE = "a file per entry: contains and delete ask the file system for one name, and put nothing on the disk"
_CHECKS = "SHA-256, CRC and a walk over 400 floats that lie apart; pickling walks too, and the other does no more"
_RAW = "floats of such fingerprints do not compress without byte planes, which cost more than they save until archive()"

WHY: dict[tuple[str, str], str] = (
    {
        ("10^5 keys, to the listing of Amp", "missing"): (
            "one listing answers for all keys at once and reads no index; ampstore looks up each key, however many "
            "there are. A listing per key, as `in` needs with Amp, is the row of contains"
        ),
        (_SMALL, "get"): "a pickle is checked before it is read, by a bound on its memory, a CRC and an allow-list",
        (_SMALL, "keys"): "in order of insertion, which the index of keys does not have: they are sorted",
        (
            _SMALL,
            "bulk set",
        ): "pickling alone is as dear as in the loop; SHA-256, a summary for people and three columns come on top",
        (_AHEAD, "diskcache"): "generic 1 kB, get: it unpickles unchecked; fingerprints of 20 atoms are level with it",
        (_AHEAD, "diskcache, Fanout"): "as diskcache; and it deletes from an eighth of the entries",
        (_AHEAD, "h5py"): "delete: the name is unlinked, its space is not given back, nothing is synced",
        (_AHEAD, "zarr"): _FILE,
        (_AHEAD, "joblib.Memory"): _FILE,
        (_AHEAD, "zict.File"): "contains, keys, delete: it keeps all names in memory, for one process",
        (_AHEAD, "klepto"): _FILE,
        (_AHEAD, "legacy loose"): f"delete: {_FILE}",
        ("derivatives", "get, to a loose file"): (
            "file in the page cache; 20,000 floats have to be made anew as Python objects, most of what is left"
        ),
        ("derivatives", "size of an entry, to the tar.gz"): (
            "53 of 64 bits of each number are noise here, 0.445 of the tar.gz alone"
        ),
        ("neighbour lists", "get, to a pickle in SQLite"): (
            "20 atoms: 40 small arrays are made one by one in either way; 48 atoms: 0.75, 100 atoms: less"
        ),
        ("fingerprints", "size of an entry, to the tar.gz"): _RAW,
        ("fingerprints", "get, to a loose file"): "file in the page cache; 400 floats are made anew in either way",
        ("16 writers, one entry per commit, ampstore", "rate of one writer to theirs"): (
            "a process has its turns in stints of 3 ms, and starts each with cold caches, its own and those of SQLite"
        ),
        ("16 writers, one entry per commit, ampstore, full", "worst wait, ms"): "15 turns of others, and a checkpoint",
        (
            "16 writers, one entry per commit, ampstore",
            "worst wait, ms",
        ): "15 stints of others, and checkpoints",
        ("16 writers, one entry per commit, ampstore, full", "rate of one writer to theirs"): (
            "the turn goes on at every commit, and to wake the next process takes as long as to write a small value"
        ),
        ("16 writers, to a peer", "LMDB, both synced"): (
            "each commit counts itself, which writes a page and a file more; to wake Python at each turn is the rest"
        ),
        ("16 writers, to a peer", "diskcache"): "as above; and diskcache lets one process write as long as it likes",
        ("verified migration, to a script with sqlitedict", "neighborlists"): (
            "unpickling is all but a tenth of what the script does; here the stream is walked first, every state is "
            "checked, and all is encoded, read back and compared: nearly twice the work, on two cores"
        ),
        ("verified migration, to a script with sqlitedict", "fingerprints"): (
            "as neighbour lists: a third is unpickling, the rest walks, compares, checksums, SQLite"
        ),
        ("verified migration, to a script with sqlitedict", "fingerprint-primes"): (
            "as neighbour lists; NumPy's numbers are made one by one, each checked"
        ),
        ("a million entries, to a thousand", "contains"): "as get, with one page to fetch; 1.6 for the loop",
        ("a million entries, to a thousand", "get"): (
            "a thousand lie in SQLite's cache; of a million each read fetches two pages, in the loop too (3.1 there); "
            "a cache of 64 or 256 MB gains nothing"
        ),
        ("annealing, a step at 1,000 parameters", "µs"): "narrowly; a floor of 2.6 was found by prototypes",
        (_AHEAD, "shelve, sqlite3"): (
            "dbm.sqlite3 comes with Python 3.13. Run there by itself, on generic 1 kB, it was cheaper in get (0.60), "
            "keys (0.59) alone: it unpickles unchecked, and has no order of insertion"
        ),
        ("keys of images, to formatting number by number", "get_hash, 20 atoms"): (
            "one `%` of the 60 numbers takes an eighth of the loop, MD5 and the cell come on top; many at once pass it"
        ),
        ("a new process", "import, open, get, to diskcache"): "some 50 modules of its own, which it reads one by one",
        ("real values, to LMDB", "neighbour lists: get"): _UNCHECKED,
        ("real values, to LMDB", "neighbour lists: set"): _UNCHECKED,
        ("real values, to LMDB", "fingerprints: get"): _UNCHECKED,
        ("real values, to LMDB", "fingerprints: set"): _CHECKS,
        ("real values, to LMDB", "fingerprints: disk"): _RAW,
    }
    | {
        (f"real values, to {engine}", f"{values}: {operation}"): _UNCHECKED
        for engine in ("LMDB, no sync", "shelve, gnu", "rocksdict")
        for values in ("neighbour lists", "fingerprints")
        for operation in ("get", "set")
    }
    | {
        (f"real values, to {engine}", what): why
        for engine in ("LMDB", "LMDB, no sync", "shelve, gnu", "rocksdict")
        for what, why in (
            ("derivatives: get", "of a read 4 in 5 parts are the objects, which every engine has to make"),
            ("fingerprints: disk", _RAW),
        )
    }
)
