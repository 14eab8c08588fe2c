"""Check a masked file: do its header, its mask planes and the database agree?"""

from dataclasses import dataclass, field

import numpy as np

from calibration_dbs import provenance
from crattn_stage.errors import FrameError
from crattn_stage.fits.atomic import sha256
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.quality.cards import CARDS
from crattn_stage.quality.rules import LEVELS


@dataclass
class FileCheck:
    """What a check of a masked file found.

    Attributes
    ----------
    path : str
    verdict : {"PASS", "WARN", "FAIL"}
        As the header says; FAIL if the file contradicts itself or the database.
    reasons : list of str
    flags : dict
        Our header cards, by keyword.
    """

    path: str
    verdict: str
    reasons: list = field(default_factory=list)
    flags: dict = field(default_factory=dict)


def check_file(path, database=None):
    """Check the header cards of a masked file against its mask planes and the database.

    Parameters
    ----------
    path : path-like
    database : `sqlalchemy.Engine`, optional
        Without it the file is only checked against itself.

    Returns
    -------
    `FileCheck`
    """
    check = FileCheck(str(path), "PASS")
    failures = []
    try:
        with ObservationFrame(path, arcs=True) as frame:
            header = frame.header
            check.flags = {
                c.keyword: header[c.keyword] for c in CARDS if c.is_checked and header.get(c.keyword) not in (None, "")
            }
            if check.flags.get("L1STATCR") != 1:
                failures.append("no sign of a cosmic-ray mask in its header")
            else:
                failures += _contradictions(frame)
            files = [p for p in frame.outputs(path) if p.exists()]
        if database is not None and not failures:
            failures += _disagreements(check.flags, provenance.makers(database, sha256(*files)))
    except FrameError as error:
        failures.append(str(error))
    said = check.flags.get("CRQC", "PASS")
    if said not in LEVELS:
        failures.append(f"CRQC is {said!r}")
    check.verdict = "FAIL" if failures else said
    check.reasons = [*failures, *([str(header["CRQCWHY"])] if said != "PASS" and header.get("CRQCWHY") else [])]
    return check


def _contradictions(frame):
    """Compare the counts in the headers with the mask planes."""
    if not frame.extensions:
        yield f"its header says that it was masked, but it is taken for a {frame.exposure.calibration_type}"
    for extension in frame.extensions:
        said, found = extension.header.get("CRNPIX"), frame.masked(extension)
        if found is None or said is None:
            yield f"{extension.name} has no mask"
            continue
        count = int(np.count_nonzero(found))
        if not isinstance(said, int):
            yield f"{extension.name}: CRNPIX is {said!r}"
            continue
        # A pixel that had another code keeps it, so a plane of codes may show fewer.
        if count > said or (count < said and extension.convention.bits):
            yield f"{extension.name}: CRNPIX is {said}, its mask has {count}"


def _disagreements(flags, makers):
    """Compare the header cards with the run that wrote the file."""
    if not makers:
        yield "no run in this database wrote this file; give the right --db, or use --headers-only"
        return
    run, _, model = makers[0]
    if model.sha256[:16] != flags.get("CRMODSHA"):
        yield f"the database says it was masked by {model.name} {model.sha256[:16]}"
    elif model.is_bad:
        yield f"masked by {model.name} {model.sha256[:8]}, which was retired as bad"
    threshold = flags.get("CRPMIN")
    if not isinstance(threshold, float | int) or not np.isclose(run.threshold, threshold, rtol=1e-6):
        yield f"the database says its threshold was {run.threshold:.6g}"
