import csv
import functools
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner
from training_support import few_planes_fixture  # noqa: F401

from crattn_stage import cli
from training.commands import main
from training.evaluation.empty import noise_fields


@pytest.fixture
def joined(monkeypatch):
    """Install entry points."""
    points = []
    monkeypatch.setattr(cli, "entry_points", lambda group: [p for p in points if p.group == group])
    return lambda name, value: points.append(EntryPoint(name, value, "crattn_stage.commands"))


def test_commands_of_other_packages_join_the_command_line(joined):
    joined("train", "training.commands:train")
    joined("broken", "nowhere.at_all:command")
    done = CliRunner().invoke(cli.main, ["--help"])
    assert done.exit_code == 0 and "Train ARCHITECTURE" in done.output and "Mask" in done.output
    assert "Train ARCHITECTURE" in CliRunner().invoke(cli.main, ["train", "--help"]).output
    done = CliRunner().invoke(cli.main, ["broken", "--option", "5"])
    assert done.exit_code == 1 and "nowhere.at_all:command cannot be imported: No module named" in done.output
    # Our own commands have the last word.
    joined("run", "nowhere.at_all:command")
    assert CliRunner().invoke(cli.main, ["run", "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "deepcr", "--output", "x", "--recipe", "theirs"], 1, "neither a shipped recipe (adapt, fine-tune-"),
        (["export", ".", "--output", "x"], 1, "no checkpoint.pt in it"),
        (["evaluate", "--model", "fast", "--peer", "nobody"], 2, "unknown peer 'nobody'"),
        (["evaluate", "--model", "nobody"], 1, "unknown model 'nobody'"),
        (["evaluate", "--model", "fast", "--scenes", "moon"], 1, "unknown scenes 'moon'"),
        (["real", "--model", "fast", "--data", "."], 1, "no frames to look at"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code and message in done.output and "Traceback" not in done.output


def test_a_model_is_evaluated_without_any_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr("training.evaluation.report.SIMULATED_SETS", ("sky:300",))
    monkeypatch.setattr("training.evaluation.scene_sets.SIDE", 256)
    monkeypatch.setattr("training.evaluation.report.noise_fields", functools.partial(noise_fields, 100))
    monkeypatch.setattr("training.evaluation.empty.STARS", 9)
    monkeypatch.setattr("training.evaluation.scene_sets.SEEINGS", (2.2,))
    monkeypatch.setattr("training.evaluation.tables.SEEINGS", (2.2,))
    done = CliRunner().invoke(
        main, ["evaluate", "--model", "fast", "--count", "1", "--output", str(tmp_path)], catch_exceptions=False
    )
    text = (tmp_path / "accuracy.txt").read_text()
    assert done.exit_code == 0 and text.startswith("No decam/") and "all hits are simulated" in text
    assert "Stars without hits" in text and "t, 5 dof" in text
    assert "sky:300: Table 1" in text and (tmp_path / "curves-sky-300.png").exists()
    tables = {path.stem: list(csv.DictReader(path.read_text().splitlines())) for path in tmp_path.glob("*.csv")}
    parts = "rates", "settings", "hits", "differences", "noise"
    assert set(tables) == {
        "accuracy",
        *(f"sky-300-{part}" for part in parts),
        "star-cores",
        "noise-alone",
        "stars-alone",
    }
    assert [row["method"] for row in tables["accuracy"]] == ["fast", "Astro-SCRAPPY 3", "Astro-SCRAPPY 5"]
    rates = [float(tables[name][0]["TPR at FPR 0.01%"].split()[0]) for name in ("accuracy", "sky-300-rates")]
    assert 100 * rates[0] == pytest.approx(rates[1], abs=0.006)


def test_a_network_is_trained_by_a_file_and_what_is_missing_is_said(tmp_path):
    (tmp_path / "tiny.toml").write_text("steps = 2\npatch = 32\nbatch = 2\nchannels = 16\n")
    options = ["--recipe", str(tmp_path / "tiny.toml"), "--output", str(tmp_path / "run"), "--seed", "4"]
    done = CliRunner().invoke(main, ["train", "deepcr", *options], catch_exceptions=False)
    assert done.exit_code == 0 and "No catalogue of footprints: all hits are simulated." in done.output
    assert (tmp_path / "run" / "training.json").exists() and "python -m training export" in done.output
