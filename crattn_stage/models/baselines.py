"""Baselines: methods without weights that run in place of a network, by name."""

import hashlib
import json
from importlib import metadata

from crattn_stage.errors import ModelError

#: Name -> its settings.
BASELINES = {
    # Astro-SCRAPPY (McCully et al.), L.A.Cosmic of van Dokkum (2001): its customary settings, and a mask grown 3x3.
    "astroscrappy": {"sigclip": 5.0, "sigfrac": 0.3, "objlim": 5.0, "niter": 4, "sepmed": True, "grow": 3},
}


def identity(name):
    """Return the version and the sha256 that stand for a baseline in provenance.

    Parameters
    ----------
    name : str
        One of `BASELINES`.

    Returns
    -------
    version : str
        Of the package that runs it.
    sha256 : str
        Of name, version and settings, hexadecimal.

    Raises
    ------
    ModelError
        If the package is not installed.
    """
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise ModelError(f"baseline {name!r}: the package {name} is not installed") from error
    text = json.dumps({"name": name, "version": version, "settings": BASELINES[name]}, sort_keys=True)
    return version, hashlib.sha256(text.encode()).hexdigest()
