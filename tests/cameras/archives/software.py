"""astropy's CCDData, reduction software and amateur capture software.

After astropy's writer, SBFITSEXT 1.0, MaxIm DL's help, INDI's addFITSKeywords and headers of frames.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty

from archives.frames import SHAPE, expect, left, raw, scene, write


def _simple(folder, name, rng, cards, dtype=np.uint16, **more):
    """Write an image in the primary HDU."""
    image, truth = scene(rng, **{"bias": 500.0, **more})
    data = raw(image) if dtype == np.uint16 else image.astype(dtype)
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(cards)
    return [write(folder, name, [hdu], h0=truth)]


def _ccddata(folder, name, rng, uncertainty):
    image, truth = scene(rng)
    mask = np.zeros(SHAPE, bool)
    mask[:, 40] = True
    image[:, 40] = 0
    sigma = np.sqrt(np.abs(image) / 1.5 + 30)
    noise = StdDevUncertainty(sigma) if uncertainty == "std" else InverseVariance(1 / sigma**2)
    meta = {
        "INSTRUME": "campus camera",
        "OBJECT": "M 67",
        "EXPTIME": 60.0,
        "GAIN": 1.5,
        "RDNOISE": 8.0,
        "DATE-OBS": "2021-03-01T02:00:00",
        "LONGITUD": -110.0,
    }
    path = Path(folder) / name
    CCDData(image.astype(np.float32), mask=mask, uncertainty=noise, unit="adu", meta=meta).write(path, overwrite=True)
    np.savez_compressed(f"{path}.truth.npz", h0=truth)
    return [path]


def ccddata_std(folder, rng):
    """CCDData.write: PRIMARY, MASK (uint8 of bool), UNCERT (UTYPE StdDevUncertainty)."""
    return _ccddata(folder, "m67_reduced.fits", rng, "std")


def ccddata_ivar(folder, rng):
    """The same with inverse variance."""
    return _ccddata(folder, "m67_reduced_ivar_inside.fits", rng, "ivar")


def _masked(folder, name, rng, plane, extname="MASK"):
    image, truth = scene(rng)
    image[plane != 0] = 0
    hdu = fits.PrimaryHDU(image.astype(np.float32))
    hdu.header.update({"INSTRUME": "cam", "EXPTIME": 60.0, "OBJECT": "NGC 1"})
    return [write(folder, name, [hdu, fits.ImageHDU(plane, name=extname)], h0=truth)]


def mask_255(folder, rng):
    """PRIMARY and a MASK of 0 and 255."""
    plane = np.zeros(SHAPE, np.uint8)
    plane[:, 40] = 255
    return _masked(folder, "with_mask_255.fits", rng, plane)


def mask_01_bpm(folder, rng):
    """PRIMARY and a BPM of 0 and 1."""
    plane = np.zeros(SHAPE, np.uint8)
    plane[:, 40] = 1
    return _masked(folder, "with_bpm.fits", rng, plane, "BPM")


def hduclas(folder, rng):
    """Planes that only HDUCLAS2 and HDUCLAS3 tell (ESO)."""
    image, truth = scene(rng)
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(image.astype(np.float32), name="CHIP1.A"),
        fits.ImageHDU(np.sqrt(np.abs(image)).astype(np.float32), name="CHIP1.B"),
        fits.ImageHDU(np.zeros(SHAPE, np.int32), name="CHIP1.C"),
    ]
    hdus[0].header.update({"INSTRUME": "SPECTRO", "EXPTIME": 600.0, "OBJECT": "HD 1"})
    for hdu, (second, third) in zip(
        hdus[1:], (("DATA", None), ("ERROR", "RMSE"), ("QUALITY", "FLAG32BIT")), strict=True
    ):
        hdu.header.update({"HDUCLASS": "ESO", "HDUDOC": "DICD", "HDUCLAS1": "IMAGE", "HDUCLAS2": second})
        if third:
            hdu.header["HDUCLAS3"] = third
    return [write(folder, "hduclas.fits", hdus, h1=truth)]


def weight_alone(folder, rng):
    """A weight map by its name."""
    hdu = fits.PrimaryHDU(np.ones(SHAPE, np.float32) + rng.normal(0, 0.01, SHAPE).astype(np.float32))
    return [write(folder, "ngc1_r.weight.fits", [hdu])]


def master_bias_by_name(folder, rng):
    """A master bias without any card on it."""
    return [write(folder, "master_bias_2x2.fits", [fits.PrimaryHDU(rng.normal(500, 2, SHAPE).astype(np.float32))])]


def dark_nebula(folder, rng):
    """An image of the sky whose name begins with "dark"."""
    return _simple(folder, "dark_nebula_B33_001.fits", rng, {"INSTRUME": "cam", "EXPTIME": 60.0, "OBJECT": "B33"})


def iraf_trimmed(folder, rng):
    """Reduced by ccdproc of IRAF: trimmed, with the sections of the raw frame."""
    cards = {
        "INSTRUME": "CCD",
        "OBSTYPE": "object",
        "EXPTIME": 120.0,
        "GAIN": 1.5,
        "RDNOISE": 8.0,
        "DATASEC": "[33:208,1:160]",
        "TRIMSEC": "[33:208,1:160]",
        "BIASSEC": "[220:240,1:160]",
        "TRIM": "Jan 12 10:11 Trim data section is [33:208,1:160]",
        "ZEROCOR": "Jan 12 10:11 Zero level",
        "CCDPROC": "Jan 12 10:11 CCD processing done",
        "DATE-OBS": "1998-01-12",
        "UT": "03:04:05",
    }
    return _simple(folder, "obj0042.fits", rng, cards, np.float32, bias=0.0)


def theli_weight(folder, rng):
    """THELI image with its weight beside it."""
    cards = {"INSTRUME": "WFI", "EXPTIME": 300.0, "GAIN": 2.0, "OBJECT": "A1689"}
    frame = _simple(folder, "A1689_1OFCB.fits", rng, cards, np.float32, bias=0.0)
    weight = np.ones(SHAPE, np.float32)
    weight[:, 40] = 0
    return [*frame, write(folder, "A1689_1OFCB.weight.fits", [fits.PrimaryHDU(weight)])]


def swarp_coadd(folder, rng):
    """SWarp coadd with its weight."""
    cards = {
        "SOFTNAME": "SWarp",
        "SOFTVERS": "2.38.0",
        "COMBINET": "WEIGHTED",
        "EXPTIME": 900.0,
        "GAIN": 6.0,
        "SATURATE": 50000.0,
        "OBJECT": "NGC 1",
    }
    frame = _simple(folder, "coadd.fits", rng, cards, np.float32, bias=0.0)
    weight = np.ones(SHAPE, np.float32)
    weight[:8] = 0
    return [*frame, write(folder, "coadd.weight.fits", [fits.PrimaryHDU(weight)])]


def _maxim(**more):
    return {
        "DATE-OBS": "2018-07-04T14:03:03",
        "EXPTIME": 300.0,
        "EXPOSURE": 300.0,
        "SET-TEMP": -35.0,
        "CCD-TEMP": -34.99,
        "XPIXSZ": 7.4,
        "YPIXSZ": 7.4,
        "XBINNING": 1,
        "YBINNING": 1,
        "READOUTM": "Monochrome",
        "FILTER": "SII",
        "IMAGETYP": "Light Frame",
        "SITELAT": "-31 16 24",
        "SITELONG": "149 03 52",
        "EGAIN": 1.3,
        "SWCREATE": "MaxIm DL Version 5.24 140126 0KJR5",
        "SBSTDVER": "SBFITSEXT Version 1.0",
        "OBJECT": "m17",
        "INSTRUME": "Apogee USB/Net",
        "CBLACK": 59,
        "CWHITE": 981,
        "PEDESTAL": -100,
        **more,
    }


def maxim_light(folder, rng):
    """MaxIm DL, monochrome."""
    return _simple(folder, "m17-001_SII.fts", rng, _maxim())


def maxim_flat(folder, rng):
    """MaxIm DL, a flat."""
    return _simple(folder, "AutoFlat-001R.fit", rng, _maxim(IMAGETYP="Flat Field", EXPTIME=4.0))


def maxim_tricolor(folder, rng):
    """MaxIm DL, colour: three planes."""
    hdu = fits.PrimaryHDU(raw(np.array([scene(rng, stars=5)[0] for _ in range(3)])))
    hdu.header.update(_maxim(IMAGETYP="Tricolor Image"))
    return [write(folder, "m17_rgb.fit", [hdu])]


def ccdsoft_light(folder, rng):
    """CCDSoft; XPIXSZ without binning."""
    cards = {
        "DATE-OBS": "2017-10-18T04:24:00.053",
        "SWCREATE": "CCDSoft Version 5.00.218",
        "IMAGETYP": "Light Frame",
        "XBINNING": 1,
        "YBINNING": 2,
        "INSTRUME": "SBIG ST-402 CCD Camera",
        "EGAIN": 1.49,
        "XPIXSZ": 9.0,
        "YPIXSZ": 9.0,
        "EXPTIME": 240.0,
        "CBLACK": 1090,
        "CWHITE": 1230,
    }
    return _simple(folder, "star.00000001.FIT", rng, cards)


def _thesky(**more):
    return {
        "EXPTIME": 120.0,
        "SWCREATE": "TheSkyX Version 10.5.0 Build 12978",
        "COLORCCD": 0,
        "PICTTYPE": 1,
        "IMAGETYP": "Light Frame",
        "XBINNING": 2,
        "YBINNING": 2,
        "SITELAT": "+38 26 18.00",
        "SITELONG": "+122 30 31.00",
        "OBSGEO-B": 38.4383333333,
        "OBSGEO-L": -122.5086111111,
        "INSTRUME": "ASCOM Camera",
        "XPIXSZ": 12.0,
        "YPIXSZ": 12.0,
        "DATE-OBS": "2023-08-15T02:40:00.466",
        **more,
    }


def thesky_light(folder, rng):
    """TheSkyX: SITELONG counts westwards."""
    return _simple(folder, "00000012.A.fit", rng, _thesky())


def thesky_dark(folder, rng):
    """TheSkyX, a dark that only PICTTYPE tells."""
    cards = _thesky(PICTTYPE=3)
    del cards["IMAGETYP"]
    return _simple(folder, "00000013.A.fit", rng, cards)


def thesky_colour(folder, rng):
    """TheSkyX, a Bayer sensor that only COLORCCD tells."""
    return _simple(folder, "00000014.A.fit", rng, _thesky(COLORCCD=1))


def _nina(**more):
    return {
        "IMAGETYP": "LIGHT",
        "EXPOSURE": 30.0,
        "EXPTIME": 30.0,
        "DATE-LOC": "2021-03-02T21:19:00.455",
        "DATE-OBS": "2021-03-02T20:19:00.455",
        "XBINNING": 1,
        "YBINNING": 1,
        "GAIN": 120,
        "OFFSET": 30,
        "EGAIN": 1.00224268436432,
        "XPIXSZ": 4.63,
        "YPIXSZ": 4.63,
        "INSTRUME": "ZWO ASI294MM Pro",
        "SITELONG": 3.7,
        "ROWORDER": "TOP-DOWN",
        "SWCREATE": "N.I.N.A. 1.10.2.90",
        **more,
    }


def nina_mono(folder, rng):
    """N.I.N.A., monochrome."""
    return _simple(folder, "2021-03-02_M45_LIGHT_0001.fits", rng, _nina())


def nina_bayer(folder, rng):
    """N.I.N.A., a colour mosaic."""
    cards = _nina(INSTRUME="ZWO ASI294MC Pro", BAYERPAT="RGGB", XBAYROFF=0, YBAYROFF=0)
    return _simple(folder, "2021-03-02_M45_LIGHT_0002.fits", rng, cards)


def nina_bayer_none(folder, rng):
    """N.I.N.A., the pattern card of a monochrome camera."""
    return _simple(folder, "2021-03-02_M45_LIGHT_0003.fits", rng, _nina(BAYERPAT="None"))


def nina_darkflat(folder, rng):
    """N.I.N.A., dark of a flat."""
    return _simple(folder, "2021-03-02_DARKFLAT_0001.fits", rng, _nina(IMAGETYP="DARKFLAT"), stars=0)


def sharpcap_mono(folder, rng):
    """SharpCap, monochrome: GAIN is a setting."""
    cards = {
        "SWCREATE": "SharpCap",
        "CCD-TEMP": 12.7,
        "XBINNING": 1,
        "YBINNING": 1,
        "XPIXSZ": 2.9,
        "YPIXSZ": 2.9,
        "EXPTIME": 20.0,
        "GAIN": 250,
        "DATE-OBS": "2019-04-29T20:25:29.8219583",
        "INSTRUME": "ZWO ASI290MM Mini",
    }
    return _simple(folder, "Capture_00001.fits", rng, cards)


def sharpcap_bayer(folder, rng):
    """SharpCap, a colour mosaic."""
    cards = {
        "SWCREATE": "SharpCap v4.0.9478.0, 64 bit",
        "COLORTYP": "GBRG",
        "BAYERPAT": "GBRG",
        "XBAYROFF": 0,
        "YBAYROFF": 0,
        "EXPTIME": 10.0,
        "GAIN": 56,
        "INSTRUME": "QHY268C",
    }
    return _simple(folder, "Capture_00002.fits", rng, cards)


def _ekos(**more):
    return {
        "ROWORDER": "TOP-DOWN",
        "INSTRUME": "QHY CCD QHY268M-abc",
        "EXPTIME": 300.0,
        "CCD-TEMP": -10.0,
        "PIXSIZE1": 3.76,
        "PIXSIZE2": 3.76,
        "XBINNING": 2,
        "YBINNING": 2,
        "XPIXSZ": 7.52,
        "YPIXSZ": 7.52,
        "FRAME": "Light",
        "IMAGETYP": "Light Frame",
        "DATAMIN": 400.0,
        "DATAMAX": 9000.0,
        "GAIN": 56.0,
        "SITELAT": 52.0,
        "SITELONG": -1.5,
        "DATE-OBS": "2018-03-01T20:00:00.123",
        **more,
    }


def ekos_light(folder, rng):
    """INDI: DATAMAX is the maximum of the image, GAIN a setting."""
    return _simple(folder, "Light_L_300_secs_001.fits", rng, _ekos())


def ekos_flat(folder, rng):
    """INDI, a flat."""
    return _simple(folder, "Flat_L_001.fits", rng, _ekos(FRAME="Flat", IMAGETYP="Flat Frame"))


def sgp_light(folder, rng):
    """Sequence Generator Pro: EXPOSURE, no EXPTIME."""
    cards = {
        "DATE-LOC": "2020-05-30T02:22:49.0968820",
        "DATE-OBS": "2020-05-30T00:22:49.0968820",
        "IMAGETYP": "LIGHT",
        "CREATOR": "Sequence Generator Pro v3.1.0.479",
        "INSTRUME": "ZWO ASI1600MM",
        "SITENAME": "Ghent",
        "SITELONG": "3 43 0.000",
        "EXPOSURE": 30,
        "XBINNING": 1,
        "YBINNING": 1,
        "GAIN": 120,
        "EGAIN": 3.99,
    }
    return _simple(folder, "M57_30sec_1x1_frame1.fit", rng, cards)


def apt_light(folder, rng):
    """Astro Photography Tool."""
    cards = {
        "OBJECT": "TEST",
        "INSTRUME": "ZWO ASI1600MM",
        "DATE-OBS": "2018-09-17T21:04:46",
        "EXPTIME": 240.0,
        "XPIXSZ": 3.8,
        "YPIXSZ": 3.8,
        "XBINNING": 1,
        "YBINNING": 1,
        "EGAIN": 1.00224268436432,
        "SWCREATE": "Astro Photography Tool - APT v.3.54.1",
        "SBSTDVER": "SBFITSEXT Version 1.0",
        "IMAGETYP": "Light Frame",
        "SITELONG": "+03 41 00.000",
        "GAIN": 120,
    }
    return _simple(folder, "L_0001.fit", rng, cards)


def asiair_light(folder, rng):
    """ZWO ASIAIR, monochrome."""
    cards = {
        "CREATOR": "ZWO ASIAIR Plus",
        "OFFSET": 10,
        "EGAIN": 1.00857579708099,
        "GAIN": 111,
        "XBINNING": 1,
        "YBINNING": 1,
        "XPIXSZ": 2.4,
        "YPIXSZ": 2.4,
        "IMAGETYP": "Light",
        "EXPOSURE": 300.0,
        "EXPTIME": 300.0,
        "DATE-OBS": "2025-09-08T02:46:15.614262",
        "INSTRUME": "ZWO ASI183MM Pro",
    }
    return _simple(folder, "Light_M31_300.0s_Bin1_0001.fit", rng, cards)


def seestar_sub(folder, rng):
    """Seestar S50, one exposure: a mosaic."""
    cards = {
        "CREATOR": "ZWO Seestar S50",
        "PRODUCER": "ZWO",
        "XPIXSZ": 2.9,
        "YPIXSZ": 2.9,
        "IMAGETYP": "Light",
        "STACKCNT": 1,
        "EXPTIME": 10.0,
        "INSTRUME": "Seestar S50",
        "BAYERPAT": "GRBG",
        "GAIN": 80,
    }
    return _simple(folder, "Light_NGC6027_10.0s_0001.fit", rng, cards)


def seestar_stack(folder, rng):
    """Seestar S50, a stack: three planes, debayered, with the pattern card left in."""
    hdu = fits.PrimaryHDU(raw(np.array([scene(rng, stars=5)[0] for _ in range(3)])))
    hdu.header.update({"CREATOR": "ZWO Seestar S50", "IMAGETYP": "Light", "STACKCNT": 187, "BAYERPAT": "GRBG"})
    return [write(folder, "Stacked_187_NGC6027.fit", [hdu])]


def dwarf_sub(folder, rng):
    """DWARF II, one exposure."""
    cards = {
        "DATE-OBS": "2023-06-10T21:38:19.442",
        "EXP": 15.0,
        "GAIN": 110,
        "BINNING": "2*2",
        "BAYERPAT": "GBRG",
        "TELESCOP": "DWARFII",
        "INSTRUME": "DWARFII",
        "ORIGIN": "DWARFLAB",
    }
    return _simple(folder, "0001.fits", rng, cards)


def siril_float(folder, rng):
    """Siril, 32 bits: pixels in 0..1, EGAIN of the camera left in."""
    image, truth = scene(rng, bias=500.0)
    hdu = fits.PrimaryHDU((image / 65535).astype(np.float32))
    hdu.header.update(
        {
            "PROGRAM": "Siril v1.2.0",
            "EXPTIME": 300.0,
            "IMAGETYP": "Light",
            "GAIN": 100,
            "EGAIN": 0.25,
            "XPIXSZ": 3.76,
            "YPIXSZ": 3.76,
            "INSTRUME": "ZWO ASI2600MM",
            "SWCREATE": "N.I.N.A. 3.0",
        }
    )
    return [write(folder, "pp_light_00001.fit", [hdu], h0=truth)]


def app_masterflat(folder, rng):
    """Astro Pixel Processor, a master flat that only CALFRAME tells."""
    cards = {
        "SOFTWARE": "Astro Pixel Processor by Aries Productions",
        "CALFRAME": "MasterFlat",
        "CFAIMAGE": "no",
        "EXPTIME": 1.28,
        "GAIN": 120.0,
    }
    return _simple(folder, "MF-IG_120.0.fits", rng, cards, np.float32, stars=0)


def andor_solis(folder, rng):
    """Andor Solis: NAXIS3 = 1, EXPOSURE, GAIN that is no e-/ADU."""
    image, truth = scene(rng, bias=500.0)
    hdu = fits.PrimaryHDU(raw(image)[None])
    hdu.header.update(
        {
            "HEAD": "DZ936_BV",
            "ACQMODE": "Single Scan",
            "READMODE": "Image",
            "HBIN": 1,
            "VBIN": 1,
            "DATATYPE": "Counts",
            "EXPOSURE": 60.0,
            "GAIN": 2.0,
            "FRAME": "2016-09-10T00:01:02.000",
        }
    )
    return [write(folder, "solis_0001.fits", [hdu], h0=truth)]


def planetary_8bit(folder, rng):
    """Eight bits."""
    image, truth = scene(rng, level=20, gain=5, noise=3, charge=120, stars=0)
    hdu = fits.PrimaryHDU(np.clip(image, 0, 255).astype(np.uint8))
    hdu.header.update({"INSTRUME": "ZWO ASI120MM", "EXPTIME": 1.0, "GAIN": 200, "SWCREATE": "SharpCap v3.2"})
    return [write(folder, "jupiter_0001.FIT", [hdu], h0=truth)]


def cmos_setting(folder, rng):
    """A CMOS camera by unknown software: GAIN = 200 is no e-/ADU."""
    return _simple(folder, "img_0001.fit", rng, {"INSTRUME": "ZWO ASI1600MM Pro", "EXPTIME": 60.0, "GAIN": 200})


#: What the reader must find.
EXPECTED = {
    "ccddata_std": expect("ccddata", (0,), {0: ("frame", 1)}, 8, 1, 1.5, "20210228"),
    "ccddata_ivar": expect("ccddata", (0,), {0: ("frame", 1)}, 8, 1, 1.5, "20210228"),
    "mask_255": expect("generic", (0,), {0: ("frame", 1)}, 8, 255),
    "mask_01_bpm": expect("generic", (0,), {0: ("frame", 1)}, 8, 1),
    "hduclas": expect("generic", (1,), {1: ("frame", 3)}, 8),
    "weight_alone": left("generic", "weight"),
    "master_bias_by_name": left("generic", "bias"),
    "dark_nebula": expect("generic"),
    "iraf_trimmed": expect("generic", gain=1.5),
    "theli_weight": expect("theli", gain=2.0),
    "swarp_coadd": expect("swarp", gain=6.0),
    "maxim_light": expect("maxim-dl", gain=1.3, night="20180704"),
    "maxim_flat": left("maxim-dl", "flat"),
    "maxim_tricolor": left("maxim-dl", "dimensional"),
    "ccdsoft_light": expect("ccdsoft", gain=1.49),
    "thesky_light": expect("thesky", night="20230814"),
    "thesky_dark": left("thesky", "dark"),
    "thesky_colour": left("thesky", "colour"),
    "nina_mono": expect("nina", gain=1.00224268436432, night="20210302"),
    "nina_bayer": left("nina", "colour"),
    "nina_bayer_none": expect("nina", gain=1.00224268436432, night="20210302"),
    "nina_darkflat": left("nina", "darkflat"),
    "sharpcap_mono": expect("sharpcap"),
    "sharpcap_bayer": left("sharpcap", "colour"),
    "ekos_light": expect("ekos-indi", night="20180301"),
    "ekos_flat": left("ekos-indi", "flat"),
    "sgp_light": expect("sgp", gain=3.99, night="20200529"),
    "apt_light": expect("apt", gain=1.00224268436432, night="20180917"),
    "asiair_light": expect("asiair", gain=1.00857579708099),
    "seestar_sub": left("seestar", "colour"),
    "seestar_stack": left("seestar", "dimensional"),
    "dwarf_sub": left("dwarf", "colour"),
    "siril_float": expect("siril-float"),
    "app_masterflat": left("astro-pixel-processor", "flat"),
    "andor_solis": expect("andor-solis"),
    "planetary_8bit": expect("sharpcap"),
    "cmos_setting": expect("cmos-cameras"),
}
