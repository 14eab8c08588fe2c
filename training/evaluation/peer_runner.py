"""Run another project's detector in a Python that has it: ``PYTHON peer_runner.py NAME IN.npz OUT.npz``.

Nothing of this project is imported here, so that the peer may live in an
environment of its own.  IN holds ``image0``, ``bad0``, ... and ``gain``,
``read_noise`` of each; OUT gets ``score0``, ... and ``seconds``.
"""

import sys
import time

import numpy as np


def deepcr_decam():
    """DeepCR with the DECam model that it ships."""
    from deepCR import deepCR

    model = deepCR(mask="decam", device="CPU")
    return lambda image, *_: model.clean(image, inpaint=False, binary=False)


def cosmic_conn_ground():
    """Cosmic-CoNN with the ground-imaging model that it ships."""
    from cosmic_conn import init_model

    model = init_model("ground_imaging")
    return lambda image, *_: model.detect_cr(image, ret_numpy=True)


def maximask():
    """MaxiMask with its own priors; the probability of its class of cosmic rays."""
    import os

    import maximask_and_maxitrack
    import tensorflow
    from maximask_and_maxitrack import utils
    from maximask_and_maxitrack.maximask.maximask import MaxiMask_inference

    folder = os.path.join(os.path.dirname(maximask_and_maxitrack.__file__), "maximask")
    priors = np.loadtxt(os.path.join(folder, "config", "classes.priors"), usecols=1, dtype=np.float32)
    only_cosmic_rays = np.arange(len(priors)) == 0
    runner = MaxiMask_inference("", folder, only_cosmic_rays, priors, None, False, 8)
    network = tensorflow.saved_model.load(os.path.join(folder, "model"))

    def score(image, *_):
        normal = utils.image_norm(image)
        normal = normal[0] if isinstance(normal, tuple) else normal
        result = np.zeros((*image.shape, 1), np.float32)
        runner.process_image(normal, result, network)
        return result[..., 0]

    return score


def lacosmic(contrast=1.0, fraction=0.1, levels=(3, 5, 7, 10, 15, 20)):
    """L.A.Cosmic; the highest of some significances at which a pixel is still found."""
    from lacosmic import remove_cosmics

    def score(image, bad, gain, read_noise):
        result = np.zeros(image.shape, np.float32)
        electrons = image.astype(float) * gain
        for level in levels:
            _, found = remove_cosmics(
                electrons, contrast, level, fraction * level, mask=bad, effective_gain=1.0, readnoise=float(read_noise)
            )
            result[found] = level
        return result

    score.runs = len(levels)
    return score


PEERS = {
    "deepcr-decam": deepcr_decam,
    "cosmic-conn-ground": cosmic_conn_ground,
    "maximask": maximask,
    "lacosmic": lacosmic,
}


def main():
    """Score all images of a file."""
    name, source, target = sys.argv[1:]
    score = PEERS[name]()
    arrays = dict(np.load(source))
    count = sum(key.startswith("image") for key in arrays)
    scores, began = {}, time.perf_counter()
    for i in range(count):
        image = arrays[f"image{i}"]
        # Their networks halve an image three times or more; a mirrored border costs nothing.
        border = [(0, -n % 16 + max(0, 400 - n - -n % 16)) for n in image.shape]
        padded, bad = np.pad(image, border, "symmetric"), np.pad(arrays[f"bad{i}"], border, "symmetric")
        result = score(padded, bad, arrays[f"gain{i}"], arrays[f"read_noise{i}"])
        scores[f"score{i}"] = np.asarray(result, np.float32)[: image.shape[0], : image.shape[1]]
    seconds = (time.perf_counter() - began) / getattr(score, "runs", 1)
    np.savez(target, seconds=seconds, **scores)


if __name__ == "__main__":
    main()
