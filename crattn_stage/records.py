"""What the database is told of a frame and of a run: its columns, from headers, stages and detections."""

from crattn_stage.cameras.facts import read_exposure
from crattn_stage.cameras.profile import recognise
from crattn_stage.quality import rules
from crattn_stage.quality.summary import total

#: What a `Summary` of an amplifier leaves in the database.
AMPLIFIER_COLUMNS = ("pixels", "searched", "hits", "border_pixels", "border_searched")


def run_identity(stage):
    """Return what `calibration_dbs.provenance.recorded_run` is told of a stage.

    Parameters
    ----------
    stage : `crattn_stage.stage.AttentionCRStage`

    Returns
    -------
    model, settings : dict
    """
    card, provenance = stage.model.card, stage.provenance
    model = {"name": card.name, "architecture": card.architecture, "sha256": card.sha256}
    return model, {key: provenance[key] for key in ("threshold", "engine", "version")}


def columns_of_header(header):
    """Return the columns of `calibration_dbs.tables.Frame` that a header gives.

    Parameters
    ----------
    header : `astropy.io.fits.Header`

    Returns
    -------
    dict
    """
    return frame_columns(read_exposure(header, recognise([header])[0]))


def frame_columns(exposure):
    """Return the columns of `calibration_dbs.tables.Frame` for an exposure.

    Parameters
    ----------
    exposure : `crattn_stage.cameras.facts.Exposure`

    Returns
    -------
    dict
        None where the header does not say.
    """
    names = (
        *("instrument", "camera", "site", "night", "observed", "filter"),
        *("observation_type", "exposure_time"),
    )
    return {name: None if getattr(exposure, name) == "" else getattr(exposure, name) for name in names}


def record_detections(record, detections, seconds, limits=None):
    """Fill in what was found.

    Parameters
    ----------
    record : `calibration_dbs.provenance.Record`
    detections : list of `crattn_stage.quality.summary.Detection`
    seconds : float or None
        Exposure time.
    limits : dict, optional
        As for `crattn_stage.quality.rules.verdict`.

    Returns
    -------
    `crattn_stage.quality.summary.Summary`
        Of all detectors together.
    """
    summary = total(d.summary for d in detections)
    verdict, reason = rules.verdict(summary, seconds, limits)
    record.run.update(
        pixels=summary.pixels,
        hits=summary.hits,
        fraction=summary.fraction,
        rate=summary.rate(seconds),
        star_fraction=summary.star_fraction,
        galaxy_fraction=summary.galaxy_fraction,
        faint_completeness=summary.injected.completeness("faint"),
        bright_completeness=summary.injected.completeness("bright"),
        noise_objects=summary.injected.noise_objects,
        verdict=verdict,
        reason=reason,
        megapixels=summary.searched / 1e6,
        area=summary.area,
    )
    record.amplifiers = [
        {"extension": d.name, "name": name, **{column: getattr(s, column) for column in AMPLIFIER_COLUMNS}}
        for d in detections
        for name, s in d.amplifiers.items()
    ]
    return summary
