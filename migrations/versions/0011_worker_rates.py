"""Workers tell how fast they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("rate", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("workers", "rate")
