"""The page on a night: one HTML file with plots and pictures that needs no other file."""

import base64
import hashlib
import io
import os
from datetime import datetime, timedelta
from urllib.parse import quote

import numpy as np

from crattn_stage import __version__
from crattn_stage.errors import CrattnError
from crattn_stage.fits.names import view_path
from crattn_stage.quality.night_report import are_of_one_night, grade_cells, ranked
from crattn_stage.quality.period_report import camera_name
from crattn_stage.quality.rules import LEVELS

#: Frames that are not PASS shown with a picture, and cameras with plots and pictures.
WORST, MOST_CAMERAS = 8, 6
#: Largest width and height of a picture in pixels.
PICTURE = 480
_COLOURS = dict(zip(LEVELS, ("#2a9d5c", "#e09f1f", "#c8102e"), strict=True))
_PANELS = {
    "rate": "hits per cm² per minute",
    "bright_completeness": "completeness, S/N above 10",
    "fraction": "fraction of pixels masked",
    "star_fraction": "fraction of star cores masked",
}


def report_html(report, folder="."):
    """Return a report as one HTML page that needs no other file.

    Parameters
    ----------
    report : `crattn_stage.quality.night_report.NightReport`
    folder : path-like
        Where the page will lie.  Frames are linked to the pages that ``view`` has written beside them.

    Returns
    -------
    str
        Texts of headers and names of files are escaped.
    """
    from markupsafe import Markup

    from crattn_stage.products.pages import templates

    cameras = report.cameras()
    shown = list(cameras)[:MOST_CAMERAS]
    escaped = templates("crattn_stage.quality")
    script = escaped.loader.get_source(escaped, "night.js")[0]
    return escaped.get_template("night.html").render(
        report=report,
        cameras=[
            {
                "name": camera_name(*place),
                "plots": _plots(cameras[place]),
                "by_time": _times(cameras[place]) is not None,
                "pictures": [(said, frame, *_picture(frame)) for said, frame in _examples(cameras[place])],
            }
            for place in shown
        ],
        not_shown=[camera_name(*place) for place in list(cameras)[MOST_CAMERAS:]],
        odd=[(frame.verdict, frame, *_picture(frame)) for frame in report.worst()[:WORST]],
        views=_views(report, folder),
        graded=[(found, list(zip(found.paths, found.grades, strict=False))) for found in report.repeats],
        cells=grade_cells,
        script=Markup(script),
        # A browser runs the script of this digest, and no other.
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
    )


def _encoded(png):
    from markupsafe import Markup

    # Of a type that `finalize` leaves alone: there is a lot of it.
    return Markup(base64.b64encode(png).decode())


def _examples(frames):
    """Return the best, the median and the worst of some frames, as pairs of what they are and the frame."""
    order = ranked(frames)
    if len(order) < 3:
        return list(zip(("best", "worst"), order, strict=False)) if len(order) > 1 else [("only", f) for f in order]
    return [("best", order[0]), ("median", order[len(order) // 2]), ("worst", order[-1])]


def _picture(frame):
    """Return image and mask of a frame, encoded, and why there is none, if so."""
    if not frame.output:
        return None, None, ""
    try:
        return *map(_encoded, thumbnail(frame.output, frame.most_masked)), ""
    except FileNotFoundError:
        return None, None, "the masked file is no longer there"
    except (CrattnError, OSError) as error:
        return None, None, str(error)


def _views(report, folder):
    """Return {path of a frame: address of its page} for the pages that there are."""
    pages = {frame.path: view_path(frame.output) for frame in report.frames if frame.output}
    return {path: quote(os.path.relpath(page, folder)) for path, page in pages.items() if page.exists()}


def _times(frames):
    """Return when frames were observed in hours from a midnight, UTC, or None where that is not known of all."""
    moments = [frame.observed and datetime.fromisoformat(frame.observed) for frame in frames]
    if not are_of_one_night(moments):
        return None
    midnight = datetime.combine(min(moments), datetime.min.time())
    return [(moment - midnight) / timedelta(hours=1) for moment in moments]


def _plots(frames):
    """Draw what was measured against time, or else by frame; return pairs of what it is and a PNG."""
    times = _times(frames)
    drawn = []
    for name, title in _PANELS.items():
        values = [getattr(frame, name) for frame in frames]
        if any(value is not None for value in values):
            drawn.append((title, _encoded(_plot(frames, values, times, name))))
    return drawn


def _plot(frames, values, times, name):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(5.4, 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    points = list(zip(times or range(1, len(frames) + 1), values, frames, strict=True))
    for level in LEVELS:
        own = [(place, value) for place, value, frame in points if frame.verdict == level and value is not None]
        if own:
            axis.plot(*zip(*own, strict=True), "o", ms=4, color=_COLOURS[level], label=level)
    if name == "rate":
        usual = [frame.usual_rate for frame in frames if frame.usual_rate is not None]
        if usual:
            axis.axhline(np.median(usual), color="#888888", lw=1, label="usual")
        axis.legend(fontsize=8)
    else:
        axis.yaxis.set_major_formatter(PercentFormatter(1))
    # Completeness is near 1, and the rest is above 0.
    axis.set_ylim(**({"top": 1.01} if name == "bright_completeness" else {"bottom": 0}))
    axis.set_xlabel("UTC" if times else "frame", fontsize=9)
    axis.tick_params(labelsize=8)
    if times:
        axis.xaxis.set_major_formatter(lambda hours, _: _clock(round(hours * 60)))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlim(0.5, len(frames) + 0.5)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _clock(minutes):
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}"


def thumbnail(path, name=None):
    """Draw a detector of a masked frame, and its mask.

    Parameters
    ----------
    path : path-like
        Of a masked frame.
    name : str, optional
        Of the detector; by default the one with the largest fraction of its pixels masked, for which all are read.

    Returns
    -------
    image, mask : bytes
        PNGs of one size.

    Raises
    ------
    crattn_stage.errors.FrameError
        If the frame cannot be read.
    FileNotFoundError
        If it is no longer there.
    """
    from crattn_stage.fits.frame import ObservationFrame
    from crattn_stage.products.preview import display_image, layers

    if not os.path.exists(path):
        raise FileNotFoundError(path)
    with ObservationFrame(path, arcs=True) as frame:
        named = [extension for extension in frame.extensions if extension.name == name]
        frame.extensions = named or frame.extensions
        worst = None
        for extension, ccd in frame.ccds():
            found = frame.masked(extension)
            fraction = 0.0 if found is None else found.mean()
            if worst is None or fraction > worst[0]:
                worst = (fraction, extension, ccd, found)
        if worst is None:
            raise CrattnError("no detector is taken for an image of the sky")
        _, extension, ccd, found = worst
        image, window = display_image(ccd, frame.amplifiers(extension))
        mask = np.zeros(image.shape, bool) if found is None else found[window]
        return layers(image, mask, PICTURE)
