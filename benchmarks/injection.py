"""Whether the intervals of the completeness that a frame measures hold: on simulated frames and parts of real ones."""

import json

import click
import numpy as np
from scipy.stats import binom

from benchmarks.inputs import GAIN, READ_NOISE, SKY
from crattn_stage import load_model
from crattn_stage.cameras import facts
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.quality.injection import measure
from crattn_stage.quality.summary import binomial_interval
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

SHAPE = (512, 512)
#: Not pixels, which come by hits: no interval is stated for them.
KINDS = ("faint", "bright")


def measured(model, image, bad, gain, hits):
    """Mask an image, and measure the mask."""
    whole = [np.s_[0 : image.shape[0], 0 : image.shape[1]]]
    sky = measure_sky(image, bad, whole)
    found = model.detect(image, bad, None, whole, sky)
    return measure(model, image, ~bad, found, whole, sky, [gain], None, hits)


def simulated(seed, fwhm):
    """Return image, bad pixels and gain of a simulated frame."""
    rng = np.random.default_rng(seed)
    scene = simulate_sky(SHAPE, rng, fwhm=fwhm)[0]
    charge, _ = scatter_hits(SHAPE, [simulate_hit(rng) for _ in range(18)], rng)
    return expose(scene + charge, SKY, READ_NOISE, GAIN, rng), np.zeros(SHAPE, bool), GAIN


def parts(path):
    """Yield image, bad pixels and gain of each part of a real frame."""
    with ObservationFrame(path) as frame:
        for extension, ccd in frame.ccds():
            level, unit = frame.saturation(extension) or np.inf, facts.charge_unit(extension.header, frame.profile)
            unusable = ~(ccd.data < level) | (False if ccd.mask is None else ccd.mask)
            for amplifier in frame.amplifiers(extension):
                rows, columns = amplifier.section
                for row in range(rows.start, rows.stop - SHAPE[0] + 1, SHAPE[0]):
                    for column in range(columns.start, columns.stop - SHAPE[1] + 1, SHAPE[1]):
                        part = np.s_[row : row + SHAPE[0], column : column + SHAPE[1]]
                        yield ccd.data[part], unusable[part], amplifier.electrons_per(unit)


def orientations(image, bad, gain):
    """Yield what `parts` yields in all orientations: hits fall at other places of the same sky."""
    for turns in range(8):
        yield *(np.rot90(plane.T if turns > 3 else plane, turns % 4).copy() for plane in (image, bad)), gain


def coverage(own, others, kind):
    """Return the truth of the others, how often the intervals hold it, and how often they would by chance alone."""
    found, of = (sum(getattr(one, name) for one in others) for name in (f"{kind}_found", kind))
    if not of:
        return None
    truth = found / of
    held = np.mean([low <= truth <= high for low, high in (one.interval(kind) for one in own)])
    figures = {"truth": truth, "held": held, "by chance": by_chance([getattr(one, kind) for one in own], truth)}
    return {"of": of} | {name: round(float(value), 4) for name, value in figures.items()}


def by_chance(tried, truth):
    """Return how often intervals of so many hits hold the truth, if each hit is found with that probability."""
    held = {}
    for n in {*tried}:
        intervals = (binomial_interval(k, n) for k in range(n + 1))
        held[n] = sum(binom.pmf(k, n, truth) for k, (low, high) in enumerate(intervals) if low <= truth <= high)
    return np.mean([held[n] for n in tried])


@click.command()
@click.option("--model", default="fast", show_default=True)
@click.option("--frames", default=200, show_default=True, help="Simulated frames whose interval is tried.")
@click.option("--hits", default=64, show_default=True, help="Hits added to each of them.")
@click.option("--truth", default=5000, show_default=True, help="Hits added to other frames, for the truth.")
@click.option("--fwhm", default=4.0, show_default=True, help="Of the stars, pixels.")
@click.option(
    "--image",
    type=click.Path(exists=True),
    help="Instead, a real frame: its parts in all orientations; the truth is of all together.",
)
def main(model, frames, hits, truth, fwhm, image):
    """Print how often the 95% interval of a frame holds the completeness of an independent injection."""
    ready = load_model(model, engine="openvino")
    if image:
        own = others = [measured(ready, *one, hits) for part in parts(image) for one in orientations(*part)]
    else:
        own, others = (
            [measured(ready, *simulated(first + number, fwhm), hits) for number in range(count)]
            for first, count in ((0, frames), (10**6, -(-truth // hits)))
        )
    result = {"model": model, "frames": len(own), "hits": hits, **({"image": image} if image else {"fwhm": fwhm})}
    click.echo(json.dumps(result | {kind: coverage(own, others, kind) for kind in KINDS}, indent=2))


if __name__ == "__main__":
    main()
