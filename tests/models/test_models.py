import json
import os
import pickle
import shutil

import pytest
import torch

from crattn_stage.errors import ModelError
from crattn_stage.models import cards as models
from crattn_stage.models.architectures import receptive_radius
from crattn_stage.models.baselines import BASELINES
from crattn_stage.models.networks import build
from crattn_stage.models.released import import_released


@pytest.fixture
def model(tmp_path):
    """A copy of a shipped model: path of its weights."""
    for suffix in (".safetensors", ".json"):
        shutil.copy(models.WEIGHTS / f"att-deepcr{suffix}", tmp_path / f"mine{suffix}")
    return tmp_path / "mine.safetensors"


def set_card(path, **changes):
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


@pytest.mark.parametrize("name", models.shipped())
def test_shipped_models_are_as_their_cards_say(name):
    card, tensors = models.load(name)
    assert card.name == name and sum(t.size for t in tensors.values()) > 100_000
    assert card.halo >= card.receptive_radius == receptive_radius(card.architecture)
    assert 0 < card.threshold < 1 and card.false_positive_rate == 1e-4
    assert card.training["megapixels"] > 100 and card.licence == "BSD-3-Clause"
    assert card.metrics["r"]["f1"] > 0.85
    convolutions = {name.removesuffix(".weight") for name, t in tensors.items() if t.ndim == 4}
    assert card.input_ranges.keys() == convolutions - {"encoder1.0", "head"}
    assert all(len(limits) == 1 + name.endswith("convolutions.0") for name, limits in card.input_ranges.items())


def test_the_shipped_ones_are_those_promised():
    assert {"att-deepcr", "att-cosmic-conn"} <= set(models.shipped())
    assert models.DEFAULT in models.shipped()


def test_a_copy_loads_by_path(model):
    assert models.load(model)[0].sha256 == models.read_card("att-deepcr").sha256


def test_unknown_models_are_named():
    with pytest.raises(ModelError, match="unknown model 'deep-thought'"):
        models.load("deep-thought")


def test_weights_that_changed_are_refused(model):
    content = bytearray(model.read_bytes())
    content[-5] ^= 1
    model.write_bytes(content)
    with pytest.raises(ModelError, match="its card says"):
        models.load(model)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_pickle_posing_as_weights_is_refused_and_not_run(model):
    import hashlib

    model.write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(ModelError, match="sha256"):
        models.load(model)
    # Even when the card vouches for it.
    set_card(model, sha256=hashlib.sha256(model.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="not weights of att-deepcr"):
        models.load(model)


def test_weights_of_another_architecture_are_refused(model):
    set_card(
        model, architecture="cosmic-conn", input_ranges={}, narrow={"input_ranges": {}, "training": {}, "metrics": {}}
    )
    with pytest.raises(ModelError, match="not weights of cosmic-conn"):
        models.load(model)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not JSON"),
        ("[]", "not an object of fields"),
        ("{}", "name: missing"),
        ('{"name": "x", "colour": "red"}', "'colour': unknown field"),
    ],
)
def test_a_broken_card_is_named(model, text, cause):
    model.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=f"mine.json: not a valid model card: {cause}"):
        models.load(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("threshold", value) for value in (float("nan"), 2.0, -0.1, "0.5", None, True, [0.5])),
        *(("name", value) for value in ("\x1b[31mred", "a\nb", "", None, 5, "a/b", "ä", "x" * 65)),
        *(("architecture", value) for value in ("unet", None, 3, ["deepcr"], {})),
        *(("sha256", value) for value in ("", "0" * 63, "G" * 64, "A" * 64, None)),
        *(("scaling", value) for value in ("log", None, [])),
        *(("tile", value) for value in (0, 256.0, "256", None, 50, 48, True)),
        *(("halo", value) for value in (0, 8, 20, -24, 24.0, None)),
        *(("receptive_radius", value) for value in (25, -1, "23", None)),
        *(("channels", value) for value in (0, -32, 33, 32.0, "32", None)),
        *(("false_positive_rate", value) for value in (-1, 2, "1e-4", float("nan"))),
        *(("trained_on", value) for value in (None, 3, "\x1b]0;title\x07")),
        *((key, "\x1b[2J") for key in ("code_version", "date", "licence")),
        *((key, value) for key in ("training", "metrics", "input_ranges") for value in (None, [], "x")),
    ],
)
def test_each_field_of_a_card_is_checked(model, key, value):
    set_card(model, **{key: value})
    with pytest.raises(ModelError, match=r"mine\.json: not a valid model card: ") as caught:
        models.read_card(model)
    cause = str(caught.value).split("not a valid model card: ")[1]
    assert cause.startswith("halo: " if key == "receptive_radius" and value == 25 else f"{key}: ")
    assert cause.isprintable()


@pytest.mark.parametrize("halo", [0, 8, 20])
def test_a_halo_under_the_receptive_radius_is_refused_with_a_sentence(model, halo):
    # With 0 there were seams, 8 crashed OpenVINO.  That the card claims a smaller radius does not help.
    set_card(model, halo=halo, receptive_radius=0)
    with pytest.raises(ModelError, match=f"halo: {halo} pixels are fewer than the 23 that an output pixel sees"):
        models.load(model)


@pytest.mark.parametrize(
    "ranges",
    [
        {"encoder1.3": [[0.0, 0.0]]},
        {"encoder1.3": [[0.0, 1.0], [0.0, 1.0]]},
        {"encoder1.3": [[0.0, float("inf")]]},
        {"encoder1.3": [[float("nan"), 1.0]]},
        {"encoder1.3": [0.0, 1.0]},
        {"encoder1.3": 1.0},
        {"encoder1.3": [["0", "1"]]},
        {"up1.convolutions.0": [[0.0, 1.0]]},
        {"encoder9.3": [[0.0, 1.0]]},
        {"\x1b[2J": [[0.0, 1.0]]},
    ],
)
def test_a_card_with_impossible_ranges_is_refused(model, ranges):
    set_card(model, input_ranges=ranges)
    with pytest.raises(ModelError, match="not a valid model card: input_ranges: ") as caught:
        models.load(model)
    assert str(caught.value).isprintable()


def test_the_baseline_has_a_card_and_an_identity_but_no_weights(monkeypatch):
    card = models.read_card("astroscrappy")
    assert card.training["settings"] == BASELINES["astroscrappy"] and len(card.sha256) == 64
    assert "astroscrappy" not in models.shipped()
    with pytest.raises(ModelError, match="astroscrappy is a baseline without weights"):
        models.load("astroscrappy")
    # Other settings or another version are another model.
    monkeypatch.setitem(BASELINES, "astroscrappy", {**BASELINES["astroscrappy"], "sigclip": 4.5})
    other = models.read_card("astroscrappy").sha256
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    assert len({card.sha256, other, models.read_card("astroscrappy").sha256}) == 3


def test_importing_a_pickle_does_not_run_it(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"module.inc": Exploit()}, path)
    with pytest.raises(ModelError, match="not a checkpoint of tensors alone"):
        import_released(path, "deepcr")


def test_importing_another_architecture_or_file_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(build("deepcr").state_dict(), path)
    with pytest.raises(ModelError, match="not a released checkpoint of deepcr"):
        import_released(path, "deepcr")
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="not a released checkpoint of deepcr"):
        import_released(path, "deepcr")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint"):
        import_released(path, "deepcr")
    with pytest.raises(ModelError, match="No such file"):
        import_released(tmp_path / "none.pth", "deepcr")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ModelError, match="not a regular file"):
        import_released(tmp_path / "pipe.pth", "deepcr")
