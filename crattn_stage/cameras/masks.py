"""How a mask plane says "cosmic ray": set it, clear it, read it.

A plane holds either bits, which add up, or codes, of which a pixel has one.
"""

from dataclasses import dataclass, field

import numpy as np

from crattn_stage.cameras.matching import match
from crattn_stage.errors import FrameError


@dataclass(frozen=True)
class MaskConvention:
    """The flags of one family of mask planes.

    Attributes
    ----------
    extension : str
        EXTNAME of the planes.
    dtype : str
        Of a plane made anew.
    cosmic_ray : int
        The bit or code of a cosmic ray.
    bad : tuple of int
        The bits or codes of pixels that are no use; `None` for all but the
        cosmic-ray flag.
    bits : bool
        Whether flags are bits or codes.
    saturated : tuple of int
        Those of `bad` that mean saturation.
    words : dict of int to str
        What each flag means.
    """

    extension: str
    dtype: str
    cosmic_ray: int
    bad: tuple | None
    bits: bool = True
    saturated: tuple = ()
    words: dict = field(default_factory=dict, compare=False)

    def holds_flag(self, dtype):
        """Whether planes of an integer type can hold the cosmic-ray flag.

        Parameters
        ----------
        dtype : `numpy.dtype`

        Returns
        -------
        bool
        """
        return self.cosmic_ray <= np.iinfo(dtype).max

    def bad_pixels(self, plane):
        """Return where a plane marks pixels that are no use, as bool.

        Cosmic rays are not among them: they are what is to be found again.

        Parameters
        ----------
        plane : `numpy.ndarray` of int

        Returns
        -------
        `numpy.ndarray` of bool
            The shape of the plane.
        """
        if self.bits:
            bits = ~self.cosmic_ray if self.bad is None else sum(set(self.bad))
            # A bit that the plane is too narrow for is not set in it.
            bits &= 2 ** (8 * plane.itemsize) - 1
            return (plane & np.array(bits, f"u{plane.itemsize}").astype(plane.dtype)) != 0
        if self.bad is None:
            return (plane != 0) & (plane != self.cosmic_ray)
        return np.isin(plane, self.bad)

    def cosmic_rays(self, plane):
        """Return where a plane marks cosmic rays, as bool.

        Parameters
        ----------
        plane : `numpy.ndarray` of int

        Returns
        -------
        `numpy.ndarray` of bool
            The shape of the plane.
        """
        flag = np.array(self.cosmic_ray, plane.dtype)
        return (plane & flag) != 0 if self.bits else plane == flag

    def marked(self, plane, cosmic_rays):
        """Return a copy of a plane with new cosmic rays in place of old ones.

        All other flags stay.  In a plane of codes a pixel that has another
        code keeps it.

        Parameters
        ----------
        plane : `numpy.ndarray` of int
        cosmic_rays : `numpy.ndarray` of bool
        """
        marked = plane.copy()
        flag = np.array(self.cosmic_ray, plane.dtype)
        if self.bits:
            marked &= ~flag
            marked[cosmic_rays] |= flag
        else:
            marked[marked == flag] = 0
            marked[cosmic_rays & (marked == 0)] = flag
        return marked


#: The plane of a camera whose masks are not known: 8 in a uint8 ``MASK``, which astropy's CCDData reads.  A new plane
#: holds nothing else, so that bit 8 and code 8 are the same.
GENERIC = MaskConvention("MASK", "uint8", 8, None, words={8: "cosmic ray"})
#: The plane of cosmic rays alone that ``--mask-extension`` adds.
CR_PLANE = MaskConvention("CRMASK", "uint8", 1, (), words={1: "cosmic ray"})
#: EXTNAME of the plane of probabilities that ``--probability`` adds.
PROBABILITY = "CRPROB"
#: The plane of filled pixels in a cleaned file.  A plane of its own collides with no camera's bits or codes.
FILL_PLANE = MaskConvention("CRFILL", "uint8", 1, (), words={1: "cosmic ray, filled"})
#: A plane of unknown flags that marks more of an image than this is not taken for bad pixels.
MOST_UNKNOWN = 0.1
#: A plane of good and bad in which more than this is not 0 may mean good by that.
MOST_BAD = 0.5
#: A plane with more distinct values than this is not a mask.
MOST_FLAGS = 4096


def as_integers(plane, dtype=np.int64):
    """Return flags as integers, also those of a plane of floats or of one that astropy reads as floats for its BLANK.

    Parameters
    ----------
    plane : `numpy.ndarray`
        Integers are returned as they are.
    dtype : `numpy.dtype`
        That floats become.

    Returns
    -------
    `numpy.ndarray` of int
        Blank pixels are 0.

    Raises
    ------
    FrameError
        If there are fractions in it.
    """
    if plane.dtype.kind != "f":
        return plane
    known = np.nan_to_num(plane)
    fractions = known[known != np.rint(known)]
    if fractions.size:
        raise FrameError(
            f"a mask plane has values such as {fractions[0]:.3g}, which are no flags; if it is none, [[hdus]] role = "
            '"other" in a camera profile says so'
        )
    return known.astype(dtype)


def convention(profile, header, plane=None, headers=()):
    """Return the convention of a mask plane, or of one to be made, by a camera profile.

    Parameters
    ----------
    profile : `crattn_stage.cameras.profile.Profile`
    header : `astropy.io.fits.Header`
        Of the image, with the primary's behind it.
    plane : `astropy.io.fits.Header`, optional
        Of the mask plane; None for one to be made.
    headers : sequence of `astropy.io.fits.Header`
        Behind that of the plane, such as the primary of a mask file.

    Returns
    -------
    `MaskConvention` or None
        None where the profile does not tell.

    Raises
    ------
    FrameError
        If the header cards that name the bits are not there.
    """
    for block in profile.masks:
        if "when" in block and match(block["when"], [header]) is None:
            continue
        if plane is not None and "plane" in block and match(block["plane"], [plane]) is None:
            continue
        if plane is None and ("extension" not in block or "names" in block):
            continue
        return _convention_of(block, plane, headers)
    return None


def _convention_of(block, plane, headers):
    values = {}
    if "names" in block:
        values = _named_bits(block["names"], [plane, *headers])
        if block["cosmic_ray"] not in values:
            raise FrameError(
                f"mask plane: no card {block['names']}{block['cosmic_ray']} says which bit a cosmic ray has"
            )
    words = {int(value): text for value, text in block.get("flags", {}).items()}
    words.update({value: name for name, value in values.items()})

    def numbers(key):
        flags = block.get(key)
        return None if flags is None else tuple(values.get(f, f) for f in flags if f in values or type(f) is int)

    cosmic_ray = values.get(block["cosmic_ray"], block["cosmic_ray"])
    words.setdefault(cosmic_ray, "cosmic ray")
    return MaskConvention(
        block.get("extension", GENERIC.extension),
        block.get("dtype", "int32" if values else "uint8"),
        cosmic_ray,
        numbers("bad"),
        block["kind"] == "bits",
        numbers("saturated") or (),
        words,
    )


def _named_bits(prefix, headers):
    """Return name -> bit value of the cards with a prefix, such as LSST's ``MP_SAT = 1`` for bit number 1."""
    values = {}
    for header in headers:
        for card in list(header):
            if card.startswith(prefix) and type(header[card]) is int and 0 <= header[card] < 63:
                values.setdefault(card.removeprefix(prefix), 1 << header[card])
    return values


def check_sense(plane, name):
    """Refuse a mask plane of an unknown writer that marks most of its pixels: there, 1 may mean good.

    Parameters
    ----------
    plane : `numpy.ndarray` of int
    name : str
        Its EXTNAME, for the message.

    Raises
    ------
    FrameError
        If it does.
    """
    marked = np.count_nonzero(plane) / plane.size
    if marked > MOST_BAD:
        raise FrameError(
            f"the mask plane {name} marks {marked:.0%} of its pixels, which may mean good; a camera profile with "
            f'[[hdus]] role = "other" for it, or [[masks]] and its flags, settles it'
        )


def convention_by_values(plane, name, masked=False):
    """Return the convention of a mask plane whose flags nobody explains, as far as its values tell.

    Parameters
    ----------
    plane : `numpy.ndarray` of int
    name : str
        Its EXTNAME, for messages.
    masked : bool
        Whether an earlier run has put its cosmic rays into it.

    Returns
    -------
    convention : `MaskConvention`
        For reading its bad pixels.
    writable : bool
        Whether cosmic rays may go into it, too.
    note : str
        What to tell the user; "" where the values are plain.

    Raises
    ------
    FrameError
        If it cannot be told which of its pixels are bad.
    """
    check_sense(plane, name)
    values = np.unique(plane)
    others = values[values != 0]
    rest = others[others != GENERIC.cosmic_ray] if masked else others
    if rest.size <= 1 and GENERIC.cosmic_ray not in rest:
        # Good or bad, whatever the value for it is: 1, 255, True.
        return MaskConvention(name, str(plane.dtype), GENERIC.cosmic_ray, None, bits=False), True, ""
    marked = np.count_nonzero(plane) / plane.size
    if others.size > MOST_FLAGS or marked > MOST_UNKNOWN:
        shown = ", ".join(map(str, others[:6])) + (", ..." if others.size > 6 else "")
        raise FrameError(
            f"flags of the mask plane {name} are not known ({shown} in {marked:.0%} of its pixels); a camera profile "
            f'with [[masks]] plane = {{ EXTNAME = "{name}" }}, kind = "bits", cosmic_ray = ..., bad = [...] settles it'
        )
    note = f"flags of {name} are not known: all of its pixels that are not 0, {marked:.2%}, are taken for bad"
    return MaskConvention(name, str(plane.dtype), 0, None, bits=False), False, note
