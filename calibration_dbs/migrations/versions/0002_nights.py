"""Batches, locks and the validity of models."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("night", sa.String(length=8), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_batches_night"), ["night"], unique=False)

    op.create_table(
        "validities",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("instrument", sa.String(length=50), nullable=True),
        sa.Column("first_night", sa.String(length=8), nullable=True),
        sa.Column("last_night", sa.String(length=8), nullable=True),
        sa.Column("registered", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_validities_model_id_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_validities")),
    )
    with op.batch_alter_table("validities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_validities_model_id"), ["model_id"], unique=False)

    with op.batch_alter_table("amplifiers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("border_pixels", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("border_searched", sa.BigInteger(), nullable=True))

    with op.batch_alter_table("frames", schema=None) as batch_op:
        batch_op.add_column(sa.Column("camera", sa.String(length=50), nullable=True))
        batch_op.add_column(sa.Column("site", sa.String(length=50), nullable=True))
        batch_op.create_index(batch_op.f("ix_frames_camera"), ["camera"], unique=False)
        batch_op.add_column(sa.Column("locked_by", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.add_column(sa.Column("path", sa.String(length=1000), nullable=True))
        batch_op.add_column(sa.Column("is_bad", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("superseded_by_id", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(
            batch_op.f("fk_models_superseded_by_id_models"), "models", ["superseded_by_id"], ["id"]
        )

    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("batch_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("attempts", sa.Integer(), server_default="1", nullable=False))
        batch_op.add_column(sa.Column("losses", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("target", sa.String(length=1000), nullable=True))
        batch_op.add_column(sa.Column("options", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("outputs", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("megapixels", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("area", sa.Double(), nullable=True))
        batch_op.create_index(batch_op.f("ix_runs_batch_id"), ["batch_id"], unique=False)
        batch_op.create_foreign_key(batch_op.f("fk_runs_batch_id_batches"), "batches", ["batch_id"], ["id"])


def downgrade():
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_runs_batch_id_batches"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_runs_batch_id"))
        batch_op.drop_column("area")
        batch_op.drop_column("megapixels")
        batch_op.drop_column("outputs")
        batch_op.drop_column("options")
        batch_op.drop_column("target")
        batch_op.drop_column("losses")
        batch_op.drop_column("attempts")
        batch_op.drop_column("batch_id")

    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_models_superseded_by_id_models"), type_="foreignkey")
        batch_op.drop_column("superseded_by_id")
        batch_op.drop_column("is_bad")
        batch_op.drop_column("path")

    with op.batch_alter_table("frames", schema=None) as batch_op:
        batch_op.drop_column("locked_until")
        batch_op.drop_column("locked_by")
        batch_op.drop_index(batch_op.f("ix_frames_camera"))
        batch_op.drop_column("site")
        batch_op.drop_column("camera")

    with op.batch_alter_table("amplifiers", schema=None) as batch_op:
        batch_op.drop_column("border_searched")
        batch_op.drop_column("border_pixels")

    with op.batch_alter_table("validities", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_validities_model_id"))

    op.drop_table("validities")
    with op.batch_alter_table("batches", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_batches_night"))

    op.drop_table("batches")
