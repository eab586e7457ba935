"""Grid Engine (Sun, Univa, Altair, Open): PE_HOSTFILE, lines of host, slots, queue, processors.

A host has a line for each of its queues, so slots are summed up. Without a parallel environment there is
no file, and NSLOTS is 1.
"""

from ampstore.cores.job import Hosts, Job, number, shown, tally
from ampstore.errors import AllocationError


def hosts(job: Job) -> Hosts | None:
    """Hosts and slots of a Grid Engine job, None if this is none."""
    if job.has("PE_HOSTFILE"):
        return tally(map(_slots, job.lines("PE_HOSTFILE")), "PE_HOSTFILE")
    if not (job.has("NSLOTS") and job.has("SGE_ROOT", "SGE_CELL", "SGE_TASK_ID", "SGE_O_HOST")):
        return None
    if (job.count("NHOSTS") or 1) > 1:
        raise AllocationError("PE_HOSTFILE", f"it is not set, though NHOSTS is {job.count('NHOSTS')}")
    return {"localhost": job.count("NSLOTS") or 1}


def _slots(line: str) -> tuple[str, int]:
    words = line.split()
    if len(words) < 2:
        raise AllocationError("PE_HOSTFILE", f"the line {shown(line)} of its file has no slots")
    return words[0], number(words[1], "PE_HOSTFILE")
