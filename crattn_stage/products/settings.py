"""What a user asks of a mask and what is made with it: one description, from the command to the record."""

import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import sha256


@dataclass(frozen=True)
class MaskSettings:
    """What is asked of masks and their products; of JSON's types, but for the tuple.

    Attributes
    ----------
    arcs : bool
        Mask arcs, too, as spectra; they are skipped without it, as all calibrations are.  No other frame's mask depends
        on it, so that it is not recorded: an arc is out of date where it was skipped.
    injections : int or None
        Hits added to each detector to measure what the mask finds, as for `crattn_stage.quality.injection.measure`;
        0 for none.  The mask does not depend on it, so that it is not recorded.
    grow : int or None
        Pixels by which a mask is grown on all sides; the camera profile's if None, and 0 without one.
    grow_threshold : float or None
        Probability down to which a mask is grown along connected pixels; the camera profile's if None.
    mask_extension : bool
        Add a plane ``CRMASK`` of the cosmic rays alone.
    protect : tuple of str
        Files of areas in which nothing is flagged, as for `crattn_stage.products.protect.read_areas`.
    probability : bool
        Add a plane ``CRPROB`` of the probability.
    regions : bool
        Write a DS9 region file of the hits of each detector.
    hits : {"fits", "ecsv"} or None
        Write a table of all hits in this format, and keep them in the database.
    flag_variance : bool
        Give masked pixels in planes of uncertainties the value that says "no information".
    clean : str or None
        Write a cleaned file, too, filled as `crattn_stage.products.fill.fill_holes` does; None for no such file.
    """

    arcs: bool = False
    injections: int | None = None
    grow: int | None = None
    grow_threshold: float | None = None
    mask_extension: bool = False
    protect: tuple = ()
    probability: bool = False
    regions: bool = False
    hits: str | None = None
    flag_variance: bool = False
    clean: str | None = None

    @property
    def products(self):
        """Names of what is written beside the mask itself, a list of str."""
        asked = {
            "CRMASK": self.mask_extension,
            "CRPROB": self.probability,
            "regions": self.regions,
            f"hits {self.hits}": self.hits,
            f"clean {self.clean}": self.clean,
        }
        return [name for name, wanted in asked.items() if wanted]

    @property
    def wants_hits(self):
        """Whether hits are to be measured."""
        return bool(self.hits or self.regions)

    def for_camera(self, camera):
        """Return the settings for a camera's frames: the user's, or else its profile's.

        Parameters
        ----------
        camera : dict
            `crattn_stage.cameras.profile.Profile.mask_settings`.

        Returns
        -------
        `MaskSettings`
        """
        own = {f.name: camera[f.name] for f in fields(self) if f.name in camera and getattr(self, f.name) is None}
        return replace(self, **own)

    def recorded(self, camera):
        """Return what the database keeps of the settings for a camera's frames; files by their sha256.

        Parameters
        ----------
        camera : dict
            As for `for_camera`.

        Returns
        -------
        dict
            Of JSON's types, without what is off; so {} for the default.

        Raises
        ------
        FrameError
            If a file cannot be read.
        """
        mine = self.for_camera(camera)
        kept = {
            "grow": mine.grow,
            "grow_threshold": mine.grow_threshold,
            "protect": sorted(digest(path) for path in mine.protect),
            "flag_variance": mine.flag_variance,
            "bad_pixels": camera.get("bad_pixels") and digest(camera["bad_pixels"]),
            "products": mine.products,
        }
        return {name: value for name, value in kept.items() if value}


#: Nothing is asked for but the mask.
DEFAULT = MaskSettings()


def from_json(content):
    """Return the settings of which `dataclasses.asdict` made a dict, as JSON has it.

    Parameters
    ----------
    content : dict or None

    Returns
    -------
    `MaskSettings`
        The default for None.
    """
    return MaskSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in (content or {}).items()})


def difference(wanted, done):
    """Return what a run lacks of the settings that are wanted now.

    Parameters
    ----------
    wanted : dict
        From `MaskSettings.recorded`.
    done : dict or None
        The same of an earlier run; None, of a run before settings were recorded, is the default.

    Returns
    -------
    str
        "" if its output will do: products that are not wanted now do no harm.

    Examples
    --------
    >>> difference({"grow": 2}, None)
    'masked with another grow'
    >>> difference({"products": ["CRMASK"]}, {"products": []})
    'without CRMASK'
    >>> difference({}, {"products": ["CRMASK"]})
    ''
    """
    done = done or {}
    other = [n for n in sorted({*wanted, *done} - {"products"}) if wanted.get(n) != done.get(n)]
    if other:
        return f"masked with another {' and '.join(name.replace('_', '-') for name in other)}"
    lacking = [name for name in wanted.get("products", ()) if name not in done.get("products", ())]
    return f"without {' and '.join(lacking)}" if lacking else ""


def digest(path):
    """Return the sha256 of a file that settings name, read once while it is unchanged.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        Hexadecimal, 64 digits.

    Raises
    ------
    FrameError
        If it cannot be read.
    """
    try:
        status = os.stat(path)
        return _sha256(os.fspath(path), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise FrameError(f"{path}: {error.strerror}") from error
    except FrameError as error:
        raise FrameError(f"{path}: {error}") from error


@lru_cache(64)
def _sha256(path, *_):
    return sha256(path)
