"""The errors a user is told about in one line."""


class CrattnError(Exception):
    """Something a user can act on; the message is one printable line that names the cause."""

    def __str__(self):
        return printable(super().__str__())


class FrameError(CrattnError):
    """A frame that cannot be read, masked or written."""


class ModelError(CrattnError):
    """A model that is unknown, damaged or not what its card says."""


class EngineError(CrattnError, ValueError):
    """An engine that is unknown or cannot run here."""


class CameraError(CrattnError):
    """A camera profile that cannot be read or does not keep to the format."""


def printable(text):
    """Escape the characters of a text that would break a line or control a terminal.

    Parameters
    ----------
    text : str or path-like
        Such as the name of a file, or a value from a header.

    Returns
    -------
    str
        Line feeds, escape sequences, undecodable bytes and the like as Python writes them.

    Examples
    --------
    >>> print(printable("two\\nlines"))
    two\\nlines
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
