"""Figures of the evaluation as PNG: curves, completeness, masks side by side, features and attention."""

from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crattn_stage.detection.preprocessing import fill, scale
from crattn_stage.products.preview import drawn, write_png
from training.evaluation.measure import CHARGES, LENGTHS
from training.evaluation.tables import bins


def _figure(rows, columns, size):
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        # More methods are compared than the default has colours.
        axis.set_prop_cycle(color=colormaps["tab20"].colors)
    return figure, axes


def curves(path, results):
    """Draw ROC and precision-recall curves of one set of scenes, whole and extended views.

    Parameters
    ----------
    path : path-like
    results : list of `training.evaluation.measure.Result`
    """
    figure, axes = _figure(2, 2, (5, 4))
    for result in results:
        fpr, tpr, precision, _ = result.points
        style = {"label": result.peer}
        if len(fpr) < 20:
            # A filter has as many points as it was run at.
            style |= {"marker": "o", "markersize": 3}
        for axis in axes[0]:
            (curve,) = axis.plot(fpr, tpr, **style)
            axis.plot(result.row["fpr"], result.row["tpr"], "x", color=curve.get_color())
        for axis in axes[1]:
            (curve,) = axis.plot(tpr, precision, **style)
            axis.plot(result.row["tpr"], 1 - result.row["fdr"], "x", color=curve.get_color())
    for axis, low in zip(axes[0], (0, 0.8), strict=True):
        axis.set(xscale="log", xlim=(1e-6, 1e-1) if low == 0 else (1e-5, 1e-2), ylim=(low, 1))
        axis.set(xlabel="false positive rate", ylabel="true positive rate")
    for axis, low in zip(axes[1], (0, 0.8), strict=True):
        axis.set(xlim=(low, 1), ylim=(low, 1.005), xlabel="true positive rate", ylabel="precision")
    axes[1][0].legend(fontsize=6, loc="lower left")
    figure.savefig(path, dpi=110)


def completeness(path, results):
    """Draw the fraction of hits found, by charge and by length.

    Parameters
    ----------
    path : path-like
    results : list of `training.evaluation.measure.Result`
    """
    figure, axes = _figure(1, 2, (5, 3.6))
    for axis, edges, unit, of in (
        (axes[0][0], CHARGES, "e", lambda r: r.by_charge),
        (axes[0][1], LENGTHS, "px", lambda r: r.by_length),
    ):
        for result in results:
            axis.plot([100 * share for share, _ in of(result)], "o-", markersize=3, label=result.peer)
        numbers = [number for _, number in of(results[0])]
        names = [f"{name}\n{number}" for name, number in zip(bins(edges, unit), numbers, strict=True)]
        axis.set_xticks(range(len(names)), names, fontsize=8)
        axis.set(ylabel="hits found, percent", ylim=(0, 102), xlabel="charge" if unit == "e" else "length")
    axes[0][1].legend(fontsize=6)
    figure.savefig(path, dpi=110)


def masks(path, scene, results, size=200):
    """Draw a crop of a scene around its most hits, its truth, and the mask of each method.

    Parameters
    ----------
    path : path-like
    scene : `training.data.contamination.Scene`
    results : list of `training.evaluation.measure.Result`
        Their first masks are of that scene.
    size : int
        Side of the crop, pixels.
    """
    corners = [
        (row, column)
        for row in range(0, max(scene.truth.shape[0] - size, 1), size // 2)
        for column in range(0, max(scene.truth.shape[1] - size, 1), size // 2)
    ]
    row, column = max(corners, key=lambda c: scene.truth[c[0] : c[0] + size, c[1] : c[1] + size].sum())
    window = np.s_[row : row + size, column : column + size]
    panels = [("image", scene.image[window], None), ("truth", scene.truth[window], None)]
    panels += [(result.peer, result.masks[0][window], None) for result in results]
    write_png(path, drawn([panels[i : i + 4] for i in range(0, len(panels), 4)]))


def features(path, card, network, scene, size=256):
    """Draw what a network makes of the corner of a scene: the mean map of each block, and its attention.

    Parameters
    ----------
    path : path-like
    card, network
        From `crattn_stage.models.cards.load`.
    scene : `training.data.contamination.Scene`
    size : int
        Side of the corner, a multiple of 4.
    """
    window = np.s_[:size, :size]
    image, bad, sky = scene.image[window], scene.sky.bad[window], scene.sky
    scaling = card.scaling
    plane = fill(scale(image, sky.level, sky.sigma, scaling), bad, sky.level if scaling == "none" else 0.0)
    seen, hooks = {}, []
    shown = ("encoder1", "encoder2", "encoder3", "up2.attention.alpha", "up2.convolutions")
    for name in (*shown, "up1.attention.alpha", "up1.convolutions"):
        module = network
        for part in name.split("."):
            module = getattr(module, part, None)
        if module is not None:
            hooks.append(module.register_forward_hook(lambda _, __, out, name=name: seen.setdefault(name, out)))
    with torch.inference_mode():
        probability = torch.sigmoid(network(torch.from_numpy(plane)[None, None]))
    for hook in hooks:
        hook.remove()
    maps = {"input": plane}
    for name, out in seen.items():
        maps[name.replace(".attention.alpha", " attention").removesuffix(".convolutions")] = out[0].mean(0).numpy()
    maps["probability"] = probability[0, 0].numpy()
    columns = 4
    figure, axes = _figure(-(-len(maps) // columns), columns, (3, 3.2))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes.flat, maps.items(), strict=False):
        low, high = (0, 1) if name == "probability" or name.endswith("attention") else np.percentile(values, (1, 99.5))
        axis.imshow(values, origin="lower", cmap="gray" if name == "input" else "magma", vmin=low, vmax=high)
        axis.set_title(name, fontsize=9)
    figure.savefig(Path(path), dpi=50)
