"""What must hold of a frame that was masked: its hits found, its flags kept, everything else byte for byte."""

import bz2
import gzip
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import label

from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.process import process

#: Beginnings of the cards that a masked frame gains or changes.
OURS = (b"L1STATCR", b"L1IDCR", b"CR", b"CHECKSUM", b"DATASUM", b"ZHECKSUM", b"EXTEND", b"NEXTEND", b"HISTORY CRAttn")


def parts(path):
    """Return the cards that are not ours and the data bytes of each HDU."""
    content = Path(path).read_bytes()
    for suffix, unpack in ((".gz", gzip.decompress), (".bz2", bz2.decompress)):
        if path.suffix == suffix:
            content = unpack(content)
    found = []
    with fits.open(path, disable_image_compression=True) as hdus:
        for place in (hdu.fileinfo() for hdu in hdus):
            header = content[place["hdrLoc"] : place["datLoc"]]
            cards = [header[i : i + 80] for i in range(0, len(header), 80)]
            data = content[place["datLoc"] : place["datLoc"] + place["datSpan"]]
            # The last block of some real files is not filled.
            data = data.ljust(place["datSpan"], b"\0")
            found.append(([card for card in cards if card.strip() and not card.startswith(OURS)], data))
    return found


def assert_same_but(before, after, planes):
    """Assert that two files differ in the data of some planes only, and in what follows the HDUs of the first."""
    old, new = parts(before), parts(after)
    for index, ((cards, data), (new_cards, new_data)) in enumerate(zip(old, new, strict=False)):
        if index not in planes:
            assert data == new_data, f"pixels of HDU {index}"
            assert cards == new_cards, f"header of HDU {index}"
    return len(new) - len(old)


def planes(path):
    """Return where the cosmic rays of a frame are said to be, its plane and convention, by science HDU."""
    result = {}
    with ObservationFrame(path) as frame:
        for extension in frame.extensions:
            mask, plane = extension.mask, frame.masked(extension)
            if mask:
                plane = frame.source(mask[0]).read_integers(mask[1]).reshape(extension.shape)
            if plane is not None:
                result[extension.index] = mask, plane, extension.convention
    return result


def count_found(found, truth):
    """Return how many hits were injected, and how many are masked by half of their pixels or more."""
    labels, count = label(truth, np.ones((3, 3)))
    sizes, masked = (np.bincount(labels[where], minlength=count + 1)[1:] for where in (truth, truth & found))
    return count, np.count_nonzero(masked >= sizes / 2)


def run_and_check(path, target, stage, truth):
    """Mask a frame and assert what must hold; return the fraction of its hits that was found.

    Parameters
    ----------
    path, target : `pathlib.Path`
    stage : `crattn_stage.stage.AttentionCRStage`
    truth : dict of str to `numpy.ndarray` of bool
        ``h1`` is where the hits of HDU 1 are, ``o1`` where its overscan is.
    """
    before = planes(path)
    outputs = process(path, target, stage).outputs
    with ObservationFrame(path) as frame:
        science = {e.index: (e.shape, e.convention) for e in frame.extensions}
        sources = frame.inputs
    after = planes(target)
    assert list(after) == list(science)
    for which, source, output in zip(("frame", "companion"), sources, outputs, strict=False):
        added = assert_same_but(
            source, output, [mask[1] for mask, _, _ in before.values() if mask and mask[0] == which]
        )
        assert added == (len(science) - len(before) if which == "frame" else 0)
    count = found = 0
    for index, (shape, convention) in science.items():
        nothing = np.zeros(shape, bool)
        mask, plane, made = after[index]
        hits = made.cosmic_rays(plane) if plane.dtype != bool else plane
        bad = nothing
        if index in before:
            old = before[index][1]
            bad = convention.bad_pixels(old)
            assert mask == before[index][0] and plane.dtype == old.dtype
            assert np.array_equal(made.marked(plane, nothing), made.marked(old, nothing)), "other flags have changed"
        elif mask:
            assert made == convention and set(np.unique(plane)) <= {0, made.cosmic_ray}
        assert not (hits & truth.get(f"o{index}", nothing)).any(), "hits in the overscan"
        injected, detected = count_found(hits, truth.get(f"h{index}", nothing) & ~bad)
        count, found = count + injected, found + detected
    again = target.with_name(f"again-{target.name}")
    if len(outputs) == 1:
        process(target, again, stage)
        for index, (_, plane, _) in planes(again).items():
            assert np.array_equal(plane, after[index][1]), "another mask when run again"
    return found / count if count else None
