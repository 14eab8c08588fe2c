"""From detectors to the tables and figures of the manual."""

from pathlib import Path

from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.cards import load
from crattn_stage.models.networks import restore
from training.data.scenes import Skies
from training.evaluation import figures, peers, tables
from training.evaluation.evaluate import flagged_stars, make_scenes, measure, star_scenes, visible
from training.evaluation.lco import FILTERS, read_test_set
from training.evaluation.real import describe, look

#: What the scene sets are, for the titles of the tables.
SCENES = {"r": "DECam r, sky 282 ADU", "z": "DECam z-like, sky 2090 ADU"}
#: Text files in the output folder.
ACCURACY, REAL = "accuracy.txt", "real.txt"


def accuracy(chosen, data, count=4, scene_sets=tuple(SCENES), lco=None, output=None):
    """Measure detectors and Astro-SCRAPPY on the test scenes and on simulated stars.

    Parameters
    ----------
    chosen : list of `training.evaluation.peers.Peer`
    data : path-like
        Folder of real data.
    count : int
        Realisations of each scene, and files of each telescope class of the LCO CR data set.
    scene_sets : sequence of str
        As for `training.evaluation.evaluate.make_scenes`.
    lco : path-like, optional
        Test set of the LCO CR data set, scored by telescope class.
    output : path-like, optional
        Folder for `ACCURACY` and the figures.

    Returns
    -------
    str
        The tables.
    """
    skies, parts, everything = Skies("test", data), [], []
    sets = {name: (make_scenes(skies, name, count), peers.astro_scrappy()) for name in scene_sets}
    for name, scenes in (read_test_set(lco, count) if lco else {}).items():
        sigclip, objlim = FILTERS[name]
        sets[f"LCO {name}"] = scenes, peers.astro_scrappy([sigclip], objlim)
    for name, (scenes, filters) in sets.items():
        results = [measure(name, scenes, peer) for peer in [*chosen, *filters]]
        parts.append(tables.accuracy(SCENES.get(name, name), results))
        parts.append(tables.differences(SCENES.get(name, name), results))
        if name in scene_sets:
            parts.append(tables.visible(SCENES.get(name, name), *visible(scenes)))
        everything += results
        if output:
            Path(output).mkdir(parents=True, exist_ok=True)
            label = name.replace(":", "-")
            figures.curves(Path(output) / f"curves-{label}.png", results)
            figures.completeness(Path(output) / f"completeness-{label}.png", results)
            figures.masks(Path(output) / f"masks-{label}.png", scenes[0], results)
    if output and "r" in sets:
        for model in (peer.model for peer in chosen if peer.model):
            card, tensors = load(model)
            network = restore(card, tensors)
            if ARCHITECTURES[card.architecture][1]:
                figures.features(Path(output) / f"features-{card.name}.png", card, network, sets["r"][0][0])
    scenes, stars = star_scenes()
    everyone = [*chosen, *peers.astro_scrappy(sigclips=())]
    parts.append(tables.stars({peer.name: flagged_stars(peer, scenes, stars) for peer in everyone}))
    return _written("\n".join([tables.summary(everything), *parts]), output, ACCURACY)


def real(chosen, data, output=None):
    """Run detectors and Astro-SCRAPPY over the real frames.

    Parameters
    ----------
    chosen : list of `training.evaluation.peers.Peer`
        The additional objects of the first one are listed.
    data : path-like
    output : path-like, optional
        Folder for `REAL`.

    Returns
    -------
    str
        The tables.
    """
    everyone = [*chosen, *peers.astro_scrappy(sigclips=())]
    return _written(describe({peer.name: look(peer, data) for peer in everyone}, chosen[0].name), output, REAL)


def _written(text, folder, name):
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).write_text(text)
    return text
