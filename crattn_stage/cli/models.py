"""``models``: shipped and imported models, and which of them is chosen for which frames."""

import json
import sys

import click

from crattn_stage.cli.options import (
    DONE,
    FAILED,
    Night,
    database_option,
    explained,
    opened,
    overwrite_option,
    say,
    with_database,
)
from crattn_stage.errors import CrattnError
from crattn_stage.models.architectures import ARCHITECTURES


@click.group()
def models():
    """List, show, verify, import and register models."""


@models.command("list")
def list_models():
    """List the shipped models, and the baselines to compare with."""
    from crattn_stage.models.baselines import BASELINES
    from crattn_stage.models.cards import DEFAULT, read_card, shipped

    with explained():
        for name in shipped():
            card = read_card(name)
            default = "  (default)" if name == DEFAULT else ""
            click.echo(f"{name:20} {card.sha256[:16]}  threshold {card.threshold:.4g}  {card.date}{default}")
        for name in BASELINES:
            card = read_card(name)
            click.echo(f"{name:20} {card.sha256[:16]}  baseline without weights, version {card.code_version}")


@models.command("show")
@click.argument("model")
def show_model(model):
    """Print the card of MODEL."""
    from dataclasses import asdict

    from crattn_stage.models.cards import read_card

    with explained():
        click.echo(json.dumps(asdict(read_card(model)), indent=2))


@models.command("verify")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
def verify_models(names):
    """Check each MODEL (default: all shipped models) against its card."""
    from crattn_stage.models.cards import load, shipped

    failed = False
    for name in names or shipped():
        try:
            card, _ = load(name)
            click.echo(f"{name}: {card.architecture}, sha256 {card.sha256[:16]}, as on its card")
        except CrattnError as error:
            failed = True
            click.echo(error, err=True)
    sys.exit(FAILED if failed else DONE)


@models.command("import")
@click.argument("file", type=click.Path())
@click.option("--architecture", required=True, type=click.Choice(list(ARCHITECTURES)))
@click.option("--name", help="Name of the imported model (default: the file name).")
@click.option("--output-dir", type=click.Path(file_okay=False), default=".", show_default=True)
@overwrite_option
def import_model(file, architecture, name, output_dir, overwrite):
    """Read a checkpoint FILE that the paper's authors released."""
    from pathlib import Path

    from crattn_stage.fits.atomic import check_targets
    from crattn_stage.models.cards import TILING, save
    from crattn_stage.models.released import import_released

    with explained():
        tensors = import_released(file, architecture)
        name = name or Path(file).stem
        if Path(name).name != name:
            raise CrattnError(f"{name}: a name, not a path")
        target = Path(output_dir) / f"{name}.safetensors"
        check_targets([target], overwrite)
        card = {
            "name": name,
            "architecture": architecture,
            # The paper's networks take raw counts and are used at one half (Sec. 4).
            "scaling": "none",
            "threshold": 0.5,
            "trained_on": f"imported from {Path(file).name}",
            **TILING,
        }
        try:
            save(tensors, card, output_dir)
        except OSError as error:
            raise CrattnError(f"{target}: {error.strerror}") from error
    click.echo(target)


@models.command("register")
@click.argument("model")
@click.option("--instrument", help="Camera family (decam, lco, generic) or INSTRUME (default: any).")
@click.option("--from", "first_night", type=Night(), help="First night it is valid for.")
@click.option("--until", "last_night", type=Night(), help="Last night it is valid for.")
@click.option("--supersedes", metavar="MODEL", help="A model that this one replaces wherever it is valid.")
@click.option("--reason", help="For the history.")
@click.option(
    "--comparison",
    type=click.Path(exists=True, dir_okay=False),
    help="What `compare A MODEL FILE... --json` wrote: MODEL must not be worse than A, a shipped or registered model.",
)
@click.option("--without-comparison", metavar="REASON", help="Register without a comparison; kept in the history.")
@click.option(
    "--frames-needed",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Fewest frames of the comparison.",
)
@click.option("--clear-bad", is_flag=True, help="Accept a model that was retired as bad.")
@click.option("--new-instrument", is_flag=True, help="Accept an instrument with no known frames.")
@database_option
def register_model(model, url, new_instrument, comparison, without_comparison, frames_needed, **validity):
    """Make MODEL the choice of `reprocess` for an instrument and a range of nights.

    A model registered for this instrument takes precedence over a general one;
    after that, the one registered last.  It takes a comparison that MODEL has passed, or the reason to do without.
    """
    if comparison and without_comparison is not None:
        raise click.UsageError("give either --comparison or --without-comparison")
    with explained():
        if not comparison and not (without_comparison or "").strip():
            raise CrattnError(
                f"{model}: give --comparison FILE, from `crattn-stage compare fast {model} FRAME... --json FILE`, "
                "or --without-comparison REASON"
            )
        from calibration_dbs import registry
        from crattn_stage.models.cards import load
        from crattn_stage.nights.plan import describe_model

        load(model)
        description = describe_model(model)

        def register(url):
            database = opened(url)
            if validity["instrument"] and not new_instrument:
                _check_instrument(registry.known_instruments(database), validity["instrument"])
            record = {"without": without_comparison} if not comparison else _passed(database)
            return registry.register(database, description, comparison=record, **validity)

        def _passed(database):
            from crattn_stage.comparison import card_digest, passed
            from crattn_stage.models.cards import read_card, shipped

            trusted = {card_digest(read_card(name)) for name in shipped()} | registry.registered(database)
            return passed(comparison, read_card(model), trusted, frames_needed, validity["instrument"])

        name = with_database(url, register)
        say(f"{name} {description['sha256'][:16]} is registered")


def _check_instrument(cameras, name):
    from crattn_stage.cameras.profile import profiles

    families = {profile.family for profile in profiles()}
    if name.lower() not in families | cameras:
        known = f"known cameras are {', '.join(sorted(cameras))}" if cameras else "no camera is known yet"
        raise CrattnError(
            f"unknown instrument {name!r}: no camera family (see `cameras`), and {known}; --new-instrument accepts it"
        )


@models.command("retire")
@click.argument("model")
@click.option("--bad", "is_bad", is_flag=True, help="Its masks must not be trusted; qa fails them.")
@click.option("--reason", help="For the history.")
@database_option
def retire_model(model, url, **how):
    """Stop choosing MODEL, a name or the first digits of its sha256."""
    with explained():
        from calibration_dbs import registry

        name = with_database(url, lambda url: registry.retire(opened(url), model, **how))
        say(f"{name} is retired")


@models.command("history")
@database_option
def model_history(url):
    """List what was registered and retired, oldest first."""
    with explained():
        from calibration_dbs import registry

        for validity, model in with_database(url, lambda url: registry.history(opened(url))):
            nights = f"{validity.first_night or '...'}-{validity.last_night or '...'}"
            until = f"{validity.retired:%Y-%m-%d %H:%M}" if validity.retired else "now"
            retired = validity.retired_reason and f"retired: {validity.retired_reason}"
            said = [validity.reason, _said(validity.comparison), retired, "bad" if model.is_bad else None]
            notes = ", ".join(filter(None, said))
            say(
                f"{validity.registered:%Y-%m-%d %H:%M} to {until:16}  {model.name:20} {model.sha256[:16]}  "
                f"{validity.instrument or 'any':10} {nights}  {notes}".rstrip()
            )


def _said(comparison):
    """Return a few words on the comparison with which a model was registered."""
    if not comparison:
        return None
    if "without" in comparison:
        return f"without comparison: {comparison['without']}"
    cameras = ", ".join(comparison["cameras"])
    return f"not worse than {comparison['first']} on {comparison['frames']} frames of {cameras}"


@models.command("frames")
@click.argument("model")
@database_option
def masked_frames(model, url):
    """List the frames that were masked with MODEL, a name or the first digits of its sha256."""
    with explained():
        from calibration_dbs import provenance

        def print_frames(url):
            for night, path, output, finished in provenance.masked_with(opened(url), model):
                say(f"{night or '-':8}  {path}  {output}  {finished:%Y-%m-%d %H:%M}")

        with_database(url, print_frames)
