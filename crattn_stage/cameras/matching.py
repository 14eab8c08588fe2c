"""Match tables: cards and the regular expressions that their values must match."""

import re
from functools import lru_cache

#: Cards that say what a frame is of, whatever the camera; in FRAME some cameras write the time.
TYPES = ("OBSTYPE", "IMAGETYP", "IMGTYPE", "EXPTYPE", "DATA-TYP", "OBS-TYPE", "FRAME")
_TIME = re.compile(r"\d{4}-\d\d-\d\d.*")


@lru_cache(None)
def _compiled(pattern):
    return re.compile(pattern, re.IGNORECASE)


def text_of(value):
    """Return a header value as the text that patterns are matched against.

    Parameters
    ----------
    value : object
        As astropy reads it.

    Returns
    -------
    str or None
        Stripped; ``"T"`` or ``"F"`` for a logical; None for a card without a value.
    """
    if value is None or type(value).__name__ == "Undefined":
        return None
    if isinstance(value, bool):
        return "T" if value else "F"
    return " ".join(str(value).split())


def first_value(headers, card):
    """Return the value of a card in the first of several headers that has it.

    Parameters
    ----------
    headers : iterable of `astropy.io.fits.Header`
    card : str
        Its keyword; hierarchical ones without HIERARCH.

    Returns
    -------
    str or None
        As `text_of`.
    """
    for header in headers:
        text = text_of(header.get(card))
        if text is not None:
            return text
    return None


def match(table, headers, filename="", names=(), index=None, types=()):
    """Match a table against headers.

    Parameters
    ----------
    table : dict
        Card -> regular expression for its whole value, ignoring case, or False where the card must be absent.
        ``EXTNAMES`` is a list of expressions, each for some EXTNAME of the file; ``FILENAME`` is searched in the
        name of the file; ``HDU`` is an index or a list of them; ``TYPE`` is matched against each card in `types`, or is
        False where none of `TYPES` may say what the frame is of.
    headers : list of `astropy.io.fits.Header`
        Searched in this order for a card; the first that has it counts.
    filename : str
    names : iterable of str
        The EXTNAMEs of the file.
    index : int, optional
        Of the HDU that is asked about.
    types : iterable of str
        The cards that say what a frame is of.

    Returns
    -------
    dict or None
        The values that matched, for messages; None without a match.
    """
    found = {}
    for key, pattern in table.items():
        if key == "EXTNAMES":
            if not all(any(_compiled(one).fullmatch(name) for name in names) for one in pattern):
                return None
        elif key == "FILENAME":
            if not _compiled(pattern).search(filename):
                return None
            found[key] = filename
        elif key == "HDU":
            if index not in (pattern if isinstance(pattern, list) else [pattern]):
                return None
        elif key == "TYPE" and pattern is False:
            values = [first_value(headers, card) for card in TYPES]
            if any(value is not None and not _TIME.fullmatch(value) for value in values):
                return None
        elif key == "TYPE":
            values = [first_value(headers, card) for card in types]
            value = next((v for v in values if v is not None and _compiled(pattern).fullmatch(v)), None)
            if value is None:
                return None
            found[key] = value
        else:
            value = first_value(headers, key)
            if pattern is False:
                if value is not None:
                    return None
            elif value is None or not _compiled(pattern).fullmatch(value):
                return None
            found[key] = value
    return found


def filled(text, values, headers=()):
    """Fill ``{CARD}`` in a text of a profile.

    Parameters
    ----------
    text : str
    values : dict
        From `match`.
    headers : list of `astropy.io.fits.Header`
        For cards that were not matched.

    Returns
    -------
    str
    """
    return re.sub(r"\{([^}]+)\}", lambda m: values.get(m[1]) or first_value(headers, m[1]) or "", text).strip()
