"""Provenance of masks: which model, with which settings, masked which frame.

Its tables have their own `Base` and their own Alembic version table, so that
they can live in one database with a pipeline's tables.
"""
