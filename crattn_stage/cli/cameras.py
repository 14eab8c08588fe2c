"""``inspect`` and ``cameras``: what is understood of a frame, and the profiles that say so."""

import json
import sys

import click

from crattn_stage.cli.options import DONE, FAILED, explained
from crattn_stage.errors import CrattnError, FrameError


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option("--output-dir", type=click.Path(file_okay=False), help="Show the path `run --output-dir` would write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one list of all files.")
@click.option("--write-profile", type=click.Path(dir_okay=False), help="Write a profile to start from.")
def inspect(files, output_dir, as_json, write_profile):
    """Print how each FILE is interpreted, and what `run` would do; nothing is masked.

    The exit status is 1 if a file would be refused.
    """
    from crattn_stage.fits.names import output_path
    from crattn_stage.products import description

    if write_profile and len(files) > 1:
        raise click.UsageError("--write-profile takes exactly one FILE")
    with explained():
        found = [description.describe(path, output_path(path, output_dir)) for path in files]
        if as_json:
            click.echo(json.dumps(found, indent=2))
        else:
            click.echo("\n\n".join(description.as_text(one) for one in found))
        if write_profile:
            _write(write_profile, description.starting_profile(files[0]))
            click.echo(f"\nwrote {write_profile}; check it, and put it into a folder named by CRATTN_CAMERAS", err=True)
    sys.exit(FAILED if any(one["verdict"] == "refuse" for one in found) else DONE)


def _write(path, text):
    from crattn_stage.fits.atomic import replacing

    try:
        with replacing([path]) as (stream,):
            stream.write(text.encode())
    except FrameError as error:
        # `inspect` has no --overwrite.
        raise CrattnError(f"{path} exists; give another name") from error
    except OSError as error:
        raise CrattnError(f"{path}: {error.strerror}") from error


@click.group()
def cameras():
    """List, show and check camera profiles."""


@cameras.command("list")
def list_cameras():
    """List the profiles in the order in which they are tried, a user's own first."""
    with explained():
        from crattn_stage.cameras.profile import SHIPPED, profiles

        found = profiles()
        width = max(len(profile.name) for profile in found)
        for profile in found:
            own = "" if profile.path.parent == SHIPPED else f"  ({profile.path})"
            click.echo(f"{profile.name:{width}}  {profile.priority:3}  {profile.title}{own}")


@cameras.command()
@click.argument("name")
def show(name):
    """Print the profile NAME."""
    with explained():
        from crattn_stage.cameras.profile import find_profile

        click.echo(find_profile(name).path.read_text(encoding="utf-8").rstrip())


@cameras.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
def check(files):
    """Check that each profile FILE is valid; errors name file, line and key."""
    failed = False
    for path in files:
        try:
            from crattn_stage.cameras.profile import load_profile

            load_profile(path)
            click.echo(f"{path}: good")
        except CrattnError as error:
            click.echo(error, err=True)
            failed = True
    sys.exit(FAILED if failed else DONE)
