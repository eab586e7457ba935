"""The traces of annealing searches, one row per point."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "trace",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("chain", sa.Integer, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True),
        sa.Column("temperature", sa.Float, nullable=False),
        sa.Column("loss", sa.Float, nullable=False),
        sa.Column("best", sa.Float, nullable=False),
        sa.Column("acceptance", sa.Float, nullable=False),
        sa.Column("improvement", sa.Float, nullable=False),
        sa.Column("elapsed", sa.Float, nullable=False),
    )
