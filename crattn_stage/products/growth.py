"""Grow a mask: by pixels, and along the fainter parts of hits."""

import numpy as np
from scipy.ndimage import binary_dilation, binary_propagation

_AROUND = np.ones((3, 3))


def grow(mask, pixels=0, probability=None, threshold=None, allowed=None):
    """Return a mask grown first along connected pixels of lower probability, then by pixels on all sides.

    Parameters
    ----------
    mask : `numpy.ndarray` of bool
        2-D.
    pixels : int
        By how many pixels it grows on all sides, corners included.  1 takes in the wings that charge
        diffusion leaves outside of the mask; 2 or 3 suit images that are resampled later.
    probability : `numpy.ndarray`, optional
        Float32, the shape of the mask, as from `crattn_stage.detection.model.CosmicRayModel.predict`.
    threshold : float, optional
        A pixel above this probability joins if it touches the mask, at a corner at least, and so on from
        there.  A tenth to a half of the threshold that made the mask follows tracks into their faint ends;
        isolated noise never joins.
    allowed : `numpy.ndarray` of bool, optional
        The only pixels that may join.

    Returns
    -------
    `numpy.ndarray` of bool
        It holds the mask.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((3, 5), bool)
    >>> mask[1, 0] = True
    >>> probability = np.array([[0.0] * 5, [0.9, 0.4, 0.3, 0.0, 0.4], [0.0] * 5], np.float32)
    >>> grow(mask, probability=probability, threshold=0.2)[1].tolist()
    [True, True, True, False, False]
    >>> int(grow(mask, 1).sum())
    6
    """
    grown = mask
    if threshold is not None:
        faint = probability > threshold
        if allowed is not None:
            faint &= allowed
        grown = binary_propagation(grown, _AROUND, faint | mask)
    if pixels:
        grown = binary_dilation(grown, _AROUND, pixels)
    return grown if allowed is None or grown is mask else (grown & allowed) | mask
