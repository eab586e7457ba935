"""LoadLeveler: the host of each task, in LOADL_PROCESSOR_LIST up to 128 tasks, or in the file LOADL_HOSTFILE."""

from ampstore.cores.job import Hosts, Job, once_each
from ampstore.errors import AllocationError


def hosts(job: Job) -> Hosts | None:
    """Hosts and tasks of a LoadLeveler job, None if this is none."""
    if job.has("LOADL_HOSTFILE"):
        return once_each(job.lines("LOADL_HOSTFILE"), "LOADL_HOSTFILE")
    if job.has("LOADL_PROCESSOR_LIST"):
        return once_each(job.text("LOADL_PROCESSOR_LIST").split(), "LOADL_PROCESSOR_LIST")
    if job.has("LOADL_STEP_ID"):
        raise AllocationError("LOADL_PROCESSOR_LIST", "neither it nor LOADL_HOSTFILE is set")
    return None
