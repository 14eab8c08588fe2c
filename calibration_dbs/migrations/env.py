"""Alembic's entry: migrate our tables and see no others."""

from alembic import context

from calibration_dbs.tables import VERSION_TABLE, Base


def _ours(thing, name, kind, reflected, compared):
    return kind != "table" or name in Base.metadata.tables


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    include_object=_ours,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
