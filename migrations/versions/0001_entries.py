"""Entries, dictionaries, claims, facts, and the view for people."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ENTRIES = """\
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

ENTRIES_POSTGRESQL = """\
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

text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    postgresql = op.get_context().dialect.name == "postgresql"
    identity = (sa.Identity(),) if postgresql else ()
    op.create_table(
        "entry",
        sa.Column("id", big, *identity, primary_key=True),
        sa.Column("key", text, nullable=False, unique=True),
        sa.Column("codec", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sa.Column("written_at", sa.Float, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "dictionary",
        sa.Column("id", big, *identity, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("trained_at", sa.Float, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "claim",
        sa.Column("key", text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_table(
        "info",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.execute(ENTRIES_POSTGRESQL if postgresql else ENTRIES)
    if postgresql:  # payloads are compressed already: trying again costs time and gains nothing
        op.execute("ALTER TABLE entry ALTER COLUMN payload SET STORAGE EXTERNAL")
