"""Second weights, for frames whose stars are as narrow as hits."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from crattn_stage import load_model
from crattn_stage.detection.model import Conditions, CosmicRayModel
from crattn_stage.detection.stars import measure_stars
from crattn_stage.errors import ModelError
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.models import cards
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky
from crattn_stage.stage import AttentionCRStage, RuntimeContext

SECOND = {"input_ranges": {}, "training": {}, "metrics": {}}


def field(fwhm, stars=3000):
    """A field of stars with 40 hits."""
    rng = np.random.default_rng(4)
    plane, _ = simulate_sky((500, 500), rng, fwhm=fwhm, stars=stars, galaxies=0, faintest=2000)
    charge, hit = scatter_hits(plane.shape, [simulate_hit(rng) for _ in range(40)], rng)
    return expose(plane + charge, 1100, 7, 4, rng), hit


@pytest.fixture(name="blind", scope="module")
def blind_fixture():
    """A model whose second weights find nothing, and the same without them."""
    card, tensors = cards.load("fast")
    narrow = tensors | {"head.bias": tensors["head.bias"] - 1000}
    card = replace(card, narrow=SECOND)
    return CosmicRayModel(card, tensors, narrow=narrow), CosmicRayModel(card, tensors)


@pytest.mark.parametrize(("fwhm", "stars", "second"), [(1.4, 3000, True), (1.4, 30, False), (4.0, 3000, False)])
def test_second_weights_look_where_stars_are_narrow_and_many(blind, fwhm, stars, second):
    image, _ = field(fwhm, stars)
    with_second, without = blind
    expected = np.zeros(image.shape, bool) if second else without.detect(image)
    np.testing.assert_array_equal(with_second.detect(image), expected)
    probability = np.full(image.shape, 9, np.float32)
    np.testing.assert_array_equal(with_second.detect(image, probability=probability), expected)
    np.testing.assert_array_equal(probability, 0 if second else without.predict(image))
    np.testing.assert_array_equal(with_second.predict(image), probability)
    assert measure_stars(image, without.detect(image), np.zeros(image.shape, bool))[0] == second
    assert without.detect(image).any()


def test_the_caller_may_know_whether_stars_are_narrow(blind):
    image, _ = field(1.4)
    with_second, without = blind
    np.testing.assert_array_equal(with_second.predict(image, narrow=False), without.predict(image))
    wide, _ = field(4.0)
    assert not with_second.predict(wide, narrow=True).any()


def test_a_model_without_second_weights_says_nothing_of_them():
    card, tensors, narrow = cards.load_both("deepcr")
    assert not card.narrow and not narrow and set(tensors) == set(cards.load("deepcr")[1])


def test_second_weights_are_kept_beside_the_first(tmp_path):
    card, tensors = cards.load("fast")
    narrow = {name: array + np.float32(0.5) if array.dtype.kind == "f" else array for name, array in tensors.items()}
    content = {field: getattr(card, field) for field in card.__dataclass_fields__ if field != "sha256"}
    content |= {"name": "two", "narrow": SECOND | {"input_ranges": card.input_ranges}}
    made = cards.save(tensors, content, tmp_path, narrow)
    path = tmp_path / "two.safetensors"
    read, first, second = cards.load_both(path)
    assert read == made
    for name, array in tensors.items():
        np.testing.assert_array_equal(first[name], array)
        np.testing.assert_array_equal(second[name], narrow[name])
    assert set(cards.load(path)[1]) == set(tensors)
    cards.save(tensors, content, tmp_path)
    with pytest.raises(ModelError, match="second weights in the card alone"):
        load_model(path)
    cards.save(tensors, content | {"narrow": {}}, tmp_path, narrow)
    with pytest.raises(ModelError, match="second weights in the file alone"):
        load_model(path)
    cards.save(tensors, content, tmp_path, {"head.bias": narrow["head.bias"]})
    with pytest.raises(ModelError, match="not weights of att-deepcr with 16 channels"):
        load_model(path)
    cards.save(tensors, content | {"narrow": {}}, tmp_path)
    assert '"narrow"' not in (tmp_path / "two.json").read_text()


@pytest.mark.parametrize(
    "narrow",
    [{"training": {}}, SECOND | {"input_ranges": 1}, SECOND | {"input_ranges": {"tail": [[0, 1]]}}],
)
def test_what_a_card_says_of_second_weights_is_checked(tmp_path, narrow):
    card, tensors = cards.load("fast")
    content = {field: getattr(card, field) for field in card.__dataclass_fields__ if field != "sha256"}
    cards.save(tensors, content | {"name": "two", "narrow": narrow}, tmp_path, tensors)
    with pytest.raises(ModelError, match=r"two\.json: not a valid model card: (narrow|input_ranges)"):
        load_model(tmp_path / "two.safetensors")


def test_conditions_are_filled_in_and_kept(blind):
    image, _ = field(1.4)
    with_second, without = blind
    conditions = Conditions()
    with_second.detect(image, conditions=conditions)
    assert conditions.narrow and len(conditions.floors) == 1
    part = image[:250, :250]
    assert not with_second.detect(part, conditions=conditions).any() and without.detect(part).any()


def test_completeness_is_measured_with_the_weights_that_masked_the_frame(blind, tmp_path):
    image, _ = field(1.4)
    path = tmp_path / "narrow.fits"
    header = fits.Header({"OBJECT": "field", "EXPTIME": 60.0, "GAIN": 4.0, "OBSTYPE": "EXPOSE"})
    fits.PrimaryHDU(np.rint(image).clip(0, 65535).astype(np.uint16), header).writeto(path)
    stage = AttentionCRStage(RuntimeContext(engine="float32"))
    stage.model, _ = blind
    with ObservationFrame(path) as frame:
        stage.do_stage(frame)
        summary = frame.detections[0].summary
        assert summary.injected.bright > 3 and summary.injected.bright_found == summary.hits == 0
        assert "narrow stars: masked with the second weights" in frame.notes
