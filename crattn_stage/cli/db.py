"""``db``: the provenance database."""

import os
from datetime import UTC, datetime, timedelta

import click

from crattn_stage.cli.options import database_option, explained, say, with_database


@click.group()
def db():
    """Upgrade, inspect and prune the provenance database."""


def _print_revision(url, upgraded):
    from calibration_dbs import database

    file = url.partition("sqlite:///")[2]
    if file and not upgraded and not os.path.exists(file):
        raise FileNotFoundError("no such file")
    engine = database.connect(url)
    if upgraded:
        database.upgrade(engine)
    present, newest = database.revision(engine)
    say(f"{database.without_password(url)}: revision {present}, newest {newest}")


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


@db.command()
@click.option("--days", required=True, type=click.IntRange(0), help="Keep everything of the last DAYS days.")
@click.option("--dry-run", is_flag=True, help="Print what would be deleted.")
@database_option
def prune(days, dry_run, url):
    """Delete runs that were replaced, and the amplifier counts of old runs.

    The last run of each frame and the last success for each output stay:
    nothing needs to be masked again, `trace` still recognises every output,
    and the usual hit rates do not change.
    """
    with explained():
        from calibration_dbs import provenance
        from calibration_dbs.database import open_database

        before = datetime.now(UTC) - timedelta(days=days)
        runs, amplifiers = with_database(url, lambda url: provenance.prune(open_database(url), before, dry_run))
        deleted = "would delete" if dry_run else "deleted"
        say(f"{deleted} {runs} runs and {amplifiers} amplifier rows of older runs")
