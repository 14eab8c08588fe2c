"""Sections in headers, and the amplifiers whose pixels they describe."""

import re
from dataclasses import dataclass
from itertools import combinations

from crattn_stage.cameras.matching import match
from crattn_stage.errors import FrameError

#: ``[x1:x2,y1:y2]``, the usual form, and ``[x1,y1:x2,y2]`` of Calar Alto.
_USUAL = re.compile(r"(\d{1,9})\s*:\s*(\d{1,9})\s*,\s*(\d{1,9})\s*:\s*(\d{1,9})")
_CORNERS = re.compile(r"(\d{1,9})\s*,\s*(\d{1,9})\s*:\s*(\d{1,9})\s*,\s*(\d{1,9})")
#: What headers say when they have no section.
_ABSENT = {"", "UNKNOWN", "N/A", "NONE", "NULL", "[0:0,0:0]", "[1:0,1:0]", "[0,0:0,0]"}
#: A gain outside of these is no number of electrons per ADU but a setting of the camera, or nothing at all.
GAINS = (1e-3, 100.0)


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
    def parse(cls, text, keyword="section", shape=None, zero_based=False):
        """Parse a header value, ``[x1:x2,y1:y2]`` or ``[x1,y1:x2,y2]``; ``*`` or ``:`` for a whole axis.

        Parameters
        ----------
        text : str or None
            None where the header lacks the keyword.
        keyword : str
            Named in the error.
        shape : tuple of int, optional
            Rows and columns of the image.  A section that starts at 0 ends at the last pixel, or one behind it as in
            Python: the size of the image tells which.  It tells the limits of a whole axis, too.
        zero_based : bool
            The first pixel is 0 in any case.

        Returns
        -------
        `Section` or None
            None where the value says that there is no section.

        Raises
        ------
        FrameError
            If the value is malformed, or needs the shape and that is not given.

        Examples
        --------
        >>> print(Section.parse("[33:2080, 1:2048]"))
        [33:2080,1:2048]
        >>> print(Section.parse("[1,1:2048,1024]"))
        [1:2048,1:1024]
        >>> print(Section.parse("[0:2048,0:1024]", shape=(1024, 2048)))
        [1:2048,1:1024]
        >>> print(Section.parse("[33:2080, :]", shape=(1024, 2080)))
        [33:2080,1:1024]
        """
        if text is None or str(text).strip().upper().replace(" ", "") in _ABSENT:
            return None
        limits = str(text).strip()
        if limits.startswith("[") and limits.endswith("]"):
            limits = limits[1:-1].strip()
        if shape is not None and limits.count(",") == 1:
            first = 0 if zero_based else 1
            sides = (f"{first}:{size - 1 + first}" for size in reversed(shape))
            axes = zip(sides, limits.split(","), strict=True)
            limits = ",".join(side if axis.strip() in ("*", ":") else axis for side, axis in axes)
        usual, corners = _USUAL.fullmatch(limits), _CORNERS.fullmatch(limits)
        if usual:
            x1, x2, y1, y2 = map(int, usual.groups())
        elif corners:
            x1, y1, x2, y2 = map(int, corners.groups())
        else:
            raise FrameError(f"malformed section {keyword} = {text!r}")
        pairs = [(x1, x2), (y1, y2)]
        if zero_based or 0 in (x1, x2, y1, y2):
            if shape is None and not zero_based:
                raise FrameError(f"malformed section {keyword} = {text!r}: it starts at 0")
            pairs = [_from_zero(pair, size) for pair, size in zip(pairs, reversed(shape or (None, None)), strict=True)]
        return cls(*pairs)

    def __str__(self):
        return "[{}:{},{}:{}]".format(*self.columns, *self.rows)

    @property
    def slices(self):
        """Rows and columns as ascending, 0-based `slice` objects."""
        return tuple(slice(min(pair) - 1, max(pair)) for pair in (self.rows, self.columns))

    def lies_within(self, shape):
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


def _from_zero(pair, size):
    """Return a pair of limits that counts from 0 as one that counts from 1."""
    low, high = min(pair), max(pair)
    # As in Python, the end is not part of it.
    pair = (low + 1, high if high == size else high + 1)
    return pair


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

    def electrons_per(self, unit):
        """Return the electrons of one unit of an image, or None where they are not known.

        Parameters
        ----------
        unit : {"adu", "electron"} or None
            Of the image, as from `crattn_stage.cameras.facts.charge_unit`.

        Returns
        -------
        float or None
            The gain is that of ADU, also in the header of an image in electrons.
        """
        return {"electron": 1.0, "adu": self.gain}.get(unit)


def number(header, cards, name="", low=0.0, high=float("inf")):
    """Return the first usable number among some cards.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    cards : iterable of str
        ``{name}`` in them is replaced; what cannot be a number, such as ``'N/A'``, is passed over.
    name : str
        Of the amplifier.
    low, high : float
        The number lies between these, limits excluded.

    Returns
    -------
    value : float or None
    card : str or None
        The one that gave it.
    """
    for card in cards:
        keyword = card.replace("{name}", name)
        value = header.get(keyword)
        if isinstance(value, str):
            # Some writers quote their numbers.
            value = float(value) if re.fullmatch(r"\s*[+-]?\d+\.?\d*([eE][+-]?\d+)?\s*", value) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low < value < high:
            return float(value), keyword
    return None, None


def read_binning(header, profile):
    """Return the binning along columns and rows; (1, 1) where it is not known.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
    profile : `crattn_stage.cameras.profile.Profile`
        Its ``binning`` cards: one with two numbers, or two with one each.

    Returns
    -------
    tuple of int
        Unbinned pixels per pixel.
    """
    numbers = []
    for card in profile.keywords.get("binning", ()):
        found = [int(n) for n in re.findall(r"(?<!\d)\d{1,9}(?!\d)", str(header.get(card, "")))]
        if len(found) == 2 and not numbers and min(found) > 0 and max(found) <= 64:
            return tuple(found)
        if len(found) == 1 and 0 < found[0] <= 64:
            numbers += found
            if len(numbers) == 2:
                return tuple(numbers)
        elif len(numbers) == 1:
            # The other half of a pair is not there.
            numbers = []
    return (numbers[0], numbers[0]) if len(numbers) == 1 else (1, 1)


def read_amplifiers(header, shape, profile):
    """Return the amplifiers of an image.

    Parameters
    ----------
    header : `astropy.io.fits.Header`
        Of the image, with the primary's behind it.
    shape : tuple of int
        Rows and columns.
    profile : `crattn_stage.cameras.profile.Profile`

    Returns
    -------
    amplifiers : list of `Amplifier`
        The whole image as one amplifier where the header names no section, or sections of an image that this was
        cut from.
    notes : list of str
        What was not taken as it stands, and why.

    Raises
    ------
    FrameError
        If a section is malformed, lies outside the image or overlaps another.
    """
    rules, notes = profile.amplifiers, []
    sections = {} if _is_trimmed(header, rules) else _sections(header, shape, rules, profile, notes)
    amplifiers = []
    for name in sections or {"": None}:
        section = sections[name].slices if sections else (slice(0, shape[0]), slice(0, shape[1]))
        gain, card = number(header, profile.keywords.get("gain", ()), name, *GAINS)
        if gain is None:
            gain = profile.values.get("gain")
            wrong, card = number(header, profile.keywords.get("gain", ()), name, float("-inf"))
            if wrong is not None:
                notes.append(f"{card} = {wrong:g} is not a gain in electrons per ADU; not used")
        read_noise, _ = number(header, profile.keywords.get("read_noise", ()), name, high=1e4)
        amplifiers.append(Amplifier(name, section, gain, read_noise or profile.values.get("read_noise")))
    return amplifiers, list(dict.fromkeys(notes))


def _is_trimmed(header, rules):
    """Whether the profile says that the sections in a header are those of a frame from which this one was cut."""
    return any(match(table, [header]) is not None for table in rules.get("whole", ()))


def _present(header, cards, name):
    """Return the first card of a section that is there, and its value."""
    for card in cards:
        keyword = card.replace("{name}", name) if "{name}" in card else f"{card}{name}"
        value = header.get(keyword)
        if value is not None and str(value).strip().upper().replace(" ", "") not in _ABSENT:
            return keyword, value
    return None


def _limits(header, rules, name, shape):
    """Return the section that cards of single limits give, as Subaru's do, or counts of pixels, as ESO's do."""
    pairs, told = [], False
    for axis, size in (("columns", shape[1]), ("rows", shape[0])):
        values = [header.get(card.replace("{name}", name)) for card in rules.get(axis, ())]
        if all(value is None for value in values):
            pairs.append((1, size))
            continue
        told = True
        if rules["form"] == "counts" and len(values) == 4:
            outputs = 2 if len(rules.get("names", ())) > 1 else 1
            pairs.append(_counted(*values, size, outputs))
            if pairs[-1] is None:
                return None
            continue
        if not all(type(value) is int and value >= 0 for value in values):
            return None
        first, last = values
        if rules["form"] != "limits":
            # Pixels before it, or the first one, and how many there are.
            first += rules["form"] == "counts"
            last = first + values[1] - 1
        # Some limits lie beyond the edge.
        pairs.append((max(1, min(first, last)), min(size, max(first, last))))
    return Section(*pairs) if told and all(low <= high for low, high in pairs) else None


def _counted(before, own, behind, position, size, outputs):
    """Return the limits of an output's own pixels along an axis; None where its counts are not those of this image.

    Counts begin at the output: one at the far end has the pixels before its own there, too.
    """
    before, behind = (value if type(value) is int and value >= 0 else 0 for value in (before, behind))
    if type(own) is not int:
        own = size - before - behind
    if own <= 0 or size not in {number * (before + own + behind) for number in (1, outputs)}:
        return None
    far = type(position) is int and (position - 1) % own >= own / 2
    return (size - before - own + 1, size - before) if far else (before + 1, before + own)


def _fixed(header, rules):
    """Return the sections that a profile gives itself, for frames whose headers have none; name -> text."""
    for block in rules.get("fixed", ()):
        if match(block.get("when", {}), [header]) is not None:
            return dict(zip(rules.get("names", [""]), block["data"], strict=False))
    return {}


def _names(header, rules):
    """Return the names of the amplifiers; those of a camera that nobody knows are what stands behind DATASEC."""
    names = rules.get("names", [""])
    cards = [*rules.get("data", ()), *rules.get("trim", ())]
    if names != [""] or any(_present(header, [card], "") for card in cards):
        return names
    for card in cards:
        found = [k.removeprefix(card) for k in header if re.fullmatch(rf"{re.escape(card)}[A-Z0-9]{{1,2}}", k)]
        if found:
            return sorted(set(found))
    return names


def _sections(header, shape, rules, profile, notes):
    """Return the sections of the amplifiers' pixels by name; none where they do not describe this image."""
    zero_based = rules.get("form", "").endswith("zero-based")
    sections, overscans, keywords = {}, {}, {}

    def parsed(cards, name):
        there = _present(header, cards, name)
        if there is None:
            return None
        keywords.setdefault(name, there[0])
        return Section.parse(there[1], there[0], shape, zero_based)

    names, fixed = _names(header, rules), _fixed(header, rules)
    for name in names:
        if name in fixed:
            section, overscan = Section.parse(fixed[name], "fixed"), None
            keywords[name] = "the profile's section"
        elif rules.get("form") in ("limits", "counts", "extent"):
            section, overscan = _limits(header, rules, name, shape), None
            keywords.setdefault(name, (rules.get("columns") or rules["rows"])[0].replace("{name}", name))
        else:
            section = parsed(rules.get("data", ()), name) or parsed(rules.get("trim", ()), name)
            try:
                overscan = parsed(rules.get("overscan", ()), name)
            except FrameError as error:
                if section is None:
                    raise
                overscan = None
                notes.append(f"{error}; not used")
        if section is not None:
            sections[name] = section
        if overscan is not None:
            overscans[name] = overscan
    binning = read_binning(header, profile)
    if binning != (1, 1) and (rules.get("unbinned") or not all(s.lies_within(shape) for s in sections.values())):
        # Some headers give unbinned sections of binned images.
        shrunk = {name: section.binned(binning) for name, section in sections.items()}
        if all(section.lies_within(shape) for section in shrunk.values()):
            sections = shrunk
            overscans = {name: section.binned(binning) for name, section in overscans.items()}
    outside = [name for name, section in sections.items() if not section.lies_within(shape)]
    if outside:
        keyword, section = keywords[outside[0]], sections[outside[0]]
        united = [max(s.slices[i].stop for s in sections.values()) - min(s.slices[i].start for s in sections.values())
                  for i in (0, 1)]  # fmt: skip
        if any(size > room for size, room in zip(shape, united, strict=True)):
            raise FrameError(
                f"section {keyword} = {section} lies outside the image of {shape[1]} x {shape[0]}; if the image has "
                "been cut, [amplifiers] whole in a camera profile says so"
            )
        notes.append(f"{keyword} = {section} is of the frame that this image was cut from; the whole image is used")
        return {}
    for name, overscan in overscans.items():
        if overscan.lies_within(shape):
            base = sections.get(name, Section((1, shape[1]), (1, shape[0])))
            inner = _without(base, overscan)
            if inner is None:
                notes.append(f"overscan {overscan} lies inside the data section {base}; not used")
            elif name in sections or len(names) == 1:
                if inner != base and name in sections:
                    notes.append(f"overscan {overscan} is left out of the data section {base}")
                sections[name] = inner
        elif name not in sections:
            notes.append(f"overscan {overscan} lies outside the image of {shape[1]} x {shape[0]}; not used")
    for (name, one), (other, two) in combinations(sections.items(), 2):
        if all(a.start < b.stop and b.start < a.stop for a, b in zip(one.slices, two.slices, strict=True)):
            raise FrameError(f"sections {keywords[name]} = {one} and {keywords[other]} = {two} overlap")
    return sections


def _without(section, overscan):
    """Return a section without an overscan at one of its edges; None where what is left is no rectangle."""
    limits = []
    data, over = section.slices, overscan.slices
    if any(o.stop <= d.start or o.start >= d.stop for d, o in zip(data, over, strict=True)):
        return section
    for axis in (0, 1):
        d, o, across, along = data[axis], over[axis], data[1 - axis], over[1 - axis]
        # It runs along the whole edge, but for a few pixels where the corner is another's.
        if along.start > across.start + 64 or along.stop < across.stop - 64:
            continue
        if o.start <= d.start:
            limits.append((axis, o.stop, d.stop))
        elif o.stop >= d.stop:
            limits.append((axis, d.start, o.start))
    if not limits:
        return None
    axis, start, stop = max(limits, key=lambda item: item[2] - item[1])
    if start >= stop:
        return None
    rows, columns = ((s.start + 1, s.stop) for s in data)
    kept = (start + 1, stop)
    return Section(columns, kept) if axis == 0 else Section(kept, rows)
