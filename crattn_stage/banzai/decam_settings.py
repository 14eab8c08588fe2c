"""BANZAI's settings for raw DECam exposures: overscan, gain and cosmic rays, amplifier by amplifier.

The camera must be in BANZAI's database, at the site of `crattn_stage.banzai.decam.SITE`.
"""

from crattn_stage.banzai.settings import *  # noqa: F403
from crattn_stage.banzai.settings import EXTRA_STAGES, LAST_STAGE

FRAME_FACTORY = "crattn_stage.banzai.decam.DECamFrameFactory"
ORDERED_STAGES = [
    "banzai.bpm.SaturatedPixelFlagger",
    "banzai.bias.OverscanSubtractor",
    "banzai.gain.GainNormalizer",
    "crattn_stage.banzai.CosmicRayDetector",
]
LAST_STAGE = dict.fromkeys(LAST_STAGE)
EXTRA_STAGES = dict.fromkeys(EXTRA_STAGES)
SUPPORTED_FRAME_TYPES = ["EXPOSE", "STANDARD"]
