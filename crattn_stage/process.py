"""One file through the stage: read, mask, write, record.

The command ``run``, reprocessing and the Celery task all come through here.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from calibration_dbs.provenance import Record, known_digests, recorded_run
from crattn_stage.cameras.facts import calibration_frame
from crattn_stage.errors import FrameError, ModelError
from crattn_stage.fits.atomic import check_targets, clear_parts, sha256
from crattn_stage.fits.frame import ObservationFrame
from crattn_stage.fits.names import preview_path
from crattn_stage.products.files import product_files
from crattn_stage.records import frame_columns, record_detections, run_identity


@dataclass
class Outcome:
    """What became of a frame.

    Attributes
    ----------
    message : str
        One line for the user.
    outputs : list of `pathlib.Path`
    verdict : {"PASS", "WARN", "FAIL"} or None
        On the mask; None where none was made.
    """

    message: str
    outputs: list = field(default_factory=list)
    verdict: str | None = None


def process(path, target, stage, database=None, overwrite=False, preview=False):
    """Mask one file and record it.

    Parameters
    ----------
    path, target : path-like
    stage : `crattn_stage.stage.AttentionCRStage`
    database : `sqlalchemy.Engine`, optional
        Of provenance; nothing is recorded without it.
    overwrite : bool
        Replace existing files.
    preview : bool
        Write a PNG beside the target, too.

    Returns
    -------
    `Outcome`

    Raises
    ------
    FrameError
        If the frame cannot be read, masked or written.  That is recorded.
    sqlalchemy.exc.SQLAlchemyError
        If the run cannot be recorded.
    """
    path, target = Path(path), Path(target)
    if database is None:
        return mask_file(path, target, stage, Record(), overwrite, preview)
    model, settings = run_identity(stage)
    # What earlier runs of ours wrote beside a file that is replaced must not outlive it.
    known = known_digests(database, os.path.abspath(target)) if overwrite else ()
    with recorded_run(database, os.path.abspath(path), model, **settings) as record:
        return mask_file(path, target, stage, record, overwrite, preview, known)


def mask_file(path, target, stage, record, overwrite=False, preview=False, known=(), before_rename=None):
    """Mask one file and say in a record what was done.

    Parameters
    ----------
    path, target, stage
        As for `process`.
    record : `calibration_dbs.provenance.Record`
        Filled as far as it goes, whatever happens.
    overwrite, preview
        As for `process`.
    known : collection of tuple of str
        (path, sha256) of existing files that are replaced in any case; those that are not written now are removed.
    before_rename : callable, optional
        As for `crattn_stage.fits.atomic.replacing`: the place to record what is about to be written, and to raise an
        error if it is no longer this process's to write.  It also says that nobody else writes to the target: parts
        of files that a killed process left there are removed.

    Returns
    -------
    `Outcome`

    Raises
    ------
    FrameError
        If the frame cannot be read, masked or written.
    """
    path, target = Path(path), Path(target)
    masks = stage.runtime_context.masks
    with ObservationFrame(path, arcs=masks.arcs) as frame:
        # Hash the open file, even if the path is replaced meanwhile.
        record.run["input_sha256"] = frame.sha256()
        # A night that the header does not give is known from elsewhere, or not at all.
        record.frame.update({k: v for k, v in frame_columns(frame.exposure).items() if v is not None})
        if frame.exposure.calibration_type:
            record.status = "skipped"
            return Outcome(f"skipped, {calibration_frame(frame.exposure.calibration_type)}")
        picture = [preview_path(target)] if preview else []
        products = product_files(frame, target, masks)
        files = [*frame.outputs(target), *(path for path, _ in products)]
        for output in files if before_rename is not None else ():
            clear_parts(output)
        # Checked before the work, not after it.
        check_targets([*files, *picture], overwrite, known)
        record.run["settings"] = masks.recorded(frame.profile.mask_settings)
        stage.do_stage(frame)
        # The engine actually used when the user gave "auto".
        record.run.update({key: stage.provenance[key] for key in ("engine", "version")})
        record.run["threshold"] = stage.threshold_for(frame.profile)
        if preview:
            # Drawn before the frame is written, so that one without the other is not left behind.
            from crattn_stage.products.preview import draw_preview, write_png

            drawn = draw_preview(frame)
        digests = {}

        def finished(written):
            digests.update(written)
            if before_rename is not None:
                before_rename(written)

        outputs = frame.write(target, overwrite, masks.mask_extension, finished, products, masks.flag_variance, known)
        if preview:
            write_png(*picture, drawn)
        record.run.update(
            output_path=os.path.abspath(target),
            outputs={os.path.abspath(output): digest for output, digest in digests.items()},
            output_sha256=sha256(*frame.outputs(target)) if frame.companion else digests[str(target)],
        )
        _remove_stale(known, record.run["outputs"])
        limits = frame.profile.settings.get("limits")
        summary = record_detections(record, frame.detections, frame.exposure.exposure_time, limits)
        if masks.hits:
            from crattn_stage.products.hits import as_rows

            record.hits = [row for detection in frame.detections for row in as_rows(detection.hits)]
        verdict, reason = record.run["verdict"], record.run["reason"]
        notes = "".join(f"; {note}" for note in [*frame.notes, reason] if note)
        hits = "1 cosmic ray" if summary.hits == 1 else f"{summary.hits} cosmic rays"
        return Outcome(f"{hits}, {summary.fraction:.3%} of pixels, {verdict}{notes}", [*outputs, *picture], verdict)


def _remove_stale(known, outputs):
    """Remove files that earlier runs wrote for a target and this one did not, unless someone has touched them."""
    for path, digest in known:
        if path not in outputs:
            with suppress(FrameError, OSError):
                if sha256(path) == digest:
                    os.unlink(path)


@lru_cache(2)
def stage_of(digest, **context):
    """Return the stage of a model, loaded once per process, since that takes longer than a small frame.

    Parameters
    ----------
    digest : str
        Sha256 of the model's weights.
    **context
        Of `crattn_stage.stage.RuntimeContext`.

    Returns
    -------
    `crattn_stage.stage.AttentionCRStage`

    Raises
    ------
    ModelError
        If the model cannot be loaded or is another one.
    """
    from crattn_stage.stage import AttentionCRStage, RuntimeContext

    stage = AttentionCRStage(RuntimeContext(**context))
    if stage.model.card.sha256 != digest:
        raise ModelError(f"{context['model']}: has another sha256 than the run was queued with")
    return stage
