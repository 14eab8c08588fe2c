"""``grade``: exposures of one field say what their masks found and made up."""

import json
import sys

import click

from crattn_stage.cli.options import (
    DONE,
    FAILED,
    engine_option,
    explained,
    load_stage,
    model_option,
    overwrite_option,
    say,
    threshold_option,
    write_text,
)
from crattn_stage.errors import CrattnError


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@model_option
@threshold_option
@engine_option
@click.option("--own-mask", is_flag=True, help="Grade the masks already in the frames.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Also write the result as JSON.")
@click.option("--html", "html_path", type=click.Path(dir_okay=False), help="Also write a page with stamps.")
@click.option(
    "--labels",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also write which pixels are hits, a FITS file for each FILE.",
)
@overwrite_option
def grade(files, model, threshold, engine, own_mask, json_path, html_path, labels, overwrite):
    """Grade the masks of FILEs, two or more exposures of one field, by each other.

    What one exposure has and the others have not, beyond noise and seeing, is a hit; what is masked and there in the
    others, too, is false.  The exposures must be of one camera and filter, and should be dithered by some pixels.
    They are registered by their WCS, if the stars agree with it, or by the stars.  Nothing is written but the
    reports asked for.  The exit status is 1 if an exposure cannot be graded.
    """
    if own_mask and (model or threshold is not None):
        raise click.UsageError("--own-mask takes neither --model nor --threshold")
    with explained():
        from crattn_stage import grade as grading
        from crattn_stage.comparison import OwnMask
        from crattn_stage.products.settings import MaskSettings

        stage = OwnMask() if own_mask else load_stage(model, threshold, engine, MaskSettings(injections=0))
        made_by = {"model": "own"} if own_mask else stage.provenance
        results = grading.grade(files, stage, labels, overwrite=overwrite)
        graded = [result for result in results if not result.failure]
        for result in results:
            say(f"{result.path}: " + (f"cannot be graded: {result.failure}" if result.failure else _seen(result)))
            for note in [f"WARN: {warning}" for warning in result.warnings] + result.notes:
                say(f"  {note}")
            for what, figure in grading.figures(result.grade) if not result.failure else ():
                say(f"  {what:44}{figure}")
        if not graded:
            raise CrattnError("no exposure can be graded")
        if len(graded) > 1:
            say("together")
            for what, figure in grading.figures(grading.total(graded)):
                say(f"  {what:44}{figure}")
        if json_path:
            write_text(json_path, json.dumps(grading.as_json(results, made_by), indent=2))
        if html_path:
            write_text(html_path, grading.page(results, made_by["model"]))
    sys.exit(DONE if len(graded) == len(results) else FAILED)


def _seen(result):
    return "graded" if result.fwhm is None else f"graded, stars {result.fwhm:.1f} pixels wide"
