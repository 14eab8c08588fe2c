"""What the tests of training share."""

import numpy as np
import pytest

from crattn_stage.simulation.hits import simulate_hit
from crattn_stage.simulation.skies import expose
from training.data.contamination import contaminate
from training.data.library import Skies
from training.data.skies import Sky


@pytest.fixture(name="few_planes", scope="module", autouse=True)
def few_planes_fixture():
    """Simulate a few skies only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.data.library.PLANES", 6)
        yield


@pytest.fixture(name="skies", scope="module")
def skies_fixture(few_planes):
    """Simulated training skies."""
    return Skies("train")


def flat_sky(level=100.0, sigma=5.0, gain=4.0, shape=(40, 40)):
    """Return a sky without noise."""
    image = np.full(shape, level, np.float32)
    return Sky(image, np.zeros(shape, bool), level, sigma, gain=gain)


def noise_with_hits(seed=8):
    """Return a scene of noise and six tracks, as a list."""
    rng = np.random.default_rng(seed)
    image = expose(np.zeros((128, 128), np.float32), 1200, 7, 4, rng)
    sky = Sky(image, np.zeros(image.shape, bool), 300.0, 8.8, 4.0)
    return [contaminate(sky, [simulate_hit(rng, "track") for _ in range(6)], rng)]
