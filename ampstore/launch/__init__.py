"""Processes on nodes: started, watched, connected to the master, ended with it.

A session is one node: this machine by a pipe, another one by the user's own ssh, or by srun inside a
SLURM allocation. All are a pair of pipes to the same small program there, which starts workers and
carries their connections. What the workers compute is not known here.

node      the program on the node; standard library only, sent there as text
command   ssh, srun or nothing: how to get a Python on a node
session   the master's end of one session
pump      the thread that serves all sessions
"""

from ampstore.launch.command import LOCAL, Options, check_host
from ampstore.launch.pump import Pump
from ampstore.launch.session import Session, open_sessions

__all__ = ["LOCAL", "Options", "Pump", "Session", "check_host", "open_sessions"]
