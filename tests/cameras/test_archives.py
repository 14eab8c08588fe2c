"""Frames in the formats of many archives, understood and masked; the builders' modules name the sources."""

import zlib
from functools import cache

import numpy as np
import pytest
from archives import large, lco, others, small, software, space, spectra, surveys
from archives.masked import run_and_check

from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import OpenFrame
from crattn_stage.stage import AttentionCRStage, RuntimeContext

MODULES = (lco, software, small, space, large, others, spectra, surveys)
EXPECTED = {name: (getattr(module, name), e) for module in MODULES for name, e in module.EXPECTED.items()}
#: No card says where their overscan is; the stage finds it by its statistics.
BY_STATISTICS = {"lris_old"}
#: Too large for the stage here; the zoo has a real one.
LARGE = {"lco_floyds_raw"}
SCIENCE = [name for name, (_, expected) in EXPECTED.items() if not expected["left"] and name not in LARGE]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Build a frame, once; return its path and what is known of it."""
    folder = tmp_path_factory.mktemp("archives")

    @cache
    def built(name):
        own = folder / name
        own.mkdir()
        path = EXPECTED[name][0](own, np.random.default_rng(zlib.crc32(name.encode())))[0]
        truth = path.with_name(f"{path.name}.truth.npz")
        return path, dict(np.load(truth)) if truth.exists() else {}

    return built


@pytest.fixture(scope="module")
def fixed_stage():
    """The stage with an engine that is not chosen by its speed here."""
    return AttentionCRStage(RuntimeContext("att-deepcr", engine="openvino"))


@pytest.mark.parametrize("name", EXPECTED)
def test_format_is_understood(name, build):
    path, truth = build(name)
    expected = EXPECTED[name][1]
    try:
        frame = OpenFrame(path)
    except FrameError as error:
        assert expected["left"] and expected["left"].lower() in str(error).lower()
        return
    with frame:
        layout = frame.layout
        assert layout.profile.name == expected["profile"], layout.recognised_by
        if expected["night"]:
            assert layout.exposure.night == expected["night"]
        if expected["type"] is not None:
            assert layout.exposure.observation_type.lower() == expected["type"]
        said = layout.refusal or layout.exposure.calibration_type
        if expected["left"]:
            assert expected["left"].lower() in said.lower() and not layout.extensions
            return
        assert not said
        extensions = layout.extensions
        assert [e.index for e in extensions] == expected["science"], layout.planes
        assert {e.index: e.mask for e in extensions if e.mask} == expected["mask"]
        first = extensions[0]
        assert (
            first.amplifiers[0].gain == pytest.approx(expected["gain"])
            if expected["gain"]
            else (first.amplifiers[0].gain is None)
        )
        if expected["cosmic_ray"]:
            assert first.convention.cosmic_ray == expected["cosmic_ray"]
            assert not first.flags[2].bad_pixels(np.full((1, 1), expected["cosmic_ray"])).any()
        if expected["bad"]:
            assert first.flags[2].bad_pixels(np.full((1, 1), expected["bad"])).all()
        for extension in extensions:
            dark = truth.get(f"o{extension.index}", np.zeros(extension.shape, bool))
            inside = np.zeros(extension.shape, bool)
            for amplifier in extension.amplifiers:
                inside[amplifier.section] = True
            assert name in BY_STATISTICS or not (dark & inside).any(), "overscan in an amplifier"
            # Some cameras cut a few lines that saw light.
            assert np.count_nonzero(inside & ~dark) > 0.9 * np.count_nonzero(~dark)


@pytest.mark.parametrize("name", SCIENCE)
def test_masked_frame_keeps_its_format(name, build, fixed_stage, tmp_path):
    path, truth = build(name)
    found = run_and_check(path, tmp_path / path.name, fixed_stage, truth)
    assert found is None or found >= 0.9
