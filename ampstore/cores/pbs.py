"""PBS (OpenPBS, PBS Professional) and Torque: PBS_NODEFILE, a line for each slot.

PBS Professional writes a line for each MPI process, and a chunk with no `mpiprocs` has one of them,
whatever its `ncpus`: NCPUS has the cores of a chunk, so it counts where every host is there only once.
"""

from ampstore.cores.job import Hosts, Job, once_each
from ampstore.errors import AllocationError


def hosts(job: Job) -> Hosts | None:
    """Hosts and cores of a PBS job, None if this is none."""
    if job.has("PBS_NODEFILE"):
        found = once_each((line.split()[0] for line in job.lines("PBS_NODEFILE")), "PBS_NODEFILE")
        each = job.count("NCPUS") or 1
        return dict.fromkeys(found, each) if set(found.values()) == {1} else found
    if not job.has("PBS_JOBID"):
        return None
    nodes = job.count("PBS_NUM_NODES") or 1
    cores = job.first("PBS_NUM_PPN", "NCPUS", "PBS_NP")
    if nodes == 1 and cores:
        return {"localhost": job.count(cores) or 1}
    raise AllocationError("PBS_NODEFILE", "it is not set, though this is a PBS job")
