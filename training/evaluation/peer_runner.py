"""Other projects' methods, and how each is run: the one registry of `evaluate`, `real` and ``benchmarks``.

Also a script, ``PYTHON peer_runner.py IN.npz OUT.npz NAME [--KEY=VALUE ...]``, that runs one
of them in a process of its own.  Nothing of this project is imported here before it is needed,
so that a peer may live in an environment of its own.

IN holds ``image0``, ``bad0``, ``gain0`` and ``read_noise0``, ``image1``, ...; OUT gets
``score0``, ...; seconds, peak memory (MB), the engine and the threshold are printed as JSON.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np


@dataclass(frozen=True)
class Method:
    """How a method is run and read.

    Attributes
    ----------
    title : str
        As the tables of the benchmark call it.
    load : callable
        Nothing -> function that scores.  Of a network: (image, bad, gain, read noise) -> plane of
        probabilities.  Of a filter: the same and a level -> mask of what it finds at that significance.
    threshold : float
        A network's own setting: what scores above it is masked.
    engine : str
        What does the arithmetic.
    dilate : bool
        Whether the mask is dilated 3x3, as in the paper.
    settings : tuple of float
        Levels of a filter: each makes one peer.  The last is the one that is timed.
    levels : tuple of float
        Levels at which a filter is run besides, to trace its operating points.
    own_python : bool
        Whether it may need an environment of its own, and so runs in a process of its own.
    """

    title: str
    load: Callable
    threshold: float = 0.5
    engine: str = "numpy"
    dilate: bool = True
    settings: tuple = ()
    levels: tuple = ()
    own_python: bool = True


#: Levels of the filters in the tables: the paper's (Sec. 4), and one that is better on DECam; and of their curves, and
#: of those of slow ones.
SETTINGS, LEVELS, FEW_LEVELS = (3.0, 5.0), (3, 5, 7, 10, 15, 20), (3, 5, 10)


def deepcr_decam():
    """Load deepCR with the DECam model that it ships."""
    from deepCR import deepCR

    model = deepCR(mask="decam", device="CPU")
    return _padded(lambda image: model.clean(image, inpaint=False, binary=False))


def cosmic_conn_ground(trained="ground_imaging"):
    """Load Cosmic-CoNN with a model that it ships."""
    from cosmic_conn import init_model

    model = init_model(trained)
    return _padded(lambda image: model.detect_cr(image, ret_numpy=True))


def maximask():
    """Load MaxiMask with its own priors; the score is the probability of its class of cosmic rays."""
    import maximask_and_maxitrack
    import tensorflow
    from maximask_and_maxitrack import utils
    from maximask_and_maxitrack.maximask.maximask import MaxiMask_inference

    folder = os.path.join(os.path.dirname(maximask_and_maxitrack.__file__), "maximask")
    priors = np.loadtxt(os.path.join(folder, "config", "classes.priors"), usecols=1, dtype=np.float32)
    only_cosmic_rays = np.arange(len(priors)) == 0
    runner = MaxiMask_inference("", folder, only_cosmic_rays, priors, None, False, 8)
    network = tensorflow.saved_model.load(os.path.join(folder, "model"))

    def score(image):
        normal = utils.image_norm(image)
        normal = normal[0] if isinstance(normal, tuple) else normal
        result = np.zeros((*image.shape, 1), np.float32)
        runner.process_image(normal, result, network)
        return result[..., 0]

    return _padded(score)


def _padded(network):
    """Let a network score an image of any shape: many halve it three times or more; a mirrored border costs nothing."""

    def score(image, *_):
        border = [(0, -n % 16 + max(0, 400 - n - -n % 16)) for n in image.shape]
        result = network(np.pad(image, border, "symmetric"))
        return np.asarray(result, np.float32)[: image.shape[0], : image.shape[1]]

    return score


def lacosmic(contrast=1.0, fraction=0.1):
    """Load L.A.Cosmic of the lacosmic package, of any version."""
    try:
        from lacosmic import remove_cosmics
    except ImportError:
        # Its name and place before 1.4.
        from lacosmic.core import lacosmic as remove_cosmics

    def find(image, bad, gain, read_noise, level):
        electrons = image.astype(float) * gain
        settings = {"mask": bad, "effective_gain": 1.0, "readnoise": float(read_noise)}
        return remove_cosmics(electrons, contrast, level, fraction * level, **settings)[1]

    return find


def dfcosmic(objlim=1.0):
    """Load the L.A.Cosmic of dfcosmic, with true medians; it takes no bad pixels."""
    from dfcosmic import lacosmic

    def find(image, bad, gain, read_noise, level):
        settings = {"sigclip": level, "sigfrac": 0.1, "objlim": objlim, "niter": 4}
        return lacosmic(image, gain=float(gain), readnoise=float(read_noise), **settings)[1]

    return find


def astro_scrappy(objlim=1.0):
    """Load Astro-SCRAPPY with the settings of the paper: sigfrac 0.1."""
    import astroscrappy

    def find(image, bad, gain, read_noise, level):
        settings = {"sigclip": level, "sigfrac": 0.1, "objlim": objlim, "satlevel": 4e4}
        return astroscrappy.detect_cosmics(image, bad, gain=float(gain), readnoise=float(read_noise), **settings)[0]

    return find


METHODS = {
    "astro-scrappy": Method(
        "Astro-SCRAPPY", astro_scrappy, engine="OpenMP", settings=SETTINGS, levels=LEVELS, own_python=False
    ),
    "lacosmic": Method("L.A.Cosmic", lacosmic, settings=SETTINGS, levels=FEW_LEVELS),
    "dfcosmic": Method("dfcosmic", dfcosmic, engine="torch float32", settings=SETTINGS, levels=FEW_LEVELS),
    "cosmic-conn-ground": Method("Cosmic-CoNN", cosmic_conn_ground, engine="torch float32"),
    "cosmic-conn-nres": Method("Cosmic-CoNN NRES", lambda: cosmic_conn_ground("NRES"), engine="torch float32"),
    "deepcr-decam": Method("deepCR", deepcr_decam, engine="torch float32"),
    # The threshold of the paper (Sec. 4).
    "maximask": Method("MaxiMask", maximask, threshold=0.43, engine="tensorflow", dilate=False),
}


def astro_scrappy_fill(cleantype):
    """Load one of the ways in which Astro-SCRAPPY fills; it finds the holes, which are made to stand out."""
    import astroscrappy

    def fill(image, holes, gain, read_noise):
        spiked = image.astype(np.float32)
        # Uneven, so that the inner pixels of a hole are found as well.
        spiked[holes] = 1e5 * np.random.default_rng(1).uniform(0.3, 1, np.count_nonzero(holes))
        settings = {"sigclip": 20, "sigfrac": 0.3, "objlim": 0, "satlevel": np.inf, "niter": 8, "sepmed": False}
        noise = np.full(image.shape, np.median(np.abs(image - np.median(image))) * 1.4826, np.float32) ** 2
        found, filled = astroscrappy.detect_cosmics(
            spiked, invar=noise, inbkg=np.zeros_like(noise), gain=1.0, cleantype=cleantype, **settings
        )
        # Astro-SCRAPPY has not filled what it has not found.
        return np.where(holes & ~found, np.nan, filled)

    return fill


def deepcr_fill(inpaint=None):
    """Load deepCR's inpainting: its network for HST ACS, or without one its median filter."""
    from deepCR import deepCR

    model = deepCR(mask="decam", inpaint=inpaint, device="CPU")

    def fill(image, holes, gain, read_noise):
        border = [(0, -n % 16) for n in image.shape]
        electrons = np.pad(image * np.float32(gain), border, "symmetric")
        filled = model.inpaint(electrons, np.pad(holes, border, "symmetric"))
        return np.asarray(filled)[: image.shape[0], : image.shape[1]] / gain

    return fill


#: Other projects' ways to fill given holes: name -> (title, load, whether it needs a Python of its own).  What is
#: loaded is a function of image, holes, gain and read noise.
FILLERS = {
    f"astro-scrappy-{kind}": (f"Astro-SCRAPPY {kind}", partial(astro_scrappy_fill, kind), False)
    for kind in ("median", "medmask", "meanmask", "idw")
} | {
    "deepcr-median": ("deepCR median", deepcr_fill, True),
    "deepcr-network": ("deepCR network", partial(deepcr_fill, "ACS-WFC-F606W-2-32"), True),
}
#: Name of our own models, which `METHODS` does not list because they are given by model and engine.
OURS = "crattn"


def trace(find, levels):
    """Turn a filter into something that scores: the highest level at which a pixel is found, else 0.

    Parameters
    ----------
    find : callable
        As `Method.load` returns for a filter.
    levels : sequence of float

    Returns
    -------
    callable
        (image, bad, gain, read noise) -> float32 plane.
    """

    def score(*arguments):
        result = np.zeros(arguments[0].shape, np.float32)
        for level in sorted(levels):
            result[find(*arguments, level)] = level
        return result

    return score


def just_below(setting):
    """Return the threshold that masks what scores a setting or more, in float32."""
    return float(np.nextafter(np.float32(setting), np.float32(0)))


def start(name, levels=(), model=None, engine="auto", threads=None):
    """Load a method.

    Parameters
    ----------
    name : str
        One of `METHODS` or `FILLERS`, or `OURS`.
    levels : sequence of float
        Of a filter; its last setting alone by default.
    model, engine, threads
        Of ours, as for `crattn_stage.load_model`.

    Returns
    -------
    score : callable
        (image, bad, gain, read noise) -> float32 plane.
    engine : str
    threshold : float
    """
    if name == OURS:
        from crattn_stage import load_model
        from training.evaluation.peers import probabilities

        loaded = load_model(model, engine, threads)
        return lambda image, bad, *_: probabilities(loaded, image, bad), loaded.engine, loaded.card.threshold
    if name in FILLERS:
        return FILLERS[name][1](), "numpy", 0.0
    method = METHODS[name]
    if not method.settings:
        return method.load(), method.engine, method.threshold
    return trace(method.load(), levels or method.settings[-1:]), method.engine, just_below(method.settings[-1])


def peak_megabytes():
    """Return the peak resident memory of this process."""
    try:
        with open("/proc/self/status") as status:
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        # That of the parent counts, too.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Score the images of a file; with ``--repeats`` time the first one, and score the others."""
    # A peer's own modules must not be mistaken for those beside this script.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    source, target, name, *options = sys.argv[1:]
    options = {key: json.loads(value) for key, value in (option[2:].split("=", 1) for option in options)}
    repeats = options.pop("repeats", 0)
    if options.get("threads"):
        # Of torch, and of tensorflow.
        os.environ["OMP_NUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(options["threads"])
    try:
        began = time.perf_counter()
        score, engine, threshold = start(name, **options)
        loading = time.perf_counter() - began
    except (ImportError, ValueError) as error:
        print(json.dumps({"left_out": f"{type(error).__name__}: {error}"}))
        return
    arrays = np.load(source)
    images = [[arrays[f"{key}{i}"] for key in ("image", "bad", "gain", "read_noise")] for i in range(len(arrays) // 4)]
    seconds, scores = [], {}
    if repeats:
        image, bad, *numbers = images[0]
        score(image[:512, :512], bad[:512, :512], *numbers)
        for _ in range(repeats):
            began = time.perf_counter()
            score(*images[0])
            seconds.append(time.perf_counter() - began)
    peak = peak_megabytes()
    for i, arguments in enumerate(images[1:] if repeats else images):
        began = time.perf_counter()
        scores[f"score{i}"] = np.asarray(score(*arguments), np.float32)
        if not repeats:
            seconds.append(time.perf_counter() - began)
    np.savez(target, **scores)
    report = {"engine": engine, "threshold": threshold, "loading": loading, "seconds": seconds, "peak_megabytes": peak}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
