"""``db``: the provenance database."""

import os

import click

from crattn_stage.cli.options import database_option, explained, with_database, without_password


@click.group()
def db():
    """Upgrade and inspect the provenance database."""


def _print_revision(url, upgraded):
    from calibration_dbs import database

    file = url.partition("sqlite:///")[2]
    if file and not upgraded and not os.path.exists(file):
        raise FileNotFoundError("no such file")
    engine = database.connect(url)
    if upgraded:
        database.upgrade(engine)
    present, newest = database.revision(engine)
    click.echo(f"{without_password(url)}: revision {present}, newest {newest}")


@db.command()
@database_option
def upgrade(url):
    """Bring the tables to the newest revision; other tables are left alone."""
    with explained():
        with_database(url, lambda url: _print_revision(url, upgraded=True))


@db.command()
@database_option
def current(url):
    """Print the revision of the tables and the newest one."""
    with explained():
        with_database(url, lambda url: _print_revision(url, upgraded=False))
