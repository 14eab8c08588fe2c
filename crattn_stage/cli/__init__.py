"""The command line: ``crattn-stage``.

Heavy imports wait until a command needs them, so that ``--help`` is instant.
"""

import logging
from importlib.metadata import entry_points

import click

from crattn_stage import __version__
from crattn_stage.cli import cameras, compare, db, frames, grade, models, nights, quality, view
from crattn_stage.errors import PrintableFormatter

#: Entry points of this group are commands, too: other packages join the command line with them.
COMMANDS = "crattn_stage.commands"


class Commands(click.Group):
    """The commands of this package, and those that other packages bring as entry points."""

    def _joined(self):
        return {point.name: point for point in entry_points(group=COMMANDS)}

    def list_commands(self, context):
        return sorted({*super().list_commands(context), *self._joined()})

    def get_command(self, context, name):
        command = super().get_command(context, name)
        point = None if command else self._joined().get(name)
        if point is None:
            return command
        try:
            return point.load()
        except ImportError as error:
            # The other commands must work without it.
            return _unavailable(name, f"{point.value} cannot be imported: {error}")


def _unavailable(name, reason):
    @click.command(name, help=f"Not available: {reason}", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments):
        raise click.ClickException(reason)

    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Print more detail.")
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
    compare.compare,
    grade.grade,
    view.view,
    models.models,
    cameras.cameras,
    db.db,
    frames.demo,
):
    main.add_command(command)
