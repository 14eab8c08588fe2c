"""Cosmic-ray masks for astronomical CCD frames, by attention U-Nets.

The two names a notebook needs are here; importing them costs nothing until
they are called.
"""

__version__ = "0.1.0"

__all__ = ["detect_cosmics", "load_detector"]


def __getattr__(name):
    # Lazy, so that `crattn-stage --help` imports neither torch nor astropy.
    if name in __all__:
        from crattn_stage import detector

        return getattr(detector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
