"""``view``: a page to look at a frame and its mask."""

import click

from crattn_stage.cli.frames import model_of_camera
from crattn_stage.cli.options import (
    engine_option,
    explained,
    load_stage,
    model_option,
    overwrite_option,
    say,
    threshold_option,
)
from crattn_stage.errors import CrattnError, FrameError


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--output", type=click.Path(dir_okay=False), help="Output page (default: FILE with the suffix .html).")
@click.option(
    "--extension",
    "extensions",
    multiple=True,
    metavar="NAME",
    help="Name or HDU number of a detector to show (default: as many as fit). May be repeated.",
)
@model_option
@threshold_option
@engine_option
@overwrite_option
def view(file, output, extensions, model, threshold, engine, overwrite):
    """Write a page to look at FILE: image and mask to blink, hits to jump to, a slider for the threshold.

    A FILE that `run` has written is shown with its mask, any other is masked in memory.  The page
    needs no other file and no network: about 1 MB for a million pixels.
    """
    with explained():
        from crattn_stage.fits.frame import ObservationFrame
        from crattn_stage.fits.names import view_path
        from crattn_stage.products.view import write_view

        output = output or view_path(file)
        try:
            with ObservationFrame(file, arcs=True) as frame:
                stage = load_stage(model or model_of_camera(file), threshold, engine)
                size, left_out = write_view(frame, stage, output, extensions, overwrite)
        except FrameError as error:
            raise CrattnError(f"{file}: {error}") from error
    say(f"{output}: {size / 1e6:.1f} MB")
    if left_out:
        say(f"  not shown: {', '.join(left_out)}; --extension chooses")
