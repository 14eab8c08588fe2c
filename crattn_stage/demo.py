"""A simulated DECam-like exposure with known truth, to see the product work."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, label

from crattn_stage.fits.atomic import replacing
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.process import process
from crattn_stage.products.preview import display_image, drawn, write_png
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky

FRAME, MASKED, PICTURE = "demo.fits", "demo-masked.fits", "demo.png"
#: Two detectors of two amplifiers each, with overscan at the outer edges as in DECam.
SHAPE, OVERSCAN = (512, 512), 56
DETECTORS = {"S29": 1, "N31": 2}
AMPLIFIERS = {"A": (4.2, 6.0, 2150.0), "B": (3.7, 7.5, 1890.0)}
SKY_ADU, HITS = 280.0, 36


def simulate_exposure(seed=20130105):
    """Simulate a raw exposure.

    Parameters
    ----------
    seed : int

    Returns
    -------
    hdus : `astropy.io.fits.HDUList`
        Raw, uint16, ADU, with overscan and the sections of amplifiers A and B.
    truth : dict of str to `numpy.ndarray`
        EXTNAME -> bool, True on pixels with cosmic-ray charge.
    """
    rng = np.random.default_rng(seed)
    primary = fits.PrimaryHDU()
    primary.header.update(
        INSTRUME="DECam-like simulation", TELESCOP="simulated", OBSTYPE="object", EXPTIME=90.0, FILTER="r",
        OBJECT="crattn-stage demo", DTCALDAT="2013-01-05", **{"DATE-OBS": "2013-01-06T03:00:00"},
    )  # fmt: skip
    hdus, truth = fits.HDUList([primary]), {}
    height, width = SHAPE
    for name, number in DETECTORS.items():
        # In real life the detectors of one exposure share its seeing.
        scene, _ = simulate_sky(SHAPE, rng, fwhm=4.2, stars=900, galaxies=600)
        kinds = ["track", "worm", "spot"] * (HITS // 3)
        charge, hit = scatter_hits(SHAPE, [simulate_hit(rng, kind) for kind in kinds], rng)
        raw = np.zeros((height, width + 2 * OVERSCAN), np.float32)
        header = fits.Header([("CCDNUM", number, "CCD number"), ("PIXSIZE1", 15.0, "[um]"), ("PIXSIZE2", 15.0, "[um]")])
        halves = {"A": slice(0, width // 2), "B": slice(width // 2, width)}
        for amplifier, (gain, read_noise, bias) in AMPLIFIERS.items():
            half = halves[amplifier]
            columns = slice(half.start + OVERSCAN, half.stop + OVERSCAN)
            over = slice(0, OVERSCAN) if amplifier == "A" else slice(width + OVERSCAN, width + 2 * OVERSCAN)
            raw[:, columns] = bias + expose((scene + charge)[:, half], SKY_ADU * gain, read_noise, gain, rng)
            raw[:, over] = bias + expose(np.zeros((height, OVERSCAN), np.float32), 0, read_noise, gain, rng)
            header[f"DATASEC{amplifier}"] = f"[{columns.start + 1}:{columns.stop},1:{height}]"
            header[f"BIASSEC{amplifier}"] = f"[{over.start + 1}:{over.stop},1:{height}]"
            header[f"GAIN{amplifier}"] = (gain, "[electron/adu]")
            header[f"RDNOISE{amplifier}"] = (read_noise, "[electron]")
        header["SATURATE"] = (60000.0, "[adu]")
        raw = np.clip(np.rint(raw), 0, 65535).astype(np.uint16)
        hdus.append(fits.ImageHDU(raw, header, name))
        truth[name] = np.zeros(raw.shape, bool)
        truth[name][:, OVERSCAN : OVERSCAN + width] = hit
    return hdus, truth


def score(truth, found):
    """Compare a mask with the truth, object by object.

    Parameters
    ----------
    truth, found : `numpy.ndarray` of bool

    Returns
    -------
    completeness : float
        Fraction of true objects with a masked pixel.
    precision : float
        Fraction of masked objects that touch a true one (truth dilated by one pixel).
    """
    eight = np.ones((3, 3))
    true_objects, count = label(truth, eight)
    found_objects, masked = label(found, eight)
    hit = np.unique(true_objects[found & truth])
    right = np.unique(found_objects[found & binary_dilation(truth, eight)])
    return (hit > 0).sum() / max(count, 1), (right > 0).sum() / max(masked, 1)


def run_demo(folder, stage, overwrite=False):
    """Simulate an exposure, mask it, and draw image, truth and mask side by side.

    Parameters
    ----------
    folder : path-like
        For `FRAME`, `MASKED` and `PICTURE`.
    stage : `crattn_stage.stage.AttentionCRStage`
    overwrite : bool

    Returns
    -------
    completeness, precision : float
        As `score`, over all detectors.

    Raises
    ------
    crattn_stage.errors.FrameError
        If a file exists or cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    hdus, truth = simulate_exposure()
    with replacing([folder / FRAME], overwrite) as (stream,):
        hdus.writeto(stream)
    process(folder / FRAME, folder / MASKED, stage, overwrite=overwrite)
    truths, masks, rows = [], [], []
    with ObservationFrame(folder / MASKED) as frame, fits.open(folder / MASKED) as planes:
        for extension, ccd in frame.ccds():
            found = extension.convention.cosmic_rays(planes[extension.mask[1]].data)
            truths.append(truth[extension.name])
            masks.append(found)
            image, window = display_image(ccd, frame.amplifiers(extension))
            rows.append(
                [
                    (f"{extension.name}: image", image, None),
                    ("truth", truths[-1][window], None),
                    ("mask", found[window], None),
                ]
            )
    write_png(folder / PICTURE, drawn(rows))
    return score(np.concatenate(truths), np.concatenate(masks))
