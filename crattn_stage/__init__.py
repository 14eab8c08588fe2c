"""Cosmic-ray masks for astronomical CCD frames, by attention U-Nets.

The names a notebook needs are here; importing them costs nothing until they are used.
"""

__version__ = "0.1.0"

__all__ = ["detect_cosmics", "load_model"]


def __getattr__(name):
    # Lazy, so that `crattn-stage --help` imports neither torch nor astropy.
    if name == "load_detector":
        import warnings

        warnings.warn("load_detector is now load_model", DeprecationWarning, stacklevel=2)
        name = "load_model"
    if name in __all__:
        from crattn_stage import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
