"""Command line of the offline modules: ``python -m training``."""

import functools
import json

import click
import numpy as np

from crattn_stage.models.architectures import ARCHITECTURES


@click.group()
def main():
    """Train the networks and measure them against other detectors."""


@main.command()
@click.argument("architecture", type=click.Choice(list(ARCHITECTURES)))
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for checkpoint and log.")
@click.option("--data", type=click.Path(exists=True, file_okay=False), help="Folder of real skies and footprints.")
@click.option("--recipe", type=click.Choice(["ours", "paper"]), default="ours", show_default=True)
@click.option("--steps", type=int, help="The recipe's without it.")
@click.option("--hits", type=click.Path(exists=True, dir_okay=False), help="Catalogue written by `build`.")
@click.option("--frame", "frames", multiple=True, type=click.Path(exists=True), help="A further real frame as sky.")
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes that make patches.")
@click.option("--threads", type=int, help="CPU threads of the network.")
@click.option("--start-from", metavar="MODEL", help="A model of ours whose weights are the first guess.")
@click.option("--channels", default=32, show_default=True, help="Channels at full resolution.")
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard, too (extra `train`).")
def train(architecture, threads, **settings):
    """Train ARCHITECTURE, or resume it from its checkpoint."""
    import torch

    from training.train import train as run

    if threads:
        torch.set_num_threads(threads)
    run(architecture, **settings)


@main.command()
@click.argument("darks", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--output", required=True, type=click.Path(dir_okay=False), help="Catalogue of footprints (FITS).")
def build(darks, output):
    """Build a library of hits from DARKS, dark frames of one detector."""
    from training.data.hits import hits_of_darks, write_footprints
    from training.data.scenes import read_skies

    frames = [read_skies(path) for path in darks]
    if len({tuple(sky.image.shape for sky in frame) for frame in frames}) != 1:
        raise click.UsageError("the darks are not of one detector: their amplifiers differ")
    stamps = []
    for amplifier in zip(*frames, strict=True):
        bad = np.any([sky.bad for sky in amplifier], axis=0)
        stamps += hits_of_darks([sky.image for sky in amplifier], bad, amplifier[0].gain)
    write_footprints(output, stamps)
    click.echo(f"{output}: {len(stamps)} hits")


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False), help="Folder of real data.")
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for weights and card.")
@click.option("--count", default=4, show_default=True, help="Realisations of each test scene.")
@click.option("--name", help="Of the model; that of its architecture without it.")
@click.option(
    "--blend", metavar="MODEL", help="Take the mean of the weights with those of MODEL, which RUN started from."
)
def export(run, data, output, count, name, blend):
    """Set the threshold of a finished training RUN, measure it, and write weights and card."""
    from training.export import export as write

    card = write(run, data, output, count, name, blend)
    click.echo(json.dumps(card.metrics, indent=2))


def detectors(command):
    """Add the options that choose detectors; the command gets them as a list of peers."""

    @click.option("--data", required=True, type=click.Path(exists=True, file_okay=False), help="Folder of real data.")
    @click.option("--model", "models", multiple=True, help="Shipped name or path; all shipped models without any.")
    @click.option("--released", type=click.Path(exists=True, file_okay=False), help="The authors' checkpoints.")
    @click.option(
        "--peer",
        "others",
        multiple=True,
        metavar="NAME[=PYTHON]",
        help="Another project's detector, run by that Python: deepcr-decam, cosmic-conn-ground, maximask, lacosmic.",
    )
    @click.option("--output", type=click.Path(file_okay=False), help="Folder for the tables and figures.")
    @functools.wraps(command)
    def chosen(models, released, others, **options):
        from crattn_stage.models.cards import shipped
        from training.evaluation import peers

        try:
            chosen = peers.shipped(models or shipped()) + (peers.released(released) if released else [])
            chosen += [peers.foreign(*other.split("=", 1)) for other in others]
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return command(chosen, **options)

    return chosen


@main.command()
@detectors
@click.option("--count", default=4, show_default=True, help="Realisations of each test scene.")
@click.option("--scenes", multiple=True, default=("r", "z"), show_default=True)
@click.option("--lco", type=click.Path(exists=True, file_okay=False), help="Test set of the LCO CR data set.")
def evaluate(chosen, data, output, count, scenes, lco):
    """Measure models beside Astro-SCRAPPY, the released checkpoints and others on held-out scenes."""
    from training.evaluation.report import accuracy

    click.echo(accuracy(chosen, data, count, scenes, lco, output))


@main.command()
@detectors
def real(chosen, data, output):
    """Look at real frames: star cores masked, hits of the DECam Community Pipeline, amplifier borders."""
    from training.evaluation.report import real

    click.echo(real(chosen, data, output))


if __name__ == "__main__":
    main()
