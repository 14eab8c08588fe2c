import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import logit
from training_support import few_planes_fixture  # noqa: F401

from crattn_stage.models import cards
from crattn_stage.models.networks import build, restore
from training import checkpoints
from training.configuration import Configuration
from training.export import COST, THRESHOLDS, _lowest_accurate, export, export_narrow, input_ranges


def test_ranges_are_those_of_what_a_network_sees(monkeypatch):
    monkeypatch.setattr("training.export.RANGE_PATCHES", 8)
    torch.manual_seed(2)
    network = build("att-deepcr", 16)
    torch.nn.init.zeros_(network.encoder2[4].weight)
    ranges = input_ranges(network)
    # What a rectifier gave is not negative, what was upsampled may be; a dead feature still has a range.
    (fine,), (skip, deep) = ranges["encoder1.3"], ranges["up1.convolutions.0"]
    assert fine[0] == 0 < fine[1] and deep[0] < 0 < deep[1] and skip[0] == 0
    assert ranges["encoder3.0"] == [[0.0, 0.001]]
    assert network.training


@pytest.mark.parametrize(("share", "false", "expected"), [(0.5, 0, 4), (3, 0, 10), (0.5, 2, 7)])
def test_the_lowest_threshold_is_chosen_whose_masks_are_nearly_the_best(share, false, expected, monkeypatch):
    truth = np.arange(20_000) < 10_000
    # The masks of the first thresholds flag too much, those of the next ones lack some pixels that the best have, and
    # some of these flag more clean pixels than allowed.
    wrong = [5000] * 4 + [false] * 3 + [0] * (len(THRESHOLDS) - 7)
    lacked = [0] * 4 + [round(2 * share * COST * 10_000)] * 6 + [0] * (len(THRESHOLDS) - 10)
    places = np.arange(20_000)
    masks = [(truth & (places >= n)) | (places >= 20_000 - m) for n, m in zip(lacked, wrong, strict=True)]
    scene = SimpleNamespace(truth=truth, sky=SimpleNamespace(bad=np.zeros(20_000, bool)))
    monkeypatch.setattr("training.export.make_scenes", lambda *_, **__: [scene])
    monkeypatch.setattr("training.export.lacking", lambda *_: False)
    monkeypatch.setattr("training.export._masks", lambda *_: masks)
    assert _lowest_accurate(None, None) == pytest.approx(THRESHOLDS[expected])


def write_run(folder, network, start_from="", narrow=False, **summary):
    """Write what a finished run leaves."""
    folder.mkdir(exist_ok=True)
    configuration = Configuration("att-deepcr", channels=16, steps=7, start_from=start_from, narrow=narrow)
    checkpoints.save(folder, configuration, {"step": 7, "mean": network.state_dict()})
    (folder / "training.json").write_text(
        json.dumps({"trained_on": "simulated skies", "start_from": start_from, **summary})
    )
    return folder


def test_a_run_is_blended_with_a_model_it_comes_from_and_no_other(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("training.export.calibrate", lambda *_: (0.5, {}))
    monkeypatch.setattr("training.export._figures", lambda *_: {})
    monkeypatch.setattr("training.export.input_ranges", lambda *_: {})
    card, tensors = cards.load("fast")
    network = restore(card, tensors)
    network.head.bias += 1
    run = write_run(tmp_path / "run", network, "fast", started_from=f"fast {card.sha256}")
    blended = export(run, tmp_path / "models", name="mean", blend="fast", keep=0.25)
    _, mean = cards.load(tmp_path / "models" / "mean.safetensors")
    for key, value in tensors.items():
        np.testing.assert_allclose(mean[key], value + 0.75 * (key == "head.bias"), rtol=1e-6)
    assert "--blend MODEL --keep 0.25" in blended.metrics["command"] and "weigh 0.25" in blended.training["blended"]
    # What was trained are the first weights; the second ones stay, at the threshold.
    _, kept = cards.load("fast", narrow=True)
    _, second = cards.load(tmp_path / "models" / "mean.safetensors", narrow=True)
    shift = logit(0.5) - logit(card.threshold)
    for key, value in kept.items():
        np.testing.assert_allclose(second[key], value + shift * (key == "head.bias"), rtol=1e-5)
    assert blended.narrow == card.narrow
    # Those of undersampled skies are for all frames, if they are written as first ones.
    under = write_run(tmp_path / "under", network, "fast", narrow=True, started_from=f"fast {card.sha256}")
    assert not export(under, tmp_path / "models", name="under").narrow
    changed = write_run(tmp_path / "changed", network, "fast", started_from="fast 0")
    assert not export(changed, tmp_path / "models", name="changed").narrow and "fast is not what it was" in caplog.text
    with pytest.raises(ValueError, match="does not come from deepcr"):
        export(run, tmp_path / "models", blend="deepcr")
    orphan = write_run(tmp_path / "orphan", network, str(tmp_path / "gone.safetensors"), started_from="gone 0")
    with pytest.raises(ValueError, match="does not come from fast"):
        export(orphan, tmp_path / "models", blend="fast")
    mean_path = tmp_path / "models" / "mean.safetensors"
    again = write_run(tmp_path / "again", network, str(mean_path), started_from=f"mean {blended.sha256}")
    assert card.sha256 in export(again, tmp_path / "models", name="more", blend="fast").training["blended"]
    export(run, tmp_path / "models", name="mean", blend="fast", keep=0.5)
    with pytest.raises(ValueError, match="does not come from fast"):
        export(again, tmp_path / "models", name="more", blend="fast")


def test_without_real_data_a_model_is_measured_on_simulated_skies_and_its_card_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("training.evaluation.measure.LEVELS", (300,))
    monkeypatch.setattr("training.evaluation.report.SIMULATED_SETS", ("sky:300",))
    monkeypatch.setattr("training.evaluation.scene_sets.SIDE", 256)
    monkeypatch.setattr("training.export.RANGE_PATCHES", 4)
    run = write_run(tmp_path / "run", restore(*cards.load("fast")))
    card = export(run, tmp_path / "models", count=1, name="mine")
    assert card.trained_on == "simulated skies" and set(card.metrics["validation_own_threshold"]) == {"sky:300"}
    assert card.metrics["sky:300"]["f1"] > 0.8 and card.metrics["scenes"].startswith("simulated hits")
    assert len(card.metrics["left_out"]) == 3 and "decam" in card.metrics["left_out"][0]


def test_a_run_that_is_not_finished_is_not_exported(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="no checkpoint"):
        export(tmp_path / "run", tmp_path / "models")
    run = write_run(tmp_path / "run", build("att-deepcr", 16))
    (run / "training.json").unlink()
    with pytest.raises(ValueError, match="7 of 7 steps done; train it to the end"):
        export(run, tmp_path / "models")


def test_shipped_cards_name_no_path():
    assert not [name for name in cards.shipped() if "/" in cards.read_card(name).training.get("start_from", "")]


def test_a_run_on_undersampled_skies_gives_a_model_second_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("training.evaluation.scene_sets.SIDE", 256)
    monkeypatch.setattr("training.export.RANGE_PATCHES", 4)
    monkeypatch.setattr("training.export.NARROW_SETS", ("stars:1.5", "thin:1.6"))
    card, tensors = cards.load("fast")
    network = restore(card, tensors)
    network.head.bias += 2
    run = write_run(tmp_path / "run", network, "fast", narrow=True)
    made = export_narrow(run, "fast", tmp_path / "models", count=1)
    first, second = cards.load_both(tmp_path / "models" / "fast.safetensors")[1:]
    assert (made.name, made.threshold) == ("fast", card.threshold)
    for name, array in tensors.items():
        np.testing.assert_array_equal(first[name], array)
        if name != "head.bias":
            np.testing.assert_array_equal(second[name], array)
    # The threshold that the scenes ask for is at the model's own.
    assert abs(second["head.bias"] - tensors["head.bias"]).item() < 4
    assert set(made.narrow["metrics"]) >= {"stars:1.5", "command"} and "thin:1.6" not in made.narrow["metrics"]
    assert made.narrow["input_ranges"]["encoder1.3"] != card.input_ranges["encoder1.3"]
    with pytest.raises(ValueError, match="another network than deepcr"):
        export_narrow(run, "deepcr", tmp_path / "models")
    with pytest.raises(ValueError, match="not trained on undersampled skies alone"):
        export_narrow(write_run(tmp_path / "wide", network), "fast", tmp_path / "models")
