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
    from crattn_stage import load_detector

    detector = load_detector(model, engine, threads)
    return detector.predict, detector.engine, detector.card.threshold


def astro_scrappy(threads):
    """Astro-SCRAPPY with the settings of the paper, but for a sigclip that is better on DECam."""
    import astroscrappy

    def score(image, bad):
        settings = {"gain": 4.0, "readnoise": 7.0, "sigclip": 5.0, "sigfrac": 0.1, "objlim": 1.0, "satlevel": 4e4}
        return astroscrappy.detect_cosmics(image, inmask=bad, **settings)[0]

    return score, "OpenMP", 0.5


def lacosmic(threads):
    """L.A.Cosmic of the lacosmic package, likewise."""
    from lacosmic import lacosmic as remove

    def score(image, bad):
        return remove(image.astype(float), 1.0, 5.0, 0.5, mask=bad, effective_gain=4.0, readnoise=7.0)[1]

    return score, "numpy", 0.5


def deepcr(threads):
    """DeepCR with the DECam model that it ships."""
    import torch
    from deepCR import deepCR

    torch.set_num_threads(threads)
    model = deepCR(mask="decam", device="CPU")
    return lambda image, bad: model.clean(image, inpaint=False, binary=False), "torch float32", 0.5


def cosmic_conn(threads):
    """Cosmic-CoNN with the ground-imaging model that it ships."""
    import torch
    from cosmic_conn import init_model

    torch.set_num_threads(threads)
    model = init_model("ground_imaging")
    return lambda image, bad: model.detect_cr(image, ret_numpy=True), "torch float32", 0.5


def maximask(threads):
    """MaxiMask with its own priors; its class of cosmic rays."""
    import maximask_and_maxitrack
    import numpy as np
    import tensorflow
    from maximask_and_maxitrack import utils
    from maximask_and_maxitrack.maximask.maximask import MaxiMask_inference

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    folder = os.path.join(os.path.dirname(maximask_and_maxitrack.__file__), "maximask")
    priors = np.loadtxt(os.path.join(folder, "config", "classes.priors"), usecols=1, dtype=np.float32)
    runner = MaxiMask_inference("", folder, np.arange(len(priors)) == 0, priors, None, False, 8)
    network = tensorflow.saved_model.load(os.path.join(folder, "model"))

    def score(image, bad):
        normal = utils.image_norm(image)
        result = np.zeros((*image.shape, 1), np.float32)
        runner.process_image(normal[0] if isinstance(normal, tuple) else normal, result, network)
        return result[..., 0]

    return score, "tensorflow", 0.43


DETECTORS = {f.__name__.replace("_", "-"): f for f in (crattn, astro_scrappy, lacosmic, deepcr, cosmic_conn, maximask)}


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
    os.environ["OMP_NUM_THREADS"] = str(threads)
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
