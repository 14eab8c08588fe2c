"""SOAR, Magellan, Palomar, La Palma, Calar Alto and other observatories.

After PypeIt's readers, the photometry pipeline's table of telescopes, and the cards of their raw frames.
"""

import numpy as np
from astropy.io import fits

from archives.frames import expect, hdu, left, mef, one, primary, raw, slit, write


def _goodman(kind="OBJECT", **more):
    return {
        "INSTRUME": "ghts_red",
        "TELESCOP": "SOAR 4.1m",
        "OBSERVAT": "SOAR",
        "OBSTYPE": kind,
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2019-05-03T02:11:12.100",
        "CCDSUM": "2 2",
        "GAIN": 1.48,
        "RDNOISE": 3.89,
        "TRIMSEC": "[26:176,1:160]",
        "WAVMODE": "400_M1",
        "LAMP_HGA": "FALSE",
        "LAMP_NE": "FALSE",
    } | more


def goodman_spectrum(folder, rng):
    """Goodman red camera, OBSTYPE SPECTRUM."""
    return one(folder, "0042_SN_03-05-2019.fits", rng, _goodman("SPECTRUM"), True, strips=(np.s_[:, :25],), gain=1.48)


def goodman_comp(folder, rng):
    """Goodman comparison lamp."""
    return one(folder, "0043_HgArNe_03-05-2019.fits", rng, _goodman("COMP", LAMP_HGA="TRUE"), True)


def goodman_reduced(folder, rng):
    """Goodman pipeline, trimmed: the section card outlives it."""
    return one(
        folder,
        "cfzst_0042_SN.fits",
        rng,
        _goodman("SPECTRUM", GSP_TRIM="[26:201,1:160]", TRIMSEC="[26:201,1:160]"),
        True,
        bias=0,
        dtype=np.float32,
    )


def soi_object(folder, rng):
    """SOI raw: four amplifiers."""
    cards = {
        "INSTRUME": "SOI",
        "TELESCOP": "SOAR telescope",
        "OBSTYPE": "OBJECT",
        "EXPTIME": 60.0,
        "DATE-OBS": "2009-05-03T02:11:12.1",
        "CCDSUM": "2 2",
    }
    more = {"DATASEC": "[29:166,1:160]", "BIASSEC": "[167:176,1:160]", "GAIN": 2.1, "RDNOISE": 4.4}
    return mef(
        folder,
        "soi_0042.fits",
        rng,
        cards,
        [(f"im{i}", more) for i in (1, 2)],
        strips=(np.s_[:, :28], np.s_[:, 166:]),
        gain=2.1,
    )


def ldss3_object(folder, rng):
    """LDSS3-C: one amplifier a file."""
    cards = {
        "INSTRUME": "LDSS3-C",
        "TELESCOP": "Clay_Mag_2",
        "EXPTYPE": "Object",
        "EXPTIME": 300.0,
        "DATE-OBS": "2016-05-03",
        "UT-TIME": "02:11:12",
        "NIGHT": "02May2016",
        "BINNING": "1x1",
        "EGAIN": 1.67,
        "ENOISE": 6.5,
        "DATASEC": "[1:150,1:150]",
        "BIASSEC": "[151:176,1:160]",
    }
    return one(folder, "ccd0042c1.fits", rng, cards, strips=(np.s_[:, 150:], np.s_[150:]), gain=1.67)


def ldss3_comp(folder, rng):
    """LDSS3-C arc: EXPTYPE Comp."""
    return one(
        folder,
        "ccd0043c1.fits",
        rng,
        {"INSTRUME": "LDSS3-C", "EXPTYPE": "Comp", "EXPTIME": 1.0, "DATE-OBS": "2016-05-03"},
        True,
    )


def dbsp_red(folder, rng):
    """DBSP red: TSEC1 and BSEC1."""
    cards = {
        "FPA": "DBSP_RED2",
        "OBJECT": "SN",
        "IMGTYPE": "object",
        "LAMPS": "0000000",
        "EXPTIME": 600.0,
        "UTSHUT": "2018-05-03T05:06:07.8",
        "CCDSUM": "1 1",
        "TSEC1": "[1:150,1:160]",
        "BSEC1": "[151:176,1:160]",
        "TELESCOP": "P200",
    }
    return one(folder, "red0042.fits", rng, cards, True, strips=(np.s_[:, 150:],), gain=2.8)


def dbsp_arc(folder, rng):
    """DBSP arc: IMGTYPE cal."""
    return one(
        folder, "blue0001.fits", rng, {"FPA": "DBSP_BLUE", "IMGTYPE": "cal", "LAMPS": "0100000", "EXPTIME": 10.0}, True
    )


def _ing(instrument, obstype="TARGET", imagetyp="object", telescope="WHT", **more):
    return {
        "ORIGIN": "ING La Palma",
        "OBSERVAT": "LAPALMA",
        "TELESCOP": telescope,
        "INSTRUME": instrument,
        "OBSTYPE": obstype,
        "IMAGETYP": imagetyp,
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2010-10-10",
        "UTSTART": "01:02:03.4",
        "CCDXBIN": 1,
        "CCDYBIN": 1,
    } | more


_INGEXT = {"GAIN": 1.2, "READNOIS": 5.0, "BIASSEC": "[151:176,1:160]", "TRIMSEC": "[1:150,1:160]"}


def isis_object(folder, rng):
    """ISIS blue arm: sections in the extension, no DATASEC."""
    return mef(
        folder,
        "r1400042.fit",
        rng,
        _ing("ISIS", CAGLAMPS="Off"),
        [(None, _INGEXT)],
        True,
        strips=(np.s_[:, 150:],),
        gain=1.2,
    )


def isis_arc(folder, rng):
    """ISIS arc."""
    return mef(folder, "r1400043.fit", rng, _ing("ISIS", "ARC", "arc", CAGLAMPS="CuNe+CuAr"), [(None, _INGEXT)], True)


def acam_twilight(folder, rng):
    """ACAM twilight flat: OBSTYPE SKY."""
    return mef(folder, "r1400044.fit", rng, _ing("ACAM", "SKY", "sky"), [(None, _INGEXT)], level=20000)


def ids_object(folder, rng):
    """IDS at the INT."""
    return mef(
        folder,
        "r1400045.fit",
        rng,
        _ing("IDS", telescope="INT"),
        [(None, _INGEXT)],
        True,
        strips=(np.s_[:, 150:],),
        gain=1.2,
    )


def alfosc_object(folder, rng):
    """NOT ALFOSC: gain in the extension."""
    cards = {
        "TELESCOP": "NOT",
        "INSTRUME": "ALFOSC_FASU",
        "IMAGETYP": "OBJECT",
        "OBJECT": "SN",
        "EXPTIME": 300.0,
        "DATE-OBS": "2019-10-10T01:02:03.4",
        "DETXBIN": 1,
        "DETYBIN": 1,
    }
    return mef(
        folder,
        "ALDj100042.fits",
        rng,
        cards,
        [("im1", {"GAIN": 0.16, "RDNOISE": 4.3})],
        gain=0.2,
        level=3000,
        charge=20000,
    )


def alfosc_flat(folder, rng):
    """NOT ALFOSC sky flat."""
    cards = {
        "TELESCOP": "NOT",
        "INSTRUME": "ALFOSC_FASU",
        "IMAGETYP": "FLAT,SKY",
        "EXPTIME": 3.0,
        "DATE-OBS": "2019-10-10T20:02:03.4",
    }
    return mef(folder, "ALDj100001.fits", rng, cards, [("im1", {"GAIN": 0.16})], level=20000)


def dolores_object(folder, rng):
    """TNG DOLORES."""
    cards = {
        "TELESCOP": "TNG",
        "INSTRUME": "LRS",
        "OBS-TYPE": "OBJECT",
        "LMP_ID": "Parking",
        "OBJCAT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2019-10-10T01:02:03.4",
    }
    return one(folder, "TIHV0042.fts", rng, cards, True, gain=0.97)


def dolores_lamp(folder, rng):
    """TNG DOLORES arc: OBS-TYPE CALIB."""
    cards = {
        "TELESCOP": "TNG",
        "INSTRUME": "LRS",
        "OBS-TYPE": "CALIB",
        "LMP_ID": "Ne+Hg",
        "EXPTIME": 5.0,
        "DATE-OBS": "2019-10-10T18:02:03.4",
    }
    return one(folder, "TIHV0001.fts", rng, cards, True)


def osiris_old(folder, rng):
    """GTC OSIRIS before 2023: two CCDs."""
    cards = {
        "TELESCOP": "GTC",
        "INSTRUME": "OSIRIS",
        "OBSMODE": "OsirisLongSlitSpectroscopy",
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-10-10T01:02:03.4",
        "CCDSUM": "2 2",
    }
    return mef(
        folder,
        "0000042-20151010-OSIRIS-OsirisLongSlitSpectroscopy.fits",
        rng,
        cards,
        [(None, {}), (None, {})],
        True,
        gain=0.95,
    )


def osiris_plus(folder, rng):
    """GTC OSIRIS+: one CCD."""
    cards = {
        "TELESCOP": "GTC",
        "INSTRUME": "OSIRIS",
        "OBSMODE": "OsirisBroadBandImage",
        "OBJECT": "SN",
        "EXPTIME": 60.0,
        "DATE-OBS": "2024-10-10T01:02:03.4",
        "CCDSUM": "2 2",
        "GAIN": 1.9,
        "RDNOISE": 4.3,
    }
    return one(folder, "0000042-20241010-OSIRIS-OsirisBroadBandImage.fits", rng, cards, gain=1.9)


def osiris_bias(folder, rng):
    """GTC OSIRIS bias."""
    cards = {
        "TELESCOP": "GTC",
        "INSTRUME": "OSIRIS",
        "OBSMODE": "OsirisBias",
        "OBJECT": "BIAS",
        "EXPTIME": 0.0,
        "DATE-OBS": "2024-10-10T18:02:03.4",
    }
    return one(folder, "0000001-20241010-OSIRIS-OsirisBias.fits", rng, cards, stars=0, level=1)


def _lt(instrument, kind="EXPOSE", **more):
    return {
        "TELESCOP": "Liverpool Telescope",
        "INSTRUME": instrument,
        "OBSTYPE": kind,
        "OBJECT": "SN",
        "EXPTIME": 120.0,
        "DATE-OBS": "2019-10-10T01:02:03.4",
        "UTSTART": "01:02:03.4",
        "CCDXBIN": 2,
        "CCDYBIN": 2,
        "GAIN": 1.62,
        "READNOIS": 8.0,
    } | more


def ioo_object(folder, rng):
    """Liverpool Telescope IO:O, reduced on site."""
    return one(folder, "h_e_20191010_42_1_1_1.fits", rng, _lt("IO:O"), bias=0, dtype=np.float32, gain=1.62)


def ioo_skyflat(folder, rng):
    """Liverpool Telescope IO:O sky flat."""
    return one(folder, "h_f_20191010_1_1_1_1.fits", rng, _lt("IO:O", "SKY-FLAT"), level=20000)


def sprat_object(folder, rng):
    """Liverpool Telescope SPRAT, level 2: detector image, then extracted ones."""
    image, truth = slit(rng, (140, 176), gain=2.45)
    hdus = [
        primary(_lt("SPRAT", GAIN=2.45), image.astype(np.float32)),
        hdu(image[20:120].astype(np.float32), {}, "LSS_NONSS"),
        hdu(image[:1].astype(np.float32), {}, "SPEC_NONSS"),
        hdu(image[:1].astype(np.float32), {}, "SPEC_SS"),
    ]
    return [write(folder, "v_e_20191010_42_1_0_2.fits", hdus, h0=truth)]


def cafos_object(folder, rng):
    """Calar Alto CAFOS: sections written corner by corner."""
    cards = {
        "TELESCOP": "CA-2.2",
        "INSTRUME": "CAFOS 2.2",
        "IMAGETYP": "science",
        "OBJECT": "SN",
        "EXPTIME": 300.0,
        "DATE-OBS": "2010-10-10T01:02:03",
        "CCDBINX": 1,
        "CCDBINY": 1,
        "DATASEC": "[17,1:160,160]",
        "BIASSEC": "[161,1:176,160]",
    }
    return one(
        folder, "caf-20101010-01_02_03-sci-sn.fits", rng, cards, strips=(np.s_[:, :16], np.s_[:, 160:]), gain=2.3
    )


def cafos_flat(folder, rng):
    """Calar Alto CAFOS flat."""
    cards = {
        "TELESCOP": "CA-2.2",
        "INSTRUME": "CAFOS 2.2",
        "IMAGETYP": "flat",
        "OBJECT": "flat",
        "EXPTIME": 3.0,
        "DATE-OBS": "2010-10-10T18:02:03",
    }
    return one(folder, "caf-20101010-18_02_03-cal.fits", rng, cards, level=20000)


def aaomega_object(folder, rng):
    """AAT AAOmega raw: table of fibres behind the image."""
    cards = {
        "TELESCOP": "Anglo-Australian Telescope",
        "INSTRUME": "AAOMEGA-2dF",
        "NDFCLASS": "MFOBJECT",
        "RUNCMD": "RUN",
        "EXPOSED": 1200.0,
        "UTDATE": "2015:05:03",
        "UTSTART": "12:11:12",
        "RO_GAIN": 1.88,
        "RO_NOISE": 3.6,
        "OBJECT": "field",
    }
    image, truth = slit(rng, gain=1.88, bias=400)
    table = fits.BinTableHDU.from_columns([fits.Column("NAME", "8A", array=["a", "b"])], name="STRUCT.MORE.FIBRES")
    return [write(folder, "03may10042.fits", [primary(cards, raw(image)), table], h0=truth)]


def aaomega_arc(folder, rng):
    """AAT AAOmega arc."""
    cards = {
        "TELESCOP": "Anglo-Australian Telescope",
        "INSTRUME": "AAOMEGA-2dF",
        "NDFCLASS": "MFARC",
        "RUNCMD": "ARC",
        "EXPOSED": 30.0,
    }
    return one(folder, "03may10041.fits", rng, cards, True)


def mmt_blue(folder, rng):
    """MMT Blue Channel."""
    cards = {
        "TELESCOP": "mmt",
        "INSTRUME": "mmtbluechan",
        "IMAGETYP": "object",
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-05-03",
        "UT": "05:06:07",
        "CCDSUM": "1 1",
        "GAIN": 1.1,
        "RDNOISE": 2.5,
        "DATASEC": "[1:150,1:160]",
        "BIASSEC": "[151:176,1:160]",
    }
    return one(folder, "sn.0042.fits", rng, cards, True, strips=(np.s_[:, 150:],), gain=1.1)


def mmt_blue_arc(folder, rng):
    """MMT Blue Channel arc."""
    cards = {
        "TELESCOP": "mmt",
        "INSTRUME": "mmtbluechan",
        "IMAGETYP": "comp",
        "COMPLAMP": "HeNeAr",
        "EXPTIME": 10.0,
        "DATE-OBS": "2015-05-03",
    }
    return one(folder, "comp.0001.fits", rng, cards, True)


def binospec_object(folder, rng):
    """MMT Binospec: cards in the extensions."""
    more = {
        "INSTRUME": "Binospec",
        "TELESCOP": "MMT",
        "IMAGETYP": "object",
        "HENEAR": "off",
        "SCRN": "stowed",
        "EXPTIME": 600.0,
        "DATE-OBS": "2019-05-03T05:06:07",
        "CCDSUM": "1 1",
        "DATASEC": "[27:176,1:160]",
        "BIASSEC": "[1:26,1:160]",
    }
    return mef(
        folder,
        "sci_img_2019.0503.050607.fits",
        rng,
        {},
        [(f"im{i}", more) for i in (1, 2)],
        True,
        strips=(np.s_[:, :26],),
        gain=1.05,
    )


def binospec_flat(folder, rng):
    """MMT Binospec flat: screen deployed."""
    more = {
        "INSTRUME": "Binospec",
        "TELESCOP": "MMT",
        "HENEAR": "off",
        "SCRN": "deployed",
        "EXPTIME": 10.0,
        "DATE-OBS": "2019-05-03T05:06:07",
    }
    return mef(folder, "flat_2019.0503.fits", rng, {}, [(f"im{i}", more) for i in (1, 2)], True)


def osmos_object(folder, rng):
    """MDM OSMOS."""
    cards = {
        "INSTRUME": "OSMOS",
        "IMAGETYP": "OBJECT",
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-05-03T05:06:07",
        "CCDXBIN": 1,
        "CCDYBIN": 1,
    }
    return one(folder, "n1.0042.fits", rng, cards, True, gain=2.2)


def bok_bc_domeflat(folder, rng):
    """Bok B&C dome flat: only OBJECT says it."""
    return one(
        folder,
        "d0001.fits",
        rng,
        {"INSTRUME": "bcspec", "OBJECT": "Dome Flat", "EXPTIME": 10.0, "DATE-OBS": "2015-05-03", "UT": "01:06:07"},
        True,
    )


def bok_bc_object(folder, rng):
    """Bok B&C."""
    cards = {
        "INSTRUME": "bcspec",
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-05-03",
        "UT": "05:06:07",
        "CCDBIN1": 1,
        "CCDBIN2": 1,
    }
    return one(folder, "d0042.fits", rng, cards, True, gain=1.5)


def salt_rss(folder, rng):
    """SALT RSS raw: an amplifier an extension."""
    cards = {
        "OBSERVAT": "SALT",
        "TELESCOP": "SALT",
        "INSTRUME": "RSS",
        "CCDTYPE": "OBJECT",
        "OBSTYPE": "OBJECT",
        "DETMODE": "NORMAL",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-05-03",
        "TIME-OBS": "18:06:07",
        "CCDSUM": "2 2",
    }
    more = {"GAIN": 1.7, "RDNOISE": 3.3, "DATASEC": "[27:176,1:160]", "BIASSEC": "[1:26,1:160]"}
    return mef(folder, "P201505030042.fits", rng, cards, [("SCI", more)] * 2, True, strips=(np.s_[:, :26],), gain=1.7)


def focas_object(folder, rng):
    """Subaru FOCAS: four channels, effective pixels as limits."""
    cards = {
        "OBSERVAT": "NAOJ",
        "TELESCOP": "Subaru",
        "INSTRUME": "FOCAS",
        "DATA-TYP": "OBJECT",
        "OBJECT": "SN",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-05-03",
        "UT-STR": "10:06:07.0",
        "BIN-FCT1": 1,
        "BIN-FCT2": 1,
    }
    for channel in range(4):
        cards |= {
            f"S_EFMN{channel + 1}1": 44 * channel + 5,
            f"S_EFMX{channel + 1}1": 44 * channel + 40,
            f"S_EFMN{channel + 1}2": 1,
            f"S_EFMX{channel + 1}2": 160,
            f"S_GAIN{channel + 1}": 2.08,
        }
    strips = [np.s_[:, 44 * c + a : 44 * c + b] for c in range(4) for a, b in ((0, 4), (40, 44))]
    return one(folder, "FCSA00123456.fits", rng, cards, True, strips=strips, gain=2.08)


def focas_comparison(folder, rng):
    """Subaru FOCAS arc."""
    return one(
        folder,
        "FCSA00123450.fits",
        rng,
        {"TELESCOP": "Subaru", "INSTRUME": "FOCAS", "DATA-TYP": "COMPARISON", "EXPTIME": 1.0},
        True,
    )


def kast_object(folder, rng):
    """Lick Kast blue: overscan of both amplifiers last."""
    cards = {
        "VERSION": "kastb",
        "OBJECT": "SN",
        "OBSTYPE": "OBJECT",
        "EXPTIME": 600.0,
        "DATE-OBS": "2015-05-03T05:06:07",
        "COVER": 10,
        "DATASEC": "[1:156,1:160]",
    }
    return one(folder, "b42.fits", rng, cards, True, strips=(np.s_[:, 156:],), gain=1.2)


def kast_arc(folder, rng):
    """Lick Kast arc: OBSTYPE OBJECT, lamp on."""
    return one(
        folder,
        "b1.fits",
        rng,
        {
            "VERSION": "kastb",
            "OBJECT": "arcs",
            "OBSTYPE": "OBJECT",
            "LAMPSTAA": "on",
            "EXPTIME": 10.0,
            "DATE-OBS": "2015-05-03T02:06:07",
        },
        True,
    )


def nickel_object(folder, rng):
    """Lick Nickel."""
    cards = {
        "PROGRAM": "NEWCAM",
        "VERSION": "nickel_direct",
        "INSTRUME": "Nickel Direct Camera",
        "OBSTYPE": "OBJECT",
        "OBJECT": "M57",
        "EXPTIME": 60.0,
        "DATE-OBS": "2015-05-03T05:06:07",
        "COVER": 16,
        "DATASEC": "[1:160,1:160]",
    }
    return one(folder, "d42.fits", rng, cards, strips=(np.s_[:, 160:],))


def nickel_flat(folder, rng):
    """Lick Nickel flat: OBSTYPE OBJECT."""
    cards = {
        "VERSION": "nickel_direct",
        "INSTRUME": "Nickel Direct Camera",
        "OBSTYPE": "OBJECT",
        "OBJECT": "dome flat",
        "EXPTIME": 10.0,
        "DATE-OBS": "2015-05-03T02:06:07",
    }
    return one(folder, "d1.fits", rng, cards, level=20000)


def arctic_quad(folder, rng):
    """APO ARCTIC, read by four amplifiers."""
    cards = {
        "INSTRUME": "arctic",
        "IMAGETYP": "OBJECT",
        "EXPTIME": 60.0,
        "DATE-OBS": "2016-05-03T05:06:07.8",
        "CCDBIN1": 2,
        "CCDBIN2": 2,
        "READAMPS": "Quad",
    }
    for amp, columns, over, rows in (
        ("11", "1:80", "81:88", "1:80"),
        ("12", "1:80", "81:88", "81:160"),
        ("21", "97:176", "89:96", "1:80"),
        ("22", "97:176", "89:96", "81:160"),
    ):
        cards |= {
            f"DSEC{amp}": f"[{columns},{rows}]",
            f"BSEC{amp}": f"[{over},{rows}]",
            f"GTGAIN{amp}": 2.0,
            f"GTRON{amp}": 3.8,
        }
    return one(folder, "sn.0042.fits", rng, cards, strips=(np.s_[:, 80:96],), gain=2.0)


def lrs2_twilight(folder, rng):
    """HET LRS2 twilight."""
    return one(
        folder,
        "20190503T020607.8_056LL_twi.fits",
        rng,
        {"INSTRUME": "lrs2", "IMAGETYP": "twi", "EXPTIME": 10.0, "DATE-OBS": "2019-05-03", "UT": "02:06:07"},
        True,
    )


#: What the reader must find.
EXPECTED = {
    "goodman_spectrum": expect("goodman", gain=1.48, night="20190502"),
    "goodman_comp": left("goodman", "comp"),
    "goodman_reduced": expect("goodman", gain=1.48, night="20190502"),
    "soi_object": expect("soar-imagers", (1, 2), gain=2.1, night="20090502"),
    "ldss3_object": expect("magellan", gain=1.67, night="20160502"),
    "ldss3_comp": left("magellan", "comp"),
    "dbsp_red": expect("dbsp-red", gain=2.8, night="20180502"),
    "dbsp_arc": left("dbsp-blue", "cal"),
    "isis_object": expect("ing", (1,), gain=1.2, night="20101009"),
    "isis_arc": left("ing", "arc"),
    "acam_twilight": left("ing", "sky"),
    "ids_object": expect("ing", (1,), gain=1.2, night="20101009"),
    "alfosc_object": expect("not-alfosc", (1,), gain=0.16, night="20191009"),
    "alfosc_flat": left("not-alfosc", "flat"),
    "dolores_object": expect("tng-dolores", gain=0.97, night="20191009"),
    "dolores_lamp": left("tng-dolores", "calib"),
    "osiris_old": expect("gtc-osiris", (1, 2), gain=0.95, night="20151009"),
    "osiris_plus": expect("gtc-osiris", gain=1.9, night="20241009"),
    "osiris_bias": left("gtc-osiris", "bias"),
    "ioo_object": expect("lt-ioo", gain=1.62, night="20191009"),
    "ioo_skyflat": left("lt-ioo", "flat"),
    "sprat_object": expect("lt-sprat", gain=2.45, night="20191009"),
    "cafos_object": expect("caha", night="20101009"),
    "cafos_flat": left("caha", "flat"),
    "aaomega_object": expect("aat-aaomega", gain=1.88, night="20150503"),
    "aaomega_arc": left("aat-aaomega", "arc"),
    "mmt_blue": expect("mmt", gain=1.1, night="20150502"),
    "mmt_blue_arc": left("mmt", "comp"),
    "binospec_object": expect("mmt-binospec", (1, 2), gain=1.05, night="20190502"),
    "binospec_flat": left("mmt-binospec", "flat"),
    "osmos_object": expect("mdm-osmos", gain=2.2, night="20150502"),
    "bok_bc_domeflat": left("bok-bc", "flat"),
    "bok_bc_object": expect("bok-bc", gain=1.5, night="20150502"),
    "salt_rss": expect("salt", (1, 2), gain=1.7, night="20150503"),
    "focas_object": expect("focas", gain=2.08, night="20150502"),
    "focas_comparison": left("focas", "comparison"),
    "kast_object": expect("lick-kast", night="20150502"),
    "kast_arc": left("lick-kast", "arc"),
    "nickel_object": expect("lick-nickel", night="20150502"),
    "nickel_flat": left("lick-nickel", "flat"),
    "arctic_quad": expect("apo-arctic", gain=2.0, night="20160502"),
    "lrs2_twilight": left("mcdonald-lrs2", "twi"),
}
