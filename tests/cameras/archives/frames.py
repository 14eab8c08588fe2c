"""Scenes, HDUs and files that the builders of archives' formats share.

A builder ``NAME(folder, rng)`` writes a frame in the format of its archive and returns its files, the frame first.
Beside it, ``<frame>.truth.npz`` has the injected tracks as bool planes, ``h1`` for HDU 1 and so on, and what is
overscan, ``o1``.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import binary_dilation, label

SHAPE = (160, 176)
#: What the mask of a processed frame marks as bad.
BLOCK = np.s_[40:44, 50:54]


def sky(shape, rng, level, gain, read_noise):
    """Return an image of sky: `level` ADU with Poisson noise, `read_noise` in electron."""
    return (rng.poisson(level * gain, shape) + rng.normal(0, read_noise, shape)) / gain


def add_stars(image, rng, number=12, fwhm=3.5, peak=(200, 4000)):
    """Add Gaussian stars to an image in place."""
    rows, columns = np.indices(image.shape)
    sigma = fwhm / 2.3548
    for _ in range(number):
        y, x = (rng.uniform(6, size - 6) for size in image.shape)
        height = np.exp(rng.uniform(*np.log(peak)))
        image += height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))


def add_tracks(image, rng, number=4, charge=3000, edge=10, angles=(0.2, 1.37)):
    """Add straight tracks two pixels wide to an image in place; return their pixels as bool.

    None runs along a row or a column: the stage takes such lines for defects.
    """
    truth = np.zeros(image.shape, bool)
    for _ in range(number):
        y, x = (rng.uniform(edge, size - edge) for size in image.shape)
        angle, length = rng.uniform(*angles) * rng.choice((-1, 1)), rng.uniform(6, 14)
        for step in np.arange(0, length, 0.5):
            row, column = int(y + step * np.sin(angle)), int(x + step * np.cos(angle))
            if edge // 2 <= row < image.shape[0] - edge // 2 and edge // 2 <= column < image.shape[1] - edge // 2:
                truth[row, column] = True
                if abs(np.sin(angle)) > 0.7:
                    truth[row, column + 1] = True
                else:
                    truth[row + 1, column] = True
    image[truth] += charge * rng.uniform(0.7, 1.3, truth.sum())
    return truth


def scene(rng, shape=SHAPE, level=300.0, gain=1.5, noise=6.0, bias=0.0, charge=4000.0, stars=12):
    """Return an image of sky, stars and tracks in ADU, and where the tracks are."""
    image = sky(shape, rng, level, gain, noise)
    add_stars(image, rng, stars)
    truth = add_tracks(image, rng, charge=charge)
    return image + bias, truth


def slit(rng, shape=SHAPE, level=60.0, gain=1.5, noise=4.0, bias=0.0, charge=9000.0):
    """Return a long-slit spectrum, wavelength along the columns, with tracks, and where these are."""
    rows, columns = np.indices(shape)
    model = np.full(shape, float(level))
    for line in rng.uniform(0, shape[1], 8):
        model += rng.uniform(100, 1200) * np.exp(-((columns - line) ** 2) / 4.5)
    for centre in rng.uniform(20, shape[0] - 20, 2):
        model += rng.uniform(100, 800) * np.exp(-((rows - centre - 0.02 * columns) ** 2) / 4.5)
    image = (rng.poisson(model * gain) + rng.normal(0, noise, shape)) / gain
    # Along the slit or the dispersion a short track looks like a line or a knot.
    truth = add_tracks(image, rng, charge=charge, angles=(0.5, 1.07))
    return image + bias, truth


def raw(image):
    """Return an image as a detector's unsigned 16-bit counts."""
    return np.clip(np.round(image), 0, 65535).astype(np.uint16)


def bits(shape, dtype, value, truth=None, cosmic_ray=0):
    """Return a mask with `BLOCK` bad, and the first half of the tracks where the format has them flagged."""
    plane = np.zeros(shape, dtype)
    plane[BLOCK] = value
    if truth is not None:
        plane[truth & (np.indices(shape)[0] < shape[0] // 2)] |= np.array(cosmic_ray, dtype)
    return plane


def header(cards):
    """Return a header of some cards, hierarchical ones among them."""
    made = fits.Header()
    for key, value in dict(cards).items():
        made[f"HIERARCH {key}" if len(key) > 8 or " " in key else key] = value
    return made


def primary(cards=(), data=None):
    """Return a primary HDU."""
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(dict(cards))
    return hdu


def hdu(data, cards=(), name=None, ver=None, kind=fits.ImageHDU):
    """Return an image HDU."""
    made = kind(data)
    made.header.update(header(cards))
    if name:
        made.header["EXTNAME"] = name
    if ver:
        made.header["EXTVER"] = ver
    return made


def write(folder, name, hdus, **truth):
    """Write a frame and what is in it."""
    path = Path(folder) / name
    fits.HDUList(hdus).writeto(path, overwrite=True, output_verify="silentfix")
    if truth:
        np.savez_compressed(f"{path}.truth.npz", **truth)
    return path


def blacken(image, truth, strips, rng, bias):
    """Set strips of an image to its bias level; return where they are."""
    dark = np.zeros(image.shape, bool)
    for strip in strips:
        dark[strip] = True
    image[dark] = bias + rng.normal(0, 3, dark.sum())
    # What is left of a hit that ran into a strip is too little to be told.
    labels, _ = label(truth, np.ones((3, 3)))
    truth &= ~np.isin(labels, labels[binary_dilation(dark, iterations=2) & truth])
    return dark


def one(folder, name, rng, cards, spectrum=False, bias=1000.0, dtype=np.uint16, strips=(), **more):
    """Write an image in the primary HDU; `strips` are slices of overscan."""
    image, truth = (slit if spectrum else scene)(rng, bias=bias, **more)
    dark = blacken(image, truth, strips, rng, bias)
    image = raw(image) if dtype == np.uint16 else image.astype(dtype)
    return [write(folder, name, [primary(cards, image)], h0=truth, o0=dark)]


def mef(folder, name, rng, cards, exts, spectrum=False, bias=1000.0, strips=(), shape=SHAPE, **more):
    """Write one raw image an extension; `exts` is a list of (EXTNAME or None, cards)."""
    hdus, truths = [primary(cards)], {}
    for number, (ext, own) in enumerate(exts, 1):
        image, truth = (slit if spectrum else scene)(rng, shape, bias=bias, **more)
        truths[f"o{number}"] = blacken(image, truth, strips, rng, bias)
        truths[f"h{number}"] = truth
        hdus.append(hdu(raw(image), own, ext))
    return [write(folder, name, hdus, **truths)]


def expect(profile, science=(0,), mask=None, cosmic_ray=None, bad=None, gain=None, night=None, type=None):
    """Return what the reader must find in a frame that is to be masked.

    Parameters
    ----------
    profile : str
    science : iterable of int
        HDUs.
    mask : dict, optional
        Science HDU -> (file, HDU) of its mask plane.
    cosmic_ray, bad : int, optional
        What the plane marks cosmic rays with, and a bad pixel.
    gain : float, optional
        Of the first amplifier, electron per ADU; None where no card says it.
    night : str, optional
    type : str, optional
        What the header says that it is of, where that matters.
    """
    return {"profile": profile, "science": list(science), "mask": mask or {}, "cosmic_ray": cosmic_ray, "bad": bad,
            "gain": gain, "night": night, "type": type, "left": None}  # fmt: skip


def left(profile, why, night=None, type=None):
    """Return what the reader must say of a frame that is not to be masked: skipped or refused with words of `why`."""
    return {**expect(profile, (), night=night, type=type), "left": why}
