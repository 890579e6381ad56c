"""Owners share the workers; jobs of which nothing is due are parked; chunks whose worker died are found first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shares",
        sa.Column("owner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.Column("job_turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name="pk_shares"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_shares_served", "shares", ["served"])
    # Jobs that come from now on begin where those that are open stand.
    op.execute(
        "INSERT INTO shares (owner_id, turn, served, job_turn) "
        "SELECT COALESCE(owner_id, 0), 0, 0, MIN(turn) FROM jobs WHERE state = 'ongoing' GROUP BY COALESCE(owner_id, 0)"
    )
    op.add_column("jobs", sa.Column("parked_until", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")))
    op.create_index("ix_jobs_turns", "jobs", ["state", "parked_until", "owner_id", "lane", "turn"])
    op.drop_index("ix_jobs_state_lane_turn", table_name="jobs")
    op.drop_index("ix_jobs_state_turn", table_name="jobs")
    op.create_index("ix_chunks_job_id_unreturned_due_at", "chunks", ["job_id", "unreturned", "due_at"])


def downgrade() -> None:
    op.drop_index("ix_chunks_job_id_unreturned_due_at", table_name="chunks")
    op.create_index("ix_jobs_state_turn", "jobs", ["state", "turn"])
    op.create_index("ix_jobs_state_lane_turn", "jobs", ["state", "lane", "turn"])
    op.drop_index("ix_jobs_turns", table_name="jobs")
    op.drop_column("jobs", "parked_until")
    op.drop_table("shares")
