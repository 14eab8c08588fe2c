"""What the campaign of damaged files may test besides `FitsFile`: a frame from end to end.

``python tests/fits/fuzz.py --function whole:mask --gigabytes 4``
"""

from functools import cache

from calibration_dbs.provenance import Record
from crattn_stage.errors import FrameError
from crattn_stage.process import mask_file
from crattn_stage.products.description import as_text, describe
from crattn_stage.stage import AttentionCRStage, RuntimeContext


@cache
def _stage():
    # The baseline: what is tested is what is around it.
    return AttentionCRStage(RuntimeContext("astroscrappy"))


def mask(path, target):
    """Mask a file as ``run`` does, and describe it as ``inspect`` does; the two must agree on whether it is refused."""
    said = describe(path)
    text = as_text(said)
    if any(not line.isprintable() for line in text.splitlines()):
        raise AssertionError(f"unprintable: {text!r}")
    record = Record()
    # The pixels can be worse than the headers, so `inspect` may be the kinder of the two.
    mask_file(path, target, _stage(), record)
    if said["verdict"] == "refuse":
        raise AssertionError(f"masked, but inspect says: {said['run']}")
    if record.status == "skipped":
        raise FrameError("skipped")
