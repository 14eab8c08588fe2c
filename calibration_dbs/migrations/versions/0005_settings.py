"""Settings of a run beside its threshold."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RUNS = sa.table(
    "runs",
    sa.column("id", sa.Integer),
    sa.column("status", sa.String),
    sa.column("options", sa.JSON),
    sa.column("settings", sa.JSON(none_as_null=True)),
)


def upgrade():
    op.add_column("runs", sa.Column("settings", sa.JSON(none_as_null=True), nullable=True))
    # A CRMASK plane was an option of its own; it is a product among others now.
    with_plane = RUNS.c.options["mask_extension"].as_boolean()
    op.get_bind().execute(sa.update(RUNS).where(with_plane).values(settings={"products": ["CRMASK"]}))
    _change_options(lambda options: {"masks": {"mask_extension": options.pop("mask_extension", False)}})


def downgrade():
    _change_options(lambda options: {"mask_extension": options.pop("masks", {}).get("mask_extension", False)})
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.drop_column("settings")


def _change_options(change):
    """Change the options of the runs that are still to be done."""
    connection = op.get_bind()
    is_open = RUNS.c.status.in_(("queued", "running")) & RUNS.c.options.is_not(None)
    for run in connection.execute(sa.select(RUNS.c.id, RUNS.c.options).where(is_open)).all():
        options = dict(run.options or {})
        options.update(change(options))
        connection.execute(sa.update(RUNS).where(RUNS.c.id == run.id).values(options=options))
