"""What a store's schema may hold: our own tables as we make them, and nothing else that runs on our statements.

A file from elsewhere can bring its own schema: a trigger that changes what is written, a view in the
place of a table, a CHECK or an index that calls a costly function. So the schema is read first, by one
SELECT that runs none of it, and compared with ours.

    ours          exactly as ampstore makes it, spaces, case and quotation marks aside
    foreign, fine an index on plain columns that is not unique; a table without expressions; a view of another
                  name: people may keep theirs in the file
    refused       what may run when entries are read, written, verified or compacted: triggers, virtual tables,
                  indexes on expressions, tables with CHECK or generated columns, anything in the place of ours
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ampstore.errors import ForeignSchemaError

VERSION_TABLE = "ampstore_version"

# A test compares these with a store that the migrations make.
_TEXTS = """
CREATE TABLE ampstore_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT ampstore_version_pkc PRIMARY KEY (version_num));
CREATE TABLE entry (id INTEGER NOT NULL, key TEXT NOT NULL, codec TEXT NOT NULL, kind TEXT NOT NULL, size BIGINT NOT NULL,
 checksum BLOB NOT NULL, written_at FLOAT NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (id), UNIQUE (key));
CREATE TABLE dictionary (id INTEGER NOT NULL, kind TEXT NOT NULL, trained_at FLOAT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (id));
CREATE TABLE claim (key TEXT NOT NULL, owner TEXT NOT NULL, token BIGINT NOT NULL, expires_at FLOAT NOT NULL, PRIMARY KEY (key));
CREATE TABLE info (name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE trace (run TEXT NOT NULL, chain INTEGER NOT NULL, step BIGINT NOT NULL, temperature FLOAT NOT NULL, loss FLOAT NOT NULL,
 best FLOAT NOT NULL, acceptance FLOAT NOT NULL, improvement FLOAT NOT NULL, elapsed FLOAT NOT NULL, PRIMARY KEY (run, chain, step));
CREATE VIEW entries AS SELECT key, kind, size AS bytes, length(payload) AS stored,
 round(1.0 * size / max(length(payload), 1), 1) AS ratio, codec, strftime('%Y-%m-%dT%H:%M:%SZ', written_at, 'unixepoch') AS written
 FROM entry
"""  # noqa: E501 - one line for one column less is no gain

_NOISE = re.compile(r"[\s\"`]+")
_NAME = r"(?:\w+|\"[^\"]+\"|`[^`]+`|\[[^\]]+\])"
_COLUMN = rf"{_NAME}(?:\s+(?:asc|desc))?"
# Not compiled here: only a schema with objects of others needs these, and they take 1 ms of every start.
_INDEX = rf"create\s+index\s+({_NAME})\s+on\s+{_NAME}\s*\(\s*{_COLUMN}(?:\s*,\s*{_COLUMN})*\s*\)\s*"
_TABLE = rf"create\s+table\s+({_NAME})\s*\((?s:.*)"
_VIEW = rf"create\s+view\s+({_NAME})\s(?s:.*)"
_EXPRESSION = r"\b(check|generated|as)\b"


class SchemaObject(NamedTuple):
    """One row of sqlite_schema: "table", "index", "view" or "trigger"; `text` is None for automatic indexes."""

    kind: str
    name: str
    table: str
    text: str | None


def _bare(text: str) -> str:
    return _NOISE.sub("", text).lower()


OURS = {_NOISE.split(text.strip(), 3)[2]: (_bare(text),) for text in _TEXTS.split(";")}
"""Texts that each of our objects has or had in some revision, bare of spaces, case and quotation marks."""


def holds(objects: Iterable[SchemaObject], name: str) -> bool:
    """Whether there is a table of ours: only then may it be asked."""
    return any(found.name == name and _is_ours(found) for found in objects)


def check(location: str, objects: Iterable[SchemaObject]) -> None:
    """Refuse a schema of which something would run that is not ours.

    Raises
    ------
    ForeignSchemaError
        With the first such object.
    """
    for found in objects:
        if reason := _reason_against(found):
            from shlex import quote

            raise ForeignSchemaError(
                location,
                f"the schema has a {found.kind} {found.name!r}: {reason}. Nothing of it was run. If it is yours, drop "
                f"it with sqlite3; if not, `ampstore salvage {quote(location)} NEW` copies the entries",
            )


def _reason_against(found: SchemaObject) -> str:
    """Why an object is refused, by its text: SQLite makes what the text says, whatever the other columns do."""
    if found.text is None:
        return "" if found.kind == "index" and found.name.startswith("sqlite_autoindex_") else "it has no text"
    if found.name in OURS:
        return "" if _is_ours(found) else "it is not as ampstore makes it"
    forms = (re.fullmatch(pattern, found.text, re.IGNORECASE) for pattern in (_INDEX, _TABLE, _VIEW))
    form = next(filter(None, forms), None)
    if not form:
        return "it may run when entries are read, written or verified"
    if form.re.pattern == _TABLE and re.search(_EXPRESSION, found.text, re.IGNORECASE):
        return "it has expressions that run when the file is verified"
    name = form[1].strip('"`[]').lower()
    return "" if name == found.name.lower() and name not in OURS else "its text makes something of another name"


def _is_ours(found: SchemaObject) -> bool:
    return found.text is not None and _bare(found.text) in OURS[found.name]
