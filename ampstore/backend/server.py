"""Where a store on a database server is: a URL without its password.

    postgresql+psycopg://user:password@host:5432/db?schema=jobs&sslmode=require

    scheme          postgresql+psycopg, postgresql or postgres: all the same
    schema          the store's schema, "ampstore" by default; several stores stand side by side
    sync            "off": commits need not be on the disk of the server (see docs/postgresql.md)
    anything else   as libpq understands it: hosts, sslmode, service, passfile, ...

The password is taken out at once and kept in this process only. So whatever is printed, logged, raised
or pickled does not have it; a process that has none of its own gets it by libpq's usual means
(PGPASSFILE, ~/.pgpass, PGPASSWORD, PGSERVICEFILE).
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from ampstore.errors import LocationError

SCHEMA = "ampstore"
LONGEST_NAME = 63  # bytes of an identifier in PostgreSQL, which would cut a longer one off

_URL = r"(?si:(?P<scheme>postgres(?:ql)?(?:\+\w*)?)://(?P<rest>.*))"
_DRIVERS = ("postgresql+psycopg", "postgresql", "postgres")
_SECRETS = ("password", "sslpassword")
_OURS = ("schema", "sync")

_passwords: dict[str, dict[str, str]] = {}
"""Secrets by location, for handles that are pickled and come back in this process or a fork of it."""


def is_url(name: object) -> bool:
    """Whether a name is the URL of a database, not a path."""
    return isinstance(name, str) and "://" in name and re.fullmatch(_URL, name) is not None


class Server(NamedTuple):
    """One store on a database server.

    Attributes
    ----------
    location : str
        The URL without secrets; names the store in messages, and opens it.
    conninfo : str
        What libpq gets.
    schema : str
        Where the store's tables are.
    sync : bool
        Whether commits wait for the disk of the server.
    """

    location: str
    conninfo: str
    schema: str
    sync: bool

    def __str__(self) -> str:
        return self.location

    @property
    def secrets(self) -> dict[str, str]:
        """Password, and that of the TLS key, if the URL had them."""
        return _passwords.get(self.location, {})

    def without_secrets(self, text: str) -> str:
        """A text of the driver in which no secret of the URL is left."""
        for secret in self.secrets.values():
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "***") if form else text
        return text


def parse(url: str) -> Server:
    """The store that a URL names.

    Raises
    ------
    LocationError
        If it is no such URL; the message does not repeat what may be a password.
    """
    found = re.fullmatch(_URL, url)
    if found is None or found["scheme"].lower() not in _DRIVERS:
        scheme = url.partition("://")[0]
        raise LocationError(f"{scheme}://...", "there is no such kind of database here; use postgresql+psycopg://")
    before, _, query = found["rest"].partition("?")
    authority, slash, database = before.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    if "@" in userinfo + database or "@" in query or "#" in url:
        raise LocationError(
            "postgresql+psycopg://...",
            "a user name or password with one of @ / ? # in it needs them as %40 %2F %3F %23",
        )
    user, _, password = userinfo.partition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    secrets = {name: options.pop(name) for name in _SECRETS if name in options}
    if password:
        secrets.setdefault("password", unquote(password))
    schema, sync = options.pop("schema", SCHEMA), options.pop("sync", "on")
    place = f"{user}{at}{hosts}{slash}{database}"
    _check(place, schema, sync)
    location = _url("postgresql+psycopg", place, {**options, **_ours(schema, sync)})
    if secrets:
        _passwords[location] = secrets
    return Server(location, _url("postgresql", place, options), schema, sync == "on")


def _check(place: str, schema: str, sync: str) -> None:
    location = f"postgresql+psycopg://{place}"
    if not schema or "\0" in schema or len(schema.encode(errors="replace")) > LONGEST_NAME:
        raise LocationError(location, f"schema={schema!r} must have 1 to {LONGEST_NAME} bytes and no NUL")
    if schema.startswith("pg_") or schema == "information_schema":
        raise LocationError(location, f"schema={schema!r} belongs to PostgreSQL itself; choose another name")
    if sync not in ("on", "off"):
        raise LocationError(location, f"sync={sync!r} must be on or off")


def _ours(schema: str, sync: str) -> dict[str, str]:
    return {name: value for name, value in zip(_OURS, (schema, sync), strict=True) if value not in (SCHEMA, "on")}


def _url(scheme: str, place: str, options: dict[str, str]) -> str:
    return f"{scheme}://{place}" + (f"?{urlencode(options, quote_via=quote)}" if options else "")
