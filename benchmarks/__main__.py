"""Command line: ``python -m benchmarks``."""

import json
from pathlib import Path

import click

from benchmarks.sections import SECTIONS, machine
from crattn_stage.processors import available_cpus


@click.command()
@click.option("--section", "chosen", multiple=True, type=click.Choice(list(SECTIONS)), help="All by default.")
@click.option("--data", type=click.Path(exists=True, file_okay=False), help="Folder of real data, for accuracy.")
@click.option("--peers", type=click.Path(exists=True), help="A Python that has deepCR, cosmic-conn and lacosmic.")
@click.option("--maximask", type=click.Path(exists=True), help="A Python that has maximask.")
@click.option("--before", type=click.Path(exists=True, file_okay=False), help="A checkout of an earlier version.")
@click.option("--only", multiple=True, help="Methods whose name holds this.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--threads", default=available_cpus, show_default=True)
@click.option("--ccds", default=62, show_default=True, help="CCDs of the packed exposure.")
@click.option("--output", default="benchmarks-output", show_default=True, type=click.Path(file_okay=False))
def main(chosen, output, **options):
    """Measure seconds, memory and accuracy; write benchmarks.json and benchmarks.png in the output folder.

    Sections that were measured before, and not now, stay in the file.
    """
    output = Path(output).absolute()
    output.mkdir(parents=True, exist_ok=True)
    options["output"] = output
    file = output / "benchmarks.json"
    report = json.loads(file.read_text()) if file.exists() else {}
    for name in chosen or SECTIONS:
        section = SECTIONS[name]
        click.echo(f"{name}: {section.__doc__.splitlines()[0]}")
        report[name] = section(options)
        report["machine"] = machine(options)
        file.write_text(json.dumps(report, indent=2) + "\n")
    from benchmarks.plot import plot

    plot(report, output / "benchmarks.png")
    click.echo(file)


if __name__ == "__main__":
    main()
