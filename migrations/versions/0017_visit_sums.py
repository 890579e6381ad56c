"""Sums of settled visits by store, day and month, begun with the visits that are there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

BYTEWISE = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
JOBS_A_SLICE = 500
# As changes: the recover loop adds them to the sums, and until it has, they are read as they are.
BEGIN = sa.text(
    """
INSERT INTO visit_changes (day, store_id, state, error_code, owner_id, visits, images, images_failed, perimeter)
SELECT DATE(visited_at), store_id, state, COALESCE(error_code, ''), COALESCE(owner_id, 0),
       COUNT(*), SUM(images_total), SUM(images_failed), SUM(perimeter)
FROM visits WHERE job_id BETWEEN :first AND :last AND state <> 'open'
GROUP BY DATE(visited_at), store_id, state, COALESCE(error_code, ''), COALESCE(owner_id, 0)
"""
)
SLICE_END = sa.text(
    "SELECT MAX(id) FROM (SELECT id FROM jobs WHERE id >= :first ORDER BY id LIMIT :most) AS some"
)


def _counts() -> list[sa.Column]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("images", "images_failed", "perimeter")]


def upgrade() -> None:
    op.create_table(
        "visit_sums",
        sa.Column("grain", sa.String(16), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("store_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(32), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("visits", sa.BigInteger(), nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint(
            "grain", "first_day", "store_id", "state", "error_code", "owner_id", name="pk_visit_sums"
        ),
        sqlite_with_rowid=False,
        **BYTEWISE,
    )
    op.create_index("ix_visit_sums_store", "visit_sums", ["store_id", "grain", "first_day"])
    op.create_table(
        "visit_changes",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("store_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(32), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("visits", sa.Integer(), nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("id", name="pk_visit_changes"),
        **BYTEWISE,
    )
    if op.get_context().as_sql:  # written down for somebody else to run: in one piece
        op.execute(BEGIN.bindparams(first=0, last=2**62))
    else:
        _begin(op.get_bind())


def _begin(connection: sa.Connection) -> None:
    first = 0
    while last := connection.scalar(SLICE_END, {"first": first, "most": JOBS_A_SLICE}):
        connection.execute(BEGIN, {"first": first, "last": last})
        first = last + 1


def downgrade() -> None:
    op.drop_table("visit_changes")
    op.drop_index("ix_visit_sums_store", table_name="visit_sums")
    op.drop_table("visit_sums")
