"""F2: killed at every call that changes something on the disk."""

import re
from collections import Counter

import pytest

from faults.judge import Verdict, judge
from faults.processes import python, run, strace
from faults.sessions import Action, Call


@pytest.mark.parametrize("session", ["store", "container"])
@pytest.mark.fault(
    "F2", "SIGKILL at every write, sync, truncate, rename, link and unlink of a session, before it or in it"
)
def test_a_kill_at_any_call_loses_nothing(fault, sessions, session):
    """Killed before the call, or after half of the write: what was acknowledged is there, the rest whole or absent."""
    whole = sessions.play(session)
    assert (whole["code"], whole["errors"]) == (0, []), whole
    fault.judged(sessions.judge(session))
    every = range(1, int(whole["calls"]) + 1)
    step = 1 if fault.long else max(1, len(every) // 14)
    for at in every[fault.random.randrange(step) :: step]:
        for action, calls in ((Action.KILL, Call.CHANGES), (Action.TEAR, Call.WRITE)):
            answer = sessions.play(session, action, calls, at)
            if answer["code"] is None:
                fault.hung(f"{session} killed at {at}")
            if answer["code"] == 0 and action == Action.TEAR:
                break  # fewer writes than calls
            if answer["code"] != -9:
                fault.wrong(f"{action.name} at {at}: {answer}")
            fault.injected()
            verdict = sessions.judge(session)
            verdict.notes = [f"{action.name} at {at}: {note}" for note in verdict.notes]
            fault.judged(verdict)
    fault.fact(session=session, calls=whole["calls"])


CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,rename,link,linkat,unlink,unlinkat"


@pytest.mark.fault("F2", "the same by strace: SIGKILL at the N-th system call")
def test_a_kill_by_the_kernel_loses_nothing(fault, tmp_path, elsewhere):
    """The shim sees what libc sees; this one sees what the kernel sees."""
    trace, log = elsewhere / "trace", elsewhere / "log"

    def play(number, *inject):
        directory = tmp_path / f"n{number}"
        directory.mkdir()
        log.unlink(missing_ok=True)
        command = [
            *strace(trace, "-e", f"trace={CALLS}", *inject),
            *python("single", "small", directory, log, fault.seed),
        ]
        return directory, run(command, 120)

    _, ended = play(0)
    assert ended.code == 0, ended.errors
    # strace counts each system call on its own: the N-th of every kind is hit, the first to come kills.
    calls = Counter(re.findall(r"(\w+)\(", trace.read_text()))
    every = range(1, max(calls[name] for name in CALLS.split(",")) + 1)
    for at in fault.some(every, 2, 20):
        directory, ended = play(at, "-e", f"inject={CALLS}:signal=SIGKILL:when={at}")
        if ended.hung:
            fault.hung(f"killed at {at}")
        if ended.code == 0:
            continue
        fault.injected()
        path = directory / "a.db"
        fault.judged(judge(path, [log]) if path.exists() or log.exists() else Verdict())
