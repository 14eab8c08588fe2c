"""What the darks and frames of one camera say of it: its hits, hot pixels, noise, stars and skies."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import ccdproc
import numpy as np
import sep
from astropy.nddata import CCDData
from scipy.ndimage import binary_dilation, binary_opening, label, median_filter

from crattn_stage.detection.preprocessing import sky_statistics
from crattn_stage.detection.sources import TooCrowded, extract, inside, stamps
from crattn_stage.detection.stars import measure_stars
from crattn_stage.errors import CrattnError, one_line, printable
from crattn_stage.fits.atomic import sha256
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.simulation.skies import moffat_psf
from training.data.darks import COLUMN, FEWEST, defects, hits_of_darks, master_dark
from training.data.frames import cleaned, read_skies
from training.data.library import SPLIT_EDGES, rows_of

#: Shortest side of an amplifier that patches are cut from, and most pixels that are kept of frames; pixels.
LEAST_SIDE, MOST_PIXELS = 160, 100_000_000
#: Stars per megapixel that make a dark a frame of the sky.
STARS_OF_A_SKY = 100
#: Fewest stars whose width is measured, and half side of their stamps, pixels.
FEWEST_STARS, RADIUS = 8, 4
#: Largest fraction of the hits of darks that may be noise.
FALSE_HITS = 0.005
#: Largest fraction of a star's light in one pixel: that of a hot pixel is 1.
LARGEST_PEAK = 0.65
#: Sigma above the sky from which a pixel of a frame that is mirrored was a source.
SOURCE = 6.0
#: Sigma above its surroundings from which a pixel that is always high counts as hot in frames.
WARM = 3.0
#: Probabilities at which the noise is tabulated.
NOISE_LEVELS = np.concatenate([np.linspace(0, 0.99, 100), 1 - np.geomspace(1e-2, 1e-6, 60)[1:]])
_AROUND = np.ones((3, 3))


@dataclass
class Exposure:
    """A file that can be used.

    Attributes
    ----------
    path : `pathlib.Path`
    sha256 : str
    skies : list of `training.data.skies.Sky`
        Of its amplifiers; the gain is NaN where the header has none.
    seconds : float
        NaN if the header does not say.
    instrument : str
        "" if the header does not say.
    pixel : float or None
        Side of a pixel, micrometres.
    is_told : bool
        Whether the header says what it is of.
    """

    path: Path
    sha256: str
    skies: list
    seconds: float
    instrument: str = ""
    pixel: float | None = None
    is_told: bool = False

    def is_like(self, other):
        """Return whether another one is as large and as long."""
        return self.shapes == other.shapes and str(self.seconds) == str(other.seconds)

    @property
    def shapes(self):
        """The shapes of the amplifiers."""
        return tuple(sky.image.shape for sky in self.skies)


@dataclass
class Camera:
    """What is known of a camera.

    Attributes
    ----------
    hits : list of `numpy.ndarray`
        Stamps of charge, electrons; none without darks.
    hot : list of `numpy.ndarray`
        Of each amplifier: by how much its hot pixels are too high in frames, ADU; 0 elsewhere.  Empty if not known.
    bad : list of `numpy.ndarray` of bool
        Of each amplifier: hot pixels and bad columns.
    darks : list of `training.data.skies.Sky`
        Darks as skies, bad where they hold hits.
    train, validation, test : list of `training.data.skies.Sky`
        Frames, cleaned of their cosmic rays.
    mirrored : dict of str to list
        Split -> its frames as they were, mirrored about the sky: real noise and hot pixels, and no hit.
    noise : `numpy.ndarray`
        Quantiles of the absolute noise at `NOISE_LEVELS`, in units of sigma.
    levels : list of (float, float, float, float)
        Level and sigma in ADU, gain, read noise in electrons, of the amplifiers of frames, or of darks.
    fwhm : float or None
        Of stars, pixels.
    narrow : bool or None
        Whether the stars of most frames are as narrow as hits; None without frames.
    density : float
        Stars per megapixel.
    charges : `numpy.ndarray`
        Of stars, electrons.
    hot_heights : `numpy.ndarray`
        ADU, of the pixels in `hot`.
    hot_fraction : float
        Of the pixels.
    step : float
        In which the counts are quantised, ADU; 0 if they are not.
    of_darks : bool
        Whether the levels and the noise are those of darks, for want of frames.
    """

    hits: list = field(default_factory=list)
    hot: list = field(default_factory=list)
    bad: list = field(default_factory=list)
    darks: list = field(default_factory=list)
    train: list = field(default_factory=list)
    validation: list = field(default_factory=list)
    test: list = field(default_factory=list)
    mirrored: dict = field(default_factory=dict)
    noise: np.ndarray | None = None
    levels: list = field(default_factory=list)
    fwhm: float | None = None
    narrow: bool | None = None
    density: float = 0.0
    charges: np.ndarray = field(default_factory=lambda: np.zeros(0))
    hot_heights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    hot_fraction: float = 0.0
    step: float = 0.0
    of_darks: bool = False


def read_exposures(paths, kind, tell, gain=None):
    """Read files of one kind; what cannot be used is left out, and that is said.

    Parameters
    ----------
    paths : sequence of path-like
    kind : {"dark", "frame", "flat"}
    tell : callable
        Called with one line for each file that is left out.
    gain : float, optional
        Electrons per ADU in place of the header's.

    Returns
    -------
    list of `Exposure`
        Of one detector: the same amplifiers in all of them.

    Raises
    ------
    ValueError
        If paths are given and none can be used.
    """
    found, seen = [], {}
    for path in map(Path, paths):
        try:
            exposure = _read(path, kind, gain)
            if exposure.sha256 in seen:
                raise ValueError(f"the same file as {seen[exposure.sha256]}")
            seen[exposure.sha256] = path
            found.append(exposure)
        except (CrattnError, OSError, ValueError, MemoryError) as error:
            tell(f"{path}: left out: {one_line(error)}")
    if kind == "dark":
        found = _without_stars(found, tell)
    found = _of_one_detector(found, tell)
    kept, pixels = [], 0
    for exposure in found:
        pixels += sum(sky.image.size for sky in exposure.skies)
        if pixels > MOST_PIXELS and len(kept) >= FEWEST:
            tell(f"{exposure.path}: left out: {len(kept)} files of this size are enough")
        else:
            kept.append(exposure)
    if paths and not kept:
        raise ValueError(f"none of the {len(paths)} files given as {kind}s can be used; give others, or none")
    return kept


def _read(path, kind, gain):
    with ObservationFrame(path, calibrations=True) as frame:
        exposure, extensions = frame.exposure, frame.extensions
        told, area = exposure.calibration_type, frame.pixel_area(extensions[0]) if extensions else None
    if kind == "frame" and told:
        raise ValueError(f"not a frame of the sky: {told}")
    if kind == "frame" and exposure.is_spectrum:
        raise ValueError("a spectrum; models are adapted to images")
    if kind != "frame" and kind not in told.lower() and (told or exposure.observation_type):
        raise ValueError(f"not a {kind}: its type is {told or exposure.observation_type}")
    skies = read_skies(path, calibrations=True, gain=float("nan"))
    for sky in skies:
        _mark_saturated(sky)
        if gain:
            sky.gain = gain
    skies = [sky for sky in skies if min(sky.image.shape) >= LEAST_SIDE]
    if not skies:
        raise ValueError(f"smaller than {LEAST_SIDE} pixels")
    for sky in skies:
        if sky.bad.mean() > 0.5:
            raise ValueError("more than half of its pixels are saturated or bad")
        if sky.sigma <= 2e-6 * max(abs(sky.level), 1):
            raise ValueError("its pixels are all the same")
    seconds = exposure.exposure_time
    pixel = area and 1e4 * area**0.5
    is_told = bool(told or exposure.observation_type)
    return Exposure(path, sha256(path), skies, seconds or float("nan"), exposure.camera or "", pixel, is_told)


def _mark_saturated(sky):
    """Mark the pixels at the highest count as bad where they are too many to be chance: the detector is full."""
    highest = np.max(sky.image, where=~sky.bad, initial=-np.inf)
    full = sky.image >= highest
    if full.sum() > max(30, 1e-4 * full.size):
        sky.bad |= full


def _without_stars(found, tell):
    """Leave out darks that have the stars of a sky, which are not in the other darks.

    One alone of its exposure time may have as many warm pixels as a sky has stars: its header is trusted.
    """
    images = [exposure.skies[0] for exposure in found]
    density = []
    for exposure, sky in zip(found, images, strict=True):
        others = [o.skies[0].image for o in found if o is not exposure and o.is_like(exposure)]
        image = sky.image - np.median(others, axis=0) if len(others) >= FEWEST - 1 else sky.image
        stars = np.inf if exposure.is_told and len(others) < FEWEST - 1 else len(_stars(image, sky.bad)[0])
        density.append(stars / sky.image.size * 1e6)
    density = np.array(density)
    usual = np.median(density[np.isfinite(density)]) if np.isfinite(density).any() else 0.0
    kept = []
    for exposure, stars in zip(found, density, strict=True):
        if np.isfinite(stars) and stars > max(STARS_OF_A_SKY, 2.5 * usual if np.isfinite(density).sum() > 1 else 0):
            tell(f"{exposure.path}: left out: not a dark: it has {stars:.0f} stars per megapixel")
        else:
            kept.append(exposure)
    return kept


def _of_one_detector(found, tell):
    """Leave out the files whose amplifiers are not those of most others."""
    shapes = [exposure.shapes for exposure in found]
    if not shapes:
        return found
    usual = max(dict.fromkeys(shapes), key=shapes.count)
    for exposure in found:
        if exposure.shapes != usual:
            sizes = ["x".join(map(str, shape[0][::-1])) for shape in (exposure.shapes, usual)]
            tell(f"{exposure.path}: left out: {sizes[0]} pixels, others have {sizes[1]}")
    return [exposure for exposure in found if exposure.shapes == usual]


def measure(darks, frames, flats, model, tell):
    """Measure a camera.

    Parameters
    ----------
    darks, frames, flats : list of `Exposure`
        From `read_exposures`, with gains.
    model : `crattn_stage.detection.model.CosmicRayModel`
        That cleans the frames.
    tell : callable
        Called with lines on what was found and what was done instead of what cannot be done.

    Returns
    -------
    `Camera`
    """
    camera = Camera()
    columns = _bad_columns(flats, tell)
    masters = _measure_darks(camera, darks, columns, tell)
    if not masters and columns:
        camera.bad = columns
    parts = _split(frames, tell)
    if frames:
        _measure_hot(camera, masters, frames, tell)
        _measure_frames(camera, parts["train"], model, tell)
        camera.validation = _cleaned(parts["validation"], camera, model)
        camera.test = _cleaned(parts["test"], camera, model)
        camera.mirrored = {
            split: [_mirrored(sky, _hot_of(camera, place)) for sky, place in part] for split, part in parts.items()
        }
    else:
        camera.of_darks = True
        camera.hot = masters and [height for height, _ in masters]
        camera.levels = [(s.level, s.sigma, s.gain, s.read_noise) for exposure in darks for s in exposure.skies]
        images = [(sky.image, sky.bad) for sky in camera.darks]
        camera.noise, camera.step = _noise(images), _step(images)
        tell("no frames: skies are simulated on the noise of the darks, with stars of every width")
    if camera.hot:
        heights = np.concatenate([plane[plane > 0] for plane in camera.hot])
        camera.hot_heights, camera.hot_fraction = heights, len(heights) / sum(plane.size for plane in camera.hot)
    return camera


def _bad_columns(flats, tell):
    """Return the bad pixels of flats, by amplifier: what `ccdproc.ccdmask` finds in them, divided by a smooth one."""
    if not flats:
        return []
    planes = []
    for number in range(len(flats[0].skies)):
        images = [exposure.skies[number].image for exposure in flats]
        flat = np.median([image / max(np.median(image), 1e-6) for image in images], axis=0)
        smooth = median_filter(flat, (1, 15))
        ratio = np.where(smooth > 0.05, flat / np.maximum(smooth, 0.05), 1)
        with np.errstate(all="ignore"):
            planes.append(ccdproc.ccdmask(CCDData(ratio, unit="adu"), findbadcolumns=True))
    count = sum(int(binary_opening(plane, np.ones((COLUMN, 1))).any(0).sum()) for plane in planes)
    tell(f"flats: {sum(map(np.count_nonzero, planes))} bad pixels, {count} columns with bad parts")
    return planes


def _measure_darks(camera, darks, columns, tell):
    """Take hits, bad pixels and skies from darks; return heights of hot pixels (ADU) and seconds, by amplifier."""
    groups, masters, noise = {}, [], 0
    for exposure in darks:
        groups.setdefault(str(exposure.seconds), []).append(exposure)
    shapes = [plane.shape for plane in columns]
    if darks and columns and shapes != [*darks[0].shapes]:
        tell("the flats are of another size than the darks: their bad pixels are not left out of the darks")
        columns = []
    for group in sorted(groups.values(), key=len):
        stack = [[exposure.skies[number] for exposure in group] for number in range(len(group[0].skies))]
        found = [_one_amplifier(skies, columns[n] if columns else None) for n, skies in enumerate(stack)]
        camera.hits += [stamp for (hits, _), *_ in found for stamp in hits]
        noise += sum(count for (_, count), *_ in found)
        camera.darks += [sky for _, skies, *_ in found for sky in skies]
        if len(group) >= FEWEST:
            camera.bad = [bad for *_, bad in found]
            masters = [(height, group[0].seconds) for _, _, height, _ in found]
            hot = sum(int((height > 0).sum()) for _, _, height, _ in found)
            tell(f"{len(group)} darks of {_seconds(group)}: {hot} hot pixels left out")
        else:
            tell(f"{len(group)} darks of {_seconds(group)}: too few to know hot pixels ({FEWEST} are needed)")
    if noise:
        tell(f"{noise} objects of the darks are not brighter than noise may be, and not taken for hits")
    if darks:
        _tell_hits(camera.hits, tell)
    return masters


def _one_amplifier(skies, columns):
    """Return hits, skies without them, heights of hot pixels (ADU) and bad pixels of one amplifier's darks."""
    images, bad = [sky.image for sky in skies], np.any([sky.bad for sky in skies], axis=0)
    if columns is not None:
        bad |= columns
    height, known = np.zeros(images[0].shape, np.float32), bad
    if len(images) >= FEWEST:
        noise = np.median([sky.sigma for sky in skies])
        master = master_dark(images)
        known = defects(master, noise, bad)
        # Columns are bad, not hot.
        lone = known & ~binary_opening(known, np.ones((COLUMN, 1))) & ~bad
        height[lone] = np.maximum(master[lone] - sky_statistics(master, ~known)[0], 0)
    hits, noise = _above_noise(images, bad, known, skies)
    for sky in skies:
        # An object of several pixels that is not there in the others is a hit, or may be one.
        numbers, count = label(sky.image - sky.level - height > 3 * sky.sigma, _AROUND)
        large = np.bincount(numbers.ravel(), minlength=count + 1) > 1
        large[0] = False
        sky.bad = sky.bad | (binary_dilation(large[numbers], _AROUND) & ~(height > 0))
        sky.hot = height > 0
    return (hits, noise), skies, height, known


def _above_noise(images, bad, known, skies):
    """Return the hits of darks, and how many objects as bright as noise were not taken for hits.

    Darks mirrored about their level have no hits: the objects in them tell how bright those of noise are.
    """
    gain = skies[0].gain
    hits = hits_of_darks(images, bad, gain)
    mirrored = [2 * np.float32(sky.level) - image for sky, image in zip(skies, images, strict=True)]
    # What hot pixels and hits leave below the level of the others' median is no noise.
    noise = np.sort([stamp.sum() for stamp in hits_of_darks(mirrored, known, gain)])
    charges = np.sort([stamp.sum() for stamp in hits])
    least = 0.0
    for cut in charges:
        most = FALSE_HITS * np.count_nonzero(charges >= cut)
        if np.count_nonzero(noise >= cut) <= most:
            least = cut
            break
    kept = [stamp for stamp in hits if stamp.sum() >= least]
    return kept, len(hits) - len(kept)


def _tell_hits(hits, tell):
    if not hits:
        tell("the darks hold no hit")
        return
    charge, length = [stamp.sum() for stamp in hits], [np.hypot(*stamp.shape) for stamp in hits]
    low, middle, high = np.percentile(charge, (16, 50, 84))
    tell(
        f"{len(hits)} hits in the darks: charge {middle:.0f} electrons ({low:.0f} to {high:.0f}), "
        f"length {np.median(length):.1f} pixels (longest {max(length):.0f})"
    )


def _seconds(group):
    return "unknown exposure time" if np.isnan(group[0].seconds) else f"{group[0].seconds:g} s"


def _split(frames, tell):
    """Split frames into training, validation and test: by file, or by rows where there are fewer than three."""
    if len(frames) >= FEWEST:
        parts = {"train": frames[:-2], "validation": frames[-2:-1], "test": frames[-1:]}
        tell(f"held out: {parts['validation'][0].path.name} (threshold) and {parts['test'][0].path.name} (acceptance)")
        whole = 0.0, 1.0
        return {k: [(sky, (n, whole)) for e in part for n, sky in enumerate(e.skies)] for k, part in parts.items()}
    if frames:
        tell("fewer than three frames: their last rows are held out")
    skies = [(sky, number) for exposure in frames for number, sky in enumerate(exposure.skies)]
    return {k: [(rows_of(sky, *edges), (number, edges)) for sky, number in skies] for k, edges in SPLIT_EDGES.items()}


def _surroundings(image):
    """Return the median of the 5 x 5 pixels around each."""
    return median_filter(image, 5)


def _measure_hot(camera, masters, frames, tell):
    """Find by how much hot pixels are too high in frames: those of the darks, or those that are always high."""
    shapes = [*frames[0].shapes]
    if masters and [height.shape for height, _ in masters] != shapes:
        tell("the darks are of another size than the frames: hot pixels are looked for in the frames themselves")
        masters = []
    if not masters and len(frames) < FEWEST:
        tell("fewer than three frames, and no hot pixels from darks: hot pixels of the frames are not known")
        return
    hot, known = [], 0
    for number, shape in enumerate(shapes):
        above, beside, sigma = [], [], []
        for sky in (exposure.skies[number] for exposure in frames):
            smooth = _surroundings(sky.image)
            above.append(sky.image - smooth)
            neighbours = [np.roll(sky.image, way, axis) - smooth for way in (1, -1) for axis in (0, 1)]
            beside.append(np.max(neighbours, axis=0))
            sigma.append(sky.sigma)
        excess, sigma = np.median(above, axis=0), np.median(sigma)
        always = excess > WARM * sigma
        if masters:
            known += int((masters[number][0] > 0).sum())
            always &= masters[number][0] > 0
        else:
            # Not those of stars that stay where they are, whose neighbours are high, too.
            always &= np.median(beside, axis=0) < 0.2 * excess + 1.5 * sigma
        hot.append(np.where(always, excess, 0).astype(np.float32).reshape(shape))
    camera.hot = hot
    count = sum(int((plane > 0).sum()) for plane in hot)
    if masters and known and count < 0.1 * known:
        tell(f"{count} of {known} hot pixels are seen in the frames: their darks seem to be subtracted")
    else:
        tell(f"{count} hot pixels in the frames" + (f", of {known} in the darks" if masters else ""))


def _measure_frames(camera, parts, model, tell):
    """Measure noise, stars and levels of training frames, and clean them."""
    camera.train = _cleaned(parts, camera, model)
    camera.levels = [(sky.level, sky.sigma, sky.gain, sky.read_noise) for sky in camera.train]
    narrow = [_stars_are_narrow(sky) for sky in camera.train]
    camera.narrow = 2 * sum(narrow) > len(narrow)
    images = [(sky.image, sky.bad) for sky, _ in parts]
    camera.noise, camera.step = _noise(images), _step(images)
    widths, charges = [], []
    for sky in camera.train:
        flux, peaks = _stars(sky.image, sky.bad)
        charges.append(flux * sky.gain)
        widths.append(peaks)
    charges, widths = np.concatenate(charges), np.concatenate(widths)
    area = sum(int((~sky.bad).sum()) for sky in camera.train)
    camera.density, camera.charges = len(charges) / max(area, 1) * 1e6, charges
    level, sigma = (np.median([numbers[i] for numbers in camera.levels]) for i in (0, 1))
    text = f"frames: sky {level:.0f} ADU, noise {sigma:.2g} ADU"
    tails = camera.noise[np.searchsorted(NOISE_LEVELS, 0.9999)]
    text += f", 1 pixel in 10,000 off by more than {tails:.1f} sigma (Gaussian: 3.9)"
    if len(widths) >= FEWEST_STARS:
        camera.fwhm = width_of(float(np.median(widths)))
        text += f"; {camera.density:.0f} stars per megapixel, FWHM {camera.fwhm:.2f} pixels"
    else:
        text += f"; {len(widths)} stars, too few to measure their width: stars of every width are simulated"
    tell(text)


def _stars_are_narrow(sky):
    # Hot pixels are narrow, and no stars.
    bad = sky.bad if sky.hot is None else sky.bad | sky.hot
    return measure_stars(sky.image, np.zeros(bad.shape, bool), bad)[0]


def _cleaned(parts, camera, model):
    skies = []
    for sky, place in parts:
        height = _hot_of(camera, place)
        skies.append(cleaned(sky, model, None if height is None else height > 0))
    return skies


def _hot_of(camera, place):
    """Return the heights of the hot pixels of rows of an amplifier, ADU, or None."""
    if not camera.hot:
        return None
    number, edges = place
    plane = camera.hot[number]
    return plane[slice(*(int(edge * len(plane)) for edge in edges))]


def _mirrored(sky, height):
    """Return a frame mirrored about its level, bad where it had a source; its hot pixels stay hot."""
    image = sky.image if height is None else sky.image - height
    source = binary_dilation(image - sky.level > SOURCE * sky.sigma, _AROUND)
    image = 2 * np.float32(sky.level) - image
    if height is None:
        return replace(sky, image=image, bad=sky.bad | source)
    return replace(sky, image=image + height, bad=sky.bad | source, hot=height > 0)


def _stars(image, bad):
    """Return flux (ADU) and peak fraction of the bright, round, unblended stars of an image."""
    image, bad = np.where(bad, 0, image).astype(np.float32), np.ascontiguousarray(bad)
    try:
        sigma, sources = extract(image, bad, 5)
    except TooCrowded:
        return np.zeros(0), np.zeros(0)
    row, column = sources["ypeak"], sources["xpeak"]
    bright = sources["flux"] > 30 * sigma * np.sqrt(sources["npix"])
    chosen = bright & inside(image.shape, row, column, RADIUS)
    row, column = row[chosen], column[chosen]
    cut = stamps(image, row, column, RADIUS)
    total = cut.sum(1)
    # sep smooths, so that a hot pixel is a source, too.
    good = cut.max(1) < LARGEST_PEAK * total
    peaks = cut[good].max(1) / total[good]
    return total[good].astype(float), peaks.astype(float)


def width_of(peak_fraction):
    """Return the FWHM of stars of which a fraction of the light is in the brightest pixel.

    Parameters
    ----------
    peak_fraction : float
        Of the light in the 9 x 9 pixels around it.

    Returns
    -------
    float
        Pixels, from 0.8 to 10.

    Examples
    --------
    >>> round(width_of(0.05), 1)
    3.9
    """
    grid = np.geomspace(0.8, 10, 24)
    fractions = [np.median(moffat_psf(w, 4.0, RADIUS).max((2, 3))) for w in grid]
    return float(np.interp(peak_fraction, fractions[::-1], grid[::-1]))


def _noise(images):
    """Return the quantiles of the absolute noise at `NOISE_LEVELS`, in units of sigma.

    It is that below the sky, where there are neither stars nor hits nor hot pixels.
    """
    values = []
    for image, bad in images:
        plane, bad = np.ascontiguousarray(np.where(bad, 0, image), np.float32), np.ascontiguousarray(bad)
        plane -= sep.Background(plane, mask=bad, bw=32, bh=32).back()
        level, sigma = sky_statistics(plane, ~bad)
        below = (level - plane[~bad & (plane < level)]) / sigma
        # Beyond that they are defects.
        values.append(below[below < 30])
    return np.quantile(np.concatenate(values), NOISE_LEVELS).astype(np.float32)


def _step(images):
    """Return 1 if all counts are whole, else 0."""
    return 1.0 if all(np.array_equal(image[~bad], np.rint(image[~bad])) for image, bad in images) else 0.0


def draw_noise(camera, rng, shape):
    """Draw noise as the camera's.

    Parameters
    ----------
    camera : `Camera`
    rng : `numpy.random.Generator`
    shape : tuple of int

    Returns
    -------
    `numpy.ndarray`
        Float32, in units of sigma.
    """
    size = np.interp(rng.random(shape), NOISE_LEVELS, camera.noise)
    return np.float32(size * rng.choice(np.float32([-1, 1]), shape))


def name_of(exposures):
    """Return what the headers call the camera of exposures, "" if they do not."""
    return next((printable(exposure.instrument) for exposure in exposures if exposure.instrument), "")
