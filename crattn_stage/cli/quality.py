"""``qa`` and ``trace``."""

import json
import sys
from pathlib import Path

import click

from crattn_stage.cli.options import DONE, FAILED, Night, database_option, explained, opened, with_database, write_text
from crattn_stage.errors import CrattnError, FrameError, printable


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--night", type=Night(), help="Judge the masks of a night.")
@click.option("--from", "first", type=Night(), help="Show the masks of all nights from this one on...")
@click.option("--until", "last", type=Night(), help="...to this one.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Also write the result as JSON.")
@click.option(
    "--html",
    "html_path",
    type=click.Path(),
    help="Also write a page with plots and pictures; with --from, pages with plots into this folder.",
)
@click.option(
    "--repeats",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="With --night, let repeated exposures of a field grade each other's masks: N fields of each camera.",
)
@click.option("--headers-only", is_flag=True, help="Check each FILE only against itself, not against the database.")
@database_option
def qa(files, night, first, last, json_path, html_path, repeats, headers_only, url):
    """Judge the masks of a night, show those of many nights, or check each masked FILE.

    The exit status is 1 if a frame fails.
    """
    if bool(first) != bool(last):
        raise click.UsageError("--from and --until go together")
    if [bool(files), bool(night), bool(first)].count(True) != 1:
        raise click.UsageError("give either --night, --from and --until, or FILE")
    if first and first > last:
        raise click.UsageError(f"--from {first} is later than --until {last}")
    if repeats and not night:
        raise click.UsageError("--repeats needs --night")
    if html_path and files:
        raise click.UsageError("--html needs --night, or --from and --until")
    if html_path and Path(html_path).exists() and Path(html_path).is_dir() != bool(first):
        raise click.UsageError(f"--html {html_path}: {'not a folder' if first else 'a folder'}")
    with explained():
        if first:
            failed = _judge_period(url, first, last, json_path, html_path)
        elif night:
            failed = _judge_night(url, night, repeats, json_path, html_path)
        else:
            database = None if headers_only else opened(url)
            failed = _check_files(files, database, json_path)
    sys.exit(FAILED if failed else DONE)


def _judge_night(url, night, repeats, json_path, html_path):
    from crattn_stage.quality.night_page import report_html
    from crattn_stage.quality.night_report import judge_night, report_json

    report = with_database(url, lambda url: judge_night(opened(url), night))
    if not report.frames:
        raise CrattnError(f"the database knows no frames of night {night}")
    if repeats:
        from crattn_stage.nights.repeats import grade_repeats

        grade_repeats(report, repeats)
    titles = "".join(f"{title:>10}" for title in ("hits", "/cm2/min", "pixels", "stars", "complete", "noise/Mpx"))
    click.echo(f"{'':5}{titles}")
    for frame in report.frames:
        cells = [
            _cell(frame.hits),
            _cell(frame.rate, ".2f"),
            _cell(frame.fraction, ".4%"),
            _cell(frame.star_fraction, ".2%"),
            _cell(frame.bright_completeness, ".0%"),
            _cell(frame.noise_objects, ".1f"),
        ]
        numbers = "".join(f"{cell:>10}" for cell in cells)
        said = printable(f"{Path(frame.path).name}  {'; '.join(frame.reasons)}")
        click.echo(f"{frame.verdict:5}{numbers}  {said}".rstrip())
    for found in report.repeats:
        _show_repeats(found)
    if repeats and not report.repeats:
        click.echo("no two masked frames are of one field, camera, filter and exposure time: none can be graded")
    counts = ", ".join(f"{count} {level}" for level, count in report.counts.items())
    click.echo(f"night {night}: {counts}" + (f", {report.skipped} skipped" if report.skipped else ""))
    if json_path:
        write_text(json_path, json.dumps(report_json(report), indent=2))
    if html_path:
        write_text(html_path, report_html(report, Path(html_path).parent))
    return report.counts["FAIL"] > 0


def _show_repeats(found):
    from crattn_stage.quality.night_report import grade_cells

    click.echo(printable(f"graded by {len(found.paths)} exposures of {found.title}"))
    if found.failure:
        click.echo(printable(f"  {found.failure}"))
    for path, own in zip(found.paths, found.grades, strict=False):
        said = own["failure"] and f"cannot be graded: {own['failure']}"
        click.echo(printable(f"  {Path(path).name}  {said or '; '.join(map(' '.join, grade_cells(own)))}"))
        for note in [f"WARN: {warning}" for warning in own["warnings"]] + own["notes"]:
            click.echo(printable(f"    {note}"))


def _judge_period(url, first, last, json_path, html_path):
    from crattn_stage.quality.period_report import judge_period, period_json

    database = opened(url)
    report = with_database(url, lambda _: judge_period(database, first, last))
    if html_path:
        from crattn_stage.quality.period_site import write_site

        pages = with_database(url, lambda _: write_site(database, first, last, html_path))
        click.echo(printable(f"{Path(html_path) / 'index.html'}: {pages} pages"))
    else:
        _show_period(report)
    counts = ", ".join(f"{count} {level}" for level, count in report.counts.items())
    click.echo(f"nights {first} to {last}: {counts}")
    if json_path:
        write_text(json_path, json.dumps(period_json(report), indent=2))
    return report.counts["FAIL"] > 0


def _show_period(report):
    from crattn_stage.quality.period_report import camera_name

    titles = ("frames", "WARN", "FAIL", "/cm2/min", "pixels", "stars", "complete", "faint", "noise/Mpx", "s/frame")
    rows = [("camera", "month" if report.by_month else "night", "filter", titles)]
    for row in report.rows:
        cells = [
            *(str(row[name]) for name in ("frames", "warnings", "failures")),
            _cell(row["rate"], ".2f"),
            _cell(row["fraction"], ".4%"),
            _cell(row["star_fraction"], ".2%"),
            _cell(row["bright_completeness"], ".0%"),
            _cell(row["faint_completeness"], ".0%"),
            _cell(row["noise_objects"], ".1f"),
            _cell(row["seconds"], ".1f"),
        ]
        names = camera_name(row["site"], row["camera"]), row["period"], row["filter"] or "-"
        rows.append((*map(printable, names), cells))
    camera, filter_name = (max(len(row[column]) for row in rows) for column in (0, 2))
    for row in rows:
        numbers = "".join(f"{cell:>10}" for cell in row[3])
        click.echo(f"{row[0]:{camera}}  {row[1]:8}  {row[2]:{filter_name}}{numbers}")


def _cell(value, style=""):
    return "-" if value is None else format(value, style)


def _check_files(files, database, json_path):
    from dataclasses import asdict

    from crattn_stage.quality.mask_check import check_file

    checks = [check_file(path, database) for path in files]
    for check in checks:
        flags = ", ".join(
            f"{key} {value}" for key, value in check.flags.items() if key in ("L1IDCR", "CRNHIT", "CRFRAC")
        )
        said = "; ".join(filter(None, [*check.reasons, flags]))
        click.echo(printable(f"{check.verdict:5} {check.path}: {said}"))
    if json_path:
        write_text(json_path, json.dumps([asdict(check) for check in checks], indent=2))
    return any(check.verdict == "FAIL" for check in checks)


def _settings(recorded):
    shown = {name: ", ".join(v) if isinstance(v, list) else v for name, v in (recorded or {}).items()}
    return "; ".join(f"{name.replace('_', '-')} {value}" for name, value in shown.items()) or "default"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@database_option
def trace(file, url):
    """Print what masked FILE: the input, the model and the settings, found by its checksum."""
    from calibration_dbs import provenance

    with explained():
        from crattn_stage.fits.atomic import sha256
        from crattn_stage.fits.frame import ObservationFrame

        try:
            with ObservationFrame(file) as frame:
                files = [path for path in frame.outputs(file) if path.exists()]
        except FrameError as error:
            raise CrattnError(f"{file}: {error}") from error
        makers = with_database(url, lambda url: provenance.makers(opened(url), sha256(*files)))
        if not makers:
            raise CrattnError(f"{file}: no run in the database wrote this file as it is now")
        for run, frame, model in makers:
            for name, value in (
                ("frame", frame.path),
                ("its sha256", run.input_sha256),
                ("model", f"{model.name} ({model.architecture})"),
                ("its sha256", model.sha256),
                ("threshold", f"{run.threshold:.6g}"),
                ("settings", _settings(run.settings)),
                ("engine", run.engine),
                ("version", run.version),
                ("masked", f"{run.started:%Y-%m-%d %H:%M:%S} to {run.finished:%H:%M:%S} UTC, attempt {run.attempts}"),
                ("verdict", f"{run.verdict} {run.reason or ''}".strip()),
            ):
                click.echo(f"{name:10}  {printable(value)}")
