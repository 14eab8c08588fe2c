"""Results as text: the paper's tables with intervals, and what the paper does not have."""

import itertools

from training.evaluation.empty import NEAR, WIDTHS
from training.evaluation.measure import CHARGES, FAINTEST, LENGTHS, MULTIPLES, PEAKS
from training.evaluation.metrics import interval
from training.evaluation.scene_sets import LEAST_SN, SEEINGS


def table(title, columns, rows):
    """Return a table as text.

    Parameters
    ----------
    title : str
    columns : list of str
    rows : list of list of str
        The first cell is set to the left, the others to the right.

    Returns
    -------
    str
    """
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in [columns, *rows]
    ]
    return "\n".join([title, "-" * len(title), *(line.rstrip() for line in lines), ""])


def _with_interval(result, key, factor=1.0, digits=2):
    return _range(result.row[key], result.samples[key], factor, digits)


def _range(value, samples, factor, digits):
    if value != value:
        return "-"
    ends = interval(samples)
    text = f"{factor * value:.{digits}f}"
    return text + (" [{:.{d}f}, {:.{d}f}]".format(*(factor * x for x in ends), d=digits) if ends else "")


def accuracy(scenes, results):
    """Return the paper's Tables 1 and 2, and completeness by object, of one set of scenes.

    Parameters
    ----------
    scenes : str
        What they are.
    results : list of `training.evaluation.measure.Result`

    Returns
    -------
    str
    """
    first = [
        [r.peer, *(_with_interval(r, key, 100) for key in ("tpr_1e-4", "tpr_1e-3", "precision_95"))] for r in results
    ]
    second = [
        [
            r.peer,
            *(_with_interval(r, key, 1, 4) for key in ("f1", "iou", "fdr")),
            f"{100 * r.row['fpr']:.4f}",
            f"{r.seconds:.2f}",
        ]
        for r in results
    ]
    numbers = results[0]
    third = [["number of hits", *(str(n) for _, n in numbers.by_charge + numbers.by_length + numbers.by_peak), ""]]
    third += [
        [
            r.peer,
            *(f"{100 * share:.1f}" for share, _ in r.by_charge + r.by_length + r.by_peak),
            f"{100 * r.row['objects']:.1f}",
        ]
        for r in results
    ]
    columns = ["method", "TPR at FPR 0.01%", "TPR at FPR 0.1%", "precision at TPR 95%"]
    return "\n".join(
        [
            table(f"{scenes}: Table 1, percent [95% interval]", columns, first),
            table(
                f"{scenes}: Table 2, at each method's setting",
                ["method", "F1", "IOU", "FDR", "FPR, %", "s/Mpx"],
                second,
            ),
            table(
                f"{scenes}: hits found, percent, by charge, length and peak",
                ["method", *bins(CHARGES, "e"), *bins(LENGTHS, "px"), *bins(PEAKS, "sigma"), "all"],
                third,
            ),
        ]
    )


def summary(results):
    """Return the rates of all methods on all sets of scenes in one table, without intervals.

    Parameters
    ----------
    results : list of `training.evaluation.measure.Result`

    Returns
    -------
    str
    """
    keys = ("tpr_1e-4", "tpr_1e-3", "precision_95", "f1", "iou", "fdr", "fpr")
    rows = [[r.scenes, r.peer.ljust(26), *(f"{r.row[k]:.5f}".replace("nan", "-") for k in keys)] for r in results]
    return table("Held-out scenes", ["scenes", "method".ljust(26), *keys], rows)


def differences(scenes, results):
    """Return by how much networks are ahead of their released twin, and with attention of without.

    Parameters
    ----------
    scenes : str
        What they are.
    results : list of `training.evaluation.measure.Result`
        On the same scenes.

    Returns
    -------
    str
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
    columns = ["difference", "TPR at FPR 0.01%", "TPR at FPR 0.1%", "precision at TPR 95%", "F1"]
    return table(f"{scenes}: differences, points [95% interval]", columns, rows)


def visible(scenes, touching, bright):
    """Return what of the truth of scenes can be seen.

    Parameters
    ----------
    scenes : str
        What they are.
    touching, bright
        From `training.evaluation.measure.visible`.

    Returns
    -------
    str
    """
    columns = ["cosmic-ray pixels", *(f"touch > {m} sigma" for m in MULTIPLES), f"in hits of S/N > {FAINTEST}"]
    cells = ["percent", *(f"{100 * share:.1f}" for share in [*touching, bright])]
    return table(f"{scenes}: what can be told from noise", columns, [cells])


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
    str
    """
    cells = [[name, *(f"{100 * share:.2f}" for share in shares)] for name, shares in rows.items()]
    title = f"Simulated star cores (S/N > {LEAST_SN}) masked, percent, by seeing (FWHM, pixels)"
    return table(title, ["method", *(f"{seeing:g}" for seeing in SEEINGS)], cells)


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
    str
    """
    first = [[name, *(f"{count:.1f}" for count in counts)] for name, (counts, _) in rows.items()]
    second = [
        [name, *(f"{100 * share:.1f}" for shares in kinds for share in shares)] for name, (_, kinds) in rows.items()
    ]
    columns = [f"{kind} {width:g}" for kind in stars for width in WIDTHS]
    return "\n".join(
        [
            table("Noise alone: objects masked per Mpx, hot pixels aside", ["method", *noise], first),
            table(
                f"Stars without hits: percent with a pixel masked within {NEAR:g} FWHM, by FWHM in pixels",
                ["method", *columns],
                second,
            ),
        ]
    )


def spectra(scenes, counted):
    """Return what methods do to spectra.

    Parameters
    ----------
    scenes : str
        What they are.
    counted : dict
        From `training.evaluation.spectra.tallies`.

    Returns
    -------
    str
    """
    rows = [[peer, *(cell for tally in kinds.values() for cell in tally.cells())] for peer, kinds in counted.items()]
    kinds, numbers = next(iter(counted.values())), []
    for tally in kinds.values():
        numbers += [f"{tally.hits} hits", f"{tally.sharp} px", f"{tally.other} px"]
    columns = [f"{kind}: {what}" for kind in kinds for what in ("hits found", "lines, traces", "rest")]
    title = f"{scenes}: percent of hits with a peak above 10 sigma found, and of pixels away from hits flagged"
    return table(title, ["method", *columns], [["number", *numbers], *rows])
