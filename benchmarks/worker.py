"""One detector in a process of its own: ``PYTHON worker.py IN.npz OUT.npz NAME [MODEL ENGINE] THREADS REPEATS``.

IN holds the image that is timed, ``image0`` with ``bad0``, and those that are
scored, ``image1`` and so on.  OUT gets the scores; seconds and peak memory are
printed as JSON.  Apart from our own detectors, which are imported where they
are asked for, nothing of this project is needed: a peer may live in an
environment of its own.
"""

import json
import os
import resource
import sys
import time


def crattn(threads, model, engine):
    """Ours."""
    from crattn_stage import load_model

    detector = load_model(model, engine, threads)
    return detector.predict, detector.engine, detector.card.threshold


def astro_scrappy(threads):
    """Astro-SCRAPPY with the settings of the paper, but for a sigclip that is better on DECam."""
    import astroscrappy

    def score(image, bad):
        settings = {"gain": 4.0, "readnoise": 7.0, "sigclip": 5.0, "sigfrac": 0.1, "objlim": 1.0, "satlevel": 4e4}
        return astroscrappy.detect_cosmics(image, inmask=bad, **settings)[0]

    return score, "OpenMP", 0.5


def _peer(name, engine, threshold, **settings):
    """Another project's detector, as the evaluation runs it."""

    def make(threads):
        # Beside this package; it needs nothing of this project either.
        sys.path.append(os.path.join(os.path.dirname(__file__), os.pardir, "training"))
        from peer_runner import PEERS

        score = PEERS[name](**settings)
        return lambda image, bad: score(image, bad, 4.0, 7.0), engine, threshold

    return make


def lacosmic(threads):
    """L.A.Cosmic of the lacosmic package, likewise."""
    score, engine, threshold = _peer("lacosmic", "numpy", 0.5, levels=(5,))(threads)
    return lambda image, bad: score(image, bad) > threshold, engine, threshold


DETECTORS = {
    "crattn": crattn,
    "astro-scrappy": astro_scrappy,
    "lacosmic": lacosmic,
    "deepcr": _peer("deepcr-decam", "torch float32", 0.5),
    "cosmic-conn": _peer("cosmic-conn-ground", "torch float32", 0.5),
    "maximask": _peer("maximask", "tensorflow", 0.43),
}


def peak_megabytes():
    """Return the peak resident memory of this process."""
    try:
        with open("/proc/self/status") as status:
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        # That of whoever started it counts, too.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Time and score."""
    source, target, name, *arguments, threads, repeats = sys.argv[1:]
    threads = int(threads)
    # Of torch, and of tensorflow.
    os.environ["OMP_NUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    try:
        began = time.perf_counter()
        score, engine, threshold = DETECTORS[name](threads, *arguments)
        loading = time.perf_counter() - began
    except (ImportError, ValueError) as error:
        print(json.dumps({"left_out": str(error)}))
        return
    import numpy as np

    arrays = np.load(source)
    images = [(arrays[f"image{i}"], arrays[f"bad{i}"]) for i in range(len(arrays.files) // 2)]
    small = np.s_[:512, :512]
    score(images[0][0][small], images[0][1][small])
    seconds = []
    for _ in range(int(repeats)):
        began = time.perf_counter()
        score(*images[0])
        seconds.append(time.perf_counter() - began)
    peak = peak_megabytes()
    np.savez(target, *(np.asarray(score(*pair)) for pair in images[1:]))
    report = {"engine": engine, "threshold": threshold, "loading": loading, "seconds": seconds, "peak_megabytes": peak}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
