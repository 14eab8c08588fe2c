"""How well the shipped models do on real sky with known truth, beside their peers."""

import numpy as np
import pytest
from astropy.io import fits

from crattn_stage import load_detector, models
from crattn_stage.detector import Detector
from crattn_stage.models import import_released
from crattn_stage.quality import star_cores
from training.evaluate import RELEASED, astroscrappy_mask, make_scenes, measure, network_scores
from training.scenes import Skies


@pytest.fixture(scope="module")
def scenes(data):
    """Held-out footprints on the held-out rows of a real DECam CCD."""
    return make_scenes(Skies("test", data), "r", 2)


def show(name, row):
    print(f"{name:28}" + "  ".join(f"{key} {value:.5f}" for key, value in row.items()))


@pytest.mark.parametrize("name", ["att-cosmic-conn", "att-deepcr"])
def test_shipped_models_on_real_decam_sky(name, scenes, data, capsys):
    detector = load_detector(name)
    ours = measure(scenes, network_scores(detector), detector.card.threshold)
    released = import_released(data / "reference_checkpoints" / RELEASED[name], name)
    card = models.ModelCard("released", name, "", "none", 0.5, **models.TILING)
    theirs = measure(scenes, network_scores(Detector(card, released)), 0.5)
    scrappy = measure(scenes, lambda scene: astroscrappy_mask(scene, 5.0), 0.5)
    with capsys.disabled():
        print()
        for label, row in ((name, ours), (f"released {name}", theirs), ("Astro-SCRAPPY, sigclip 5", scrappy)):
            show(label, row)
    assert ours["f1"] >= 0.85 and ours["fpr"] <= 2e-4
    assert ours["f1"] > theirs["f1"] > 0.8
    assert ours["f1"] > scrappy["f1"] > 0.7


@pytest.mark.parametrize("name", models.shipped())
def test_community_pipeline_hits_are_found(name, data):
    """Objects that the Community Pipeline flagged (DQ 5) with two pixels above 3 sigma."""
    from scipy.ndimage import label

    from crattn_stage.preparation import sky_statistics

    detector, seen, missed = load_detector(name), 0, []
    for path in sorted((data / "decam").glob("c4d_*.fits.fz")):
        with fits.open(path) as hdus:
            image, quality = hdus["SCI"].data, hdus["DQ"].data
        if not (quality == 5).any():
            continue
        found = detector.detect(image, np.isin(quality, (1, 2, 3, 4, 6)))
        level, sigma = sky_statistics(image)
        objects, count = label(quality == 5, np.ones((3, 3)))
        for number in range(1, count + 1):
            where = objects == number
            if (image[where] > level + 3 * sigma).sum() >= 2:
                seen += 1
                if not found[where].any():
                    missed.append(path.name)
    assert seen >= 4 and missed == []


@pytest.mark.parametrize("name", models.shipped())
def test_undersampled_stars_are_mostly_left_alone(name, data):
    with fits.open(data / "other" / "ztf_zr_30s_starfield.fits.fz") as hdus:
        image = hdus["SCI"].data[:768, :768].astype(np.float32)
    stars, flagged = star_cores(image, load_detector(name).detect(image))
    # Not good enough yet, and far from the networks the paper's authors released, which mask nearly all of them.
    assert stars > 100 and flagged <= 0.06 * stars
