"""The comparison that a model had passed when it was registered."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("validities", sa.Column("comparison", sa.JSON(), nullable=True))


def downgrade():
    with op.batch_alter_table("validities", schema=None) as batch_op:
        batch_op.drop_column("comparison")
