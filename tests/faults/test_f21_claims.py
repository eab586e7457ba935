"""F21 and F22: clocks that jump by years, claimants that are stopped, killed and many."""

import os
import signal
import time

import pytest
import test_claims

import ampstore
from faults.processes import finish, kill, python, shim, start

CLOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
/* Wall clocks are off by what the file AMPSTORE_CLOCK says, in seconds, at this moment. */
static long offset(void) {
    static __thread int inside;
    long seconds = 0;
    const char *name = getenv("AMPSTORE_CLOCK");
    if (inside || !name) return 0;
    inside = 1;
    FILE *file = fopen(name, "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    inside = 0;
    return seconds;
}
int clock_gettime(clockid_t id, struct timespec *found) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, found);
    if (!result && id == CLOCK_REALTIME) found->tv_sec += offset();
    return result;
}
int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    static int (*real)(struct timeval *restrict, void *restrict);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(found, zone);
    if (!result) found->tv_sec += offset();
    return result;
}
time_t time(time_t *found) {
    static time_t (*real)(time_t *);
    if (!real) real = dlsym(RTLD_NEXT, "time");
    time_t result = real(0) + offset();
    if (found) *found = result;
    return result;
}
"""
YEARS = 10 * 365 * 86400


def calculations(path):
    """Lines of the common log of all claimants: key, owner, what became of the result."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def judge_claims(fault, path, log, keys):
    """Every key has the value of one owner, whole; every result but the stored one was fenced; no claim is left."""
    with ampstore.Store(path) as store:
        lines = calculations(log)
        for key in keys:
            stored = [owner for name, owner, what in lines if name == key and what == "stored"]
            if key not in store:
                fault.lost(f"{key} was never calculated")
            elif len(stored) != 1 or store[key] != [stored[0]] * 50:
                fault.wrong(f"{key} was stored by {stored}, holds {store[key]!r}")
        if list(store.verify()):
            fault.wrong("verify")


@pytest.mark.fault("F21", "wall clocks of claimants jump by up to 10 years, forwards and backwards, while they work")
def test_no_jump_of_a_clock_doubles_or_blocks_a_claim(fault, tmp_path, elsewhere):
    """Each key is calculated by one claimant, while none is killed; none waits for ever."""
    library = shim(CLOCKS, elsewhere)
    for number in range(fault.times(1, 20)):
        path, log = tmp_path / f"{number}.db", elsewhere / f"log{number}"
        ampstore.Store(path).close()
        clocks = [elsewhere / f"clock{number}-{n}" for n in range(4)]
        for clock in clocks:
            clock.write_text(str(fault.random.choice((-YEARS, 0, 0, YEARS))))
        keys = [f"k{n}" for n in range(60)]
        claimants = [
            start(python("claimant", path, log, 60, 0.01, 60), LD_PRELOAD=library, AMPSTORE_CLOCK=str(clock))
            for clock in clocks
        ]
        deadline = time.monotonic() + 90
        while any(claimant.poll() is None for claimant in claimants) and time.monotonic() < deadline:
            fault.random.choice(clocks).write_text(str(fault.random.randrange(-YEARS, YEARS)))
            fault.injected()
            time.sleep(0.02)
        for claimant in claimants:
            ended = finish(claimant, 5)
            if ended.hung:
                fault.hung("a claimant waits for a claim that nobody gives back")
            elif ended.code:
                fault.wrong(f"a claimant ended with {ended.code}: {ended.errors[-500:]}")
        judge_claims(fault, path, log, keys)
        if twice := len(calculations(log)) - len(keys):
            fault.wrong(f"{twice} keys were calculated twice")


@pytest.mark.fault("F22", "claimants stopped past their lease and continued, killed, replaced; 64 at once (long run)")
def test_each_image_is_stored_once_whatever_happens_to_its_claimants(fault, tmp_path, elsewhere):
    """A late result is the one that is stored, or is fenced; never half, never twice; nothing is left undone."""
    for number in range(fault.times(1, 2)):
        path, log = tmp_path / f"{number}.db", elsewhere / f"log{number}"
        ampstore.Store(path).close()
        keys = [f"k{n}" for n in range(40)]

        def begin(path=path, log=log):
            return start(python("claimant", path, log, 40, 0.05, 0.4))

        claimants = [begin() for _ in range(fault.times(5, 64))]
        deadline = time.monotonic() + fault.times(90, 600)
        stopped, injected = [], 0
        try:
            while any(claimant.poll() is None for claimant in claimants) and time.monotonic() < deadline:
                victim = fault.random.randrange(len(claimants))
                if claimants[victim].poll() is None and injected < fault.times(10, 200):
                    fault.injected()
                    injected += 1
                    if fault.random.random() < 0.3:
                        kill(claimants[victim])
                        claimants[victim] = begin()
                    else:
                        os.kill(claimants[victim].pid, signal.SIGSTOP)
                        stopped.append((time.monotonic() + fault.random.uniform(0.1, 1.0), claimants[victim].pid))
                time.sleep(0.3)
                for moment, pid in list(stopped):
                    if moment < time.monotonic():
                        stopped.remove((moment, pid))
                        resume(pid)
        finally:
            for _, pid in stopped:
                resume(pid)
        for claimant in claimants:
            ended = finish(claimant, 60)
            if ended.hung:
                fault.hung("a claimant")
            elif ended.code:
                fault.wrong(f"a claimant ended with {ended.code}: {ended.errors[-500:]}")
        judge_killed(fault, path, log, keys)


def resume(pid):
    """Continue a process, if it was not killed meanwhile."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


def judge_killed(fault, path, log, keys):
    """As `judge_claims`; who was killed between storing and writing the log has no line."""
    with ampstore.Store(path) as store:
        lines = calculations(log)
        for key in keys:
            stored = [owner for name, owner, what in lines if name == key and what == "stored"]
            if key not in store:
                fault.lost(f"{key} was never calculated")
            elif len(stored) > 1 or len(set(store[key])) != 1 or len(store[key]) != 50:
                fault.wrong(f"{key} was stored by {stored}, holds {store[key]!r}")
            elif stored and store[key][0] != stored[0]:
                fault.wrong(f"{key} is of {store[key][0]}, acknowledged to {stored}")


@pytest.mark.fault("F22", "claimants that start together on 400 keys")
def test_claimants_that_start_together_share_without_overlap(fault, tmp_path):
    """6 of them, 64 in the long run."""
    fault.injected(400)
    test_claims.test_every_key_is_claimed_once_by_many_processes(tmp_path, fault.times(6, 64))
