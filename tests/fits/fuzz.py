"""Damage FITS files at random and see what becomes of them.

``python tests/fits/fuzz.py --count 10000 --seed 1`` makes that many damaged files from five
small ones, and gives each to a function in a worker process with limits on time
and memory.  Case n of a seed is always the same file; ``--keep DIR --only n`` writes it.

What may become of a file: it is processed and its HDUs are unchanged, or it is
refused with a `FrameError` of one line.  Everything else is a failure.
"""

import argparse
import bz2
import gzip
import importlib
import json
import lzma
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits

from crattn_stage.errors import FrameError
from crattn_stage.fits.file import FitsFile
from crattn_stage.fits.layout import split_cards, walk
from crattn_stage.fits.source import CompressedSource, PlainSource, decompressor, open_regular

SECONDS, GIGABYTES = 10.0, 1.5
MASKS = ("DQ", "MASK", "CRMASK", "BPM")
EXTNAME_OF_A_MASK = re.compile(rf"EXTNAME = *'({'|'.join(MASKS)}) *'".encode(), re.IGNORECASE)
PACKERS = {".gz": lambda b: gzip.compress(b, 1, mtime=0), ".bz2": bz2.compress, ".xz": lzma.compress}
STRUCTURE = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "GROUPS", "EXTEND", "END"),
    *("TFIELDS", "TFORM1", "TTYPE1", "THEAP", "EXTNAME", "EXTVER", "BZERO", "BSCALE", "BLANK", "CHECKSUM", "DATASUM"),
    *("ZIMAGE", "ZCMPTYPE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "ZNAME1", "ZVAL1"),
    *("ZVAL2", "ZQUANTIZ", "ZDITHER0", "ZBLANK", "ZSIMPLE", "ZTENSION", "INSTRUME", "OBSTYPE", "EXPTIME"),
)
VALUES = (
    *("-1", "0", "1", "2", "3", "7", "63", "64", "65", "999", "1000", "32767", "65536", "99999999", "2147483648"),
    *("9223372036854775807", "-9223372036854775808", "1" + "0" * 40, "NaN", "Inf", "1E400", "64.0", "6.4E1", "90,0"),
    *("T", "F", "", "''", "'2 2'", "'64'", "'IMAGE   '", "'BINTABLE'", "'RICE_1  '", "'GZIP_2  '", "'HCOMPRESS_1'"),
    *("'PLIO_1  '", "'NOCOMPRESS'", "'junk", "junk'", "'1PB(99999999)'", "'1QJ(5)'", "'\x1b[31m'", "'\n'", "(1, 2)"),
    *("'DQ      '", "'SCI     '", "'\xe4\xff'", "T / F / 1", "= 1", "'" + "x" * 67, "8 /" + "y" * 60),
)


def bases():
    """Return the undamaged files: {kind: {name: bytes}}."""
    rng = np.random.default_rng(0)
    image = rng.normal(300, 8, (64, 64)).astype(np.float32)
    counts = image.astype(np.int16)
    flags = np.zeros((64, 64), np.int16)
    flags[5, 5:9] = 1
    primary = fits.PrimaryHDU()
    primary.header.update(INSTRUME="DECam", OBSTYPE="object", EXPTIME=90.0, NEXTEND=5)
    primary.header["DATE-OBS"] = "2013-01-05T06:52:55"
    simple = fits.PrimaryHDU(image, primary.header)
    columns = [fits.Column("RA", "D", array=np.arange(5.0)), fits.Column("ID", "3A", array=["a"] * 5)]
    heap = fits.Column("PATH", "PJ()", array=np.array([[1, 2], [3]] * 3, object)[:5])
    tables = [fits.BinTableHDU.from_columns([*columns, heap], name="STARS"), fits.TableHDU.from_columns(columns)]

    def named(kind, data, name, version=1, **keywords):
        hdu = kind(data, name=name, **keywords)
        hdu.ver = version
        return hdu

    def packed(data, name, version=1, kind="RICE_1", **keywords):
        return named(fits.CompImageHDU, data, name, version, compression_type=kind, **keywords)

    extensions = [
        hdu
        for version, name in enumerate(("N4", "S7"), 1)
        for hdu in (named(fits.ImageHDU, counts, name), named(fits.ImageHDU, flags, "DQ", version))
    ]
    fpacked = [
        packed(image, "N4", quantize_level=16),
        packed(flags, "DQ"),
        packed(counts, "S7", kind="GZIP_2"),
        packed(flags, "DQ", 2, kind="PLIO_1"),
        packed(counts, "N5", kind="HCOMPRESS_1"),
        packed(image, "N6", kind="GZIP_1", quantize_level=0),
    ]
    kinds = {
        "simple": {"simple.fits": [simple]},
        "mef": {"mef.fits": [primary, *extensions, tables[0]]},
        "fpacked": {"fpacked.fits.fz": [primary, *fpacked]},
        "table": {"table.fits": [simple, *tables, named(fits.ImageHDU, flags, "MASK")]},
        "companion": {
            "c4d_ooi_r.fits": [primary, *extensions[::2]],
            "c4d_ood_r.fits": [primary, packed(flags, "N4"), packed(flags, "S7")],
        },
    }
    return {kind: {name: _written(hdus) for name, hdus in files.items()} for kind, files in kinds.items()}


def _written(hdus):
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).copy().writeto(buffer, checksum=True)
    return buffer.getvalue()


def damaged(files, rng):
    """Damage one of the files of a base, or its compressed form; return {name: bytes}."""
    files = dict(files)
    victim = str(rng.choice(sorted(files)))
    content = files.pop(victim)
    packer = str(rng.choice(["", "", "", "", *PACKERS])) if not victim.startswith("c4d") else ""
    inside = not packer or rng.random() < 0.5
    for _ in range(rng.integers(1, 4) if inside else 0):
        kind = DAMAGE[rng.choice(len(DAMAGE), p=WEIGHTS)]
        content = bytes(kind(bytearray(content), rng)) or b"S"
    if packer:
        content = PACKERS[packer](content)
        victim += packer
        if not inside:
            content = bytes((flip, cut, grow, overwrite)[rng.integers(4)](bytearray(content), rng))
    return {**files, victim: content}


def _cards(content):
    """Return where cards seem to begin."""
    starts = []
    for block in range(0, len(content) - 79, 2880):
        if content[block : block + 8] in (b"SIMPLE  ", b"XTENSION"):
            for place in range(block, len(content) - 79, 80):
                starts.append(place)
                if content[place : place + 8] == b"END     ":
                    break
    return starts or [0]


def set_value(content, rng):
    """Give a card, mostly one that says how the file is laid out, another value."""
    starts = _cards(content)
    if rng.random() < 0.85:
        keyword = str(rng.choice(STRUCTURE)).ljust(8).encode()
        starts = [s for s in starts if content[s : s + 8] == keyword] or starts
    place = int(rng.choice(starts))
    value = str(rng.choice(VALUES)).encode("latin-1")
    value = value.rjust(20) if rng.random() < 0.5 else value
    content[place + 8 : place + 80] = (b"= " + value).ljust(72)[:72]
    return content


def set_keyword(content, rng):
    """Give a card another keyword."""
    place = int(rng.choice(_cards(content)))
    content[place : place + 8] = str(rng.choice([*STRUCTURE, "", "CONTINUE", "HIERARCH", "x y"])).ljust(8).encode()
    return content


def move_card(content, rng):
    """Exchange two cards, or write one over another."""
    one, two = (int(place) for place in rng.choice(_cards(content), 2))
    a, b = content[one : one + 80], content[two : two + 80]
    if len(a) == len(b):
        content[one : one + 80], content[two : two + 80] = b, (a if rng.random() < 0.5 else b)
    return content


def junk_after_end(content, rng):
    """Write something behind an END card."""
    ends = [s for s in _cards(content) if content[s : s + 8] == b"END     "] or [0]
    place = int(rng.choice(ends)) + int(rng.choice([3, 8, 20, 80, 90]))
    junk = rng.bytes(int(rng.integers(1, 60)))
    content[place : place + len(junk)] = junk
    return content


def flip(content, rng):
    """Change single bytes."""
    for place in rng.integers(0, len(content), int(rng.integers(1, 40))):
        content[place] = int(rng.integers(256))
    return content


def flip_data(content, rng):
    """Change bytes that follow each other, mostly data, such as the pointers of compressed tiles."""
    place, size = int(rng.integers(len(content))), int(rng.integers(1, 600))
    content[place : place + size] = bytes([int(rng.choice([0, 1, 127, 128, 255]))]) * min(size, len(content) - place)
    return content


def cut(content, rng):
    """Cut the end off."""
    size = int(rng.integers(len(content)))
    return content[: size - size % 2880 if rng.random() < 0.3 else size]


def grow(content, rng):
    """Append something."""
    size = int(rng.integers(1, 6000))
    tail = (bytes(size), b" " * size, rng.bytes(size), bytes(content[:size]), b"XTENSION= 'IMAGE   '".ljust(2880))
    return content + tail[rng.integers(len(tail))]


def overwrite(content, rng):
    """Write random bytes over a part."""
    place, size = int(rng.integers(len(content))), int(rng.integers(1, 3000))
    piece = rng.bytes(min(size, len(content) - place))
    content[place : place + len(piece)] = piece
    return content


def shuffle_blocks(content, rng):
    """Zero, drop, repeat or exchange blocks of 2880 bytes."""
    blocks = [content[i : i + 2880] for i in range(0, len(content), 2880)]
    one, two = (int(place) for place in rng.integers(0, len(blocks), 2))
    kind = rng.integers(4)
    if kind == 0:
        blocks[one] = bytes(len(blocks[one]))
    elif kind == 1:
        del blocks[one]
    elif kind == 2:
        blocks.insert(one, blocks[two])
    else:
        blocks[one], blocks[two] = blocks[two], blocks[one]
    return bytearray(b"".join(blocks))


DAMAGE = (set_value, set_keyword, move_card, junk_after_end, flip, flip_data, cut, grow, overwrite, shuffle_blocks)
WEIGHTS = (0.46, 0.08, 0.07, 0.06, 0.07, 0.06, 0.06, 0.04, 0.04, 0.06)


def make_case(files, seed, number, folder):
    """Write case `number` of a seed to a folder, and return the path of the frame."""
    rng = np.random.default_rng([seed, number])
    kinds = sorted(files)
    paths = []
    for name, content in damaged(files[kinds[number % len(kinds)]], rng).items():
        paths.append(Path(folder, name))
        paths[-1].write_bytes(content)
    return next((path for path in paths if "_ood_" not in path.name), paths[0])


def read_and_copy(path, target):
    """Read every image of a file and its companion, and copy both with new masks and cards."""
    companion = path.with_name(path.name.replace("_ooi_", "_ood_"))
    for source in {path, companion}:
        with FitsFile(source) as file, open(target.with_name(source.name), "w+b") as stream:
            planes = {}
            for index, hdu in enumerate(file.hdus):
                if not hdu.is_image or not file.places[index].size or 0 in file.places[index].shape:
                    continue
                pixels = file.read(index)
                if (hdu.name in MASKS or source != path) and pixels.dtype.kind in "iu":
                    plane = file.read_integers(index)
                    planes[index] = lambda i=index, p=plane, f=file: f.rendered(f.image_hdu(i, p), i)
            cards = {index: ({"L1STATCR": (1, "masked")}, "masked") for index in range(0, len(file.hdus), 2)}
            new = fits.ImageHDU(np.zeros((4, 4), np.uint8), name="CRMASK")
            file.copy(stream, planes, cards, [lambda f=file, n=new: f.rendered(n)])
            file.sha256()


def changes(path, target):
    """Return what is not in a file as it was in the one it was made from, masks aside; "" if all is."""
    before, after = (_plain(p) for p in (path, target))
    # Counted without the walker, which might have missed some.
    for content in (before, after):
        if not content.startswith(b"SIMPLE"):
            return "no FITS file"
    starts = [sum(c[i : i + 9] == b"XTENSION=" for i in range(0, len(c), 2880)) for c in (before, after)]
    if starts[0] > starts[1]:
        return f"{starts[0]} extensions became {starts[1]}"
    old, new = _walked(path), _walked(target)
    for index, (a, b) in enumerate(zip(old, new, strict=False)):
        mask = "_ood_" in path.name or any(EXTNAME_OF_A_MASK.match(card) for card in split_cards(a.header))
        # One whose EXTNAME was damaged is still known by its content.
        mask = mask or (b"TABLE" not in a.header[:80] and len(set(before[a.data : a.data + a.size])) <= 2)
        if not mask and before[a.data : a.data + a.size] != after[b.data : b.data + b.size]:
            return f"HDU {index} has other data"
    return "" if len(old) <= len(new) else "HDUs are missing"


def _walked(path):
    with open_regular(path) as descriptor:
        kind = decompressor(descriptor)
        return walk(CompressedSource(descriptor, kind) if kind else PlainSource(descriptor))


def _plain(path):
    content = path.read_bytes()
    for magic, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ", lzma.decompress)):
        if content.startswith(magic):
            return unpack(content)
    return content


def verdict(function, path, target):
    """Run the function on a file; return (what became of it, details)."""
    try:
        function(path, target)
    except FrameError as error:
        text = str(error)
        return ("refused", text) if text and text.isprintable() and len(text) < 500 else ("other", f"unclean: {text!r}")
    except BaseException as error:
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-3:]]
        return "other", f"{type(error).__name__}: {str(error)[:150]!r} at {' > '.join(places)}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = [(path, target)]
        if "_ooi_" in path.name:
            pairs.append(tuple(p.with_name(p.name.replace("_ooi_", "_ood_")) for p in (path, target)))
        changed = "; ".join(filter(None, (changes(*pair) for pair in pairs)))
    return ("changed", changed) if changed else ("processed", "")


def work(name, seed, gigabytes):
    """Answer case numbers from standard input with verdicts, one JSON a line."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    function = getattr(importlib.import_module(module), attribute) if module else read_and_copy
    files = bases()
    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Only verdicts go to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")
            path = make_case(files, seed, int(line), folder)
            target = Path(folder, "out", path.name)
            target.parent.mkdir()
            answers.write(json.dumps(verdict(function, path, target)) + "\n")
            answers.flush()


def campaign(count, seed=1, function="", seconds=SECONDS, gigabytes=GIGABYTES, first=0, report=None):
    """Run many cases.

    Parameters
    ----------
    count, seed, first : int
        Cases `first` to `first + count - 1`.
    function : str
        ``module:function``, called with the paths of the damaged file and of the output;
        `read_and_copy` without it.
    seconds, gigabytes : float
        Limits for one case, and of the address space of a worker.
    report : callable, optional
        Called with the number and verdict of each failure.

    Returns
    -------
    `collections.Counter`
        Of "processed", "refused", "other", "changed", "hang" and "crash".
    """
    counter, worker = Counter(), None
    command = [sys.executable, __file__, "--work", "--seed", str(seed), "--function", function]
    command += ["--gigabytes", str(gigabytes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with ExitStack() as stack:
        for number in range(first, first + count):
            if worker is None:
                worker = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment, bufsize=1)
                stack.callback(_end, worker)
                wait = 60.0 + seconds
            worker.stdin.write(f"{number}\n")
            worker.stdin.flush()
            ready, _, _ = select.select([worker.stdout], [], [], wait)
            answer = worker.stdout.readline() if ready else None
            # The first case of a worker waits for its imports.
            wait = seconds
            kind, text = json.loads(answer) if answer else ("crash" if ready else "hang", "")
            if not answer:
                _end(worker)
                text, worker = f"exit status {worker.returncode}", None
            counter[kind] += 1
            if report and kind not in ("processed", "refused"):
                report(number, kind, text)
    return counter


def _end(worker):
    worker.kill()
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()


def main():
    """Run a campaign, or show one case, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--function", default="", help="module:function to test, called with two paths")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES)
    parser.add_argument("--only", type=int, help="write this case to the folder --keep")
    parser.add_argument("--keep", default=".")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.function, options.seed, options.gigabytes)
    elif options.only is not None:
        print(make_case(bases(), options.seed, options.only, options.keep))
    else:
        counter = campaign(
            options.count,
            options.seed,
            options.function,
            options.seconds,
            options.gigabytes,
            options.first,
            lambda number, kind, text: print(f"case {number}: {kind} {text}", flush=True),
        )
        print(f"{options.count} files of seed {options.seed}: {dict(counter)}")
        sys.exit(any(counter[kind] for kind in ("other", "changed", "hang", "crash")))


if __name__ == "__main__":
    main()
