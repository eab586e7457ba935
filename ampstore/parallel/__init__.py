"""Doing many independent calculations: in this process, in local ones, or by any executor.

Knows jobs, workers and callbacks. What is calculated, and where the results go, is the business of a
`Work`: it hands out jobs a few at a time and takes every result as soon as it is there.

plan       the argument `parallel` read
work       the vocabulary: Job, Failure, Work; work in this process
local      worker processes of this machine: chunks on request, the dead replaced
channel    frames on a socket pair, never blocking the master
worker     what runs in a worker process
executor   any concurrent.futures.Executor
"""

from ampstore.parallel.executor import run_in_executor
from ampstore.parallel.local import run_in_processes
from ampstore.parallel.plan import Plan, read_plan
from ampstore.parallel.work import Failure, Function, Job, Work, run_here

__all__ = ["Failure", "Function", "Job", "Plan", "Work", "read_plan", "run", "run_here"]


def run(function: Function, work: Work, plan: Plan) -> None:
    """Do all the work as the plan says."""
    if plan.executor is not None:
        run_in_executor(function, work, plan.executor, plan.width)
    elif plan.serial:
        run_here(function, work)
    else:
        run_in_processes(function, work, plan.width)
