"""Surveys and wide-field cameras.

After the Community Pipeline's and DESDM's own readers, the ZTF supplement, afw's writer and obs_* packages, Subaru's
FITS dictionary, CFHT's and ESO's headers, the SDSS data model and THELI's camera configurations.
"""

import numpy as np
from astropy.io import fits

from archives.frames import add_stars, add_tracks, expect, header, left, sky, write


def _image(rng, shape=(160, 144), level=400, gain=2.0, read_noise=5, bias=0, dtype="float32", stars=12, tracks=4):
    """Return an image with stars and tracks, and where the tracks are."""
    image = sky(shape, rng, level, gain, read_noise)
    add_stars(image, rng, stars)
    truth = add_tracks(image, rng, tracks)
    image += bias
    if dtype.startswith("u") or dtype.startswith("i"):
        limits = np.iinfo(dtype)
        image = np.clip(np.rint(image), limits.min, limits.max)
    return image.astype(dtype), truth


def _flags(shape, rng, truth=None, bad=1, cosmic=None, dtype="int16", number=30):
    """Return a mask plane with some bad pixels, a bad column, and the cosmic rays that the archive has found."""
    plane = np.zeros(shape, dtype)
    plane[rng.integers(0, shape[0], number), rng.integers(0, shape[1], number)] = bad
    plane[:, shape[1] // 3] = bad
    if truth is not None and cosmic is not None:
        rows, columns = np.nonzero(truth)
        half = rows < shape[0] // 2
        plane[rows[half], columns[half]] = cosmic
    return plane


def _hdu(data, name=None, cards=(), kind=fits.ImageHDU, truth=None, dark=None):
    """Return an image HDU that knows where its tracks and its overscan are."""
    packed = {"compression_type": "RICE_1", **({"quantize_level": 16} if data.dtype.kind == "f" else {})}
    hdu = kind(data, header(cards), **(packed if kind is fits.CompImageHDU else {}))
    if name:
        hdu.header["EXTNAME"] = name
    hdu.truth, hdu.dark = truth, dark
    return hdu


def _write(folder, name, hdus):
    planes = {"h": "truth", "o": "dark"}
    known = {
        f"{letter}{index}": getattr(hdu, what)
        for index, hdu in enumerate(hdus)
        for letter, what in planes.items()
        if getattr(hdu, what, None) is not None
    }
    return write(folder, name, hdus, **known)


def _single(data, cards, truth, dark=None):
    return _hdu(data, None, cards, fits.PrimaryHDU, truth, dark)


def _empty(cards=()):
    return fits.PrimaryHDU(header=header(cards))


def _with_borders(rng, columns, rows, light, bias=1000, **kwargs):
    """Return a raw image with borders of bias level around its light (x1, x2, y1, y2, from 1), and what is where."""
    x1, x2, y1, y2 = light
    image, truth, dark = (
        rng.normal(bias, 3, (rows, columns)),
        np.zeros((rows, columns), bool),
        np.ones((rows, columns), bool),
    )
    lit = np.s_[y1 - 1 : y2, x1 - 1 : x2]
    inside, truth[lit] = _image(rng, (y2 - y1 + 1, x2 - x1 + 1), **kwargs)
    image[lit] += inside
    dark[lit] = False
    return {"data": np.clip(np.rint(image), 0, 65535).astype("uint16"), "truth": truth, "dark": dark}


_DECAM = {
    "INSTRUME": "DECam",
    "TELESCOP": "CTIO 4.0-m telescope",
    "OBSERVAT": "CTIO",
    "DETECTOR": "Mosaic III",
    "OBSTYPE": "object",
    "PROCTYPE": "raw",
    "PRODTYPE": "image",
    "OBJECT": "DECaLS_15148_r",
    "EXPTIME": 90.0,
    "DATE-OBS": "2019-04-02T05:06:18.250",
    "TIME-OBS": "05:06:18.250",
    "DTCALDAT": "2019-04-01",
    "OBS-LONG": 70.81489,
    "OBS-LAT": -30.16606,
    "PIXSIZE1": 15.0,
    "PIXSIZE2": 15.0,
}


def _decam_raw_ccd(rng, name, number):
    # as the CCD of 2160 x 4146: prescan 6, overscan 50 at each side; rows of light, then 50 rows of overscan
    borders = _with_borders(rng, 256, 192, (57, 200, 1, 160), gain=4.0)
    cards = {
        "CCDNUM": number,
        "DETPOS": name,
        "CCDSUM": "1 1",
        "DATASECA": "[129:200,1:160]",
        "DATASECB": "[57:128,1:160]",
        "TRIMSECA": "[129:200,1:160]",
        "TRIMSECB": "[57:128,1:160]",
        "BIASSECA": "[207:256,1:160]",
        "BIASSECB": "[7:56,1:160]",
        "PRESECA": "[201:206,1:160]",
        "PRESECB": "[51:56,1:160]",
        "GAINA": 4.23,
        "RDNOISEA": 6.1,
        "SATURATA": 42000.0,
        "GAINB": 4.01,
        "RDNOISEB": 5.7,
        "SATURATB": 43000.0,
    }
    return _hdu(**borders, name=name, cards=cards, kind=fits.CompImageHDU)


def decam_raw(folder, rng):
    """c4d_*_ori: two science CCDs and one for focus, compressed."""
    hdus = [_empty(_DECAM)]
    hdus += [_decam_raw_ccd(rng, name, n) for name, n in (("S29", 1), ("FS1", 63), ("N4", 35))]
    return [_write(folder, "c4d_190402_050618_ori.fits.fz", hdus)]


def decam_raw_flat(folder, rng):
    """A dome flat."""
    hdus = [_empty(_DECAM | {"OBSTYPE": "dome flat", "OBJECT": "r DES dome flat"}), _decam_raw_ccd(rng, "S29", 1)]
    return [_write(folder, "c4d_190402_210618_fri.fits.fz", hdus)]


def _decam_cp(folder, rng, plver, codes, stem):
    primary = _DECAM | {"PROCTYPE": "InstCal", "PLVER": plver, "OBSTYPE": "object", "BUNIT": "electrons"}
    image_hdus, mask_hdus, weight_hdus = (
        [_empty(primary)],
        [_empty(primary | {"PRODTYPE": "dqmask"})],
        [_empty(primary | {"PRODTYPE": "wtmap"})],
    )
    for name, number in (("S29", 1), ("S31", 3)):
        image, truth = _image(rng, gain=1.0, level=2000)
        cards = {
            "CCDNUM": number,
            "GAINA": 4.0,
            "ARAWGAIN": 4.1,
            "RDNOISEA": 6.0,
            "RDNOISEB": 6.1,
            "SATURATE": 42000.0,
            "DATASECA": "[1081:2104,51:4146]",
            "DATASECB": "[57:1080,51:4146]",
        }
        image_hdus.append(_hdu(image, name, cards, fits.CompImageHDU, truth=truth))
        plane = _flags(image.shape, rng, truth, 1, 5 if codes else 16)
        plane[20:30, 40:44] = 3 if codes else 2
        mask_hdus.append(_hdu(plane, name, {"CCDNUM": number}, fits.CompImageHDU))
        weight_hdus.append(_hdu((1 / np.maximum(image, 1)).astype("float32"), name, {"CCDNUM": number}))
    return [
        _write(folder, f"{stem}_ooi_r_v1.fits.fz", image_hdus),
        _write(folder, f"{stem}_ood_r_v1.fits.fz", mask_hdus),
        _write(folder, f"{stem}_oow_r_v1.fits.fz", weight_hdus),
    ]


def decam_cp(folder, rng):
    """InstCal of V4: codes."""
    return _decam_cp(folder, rng, "V4.8.2", True, "c4d_190402_050618")


def decam_cp_old(folder, rng):
    """InstCal of V3.2: bits."""
    return _decam_cp(folder, rng, "V3.2.0", False, "c4d_130402_050618")


def decam_cp_mask(folder, rng):
    """A mask file by itself."""
    return _decam_cp(folder, rng, "V4.8.2", True, "c4d_190402_050620")[1:2]


def _des(rng, extname):
    cards = {
        "INSTRUME": "DECam",
        "TELESCOP": "CTIO 4.0-m telescope",
        "OBSERVAT": "CTIO",
        "OBSTYPE": "object",
        "DATE-OBS": "2013-09-16T05:10:00.0",
        "EXPTIME": 90.0,
        "BAND": "r",
        "CCDNUM": 13,
        "DETPOS": "S13",
        "GAINA": 1.0,
        "GAINB": 1.0,
        "SATURATE": 160000.0,
        "FILETYPE": "red_immask",
        "BUNIT": "electrons",
        "EUPSPROD": "finalcut",
    }
    image, truth = _image(rng, level=2000, gain=1.0)
    plane = _flags(image.shape, rng, truth, 1, 16)
    planes = (
        ("SCI", "IMAGE", image),
        ("MSK", "MASK", plane),
        ("WGT", "WEIGHT", (1 / np.maximum(image, 1)).astype("float32")),
    )
    return cards, [
        _hdu(
            data,
            name if extname else None,
            cards | {"DES_EXT": kind},
            fits.CompImageHDU,
            truth if name == "SCI" else None,
        )
        for name, kind, data in planes
    ]


def des_desdm(folder, rng):
    """D*_immasked.fits.fz: SCI, MSK, WGT."""
    _, hdus = _des(rng, True)
    return [_write(folder, "D00233618_r_c13_r2378p01_immasked.fits.fz", [_empty(), *hdus])]


def des_desdm_unnamed(folder, rng):
    """The same without EXTNAME, by DES_EXT alone."""
    _, hdus = _des(rng, False)
    for hdu in hdus:
        hdu.header.pop("EXTNAME", None)
    return [_write(folder, "DECam_00233618_13.fits.fz", [_empty(), *hdus])]


def _noirlab(folder, rng, stem, cards, names):
    files = {kind: [_empty(cards)] for kind in "idw"}
    for name in names:
        image, truth = _image(rng, level=1000, gain=1.8)
        own = {"GAIN": 1.8, "RDNOISE": 9.0, "SATURATE": 50000.0}
        plane = _flags(image.shape, rng, truth, 1, 5)
        files["i"].append(_hdu(image, name, own, fits.CompImageHDU, truth=truth))
        files["d"].append(_hdu(plane, name, own, fits.CompImageHDU))
        files["w"].append(_hdu((1 / np.maximum(image, 1)).astype("float32"), name, own))
    return [_write(folder, f"{stem.format(kind)}", hdus) for kind, hdus in files.items()]


def mosaic3_cp(folder, rng):
    """k4m_*_ooi with its mask and weight."""
    cards = {
        "INSTRUME": "Mosaic3",
        "TELESCOP": "KPNO 4.0 meter telescope",
        "OBSERVAT": "KPNO",
        "OBSTYPE": "object",
        "PROCTYPE": "InstCal",
        "PRODTYPE": "image",
        "PLVER": "V4.1",
        "EXPTIME": 60.0,
        "DATE-OBS": "2016-02-12T07:01:02.0",
    }
    return _noirlab(folder, rng, "k4m_160212_070102_oo{}_zd_v1.fits.fz", cards, ["CCD1", "CCD2"])


def bok_cp(folder, rng):
    """ksb_*_ooi with its mask and weight."""
    cards = {
        "INSTRUME": "90prime",
        "TELESCOP": "Steward 2.3 m (bok)",
        "OBSERVAT": "Kitt Peak",
        "OBSTYPE": "object",
        "PROCTYPE": "InstCal",
        "PRODTYPE": "image",
        "PLVER": "V2.0",
        "EXPTIME": 80.0,
        "DATE-OBS": "2017-04-30",
        "TIME-OBS": "05:59:45.0",
    }
    return _noirlab(folder, rng, "ksb_170430_055945_oo{}_r_v1.fits.fz", cards, ["CCD1", "CCD4"])


def ztf_sciimg(folder, rng):
    """A quadrant and its mask image."""
    cards = {
        "INSTRUME": "ZTF/MOSAIC",
        "TELESCOP": "P48",
        "OBSERVAT": "PO",
        "DETECTOR": "CCD",
        "IMGTYPE": "object",
        "GAIN": 6.2,
        "READNOI": 10.3,
        "SATURATE": 48000.0,
        "EXPTIME": 30.0,
        "FILTER": "ZTF_r",
        "CCDID": 5,
        "QID": 1,
        "OBSMJD": 59000.8,
        "DATE-OBS": "2020-05-31T04:50:00.3",
    }
    image, truth = _image(rng, level=300, gain=6.2)
    plane = _flags(image.shape, rng, truth, 16, 128)
    stem = "ztf_20200531201389_000535_zr_c05_o_q1_"
    science = _single(image, cards, truth)
    bits = {f"MSKNAM{n:02d}": f"bit{n}" for n in range(13)} | {f"MSKVAL{n:02d}": n for n in range(13)}
    mask = fits.PrimaryHDU(plane, header(cards | bits))
    return [_write(folder, f"{stem}sciimg.fits", [science]), _write(folder, f"{stem}mskimg.fits", [mask])]


def ztf_mskimg(folder, rng):
    """The mask image by itself."""
    return ztf_sciimg(folder, rng)[1:]


_PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "CROSSTALK": 9,
    "UNMASKEDNAN": 10,
}


def _exposure(folder, rng, name, cards, planes=None, names=True):
    """Write an Exposure as afw does: empty primary with the metadata, then image, mask, variance."""
    planes = planes or _PLANES
    image, truth = _image(rng, level=2000, gain=1.0)
    mask = _flags(image.shape, rng, truth, 1 << planes["BAD"], 1 << planes["CR"], "int32")
    mask |= np.where(image > 2500, 1 << planes["DETECTED"], 0).astype("int32")
    hdus = [_empty(cards)]
    for kind, data in (("IMAGE", image), ("MASK", mask), ("VARIANCE", np.maximum(image, 1))):
        own = {"EXTTYPE": kind} | ({f"MP_{plane}": bit for plane, bit in planes.items()} if kind == "MASK" else {})
        hdus.append(_hdu(data, kind if names else None, own, fits.CompImageHDU, truth if kind == "IMAGE" else None))
        if not names:
            hdus[-1].header.pop("EXTNAME", None)
    hdus.append(fits.BinTableHDU.from_columns([fits.Column("id", "K", array=np.arange(3))], name="ARCHIVE_INDEX"))
    return [_write(folder, name, hdus)]


def lsst_visit_image(folder, rng):
    """LSSTComCam visit_image of Data Preview 1."""
    cards = {
        "INSTRUME": "LSSTComCam",
        "TELESCOP": "Simonyi Survey Telescope",
        "OBSTYPE": "science",
        "IMGTYPE": "OBJECT",
        "DAYOBS": "20241108",
        "DATE-OBS": "2024-11-09T02:10:33.1",
        "EXPTIME": 30.0,
        "BUNIT": "nJy",
        "OBS-LONG": -70.749417,
    }
    return _exposure(folder, rng, "visit_image_LSSTComCam_r_r_03_2024110800245_R22_S11.fits", cards)


def lsst_post_isr(folder, rng):
    """postISRCCD of LATISS, of an afw that wrote no EXTNAME; another order of the planes."""
    cards = {
        "INSTRUME": "LATISS",
        "TELESCOP": "LSST AuxTelescope",
        "IMGTYPE": "OBJECT",
        "DAYOBS": "20230511",
        "DATE-OBS": "2023-05-12T03:00:00.1",
        "EXPTIME": 30.0,
    }
    planes = {"BAD": 3, "SAT": 1, "INTRP": 2, "CR": 0, "EDGE": 4, "DETECTED": 5, "SUSPECT": 7, "NO_DATA": 8}
    return _exposure(folder, rng, "postISRCCD_LATISS_2023051100321_det000.fits", cards, planes, names=False)


def lsst_coadd(folder, rng):
    """A deep coadd."""
    cards = {"FILTER": "r"}
    return _exposure(folder, rng, "deepCoadd_calexp_9813_42_r_hsc_rings_v1.fits", cards)


def decam_lsst(folder, rng):
    """calexp of DECam; cards of the Community Pipeline are left in it."""
    cards = _DECAM | {"PROCTYPE": "InstCal", "PLVER": "V4.1"}
    return _exposure(folder, rng, "calexp-0412037_10.fits", cards)


def hsc_calexp(folder, rng):
    """CORR frame of hscPipe."""
    cards = {
        "INSTRUME": "Hyper Suprime-Cam",
        "TELESCOP": "Subaru",
        "EXP-ID": "HSCE00009604",
        "FRAMEID": "HSCA00960450",
        "DATA-TYP": "OBJECT",
        "DATE-OBS": "2014-11-18",
        "UT": "09:00:01.2",
        "UT-STR": "09:00:01.2",
        "EXPTIME": 240.0,
        "T_GAIN1": 3.1,
        "BUNIT": "electron",
    }
    return _exposure(folder, rng, "calexp-HSC-I-9604-050.fits", cards)


def _lsst_amps(rng, count=3, vendor="E2V"):
    columns, rows, section = (176, 192, (11, 154, 1, 160)) if vendor == "E2V" else (160, 192, (4, 147, 1, 160))
    hdus = []
    for number in range(count):
        borders = _with_borders(rng, columns, rows, section, bias=20000, gain=1.6)
        borders["data"] = borders["data"].astype("int32")
        x1, x2, y1, y2 = section
        own = {
            "DATASEC": f"[{x1}:{x2},{y1}:{y2}]",
            "DETSEC": f"[{144 * number + 1}:{144 * (number + 1)},1:160]",
            "CCDSUM": "1 1",
        }
        hdus.append(_hdu(**borders, name=f"Segment{10 + number}", cards=own, kind=fits.CompImageHDU))
    return hdus


_LSST_RAW = {
    "INSTRUME": "lsstCam",
    "TELESCOP": "LSST",
    "LSST_NUM": "E2V-CCD250-301",
    "CCD_MANU": "E2V",
    "CCDGAIN": 1.0,
    "IMGTYPE": "OBJECT",
    "OBSID": "MC_O_20250420_000123",
    "DAYOBS": "20250420",
    "DATE-OBS": "2025-04-21T04:00:00.5",
    "EXPTIME": 30.0,
    "OBS-LONG": -70.749417,
    "BINX": 1,
    "BINY": 1,
}


def lsst_raw(folder, rng):
    """A raw detector with its amplifiers (three of sixteen), and a table of temperatures."""
    table = fits.BinTableHDU.from_columns([fits.Column("TEMP", "E", array=np.ones(2))], name="REB_COND")
    return [_write(folder, "MC_O_20250420_000123_R22_S11.fits", [_empty(_LSST_RAW), *_lsst_amps(rng), table])]


def lsst_raw_flat(folder, rng):
    """A flat of the main camera."""
    hdus = [_empty(_LSST_RAW | {"IMGTYPE": "FLAT"}), *_lsst_amps(rng, 2)]
    return [_write(folder, "MC_C_20250420_000007_R22_S11.fits", hdus)]


def latiss_raw(folder, rng):
    """The auxiliary telescope's ITL detector."""
    cards = _LSST_RAW | {
        "INSTRUME": "LATISS",
        "TELESCOP": "LSST AuxTelescope",
        "LSST_NUM": "ITL-3800C-098",
        "CCD_MANU": "ITL",
        "OBSID": "AT_O_20250420_000123",
    }
    return [_write(folder, "AT_O_20250420_000123_R00_S00.fits", [_empty(cards), *_lsst_amps(rng, 2, "ITL")])]


def lsst_guider(folder, rng):
    """Stamps of a guider."""
    hdus = [_empty(_LSST_RAW | {"ROISEG": "Segment04", "ROICOLS": 50, "ROIROWS": 50, "DAQPART": "guider"})]
    hdus += [_hdu(rng.normal(2e4, 10, (50, 50)).astype("int32"), "IMAGE", {}, fits.CompImageHDU) for _ in range(4)]
    return [_write(folder, "MC_O_20250420_000123_R00_SG0_guider.fits", hdus)]


def kbmod_workunit(folder, rng):
    """A WorkUnit of two exposures."""
    hdus = [_empty({"NUMIMG": 2, "COLOR": "r"})]
    for number in range(2):
        image, truth = _image(rng)
        mask = _flags(image.shape, rng, dtype="int8")
        hdus += [
            _hdu(image, f"SCI_{number}", {"MJD": 59000.0 + number}, truth=truth),
            _hdu(np.maximum(image, 1), f"VAR_{number}"),
            _hdu(mask, f"MSK_{number}"),
            _hdu(np.ones((5, 5), "float32"), f"PSF_{number}"),
        ]
    return [_write(folder, "workunit.fits", hdus)]


def kbmod_layered(folder, rng):
    """Three unnamed float HDUs."""
    image, truth = _image(rng)
    mask = _flags(image.shape, rng).astype("float32")
    hdus = [_empty({"MJD": 57130.2}), _hdu(image, truth=truth), _hdu(mask), _hdu(np.maximum(image, 1))]
    return [_write(folder, "demo_image_0000.fits", hdus)]


_SUBARU = {
    "OBSERVAT": "NAOJ",
    "TELESCOP": "Subaru",
    "DATA-TYP": "OBJECT",
    "DATE-OBS": "2014-11-18",
    "UT-STR": "09:00:01.2",
    "UT": "09:00:01.2",
    "EXPTIME": 240.0,
    "BIN-FCT1": 1,
    "BIN-FCT2": 1,
}


def _limits(prefix, step=64):
    """Return cards of four amplifiers as Subaru writes them: prescan 8, light 64, overscan 16, mirrored in pairs."""
    spans = ((9, 72), (105, 168), (185, 248), (281, 344))
    cards = {}
    for number, (low, high) in enumerate(spans, 1):
        cards |= {
            f"{prefix}_EFMN{number}1": low,
            f"{prefix}_EFMX{number}1": high,
            f"{prefix}_EFMN{number}2": 21,
            f"{prefix}_EFMX{number}2": 148,
            f"{prefix}_GAIN{number}": round(3.0 + 0.1 * number, 2),
        }
    return cards, spans


def _four(rng, cards):
    image = np.clip(np.rint(rng.normal(1000, 3, (168, 352))), 0, 65535)
    truth, dark = np.zeros(image.shape, bool), np.ones(image.shape, bool)
    for low, high in _limits("T")[1]:
        lit = np.s_[20:148, low - 1 : high]
        inside, truth[lit] = _image(rng, (128, 64), stars=3, tracks=1)
        image[lit] += inside
        dark[lit] = False
    return _single(image.astype("uint16"), cards, truth, dark)


def hsc_raw(folder, rng):
    """A raw CCD of HSC."""
    cards = (
        _SUBARU
        | {
            "INSTRUME": "Hyper Suprime-Cam",
            "FRAMEID": "HSCA00960450",
            "EXP-ID": "HSCE00960400",
            "DET-ID": 50,
            "GAIN": 0.0,
        }
        | _limits("T")[0]
    )
    return [_write(folder, "HSCA00960450.fits", [_four(rng, cards)])]


def hsc_focus(folder, rng):
    """One of the CCDs for focus."""
    path = hsc_raw(folder, rng)[0]
    target = path.with_name("HSCA00960495.fits")
    path.rename(target)
    fits.setval(target, "DET-ID", value=104)
    return [target]


def suprimecam(folder, rng):
    """A raw CCD of Suprime-Cam after July 2008."""
    cards = (
        _SUBARU
        | {
            "INSTRUME": "SuprimeCam",
            "FRAMEID": "SUPA01234560",
            "EXP-ID": "SUPE01234560",
            "DET-ID": 0,
            "DATE-OBS": "2010-03-18",
            "GAIN": 3.0,
        }
        | _limits("S")[0]
    )
    return [_write(folder, "SUPA01234560.fits", [_four(rng, cards)])]


def suprimecam_old(folder, rng):
    """A raw CCD of Suprime-Cam before July 2008: one amplifier, EFP-MIN1 and EFP-RNG1."""
    cards = _SUBARU | {
        "INSTRUME": "SuprimeCam",
        "FRAMEID": "SUPA00012340",
        "DATE-OBS": "2003-03-18",
        "DET-ID": 0,
        "GAIN": 2.6,
        "EFP-MIN1": 33,
        "EFP-RNG1": 128,
        "EFP-MIN2": 1,
        "EFP-RNG2": 150,
    }
    borders = _with_borders(rng, 160, 150, (33, 160, 1, 150))
    return [_write(folder, "SUPA00012340.fits", [_single(**borders, cards=cards)])]


def suprimecam_flat(folder, rng):
    """A dome flat."""
    path = suprimecam(folder, rng)[0]
    target = path.with_name("SUPA01234570.fits")
    path.rename(target)
    fits.setval(target, "DATA-TYP", value="DOMEFLAT")
    return [target]


def _megacam(folder, rng, name, cards):
    primary = {
        "INSTRUME": "MegaPrime",
        "DETECTOR": "MegaCam",
        "TELESCOP": "CFHT 3.6m",
        "OBSTYPE": "OBJECT",
        "EXPTIME": 300.0,
        "DATE-OBS": "2010-05-14",
        "UTC-OBS": "09:30:00.00",
        "LONGITUD": -155.468876,
    }
    hdus = [_empty(primary | cards)]
    for number in (0, 1):
        borders = _with_borders(rng, 192, 168, (33, 160, 1, 160), gain=1.6)
        own = {
            "DETSIZE": "[1:2048,1:4612]",
            "DATASEC": "[33:160,1:160]",
            "DSECA": "[33:96,1:160]",
            "DSECB": "[97:160,1:160]",
            "BSECA": "[1:32,1:160]",
            "BSECB": "[161:192,1:160]",
            "TSECA": "[33:96,1:160]",
            "TSECB": "[97:160,1:160]",
            "GAINA": 1.62,
            "GAINB": 1.68,
            "GAIN": 1.65,
            "RDNOISEA": 4.1,
            "RDNOISEB": 4.2,
            "SATURATE": 65535,
            "CCDBIN1": 1,
            "CCDBIN2": 1,
            "PIXSIZE1": 13.5,
            "PIXSIZE2": 13.5,
        }
        hdus.append(_hdu(**borders, name=f"ccd{number:02d}", cards=primary | cards | own))
    return [_write(folder, name, hdus)]


def megacam_raw(folder, rng):
    """o.fits: raw, two CCDs of forty."""
    return _megacam(folder, rng, "1208010o.fits", {})


def megacam_elixir(folder, rng):
    """p.fits: the same sections are still there, and still right."""
    return _megacam(folder, rng, "1208010p.fits", {"CFHTPROC": "Elixir", "PHOT_C": 26.1})


def megacam_bias(folder, rng):
    """b.fits."""
    return _megacam(folder, rng, "1208001b.fits", {"OBSTYPE": "BIAS", "EXPTIME": 0.0})


def wircam(folder, rng):
    """Cube of WIRCam."""
    cards = {"INSTRUME": "WIRCam", "DETECTOR": "WIRCam", "TELESCOP": "CFHT 3.6m", "OBSTYPE": "OBJECT", "EXPTIME": 20.0}
    cube = np.stack([_image(rng)[0] for _ in range(2)])
    return [_write(folder, "1208010p.fits", [_empty(cards), _hdu(cube, "HAWAII-2RG-#77", cards)])]


def panstarrs_warp(folder, rng):
    """A warp with its mask and variance, compressed."""
    cards = {
        "PSCAMERA": "GPC1",
        "PSFORMAT": "SKYCELL",
        "FPA.TELESCOP": "PS1",
        "FPA.INSTRUMENT": "GPC1",
        "CELL.GAIN": 1.02,
        "CELL.READNOISE": 6.1,
        "CELL.SATURATION": 55000.0,
        "EXPTIME": 40.0,
        "MJD-OBS": 55230.5,
    }
    image, truth = _image(rng, gain=1.0)
    plane = _flags(image.shape, rng, truth, 8, 256, "uint16")
    stem = "rings.v3.skycell.1784.059.wrp.r.55230_61439"
    return [
        _write(
            folder,
            f"{stem}{end}",
            [_empty(), _hdu(data, None, cards, fits.CompImageHDU, truth if end == ".fits" else None)],
        )
        for end, data in ((".fits", image), (".mask.fits", plane), (".wt.fits", np.maximum(image, 1)))
    ]


def panstarrs_stack(folder, rng):
    """A stack: asinh of the flux."""
    cards = {
        "PSCAMERA": "GPC1",
        "PSFORMAT": "SKYCELL",
        "BSOFTEN": 100.0,
        "BOFFSET": 0.1,
        "EXPTIME": 600.0,
        "STK_ID": 12,
    }
    image, _ = _image(rng, gain=1.0)
    data = np.arcsinh(image / 200).astype("float32")
    return [
        _write(
            folder,
            "rings.v3.skycell.1784.059.stk.r.unconv.fits",
            [_empty(), _hdu(data, None, cards, fits.CompImageHDU)],
        )
    ]


def sdss_frame(folder, rng):
    """frame-*: nanomaggies, calibration, sky and two tables."""
    cards = {
        "TELESCOP": "2.5m",
        "ORIGIN": "SDSS",
        "FLAVOR": "science",
        "EXPTIME": "53.907456",
        "DATE-OBS": "2000-09-27",
        "TAIHMS": "05:22:08.83",
        "CAMCOL": 3,
        "RUN": 1737,
        "CAMROW": 1,
        "FIELD": 100,
        "FILTER": "r",
        "BUNIT": "nanomaggy",
        "NMGYPIVAR": 1.0,
    }
    image, truth = _image(rng, gain=4.7, level=120)
    hdus = [
        _single((image * 0.005).astype("float32"), cards, truth),
        fits.ImageHDU(np.full(image.shape[1], 0.005, "float32")),
    ]
    hdus.append(fits.BinTableHDU.from_columns([fits.Column("ALLSKY", "12E", dim="(4,3)", array=np.ones((1, 12)))]))
    hdus.append(fits.BinTableHDU.from_columns([fits.Column("CAMCOL", "K", array=np.array([3]))]))
    return [_write(folder, "frame-r-001737-3-0100.fits", hdus)]


def sdss_fpc(folder, rng):
    """fpC: corrected frame of DR7, with SOFTBIAS."""
    cards = {
        "TELESCOP": "2.5m",
        "ORIGIN": "SDSS",
        "FLAVOR": "science",
        "CCDMODE": "DRIFT",
        "EXPTIME": "53.907456",
        "DATE-OBS": "2000-09-27",
        "TAIHMS": "05:22:08.83",
        "CAMCOL": 3,
        "RUN": 1737,
        "FIELD": 100,
        "FILTER": "r",
        "SOFTBIAS": 1000,
    }
    image, truth = _image(rng, gain=4.7, level=120, bias=1000, dtype="uint16")
    return [_write(folder, "fpC-001737-r3-0100.fit", [_single(image, cards, truth)])]


def odi(folder, rng):
    """QuickReduce: two detectors, gaps between cells are NaN; one guides."""
    cards = {
        "TELESCOP": "WIYN 3.5m",
        "INSTRUME": "odi",
        "OBSTYPE": "OBJECT",
        "OBSID": "20160202T030000.0",
        "EXPTIME": 120.0,
        "EXPMEAS": 120.1,
        "DATE-OBS": "2016-02-02T03:00:00.0",
    }
    hdus = [_empty(cards)]
    for name, mode in (("OTA33.SCI", "S" * 64), ("OTA34.SCI", "S" * 64), ("OTA22.SCI", "V" + "S" * 63)):
        image, truth = _image(rng, (160, 180))
        image[:, 86:96] = np.nan
        image[78:82] = np.nan
        truth &= np.isfinite(image)
        hdus.append(_hdu(image, name, {"GAIN": 1.3, "RDNOISE": 6.0, "RDNOISEE": 7.8, "CELLMODE": mode}, truth=truth))
    hdus.append(fits.BinTableHDU.from_columns([fits.Column("RA", "D", array=np.ones(2))], name="CAT.2MASS"))
    return [_write(folder, "20160202T030000.0_m31.odi_r.fits", hdus)]


def int_wfc(folder, rng):
    """Raw: four CCDs."""
    cards = {
        "TELESCOP": "INT",
        "INSTRUME": "WFC",
        "OBSERVAT": "LAPALMA",
        "OBSTYPE": "TARGET",
        "IMAGETYP": "object",
        "DATE-OBS": "2003-08-20",
        "UTSTART": "01:02:03.4",
        "EXPTIME": 120.0,
        "LONGITUD": 17.877639,
        "CCDXPIXE": 13.5e-6,
        "CCDYPIXE": 13.5e-6,
        "CCDXBIN": 1,
        "CCDYBIN": 1,
    }
    hdus = [_empty(cards)]
    for number in range(1, 5):
        borders = _with_borders(rng, 208, 170, (51, 178, 1, 150), gain=2.8)
        own = {
            "BIASSEC": "[10:40,1:150]",
            "TRIMSEC": "[51:178,1:150]",
            "GAIN": 2.8 + 0.1 * number,
            "READNOIS": 6.0,
            "SATURATE": 65535,
            "IMAGEID": number,
        }
        hdus.append(_hdu(**borders, name=f"im{number}", cards=own))
    return [_write(folder, "r362811.fit", hdus)]


def int_wfc_sky(folder, rng):
    """A twilight flat."""
    path = int_wfc(folder, rng)[0]
    target = path.with_name("r362801.fit")
    path.rename(target)
    fits.setval(target, "OBSTYPE", value="SKY")
    fits.setval(target, "IMAGETYP", value="sky")
    return [target]


def imacs(folder, rng):
    """A raw CCD."""
    cards = {
        "INSTRUME": "IMACS Short-Camera",
        "TELESCOP": "Baade_6.5m",
        "SITENAME": "LCO",
        "EXPTYPE": "Object",
        "EGAIN": 0.9,
        "ENOISE": 4.5,
        "DATASEC": "[1:128,1:160]",
        "BIASSEC": "[129:160,1:192]",
        "BINNING": "1x1",
        "CHIP": 2,
        "EXPTIME": 60.0,
        "UT-DATE": "2012-03-22",
        "UT-TIME": "03:10:20",
        "NIGHT": "21Mar2012",
        "DATE-OBS": "2012-03-22",
    }
    borders = _with_borders(rng, 160, 192, (1, 128, 1, 160), gain=0.9)
    return [_write(folder, "iff0123c2.fits", [_single(**borders, cards=cards)])]


def lbc(folder, rng):
    """Raw: two chips of four and a technical one."""
    cards = {
        "TELESCOP": "LBT-SX",
        "INSTRUME": "LBC_BLUE",
        "IMAGETYP": "object",
        "OBJECT": "NGC 1313",
        "LBCOBNAM": "NGC1313_V",
        "EXPTIME": 100.0,
        "DATE_OBS": "2012-10-10T05:21:10.1",
        "UTC_OBS": "05:21:10.1",
        "LBCBIN": "1x1",
    }
    hdus = [_empty(cards)]
    for name in ("LBCCHIP1", "LBCCHIP2", "TECHCHIP1"):
        borders = _with_borders(rng, 208, 170, (51, 178, 1, 160))
        own = {
            "GAIN": 1.96,
            "RDNOISE": 11.4,
            "TRIMSEC": "[51:178,1:160]",
            "BIASSEC": "[179:208,1:160]",
            "DATASEC": "[51:178,1:170]",
            "SATURATE": 65535,
        }
        hdus.append(_hdu(**borders, name=name, cards=own))
    return [_write(folder, "lbcb.20121010.052110.fits", hdus)]


def omegacam(folder, rng):
    """Raw: two CCDs of 32."""
    cards = {
        "TELESCOP": "ESO-VST",
        "INSTRUME": "OMEGACAM",
        "EXPTIME": 120.0,
        "DATE-OBS": "2013-05-05T03:04:05.6789",
        "MJD-OBS": 56417.1,
        "ESO DPR CATG": "SCIENCE",
        "ESO DPR TYPE": "OBJECT",
        "ESO DPR TECH": "IMAGE,DITHER",
        "ESO DET WIN1 BINX": 1,
        "ESO DET WIN1 BINY": 1,
    }
    hdus = [_empty(cards)]
    for number in (65, 66):
        borders = _with_borders(rng, 208, 180, (49, 160, 1, 160), gain=2.4)
        own = {
            "ESO DET OUT1 CONAD": 2.5,
            "ESO DET OUT1 GAIN": 0.4,
            "ESO DET OUT1 RON": 5.4,
            "ESO DET OUT1 PRSCX": 48,
            "ESO DET OUT1 NX": 112,
            "ESO DET OUT1 PRSCY": 0,
            "ESO DET OUT1 NY": 160,
            "ESO DET OUT1 OVSCY": 20,
            "ESO DET OUT1 OVSCX": 48,
        }
        hdus.append(_hdu(**borders, name=f"ESO_CCD_#{number}", cards=own))
    return [_write(folder, "OMEGA.2013-05-05T03:04:05.678.fits", hdus)]


def omegacam_flat(folder, rng):
    """A dome flat."""
    path = omegacam(folder, rng)[0]
    target = path.with_name("OMEGA.2013-05-05T12:04:05.678.fits")
    path.rename(target)
    with fits.open(target, mode="update") as hdus:
        hdus[0].header["ESO DPR CATG"] = "CALIB"
        hdus[0].header["ESO DPR TYPE"] = "FLAT,DOME"
    return [target]


def vircam_conf(folder, rng):
    """A confidence map of CASU."""
    cards = {
        "TELESCOP": "ESO-VISTA",
        "INSTRUME": "VIRCAM",
        "EXPTIME": 10.0,
        "ESO DPR CATG": "SCIENCE",
        "ESO DPR TYPE": "OBJECT",
    }
    data = _hdu(np.full((128, 128), 100, "int16"), "DET1.CHIP1")
    return [_write(folder, "v20100405_00123_st_conf.fit", [_empty(cards), data])]


def kmtnet(folder, rng):
    """A mosaic of amplifiers: two of 32."""
    cards = {
        "TELESCOP": "KMTNet 1.6m",
        "OBSERVAT": "SSO",
        "INSTRUME": "KMTS",
        "IMAGETYP": "object",
        "OBSTYPE": "OBJECT",
        "EXPTIME": 60.0,
        "DATE-OBS": "2016-07-01T15:30:00",
    }
    hdus = [_empty(cards)]
    for name in ("M01", "K08"):
        borders = _with_borders(rng, 188, 160, (28, 155, 1, 160))
        hdus.append(_hdu(**borders, name=name, cards={"DATASEC": "[28:155,1:160]", "BIASSEC": "[156:187,1:160]"}))
    return [_write(folder, "kmts.20160701.012345.fits", hdus)]


def skymapper(folder, rng):
    """Raw: two amplifiers; DATASEC has the overscan in it."""
    cards = {
        "INSTRUME": "SkyMapper Imager",
        "TELESCOP": "SkyMapper",
        "IMAGETYP": "object",
        "EXPTIME": 100.0,
        "DATE-OBS": "2015-05-05T13:10:00",
    }
    hdus = [_empty(cards)]
    for number in (1, 2):
        borders = _with_borders(rng, 200, 160, (51, 178, 1, 160))
        own = {
            "DATASEC": "[1:200,1:160]",
            "TRIMSEC": "[51:178,1:160]",
            "BIASSEC": "[181:200,1:160]",
            "GAIN": 0.75,
            "RDNOISE": 7.0,
        }
        hdus.append(_hdu(**borders, name=f"amp{number}", cards=own))
    return [_write(folder, "Skymapper_0123456789_00000_2015-05-05T13:10:00.fits", hdus)]


def atlas(folder, rng):
    """A reduced frame, compressed."""
    cards = {
        "OBSNAME": "02a58484o0123c",
        "CONTROLR": "STA Archon",
        "OBSTYPE": "OBJECT",
        "EXPTIME": 30.0,
        "MJD-OBS": 58484.4,
        "GAIN": 2.0,
        "FLATFILE": "/atlas/cal/02a/flat.c.fits",
        "SATURATE": 60000,
    }
    image, truth = _image(rng, dtype="int16")
    return [
        _write(folder, "02a58484o0123c.fits.fz", [_empty(), _hdu(image, None, cards, fits.CompImageHDU, truth=truth)])
    ]


def legacysurvey_coadd(folder, rng):
    """An image of a brick."""
    cards = {"BRICKNAM": "0001p000", "IMTYPE": "image", "SURVEY": "DECaLS", "BRICK": "0001p000"}
    image, _ = _image(rng)
    return [
        _write(
            folder,
            "legacysurvey-0001p000-image-r.fits.fz",
            [_empty(), _hdu(image, None, cards, fits.CompImageHDU)],
        )
    ]


def unwise(folder, rng):
    """A coadd of WISE."""
    return [
        _write(folder, "unwise-0000p000-w1-img-m.fits", [fits.PrimaryHDU(_image(rng)[0], header({"TELESCOP": "WISE"}))])
    ]


def _companions(*indices):
    return {index: ("companion", index) for index in indices}


#: What the reader must find.
EXPECTED = {
    "decam_raw": expect("decam", [1, 3], gain=4.23, night="20190401"),
    "decam_raw_flat": left("decam", "flat", night="20190401", type="dome flat"),
    "decam_cp": expect("decam-cp", [1, 2], _companions(1, 2), 5, 1, 4.0, "20190401"),
    "decam_cp_old": expect("decam-cp", [1, 2], _companions(1, 2), 16, 1, 4.0, "20190401"),
    "decam_cp_mask": left("decam-cp", "mask", night="20190401"),
    "des_desdm": expect("des-desdm", [1], {1: ("frame", 2)}, 16, 1, 1.0, night="20130915"),
    "des_desdm_unnamed": expect("des-desdm", [1], {1: ("frame", 2)}, 16, 1, 1.0, night="20130915"),
    "mosaic3_cp": expect("noirlab-cp", [1, 2], _companions(1, 2), 5, 1, night="20160211"),
    "bok_cp": expect("noirlab-cp", [1, 2], _companions(1, 2), 5, 1, night="20170429"),
    "ztf_sciimg": expect("ztf", [0], _companions(0), 128, 16, 6.2, "20200530"),
    "ztf_mskimg": left("ztf", "mask", night="20200530"),
    "lsst_visit_image": expect("lsst-exposure", [1], {1: ("frame", 2)}, 8, 1, night="20241108", type="science"),
    "lsst_post_isr": expect("lsst-exposure", [1], {1: ("frame", 2)}, 1, 8, night="20230511"),
    "lsst_coadd": left("lsst-exposure", "coadd"),
    "decam_lsst": expect("decam-lsst", [1], {1: ("frame", 2)}, 8, 1, night="20190401"),
    "hsc_calexp": expect("hsc-calexp", [1], {1: ("frame", 2)}, 8, 1, night="20141117"),
    "lsst_raw": expect("lsst-raw", [1, 2, 3], gain=1.6, night="20250420"),
    "lsst_raw_flat": left("lsst-raw", "flat", night="20250420", type="flat"),
    "latiss_raw": expect("lsst-raw", [1, 2], gain=1.6, night="20250420"),
    "lsst_guider": left("lsst-raw", "guider", night="20250420"),
    "kbmod_workunit": expect("kbmod", [1, 5], {1: ("frame", 3), 5: ("frame", 7)}, 8, 1, type=""),
    "kbmod_layered": expect("kbmod-layered", [1], type=""),
    "hsc_raw": expect("hsc-raw", [0], gain=3.1, night="20141117"),
    "hsc_focus": left("hsc-raw", "focus", night="20141117"),
    "suprimecam": expect("suprimecam", [0], gain=3.1, night="20100317"),
    "suprimecam_old": expect("suprimecam-2000", [0], gain=2.6, night="20030317"),
    "suprimecam_flat": left("suprimecam", "flat", night="20100317", type="domeflat"),
    "megacam_raw": expect("cfht-megacam", [1, 2], gain=1.62, night="20100513"),
    "megacam_elixir": expect("cfht-megacam", [1, 2], gain=1.62, night="20100513"),
    "megacam_bias": left("cfht-megacam", "bias", night="20100513", type="bias"),
    "wircam": left("cfht-wircam", "infrared"),
    "panstarrs_warp": expect("panstarrs", [1], _companions(1), 256, 8, 1.02, type=""),
    "panstarrs_stack": left("panstarrs", "hyperbolic"),
    "sdss_frame": expect("sdss", [0], gain=None, night="20000926", type="science"),
    "sdss_fpc": expect("sdss", [0], gain=None, night="20000926", type="science"),
    "odi": expect("wiyn-odi", [1, 2], gain=1.3, night="20160201"),
    "int_wfc": expect("int-wfc", [1, 2, 3, 4], gain=2.9, night="20030819", type="target"),
    "int_wfc_sky": left("int-wfc", "sky", night="20030819", type="sky"),
    "imacs": expect("imacs", [0], gain=0.9, night="20120321"),
    "lbc": expect("lbc", [1, 2], gain=1.96, night="20121009"),
    "omegacam": expect("omegacam", [1, 2], gain=2.5, night="20130504"),
    "omegacam_flat": left("omegacam", "flat", night="20130504", type="flat,dome"),
    "vircam_conf": left("vircam", "stack", type="object"),
    "kmtnet": expect("kmtnet-sso", [1, 2], gain=None, night="20160701"),
    "skymapper": expect("skymapper", [1, 2], gain=0.75, night="20150505"),
    "atlas": expect("atlas-hko", [1], gain=2.0),
    "legacysurvey_coadd": left("legacysurvey-coadd", "coadd", type="image"),
    "unwise": left("space-infrared", "coadd"),
}
