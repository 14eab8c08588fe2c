"""Raw four-amplifier frames as a Sinistro camera of Las Cumbres Observatory writes them, with known truth."""

import numpy as np
from astropy.io import fits

from crattn_stage.simulation.hits import scatter_hits
from crattn_stage.simulation.skies import expose, simulate_sky

#: Gain (electron/ADU), read noise (electron), bias (ADU) of the amplifiers.
AMPLIFIERS = ((2.30, 9.1, 2522), (2.25, 8.7, 2560), (2.38, 9.4, 2553), (2.33, 8.9, 2582))
#: Whether an amplifier reads its columns and its rows backwards, in the order of the file.
BACKWARDS = ((False, True), (False, False), (True, False), (True, True))
OVERSCAN = 32
CROSSTALK = 6e-4
SATURATION = 40000.0
EXPOSURE_TIME = 120.0


def simulate_raw(path, hits, half=(256, 256), sky=400.0, seed=1, **scene):
    """Write a raw frame.

    Parameters
    ----------
    path : path-like
        Two digits before ``.fits``, as BANZAI wants it.
    hits : list of `numpy.ndarray`
        Charge stamps, electron.
    half : tuple of int
        Rows and columns of an amplifier.
    sky : float
        Electron per pixel.
    seed : int
    **scene
        Further arguments of `crattn_stage.simulation.skies.simulate_sky`.

    Returns
    -------
    truth : `numpy.ndarray` of bool
        Where a hit left charge, in the orientation of the mosaic.
    stars : `numpy.ndarray`
        (n, 3): row, column and charge (electron) of the stars.
    """
    rng = np.random.default_rng(seed)
    shape = (2 * half[0], 2 * half[1])
    # In focus at a good site: 1.6", of 0.39" pixels.
    electrons, stars = simulate_sky(shape, rng, **{"fwhm": 4.1, **scene})
    charge, truth = scatter_hits(shape, hits, rng)
    electrons += charge
    header = fits.Header()
    header.update(
        ORIGIN="LCOGT", TELESCOP="1m0-08", SITEID="elp", INSTRUME="fa05", OBSTYPE="EXPOSE", OBJECT="simulated",
        EXPTIME=EXPOSURE_TIME, FILTER="w", PROPID="simulated", REQNUM="1", BLKUID="1", CONFMODE="default",
        CCDSUM="1 1", CCDXPIXE=1.5e-5, CCDYPIXE=1.5e-5, PIXSCALE=0.389, RA="19:09:17.959", DEC="+59:29:38.15",
        CRVAL1=287.3, CRVAL2=59.5, CRPIX1=half[1], CRPIX2=half[0], RDNOISE=9.0, GAIN=0.0, DATE="2021-10-08",
        SATURATE=SATURATION, MAXLIN=SATURATION, TRIMSEC=f"[1:{shape[1]},1:{shape[0]}]",
    )  # fmt: skip
    header.update({"DAY-OBS": "20211007", "DATE-OBS": "2021-10-08T01:55:17.144"})
    header.update(BLKSDATE="2021-10-08T01:44:03", BLKEDATE="2021-10-08T02:44:03")
    for catalogue in ("CAT", "OFST", "TPT"):
        header.update({f"{catalogue}-RA": header["RA"], f"{catalogue}-DEC": header["DEC"]})
    planes, hdus = [], fits.HDUList([fits.PrimaryHDU(header=header)])
    for number, ((gain, read_noise, _), flips) in enumerate(zip(AMPLIFIERS, BACKWARDS, strict=True), 1):
        # An amplifier reads away from its corner, so those that read backwards are the far ones.
        columns, rows = (
            slice(n, 2 * n) if backwards else slice(0, n) for n, backwards in zip(half[::-1], flips, strict=True)
        )
        image = expose(electrons[rows, columns], sky, read_noise, gain, rng)
        planes.append(image[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1])
        ends = [
            (s.stop, s.start + 1) if b else (s.start + 1, s.stop) for s, b in zip((columns, rows), flips, strict=True)
        ]
        detector = ",".join(f"{first}:{last}" for first, last in ends)
        amplifier = fits.Header([("EXTVER", number), ("GAIN", gain), ("CCDSUM", "1 1"), ("RDNOISE", read_noise)])
        amplifier["DATASEC"] = f"[1:{half[1]},1:{half[0]}]"
        amplifier["BIASSEC"] = f"[{half[1] + 3}:{half[1] + OVERSCAN},1:{half[0]}]"
        amplifier["DETSEC"] = f"[{detector}]"
        for other in range(1, 5):
            if other != number:
                hdus[0].header[f"CRSTLK{number}{other}"] = CROSSTALK
        hdus.append(fits.ImageHDU(header=amplifier, name="SCI"))
    for hdu, plane, (_, read_noise, bias) in zip(hdus[1:], planes, AMPLIFIERS, strict=True):
        raw = np.zeros((half[0], half[1] + OVERSCAN), np.float32)
        raw[:, : half[1]] = plane + CROSSTALK * sum(other for other in planes if other is not plane)
        raw[:, half[1] :] = rng.normal(0, read_noise / 2.3, (half[0], OVERSCAN))
        hdu.data = np.clip(np.rint(raw + bias), 0, 65535).astype(np.uint16)
    hdus.writeto(path)
    return truth, stars
