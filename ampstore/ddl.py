"""The tables of a new store as text; `python -m ampstore.schema` writes this file from the revisions."""

REVISION = "0002"

SQLITE = (
    """CREATE TABLE ampstore_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT ampstore_version_pkc PRIMARY KEY (version_num)
)""",
    """CREATE TABLE entry (
    id INTEGER NOT NULL,
    "key" TEXT NOT NULL,
    codec TEXT NOT NULL,
    kind TEXT NOT NULL,
    size BIGINT NOT NULL,
    checksum BLOB NOT NULL,
    written_at FLOAT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (id),
    UNIQUE ("key")
)""",
    """CREATE TABLE dictionary (
    id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    trained_at FLOAT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (id)
)""",
    """CREATE TABLE claim (
    "key" TEXT NOT NULL,
    owner TEXT NOT NULL,
    token BIGINT NOT NULL,
    expires_at FLOAT NOT NULL,
    PRIMARY KEY ("key")
)""",
    """CREATE TABLE info (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
)""",
    """CREATE VIEW entries AS
SELECT key,
       kind,
       size AS bytes,
       length(payload) AS stored,
       round(1.0 * size / max(length(payload), 1), 1) AS ratio,
       codec,
       strftime('%Y-%m-%dT%H:%M:%SZ', written_at, 'unixepoch') AS written
FROM entry""",
    """CREATE TABLE trace (
    run TEXT NOT NULL,
    chain INTEGER NOT NULL,
    step BIGINT NOT NULL,
    temperature FLOAT NOT NULL,
    loss FLOAT NOT NULL,
    best FLOAT NOT NULL,
    acceptance FLOAT NOT NULL,
    improvement FLOAT NOT NULL,
    elapsed FLOAT NOT NULL,
    PRIMARY KEY (run, chain, step)
)""",
)
