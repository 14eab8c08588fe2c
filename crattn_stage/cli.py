"""The command line: ``crattn-stage``.

Heavy imports wait until a command needs them, so that ``--help`` is instant.
"""

import json
import logging
import os
import sys
from contextlib import contextmanager

import click

from crattn_stage import __version__
from crattn_stage.errors import CrattnError, FrameError

#: Exit status: all done; some frames failed.  click's own 2 says that the command itself was wrong.
DONE, FAILED = 0, 1

_model = click.option("--model", help="Shipped name, or path of a .safetensors file; the shipped default without it.")
_threshold = click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Probability above which a pixel is masked; the model card's without it.",
)
_engine = click.option(
    "--engine",
    type=click.Choice(["auto", "float32", "torch", "openvino", "cuda"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto measures on first use.",
)
_overwrite = click.option("--overwrite", is_flag=True, help="Replace existing output.")
_database = click.option(
    "--db",
    "url",
    envvar="CRATTN_DB",
    help="SQLAlchemy URL of the provenance database; a SQLite file of yours without it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Say more of what happens.")
def main(verbose):
    """Mask cosmic rays in CCD frames with attention U-Nets."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("crattn_stage").setLevel(logging.INFO if verbose else logging.WARNING)


@contextmanager
def _explained():
    """Turn an error of ours into one line and an exit status."""
    try:
        yield
    except CrattnError as error:
        click.echo(error, err=True)
        sys.exit(FAILED)


def _stage(model, threshold, engine):
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    return AttentionCRStage(RuntimeContext(model, threshold, engine))


def default_database():
    """Return the URL of the user's own provenance database."""
    return f"sqlite:///{os.path.join(click.get_app_dir('crattn-stage'), 'provenance.sqlite')}"


def _with_database(url, action):
    """Do something with a database; what can go wrong with it is explained."""
    from sqlalchemy.exc import SQLAlchemyError

    url = url or default_database()
    try:
        return action(url)
    except (SQLAlchemyError, OSError, RuntimeError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).split("\n")[0]
        raise CrattnError(f"provenance database {_without_password(url)}: {cause}") from error


def _without_password(url):
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string()
    except ArgumentError:
        return "URL"


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--output-dir", type=click.Path(file_okay=False), help="Folder for the output; beside each input without it."
)
@_model
@_threshold
@_engine
@_overwrite
@click.option("--preview", is_flag=True, help="Write a PNG of image and mask, too.")
@click.option("--mask-extension", is_flag=True, help="Add a CRMASK plane of the cosmic rays alone.")
@_database
def run(files, output_dir, model, threshold, engine, overwrite, preview, mask_extension, url):
    """Mask the cosmic rays of each FILE.

    The output has the name of the input in --output-dir, or "-crmask" in its
    name beside it.  Science pixels are copied as they are.  A frame that fails
    is named with the cause, and the others go on; the exit status is 1 then.
    """
    with _explained():
        from calibration_dbs.records import open_database

        stage = _stage(model, threshold, engine)
        database = _with_database(url, open_database)
        if output_dir:
            try:
                os.makedirs(output_dir, exist_ok=True)
            except OSError as error:
                raise CrattnError(f"{output_dir}: {error.strerror}") from error
    options = {"overwrite": overwrite, "mask_extension": mask_extension, "preview": preview}
    sys.exit(_run_all(files, output_dir, stage, database, options))


def _run_all(files, output_dir, stage, database, options):
    from tqdm import tqdm

    from crattn_stage.process import SUFFIX, output_path, process

    failed, written = 0, set()
    for path in tqdm(files, unit="frame", disable=True if len(files) == 1 else None):
        target = output_path(path, output_dir)
        if output_dir is None and f"{SUFFIX}." in os.path.basename(path):
            tqdm.write(f"{path}: skipped, an output of an earlier run")
            continue
        try:
            if target in written:
                raise FrameError(f"{target} was just written from another frame")
            outcome = process(path, target, stage, database, **options)
            written.update(outcome.outputs)
            tqdm.write(f"{path}: {outcome.message}")
            for output in outcome.outputs:
                tqdm.write(f"  {output}")
        except FrameError as error:
            failed += 1
            tqdm.write(f"{path}: {error}", file=sys.stderr)
        except Exception as error:
            # A defect of ours must not cost the night; it is told apart from bad input by its type.
            failed += 1
            tqdm.write(f"{path}: {type(error).__name__}: {error}".replace("\n", " "), file=sys.stderr)
            logging.getLogger(__name__).info("%s", path, exc_info=True)
    return FAILED if failed else DONE


@main.command()
@click.argument("folder", type=click.Path(file_okay=False), metavar="DIR")
@_model
@_threshold
@_engine
@_overwrite
def demo(folder, model, threshold, engine, overwrite):
    """Simulate an exposure in DIR, mask it, and draw image, truth and mask."""
    with _explained():
        stage = _stage(model, threshold, engine)
        from crattn_stage import demo as demonstration

        try:
            completeness, purity = demonstration.run_demo(folder, stage, overwrite)
        except OSError as error:
            raise CrattnError(f"{folder}: {error.strerror}") from error
    click.echo(f"model {stage.provenance['model']}, threshold {stage.threshold:.4g}")
    click.echo(f"completeness {completeness:.1%} of the cosmic rays have a masked pixel")
    click.echo(f"purity       {purity:.1%} of the masked objects are cosmic rays")
    for name in (demonstration.FRAME, demonstration.MASKED, demonstration.PICTURE):
        click.echo(os.path.join(folder, name))


@main.group()
def models():
    """List, show, verify and import models."""


@models.command("list")
def list_models():
    """List the shipped models."""
    from crattn_stage.models import DEFAULT, read_card, shipped

    with _explained():
        for name in shipped():
            card = read_card(name)
            default = "  (default)" if name == DEFAULT else ""
            click.echo(f"{name:20} {card.sha256[:16]}  threshold {card.threshold:.4g}  {card.date}{default}")


@models.command("show")
@click.argument("model")
def show_model(model):
    """Print the card of MODEL."""
    from dataclasses import asdict

    from crattn_stage.models import read_card

    with _explained():
        click.echo(json.dumps(asdict(read_card(model)), indent=2))


@models.command("verify")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
def verify_models(names):
    """Check each MODEL (all shipped ones without any) against its card."""
    from crattn_stage.models import load, shipped

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
@click.option(
    "--architecture", required=True, type=click.Choice(["deepcr", "att-deepcr", "cosmic-conn", "att-cosmic-conn"])
)
@click.option("--name", help="Name of the imported model; that of the file without it.")
@click.option("--output-dir", type=click.Path(file_okay=False), default=".", show_default=True)
@_overwrite
def import_model(file, architecture, name, output_dir, overwrite):
    """Read a checkpoint FILE that the paper's authors released."""
    from pathlib import Path

    from crattn_stage.models import TILING, import_released, save

    with _explained():
        network = import_released(file, architecture)
        name = name or Path(file).stem
        if Path(name).name != name:
            raise CrattnError(f"{name}: a name, not a path")
        target = Path(output_dir) / f"{name}.safetensors"
        if target.exists() and not overwrite:
            raise CrattnError(f"{target} exists; --overwrite replaces it")
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
            save(network, card, output_dir)
        except OSError as error:
            raise CrattnError(f"{target}: {error.strerror}") from error
    click.echo(target)


@main.group()
def db():
    """Upgrade and inspect the provenance database."""


def _print_revision(url, upgraded):
    from calibration_dbs import records

    file = url.partition("sqlite:///")[2]
    if file and not upgraded and not os.path.exists(file):
        raise FileNotFoundError("no such file")
    engine = records.connect(url)
    if upgraded:
        records.upgrade(engine)
    present, newest = records.revision(engine)
    click.echo(f"{_without_password(url)}: revision {present}, newest {newest}")


@db.command()
@_database
def upgrade(url):
    """Bring the tables to the newest revision; other tables are left alone."""
    with _explained():
        _with_database(url, lambda url: _print_revision(url, upgraded=True))


@db.command()
@_database
def current(url):
    """Print the revision of the tables and the newest one."""
    with _explained():
        _with_database(url, lambda url: _print_revision(url, upgraded=False))


if __name__ == "__main__":
    main()
