"""Results as tables: the paper's tables with intervals, and what the paper does not have."""

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.empty import NEAR, WIDTHS
from training.evaluation.measure import CHARGES, FAINTEST, LENGTHS, MULTIPLES, PEAKS
from training.evaluation.metrics import interval
from training.evaluation.scene_sets import LEAST_SN, SEEINGS

RATES = ("TPR at FPR 0.01%", "TPR at FPR 0.1%", "precision at TPR 95%")


@dataclass(frozen=True)
class Table:
    """A table of results: text for a terminal, CSV for the manual.

    Attributes
    ----------
    name : str
        Of its file, without ending.
    title : str
    columns : list of str
    rows : list of list of str
        As text the first cell is set to the left, the others to the right.
    """

    name: str
    title: str
    columns: list
    rows: list

    def __str__(self):
        lines = [self.columns, *self.rows]
        widths = [max(len(row[i]) for row in lines) for i in range(len(self.columns))]
        text = [
            "  ".join(
                cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in lines
        ]
        return "\n".join([self.title, "-" * len(self.title), *(line.rstrip() for line in text), ""])


def write_report(parts, folder, name):
    """Return tables and other text as one text, and write it, and each table as CSV.

    Parameters
    ----------
    parts : list of str or `Table`
    folder : path-like or None
        Made if need be; nothing is written without it.
    name : str
        Of the text.

    Returns
    -------
    str
    """
    text = "\n".join(map(str, parts))
    if folder:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        for part in parts:
            if isinstance(part, Table):
                with open(folder / f"{part.name}.csv", "w", newline="", encoding="utf-8") as stream:
                    csv.writer(stream, lineterminator="\n").writerows([part.columns, *part.rows])
    return text


def _with_interval(result, key, factor=1.0, digits=2):
    return _range(result.row[key], result.samples[key], factor, digits)


def _range(value, samples, factor, digits):
    if value != value:
        return "-"
    ends = interval(samples)
    text = f"{factor * value:.{digits}f}"
    return text + (" [{:.{d}f}, {:.{d}f}]".format(*(factor * x for x in ends), d=digits) if ends else "")


def accuracy(name, scenes, results):
    """Return the paper's Tables 1 and 2, and completeness by object, of one set of scenes.

    Parameters
    ----------
    name, scenes : str
        Their name, with which the files begin, and what they are.
    results : list of `training.evaluation.measure.Result`

    Returns
    -------
    list of `Table`
    """
    rates = [
        [r.peer, *(_with_interval(r, key, 100) for key in ("tpr_1e-4", "tpr_1e-3", "precision_95"))] for r in results
    ]
    settings = [
        [
            r.peer,
            *(_with_interval(r, key, 1, 4) for key in ("f1", "iou", "fdr")),
            f"{100 * r.row['fpr']:.4f}",
            f"{r.seconds:.2f}",
        ]
        for r in results
    ]
    numbers = results[0]
    hits = [["number of hits", *(str(n) for _, n in numbers.by_charge + numbers.by_length + numbers.by_peak), ""]]
    hits += [
        [
            r.peer,
            *(f"{100 * share:.1f}".replace("nan", "") for share, _ in r.by_charge + r.by_length + r.by_peak),
            f"{100 * r.row['objects']:.1f}",
        ]
        for r in results
    ]
    return [
        Table(f"{name}-rates", f"{scenes}: Table 1, percent [95% interval]", ["method", *RATES], rates),
        Table(
            f"{name}-settings",
            f"{scenes}: Table 2, at each method's setting",
            ["method", "F1", "IOU", "FDR", "FPR, %", "s/Mpx"],
            settings,
        ),
        Table(
            f"{name}-hits",
            f"{scenes}: hits found, percent, by charge, length and peak",
            ["method", *bins(CHARGES, "e"), *bins(LENGTHS, "px"), *bins(PEAKS, "sigma"), "all"],
            hits,
        ),
    ]


def summary(results):
    """Return the rates of all methods on all sets of scenes in one table, without intervals.

    Parameters
    ----------
    results : list of `training.evaluation.measure.Result`

    Returns
    -------
    `Table`
        Fractions, not percent.
    """
    keys = ("tpr_1e-4", "tpr_1e-3", "precision_95", "f1", "iou", "fdr", "fpr")
    rows = [[r.scenes, r.peer, *(f"{r.row[k]:.5f}".replace("nan", "-") for k in keys)] for r in results]
    return Table("accuracy", "Held-out scenes", ["scenes", "method", *RATES, "F1", "IOU", "FDR", "FPR"], rows)


def differences(name, scenes, results):
    """Return by how much networks are ahead of their released twin, and with attention of without.

    Parameters
    ----------
    name, scenes
        As for `accuracy`.
    results : list of `training.evaluation.measure.Result`
        On the same scenes.

    Returns
    -------
    `Table`
        In points, with intervals of the differences draw by draw.
    """
    named = {result.peer: result for result in results}
    keys, rows = ("tpr_1e-4", "tpr_1e-3", "precision_95", "f1"), []
    for one in results:
        for twin in (f"released {one.peer}", one.peer.replace("att-", "", 1)):
            other = named.get(twin)
            if other and other is not one:
                cells = [
                    _range(one.row[key] - other.row[key], one.samples[key] - other.samples[key], 100, 2) for key in keys
                ]
                rows.append([f"{one.peer} - {twin}", *cells])
    title = f"{scenes}: differences, points [95% interval]"
    return Table(f"{name}-differences", title, ["difference", *RATES, "F1"], rows)


def visible(name, scenes, touching, bright):
    """Return what of the truth of scenes can be seen.

    Parameters
    ----------
    name, scenes
        As for `accuracy`.
    touching, bright
        From `training.evaluation.measure.visible`.

    Returns
    -------
    `Table`
    """
    columns = ["cosmic-ray pixels", *(f"touch > {m} sigma" for m in MULTIPLES), f"in hits of S/N > {FAINTEST}"]
    cells = ["percent", *(f"{100 * share:.1f}" for share in [*touching, bright])]
    return Table(f"{name}-noise", f"{scenes}: what can be told from noise", columns, [cells])


def bins(edges, unit):
    """Return the names of the bins between edges, such as ``4-8 px``.

    Parameters
    ----------
    edges : sequence of float
    unit : str

    Returns
    -------
    list of str
    """
    return [
        f">{low:g} {unit}" if high == float("inf") else f"{low:g}-{high:g} {unit}"
        for low, high in itertools.pairwise(edges)
    ]


def stars(rows):
    """Return the fractions of star cores that methods mask on simulated fields, by seeing.

    Parameters
    ----------
    rows : dict of str to list of float
        Method -> fraction for each of `training.evaluation.scene_sets.SEEINGS`.

    Returns
    -------
    `Table`
    """
    cells = [[name, *(f"{100 * share:.2f}" for share in shares)] for name, shares in rows.items()]
    title = f"Simulated star cores (S/N > {LEAST_SN}) masked, percent, by seeing (FWHM, pixels)"
    return Table("star-cores", title, ["method", *(f"{seeing:g}" for seeing in SEEINGS)], cells)


def empty(rows, noise, stars):
    """Return what methods mask in fields without a hit.

    Parameters
    ----------
    rows : dict of str to (list, list of list)
        Method -> objects per million pixels in each field of noise; and for each kind of stars the
        fraction masked at each of `training.evaluation.empty.WIDTHS`.
    noise, stars : list of str
        Names of the fields, and of the kinds of stars.

    Returns
    -------
    list of `Table`
    """
    first = [[name, *(f"{count:.1f}" for count in counts)] for name, (counts, _) in rows.items()]
    second = [
        [name, *(f"{100 * share:.1f}" for shares in kinds for share in shares)] for name, (_, kinds) in rows.items()
    ]
    columns = [f"{kind} {width:g}" for kind in stars for width in WIDTHS]
    return [
        Table("noise-alone", "Noise alone: objects masked per Mpx, hot pixels aside", ["method", *noise], first),
        Table(
            "stars-alone",
            f"Stars without hits: percent with a pixel masked within {NEAR:g} FWHM, by FWHM in pixels",
            ["method", *columns],
            second,
        ),
    ]


def spectra(name, scenes, counted):
    """Return what methods do to spectra.

    Parameters
    ----------
    name, scenes
        As for `accuracy`.
    counted : dict
        From `training.evaluation.spectra.tallies`.

    Returns
    -------
    `Table`
    """
    rows = [[peer, *(cell for tally in kinds.values() for cell in tally.cells())] for peer, kinds in counted.items()]
    kinds, numbers = next(iter(counted.values())), []
    for tally in kinds.values():
        numbers += [f"{tally.hits} hits", f"{tally.sharp} px", f"{tally.other} px"]
    columns = [f"{kind}: {what}" for kind in kinds for what in ("hits found", "lines, traces", "rest")]
    title = f"{scenes}: percent of hits with a peak above 10 sigma found, and of pixels away from hits flagged"
    return Table(f"{name}-kinds", title, ["method", *columns], [["number", *numbers], *rows])
