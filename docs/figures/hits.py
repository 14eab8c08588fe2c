"""Draw ``hits.png`` and write ``hits.csv``: simulated hits beside the real ones of four sensors.

Run in a clone with ``python docs/figures/hits.py DATA``, the folder of the data of training.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crattn_stage.simulation.hits import SENSORS
from training.evaluation.likeness import CATALOGUES, FEATURES, compare

FIGURES = Path(__file__).parent
#: Feature -> title and edges of its bins.
DRAWN = {
    "charge": ("log charge, electrons", np.linspace(2, 5.2, 25)),
    "pixels": ("log pixels", np.linspace(0.2, 2.3, 22)),
    "length": ("log (1 + length), pixels", np.linspace(0, 2, 25)),
    "width": ("width, FWHM in pixels", np.linspace(0, 3, 25)),
    "peak": ("brightest pixel / charge", np.linspace(0, 1, 25)),
}
COLUMNS = (
    "sensor",
    "real hits",
    "told apart before, percent",
    "tuned, percent",
    "standard error",
    "spots / tracks / worms real, percent",
    "before",
    "tuned",
)


def main(data, path=FIGURES):
    """Compare all sensors."""
    figure = Figure(figsize=(13, 2.5 * len(CATALOGUES)), layout="constrained")
    FigureCanvasAgg(figure)
    axes, table = figure.subplots(len(CATALOGUES), len(DRAWN), squeeze=False), [COLUMNS]
    for row, (name, (*_, old)) in zip(axes, CATALOGUES.items(), strict=True):
        real, before, told_before, error = compare(data, name, old)
        _, tuned, told, error = compare(data, name, SENSORS[name])
        percent = [f"{100 * value:.1f}" for value in (told_before, told, error)]
        table.append([name, len(real), *percent, *map(classes, (real, before, tuned))])
        print(*table[-1], flush=True)
        for axis, (feature, (title, edges)) in zip(row, DRAWN.items(), strict=True):
            for values, style in (
                (real, {"histtype": "stepfilled", "color": "0.8", "label": "real"}),
                (before, {"histtype": "step", "color": "C0", "ls": ":", "label": f"before: {told_before:.0%}"}),
                (tuned, {"histtype": "step", "color": "C3", "label": f"tuned: {told:.0%}"}),
            ):
                axis.hist(
                    np.clip(values[:, FEATURES.index(feature)], edges[0], edges[-1]), edges, density=True, **style
                )
            axis.set(xlabel=title, yticks=[])
        row[0].set_ylabel(name)
        row[0].legend(fontsize=7, loc="upper left")
    figure.savefig(path / "hits.png", dpi=70)
    with open(path / "hits.csv", "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(table)


def classes(values):
    """Return the percentages of spots, tracks and worms."""
    spots, tracks = (100 * values[:, FEATURES.index(kind)].mean() for kind in ("spot", "track"))
    return f"{spots:.0f} / {tracks:.0f} / {abs(100 - spots - tracks):.0f}"


if __name__ == "__main__":
    main(sys.argv[1])
