"""Priorities of queued runs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OPEN = sa.text("status IN ('queued', 'running')")


def upgrade():
    op.add_column("runs", sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False))
    op.create_index("ix_runs_priority", "runs", ["priority", "id"], sqlite_where=OPEN, postgresql_where=OPEN)


def downgrade():
    op.drop_index("ix_runs_priority", "runs")
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("priority")
