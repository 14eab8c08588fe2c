"""Whether a frame looks like those on which the models were measured."""

from crattn_stage.quality.summary import binomial_interval

#: FWHM of stars on which the models were measured, pixels, and fewest stars that tell.
NARROWEST, WIDEST, FEWEST_STARS = 1.35, 10.0, 20
#: FWHM of sources, pixels, up to which they are as sharp as single pixels.
SINGLE = 0.9
#: Largest fraction of hollow stars; larger: out of focus.
HOLLOW = 0.3
#: Largest correlation of the noise of neighbouring pixels, and fewest pixels of sky that tell; resampling and stacking
#: raise it.
CORRELATION, FEWEST_PIXELS = 0.085, 20_000
#: Fewest bright peaks of a mask that tell whether most are hot pixels.
FEWEST_PEAKS = 8
#: Good pixels among which stars are expected.
STARS_EXPECTED = 500_000
#: Smallest fraction of the good pixels that is sky.
SKY = 0.2


def unlike(appearance):
    """Say in what a frame is unlike those on which the models were measured.

    The limits hold for all models of the package: stars from those as narrow as hits to twice as wide as the widest
    of the training skies, noise that is independent from pixel to pixel, sky between the sources, and images that are
    known to be exposures.

    Parameters
    ----------
    appearance : `crattn_stage.quality.summary.Appearance`

    Returns
    -------
    list of str
        Empty if nothing is unusual, or nothing was measured.  To be too small to tell is unusual.

    Examples
    --------
    >>> from crattn_stage.quality.summary import Appearance
    >>> unlike(Appearance(stars=100, widths=105.0))
    ['stars are undersampled, FWHM 1.1 pixels']
    """
    found, stars, is_small = [], appearance.stars, 0 < appearance.good < FEWEST_PIXELS
    if appearance.spectra:
        found.append("a two-dimensional spectrum")
    if appearance.striped:
        found.append("lines run across it: a spectrum ([[spectrum]]) or readout noise")
    elif appearance.starless and not is_small:
        found.append("uneven light and no star, as in twilight, flats and spectra ([[spectrum]])")
    elif not (stars or appearance.sharp or is_small) and (
        appearance.good >= STARS_EXPECTED or appearance.peaks >= FEWEST_STARS
    ):
        found.append("no star is in it that is not masked")
    if stars >= FEWEST_STARS and appearance.hollow > HOLLOW * stars:
        found.append("stars are hollow, out of focus")
    elif stars >= FEWEST_STARS and not NARROWEST <= appearance.fwhm <= WIDEST:
        kind = "undersampled" if appearance.fwhm < NARROWEST else "very wide"
        what = "stars are" if appearance.fwhm > SINGLE else "stars, or hot pixels (subtract a dark), are"
        found.append(f"{what} {kind}, FWHM {appearance.fwhm:.1f} pixels")
    if appearance.peaks >= FEWEST_PEAKS and binomial_interval(appearance.alone, appearance.peaks)[0] > 0.5:
        found.append("most masked peaks are single pixels, hot ones (subtract a dark)")
    elif appearance.sharp:
        found.append("sources are as sharp as hits, so that stars cannot be told from them")
    if appearance.sky >= FEWEST_PIXELS and appearance.correlated > CORRELATION * appearance.sky:
        correlation = appearance.correlated / appearance.sky
        found.append(f"noise of neighbours is correlated by {correlation:.2f}, resampled or stacked")
    if is_small:
        found.append(f"too small to measure, {appearance.good} good pixels")
    elif appearance.crowded or appearance.sky < SKY * appearance.good:
        found.append("sources nearly everywhere")
    elif appearance.good and appearance.sky < FEWEST_PIXELS:
        found.append(f"too little sky to measure, {appearance.sky} pixels")
    if appearance.undescribed:
        found.append("no EXPTIME, DATE-OBS, INSTRUME or IMAGETYP calls it an exposure")
    return found
