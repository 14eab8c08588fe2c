"""When a frame was observed, and through which filter."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("frames", sa.Column("observed", sa.DateTime(timezone=True), nullable=True))
    op.add_column("frames", sa.Column("filter", sa.String(50), nullable=True))


def downgrade():
    with op.batch_alter_table("frames", schema=None) as batch_op:
        batch_op.drop_column("filter")
        batch_op.drop_column("observed")
