"""Repeated exposures of a night: which frames are of one field, and what they say of each other's masks."""

from dataclasses import dataclass

import numpy as np

from crattn_stage.comparison import OwnMask
from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.fits.wcs import pixel_side, pointing, sky_wcs
from crattn_stage.grade import as_json, grade
from crattn_stage.quality.night_report import Repeats
from crattn_stage.quality.rules import LEVELS, RULES
from crattn_stage.quality.truth import DITHERED

#: Exposures of a field that are compared: with three, what lies under a hit of one of them is known, too.
COMPARED = 3
#: Exposures are of one field if their middles are at most this apart, in sides of the detector...
APART = 0.5
#: ...or, without a WCS, in degrees, and of one OBJECT.
NEAR = 0.05
#: One may be this many times longer than the other.
LONGER = 1.25
#: The rule whose limit of the completeness holds here, too.
_MISSED = next(rule for rule in RULES if rule.keyword == "CRCMPL10")


@dataclass(frozen=True)
class Pointing:
    """Where a frame points, and what must be the same of frames that are compared.

    Attributes
    ----------
    place : tuple of float
        Unit vector to the middle of the detector.
    target : str
        OBJECT.
    reach : float
        How far the middle of another exposure of the field may be, radians.
    pixel : float
        Side of a pixel, radians; 0 where it is not known.
    seconds : float or None
        Exposure time.
    detectors : tuple of str
    shape : tuple of int
    """

    place: tuple
    target: str
    reach: float
    pixel: float
    seconds: float | None
    detectors: tuple
    shape: tuple

    @property
    def detector(self):
        """Name of the detector that is graded, the middle one; None where it is the only one."""
        return self.detectors[len(self.detectors) // 2] if len(self.detectors) > 1 else None

    def distance(self, other):
        """Return the distance to another pointing.

        Parameters
        ----------
        other : `Pointing`

        Returns
        -------
        float
            Radians.
        """
        return 2 * float(np.arcsin(min(1.0, np.linalg.norm(np.subtract(self.place, other.place)) / 2)))

    def repeats(self, first):
        """Tell whether this may be a repeated exposure of another's field.

        Parameters
        ----------
        first : `Pointing`

        Returns
        -------
        bool
        """
        times = self.seconds, first.seconds
        alike = times[0] == times[1] if None in times else max(times) <= LONGER * min(times)
        # Without a WCS, two fields of a survey may be as near.
        named = bool(self.pixel and first.pixel) or (self.target and self.target == first.target)
        of_one = (self.shape, len(self.detectors), self.detector) == (first.shape, len(first.detectors), first.detector)
        return bool(alike and named and of_one and self.distance(first) <= min(self.reach, first.reach))


def read_pointing(path):
    """Read where a frame points.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    `Pointing` or None
        None where its header does not say.

    Raises
    ------
    FrameError
        If the frame cannot be read.
    """
    with ObservationFrame(path) as frame:
        if not frame.extensions:
            return None
        extension = frame.extensions[len(frame.extensions) // 2]
        wcs, pixel, reach = sky_wcs(extension.header), 0.0, np.deg2rad(NEAR)
        if wcs is not None:
            middle = wcs.pixel_to_world(*((n - 1) / 2 for n in extension.shape[::-1])).icrs
            place, pixel = (middle.ra.rad, middle.dec.rad), np.deg2rad(pixel_side(wcs))
            reach = APART * min(extension.shape) * pixel
        else:
            place = pointing(extension.header)
        if place is None or not np.isfinite([*place, reach]).all():
            return None
        ra, dec = place
        return Pointing(
            (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)),
            str(extension.header.get("OBJECT", "")).strip(),
            reach,
            pixel,
            frame.exposure.exposure_time,
            tuple(e.name for e in frame.extensions),
            extension.shape,
        )


def repeated(frames):
    """Find the repeated exposures among frames of a night.

    Parameters
    ----------
    frames : list of `crattn_stage.quality.night_report.Judged`

    Returns
    -------
    list of list of tuple
        For each field of which there are two exposures or more, (frame, `Pointing`) of those that are to be compared,
        at most `COMPARED` and dithered if there are such; the fields with most exposures first.  Frames that are
        not masked, or whose files are gone or do not say where they point, are left out.
    """
    alike = {}
    for frame in frames:
        if frame.status == "succeeded" and frame.output:
            alike.setdefault((frame.site, frame.camera, frame.filter), []).append(frame)
    fields = []
    for own in alike.values():
        known = []
        for frame in own if len(own) > 1 else ():
            try:
                found = read_pointing(frame.output)
            except (FrameError, OSError):
                continue
            if found is None:
                continue
            group = next((group for group in known if found.repeats(group[0][1])), None)
            if group is None:
                known.append([(frame, found)])
            else:
                group.append((frame, found))
        fields += [group for group in known if len(group) > 1]
    # Three say more than two, and more than three are not compared.
    return [_dithered(group) for group in sorted(fields, key=lambda group: -min(len(group), COMPARED))]


def _dithered(group):
    """Return the exposures of a field that are compared: those that moved first."""
    chosen = group[:1]
    for own in group[1:]:
        if all(own[1].distance(other) > DITHERED * own[1].pixel for _, other in chosen):
            chosen.append(own)
    rest = [own for own in group if own not in chosen]
    return (chosen + rest)[:COMPARED]


def grade_repeats(report, most):
    """Let repeated exposures of a night grade each other's masks, and note it in the report.

    Parameters
    ----------
    report : `crattn_stage.quality.night_report.NightReport`
        Its `repeats` are set.  A frame whose mask misses more bright hits than the rule of ``CRCMPL10`` allows, by the
        upper end of the interval, gets WARN.
    most : int
        Fields of each camera at a site; each takes some 2 seconds of CPU time for a million pixels and exposure.

    Notes
    -----
    The masks are those in the files as they are now, grown and all.  Of a mosaic, the detector in the middle is graded.
    """
    count = {}
    for group in repeated(report.frames):
        first, where = group[0]
        place = first.site, first.camera
        count[place] = count.get(place, 0) + 1
        if count[place] > most:
            continue
        outputs = [frame.output for frame, _ in group]
        found = Repeats(*place, first.filter, where.target, where.detector, [frame.path for frame, _ in group])
        try:
            found.grades = as_json(grade(outputs, OwnMask(), only=where.detector), {})["frames"]
        except FrameError as error:
            found.failure = str(error)
        report.repeats.append(found)
        for (frame, _), own in zip(group, found.grades, strict=False):
            missed = 1 - own["bright_interval"][1]
            if not own["failure"] and missed > _MISSED.warn:
                frame.verdict = max(frame.verdict, "WARN", key=LEVELS.index)
                frame.reasons.append(
                    f"by repeated exposures, only {own['bright_completeness']:.0%} of bright hits are masked"
                )
