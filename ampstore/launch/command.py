"""How to get a Python program going on a node: directly, by ssh, or by srun.

    localhost    python -c BOOT
    ssh          ssh -o BatchMode=yes ... -- node7 'exec python -c BOOT'
    srun         srun --nodelist=node7 ... sh -c 'exec python -c BOOT'

ssh is the user's own: ~/.ssh/config with its aliases, jumps, keys, agent and Kerberos; host keys are
checked, nothing asks. BOOT is one line without a blank line, so that every login shell takes it; it
reads the program itself from stdin.
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

from ampstore.errors import ParallelError

LOCAL = "localhost"

TIMEOUT = 60.0
"""Seconds until a node must have answered."""

_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.@:%\[\]-]*")

_BOOT = r"import os;exec(b''.join(iter(lambda:os.read(0,1)or os._exit(3),b'\0')))"

_SSH_OPTIONS = (
    "BatchMode=yes",  # nobody is there to answer
    "ClearAllForwardings=yes",  # those of the user's config would collide
    "ControlMaster=no",  # a session that others depend on could not end
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)

# Without a login shell there is often no `module`; csh has no -l beside -c.
_LOGIN = 'case "$SHELL" in *csh) exec "$SHELL" -c "$0";; *) exec "${SHELL:-sh}" -l -c "$0";; esac'


class Options(NamedTuple):
    """How nodes are reached.

    Attributes
    ----------
    envcommand : str or None
        Shell command that prepares the environment on nodes other than this one, such as
        "module load python".
    python : str
        Python on the nodes.
    ssh : tuple of str
        Command line of ssh.
    launcher : {"auto", "ssh", "srun"}
        "auto" is ssh, and srun for hosts where ssh fails inside a SLURM allocation.
    timeout : float, seconds
        Until a node must have answered, and its workers must have begun.
    """

    envcommand: str | None = None
    python: str = ""
    ssh: tuple[str, ...] = ("ssh",)
    launcher: Literal["auto", "ssh", "srun"] = "auto"
    timeout: float = TIMEOUT

    @classmethod
    def read(cls, parallel: Mapping[str, object]) -> Self:
        """Options of an argument `parallel`, and of the environment where that says nothing.

        'envcommand', 'python' (AMPSTORE_PYTHON), 'ssh' (AMPSTORE_SSH; a command line or a list),
        'launcher' (AMPSTORE_LAUNCHER), 'timeout' (AMPSTORE_LAUNCH_TIMEOUT).

        Raises
        ------
        ParallelError
            If one of them makes no sense.
        """

        def given(name: str, variable: str, default: object) -> object:
            found = parallel.get(name)
            return (os.environ.get(variable) or default) if found is None else found

        envcommand = parallel.get("envcommand")
        if not (envcommand is None or isinstance(envcommand, str)):
            raise ParallelError(repr(dict(parallel)), "'envcommand' must be a text or None")
        ssh = given("ssh", "AMPSTORE_SSH", "ssh")
        launcher = given("launcher", "AMPSTORE_LAUNCHER", "auto")
        if launcher not in ("auto", "ssh", "srun"):
            raise ParallelError(repr(dict(parallel)), "'launcher' must be 'auto', 'ssh' or 'srun'")
        timeout = given("timeout", "AMPSTORE_LAUNCH_TIMEOUT", TIMEOUT)
        try:
            seconds = float(timeout)  # type: ignore[arg-type]
            words = tuple(shlex.split(ssh) if isinstance(ssh, str) else map(os.fspath, ssh))  # type: ignore[call-overload]
        except (TypeError, ValueError) as err:
            raise ParallelError(repr(dict(parallel)), f"'ssh' or 'timeout' makes no sense: {err}") from err
        if not words or not seconds > 0:
            raise ParallelError(repr(dict(parallel)), "'ssh' must name a program, 'timeout' must be positive")
        python = str(given("python", "AMPSTORE_PYTHON", sys.executable or "python3"))
        return cls(envcommand or None, python, words, launcher, seconds)


def check_host(host: object) -> str:
    """The name of a host, if it is one.

    Raises
    ------
    ParallelError
        If it is not, for example because ssh would take it for an option.
    """
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise ParallelError(repr(host), "this is no name of a host")
    return host


def commands(host: str, cores: int, options: Options) -> list[list[str]]:
    """Command lines that start the program on a node; the second one if the first one fails.

    Parameters
    ----------
    host : str
        As `check_host` gives it.
    cores : int
        That the workers there will use; srun wants to know.
    options : Options
    """
    if host == LOCAL:
        return [[sys.executable or options.python, "-c", _BOOT]]
    ssh = _by_ssh(host, options)
    if options.launcher == "ssh":
        return [ssh]
    srun = _by_srun(host, cores, options)
    if options.launcher == "srun":
        return [srun]
    inside = "SLURM_JOB_ID" in os.environ and shutil.which("srun")
    return [ssh, srun] if inside else [ssh]


def _by_ssh(host: str, options: Options) -> list[str]:
    settings = [*_SSH_OPTIONS, f"ConnectTimeout={max(1, int(options.timeout))}"]
    words = [word for setting in settings for word in ("-o", setting)]
    return [*options.ssh, *words, "-T", "-a", "-x", "--", host, _on_node(options)]


def _by_srun(host: str, cores: int, options: Options) -> list[str]:
    settings = ("--nodes=1", "--ntasks=1", f"--cpus-per-task={cores}", "--cpu-bind=none", "--overlap", "--unbuffered")
    return ["srun", *settings, f"--nodelist={host}", "sh", "-c", _on_node(options)]


def _on_node(options: Options) -> str:
    """Text for the shell of the node."""
    start = f"exec {shlex.quote(options.python)} -c {shlex.quote(_BOOT)}"
    if options.envcommand is None:
        return start
    return f"exec sh -c {shlex.quote(_LOGIN)} {shlex.quote(options.envcommand + ' && ' + start)}"
