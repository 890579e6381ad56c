"""Stored images: what they are served as, the store they were matched to, and indexes to find them by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IMAGE_INDEXES = {
    "ix_images_storage_key": ["storage_key"],
    "ix_images_store_name_job_id": ["store_name", "job_id"],
    "ix_images_camera_id_job_id": ["camera_id", "job_id"],
    "ix_images_barcode_job_id": ["barcode", "job_id"],
    "ix_images_captured_at_job_id": ["captured_at", "job_id"],
}


def upgrade() -> None:
    op.add_column("images", sa.Column("content_type", sa.String(100), nullable=True))
    op.add_column("images", sa.Column("store_id", sa.String(64), nullable=True))
    for name, columns in IMAGE_INDEXES.items():
        op.create_index(name, "images", columns)
    op.create_index("ix_jobs_source_id", "jobs", ["source", "id"])
    op.create_index("ix_stores_name", "stores", ["name"])


def downgrade() -> None:
    op.drop_index("ix_stores_name", table_name="stores")
    op.drop_index("ix_jobs_source_id", table_name="jobs")
    for name in reversed(IMAGE_INDEXES):
        op.drop_index(name, table_name="images")
    with op.batch_alter_table("images") as images:
        images.drop_column("store_id")
        images.drop_column("content_type")
