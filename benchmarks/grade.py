"""Whether exposures of one field measure each other's masks correctly: on simulated fields whose hits are known."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, label

from crattn_stage.grade import grade, total
from crattn_stage.products.settings import MaskSettings
from crattn_stage.quality.injection import CATALOGUE
from crattn_stage.simulation.hits import turned
from crattn_stage.simulation.skies import expose, simulate_sky
from crattn_stage.stage import AttentionCRStage, RuntimeContext

GAIN, READ_NOISE = 2.0, 6.0
#: Pixels of sky around the exposures.
MARGIN = 40
#: By how many rows and columns the exposures point elsewhere.
DITHERS = ((0, 0), (7, -11), (-13, 5))
#: Faint hits have a peak S/N in the first range; two of three hits are scaled to one in the second.
FAINT, SCALED = (5.0, 10.0), (3.0, 16.0)


@dataclass
class Field:
    """What is simulated.

    Attributes
    ----------
    fwhm : float
        Of the stars of the first exposure, pixels; those of the second are 15% wider.
    sky : float
        Electrons per pixel of the first exposure; the second has 30% more.
    stars : float
        Per million pixels.
    density : float
        Hits per million pixels.
    flipped : bool
        The second exposure lies mirrored, the third turned by a right angle.
    offset : float
        ADU by which half of the detector is offset, unknown to the header.
    seconds : tuple of float
        Exposure times, which headers do not give.
    trail : bool
        A satellite crosses the first exposure, and an object moves.
    exposures : int
    """

    fwhm: float = 3.5
    sky: float = 300.0
    stars: float = 600.0
    density: float = 250.0
    flipped: bool = False
    offset: float = 0.0
    seconds: tuple = (1.0, 1.0, 1.0)
    trail: bool = False
    exposures: int = 3


FIELDS = {
    "narrow": Field(fwhm=2.0),
    "2.5 pixels": Field(fwhm=2.5, sky=100.0, seconds=(1.0, 0.6, 1.5)),
    "amplifiers": Field(sky=800.0, offset=40.0),
    "flipped": Field(fwhm=3.0, flipped=True),
    "trail": Field(fwhm=3.0, trail=True),
    "wide": Field(fwhm=5.0, sky=1500.0, stars=1500.0),
    "pair": Field(exposures=2),
}


def _hits():
    with np.load(CATALOGUE) as kept:
        ends = np.cumsum(kept["shapes"].prod(1))
        return [p.reshape(s) for p, s in zip(np.split(kept["charge"], ends[:-1]), kept["shapes"], strict=True)]


def exposure(field, number, side, seed):
    """Simulate one exposure of a field.

    Parameters
    ----------
    field : `Field`
    number : int
        Of the exposure.
    side : int
        Pixels.
    seed : int

    Returns
    -------
    image : `numpy.ndarray`
        Float32, ADU.
    hits : list of (float, `numpy.ndarray`)
        Peak S/N and flat indices of the pixels above 3 times the noise.
    strong : `numpy.ndarray` of bool
        Pixels of hits above 5 times the noise.
    other : `numpy.ndarray` of bool
        Pixels of the trail, the moving object and the hot pixels.
    charge : `numpy.ndarray`
        Of the hits, electrons.
    """
    rng = np.random.default_rng((seed, number))
    dither = DITHERS[number % 3]
    shift = rng.uniform(-0.5, 0.5, 2)
    fwhm = field.fwhm * (1.0, 1.15, 1.07)[number % 3]
    scene, _ = simulate_sky(
        (side + 2 * MARGIN,) * 2, np.random.default_rng(seed), fwhm, field.stars, shift=shift, oversampling=11
    )
    where = tuple(slice(MARGIN + d, MARGIN + d + side) for d in dither)
    scene = scene[where] * field.seconds[number % 3]
    if field.flipped and number:
        scene = scene[:, ::-1] if number % 2 else np.rot90(scene)
    sky = field.sky * (1.0, 1.3, 0.85)[number % 3] * field.seconds[number % 3]
    noise = np.sqrt(sky + scene + READ_NOISE**2)
    other = np.zeros(scene.shape, bool)
    extra = np.zeros(scene.shape)
    y, x = np.mgrid[:side, :side]
    sigma, alpha = fwhm / 2.355, fwhm / 2 / np.sqrt(2 ** (1 / 3) - 1)
    if field.trail:
        # The moving object, twice as bright as is needed to be found.
        place = side * 0.3 + 9.3 * number, side * 0.6 + 4.1 * number
        profile = 40 * noise.min() * (1 + ((y - place[0]) ** 2 + (x - place[1]) ** 2) / alpha**2) ** -3.0
        extra += profile
        other |= profile > noise
        if number == 0:
            profile = 6 * noise.min() * np.exp(-((y - 0.4 * x - side * 0.2) ** 2) / 1.16 / 2 / sigma**2)
            extra += profile
            other |= profile > 0.3 * noise
    hot = np.random.default_rng(seed + 1)
    rows, columns = hot.integers(0, side, (2, round(20 * side**2 / 1e6)))
    extra[rows, columns] += hot.uniform(8, 60, len(rows)) * noise.min()
    other[rows, columns] = True
    charge, hits = np.zeros(scene.shape, np.float32), []
    catalogue = _hits()
    for _ in range(rng.poisson(field.density * side**2 / 1e6)):
        stamp = turned(catalogue[rng.integers(len(catalogue))], rng).astype(np.float32)
        row, column = (int(rng.integers(0, side - n)) for n in stamp.shape)
        piece = slice(row, row + stamp.shape[0]), slice(column, column + stamp.shape[1])
        if rng.random() < 0.67:
            stamp *= rng.uniform(*SCALED) / (stamp / noise[piece]).max()
        if (charge[piece] > 0).any():
            continue
        charge[piece] += stamp
        alone = np.zeros(scene.shape, np.float32)
        alone[piece] = stamp
        hits.append((float((alone / noise).max()), np.flatnonzero(alone > 3 * noise)))
    image = expose(scene + charge + extra, sky, READ_NOISE, GAIN, rng)
    image[:, side // 2 :] += field.offset
    return image, hits, charge > 5 * noise, other, charge


class Kept:
    """A stage that keeps the masks it makes."""

    def __init__(self, stage):
        self.stage, self.masks = stage, {}

    def do_stage(self, frame):
        """Mask a frame."""
        frame = self.stage.do_stage(frame)
        self.masks[frame.path.name] = frame.detections[0].pixels
        return frame


def truth_of(mask, hits, strong, other, charge):
    """Return the true counts of a mask: found and all of each kind, and false objects."""
    counts = {kind: [0, 0] for kind in ("faint", "bright")}
    for peak, pixels in hits:
        if peak < FAINT[0]:
            continue
        kind = counts["faint" if peak < FAINT[1] else "bright"]
        kind[0] += bool(mask.ravel()[pixels].any())
        kind[1] += 1
    counts["pixels"] = [int((mask & strong).sum()), int(strong.sum())]
    numbers, found = label(mask, np.ones((3, 3)))
    known = binary_dilation((charge > 0) | other, np.ones((3, 3)))
    false = found - len(np.unique(numbers[known & (numbers > 0)]))
    return counts, false


def measured(field, side, seed, stage, folder, labels=None):
    """Simulate a field, let its exposures grade each other, and compare with the truth.

    Returns
    -------
    dict
        For each kind (found, all) as graded and in truth, false objects and megapixels.
    """
    paths, known = [], []
    for number in range(field.exposures):
        image, *rest = exposure(field, number, side, seed)
        path = Path(folder) / f"{seed}-{number}.fits"
        header = fits.Header({"GAIN": GAIN, "RDNOISE": READ_NOISE, "FILTER": "r"})
        fits.writeto(path, image, header, overwrite=True)
        paths.append(path)
        known.append(rest)
    kept = Kept(stage)
    results = grade(paths, kept, labels)
    own = total(results)
    result = {kind: {"graded": [getattr(own, f"{kind}_found"), getattr(own, kind)], "true": [0, 0]}
              for kind in ("faint", "bright", "pixels")}  # fmt: skip
    false = 0
    for path, rest in zip(paths, known, strict=True):
        mask = np.zeros((side, side), bool)
        mask.ravel()[kept.masks[path.name]] = True
        counts, more = truth_of(mask, *rest)
        false += more
        for kind, pair in counts.items():
            result[kind]["true"] = [a + b for a, b in zip(result[kind]["true"], pair, strict=True)]
    megapixels = field.exposures * side**2 / 1e6
    result["false"] = {"graded": [own.false, own.judged / 1e6], "true": [false, megapixels]}
    result["failures"] = [r.failure for r in results if r.failure]
    result["notes"] = [note for r in results for note in r.notes]
    result["objects"] = {kind: getattr(own, kind) for kind in ("objects", "hit", "false", "fixed", "unjudged")}
    return result


def differences(result):
    """Return by how many points the completenesses differ from the truth, and by how many per Mpx the false objects."""
    found = {}
    for kind in ("faint", "bright", "pixels", "false"):
        (a, b), (c, d) = result[kind]["graded"], result[kind]["true"]
        factor = 1 if kind == "false" else 100
        found[kind] = factor * (a / max(b, 1e-9) - c / max(d, 1e-9))
    return found


@click.command()
@click.option("--model", default="fast", show_default=True)
@click.option("--threshold", type=float, help="Probability (default: the model card's).")
@click.option("--side", default=1000, show_default=True, help="Of an exposure, pixels.")
@click.option("--repeat", default=1, show_default=True, help="Fields of each kind.")
@click.option("--seed", default=0, show_default=True, help="Of the fields; others make other fields.")
@click.option("--only", multiple=True, type=click.Choice(list(FIELDS)), help="All by default.")
def main(model, threshold, side, repeat, seed, only):
    """Print completeness and false objects as graded and as they are, and by how much they differ.

    Differences are in percent, those of false objects per million pixels.
    """
    stage = AttentionCRStage(RuntimeContext(model, threshold, "openvino", masks=MaskSettings(injections=0)))
    report, kinds = {}, ("faint", "bright", "pixels", "false")
    with tempfile.TemporaryDirectory() as folder:
        for name in only or FIELDS:
            for number in range(repeat):
                own = seed + number + 100 * (1 + list(FIELDS).index(name))
                one = measured(FIELDS[name], side, own, stage, folder)
                for title in (name, "all"):
                    sums = report.setdefault(title, {kind: {"graded": [0, 0], "true": [0, 0]} for kind in kinds})
                    for kind in kinds:
                        for source, pair in sums[kind].items():
                            sums[kind][source] = [a + b for a, b in zip(pair, one[kind][source], strict=True)]
                report[name].update(failures=one["failures"], notes=one["notes"], objects=one["objects"])
        for sums in report.values():
            sums["difference"] = {kind: round(value, 2) for kind, value in differences(sums).items()}
    click.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
