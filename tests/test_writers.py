"""Many writers of one store: in line, bounded, durable, and out of line when they are gone."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ampstore import Store
from ampstore.backend.turns import Turns
from ampstore.errors import BusyError, LostCommitsError, StorageError

HOLDER = """
import sys
from ampstore import Store
with Store(sys.argv[1]) as store, store.batch():
    store["held"] = 1
    print("inside", flush=True)
    sys.stdin.readline()
"""

WRITER = """
import sys, threading
from ampstore import Store
path, name, durability, count = sys.argv[1:]
store = Store(path, durability=durability)
sys.stdin.readline()
def write(key):
    for n in range(int(count)):
        store[key] = n
        if n % 10 == 0:
            store[f"{key}-{n}"] = n
        assert store[key] == n
threads = [threading.Thread(target=write, args=(f"{name}-{number}",)) for number in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
store.close()
"""


@pytest.fixture
def path(tmp_path):
    Store(tmp_path / "a.db").close()
    return tmp_path / "a.db"


@contextlib.contextmanager
def started(program, *arguments, before=()):
    """A Python process with pipes, killed if it is still there at the end."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def holder(path):
    """A process that is inside a batch."""
    with started(HOLDER, path) as process:
        assert process.stdout.readline() == "inside\n"
        yield process


def run_writers(path, processes, count, durability="normal", before=()):
    """Let processes of two threads each write at once; what they said on stderr."""
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(started(WRITER, path, number, durability, count, before=before))
            for number in range(processes)
        ]
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        return [error for writer in writers if (error := writer.communicate(timeout=120)[1])]


def numbers(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("select count(*) from entry").fetchone()[0]


# -- in line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "count"), [("normal", 100), ("full", 20)])
def test_eight_processes_of_two_threads_lose_nothing_and_keep_the_order_of_each_key(path, durability, count):
    """No BusyError, every thread reads its own last write, every entry is there."""
    assert run_writers(path, 8, count, durability) == []
    with Store(path, "r") as store:
        assert {key: store[key] for key in store if key.count("-") == 1} == {
            f"{number}-{thread}": count - 1 for number in range(8) for thread in range(2)
        }
        assert len(store) == 16 + 16 * (count // 10)
        assert list(store.verify()) == []


def test_plain_sqlite3_writes_beside_us_and_nobody_fails(path):
    """It knows nothing of the queue; SQLite's own lock keeps it apart."""
    with started(WRITER, path, 0, "normal", 200) as writer:
        writer.stdin.write("go\n")
        writer.stdin.flush()
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
            for n in range(100):
                connection.execute("insert or replace into info values (?, ?)", (f"note {n}", str(n)))
        assert writer.communicate(timeout=60)[1] == ""
    with Store(path, "r") as store:
        assert len(store) == 2 + 2 * 20
        assert store.noted("note 99") == "99"


def test_threads_of_one_store_wait_for_one_another(path):
    """A set of one thread comes after the batch of another."""
    with Store(path) as store, ThreadPoolExecutor(1) as other:
        with store.batch():
            store["a"] = 1
            late = other.submit(store.__setitem__, "a", 2)
            store["a"] = 3
        late.result(timeout=60)
        assert store["a"] == 2


def test_a_queue_leaves_no_file_behind(path, holder):
    """The lock is on the WAL, which goes with the last who has the store open."""
    with Store(path, timeout=0.1) as store, pytest.raises(BusyError):
        store["a"] = 1
    assert {file.name for file in path.parent.iterdir()} == {"a.db", "a.db-wal", "a.db-shm"}
    holder.communicate("done\n", timeout=30)
    with Store(path) as store:
        assert store["held"] == 1
    assert {file.name for file in path.parent.iterdir()} == {"a.db"}


def test_reading_takes_no_turn(path, holder):
    """Get, len and iteration beside a batch that is held open."""
    with Store(path, timeout=0.1) as store:
        assert (list(store), len(store), store.get("held")) == ([], 0, None)


# -- bounded -----------------------------------------------------------------------------------


def test_a_stopped_holder_costs_the_time_out_and_no_more(path, holder):
    """Stopped in the middle of a batch: BusyError; when it goes on, so do we."""
    holder.send_signal(signal.SIGSTOP)
    with Store(path, timeout=0.3) as store:
        for _ in range(2):
            with pytest.raises(BusyError, match=r"held the store for 0\.3 s; try again"):
                store["a"] = 1
        with pytest.raises(BusyError), store.batch():
            pass
        holder.send_signal(signal.SIGCONT)
        holder.communicate("done\n", timeout=30)
        store["a"] = 2
        assert dict(store) == {"held": 1, "a": 2}


def test_threads_behind_a_stopped_holder_all_end_with_busy_error(path, holder):
    """One stands in line for the process, the others behind it."""
    holder.send_signal(signal.SIGSTOP)
    with Store(path, timeout=0.3) as store, ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(store.__setitem__, str(n), n) for n in range(8)]:
            with pytest.raises(BusyError):
                future.result(timeout=60)


def test_who_gave_up_does_not_keep_the_turn_that_comes_later(path, holder):
    """Its place in the queue comes to an end by itself: a third process writes."""
    with Store(path, timeout=0.1) as store:
        with pytest.raises(BusyError):
            store["a"] = 1
        holder.communicate("done\n", timeout=30)
        assert run_writers(path, 1, 10) == []
        store["a"] = 2
    assert numbers(path) == 1 + 4 + 1


def test_a_killed_holder_frees_the_lock(path, holder):
    """Its batch is gone, and who waited goes on."""
    with Store(path) as store, ThreadPoolExecutor(1) as waiter:
        waiting = waiter.submit(store.__setitem__, "a", 1)
        holder.kill()
        waiting.result(timeout=60)
        assert dict(store) == {"a": 1}


def test_a_queue_that_does_not_move_is_passed_by(path):
    """Whoever is at its head was stopped there, but does not hold SQLite's lock."""
    with Store(path, timeout=1) as store:
        store["a"] = 1
        with open(f"{path}-wal") as head:
            fcntl.flock(head, fcntl.LOCK_EX)
            store["a"] = 2
            with store.batch():
                store["b"] = 3
        store["c"] = 4
        assert dict(store) == {"a": 2, "b": 3, "c": 4}


@pytest.fixture
def two(tmp_path):
    """Two places in one queue, as of two processes, and a thread that has turn after turn at the second."""
    wal = tmp_path / "a.db-wal"
    wal.touch()
    first, second, over = Turns(str(wal)), Turns(str(wal)), threading.Event()

    def have_turns():
        while not over.is_set():
            second.enter(30)
            second.leave()

    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(have_turns)
        yield first, second
        over.set()
        busy.result(timeout=60)
    first.close()
    second.close()


def test_a_writer_without_pause_keeps_the_lock_and_the_other_gets_it_all_the_same(two):
    """Turn after turn of both, some of them without giving the lock away."""
    first, _ = two
    kept = waited = 0
    for _ in range(1_000_000):
        waited += first.enter(30) > 0
        first.leave()
        kept += first._line.is_kept
        if kept > 100 and waited > 10:
            break
    assert kept > 100
    assert waited > 10


def test_a_writer_that_pauses_does_not_keep_the_lock(two):
    """A helper takes it, so that the other has its turns."""
    first, second = two
    while not first._line or not first._line.is_kept:
        first.enter(30)
        first.leave()
    with ThreadPoolExecutor(1) as waiter:
        assert waiter.submit(second.enter, 30).result(timeout=60) < 1  # the queue would be passed by after 2 s
        waiter.submit(second.leave).result(timeout=60)
    assert not first._line.is_kept


FORKER = """
import os, sys
from ampstore import Store
store = Store(sys.argv[1])
with store.batch():
    store["held"] = 1
    if not (child := os.fork()):
        os.read(0, 1)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
"""


def test_a_child_that_was_forked_in_a_batch_does_not_hold_the_lock_of_its_dead_parent(path):
    """The descriptor that it inherited is closed."""
    with started(FORKER, path) as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait(timeout=30)
        try:
            os.kill(child, 0)
            with Store(path, timeout=20) as store:
                store["a"] = 1
                assert dict(store) == {"a": 1}
        finally:
            os.kill(child, signal.SIGKILL)


INTERRUPTED = """
import random, signal, sys
from ampstore import Store
store = Store(sys.argv[1], durability=sys.argv[2])
random.seed(int(sys.argv[3]))
signal.signal(signal.SIGALRM, signal.default_int_handler)
hits = n = 0
while hits < 150:
    try:
        # again after a while: one that comes in a weak reference's callback, as imports have, is only printed
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3), 0.1)
        while True:
            n += 1
            if n % 3: store[str(n % 50)] = n
            else:
                with store.batch():
                    store[str(n % 50)] = n
    except KeyboardInterrupt:
        hits += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print("done", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_interrupts_anywhere_leave_no_lock_and_no_transaction(path, durability):
    """A hundred and fifty Ctrl-C while it writes; afterwards another process writes beside it."""
    with started(INTERRUPTED, path, durability, 7) as process:
        assert process.stdout.readline() == "done\n", process.communicate()[1]
        with Store(path, timeout=20) as store:
            store["other"] = 1
            assert list(store.verify()) == []


# -- where there is no lock --------------------------------------------------------------------


needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@needs_strace
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS"])
def test_without_flock_writers_try_again_at_random(path, error):
    """As on file systems that know no such lock: slower, but no error and nothing lost."""
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", f"inject=flock:error={error}"]
    assert run_writers(path, 3, 20, before=strace) == []
    assert numbers(path) == 6 + 6 * 2


@needs_strace
def test_without_flock_a_wait_is_bounded_too(path, holder):
    """BusyError comes from SQLite's lock then."""
    program = "import sys\nfrom ampstore import Store\nStore(sys.argv[1], timeout=0.2)['a'] = 1"
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]
    done = subprocess.run(
        [*strace, sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert "BusyError" in done.stderr


def test_a_store_without_a_wal_is_written_in_turns_too(path):
    """As on a network file system: rollback journal, SQLite's own locks."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma journal_mode=delete").fetchone() == ("delete",)
    assert run_writers(path, 2, 10, "full") == []
    assert numbers(path) == 4 + 4


# -- group commit ------------------------------------------------------------------------------


GROUP = """
import sys, threading
from ampstore import Store
store = Store(sys.argv[1], durability="full")
store["first"] = 0
ready = threading.Barrier(8)
def write(number):
    ready.wait()
    for n in range(20): store[f"{number}-{n}"] = n
threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@needs_strace
def test_threads_share_syncs_and_no_commit_goes_without(path, tmp_path):
    """160 commits in fewer syncs; after the last write to the WAL there is one."""
    log = tmp_path / "calls"
    command = ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=fdatasync,pwrite64"]
    # A slow disk, so that commits come while one sync is under way.
    command += ["-e", "inject=fdatasync:delay_exit=5000"]
    subprocess.run([*command, sys.executable, "-c", GROUP, path], check=True, timeout=120)
    calls = re.findall(r"(fdatasync|pwrite64)\(\d+<[^>]*-wal>", log.read_text())
    assert 20 <= calls.count("fdatasync") < 120
    assert calls[-1] == "fdatasync"
    assert numbers(path) == 161


FAILING = """
import sys
from ampstore import Store
from ampstore.backend.turns import Turns
from ampstore.errors import StorageError
store = Store(sys.argv[1], durability="full")
for n in range(8):
    try:
        store[str(n)] = 1
        print("good")
    except StorageError as err:
        print("fsync failed" in str(err) and "open it again" in str(err))
"""


@needs_strace
def test_after_a_sync_that_failed_no_commit_is_called_durable(path):
    """The kernel forgets what it could not write, so a later sync that succeeds says nothing."""
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync"]
    command += ["-e", "inject=fdatasync:error=EIO:when=5"]
    done = subprocess.run(
        [*command, sys.executable, "-c", FAILING, path], capture_output=True, text=True, timeout=60, check=True
    )
    said = done.stdout.split()
    assert 1 <= said.count("good") < 8
    assert said == ["good"] * said.count("good") + ["True"] * said.count("True")
    with Store(path, durability="full") as store:
        store["after"] = 1


@needs_strace
def test_after_a_sync_that_failed_the_wal_is_written_again_before_anything_relies_on_it(path, tmp_path):
    """A checkpoint whose sync says yes about a WAL with a gap damages the store if the power goes in its midst."""
    log = tmp_path / "calls"
    command = ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=fdatasync,pwrite64"]
    command += ["-e", "inject=fdatasync:error=EIO:when=5"]
    subprocess.run([*command, sys.executable, "-c", FAILING, path], check=True, timeout=60, capture_output=True)
    calls = [line.split(" ", 1)[1].strip() for line in log.read_text().splitlines() if f"{path}-wal>" in line]
    failed = next(n for n, call in enumerate(calls) if "EIO" in call)
    ends = [sum(map(int, re.findall(r", (\d+), (\d+)\) = ", call)[0])) for call in calls[:failed] if "pwrite" in call]
    again, synced = calls[failed + 1 : failed + 3]
    assert re.fullmatch(rf"pwrite64\(.*, {max(ends)}, 0\) += {max(ends)}", again), again
    assert re.fullmatch(r"fdatasync\(.*\) += 0", synced), synced


def test_an_error_of_the_disk_reaches_every_thread_of_the_group(path, monkeypatch):
    """Followers hear of the leader's failure."""
    ready = threading.Barrier(4)

    def fail(_):
        raise OSError(5, "Input/output error")

    def write(store, number):
        ready.wait()
        store[str(number)] = number

    with Store(path, durability="full") as store, ThreadPoolExecutor(4) as threads:
        monkeypatch.setattr(os, "fdatasync", fail)
        for future in [threads.submit(write, store, n) for n in range(4)]:
            with pytest.raises(StorageError, match="check the disk"):
                future.result(timeout=60)


# -- nothing left ------------------------------------------------------------------------------


def tasks():
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_closed_store_leaves_no_thread_and_no_descriptor(path, holder):
    """Neither who waits in vain nor who waits for a second."""
    before = tasks()
    with Store(path, timeout=0.1) as store:
        with pytest.raises(BusyError):
            store["a"] = 1
        assert tasks() == before + 1
    holder.communicate("done\n", timeout=30)
    while tasks() > before:  # the test's own time-out bounds it
        os.sched_yield()
    assert not [name for name in os.listdir("/proc/self/fd") if "a.db" in _target(name)]


def _target(name):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{name}")
    return ""


# -- how many ----------------------------------------------------------------------------------


def test_len_is_right_whatever_happens_to_the_rows(path):
    """Own writes, rolled back ones, other handles, other threads; after plain sqlite3 wrote, once counted again."""
    with (
        Store(path) as store,
        Store(path, "r") as reader,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as plain,
        ThreadPoolExecutor(1) as thread,
    ):

        def lengths():
            return {len(store), len(reader), thread.submit(len, store).result(timeout=60)}

        store.update({str(n): n for n in range(10)})
        assert lengths() == {10}
        store["0"] = "other"
        del store["9"]
        assert lengths() == {9}
        with pytest.raises(KeyError), store.batch():
            store["new"] = 1
            assert len(store) == 10
            del store["nothing"]
        assert lengths() == {9}
        plain.execute(
            "insert or replace into entry select 99, '1', codec, kind, size, checksum, 0, payload from entry limit 1"
        )
        plain.execute("update entry set key = 'renamed' where key = '2'")
        plain.execute("delete from entry where key = '3'")
        assert [damage.reason for damage in store.verify() if "compact" in damage.reason]
        store.compact()
        assert lengths() == {8}
        assert store.rename("4", "four")
        assert lengths() == {8}
        store.clear()
        assert lengths() == {0}


def test_len_does_not_count(path):
    """As SQLite's own trace of statements shows; a store without a tally is counted again only after somebody wrote."""
    asked = []

    def counts():
        return sum("count(" in statement for statement in asked)

    with Store(path) as store, Store(path) as other:
        store["a"] = 1
        store._backend.connection().set_trace_callback(asked.append)
        for number in range(5):
            other[str(number)] = 1
            assert len(store) == 2 + number
        assert counts() == 0
        other.backend.info_delete("gaps")
        for _ in range(5):
            assert len(store) == 6
        assert counts() == 1
        other["b"] = 1
        assert len(store) == 7
        assert counts() == 2


# -- loss and older copies ---------------------------------------------------------------------


@pytest.fixture
def counted(path):
    """A store with three durable commits, and an older copy of it with one."""
    with Store(path, durability="full") as store:
        store["a"] = 1
        store.backup(path.with_name("older.db"))
        store["b"] = 2
        store["c"] = 3
    return path


def test_an_older_copy_in_the_place_of_a_store_is_noticed_and_can_be_accepted(counted):
    """By verify and by the next write of either durability; reading goes on."""
    os.replace(counted.with_name("older.db"), counted)
    for durability in ("normal", "full"):
        with Store(counted, durability=durability) as store:
            for _ in range(2):
                with pytest.raises(LostCommitsError, match="had 1 durable commits.* says 3.* remove that file"):
                    store["d"] = 4
            with pytest.raises(LostCommitsError), store.batch():
                pass
            assert dict(store) == {"a": 1}
            assert ["older copy" in damage.reason for damage in store.verify()] == [True]
    os.unlink(f"{counted}-commits")
    with Store(counted, durability="full") as store:
        store["d"] = 4
        assert dict(store) == {"a": 1, "d": 4}
        assert list(store.verify()) == []


DYING = """
import os, sys
from ampstore import Store
store = Store(sys.argv[1], durability="full")
store["lost"] = 1
os._exit(0)
"""


def test_acknowledged_commits_that_went_with_the_wal_are_noticed(counted):
    """Somebody deletes the WAL that a killed writer left."""
    subprocess.run([sys.executable, "-c", DYING, counted], check=True, timeout=60)
    os.unlink(f"{counted}-wal")
    with Store(counted) as store:
        assert "lost" not in store
        with pytest.raises(LostCommitsError):
            store["d"] = 4


def test_a_handle_that_is_open_notices_too(counted):
    """Every durable commit looks; its transaction is taken back."""
    with Store(counted, durability="full") as store:
        store["d"] = 4
        witness = Path(f"{counted}-commits")
        witness.write_text(witness.read_text().replace(" 4 ", " 9 "))
        with pytest.raises(LostCommitsError):
            store["e"] = 5
        assert "e" not in store


def test_what_is_no_loss_raises_no_alarm(counted, tmp_path):
    """Copies, moves, other stores, writers that count nothing, and a witness that is behind or damaged."""
    copy = tmp_path / "moved" / "b.db"
    copy.parent.mkdir()
    shutil.copy(counted, copy)
    witness = Path(f"{counted}-commits")
    behind = witness.read_bytes()
    with contextlib.closing(sqlite3.connect(counted, isolation_level=None)) as plain:
        plain.execute("delete from entry where key = 'a'")
        plain.execute("update info set value = value + 1 where name = 'gaps'")
    for place, note in ((copy, None), (counted, behind), (counted, b"\xff nonsense 99 99"), (counted, b"")):
        if note is not None:
            witness.write_bytes(note)
        for durability in ("normal", "full"):
            with Store(place, durability=durability) as store:
                store[f"by {durability}"] = os.urandom(8)
                assert list(store.verify()) == []
    other = tmp_path / "other.db"
    Store(other).close()
    os.replace(other, counted)
    with Store(counted, durability="full") as store:
        store["x"] = 1
        assert list(store.verify()) == []


def test_restoring_a_backup_is_no_loss_and_mends_one(counted):
    """An older one that was asked for, and one in the place of a store that lost commits."""
    from ampstore.transfer import restore

    older = counted.with_name("older.db")
    restore(older, counted)
    with Store(counted, durability="full") as store:
        store.update({"d": 4, "e": 5})
        store["f"] = 6
        newer = store.backup(counted.with_name("newer.db"))
    os.replace(older, counted)
    restore(newer, counted)
    with Store(counted, durability="full") as store:
        store["g"] = 7
        assert store.keys() == {"a", "d", "e", "f", "g"}


def test_durability_normal_keeps_no_witness(path):
    """One file, as ever."""
    with Store(path) as store:
        store["a"] = 1
    assert os.listdir(path.parent) == ["a.db"]
