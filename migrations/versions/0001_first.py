"""Stores, jobs with their visits, chunks and images, and idempotency keys.

The types are spelled out here and not imported from the app: a revision says what the tables were, whatever the
models become.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Ids and URLs compare by their bytes.
BYTEWISE = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
CLUSTERED = {**BYTEWISE, "sqlite_with_rowid": False}


def moment() -> sa.types.TypeEngine:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    op.create_table(
        "stores",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("area", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stores"),
        **BYTEWISE,
    )
    op.create_index("ix_stores_area_id", "stores", ["area", "id"])

    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("submission", sa.String(32), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("owner_id", sa.BigInteger()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("client_metadata", sa.JSON()),
        sa.Column("processors", sa.JSON()),
        sa.Column("keep_images", sa.Boolean(), nullable=False),
        sa.Column("callback_url", sa.Text()),
        sa.Column("visits_total", sa.Integer(), nullable=False),
        sa.Column("images_total", sa.Integer(), nullable=False),
        sa.Column("images_open", sa.Integer(), nullable=False),
        sa.Column("images_done", sa.Integer(), nullable=False),
        sa.Column("images_failed", sa.Integer(), nullable=False),
        sa.Column("images_cancelled", sa.Integer(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("started_at", moment()),
        sa.Column("finished_at", moment()),
        sa.Column("cancelled_at", moment()),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("submission", name="uq_jobs_submission"),
        **BYTEWISE,
    )
    op.create_index("ix_jobs_state_turn", "jobs", ["state", "turn"])
    op.create_index("ix_jobs_owner_id_id", "jobs", ["owner_id", "id"])

    op.create_table(
        "visits",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("store_id", sa.String(64), nullable=False),
        sa.Column("visited_at", moment(), nullable=False),
        sa.Column("visited_as_sent", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("images_total", sa.Integer(), nullable=False),
        sa.Column("images_open", sa.Integer(), nullable=False),
        sa.Column("images_failed", sa.Integer(), nullable=False),
        sa.Column("images_cancelled", sa.Integer(), nullable=False),
        sa.Column("perimeter", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error_message", sa.String(300)),
        sa.Column("settled_at", moment()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_visits"),
        **CLUSTERED,
    )
    op.create_index("ix_visits_store", "visits", ["store_id", "state", "visited_at"])

    op.create_table(
        "chunks",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("first_image", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("due_at", moment()),
        sa.Column("claim", sa.Integer(), nullable=False),
        sa.Column("claimed_by", sa.String(100)),
        sa.Column("claimed_at", moment()),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_chunks"),
        **CLUSTERED,
    )
    op.create_index("ix_chunks_job_id_due_at", "chunks", ["job_id", "due_at"])
    op.create_index("ix_chunks_due_at", "chunks", ["due_at"])

    op.create_table(
        "images",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("visit_seq", sa.Integer()),
        sa.Column("url", sa.Text()),
        sa.Column("storage_key", sa.String(255)),
        sa.Column("client_ref", sa.String(255)),
        sa.Column("captured_at", moment()),
        sa.Column("captured_as_sent", sa.String(64)),
        sa.Column("store_name", sa.String(255)),
        sa.Column("camera_id", sa.String(255)),
        sa.Column("barcode", sa.String(255)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error_message", sa.String(300)),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("perimeter", sa.BigInteger()),
        sa.Column("format", sa.String(16)),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("sha256", sa.String(64)),
        sa.Column("results", sa.JSON()),
        sa.Column("seconds", sa.Double()),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("next_attempt_at", moment()),
        sa.Column("settled_at", moment()),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_images"),
        **CLUSTERED,
    )

    op.create_table(
        "idempotency_keys",
        sa.Column("owner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "key", name="pk_idempotency_keys"),
        **BYTEWISE,
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    for table in ("idempotency_keys", "images", "chunks", "visits", "jobs", "stores"):
        op.drop_table(table)
