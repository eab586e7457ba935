"""The package's log, and the time of day as Amp writes it."""

import datetime
import logging

log = logging.getLogger("ampstore")
log.addHandler(logging.NullHandler())


def now(with_utc: bool = False) -> str:
    """Local time, ISO format to the second, without blanks.

    Parameters
    ----------
    with_utc : bool
        Add the UTC time in parentheses.
    """
    utc = datetime.datetime.now(datetime.UTC)
    local = utc.astimezone()
    if not with_utc:
        return _plain(local)
    return f"{_plain(local)} ({_plain(utc)} UTC)"


def _plain(moment: datetime.datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")
