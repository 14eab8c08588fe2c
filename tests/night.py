"""A night of small frames, good and bad, as the tests of whole nights want it."""

import shutil

import numpy as np
from astropy.io import fits
from conftest import sky_image, with_track

NIGHT = "20130105"
HEADER = {
    "DAY-OBS": NIGHT,
    "DATE-OBS": "2013-01-06T03:00:00",
    "EXPTIME": 60.0,
    "INSTRUME": "fa15",
    "SITEID": "lsc",
    "OBSTYPE": "EXPOSE",
    "ORIGIN": "LCOGT",
    "CCDXPIXE": 15e-6,
    "CCDYPIXE": 15e-6,
}


def folder_of(root, night=NIGHT):
    folder = root / "lsc" / "fa15" / night / "processed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_frame(root, number, shape=(200, 160), night=NIGHT, **header):
    """Write a simulated frame with a track into the folder of its night and return its path."""
    image, _ = with_track(sky_image(shape, seed=number), row=30 + number % 40)
    hdu = fits.PrimaryHDU(image)
    hdu.header.update({**HEADER, "DAY-OBS": night, **header})
    path = folder_of(root, night) / f"lsc1m005-fa15-{night}-{number:04d}-e91.fits"
    hdu.writeto(path)
    return path


def write_bad_frames(root):
    """Write six frames, each corrupt in its own way; return {path: what is said of it}."""
    good = write_frame(root, 9000)
    content = good.read_bytes()
    good.unlink()

    def write(number, content):
        path = folder_of(root) / f"lsc1m005-fa15-{NIGHT}-{number}-e91.fits"
        path.write_bytes(content)
        return path

    cube = fits.PrimaryHDU(np.zeros((3, 20, 20), np.float32))
    cube.header.update(HEADER)
    cube.writeto(folder_of(root) / f"lsc1m005-fa15-{NIGHT}-9004-e91.fits")
    empty = fits.PrimaryHDU(np.full((40, 40), np.nan, np.float32))
    empty.header.update(HEADER)
    empty.writeto(folder_of(root) / f"lsc1m005-fa15-{NIGHT}-9005-e91.fits")
    section = write_frame(root, 9006, DATASEC="[1:999,1:20]", OBSTYPE="EXPOSE")
    return {
        write(9001, b""): "empty",
        write(9002, content[: len(content) // 2]): "truncated",
        write(9003, b"not a FITS file at all" * 200): "",
        folder_of(root) / f"lsc1m005-fa15-{NIGHT}-9004-e91.fits": "a cube of amplifiers",
        folder_of(root) / f"lsc1m005-fa15-{NIGHT}-9005-e91.fits": "no usable pixel",
        section: "DATASEC",
    }


def copy_real_frames(data, root, count):
    """Copy real DECam cutouts into the night; return their paths."""
    paths = []
    for source in sorted((data / "decam").glob("c4d_*.fits.fz"))[:count]:
        path = folder_of(root) / source.name
        shutil.copyfile(source, path)
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["DTCALDAT"] = f"{NIGHT[:4]}-{NIGHT[4:6]}-{NIGHT[6:]}"
        paths.append(path)
    return paths
