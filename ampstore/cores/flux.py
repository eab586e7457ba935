"""Flux: its variables tell numbers of nodes and tasks, but no host.

The tasks of a job on one node are bound to its cores, so the affinity of this process tells them. For
more nodes, and in the initial program of `flux batch` and `flux alloc`, only Flux itself knows them.
"""

from ampstore.cores.job import Hosts, Job
from ampstore.cores.machine import usable_cores
from ampstore.errors import AllocationError

_ASK = "Flux tells the hosts to none but its own commands: `flux getattr hostlist`, `flux resource list`"


def hosts(job: Job) -> Hosts | None:
    """Cores of a Flux job on this host, None if this is none."""
    nodes = job.count("FLUX_JOB_NNODES")
    if nodes == 1:
        return {"localhost": usable_cores(job.reader)}
    if nodes is not None:
        raise AllocationError("FLUX_JOB_NNODES", f"the job has {nodes:,} nodes; {_ASK}")
    if job.has("FLUX_URI"):
        raise AllocationError("FLUX_URI", _ASK)
    return None
