"""OAR: OAR_NODEFILE, a line for each resource, which is a core on most clusters."""

from ampstore.cores.job import Hosts, Job, once_each
from ampstore.errors import AllocationError


def hosts(job: Job) -> Hosts | None:
    """Hosts and resources of an OAR job, None if this is none."""
    variable = job.first("OAR_NODEFILE", "OAR_NODE_FILE", "OAR_FILE_NODES", "OAR_RESOURCE_FILE")
    if variable:
        return once_each(job.lines(variable), variable)
    if job.has("OAR_JOB_ID", "OAR_JOBID"):
        raise AllocationError("OAR_NODEFILE", "it is not set, though this is an OAR job")
    return None
