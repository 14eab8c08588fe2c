"""Gemini, ESO and Keck.

After DRAGONS (gemini_instruments, DQ_definitions), raw headers of ESO and PypeIt's and mpdaf's readers of them, and
PypeIt's readers of LRIS, DEIMOS, ESI, HIRES and KCWI.
"""

import numpy as np

from archives.frames import BLOCK, SHAPE, bits, blacken, expect, hdu, left, mef, one, primary, raw, scene, slit, write


def _gemini(instrument="GMOS-N", obstype="OBJECT", **more):
    north = instrument not in ("GMOS-S", "F2", "GSAOI")
    side = "Gemini-North" if north else "Gemini-South"
    return {
        "INSTRUME": instrument,
        "OBJECT": "NGC 1",
        "OBSTYPE": obstype,
        "OBSCLASS": "science",
        "OBSERVAT": side,
        "TELESCOP": side,
        "DATE-OBS": "2019-05-01",
        "UT": "10:11:12.5",
        "EXPTIME": 120.0,
        "GRATING": "MIRROR",
        "MASKTYP": 0,
    } | more


def _gmos(folder, name, rng, spectrum=False, **cards):
    exts = []
    for number in range(1, 5):
        data, bias = ("[33:176,1:160]", "[1:32,1:160]") if number % 2 else ("[1:144,1:160]", "[145:176,1:160]")
        exts.append(
            (
                None,
                {
                    "EXTVER": number,
                    "CCDNAME": "BI13-20-4k-1",
                    "AMPNAME": f"BI13-20-4k-1, {number}",
                    "CCDSUM": "2 2",
                    "GAIN": 1.63,
                    "RDNOISE": 4.14,
                    "DATASEC": data,
                    "BIASSEC": bias,
                    "DETSEC": "[1:288,1:320]",
                },
            )
        )
    hdus, truths = [primary(_gemini(**cards))], {}
    for number, (ext, more) in enumerate(exts, 1):
        image, truth = (slit if spectrum else scene)(rng, gain=1.63, noise=4.1, bias=1500)
        strip = np.s_[:, :32] if number % 2 else np.s_[:, 144:]
        truths[f"o{number}"] = blacken(image, truth, (strip,), rng, 1500)
        hdus.append(hdu(raw(image), more, ext))
        truths[f"h{number}"] = truth
    return [write(folder, name, hdus, **truths)]


def gmos_raw(folder, rng):
    """GMOS-N raw: four unnamed amplifiers, overscan left or right."""
    return _gmos(folder, "N20190501S0123.fits", rng)


def gmos_bias(folder, rng):
    """GMOS-N bias."""
    return _gmos(folder, "N20190501S0001.fits", rng, obstype="BIAS", OBJECT="Bias")


def gmos_twilight(folder, rng):
    """GMOS-N twilight flat: OBSTYPE OBJECT."""
    return _gmos(folder, "N20190501S0002.fits", rng, OBJECT="Twilight")


def gmos_arc(folder, rng):
    """GMOS-S arc."""
    return _gmos(
        folder,
        "S20190501S0007.fits",
        rng,
        True,
        instrument="GMOS-S",
        obstype="ARC",
        OBJECT="CuAr",
        GRATING="B600+_G5323",
    )


def gmos_dragons(folder, rng):
    """GMOS-N by DRAGONS: SCI, VAR, DQ of two amplifiers, catalogue and object mask."""
    hdus, truths = (
        [
            primary(
                _gemini(PREPARE="2024-01-01T00:00:00", TRIMOVER="2024-01-01T00:00:01", ADUTOELE="2024-01-01T00:00:02")
            )
        ],
        {},
    )
    for ver in (1, 2):
        image, truth = scene(rng, gain=1.0, level=500, noise=4)
        image[BLOCK] = 0
        truths[f"h{1 + 4 * (ver - 1)}"] = truth
        more = {
            "GAIN": 1.0,
            "RDNOISE": 4.14,
            "BUNIT": "electron",
            "CCDSUM": "2 2",
            "DATASEC": "[1:176,1:160]",
            "TRIMSEC": "[33:208,1:160]",
        }
        hdus += [
            hdu(image.astype(np.float32), more, "SCI", ver),
            hdu(np.abs(image).astype(np.float32), {}, "VAR", ver),
            hdu(bits(SHAPE, np.uint16, 1), {}, "DQ", ver),
            hdu(np.zeros(SHAPE, np.uint8), {}, "OBJMASK", ver),
        ]
    return [write(folder, "N20190501S0123_flatCorrected.fits", hdus, **truths)]


def gmos_dragons_flat(folder, rng):
    """GMOS-N processed flat by DRAGONS."""
    hdus = [
        primary(_gemini(obstype="FLAT", OBJECT="Twilight", PROCFLAT="2024-01-01T00:00:00", PREPARE="x")),
        hdu(np.ones(SHAPE, np.float32), {}, "SCI", 1),
        hdu(np.ones(SHAPE, np.float32), {}, "VAR", 1),
        hdu(np.zeros(SHAPE, np.uint16), {}, "DQ", 1),
    ]
    return [write(folder, "N20190501S0002_flat.fits", hdus)]


def niri_raw(folder, rng):
    """NIRI raw: one extension, no gain card."""
    return mef(
        folder, "N20190501S0300.fits", rng, _gemini("NIRI", COADDS=1, CAMERA="f6"), [(None, {"LNRS": 1})], gain=12.3
    )


def ghost_bundle(folder, rng):
    """GHOST raw: a bundle of three cameras."""
    exts = [(None, {"CAMERA": camera, "DATASEC": "[1:128,1:120]"}) for camera in ("BLUE", "RED", "SLITV")]
    return mef(
        folder,
        "S20230501S0001.fits",
        rng,
        _gemini("GHOST", OBSERVAT="Gemini-South", TELESCOP="Gemini-South"),
        exts,
        shape=(120, 128),
    )


def _eso(instrument, catg="SCIENCE", kind="OBJECT", telescope="ESO-VLT-U1", conad=None, **more):
    cards = {
        "ORIGIN": "ESO-PARANAL",
        "TELESCOP": telescope,
        "INSTRUME": instrument,
        "OBJECT": kind,
        "EXPTIME": 60.0,
        "DATE-OBS": "2015-02-02T03:00:00.123",
        "MJD-OBS": 57055.125,
        "HIERARCH ESO DPR CATG": catg,
        "HIERARCH ESO DPR TYPE": kind,
        "HIERARCH ESO DPR TECH": "IMAGE",
        "HIERARCH ESO TEL GEOLON": -70.4045,
    }
    if conad:
        cards |= {
            "HIERARCH ESO DET OUT1 CONAD": conad,
            "HIERARCH ESO DET OUT1 GAIN": round(1 / conad, 2),
            "HIERARCH ESO DET OUT1 RON": 3.2,
        }
        cards |= {
            "HIERARCH ESO DET CHIP1 PSZX": 15.0,
            "HIERARCH ESO DET CHIP1 PSZY": 15.0,
            "HIERARCH ESO DET WIN1 BINX": 2,
            "HIERARCH ESO DET WIN1 BINY": 2,
        }
    return cards | more


def _output(x=(), y=(), number=1):
    """Return the cards of an output: pixels before its own, its own, those behind, and where it is."""
    words = ("PRSC{}", "N{}", "OVSC{}", "{}")
    return {
        f"HIERARCH ESO DET OUT{number} {word.format(axis)}": value
        for axis, values in (("X", x), ("Y", y))
        for word, value in zip(words, values, strict=False)
    }


def fors2_object(folder, rng):
    """FORS2 raw, one chip in the primary HDU."""
    cards = _eso("FORS2", conad=1.25, EXTNAME="CHIP1", **_output(y=(5, 150, 5)))
    strips = (np.s_[:5], np.s_[155:])
    return one(folder, "FORS2.2015-02-02T03:00:00.123.fits", rng, cards, gain=1.25, strips=strips)


def fors2_flat(folder, rng):
    """FORS2 twilight flat."""
    return one(
        folder, "FORS2.2015-02-02T23:50:00.123.fits", rng, _eso("FORS2", "CALIB", "FLAT,SKY", conad=1.25), level=20000
    )


def fors2_standard(folder, rng):
    """FORS2 standard field: a calibration in name, of the sky in fact."""
    return one(folder, "FORS2.2015-02-02T03:10:00.123.fits", rng, _eso("FORS2", "CALIB", "STD", conad=1.25), gain=1.25)


def efosc2_object(folder, rng):
    """EFOSC2 raw: the card says EFOSC; its output is at the right, and so is what comes before its own pixels."""
    cards = _eso(
        "EFOSC",
        telescope="ESO-NTT",
        conad=1.1,
        **{"HIERARCH ESO TEL GEOLON": -70.7324},
        **_output((6, 170, 0, 340), (0, 154, 6, 1)),
        CDELT1=2.0,
        CDELT2=2.0,
    )
    strips = (np.s_[:, 170:], np.s_[154:])
    return one(folder, "EFOSC.2015-02-02T03:00:00.123.fits", rng, cards, gain=1.1, strips=strips)


def efosc2_arc(folder, rng):
    """EFOSC2 arc."""
    return one(
        folder, "EFOSC.2015-02-02T13:00:00.123.fits", rng, _eso("EFOSC", "CALIB", "WAVE", "ESO-NTT", conad=1.1), True
    )


def xshooter_raw(folder, rng):
    """X-shooter UVB raw."""
    cards = _eso(
        "XSHOOTER",
        conad=1.61,
        **{"HIERARCH ESO SEQ ARM": "UVB", "HIERARCH ESO DPR TECH": "ECHELLE,SLIT,STARE"},
        **_output((12, 152, 12, 1), (0, 160, 0, 1)),
    )
    strips = (np.s_[:, :12], np.s_[:, 164:])
    return one(folder, "XSHOO.2015-02-02T03:00:00.123.fits", rng, cards, True, gain=1.61, strips=strips)


def _product(folder, name, rng, instrument, catg, layers, hduclas=False, bad=256, dtype=np.int32, extra=()):
    """Write a primary (or first extension) image with its error and quality planes as ESO pipelines do."""
    image, truth = slit(rng, level=30, gain=1.0)
    image[BLOCK] = 0
    data = [image.astype(np.float32), np.sqrt(np.abs(image)).astype(np.float32), bits(SHAPE, dtype, bad)]
    head = {**_eso(instrument, conad=1.61), "HIERARCH ESO PRO CATG": catg, **dict(extra)}
    hdus = [primary(head)]
    for number, (layer, plane) in enumerate(zip(layers, data, strict=False)):
        more = {}
        if hduclas:
            more = {
                "HDUCLASS": "ESO",
                "HDUDOC": "DICD",
                "HDUCLAS1": "IMAGE",
                "HDUCLAS2": ("DATA", "ERROR", "QUALITY")[number],
            }
            links = {"SCIDATA": layers[0], "ERRDATA": layers[1], "QUALDATA": layers[2]}
            more |= {key: value for key, value in links.items() if value != layer}
            if number:
                more["HDUCLAS3"] = ("RMSE", "MASKZERO" if dtype == np.uint8 else "FLAG32BIT")[number - 1]
        hdus.append(hdu(plane, more, layer))
    if not hduclas:  # the first plane is the primary HDU
        hdus[0] = primary({**head, "EXTNAME": layers[0]}, data[0])
        del hdus[1]
    return [write(folder, name, hdus, **{"h1" if hduclas else "h0": truth})]


def xshooter_reduced(folder, rng):
    """X-shooter merged two-dimensional spectrum: FLUX, ERRS, QUAL."""
    return _product(
        folder, "SCI_SLIT_MERGE2D_UVB.fits", rng, "XSHOOTER", "SCI_SLIT_MERGE2D_UVB", ["FLUX", "ERRS", "QUAL"]
    )


def muse_raw(folder, rng):
    """MUSE raw: an extension a channel (two of 24), four outputs whose overscans meet in the middle."""
    cards = {}
    for number, (x, y) in enumerate(((1, 1), (152, 1), (152, 136), (1, 136)), 1):
        cards |= _output((4, 76, 8, x), (4, 68, 8, y), number) | {f"HIERARCH ESO DET OUT{number} CONAD": 1.1}
    exts = [(f"CHAN{number:02d}", cards) for number in (1, 2)]
    edges = (np.s_[:4], np.s_[156:], np.s_[:, :4], np.s_[:, 172:])
    strips = (*edges, np.s_[72:88], np.s_[:, 80:96])
    return mef(
        folder,
        "MUSE.2015-02-02T03:00:00.123.fits",
        rng,
        _eso("MUSE", conad=1.1, telescope="ESO-VLT-U4"),
        exts,
        True,
        gain=1.1,
        strips=strips,
    )


def muse_reduced(folder, rng):
    """MUSE reduced detector image: DATA, DQ, STAT."""
    image, truth = slit(rng, level=30, gain=1.0)
    image[BLOCK] = 0
    head = {**_eso("MUSE", telescope="ESO-VLT-U4"), "HIERARCH ESO PRO CATG": "OBJECT_RED"}
    hdus = [
        primary(head),
        hdu(image.astype(np.float32), {"BUNIT": "electron", "ERRDATA": "STAT", "QUALDATA": "DQ"}, "DATA"),
        hdu(bits(SHAPE, np.int32, 256), {"SCIDATA": "DATA"}, "DQ"),
        hdu(np.abs(image).astype(np.float32), {"BUNIT": "electron**2", "SCIDATA": "DATA"}, "STAT"),
    ]
    return [write(folder, "OBJECT_RED_0001-01.fits", hdus, h1=truth)]


def muse_cube(folder, rng):
    """MUSE cube."""
    head = {**_eso("MUSE"), "HIERARCH ESO PRO CATG": "DATACUBE_FINAL", "PRODCATG": "SCIENCE.CUBE.IFS"}
    hdus = [
        primary(head),
        hdu(rng.normal(0, 1, (20, 64, 64)).astype(np.float32), {}, "DATA"),
        hdu(np.ones((20, 64, 64), np.float32), {}, "STAT"),
    ]
    return [write(folder, "DATACUBE_FINAL.fits", hdus)]


def eso_hduclas(folder, rng):
    """VIMOS product with HDUCLAS cards and odd names; quality 0 is good."""
    names = ["CHIP1.DATA", "CHIP1.ERR", "CHIP1.QUAL"]
    return _product(folder, "r_sci_img.fits", rng, "VIMOS", "SCI_IMG_REDUCED", names, True, 1, np.uint8)


def eso_weight(folder, rng):
    """Phase 3 weight map in a file of its own."""
    cards = {"ORIGIN": "ESO", "TELESCOP": "ESO-VLT-U4", "INSTRUME": "HAWKI", "PRODCATG": "ANCILLARY.WEIGHTMAP"}
    return [write(folder, "ADP.2015-02-02T03_weight.fits", [primary(cards, np.ones(SHAPE, np.float32))])]


def eso_master_bias(folder, rng):
    """Master bias of the pipeline."""
    cards = {**_eso("FORS2", "CALIB", "BIAS"), "HIERARCH ESO PRO CATG": "MASTER_BIAS"}
    return [write(folder, "r.FORS2_master_bias.fits", [primary(cards, rng.normal(200, 1, SHAPE).astype(np.float32))])]


def hawki_raw(folder, rng):
    """HAWK-I raw: four chips."""
    exts = [(f"CHIP{number}.INT1", {}) for number in (1, 2)]
    return mef(
        folder,
        "HAWKI.2015-02-02T03:00:00.123.fits",
        rng,
        _eso("HAWKI", telescope="ESO-VLT-U4"),
        exts,
        shape=(128, 128),
        gain=1.7,
    )


def feros_raw(folder, rng):
    """FEROS: a star in one fibre, the lamp in the other."""
    cards = _eso("FEROS", kind="OBJECT,WAVE", telescope="ESO-2.2", conad=1.0)
    return one(folder, "FEROS.2015-02-02T03:00:00.123.fits", rng, cards, True, gain=1.0)


def sinfoni_cube(folder, rng):
    """SINFONI cube."""
    cards = {**_eso("SINFONI", telescope="ESO-VLT-U4"), "HIERARCH ESO PRO CATG": "COADD_OBJ_CUBE"}
    return [write(folder, "COADD_OBJ_CUBE.fits", [primary(cards, rng.normal(0, 1, (20, 64, 64)).astype(np.float32))])]


def wfi_raw(folder, rng):
    """WFI raw: overscan told by ESO cards only."""
    exts = [(f"WIN1.CHIP{number}.OUT1", _output((0, 108, 20, 1), (0, 128, 0, 1))) for number in (1, 2)]
    head = _eso("WFI", telescope="MPI-2.2", **{"HIERARCH ESO TEL GEOLON": -70.7346})
    more = {"strips": (np.s_[:, 108:],), "shape": (128, 128), "gain": 2.0, "stars": 6}
    return mef(folder, "WFI.2015-02-02T03:00:00.123.fits", rng, head, exts, **more)


def _lris(instrument, **more):
    return {
        "TELESCOP": "Keck I",
        "INSTRUME": instrument,
        "OBJECT": "NGC 1",
        "TARGNAME": "NGC 1",
        "DATE-OBS": "2012-05-04",
        "UTC": "10:11:12.0",
        "ELAPTIME": 300,
        "BINNING": "1,1",
        "PRECOL": 16,
        "POSTPIX": 16,
        "PRELINE": 0,
        "POSTLINE": 0,
        "NUMAMPS": 4,
        "TRAPDOOR": "open",
        "LAMPS": "0,0,0,0,0,0",
        "FLAMP1": "off",
        "FLAMP2": "off",
        "CCDGAIN": "low",
    } | more


def _vidinp(folder, name, rng, cards, count=2, spectrum=True, **more):
    exts = []
    for number in range(1, count + 1):
        exts.append(
            (
                f"VidInp{number}",
                {
                    "DATASEC": "[17:160,1:160]",
                    "PRESEC": "[1:16,1:160]",
                    "POSTSEC": "[161:176,1:160]",
                    "DETSEC": f"[{144 * number}:{144 * number - 143},1:160]",
                },
            )
        )
    return mef(folder, name, rng, cards, exts, spectrum, strips=(np.s_[:, :16], np.s_[:, 160:]), **more)


def lris_vidinp(folder, rng):
    """LRIS blue: four amplifiers, columns of prescan and overscan."""
    return _vidinp(folder, "b120504_0042.fits", rng, _lris("LRISBLUE"), gain=1.6)


def lris_red_vidinp(folder, rng):
    """LRIS red, 2009 to 2021."""
    return _vidinp(folder, "r120504_0042.fits", rng, _lris("LRIS", MERCURY="off", NEON="off", HALOGEN="off"), gain=1.2)


def lris_arc(folder, rng):
    """LRIS arc: hatch closed, lamps on."""
    return _vidinp(folder, "b120504_0001.fits", rng, _lris("LRISBLUE", TRAPDOOR="closed", LAMPS="1,0,0,1,1,0"))


def lris_domeflat(folder, rng):
    """LRIS dome flat: hatch open, dome lamp on."""
    return _vidinp(folder, "b120504_0002.fits", rng, _lris("LRISBLUE", FLAMP1="on"))


def lris_old(folder, rng):
    """LRIS red before 2009: one image, two amplifiers, columns before and after all of them."""
    cards = _lris("LRIS", NUMAMPS=2, PREPIX=8, POSTPIX=16)
    return one(folder, "lred0042.fits", rng, cards, True, strips=(np.s_[:, :16], np.s_[:, 144:]), gain=2.0)


def _deimos(kind="Object", **more):
    return {
        "TELESCOP": "Keck II",
        "INSTRUME": "DEIMOS",
        "OBSTYPE": kind,
        "OBJECT": "mask1",
        "DATE-OBS": "2010-09-10",
        "UTC": "10:11:12.0",
        "ELAPTIME": 900,
        "LAMPS": "Off",
        "HATCHPOS": "open",
        "AMPMODE": "SINGLE:B",
        "MOSMODE": "Spectral",
        "BINNING": "1,1",
        "PRECOL": 16,
        "POSTPIX": 16,
    } | more


def deimos_object(folder, rng):
    """DEIMOS spectrum."""
    return _vidinp(folder, "d0910_0042.fits", rng, _deimos(), gain=1.2)


def deimos_flat(folder, rng):
    """DEIMOS internal flat."""
    return _vidinp(folder, "d0910_0006.fits", rng, _deimos("IntFlat", LAMPS="Qz", HATCHPOS="closed"), 2)


def deimos_arc(folder, rng):
    """DEIMOS arc: OBSTYPE Line."""
    return _vidinp(folder, "d0910_0005.fits", rng, _deimos("Line", LAMPS="Ne Ar Kr Xe", HATCHPOS="closed"), 2)


def esi_object(folder, rng):
    """ESI raw: one image, no section cards."""
    cards = {**_deimos(), "INSTRUME": "ESI", "UT": "10:11:12.0", "NUMAMPS": 2, "PREPIX": 8}
    return one(folder, "e100910_0042.fits", rng, cards, True, gain=1.3)


def hires_object(folder, rng):
    """HIRES raw: three chips."""
    cards = {
        "TELESCOP": "Keck I",
        "INSTRUME": "HIRES: High Resolution Echelle Spectrometer",
        "OBJECT": "HD 1",
        "DATE-OBS": "2010-09-10",
        "UTC": "10:11:12.0",
        "ELAPTIME": 900,
        "LAMPCAT1": False,
        "LAMPCAT2": False,
        "LAMPQTZ2": False,
        "LAMPNAME": "none",
        "HATOPEN": True,
        "AUTOSHUT": True,
        "CCDGAIN": "low",
        "BINNING": "2,1",
    }
    exts = [(None, {"DATASEC": "[7:150,1:160]"}) for _ in range(2)]
    return mef(folder, "hires0042.fits", rng, cards, exts, True, strips=(np.s_[:, :6], np.s_[:, 150:]), gain=2.0)


def hires_arc(folder, rng):
    """HIRES arc: no type card, lamp on."""
    cards = {
        "TELESCOP": "Keck I",
        "INSTRUME": "HIRES: High Resolution Echelle Spectrometer",
        "DATE-OBS": "2010-09-10",
        "ELAPTIME": 1,
        "LAMPCAT1": True,
        "LAMPCAT2": False,
        "LAMPQTZ2": False,
        "HATOPEN": False,
        "AUTOSHUT": True,
    }
    return mef(folder, "hires0001.fits", rng, cards, [(None, {"DATASEC": "[7:150,1:160]"})] * 3, True)


def _kcwi(kind="OBJECT", **more):
    cards = {
        "TELESCOP": "Keck II",
        "INSTRUME": "KCWI",
        "CAMERA": "BLUE",
        "IMTYPE": kind,
        "DATE-OBS": "2018-09-10",
        "UTC": "10:11:12.0",
        "XPOSURE": 600.0,
        "BINNING": "2,2",
        "NVIDINP": 2,
        "GAINMUL": 10,
        "GAIN1": 0.15,
        "GAIN2": 0.16,
        "DSEC1": "[9:80,1:160]",
        "DSEC2": "[81:152,1:160]",
        "BSEC1": "[153:164,1:160]",
        "BSEC2": "[165:176,1:160]",
    }
    return cards | more


def kcwi_object(folder, rng):
    """KCWI raw: two amplifiers in one image."""
    return one(
        folder, "kb180910_00042.fits", rng, _kcwi(), True, strips=(np.s_[:, :8], np.s_[:, 152:]), gain=0.15, noise=0.4
    )


def kcwi_arc(folder, rng):
    """KCWI arc."""
    return one(folder, "kb180910_00001.fits", rng, _kcwi("ARCLAMP"), True)


def kcwi_cube(folder, rng):
    """KCWI cube."""
    cube = rng.normal(0, 1, (40, 48, 24)).astype(np.float32)
    return [
        write(
            folder,
            "kb180910_00042_icubes.fits",
            [primary(_kcwi(), cube), hdu(cube, {}, "UNCERT"), hdu(np.zeros(cube.shape, np.uint8), {}, "FLAGS")],
        )
    ]


#: What the reader must find.
EXPECTED = {
    "gmos_raw": expect("gmos-n", (1, 2, 3, 4), gain=1.63, night="20190430"),
    "gmos_bias": left("gmos-n", "bias"),
    "gmos_twilight": left("gmos-n", "twilight"),
    "gmos_arc": left("gmos-s", "arc"),
    "gmos_dragons": expect("gemini-north-reduced", (1, 5), {1: ("frame", 3), 5: ("frame", 7)}, 8, 1, 1.0, "20190430"),
    "gmos_dragons_flat": left("gemini-north-reduced", "flat"),
    "niri_raw": expect("gemini-north-nir", (1,), night="20190430"),
    "ghost_bundle": left("gemini-south-nir", "bundle"),
    "fors2_object": expect("fors2", gain=1.25, night="20150201"),
    "fors2_flat": left("fors2", "flat"),
    "fors2_standard": expect("fors2", gain=1.25, night="20150201"),
    "efosc2_object": expect("efosc2", gain=1.1, night="20150201"),
    "efosc2_arc": left("efosc2", "wave"),
    "xshooter_raw": expect("xshooter", gain=1.61, night="20150201"),
    "xshooter_reduced": expect(
        "xshooter", (0,), mask={0: ("frame", 2)}, cosmic_ray=32, bad=256, gain=1.61, night="20150201"
    ),
    "muse_raw": expect("muse", (1, 2), gain=1.1, night="20150201"),
    "muse_reduced": expect("muse", (1,), mask={1: ("frame", 2)}, cosmic_ray=32, bad=256, night="20150201"),
    "muse_cube": left("muse", "no detector image"),
    "eso_hduclas": expect("eso", (1,), mask={1: ("frame", 3)}, cosmic_ray=2, bad=1, gain=1.61, night="20150201"),
    "eso_weight": left("hawki", "weight"),
    "eso_master_bias": left("fors2", "bias"),
    "hawki_raw": expect("hawki", (1, 2), gain=1.705, night="20150201"),
    "feros_raw": expect("eso-echelle", gain=1.0, night="20150201"),
    "sinfoni_cube": left("sinfoni", "a cube"),
    "wfi_raw": expect("eso-wfi", (1, 2), gain=2.0, night="20150201"),
    "lris_vidinp": expect("keck-lris-blue", (1, 2), gain=1.6, night="20120503"),
    "lris_red_vidinp": expect("keck-lris-red", (1, 2), gain=1.2, night="20120503"),
    "lris_arc": left("keck-lris-blue", "trapdoor"),
    "lris_domeflat": left("keck-lris-blue", "lamp"),
    "lris_old": expect("keck-lris", night="20120503"),
    "deimos_object": expect("keck-deimos", (1, 2), gain=1.2, night="20100909"),
    "deimos_flat": left("keck-deimos", "flat"),
    "deimos_arc": left("keck-deimos", "line"),
    "esi_object": expect("keck-esi", gain=1.3, night="20100909"),
    "hires_object": expect("keck-hires", (1, 2), night="20100909"),
    "hires_arc": left("keck-hires", "lamp"),
    "kcwi_object": expect("keck-kcwi", gain=0.15, night="20180909"),
    "kcwi_arc": left("keck-kcwi", "arc"),
    "kcwi_cube": left("ifu-cubes", "cube"),
}
