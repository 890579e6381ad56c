"""Uploads of photos by people, and reports of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BYTEWISE = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}


def upgrade() -> None:
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner_id", sa.BigInteger()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("ignored", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error_message", sa.String(300)),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("queued_at", moment),
        sa.Column("mailed_at", moment),
        sa.Column("due_at", moment),
        sa.Column("claim", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        **BYTEWISE,
    )
    for column in ("due_at", "job_id", "created_at"):
        op.create_index(f"ix_uploads_{column}", "uploads", [column])
    op.create_table(
        "upload_files",
        sa.Column("upload_id", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger()),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("storage_key", sa.String(255)),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("is_archive", sa.Boolean(), nullable=False),
        sa.Column("archive_seq", sa.Integer()),
        sa.Column("entry", sa.Integer()),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error_message", sa.String(300)),
        sa.PrimaryKeyConstraint("upload_id", "seq", name="pk_upload_files"),
        sqlite_with_rowid=False,
        **BYTEWISE,
    )
    for column in ("storage_key", "job_id"):
        op.create_index(f"ix_upload_files_{column}", "upload_files", [column])
    op.create_table(
        "reports",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("images_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("folder", sa.String(255)),
        sa.Column("zip_storage_key", sa.String(255)),
        sa.Column("xlsx_storage_key", sa.String(255)),
        sa.Column("csv_storage_key", sa.String(255)),
        sa.Column("json_storage_key", sa.String(255)),
        sa.Column("zip_bytes", sa.BigInteger()),
        sa.Column("error_message", sa.String(300)),
        sa.Column("built_at", moment),
        sa.Column("due_at", moment),
        sa.Column("claim", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_reports"),
        **BYTEWISE,
    )
    for column in ("due_at", "state"):
        op.create_index(f"ix_reports_{column}", "reports", [column])


def downgrade() -> None:
    for table in ("reports", "upload_files", "uploads"):
        op.drop_table(table)
