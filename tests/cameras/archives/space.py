"""HST, JWST, TESS, Kepler and Euclid.

After the data handbooks by their known formats and their readers: hstcal and drizzlepac, jwst datamodels, astrocut,
the Kepler archive manual, the Euclid archive's file names.
"""

import numpy as np
from astropy.io import fits

from archives.frames import BLOCK, SHAPE, bits, blacken, expect, hdu, left, primary, raw, scene, slit, write


def _hst(instrument, detector, **more):
    cards = {
        "NEXTEND": 3,
        "FILETYPE": "SCI",
        "TELESCOP": "HST",
        "INSTRUME": instrument,
        "EQUINOX": 2000.0,
        "ROOTNAME": "jabc01xyq",
        "IMAGETYP": "EXT",
        "PRIMESI": instrument,
        "TARGNAME": "NGC-1851",
        "DATE-OBS": "2012-05-04",
        "TIME-OBS": "03:04:05",
        "EXPTIME": 500.0,
        "OBSTYPE": "IMAGING",
        "DETECTOR": detector,
    }
    cards.update(more)
    return cards


def _hst_sets(
    rng, chips, unit, bad=4, noise=4.0, level=60.0, gain=1.0, dtype=np.float32, spectrum=False, charge=2500.0
):
    hdus, truths = [], {}
    for ver in range(1, chips + 1):
        make = slit if spectrum else scene
        image, truth = make(rng, level=level, gain=gain, noise=noise, charge=charge)
        image[BLOCK] = 0
        error = np.sqrt(np.maximum(image, 0) / gain + noise**2)
        truths[f"h{1 + 3 * (ver - 1)}"] = truth
        hdus += [
            hdu(image.astype(dtype), {"BUNIT": unit, "INHERIT": True, "CCDCHIP": 3 - ver}, "SCI", ver),
            hdu(error.astype(np.float32), {"BUNIT": unit, "INHERIT": True}, "ERR", ver),
            hdu(bits(image.shape, np.int16, bad), {"BUNIT": "UNITLESS", "INHERIT": True}, "DQ", ver),
        ]
    return hdus, truths


def hst_acs_flc(folder, rng):
    """HST ACS/WFC, CTE-corrected: two chips in electron, int16 DQ."""
    sets, truths = _hst_sets(rng, 2, "ELECTRONS")
    extra = [
        hdu(np.zeros((8, 16), np.float32), {}, "D2IMARR", 1),
        hdu(np.zeros((8, 16), np.float32), {}, "WCSDVARR", 1),
    ]
    cards = _hst("ACS", "WFC", NEXTEND=8, CCDGAIN=2.0, ATODGNA=2.02, FLATCORR="COMPLETE")
    return [write(folder, "jabc01xyq_flc.fits", [primary(cards), *sets, *extra], **truths)]


def hst_acs_crj(folder, rng):
    """HST ACS/WFC subarray, a combined CR-split."""
    sets, truths = _hst_sets(rng, 1, "ELECTRONS")
    return [write(folder, "jabc01010_crj.fits", [primary(_hst("ACS", "WFC", CCDGAIN=2.0)), *sets], **truths)]


def hst_acs_raw(folder, rng):
    """HST ACS/WFC raw: counts, constant ERR and DQ without pixels."""
    hdus, truths = [primary(_hst("ACS", "WFC", NEXTEND=6, CCDGAIN=2.0, FLATCORR="PERFORM"))], {}
    for ver in (1, 2):
        image, truth = scene(rng, level=30, gain=2.0, noise=4, bias=2200, charge=1200)
        truths[f"h{3 * ver - 2}"] = truth
        hdus.append(hdu(raw(image), {"BUNIT": "COUNTS", "CCDCHIP": 3 - ver, "LTV1": 24.0}, "SCI", ver))
        for name in ("ERR", "DQ"):
            more = {
                "PIXVALUE": 0,
                "NPIX1": SHAPE[1],
                "NPIX2": SHAPE[0],
                "BUNIT": "COUNTS" if name == "ERR" else "UNITLESS",
            }
            hdus.append(hdu(None, more, name, ver))
    return [write(folder, "jabc01xyq_raw.fits", hdus, **truths)]


def hst_acs_dark(folder, rng):
    """HST ACS dark."""
    sets, _ = _hst_sets(rng, 2, "ELECTRONS", level=5)
    return [write(folder, "jabc01drq_flt.fits", [primary(_hst("ACS", "WFC", IMAGETYP="DARK", TARGNAME="DARK")), *sets])]


def hst_acs_drc(folder, rng):
    """HST ACS, drizzled: electron a second, weight and context."""
    image, truth = scene(rng, level=60, gain=1.0, noise=4)
    hdus = [
        primary(_hst("ACS", "WFC")),
        hdu((image / 500).astype(np.float32), {"BUNIT": "ELECTRONS/S"}, "SCI", 1),
        hdu(np.full(SHAPE, 500, np.float32), {"BUNIT": "UNITLESS"}, "WHT", 1),
        hdu(np.ones((1, *SHAPE), np.int32), {"BUNIT": "UNITLESS"}, "CTX", 1),
    ]
    return [write(folder, "jabc01010_drc.fits", hdus, h1=truth)]


def hst_wfc3_uvis_flt(folder, rng):
    """HST WFC3/UVIS flt."""
    sets, truths = _hst_sets(rng, 2, "ELECTRONS", bad=16)
    return [
        write(folder, "iabc01xyq_flt.fits", [primary(_hst("WFC3", "UVIS", NEXTEND=6, CCDGAIN=1.5)), *sets], **truths)
    ]


def hst_wfc3_ir_flt(folder, rng):
    """HST WFC3/IR flt: electron a second, samples and times beside it."""
    image, truth = scene(rng, level=400, gain=1.0, noise=15)
    image[BLOCK] = 0
    hdus = [
        primary(_hst("WFC3", "IR", NEXTEND=5, NSAMP=15, CCDGAIN=2.5)),
        hdu((image / 500).astype(np.float32), {"BUNIT": "ELECTRONS/S"}, "SCI", 1),
        hdu((np.sqrt(np.abs(image) + 225) / 500).astype(np.float32), {"BUNIT": "ELECTRONS/S"}, "ERR", 1),
        hdu(bits(SHAPE, np.int16, 4), {"BUNIT": "UNITLESS"}, "DQ", 1),
        hdu(np.full(SHAPE, 14, np.int16), {"BUNIT": "UNITLESS"}, "SAMP", 1),
        hdu(np.full(SHAPE, 500, np.float32), {"BUNIT": "SECONDS"}, "TIME", 1),
    ]
    return [write(folder, "iabc01wxq_flt.fits", hdus, h1=truth)]


def hst_wfc3_ir_ima(folder, rng):
    """HST WFC3/IR ima: all reads of the ramp, five extensions each."""
    hdus = [primary(_hst("WFC3", "IR", NEXTEND=20, NSAMP=4))]
    for ver in range(1, 5):
        image, _ = scene(rng, (64, 64), level=100, gain=1.0, noise=15, stars=3)
        hdus += [
            hdu(image.astype(np.float32), {"BUNIT": "ELECTRONS/S"}, "SCI", ver),
            hdu(np.sqrt(np.abs(image)).astype(np.float32), {}, "ERR", ver),
            hdu(np.zeros((64, 64), np.int16), {}, "DQ", ver),
            hdu(np.full((64, 64), 5 - ver, np.int16), {}, "SAMP", ver),
            hdu(np.full((64, 64), 100.0 * ver, np.float32), {}, "TIME", ver),
        ]
    return [write(folder, "iabc01wxq_ima.fits", hdus)]


def hst_wfpc2_c0m(folder, rng):
    """HST WFPC2 calibrated: four detectors in counts, flags in the c1m beside it."""
    cards = {"ATODGAIN": 7.0, "MODE": "FULL", "SHUTTER": "A"}
    science, flags, truths = [], [], {}
    for number in range(1, 5):
        image, truth = scene(rng, (128, 128), level=20, gain=7.0, noise=5, charge=400, stars=8)
        image[BLOCK] = 0
        truths[f"h{number}"] = truth
        science.append(hdu(image.astype(np.float32), {"BUNIT": "COUNTS", "DETECTOR": number}, "SCI", number))
        flags.append(hdu(bits((128, 128), np.int16, 4), {"DETECTOR": number}, "SCI", number))
    head = _hst("WFPC2", "1", NEXTEND=4, **cards)
    del head["DETECTOR"]
    first = write(folder, "u9yq0703m_c0m.fits", [primary(head), *science], **truths)
    return [first, write(folder, "u9yq0703m_c1m.fits", [primary({**head, "FILETYPE": "SDQ"}), *flags])]


def hst_wfpc2_c1m(folder, rng):
    """HST WFPC2 flags alone."""
    flags = [hdu(bits((128, 128), np.int16, 4), {}, "SCI", number) for number in (1, 2, 3, 4)]
    head = _hst("WFPC2", "1", FILETYPE="SDQ")
    del head["DETECTOR"]
    return [write(folder, "u9yq0704m_c1m.fits", [primary(head), *flags])]


def hst_stis_flt(folder, rng):
    """HST STIS CCD spectrum: the two exposures of a CR-split as image sets."""
    sets, truths = _hst_sets(rng, 2, "COUNTS", bad=16, gain=1.0, spectrum=True)
    cards = _hst(
        "STIS",
        "CCD",
        NEXTEND=6,
        NRPTEXP=2,
        CRSPLIT=2,
        OBSTYPE="SPECTROSCOPIC",
        SCLAMP="NONE",
        CCDGAIN=1,
        ATODGAIN=1.0,
        READNSE=5.4,
    )
    cards.pop("IMAGETYP")
    return [write(folder, "oabc01020_flt.fits", [primary({**cards, "TDATEOBS": "2012-05-04"}), *sets], **truths)]


def hst_stis_lamp(folder, rng):
    """HST STIS exposure of the tungsten lamp."""
    sets, _ = _hst_sets(rng, 1, "COUNTS")
    cards = _hst("STIS", "CCD", SCLAMP="TUNGSTEN", TARGNAME="CCDFLAT", CCDGAIN=4, ATODGAIN=4.0)
    cards.pop("IMAGETYP")
    return [write(folder, "oabc01030_flt.fits", [primary(cards), *sets])]


def hst_stis_mama(folder, rng):
    """HST STIS MAMA: photon counting."""
    sets, _ = _hst_sets(rng, 1, "COUNTS", level=2)
    return [write(folder, "oabc01040_flt.fits", [primary(_hst("STIS", "NUV-MAMA", SCLAMP="NONE")), *sets])]


def _jwst(folder, name, rng, exposure="NRC_IMAGE", shape=SHAPE, unit="DN/s", flat=False):
    cards = {
        "DATE": "2022-08-01T00:00:00.0",
        "TELESCOP": "JWST",
        "INSTRUME": "NIRCAM",
        "DETECTOR": "NRCB1",
        "EXP_TYPE": exposure,
        "DATAMODL": "ImageModel",
        "DATE-OBS": "2022-07-15",
        "TIME-OBS": "04:05:06.7",
        "DATE-BEG": "2022-07-15T04:05:06.7",
        "NINTS": 1,
        "NGROUPS": 6,
        "EFFEXPTM": 311.4,
        "TARGNAME": "NGC-1",
    }
    image, truth = scene(rng, shape[-2:], level=300, gain=1.8, noise=10)
    image[BLOCK] = np.nan
    flags = bits(shape[-2:], np.uint32, 1, truth, 4)
    image = (image / 300).astype(np.float32) + np.zeros(shape, np.float32)
    flags = flags + np.zeros(shape, np.uint32)
    error = np.full(shape, 0.06, np.float32)
    hdus = [
        primary(cards),
        hdu(image, {"BUNIT": unit}, "SCI"),
        hdu(error, {"BUNIT": unit}, "ERR"),
        hdu(flags, {}, "DQ"),
        hdu(error**2, {}, "VAR_POISSON"),
        hdu(error**2, {}, "VAR_RNOISE"),
    ]
    if flat:
        hdus += [hdu(error**2, {}, "VAR_FLAT"), hdu(np.ones(shape, np.float32), {}, "AREA")]
    hdus.append(
        fits.BinTableHDU.from_columns(
            [fits.Column("ASDF_METADATA", "20B", array=np.zeros((1, 20), np.uint8))], name="ASDF"
        )
    )
    return [write(folder, name, hdus, h1=truth)]


def jwst_rate(folder, rng):
    """JWST rate: uint32 DQ with jump bits, tree of metadata at the end."""
    return _jwst(folder, "jw01234001001_02101_00001_nrcb1_rate.fits", rng)


def jwst_cal(folder, rng):
    """JWST calibrated image: MJy/sr, flat variance and pixel area beside it."""
    return _jwst(folder, "jw01234001001_02101_00001_nrcb1_cal.fits", rng, unit="MJy/sr", flat=True)


def jwst_rateints(folder, rng):
    """JWST rate of each integration: a cube."""
    return _jwst(folder, "jw01234001001_02101_00001_nrcb1_rateints.fits", rng, shape=(3, *SHAPE))


def jwst_dark(folder, rng):
    """JWST dark exposure."""
    return _jwst(folder, "jw01234001001_02101_00002_nrcb1_rate.fits", rng, "NRC_DARK")


def _tess_cards(**more):
    cards = {
        "ORIGIN": "NASA/Ames",
        "DATE-OBS": "2018-08-22T16:32:06.000Z",
        "TELESCOP": "TESS",
        "INSTRUME": "TESS Photometer",
        "SECTOR": 2,
        "CAMERA": 1,
        "CCD": 1,
        "EXPOSURE": 0.0164,
        "SCIROWS": 1,
        "SCIROWE": 150,
    }
    for number, output in enumerate("ABCD"):
        cards |= {
            f"GAIN{output}": 5.2 + 0.01 * number,
            f"SCCS{output}": 12 + 38 * number,
            f"SCCE{output}": 49 + 38 * number,
        }
    return cards | more


def _tess_image(rng, **more):
    image, truth = scene(rng, (160, 190), **more)
    bias = more.get("bias", 0)
    dark = blacken(image, truth, (np.s_[:, :11], np.s_[:, 163:], np.s_[150:]), rng, bias)
    return image, truth, dark


def tess_ffic(folder, rng):
    """TESS calibrated full frame: science and uncertainty, columns of smear and of virtual pixels around."""
    image, truth, dark = _tess_image(rng, level=120, gain=5, noise=10, charge=1500)
    head = {
        k: v
        for k, v in _tess_cards().items()
        if k in ("ORIGIN", "DATE-OBS", "TELESCOP", "INSTRUME", "SECTOR", "CAMERA", "CCD")
    }
    hdus = [
        primary(head),
        hdu(image.astype(np.float32), _tess_cards(BUNIT="electrons/s"), "CAMERA.CCD 1.1 CAL"),
        hdu(np.sqrt(np.abs(image)).astype(np.float32), _tess_cards(BUNIT="electrons/s"), "CAMERA.CCD 1.1 UNCERT"),
    ]
    return [write(folder, "tess2018234235059-s0002-1-1-0121-s_ffic.fits", hdus, h1=truth, o1=dark)]


def tess_ffir(folder, rng):
    """TESS raw full frame: counts as int32, four outputs side by side."""
    image, truth, dark = _tess_image(rng, level=30000, gain=5, noise=40, bias=700000, charge=100000)
    head = {
        k: v
        for k, v in _tess_cards().items()
        if k in ("ORIGIN", "DATE-OBS", "TELESCOP", "INSTRUME", "SECTOR", "CAMERA", "CCD")
    }
    hdus = [primary(head), hdu(image.astype(np.int32), _tess_cards(BUNIT="counts"), "CAMERA.CCD 1.1 RAW")]
    return [write(folder, "tess2018234235059-s0002-1-1-0121-s_ffir.fits", hdus, h1=truth, o1=dark)]


def _kepler(folder, name, rng, unit):
    cards = {
        "ORIGIN": "NASA/Ames",
        "TELESCOP": "Kepler",
        "INSTRUME": "Kepler Photometer",
        "DATE-OBS": "2009-06-19T20:02:30Z",
    }
    hdus, truths = [primary(cards)], {}
    for number in range(1, 5):
        image, truth = scene(rng, (128, 128), level=200, gain=100, noise=90, charge=2000)
        truths[f"h{number}"] = truth
        more = {"BUNIT": unit, "GAIN": 112.0, "READNOIS": 90.0, "MODULE": 2, "OUTPUT": number, "CHANNEL": number}
        hdus.append(hdu(image.astype(np.float32), more, f"MOD.OUT 2.{number}"))
    return [write(folder, name, hdus, **truths)]


def kepler_ffi_cal(folder, rng):
    """Kepler calibrated full frame (four of the 84 outputs)."""
    return _kepler(folder, "kplr2009170043915_ffi-cal.fits", rng, "electrons/s")


def kepler_ffi_uncert(folder, rng):
    """Kepler uncertainties in a file of their own."""
    return _kepler(folder, "kplr2009170043915_ffi-uncert.fits", rng, "electrons/s")


def _euclid(folder, name, rng, parts, layers, dtype, bad, cosmic_ray, cards=()):
    head = {
        "TELESCOP": "Euclid",
        "DATE-OBS": "2024-03-22T03:04:05.6",
        "EXPTIME": 560.5,
        "OBS_ID": 2681,
        "DITHOBS": 0,
        "EXPNUM": 1,
    }
    hdus, truths = [primary({**head, "INSTRUME": "VIS" if layers[-1] == "FLG" else "NISP"})], {}
    for part in parts:
        image, truth = scene(rng, (128, 144), level=40, gain=3.5, noise=5, charge=900)
        image[BLOCK] = 0
        truths[f"h{len(hdus)}"] = truth
        hdus += [
            hdu(image.astype(np.float32), {"GAIN": 3.5, **dict(cards)}, f"{part}.{layers[0]}"),
            hdu(np.full(image.shape, 4, np.float32), {}, f"{part}.{layers[1]}"),
            hdu(bits(image.shape, dtype, bad, truth, cosmic_ray), dict(cards), f"{part}.{layers[2]}"),
        ]
    return [write(folder, name, hdus, **truths)]


def euclid_vis(folder, rng):
    """Euclid VIS, quadrants of a calibrated exposure: SCI, RMS, FLG of each."""
    name = "EUC_VIS_SWL-DET-002681-00-1-0000000__20241017T042839.727728Z.fits"
    return _euclid(folder, name, rng, ["1-1.E", "1-1.F", "1-1.G", "1-1.H"], ["SCI", "RMS", "FLG"], np.int32, 2, 16)


def euclid_vis_background(folder, rng):
    """Euclid VIS background map."""
    image = np.full((128, 144), 40, np.float32)
    hdus = [primary({"TELESCOP": "Euclid", "INSTRUME": "VIS"}), hdu(image, {}, "1-1.E"), hdu(image, {}, "1-1.F")]
    return [write(folder, "EUC_VIS_SWL-BKG-002681-00-1-0000000__20241017T042839.727792Z.fits", hdus)]


def euclid_nisp(folder, rng):
    """Euclid NISP: bit numbers in long cards of the header."""
    names = [
        "INVALID",
        "OBMASK",
        "DISCONNECTED",
        "ZEROQE",
        "BADBASE",
        "LOWQE",
        "SUPERQE",
        "HOT",
        "RTN",
        "SNOWBALL",
        "SATUR",
        "NLINEAR",
        "NLMODFAIL",
        "PERSIST",
        "PERMODFAIL",
        "DARKNODET",
        "COSMIC",
        "FLATLH",
        "GHOST",
    ]
    cards = {f"HIERARCH MSK_FLAG_{name}": bit for bit, name in enumerate(names)}
    name = "EUC_NIR_W-CAL-IMAGE_Y-2681-1_20240930T183522.647051Z.fits"
    return _euclid(folder, name, rng, ["DET11", "DET12"], ["SCI", "RMS", "DQ"], np.int32, 128, 65536, cards)


_TWO = {1: ("frame", 3), 4: ("frame", 6)}
_HST = {"cosmic_ray": 8192, "bad": 4, "night": "20120504"}

#: What the reader must find.
EXPECTED = {
    "hst_acs_flc": expect("hst-acs", (1, 4), _TWO, **_HST),
    "hst_acs_crj": expect("hst-acs", (1,), {1: ("frame", 3)}, **_HST),
    "hst_acs_raw": expect("hst-acs-raw", (1, 4), gain=2.0, night="20120504"),
    "hst_acs_dark": left("hst-acs", "dark"),
    "hst_acs_drc": expect("hst-acs", (1,), night="20120504"),
    "hst_wfc3_uvis_flt": expect("hst-wfc3", (1, 4), _TWO, 8192, 16, night="20120504"),
    "hst_wfc3_ir_flt": expect("hst-wfc3", (1,), {1: ("frame", 3)}, **_HST),
    "hst_wfc3_ir_ima": left("hst-wfc3", "reads of one"),
    "hst_wfpc2_c0m": expect(
        "hst-wfpc2", (1, 2, 3, 4), {i: ("companion", i) for i in (1, 2, 3, 4)}, 4096, 4, 7.0, "20120504"
    ),
    "hst_wfpc2_c1m": left("hst-wfpc2", "data quality"),
    "hst_stis_flt": expect("hst-stis", (1, 4), mask=_TWO, cosmic_ray=8192, bad=16, gain=1.0, night="20120504"),
    "hst_stis_lamp": left("hst-stis", "lamp"),
    "hst_stis_mama": left("hst-stis", "MAMA"),
    "jwst_rate": expect("jwst", (1,), {1: ("frame", 3)}, 4, 1, night="20220715"),
    "jwst_cal": expect("jwst", (1,), {1: ("frame", 3)}, 4, 1, night="20220715"),
    "jwst_rateints": left("jwst", "a cube"),
    "jwst_dark": left("jwst", "dark"),
    "tess_ffic": expect("tess-ffi", (1,), night="20180822"),
    "tess_ffir": expect("tess-ffi-raw", (1,), gain=5.2, night="20180822"),
    "kepler_ffi_cal": expect("kepler-ffi", (1, 2, 3, 4), night="20090619"),
    "kepler_ffi_uncert": left("kepler-ffi", "uncertainty"),
    "euclid_vis": expect(
        "euclid-vis", (1, 4, 7, 10), {i: ("frame", i + 2) for i in (1, 4, 7, 10)}, 16, 2, 3.5, "20240322"
    ),
    "euclid_vis_background": left("euclid-vis", "background"),
    "euclid_nisp": expect("euclid-nisp", (1, 4), _TWO, 65536, 128, 3.5, "20240322"),
}
