"""Where a program may work: the environment of a batch job -> {host: cores}.

Pure functions of an environment and of files: no program is started, nothing is asked of a scheduler,
and nothing of the environment but the variable that is at fault is ever shown.

job          what a parser sees: variables, files, this host; all of it checked and bounded
hostlist     n[01-16,20] -> names
machine      affinity and quotas of a machine without a batch system
slurm pbs loadleveler sge lsf flux htcondor oar cobalt     one parser each
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ampstore.cores import cobalt, flux, htcondor, loadleveler, lsf, oar, pbs, sge, slurm
from ampstore.cores.job import Hosts, Job, Reader, read_text
from ampstore.cores.machine import usable_cores
from ampstore.errors import CoresError

__all__ = ["SYSTEMS", "Allocation", "allocation", "assign_cores", "detect", "usable_cores"]

Parser = Callable[[Job], Hosts | None]

SYSTEMS: Mapping[str, Parser] = {
    # These two run inside allocations of the others, whose variables they may leave in place.
    "Flux": flux.hosts,
    "HTCondor": htcondor.hosts,
    "SLURM": slurm.hosts,
    "PBS": pbs.hosts,
    "LoadLeveler": loadleveler.hosts,
    "SGE": sge.hosts,
    "LSF": lsf.hosts,
    "OAR": oar.hosts,
    "Cobalt": cobalt.hosts,
}
"""Batch systems in the order in which they are asked."""

MACHINE = "this machine"
LOCAL = "localhost"


class Allocation(NamedTuple):
    """What a program may use.

    Attributes
    ----------
    system : str
        A name of `SYSTEMS`, or "this machine".
    hosts : dict of str to int
        Cores by host, in the order of the batch system; {'localhost': n} if it is this host alone.
    """

    system: str
    hosts: Hosts


def allocation(environment: Mapping[str, str] | None = None, reader: Reader | None = None) -> Allocation:
    """What the batch job that this is gives to it, or this machine if it is none; as `detect` with the system."""
    job = Job(environment, reader or read_text)
    for system, parse in SYSTEMS.items():
        hosts = parse(job)
        if hosts is not None:
            return Allocation(system, _named_locally(hosts, job))
    return Allocation(MACHINE, {LOCAL: usable_cores(job.reader)})


def detect(environment: Mapping[str, str] | None = None, reader: Reader | None = None) -> Hosts:
    """Hosts and cores that this program may use.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Variables; those of this process by default.
    reader : callable, optional
        Path -> text of a file, OSError if there is none.

    Returns
    -------
    dict of str to int
        Cores by host: those of the batch job, otherwise those of this machine (CPU affinity and
        cgroup quotas count). A job on nothing but this host gives {'localhost': n}.

    Raises
    ------
    AllocationError
        If the variables of a batch system contradict each other or say too little.
    """
    return allocation(environment, reader).hosts


def assign_cores(cores: object = None, log: Callable[..., object] | None = None) -> object:
    """Value for the key 'cores' of `parallel`, as Amp's function of this name.

    Parameters
    ----------
    cores : int, str, mapping or None
        None detects (see `detect`). What is given wins over any environment: a mapping of host to
        cores and 1 come back unchanged, other numbers as {'localhost': n}.
    log : callable, optional
        Gets a line of text, as Amp's Logger. Nothing of the environment is logged but hosts and cores.

    Raises
    ------
    CoresError
        If this is no number of cores.
    AllocationError
        As `detect`.
    """
    found, origin = _assigned(cores)
    if log is not None:
        listed = ", ".join(f"{host}: {count}" for host, count in found.items()) if isinstance(found, Mapping) else "1"
        log(f"Cores ({origin}): {listed}")
    return found


def _assigned(cores: object) -> tuple[object, str]:
    if cores is None:
        system, hosts = allocation()
        return hosts, system
    if isinstance(cores, Mapping):
        return cores, "given"
    count = _number(cores)
    return (cores if not isinstance(cores, str) and count == 1 else {LOCAL: count}), "given"


def _number(cores: object) -> int:
    try:
        count = int(cores)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        raise CoresError(repr(cores)[:80]) from None
    if count < 1:
        raise CoresError(repr(cores)[:80])
    return int(count)


def _named_locally(hosts: Hosts, job: Job) -> Hosts:
    if len(hosts) != 1:
        return hosts
    ((host, count),) = hosts.items()
    return {LOCAL: count} if host == LOCAL or job.is_here(host) else hosts
