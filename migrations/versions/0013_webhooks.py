"""Webhooks: who is told of what, the outbox of deliveries, and how often each job was closed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BYTEWISE = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}


def moment() -> sa.types.TypeEngine:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")


def number() -> sa.types.TypeEngine:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("version", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET version = 1 WHERE state <> 'ongoing'")
    op.create_table(
        "webhooks",
        sa.Column("id", number(), autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.BigInteger()),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.String(262), nullable=False),
        sa.Column("secret", sa.String(120), nullable=False),
        sa.Column("secret_before", sa.String(120)),
        sa.Column("secret_changed_at", moment()),
        sa.Column("events", sa.String(255), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(300)),
        sa.Column("description", sa.String(255)),
        sa.Column("failing_since", moment()),
        sa.Column("last_error", sa.String(300)),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        **BYTEWISE,
    )
    op.create_index("ix_webhooks_job_id_owner_id", "webhooks", ["job_id", "owner_id"])
    op.create_table(
        "deliveries",
        sa.Column("id", number(), autoincrement=True, nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(262), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("visit_seq", sa.Integer()),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_before", sa.Integer(), nullable=False),
        sa.Column("due_at", moment()),
        sa.Column("claim", sa.String(32)),
        sa.Column("tries", sa.JSON()),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("finished_at", moment()),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        **BYTEWISE,
    )
    op.create_index("ix_deliveries_due_at_host", "deliveries", ["due_at", "host"])
    op.create_index("ix_deliveries_job_id", "deliveries", ["job_id"])
    op.create_index("ix_deliveries_webhook_id_id", "deliveries", ["webhook_id", "id"])


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_column("jobs", "version")
