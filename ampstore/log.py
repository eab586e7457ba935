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
    local = datetime.datetime.now().isoformat(timespec="seconds")
    if not with_utc:
        return local
    utc = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    return f"{local} ({utc} UTC)"
