"""Every engine gives the masks of plain float32, on real frames where there are some."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import sky_image, with_track

from crattn_stage.api import load_model
from crattn_stage.detection import engines
from crattn_stage.detection.engines import choice
from crattn_stage.detection.engines.base import Engine, thread_count
from crattn_stage.detection.engines.torch_engines import folded
from crattn_stage.errors import EngineError
from crattn_stage.models import cards as models
from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.networks import build, tensors_of
from crattn_stage.processors import available_cpus
from training.data.library import Skies
from training.evaluation import peers
from training.evaluation.measure import measure
from training.evaluation.scene_sets import make_scenes

HERE = ["torch", "openvino", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def scenes(data):
    """Held-out footprints on half of the held-out rows of a real DECam CCD."""
    return make_scenes(Skies("test", data), "r", 1)


@pytest.fixture(scope="module")
def reference(scenes):
    """Model -> its masks and figures by the plain network in float32."""
    measured = {}

    def get(name):
        if name not in measured:
            detector = load_model(name, "float32")
            masks = [detector.detect(s.image, s.sky.bad) for s in scenes]
            measured[name] = masks, measure("r", scenes, peers.network(detector), replicates=0).row
        return measured[name]

    return get


@pytest.mark.parametrize("name", models.shipped())
@pytest.mark.parametrize("engine", HERE)
def test_masks_of_real_frames_are_those_of_float32(name, engine, scenes, reference):
    detector = load_model(name, engine)
    masks, figures = reference(name)
    flips = sum((detector.detect(s.image, s.sky.bad) != m).sum() for s, m in zip(scenes, masks, strict=True))
    masked = sum(m.sum() for m in masks)
    assert masked > 1000 and flips < 0.01 * masked
    ours = measure("r", scenes, peers.network(detector), replicates=0).row
    assert abs(ours["tpr_1e-4"] - figures["tpr_1e-4"]) < 0.002


def random_network(architecture, channels):
    """A network whose batch-norm statistics are not those it starts with."""
    torch.manual_seed(3)
    network = build(architecture, channels)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(4, 1, 64, 64) * 3)
    return network.eval().requires_grad_(False)


def card(architecture, scaling="none"):
    return models.ModelCard("random", architecture, "0" * 64, scaling, 0.5, channels=16, **models.TILING)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("engine", HERE)
def test_raw_counts_stay_float32(architecture, engine):
    # At 300 ADU bfloat16 has steps of 2 ADU.
    # Even if the card has ranges.
    ranges = models.read_card("fast").input_ranges
    model = replace(card(architecture), input_ranges=ranges), tensors_of(random_network(architecture, 16))
    exact = engines.start("float32", *model)
    other = engines.start(engine, *model)
    assert other.name == f"{engine} float32"
    # What is in the halo is not asked for; normalisation by group sees it, so all of it is calculated.
    halo = model[0].halo if ARCHITECTURES[architecture][0] == "batch" else 0
    tiles = np.random.default_rng(5).normal(300, 9, (3, 64 + 2 * halo, 96 + 2 * halo)).astype(np.float32)
    got, wanted = (e.run(tiles)[:, halo : halo + 64, halo : halo + 96] for e in (other, exact))
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("architecture", ["deepcr", "att-deepcr"])
def test_folding_leaves_no_batch_norm_and_the_same_logits(architecture):
    network = random_network(architecture, 16).double()
    result = folded(network)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in result.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    image = torch.randn(1, 1, 48, 64, dtype=torch.float64) * 3
    torch.testing.assert_close(result(image), network(image), rtol=1e-9, atol=1e-9)


def test_an_engine_that_cannot_run_is_refused():
    with pytest.raises(ValueError, match="unknown engine 'abacus'"):
        load_model("att-deepcr", engine="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            load_model("att-deepcr", engine="cuda")


def test_every_registered_engine_starts_or_says_why_not():
    model = card("deepcr"), tensors_of(random_network("deepcr", 16))
    for name in engines.ENGINES:
        try:
            assert engines.start(name, *model, 1).run(np.zeros((1, 64, 64), np.float32)).shape == (1, 64, 64)
        except EngineError as error:
            assert str(error).startswith(f"engine '{name}'")


def test_an_engine_that_is_not_in_the_registry_does_not_fall_through(monkeypatch):
    monkeypatch.delitem(engines.ENGINES, "torch")
    with pytest.raises(EngineError, match="unknown engine 'torch'; known: auto, float32, openvino, cuda"):
        load_model("fast", "torch")
    with pytest.raises(EngineError, match="unknown engine 'auto'"):
        engines.start("auto", *models.load("fast"))


def test_the_base_of_the_engines_imports_none_of_them():
    code = (
        "import sys, crattn_stage.detection.engines.base, crattn_stage.detection.engines.choice; "
        "print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_threads_follow_the_affinity_of_the_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cpus() == thread_count() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert available_cpus() == thread_count() == len(before)


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus() == 1


@pytest.mark.parametrize(("name", "side"), [("fast", 1072), ("att-cosmic-conn", 256)])
def test_engines_are_measured_with_the_tiles_that_they_run(name, side, monkeypatch, capsys):
    shapes = []

    def run(tiles):
        shapes.append(tiles.shape)
        return tiles

    monkeypatch.setattr(choice, "start", lambda engine, *model: Engine(engine, run, 1072, 4, streams=2))
    choice.measure(models.find(name), 1, rounds=1)
    assert set(json.loads(capsys.readouterr().out)) == {"torch", "openvino", "cuda"}
    assert set(shapes) == {(2, side, side)}


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Engines that take the time they are told to; returns those times, what was asked, and the folder of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seconds, measured = {"torch": 2.0, "openvino": 1.0}, []

    def told(path, threads):
        measured.append(path)
        return seconds

    monkeypatch.setattr(choice, "_measured", told)
    return seconds, measured, tmp_path / "crattn-stage"


def test_auto_measures_once_and_remembers(clock, caplog):
    seconds, measured, folder = clock
    caplog.set_level(logging.INFO, "crattn_stage")
    first = load_model("att-deepcr")
    assert first.engine.startswith("openvino") and len(measured) == 1
    assert "the fastest here" in caplog.text
    seconds["torch"] = 0.1
    assert load_model("att-deepcr").engine == first.engine and len(measured) == 1
    assert "as measured before" in caplog.text
    # Another model is another question.
    assert load_model("att-cosmic-conn").engine.startswith("torch") and len(measured) == 2
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".json"]


def test_every_engine_here_is_measured(monkeypatch):
    seconds = choice._measured(models.find("fast"), 1)
    assert set(seconds) == set(HERE) and min(seconds.values()) > 0


def test_where_nothing_can_be_measured_a_likely_one_is_taken(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    caplog.set_level(logging.INFO, "crattn_stage")
    assert load_model("fast").engine.startswith("openvino")
    assert "could not be measured" in caplog.text and not (tmp_path / "crattn-stage").exists()


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"engine": "abacus"}', '{"engine": ["torch"]}', "\x00"])
def test_a_damaged_note_is_measured_again_and_mended(clock, damage):
    _, measured, folder = clock
    load_model("att-deepcr")
    (note,) = folder.iterdir()
    good = note.read_text()
    note.write_text(damage)
    assert load_model("att-deepcr").engine.startswith("openvino")
    assert len(measured) == 2 and json.loads(note.read_text()) == json.loads(good)


def test_without_a_place_to_remember_it_still_runs(clock, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "file"))
    image, hit = with_track(sky_image())
    assert load_model("att-deepcr").detect(image)[hit].mean() > 0.95


def test_nothing_reports_home():
    """OpenVINO's import sends an event of its use by a client that it brings along."""
    code = (
        "import sys; from crattn_stage import load_model; load_model(engine='openvino'); "
        "print('openvino' in sys.modules, [m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "True []"


def test_masking_by_openvino_needs_no_torch(tmp_path):
    """It would cost as much time and memory as masking a small frame."""
    code = (
        "import sys, numpy; from crattn_stage import load_model; "
        "print(load_model('fast', 'openvino').detect(numpy.random.default_rng(0).normal(9, 1, (64, 64))).shape, "
        "'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "(64, 64) False"
