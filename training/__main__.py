"""Command line of the offline modules: ``python -m training``."""

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
def train(architecture, output, data, steps, seed, workers, threads):
    """Train ARCHITECTURE from scratch, or resume it from its checkpoint."""
    import torch

    from training.train import train as run

    if threads:
        torch.set_num_threads(threads)
    run(architecture, output, data, steps, seed=seed, workers=workers)


if __name__ == "__main__":
    main()
