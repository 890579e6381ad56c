"""Jobs that want the detector have a lane of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("lane", sa.String(16), nullable=False, server_default="plain"))
    jobs = sa.table("jobs", sa.column("lane", sa.String), sa.column("processors", sa.Text))
    wants_detector = sa.cast(jobs.c.processors, sa.String(1000)).like('%"detector"%')
    op.execute(sa.update(jobs).where(wants_detector).values(lane="detector"))
    op.create_index("ix_jobs_state_lane_turn", "jobs", ["state", "lane", "turn"])


def downgrade() -> None:
    op.drop_index("ix_jobs_state_lane_turn", "jobs")
    op.drop_column("jobs", "lane")
