"""Doing many independent calculations: in this process, in local ones, or by any executor.

Knows jobs, workers and callbacks. What is calculated, and where the results go, is the business of a
`Work`: it hands out jobs a few at a time and takes every result as soon as it is there.

plan       the argument `parallel` read
work       the vocabulary: Job, Failure, Work; work in this process
local      worker processes of this machine: chunks on request, the dead replaced
channel    frames on a socket pair, never blocking the master
worker     what runs in a worker process
executor   any concurrent.futures.Executor
dask       a Dask cluster; distributed is imported when it is used
remote     other hosts: an agent on each, what is lost given to others
agent      what runs on another host: `python -m ampstore.worker`

Amp's own workers, which are not ours, are started and watched here too:

amp        setup_parallel: a master and workers that talk as Amp's do
crew       workers by their command line: start_workers
sublists   make_sublists
"""

from typing import TYPE_CHECKING

from ampstore.late import late_names
from ampstore.parallel.dask import run_in_dask
from ampstore.parallel.executor import run_in_executor
from ampstore.parallel.local import run_in_processes
from ampstore.parallel.plan import Plan, read_plan
from ampstore.parallel.work import Failure, Function, Job, Work, run_here

if TYPE_CHECKING:
    from ampstore.messages import MessageDictionary as MessageDictionary
    from ampstore.parallel.amp import setup_parallel as setup_parallel
    from ampstore.parallel.crew import start_workers as start_workers
    from ampstore.parallel.sublists import make_sublists as make_sublists

_LATE = {  # local workers do not need them, and start in half the time
    "MessageDictionary": "messages",
    "make_sublists": "parallel.sublists",
    "setup_parallel": "parallel.amp",
    "start_workers": "parallel.crew",
}

__all__ = ["Failure", "Function", "Job", "Plan", "Work", *_LATE, "read_plan", "run", "run_here"]  # noqa: PLE0604

__getattr__ = late_names(__name__, _LATE)


def run(function: Function, work: Work, plan: Plan) -> None:
    """Do all the work as the plan says."""
    if plan.dask is not None:
        run_in_dask(function, work, plan.dask, plan.width)
    elif plan.executor is not None:
        run_in_executor(function, work, plan.executor, plan.width)
    elif plan.hosts is not None and plan.options is not None:
        from ampstore.parallel.remote import run_on_hosts

        run_on_hosts(function, work, plan.hosts, plan.options)
    elif plan.serial:
        run_here(function, work)
    else:
        run_in_processes(function, work, plan.width)
