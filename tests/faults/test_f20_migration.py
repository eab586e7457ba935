"""F20: `ampstore migrate` while a legacy program writes, killed anywhere, again and again."""

import sys
import time

import pytest
from test_migrate import WRITER, write_loose

import ampstore
from faults.processes import finish, kill, run, start


@pytest.mark.fault("F20", "kill -9 of `ampstore migrate --remove-source` while a legacy program writes")
def test_a_migration_that_is_killed_beside_a_legacy_writer_loses_nothing(fault, tmp_path):
    """The same command finishes; every last value is there; a second run writes nothing; the export is equal."""
    container = tmp_path / "x.ampdb"
    base = {f"base{n}": [n, [n / 3] * 50] for n in range(200)}
    write_loose(container, base)
    command = [sys.executable, "-m", "ampstore", "migrate", container, "--remove-source", "--jobs", "1"]
    rounds = fault.times(100, 1500)
    writer = start([sys.executable, "-c", WRITER, container / "loose", rounds])
    try:
        for _ in range(fault.times(5, 100)):
            process = start(command)
            time.sleep(fault.random.uniform(0.2, 1.5))
            kill(process)
            fault.injected()
        if finish(writer, 600).code:
            fault.wrong("the legacy writer failed")
    finally:
        kill(writer)
    ended = run(command, 120)
    if ended.code:
        fault.wrong(f"the last run ended with {ended.code}: {ended.errors[-500:]}")
    wanted = base | {f"live{k}": [rounds - 1, k, [0.5] * 50] for k in range(20)}
    with ampstore.FileDatabase(container) as database:
        found = {key: database[key] for key in database.keys()}
    for key, value in wanted.items():
        if key not in found:
            fault.lost(key)
        elif found[key] != value:
            fault.wrong(f"{key} is {found[key]!r}")
    if ampstore.import_legacy(container).written:
        fault.wrong("a second run wrote something")
    run([sys.executable, "-m", "ampstore", "export", container, tmp_path / "back.ampdb"], 120)
    back = ampstore.LegacyDatabase(tmp_path / "back.ampdb")
    if {key: back[key] for key in back} != found:
        fault.wrong("the export differs")


LEGACY = """
import os, pickle, sys, tarfile, time
container, rounds = sys.argv[1], int(sys.argv[2])
loose, packed = f"{container}/loose", f"{container}/archive.tar.gz"

def archive():
    # As Amp does: unpack what has no loose file, rewrite in place, remove the files that were listed.
    try:
        with tarfile.open(packed) as tar:
            for member in tar:
                if member.name not in os.listdir(loose):
                    tar.extract(member, loose)
    except (OSError, EOFError, tarfile.TarError):
        pass
    names = os.listdir(loose)
    with tarfile.open(packed, "w:gz") as tar:
        for name in names:
            try:
                tar.add(f"{loose}/{name}", arcname=name)
            except FileNotFoundError:
                pass
    for name in names:
        try:
            os.unlink(f"{loose}/{name}")
        except FileNotFoundError:
            pass

last = {}
for n in range(rounds):
    for k in (n, n - 7):  # each key twice, with an archive() in between
        last[k] = n
        with open(f"{loose}/live{k}", "wb") as file:
            pickle.dump([n, k, [0.5] * 50], file, 0)
    time.sleep(0.005)
    if n % 5 == 4:
        archive()
print(*(f"{k}:{n}" for k, n in sorted(last.items())), flush=True)
"""


@pytest.mark.soak
@pytest.mark.fault("F20", "the same beside a legacy archive(), which unpacks and rewrites in place")
def test_a_legacy_archive_beside_a_migration_that_is_killed_loses_no_key(fault, tmp_path):
    """Every key is there. An older value may be back: a known limit, counted in docs/reliability.md.

    Its archive() has the old archive open, and unpacks an old value of a key as a loose file just after
    the fold took the newer loose file of it away. Nothing tells that file from a new write but its mtime.
    """
    container, older = tmp_path / "x.ampdb", 0
    write_loose(container, {"base": [1]})
    command = [sys.executable, "-m", "ampstore", "migrate", container, "--remove-source", "--jobs", "1"]
    writer = start([sys.executable, "-c", LEGACY, container, fault.times(60, 200)])
    try:
        while writer.poll() is None:
            process = start(command)
            time.sleep(fault.random.uniform(0.2, 3.0))
            kill(process)
            fault.injected()
    finally:
        ended = finish(writer, 600)
        kill(writer)
    if ended.code:
        fault.wrong(f"the legacy program ended with {ended.code}: {ended.errors[-500:]}")
    if (last := run(command, 120)).code:
        fault.wrong(f"the last run ended with {last.code}: {last.errors[-500:]}")
    with ampstore.FileDatabase(container) as database:
        for key, round_ in (pair.split(":") for pair in ended.output.split()):
            found = database.get(f"live{key}", [None])[0]
            if found is None:
                fault.lost(f"live{key}")
            elif found != int(round_):
                older += 1
        fault.fact(known_limit="keys whose older value came back", count=older)
        if database["base"] != [1]:
            fault.wrong("base")
