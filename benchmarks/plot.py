"""The benchmark as a picture."""

from matplotlib.figure import Figure


def plot(report, path):
    """Draw seconds for each detector, and cost against size.

    Parameters
    ----------
    report : dict
        As written by ``python -m benchmarks``.
    path : path-like
        Of the PNG.
    """
    figure = Figure((10, 4), layout="constrained")
    bars, curve = figure.subplots(1, 2)
    rows = {name: row for name, row in report.get("detectors", {}).items() if "median" in row}
    rows = dict(sorted(rows.items(), key=lambda item: -item[1]["median"]))
    medians = [row["median"] for row in rows.values()]
    bars.barh(list(rows), medians, color=["#4477aa" if "(" in name else "#bbbbbb" for name in rows])
    for place, value in enumerate(medians):
        bars.text(value, place, f" {value:.2f}", va="center", fontsize=8)
    bars.set(xscale="log", xlabel="seconds for a 2048 x 4096 CCD")
    for model, row in report.get("scaling", {}).items():
        megapixels = [side**2 / 1e6 for side in row["sides"]]
        curve.loglog(megapixels, row["seconds"], "o-", label=f"{model}, slope {row['slope']:.2f}")
    if curve.lines:
        curve.legend()
    curve.set(xlabel="megapixels", ylabel="seconds")
    figure.savefig(path, dpi=130)
