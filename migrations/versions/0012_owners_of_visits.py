"""Visits carry the owner of their job, and are found by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("visits", sa.Column("owner_id", sa.BigInteger()))
    op.execute(
        "UPDATE visits SET owner_id = (SELECT owner_id FROM jobs WHERE jobs.id = visits.job_id) "
        "WHERE job_id IN (SELECT id FROM jobs WHERE owner_id IS NOT NULL)"
    )
    op.create_index("ix_visits_owner_store", "visits", ["owner_id", "store_id", "state", "visited_at"])
    op.create_index("ix_visits_owner_time", "visits", ["owner_id", "state", "visited_at", "store_id"])


def downgrade() -> None:
    op.drop_index("ix_visits_owner_time", table_name="visits")
    op.drop_index("ix_visits_owner_store", table_name="visits")
    op.drop_column("visits", "owner_id")
