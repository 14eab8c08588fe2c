"""The masks of many nights: what the runs of each camera, filter and night, or month, amount to."""

from dataclasses import dataclass, field

from calibration_dbs.database import reading
from calibration_dbs.statistics import known_nights, totals
from crattn_stage import __version__
from crattn_stage.errors import CrattnError

#: More nights than this are shown by month.
MOST_NIGHTS = 62
#: Column of `calibration_dbs.statistics.totals` -> (what it is, how it is shown).
QUANTITIES = {
    "rate": ("hits per cm² per minute", ".2f"),
    "bright_completeness": ("completeness, S/N above 10", ".1%"),
    "faint_completeness": ("completeness, S/N 5 to 10", ".1%"),
    "star_fraction": ("star cores masked", ".2%"),
    "fraction": ("pixels masked", ".4%"),
    "noise_objects": ("noise objects per million pixels", ".2f"),
    "seconds": ("seconds per frame", ".1f"),
}


@dataclass
class PeriodReport:
    """What the runs of some nights amount to.

    Attributes
    ----------
    first, last : str
        YYYYMMDD.
    by_month : bool
        Whether a row is of a month, not of a night.
    rows : list of dict
        As from `calibration_dbs.statistics.totals`.
    """

    first: str
    last: str
    by_month: bool
    rows: list = field(default_factory=list)

    @property
    def counts(self):
        """How many frames have each verdict: their own, not compared with other nights."""
        frames, warnings, failures = (
            sum(row[name] for row in self.rows) for name in ("frames", "warnings", "failures")
        )
        return {"PASS": frames - warnings - failures, "WARN": warnings, "FAIL": failures}


def camera_name(site, camera):
    """Return what a camera at a site is called.

    Parameters
    ----------
    site, camera : str or None

    Returns
    -------
    str

    Examples
    --------
    >>> camera_name("lsc", "fa15"), camera_name(None, None)
    ('lsc fa15', 'unknown camera')
    """
    return f"{site or ''} {camera or 'unknown camera'}".strip()


def judge_period(database, first, last):
    """Return what the runs of some nights amount to.

    Parameters
    ----------
    database : `sqlalchemy.Engine`
    first, last : str
        YYYYMMDD, both included.

    Returns
    -------
    `PeriodReport`

    Raises
    ------
    CrattnError
        If the database knows no frames of these nights; the message says which it knows.
    """
    with reading(database) as session:
        rows = totals(session, first, last)
        if not rows:
            raise CrattnError(f"the database knows no frames of nights {first} to {last}; {_known(session)}")
        by_month = len({row.period for row in rows}) > MOST_NIGHTS
        if by_month:
            rows = totals(session, first, last, by_month=True)
    return PeriodReport(first, last, by_month, [row._asdict() for row in rows])


def _known(session):
    count, first, last = known_nights(session)
    if not count:
        return "it knows none at all"
    return f"it knows {count} night{'s' if count > 1 else ''}, {first} to {last}"


def period_json(report):
    """Return a report as a dict that JSON can hold.

    Parameters
    ----------
    report : `PeriodReport`

    Returns
    -------
    dict
    """
    return {
        "version": __version__,
        "first": report.first,
        "last": report.last,
        "counts": report.counts,
        "months" if report.by_month else "nights": report.rows,
    }
