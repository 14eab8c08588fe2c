"""Pages on many nights: a folder of static files, from the months of each camera down to its nights and frames.

Each page holds its figures as JSON; one script draws them all with plotly.js, which is a file of the folder, too, so
that the pages need neither a server nor the network.
"""

import math
import os
import re
import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import numpy as np

from calibration_dbs import statistics
from crattn_stage import __version__
from crattn_stage.errors import CrattnError, printable
from crattn_stage.fits.atomic import replacing
from crattn_stage.fits.names import view_path
from crattn_stage.quality.change_points import AMPLIFIER_RATE, SERIES_RATE, SHORTEST, change_points
from crattn_stage.quality.night_report import are_of_one_night, utc_text
from crattn_stage.quality.period_report import MOST_NIGHTS, QUANTITIES, camera_name

#: Fewest hits that an amplifier is expected to have in a night, or a month, for its balance to be shown.
FEWEST_HITS = 20
#: Factor by which an amplifier must change to be listed; with many hits, less is significant.
LARGE_CHANGE = 1.1
_PLOTLY, _SCRIPT = "plotly.min.js", "period.js"


def write_site(database, first, last, folder):
    """Write the pages on some nights.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    first, last : str
        YYYYMMDD, both included.
    folder : path-like
        Made if need be.  Pages of an earlier call are replaced; those of other nights stay, unlinked.

    Returns
    -------
    int
        The number of pages.

    Raises
    ------
    CrattnError
        If plotly is not installed, or a file cannot be written.
    """
    site = _Site(Path(folder), first, last)
    with statistics.snapshot(database) as session:
        by_place = defaultdict(_Camera)
        for name, rows in {
            "series": statistics.totals(session, first, last),
            "nights": statistics.totals(session, first, last, by_filter=False),
            "months": statistics.totals(session, first, last, by_month=True, by_filter=False),
            "amplifiers": statistics.amplifier_totals(session, first, last),
            "hits": statistics.hit_totals(session, first, last),
            "models": statistics.models_in_use(session, first, last),
        }.items():
            for row in filter(site.is_month if name in ("months", "hits") else site.is_dated, rows):
                getattr(by_place[row.site, row.camera], name).append(row)
        cameras = {place: camera for place, camera in by_place.items() if camera.series}
        folders = camera_folders(statistics.known_cameras(session))
        for place, camera in cameras.items():
            camera.name, camera.folder = camera_name(*place), folders[place]
        frames = filter(site.is_dated, statistics.frames_of(session, first, last))
        for place, rows in groupby(frames, lambda row: (row.site, row.camera)):
            for night, group in groupby(rows, lambda row: row.night):
                site.write_night(cameras[place], night, list(group))
    for camera in cameras.values():
        site.write_camera(camera)
    site.write_index(sorted(cameras.values(), key=lambda camera: camera.folder))
    return site.pages


def camera_folders(places):
    """Return the folder of the pages of each camera, which no other has.

    Parameters
    ----------
    places : iterable of (str or None, str or None)
        Site and name of all cameras that the database knows, so that a folder does not depend on which of them a
        page is about.

    Returns
    -------
    dict of (str or None, str or None) to str
        Of cameras whose names differ only in what a folder leaves out, each has a checksum at its end.

    Examples
    --------
    >>> camera_folders([("lsc", "fa15"), ("ct4m", "DECam"), ("ct4m", "decam")]).values()
    dict_values(['lsc-fa15', 'ct4m-decam-1ac36c9c', 'ct4m-decam-13137f32'])
    """
    slugs = {
        place: re.sub(r"[^a-z0-9]+", "-", camera_name(*place).lower()).strip("-")[:60] or "camera" for place in places
    }
    often = Counter(slugs.values())
    return {
        place: slug if often[slug] == 1 else f"{slug}-{zlib.crc32(repr(tuple(place)).encode()):08x}"
        for place, slug in slugs.items()
    }


class _Camera:
    """What the database says of a camera."""

    def __init__(self):
        self.name = self.folder = ""
        self.series, self.nights, self.months, self.amplifiers, self.hits, self.models = ([] for _ in range(6))

    @property
    def filters(self):
        return sorted({row.filter for row in self.series}, key=lambda name: name or "")


class _Site:
    """The folder, and what its pages share."""

    def __init__(self, folder, first, last):
        from crattn_stage.products.pages import templates

        try:
            from plotly.offline import get_plotlyjs
        except ImportError as error:
            raise CrattnError("pages on many nights need plotly: pip install 'crattn-stage[report]'") from error
        self.folder, self.first, self.last, self.pages = folder, first, last, 0
        escaped = templates("crattn_stage.quality")
        self.template = escaped.get_template("period.html")
        self.days = _days(first, last)
        self._days, self._undated = set(self.days), set()
        self._months = {day[:7].replace("-", "") for day in self.days}
        self._listed, self._made = {}, set()
        for name, text in ((_PLOTLY, get_plotlyjs()), (_SCRIPT, escaped.loader.get_source(escaped, _SCRIPT)[0])):
            self._write(folder / name, text)

    def is_dated(self, row):
        """Tell whether the night of a row is a date; a damaged header may say anything."""
        night = getattr(row, "night", None) or row.period
        dated = _iso(night) in self._days
        if not dated:
            self._undated.add(_text(night))
        return dated

    def is_month(self, row):
        """Tell whether the period of a row is a month; a night that is no date is in none."""
        return row.period in self._months

    def write_index(self, cameras):
        """Write the page on all cameras."""
        days, rows = self.days, []
        for camera in cameras:
            rows += [
                [{"text": camera.name, "link": f"{camera.folder}/index.html"}, *_cells(row, f"{camera.folder}/")]
                for row in camera.months
            ]
        page = {
            "kind": "index",
            "days": days,
            "filters": [camera.name for camera in cameras],
            "links": [f"{camera.folder}/index.html" for camera in cameras],
            "series": {name: [_by_day(days, camera.nights, name) for camera in cameras] for name in QUANTITIES},
            "head": ["camera", "month", *_HEAD],
            "rows": rows,
            "undated": sorted(self._undated),
        }
        title = f"Cosmic-ray masks, {self.first} to {self.last}"
        self._page("index.html", title, [], page)

    def write_camera(self, camera):
        """Write the page on a camera, and those on its months."""
        days = self.days
        whole = _span(camera, days)
        amplifiers = _Amplifiers(camera.amplifiers, days)
        by_month = len({row.period for row in camera.nights}) > MOST_NIGHTS
        page = {
            "kind": "camera",
            **whole,
            "balance": amplifiers.balance(slice(None), by_month),
            "hits": _hits(camera.hits),
            "head": ["month", *_HEAD],
            "rows": [_cells(row) for row in camera.months],
        }
        title = f"{camera.name}, {self.first} to {self.last}"
        self._page(f"{camera.folder}/index.html", title, [("all cameras", "../index.html")], page)
        crumbs = [("all cameras", "../index.html"), (camera.name, "index.html")]
        for row in camera.months:
            month = f"{row.period[:4]}-{row.period[4:]}"
            kept = [number for number, day in enumerate(days) if day.startswith(month)]
            inside = slice(kept[0], kept[-1] + 1)
            page = {
                "kind": "month",
                **_part(whole, inside),
                "balance": amplifiers.balance(inside, by_month=False),
                "hits": _hits([hits for hits in camera.hits if hits.period == row.period]),
                "head": ["night", *_HEAD],
                "rows": [_cells(night) for night in camera.nights if night.period.startswith(row.period)],
            }
            self._page(f"{camera.folder}/{month}.html", f"{camera.name}, {month}", crumbs, page)

    def write_night(self, camera, night, frames):
        """Write the page on a night of a camera."""
        month = f"{night[:4]}-{night[4:6]}"
        by_time = are_of_one_night([frame.observed for frame in frames])
        names = sorted({frame.filter for frame in frames}, key=lambda name: name or "")
        page = {
            "kind": "night",
            "filters": [_text(name) for name in names],
            "byTime": by_time,
            "frames": [self._frame(camera, frame, names, by_time) for frame in frames],
            "pictures": f"../{night}.html" if (self.folder / f"{night}.html").exists() else None,
            "command": f"crattn-stage qa --night {night} --html {night}.html",
        }
        crumbs = [("all cameras", "../index.html"), (camera.name, "index.html"), (month, f"{month}.html")]
        self._page(f"{camera.folder}/{night}.html", f"{camera.name}, night {night}", crumbs, page)

    def _frame(self, camera, frame, names, by_time):
        path = frame.path
        return {
            "name": _text(path.rsplit("/", 1)[-1]),
            "path": _text(path),
            "link": self._view(frame.output_path, camera.folder),
            "filter": names.index(frame.filter),
            "time": utc_text(frame.observed) if by_time else None,
            "verdict": frame.verdict,
            "why": _text(frame.why),
            "model": _text(f"{frame.model} {frame.sha256[:8]}"),
            "values": [_number(getattr(frame, name)) for name in QUANTITIES],
        }

    def _view(self, output, folder):
        """Return the address of the page that ``view`` wrote beside an output, or None."""
        if not output:
            return None
        page = view_path(output)
        if page.parent not in self._listed:
            try:
                self._listed[page.parent] = set(os.listdir(page.parent))
            except OSError:
                self._listed[page.parent] = set()
        if page.name not in self._listed[page.parent]:
            return None
        return quote(os.path.relpath(page, self.folder / folder))

    def _page(self, name, title, crumbs, page):
        up = "../" * name.count("/")
        page |= {"quantities": list(QUANTITIES), "labels": QUANTITIES}
        text = self.template.render(
            title=title,
            crumbs=[(label, quote(address)) for label, address in crumbs],
            scripts=[f"{up}{_PLOTLY}", f"{up}{_SCRIPT}"],
            page=page,
            first=self.first,
            last=self.last,
            series_rate=SERIES_RATE,
            amplifier_rate=AMPLIFIER_RATE,
            fewest=FEWEST_HITS,
            large=LARGE_CHANGE,
            version=__version__,
        )
        self._write(self.folder / name, text)
        self.pages += 1

    def _write(self, path, text):
        try:
            if path.parent not in self._made:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(path.parent)
            with replacing([path], overwrite=True) as (stream,):
                stream.write(text.encode())
        except OSError as error:
            raise CrattnError(f"{path}: {error.strerror}") from error


_HEAD = ("frames", "WARN", "FAIL", *(title for title, _ in QUANTITIES.values()))


def _cells(row, prefix=""):
    """Return the cells of a row of a table: a link to the page of a night or month, and its figures."""
    period = row.period if len(row.period) == 8 else f"{row.period[:4]}-{row.period[4:]}"
    numbers = [[_number(getattr(row, name)), style] for name, (_, style) in QUANTITIES.items()]
    return [{"text": period, "link": f"{prefix}{period}.html"}, row.frames, row.warnings, row.failures, *numbers]


def _span(camera, days):
    """Return what a page on some days of a camera plots against the night."""
    filters = camera.filters
    series = {
        name: [_by_day(days, [row for row in camera.series if row.filter == one], name) for one in filters]
        for name in QUANTITIES
    }
    models = _model_changes(camera.models)
    counts = {name: _by_day(days, camera.nights, name) for name in ("frames", "warnings", "failures")}
    changes = []
    for name, lines in series.items():
        found = [
            {"filter": number, **change}
            for number, values in enumerate(lines)
            for change in _changes(days, values, SERIES_RATE)
        ]
        changes += [{"quantity": name, **change} for change in _together(days, found, models[1:])]
    changes.sort(key=lambda change: change["day"])
    filters = [_text(name) for name in filters]
    return {"days": days, "filters": filters, "series": series, "counts": counts, "models": models, "changes": changes}


def _part(whole, inside):
    """Return the same of a part of its days."""
    days = whole["days"][inside]
    before = [model for model in whole["models"] if model["day"] <= days[0]][-1:]
    later = [model for model in whole["models"] if days[0] < model["day"] <= days[-1]]
    return {
        "days": days,
        "filters": whole["filters"],
        "series": {name: [values[inside] for values in lines] for name, lines in whole["series"].items()},
        "counts": {name: values[inside] for name, values in whole["counts"].items()},
        "models": [*before, *later],
        "changes": [change for change in whole["changes"] if days[0] <= change["day"] <= days[-1]],
    }


def _changes(days, values, rate):
    """Return where a series changes, and its medians before and after."""
    values = np.array([np.nan if value is None else value for value in values], np.float64)
    places = change_points(values, rate)
    edges, found = [0, *places, len(values)], []
    for number, place in enumerate(places, 1):
        before, after = values[edges[number - 1] : place], values[place : edges[number + 1]]
        levels = {"before": _number(np.nanmedian(before)), "after": _number(np.nanmedian(after))}
        found.append({"day": days[place], **levels})
    return found


def _together(days, changes, models):
    """Return changes of one quantity, those of several filters within `SHORTEST` nights as one."""
    place = {day: number for number, day in enumerate(days)}
    groups = []
    for change in sorted(changes, key=lambda change: change["day"]):
        if groups and place[change["day"]] - place[groups[-1][0]["day"]] < SHORTEST:
            groups[-1].append(change)
        else:
            groups.append([change])
    new = [place[model["day"]] for model in models]
    return [
        {
            "day": group[0]["day"],
            "filters": sorted({change["filter"] for change in group}),
            **{level: _number(float(np.median([change[level] for change in group]))) for level in ("before", "after")},
            "withModel": any(place[group[0]["day"]] - 1 <= day <= place[group[-1]["day"]] + 1 for day in new),
        }
        for group in groups
    ]


def _model_changes(rows):
    """Return the nights from which another model masked most frames, the first one included."""
    found = []
    for night, group in groupby(rows, lambda row: row.night):
        most = max(group, key=lambda row: row.frames)
        if not found or found[-1]["sha256"] != most.sha256:
            found.append({"day": _iso(night), "model": _text(most.model), "sha256": most.sha256})
    return found


class _Amplifiers:
    """The hits of a camera's amplifiers on some days, and those expected for their areas."""

    def __init__(self, rows, days):
        names = sorted({(row.extension, row.name) for row in rows}, key=_natural)
        self.names = [_text(f"{extension} {name}".strip()) for extension, name in names]
        self.days = days
        self.hits, self.expected = np.zeros((2, len(names), len(days)))
        place = {name: number for number, name in enumerate(names)}
        column = {day.replace("-", ""): number for number, day in enumerate(days)}
        for row in rows:
            at = place[row.extension, row.name], column[row.night]
            self.hits[at], self.expected[at] = row.hits, row.expected
        self.changes = [
            {"amplifier": name, **change}
            for name, values in zip(self.names, _ratio(self.hits, self.expected), strict=True)
            for change in _changes(days, values.tolist(), AMPLIFIER_RATE)
            if _is_large(change)
        ]
        self.changes.sort(key=lambda change: change["day"])

    def balance(self, inside, by_month):
        """Return what a page on a part of the days shows, or None where there is but one amplifier."""
        if len(self.names) < 2:
            return None
        days, hits, expected = self.days[inside], self.hits[:, inside], self.expected[:, inside]
        periods = sorted({day[:7] for day in days}) if by_month else days
        if by_month:
            first = [bisect_right(days, f"{period}-00") for period in periods]
            hits, expected = (np.add.reduceat(values, first, axis=1) for values in (hits, expected))
        return {
            "periods": periods,
            "names": self.names,
            "ratio": [[_number(value) for value in line] for line in _ratio(hits, expected).tolist()],
            "hits": hits.astype(int).tolist(),
            "changes": [change for change in self.changes if days[0] <= change["day"] <= days[-1]],
        }


def _is_large(change):
    """Tell whether an amplifier changed by so much that someone should look."""
    before, after = change["before"], change["after"]
    return max(before, after) >= LARGE_CHANGE * min(before, after)


def _ratio(hits, expected):
    """Return hits over those expected, NaN where too few are expected."""
    return np.divide(hits, expected, out=np.full(hits.shape, np.nan), where=expected >= FEWEST_HITS)


def _hits(rows):
    """Return charge and angle of hits by amplifier and month, or None where no hits were kept."""
    if not rows:
        return None
    months = sorted({row.period for row in rows})
    names = sorted({(row.extension, row.name) for row in rows}, key=_natural)
    shape = len(names), len(months)
    place = {name: number for number, name in enumerate(names)}
    column = {month: number for number, month in enumerate(months)}
    charges = np.zeros((*shape, len(statistics.CHARGES) + 1))
    counts = {name: np.zeros(shape) for name in ("hits", "spots", "angles", "rows", "columns")}
    for row in rows:
        at = place[row.extension, row.name], column[row.period]
        for name, values in counts.items():
            values[at] += getattr(row, name)
        if row.charge is not None:
            charges[(*at, row.charge)] += row.hits

    def fraction(part, whole):
        values = np.divide(part, whole, out=np.full(shape, np.nan), where=whole >= FEWEST_HITS)
        return [[_number(value) for value in line] for line in values.tolist()]

    return {
        "months": [f"{month[:4]}-{month[4:]}" for month in months],
        "names": [_text(f"{extension} {name}".strip()) for extension, name in names],
        "charge": [[_number(_median_charge(bins)) for bins in line] for line in charges],
        "spots": fraction(counts["spots"], counts["hits"]),
        "rows": fraction(counts["rows"], counts["angles"]),
        "columns": fraction(counts["columns"], counts["angles"]),
        "count": counts["hits"].astype(int).tolist(),
        "limits": statistics.CHARGES,
        "charges": charges.sum(0).astype(int).tolist(),
    }


def _median_charge(bins):
    """Return the median of binned charges in electrons, by interpolation in the logarithm; NaN above all bins."""
    total = bins.sum()
    if total < FEWEST_HITS:
        return math.nan
    sums = np.cumsum(bins)
    number = int(np.searchsorted(sums, total / 2))
    if number >= len(statistics.CHARGES):
        return math.nan
    # All bins are as wide as the second one.
    step = math.log(statistics.CHARGES[1] / statistics.CHARGES[0])
    within = (sums[number] - total / 2) / bins[number]
    return statistics.CHARGES[number] * math.exp(-step * within)


def _natural(name):
    """Return a key by which S2 comes before S10."""
    return [
        [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text)] for text in name
    ]


def _days(first, last):
    """Return the dates from one night to another."""
    begin, end = (datetime.strptime(night, "%Y%m%d").date() for night in (first, last))
    return [str(begin + timedelta(days=number)) for number in range((end - begin).days + 1)]


def _iso(night):
    return f"{night[:4]}-{night[4:6]}-{night[6:]}"


def _by_day(days, rows, name):
    """Return a column of rows in the order of some days, None where there is none."""
    values = {_iso(row.period): getattr(row, name) for row in rows}
    return [_number(values.get(day)) for day in days]


def _number(value):
    """Return a number as JSON may hold it."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int) else float(f"{value:.5g}")


def _text(value):
    return None if value is None else value if value.isprintable() else printable(value)
