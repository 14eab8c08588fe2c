"""Command line: ``python -m training``; some commands are commands of ``crattn-stage``, too.

Heavy imports wait until a command needs them.
"""

import functools
import json
import logging
import math

import click

from crattn_stage.errors import printable
from crattn_stage.models.architectures import ARCHITECTURES

FOLDER_TO_BE = click.Path(file_okay=False)
FOLDER = click.Path(exists=True, file_okay=False)
FILE = click.Path(exists=True, dir_okay=False)


@click.group()
def main():
    """Train the networks, and compare them with other methods."""


def explained(command):
    """Let a command log its progress, and say in one line what was wrong with its input."""

    @functools.wraps(command)
    def run(*arguments, **options):
        from crattn_stage.errors import CrattnError

        logging.basicConfig(format="%(message)s")
        logging.getLogger("training").setLevel(logging.INFO)
        try:
            return command(*arguments, **options)
        except (ValueError, CrattnError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return run


def sources(command):
    """Add the options of real data; the command gets them as ``sources``."""

    @click.option(
        "--data", type=FOLDER, help="Folder of real skies and footprints; what it lacks is simulated or left out."
    )
    @click.option("--hits", multiple=True, type=FILE, help="Catalogue of hits, as `build` writes it.")
    @click.option(
        "--frame",
        "frames",
        multiple=True,
        type=FILE,
        help="A real frame to use as sky, after cleaning. May be repeated.",
    )
    @functools.wraps(command)
    def run(data, hits, frames, **options):
        return command(sources={"data": data, "hits": hits, "frames": frames}, **options)

    return run


@main.command()
@explained
@click.argument("architecture", type=click.Choice(list(ARCHITECTURES)))
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for checkpoint and log.")
@sources
@click.option("--recipe", default="ours", show_default=True, help="Name of a shipped recipe, or a TOML file.")
@click.option("--steps", type=int, help="Number of steps (default: the recipe's).")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Time limit; the learning rate follows it.")
@click.option("--seed", type=int, help="Random seed (default: the recipe's).")
@click.option("--channels", type=int, help="Channels at full resolution (default: the recipe's).")
@click.option("--start-from", metavar="MODEL", help="Shipped name or path of a model to fine-tune.")
@click.option("--workers", default=0, show_default=True, help="Processes that generate patches.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of the network.")
@click.option("--tensorboard", is_flag=True, help="Also log for TensorBoard (extra `train`).")
def train(output, sources, recipe, threads, workers, tensorboard, **changes):
    """Train ARCHITECTURE, or resume it from its checkpoint."""
    from training.configuration import read_configuration

    configuration = read_configuration(recipe, **changes)
    import torch

    from training.data.library import Sources
    from training.loop import train as run

    for sentence in Sources.find(sources["data"], sources["hits"], sources["frames"]).missing():
        click.echo(sentence, err=True)
    if threads:
        torch.set_num_threads(threads)
    run(configuration, output, sources, workers, tensorboard)
    click.echo(f"{output} is trained; `python -m training export {output} --output FOLDER` makes a model of it")


@main.command()
@explained
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--output", required=True, type=click.Path(dir_okay=False), help="Catalogue of hits (FITS).")
@click.option("--gain", type=float, help="Gain of the darks in electron/ADU (default: the header's).")
def build(files, output, gain):
    """Build a catalogue of hits from FILES.

    These are dark frames of one detector, tables of `crattn-stage run --hits`, and labels of `crattn-stage grade`.
    """
    from training.data.darks import hits_of_darks, read_darks
    from training.data.hits import is_hit_table, read_hit_table, write_footprints

    tables = [path for path in files if is_hit_table(path)]
    stamps = [stamp for path in tables for stamp in read_hit_table(path)]
    darks = [path for path in files if path not in tables]
    for stack in read_darks(darks) if darks else ():
        stamps += hits_of_darks(stack.images, stack.bad, gain or stack.gain)
    write_footprints(output, stamps)
    click.echo(f"{output}: {len(stamps)} hits")


def _finite(context, parameter, value):
    # A range lets nan pass.
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


class Lists(click.Command):
    """A command whose options of files take all that follow, up to the next option: ``--darks *.fits``."""

    def parse_args(self, context, arguments):
        """Repeat such an option before each of its values."""
        lists = {name for option in self.params if option.multiple for name in option.opts if name.startswith("--")}
        result, current = [], None
        for argument in arguments:
            if argument.startswith("-"):
                current = argument if argument in lists else None
                result += [] if current else [argument]
            else:
                result += [current, argument] if current else [argument]
        return super().parse_args(context, result)


@main.command(cls=Lists)
@explained
@click.argument("name")
@click.option("--darks", multiple=True, metavar="FILE...", help="Darks, the longer the better; three or more.")
@click.option("--frames", multiple=True, metavar="FILE...", help="Frames of the sky, as they are to be masked.")
@click.option("--flats", multiple=True, metavar="FILE...", help="Flats, for bad columns.")
@click.option("--from", "start", metavar="MODEL", default="fast", show_default=True, help="The model to start from.")
@click.option(
    "--minutes",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0.01),
    callback=_finite,
    help="Time limit in all.",
)
@click.option(
    "--gain",
    type=click.FloatRange(0, min_open=True),
    callback=_finite,
    help="Gain in electron/ADU (default: the headers').",
)
@click.option("--output", default=".", show_default=True, type=FOLDER_TO_BE, help="Where its folder goes.")
@click.option("--overwrite", is_flag=True, help="Replace a model of that name.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def adapt(name, threads, output, **options):
    """Make NAME, a model of your camera's own, from its darks and frames.

    A shipped model is trained on with the hits of the darks, on the frames and on skies simulated like them. It is
    accepted if it is better on held-out hits and frames and not worse elsewhere; the exit status is 1 if not. The
    same command goes on where an interrupted one stood.
    """
    import torch

    from training.adapt import adapt as run

    if threads:
        torch.set_num_threads(threads)
    run(name, output, tell=lambda text: click.echo("\n".join(map(printable, text.split("\n")))), **options)


@main.command()
@explained
@click.argument("run", type=FOLDER)
@sources
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for weights and card.")
@click.option("--count", default=4, show_default=True, help="Realisations of each test scene.")
@click.option("--name", help="Name of the model (default: that of its architecture).")
@click.option(
    "--narrow-of",
    metavar="MODEL",
    help="Write MODEL again, with RUN's weights for frames with stars as narrow as hits.",
)
@click.option("--blend", metavar="MODEL", help="Average the weights with those of MODEL, from which RUN started.")
@click.option("--keep", default=0.5, show_default=True, type=click.FloatRange(0, 1), help="Weight of MODEL in it.")
def export(run, sources, output, count, name, narrow_of, blend, keep):
    """Set the threshold of a finished training RUN, measure it, and write weights and card."""
    from training.export import export as write
    from training.export import export_narrow

    if narrow_of and name:
        raise click.UsageError("--narrow-of keeps the name of its model")
    if narrow_of:
        metrics = export_narrow(run, narrow_of, output, sources, count, blend, keep).narrow["metrics"]
    else:
        metrics = write(run, output, sources, count, name, blend, keep).metrics
    click.echo(json.dumps(metrics, indent=2))


def peers(command):
    """Add the options that choose peers; the command gets them as ``chosen``."""

    @click.option("--model", "models", multiple=True, help="Shipped name or path (default: all shipped models).")
    @click.option("--released", type=FOLDER, help="The authors' checkpoints.")
    @click.option(
        "--peer",
        "others",
        multiple=True,
        metavar="NAME[=PYTHON]",
        help="Another project's method, run by that Python: deepcr-decam, cosmic-conn-ground, cosmic-conn-nres, "
        "maximask, lacosmic or dfcosmic.",
    )
    @click.option("--output", type=click.Path(file_okay=False), help="Folder for the tables and figures.")
    @functools.wraps(command)
    def run(models, released, others, **options):
        from crattn_stage.models.cards import shipped
        from training.evaluation import peers

        chosen = peers.shipped(models or shipped()) + (peers.released(released) if released else [])
        try:
            for other in others:
                chosen += peers.method(*other.split("=", 1))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return command(chosen=chosen, **options)

    return run


@main.command()
@explained
@peers
@sources
@click.option("--count", default=4, show_default=True, help="Realisations of each test scene.")
@click.option(
    "--scenes",
    multiple=True,
    help="r, z, coadd:ADU, frames, sky:ADU, stars:FWHM, thin:FWHM, spectra:FWHM, arcs:FWHM or galaxies.",
)
@click.option("--lco", type=FOLDER, help="Test set of the LCO CR data set.")
@click.option("--fill", is_flag=True, help="Measure how well cosmic rays are filled instead.")
@click.option(
    "--deepcr", type=click.Path(exists=True), help="With --fill: a Python that has deepCR, for its inpainting."
)
def evaluate(chosen, sources, output, count, scenes, lco, fill, deepcr):
    """Compare models with Astro-SCRAPPY, the released checkpoints and others on held-out scenes."""
    if deepcr and not fill:
        raise click.UsageError("--deepcr needs --fill")
    if fill:
        from training.data.library import Skies
        from training.evaluation.fills import measure_fills

        click.echo(measure_fills(Skies("test", **sources), count, deepcr, output))
        return
    from training.evaluation.report import accuracy

    click.echo(accuracy(chosen, sources, count, scenes, lco, output))


@main.command()
@explained
@peers
@click.option("--data", required=True, type=FOLDER, help="Folder of real frames; missing ones are left out.")
def real(chosen, data, output):
    """Measure on real frames: star cores masked, hits of the DECam Community Pipeline, amplifier borders."""
    from training.evaluation.report import real

    click.echo(real(chosen, data, output))
