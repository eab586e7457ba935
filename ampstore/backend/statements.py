"""The SQL statements of a store by name, as text that runs on a DBAPI connection.

`core` writes them as SQLAlchemy Core; `compiled` is the text that comes of it. So a program that opens a
store imports no SQLAlchemy (some 200 ms), and there is one place where SQL is written.
"""

from types import SimpleNamespace
from typing import NamedTuple

GROUP_SIZES = (16, 64, 256)  # a batch of 32 costs half as much by 64 as by 256
"""Keys that one statement of `fetch_groups` and the like takes; shorter groups are filled up with NULL."""


CHUNK_ROWS = 1000
CHUNK_BYTES = 8 << 20
"""What one read of an iteration takes at most: rows, and bytes of payload (one row of any size)."""


class Row(NamedTuple):
    """One row to write, in the order of the `put` statement."""

    key: str
    codec: str
    kind: str
    size: int
    checksum: bytes
    written_at: float
    payload: bytes


class Head(NamedTuple):
    """All of one row but its payload.

    Attributes
    ----------
    key, codec, kind : str
    size, stored : int
        Bytes of the stream and of the payload.
    checksum : bytes
    written_at : float
        Seconds since 1970.
    """

    key: str
    codec: str
    kind: str
    size: int
    stored: int
    checksum: bytes
    written_at: float


class Trained(NamedTuple):
    """One dictionary to write, in the order of the `dictionary_put` statement."""

    id: int
    kind: str
    trained_at: float
    data: bytes


class Recoded(NamedTuple):
    """Another payload of one row, in the order of the `recode` statement."""

    codec: str
    checksum: bytes
    payload: bytes
    id: int
    checksum_was: bytes
    codec_was: str


GAPS = "gaps"
"""Name of a fact of SQLite's stores: how many ids below the last one have no entry, so that nobody has to count."""


class Statements(SimpleNamespace):
    """SQL text of one dialect. Parameters are positional, in the order that each comment gives.

    No NamedTuple: to make a class of that many fields takes 2 ms of every start.
    """

    fetch: str  # key -> codec, size, checksum, payload, key as it stands in the row
    head: str  # key -> checksum, written_at
    contains: str  # key -> 1
    number: str  # -> number of entries, counted
    tally: str  # name of the note of gaps -> number of entries, from their ids; no row where no gaps are noted
    miscount: str  # name of that note -> by how many the tally is too high; no row as above
    id_of: str  # key -> id
    last_id: str  # -> id or NULL
    all_keys: str  # -> id, key; in any order
    keys: str  # after id, up to id -> id, key
    rows: str  # after id, up to id -> id, key, codec, size, checksum, payload
    put: str  # key, codec, kind, size, checksum, written_at, payload
    delete: str  # key
    rename: str  # new key, old key, new key; changes nothing where the new key is there
    clear: str
    objects: str  # -> type, name, tbl_name, sql of the schema
    revision: str  # -> version_num
    kinds: str  # -> codec, entries, bytes of streams, bytes of payloads
    listing: str  # first key -> key, kind, size, stored, codec, written_at
    info_get: str  # name -> value
    info_put: str  # name, value
    info_add: str  # whole number to add, name
    info_all: str  # -> name, value
    info_delete: str  # name
    fetch_groups: dict[int, str]  # n keys -> key, codec, size, checksum, payload
    known_groups: dict[int, str]  # n keys -> key
    put_new: str  # as put; changes nothing where the key is there
    claims_groups: dict[int, str]  # n keys -> key, owner, token, expires_at, seconds left
    claims_left: str  # -> key, owner, seconds left
    claim_free: str  # key, owner, lease; changes nothing where there is a claim
    claim_over: str  # new owner, lease, key, owner, token, expires_at: compare and set
    claims_renew: str  # lease, owner
    claims_owned: str  # owner -> key, token
    claim_release: str  # key, owner, token
    claimants: str  # -> owner, keys, seconds that the longest of its claims lasts
    claims_release: str  # owner
    trace_put: str  # run, chain, step, temperature, loss, best, acceptance, improvement, elapsed
    trace_delete: str  # run, first chain
    trace_clear: str
    survey: str  # after id, up to id -> id, codec, kind, size, stored, written_at
    recode: str  # new codec, checksum and payload; id, checksum and codec as they were: compare and set
    dictionary_get: str  # id -> data
    dictionary_all: str  # -> id, kind, trained_at, bytes
    dictionary_put: str  # id, kind, trained_at, data; changes nothing where it is there
    dictionary_drop: str  # those that no row refers to
    heads: str  # after id, up to id -> id and the columns of a Head
    heads_from: str  # first key -> the columns of a Head, by key
    heads_groups: dict[int, str]  # n keys -> the columns of a Head


class ServerStatements(SimpleNamespace):
    """Statements that only PostgreSQL has."""

    unstage: str  # rows that were copied into the staging table -> entry
    entries: str  # after id, up to id -> id and the columns of a Row
    claims_free: str  # owner, lease, keys -> keys that are claimed now
    claims_over: str  # keys, owners, tokens, expiries, new owner, lease -> key, token
    touch: str  # writes a fact anew
