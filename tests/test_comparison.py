import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image

from crattn_stage.cli import main
from crattn_stage.comparison import Comparison, Limits, reasons
from crattn_stage.errors import FrameError
from crattn_stage.models.cards import load, save
from crattn_stage.quality.summary import Injected, Summary
from crattn_stage.simulation.hits import scatter_hits, simulate_hit

MODEL = ("--engine", "openvino", "--injections", "128")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A frame of sky with hits, alone in a list."""
    path = tmp_path_factory.mktemp("frames") / "0.fits"
    rng = np.random.default_rng(0)
    charge, _ = scatter_hits((768, 768), [simulate_hit(rng) for _ in range(90)], rng)
    fits.writeto(path, sky_image((768, 768)) + np.float32(charge / 4), fits.Header({"GAIN": 4.0}))
    return [str(path)]


def compared(*arguments):
    result = CliRunner().invoke(main, ["compare", *arguments])
    return result.exit_code, result.output


def test_a_model_is_not_worse_than_itself_and_a_bad_threshold_is(frames, tmp_path):
    pages = ("--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html"))
    status, output = compared("fast", "fast", *frames, *MODEL, *pages)
    assert status == 0 and "fast is not worse than fast" in output
    kept = json.loads((tmp_path / "c.json").read_text())
    assert kept["first"] == kept["second"] and kept["worse"] == [] and kept["frames"] == frames
    status, output = compared("fast", "fast@0.9999", *frames, *MODEL, *pages)
    assert status == 1 and "of the faint hits that were added" in output
    assert "is worse" in (tmp_path / "c.html").read_text() and "data:image/png" in (tmp_path / "c.html").read_text()
    status, output = compared("fast", "fast@0.005", *frames, *MODEL)
    assert status == 1 and "masks noise" in output


def test_the_mask_of_a_frame_can_be_compared(frames, tmp_path):
    output = tmp_path / "masked"
    assert CliRunner().invoke(main, ["run", *MODEL, "--output-dir", str(output), *frames]).exit_code == 0
    masked = [str(output / "0.fits")]
    status, text = compared("own", "fast", *masked, *MODEL)
    assert status == 0 and "fast is not worse than own" in text
    status, text = compared("own", "fast", *frames, *MODEL)
    assert status == 1 and text.count("has no mask of cosmic rays to compare with") == 1


def test_too_few_hits_are_no_comparison(frames):
    status, output = compared("fast", "fast", frames[0], "--engine", "openvino", "--injections", "4")
    assert status == 1 and "too few to compare" in output


@pytest.mark.parametrize(
    "arguments", [("fast", "nonsense"), ("fast", "fast@2"), ("fast", "fast@x"), ("own@0.5", "fast")]
)
def test_unknown_models_are_named_in_one_line(frames, arguments):
    status, output = compared(*arguments, frames[0], *MODEL)
    assert status == 1 and len(output.splitlines()) == 1 and "Traceback" not in output


def test_stars_and_chance():
    def summary(**columns):
        return Summary(searched=10**6, injected=Injected(bright=400, bright_found=396), **columns)

    first = summary(stars=200, stars_flagged=1)
    assert reasons(Comparison(("a", "b"), first=first, second=summary(stars=200, stars_flagged=4)), Limits()) == []
    (why,) = reasons(Comparison(("a", "b"), first=first, second=summary(stars=200, stars_flagged=40)), Limits())
    assert why == "masks 20.0% of star cores, not 0.5%"
    bad = summary(stars=200, stars_flagged=1, galaxies=40, galaxies_flagged=12)
    (why,) = reasons(Comparison(("a", "b"), first=summary(stars=200, galaxies=40), second=bad), Limits())
    assert why == "masks 30.0% of galaxy nuclei, not 0.0%"
    with pytest.raises(FrameError, match="too few"):
        reasons(Comparison(("a", "b")), Limits())


def spoiled(folder, name, change, **card):
    """Save the shipped att-deepcr with changed weights or card; return its path."""
    content, tensors = load("att-deepcr")
    columns = {**asdict(content), "narrow": {}, "name": name, **card}
    del columns["sha256"]
    save({key: change(key, value) for key, value in tensors.items()}, columns, folder)
    return str(folder / f"{name}.safetensors")


def registered(model, *options):
    result = CliRunner().invoke(main, ["models", "register", model, *map(str, options)])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_a_worse_model_fails_and_cannot_be_registered(frames, tmp_path):
    rng = np.random.default_rng(1)

    def shuffled(name, value):
        return rng.permutation(value.ravel()).reshape(value.shape)

    untrained = spoiled(tmp_path, "untrained", shuffled)
    raw = spoiled(tmp_path, "raw", lambda name, value: value, scaling="none")
    kept = tmp_path / "c.json"
    status, output = compared("fast", untrained, *frames, *MODEL)
    assert status == 1 and "is worse" in output
    assert compared("fast", raw, *frames, *MODEL, "--injections", "192", "--json", str(kept))[0] == 1
    status, output = registered(raw, "--comparison", kept, "--frames-needed", 1)
    assert status == 1 and "raw is worse than fast" in output and len(output.splitlines()) == 1
    # It is not worse than itself, which proves nothing.
    found = json.loads(kept.read_text())
    kept.write_text(json.dumps({**found, "worse": [], "models": [found["models"][1]] * 2}))
    status, output = registered(raw, "--comparison", kept, "--frames-needed", 1)
    assert status == 1 and "neither shipped nor registered" in output
    for threshold in ("0.01", "0.999"):
        status, _ = compared("fast", f"fast@{threshold}", *frames, *MODEL, "--json", str(kept))
        assert status == 1
        status, output = registered("fast", "--comparison", kept, "--frames-needed", 1)
        assert status == 1 and "not compared at their own thresholds" in output


def test_a_model_that_passed_is_registered_and_its_comparison_is_kept(frames, tmp_path):
    kept, looser = tmp_path / "c.json", tmp_path / "looser.json"
    assert compared("att-deepcr", "fast", *frames, *MODEL, "--json", str(kept))[0] == 0
    found = json.loads(kept.read_text())
    (source,) = found["inputs"]
    assert len(source["sha256"]) == 64 and source["camera"][0] == "generic"
    assert [len(side["sha256"]) for side in found["models"]] == [64, 64]
    status, output = registered("fast", "--comparison", kept)
    assert status == 1 and "it has 1 different frames, 3 are needed" in output
    status, output = registered("fast")
    assert status == 1 and "--comparison FILE" in output and "--without-comparison REASON" in output
    assert len(output.splitlines()) == 1
    assert registered("fast", "--comparison", kept, "--without-comparison", "x")[0] == 2
    assert compared("att-deepcr", "fast", *frames, "--noise", "nan")[0] == 2
    status, output = registered("att-deepcr", "--comparison", kept, "--frames-needed", 1)
    assert status == 1 and "compares att-deepcr with fast, not with the model" in output
    looser.write_text(json.dumps({**found, "limits": asdict(replace(Limits(), faint=0.5))}))
    status, output = registered("fast", "--comparison", looser, "--frames-needed", 1)
    assert status == 1 and "--faint is looser" in output
    unhashable = [{**found["models"][0], "sha256": []}, found["models"][1]]
    changed = {"models": "xy"}, {"models": unhashable}, {"inputs": [1]}
    for text in ("", "[1]", "{}", 100_000 * "[", *(json.dumps(found | change) for change in changed)):
        looser.write_text(text)
        status, output = registered("fast", "--comparison", looser)
        assert status == 1 and "not a comparison" in output and len(output.splitlines()) == 1
    status, output = registered("fast", "--comparison", kept, "--frames-needed", 1, "--instrument", "decam")
    assert status == 1 and "it has 0 different frames of decam, 1 are needed" in output
    status, output = registered("fast", "--comparison", "/dev/zero")
    assert status == 1 and "not a regular file" in output
    assert registered("fast", "--comparison", kept, "--frames-needed", 1)[0] == 0
    assert registered("att-deepcr", "--without-comparison", "trusted")[0] == 0
    history = CliRunner().invoke(main, ["models", "history"]).output
    assert "not worse than att-deepcr on 1 frames of generic" in history
    assert "without comparison: trusted" in history
