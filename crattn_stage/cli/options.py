"""What the commands share: their options, and how errors are told."""

import sys
from contextlib import contextmanager

import click

from crattn_stage.errors import CrattnError
from crattn_stage.settings import default_database

#: Exit status: all done; some frames failed.  click's own 2 says that the command itself was wrong.
DONE, FAILED = 0, 1

model_option = click.option(
    "--model", help="Shipped name, or path of a .safetensors file; the shipped default without it."
)


def _number(context, parameter, value):
    if value != value:
        raise click.BadParameter("nan is not a probability")
    return value


threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    callback=_number,
    help="Probability above which a pixel is masked; the model card's without it.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "float32", "torch", "openvino", "cuda"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto measures on first use.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing output.")
database_option = click.option(
    "--db",
    "url",
    envvar="CRATTN_DB",
    help="SQLAlchemy URL of the provenance database; a SQLite file of yours without it.",
)


@contextmanager
def explained():
    """Turn an error of ours into one line and an exit status."""
    try:
        yield
    except CrattnError as error:
        click.echo(error, err=True)
        sys.exit(FAILED)


def load_stage(model, threshold, engine):
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    return AttentionCRStage(RuntimeContext(model, threshold, engine))


def with_database(url, action):
    """Do something with a database; what can go wrong with it is explained."""
    from sqlalchemy.exc import SQLAlchemyError

    from calibration_dbs.registry import UnknownModel

    url = url or default_database()
    try:
        return action(url)
    except (SQLAlchemyError, OSError, RuntimeError, ImportError, ValueError, UnknownModel) as error:
        cause = str(getattr(error, "orig", None) or error).split("\n")[0]
        raise CrattnError(f"provenance database {without_password(url)}: {cause}") from error


def without_password(url):
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string()
    except ArgumentError:
        return "URL"
