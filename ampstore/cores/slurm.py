"""SLURM: nodes from SLURM_JOB_NODELIST, cores from what was asked for.

    --ntasks, --ntasks-per-node, --cpus-per-task     tasks on each node times cores of a task
    none of them (as with --exclusive)               the cores allocated on each node

Cores allocated count hardware threads, so they are more than was asked for where cores have two. A
component of a heterogeneous job has its own variables, with _HET_GROUP_n (once _PACK_GROUP_n) behind
their names. A step of a single task (`srun -n1 python ...`) overwrites the tasks of its job, so the
cores allocated to the job count there.
"""

import re

from ampstore.cores.hostlist import expand
from ampstore.cores.job import MOST_HOSTS, Hosts, Job, number, shown, tally
from ampstore.errors import AllocationError

_REPEATED = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")
_MOST_COMPONENTS = 1000


def hosts(job: Job) -> Hosts | None:
    """Hosts and cores of a SLURM job, None if this is none."""
    for size, suffix in (("SLURM_HET_SIZE", "_HET_GROUP_"), ("SLURM_PACK_SIZE", "_PACK_GROUP_")):
        if job.has(size) and job.has(f"SLURM_JOB_NODELIST{suffix}0"):
            return _heterogeneous(job, size, suffix)
    if job.has("SLURM_JOB_NODELIST", "SLURM_NODELIST"):
        return _component(job, "")
    if job.has("SLURM_JOB_ID", "SLURM_JOBID"):
        return _without_list(job)
    return None


def _heterogeneous(job: Job, size: str, suffix: str) -> Hosts:
    components = job.count(size) or 0
    if components > _MOST_COMPONENTS:
        raise AllocationError(size, f"a job has at most {_MOST_COMPONENTS:,} components, not {components:,}")
    parts = [_component(job, f"{suffix}{n}") for n in range(components)]
    return tally(((host, cores) for part in parts for host, cores in part.items()), size)


def _component(job: Job, suffix: str) -> Hosts:
    variable = job.first(f"SLURM_JOB_NODELIST{suffix}", f"SLURM_NODELIST{suffix}")
    if not variable:
        raise AllocationError(f"SLURM_JOB_NODELIST{suffix}", "it is not set")
    names = expand(job.text(variable), variable)
    return tally(zip(names, _cores(job, suffix, len(names)), strict=True), variable)


def _cores(job: Job, suffix: str, nodes: int) -> list[int]:
    each = job.count(f"SLURM_CPUS_PER_TASK{suffix}") or 1
    tasks = _tasks(job, suffix, nodes)
    allocated = _per_node(job, f"SLURM_JOB_CPUS_PER_NODE{suffix}", nodes)
    if tasks is not None and (allocated is None or _asked_for_tasks(job, suffix)):
        return [count * each for count in tasks]
    if allocated is not None:
        return allocated
    for variable, cores in (("SLURM_CPUS_ON_NODE", 1), ("SLURM_NTASKS", each), ("SLURM_NPROCS", each)):
        count = job.count(variable + suffix)
        if nodes == 1 and count is not None:
            return [count * cores]
    variable = f"SLURM_TASKS_PER_NODE{suffix}"
    if job.has(variable):
        raise AllocationError(variable, f"{shown(job.text(variable))} does not fit {nodes} nodes")
    raise AllocationError(variable, "it is not set, nor any other variable that tells the cores of each node")


def _tasks(job: Job, suffix: str, nodes: int) -> list[int] | None:
    found = _per_node(job, f"SLURM_TASKS_PER_NODE{suffix}", nodes)
    if found is None and not job.has(f"SLURM_TASKS_PER_NODE{suffix}"):
        count = job.count(f"SLURM_NTASKS_PER_NODE{suffix}")
        found = [count] * nodes if count else None
    return found


def _asked_for_tasks(job: Job, suffix: str) -> bool:
    if job.text("SLURM_STEP_NUM_TASKS") == "1":
        return False
    asked = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE", "SLURM_CPUS_PER_TASK")
    return job.has(*(variable + suffix for variable in asked))


def _per_node(job: Job, variable: str, nodes: int) -> list[int] | None:
    """Numbers of a list such as 72(x2),36; None if it is not set or of another number of nodes."""
    text = job.text(variable)
    if not text:
        return None
    found: list[int] = []
    for part in text.split(","):
        match = _REPEATED.fullmatch(part)
        if match is None:
            raise AllocationError(variable, f"{shown(text)} is no list of numbers such as 72(x2),36")
        times = int(match[2] or 1)
        if len(found) + times > MOST_HOSTS:
            raise AllocationError(variable, f"{shown(text)} is for more than {MOST_HOSTS:,} nodes")
        found += [number(match[1], variable)] * times
    return found if len(found) == nodes else None


def _without_list(job: Job) -> Hosts:
    """Of a job on one node whose list did not get here, as in some containers."""
    nodes = job.first("SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    if nodes and job.count(nodes) == 1 and job.has("SLURM_CPUS_ON_NODE", "SLURM_JOB_CPUS_PER_NODE"):
        return {"localhost": _cores(job, "", 1)[0]}
    raise AllocationError("SLURM_JOB_NODELIST", "it is not set, though this is a SLURM job")
