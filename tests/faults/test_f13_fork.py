"""F13: fork, spawn and forkserver: in a transaction, during iteration, from a thread."""

import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest

import ampstore
from faults.acknowledged import Acknowledged
from faults.judge import Verdict, judge

TIMEOUT = 60


def use(opened, name):
    """What a child does with the store that it inherited, or was sent."""
    seen = dict(opened.items())
    opened[name] = ["child", name]
    with opened.batch():
        opened[f"{name}-batch"] = [opened[name]] * 3
    assert opened[name] == ["child", name]
    assert set(opened) >= {*seen, name, f"{name}-batch"}
    opened.close()


def forked(opened, name, fault):
    """Fork here and now; the child uses the store and ends like any program."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            use(opened, name)
            code = 0
        except ampstore.StoreError as err:
            code = 3 if "was forked while" in str(err) else 1
        except BaseException as err:
            print(f"child {name}: {err!r}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    deadline = time.monotonic() + TIMEOUT
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            fault.hung(f"the child of {name}")
            return
        time.sleep(0.005)
    fault.injected()
    if os.waitstatus_to_exitcode(status) == 3 and "busy" in name:
        fault.fact(refused=fault.facts.get("refused", 0) + 1)
    elif status:
        fault.wrong(f"the child of {name} ended with status {status}")


def started(method, opened, name, fault):
    """Start a child by multiprocessing, with the store among its arguments."""
    process = multiprocessing.get_context(method).Process(target=use, args=(opened, name))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        fault.hung(f"the {method} child of {name}")
    fault.injected()
    if process.exitcode:
        fault.wrong(f"the {method} child of {name} ended with {process.exitcode}")
    process.close()


@pytest.mark.fault("F13", "fork, spawn, forkserver: plain, while iterating, from a thread, beside writing threads")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 warns of forks beside threads; that is the fault
def test_children_work_and_parents_do_not_notice(fault, tmp_path, elsewhere, method):
    """Whatever the parent is doing, the child reads and writes, and the parent goes on as if nothing had been."""
    path, log = tmp_path / "a.db", Acknowledged(elsewhere / "log")
    rounds = fault.times(3 if method == "fork" else 1, 10)
    store = ampstore.Store(path)

    def write(key, value):
        with log.writing({key: value}):
            store[key] = value

    def child(name):
        promised = {name: None, f"{name}-batch": None}
        if method == "fork":
            forked(store, name, fault)
        else:
            started(method, store, name, fault)
        promised = {key: store[key] for key in promised}
        log.begin(promised)
        log.done(promised)

    for n in range(200):
        write(f"k{n}", [n] * 20)
    for number in range(rounds):
        child(f"{method}{number}-plain")
        iterator = iter(store.items())
        first = next(iterator)
        child(f"{method}{number}-iterating")
        rest = dict(iterator)
        if {first[0], *rest} < {f"k{n}" for n in range(200)}:
            fault.wrong("the parent's iteration lost entries")
        thread = threading.Thread(target=child, args=(f"{method}{number}-thread",))
        thread.start()
        thread.join()
        stop = threading.Event()

        def busy(name, stop=stop):
            count = 0
            while not stop.is_set():
                write(name, count)
                count += 1

        if method == "fork":
            # Forked while other threads hold whatever they hold: only the child's own locks may matter to it.
            logs = [threading.Thread(target=busy, args=(f"busy{n}",)) for n in range(3)]
            for each in logs:
                each.start()
            for again in range(5):
                forked(store, f"{method}{number}-busy{again}", fault)
            stop.set()
            for each in logs:
                each.join()
            extra = {key: store[key] for key in store if f"{number}-busy" in key}
            log.begin(extra)
            log.done(extra)
    store.close()
    fault.judged(judge(path, [elsewhere / "log"]))


@pytest.mark.fault("F13", "fork inside a transaction; the child uses the store in it")
def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(fault, tmp_path, elsewhere):
    """The child is refused the file by name, whose locks it shares; the parent's commit is whole."""
    path, log = tmp_path / "a.db", Acknowledged(elsewhere / "log")
    store = ampstore.Store(path, timeout=2)
    for number in range(fault.times(10, 200)):
        values = {f"{number}-a": number, f"{number}-b": [number] * 5}
        with log.writing(values):
            with store.batch():
                store[f"{number}-a"] = number
                pid = os.fork()
                if pid == 0:
                    refused = 0
                    for use in (lambda: store["child"], lambda: store.update(child=1), lambda: ampstore.Store(path)):
                        try:
                            use()
                        except ampstore.StoreError as err:
                            refused += "was forked while a transaction was open" in str(err)
                        except BaseException:
                            pass
                    os._exit(refused != 3)
                if os.waitpid(pid, 0)[1]:
                    fault.wrong(f"the child of transaction {number} was not refused")
                fault.injected()
                store[f"{number}-b"] = [number] * 5
    store.close()
    verdict = judge(path, [elsewhere / "log"], together=lambda key: key.replace("-a", "-b"))
    assert isinstance(verdict, Verdict)
    fault.judged(verdict)


@pytest.mark.fault("F13", "fork of an open container")
def test_a_container_works_on_both_sides_of_a_fork(fault, tmp_path, elsewhere):
    """Child and parent write, fold and read one container at once."""
    path, log = tmp_path / "a.ampdb", Acknowledged(elsewhere / "log")
    database = ampstore.FileDatabase(path)
    database["before"] = 1
    log.begin({"before": 1})
    log.done({"before": 1})
    for number in range(fault.times(5, 100)):
        pid = os.fork()
        if pid == 0:
            child = Acknowledged(elsewhere / f"child{number}")
            code = 1
            try:
                with child.writing({f"child{number}": [number]}):
                    database[f"child{number}"] = [number]
                database.archive()
                code = 0
            finally:
                os._exit(code)
        fault.injected()
        with log.writing({f"parent{number}": [number]}):
            database[f"parent{number}"] = [number]
        if os.waitpid(pid, 0)[1]:
            fault.wrong(f"child {number} failed")
    database.close()
    fault.judged(judge(path, list(elsewhere.iterdir())))
