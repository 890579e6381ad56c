"""Totals: numbers that only grow, begun with what is in the tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What the jobs that are still there came to; those deleted before are not known any more.
BEGIN = """
INSERT INTO totals (name, label, slot, value)
SELECT 'images_settled', 'done', 0, COALESCE(SUM(images_done), 0) FROM jobs
UNION ALL SELECT 'images_settled', 'failed', 0, COALESCE(SUM(images_failed), 0) FROM jobs
UNION ALL SELECT 'images_settled', 'cancelled', 0, COALESCE(SUM(images_cancelled), 0) FROM jobs
UNION ALL SELECT 'jobs_created', source, 0, COUNT(*) FROM jobs GROUP BY source
UNION ALL SELECT 'jobs_finished', state, 0, COUNT(*) FROM jobs WHERE state <> 'ongoing' GROUP BY state
"""


def upgrade() -> None:
    op.create_table(
        "totals",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("label", sa.String(40), nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "label", "slot", name="pk_totals"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
    )
    op.execute(BEGIN)


def downgrade() -> None:
    op.drop_table("totals")
