"""Header cards as the 80 bytes they are: set ours, leave all others alone.

astropy renders a header anew, and with it cards that other software wrote in
ways of its own; here a card that is not ours stays byte for byte.
"""

import warnings
from contextlib import suppress

import numpy as np
from astropy.io import fits

_CARD, _BLOCK = 80, 2880
_END = b"END".ljust(_CARD)
#: How our HISTORY line begins, by which an earlier one is found.
_HISTORY = b"HISTORY CRAttn "


def edited(block, cards, history="", data_sum=None):
    """Return a header with cards set.

    A card that is there is replaced where it stands, a new one goes to the
    end; so setting the same cards twice gives the same bytes as once.

    Parameters
    ----------
    block : bytes
        The header as it is in the file, END and padding included.
    cards : dict
        Keyword (8 characters at most) -> (value, comment).  Strings are cut to
        what one card holds.
    history : str
        Text of our HISTORY line, which replaces an earlier one; none without it.
    data_sum : callable, optional
        Gives the sum of the data (see `ones_complement`).  Where the header has
        a CHECKSUM but no DATASUM it is called, and that card is added.

    Returns
    -------
    bytes
        A multiple of 2880.  Where there was a CHECKSUM it holds again; that of
        the HDU before compression (ZHECKSUM), which cannot, is gone.
    """
    records = [block[i : i + _CARD] for i in range(0, len(block), _CARD)]
    records = records[: records.index(_END)]
    while records and not records[-1].strip():
        records.pop()
    records = [r for r in records if _keyword(r) != b"ZHECKSUM"]
    new = {keyword.encode(): _record(keyword, *card) for keyword, card in cards.items()}
    if history:
        new[_HISTORY] = (_HISTORY + history.encode("ascii", "replace"))[:_CARD].ljust(_CARD)
    checked = any(_keyword(r) == b"CHECKSUM" for r in records)
    if checked:
        new[b"CHECKSUM"] = _record("CHECKSUM", "0" * 16, "HDU checksum")
        if not any(_keyword(r) == b"DATASUM" for r in records):
            new[b"DATASUM"] = _record("DATASUM", str(data_sum()), "data unit checksum")
    for keyword, record in new.items():
        places = [i for i, r in enumerate(records) if (r[:15] if keyword is _HISTORY else _keyword(r)) == keyword]
        if places:
            records[places[0]] = record
            for place in reversed(places[1:]):
                del records[place]
        else:
            records.append(record)
    header = b"".join([*records, _END])
    header += b" " * (-len(header) % _BLOCK)
    if not checked:
        return header
    total = next(int(fits.Card.fromstring(r).value) for r in records if _keyword(r) == b"DATASUM")
    right = _record("CHECKSUM", _encoded(0xFFFFFFFF - ones_complement(header, total)), "HDU checksum")
    return header.replace(new[b"CHECKSUM"], right)


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
    return edited(edited(header, sums), {})


def ones_complement(data, start=0):
    """Return the 32-bit ones' complement sum of bytes (FITS standard 4.0, Sec. 4.4.2.7).

    Parameters
    ----------
    data : bytes
        A multiple of 4.
    start : int
        Sum of what came before.

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


def _record(keyword, value, comment):
    if isinstance(value, str):
        value = value.encode("ascii", "replace").decode()
        # A quote takes two characters in a card.
        while len(value.replace("'", "''")) > 68:
            value = value[:-1]
        comment = comment if len(value) < 40 else ""
    return fits.Card(keyword, value, comment).image[:_CARD].ljust(_CARD).encode("ascii")


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for card in header.cards:
            # A card is parsed when its value is asked for.
            with suppress(fits.VerifyError, ValueError):
                good.append((card.keyword, card.value, card.comment), end=True)
    return good
