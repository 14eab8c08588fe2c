"""What is masked: a CCD, and a packed exposure of many."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from crattn_stage.fits.header import edited
from crattn_stage.simulation.hits import scatter_hits, simulate_hit
from crattn_stage.simulation.skies import expose, simulate_sky
from training.evaluation.scene_sets import DENSITY

SHAPE = (4096, 2048)
SKY, GAIN, READ_NOISE = 1100.0, 4.0, 7.0
#: Detectors of an exposure that are simulated; the others are these again.
DISTINCT = 3


def ccd(shape=SHAPE, seed=0):
    """Simulate a CCD; return image (float32 ADU) and bad pixels, with a few bad columns.

    A field of 512 x 512 pixels is repeated, with noise and hits of its own everywhere.
    """
    rng = np.random.default_rng(seed)
    field = simulate_sky((512, 512), rng)[0]
    scene = np.tile(field, [-(-n // 512) for n in shape])[: shape[0], : shape[1]]
    stamps = [simulate_hit(rng) for _ in range(200)]
    count = round(DENSITY * scene.size / 1e6)
    charge, _ = scatter_hits(shape, [stamps[i] for i in rng.integers(0, len(stamps), count)], rng)
    bad = np.zeros(shape, bool)
    bad[:, rng.integers(0, shape[1], 8)] = True
    return expose(scene + charge, SKY, READ_NOISE, GAIN, rng), bad


def frame(shape=SHAPE, seed=0):
    """Simulate a CCD; return image, bad pixels, gain (electrons per ADU) and read noise (electrons)."""
    return *ccd(shape, seed), GAIN, READ_NOISE


def packed_exposure(path, ccds, distinct=DISTINCT):
    """Write an fpacked DECam-like exposure with DQ planes; some detectors serve again under other names.

    Parameters
    ----------
    path : path-like
    ccds : int
    distinct : int
        Detectors that are simulated.
    """
    blocks, scratch = [], Path(path).with_suffix(".one")
    primary = fits.PrimaryHDU()
    primary.header.update(INSTRUME="DECam", OBSTYPE="object", EXPTIME=90.0, PLVER="V5.5")
    primary.header["DATE-OBS"] = "2013-01-05T06:52:55"
    for seed in range(min(distinct, ccds)):
        image, bad = ccd(seed=seed)
        planes = [
            fits.CompImageHDU(image, name="N", compression_type="RICE_1", quantize_level=16),
            fits.CompImageHDU(bad.astype(np.int16), name="DQ", compression_type="RICE_1"),
        ]
        fits.HDUList([primary, *planes]).writeto(scratch, overwrite=True, checksum=True)
        content = scratch.read_bytes()
        with fits.open(scratch, disable_image_compression=True) as hdus:
            places = [hdu.fileinfo() for hdu in hdus]
        parts = [(p["hdrLoc"], p["datLoc"], p["datLoc"] + p["datSpan"]) for p in places]
        head, *rest = [(content[a:b], content[b:c]) for a, b, c in parts]
        blocks.append(rest)
    scratch.unlink()
    with open(path, "wb") as stream:
        stream.write(b"".join(head))
        for number in range(ccds):
            (image, data), (quality, flags) = blocks[number % len(blocks)]
            stream.write(edited(image, {"EXTNAME": (f"N{number + 1}", "")}) + data)
            stream.write(edited(quality, {"EXTNAME": ("DQ", ""), "EXTVER": (number + 1, "")}) + flags)
