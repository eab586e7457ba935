"""What a parser sees of the program's surroundings: variables, files and the name of this host.

Everything in here was written by somebody else, so sizes are bounded and host names are checked before
anyone hands them to a command: a host named `-oProxyCommand=...` is an option of ssh.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping

from ampstore.errors import AllocationError

Hosts = dict[str, int]
"""Cores by host."""

Reader = Callable[[str], str]
"""Path -> text, OSError if it cannot be read."""

MOST_HOSTS = 100_000
MOST_CORES = 1_000_000
MOST_TEXT = 32 << 20
"""Characters of a variable or file: 10,000 hosts of 128 slots with a line each take 25 million."""

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_HOSTNAME = "/proc/sys/kernel/hostname"


class Job:
    """Variables, files and host of a program.

    Parameters
    ----------
    environment : mapping of str to str, optional
        Those of this process by default.
    reader : Reader
    """

    def __init__(self, environment: Mapping[str, str] | None, reader: Reader) -> None:
        self.environment = os.environ if environment is None else environment
        self.reader = reader

    def has(self, *variables: str) -> bool:
        """Whether one of these is set to something."""
        return any(self.text(variable) for variable in variables)

    def text(self, variable: str) -> str:
        """Value of a variable, "" if there is none."""
        value = self.environment.get(variable, "").strip()
        if len(value) > MOST_TEXT:
            raise AllocationError(variable, f"its value has {len(value):,} characters")
        return value

    def first(self, *variables: str) -> str:
        """Name of the first of these that is set, "" if none is."""
        return next((variable for variable in variables if self.text(variable)), "")

    def count(self, variable: str) -> int | None:
        """Positive number that a variable holds, None if it is not set."""
        value = self.text(variable)
        return number(value, variable) if value else None

    def file(self, variable: str) -> str:
        """Text of the file that a variable names."""
        path = self.text(variable)
        try:
            text = self.reader(path)
        except (OSError, ValueError) as err:
            raise AllocationError(variable, f"its file {shown(path)} cannot be read ({_why(err)})") from None
        if len(text) > MOST_TEXT:
            raise AllocationError(variable, f"its file {shown(path)} has more than {MOST_TEXT:,} characters")
        return text

    def lines(self, variable: str) -> list[str]:
        """Lines of the file that a variable names, without empty ones and comments."""
        lines = [line.strip() for line in self.file(variable).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise AllocationError(variable, f"its file {shown(self.text(variable))} lists no host")
        return found

    def is_here(self, host: str) -> bool:
        """Whether a name is that of this host; a name without domain is equal to one with any."""
        return any(_same(host, name) for name in (self.hostname(), self.text("SLURMD_NODENAME")) if name)

    def hostname(self) -> str:
        """Name of this host."""
        try:
            return self.reader(_HOSTNAME).strip()[:255]
        except (OSError, ValueError):
            return os.uname().nodename


def read_text(path: str) -> str:
    """Text of a regular file, not more of it than anyone should look at."""
    # Non-blocking, or a FIFO without a writer would wait for one for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return file.read(MOST_TEXT + 1)


def number(text: str, variable: str) -> int:
    """Positive number that a text is."""
    if not _NUMBER.fullmatch(text) or not 0 < int(text) <= MOST_CORES:
        raise AllocationError(variable, f"{shown(text)} is no number from 1 to {MOST_CORES:,}")
    return int(text)


def tally(hosts: Iterable[tuple[str, int]], variable: str) -> Hosts:
    """Cores by host from parts of them; a host may come more than once."""
    found: Hosts = {}
    for host, cores in hosts:
        if host not in found and len(found) >= MOST_HOSTS:
            raise AllocationError(variable, f"it lists more than {MOST_HOSTS:,} hosts")
        found[checked(host, variable)] = found.get(host, 0) + cores
    return found


def once_each(hosts: Iterable[str], variable: str) -> Hosts:
    """Cores by host from a list with a host for each core."""
    return tally(((host, 1) for host in hosts), variable)


def checked(host: str, variable: str) -> str:
    """A name that can only be the name of a host."""
    if not _HOST.fullmatch(host):
        raise AllocationError(variable, f"{shown(host)} is no name of a host")
    return host


def shown(text: str) -> str:
    """Beginning of a text from outside, as a literal."""
    return repr(text) if len(text) <= 60 else repr(text[:60]) + "..."


def _same(host: str, other: str) -> bool:
    host, other = host.lower(), other.lower()
    short, other_short = host.partition(".")[0], other.partition(".")[0]
    return host == other or (short == other_short and (host == short or other == other_short))


def _why(err: Exception) -> str:
    return getattr(err, "strerror", None) or str(err) or type(err).__name__
