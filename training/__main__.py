"""Command line of the offline modules: ``python -m training``."""

import json

import click

from crattn_stage.networks import ARCHITECTURES


@click.group()
def main():
    """Train the networks and measure them against other detectors."""


@main.command()
@click.argument("architecture", type=click.Choice(list(ARCHITECTURES)))
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for checkpoint and log.")
@click.option("--data", type=click.Path(exists=True, file_okay=False), help="Folder of real skies and footprints.")
@click.option("--steps", default=4300, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--workers", default=0, show_default=True, help="Processes that make patches.")
@click.option("--threads", type=int, help="CPU threads of the network.")
@click.option("--start-from", metavar="MODEL", help="A model of ours whose weights are the first guess.")
@click.option("--channels", default=32, show_default=True, help="Channels at full resolution.")
def train(architecture, output, data, steps, seed, workers, threads, start_from, channels):
    """Train ARCHITECTURE, or resume it from its checkpoint."""
    import torch

    from training.train import train as run

    if threads:
        torch.set_num_threads(threads)
    run(architecture, output, data, steps, seed=seed, workers=workers, start_from=start_from, channels=channels)


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False), help="Folder of real data.")
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder for weights and card.")
@click.option("--count", default=4, show_default=True, help="Realisations of each test scene.")
@click.option("--name", help="Of the model; that of its architecture without it.")
def export(run, data, output, count, name):
    """Set the threshold of a finished training RUN, measure it, and write weights and card."""
    from training.export import export as write

    card = write(run, data, output, count, name)
    click.echo(json.dumps(card.metrics, indent=2))


@main.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False), help="Folder of real data.")
@click.option("--model", "models", multiple=True, help="Shipped name or path; all shipped models without any.")
@click.option("--released", type=click.Path(exists=True, file_okay=False), help="Folder of the authors' checkpoints.")
@click.option("--count", default=4, show_default=True, help="Realisations of each test scene.")
@click.option("--scenes", multiple=True, default=("r", "z"), show_default=True)
def evaluate(data, models, released, count, scenes):
    """Measure models beside Astro-SCRAPPY and the released checkpoints on held-out scenes."""
    from crattn_stage.models import shipped
    from training.evaluate import evaluate as measure

    columns = ("tpr_1e-4", "tpr_1e-3", "purity_95", "f1", "iou", "fdr", "fpr")
    click.echo(f"{'scenes':8}{'detector':26}" + "".join(f"{name:>11}" for name in columns))
    for scene_set, detector, row in measure(data, models or shipped(), released, count, scenes):
        cells = "".join(f"{row[name]:11.5f}" if name in row else " " * 10 + "-" for name in columns)
        click.echo(f"{scene_set:8}{detector:26}{cells}")


if __name__ == "__main__":
    main()
