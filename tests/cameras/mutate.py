"""Write junk into the header cards that the camera profiles read, and see what becomes of the frames.

``python -m tests.cameras.mutate --count 5000 --seed 1`` changes 1 to 3 cards of a small frame that many times; case n
of a seed is always the same.

What may become of a frame: it is understood, with no detector that the untouched frame does not have, or it is refused
in one printable line.  Everything else is a failure.
"""

import argparse
import re
import signal
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io.fits.verify import VerifyWarning

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from archives import large, lco, others, small  # noqa: E402

from crattn_stage.cameras.profile import profiles  # noqa: E402
from crattn_stage.errors import CrattnError  # noqa: E402
from crattn_stage.fits.frame import OpenFrame  # noqa: E402
from crattn_stage.fits.layout import split_cards, walk  # noqa: E402
from crattn_stage.fits.source import PlainSource, open_regular  # noqa: E402
from crattn_stage.products.description import as_text, describe  # noqa: E402

SECONDS = 10
FRAMES = {
    "lco_sinistro_raw": lco,
    "lco_nres_e92": lco,
    "gmos_raw": large,
    "gmos_dragons": large,
    "eso_hduclas": large,
    "lris_vidinp": large,
    "goodman_spectrum": others,
    "osiris_plus": others,
    "arctic_quad": others,
    "swope_direct": small,
    "blackgem_red": small,
}
#: Words that say what a plane is rather than what it is worth.
ROLES = re.compile(r"EXTNAME|EXTVER|HDUCLAS\d|EXTTYPE|IMAGETYP|UTYPE|CRIMAGE|NEXTEND")
VALUES = (
    *("-1", "0", "1", "2", "1e308", "-1e308", "1E400", "-0.0", "NaN", "Inf", "9" * 30, "1.5", "99999999999", "T", "F"),
    *("", "''", "' '", "'NaN'", "'inf'", "'-1'", "'1e400'", "'none'", "'UNKNOWN'", "'object'", "'e-'", "'adu'"),
    *("'[1:10,1:10]'", "'[10:1,10:1]'", "'[0:9,0:9]'", "'[-5:4,-5:4]'", "'[1:99999999,1:99999999]'", "'[1:10]'"),
    *("'[1:10,1:10'", "'[a:b,c:d]'", "'[5:5,5:5]'", "'[0:0,0:0]'", "'[1.5:2.5,1:2]'", "'[,]'", "'[:,:]'", "'[*,*]'"),
    *("'[1:9223372036854775808,1:2]'", "'1 2'", "'0 0'", "'2x2'", "'-1 -1'", "'1e9 1e9'", "'99999 99999'", "'2,'"),
    *("'2019-05-03T01:02:03'", "'0000-00-00T00:00:00'", "'9999-99-99T99:99:99'", "'9999-12-31T23:59:59'"),
    *("'0001-01-01T00:00:00'", "'00:00:60'", "'-99:99:99'", "'20190503'", "'31/12/99'", "'2019-05-03T24:61:61'"),
    *("'\x1b[31mred'", "'\x00'", "'\n'", "'\xe4\xff'", "'" + "x" * 68 + "'", "'" + "1" * 68 + "'", "'{EXTNAME}'"),
    *("'\\d+('", "'%s%n'", "(1, 2)", "'unterminated", "1 2 3", "0x10", "1_000", "'SCI'", "'MASK'", "'BIAS'", "'../..'"),
)


@cache
def keywords():
    """Return the cards that some profile reads, and a few others that the readers know."""
    found = {"EXTNAME", "EXTVER", "BUNIT", "DATE-OBS", "SECTIONS", "HDUCLAS1", "HDUCLAS2", "CRIMAGE", "L1IDCR"}
    for profile in profiles():
        for table in (*profile.recognise, *profile.refuse, *profile.calibration, *profile.hdus, *profile.masks):
            found.update(key for part in (table, table.get("when", {}), table.get("plane", {})) for key in part)
        texts = [t for value in (*profile.amplifiers.values(), *profile.keywords.values()) for t in _texts(value)]
        for text in texts:
            card = text.partition(" [")[0].replace("{name}", "")
            found.update((card, card + "1", card + "A") if "{name}" in text else (card,))
    found -= {"EXTNAMES", "FILENAME", "HDU", "TYPE"}
    cards = {key for key in found if re.fullmatch(r"[A-Z0-9][A-Z0-9_ -]*", key)}
    return sorted(key for key in cards if not re.match("NAXIS|BITPIX|SIMPLE|XTENSION", key))


def _texts(value):
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def build(folder):
    """Build the frames; return name -> (path, HDU indices of its detectors)."""
    built = {}
    for name, module in FRAMES.items():
        own = Path(folder, name)
        own.mkdir()
        path = getattr(module, name)(own, np.random.default_rng(zlib.crc32(name.encode())))[0]
        with OpenFrame(path) as frame:
            built[name] = path, {e.index for e in frame.layout.extensions}
    return built


def _keyword(card):
    text = card.decode("latin-1")
    return text[9:].partition("=")[0].strip() if text.startswith("HIERARCH ") else text[:8].strip()


def mutated(path, rng):
    """Return a frame with junk in 1 to 3 cards, and the cards."""
    content = bytearray(path.read_bytes())
    with open_regular(path) as descriptor:
        headers = [(place.start, split_cards(place.header)) for place in walk(PlainSource(descriptor))]
    known = set(keywords())
    used = []
    for _ in range(rng.integers(1, 4)):
        start, cards = headers[rng.integers(len(headers))]
        there = [i for i, card in enumerate(cards) if _keyword(card) in known]
        if there and rng.random() < 0.7:
            number = int(rng.choice(there))
            keyword = _keyword(cards[number])
        else:
            # One that the frame does not have goes over a card that nobody reads, or the last before END.
            free = [i for i, card in enumerate(cards) if _keyword(card) not in known and i > 8]
            if not free:
                continue
            number, keyword = int(rng.choice(free)), str(rng.choice(sorted(known)))
            if re.match(b"END|NAXIS|PCOUNT|GCOUNT|EXTEND|BZERO|BSCALE|T[A-Z]+\\d|Z[A-Z]+", cards[number]):
                continue
        value = str(rng.choice(VALUES)).encode("latin-1")
        short = len(keyword) <= 8 and " " not in keyword
        card = (f"{keyword:8}= " if short else f"HIERARCH {keyword} = ").encode() + value
        content[start + 80 * number : start + 80 * number + 80] = card.ljust(80)[:80]
        cards[number] = bytes(card.ljust(80)[:80])
        used.append(f"{keyword} = {value!r}")
    return bytes(content), used


def _alarm(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def verdict(path, detectors, used):
    """Return what becomes of a frame: "understood", "skipped", "refused" or "failed", and why."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(SECONDS)
    try:
        with OpenFrame(path) as frame:
            found = {e.index for e in frame.layout.extensions}
        said = describe(path)
        lines = as_text(said).splitlines()
        if not all(line.isprintable() for line in lines):
            return "failed", "unprintable"
        if found - detectors and not any(ROLES.match(one) for one in used):
            return "failed", f"detectors {sorted(found)}, not {sorted(detectors)}"
        return {"mask": "understood", "skip": "skipped", "refuse": "refused"}[said["verdict"]], ""
    except CrattnError as error:
        text = str(error)
        return ("refused", "") if text.isprintable() and len(text) < 600 else ("failed", f"unclean: {text[:200]!r}")
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)


def campaign(count, seed=1, report=None):
    """Run many cases; return a `collections.Counter` of their verdicts, and call `report` with each failure."""
    counter = Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=VerifyWarning)
        frames = build(folder)
        names = sorted(frames)
        for number in range(count):
            rng = np.random.default_rng((seed, number))
            path, detectors = frames[names[rng.integers(len(names))]]
            content, used = mutated(path, rng)
            target = Path(folder, "mutated", path.name)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
            kind, why = verdict(target, detectors, used)
            counter[kind] += 1
            if kind == "failed" and report:
                report(number, path.name, used, why)
            target.unlink()
    return counter


def main():
    """Run a campaign, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(dict(campaign(arguments.count, arguments.seed, lambda *failure: print(*failure, flush=True))))


if __name__ == "__main__":
    main()
