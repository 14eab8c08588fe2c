"""What `crattn-stage adapt` gains: a simulated camera, a model of its own, and frames that `adapt` never saw.

``python -m benchmarks.adapt``.  The camera is one of those on which a general model is worst: a thin CCD of small
pixels, stars of 1.6 pixels FWHM, noise with heavy tails, and many hot pixels.
"""

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, label, maximum, sum_labels

from crattn_stage import load_model
from crattn_stage.simulation.hits import scatter_hits, simulate_hit, turned
from crattn_stage.simulation.skies import simulate_sky
from training.data.hits import read_footprints
from training.evaluation.adaptation import Difference

SHAPE = (768, 1024)
FWHM, GAIN, READ_NOISE, BIAS = 1.6, 1.5, 11.0, 100.0
#: Sky of a frame, electrons; degrees of freedom of the noise; fraction of pixels that are hot.
SKY, TAILS, HOT = 180.0, 5, 0.004
#: Hits of a dark, which is exposed for longer, and of a frame.
HITS_OF_A_DARK, HITS_OF_A_FRAME = 50, 30
#: With more of its charge than this in one pixel a hit looks like a hot pixel.
COMPACT = 2 / 3
_AROUND = np.ones((3, 3))


class Camera:
    """A simulated camera: hot pixels that stay, hits of a thin CCD, noise of Student's t.

    Parameters
    ----------
    seed : int
    hits : list of `numpy.ndarray`, optional
        Stamps of charge, electrons; simulated ones of 9-micrometre pixels by default.
    """

    def __init__(self, seed, hits=None):
        rng = np.random.default_rng([seed, 1])
        self.hits = hits or [
            simulate_hit(rng, thickness=float(rng.choice([10, 20, 40])), pixel=9.0, diffusion=4.0) for _ in range(2000)
        ]
        self.hits = [stamp for stamp in self.hits if (stamp > 0).sum() > 1]
        self.hot = np.zeros(SHAPE, np.float32)
        places = rng.random(SHAPE) < HOT
        # In units of the noise.
        self.hot[places] = 10 ** rng.uniform(0.6, 2, places.sum())

    def expose(self, rng, hits, light=None):
        """Expose a dark, or a frame of the sky; return the image in ADU and the truth.

        Parameters
        ----------
        rng : `numpy.random.Generator`
        hits : list of `numpy.ndarray`
            What may hit it, each at most once.
        light : `numpy.ndarray`, optional
            Electrons of stars and galaxies; the sky's are added.  A dark if None.

        Returns
        -------
        image : `numpy.ndarray`
            Float32, ADU.
        truth : `numpy.ndarray` of bool
            Pixels of hits, not dilated.
        charge : `numpy.ndarray`
            Theirs, electrons.
        """
        count = HITS_OF_A_DARK if light is None else HITS_OF_A_FRAME
        charge, truth = scatter_hits(
            SHAPE, [turned(hits[i], rng) for i in rng.choice(len(hits), count, replace=False)], rng
        )
        mean = np.full(SHAPE, 20.0) if light is None else light + SKY
        noise = np.sqrt(mean + READ_NOISE**2) * rng.standard_t(TAILS, SHAPE)
        dark_noise = np.sqrt(SKY + READ_NOISE**2)
        return np.float32(BIAS + (mean + noise + charge + self.hot * dark_noise) / GAIN), truth, charge

    def frame(self, rng, hits):
        """Expose a frame of the sky: image, truth, charge, and the places of stars of a S/N above 20 in their peak."""
        light, stars = simulate_sky(SHAPE, rng, fwhm=FWHM, stars=1500, galaxies=150, faintest=400)
        image, truth, charge = self.expose(rng, hits, light)
        cores = np.rint(stars[:, :2]).astype(int)
        inside = ((cores >= 0) & (cores < SHAPE)).all(1)
        cores = cores[inside]
        return image, truth, charge, cores[light[tuple(cores.T)] > 20 * np.sqrt(SKY + READ_NOISE**2)]


def write(folder, seed=0, darks=5, frames=6, hits=None):
    """Write darks and frames of the camera, as `adapt` is given them, and return their paths and the camera.

    Parameters
    ----------
    folder : path-like
    seed, darks, frames : int
    hits : list of `numpy.ndarray`, optional
        Real ones in place of simulated ones.

    Returns
    -------
    darks, frames : list of `pathlib.Path`
    camera : `Camera`
    """
    camera, folder = Camera(seed, hits), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cards = {"EGAIN": GAIN, "RDNOISE": READ_NOISE, "INSTRUME": "Thincam"}
    # Hits of the even numbers here; those of the odd ones are kept for the measurement.
    seen = camera.hits[::2]
    paths = {"Dark Frame": [], "Light Frame": []}
    for kind, count, exposure in (("Dark Frame", darks, 1200.0), ("Light Frame", frames, 600.0)):
        for number in range(count):
            rng = np.random.default_rng([seed, 2, kind == "Dark Frame", number])
            image = camera.expose(rng, seen)[0] if kind == "Dark Frame" else camera.frame(rng, seen)[0]
            path = folder / f"{kind.split()[0].lower()}{number}.fits"
            hdu = fits.PrimaryHDU(np.clip(np.rint(image), 0, 65535).astype(np.uint16))
            hdu.header.update(cards | {"IMAGETYP": kind, "EXPTIME": exposure})
            hdu.writeto(path, overwrite=True)
            paths[kind].append(path)
    return paths["Dark Frame"], paths["Light Frame"], camera


def measured(model, camera, seed=0, frames=8, threshold=None, bad=None):
    """Measure a model on frames of the camera that nothing else has seen.

    Parameters
    ----------
    model : str
        As for `crattn_stage.load_model`.
    camera : `Camera`
    seed, frames : int
    threshold : float, optional
    bad : `numpy.ndarray` of bool, optional
        Pixels that are known to be bad.

    Returns
    -------
    figures : dict of str to float
        Fraction of the hits of which a pixel is masked, of all, of those that look like hot pixels, and of the others;
        of their pixels that are; objects per megapixel that are no hit, of all and of those on hot pixels; and the
        fraction of stars of which a pixel of the core is masked.
    each : `numpy.ndarray` of bool
        Whether each hit is found, in an order that is the same for every model.
    """
    ready, totals, each, like_hot = load_model(model), np.zeros(8), [], []
    for number in range(frames):
        rng = np.random.default_rng([seed, 3, number])
        image, truth, charge, stars = camera.frame(rng, camera.hits[1::2])
        mask = ready.detect(np.clip(np.rint(image), 0, 65535), bad, threshold)
        numbers, count = label(truth, _AROUND)
        flags = np.bincount(numbers[mask & truth], minlength=count + 1)[1:] > 0
        each.append(flags)
        inside = np.arange(1, count + 1)
        like_hot.append(maximum(charge, numbers, inside) > COMPACT * sum_labels(charge, numbers, inside))
        objects, many = label(mask, _AROUND)
        true = np.setdiff1d(np.unique(objects[binary_dilation(truth, _AROUND)]), [0])
        false = np.setdiff1d(np.arange(1, many + 1), true)
        hot = np.intersect1d(false, np.unique(objects[camera.hot > 0]))
        core = binary_dilation(mask, _AROUND)[tuple(stars.T)]
        totals += [
            count, flags.sum(), truth.sum(), (mask & truth).sum(),
            len(false), len(hot), len(stars), core.sum(),
        ]  # fmt: skip
    area = frames * SHAPE[0] * SHAPE[1] / 1e6
    hits, found, pixels, masked, false, hot, stars, cores = map(float, totals)
    each, like_hot = np.concatenate(each), np.concatenate(like_hot)
    figures = {
        "hits": int(hits),
        "threshold": round(float(threshold or ready.card.threshold), 4),
        "completeness": round(found / hits, 4),
        "hits_like_hot_pixels": int(like_hot.sum()),
        "completeness_of_hits_like_hot_pixels": round(float(each[like_hot].mean()), 4),
        "completeness_of_the_others": round(float(each[~like_hot].mean()), 4),
        "completeness_of_pixels": round(masked / pixels, 4),
        "false_objects_per_megapixel": round(false / area, 1),
        "of_them_on_hot_pixels": round(hot / area, 1),
        "stars_masked": round(cores / max(stars, 1), 4),
    }
    return figures, each


@click.command()
@click.option("--output", default="adapt-output", show_default=True, type=click.Path(file_okay=False))
@click.option("--model", default="fast", show_default=True, help="What is adapted.")
@click.option("--minutes", default=30.0, show_default=True, help="Time limit of `adapt`.")
@click.option("--hits", type=click.Path(exists=True, dir_okay=False), help="Catalogue of real hits of a thin CCD.")
@click.option("--seed", default=0, show_default=True)
@click.option("--frames", default=8, show_default=True, help="Frames of the measurement.")
def main(output, model, minutes, hits, seed, frames):
    """Simulate a camera, adapt a model to it, and measure both on other frames of it."""
    folder = Path(output)
    stamps = hits and [stamp for split in ("train", "validation", "test") for stamp in read_footprints(hits, split)]
    darks, lights, camera = write(folder / "frames", seed, hits=stamps)
    command = ["adapt", "thincam", "--output", folder, "--from", model, "--minutes", minutes]
    command += ["--darks", *darks, "--frames", *lights]
    done = subprocess.run([sys.executable, "-m", "crattn_stage.cli", *map(str, command)], check=False)
    report, found = {"adapt_exit": done.returncode, "minutes": minutes}, {}
    # One that was rejected is measured, too.
    made = [folder / "thincam" / f"thincam{end}.safetensors" for end in ("", "-rejected")]
    listed = folder / "thincam" / "thincam-bad.fits"
    after = [("after", str(path)) for path in made if path.exists()][:1]
    for when, one in [("before", model), *after]:
        report[when], found[when] = measured(one, camera, seed, frames)
        if listed.exists():
            report[f"{when}, without bad pixels"], _ = measured(one, camera, seed, frames, bad=fits.getdata(listed) > 0)
    if "after" in found:
        difference = Difference.of(found["before"], found["after"], np.arange(len(found["before"])))
        report["completeness"] = f"{difference}"
    text = json.dumps(report, indent=2)
    (folder / "adapt.json").write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
