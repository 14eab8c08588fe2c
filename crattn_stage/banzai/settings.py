"""BANZAI's settings with our stage in place of its own, to use as they are or to import from.

They travel to Celery as JSON, so only plain values are allowed.
"""

from banzai.settings import *  # noqa: F403
from banzai.settings import ORDERED_STAGES

_OURS, _THEIRS = "crattn_stage.banzai.CosmicRayDetector", "banzai.cosmic.CosmicRayDetector"

#: After dark and flat, where BANZAI has its own stage.
ORDERED_STAGES = [_OURS if stage == _THEIRS else stage for stage in ORDERED_STAGES]
#: The other slots, to assign to ORDERED_STAGES: on the amplifiers, and on the mosaic just after trimming.
AMPLIFIER_STAGES = [stage for stage in ORDERED_STAGES if stage != _OURS]
MOSAIC_STAGES = list(AMPLIFIER_STAGES)
AMPLIFIER_STAGES.insert(AMPLIFIER_STAGES.index("banzai.gain.GainNormalizer") + 1, _OURS)
MOSAIC_STAGES.insert(MOSAIC_STAGES.index("banzai.trim.Trimmer") + 1, _OURS)

#: Shipped name or path of a model; the shipped default if None.
CRATTN_MODEL = None
#: Probability above which a pixel is masked; the model card's if None.
CRATTN_THRESHOLD = None
#: As for `crattn_stage.load_model`.
CRATTN_ENGINE = "auto"
#: CPU threads; all that the process may use if None.
CRATTN_THREADS = None
#: Database of provenance; BANZAI's own if None.
CRATTN_DB_ADDRESS = None
#: Whether arcs are masked, too, as spectra; they are skipped otherwise, as all calibrations are.
CRATTN_ARCS = False
#: Whether a frame that cannot be masked goes on without cosmic rays, and says so in its header; otherwise it stops.
CRATTN_PASS_UNMASKED = False
