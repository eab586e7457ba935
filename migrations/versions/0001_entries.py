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

big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "entry",
        sa.Column("id", big, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("codec", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sa.Column("written_at", sa.Float, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "dictionary",
        sa.Column("id", big, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("trained_at", sa.Float, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "claim",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_table(
        "info",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.execute(ENTRIES)
