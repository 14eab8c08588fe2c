"""Whether the intervals of the completeness that a frame measures hold: on simulated frames of known kind."""

import json

import click
import numpy as np

from benchmarks.inputs import GAIN, READ_NOISE, SKY
from crattn_stage import load_model
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.quality.injection import measure
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

SHAPE = (512, 512)
#: Not pixels, which come by hits: no interval is stated for them.
KINDS = ("faint", "bright")


def measured(model, seed, hits, fwhm):
    """Simulate a frame and measure its mask."""
    rng = np.random.default_rng(seed)
    scene = simulate_sky(SHAPE, rng, fwhm=fwhm)[0]
    charge, _ = scatter_hits(SHAPE, [simulate_hit(rng) for _ in range(18)], rng)
    image = expose(scene + charge, SKY, READ_NOISE, GAIN, rng)
    whole, good = [np.s_[0 : SHAPE[0], 0 : SHAPE[1]]], np.ones(SHAPE, bool)
    sky = measure_sky(image, ~good, whole)
    found = model.detect(image, ~good, None, whole, sky)
    return measure(model, image, good, found, whole, sky, [GAIN], None, hits)


@click.command()
@click.option("--model", default="fast", show_default=True)
@click.option("--frames", default=200, show_default=True, help="Frames whose interval is tried.")
@click.option("--hits", default=64, show_default=True, help="Hits added to each of them.")
@click.option("--truth", default=5000, show_default=True, help="Hits added to other frames, for the truth.")
@click.option("--fwhm", default=4.0, show_default=True, help="Of the stars, pixels.")
def main(model, frames, hits, truth, fwhm):
    """Print how often the 95% interval of a frame holds the completeness of an independent injection."""
    ready = load_model(model, engine="openvino")
    others = [measured(ready, seed, hits, fwhm) for seed in range(10**6, 10**6 + -(-truth // hits))]
    own = [measured(ready, seed, hits, fwhm) for seed in range(frames)]
    result = {"model": model, "frames": frames, "hits": hits, "fwhm": fwhm}
    for kind in KINDS:
        found, of = (sum(getattr(one, name) for one in others) for name in (f"{kind}_found", kind))
        held = sum(low <= found / of <= high for low, high in (one.interval(kind) for one in own))
        result[kind] = {"truth": round(found / of, 4), "of": of, "held": round(held / frames, 3)}
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
