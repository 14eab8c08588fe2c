"""The pipeline stage: a frame in, the frame masked and flagged out."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from crattn_stage import __version__
from crattn_stage.api import load_model
from crattn_stage.cameras import facts
from crattn_stage.detection import spectra
from crattn_stage.detection.edges import unexposed
from crattn_stage.detection.lines import drop_lines
from crattn_stage.detection.model import Conditions
from crattn_stage.detection.preprocessing import SMALLEST, measure_sky
from crattn_stage.detection.saturation import saturated_stars
from crattn_stage.detection.uneven import even_out
from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import Marks
from crattn_stage.fits.wcs import sky_wcs
from crattn_stage.products.growth import grow
from crattn_stage.products.protect import protected_pixels, read_areas
from crattn_stage.products.settings import DEFAULT, MaskSettings
from crattn_stage.quality.cards import header_cards
from crattn_stage.quality.injection import measure
from crattn_stage.quality.star_cores import judge_sources
from crattn_stage.quality.summary import BORDER, Appearance, Detection, Summary, count_hits, total

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeContext:
    """Settings of a stage.

    Attributes
    ----------
    model : str or None
        As for `crattn_stage.load_model`.
    threshold : float or None
        Probability; the model card's if None.
    engine : str
    threads : int or None
    masks : `crattn_stage.products.settings.MaskSettings`
    """

    model: str | None = None
    threshold: float | None = None
    engine: str = "auto"
    threads: int | None = None
    masks: MaskSettings = DEFAULT


@dataclass
class SearchedDetector:
    """A detector, and what was found when it was searched.

    Attributes
    ----------
    name : str
    image : `numpy.ndarray`
        2-D, ADU or electron.
    amplifiers : list of `crattn_stage.cameras.sections.Amplifier`
    searched, found : `numpy.ndarray` of bool
        Pixels that could be searched, and cosmic rays; None until it was searched.
    sky : list of `crattn_stage.detection.preprocessing.Sky` or None
        Of the amplifiers; measured where it is needed if None.
    area : float or None
        Of a pixel, cm2.
    unit : {"adu", "electron"} or None
        Of the image, as from `crattn_stage.cameras.facts.charge_unit`.
    header : `astropy.io.fits.Header` or None
        For the WCS.
    is_spectrum : bool
        A two-dimensional spectrum has no stars, and no hits are added to it.
    is_described : bool
        Whether its header says anything of the exposure.
    probability : `numpy.ndarray` or None
        Float32, the shape of the image, where it was kept.
    protected : `numpy.ndarray` of bool or None
        Pixels not masked since the user protects them.
    conditions : `crattn_stage.detection.model.Conditions`
        Filled in when it is searched.
    even : `numpy.ndarray` or None
        What was searched: the image, or a copy with an even sky from `crattn_stage.detection.uneven.even_out`.
    """

    name: str
    image: np.ndarray
    amplifiers: list
    searched: np.ndarray | None = None
    found: np.ndarray | None = None
    sky: list | None = None
    area: float | None = None
    unit: str | None = None
    header: object = None
    is_spectrum: bool = False
    is_described: bool = True
    probability: np.ndarray | None = None
    protected: np.ndarray | None = None
    conditions: Conditions = field(default_factory=Conditions)
    even: np.ndarray | None = None

    @property
    def sections(self):
        """Rows and columns of each amplifier, a list of tuple of `slice`."""
        return [a.section for a in self.amplifiers]


class Stage:
    """One step of a reduction, in the shape of BANZAI's: `do_stage` on each of the frames.

    Parameters
    ----------
    runtime_context : `RuntimeContext`
    """

    def __init__(self, runtime_context):
        self.runtime_context = runtime_context

    @property
    def stage_name(self):
        """Dotted name of the stage."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def run(self, frames):
        """Run on each frame; one that fails is logged and left out of what is returned.

        Parameters
        ----------
        frames : iterable

        Returns
        -------
        list
            The frames that went through.
        """
        done = []
        for frame in frames:
            try:
                frame = self.do_stage(frame)
            except Exception as error:
                logger.error("%s: %s", getattr(frame, "path", frame), error, exc_info=not isinstance(error, FrameError))
                continue
            if frame is not None:
                done.append(frame)
        return done

    def do_stage(self, frame):
        """Do the step on one frame and return it.

        Parameters
        ----------
        frame : `crattn_stage.fits.frame.ObservationFrame`

        Returns
        -------
        `crattn_stage.fits.frame.ObservationFrame` or None
            None leaves the frame out of what `run` returns.

        Raises
        ------
        NotImplementedError
            Always: each stage has a step of its own.
        """
        raise NotImplementedError


class AttentionCRStage(Stage):
    """Mask cosmic rays with an attention U-Net.

    Parameters
    ----------
    runtime_context : `RuntimeContext`
        The model is loaded here, once.
    """

    def __init__(self, runtime_context):
        super().__init__(runtime_context)
        for path in runtime_context.masks.protect:
            # Errors in them come before the first frame.
            read_areas(path)
        self.model = load_model(runtime_context.model, runtime_context.engine, runtime_context.threads)
        threshold = runtime_context.threshold
        self.threshold = self.model.card.threshold if threshold is None else threshold

    @property
    def provenance(self):
        """What made the masks: model, sha256, threshold, engine, version."""
        card = self.model.card
        return {
            "model": card.name,
            "sha256": card.sha256,
            "threshold": self.threshold,
            "engine": self.model.engine,
            "version": __version__,
        }

    def do_stage(self, frame):
        """Find the cosmic rays of a frame and mark them on it; science pixels stay as they are.

        Parameters
        ----------
        frame : `crattn_stage.fits.frame.ObservationFrame`

        Returns
        -------
        `crattn_stage.fits.frame.ObservationFrame`
            The same, with `marks`, header cards and `detections`; a bias,
            dark, flat or lamp frame comes back as it went in.

        Raises
        ------
        FrameError
            If a detector cannot be read, or none has a good pixel or more than one value.
        """
        frame.detections = []
        if frame.exposure.calibration_type:
            logger.info("%s: skipped, %s", frame.path, frame.exposure.calibration_type)
            return frame
        threshold = self.threshold_for(frame.profile)
        settings = self.runtime_context.masks.for_camera(frame.profile.mask_settings)
        _check_growth(settings, threshold)
        provenance = {**self.provenance, "threshold": threshold, "grow": settings.grow}
        provenance.update(grow_threshold=settings.grow_threshold, protect=settings.protect)
        provenance.update(spectrum=frame.exposure.is_spectrum, limits=frame.profile.settings.get("limits"))
        if settings.flag_variance:
            provenance["flag_variance"] = frame.profile.settings.get("no_information", "inf")
            if not any(extension.uncertainties for extension in frame.extensions):
                frame.notes.append("it has no planes of uncertainties to flag")
        self._mask_detectors(frame, threshold, settings, provenance)
        summary = total(d.summary for d in frame.detections)
        if not summary.searched:
            raise FrameError(f"no usable pixel: {_unusable(frame)}; see `crattn-stage inspect`")
        blind = [d.name for d in frame.detections if not d.summary.searched]
        if blind:
            frame.notes.append(f"no usable pixel in {', '.join(blind)}")
        frame.cards = header_cards(summary, frame.exposure.exposure_time, provenance)
        frame.history = history(summary, provenance)
        return frame

    def _mask_detectors(self, frame, threshold, settings, provenance):
        """Search the detectors of a frame one by one; give it their marks, detections and notes."""

        def finish(marks, judged):
            detection = judged.result()
            frame.detections.append(detection)
            marks.cards = header_cards(detection.summary, frame.exposure.exposure_time, provenance)

        # `disable=None` keeps the bar for terminals alone.
        bar = tqdm(frame.ccds(), frame.path.name, len(frame.extensions), leave=False, unit="CCD", disable=None)
        with ThreadPoolExecutor(1) as pool:
            # One detector is judged and packed while the next is masked and the one after read.
            judged = None
            for extension, ccd in bar:
                detector = self._search_extension(frame, extension, ccd, threshold, settings)
                if judged:
                    finish(*judged)
                marks = Marks(np.flatnonzero(detector.found).astype(np.int32), flags=ccd.flags)
                if settings.probability or frame.has_probability(extension):
                    marks.probability = detector.probability
                frame.mark(extension, marks)
                if not settings.wants_hits:
                    # Not held while the next is masked.
                    detector.probability = None
                judged = marks, pool.submit(self._judge, detector, threshold, settings)
            finish(*judged)

    def _search_extension(self, frame, extension, ccd, threshold, settings):
        """Return a detector of a frame, searched; its notes go to the frame."""
        amplifiers, alone = frame.amplifiers(extension), len(frame.extensions) == 1
        names = ", ".join(a.name for a in amplifiers if a.name) or "one"
        logger.info("%s: %s %s, amplifiers %s", frame.path, frame.profile.name, extension.name, names)
        detector = SearchedDetector(
            extension.name,
            ccd.data,
            amplifiers,
            area=frame.pixel_area(extension),
            unit=facts.charge_unit(extension.header, frame.profile),
            header=extension.header,
            is_spectrum=frame.exposure.is_spectrum,
            is_described=frame.exposure.is_described,
        )
        keep = settings.probability or settings.hits or frame.has_probability(extension)
        notes = self._seek(detector, ccd.mask, frame.saturation(extension), threshold, settings, keep)
        if settings.protect:
            areas = protected_pixels(settings.protect, extension.header, extension.shape, alone)
            detector.protected = detector.found & areas
            detector.found &= ~detector.protected
        frame.notes += [note if alone else f"{extension.name}: {note}" for note in notes]
        return detector

    def _judge(self, detector, threshold, settings):
        """Return what `judge` does, with what is found of hits that are added, and the hits if they are asked for."""
        detection = judge(detector)
        # Hits are added to images of the sky, and measured against its noise.
        if settings.injections != 0 and not detector.is_spectrum:
            detection.summary.injected = measure(
                self.model,
                detector.even,
                detector.searched,
                detector.found,
                detector.sections,
                detector.sky,
                [a.electrons_per(detector.unit) for a in detector.amplifiers],
                threshold,
                settings.injections,
                detector.conditions,
            )
        if settings.wants_hits:
            _add_hits(detection, detector)
        return detection

    def threshold_for(self, profile):
        """Return the threshold for frames of a camera: the user's, the camera's, or the model card's.

        Parameters
        ----------
        profile : `crattn_stage.cameras.profile.Profile`

        Returns
        -------
        float
            Probability.
        """
        if self.runtime_context.threshold is not None:
            return self.threshold
        return profile.settings.get("threshold", self.threshold)

    def search(self, name, image, bad, amplifiers, level=None, area=None, spectrum=False):
        """Find the cosmic rays of a detector; for stages of other pipelines, too.

        Parameters
        ----------
        name : str
            Of the detector.
        image : `numpy.ndarray`
            2-D, ADU or electron.
        bad : `numpy.ndarray` of bool, or None
            True on bad pixels.
        amplifiers : list of `crattn_stage.cameras.sections.Amplifier`
            Pixels outside their sections are not searched.
        level : float, optional
            Saturation level, in the unit of the image.
        area : float, optional
            Of a pixel, cm2.
        spectrum : bool
            Whether it is a two-dimensional spectrum, not an image.

        Returns
        -------
        `crattn_stage.quality.summary.Detection`
            With nothing searched and nothing found if no pixel is good.
        """
        settings = self.runtime_context.masks
        _check_growth(settings, self.threshold)
        detector = SearchedDetector(name, image, amplifiers, area=area, is_spectrum=spectrum)
        self._seek(detector, bad, level, self.threshold, settings)
        return judge(detector)

    def probability(self, image, bad, amplifiers, level=None, spectrum=False):
        """Return the probability that each pixel of a detector was hit by a cosmic ray.

        Parameters
        ----------
        image, bad, amplifiers, level, spectrum
            As for `search`.

        Returns
        -------
        probability : `numpy.ndarray`
            Float32, the shape of the image; 0 where it is not searched.
        searched : `numpy.ndarray` of bool
            The pixels that can be searched.
        """
        sections = [a.section for a in amplifiers]
        searched, _ = _searchable(image, bad, sections, level)
        if not searched.any():
            return np.zeros(image.shape, np.float32), searched
        if spectrum:
            sky = measure_sky(image, ~searched, sections)
            return spectra.probability(self.model, image, ~searched, sections, sky), searched
        return self.model.predict(image, ~searched, sections), searched

    def _seek(self, detector, bad, level, threshold, settings, keep_probability=False):
        """Search a detector: set what was searched and found on it, and its sky; return notes."""
        image, sections = detector.image, detector.sections
        searched, notes = _searchable(image, bad, sections, level)
        # A dead detector must not stop the others of the exposure.
        found = np.zeros(image.shape, bool)
        even = image if detector.is_spectrum else even_out(image, ~searched, sections)
        if even is not image:
            notes.append("uneven sky: what varies slowly is left out of the search")
        sky = measure_sky(even, ~searched, sections)
        if any(own and own.sigma <= SMALLEST for own in sky):
            raise FrameError(
                f"the noise is below {SMALLEST:g} in the unit of the image; multiply the image by a factor"
            )
        probability = np.zeros(image.shape, np.float32) if keep_probability or settings.grow_threshold else None
        if searched.any():
            if detector.is_spectrum:
                plane = spectra.probability(self.model, image, ~searched, sections, sky)
                found = plane > threshold
                if probability is not None:
                    probability[:] = plane
            else:
                found = self.model.detect(even, ~searched, threshold, sections, sky, probability, detector.conditions)
                if detector.conditions.narrow and self.model.has_second_weights:
                    notes.append("narrow stars: masked with the second weights")
            drop_lines(even, found, ~searched, sections)
            if settings.grow_threshold:
                # What was above the threshold and is not masked was taken for a star or a line.
                faint = searched & ((probability <= threshold) | found)
                found = grow(found, 0, probability, settings.grow_threshold, faint)
            if settings.grow:
                found = grow(found, settings.grow, allowed=searched)
        detector.even, detector.searched, detector.found = even, searched, found
        detector.sky, detector.probability = sky, probability
        return notes


def _searchable(image, bad, sections, level):
    """Return the pixels of a detector that can be searched, and notes."""
    bad = saturated_stars(image, level) | ~np.isfinite(image) | (False if bad is None else bad)
    borders, notes = unexposed(image, bad, sections)
    if borders is not None:
        bad |= borders
    searched = np.zeros(image.shape, bool)
    for section in sections:
        searched[section] = _alive(image[section], bad[section])
    return searched & ~bad, notes


def _check_growth(settings, threshold):
    if settings.grow_threshold and settings.grow_threshold >= threshold:
        raise FrameError(
            f"masks cannot grow down to a probability of {settings.grow_threshold:g}: the threshold, {threshold:.4g}, "
            "is not above it; give a lower --grow-threshold"
        )


def _unusable(frame):
    """Say why no pixel of a frame can be searched, by its first detector."""
    _, ccd = next(iter(frame.ccds()))
    good = np.isfinite(ccd.data)
    if not good.any():
        return "none is a number"
    if ccd.mask is not None:
        good &= ~ccd.mask
    if not good.any():
        return "all are masked as bad"
    values = ccd.data[good]
    if values.min() == values.max():
        return f"all are {values[0]:g}"
    return "all are saturated, or those of each amplifier are of one value"


def _alive(image, bad):
    """Return whether the good pixels of an amplifier differ at all; a dead one would look like one without hits."""
    # A few pixels are enough for all but dead ones.
    for step in (8, 1):
        values = image[::step, ::step][~bad[::step, ::step]]
        if values.size and (values != values[0]).any():
            return True
    return False


def _add_hits(detection, detector):
    """Measure the hits of a detector and give them, and their footprints, to its detection."""
    from crattn_stage.products.hits import footprints, measure_hits

    detection.hits = measure_hits(
        detector.even,
        detector.found,
        ~detector.searched,
        detector.probability,
        detector.amplifiers,
        detector.unit,
        sky_wcs(detector.header),
        detector.sky,
        detector.name,
    )
    detection.footprints = footprints(detector.even, detector.found, detection.hits)


def judge(detector):
    """Count what was found on a detector and its amplifiers, and which stars are masked.

    Parameters
    ----------
    detector : `SearchedDetector`

    Returns
    -------
    `crattn_stage.quality.summary.Detection`
    """
    searched, found, protected = detector.searched, detector.found, detector.protected

    def summarise(where):
        hit, count = found[where], int(np.count_nonzero(searched[where]))
        spared = 0 if protected is None else int(np.count_nonzero(protected[where]))
        area = detector.area and detector.area * count
        return Summary(int(np.count_nonzero(hit)), count, count_hits(hit), area, protected=spared)

    summary = summarise(np.s_[:, :])
    if detector.is_spectrum:
        summary.appearance = Appearance(spectra=1)
    else:
        cores = judge_sources(detector.image, found, ~searched, detector.sections, detector.sky)
        for name, value in cores._asdict().items():
            setattr(summary, name, value)
    summary.appearance.undescribed = int(not detector.is_described)
    by_amplifier = {a.name: summarise(a.section) for a in detector.amplifiers}
    for amplifier in detector.amplifiers:
        inner = tuple(slice(s.start + BORDER, s.stop - BORDER) for s in amplifier.section)
        own = by_amplifier[amplifier.name]
        own.border_pixels = own.pixels - int(np.count_nonzero(found[inner]))
        own.border_searched = own.searched - int(np.count_nonzero(searched[inner]))
    return Detection(detector.name, np.flatnonzero(found).astype(np.int32), summary, by_amplifier)


def history(summary, provenance):
    """Return the text of the HISTORY line.

    Parameters
    ----------
    summary : `crattn_stage.quality.summary.Summary`
    provenance : dict
        Of the stage.

    Returns
    -------
    str
    """
    model, digest = provenance["model"], provenance["sha256"][:8]
    kind = " as on a spectrum" if provenance.get("spectrum") else ""
    return f"{provenance['version']}: {summary.hits} cosmic rays masked{kind} by {model} {digest}"
