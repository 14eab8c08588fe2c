"""Draw ``spectra.png``: simulated spectra, hits, and the masks of the default model with one look and with two.

Run in a clone with ``python docs/figures/spectra.py``.
"""

from pathlib import Path

import numpy as np

from crattn_stage import load_model
from crattn_stage.detection import spectra
from crattn_stage.detection.preprocessing import measure_sky
from crattn_stage.products.preview import drawn, write_png
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose
from crattn_stage.simulation.spectra import simulate_spectrum

SHAPE, READ_NOISE, FWHM, HITS = (300, 300), 4.0, 2.0, 12

if __name__ == "__main__":
    model, rng, rows = load_model(), np.random.default_rng(8), []
    for kind in ("long-slit", "fibres", "echelle"):
        charge, truth = scatter_hits(SHAPE, [simulate_hit(rng) for _ in range(HITS)], rng)
        image = expose(simulate_spectrum(SHAPE, rng, kind, FWHM).electrons, 0, READ_NOISE, 1.0, rng) + charge
        bad, whole = np.zeros(SHAPE, bool), [np.s_[:, :]]
        twice = spectra.probability(model, image, bad, whole, measure_sky(image, bad, whole)) > model.card.threshold
        panels = (kind, image, None), ("hits", image, truth), ("one look", image, model.detect(image))
        rows.append([*panels, ("two looks", image, twice)])
    write_png(Path(__file__).with_name("spectra.png"), drawn(rows))
