"""Las Cumbres Observatory.

After LCOGT/banzai (lco.py, data.py, settings.py), banzai-floyds, banzai-nres and headers of its frames.
"""

import numpy as np
from astropy.io import fits

from archives.frames import SHAPE, blacken, expect, left, raw, scene, slit, write


def _comp(data, cards, name, lossless=False):
    kind = {"compression_type": "GZIP_2"} if lossless else {"compression_type": "RICE_1"}
    if data.dtype.kind == "f":
        kind = {"compression_type": "RICE_1", "quantize_level": 64}
    hdu = fits.CompImageHDU(data, name=name, **kind)
    hdu.header.update(cards)
    return hdu


def _lco(**more):
    return {
        "ORIGIN": "LCOGT",
        "DATADICV": "LCOGT-DIC.FITS-0.11.0",
        "HDRVER": "LCOGT-HDR-1.4.0",
        "SITEID": "lsc",
        "TELESCOP": "1m0-05",
        "LONGITUD": -70.8047889,
        "OBSTYPE": "EXPOSE",
        "TIMESYS": "UTC",
        "DATE-OBS": "2019-05-03T02:11:12.100",
        "DAY-OBS": "20190502",
        "UTSTART": "02:11:12.100",
        "EXPTIME": 120.0,
        "REQTIME": 120.0,
        "INSTRUME": "fa15",
        "CONFMODE": "full_frame",
        "GAIN": 1.0,
        "RDNOISE": 8.0,
        "SATURATE": 47500.0,
        "MAXLIN": 0.0,
        "DETSIZE": "[1:0,1:0]",
        "AMPNAME": "default",
        "CCDSEC": "UNKNOWN",
        "CCDSUM": "1 1",
        "BIASSEC": "UNKNOWN",
        "DATASEC": "UNKNOWN",
        "TRIMSEC": "UNKNOWN",
        "DETSEC": "UNKNOWN",
        "CCDXPIXE": 1.5e-5,
        "CCDYPIXE": 1.5e-5,
        **more,
    }


def _reduced(folder, name, rng, error=True, **cards):
    """Write an e91 frame: PRIMARY (empty), SCI, CAT, BPM and, since 2020, ERR, packed as fpack does."""
    image, truth = scene(rng, level=500, gain=1.0, charge=8000)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 40] |= 1
    mask[100:104, 120:124] |= 2
    mask[:6, :6] |= 4
    image[:, 40], image[100:104, 120:124] = 0, 120000
    head = _lco(
        RLEVEL=91,
        PIPEVER="1.8.0",
        L1STATOV="1",
        L1STATTR="1",
        SATURATE=120000.0,
        DATASEC="[1:3136,1:2112]",
        TRIMSEC="[11:3067,8:2046]",
        BIASSEC="[3086:3100,1:2048]",
        **cards,
    )
    catalog = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0, 2.0])], name="CAT")
    hdus = [fits.PrimaryHDU(), _comp(image.astype(np.float32), head, "SCI"), catalog, _comp(mask, {}, "BPM")]
    if error:
        hdus.append(_comp(np.sqrt(np.abs(image) + 64).astype(np.float32), {}, "ERR"))
    return [write(folder, name, hdus, h1=truth)]


def lco_sinistro_raw(folder, rng):
    """Raw Sinistro: an empty 2-D primary (0 x 0) and four amplifiers, each with an overscan of 32 columns."""
    primary = fits.PrimaryHDU(np.zeros((0, 0), np.uint16))
    primary.header.update(
        _lco(GAIN=0.0, DATASEC="[1:2080,1:2058]", TRIMSEC="[1:1024,1:1024]", SATURATE=47500.0, MAXLIN=47500.0)
    )
    hdus, truths = [primary], {}
    detector = ("[1:128,192:97]", "[1:128,1:96]", "[256:129,1:96]", "[256:129,192:97]")
    for number, (gain, section) in enumerate(zip((3.20, 3.31, 3.15, 3.26), detector, strict=True), 1):
        image, truth = scene(rng, (100, 160), 200, gain, 8, bias=1500, stars=5)
        dark = blacken(image, truth, (np.s_[:, 128:],), rng, 1500)
        hdu = fits.ImageHDU(raw(image), name="SCI", ver=number)
        hdu.header.update(
            {"CCDSUM": "1 1", "DETSEC": section, "BIASSEC": "[135:160,1:96]", "DATASEC": "[1:128,1:96]", "GAIN": gain}
        )
        hdus.append(hdu)
        truths |= {f"h{number}": truth, f"o{number}": dark}
    return [write(folder, "lsc1m005-fa15-20190502-0101-e00.fits", hdus, **truths)]


def lco_sinistro_e91(folder, rng):
    """Reduced Sinistro; sections left from the raw frame."""
    return _reduced(folder, "lsc1m005-fa15-20190502-0101-e91.fits.fz", rng)


def lco_sbig_e91(folder, rng):
    """Reduced SBIG 0.4 m of 2016, without ERR."""
    return _reduced(
        folder,
        "tfn0m414-kb29-20190502-0060-e91.fits.fz",
        rng,
        error=False,
        INSTRUME="kb29",
        TELESCOP="0m4-14",
        SITEID="tfn",
        LONGITUD=-16.511703,
        CCDSUM="2 2",
        CCDXPIXE=9e-6,
        CCDYPIXE=9e-6,
    )


def lco_qhy_e91(folder, rng):
    """Reduced QHY600."""
    return _reduced(
        folder,
        "ogg0m404-sq30-20190502-0100-e91.fits.fz",
        rng,
        INSTRUME="sq30",
        TELESCOP="0m4-04",
        SITEID="ogg",
        LONGITUD=-156.2569,
        BUNIT="electron",
        CCDXPIXE=3.76e-6,
        CCDYPIXE=3.76e-6,
    )


def lco_muscat_e91(folder, rng):
    """Reduced MuSCAT3."""
    return _reduced(
        folder,
        "ogg2m001-ep04-20190502-0050-e91.fits.fz",
        rng,
        INSTRUME="ep04",
        TELESCOP="2m0-01",
        SITEID="ogg",
        LONGITUD=-156.2569,
        BUNIT="electron",
        CCDXPIXE=1.35e-5,
        CCDYPIXE=1.35e-5,
    )


def _lco_single(folder, name, rng, **cards):
    """Write a raw frame of one amplifier: DATASEC is all, TRIMSEC what is good, packed."""
    image, truth = scene(rng, (192, 224), 250, 1.4, 8, bias=1000)
    dark = blacken(image, truth, (np.s_[:, 208:],), rng, 1000)
    head = _lco(
        GAIN=1.4,
        DATASEC="[1:224,1:192]",
        TRIMSEC="[5:204,3:190]",
        BIASSEC="[211:224,1:192]",
        SATURATE=46000.0,
        EXTVER=1,
    )
    head.update(cards)
    return [write(folder, name, [fits.PrimaryHDU(), _comp(raw(image), head, "SCI")], h1=truth, o1=dark)]


def lco_sbig_raw(folder, rng):
    """Raw SBIG."""
    return _lco_single(
        folder,
        "cpt0m407-kb87-20190502-0070-e00.fits.fz",
        rng,
        INSTRUME="kb87",
        TELESCOP="0m4-07",
        CCDXPIXE=9e-6,
        CCDYPIXE=9e-6,
    )


def lco_spectral_raw(folder, rng):
    """Raw Spectral of a 2 m telescope."""
    return _lco_single(folder, "coj2m002-fs01-20190502-0031-e00.fits.fz", rng, INSTRUME="fs01", TELESCOP="2m0-02")


def lco_floyds_raw(folder, rng):
    """Raw FLOYDS, 2079 x 512: its header says of no section where it is."""
    image, truth = slit(rng, (512, 2079), 60, 1.4, 8, bias=1000)
    dark = blacken(image, truth, (np.s_[:, 2048:],), rng, 1000)
    head = _lco(GAIN=1.4, DATASEC="[1:2079,1:512]", SATURATE=46000.0, EXTVER=1)
    head.update({"INSTRUME": "en12", "TELESCOP": "2m0-02", "OBSTYPE": "SPECTRUM"})
    hdus = [fits.PrimaryHDU(), _comp(raw(image), head, "SCI")]
    return [write(folder, "coj2m002-en12-20190502-0021-e00.fits.fz", hdus, h1=truth, o1=dark)]


def lco_floyds_arc(folder, rng):
    """Arc of FLOYDS."""
    return _lco_single(folder, "coj2m002-en12-20190502-0022-a00.fits.fz", rng, INSTRUME="en12", OBSTYPE="ARC")


def lco_floyds_lamp(folder, rng):
    """Lamp flat of FLOYDS."""
    return _lco_single(folder, "coj2m002-en12-20190502-0023-w00.fits.fz", rng, INSTRUME="en12", OBSTYPE="LAMPFLAT")


def lco_skyflat(folder, rng):
    """Raw sky flat."""
    return _lco_single(folder, "cpt0m407-kb87-20190502-0003-f00.fits.fz", rng, INSTRUME="kb87", OBSTYPE="SKYFLAT")


def lco_master_dark(folder, rng):
    """Master dark of BANZAI."""
    image, _ = scene(rng, level=1)
    head = _lco(OBSTYPE="DARK", ISMASTER=True, RLEVEL=91, PIPEVER="1.8.0")
    hdus = [
        fits.PrimaryHDU(),
        _comp(image.astype(np.float32), head, "SCI"),
        _comp(np.zeros(SHAPE, np.uint8), {}, "BPM"),
    ]
    return [write(folder, "lsc1m005-fa15-20190502-dark-full_frame-bin1x1.fits.fz", hdus)]


def lco_bpm(folder, rng):
    """Bad-pixel mask; OBSTYPE is that of the frames behind it."""
    plane = (rng.random(SHAPE) < 0.01).astype(np.uint8)
    hdu = _comp(plane, _lco(OBSTYPE="SKYFLAT", RLEVEL=91, PIPEVER="0.9.4"), "SCI")
    return [write(folder, "bpm_fa15_20190502.fits.fz", [fits.PrimaryHDU(), hdu])]


def lco_sinistro_cube(folder, rng):
    """Sinistro before 2016: a cube of four amplifiers."""
    planes = [scene(rng, (128, 140), 200, 3.3, 8, bias=1500, stars=5)[0] for _ in range(4)]
    hdu = fits.PrimaryHDU(raw(np.array(planes)))
    hdu.header.update(_lco(INSTRUME="fl03", GAIN="[3.3,3.4,3.3,3.4]", DATASEC="[1:4094,1:4096]"))
    return [write(folder, "lsc1m005-fl03-20140502-0101-e00.fits", [hdu])]


def lco_nres_raw(folder, rng):
    """Raw NRES: the spectrum and images of the guiders."""
    image, truth = scene(rng, level=50, gain=1.0, noise=4, bias=500)
    primary = fits.PrimaryHDU()
    primary.header.update(_lco(INSTRUME="fa09", TELESCOP="nres01", OBSTYPE="TARGET"))
    spectrum = fits.ImageHDU(raw(image), name="SPECTRUM")
    spectrum.header.update({"GAIN": 1.0, "DATASEC": "[1:176,1:160]", "CCDSUM": "1 1"})
    guider = fits.ImageHDU(raw(scene(rng, (64, 64), stars=2)[0]), name="AGU_1")
    return [write(folder, "lscnrs01-fa09-20190502-0036-e00.fits", [primary, spectrum, guider], h1=truth)]


def lco_nres_e92(folder, rng):
    """Reduced 2-D NRES: SPECTRUM, BPM, ERR, TRACES, PROFILE, BLAZE, WAVELENGTH."""
    image, truth = scene(rng, level=80, gain=1.0, noise=4)
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 40] = 1
    primary = fits.PrimaryHDU()
    head = _lco(INSTRUME="fa09", TELESCOP="nres01", OBSTYPE="TARGET", RLEVEL=92, PIPEVER="1.1.0")
    primary.header.update(head)
    spectrum = fits.ImageHDU(image.astype(np.float32), name="SPECTRUM")
    spectrum.header.update(head)
    planes = [
        fits.ImageHDU(mask, name="BPM"),
        fits.ImageHDU(np.sqrt(np.abs(image)).astype(np.float32), name="ERR"),
        fits.ImageHDU((mask + 3).astype(np.uint8), name="TRACES"),
    ]
    planes += [fits.ImageHDU(np.ones(SHAPE, np.float32), name=n) for n in ("PROFILE", "BLAZE", "WAVELENGTH")]
    return [write(folder, "lscnrs01-fa09-20190502-0036-e92-2d.fits", [primary, spectrum, *planes], h1=truth)]


_E91 = {"science": (1,), "mask": {1: ("frame", 3)}, "cosmic_ray": 8, "bad": 4, "gain": 1.0, "night": "20190502"}

#: What the reader must find.
EXPECTED = {
    "lco_sinistro_raw": expect("lco-sinistro", (1, 2, 3, 4), gain=3.2, night="20190502"),
    "lco_sinistro_e91": expect("lco-sinistro", **_E91),
    "lco_sbig_e91": expect("lco", **_E91),
    "lco_qhy_e91": expect("lco", **_E91),
    "lco_muscat_e91": expect("lco", **_E91),
    "lco_sbig_raw": expect("lco", (1,), gain=1.4, night="20190502"),
    "lco_spectral_raw": expect("lco", (1,), gain=1.4, night="20190502"),
    "lco_floyds_raw": expect("lco-floyds", (1,), gain=1.4, night="20190502"),
    "lco_floyds_arc": left("lco-floyds", "arc"),
    "lco_floyds_lamp": left("lco-floyds", "lampflat"),
    "lco_skyflat": left("lco", "skyflat"),
    "lco_master_dark": left("lco-sinistro", "dark"),
    "lco_bpm": left("lco-sinistro", "skyflat"),
    "lco_sinistro_cube": left("lco-sinistro", "cube"),
    "lco_nres_raw": expect("lco-nres", (1,), gain=1.0, night="20190502"),
    "lco_nres_e92": expect("lco-nres", (1,), {1: ("frame", 2)}, 8, 1, 1.0, "20190502"),
}
