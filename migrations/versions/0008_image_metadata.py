"""What a client says of an image beside its id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("client_metadata", sa.JSON()))


def downgrade() -> None:
    op.drop_column("images", "client_metadata")
