"""Checks of a masked file against itself; what its header holds may be of any type."""

import numpy as np
import pytest
from astropy.io import fits

from crattn_stage.quality.cards import CARDS
from crattn_stage.quality.mask_check import check_file


@pytest.fixture
def masked(tmp_path):
    """A masked frame."""
    mask = np.zeros((60, 60), np.uint8)
    mask[10, 10:13] = 8
    values = {"L1STATCR": 1, "CRNPIX": 3, "CRPMIN": 0.5, "CRQC": "PASS", "L1IDCR": "m"}
    hdus = fits.HDUList(
        [
            fits.PrimaryHDU(np.random.default_rng(1).normal(100, 5, mask.shape).astype(np.float32)),
            fits.ImageHDU(mask, name="MASK"),
        ]
    )
    hdus[0].header.update(values)
    path = tmp_path / "frame-crmask.fits"
    hdus.writeto(path)
    return path


def test_a_file_that_agrees_with_itself_passes(masked):
    check = check_file(masked)
    assert (check.verdict, check.reasons) == ("PASS", [])
    assert check.flags["CRNPIX"] == 3 and set(check.flags) <= {card.keyword for card in CARDS}


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("CRNPIX", 2, "CRNPIX is 2, its mask has 3"),
        ("CRNPIX", "three", "CRNPIX is 'three'"),
        ("CRQC", "SPLENDID", "CRQC is 'SPLENDID'"),
        ("L1STATCR", 0, "no sign of a cosmic-ray mask in its header"),
    ],
)
def test_a_card_that_is_wrong_fails(masked, keyword, value, reason):
    fits.setval(masked, keyword, value=value)
    check = check_file(masked)
    assert check.verdict == "FAIL" and reason in check.reasons[0]


@pytest.mark.parametrize("value", ["many", True, -1e300, "'); DROP TABLE runs; --", None])
def test_a_card_that_nothing_depends_on_may_hold_anything(masked, value):
    fits.setval(masked, "CRPAIRS", value=value)
    check = check_file(masked)
    assert (check.verdict, check.reasons) == ("PASS", []) and "CRPAIRS" not in check.flags
