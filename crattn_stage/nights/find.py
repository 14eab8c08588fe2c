"""The frames of a night: where they lie, and which night they are of."""

import logging
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tqdm import tqdm

from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import OpenFrame
from crattn_stage.fits.names import FITS_SUFFIXES, is_output

logger = logging.getLogger(__name__)


@dataclass
class FrameInfo:
    """A frame that was found.

    Attributes
    ----------
    path : `pathlib.Path`
        Absolute.
    night : str or None
        YYYYMMDD, as `crattn_stage.cameras.facts.night` has it.
    ut_date : str
        YYYYMMDD of ``DATE-OBS``; "" where it is missing.
    instrument : str
        The camera family.
    camera, site : str or None
        As `crattn_stage.cameras.facts.Exposure`.
    observation_type : str
    calibration_type : str
        As `crattn_stage.cameras.facts.calibration_type`.
    exposure_time : float or None
        Second.
    megapixels : float
    error : str
        Why it cannot be read; "" if it can.
    """

    path: Path
    night: str | None = None
    ut_date: str = ""
    instrument: str = ""
    camera: str | None = None
    site: str | None = None
    observation_type: str = ""
    calibration_type: str = ""
    exposure_time: float | None = None
    megapixels: float = 0.0
    error: str = ""


def read_frame_info(path):
    """Read the headers of a frame.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    `FrameInfo`
    """
    path = Path(os.path.abspath(path))
    try:
        with OpenFrame(path, look=False) as frame:
            exposure, refusal = frame.layout.exposure, frame.layout.refusal
            pixels = sum(extension.shape[0] * extension.shape[1] for extension in frame.layout.extensions)
            return FrameInfo(path, **vars(exposure), megapixels=pixels / 1e6, error=refusal)
    except FrameError as error:
        return FrameInfo(path, error=str(error))
    except Exception as error:
        # A defect of ours must not cost the night.
        return FrameInfo(path, error=f"{type(error).__name__}: {error}")


def find_frames(root, date, site="*", instrument="*", pattern=None, leave=None):
    """Find the frames of a night.

    Parameters
    ----------
    root : path-like
        Of the data, laid out ``site/instrument/night/processed`` as BANZAI does.
    date : str
        The night, YYYYMMDD.
    site, instrument : str
        Names of folders, or shell patterns of them.  With `pattern`, the
        instrument is that of the header.
    pattern : str, optional
        A shell pattern of files below the root (``**`` crosses folders) instead of that layout.
    leave : path-like, optional
        A folder that is left out: that of the output.

    Returns
    -------
    frames : list of `FrameInfo`
        Of that night, by path; with those that cannot be read, unless their
        path names another night.
    mentioned : list of `FrameInfo`
        Of that UT date, or in that night's folder, but of another night.
    """
    root = Path(os.path.abspath(root))
    if pattern is None:
        day = datetime.strptime(date, "%Y%m%d")
        # A frame of this UT date may lie in a neighbour's folder.
        nights = [(day + timedelta(days=days)).strftime("%Y%m%d") for days in (-1, 0, 1)]
        paths = [p for n in nights for p in root.glob(f"{site}/{instrument}/{n}/processed/*")]
    else:
        paths = root.glob(pattern)
    paths = sorted(p for p in paths if FITS_SUFFIXES.search(p.name) and p.is_file() and not is_output(p))
    if leave is not None:
        paths = [path for path in paths if not path.is_relative_to(os.path.abspath(leave))]
    frames, mentioned = [], []
    for path in tqdm(paths, "reading headers", unit="frame", disable=None, leave=False):
        if not os.fspath(path).isprintable():
            # No database would take it.
            logger.warning("%r: left out for the characters in its name", os.fspath(path))
            continue
        frame = read_frame_info(path)
        dates = re.findall(r"(?<!\d)20\d{6}(?!\d)", str(path.relative_to(root)))
        if pattern is not None and not frame.error and not _matches(instrument, frame):
            continue
        if frame.night == date or (frame.night is None and (date in dates or not dates)):
            frames.append(frame)
        elif frame.ut_date == date or date in path.relative_to(root).parts:
            mentioned.append(frame)
    return frames, mentioned


def _matches(instrument, frame):
    return instrument == "*" or instrument.lower() in (frame.instrument, (frame.camera or "").lower())
