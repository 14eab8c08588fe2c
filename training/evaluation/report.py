"""From peers to the tables and figures of the manual."""

from dataclasses import replace
from pathlib import Path

from crattn_stage.api import load_model
from crattn_stage.models.architectures import ARCHITECTURES
from crattn_stage.models.cards import load
from crattn_stage.models.networks import restore
from training.data.library import Skies
from training.evaluation import figures, peers, tables
from training.evaluation.empty import false_objects, lone_stars, masked_stars, noise_fields
from training.evaluation.lco import FILTERS, read_test_set
from training.evaluation.measure import flagged_stars, measure, visible
from training.evaluation.real import CUTOUTS, FRAMES, describe, look, present
from training.evaluation.scene_sets import lacking, make_scenes, star_scenes
from training.evaluation.spectra import tallies

#: What sets of scenes are, for the titles of the tables.
SCENES = {"r": "DECam r, sky 282 ADU", "z": "DECam z-like, sky 2090 ADU", "frames": "held-out rows of the given frames"}
#: Sets that are measured by default, and those where none of these can be.
DEFAULT_SETS, SIMULATED_SETS = ("r", "z"), ("sky:300", "sky:2000")
#: Text files in the output folder.
ACCURACY, REAL = "accuracy.txt", "real.txt"
FILTER = "astro-scrappy"


def accuracy(chosen, sources=None, count=4, scene_sets=(), lco=None, output=None):
    """Measure peers and Astro-SCRAPPY on the test scenes and on simulated stars.

    Parameters
    ----------
    chosen : list of `training.evaluation.peers.Peer`
    sources : dict, optional
        Arguments of `training.data.library.Skies`: ``data``, ``hits``, ``frames``; what is
        missing is simulated or left out, and the text says so.
    count : int
        Realisations of each scene, and files of each telescope class of the LCO CR data set.
    scene_sets : sequence of str, optional
        As for `training.evaluation.scene_sets.make_scenes`; by default those of `DEFAULT_SETS`, and
        "frames", that can be made, else `SIMULATED_SETS`.
    lco : path-like, optional
        Test set of the LCO CR data set, scored by telescope class.
    output : path-like, optional
        Folder for `ACCURACY`, its tables as CSV, and the figures.

    Returns
    -------
    str
        The tables.
    """
    skies = Skies("test", **(sources or {}))
    scene_sets = tuple(scene_sets) or default_sets(skies)
    notes, parts, everything = skies.sources.missing(), [], []
    sets = {}
    for name in scene_sets:
        scenes = make_scenes(skies, name, count)
        of_spectra = any(scene.sky.kind for scene in scenes)
        sets[name] = scenes, _beside_spectra(chosen) if of_spectra else peers.method(FILTER)
    for name, scenes in (read_test_set(lco, count) if lco else {}).items():
        sigclip, objlim = FILTERS[name]
        sets[f"LCO {name}"] = scenes, peers.method(FILTER, settings=[sigclip], objlim=objlim)
    for name, (scenes, filters) in sets.items():
        results = [measure(name, scenes, peer) for peer in [*chosen, *filters]]
        names = name.replace(":", "-"), SCENES.get(name, name)
        parts += [*tables.accuracy(*names, results), tables.differences(*names, results)]
        if any(scene.sky.kind for scene in scenes):
            parts.append(tables.spectra(*names, tallies(scenes, results)))
        if name in scene_sets:
            parts.append(tables.visible(*names, *visible(scenes)))
        everything += results
        if output:
            _draw(Path(output), names[0], scenes[0], results)
    if output:
        _draw_features(Path(output), chosen, next(iter(sets.values()))[0][0])
    scenes, stars = star_scenes()
    everyone = [*chosen, *peers.method(FILTER, levels=())]
    parts.append(tables.stars({peer.name: flagged_stars(peer, scenes, stars) for peer in everyone}))
    notes = ["\n".join(notes) + "\n"] if notes else []
    return tables.write_report([*notes, tables.summary(everything), *parts, *_empty(everyone)], output, ACCURACY)


def _empty(everyone):
    fields, kinds = noise_fields(), {"Gaussian": lone_stars(), "Moffat": lone_stars(beta=3.0)}
    rows = {
        peer.name: (false_objects(peer, fields), [masked_stars(peer, *field) for field in kinds.values()])
        for peer in everyone
    }
    return tables.empty(rows, [field.name for field in fields], list(kinds))


def _beside_spectra(chosen):
    """Return what is measured on spectra beside other methods: our models with one look, as at images, and a filter."""
    once = [replace(peers.network(load_model(peer.model), looks=1), model=peer.model) for peer in chosen if peer.model]
    return [*once, *peers.method(FILTER, levels=())]


def default_sets(skies):
    """Return the sets of scenes that are measured where none are asked for.

    Parameters
    ----------
    skies : `training.data.library.Skies`

    Returns
    -------
    tuple of str
    """
    return tuple(name for name in (*DEFAULT_SETS, "frames") if not lacking(skies, name)) or SIMULATED_SETS


def _draw(folder, label, scene, results):
    folder.mkdir(parents=True, exist_ok=True)
    figures.curves(folder / f"curves-{label}.png", results)
    figures.completeness(folder / f"completeness-{label}.png", results)
    figures.masks(folder / f"masks-{label}.png", scene, results)


def _draw_features(folder, chosen, scene):
    for model in (peer.model for peer in chosen if peer.model):
        card, tensors = load(model)
        if ARCHITECTURES[card.architecture][1]:
            figures.features(folder / f"features-{card.name}.png", card, restore(card, tensors), scene)


def real(chosen, data, output=None):
    """Run methods and Astro-SCRAPPY over the real frames.

    Parameters
    ----------
    chosen : list of `training.evaluation.peers.Peer`
        The additional objects of the first one are listed.
    data : path-like
    output : path-like, optional
        Folder for `REAL` and its tables as CSV.

    Returns
    -------
    str
        The tables.

    Raises
    ------
    ValueError
        If the folder has none of the frames.
    """
    if not present(data) and not list(Path(data).glob(CUTOUTS)):
        raise ValueError(f"{data}: no frames to look at; known: {', '.join([*FRAMES.values(), CUTOUTS])}")
    everyone = [*chosen, *peers.method(FILTER, levels=())]
    missing = [f"{name} is left out: no {path}.\n" for name, path in FRAMES.items() if name not in present(data)]
    missing = "".join(missing) and ["".join(missing)]
    reports = {peer.name: look(peer, data) for peer in everyone}
    return tables.write_report([*missing, *describe(reports, chosen[0].name)], output, REAL)
