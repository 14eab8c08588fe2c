"""Cut the catalogue of hits that ``run`` adds to frames to measure completeness, from footprints held out of training.

``python -m training.data.injection CATALOGUE...`` writes it into the package.
"""

import click
import numpy as np

from crattn_stage.fits.atomic import replacing
from crattn_stage.quality.injection import CATALOGUE, QUARTER
from training.data.hits import read_footprints


def write_catalogue(path, footprints, most):
    """Write stamps of charge as `crattn_stage.quality.injection` reads them.

    Parameters
    ----------
    path : path-like
        Replaced if it exists.
    footprints : list of list of `numpy.ndarray`
        Of each sensor, electrons.
    most : int
        Stamps of each sensor.
    """
    rng = np.random.default_rng(0)
    chosen = []
    for stamps in footprints:
        fitting = [stamp for stamp in stamps if max(stamp.shape) < QUARTER - 1]
        chosen += [fitting[i] for i in rng.permutation(len(fitting))[:most]]
    shapes = np.array([stamp.shape for stamp in chosen], np.int16)
    with replacing([path], overwrite=True) as (stream,):
        np.savez_compressed(stream, charge=np.concatenate([s.ravel() for s in chosen]).astype("<f4"), shapes=shapes)


@click.command()
@click.argument("catalogues", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--most", default=50, show_default=True, help="Hits of each catalogue.")
def main(catalogues, most):
    """Cut the catalogue from the validation hits of CATALOGUES."""
    write_catalogue(CATALOGUE, [read_footprints(path, "validation") for path in catalogues], most)
    click.echo(CATALOGUE)


if __name__ == "__main__":
    main()
