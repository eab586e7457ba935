"""F5: the WAL and the -shm file are cut, overwritten, deleted, swapped or left behind."""

import os
import shutil

import pytest

import ampstore
from ampstore.errors import AmpstoreError
from faults.acknowledged import digest
from faults.processes import start

WRITER = """
import os, sys, time, ampstore
store = ampstore.Store(sys.argv[1])
for n in range(int(sys.argv[2]), int(sys.argv[2]) + 30):
    store[f"k{n % 40}"] = [f"value {n}", n] * 30
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Two moments of a store whose writer was killed with everything in the WAL, and what each commit left."""
    directory = tmp_path_factory.mktemp("killed")
    moments = []
    for first in (0, 30):
        process = start([os.sys.executable, "-c", WRITER, directory / "a.db", first])
        process.communicate(timeout=60)
        moment = directory / f"moment{first}"
        moment.mkdir()
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(directory / f"a.db{suffix}", moment / f"a.db{suffix}")
        moments.append(moment)
    states = [{}]
    for n in range(60):
        states.append({**states[-1], f"k{n % 40}": digest([f"value {n}", n] * 30)})
    return moments, states


def cut(path, chooser):
    os.truncate(path, chooser.randrange(os.path.getsize(path) + 1))


def garbage(path, chooser):
    size = os.path.getsize(path)
    offset = chooser.randrange(size)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(chooser.randbytes(min(size - offset, chooser.choice((1, 16, 512, 4096, size)))))


def zeros(path, chooser):
    with open(path, "r+b") as file:
        file.seek(chooser.randrange(os.path.getsize(path)))
        file.write(bytes(chooser.choice((8, 512, 4096))))


def delete(path, _):
    path.unlink()


def empty(path, _):
    os.truncate(path, 0)


def longer(path, chooser):
    with open(path, "ab") as file:
        file.write(chooser.randbytes(chooser.choice((1, 24, 4120, 9000))))


DAMAGES = {"cut": cut, "garbage": garbage, "zeros": zeros, "delete": delete, "empty": empty, "longer": longer}


def check(fault, path, states, case):
    """A prefix of the commits, or a clear error; then it goes on."""
    try:
        with ampstore.Store(path) as store:
            found = {key: digest(store[key]) for key in store}
            damage = list(store.verify())
            store["next"] = 1
    except AmpstoreError:
        return "told"
    except Exception as err:
        fault.wrong(f"{case}: {err!r}")
        return "raised"
    if found not in states and not damage:
        fault.wrong(f"{case}: a state that no commit left")
    return "prefix"


@pytest.mark.parametrize("target", ["-wal", "-shm"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.fault("F5", "a WAL or -shm file that is cut, overwritten, zeroed, deleted, emptied or longer")
def test_a_damaged_wal_gives_a_prefix_or_a_clear_error(fault, killed, elsewhere, target, damage):
    """A damaged -shm is built again and costs nothing; a damaged WAL ends before the damage."""
    moments, states = killed
    seen = {"told": 0, "prefix": 0, "raised": 0}
    for number in range(fault.times(4, 150)):
        place = elsewhere / "a"
        shutil.copytree(moments[1], place)
        DAMAGES[damage](place / f"a.db{target}", fault.random)
        wanted = states if target == "-wal" else states[-1:]
        seen[check(fault, place / "a.db", wanted, f"{damage} of {target}, {number}")] += 1
        fault.injected()
        shutil.rmtree(place)
    if target == "-shm" and seen["told"]:
        fault.wrong(f"a damaged -shm is no reason to refuse: {seen}")
    fault.fact(file=target, damage=damage)


@pytest.mark.fault("F5", "files of two moments mixed: main file, WAL and -shm swapped, a lone main file")
def test_files_of_two_moments_never_give_a_value_that_nobody_wrote(fault, killed, elsewhere):
    """A prefix of the commits, a clear error, or damage that `verify` names."""
    moments, states = killed
    for main in (0, 1):
        for wal in (None, 0, 1):
            for shm in (None, 0, 1):
                place = elsewhere / "a"
                place.mkdir()
                shutil.copy(moments[main] / "a.db", place)
                for suffix, which in (("-wal", wal), ("-shm", shm)):
                    if which is not None:
                        shutil.copy(moments[which] / f"a.db{suffix}", place)
                check(fault, place / "a.db", states, f"main {main}, WAL {wal}, shm {shm}")
                fault.injected()
                shutil.rmtree(place)
