"""How a mask plane says "cosmic ray": set it, clear it, read it.

A plane is either of bits, which add up, or of codes, of which a pixel has one.
"""

from dataclasses import dataclass

import numpy as np


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
    """

    extension: str
    dtype: str
    cosmic_ray: int
    bad: tuple | None
    bits: bool = True

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
        if self.bad is None:
            return (plane & ~np.array(self.cosmic_ray, plane.dtype)) != 0
        if self.bits:
            # A bit that the plane is too narrow for is not set in it.
            return (plane & np.array(sum(self.bad) & np.iinfo(plane.dtype).max, plane.dtype)) != 0
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


#: BANZAI: 1 bad, 2 saturated, 4 low in the flat, 8 cosmic ray.
BANZAI = MaskConvention("BPM", "uint8", 8, (1, 2, 4))
#: DECam Community Pipeline from V3.5 on: 1 bad, 2 no value, 3 saturated, 4 bleed,
#: 5 cosmic ray, 6 low weight, 7 transient, 8 streak.
DECAM_CODES = MaskConvention("DQ", "int16", 5, (1, 2, 3, 4, 6), bits=False)
#: DES, and the Community Pipeline before V3.5: 1 bad, 2 saturated, 4 interpolated,
#: 8 bad amplifier, 16 cosmic ray, 32 near a star, 64 trail, 128 edge bleed, 256 crosstalk, 512 edge.
DECAM_BITS = MaskConvention("BPM", "int16", 16, (1, 2, 4, 8, 64, 128, 512))
#: astropy's CCDData: a uint8 plane in which anything but 0 is masked.  A bit
#: of its own lets a later run tell its cosmic rays from bad pixels.
GENERIC = MaskConvention("MASK", "uint8", 8, None)
#: The plane of cosmic rays alone that ``--mask-extension`` adds.
CR_PLANE = MaskConvention("CRMASK", "uint8", 1, ())
