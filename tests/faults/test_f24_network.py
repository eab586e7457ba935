"""F24: locks that the file system does not have, and file systems that several hosts share."""

import errno
import sys

import pytest

from faults.processes import run
from faults.sessions import Action, Call
from faults.shim import built

NFS, LUSTRE = 0x6969, 0x0BD00BD0
TIMEOUT = 0.05
LONGEST = 10  # s: a step waits for several locks, and a checkpoint for one second
SQLITES_OWN = 10.5  # s: how long SQLite tries by itself before it says "locking protocol", for each call that fails


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
@pytest.mark.fault(
    "F24", "flock or fcntl locks fail with ENOSYS, ENOLCK, EOPNOTSUPP, always, once, or from the N-th on"
)
def test_without_locks_nothing_is_written_and_nobody_waits_for_ever(fault, sessions, error):
    """One of ampstore's errors within the time-out, at each step."""
    # SQLite takes ENOLCK of fcntl for a lock that is held, so that each of some 60 statements waits its time-out.
    for kind in (Call.FLOCK, Call.LOCK) if fault.long or error != errno.ENOLCK else (Call.FLOCK,):
        whole = int(sessions.play("container", calls=kind)["calls"])
        for at in [1] + [fault.random.randrange(1, whole + 1) for _ in range(fault.times(0, 6))]:
            for again in (True, False) if fault.long else (True,):
                options = {"timeout": TIMEOUT}
                answer = sessions.play("container", Action.FAIL, kind, at, error, again, options=options, timeout=300)
                case = f"{errno.errorcode[error]} of {kind.name} at {at}{' and on' if again else ''}"
                longest = LONGEST + SQLITES_OWN * len(answer["errors"]) * (kind == Call.LOCK)
                if answer["code"] is None or answer["slowest"] > longest:
                    fault.hung(f"{case}: {answer}")
                elif answer["code"]:
                    fault.wrong(f"{case}: {answer['errors'][-1][-1500:]}")
                fault.injected()
                verdict = sessions.judge("container")
                verdict.notes = [f"{case}: {note}" for note in verdict.notes]
                fault.judged(verdict)
    fault.fact(error=errno.errorcode[error])


@pytest.mark.fault("F24", "ESTALE at the N-th read, write, open or rename, once and from N on, as NFS gives it")
def test_a_stale_handle_is_an_error_of_ours(fault, sessions):
    """Nothing that was acknowledged before is lost."""
    kind = Call.READ | Call.WRITE | Call.OPEN | Call.NAME
    whole = int(sessions.play("container", calls=kind)["calls"])
    for at in fault.some(range(1, whole + 1), 3, 60):
        for again in (False, True):
            answer = sessions.play("container", Action.FAIL, kind, at, errno.ESTALE, again)
            case = f"ESTALE at {at}{' and on' if again else ''}"
            if answer["code"] is None:
                fault.hung(case)
            elif answer["code"]:
                fault.wrong(f"{case}: {answer['errors'][-1][-1500:]}")
            fault.injected()
            verdict = sessions.judge("container")
            verdict.notes = [f"{case}: {note}" for note in verdict.notes]
            fault.judged(verdict)


PROBE = """
import sys
from faults.shim import Shim
from ampstore.filesystem import file_system
Shim().arm(sys.argv[1], 0, 0)
Shim().filesystem(int(sys.argv[2]))
print(file_system(sys.argv[1]))
"""


@pytest.mark.parametrize(("magic", "name"), [(NFS, "nfs"), (LUSTRE, "lustre")])
@pytest.mark.fault("F24", "statfs says NFS or Lustre")
def test_a_shared_file_system_is_known(fault, elsewhere, magic, name):
    """Through libc's statfs, which the shim answers."""
    ended = run([sys.executable, "-c", PROBE, elsewhere, magic], LD_PRELOAD=str(built()))
    fault.injected()
    if f"name={name!r}, shared=True" not in ended.output:
        fault.wrong(f"{ended.output} {ended.errors}")
