"""The page on a night: one HTML file with plots and pictures that needs no other file."""

import base64
import io
import os
from urllib.parse import quote

import numpy as np

from crattn_stage import __version__
from crattn_stage.errors import CrattnError
from crattn_stage.fits.names import view_path
from crattn_stage.quality.rules import LEVELS

#: Frames shown with a picture.
WORST = 8
_COLOURS = dict(zip(LEVELS, ("#2a9d5c", "#e09f1f", "#c8102e"), strict=True))
_PANELS = {
    "rate": "hits per cm$^2$ per minute",
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

    def encoded(png):
        # Of a type that `finalize` leaves alone: there is a lot of it.
        return Markup(base64.b64encode(png).decode())

    pictures = []
    for frame in report.worst()[:WORST]:
        try:
            pictures.append((frame, encoded(thumbnail(frame.output)) if frame.output else None, ""))
        except (CrattnError, OSError) as error:
            pictures.append((frame, None, str(error)))
    template = templates("crattn_stage.quality").get_template("night.html")
    return template.render(
        report=report,
        pictures=pictures,
        plots=encoded(_plots(report)) if report.frames else None,
        views=_views(report, folder),
        version=__version__,
    )


def _views(report, folder):
    """Return {path of a frame: address of its page} for the pages that there are."""
    pages = {frame.path: view_path(frame.output) for frame in report.frames if frame.output}
    return {path: quote(os.path.relpath(page, folder)) for path, page in pages.items() if page.exists()}


def _plots(report):
    """Draw rates and fractions by frame, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        for level in LEVELS:
            values = ((i, getattr(frame, name)) for i, frame in enumerate(report.frames) if frame.verdict == level)
            points = [(i, value) for i, value in values if value is not None]
            if points:
                axis.plot(*zip(*points, strict=True), "o", ms=4, color=_COLOURS[level], label=level)
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
    """Draw the detector of a masked frame that has the largest fraction of its pixels masked.

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
    from crattn_stage.products.preview import display_image, drawn

    with ObservationFrame(path) as frame:
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
        rows = [[(extension.name, image, None), ("masked", image, mask)]]
        return drawn(rows)
