import json
import pickle
import shutil

import pytest
import torch

from crattn_stage.errors import ModelError
from crattn_stage.models import cards as models
from crattn_stage.models.networks import build, receptive_radius
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
    assert card.halo >= card.receptive_radius == receptive_radius("deepcr")
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
    set_card(model, architecture="cosmic-conn")
    with pytest.raises(ModelError, match="not weights of cosmic-conn"):
        models.load(model)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "colour": "red"}'])
def test_a_broken_card_is_named(model, text):
    model.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match="no valid model card"):
        models.load(model)


def test_a_card_with_an_empty_range_is_refused(model):
    set_card(model, input_ranges={"encoder1.3": [[0.0, 0.0]]})
    with pytest.raises(ModelError, match="no valid model card: input ranges"):
        models.load(model)


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
