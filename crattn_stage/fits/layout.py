"""Where the HDUs of a FITS file lie, from the cards that say so and nothing else.

astropy stops at the first HDU it does not understand, and the rest of the file
is then missing without an error.  Here every byte of the file belongs to an HDU or
to the padding behind the last one, or the file is refused.
"""

import re
from dataclasses import dataclass
from math import prod

from crattn_stage.errors import FrameError

BLOCK, CARD = 2880, 80
MOST_HDUS = 10_000
#: Bytes of one header, and of all headers of a file.
LONGEST_HEADER, LONGEST_HEADERS = 10_000_000, 100_000_000
#: Bytes of padding behind the last HDU: a block of a tape is ten of FITS.
LONGEST_PADDING = 10 * BLOCK
BITPIX = (8, 16, 32, 64, -32, -64)

_INTEGER = re.compile(rb" *([+-]?\d{1,19}) *(/.*)?", re.DOTALL)
_STRING = re.compile(rb" *'([^']*)'")
_TRUE = re.compile(rb" *T *(/.*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an HDU lies in a file.

    Attributes
    ----------
    header : bytes
        The header as it is in the file, END and padding included.
    start, data : int
        First byte of the header and of the data.
    size : int
        Bytes of data, without padding.
    kind : str
        "PRIMARY", "GROUPS", or the value of XTENSION.
    shape : tuple of int
        Of the image, also of a tile-compressed one; () for tables.
    itemsize : int
        Bytes per pixel.
    compressed : bool
        Whether it is a tile-compressed image (fpack).
    """

    header: bytes
    start: int
    data: int
    size: int
    kind: str
    shape: tuple
    itemsize: int
    compressed: bool

    @property
    def end(self):
        """First byte behind the padding of the data."""
        return self.data + -(-self.size // BLOCK) * BLOCK


def walk(source):
    """Find the HDUs of a FITS file.

    Nothing is allocated but headers; data are passed over.

    Parameters
    ----------
    source : object
        ``read(size)`` returns the next bytes, ``skip(size)`` passes over bytes and
        returns how many there were.

    Returns
    -------
    list of `Place`

    Raises
    ------
    FrameError
        If the file is not FITS, is truncated or damaged, or exceeds a limit.
    """
    places, start, total = [], 0, 0
    while block := source.read(BLOCK):
        index = len(places)
        if places and not block.strip(b"\0 "):
            _check_padding(source, start)
            break
        if not block.startswith(b"XTENSION=" if places else b"SIMPLE  ="):
            text = f"truncated or damaged: no valid HDU at byte {start}" if places else "not a FITS file"
            raise FrameError(text)
        if index == MOST_HDUS:
            raise FrameError(f"has more than {MOST_HDUS} HDUs")
        header = _read_header(source, block, index)
        total += len(header)
        if total > LONGEST_HEADERS:
            raise FrameError(f"has more than {LONGEST_HEADERS / 1e6:.0f} MB of headers")
        place = _place(header, start, index)
        if (there := source.skip(place.size)) < place.size:
            raise FrameError(
                f"truncated: HDU {index} ends at byte {place.data + place.size}, the file at {place.data + there}"
            )
        # The last HDU of some files lacks its padding.
        source.skip(place.end - place.data - place.size)
        places.append(place)
        start = place.end
    if not places:
        raise FrameError("empty file")
    return places


def split_cards(header):
    """Return the cards of a header up to END, which is left out.

    Parameters
    ----------
    header : bytes

    Returns
    -------
    list of bytes
        80 bytes each.
    """
    return [header[i : i + CARD] for i in range(0, _find_end(header, 0), CARD)]


def _find_end(header, start):
    """Return where the END card begins, -1 without one."""
    place = header.find(b"END", start)
    while place >= 0 and (place % CARD or header[place : place + 8].rstrip(b"\0 ") != b"END"):
        place = header.find(b"END", place + 1)
    return place


def _read_header(source, block, index):
    header = bytearray(block)
    while len(block) == BLOCK and _find_end(header, len(header) - BLOCK) < 0:
        if len(header) > LONGEST_HEADER:
            raise FrameError(f"the header of HDU {index} is longer than {LONGEST_HEADER / 1e6:.0f} MB")
        block = source.read(BLOCK)
        if block.startswith(b"XTENSION="):
            # Else what is behind would be taken for a part of it, and lost where it is made anew.
            raise FrameError(f"damaged: the header of HDU {index} has no END")
        header += block
    if len(block) < BLOCK:
        raise FrameError(f"truncated: the file ends in the header of HDU {index}")
    return bytes(header)


def _check_padding(source, start):
    """Raise an error if there is anything behind what looks like padding, or too much of it."""
    size = BLOCK
    while piece := source.read(1 << 20):
        size += len(piece)
        if piece.strip(b"\0 "):
            raise FrameError(f"truncated or damaged: no valid HDU at byte {start}, but data behind it")
    if size > LONGEST_PADDING:
        # Room that was made for a file before its bytes arrive is zeros.
        raise FrameError(
            f"incomplete: nothing but {size} zeros behind byte {start}; `truncate -s {start}` settles it if it is whole"
        )


def _place(header, start, index):
    # The first of cards with the same keyword counts, as for astropy.
    cards = {card[:8].rstrip(): card[10:] for card in reversed(split_cards(header)) if card[8:10] == b"= "}
    number = _Numbers(cards, index)
    if index:
        kind = _STRING.match(cards[b"XTENSION"]) if b"XTENSION" in cards else None
        if not kind:
            raise FrameError(f"XTENSION of HDU {index} is malformed")
        kind = kind[1].decode("latin-1").rstrip()
    else:
        if not _is_true(cards, b"SIMPLE"):
            raise FrameError("not a standard FITS file: SIMPLE is not T")
        kind = "GROUPS" if _is_true(cards, b"GROUPS") and number("NAXIS1", default=1) == 0 else "PRIMARY"
    bitpix, axes = number.image("")
    # Random groups say NAXIS1 = 0 and mean 1.
    pixels = prod(axes[1:] if kind == "GROUPS" else axes) if axes else 0
    counted = number("PCOUNT", default=0) + pixels
    size = abs(bitpix) // 8 * number("GCOUNT", default=1) * counted if axes else 0
    compressed = kind in ("BINTABLE", "A3DTABLE") and _is_true(cards, b"ZIMAGE")
    if kind in ("BINTABLE", "A3DTABLE", "TABLE"):
        number("TFIELDS", 0, 999)
    if compressed:
        rows, columns = number("NAXIS2"), number("NAXIS1")
        if rows * columns + number("PCOUNT", default=0) != size:
            raise FrameError(f"NAXIS or GCOUNT of HDU {index} is not that of a compressed image")
        bitpix, axes = number.image("Z")
        tiles = [number(f"ZTILE{i}", 1, default=1 if i > 1 else max(1, axes[0])) for i in range(1, len(axes) + 1)]
        expected = prod(-(-axis // tile) for axis, tile in zip(axes, tiles, strict=True)) if axes else 0
        if rows != expected:
            raise FrameError(f"HDU {index} holds {rows} compressed tiles; its header says {expected}")
    image = compressed or kind in ("PRIMARY", "IMAGE")
    shape = tuple(reversed(axes)) if image else ()
    return Place(header, start, start + len(header), size, kind, shape, abs(bitpix) // 8, compressed)


class _Numbers:
    """The integers among the cards of a header."""

    def __init__(self, cards, index):
        self._cards, self._index = cards, index

    def __call__(self, keyword, low=0, high=2**63 - 1, default=None):
        card = self._cards.get(keyword.encode())
        if card is None and default is not None:
            return default
        match = _INTEGER.fullmatch(card) if card is not None else None
        if not match or not low <= int(match[1]) <= high:
            what = "missing" if card is None else f"{card[:60].split(b'/')[0].decode('latin-1').strip() or 'blank'}"
            raise FrameError(f"{keyword} of HDU {self._index} is {what}; the file is damaged")
        return int(match[1])

    def image(self, prefix):
        """Return BITPIX and the axes, with a prefix to the keywords."""
        bitpix = self(f"{prefix}BITPIX", -64, 64)
        if bitpix not in BITPIX:
            raise FrameError(f"{prefix}BITPIX of HDU {self._index} is {bitpix}; the file is damaged")
        count = self(f"{prefix}NAXIS", 0, 999)
        return bitpix, [self(f"{prefix}NAXIS{i}") for i in range(1, count + 1)]


def _is_true(cards, keyword):
    return bool(_TRUE.fullmatch(cards.get(keyword, b"")))
