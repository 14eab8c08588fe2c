"""The fraction of galaxy nuclei masked."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("runs", sa.Column("galaxy_fraction", sa.Double(), nullable=True))


def downgrade():
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("galaxy_fraction")
