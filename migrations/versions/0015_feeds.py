"""What is told of images on lists of Redis."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("feed", sa.JSON()))
    op.create_table(
        "feed_items",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger()),
        sa.Column("tensor", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id", name="pk_feed_items"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
    )
    op.create_index("ix_feed_items_queue", "feed_items", ["queue", "position", "job_id", "id"])
    op.create_index("ix_feed_items_job_id", "feed_items", ["job_id"])


def downgrade() -> None:
    op.drop_table("feed_items")
    op.drop_column("jobs", "feed")
