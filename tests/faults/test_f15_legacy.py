"""F15, F16, F17: torn loose files, damaged archives, hostile tars."""

import gzip
import io
import json
import os
import pickle
import pickletools
import shutil
import tarfile
import time

import pytest

import ampstore
from ampstore.errors import AmpstoreError
from faults.processes import python, run

VALUE = [("Cu", [0.1, 0.25, -0.0]), ("Pt", [2.5, 7.0])]
SOUND = {f"good{n}": [n, [n / 3] * 20] for n in range(8)}


def opened(path):
    return ampstore.FileDatabase(path), ampstore.LegacyDatabase(path)


def look(fault, path, sound, doubtful, what):
    """Both databases serve what is sound, and of the doubtful what was written or nothing."""
    for database in opened(path):
        try:
            keys = set(database.keys())
            for key, value in sound.items():
                if key not in keys or database[key] != value:
                    fault.lost(f"{what}: {key!r} of {type(database).__name__}")
            for key, value in doubtful.items():
                try:
                    if database[key] != value:
                        fault.wrong(f"{what}: {key!r} is {database[key]!r}")
                except (KeyError, AmpstoreError):
                    pass
            if extra := keys - set(sound) - set(doubtful):
                fault.wrong(f"{what}: {sorted(extra)[:5]} are no entries")
        except (AmpstoreError, OSError) as err:
            fault.wrong(f"{what}: {type(database).__name__}: {err!r}")
        database.close()


def garbage(chance):
    """Random bytes that are no pickle: some are, by chance (U, a length, a text, a dot)."""
    while True:
        found = chance.randbytes(chance.randrange(1, 400))
        try:
            for _ in pickletools.genops(found):
                pass
        except Exception:  # noqa: BLE001 - pickletools has many ways to say so
            return found


@pytest.mark.fault("F15", "loose files cut at every byte, empty, zeros, garbage; temporary left-overs; odd names")
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_torn_loose_files_are_named_and_skipped_and_can_be_overwritten(fault, tmp_path, protocol):
    """The rest is served; verify names each; migrating leaves them; a set puts a value in their place."""
    container = tmp_path / "a.ampdb"
    loose = container / "loose"
    loose.mkdir(parents=True)
    for key, value in SOUND.items():
        (loose / key).write_bytes(pickle.dumps(value, protocol))
    data = pickle.dumps(VALUE, protocol)
    torn = {f"cut{size}": data[:size] for size in range(len(data))}
    torn |= {"zeros": bytes(4096), "half zeros": data[: len(data) // 2] + bytes(2048), "text": b"not a pickle\n"}
    for number in range(fault.times(40, 600)):
        torn[f"garbage{number}"] = garbage(fault.random)
    for name in (".hidden", "ü", "a b", "-rf", "x" * 255, "new\nline", "con", "*", "$(touch x)"):
        torn[name] = data[: len(data) // 2]
    for name, content in torn.items():
        (loose / name).write_bytes(content)
        os.utime(loose / name, (time.time() - 100,) * 2)
        fault.injected()
    for name in (".nfs000000001", ".ampstore-00112233.tmp"):
        (loose / name).write_bytes(data[:10])
        fault.injected()
    (loose / "directory").mkdir()
    (loose / "link").symlink_to("/etc/passwd")
    os.mkfifo(loose / "fifo")
    fault.injected(3)
    look(fault, container, SOUND, dict.fromkeys(torn, VALUE), "torn")
    with ampstore.FileDatabase(container) as database:
        named = {damage.key for damage in database.verify()}
        unnamed = [name for name, content in torn.items() if name not in named and name not in database]
        if unnamed:
            fault.wrong(f"verify does not name {unnamed[:5]}")
        report = ampstore.import_legacy(container)
        if {problem.name for problem in report.left} < {
            "zeros",
            "text",
            "link",
            "fifo",
            *[f"cut{n}" for n in range(9)],
        }:
            fault.wrong("migrate does not name what it left")
        for number, name in enumerate(list(torn)[:: fault.times(7, 1)]):
            database[name] = number
            if database[name] != number or ampstore.FileDatabase(container)[name] != number:
                fault.wrong(f"{name!r} could not be overwritten")
        assert all(database[key] == value for key, value in SOUND.items())


def packed(entries, **options):
    """Bytes of an archive.tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", **options) as tar:
        for name, data in entries:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def damaged(whole, chance):
    """Archive bytes with one kind of damage, and what it is."""
    place = chance.randrange(len(whole))
    kind = chance.randrange(6)
    if kind == 0:
        return whole[:place], f"cut at {place}"
    if kind == 1:
        return whole[:-8] + chance.randbytes(8), "another checksum"
    if kind == 2:
        return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :], f"bit at {place}"
    if kind == 3:
        return whole[:place] + bytes(min(512, len(whole) - place)) + whole[place + 512 :], f"zeros at {place}"
    if kind == 4:
        return whole + chance.randbytes(chance.randrange(1, 600)), "garbage behind it"
    tar = bytearray(gzip.decompress(whole))
    tar[chance.randrange(len(tar))] ^= 1 << chance.randrange(8)
    return gzip.compress(bytes(tar)), "a bit within the tar"


@pytest.mark.fault("F16", "archives cut, with flipped bits, wrong checksums, zeros, duplicates; replaced while read")
def test_damaged_archives_serve_what_is_intact_and_stay(fault, tmp_path):
    """Loose files and intact members are served; a value is right or missing; no migration deletes the source."""
    container = tmp_path / "a.ampdb"
    (container / "loose").mkdir(parents=True)
    entries = {f"k{n}": [n, [n / 7] * 50] for n in range(30)}
    digests = [(key, pickle.dumps(value, 2)) for key, value in entries.items()]
    whole = packed([("k3", pickle.dumps("older", 2)), *digests])  # of two members the last counts
    (container / "loose" / "good").write_bytes(pickle.dumps("fine", 0))
    archive = container / "archive.tar.gz"
    for _ in range(fault.times(40, 600)):
        data, what = damaged(whole, fault.random)
        archive.write_bytes(data)
        fault.injected()
        # A flip that gzip then put its checksum on cannot be told from another value.
        doubtful = {} if "within" in what else entries
        with ampstore.FileDatabase(container) as database:
            if database["good"] != "fine":
                fault.wrong(f"{what}: the loose file")
            for key in database.keys():
                if key in doubtful and database[key] != entries[key] and not (key == "k3" and database[key] == "older"):
                    fault.wrong(f"{what}: {key} is {database[key]!r}")
        report = ampstore.import_legacy(container, tmp_path / "out.db", remove_source=True)
        if archive.exists() and archive.read_bytes() != data:
            fault.wrong(f"{what}: the archive was changed")
        if not archive.exists() and not report.complete:
            fault.lost(f"{what}: the source was deleted though {report.left} were left")
        (tmp_path / "out.db").unlink()
        (container / "loose" / "good").write_bytes(pickle.dumps("fine", 0))
    import test_legacy

    database = ampstore.FileDatabase(container)
    test_legacy.test_an_archive_that_is_replaced_while_it_is_read_is_read_again(database)
    database.close()
    fault.injected(29)


def hostile(kind, outside, target):
    """Write one hostile archive."""
    good = pickle.dumps("fine", 2)
    bad = pickle.dumps("escaped", 2)
    with tarfile.open(target, "w:gz", format=tarfile.GNU_FORMAT) as tar:

        def add(name, data=b"", **more):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for attribute, value in more.items():
                setattr(member, attribute, value)
            tar.addfile(member, io.BytesIO(data))

        if kind == "paths":
            for name in (
                "../escaped",
                "../../escaped",
                f"{outside}/escaped",
                "a/../../escaped",
                "loose/../../escaped",
                "..",
            ):
                add(name, bad)
            for name in (
                "",
                ".",
                "/",
                "//escaped",
                "..\\escaped",
                "C:\\escaped",
                "a/b",
                "~/escaped",
                "\u2024\u2024/escaped",
            ):
                add(name, bad)
        elif kind == "links":
            for link in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                add("k", type=link, linkname=f"{outside}/escaped")
                add("k", bad)
                add("loose", type=link, linkname=str(outside))
                add("loose/escaped", bad)
                add("store.sqlite3", type=link, linkname="/etc/passwd")
        elif kind == "devices":
            for device in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE, b"Z"):
                add("device", type=device, devmajor=1, devminor=5, mode=0o6777)
        elif kind == "sparse":
            add("sparse", bad, type=tarfile.GNUTYPE_SPARSE)
            add("huge", type=tarfile.GNUTYPE_SPARSE)
        elif kind == "modes":
            add("setuid", pickle.dumps("fine", 2), mode=0o6777, uid=0, mtime=2**40)
        add("good", good)


def raw_header(name, size):
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def bomb(kind, target, members):
    """Write an archive that wants much time or memory."""
    good = raw_header("good", 4) + pickle.dumps(1, 2)[:5].ljust(512, b"\0")
    with open(target, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as tar:
        if kind == "members":
            one = pickle.dumps(1, 2)
            tail = one.ljust(512, b"\0")
            for number in range(members):
                tar.write(raw_header(f"m{number}", len(one)) + tail)
        elif kind == "zeros":
            tar.write(raw_header("zeros", 2 << 30))
            for _ in range(2 << 10):
                tar.write(bytes(1 << 20))
        elif kind == "ones":
            tar.write(raw_header("ones", 1 << 30))
            for _ in range(1 << 10):
                tar.write(b"1" * (1 << 20))
        elif kind == "record":
            header = tarfile.TarInfo("x")
            header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
            tar.write(header.tobuf(tarfile.GNU_FORMAT))
            for _ in range(1 << 10):
                tar.write(b"a" * (1 << 20))
        elif kind == "claims":
            tar.write(raw_header("claims", 8 << 30) + b"x" * 512)
        elif kind == "duplicates":
            one = pickle.dumps(1, 2)
            for _ in range(members):
                tar.write(raw_header("same", len(one)) + one.ljust(512, b"\0"))
        if kind != "claims":
            tar.write(good)
        tar.write(bytes(1024))


@pytest.mark.fault("F17", "tars with .., absolute names, links, devices, sparse and odd members; bombs; 10^6 members")
def test_hostile_tars_touch_nothing_outside_in_bounded_time_and_memory(fault, tmp_path):
    """Reading, verifying, migrating and archiving, in a process with 1 GB and a minute; what is good is served."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "escaped").write_bytes(b"mine")
    kinds = ["paths", "links", "devices", "sparse", "modes"]
    bombs = ["members", "claims", "duplicates"] + (["zeros", "ones", "record"] if fault.long else [])
    peak = slowest = 0.0
    for kind in kinds + bombs:
        container = tmp_path / "inner" / f"{kind}.ampdb"
        (container / "loose").mkdir(parents=True)
        if kind in kinds:
            hostile(kind, outside, container / "archive.tar.gz")
        else:
            bomb(kind, container / "archive.tar.gz", fault.times(1000, 1_000_000))
        ended = run(python("tar_reader", container), timeout=fault.times(120, 1200))
        fault.injected()
        if ended.hung:
            fault.hung(f"{kind}: more than {fault.times(120, 1200)} s")
        elif ended.code:
            fault.wrong(f"{kind}: the reader ended with {ended.code}: {ended.errors[-800:]}")
        else:
            found = json.loads(ended.output)
            peak, slowest = max(peak, found["peak_mb"]), max(slowest, found["seconds"])
            if kind in kinds and not found["good"]:
                fault.lost(f"{kind}: the good member is not served")
        if {path.name for path in tmp_path.iterdir()} != {"outside", "inner"} or os.listdir(outside) != ["escaped"]:
            fault.wrong(f"{kind}: wrote outside of the container")
        if (outside / "escaped").read_bytes() != b"mine":
            fault.wrong(f"{kind}: changed a file outside of the container")
        for path in container.rglob("*"):
            if path.is_symlink() or not (path.is_dir() or path.is_file()) or path.stat().st_mode & 0o6000:
                fault.wrong(f"{kind}: made {path}")
        shutil.rmtree(container)
    fault.fact(peak_mb=round(peak), slowest_seconds=round(slowest, 1))
