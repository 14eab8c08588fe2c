"""Two-dimensional spectra of pipelines: PypeIt, DESI, BOSS.

After PypeIt's data models, desispec (io/image.py, maskbits.py) and the SDSS data model.
"""

import numpy as np
from astropy.io import fits

from archives.frames import BLOCK, SHAPE, bits, blacken, expect, hdu, left, one, primary, raw, slit, write


def pypeit_spec2d(folder, rng):
    """PypeIt spec2d of two detectors; cards of the raw primary header remain."""
    cards = {
        "INSTRUME": "LRISBLUE",
        "TELESCOP": "Keck I",
        "PYP_SPEC": "keck_lris_blue",
        "PYPELINE": "MultiSlit",
        "DATE-OBS": "2012-05-04",
        "UTC": "10:11:12",
        "EXPTIME": 300.0,
        "GAIN": 7.0,
        "TRAPDOOR": "open",
        "DATASEC": "[1:50,1:50]",
    }
    hdus, truths = [primary(cards)], {}
    for detector in ("DET01", "DET02"):
        image, truth = slit(rng, gain=1.0)
        image[BLOCK] = 0
        truths[f"h{len(hdus)}"] = truth
        plane = np.ones(SHAPE, np.float32)
        layers = {"SCIIMG": image, "IVARRAW": plane, "SKYMODEL": plane * 60, "OBJMODEL": plane, "IVARMODEL": plane}
        hdus += [
            hdu(data.astype(np.float32), {"DMODCLS": "Spec2DObj"}, f"{detector}-{name}")
            for name, data in layers.items()
        ]
        hdus.append(hdu(np.linspace(0, 1, plane.size).reshape(SHAPE), {}, f"{detector}-TILTS"))
        hdus.append(hdu(np.full(SHAPE, 5000.0), {}, f"{detector}-WAVEIMG"))
        hdus.append(hdu(bits(SHAPE, np.int16, 1, truth, 2), {"BITVERS": "1.1.0"}, f"{detector}-BPMMASK"))
    return [write(folder, "spec2d_b120504_0042-NGC1_LRISb_20120504T101112.fits", hdus, **truths)]


def pypeit_arc(folder, rng):
    """PypeIt processed arc."""
    image, _ = slit(rng)
    hdus = [
        primary({"PYP_SPEC": "keck_lris_blue", "CALIBTYP": "Arc"}),
        hdu(image.astype(np.float32), {"DMODCLS": "ArcImage"}, "ARC_IMAGE"),
        hdu(np.zeros(SHAPE, np.int16), {"DMODCLS": "ArcImage"}, "ARC_FULLMASK"),
    ]
    return [write(folder, "Arc_A_0_DET01.fits", hdus)]


_DESI = {
    "DOSVER": "trunk",
    "INSTRUME": "DESI",
    "TELESCOP": "KPNO 4.0-m telescope",
    "DATE-OBS": "2021-05-12T04:05:06.7",
    "NIGHT": 20210511,
    "EXPID": 88034,
    "EXPTIME": 900.0,
    "OBSTYPE": "SCIENCE",
    "FLAVOR": "science",
}


def _desi_raw(folder, name, rng, **more):
    cards = dict(_DESI) | more
    quadrants = {
        "A": ("[1:80,1:72]", "[81:88,1:72]"),
        "B": ("[97:176,1:72]", "[89:96,1:72]"),
        "C": ("[1:80,89:160]", "[81:88,89:160]"),
        "D": ("[97:176,89:160]", "[89:96,89:160]"),
    }
    for amp, (data, bias) in quadrants.items():
        cards |= {
            f"DATASEC{amp}": data,
            f"BIASSEC{amp}": bias,
            f"CCDSEC{amp}": data,
            f"GAIN{amp}": 1.1,
            f"RDNOISE{amp}": 3.0,
            f"SATURLEV{amp}": 65000,
        }
    hdus, truths = [primary(_DESI | more)], {}
    for number, camera in enumerate(("B0", "R0", "Z0"), 1):
        image, truth = slit(rng, gain=1.1, bias=1000)
        dark = blacken(image, truth, (np.s_[:, 80:96], np.s_[72:88]), rng, 1000)
        hdus.append(hdu(raw(image), {**cards, "CAMERA": camera.lower()}, camera, kind=fits.CompImageHDU))
        truths |= {f"h{number}": truth, f"o{number}": dark}
    return [write(folder, name, hdus, **truths)]


def desi_raw(folder, rng):
    """DESI raw: compressed image a camera, four amplifiers each, overscan in the middle."""
    return _desi_raw(folder, "desi-00088034.fits.fz", rng)


def desi_arc(folder, rng):
    """DESI arc."""
    return _desi_raw(folder, "desi-00088000.fits.fz", rng, OBSTYPE="ARC", FLAVOR="arc")


def desi_preproc(folder, rng):
    """DESI preprocessed image: primary IMAGE, IVAR, compressed MASK, READNOISE; raw sections remain."""
    image, truth = slit(rng, gain=1.0)
    image[BLOCK] = 0
    cards = {
        **_DESI,
        "CAMERA": "b0",
        "DATASECA": "[1:80,1:72]",
        "CCDSECA": "[1:80,1:72]",
        "GAINA": 1.1,
        "RDNOISE": 3.0,
        "EXTNAME": "IMAGE",
    }
    hdus = [
        primary(cards, image.astype(np.float32)),
        hdu(np.ones(SHAPE, np.float32), {}, "IVAR"),
        hdu(bits(SHAPE, np.int16, 1, truth, 16), {}, "MASK", kind=fits.CompImageHDU),
        hdu(np.full(SHAPE, 3, np.float32), {}, "READNOISE"),
    ]
    return [write(folder, "preproc-b0-00088034.fits.gz", hdus, h0=truth)]


def desi_frame(folder, rng):
    """DESI extracted spectra."""
    flux = rng.normal(0, 1, (50, 200)).astype(np.float32)
    hdus = [
        primary({**_DESI, "CAMERA": "b0", "EXTNAME": "FLUX"}, flux),
        hdu(np.ones_like(flux), {}, "IVAR"),
        hdu(np.zeros(flux.shape, np.uint32), {}, "MASK"),
        hdu(np.arange(200.0), {}, "WAVELENGTH"),
        hdu(np.ones((50, 11, 200), np.float32), {}, "RESOLUTION"),
    ]
    return [write(folder, "frame-b0-00088034.fits", hdus)]


def _sdr(flavor):
    return {
        "TELESCOP": "SDSS 2-5m",
        "FLAVOR": flavor,
        "CAMERAS": "b1",
        "EXPTIME": 900.0,
        "MJD": 55680,
        "DATE-OBS": "2011-04-29T05:06:07",
        "EXPOSURE": 123456,
    }


def boss_sdr(folder, rng):
    """BOSS raw: no section cards."""
    return one(folder, "sdR-b1-00123456.fit", rng, _sdr("science"), True)


def boss_sdr_arc(folder, rng):
    """BOSS raw arc."""
    return one(folder, "sdR-b1-00123450.fit", rng, _sdr("arc"), True)


def boss_spframe(folder, rng):
    """BOSS extracted spectra."""
    flux = rng.normal(0, 1, (50, 200)).astype(np.float32)
    hdus = [
        primary({**_sdr("science"), "VERS2D": "v5_13_2"}, flux),
        hdu(np.ones_like(flux)),
        hdu(np.zeros(flux.shape, np.int32)),
    ]
    return [write(folder, "spFrame-b1-00123456.fits", hdus)]


#: What the reader must find.
EXPECTED = {
    "pypeit_spec2d": expect(
        "pypeit-spec2d",
        (1, 9),
        mask={1: ("frame", 8), 9: ("frame", 16)},
        cosmic_ray=2,
        bad=1,
    ),
    "pypeit_arc": left("pypeit-other", "arc"),
    "desi_raw": expect("desi-raw", (1, 2, 3), gain=1.1, night="20210511"),
    "desi_arc": left("desi-raw", "arc"),
    "desi_preproc": expect("desi-preproc", (0,), mask={0: ("frame", 2)}, cosmic_ray=16, bad=1, night="20210511"),
    "desi_frame": left("desi-spectra", "extracted"),
    "boss_sdr": expect("sdss-sdr", night="20110428"),
    "boss_sdr_arc": left("sdss-sdr", "arc"),
    "boss_spframe": left("sdss-spectra", "extracted"),
}
