"""``compare``: two models on the same frames, before one replaces the other."""

import json
import math
import sys

import click

from crattn_stage.cli.options import (
    DONE,
    FAILED,
    Night,
    database_option,
    engine_option,
    explained,
    load_stage,
    opened,
    say,
    write_text,
)
from crattn_stage.errors import CrattnError

#: In the place of a model: the mask that the frames have.
OWN = "own"


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--night", type=Night(), help="Compare the frames of a night in the database instead of FILEs.")
@click.option("--injections", type=click.IntRange(1, 10_000), help="Hits added to each detector (default: 128).")
@click.option("--bright", default=0.02, show_default=True, help="Largest allowed drop in completeness above S/N 10.")
@click.option("--faint", default=0.05, show_default=True, help="Largest allowed drop in completeness at S/N 5 to 10.")
@click.option("--stars", default=0.01, show_default=True, help="Largest allowed rise in star or galaxy cores masked.")
@click.option("--noise", default=5.0, show_default=True, help="Largest allowed rise in noise (objects per megapixel).")
@click.option(
    "--lost",
    default=0.05,
    show_default=True,
    help="Largest allowed fraction of objects above S/N 10 lost, for `own`.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False),
    help="Also write the result as JSON, which `models register` asks for.",
)
@click.option("--html", "html_path", type=click.Path(dir_okay=False), help="Also write a page with stamps.")
@engine_option
@database_option
def compare(first, second, files, night, injections, json_path, html_path, engine, url, **limits):
    """Compare the masks of A and B on each FILE; the exit status is 1 if B is worse.

    A and B are models (a shipped name, the path of a weights file, or astroscrappy), a model with a threshold
    (fast@0.9), or "own", the mask already in the frames.  The same hits are added for both.  Only the reports asked
    for are written.
    """
    if bool(files) == bool(night):
        raise click.UsageError("give either --night or FILE")
    for name, limit in limits.items():
        # Nothing is worse by more than that.
        if math.isnan(limit):
            raise click.UsageError(f"--{name} nan is not a limit")
    with explained():
        from crattn_stage import comparison

        paths = list(files) or _paths_of_night(url, night)
        sides = [_side(text, engine, injections) for text in (first, second)]
        result = comparison.compare(paths, *sides, (first, second))
        for failure in result.failures:
            say(failure, err=True)
        if not result.frames:
            raise CrattnError("no frame could be compared")
        rows = comparison.figures(result)
        say(f"{'':36}{first[:20]:>22}{second[:20]:>22}")
        for what, one, other in rows:
            say(f"{what:36}{one:>22}{other:>22}")
        limits = comparison.Limits(**limits)
        worse = comparison.reasons(result, limits)
        if json_path:
            write_text(json_path, json.dumps(comparison.as_json(result, worse, limits), indent=2))
        if html_path:
            write_text(html_path, comparison.page(result, worse))
    say(f"{second} is worse: it {'; it '.join(worse)}" if worse else f"{second} is not worse than {first}")
    sys.exit(FAILED if worse or result.failures else DONE)


def _side(text, engine, injections):
    """Return what makes the masks of A or B."""
    from crattn_stage.comparison import OwnMask
    from crattn_stage.products.settings import MaskSettings
    from crattn_stage.quality.injection import INJECTIONS

    if text == OWN:
        return OwnMask()
    model, _, threshold = text.rpartition("@") if "@" in text else (text, "", "")
    try:
        threshold = float(threshold) if threshold else None
    except ValueError:
        model, threshold = text, None
    if threshold is not None and not 0 <= threshold <= 1:
        raise CrattnError(f"{text}: the threshold is a probability, from 0 to 1")
    return load_stage(model, threshold, engine, MaskSettings(injections=injections or INJECTIONS))


def _paths_of_night(url, night):
    from calibration_dbs.database import reading
    from calibration_dbs.provenance import runs_of_night

    with reading(opened(url)) as session:
        found = [run.frame.path for run in runs_of_night(session, night) if run.status != "skipped"]
    if not found:
        raise CrattnError(f"the database knows no frames of night {night}")
    return found
