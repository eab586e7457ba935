"""The schema: what one store holds, for every database that SQLAlchemy speaks.

    entry              a value by its key; `payload` stands last, so that keys and sizes are read
                       without touching payloads; `id` grows, so it is the order of insertion
    dictionary         trained zstd dictionaries that rows refer to
    claim              who is computing which key, until when
    info               facts about the store: id, format, who made it
    trace              points of searches by simulated annealing, for people; by run, chain and step
    ampstore_version   revision of the schema, kept by Alembic; the name is ours, so a shared
                       database stays usable by others
    entries            view for people: select * from entries limit 3

This is the only description in code; migrations/ has the history that leads to it, and a test
compares the two.
"""

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, Table, Text

VERSION_TABLE = "ampstore_version"

metadata = MetaData()

# INTEGER in SQLite, where it is the rowid; BIGINT elsewhere.
_id = BigInteger().with_variant(Integer(), "sqlite")

# Ordered by bytes, as in SQLite, whatever the language of the server.
_key = Text().with_variant(Text(collation="C"), "postgresql")

entry = Table(
    "entry",
    metadata,
    Column("id", _id, primary_key=True),
    Column("key", _key, nullable=False, unique=True),
    Column("codec", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes of the stream before compression
    Column("checksum", LargeBinary, nullable=False),  # 16 bytes of SHA-256 of that stream, CRC-32 of the payload
    Column("written_at", Float, nullable=False),  # seconds since 1970, UTC
    Column("payload", LargeBinary, nullable=False),
)

dictionary = Table(
    "dictionary",
    metadata,
    Column("id", _id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("trained_at", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

claim = Table(
    "claim",
    metadata,
    Column("key", _key, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),  # seconds since 1970, by the clock of the database
)

info = Table(
    "info",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

trace = Table(
    "trace",
    metadata,
    Column("run", Text, primary_key=True),
    Column("chain", Integer, primary_key=True),  # which of several at once: rung of a ladder, restart
    Column("step", BigInteger, primary_key=True),
    Column("temperature", Float, nullable=False),
    Column("loss", Float, nullable=False),
    Column("best", Float, nullable=False),
    Column("acceptance", Float, nullable=False),  # share of the moves since the row before, 0 to 1
    Column("improvement", Float, nullable=False),
    Column("elapsed", Float, nullable=False),  # seconds of work since step 0
)

ENTRIES_VIEW = """\
CREATE VIEW entries AS
SELECT key,
       kind,
       size AS bytes,
       length(payload) AS stored,
       round(1.0 * size / max(length(payload), 1), 1) AS ratio,
       codec,
       strftime('%Y-%m-%dT%H:%M:%SZ', written_at, 'unixepoch') AS written
FROM entry
"""

ENTRIES_VIEW_POSTGRESQL = """\
CREATE VIEW entries AS
SELECT key,
       kind,
       size AS bytes,
       octet_length(payload) AS stored,
       round(1.0 * size / greatest(octet_length(payload), 1), 1) AS ratio,
       codec,
       to_char(to_timestamp(written_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS written
FROM entry
"""
