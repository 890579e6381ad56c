"""Visits by time, for the pages: one index, whose entries change only when a visit is settled."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_visits_time", "visits", ["state", "visited_at", "store_id"])


def downgrade() -> None:
    op.drop_index("ix_visits_time", table_name="visits")
