"""A frame of any camera is understood or refused, whatever its planes are called and in whatever order they are."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from archives.frames import add_stars, add_tracks
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from crattn_stage.cameras import content
from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import OpenFrame

AUXILIARY = ("mask", "variance", "sigma", "inverse variance", "weight", "background")
STANDARD = {
    "science": ("SCI",),
    "mask": ("DQ", "MASK", "BPM"),
    "variance": ("VAR",),
    "sigma": ("ERR",),
    "inverse variance": ("IVAR", "WHT"),
    "weight": ("WHT",),
    "background": ("BKG",),
}
NO_NAME = st.none()
# No word that a profile knows can be made of these.
LETTERS = st.text("GHJKLPQXYZ", min_size=4, max_size=6)
DETECTORS = st.sampled_from(("CCD", "im", "N", "chip_", "")).flatmap(
    lambda stem: st.integers(1, 62).map(lambda number: f"{stem}{number}")
)


def detector(rng, shape, sky, gain, read_noise, dtype):
    """Return an image of sky, stars and tracks in ADU, and its variance in ADU2 as it is, without noise of its own."""
    expected = np.full(shape, float(sky))
    add_stars(expected, rng, 4, peak=(5 * sky**0.5, 50 * sky**0.5))
    image = (rng.poisson(expected) + rng.normal(0, read_noise, shape)) / gain
    add_tracks(image, rng, 3, charge=3000 / gain)
    if np.dtype(dtype).kind in "iu":
        image = np.clip(np.round(image), 0, 65535)
    return image.astype(dtype), (expected + read_noise**2) / gain**2


def auxiliary(what, rng, image, model, gain, read_noise, choice):
    """Return a plane that belongs to an image; `choice` says which of the usual ways to write it."""
    variance = model if choice % 2 else np.clip(image, 0, None) / gain + read_noise**2 / gain**2
    bad = rng.random(image.shape) < 0.01
    bad[:, 7] = True
    if what == "mask":
        plane = bad * rng.choice((1, 2, 4, 16) if choice % 3 else (1,), image.shape)
        return plane.astype((np.uint8, np.int16)[choice % 2])
    if what == "weight":
        return (~bad).astype((np.uint8, np.int16, np.float32)[choice % 3])
    if what == "background":
        rows, columns = np.indices(image.shape)
        return (np.median(image) * (1 + 1e-4 * (rows + columns))).astype(np.float32)
    return {"variance": variance, "sigma": np.sqrt(variance), "inverse variance": 1 / variance}[what].astype(np.float32)


@st.composite
def frames(draw, detectors):
    """Draw a frame: what each of its planes is, and its HDUs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(64, 96)), draw(st.integers(64, 96))
    gain, read_noise = draw(st.floats(1, 5)), draw(st.floats(3, 12))
    skies = draw(st.lists(st.floats(50, 5000), min_size=detectors, max_size=detectors))
    dtype = draw(st.sampled_from((np.float32, np.uint16, np.int32)))
    planes = []
    for sky in skies:
        image, model = detector(rng, shape, sky, gain, read_noise, dtype)
        planes.append(("science", image))
        for what in draw(st.lists(st.sampled_from(AUXILIARY), unique=True, max_size=4)):
            planes.append((what, auxiliary(what, rng, image, model, gain, read_noise, draw(st.integers(0, 5)))))
    planes = draw(st.permutations(planes))
    # All in one style, or each in its own.
    style = draw(st.sampled_from((NO_NAME, LETTERS, DETECTORS, "standard", "any")))
    named = []
    for what, plane in planes:
        standard = st.sampled_from(STANDARD[what])
        own = st.one_of(NO_NAME, LETTERS, DETECTORS, standard) if style == "any" else style
        named.append((what, plane, draw(standard if own == "standard" else own)))
    in_primary = draw(st.booleans())
    kinds = [fits.PrimaryHDU if in_primary and not i else fits.ImageHDU for i in range(len(named))]
    hdus = [] if in_primary else [fits.PrimaryHDU()]
    versions = {}
    for kind, (_, plane, name) in zip(kinds, named, strict=True):
        hdu = kind(plane)
        if name is not None:
            hdu.header["EXTNAME"] = name
            versions[name] = versions.get(name, 0) + 1
            if versions[name] > 1:
                hdu.header["EXTVER"] = versions[name]
        hdus.append(hdu)
    return [None] * (not in_primary) + [what for what, *_ in named], hdus


def understood(hdus):
    """Return the layout of a frame, None where it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frame.fits")
        fits.HDUList(hdus).writeto(path)
        try:
            with OpenFrame(path) as frame:
                return None if frame.layout.refusal else frame.layout
        except FrameError:
            return None


def assert_right(what, hdus):
    """Check that the exposures of a frame, and they alone, are to be masked, or that it is refused."""
    layout = understood(hdus)
    if layout is None:
        return
    science = [index for index, kind in enumerate(what) if kind == "science"]
    seen = [(what[p.hdu.index], p.hdu.name, p.role, p.why) for p in layout.planes]
    assert [p.hdu.index for p in layout.planes if p.role == "science"] == science, seen
    assert [e.index for e in layout.extensions] == science, seen
    for extension in layout.extensions:
        assert extension.flags is None or what[extension.flags[1]] == "mask", seen


@settings(max_examples=150)
@given(frame=frames(1))
def test_one_exposure_among_its_planes_is_found_or_the_frame_refused(frame):
    assert_right(*frame)


@settings(max_examples=150)
@given(frame=frames(2))
def test_two_detectors_among_their_planes_are_found_or_the_frame_refused(frame):
    assert_right(*frame)


def refusal(path, data, **cards):
    """Return why a frame of one image of an unknown camera is refused."""
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(cards)
    hdu.writeto(path)
    with OpenFrame(path) as frame:
        return frame.layout.refusal


def test_a_mask_is_no_exposure_even_if_its_middle_has_one_value_or_its_values_are_mixed(tmp_path):
    # An echelle's mask: all of the middle is good.
    orders = np.ones((1400, 1200), np.uint8)
    orders[:, :80] = orders[1380:] = 0
    assert "HDU 0 (PRIMARY): flags" in refusal(tmp_path / "orders.fits", orders)
    checked = np.random.default_rng(1).integers(0, 2, (200, 200)).astype(np.int16)
    assert "HDU 0 (PRIMARY): flags" in refusal(tmp_path / "checked.fits", checked)


@pytest.mark.parametrize(("green", "mosaic"), [(1.0, False), (1.08, True), (1.5, True)])
def test_a_colour_filter_mosaic_is_known_by_its_pixels(green, mosaic, tmp_path):
    """A camera of one shot: neither BAYERPAT nor any other card says that neighbours see different colours."""
    rng = np.random.default_rng(2)
    light = np.full((300, 300), 900.0)
    add_stars(light, rng, 30, peak=(500, 20_000))
    light[::2, 1::2] *= green
    light[1::2, ::2] *= green
    # Blue is not red.
    light[1::2, 1::2] *= 1 + (green - 1) / 3
    image = (2048 + rng.poisson(light) + rng.normal(0, 5, light.shape)).astype(np.uint16)
    said = refusal(tmp_path / "frame.fits", image, EXPTIME=30.0)
    assert ("a colour-filter mosaic by its pixels" in said) == mosaic, said


def test_a_pattern_of_a_sensor_without_filters_is_no_mosaic(tmp_path):
    rng = np.random.default_rng(3)
    light = np.full((300, 300), 900.0)
    add_stars(light, rng, 30, peak=(500, 20_000))
    # As of a QHY163M: each second pixel along a row and a column is 3% more sensitive, and even rows are 1% brighter.
    light[::2, ::2] *= 1.03
    light[1::2, 1::2] *= 1.03
    light[::2] *= 1.01
    image = (500 + rng.poisson(light) + rng.normal(0, 5, light.shape)).astype(np.uint16)
    assert content.is_mosaic(content.look(image.astype(np.float32))) is False
    assert "mosaic" not in refusal(tmp_path / "frame.fits", image, EXPTIME=30.0)


@pytest.mark.parametrize("lines", [np.s_[::2, :], np.s_[:, ::2]])
def test_a_readout_by_odd_and_even_lines_is_no_mosaic(lines, tmp_path):
    image = np.random.default_rng(3).normal(1000, 10, (300, 300))
    image[lines] += 40
    assert refusal(tmp_path / "frame.fits", image.astype(np.float32), EXPTIME=30.0) == ""


def test_a_file_of_calibrations_and_exposures_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    hdus = [
        fits.ImageHDU(rng.normal(300, 8, (64, 64)).astype(np.float32), fits.Header({"IMAGETYP": kind}))
        for kind in ("BIAS", "DOME FLAT", "OBJECT", "OBJECT")
    ]
    fits.HDUList([fits.PrimaryHDU(hdus[0].data, hdus[0].header), *hdus[1:]]).writeto(tmp_path / "all.fits")
    with OpenFrame(tmp_path / "all.fits") as frame:
        assert "HDU 0 is a bias frame, HDU 2 is not; write each to a file" in frame.layout.refusal
    fits.HDUList([fits.PrimaryHDU(), *hdus[:2]]).writeto(tmp_path / "two.fits")
    with OpenFrame(tmp_path / "two.fits") as frame:
        assert frame.layout.exposure.calibration_type == "bias" and not frame.layout.refusal
