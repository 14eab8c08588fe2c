"""Hits as objects."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FLOATS = (
    *("ra", "dec", "charge", "counts", "gain", "background", "noise"),
    *("length", "width", "angle", "straightness", "peak_snr", "probability"),
)


def upgrade():
    op.create_table(
        "hits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("amplifier", sa.Text(), nullable=False),
        sa.Column("x", sa.Double(), nullable=False),
        sa.Column("y", sa.Double(), nullable=False),
        sa.Column("pixels", sa.Integer(), nullable=False),
        sa.Column("class", sa.String(10), nullable=False),
        sa.Column("near_star", sa.Boolean(), nullable=False),
        sa.Column("near_edge", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in FLOATS),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_hits_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hits")),
    )
    op.create_index(op.f("ix_hits_run_id"), "hits", ["run_id"])


def downgrade():
    op.drop_index(op.f("ix_hits_run_id"), "hits")
    op.drop_table("hits")
