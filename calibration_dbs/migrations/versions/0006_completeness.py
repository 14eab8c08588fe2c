"""Completeness and noise of a mask."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = ("faint_completeness", "bright_completeness", "noise_objects")


def upgrade():
    for name in COLUMNS:
        op.add_column("runs", sa.Column(name, sa.Double(), nullable=True))


def downgrade():
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for name in COLUMNS:
            batch_op.drop_column(name)
