"""Draw ``gallery.png``: simulated fields of what must be masked and what must be left alone, and the masks.

Run in a clone with ``python docs/figures/gallery.py``; it takes a few seconds.
"""

from pathlib import Path

import numpy as np

from crattn_stage import load_model
from crattn_stage.products.preview import drawn, write_png
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

SHAPE, SKY, READ_NOISE, GAIN = (160, 400), 800.0, 6.0, 1.8
#: Title, parameters of the stars, and what is drawn into the field.
FIELDS = (
    ("Tracks, worms and spots among wide stars", {"fwhm": 4.0, "stars": 1500, "galaxies": 1500}, None),
    ("Stars as narrow as hits", {"fwhm": 1.5, "stars": 6000, "galaxies": 300}, None),
    ("Trailed stars", {"fwhm": 3.0, "motion": [(0, c) for c in range(-7, 8)], "stars": 1500, "galaxies": 0}, None),
    ("A saturated star, its bleed trail, a bad column", {"fwhm": 4.0, "stars": 800, "spikes": 0.05}, "saturated"),
    ("The trail of a satellite", {"fwhm": 4.0, "stars": 1000, "galaxies": 500}, "satellite"),
)
FULL_WELL = 60000.0


def field(rng, stars, feature):
    """Simulate a field.

    Parameters
    ----------
    rng : `numpy.random.Generator`
    stars : dict
        Parameters of `simulate_sky`.
    feature : {"saturated", "satellite", None}

    Returns
    -------
    image : `numpy.ndarray`
        ADU.
    bad, truth : `numpy.ndarray` of bool
        Bad pixels, and pixels hit by cosmic rays.
    """
    scene, _ = simulate_sky(SHAPE, rng, faintest=600, **stars)
    charge, truth = scatter_hits(SHAPE, [simulate_hit(rng, kind) for kind in ("track", "worm", "spot") * 5], rng)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    if feature == "satellite":
        distance = np.abs((rows - 20) - 0.3 * columns) / np.hypot(1, 0.3)
        scene += 1500 * np.exp(-0.5 * (distance / 1.9) ** 2)
    if feature == "saturated":
        scene += 2e6 * np.exp(-0.5 * ((rows - 80) ** 2 + (columns - 250) ** 2) / 3.0**2)
    image = expose(scene + charge, SKY, READ_NOISE, GAIN, rng)
    bad = np.zeros(SHAPE, bool)
    if feature == "saturated":
        bad[20:140, 249:252] = True
        image[bad] = FULL_WELL
        image = np.minimum(image, FULL_WELL)
        bad |= image >= FULL_WELL
        bad[:, 90] = True
        image[:, 90] += 900
    return image, bad, truth


def main(path):
    """Draw the picture."""
    model, rng = load_model("att-deepcr", engine="float32"), np.random.default_rng(20130105)
    rows = []
    for title, stars, feature in FIELDS:
        image, bad, truth = field(rng, stars, feature)
        rows.append(
            [(title, image, None), ("cosmic rays added", truth, None), ("mask", model.detect(image, bad), None)]
        )
    print(write_png(path, drawn(rows)))


if __name__ == "__main__":
    main(Path(__file__).with_name("gallery.png"))
