"""Resident memory, in processes of their own."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits

PEAK = """
import re, sys
import numpy as np
from crattn_stage.detection.model import CosmicRayModel
from crattn_stage.process import process
from crattn_stage.products.settings import MaskSettings
from crattn_stage.stage import AttentionCRStage, RuntimeContext
if sys.argv[3] == "without network":
    CosmicRayModel._run = lambda self, plane, engine, function, out: None
products = dict(clean="surface", probability=True, hits="fits", regions=True, mask_extension=True)
masks = MaskSettings(**products) if "products" in sys.argv[3] else MaskSettings()
process(sys.argv[1], sys.argv[2], AttentionCRStage(RuntimeContext("att-deepcr", masks=masks)))
# Not getrusage, which counts the parent that was forked.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
"""


def peak_megabytes(path, network):
    command = [sys.executable, "-c", PEAK, path, path.with_name(f"out-{path.name}"), network]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def exposure(path, count, shape):
    hdus = [fits.PrimaryHDU()]
    for number in range(count):
        image = np.random.default_rng(number).normal(300, 8, shape).astype(np.float32)
        hdus.append(fits.ImageHDU(image, name=f"N{number + 1}"))
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize(("what", "limit"), [("with network", 800), ("with network and all products", 1000)])
def test_a_whole_ccd_stays_under_the_limit(what, limit, tmp_path):
    assert peak_megabytes(exposure(tmp_path / "ccd.fits", 1, (4096, 2048)), what) < limit


def test_memory_does_not_grow_with_the_number_of_ccds(tmp_path):
    # The network sees one tile size whatever the frame, and would take all the time.
    # Three are held at a time, as luck has it: one is read, one masked, one judged.
    four = peak_megabytes(exposure(tmp_path / "four.fits", 4, (1600, 1600)), "without network")
    sixteen = peak_megabytes(exposure(tmp_path / "sixteen.fits", 16, (1600, 1600)), "without network")
    # Twelve more CCDs hold 120 MB of pixels and 60 MB of masks.
    assert sixteen < four + 30
