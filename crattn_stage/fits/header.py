"""Header cards as the 80 bytes they are: set ours, leave all others alone.

astropy writes a header anew, and with it cards that other software wrote in
its own way; here a card that is not ours stays byte for byte.
"""

from contextlib import suppress

import numpy as np
from astropy.io import fits

from crattn_stage.fits.layout import BLOCK, CARD, split_cards
from crattn_stage.fits.quiet import quiet

_END = b"END".ljust(CARD)
#: How the text of our HISTORY line begins, by which an earlier one is found.
HISTORY = "CRAttn "
_HISTORY = f"HISTORY {HISTORY}".encode()


def edited(block, cards, history="", data_sum=None):
    """Return a header with cards set.

    A card that exists is replaced where it stands, a new one goes to the
    end; so setting the same cards twice gives the same bytes as once.

    The checksums say afterwards what they said before:

    - CHECKSUM holds if and only if it held for the header as it was.  It is
      never made to fit data that are damaged.
    - DATASUM stays as it is: right, wrong, or blank, which means "unknown".
    - A blank CHECKSUM stays blank.
    - Where the header has a CHECKSUM but no DATASUM, which some software takes
      for the sum of the header alone, both are calculated.
    - ZHECKSUM, of the HDU before compression, cannot hold and is removed.

    Parameters
    ----------
    block : bytes
        The header as it is in the file, END and padding included.
    cards : dict
        Keyword (8 characters at most) -> (value, comment).  Strings are cut to
        what one card holds.
    history : str
        Text of our HISTORY line, which replaces an earlier one; none if empty.
    data_sum : callable, optional
        Returns the sum of the data (see `ones_complement`); called where DATASUM is
        to be added.  Without it none is.

    Returns
    -------
    bytes
        A multiple of 2880.

    Examples
    --------
    >>> from astropy.io import fits
    >>> block = fits.Header({"SIMPLE": True, "GAIN": 1.0}).tostring().encode()
    >>> fits.Header.fromstring(edited(block, {"GAIN": (2.5, "electron/ADU")}))["GAIN"]
    2.5
    """
    before = split_cards(block)
    while before and not before[-1].strip():
        before.pop()
    records = [record for record in before if _keyword(record) != b"ZHECKSUM"]
    new = {keyword.encode(): _record(keyword, *card) for keyword, card in cards.items()}
    if history:
        text = history.encode("ascii", "replace")
        new[_HISTORY] = (_HISTORY + bytes(c if 32 <= c < 127 else 63 for c in text))[:CARD].ljust(CARD)
    checksum = next((record for record in records if _keyword(record) == b"CHECKSUM"), None)
    checked = checksum is not None and _is_known(checksum)
    if checked:
        if any(_keyword(record) == b"DATASUM" for record in records) or data_sum is None:
            # The sum of the data that the old CHECKSUM stands for, right or wrong.
            total = 0xFFFFFFFF - ones_complement(block)
        else:
            total = data_sum()
            new[b"DATASUM"] = _record("DATASUM", str(total), "data unit checksum")
        new[b"CHECKSUM"] = _record("CHECKSUM", "0" * 16, "HDU checksum")
    for keyword, record in new.items():
        places = [i for i, r in enumerate(records) if (r[:15] if keyword is _HISTORY else _keyword(r)) == keyword]
        if places:
            records[places[0]] = record
            for place in reversed(places[1:]):
                del records[place]
        else:
            records.append(record)
    return _sealed(records, total) if checked else _joined(records)


def with_checksum(header, data):
    """Return the header of a new HDU with CHECKSUM and DATASUM.

    Parameters
    ----------
    header, data : bytes
        Both with their padding.

    Returns
    -------
    bytes
        The header.
    """
    total = ones_complement(data)
    sums = {"CHECKSUM": ("0" * 16, "HDU checksum"), "DATASUM": (str(total), "data unit checksum")}
    records = [record for record in split_cards(header) if _keyword(record).decode("latin-1") not in sums]
    while records and not records[-1].strip():
        records.pop()
    return _sealed([*records, *(_record(keyword, *card) for keyword, card in sums.items())], total)


def _joined(records):
    header = b"".join([*records, _END])
    return header + b" " * (-len(header) % BLOCK)


def _sealed(records, total):
    """Return a header whose CHECKSUM, 16 zeros so far, holds for data of some sum."""
    header = _joined(records)
    zeros = _record("CHECKSUM", "0" * 16, "HDU checksum")
    checksum = _encoded(0xFFFFFFFF - ones_complement(header, total))
    return header.replace(zeros, _record("CHECKSUM", checksum, "HDU checksum"))


def ones_complement(data, start=0):
    """Return the 32-bit ones' complement sum of bytes (FITS standard 4.0, Sec. 4.4.2.7).

    Parameters
    ----------
    data : bytes
        A multiple of 4.
    start : int
        Sum of the bytes before.

    Returns
    -------
    int
    """
    total = start + int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(value):
    """Return a checksum as 16 letters and digits (FITS standard 4.0, Appendix J)."""
    text = bytearray(16)
    for i in range(4):
        quotient, rest = divmod(value >> (24 - 8 * i) & 0xFF, 4)
        characters = [quotient + rest + 48, quotient + 48, quotient + 48, quotient + 48]
        # Pairs move apart, which keeps their sum, until none is a punctuation mark.
        while not all(chr(c).isalnum() for c in characters):
            for j in (0, 2):
                if not (chr(characters[j]).isalnum() and chr(characters[j + 1]).isalnum()):
                    characters[j] += 1
                    characters[j + 1] -= 1
        text[i::4] = bytes(characters)
    return (text[-1:] + text[:-1]).decode("ascii")


def _keyword(record):
    return record[:8].rstrip()


def _is_known(record):
    """Return whether a checksum card has a value; FITS allows a blank one."""
    return bool(record[10:].split(b"/")[0].strip(b" '"))


def fit_card(value, comment):
    """Cut a card's value and comment to what one card holds.

    Parameters
    ----------
    value : str, float, int, bool or None
    comment : str

    Returns
    -------
    value, comment
        A text in printable ASCII, the rest of the card for the comment.
    """
    if isinstance(value, str):
        value = "".join(c if " " <= c <= "~" else "?" for c in value)
        # A quote takes two characters in a card.
        while len(value.replace("'", "''")) > 68:
            value = value[:-1]
        comment = comment if len(value) < 40 else ""
    # Behind the value, and never longer than the card.
    width = max(20, len(fits.Card("KEYWORD", value).image.rstrip()) - 10)
    return value, comment[: max(0, CARD - 10 - width - 3)]


def _record(keyword, value, comment):
    return fits.Card(keyword, *fit_card(value, comment)).image[:CARD].ljust(CARD).encode("ascii")


def readable(header):
    """Return a copy of a header without the cards that astropy cannot parse.

    One odd card, such as a number with a decimal comma, must not cost the frame.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    `astropy.io.fits.Header`
    """
    good = fits.Header()
    with quiet():
        for card in header.cards:
            # A card is parsed when its value is asked for; damaged ones raise exceptions of several types.
            with suppress(Exception):
                good.append((card.keyword, card.value, card.comment), end=True)
    return good
