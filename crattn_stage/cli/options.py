"""What the commands share: their options, and how they print results and errors."""

import functools
import sys
from contextlib import contextmanager
from datetime import datetime

import click

from crattn_stage.detection.engines import ENGINES
from crattn_stage.errors import CrattnError, one_line, printable

#: Exit status: all done; some frames failed.  click's own 2 is for wrong usage.
DONE, FAILED = 0, 1

model_option = click.option(
    "--model",
    help="Shipped name, or path of a .safetensors file (default: the camera profile's, else fast).",
)


def _number(context, parameter, value):
    if value != value:
        raise click.BadParameter("nan is not a probability")
    return value


threshold_option = click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    callback=_number,
    help="Probability above which a pixel is masked (default: the camera profile's, else the model card's).",
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES]),
    default="auto",
    show_default=True,
    help="Inference engine; auto times them on first use.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing output.")
database_option = click.option(
    "--db",
    "url",
    envvar="CRATTN_DB",
    help="SQLAlchemy URL of the provenance database (default: a SQLite file in your configuration folder).",
)


def mask_options(command):
    """Add the options of masks and of what is made with them; the command gets them as ``masks``."""

    @click.option(
        "--grow",
        type=click.IntRange(0, 50),
        help="Pixels by which each mask is grown (default: the camera profile's, else 0).",
    )
    @click.option(
        "--grow-threshold",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        callback=_number,
        help="Grow each mask along connected pixels down to this probability, lower than the threshold.",
    )
    @click.option(
        "--protect",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, resolve_path=True),
        help="Flag nothing in the areas of this file: DS9 regions (.reg), or a catalogue (.ecsv, .csv, .fits) with "
        "RA, Dec and radius. May be repeated.",
    )
    @click.option(
        "--injections",
        type=click.IntRange(0, 10_000),
        help="Hits added to a copy of parts of each detector to measure the fraction found (default: at most 128, for "
        "a tenth of the masking time if all bright ones are found).",
    )
    @click.option("--no-injection", "injections", flag_value=0, help="Add no hits: --injections 0.")
    @click.option("--arcs", is_flag=True, help="Mask arcs, too, as spectra; without it they are skipped.")
    @click.option("--mask-extension", is_flag=True, help="Add a CRMASK plane of the cosmic rays alone.")
    @click.option("--probability", is_flag=True, help="Add a CRPROB plane of the probability, compressed.")
    @click.option("--regions", is_flag=True, help="Write a DS9 region file of the hits of each detector.")
    @click.option("--hits", is_flag=True, help="Write a table of all hits (FITS), and keep them in the database.")
    @click.option("--hits-format", type=click.Choice(["fits", "ecsv"]), help="Format of the table of hits.")
    @click.option(
        "--flag-variance",
        is_flag=True,
        help="Mark masked pixels as without information in ERR, VAR and IVAR planes, too.",
    )
    @click.option("--clean", is_flag=True, help="Write a file with the cosmic rays filled, too: -clean in its name.")
    @click.option(
        "--fill",
        type=click.Choice(["surface", "median", "maskfill", "none"]),
        help="How --clean fills them; surface without it, none is NaN.",
    )
    @functools.wraps(command)
    def run(**options):
        from crattn_stage.products.settings import MaskSettings

        fill = options.pop("fill")
        if fill and not options["clean"]:
            raise click.UsageError("--fill needs --clean")
        options["clean"] = (fill or "surface") if options["clean"] else None
        form = options.pop("hits_format")
        if form and not options["hits"]:
            raise click.UsageError("--hits-format needs --hits")
        options["hits"] = (form or "fits") if options["hits"] else None
        asked = {name: options.pop(name) for name in list(options) if name in MaskSettings.__annotations__}
        return command(masks=MaskSettings(**asked), **options)

    return run


class Night(click.ParamType):
    """A night: YYYYMMDD, or with hyphens."""

    name = "YYYYMMDD"

    def convert(self, value, parameter, context):
        try:
            # strftime would drop the zeros of the year 1.
            return str(datetime.strptime(value.replace("-", ""), "%Y%m%d").date()).replace("-", "")
        except ValueError:
            self.fail(f"{value!r} is not a date YYYYMMDD", parameter, context)


def say(text, err=False):
    """Print lines; control characters, which names of files and headers may hold, as escapes."""
    for line in str(text).split("\n"):
        click.echo(printable(line), err=err)


@contextmanager
def explained():
    """Print an error of this package in one line, and exit with a status."""
    try:
        yield
    except CrattnError as error:
        say(" ".join(str(error).split("\n")), err=True)
        sys.exit(FAILED)


def load_stage(model, threshold, engine, masks=None):
    from crattn_stage.products.settings import DEFAULT
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    return AttentionCRStage(RuntimeContext(model, threshold, engine, masks=masks or DEFAULT))


def opened(url):
    """Return the database of a URL, upgraded; it is closed when the command ends."""
    from calibration_dbs.database import open_database

    database = with_database(url, open_database)
    click.get_current_context().call_on_close(database.dispose)
    return database


def with_database(url, action):
    """Call a function of a database's URL; its errors are explained without the password."""
    from sqlalchemy.exc import SQLAlchemyError

    from calibration_dbs.database import default_url, without_password
    from calibration_dbs.registry import UnknownModel

    url = url or default_url()
    try:
        return action(url)
    except (SQLAlchemyError, OSError, RuntimeError, ImportError, ValueError, UnknownModel) as error:
        raise CrattnError(f"provenance database {without_password(url)}: {one_line(error)}") from error


def write_text(path, text):
    """Write a report, replacing an existing one, since it can always be made again."""
    from crattn_stage.fits.atomic import replacing

    try:
        with replacing([path], overwrite=True) as (stream,):
            stream.write(f"{text}\n".encode())
    except OSError as error:
        raise CrattnError(f"{path}: {error.strerror}") from error
