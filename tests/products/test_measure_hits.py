import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import sky_image
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from crattn_stage.cameras.sections import Amplifier
from crattn_stage.products.hits import COLUMNS, as_rows, footprints, join_hits, measure_hits
from crattn_stage.simulation.hits import simulate_hit

GAIN, SHAPE = 2.0, (160, 160)


def whole(shape=SHAPE, gain=GAIN, name="A"):
    return [Amplifier(name, np.s_[0 : shape[0], 0 : shape[1]], gain)]


def line(length, angle, width=1.0, charge=20000.0, shape=SHAPE, centre=(80.0, 80.0)):
    """Return the charge of a straight hit in electrons: a line smeared by a Gaussian, oversampled along it."""
    rows, columns = np.indices(shape)
    steps = np.linspace(-length / 2, length / 2, 4 * int(length) + 1)
    turned = np.deg2rad(angle)
    plane = np.zeros(shape)
    for x, y in zip(centre[0] + steps * np.cos(turned), centre[1] + steps * np.sin(turned), strict=True):
        plane += np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / width**2)
    return plane * charge / plane.sum()


@settings(max_examples=12, phases=[Phase.explicit, Phase.generate])
@given(
    length=st.floats(8, 60),
    angle=st.floats(0, 180),
    width=st.floats(0.4, 0.8),
    charge=st.floats(2e4, 2e5),
    x=st.floats(60, 100),
    y=st.floats(60, 100),
)
def test_a_line_has_the_charge_place_length_width_and_angle_it_was_given(length, angle, width, charge, x, y):
    hit = line(length, angle, width, charge, centre=(x, y))
    image = sky_image(SHAPE, sigma=4.0) + hit / GAIN
    mask = binary_dilation(hit / GAIN > 12, np.ones((3, 3)))
    (found,) = measure_hits(image, mask, amplifiers=whole())
    assert found["charge"].value == pytest.approx(charge, rel=0.05)
    assert (found["x"].value, found["y"].value) == pytest.approx((x, y), abs=0.6)
    assert found["length"].value == pytest.approx(length, rel=0.1)
    assert found["width"].value == pytest.approx(2.355 * width, abs=0.4)
    assert abs((found["angle"].value - angle + 90) % 180 - 90) < 3
    assert found["class"] == "track" and found["straightness"] > 0.96 and found["amplifier"] == "A"


def test_simulated_hits_are_of_the_class_that_they_look_like():
    rng = np.random.default_rng(3)
    for kind, classes in (("track", {"track", "spot"}), ("spot", {"spot"})):
        image, truth, charge = np.zeros((600, 600), np.float32), np.zeros((600, 600), bool), []
        for row in range(20, 580, 58):
            for column in range(20, 580, 58):
                hit = simulate_hit(rng, kind)
                if max(hit.shape) < 50:
                    window = np.s_[row : row + hit.shape[0], column : column + hit.shape[1]]
                    image[window] += hit / GAIN
                    truth[window] |= hit > 0
                    charge.append(hit.sum())
        image += sky_image(image.shape)
        table = measure_hits(image, binary_dilation(truth, np.ones((3, 3))), amplifiers=whole(image.shape))
        assert len(table) == len(charge)
        assert np.isin(table["class"], list(classes)).mean() > 0.97
        assert np.sort(table["charge"].value) == pytest.approx(np.sort(charge), rel=0.05, abs=400)


def test_a_ring_is_a_worm():
    rows, columns = np.indices(SHAPE)
    mask = np.abs(np.hypot(rows - 80, columns - 80) - 12) < 1
    mask &= columns > 72
    (found,) = measure_hits(sky_image(SHAPE) + 900 * mask, mask, amplifiers=whole())
    assert found["class"] == "worm" and found["straightness"] < 0.9


def test_what_is_not_known_is_nan_and_never_a_guess():
    hit = line(20, 30)
    image, mask = sky_image(SHAPE) + hit, hit > 20
    known = measure_hits(image, mask, unit="electron")
    for unit, amplifiers in (("adu", whole(gain=None)), ("adu", None), (None, whole())):
        table = measure_hits(image, mask, unit=unit, amplifiers=amplifiers)
        assert np.isnan(table["charge"].value).all() and np.isnan(table["gain"]).all()
        assert table["counts"][0] == pytest.approx(known["charge"][0].value)
        (stamp,) = footprints(image, mask, table)
        assert stamp.size == 0 and as_rows(table)[0]["charge"] is None
    assert np.isnan(known["ra"].value).all() and np.isnan(known["probability"]).all()
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), (10, 20), (81, 81)
    wcs.wcs.cdelt = -1e-4, 1e-4
    table = measure_hits(image, mask, wcs=wcs, probability=np.full(SHAPE, 0.75, np.float32))
    assert (table["ra"][0].value, table["dec"][0].value) == pytest.approx((10, 20), abs=3e-5)
    assert table["probability"][0] == 0.75


def test_an_image_without_hits_has_all_columns():
    table = measure_hits(sky_image(SHAPE), np.zeros(SHAPE, bool), detector="A")
    assert len(table) == 0 and table.colnames == list(COLUMNS) and table["charge"].unit == "electron"
    other = measure_hits(sky_image(SHAPE) + line(20, 0), line(20, 0) > 20, detector="B")
    assert len(join_hits([table, other])) == 1 and len(join_hits([table, table])) == 0
    assert {c.info.dtype.kind for c in table.itercols()} == {c.info.dtype.kind for c in other.itercols()}


def test_borders_of_amplifiers_bad_pixels_and_nan():
    hit = line(20, 0, centre=(80, 80)) + line(10, 90, centre=(3, 60))
    image = sky_image(SHAPE) + hit
    image[:, 78:] += 5000
    amplifiers = [Amplifier("L", np.s_[0:160, 0:78], 1.0), Amplifier("R", np.s_[0:160, 78:160], 4.0)]
    bad = np.zeros(SHAPE, bool)
    bad[80, 82] = True
    image[79, 84] = np.nan
    table = measure_hits(image, hit > 20, bad, amplifiers=amplifiers)
    assert list(table["near_edge"]) == [True, True] and list(table["amplifier"]) == ["L", "R"]
    edge, crossing = table
    assert edge["charge"].value == pytest.approx(20000, rel=0.1) and np.isfinite(crossing["charge"].value)
    assert 20000 < crossing["charge"].value < 4 * 20000


def test_hits_near_stars_are_told():
    rows, columns = np.indices(SHAPE)
    star = 5000 * np.exp(-((rows - 40) ** 2 + (columns - 40) ** 2) / 2 / 2.0**2)
    hits = line(12, 0, centre=(54, 40)) + line(12, 0, centre=(120, 120))
    table = measure_hits(sky_image(SHAPE) + star + hits, hits > 40, amplifiers=whole())
    assert list(table["near_star"]) == [True, False]


def test_footprints_hold_the_charge():
    hit = line(20, 40, charge=60000)
    image, mask = sky_image(SHAPE) + hit / GAIN, hit / GAIN > 30
    table = measure_hits(image, mask, amplifiers=whole())
    (stamp,) = footprints(image, mask, table)
    assert stamp.dtype == np.float32 and stamp.sum() == pytest.approx(hit[mask].sum(), rel=0.03)


def test_a_table_of_hits_is_a_catalogue_to_train_with(tmp_path):
    from click.testing import CliRunner

    from crattn_stage.simulation.hits import scatter_hits
    from training.commands import main
    from training.data.hits import read_footprints

    rng = np.random.default_rng(0)
    hits = [simulate_hit(rng, "track") for _ in range(40)]
    charge, _ = scatter_hits((400, 400), hits, rng)
    path = tmp_path / "frame.fits"
    header = fits.Header([("GAIN", GAIN), ("EXPTIME", 60.0), ("OBSTYPE", "object")])
    fits.PrimaryHDU(sky_image(charge.shape) + charge / GAIN, header).writeto(path)
    from crattn_stage.cli import main as crattn

    run = ["run", str(path), "--output-dir", str(tmp_path / "out"), "--model", "astroscrappy", "--hits"]
    assert CliRunner().invoke(crattn, run).exit_code == 0
    table = tmp_path / "out" / "frame-hits.fits"
    direct = [stamp for split in ("train", "validation", "test") for stamp in read_footprints(table, split)]
    assert len(direct) > 20
    result = CliRunner().invoke(main, ["build", str(table), "--output", str(tmp_path / "library.fits")])
    assert result.exit_code == 0, result.output
    built = [s for split in ("train", "validation", "test") for s in read_footprints(tmp_path / "library.fits", split)]
    # Those near an edge or a star, and faint ones, are no good examples.
    assert 5 < len(built) <= len(direct)
    assert {s.shape for s in built} <= {s.shape for s in direct} and max(s.max() for s in built) <= charge.max() * 1.1
