"""Write the tables of the manual that are made from the code, and the tabs of tables of the page on accuracy."""

import csv
from math import isfinite
from pathlib import Path

from crattn_stage.cameras import profile
from crattn_stage.products.hits import COLUMNS
from crattn_stage.quality.cards import CARDS
from crattn_stage.quality.rules import RULES

#: What each key of a profile means; a key of the format that is missing here, or one too many, stops the build.
MEANINGS = {
    "": {
        "title": "What the camera or archive is called in messages.",
        "references": "Where the facts come from, for whoever checks them.",
        "priority": "Profiles are tried from the highest to the lowest; 50 if not given.",
        "extends": "Name of a profile whose rules also apply, after those given here; ``generic`` if not given.",
        "family": "The camera's name in the database; the name of the file if not given.",
        "unmatched": "Role of image HDUs that no ``[[hdus]]`` block matches; if not given, their pixels decide.",
        "pair": "How mask planes are assigned to science planes; if not given, whichever way is unambiguous.",
    },
    "recognise": {"*": "A frame is of this camera if every line of one of these blocks matches its headers."},
    "refuse": {
        "*": "A frame that matches one of these blocks is refused.",
        "why": "The reason that the user is given; ``{CARD}`` in it is replaced by the card's value.",
    },
    "calibration": {
        "*": "A frame that matches one of these blocks is skipped.",
        "kind": "What it is: bias, flat, arc...; ``{CARD}`` is replaced by the card's value.",
    },
    "image": {"*": "A frame that matches one of these blocks is an image, whatever else its header says."},
    "spectrum": {"*": "A frame that matches one of these blocks is a two-dimensional spectrum, and masked as one."},
    "hdus": {
        "*": "The first block that matches an image HDU gives its role.",
        "role": "What the HDU is. Only ``science`` is masked; flags are read from ``mask``.",
    },
    "companions": {
        "role": "What the companion file holds. The file with the role ``mask`` is read, and a masked copy is written.",
        "find": "Part of the frame's file name to replace...",
        "replace": "...by this to get the name of the companion file, in the same folder.",
        "when": "Only for frames that match these cards.",
    },
    "masks": {
        "when": "Only for frames that match these cards.",
        "plane": "Only for mask planes whose own header matches these cards.",
        "kind": "Whether a pixel has a sum of bits or a single code.",
        "cosmic_ray": "The flag of a cosmic ray, which is cleared and set anew.",
        "bad": "Flags of pixels that cannot be used; if not given, every flag but that of a cosmic ray.",
        "saturated": "Those of ``bad`` that mean saturation.",
        "flags": "What each flag means, for ``inspect``.",
        "names": "Prefix of header cards that give the number of each bit, such as ``MP_``; flags may then be names.",
        "extension": "EXTNAME of a plane that has to be created; without it this block creates none.",
        "dtype": "Type of a plane that has to be created; ``uint8`` if not given.",
    },
    "amplifiers": {
        "names": "What distinguishes the cards of the amplifiers: ``A`` and ``B`` for ``DATASECA`` and ``DATASECB``. "
        "``{name}`` in a card stands for it; otherwise it is appended.",
        "data": "Cards with the section of an amplifier's pixels; the first one present counts.",
        "trim": "The same, used if none of ``data`` is present.",
        "overscan": "Cards with the overscan section, which is left out.",
        "form": "How sections are written. The last three are cards with single numbers, named by ``columns`` and "
        "``rows``: first and last pixel; number of pixels before and number of pixels; first pixel and number of "
        "pixels.",
        "columns": "Cards of the single numbers, for the columns.",
        "rows": "The same for the rows.",
        "whole": "Frames that match are trimmed already: their section cards are ignored.",
        "fixed": "Sections, for frames whose headers have none.",
        "unbinned": "Sections count unbinned pixels although the image is binned.",
    },
    "keywords": {
        "gain": "Electron per ADU.",
        "read_noise": "Electron.",
        "saturation": "Saturation level in the unit of the image; of several amplifiers the lowest counts.",
        "exposure": "Exposure time in seconds; ``CARD [ms]``, ``[us]`` or ``[min]`` for another unit.",
        "pixel_size": "Pixel size in micrometres, cards in pairs; ``CARD [mm]`` or ``[m]`` for another unit.",
        "binning": "One card with two numbers, or a pair of cards.",
        "type": "What the frame is of; ``TYPE`` in a match table tests all of these.",
        "mode": "What kind of exposure it is: imaging, spectroscopy, acquisition...",
        "disperser": "Name of the grism, grating or prism in the light, or of the empty place of its wheel.",
        "slit": "The same of slits; it counts where neither mode nor disperser tells.",
        "camera": "Name of the individual camera.",
        "site": "Name of the site.",
        "night": "The observatory's own label of the night.",
        "date": "UT date of the start, with or without the time.",
        "time": "UT of the start, where the date has no time.",
        "mjd": "Modified Julian date of the start, if there is no date.",
        "longitude": "Degrees, positive east; a number or sexagesimal.",
        "longitude_west": "The same for cards that count positive west.",
        "pixel_size_binned": "The pixel size given is that of a binned pixel.",
    },
    "values": {
        "gain": "Electron per ADU.",
        "read_noise": "Electron.",
        "saturation": "In the unit of the image.",
        "exposure": "Seconds.",
        "pixel_size": "Side of an unbinned pixel in micrometres.",
        "longitude": "Of the telescope, for the night.",
        "unit": "Unit of the image; ``BUNIT`` if not given, else ADU.",
        "site": "Name of the site.",
        "camera": "Name of the camera.",
    },
    "settings": {
        "model": "Model for this camera (shipped name or path), unless ``--model`` or a registered model applies.",
        "threshold": "Threshold of this camera's frames, unless ``--threshold`` is given.",
        "grow": "By how many pixels each mask is grown, unless ``--grow`` is given.",
        "grow_threshold": "Probability down to which masks are grown along connected pixels, unless "
        "``--grow-threshold`` is given.",
        "bad_pixels": "File with further bad pixels, a FITS mask or DS9 regions; relative to the profile.",
        "no_information": "What a pixel without information has in planes of variance or standard deviation, for "
        "``--flag-variance``; ``inf`` if not given. Weights have 0.",
        "minimum_exposure": "Frames with a shorter exposure are skipped.",
        "limits": "Limits of the verdict, instead of those that :doc:`masks` lists, such as "
        "``limits = { CRSTAR = [0.05, 0.2] }``: ``WARN`` above the first, ``FAIL`` above the second.",
    },
}


def _check(name, key):
    if key == "*":
        return "a card and a regular expression"
    return profile._FIELDS[name][key][1]


def _write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def _format_tables(folder):
    """Write one table for each block of a profile."""
    known = {name: set(fields) for name, fields in profile._FIELDS.items()}
    described = {name: set(fields) for name, fields in MEANINGS.items()}
    if known != described:
        odd = sorted(f"[{n}] {k}" for n in known | described for k in known.get(n, set()) ^ described.get(n, set()))
        raise ValueError(f"docs/_ext/generated.py does not describe the format of profiles: {', '.join(odd)}")
    for name, fields in MEANINGS.items():
        rows = [["Key", "Value", "Meaning"]]
        for key, meaning in fields.items():
            shown = "``CARD``" if key == "*" else f"``{key}``"
            if key in profile._REQUIRED.get(name, ()):
                shown += " (required)"
            rows.append([shown, _check(name, key), meaning])
        _write(folder / f"profile-{name or 'file'}.csv", rows)


def _recognised_by(found):
    blocks = []
    for block in found.recognise:
        cards = [
            "no " + card
            if value is False
            else f"{card} = {', '.join(map(str, value)) if type(value) is list else value}"
            for card, value in block.items()
        ]
        blocks.append(" and ".join(f"``{card}``" for card in cards))
    return "; or ".join(blocks[:2]) + ("; or others" if len(blocks) > 2 else "")


def _mask(found):
    said = []
    for block in found.masks:
        kind = "bit" if block["kind"] == "bits" else "code"
        flag = block["cosmic_ray"]
        where = f" of ``{block['extension']}``" if "extension" in block else ""
        # LSST and others name their bits in header cards.
        text = f"{kind} {flag}" if type(flag) is int else f"{kind} of ``{block.get('names', '')}{flag}``"
        said.append(text + where)
    return "; ".join(dict.fromkeys(said[:3]))


def _profile_table(folder):
    rows = [["Profile", "Camera or archive", "Recognised by", "Cosmic rays"]]
    shipped = sorted(profile.SHIPPED.glob("*.toml"))
    for path in shipped:
        found = profile.find_profile(path.stem)
        rows.append([f"``{found.name}``", found.title.replace("*", r"\*"), _recognised_by(found), _mask(found)])
    _write(folder / "profiles.csv", rows)


def _quality_tables(folder):
    cards = [[f"``{card.keyword}``", card.unit, card.meaning] for card in CARDS]
    _write(folder / "cards.csv", [["Keyword", "Unit or type", "Meaning"], *cards])
    rules = [
        [f"``{r.keyword}``", r.warn, r.fail if isfinite(r.fail) else "never", r.judge.__doc__.split("\n")[0]]
        for r in RULES
    ]
    _write(folder / "rules.csv", [["Card", "``WARN`` above", "``FAIL`` above", "Why"], *rules])


def _hits_table(folder):
    rows = [[f"``{name}``", unit or "", text] for name, (unit, text) in COLUMNS.items()]
    _write(folder / "hits.csv", [["Column", "Unit", "Meaning"], *rows])


#: Scenes of the page on accuracy: the name of their files, and what they are called there.
SCENES = {
    "r": "DECam r",
    "z": "Bright sky",
    "stars-1.5": "Narrow stars",
    "stars-1.2": "Narrowest stars",
    "galaxies": "Galaxies",
    "thin-1.6": "Thin CCD",
}
#: What that page shows of each: the ending of its files, with a caption.
SHOWN = {
    "rates": "True positive rate at a fixed false positive rate, and precision at a fixed true positive rate; percent, "
    "with 95% intervals",
    "settings": "At each method's own threshold, with 95% intervals",
    "hits": "Hits of which a pixel is found, percent, by charge, by length and by peak",
    "differences": "Differences between methods in percentage points, with 95% intervals",
    "noise": "Which fraction of the cosmic-ray pixels stands out from the noise",
}
TAB = """
   .. tab-item:: {title}
      :sync: {name}

      .. csv-table:: {caption}
         :file: ../figures/{name}-{ending}.csv
         :header-rows: 1
         :stub-columns: 1
         :class: figures
"""


def _accuracy_tabs(folder):
    """Write a set of tabs, one for each kind of scenes, for each kind of table."""
    for ending, caption in SHOWN.items():
        tabs = (TAB.format(title=title, name=name, caption=caption, ending=ending) for name, title in SCENES.items())
        (folder / f"accuracy-{ending}.inc").write_text(".. tab-set::\n   :sync-group: scenes\n" + "".join(tabs))


def write_tables(app):
    """Write the tables into ``generated/``."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    _format_tables(folder)
    _profile_table(folder)
    _quality_tables(folder)
    _hits_table(folder)
    _accuracy_tabs(folder)


def setup(app):
    """Connect the tables to the build."""
    app.connect("builder-inited", write_tables)
    return {"parallel_read_safe": True}
