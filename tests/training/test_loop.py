import json
import logging
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch
from conftest import ROOT, need
from training_support import few_planes_fixture  # noqa: F401

from crattn_stage.models import cards
from training import checkpoints
from training.configuration import read_configuration
from training.loop import learning_rate, train
from training.progress import Progress

SCRIPT = """
import sys
import training.data.library
from training.configuration import read_configuration
from training.loop import train
training.data.library.PLANES = 2
output, steps = sys.argv[1:]
changes = {"patch": 32, "batch": 2, "epochs": 3, "average": 0.5, "steps": int(steps), "seed": 5}
train(read_configuration("paper", **changes), output, log_steps=1, checkpoint_seconds=0)
"""


def test_learning_rate_warms_up_stays_and_falls_to_zero():
    rates = [learning_rate(step, 1 - step / 1000, 1.0, 0.25) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) == 1 and rates[-1] < 0.01
    assert rates[:750] == [learning_rate(step, 1 - step / 5000, 1.0, 0.25) for step in range(750)]


def run_training(output, steps):
    command = [sys.executable, "-c", SCRIPT, output, str(steps)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


def test_training_resumes_after_sigkill(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_training(whole, 9).wait() == 0
    running = run_training(parts, 9)
    checkpoint = parts / "checkpoint.pt"
    while not checkpoint.exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["step"] < 9
    assert run_training(parts, 9).wait() == 0
    one, other = (torch.load(path / "checkpoint.pt", weights_only=True) for path in (whole, parts))
    assert one["step"] == other["step"] == 9
    for key in ("network", "mean"):
        for a, b in zip(one[key].values(), other[key].values(), strict=True):
            assert torch.equal(a, b)
    assert one["plateau"]["best"] == other["plateau"]["best"]
    log = (parts / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["step", *map(str, range(1, 10))]
    with pytest.raises(ValueError, match="another run"):
        train(small("paper", steps=9, seed=6), parts)


def small(recipe="ours", **changes):
    return read_configuration(recipe, **{"patch": 32, "batch": 2, "seed": 3, **changes})


def test_recipes_differ_as_they_say(tmp_path):
    paper = read_configuration("paper")
    assert (paper.steps, paper.peak, paper.patch, paper.batch) == (60 * 1152, 0.005, 256, 16)
    assert read_configuration("ours", architecture="cosmic-conn").patch == 256
    need(find_spec("tensorboard"), "needs the extra `train`")
    configuration = small("paper", architecture="deepcr", steps=4, epochs=2, average=0.5)
    mean = train(configuration, tmp_path, tensorboard=True)
    found, state = checkpoints.load(tmp_path)
    # Two epochs, so two validations; the mean of the weights lags behind them.
    assert found == configuration and state["plateau"]["last_epoch"] == 2 and state["log"][1][2] == 0.005
    assert not torch.equal(mean.head.weight, state["network"]["head.weight"])
    assert torch.equal(mean.head.weight, state["mean"]["head.weight"])
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["contamination"] == "paper" and summary["files"] == {}
    # Nothing of DECam was used, and nothing says so.
    assert "DECam" not in summary["trained_on"] and summary["trained_on"].startswith("simulated skies; contaminated")
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"learning_rate" in events.read_bytes()


def test_the_first_checkpoint_is_of_the_first_step_and_others_follow_by_time(tmp_path, monkeypatch):
    saved = []
    save = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *a: (saved.append(a[2]["step"]), save(*a)))
    train(small(architecture="deepcr", channels=16, steps=5), tmp_path / "rarely", checkpoint_seconds=1e9)
    assert saved == [1, 5]
    saved.clear()
    train(small(architecture="deepcr", channels=16, steps=5), tmp_path / "often", checkpoint_seconds=0)
    assert saved == [1, 2, 3, 4, 5]


def test_a_time_limit_ends_a_run_and_takes_the_rate_to_zero(tmp_path, monkeypatch):
    now = iter(range(10_000))
    # Each look at the clock is a second.
    monkeypatch.setattr("training.loop.time.perf_counter", lambda: float(next(now)))
    monkeypatch.setattr("training.loop.WARM_UP_STEPS", 1)
    monkeypatch.setattr("training.data.library.PSFS", 2)
    monkeypatch.setattr("training.data.library.SPECTRA", 2)
    configuration = small(architecture="deepcr", channels=16, hard=0.5, cool_down=1.0, minutes=0.25, start_from="")
    train(configuration, tmp_path, checkpoint_seconds=3)
    summary = json.loads((tmp_path / "training.json").read_text())
    assert 3 < summary["steps"] < 15 and summary["hard"] == 0.5 and "narrow stars" in summary["trained_on"]
    _, state = checkpoints.load(tmp_path)
    assert state["step"] == summary["steps"] and 0 < state["log"][-1][2] < 0.3 * configuration.peak
    # Over is over; with more time it goes on.
    train(configuration, tmp_path)
    assert checkpoints.load(tmp_path)[1]["step"] == summary["steps"]
    train(small(**{**configuration.as_dict(), "minutes": 0.5}), tmp_path, checkpoint_seconds=3)
    assert checkpoints.load(tmp_path)[1]["step"] > summary["steps"]


def test_fine_tuning_recipes_start_from_what_they_train():
    for name in ("fast", "att-deepcr"):
        recipe = read_configuration(f"fine-tune-{name}")
        card = cards.read_card(name)
        assert (recipe.start_from, recipe.architecture, recipe.channels) == (name, card.architecture, card.channels)
        assert recipe.minutes and recipe.hard
    with pytest.raises(ValueError, match="hard = 2"):
        read_configuration(hard=2)


def test_a_file_with_an_unknown_field_is_refused(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("steps = 12\nchannels = 16\n")
    assert (read_configuration(recipe).steps, read_configuration(recipe, steps=3).steps) == (12, 3)
    recipe.write_text("step = 12\n")
    with pytest.raises(ValueError, match="unknown field 'step'"):
        read_configuration(recipe)
    with pytest.raises(ValueError, match="neither a shipped recipe"):
        read_configuration("theirs")
    with pytest.raises(ValueError, match="unknown architecture"):
        read_configuration(architecture="u-net")


def test_progress_is_logged_where_there_is_no_terminal(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("training.progress.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "training")
    with Progress(10, done=2, interval=30) as progress:
        for _ in range(8):
            now[0] += 20
            progress.advance(loss=0.5)
    # Every 30 s at most, and the last step in any case.
    assert [message.split(",")[0] for message in caplog.messages] == [f"step {n} of 10" for n in (4, 6, 8, 10)]
    assert caplog.messages[0].endswith("loss 0.5, 120 s left")
    caplog.clear()
    with Progress(1000, interval=0) as progress:
        for left in (35, 15):
            now[0] += 20
            progress.advance(left)
    assert caplog.messages == ["step 1 of 3, 35 s left", "step 2 of 3, 15 s left"]
