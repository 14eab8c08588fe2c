"""The quality of a night's masks: the verdict on each frame, by itself and compared with others of its camera."""

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, timedelta

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
    camera, site, filter : str or None
    observed : str or None
        Start of the exposure, UTC, YYYY-MM-DD HH:MM:SS.
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
    most_masked : str or None
        The detector of which the largest fraction was masked; None if none is recorded.
    usual_rate : float or None
        Median of the camera's other nights, or of this one where they are few.
    attempts : int
    """

    path: str
    output: str | None
    camera: str | None
    site: str | None
    filter: str | None
    observed: str | None
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
    most_masked: str | None
    usual_rate: float | None
    attempts: int


@dataclass
class Repeats:
    """Exposures of one field that were graded by each other.

    Attributes
    ----------
    site, camera, filter : str or None
    target : str
        OBJECT of the first; "" where it has none.
    detector : str or None
        The one that was graded; None where there is no other.
    paths : list of str
        Of the frames compared.
    grades : list of dict
        For each of them, what `crattn_stage.grade.as_json` says of a frame; its ``path`` is that of the output.
    failure : str
        Why there are none; "" if there are.
    """

    site: str | None
    camera: str | None
    filter: str | None
    target: str
    detector: str | None
    paths: list
    grades: list = field(default_factory=list)
    failure: str = ""

    @property
    def title(self):
        """What was exposed: the field, camera, filter and detector, as far as they are known."""
        camera = " ".join(filter(None, (self.site, self.camera, self.filter, self.detector)))
        return f"{self.target or 'one field'}, {camera}" if camera else self.target or "one field"


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
    repeats : list of `Repeats`
        Fields that were exposed repeatedly, where they were graded.
    """

    night: str
    frames: list = field(default_factory=list)
    skipped: int = 0
    repeats: list = field(default_factory=list)

    @property
    def counts(self):
        """How many frames have each verdict."""
        counts = Counter(frame.verdict for frame in self.frames)
        return {level: counts[level] for level in LEVELS}

    def worst(self):
        """Return the frames that are not PASS, the worst first."""
        odd = [frame for frame in self.frames if frame.verdict != "PASS"]
        return sorted(odd, key=lambda frame: (-LEVELS.index(frame.verdict), -(frame.fraction or 0), frame.path))

    def cameras(self):
        """Return the frames of each camera at a site, in the order of the frames.

        Returns
        -------
        dict
            (site, camera) -> list of `Judged`.
        """
        found = {}
        for frame in self.frames:
            found.setdefault((frame.site, frame.camera), []).append(frame)
        return found


def ranked(frames):
    """Return the frames that were masked, the best first: by verdict, then completeness, then fraction masked.

    Parameters
    ----------
    frames : list of `Judged`

    Returns
    -------
    list of `Judged`
    """

    def order(frame):
        missed = 1 - (frame.bright_completeness or 0)
        return LEVELS.index(frame.verdict), missed, frame.fraction or 0, frame.path

    return sorted((frame for frame in frames if frame.status == "succeeded" and frame.output), key=order)


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


def utc_text(moment):
    """Return a time of the database as a text.

    Parameters
    ----------
    moment : `datetime.datetime` or None
        UTC where it has no time zone, as from SQLite.

    Returns
    -------
    str or None
        YYYY-MM-DD HH:MM:SS, UTC.
    """
    if moment is None:
        return None
    return f"{moment if moment.tzinfo is None else moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def are_of_one_night(moments):
    """Tell whether times may be those of one night.

    Parameters
    ----------
    moments : list of `datetime.datetime` or None

    Returns
    -------
    bool
        False where one is not known, or where they span more than two days, as those of damaged headers do.
    """
    return all(moments) and max(moments) - min(moments) < timedelta(days=2)


def _most_masked(amplifiers):
    """Return the detector of which the largest fraction was masked, or None."""
    masked = {}
    for amplifier in amplifiers:
        pixels, searched = masked.get(amplifier.extension, (0, 0))
        masked[amplifier.extension] = pixels + amplifier.pixels, searched + amplifier.searched
    return max(masked, key=lambda name: masked[name][0] / max(1, masked[name][1]), default=None)


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
        filter=run.frame.filter,
        observed=utc_text(run.frame.observed),
        most_masked=_most_masked(run.amplifiers),
        verdict=verdict,
        reasons=[why for _, why in reasons],
        model=run.model.name,
        sha256=run.model.sha256,
        usual_rate=usual,
        **{name: getattr(run, name) for name in columns},
    )


def grade_cells(grade):
    """Return the grade of a frame as texts.

    Parameters
    ----------
    grade : dict
        Of `Repeats.grades`, without a failure.

    Returns
    -------
    list of (str, str)
        A figure with its 95% interval, and what it is.
    """

    def fraction(kind):
        value, (low, high) = grade[f"{kind}_completeness"], grade[f"{kind}_interval"]
        return "-" if value is None else f"{value:.1%} ({low:.1%} to {high:.1%})"

    rate, (low, high) = grade["false_per_megapixel"], grade["false_interval"]
    return [
        (fraction("bright"), f"of {grade['bright']:.0f} hits, S/N above 10"),
        (fraction("faint"), f"of {grade['faint']:.0f} hits, S/N 5 to 10"),
        ("-" if rate is None else f"{rate:.1f} ({low:.1f} to {high:.1f})", "false objects per million pixels"),
    ]


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
