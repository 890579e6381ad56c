"""What is asked of the job of a submission, kept until its archives are opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("options", sa.JSON()))


def downgrade() -> None:
    op.drop_column("uploads", "options")
