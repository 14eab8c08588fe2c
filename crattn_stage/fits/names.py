"""Names of FITS files and of what is written from them."""

import re
from pathlib import Path

#: What marks an output that lies beside its input.
SUFFIX = "-crmask"
#: What is in the names of further FITS files that are written beside an output.
PRODUCTS = ("clean", "hits")
_OUTPUT = re.compile(rf"{SUFFIX}(-({'|'.join(PRODUCTS)}))?$")
#: The suffixes of a FITS file, fpacked or compressed whole or neither.
FITS_SUFFIXES = re.compile(r"\.(fits|fit|fts)(\.(fz|gz|bz2|xz))*$", re.IGNORECASE)


def split_name(name):
    """Split the name of a FITS file before its suffixes.

    Parameters
    ----------
    name : str

    Returns
    -------
    stem, suffixes : str

    Examples
    --------
    >>> split_name("night.1.fits.fz")
    ('night.1', '.fits.fz')
    >>> split_name("M31.FIT")
    ('M31', '.FIT')
    """
    found = FITS_SUFFIXES.search(name)
    start = found.start() if found and found.start() else len(Path(name).stem)
    return name[:start], name[start:]


def output_path(path, folder=None):
    """Return where the masked frame goes.

    In a folder it has the name of the input; beside the input it is marked by
    `SUFFIX` before the FITS suffixes.

    Parameters
    ----------
    path : path-like
        Of the input.
    folder : path-like, optional

    Returns
    -------
    `pathlib.Path`

    Examples
    --------
    >>> print(output_path("night/a.fit.gz"))
    night/a-crmask.fit.gz
    """
    path = Path(path)
    if folder is not None:
        return Path(folder) / path.name
    stem, suffixes = split_name(path.name)
    return path.with_name(f"{stem}{SUFFIX}{suffixes}")


def is_output(path):
    """Return whether a file has the name of an output beside its input, or of a file that is written beside that.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    bool

    Examples
    --------
    >>> is_output("a-crmask.fits.fz"), is_output("a-crmask-hits.fits"), is_output("a-hits.fits")
    (True, True, False)
    """
    return bool(_OUTPUT.search(split_name(Path(path).name)[0]))


def product_path(target, ending):
    """Return where a file beside a masked frame goes: the name of the frame with its FITS suffixes replaced.

    Parameters
    ----------
    target : path-like
        Of the masked frame.
    ending : str
        With the new suffix; of FITS files, one of `PRODUCTS` is in it, so that they are known as outputs.

    Returns
    -------
    `pathlib.Path`

    Examples
    --------
    >>> print(product_path("out/a-crmask.fits.fz", "-hits.fits"))
    out/a-crmask-hits.fits
    """
    return _beside(target, ending)


def preview_path(target):
    """Return where the PNG of a masked frame goes: the name of the frame with its FITS suffixes replaced.

    Parameters
    ----------
    target : path-like
        Of the masked frame.

    Returns
    -------
    `pathlib.Path`

    Examples
    --------
    >>> print(preview_path("out/a.FITS.fz"))
    out/a.png
    """
    return _beside(target, ".png")


def view_path(path):
    """Return where the page of a frame goes: the name of the frame with its FITS suffixes replaced.

    Parameters
    ----------
    path : path-like
        Of the frame.

    Returns
    -------
    `pathlib.Path`

    Examples
    --------
    >>> print(view_path("out/a.FITS.fz"))
    out/a.html
    """
    return _beside(path, ".html")


def _beside(path, suffix):
    path = Path(path)
    found = FITS_SUFFIXES.search(path.name)
    return path.with_name(f"{path.name[: found.start()] if found and found.start() else path.name}{suffix}")
