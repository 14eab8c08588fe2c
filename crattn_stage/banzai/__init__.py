"""Inside BANZAI, the pipeline of Las Cumbres Observatory: a drop-in for its cosmic-ray stage.

BANZAI is imported only here and in the modules of this package; torch and the
model wait until the first frame of the sky.
"""

import os
from contextlib import contextmanager
from functools import cache

import numpy as np
from banzai.logs import get_logger
from banzai.stages import Stage
from banzai.utils import qc

from crattn_stage.cameras import facts
from crattn_stage.cameras.dispersion import dispersion
from crattn_stage.cameras.masks import convention
from crattn_stage.cameras.profile import find_profile, recognise
from crattn_stage.errors import FrameError
from crattn_stage.fits.header import HISTORY, fit_card

logger = get_logger()


class CosmicRayDetector(Stage):
    """Mask cosmic rays with an attention U-Net: bit 8 of the mask, cards in the header, a row in the database.

    It works anywhere after ``banzai.gain.GainNormalizer`` and before
    ``banzai.photometry.SourceDetector``.  Before the mosaic is made, the
    amplifiers of a detector are assembled for the search.  Settings that the
    context lacks are taken from `crattn_stage.banzai.settings`.

    Parameters
    ----------
    runtime_context : `banzai.context.Context`
    """

    def __init__(self, runtime_context):
        super().__init__(runtime_context)
        self._error = None

    @property
    def stage_name(self):
        """Dotted name of the stage; BANZAI's own property puts every stage into ``banzai.stages``."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def run(self, images):
        """Run on each image; raise the error of the last one if none is left.

        BANZAI logs the error of a stage, drops the image, and records success.
        Raising the error prevents that.

        Parameters
        ----------
        images : list of `banzai.frames.ObservationFrame`

        Returns
        -------
        list of `banzai.frames.ObservationFrame`
            Those that were masked, or passed unmasked.

        Raises
        ------
        Exception
            Of the last image, if none is left.
        """
        self._error = None
        images = super().run(images)
        if self._error and not images:
            raise self._error
        return images

    def do_stage(self, image):
        """Mask one image; science pixels stay as they are.

        Parameters
        ----------
        image : `banzai.frames.ObservationFrame`

        Returns
        -------
        `banzai.frames.ObservationFrame`
            The same.  A bias, dark, flat or arc comes back as it went in; an
            arc is masked with the setting ``CRATTN_ARCS``.  One that cannot be
            masked comes back without cosmic rays, and says so, with the setting
            ``CRATTN_PASS_UNMASKED``.

        Raises
        ------
        Exception
            Whatever kept the image from being masked, or the run from being
            recorded.
        """
        kind = facts.calibration_type([image.meta], _profile(image.meta))
        if kind and not (facts.is_arc(kind) and self._setting("CRATTN_ARCS")):
            logger.info(f"Skipped cosmic rays: {facts.calibration_frame(kind)}", image=image)
            return image
        try:
            with self._database() as database:
                self._recorded(image, database)
        except Exception as error:
            self._error = error
            raise
        return image

    def _setting(self, name):
        from crattn_stage.banzai import settings

        return getattr(self.runtime_context, name, getattr(settings, name))

    @contextmanager
    def _database(self):
        from calibration_dbs.database import connect

        url = self._setting("CRATTN_DB_ADDRESS") or self.runtime_context.db_address
        _check_tables(url)
        # A connection for each frame, as in BANZAI, so that none is shared across a fork.
        database = connect(url)
        try:
            yield database
        finally:
            database.dispose()

    def _recorded(self, image, database):
        """Mask an image and record the run; errors are recorded before they are raised or passed over."""
        from sqlalchemy.exc import SQLAlchemyError

        from calibration_dbs.provenance import recorded_run
        from crattn_stage import __version__
        from crattn_stage.records import columns_of_header, run_identity

        failure = None
        engine, threshold = self._setting("CRATTN_ENGINE"), self._setting("CRATTN_THRESHOLD")
        model = {"name": str(self._setting("CRATTN_MODEL") or "default"), "architecture": "not loaded", "sha256": ""}
        options = {"threshold": threshold or 0.0, "engine": engine, "version": __version__}
        try:
            masker = _masker(self._setting("CRATTN_MODEL"), threshold, engine, self._setting("CRATTN_THREADS"))
            model, options = run_identity(masker)
        except Exception as error:
            failure = error
        try:
            # BANZAI identifies a frame by its file name, without the folder.
            with recorded_run(database, image.filename, model, **options) as record:
                record.frame.update(columns_of_header(image.meta))
                if failure:
                    raise failure
                self._mask(image, masker, record)
        except SQLAlchemyError:
            # A run that cannot be recorded is never passed over.
            raise
        except Exception as error:
            if not self._setting("CRATTN_PASS_UNMASKED"):
                raise
            logger.error(f"Not masked: {error}", image=image)
            _mark_unmasked(image, str(error) or type(error).__name__)

    def _mask(self, image, masker, record):
        from crattn_stage.quality.cards import header_cards
        from crattn_stage.records import record_detections

        profile = _profile(image.meta)
        seconds, spectrum = facts.exposure_time(image.meta, profile), _is_spectrum(image, profile)
        provenance = {**masker.provenance, "spectrum": spectrum, "limits": profile.settings.get("limits")}
        found = [(detector, _search(masker, image, detector, spectrum)) for detector in detectors(image.ccd_hdus)]
        summary = record_detections(record, [detection for _, detection in found], seconds, provenance["limits"])
        if not summary.searched:
            raise FrameError("no usable pixel")
        # Nothing fails from here on, so no frame is left half masked.
        for detector, detection in found:
            plane = np.zeros(detector.shape, bool)
            plane.ravel()[detection.pixels] = True
            for amplifier in detector.amplifiers:
                hits = np.zeros(amplifier.hdu.shape, bool)
                hits[amplifier.pixels] = plane[amplifier.section]
                amplifier.hdu.mask[:] = _banzai_flags().marked(amplifier.hdu.mask, hits)
                _set(amplifier.hdu.meta, header_cards(detection.amplifiers[amplifier.name], seconds, provenance))
        _set(image.meta, header_cards(summary, seconds, provenance))
        _set_history(image.meta, summary, provenance)
        record.run["output_path"] = _output_path(image, self.runtime_context)
        verdict, reason = record.run["verdict"], record.run["reason"]
        numbers = {"hits": summary.hits, "fraction": summary.fraction, "failed": verdict == "FAIL", "reason": reason}
        logger.info("Masked cosmic rays", image=image, extra_tags={"CRQC": verdict, **numbers})
        results = {f"cosmic_rays.{name}": value for name, value in numbers.items()}
        qc.save_qc_results(self.runtime_context, results, image)


@cache
def _banzai_flags():
    """Return the convention of BANZAI's masks, whatever the camera."""
    return convention(find_profile("lco"), {})


def _is_spectrum(image, profile):
    if facts.is_arc(facts.calibration_type([image.meta], profile)):
        return True
    said = dispersion([image.meta], profile)
    if said.refusal:
        raise FrameError(said.refusal)
    if said.note:
        logger.warning(said.note, image=image)
    return said.is_spectrum


def _profile(header):
    return recognise([header])[0]


@cache
def _check_tables(url):
    from calibration_dbs.database import open_database

    open_database(url).dispose()


@cache
def _masker(*settings):
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    return AttentionCRStage(RuntimeContext(*settings))


class _Amplifier:
    """One CCDData of a detector: its `pixels`, flipped as the detector is, fill `section` of the detector."""

    def __init__(self, name, hdu, origin):
        self.name, self.hdu = name, hdu
        data, detector = hdu.data_section, hdu.detector_section
        self.pixels, self.section = [], []
        for axis, length in zip("yx", hdu.shape, strict=True):
            first, last = (getattr(data, f"{axis}_{end}") for end in ("start", "stop")) if data else (1, length)
            if max(first, last) > length:
                raise FrameError(f"DATASEC {data.to_region_keyword()} lies outside the image {hdu.name}")
            start, stop = (getattr(detector, f"{axis}_{end}") for end in ("start", "stop")) if detector else (1, length)
            low, high = sorted((first, last))
            binning = hdu.binning["xy".index(axis)]
            place = (min(start, stop) - origin[axis]) // binning
            self.section.append(slice(place, place + high - low + 1))
            turned = (first > last) != (start > stop)
            self.pixels.append(slice(high - 1, low - 2 if low > 1 else None, -1) if turned else slice(low - 1, high))
        self.pixels, self.section = tuple(self.pixels), tuple(self.section)


class Detector:
    """The amplifiers of one detector, assembled.

    Parameters
    ----------
    hdus : list of `banzai.data.CCDData`

    Attributes
    ----------
    name : str
        The common prefix of the names of the amplifiers.
    shape : tuple of int
    amplifiers : list
        Each with its `name`, `hdu`, `pixels` of the HDU and `section` of the
        detector, of one shape.
    overlapping : bool
        Whether sections claim the same pixels.

    Raises
    ------
    FrameError
        If a section lies outside its image.
    """

    def __init__(self, hdus):
        names = [hdu.name or "" for hdu in hdus]
        self.name = os.path.commonprefix(names)  # noqa: RUF071 - of the characters
        sections = [hdu.detector_section for hdu in hdus]
        origin = {
            axis: min((min(getattr(s, f"{axis}_start"), getattr(s, f"{axis}_stop")) for s in sections if s), default=1)
            for axis in "yx"
        }
        alone = len(hdus) == 1
        self.amplifiers = [
            _Amplifier("" if alone else name.removeprefix(self.name) or str(number), hdu, origin)
            for number, (name, hdu) in enumerate(zip(names, hdus, strict=True), 1)
        ]
        self.shape = tuple(max(a.section[i].stop for a in self.amplifiers) for i in (0, 1))
        seen = np.zeros(self.shape, np.uint8)
        for amplifier in self.amplifiers:
            seen[amplifier.section] += 1
        self.overlapping = bool(seen.max() > 1)


def detectors(hdus):
    """Group the amplifiers of a frame by detector.

    Parameters
    ----------
    hdus : list of `banzai.data.CCDData`
        Those with the same ``CCDNUM``, or all without one, belong to one
        detector; one without ``DETSEC`` is a detector of its own.

    Returns
    -------
    list of `Detector`
    """
    groups = {}
    for hdu in hdus:
        key = ("CCD", hdu.meta.get("CCDNUM")) if hdu.detector_section else ("HDU", id(hdu))
        groups.setdefault(key, []).append(hdu)
    found = []
    for group in groups.values():
        together = Detector(group)
        # BANZAI makes up a DETSEC where there is none, the same for all amplifiers.
        found += [Detector([hdu]) for hdu in group] if together.overlapping else [together]
    if len({detector.name for detector in found}) < len(found):
        for number, detector in enumerate(found, 1):
            detector.name += f"#{number}"
    return found


def _search(masker, image, detector, spectrum):
    pieces = [
        (a.section, a.hdu.data[a.pixels], _banzai_flags().bad_pixels(a.hdu.mask[a.pixels])) for a in detector.amplifiers
    ]
    if len(pieces) == 1:
        # It covers the whole detector, so no copy is needed.
        ((_, plane, bad),) = pieces
    else:
        plane, bad = np.zeros(detector.shape, np.float32), np.zeros(detector.shape, bool)
        for section, pixels, unusable in pieces:
            with np.errstate(over="ignore"):
                plane[section] = pixels
            bad[section] = unusable
    header = detector.amplifiers[0].hdu.meta.copy()
    header.extend(image.meta, unique=True)
    profile = _profile(header)
    levels = [level for a in detector.amplifiers if (level := facts.saturation(a.hdu.meta, profile)) is not None]
    # BANZAI's mosaics have the lowest, too.
    level = min(levels, default=None)
    area = facts.pixel_area(header, profile)
    return masker.search(detector.name, plane, bad, detector.amplifiers, level, area, spectrum)


def _mark_unmasked(image, reason):
    from crattn_stage.quality.cards import failure_cards

    for hdu in image.ccd_hdus:
        hdu.mask[:] = _banzai_flags().marked(hdu.mask, np.zeros(hdu.shape, bool))
        _set(hdu.meta, failure_cards(reason))
    _set(image.meta, failure_cards(reason))


def _set(header, cards):
    """Set cards; remove those without a value, which an earlier run may have set."""
    for keyword, (value, comment) in cards.items():
        if value is None:
            header.remove(keyword, ignore_missing=True)
        else:
            header[keyword] = fit_card(value, comment)


def _set_history(header, summary, provenance):
    from crattn_stage.stage import history

    places = [i for i, card in enumerate(header.cards) if card.image.startswith(f"HISTORY {HISTORY}")]
    for place in reversed(places):
        del header[place]
    header.add_history(HISTORY + history(summary, provenance))


def _output_path(image, context):
    """Return where BANZAI will write an image, or None if its class of frames does not say."""
    try:
        return os.path.join(image.get_output_directory(context), image.get_output_filename(context))
    except AttributeError:
        return None
