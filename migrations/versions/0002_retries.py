"""Retries: attempts before the last one, when a job was retried, and what an Idempotency-Key was answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
    op.add_column("jobs", sa.Column("retried_at", moment))
    op.add_column("images", sa.Column("attempts_before", sa.SmallInteger(), nullable=False, server_default="0"))
    op.add_column("idempotency_keys", sa.Column("answer", sa.JSON()))


def downgrade() -> None:
    op.drop_column("idempotency_keys", "answer")
    op.drop_column("images", "attempts_before")
    op.drop_column("jobs", "retried_at")
