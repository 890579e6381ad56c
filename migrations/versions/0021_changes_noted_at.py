"""When a change of visits was noted, so that one can tell for how long it waits to be added up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    op.add_column("visit_changes", sa.Column("noted_at", TIME))


def downgrade() -> None:
    op.drop_column("visit_changes", "noted_at")
