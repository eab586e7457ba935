"""Who holds a claim or a lease: a process, named so that others of the same machine can see whether it has ended.

A host and a number of a process are not enough: numbers are used again, containers have numbers of their own, and
a name of a host may belong to several machines.
"""

import functools
import os


def new_owner() -> str:
    """Name of a new owner of claims: host:process:machine-start:random."""
    # Neither socket nor uuid: to import them takes a tenth of the time that it takes to open a store.
    return f"{os.uname().nodename}:{this_process()}:{os.urandom(16).hex()}"


def this_process() -> str:
    """What tells this process from all others of its machine: process:machine-start."""
    pid = os.getpid()
    return f"{pid}:{_machine()}-{_start_of(pid)}"


def has_ended(owner: str) -> bool:
    """Whether the process of an owner is known to have ended; False if that cannot be known here."""
    try:
        _, process, birth, _ = owner.rsplit(":", 3)
    except ValueError:
        return False
    return process_has_ended(f"{process}:{birth}")


def process_has_ended(process: str) -> bool:
    """Whether what `this_process` named is known to have ended; False if that cannot be known here."""
    try:
        pid, birth = process.split(":")
        machine, start = birth.split("-")
        number = int(pid)
    except ValueError:
        return False
    if not machine or machine != _machine():
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass  # another user's; /proc may hide it
    return _start_of(number) not in (start, None)


@functools.cache
def _machine() -> str:
    """Name of this boot of this machine and of the set of process numbers in it; "" if it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    from hashlib import blake2b

    return blake2b(f"{boot} {numbers}".encode(), digest_size=6).hexdigest()


def _start_of(pid: int) -> str | None:
    """When a process began, in ticks since boot; "" if only its exit status is left, None if it cannot be known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return "" if state in (b"Z", b"X") else fields[18].decode()
