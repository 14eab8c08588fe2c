"""What must hold of a frame that was masked: its hits found, its flags kept, everything else byte for byte."""

import bz2
import gzip
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import label

from crattn_stage.fits.frame import OpenFrame
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
    """Return mask planes, found cosmic rays and conventions of a masked frame by science HDU."""
    result = {}
    with OpenFrame(path) as frame:
        for extension in frame.layout.extensions:
            if extension.mask:
                source, index = extension.mask
                plane = frame.source(source).read_integers(index).reshape(extension.shape)
                result[extension.index] = extension.mask, plane, extension.convention
    return result


def fraction_found(found, truth):
    """Return the fraction of injected hits of which half of the pixels are masked."""
    labels, count = label(truth, np.ones((3, 3)))
    sizes, masked = (np.bincount(labels[where], minlength=count + 1)[1:] for where in (truth, truth & found))
    return np.mean(masked >= sizes / 2) if count else 1.0


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
    with OpenFrame(path) as frame:
        science = [(e.index, e.convention) for e in frame.layout.extensions]
        sources = [frame.path, *([frame.companion.path] if frame.companion else [])]
    after = planes(target)
    assert list(after) == [index for index, _ in science]
    for which, source, output in zip(("frame", "companion"), sources, outputs, strict=True):
        masks = [index for (file, index), _, _ in before.values() if file == which]
        added = assert_same_but(source, output, masks)
        assert added == (len(science) - len(before) if which == "frame" else 0)
    found, hits = {}, []
    for index, convention in science:
        mask, plane, made = after[index]
        assert made.cosmic_ray == convention.cosmic_ray and made.bits == convention.bits
        found[index] = made.cosmic_rays(plane)
        old = before[index][1] if index in before else np.zeros_like(plane)
        if index in before:
            assert mask == before[index][0] and plane.dtype == old.dtype
        assert np.array_equal(made.marked(plane, np.zeros(plane.shape, bool)), made.marked(old, np.zeros_like(old, bool)))
        assert not (found[index] & truth.get(f"o{index}", np.zeros(plane.shape, bool))).any(), "hits in the overscan"
        if f"h{index}" in truth:
            usable = truth[f"h{index}"] & ~(convention.bad_pixels(old) if index in before else False)
            hits.append((fraction_found(found[index], usable), label(usable, np.ones((3, 3)))[1]))
    again = target.with_name(f"again-{target.name}")
    if len(outputs) == 1:
        process(target, again, stage)
        for index, (_, plane, _) in planes(again).items():
            assert np.array_equal(plane, after[index][1]), "another mask when run again"
    total = sum(count for _, count in hits)
    return sum(fraction * count for fraction, count in hits) / total if total else None
