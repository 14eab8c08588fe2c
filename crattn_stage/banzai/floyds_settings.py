"""The settings of banzai-floyds with our stage in place of the one that finds cosmic rays.

Older versions of banzai-floyds use BANZAI's stage, newer ones have their own; ours stands where the other stood.
"""

from banzai_floyds.settings import *  # noqa: F403
from banzai_floyds.settings import ORDERED_STAGES

from crattn_stage.banzai.settings import (  # noqa: F401
    CRATTN_ARCS,
    CRATTN_DB_ADDRESS,
    CRATTN_ENGINE,
    CRATTN_MODEL,
    CRATTN_PASS_UNMASKED,
    CRATTN_THREADS,
    CRATTN_THRESHOLD,
)

_OURS = "crattn_stage.banzai.CosmicRayDetector"
_THEIRS = ("banzai.cosmic.CosmicRayDetector", "banzai_floyds.cosmics.CosmicRayDetector")

ORDERED_STAGES = [_OURS if stage in _THEIRS else stage for stage in ORDERED_STAGES]
