"""Borders that saw no sky: overscan without a section, time stamps in pixels, garbage rows, vignetted corners.

Found by their statistics, and conservatively: what is left out is not searched for cosmic rays.
"""

import numpy as np
from scipy.ndimage import label, median_filter

#: Widest border looked for, as a fraction of the side and in pixels.
WIDEST, WIDEST_PIXELS = 0.12, 256
#: A line of pixels is odd if its median is off by this many standard errors, beyond what the sky wanders.
OFF = 12.0
#: Or if its noise, from pixel to pixel, differs from the interior's by the first factor.  That of the lines behind a
#: border differs by less than the second.
NOISIER, AS_NOISY = 4.0, 2.0
#: Pixels of a line that are looked at, and lines of the interior.
SAMPLES, INTERIOR = 256, 256
#: Side of the blocks of which vignetted corners are made, pixels.
BLOCK = 16


def unexposed(image, bad, sections):
    """Find pixels at the borders of amplifiers that saw no sky.

    Parameters
    ----------
    image : `numpy.ndarray`
        2-D, ADU or electron.
    bad : `numpy.ndarray` of bool
        Pixels known to be no use.
    sections : list of tuple of `slice`
        The amplifiers.

    Returns
    -------
    found : `numpy.ndarray` of bool, or None
        The shape of the image; None where there is nothing to leave out.
    notes : list of str
        What was found.
    """
    found, notes = None, []
    for section in sections:
        piece = image[section]
        if min(piece.shape) < 8 * BLOCK:
            continue
        borders = _borders(piece, bad[section])
        corners = None if any(borders.values()) else _corners(piece, bad[section])
        if not any(borders.values()) and corners is None:
            continue
        if found is None:
            found = np.zeros(image.shape, bool)
        view = found[section]
        for side, width in borders.items():
            if width:
                view[_BORDERS[side](width)] = True
                lines = "column" if side in ("left", "right") else "row"
                plural = "s" if width > 1 else ""
                notes.append(f"{width} {lines}{plural} at the {side} excluded: no sky")
        if corners is not None:
            view |= corners
            notes.append(f"vignetted corners, {np.count_nonzero(corners) / corners.size:.1%} of the pixels, excluded")
    return found, list(dict.fromkeys(notes))


_BORDERS = {
    "bottom": lambda n: np.s_[:n, :],
    "top": lambda n: np.s_[-n:, :],
    "left": lambda n: np.s_[:, :n],
    "right": lambda n: np.s_[:, -n:],
}


def _borders(piece, bad):
    """Return side -> number of lines of pixels there that are unlike the interior."""
    widths = {}
    for axis, (low, high) in ((0, ("bottom", "top")), (1, ("left", "right"))):
        lines = piece if axis == 0 else piece.T
        unusable = bad if axis == 0 else bad.T
        widths[low], widths[high] = (_odd_lines(lines[order], unusable[order]) for order in (np.s_[:], np.s_[::-1]))
    return widths


def _odd_lines(lines, bad):
    """Return how many of the first lines are unlike those behind them."""
    if constant := _constant_lines(lines, bad):
        return constant
    count = len(lines)
    reach = min(int(WIDEST * count), WIDEST_PIXELS)
    step = max(1, lines.shape[1] // SAMPLES)
    near = _good(lines, bad, np.s_[: reach + INTERIOR, ::step])
    usable = np.isfinite(near).sum(1) > 0.5 * near.shape[1]
    if np.count_nonzero(usable[reach:]) < min(reach, INTERIOR // 2):
        return 0
    beside = _good(lines, bad, np.s_[: reach + INTERIOR, 1::step])
    noise = _roughness(near[:, : beside.shape[1]] - beside)
    near[~usable] = 0
    level, spread = _level_and_spread(near)
    inside = usable.copy()
    inside[:reach] = False
    typical, scatter, quiet = (np.median(one[inside]) for one in (level, spread, noise))
    # The scatter of the medians, and how far the sky wanders.
    room = OFF * 1.2533 * scatter / np.sqrt(near.shape[1]) + 3 * np.percentile(np.abs(level[inside] - typical), 95)
    # Most of a border is unlike the sky; if only half differs, it is vignetting.
    alike = (np.abs(near - typical) < room + 3 * scatter).mean(1)
    odd = usable & (
        ((np.abs(level - typical) > room + 0.5 * scatter) & (alike < 0.2))
        | (noise > NOISIER * max(quiet, 1e-9))
        | (noise < quiet / NOISIER)
    )
    width = 0
    while width < reach and (odd[width] or (width + 1 < reach and odd[width + 1] and usable[width])):
        width += 1
    if width == 0 or width >= reach:
        return 0
    # The step is sharp: what lies behind is like the interior at once.
    behind = width + 1 + np.flatnonzero(usable[width + 1 : width + 5])
    sharp = (
        behind.size
        and np.all(np.abs(level[behind] - typical) < room + 0.5 * scatter)
        and np.all(noise[behind] >= quiet / AS_NOISY)
        and np.all(noise[behind] <= quiet * AS_NOISY)
    )
    return width if sharp else 0


def _good(lines, bad, some):
    """Return pixels, those of an index, as float64; NaN where they are bad."""
    # Some NaN are odd enough to warn when they are cast.
    with np.errstate(invalid="ignore"):
        good = lines[some].astype(np.float64)
    good[bad[some] | ~np.isfinite(good)] = np.nan
    return good


def _roughness(steps):
    """Return the mean size of the smallest three quarters of the steps from pixel to pixel of each line.

    It is in proportion to the noise, whatever varies more slowly, such as a galaxy.  The median of integers would jump.
    """
    size = np.sort(np.abs(steps))
    kept = np.arange(size.shape[1]) < 0.75 * np.isfinite(size).sum(1, keepdims=True)
    return np.where(kept, size, 0).sum(1) / np.maximum(kept.sum(1), 1)


def _constant_lines(lines, bad):
    """Return how many of the first lines are all of one value, such as those of a file that has not wholly arrived."""
    value = None
    for number, (line, unusable) in enumerate(zip(lines, bad, strict=True)):
        good = line[~unusable & np.isfinite(line)]
        if value is None and good.size:
            value = good[0]
        if not good.size or (good != value).any():
            return number
    # A dead amplifier has no border.
    return 0


def _level_and_spread(values):
    """Return median and scaled median absolute deviation along the last axis, NaN left out."""
    # With NaN it is ten times slower.
    median = np.median if np.isfinite(values).all() else np.nanmedian
    level = median(values, axis=-1)
    return level, 1.4826 * median(np.abs(values - level[..., None]), axis=-1)


def _corners(piece, bad):
    """Return the pixels of vignetted corners, or None."""
    sparse = piece[::BLOCK, ::BLOCK][~bad[::BLOCK, ::BLOCK]]
    if not sparse.size:
        return None
    typical = np.median(sparse)
    scatter = 1.4826 * np.median(np.abs(sparse - typical))
    ends = (np.s_[:BLOCK], np.s_[-BLOCK:])
    ends_of = [piece[rows, columns][~bad[rows, columns]] for rows in ends for columns in ends]
    # Most images have none, which is seen at once.
    if not any(corner.size and np.median(corner) < typical - 5 * scatter for corner in ends_of):
        return None
    height, width = (n - n % BLOCK for n in piece.shape)
    blocks = piece[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    unusable = bad[:height, :width].reshape(blocks.shape)
    flat = np.where(unusable, np.nan, blocks).swapaxes(1, 2).reshape(height // BLOCK, width // BLOCK, -1)[:, :, ::3]
    usable = np.isfinite(flat).any(2)
    flat[~usable] = 0
    level, spread = _level_and_spread(flat)
    if not usable.any() or not np.median(spread[usable]):
        return None
    typical, noise = np.median(level[usable]), np.median(spread[usable])
    # Unexposed pixels have only read noise.
    dark = usable & (level < typical - 15 * noise) & (spread < 0.6 * noise)
    dark = median_filter(dark.astype(np.uint8), 3, mode="nearest").astype(bool) & dark
    groups, _ = label(dark)
    chosen = {groups[i, j] for i in (0, -1) for j in (0, -1)} - {0}
    if not chosen:
        return None
    corners = np.isin(groups, list(chosen))
    if np.count_nonzero(corners) < 3 or corners.mean() > 0.4:
        return None
    found = np.zeros(piece.shape, bool)
    found[:height, :width] = np.repeat(np.repeat(corners, BLOCK, 0), BLOCK, 1)
    return found
