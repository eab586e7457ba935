"""HTCondor: Cpus in the description of the slot, the file _CONDOR_MACHINE_AD. A job is one slot of one host."""

import re

from ampstore.cores.job import Hosts, Job, number
from ampstore.errors import AllocationError

_CPUS = (
    ("_CONDOR_MACHINE_AD", re.compile(r"^\s*Cpus\s*=\s*([0-9]+)\s*$", re.MULTILINE | re.IGNORECASE)),
    ("_CONDOR_JOB_AD", re.compile(r"^\s*CpusProvisioned\s*=\s*([0-9]+)\s*$", re.MULTILINE | re.IGNORECASE)),
    ("_CONDOR_JOB_AD", re.compile(r"^\s*RequestCpus\s*=\s*([0-9]+)\s*$", re.MULTILINE | re.IGNORECASE)),
)


def hosts(job: Job) -> Hosts | None:
    """Cores of the slot of an HTCondor job, None if this is none."""
    if job.text("BATCH_SYSTEM") != "HTCondor" and not job.has("_CONDOR_MACHINE_AD", "_CONDOR_JOB_AD"):
        return None
    for variable, cpus in _CPUS:
        if job.has(variable) and (match := cpus.search(job.file(variable))):
            return {"localhost": number(match[1], variable)}
    if (threads := job.count("OMP_NUM_THREADS")) is not None:  # HTCondor sets it to the cores of the slot
        return {"localhost": threads}
    raise AllocationError("_CONDOR_MACHINE_AD", "neither it nor another variable tells the Cpus of this HTCondor slot")
