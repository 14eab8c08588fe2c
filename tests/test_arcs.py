"""Arcs, spectra of lamps, are skipped unless they are asked for."""

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from scipy.ndimage import binary_dilation

from calibration_dbs.database import open_database
from crattn_stage.cameras.facts import is_arc
from crattn_stage.cli import main
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.nights.execute import execute
from crattn_stage.nights.headers import read_frame_info
from crattn_stage.nights.plan import plan, submit
from crattn_stage.products.description import describe
from crattn_stage.products.settings import MaskSettings
from crattn_stage.quality.mask_check import check_file
from crattn_stage.simulation.hits import simulate_hit
from crattn_stage.simulation.spectra import simulate_spectrum

NIGHT = "20240105"


@pytest.fixture(scope="module")
def simulated():
    """A simulated arc, and where hits of more than ten times the noise of their pixel were added to it."""
    rng = np.random.default_rng(5)
    arc = simulate_spectrum((256, 384), rng, "arc", 2.5)
    charge, hits = np.zeros(arc.electrons.shape), []
    for row, column in rng.integers(8, (200, 330), (12, 2)):
        stamp = simulate_hit(rng)
        where = tuple(slice(a, a + n) for a, n in zip((row, column), stamp.shape, strict=True))
        stamp = stamp[: charge[where].shape[0], : charge[where].shape[1]]
        charge[where] += stamp
        if (stamp / np.sqrt(arc.electrons[where] + 25)).max() > 10:
            hits.append((where, stamp > 0))
    image = rng.poisson(arc.electrons) + charge + rng.normal(0, 5, charge.shape)
    lines = arc.electrons - arc.smooth > np.sqrt(arc.smooth + 25)
    return image.astype(np.float32), hits, lines & ~binary_dilation(charge > 0, np.ones((5, 5)))


def write(path, image, **cards):
    header = {"OBSTYPE": "ARC", "DAY-OBS": NIGHT, "DATE-OBS": "2024-01-06T01:02:03", "GAIN": 1.0, "EXPTIME": 60.0}
    fits.writeto(path, image, fits.Header({**header, **cards}))
    return path


def test_an_arc_is_masked_as_a_spectrum_if_asked_for(tmp_path, simulated):
    image, hits, lines = simulated
    path, out = write(tmp_path / "arc.fits", image), tmp_path / "out"

    def run(*options):
        result = CliRunner().invoke(main, ["run", str(path), "--output-dir", str(out), "--model", "fast", *options])
        assert result.exit_code == 0, result.output
        return result.output

    assert "skipped, arc frame" in run() and not (out / "arc.fits").exists()
    assert describe(path)["run"] == "skips it: arc, unless --arcs is given"
    run("--arcs")
    with fits.open(out / "arc.fits") as written:
        mask = written["MASK"].data & 8 > 0
        assert written[0].header["CRSPEC"] and "masked as on a spectrum" in str(written[0].header["HISTORY"])
        assert np.array_equal(written[0].data, image)
    assert len(hits) >= 6 and sum((mask[where] & part).any() for where, part in hits) >= 0.9 * len(hits)
    assert np.count_nonzero(mask & lines) < 1e-3 * np.count_nonzero(lines)
    assert check_file(out / "arc.fits").verdict != "FAIL"


def test_an_arc_is_out_of_date_where_it_was_skipped_and_nothing_else_is(tmp_path, either_url, simulated):
    database = open_database(either_url)
    arc = write(tmp_path / "arc.fits", simulated[0][:128, :128])
    sky = write(tmp_path / "sky.fits", simulated[0][:128, :128], OBSTYPE="OBJECT")
    flat = write(tmp_path / "flat.fits", simulated[0][:128, :128], OBSTYPE="LAMPFLAT")
    with_arcs = MaskSettings(arcs=True, injections=0)

    def steps(masks):
        return plan(database, [read_frame_info(path) for path in (arc, sky, flat)], "astroscrappy", masks=masks)

    def outcomes(masks):
        found = steps(masks)
        assert [step.frame.megapixels > 0 for step in found] == [True, True, False]
        for number in submit(database, found, NIGHT, masks=masks):
            execute(database, number)
        return [(step.out_of_date, step.reason) for step in found]

    assert outcomes(MaskSettings(injections=0)) == [(False, "arc frame"), (True, "new"), (False, "lampflat frame")]
    first, second, third = outcomes(with_arcs)
    assert first == (True, "new") and not second[0] and third == (False, "lampflat frame")
    assert [step.out_of_date for step in steps(with_arcs)] == [False, False, False]
    assert fits.getheader(tmp_path / "arc-crmask.fits")["CRSPEC"]
    # Without the option it is left alone.
    assert steps(MaskSettings())[0].reason == "arc frame"
    database.dispose()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *[(kind, True) for kind in ("arc", "comp", "comparison", "line", "double", "wave,lamp", "lamp,wave,thar")],
        *[(kind, True) for kind in ("hear lamp", "he-ne-ar", "cuar lamp", "arclamp", "wavecal", "thar arc", "th-ar")],
        *[(kind, False) for kind in ("lampflat", "lamp", "flat", "bias", "dark", "sky,flat", "arcflat", "dome flat")],
        *[(kind, False) for kind in ("mask", "focus", "calibration", "", "object", "quartz comparison")],
    ],
)
def test_which_calibrations_are_arcs(kind, expected):
    assert is_arc(kind) == expected


def test_frames_are_read_as_arcs_only_if_asked_for(tmp_path, simulated):
    path = write(tmp_path / "arc.fits", simulated[0][:64, :64])
    with ObservationFrame(path) as frame:
        assert frame.exposure.calibration_type == "arc" and not frame.extensions
    with ObservationFrame(path, arcs=True) as frame:
        assert frame.exposure.calibration_type == "" and frame.exposure.is_spectrum and len(frame.extensions) == 1
