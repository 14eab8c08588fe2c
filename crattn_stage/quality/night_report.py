"""The quality of a night's masks: the verdict on each frame, by itself and compared with others of its camera."""

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field

from calibration_dbs.database import reading
from calibration_dbs.provenance import hit_rates, runs_of_night
from crattn_stage import __version__
from crattn_stage.quality.night_rules import oddities
from crattn_stage.quality.rules import LEVELS

#: Fewer frames than this are no history; of a longer one, the newest are taken.
FEWEST_FRAMES, MOST_FRAMES = 10, 1000


@dataclass
class Judged:
    """A frame of the night with its verdict.

    Attributes
    ----------
    path, output : str
    camera, site : str or None
    status : str
        Of its last run.
    verdict : {"PASS", "WARN", "FAIL"}
    reasons : list of str
    model, sha256, engine, version : str
    threshold : float
    hits, pixels : int or None
    fraction, rate, star_fraction : float or None
        As in the header; the rate in hits per cm2 per minute.
    faint_completeness, bright_completeness, noise_objects : float or None
        Of hits that were added to the frame, and objects per million pixels of its mirrored sky.
    usual_rate : float or None
        Median of the camera's other nights, or of this one where they are few.
    attempts : int
    """

    path: str
    output: str | None
    camera: str | None
    site: str | None
    status: str
    verdict: str
    reasons: list
    model: str
    sha256: str
    engine: str
    version: str
    threshold: float
    hits: int | None
    pixels: int | None
    fraction: float | None
    rate: float | None
    star_fraction: float | None
    faint_completeness: float | None
    bright_completeness: float | None
    noise_objects: float | None
    usual_rate: float | None
    attempts: int


@dataclass
class NightReport:
    """A night's frames, judged.

    Attributes
    ----------
    night : str
    frames : list of `Judged`
        By path.
    skipped : int
        Frames that are not of the sky.
    """

    night: str
    frames: list = field(default_factory=list)
    skipped: int = 0

    @property
    def counts(self):
        """How many frames have each verdict."""
        counts = Counter(frame.verdict for frame in self.frames)
        return {level: counts[level] for level in LEVELS}

    def worst(self):
        """Return the frames that are not PASS, the worst first."""
        odd = [frame for frame in self.frames if frame.verdict != "PASS"]
        return sorted(odd, key=lambda frame: (-LEVELS.index(frame.verdict), -(frame.fraction or 0), frame.path))


def judge_night(database, night):
    """Judge the masks of a night by what the database says of them.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    night : str
        YYYYMMDD.

    Returns
    -------
    `NightReport`
    """
    report = NightReport(night)
    with reading(database) as session:
        runs = runs_of_night(session, night)
        usual = {
            place: _usual_rate(session, night, *place) for place in {(run.frame.camera, run.frame.site) for run in runs}
        }
        for run in runs:
            if run.status == "skipped":
                report.skipped += 1
                continue
            report.frames.append(_judged(run, usual[run.frame.camera, run.frame.site]))
    return report


def _usual_rate(session, night, camera, site):
    """Return the median hit rate of a camera at a site on other nights, else on this one, else None."""

    for of_night in (False, True):
        found = hit_rates(session, camera, site, night, MOST_FRAMES, of_night)
        if len(found) >= FEWEST_FRAMES:
            return statistics.median(found)
    return None


def _judged(run, usual):
    reasons = []
    if run.status == "failed":
        reasons.append(("FAIL", f"not masked: {run.error}"))
    elif run.status != "succeeded":
        reasons.append(("WARN", "not finished"))
    else:
        if run.verdict != "PASS":
            reasons.append((run.verdict, run.reason))
        reasons += [("WARN", why) for why in oddities(run, usual)]
        if run.model.is_bad:
            reasons.append(("FAIL", f"masked by {run.model.name} {run.model.sha256[:8]}, which was retired as bad"))
    verdict = max((level for level, _ in reasons), key=LEVELS.index, default="PASS")
    columns = (
        *(
            "status",
            "engine",
            "version",
            "threshold",
            "attempts",
            "hits",
            "pixels",
            "fraction",
            "rate",
            "star_fraction",
        ),
        *("faint_completeness", "bright_completeness", "noise_objects"),
    )
    return Judged(
        path=run.frame.path,
        output=run.output_path,
        camera=run.frame.camera,
        site=run.frame.site,
        verdict=verdict,
        reasons=[why for _, why in reasons],
        model=run.model.name,
        sha256=run.model.sha256,
        usual_rate=usual,
        **{name: getattr(run, name) for name in columns},
    )


def report_json(report):
    """Return a report as a dict that JSON can hold.

    Parameters
    ----------
    report : `NightReport`

    Returns
    -------
    dict
    """
    return {"version": __version__, "counts": report.counts, **asdict(report)}
