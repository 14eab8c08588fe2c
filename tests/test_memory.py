"""Resident memory, in processes of their own."""

import subprocess
import sys

import numpy as np
from astropy.io import fits

PEAK = """
import resource, sys
from crattn_stage.stage import AttentionCRStage, RuntimeContext
from crattn_stage.process import process
process(sys.argv[1], sys.argv[2], AttentionCRStage(RuntimeContext("att-deepcr")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_megabytes(path):
    command = [sys.executable, "-c", PEAK, path, path.with_name(f"out-{path.name}")]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def exposure(path, count, shape):
    hdus = [fits.PrimaryHDU()]
    for number in range(count):
        image = np.random.default_rng(number).normal(300, 8, shape).astype(np.float32)
        hdus.append(fits.ImageHDU(image, name=f"N{number + 1}"))
    fits.HDUList(hdus).writeto(path)
    return path


def test_a_whole_ccd_stays_under_the_limit(tmp_path):
    assert peak_megabytes(exposure(tmp_path / "ccd.fits", 1, (4096, 2048))) < 1200


def test_memory_does_not_grow_with_the_number_of_ccds(tmp_path):
    one = peak_megabytes(exposure(tmp_path / "one.fits", 1, (800, 800)))
    twelve = peak_megabytes(exposure(tmp_path / "twelve.fits", 12, (800, 800)))
    # Eleven more CCDs hold 28 MB of pixels and 14 MB of masks; what the allocators keep differs by 10.
    assert twelve < one + 20
