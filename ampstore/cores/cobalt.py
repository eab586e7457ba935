"""Cobalt: COBALT_NODEFILE lists nodes, which are given as a whole, and tells nothing of their cores.

They are taken to be like this one, if it is one of them. The compute nodes of Cray and Blue Gene
machines, where there is only COBALT_PARTNAME, are out of reach for a script.
"""

from ampstore.cores.job import Hosts, Job, once_each
from ampstore.cores.machine import usable_cores
from ampstore.errors import AllocationError


def hosts(job: Job) -> Hosts | None:
    """Hosts of a Cobalt job, with the cores of this one, None if this is none."""
    if job.has("COBALT_NODEFILE"):
        found = once_each((line.split()[0] for line in job.lines("COBALT_NODEFILE")), "COBALT_NODEFILE")
        if set(found.values()) != {1}:
            return found
        if any(map(job.is_here, found)):
            return dict.fromkeys(found, usable_cores(job.reader))
        raise AllocationError("COBALT_NODEFILE", "its file tells no cores, and this host is not in it")
    if job.has("COBALT_JOBID", "COBALT_PARTNAME"):
        raise AllocationError("COBALT_NODEFILE", "it is not set; compute nodes of this machine take only `aprun`")
    return None
