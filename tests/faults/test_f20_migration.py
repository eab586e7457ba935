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
    rounds = fault.times(100, 3000)
    writer = start([sys.executable, "-c", WRITER, container / "loose", rounds])
    try:
        for _ in range(fault.times(5, 500)):
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
