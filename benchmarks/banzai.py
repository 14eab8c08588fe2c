"""Our stage and BANZAI's own, side by side in the real BANZAI: time, memory, completeness, precision, star cores.

Both get the same raw four-amplifier frames, simulated, with held-out hits of
real dark frames where a folder of data is given.  Each runs in a process of
its own, on the mosaic before source detection, where BANZAI has its own.

    python benchmarks/banzai.py [--data DATA] [--fields N] [--shape ROWS COLUMNS] [--sky ELECTRONS ...]
"""

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if __package__ in (None, ""):
    # Or `import banzai` would find this file.
    sys.path[0] = str(Path(__file__).parent.parent)

import numpy as np
from scipy.ndimage import binary_dilation, maximum_filter

from benchmarks.sinistro import simulate_raw
from training.evaluation.peer_runner import peak_megabytes
from training.evaluation.scene_sets import DENSITY

STAGES = {"BANZAI": "banzai.cosmic.CosmicRayDetector", "ours": "crattn_stage.banzai.CosmicRayDetector"}
#: Stars of a peak this many times the noise of the sky are looked at.
BRIGHT = 20


def mask(stage, paths, folder, threads):
    """Return, for each raw frame, seconds and memory of the stage, and a file of image and mask; the first twice."""
    os.environ["OPENTSDB_PYTHON_METRICS_TEST_MODE"] = "1"
    # Before torch is imported, which is for the stage to do.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from banzai import dbs, main
    from banzai.utils import stage_utils

    from crattn_stage.banzai import settings

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    url = f"sqlite:///{folder}/{os.getpid()}.sqlite"
    dbs.create_db(url)
    dbs.add_site({"code": "elp", "timezone": -6, "longitude": -104.0, "latitude": 30.7, "elevation": 2027}, url)
    camera = {"site": "elp", "camera": "fa05", "name": "fa05", "type": "1m0-SciCam-Sinistro", "nx": 4096, "ny": 4096}
    dbs.add_instrument(camera, url)
    context = main.parse_args(settings, parse_system_args=False)
    before = settings.ORDERED_STAGES[: settings.ORDERED_STAGES.index(STAGES["ours"])]
    vars(context).update(db_address=url, cal_db_address=url, override_missing=True, CRATTN_THREADS=threads)
    results = []
    for path in [paths[0], *paths]:
        frame = stage_utils.import_utils.import_attribute(context.FRAME_FACTORY)().open({"path": str(path)}, context)
        images = [frame]
        for name in before:
            images = stage_utils.import_utils.import_attribute(name)(context).run(images)
        # Count the peak anew.
        Path("/proc/self/clear_refs").write_text("5")
        start = peak_megabytes()
        clock = time.perf_counter()
        (image,) = stage_utils.import_utils.import_attribute(stage)(context).run(images)
        seconds = time.perf_counter() - clock
        found = (np.array(image.mask) & 8) != 0
        memory = peak_megabytes()
        # Kept out of the memory that is measured.
        kept = Path(folder, f"{len(results)}-{os.getpid()}.npz")
        np.savez(kept, found=found, image=np.array(image.data, np.float32))
        results.append((seconds, memory, memory - start, kept))
    return results


def judge(truth, stars, found, image):
    """Return what a mask is worth as BANZAI uses it, against the hits grown by 3x3.

    Completeness and precision of objects and of pixels, the fraction of hit pixels above 3 sigma that is left
    unmasked, the number of star cores masked, and of all.
    """
    from crattn_stage.demo import score
    from crattn_stage.detection.preprocessing import sky_statistics

    near = binary_dilation(truth, np.ones((3, 3)))
    completeness, precision = score(truth, found)
    level, sigma = sky_statistics(image)
    row, column = np.rint(stars[:, :2]).astype(int).T
    inside = (row > 2) & (column > 2) & (row < image.shape[0] - 3) & (column < image.shape[1] - 3)
    row, column = row[inside], column[inside]
    # The peak may lie a pixel beside the rounded centre; stars that a hit has crossed are left out.
    peak = maximum_filter(image, 3)[row, column]
    bright = (peak > level + BRIGHT * sigma) & ~binary_dilation(near, np.ones((5, 5)))[row, column]
    core = binary_dilation(found, np.ones((3, 3)))[row, column]
    pixels = found[near].mean(), (found & near).sum() / max(found.sum(), 1)
    certain = truth & (image > level + 3 * sigma)
    return completeness, precision, *pixels, 1 - found[certain].mean(), int(core[bright].sum()), int(bright.sum())


def main():
    """Make the frames, run both stages, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the catalogue of footprints")
    parser.add_argument("--shape", type=int, nargs=2, default=(2048, 4096), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--sky", type=float, nargs="+", default=(100.0, 1500.0), help="electron per pixel")
    parser.add_argument("--fields", type=int, default=3, help="of each sky; accuracy is their mean")
    parser.add_argument("--stars", type=float, default=600.0, help="per million pixels")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.data:
        from training.data.hits import read_footprints
        from training.data.library import FOOTPRINTS

        hits = read_footprints(arguments.data / FOOTPRINTS, "test")
    else:
        from training.data.hits import simulated_hits

        hits = simulated_hits(300, seed=9)
    half = tuple(n // 2 for n in arguments.shape)
    count = round(DENSITY * half[0] * half[1] * 4 / 1e6)
    with tempfile.TemporaryDirectory() as folder:
        paths, truths = [], []
        for seed, sky in enumerate(np.repeat(arguments.sky, arguments.fields)):
            rng = np.random.default_rng(seed)
            paths.append(Path(folder, f"elp1m008-fa05-20211007-{seed:04d}-e00.fits"))
            chosen = [hits[i] for i in rng.integers(0, len(hits), count)]
            truths.append(simulate_raw(paths[-1], chosen, half, sky, seed, stars=arguments.stars))
        rows, columns = arguments.shape
        print(
            f"{rows} x {columns} pixels, {arguments.fields} fields of each sky, {count} hits in each; "
            f"{arguments.threads} threads; the first frame loads the model"
        )
        print("                     seconds         memory, MB      objects         pixels      >3 sigma  star cores")
        print("stage   sky  stars   first  later   peak    stage   compl.  precis. compl.  precis. left        masked")
        for name, stage in STAGES.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                first, *later = pool.submit(mask, stage, paths, folder, arguments.threads).result()
            for number, sky in enumerate(arguments.sky):
                its = slice(number * arguments.fields, (number + 1) * arguments.fields)
                times, peaks, added, kept = zip(*later[its], strict=True)
                seconds, peak, more = np.median(times), max(peaks), max(added)
                scores = np.array([judge(*t, **np.load(k)) for t, k in zip(truths[its], kept, strict=True)])
                *marks, cores, stars = (*scores[:, :5].mean(0), *scores[:, 5:].sum(0))
                print(
                    f"{name:6} {sky:5.0f} {stars:6.0f} "
                    f"{first[0]:7.1f}{seconds:7.1f}{peak:8.0f} {more:8.0f}  "
                    + "".join(f"{mark:8.4f}" for mark in marks)
                    + f"{cores / stars:12.5f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
