"""Templates of HTML pages, in which texts of unknown origin are harmless."""

from jinja2 import Environment, PackageLoader

from crattn_stage.errors import printable


def templates(package):
    """Return the environment of a package's templates.

    Parameters
    ----------
    package : str

    Returns
    -------
    `jinja2.Environment`
        Values are escaped, and control characters in them are shown as escapes; a `markupsafe.Markup` is left alone.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
