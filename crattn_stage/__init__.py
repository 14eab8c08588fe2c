"""Cosmic-ray masks for astronomical CCD frames, by attention U-Nets.

`load_model`, `detect_cosmics` and `clean_cosmics` are what a notebook needs:

>>> import numpy as np
>>> from crattn_stage import detect_cosmics
>>> image = np.random.default_rng(0).normal(300, 8, (64, 64))
>>> image[30, 20:32] += 900
>>> mask = detect_cosmics(image, engine="openvino")
>>> bool(mask[30, 20:32].all())
True

The command ``crattn-stage`` masks files.  Importing this package imports nothing else.
"""

__version__ = "0.1.0"

__all__ = ["clean_cosmics", "cosmicray_attention", "detect_cosmics", "load_model"]


def __getattr__(name):
    # Lazily, so that `crattn-stage --help` imports neither torch nor astropy.
    if name == "load_detector":
        import warnings

        warnings.warn("load_detector is now load_model", DeprecationWarning, stacklevel=2)
        name = "load_model"
    if name in __all__:
        from crattn_stage import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
