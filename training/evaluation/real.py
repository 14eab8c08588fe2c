"""Detectors on real frames: star cores masked, hits of another pipeline found, borders of amplifiers."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import center_of_mass, find_objects, label

from crattn_stage.quality.star_cores import star_cores
from training.data.contamination import Scene
from training.data.frames import read_skies
from training.evaluation.tables import Table

#: What is looked at in the folder of real data.
FRAMES = {
    "ZTF r 30 s, undersampled": "other/ztf_zr_30s_starfield.fits.fz",
    "LCO 1 m 300 s, crowded": "lco/lsc1m005-fl15-20170614-0130-e91_sinistro_300s_crop.fits.gz",
    "LCO 0.4 m 45 s, trailed": "lco/tfn0m4-kb29-20160625-e90_sbig_45s.fits.fz",
    "LCO 1 m 95 s, raw": "lco/elp1m0-fa05-20211007-e00_raw_4amp_crop.fits",
}
CUTOUTS = "decam/c4d_*.fits.fz"
#: The DECam Community Pipeline's code of a cosmic ray in its DQ plane.
CODE = 5
#: Pixels from the edge of an amplifier that are its border.
BORDER = 8
_AROUND = np.ones((3, 3))


def exposures(path):
    """Read a real frame as scenes whose truth is not known: False everywhere.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    list of `training.data.contamination.Scene`
        One for each amplifier.
    """
    return [Scene(sky, sky.image, np.zeros(sky.image.shape, bool)) for sky in read_skies(path)]


def present(data):
    """Return those of `FRAMES` that a data folder has.

    Parameters
    ----------
    data : path-like

    Returns
    -------
    dict of str to str
        Name -> path in the folder.
    """
    return {name: path for name, path in FRAMES.items() if (Path(data) / path).is_file()}


@dataclass
class Report:
    """What a method did on the real frames.

    Attributes
    ----------
    stars : dict of str to (int, int)
        Frame -> star cores masked, and seen.
    masked : dict of str to float
        Frame -> fraction of the pixels masked.
    border : float
        Fraction of the pixels near edges of LCO amplifiers that are masked, over that of the others.
    missed : list of str
        Objects of the Community Pipeline (DQ 5) of which no pixel was masked.
    expected : int
        Such objects with two pixels above 3 sigma.
    extra : list of str
        Masked objects that the Community Pipeline does not have.
    """

    stars: dict = field(default_factory=dict)
    masked: dict = field(default_factory=dict)
    border: float = float("nan")
    missed: list = field(default_factory=list)
    expected: int = 0
    extra: list = field(default_factory=list)


def look(peer, data):
    """Run a method over the real frames of a data folder.

    Parameters
    ----------
    peer : `training.evaluation.peers.Peer`
    data : path-like
        With `FRAMES` and `CUTOUTS`, or some of them.

    Returns
    -------
    `Report`
        Of the frames that there are.
    """
    report, data = Report(), Path(data)
    near_found = near_all = far_found = far_all = 0
    for name, path in present(data).items():
        scenes = exposures(data / path)
        masks = [plane > peer.threshold for plane in peer.scores(scenes)[0]]
        counts = [star_cores(s.image, m, s.sky.bad) for s, m in zip(scenes, masks, strict=True)]
        report.stars[name] = (sum(flagged for _, flagged in counts), sum(seen for seen, _ in counts))
        report.masked[name] = sum(m.sum() for m in masks) / sum((~s.sky.bad).sum() for s in scenes)
        if path.startswith("lco/"):
            for scene, mask in zip(scenes, masks, strict=True):
                near = ~scene.sky.bad
                near[BORDER:-BORDER, BORDER:-BORDER] = False
                far = ~scene.sky.bad & ~near
                near_found, near_all = near_found + mask[near].sum(), near_all + near.sum()
                far_found, far_all = far_found + mask[far].sum(), far_all + far.sum()
    if far_found:
        report.border = float((near_found / near_all) / (far_found / far_all))
    paths = [path for path in sorted(data.glob(CUTOUTS)) if (fits.getdata(path, "DQ") == CODE).any()]
    scenes = [scene for path in paths for scene in exposures(path)]
    for path, scene, plane in zip(paths, scenes, peer.scores(scenes)[0] if scenes else [], strict=True):
        theirs, ours = fits.getdata(path, "DQ") == CODE, plane > peer.threshold
        significance = (scene.image - scene.sky.level) / scene.sky.sigma
        expected = [o for o in _objects(theirs, significance) if o[1] >= 2]
        report.expected += len(expected)
        report.missed += [f"{path.name} {o[0]}" for o in expected if not ours[o[2]].any()]
        report.extra += [f"{path.name} {o[0]}" for o in _objects(ours, significance) if not theirs[o[2]].any()]
    return report


def _objects(mask, significance):
    """List the objects of a mask: in words, their pixels above 3 sigma, and where they are."""
    numbers, _ = label(mask, _AROUND)
    result = []
    for number, box in enumerate(find_objects(numbers), 1):
        inside = numbers[box] == number
        row, column = (b.start + c for b, c in zip(box, center_of_mass(inside), strict=True))
        values = significance[box][inside]
        text = f"x {column + 1:.0f} y {row + 1:.0f}: {inside.sum()} px, peak {values.max():.0f} sigma"
        where = np.zeros(mask.shape, bool)
        where[box] = inside
        result.append((text, int((values > 3).sum()), where))
    return result


def describe(reports, ours):
    """Return reports as tables, and the objects of one of them as text.

    Parameters
    ----------
    reports : dict of str to `Report`
    ours : str
        The method whose extra objects are listed.

    Returns
    -------
    list of str or `training.evaluation.tables.Table`
    """
    names = list(reports[ours].stars)
    star_rows = [
        [name, *(f"{flagged}/{seen}" for flagged, seen in report.stars.values())] for name, report in reports.items()
    ]
    masked_rows = [
        [name, *(f"{100 * share:.3f}" for share in report.masked.values())] for name, report in reports.items()
    ]
    other_rows = [
        [name, f"{r.expected - len(r.missed)}/{r.expected}", str(len(r.extra)), f"{r.border:.2f}"]
        for name, r in reports.items()
    ]
    lists = [
        f"{kind} by {ours}:\n" + ("\n".join(f"  {o}" for o in objects) or "  none") + "\n"
        for kind, objects in (("Other objects masked", reports[ours].extra), ("Objects missed", reports[ours].missed))
    ]
    return [
        Table("real-star-cores", "Star cores (S/N > 20) masked on real frames", ["method", *names], star_rows),
        Table("real-pixels", "Pixels masked on real frames, percent", ["method", *names], masked_rows),
        Table(
            "real-objects",
            f"DECam Community Pipeline cutouts (DQ {CODE}), and borders of LCO amplifiers",
            ["method", "DQ hits found", "other objects masked", "fraction masked at borders / elsewhere"],
            other_rows,
        ),
        *lists,
    ]
