"""``run`` and ``demo``."""

import logging
import os
import sys
from functools import cache

import click

from crattn_stage.cli.options import (
    DONE,
    FAILED,
    database_option,
    engine_option,
    explained,
    load_stage,
    mask_options,
    model_option,
    opened,
    overwrite_option,
    threshold_option,
)
from crattn_stage.errors import CrattnError, EngineError, FrameError, ModelError, one_line, printable


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--output-dir", type=click.Path(file_okay=False), help="Output folder (default: beside each input).")
@model_option
@threshold_option
@engine_option
@overwrite_option
@click.option("--strict", is_flag=True, help="Exit with 1 if the verdict on any mask is not PASS.")
@click.option("--preview", is_flag=True, help="Also write a PNG of image and mask.")
@mask_options
@database_option
def run(files, output_dir, model, threshold, engine, overwrite, strict, preview, masks, url):
    """Mask the cosmic rays of each FILE.

    The output has the name of the input in --output-dir or, without it, is
    written beside the input with "-crmask" in its name.  Science pixels are
    copied unchanged.  A frame that fails is reported with the cause, and the
    others are still masked; the exit status is then 1.  With --strict it is 1,
    too, if the verdict on a mask is WARN or FAIL; it is written all the same.
    """
    with explained():
        stage = load_stage(model, threshold, engine, masks)
        database = opened(url)
        if output_dir:
            try:
                os.makedirs(output_dir, exist_ok=True)
            except OSError as error:
                raise CrattnError(f"{output_dir}: {error.strerror}") from error
    options = {"overwrite": overwrite, "preview": preview}

    @cache
    def stage_with(own):
        return load_stage(own, threshold, engine, masks)

    def stage_for(path):
        own = None if model else model_of_camera(path)
        return stage_with(own) if own else stage

    sys.exit(_run_all(files, output_dir, stage_for, database, options, strict))


def model_of_camera(path):
    """Return the model that the profile of a frame's camera names, or None."""
    from crattn_stage.cameras.profile import profiles
    from crattn_stage.fits.frame import OpenFrame

    # No shipped profile names one.
    if not any(profile.model for profile in profiles()):
        return None
    with OpenFrame(path, look=False) as frame:
        return frame.layout.profile.model


def _run_all(files, output_dir, stage_for, database, options, strict):
    from tqdm import tqdm

    from crattn_stage.fits.names import is_output, output_path
    from crattn_stage.process import process

    def write(text, file=None):
        # The bar stays below.
        tqdm.write(printable(text), file=file)

    failed, written = 0, set()
    for path in tqdm(files, unit="frame", disable=True if len(files) == 1 else None):
        target = output_path(path, output_dir)
        if output_dir is None and is_output(path):
            write(f"{path}: skipped, an output of an earlier run")
            continue
        try:
            if target in written:
                raise FrameError(
                    f"another input with the same name was already written to {target}; mask it in a separate run"
                )
            outcome = process(path, target, stage_for(path), database, **options)
            written.update(outcome.outputs)
            failed += strict and outcome.verdict not in ("PASS", None)
            write(f"{path}: {outcome.message}")
            for output in outcome.outputs:
                write(f"  {output}")
        except (FrameError, ModelError, EngineError) as error:
            failed += 1
            write(f"{path}: {error}", file=sys.stderr)
        except Exception as error:
            # A bug here must not stop the night; its type tells it from bad input.
            failed += 1
            write(f"{path}: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
            logging.getLogger(__name__).info("%s", path, exc_info=True)
    return FAILED if failed else DONE


@click.command()
@click.argument("folder", type=click.Path(file_okay=False), metavar="DIR")
@model_option
@threshold_option
@engine_option
@overwrite_option
def demo(folder, model, threshold, engine, overwrite):
    """Simulate an exposure in DIR, mask it, and draw image, truth and mask."""
    with explained():
        stage = load_stage(model, threshold, engine)
        from crattn_stage import demo as demonstration

        try:
            completeness, precision = demonstration.run_demo(folder, stage, overwrite)
        except OSError as error:
            raise CrattnError(f"{folder}: {error.strerror}") from error
    click.echo(f"model {stage.provenance['model']}, threshold {stage.threshold:.4g}")
    click.echo(f"completeness {completeness:.1%} of the cosmic rays have a masked pixel")
    click.echo(f"precision    {precision:.1%} of the masked objects are cosmic rays")
    for name in (demonstration.FRAME, demonstration.MASKED, demonstration.PICTURE):
        click.echo(os.path.join(folder, name))
