import warnings
from functools import partial

import numpy as np
import pytest
from astropy.io import fits

from crattn_stage.fits.header import edited, ones_complement, readable, with_checksum

CARDS = {"L1STATCR": (1, "masked")}


def hdu_bytes(tmp_path, **changes):
    """Return header and data of a simple file with checksums, cards of which are written over."""
    path = tmp_path / "frame.fits"
    fits.PrimaryHDU(np.arange(2000, dtype=np.int16).reshape(40, 50)).writeto(path, checksum=True)
    content = path.read_bytes()
    for keyword, text in changes.items():
        start = content.index(keyword.ljust(8).encode())
        content = content[:start] + text.encode().ljust(80) + content[start + 80 :]
    return content[:2880], content[2880:]


def sums_of(header, data, tmp_path):
    """Return what astropy says of the checksums: the names of those that do not hold."""
    path = tmp_path / "checked.fits"
    path.write_bytes(header + data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(path, checksum=True) as hdus:
            len(hdus)
    return {str(warning.message).split()[0] for warning in caught}


WRONG_DATASUM = "DATASUM = '12345678'"
WRONG_CHECKSUM = "CHECKSUM= 'abcdefghijklmnop'"


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, set()),
        # Damage stays visible.
        ({"DATASUM": WRONG_DATASUM}, {"Datasum", "Checksum"}),
        ({"CHECKSUM": WRONG_CHECKSUM}, {"Checksum"}),
    ],
)
def test_checksums_hold_afterwards_if_and_only_if_they_held_before(tmp_path, changes, broken):
    header, data = hdu_bytes(tmp_path, **changes)
    assert sums_of(header, data, tmp_path) == broken
    new = edited(header, CARDS, "1 cosmic ray", partial(ones_complement, data))
    assert sums_of(new, data, tmp_path) == broken
    assert fits.Header.fromstring(new)["DATASUM"] == fits.Header.fromstring(header)["DATASUM"]


def test_a_checksum_that_held_with_a_wrong_datasum_holds_again(tmp_path):
    header, data = hdu_bytes(tmp_path, DATASUM=WRONG_DATASUM)
    zeros = header.replace(fits.Header.fromstring(header)["CHECKSUM"].encode(), b"0" * 16)
    hdu = fits.PrimaryHDU.fromstring(zeros + data)
    header = zeros.replace(b"0" * 16, hdu._calculate_checksum(ones_complement(data)).encode())
    assert sums_of(header, data, tmp_path) == {"Datasum"}
    assert sums_of(edited(header, CARDS), data, tmp_path) == {"Datasum"}


@pytest.mark.parametrize("blank", ["''", "'        '", "", "/ unknown"])
def test_a_blank_checksum_stays_blank(tmp_path, blank):
    card = f"CHECKSUM= {blank}"
    header, _ = hdu_bytes(tmp_path, CHECKSUM=card)
    new = edited(header, CARDS)
    assert card.encode().ljust(80) in new and b"L1STATCR=" in new
    assert b"DATASUM = '" in new


@pytest.mark.parametrize("blank", ["''", "'        '", "", "/ unknown"])
def test_a_blank_datasum_stays_blank_and_the_checksum_holds(tmp_path, blank):
    card = f"DATASUM = {blank}"
    header, data = hdu_bytes(tmp_path, DATASUM=card)
    zeros = header.replace(fits.Header.fromstring(header)["CHECKSUM"].encode(), b"0" * 16)
    start = zeros.index(b"CHECKSUM")
    with_sum = edited(zeros[:start] + b"COMMENT ".ljust(80) + zeros[start + 80 :], {})
    assert b"CHECKSUM" not in with_sum
    new = edited(header, CARDS, "", partial(ones_complement, data))
    assert card.encode().ljust(80) in new
    # It held for the card as it was written over no more than before.
    assert ones_complement(new + data) == ones_complement(header + data)


def test_a_missing_datasum_is_added(tmp_path):
    header, data = hdu_bytes(tmp_path, DATASUM="COMMENT")
    new = edited(header, CARDS, "", partial(ones_complement, data))
    assert fits.Header.fromstring(new)["DATASUM"] == str(ones_complement(data))
    assert sums_of(new, data, tmp_path) == set()


def test_a_header_of_a_new_hdu_gets_sums_that_hold(tmp_path):
    header, data = hdu_bytes(tmp_path, DATASUM="COMMENT", CHECKSUM="COMMENT")
    assert b"CHECKSUM" not in header
    assert sums_of(with_checksum(header, data), data, tmp_path) == set()
    assert with_checksum(with_checksum(header, data), data) == with_checksum(header, data)


@pytest.mark.parametrize("value", ["two\nlines", "\x1b[31mred", "Müller", "O'Hara " * 20])
def test_any_text_makes_a_valid_card(tmp_path, value):
    header, _ = hdu_bytes(tmp_path)
    new = edited(header, {"L1IDCR": (value, "model")}, f"by {value}")
    assert len(new) % 2880 == 0 and all(32 <= byte < 127 for byte in new)
    assert len(fits.Header.fromstring(new)["L1IDCR"]) >= 5


def test_setting_cards_twice_is_setting_them_once(tmp_path):
    header, data = hdu_bytes(tmp_path)
    once = edited(header, CARDS, "1 cosmic ray", partial(ones_complement, data))
    assert edited(once, CARDS, "1 cosmic ray", partial(ones_complement, data)) == once
    assert once.count(b"HISTORY CRAttn") == once.count(b"L1STATCR") == 1


def test_cards_that_cannot_be_parsed_are_left_out():
    block = b"".join(
        card.ljust(80) for card in (b"SIMPLE  =                    T", b"GAIN    = 2,5", b"EXPTIME = 90.0", b"END")
    )
    header = readable(fits.Header.fromstring(block))
    assert "GAIN" not in header and header["EXPTIME"] == 90.0
