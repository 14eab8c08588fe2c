"""``db``: the provenance database."""

import os
from datetime import UTC, datetime, timedelta

import click

from crattn_stage.cli.options import database_option, explained, opened, say, with_database


@click.group()
def db():
    """Upgrade, inspect and prune the provenance database."""


def _print_revision(url, upgraded):
    from calibration_dbs import database

    file = url.partition("sqlite:///")[2]
    if file and not upgraded and not os.path.exists(file):
        raise FileNotFoundError("no such file")
    engine = database.connect(url)
    click.get_current_context().call_on_close(engine.dispose)
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
@click.option("--days", type=click.IntRange(0), help="Keep all runs of the last DAYS days.")
@click.option("--hits-older-than", "hit_days", type=click.IntRange(0), help="Delete the hits of runs older than this.")
@click.option("--dry-run", is_flag=True, help="Print what would be deleted.")
@database_option
def prune(days, hit_days, dry_run, url):
    """Delete runs that were replaced, and the amplifier counts and hits of old runs.

    The last run of each frame and the last success for each output stay:
    nothing needs to be masked again, `trace` still recognises every output,
    and the usual hit rates do not change.
    """
    if days is None and hit_days is None:
        raise click.UsageError("give --days, or --hits-older-than, or both")
    with explained():
        from calibration_dbs import provenance

        deleted, database = "would delete" if dry_run else "deleted", opened(url)
        if hit_days is not None:
            before = datetime.now(UTC) - timedelta(days=hit_days)
            hits = with_database(url, lambda _: provenance.prune_hits(database, before, dry_run))
            say(f"{deleted} {hits} hits")
        if days is not None:
            before = datetime.now(UTC) - timedelta(days=days)
            runs, amplifiers = with_database(url, lambda _: provenance.prune(database, before, dry_run))
            say(f"{deleted} {runs} runs and {amplifiers} amplifier rows of older runs")
