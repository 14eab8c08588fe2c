"""Small observatories: BlackGEM, Swope, DFOSC, RTT150, Huntsman, MicroObservatory, NEOSSat.

After BlackBOX, and the photometry pipeline's table of telescopes.
"""

import numpy as np
from astropy.io import fits

from archives.frames import SHAPE, blacken, expect, left, raw, scene, write


def _simple(folder, name, rng, cards, dtype=np.uint16, **more):
    """Write an image in the primary HDU."""
    image, truth = scene(rng, **{"bias": 500.0, **more})
    data = raw(image) if dtype == np.uint16 else image.astype(dtype)
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(cards)
    return [write(folder, name, [hdu], h0=truth)]


def blackgem_red(folder, rng):
    """BlackBOX: NAME_red.fits in electron with NAME_mask.fits beside it."""
    cards = {
        "TELESCOP": "BG2",
        "INSTRUME": "BlackGEM CCD",
        "IMAGETYP": "object",
        "EXPTIME": 60.0,
        "BUNIT": "e-",
        "GAIN": 1.0,
        "GAIN-P": True,
        "RDNOISE": 10.0,
        "SATURATE": 96000.0,
        "MASKFILE": "BG2_20230401_031415_mask",
        "BB-V": "1.3.0",
        "DATE-OBS": "2023-04-01T03:14:15.926",
        "SITELONG": -70.738,
        "XBINNING": 1,
        "YBINNING": 1,
    }
    frame = _simple(folder, "BG2_20230401_031415_red.fits", rng, cards, np.float32, bias=0.0, gain=1.0, charge=9000)
    plane = np.zeros(SHAPE, np.uint8)
    plane[:, 40], plane[100:104, 120:124], plane[50, 60:64] = 1, 4, 2
    return [*frame, write(folder, "BG2_20230401_031415_mask.fits", [fits.PrimaryHDU(plane)])]


def swope_direct(folder, rng):
    """Swope: one amplifier a file, overscan at the right and on top, EXPTYPE, UT-DATE and UT-TIME."""
    image, truth = scene(rng, (200, 232), 200, 1.04, 4, bias=1200)
    dark = blacken(image, truth, (np.s_[:, 200:], np.s_[192:]), rng, 1200)
    hdu = fits.PrimaryHDU(raw(image))
    hdu.header.update(
        {
            "TELESCOP": "Swope",
            "INSTRUME": "Direct/4Kx4K-4",
            "EXPTYPE": "Object",
            "EXPTIME": 180.0,
            "EGAIN": 1.04,
            "ENOISE": 3.4,
            "BINNING": "1x1",
            "DATASEC": "[1:200,1:192]",
            "BIASSEC": "[201:232,1:200]",
            "DATE-OBS": "2019-08-01",
            "UT-DATE": "2019-08-01",
            "UT-TIME": "02:03:04",
            "NIGHT": "31Jul2019",
        }
    )
    return [write(folder, "ccd0123c1.fits", [hdu], h0=truth, o0=dark)]


def dfosc_object(folder, rng):
    """DFOSC image."""
    cards = {
        "INSTRUME": "DFOSC_FASU",
        "IMAGETYP": "OBJECT",
        "EXPTIME": 300.0,
        "BINX": 1,
        "BINY": 1,
        "DATE-OBS": "2018-05-03T04:05:06",
        "OBJECT": "NGC 5253",
        "OBJRA": 13.66,
    }
    return _simple(folder, "DFOSC_180503.0042.fits", rng, cards)


def dfosc_arc(folder, rng):
    """DFOSC arc: WAVE,LAMP."""
    cards = {"INSTRUME": "DFOSC_FASU", "IMAGETYP": "WAVE,LAMP", "EXPTIME": 30.0, "DATE-OBS": "2018-05-03T04:05:06"}
    return _simple(folder, "DFOSC_180503.0043.fits", rng, cards, stars=0)


def rtt150_object(folder, rng):
    """RTT150: an Andor camera whose GAIN is e-/ADU, with overscan."""
    image, truth = scene(rng, (192, 220), 200, 2.1, 8, bias=800)
    dark = blacken(image, truth, (np.s_[:, 200:],), rng, 800)
    hdu = fits.PrimaryHDU(raw(image))
    hdu.header.update(
        {
            "TELESCOP": "RTT150",
            "HEAD": "DW436_BV",
            "INSTRUME": "DW436_BV",
            "IMAGETYP": "object",
            "EXPTIME": 300.0,
            "GAIN": 2.1,
            "RDNOISE": 8.0,
            "HBIN": 1,
            "VBIN": 1,
            "TRIMSEC": "[1:200,1:192]",
            "BIASSEC": "[203:220,1:192]",
            "DATE-OBS": "2008-05-03",
            "TIME-OBS": "20:11:12",
        }
    )
    return [write(folder, "rtt_0042.fits", [hdu], h0=truth, o0=dark)]


def _pocs(folder, rng, **cards):
    """POCS: a light frame whose FIELD says what it is of."""
    common = {
        "INSTRUME": "371d420013090900",
        "ORIGIN": "Project PANOPTES",
        "CREATOR": "POCSv0.7",
        "IMAGETYP": "Light Frame",
        "EXPTIME": 60.0,
        "EGAIN": 1.145,
        "CAM-GAIN": 100,
        "XPIXSZ": 2.4,
        "LONG-OBS": 149.13,
        "DATE-OBS": "2021-01-12T15:24:53.382",
        "FIELD": "NGC 1300",
    }
    return _simple(folder, "20210112T092453.fits", rng, common | cards)


def huntsman_light(folder, rng):
    return _pocs(folder, rng)


def huntsman_flat(folder, rng):
    return _pocs(folder, rng, FIELD="FlatDither00")


def microobservatory(folder, rng):
    """MicroObservatory: local time with its zone, longitude west positive."""
    cards = {
        "DATE-OBS": "2017-12-19T23:33:43.317-0700",
        "UT-OBS": "2017-12-20T06:33:43.317-0000",
        "EXPTIME": 60.0,
        "INSTRUME": "Main",
        "TELESCOP": "Cecilia",
        "LONGITUD": 110.88,
        "ORIGIN": "Harvard-Smithsonian Center for Astrophysics",
        "REFERENC": "http://www.microobservatory.org",
    }
    return _simple(folder, "HATP-32171220063343.FITS", rng, cards, np.int16)


def _neossat(folder, rng, shutter):
    """NEOSSat: gain as text, overscan at the left, the shutter says what is a dark."""
    image, truth = scene(rng, (192, 240), 200, 1.1, 8, bias=900)
    dark = blacken(image, truth, (np.s_[:, :40],), rng, 900)
    hdu = fits.PrimaryHDU(raw(image))
    hdu.header.update(
        {
            "BIASSEC": "[1:16,1:192]",
            "TRIMSEC": "[41:240,1:192]",
            "DATASEC": "[41:240,1:192]",
            "GAIN": "1.10",
            "RDNOISE": "8.00",
            "CREATOR": "NEOSSat",
            "TELESCOP": "NEOSSat",
            "SHUTTER": shutter,
            "AEXPTIME": 100.03,
            "DATE-OBS": "2024-01-01T00:03:12.052",
        }
    )
    return [write(folder, "NEOS_SCI_2024001000312.fits", [hdu], h0=truth, o0=dark)]


def neossat_light(folder, rng):
    return _neossat(folder, rng, "0 (open)")


def neossat_dark(folder, rng):
    return _neossat(folder, rng, "1 (closed)")


def all_sky_camera(folder, rng):
    """An all-sky camera of an observatory."""
    cards = {"INSTRUME": "DCT_ALLSKY", "CAMERA": "SX Superstar", "IMAGETYP": "OBJECT", "EXPTIME": 60.0}
    return _simple(folder, "000.fits", rng, cards)


def dss_plate(folder, rng):
    """DSS: a scanned plate, its exposure in minutes."""
    cards = {"PLATEID": "07HH", "PLTLABEL": "E438", "SCANNUM": 0, "DATATYPE": "INTEGER*2", "EXPOSURE": 50.0}
    return _simple(folder, "M6707HH.fits", rng, cards, np.int16)


def radio_map(folder, rng):
    """A map of a radio telescope."""
    return _simple(folder, "map.fits", rng, {"BUNIT": "JY/BEAM"}, np.float32)


def magnetogram(folder, rng):
    """A map of the Sun's magnetic field."""
    return _simple(folder, "magnetogram.fits", rng, {"BUNIT": "Gauss"}, np.float32)


def dynamic_spectrum(folder, rng):
    """A radio spectrum as it changes."""
    cards = {"CTYPE1": "Time [UT]", "CTYPE2": "Frequency [MHz]", "BUNIT": "digits"}
    return _simple(folder, "spectrogram.fits", rng, cards, np.uint8)


def x_ray_counts(folder, rng):
    """Counts of an X-ray satellite."""
    return _simple(folder, "counts.fits", rng, {"TELESCOP": "ROSAT", "INSTRUME": "PSPCC", "OBS_MODE": "SURVEY"})


def orion_flat(folder, rng):
    """Orion Camera Studio: the type in IMAGTYP."""
    cards = {
        "INSTRUME": "Orion G3 Deep Sky Monochromatic Camera",
        "SWCREATE": "Orion Camera Studio",
        "IMAGTYP": "Flat Field",
        "EXPTIME": 0.03,
    }
    return _simple(folder, "9_17_21_16F.fit", rng, cards, np.float32)


def extracted_spectra(folder, rng):
    """Spectra of four fibres, a row each."""
    hdu = fits.PrimaryHDU(rng.normal(100, 5, (4, 2000)).astype(np.float32))
    return [write(folder, "spectra.fits", [hdu])]


def merged_spectrum(folder, rng):
    """Rows of wavelength, flux and its error; wavelengths rise by steps, which look like those of a mosaic."""
    rows = [np.arange(2000) * 5.0, rng.normal(100, 1, 2000), rng.normal(10, 0.1, 2000)]
    return [write(folder, "merged.fits", [fits.PrimaryHDU(np.array(rows, np.float32))])]


#: What the reader must find.
EXPECTED = {
    "all_sky_camera": left("generic", "all-sky camera"),
    "dss_plate": left("dss", "photographic plate"),
    "radio_map": left("generic", "a map in JY/BEAM"),
    "magnetogram": left("generic", "values in Gauss"),
    "dynamic_spectrum": left("generic", "one axis is Time"),
    "x_ray_counts": left("generic", "counts of single photons by ROSAT"),
    "orion_flat": left("generic", "flat field"),
    "merged_spectrum": left("generic", "of 2000 x 3 pixels"),
    "extracted_spectra": left("generic", "of 2000 x 4 pixels"),
    "huntsman_light": expect("panoptes", gain=1.145, night="20210112"),
    "huntsman_flat": left("panoptes", "flat field"),
    "microobservatory": expect("microobservatory", night="20171219"),
    "neossat_light": expect("neossat", gain=1.1, night="20240101"),
    "neossat_dark": left("neossat", "shutter closed"),
    "blackgem_red": expect("blackgem-meerlicht", (0,), {0: ("companion", 0)}, 2, 4, 1.0, "20230331"),
    "swope_direct": expect("las-campanas-direct", gain=1.04, night="20190731"),
    "dfosc_object": expect("dfosc", night="20180502"),
    "dfosc_arc": left("dfosc", "wave"),
    "rtt150_object": expect("rtt150-tfosc", gain=2.1, night="20080503"),
}
