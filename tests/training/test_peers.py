import sys
import types

import astroscrappy
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from training_support import noise_with_hits

from crattn_stage import load_model
from training.data.contamination import DILATION
from training.evaluation import peers
from training.evaluation.metrics import at_setting
from training.evaluation.peer_runner import METHODS


def test_settings_of_a_filter_share_a_run_and_agree_with_it():
    scenes = noise_with_hits()
    three, five = peers.method("astro-scrappy", levels=())
    planes, _ = three.scores(scenes)
    assert five.scores(scenes)[0] is planes
    for peer, sigclip in ((three, 3.0), (five, 5.0)):
        found, _ = astroscrappy.detect_cosmics(
            scenes[0].image, scenes[0].sky.bad, gain=4.0, readnoise=7.0, sigclip=sigclip, sigfrac=0.1, objlim=1.0,
            satlevel=4e4,
        )  # fmt: skip
        own = binary_dilation(found, DILATION)
        # A pixel found at 5 sigma and, by its other iterations, not at 3 is rare.
        assert (own == (planes[0] > peer.threshold)).mean() > 0.999 and own.any()


def test_a_peer_runs_in_a_python_of_its_own():
    scenes = noise_with_hits()
    three, five = peers.method("lacosmic", sys.executable, levels=())
    planes, seconds = three.scores(scenes)
    assert (three.name, five.name) == ("L.A.Cosmic 3", "L.A.Cosmic 5") and seconds > 0
    assert planes[0].shape == scenes[0].image.shape and five.scores(scenes)[0] is planes
    row = at_setting(planes[0] > five.threshold, scenes[0].truth)
    assert row["tpr"] > 0.8 and row["fpr"] < 0.05
    with pytest.raises(ValueError, match="unknown peer"):
        peers.method("nobody")
    (absent,) = peers.method("maximask")
    with pytest.raises(RuntimeError, match=r"maximask: .* failed: ModuleNotFoundError"):
        absent.scores(scenes)


@pytest.mark.parametrize(("module", "function"), [("lacosmic", "remove_cosmics"), ("lacosmic.core", "lacosmic")])
def test_lacosmic_runs_by_its_new_name_and_its_old_one(module, function, monkeypatch):
    given = {}

    def find(image, contrast, threshold, neighbour, **settings):
        given.update(settings, threshold=threshold)
        return image, image > threshold

    for name in ("lacosmic", module):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    setattr(sys.modules[module], function, find)
    image = np.array([[0.0, 4.0]], np.float32)
    found = METHODS["lacosmic"].load()(image, image < 0, 2.0, 7.0, 5.0)
    assert found.tolist() == [[False, True]] and given["threshold"] == 5.0 and given["readnoise"] == 7.0


def test_probabilities_above_the_threshold_are_the_mask():
    (scene,) = noise_with_hits()
    model = load_model("fast", "float32")
    plane = peers.probabilities(model, scene.image, scene.sky.bad)
    found = model.detect(scene.image, scene.sky.bad)
    assert found.any() and np.array_equal(plane > model.card.threshold, found)
