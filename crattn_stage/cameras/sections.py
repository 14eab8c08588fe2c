"""Header sections to amplifiers: which pixels each one reads."""

import re
from dataclasses import dataclass

import numpy as np

from crattn_stage.errors import FrameError

_SECTION = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")
#: What headers say when they have no section.
_ABSENT = {"", "UNKNOWN", "N/A", "NONE", "[0:0,0:0]", "[1:0,1:0]"}


@dataclass(frozen=True)
class Section:
    """A FITS section such as ``[1:1024,4096:1]``: 1-based, inclusive, columns first.

    A first limit above the second means that the axis is read backwards.

    Attributes
    ----------
    columns, rows : tuple of int
        First and last pixel.
    """

    columns: tuple
    rows: tuple

    @classmethod
    def parse(cls, text, keyword="section"):
        """Parse a header value.

        Parameters
        ----------
        text : str or None
            None where the header lacks the keyword.
        keyword : str
            Named in the error.

        Returns
        -------
        `Section` or None
            None where the value says that there is no section.

        Raises
        ------
        FrameError
            If the value is malformed or counts from 0.
        """
        if text is None or str(text).strip().upper().replace(" ", "") in _ABSENT:
            return None
        match = _SECTION.fullmatch(str(text).strip())
        if not match or "0" in match.groups():
            raise FrameError(f"malformed section {keyword} = {text!r}")
        x1, x2, y1, y2 = map(int, match.groups())
        return cls((x1, x2), (y1, y2))

    def __str__(self):
        return "[{}:{},{}:{}]".format(*self.columns, *self.rows)

    @property
    def slices(self):
        """Rows and columns as ascending, 0-based `slice` objects."""
        return tuple(slice(min(pair) - 1, max(pair)) for pair in (self.rows, self.columns))

    def fits(self, shape):
        """Whether the section lies inside an image of that shape.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns.

        Returns
        -------
        bool
        """
        return all(s.stop <= n for s, n in zip(self.slices, shape, strict=True))

    def binned(self, binning):
        """Return the section in binned pixels.

        Parameters
        ----------
        binning : tuple of int
            Unbinned pixels per pixel along columns and rows, as in ``CCDSUM``.
        """

        def shrink(pair, factor):
            low, high = (min(pair) - 1) // factor + 1, max(pair) // factor
            return (low, high) if pair[0] <= pair[1] else (high, low)

        return Section(shrink(self.columns, binning[0]), shrink(self.rows, binning[1]))


@dataclass(frozen=True)
class Amplifier:
    """One amplifier's part of an image.

    Attributes
    ----------
    name : str
    section : tuple of `slice`
        Rows and columns of its pixels, without overscan.
    gain : float or None
        Electron per ADU.
    read_noise : float or None
        Electron.
    """

    name: str
    section: tuple
    gain: float | None = None
    read_noise: float | None = None


def read_binning(header):
    """Return binning along columns and rows from ``CCDSUM``; (1, 1) without it.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    tuple of int
        Unbinned pixels per pixel; (1, 1) for a malformed value, too.
    """
    numbers = re.findall(r"\d+", str(header.get("CCDSUM", "")))
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and "0" not in numbers else (1, 1)


def read_amplifiers(header, shape, names):
    """Return the amplifiers of an image.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    shape : tuple of int
    names : sequence of str
        Suffixes of the keywords: ``("A", "B")`` reads ``DATASECA`` and
        ``GAINA``; ``("",)`` reads ``DATASEC`` and ``GAIN``.

    Returns
    -------
    list of `Amplifier`
        The whole image as one amplifier where the header names no section.

    Raises
    ------
    FrameError
        If a section is malformed, lies outside the image or overlaps another.
    """
    amplifiers = []
    for name in names:
        keyword = f"DATASEC{name}"
        section = Section.parse(header.get(keyword), keyword)
        if section is None:
            continue
        if not section.fits(shape):
            # Some headers give unbinned sections of binned images.
            binned = section.binned(read_binning(header))
            if not binned.fits(shape):
                raise FrameError(f"section {keyword} = {section} lies outside the image of {shape[1]} x {shape[0]}")
            section = binned
        amplifiers.append(
            Amplifier(name, section.slices, _number(header, "GAIN", name), _number(header, "RDNOISE", name))
        )
    if not amplifiers:
        whole = (slice(0, shape[0]), slice(0, shape[1]))
        amplifiers.append(Amplifier("", whole, _number(header, "GAIN"), _number(header, "RDNOISE")))
    seen = np.zeros(shape, np.uint8)
    for amplifier in amplifiers:
        seen[amplifier.section] += 1
    if seen.max() > 1:
        raise FrameError(f"sections DATASEC{', DATASEC'.join(names)} overlap")
    return amplifiers


def _number(header, keyword, name=""):
    value = header.get(f"{keyword}{name}", header.get(keyword))
    return float(value) if isinstance(value, (int, float)) else None
