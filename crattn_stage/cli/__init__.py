"""The command line: ``crattn-stage``.

Heavy imports wait until a command needs them, so that ``--help`` is instant.
"""

import logging

import click

from crattn_stage import __version__
from crattn_stage.cli import cameras, db, frames, models, nights, quality
from crattn_stage.errors import PrintableFormatter


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Say more of what happens.")
def main(verbose):
    """Mask cosmic rays in CCD frames with attention U-Nets."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s")))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("crattn_stage").setLevel(logging.INFO if verbose else logging.WARNING)


for command in (
    frames.run,
    cameras.inspect,
    nights.reprocess,
    nights.worker,
    quality.qa,
    quality.trace,
    models.models,
    cameras.cameras,
    db.db,
    frames.demo,
):
    main.add_command(command)
