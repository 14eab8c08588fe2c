"""How many hits are found where the light of the sky varies, with it left out of the search and without."""

import csv
import sys

import click
import numpy as np
from scipy.ndimage import label, maximum

from benchmarks.inputs import GAIN, READ_NOISE
from crattn_stage import load_model
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.detection.uneven import even_out, variation
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

SIDE, SKY = 1024, 20_000.0
WHOLE, AROUND = [np.s_[:, :]], np.ones((3, 3))
ROW, COLUMN = np.mgrid[:SIDE, :SIDE] / SIDE
LIGHT = {
    "even": 1 + 0 * ROW,
    "vignetting of 3%": 1 - 0.06 * ((ROW - 0.5) ** 2 + (COLUMN - 0.5) ** 2),
    "vignetting of 20%": 1 - 0.4 * ((ROW - 0.5) ** 2 + (COLUMN - 0.5) ** 2),
    "vignetting of 80%": 1 - 1.6 * ((ROW - 0.5) ** 2 + (COLUMN - 0.5) ** 2),
    "twilight, a slope of 50%": 1 - 0.5 * ROW,
    "fringes of 10%": 1 - 0.1 * np.sin(40 * COLUMN + 17 * ROW),
    "a step of 5%": np.where(COLUMN < 0.48, 1, 0.95),
}


def found(model, image, sky, hits, bright, count):
    """Return the fraction of bright hits that is found, and the objects that are none, per million pixels."""
    mask = model.detect(image, amplifiers=WHOLE, sky=sky)
    objects, masked = label(mask, AROUND)
    false = masked - np.unique(objects[(hits > 0) & mask]).size
    peaks = maximum(mask, hits, np.arange(1, count + 1)) > 0
    return f"{peaks[bright].mean():.1%}", f"{false / image.size * 1e6:.1f}"


@click.command()
@click.option("--model", default="fast", show_default=True)
@click.option("--seed", default=5, show_default=True)
def main(model, seed):
    """Print a table of simulated skies of 20,000 electrons with hits of peaks above 10 sigma."""
    model, rng = load_model(model, engine="openvino"), np.random.default_rng(seed)
    scene, _ = simulate_sky((SIDE, SIDE), rng, fwhm=2.5, stars=1500, galaxies=200)
    charge, truth = scatter_hits((SIDE, SIDE), [simulate_hit(rng, thickness=100) for _ in range(300)], rng)
    hits, count = label(truth, AROUND)
    table = csv.writer(sys.stdout, lineterminator="\n")
    kinds = "hits found, before", "false objects per Mpx, before", "hits found", "false objects per Mpx"
    table.writerow(["light", "varies by", *kinds])
    for name, light in LIGHT.items():
        image = expose((scene + SKY) * light + charge, 0, READ_NOISE, GAIN, np.random.default_rng(seed))
        noise = np.sqrt((scene + SKY) * light + READ_NOISE**2)
        bright = maximum(charge / noise, hits, np.arange(1, count + 1)) > 10
        bad = np.zeros(image.shape, bool)
        even = even_out(image, bad, WHOLE)
        results = [found(model, one, measure_sky(one, bad, WHOLE), hits, bright, count) for one in (image, even)]
        table.writerow([name, f"{variation(image, ~bad):.0f} sigma", *results[0], *results[1]])


if __name__ == "__main__":
    main()
