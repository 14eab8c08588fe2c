"""Paths and names of any length; indexes for archives of millions; why a model was retired."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OPEN, LOCKED = sa.text("status IN ('queued', 'running')"), sa.text("locked_by IS NOT NULL")
#: Table -> column -> (length before, whether it may be NULL).
TEXTS = {
    "frames": {"path": (1000, False)},
    "models": {"path": (1000, True)},
    "runs": {"target": (1000, True), "output_path": (1000, True)},
    "amplifiers": {"extension": (100, False), "name": (20, False)},
}


def upgrade():
    for table, columns in TEXTS.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name, (length, nullable) in columns.items():
                batch_op.alter_column(
                    name, existing_type=sa.String(length), type_=sa.Text(), existing_nullable=nullable
                )
    op.add_column("validities", sa.Column("retired_reason", sa.Text(), nullable=True))
    op.drop_index("ix_frames_camera", "frames")
    op.create_index("ix_frames_camera", "frames", ["camera", "site", "night"])
    op.create_index("ix_frames_locked_by", "frames", ["locked_by"], sqlite_where=LOCKED, postgresql_where=LOCKED)
    # Planners took the index of a column of six values for a good one.
    op.drop_index("ix_runs_status", "runs")
    op.create_index("ix_runs_open", "runs", ["id"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_runs_finished", "runs", ["finished"])
    # The unique constraint begins with the same column.
    op.drop_index("ix_amplifiers_run_id", "amplifiers")


def downgrade():
    op.create_index("ix_amplifiers_run_id", "amplifiers", ["run_id"])
    op.drop_index("ix_runs_finished", "runs")
    op.drop_index("ix_runs_open", "runs")
    op.create_index("ix_runs_status", "runs", ["status"])
    op.drop_index("ix_frames_locked_by", "frames")
    op.drop_index("ix_frames_camera", "frames")
    op.create_index("ix_frames_camera", "frames", ["camera"])
    with op.batch_alter_table("validities", schema=None) as batch_op:
        batch_op.drop_column("retired_reason")
    for table, columns in TEXTS.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name, (length, nullable) in columns.items():
                batch_op.alter_column(
                    name, existing_type=sa.Text(), type_=sa.String(length), existing_nullable=nullable
                )
