"""The errors a user is told about in one line, and how text of unknown origin is shown."""

import logging


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
    r"""Return a text that is safe on terminals and in logs: control characters as escapes.

    Parameters
    ----------
    text : object
        Shown as its `str`.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> from crattn_stage.errors import printable
    >>> printable("frame\x1b[31m.fits")
    'frame\\x1b[31m.fits'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def one_line(error):
    """Return the message of an exception in one printable line of at most 300 characters.

    Parameters
    ----------
    error : BaseException
        Of one of SQLAlchemy, the driver's own message is taken.

    Returns
    -------
    str
        The name of its type where it has no message.
    """
    error = getattr(error, "orig", None) or error
    return printable(" ".join(str(error).split())[:300]) or type(error).__name__


class PrintableFormatter(logging.Formatter):
    """Format log records without control characters, which names of files and headers may hold.

    Parameters
    ----------
    formatter : `logging.Formatter`
        What formats them otherwise.
    """

    def __init__(self, formatter):
        super().__init__()
        self._formatter = formatter

    def format(self, record):
        """Return a record as text; only the lines of a traceback are separate.

        Parameters
        ----------
        record : `logging.LogRecord`

        Returns
        -------
        str
        """
        return "\n".join(printable(line) for line in self._formatter.format(record).split("\n"))
