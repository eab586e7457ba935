"""F8: the disk gives errors, once or from some moment on, also from fsync."""

import errno

import pytest

from faults.sessions import Action, Call

KINDS = [Call.WRITE, Call.SYNC, Call.SIZE, Call.NAME, Call.OPEN, Call.READ, Call.CHANGES]


@pytest.mark.parametrize("session", ["store", "container"])
@pytest.mark.fault("F8", "EIO at the N-th read, write, sync, truncate, rename or open of a session, once and from N on")
def test_an_input_output_error_is_named_at_once_and_nothing_acknowledged_is_lost(fault, sessions, session):
    """Whatever returned is there afterwards; whatever raised, raised one of ampstore's errors."""
    raised = 0
    for kind in KINDS:
        whole = sessions.play(session, calls=kind)
        assert (whole["code"], whole["errors"]) == (0, []), whole
        every = range(1, int(whole["calls"]) + 1)
        for at in fault.some(every, 2 if session == "store" else 1, 40):
            for again in (False, True):
                answer = sessions.play(session, Action.FAIL, kind, at, errno.EIO, again, options={"durability": "full"})
                case = f"EIO at {kind!r} {at}{' and on' if again else ''}"
                if answer["code"] is None:
                    fault.hung(case)
                elif answer["code"]:
                    fault.wrong(f"{case}: {answer['errors'][-1][-1500:]}")
                fault.injected()
                raised += bool(answer["errors"])
                verdict = sessions.judge(session)
                verdict.notes = [f"{case}: {note}" for note in verdict.notes]
                fault.judged(verdict)
    fault.fact(session=session, told_by_an_error=raised)
    assert raised
