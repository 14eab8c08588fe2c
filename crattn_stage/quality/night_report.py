"""The quality of a night's masks: verdicts from physics and from the night, and the report on them."""

import base64
import io
import statistics
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from math import sqrt
from pathlib import Path

import numpy as np

from calibration_dbs.database import reading
from calibration_dbs.provenance import hit_rates, runs_of_night
from crattn_stage import __version__
from crattn_stage.errors import CrattnError
from crattn_stage.quality.rules import SIGNIFICANT

#: How many times more, or fewer, hits than usual, or than in the other amplifiers, are worth a look.
RATE_FACTOR, AMPLIFIER_FACTOR, BORDER_FACTOR = 3.0, 2.0, 3.0
#: Fewer frames than this are no history; of a longer one, the newest are taken.
FEWEST_FRAMES, MOST_FRAMES = 10, 1000
LEVELS = ("PASS", "WARN", "FAIL")
#: Frames shown with a picture.
WORST = 8


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
    """Judge the masks of a night by what the database knows of them.

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
        reasons += [("WARN", why) for why in (*_odd_rate(run, usual), *_odd_amplifiers(run), *_odd_borders(run))]
        if run.model.is_bad:
            reasons.append(("FAIL", f"masked by {run.model.name} {run.model.sha256[:8]}, which was retired as bad"))
    verdict = max((level for level, _ in reasons), key=LEVELS.index, default="PASS")
    columns = ("status", "engine", "version", "threshold", "hits", "pixels", "fraction", "rate", "attempts")
    return Judged(
        path=run.frame.path,
        output=run.output_path,
        camera=run.frame.camera,
        site=run.frame.site,
        verdict=verdict,
        reasons=[why for _, why in reasons],
        model=run.model.name,
        sha256=run.model.sha256,
        star_fraction=run.star_fraction,
        usual_rate=usual,
        **{name: getattr(run, name) for name in columns},
    )


def _odd_rate(run, usual):
    seconds = run.frame.exposure_time
    if usual is None or not run.area or not seconds:
        return
    expected = usual * run.area * seconds / 60
    apart = abs(run.hits - expected) > SIGNIFICANT * sqrt(max(expected, 1))
    if apart and not expected / RATE_FACTOR < run.hits < expected * RATE_FACTOR:
        yield f"{run.hits} hits where {expected:.0f} are usual"


def _odd_amplifiers(run):
    searched = sum(amplifier.searched for amplifier in run.amplifiers)
    for amplifier in run.amplifiers if len(run.amplifiers) > 1 else ():
        expected = run.hits * amplifier.searched / searched if searched else 0
        apart = abs(amplifier.hits - expected) > SIGNIFICANT * sqrt(max(expected, 1))
        if apart and not expected / AMPLIFIER_FACTOR < amplifier.hits < expected * AMPLIFIER_FACTOR:
            name = f"{amplifier.extension} {amplifier.name}".strip()
            yield f"{amplifier.hits} hits in {name}, {expected:.0f} by its share"


def _odd_borders(run):
    known = [a for a in run.amplifiers if a.border_searched]
    searched, pixels = (sum(getattr(a, name) for a in known) for name in ("searched", "pixels"))
    at_border, there = (sum(getattr(a, f"border_{name}") for a in known) for name in ("searched", "pixels"))
    if not run.hits or searched <= at_border:
        return
    expected = (pixels - there) / (searched - at_border) * at_border
    # Pixels come by the hit.
    spread = sqrt(max(expected, 1) * max(1, pixels / run.hits))
    if there > BORDER_FACTOR * expected and there - expected > SIGNIFICANT * spread:
        yield f"{there} pixels masked at amplifier borders, {expected:.0f} by their share"


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


def report_html(report):
    """Return a report as one HTML page that needs no other file.

    Parameters
    ----------
    report : `NightReport`

    Returns
    -------
    str
    """
    from jinja2 import Environment, PackageLoader

    template = Environment(loader=PackageLoader("crattn_stage.quality"), autoescape=True).get_template("night.html")
    pictures = []
    for frame in report.worst()[:WORST]:
        try:
            pictures.append((frame, _encoded(thumbnail(frame.output)) if frame.output else None, ""))
        except (CrattnError, OSError) as error:
            pictures.append((frame, None, str(error)))
    return template.render(
        report=report, pictures=pictures, plots=_encoded(_plots(report)) if report.frames else None, version=__version__
    )


def _encoded(png):
    return base64.b64encode(png).decode()


def _plots(report):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = (
        ("rate", "hits per cm$^2$ per minute"),
        ("fraction", "share of pixels masked"),
        ("star_fraction", "share of star cores masked"),
    )
    colours = dict(zip(LEVELS, ("#2a9d5c", "#e09f1f", "#c8102e"), strict=True))
    for axis, (name, title) in zip(figure.subplots(1, 3), panels, strict=True):
        values = [getattr(frame, name) for frame in report.frames]
        for level in LEVELS:
            points = [(i, v) for i, v in enumerate(values) if v is not None and report.frames[i].verdict == level]
            if points:
                axis.plot(*zip(*points, strict=True), "o", ms=4, color=colours[level], label=level)
        usual = [frame.usual_rate for frame in report.frames if frame.usual_rate is not None]
        if name == "rate" and usual:
            axis.axhline(np.median(usual), color="#888888", lw=1, label="usual")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("frame", fontsize=9)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.axes[0].legend(fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def thumbnail(path):
    """Draw the detector of a masked frame that has the most of its pixels masked.

    Parameters
    ----------
    path : path-like
        Of a masked frame.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    crattn_stage.errors.FrameError
        If the frame cannot be read.
    """
    from crattn_stage.fits.frame import ObservationFrame
    from crattn_stage.products.preview import display_image, side_by_side

    with ObservationFrame(path) as frame, tempfile.TemporaryDirectory() as folder:
        worst = None
        for extension, ccd in frame.ccds():
            found = frame.masked(extension)
            share = 0.0 if found is None else found.mean()
            if worst is None or share > worst[0]:
                worst = (share, extension, ccd, found)
        _, extension, ccd, found = worst
        image, window = display_image(ccd, frame.amplifiers(extension))
        mask = np.zeros(image.shape, bool) if found is None else found[window]
        rows = [[(extension.name, image, None), ("masked", image, mask)]]
        return side_by_side(Path(folder) / "thumbnail.png", rows).read_bytes()
