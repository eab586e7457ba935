"""LSF and OpenLava: LSB_MCPU_HOSTS, pairs of host and slots.

LSB_HOSTS and the file LSB_DJOB_HOSTFILE have the host of each slot; the first is left out for large jobs.
"""

from ampstore.cores.job import Hosts, Job, number, once_each, shown, tally
from ampstore.errors import AllocationError


def hosts(job: Job) -> Hosts | None:
    """Hosts and slots of an LSF job, None if this is none."""
    if job.has("LSB_MCPU_HOSTS"):
        return _pairs(job.text("LSB_MCPU_HOSTS").split())
    if job.has("LSB_DJOB_HOSTFILE"):
        return once_each(job.lines("LSB_DJOB_HOSTFILE"), "LSB_DJOB_HOSTFILE")
    if job.has("LSB_HOSTS"):
        return once_each(job.text("LSB_HOSTS").split(), "LSB_HOSTS")
    if job.has("LSB_JOBID"):
        raise AllocationError("LSB_MCPU_HOSTS", "it is not set, though this is an LSF job")
    return None


def _pairs(words: list[str]) -> Hosts:
    variable = "LSB_MCPU_HOSTS"
    if len(words) % 2:
        raise AllocationError(variable, f"{shown(' '.join(words))} is no list of pairs of host and slots")
    pairs = zip(words[::2], words[1::2], strict=True)
    return tally(((host, number(slots, variable)) for host, slots in pairs), variable)
