"""Headers of many frames, read in processes that a hostile file may hang, crash or fill.

Nothing is unpacked: of a file packed by gzip, bzip2 or xz only the first headers are read.
"""

import io
import lzma
import multiprocessing
import os
import resource
import time
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from multiprocessing.connection import wait
from pathlib import Path

from astropy.io import fits

from crattn_stage.cameras import layout
from crattn_stage.cameras.facts import read_exposure
from crattn_stage.errors import FrameError, one_line
from crattn_stage.fits.frame import OpenFrame
from crattn_stage.fits.header import readable
from crattn_stage.fits.source import decompressor, open_regular
from crattn_stage.processors import available_cpus
from crattn_stage.records import frame_columns

#: Seconds that the headers of one frame may take, and bytes of memory.
SECONDS, MEMORY = 60.0, 2 << 30
#: Bytes of a packed file that are looked at for headers.
_HEAD = 4 << 20


@dataclass
class FrameInfo:
    """A frame that was found.

    Attributes
    ----------
    path : `pathlib.Path`
        Absolute.
    columns : dict
        Of `calibration_dbs.tables.Frame`, as `crattn_stage.records.frame_columns`
        has them; empty where the header could not be read.
    ut_date : str
        YYYYMMDD of ``DATE-OBS``; "" where it is missing.
    calibration_type : str
        As `crattn_stage.cameras.facts.calibration_type`.
    is_arc : bool
        As `crattn_stage.cameras.facts.is_arc`.
    ccds : int
        Images to be masked; 1 for a file packed by gzip, bzip2 or xz, which is not read that far.
    megapixels : float
        Of a packed file, those of its first image.
    inputs : list of `pathlib.Path`
        The frame and its companion mask file, where it has one.
    error : str
        Why the frame cannot be read; "" if it can.
    threshold : float or None
        That the camera's profile sets; None where it sets none.
    model : str or None
        Likewise.
    mask_settings : dict
        Likewise, `crattn_stage.cameras.profile.Profile.mask_settings`.
    is_hostile : bool
        Its headers hung or crashed their reader or took too much memory; it is not opened again.
    """

    path: Path
    columns: dict = field(default_factory=dict)
    ut_date: str = ""
    calibration_type: str = ""
    is_arc: bool = False
    ccds: int = 0
    megapixels: float = 0.0
    inputs: list = field(default_factory=list)
    error: str = ""
    threshold: float | None = None
    model: str | None = None
    mask_settings: dict = field(default_factory=dict)
    is_hostile: bool = False

    @property
    def night(self):
        """YYYYMMDD, as the header or else the database or the folder says; None where none does."""
        return self.columns.get("night")


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
        with open_regular(path) as descriptor:
            opener = decompressor(descriptor)
            if opener is not None:
                return _packed_info(opener, descriptor, path)
        with OpenFrame(path, look=False) as frame:
            found = frame.layout
            shapes = [extension.shape for extension in found.extensions]
            if found.exposure.is_arc:
                shapes = [plane.hdu.shape for plane in found.planes if plane.role in ("science", "undecided")]
            return _info(path, found.profile, found.exposure, shapes, frame.inputs, found.refusal)
    except FrameError as error:
        return FrameInfo(path, error=one_line(error))
    except OSError as error:
        return FrameInfo(path, error=one_line(error.strerror or error))
    except MemoryError:
        return FrameInfo(path, error="its headers take too much memory", is_hostile=True)
    except Exception as error:
        # Log unexpected errors as the frame's own and continue with the next one.
        return FrameInfo(path, error=f"{type(error).__name__}: {one_line(error)}")


def _info(path, profile, exposure, shapes, inputs, error=""):
    return FrameInfo(
        path,
        frame_columns(exposure),
        exposure.ut_date,
        exposure.calibration_type,
        exposure.is_arc,
        len(shapes),
        sum(map(prod, shapes)) / 1e6,
        inputs,
        error,
        profile.settings.get("threshold"),
        profile.model,
        profile.mask_settings,
    )


def _packed_info(opener, descriptor, path):
    """Return what the primary header of a packed file says, and that of the image behind it if the first has none."""
    try:
        with open(descriptor, "rb", closefd=False) as file, opener(file) as packed:
            stream = io.BytesIO(packed.read(_HEAD))
    except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
        raise FrameError(f"truncated or damaged: {one_line(getattr(error, 'strerror', None) or error)}") from error
    hdus = []
    try:
        while not hdus or (len(hdus) == 1 and not hdus[0].shape):
            header = readable(fits.Header.fromfile(stream))
            hdus.append(
                layout.Hdu(len(hdus), header, header.get("EXTNAME", ""), header.get("EXTVER", 1), _shape(header))
            )
    except (OSError, EOFError, ValueError, TypeError, fits.VerifyError) as error:
        if not hdus:
            raise FrameError(f"not a FITS file: {one_line(error)}") from error
    profile, _ = layout.identify(hdus, path.name)
    names = layout.companion_name(profile, path.name, hdus[0].header)
    companion = next((path.with_name(name) for name in names if os.path.lexists(path.with_name(name))), None)
    header = hdus[0].header.copy()
    for hdu in hdus[1:]:
        header = layout.with_behind(header, hdu.header)
    exposure = read_exposure(header, profile, [hdu.header for hdu in hdus], path.name, [hdu.name for hdu in hdus])
    return _info(path, profile, exposure, [hdus[-1].shape or (0,)], [path, *([companion] if companion else [])])


def _shape(header):
    sides = [header.get(f"{z}NAXIS{axis}", 0) for z in ("Z", "") for axis in (2, 1)]
    sides = sides[:2] if all(sides[:2]) else sides[2:]
    return tuple(sides) if all(isinstance(side, int) and side > 0 for side in sides) else ()


def read_headers(paths, seconds=SECONDS, memory=MEMORY, processes=None):
    """Read the headers of many frames, each in a process that may fail without harm to the others.

    Parameters
    ----------
    paths : list of path-like
    seconds : float
        That one frame may take.
    memory : int
        Bytes that a reader may take beside what it takes from the beginning.
    processes : int, optional
        One per CPU, and no more than are of use, by default.

    Yields
    ------
    `FrameInfo`
        Of each frame, as they come.
    """
    count = processes or min(available_cpus(), 1 + len(paths) // 16)
    waiting, readers = deque(paths), [_Reader(memory) for _ in range(min(count, len(paths)))]
    try:
        while waiting or any(reader.path for reader in readers):
            for reader in readers:
                if waiting and reader.is_ready:
                    reader.send(waiting.popleft(), seconds)
            first = min((reader.deadline for reader in readers if reader.path), default=time.monotonic() + seconds)
            ready = wait([reader.pipe for reader in readers], max(0.0, first - time.monotonic()))
            for position, reader in enumerate(readers):
                if reader.pipe in ready:
                    info = reader.receive()
                    if info is not None:
                        yield info
                elif reader.path and time.monotonic() > reader.deadline:
                    yield reader.give_up(f"its headers took longer than {seconds:g} s to read")
                if reader.is_gone:
                    reader.close()
                    readers[position] = _Reader(memory)
    finally:
        for reader in readers:
            reader.close()


class _Reader:
    """A process that reads the headers of one file at a time."""

    def __init__(self, memory):
        context = multiprocessing.get_context("forkserver")
        # The server imports once what each reader needs.
        context.set_forkserver_preload(["crattn_stage.nights.headers"])
        # Python takes no module from the working directory, which may be a folder of data.
        os.environ["PYTHONSAFEPATH"] = "1"
        self.pipe, theirs = context.Pipe()
        self.path, self.deadline, self.is_ready, self.is_gone = None, None, False, False
        self._process = context.Process(target=_serve, args=(theirs, memory, dict(os.environ)), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, path, seconds):
        self.path, self.deadline, self.is_ready = path, time.monotonic() + seconds, False
        # One that dies now is seen when it is listened to.
        with suppress(OSError):
            self.pipe.send(os.path.abspath(path))

    def receive(self):
        """Return what it has read; None if it says that it is up."""
        try:
            info = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            if self.path is None:
                raise RuntimeError(f"a reader of headers ended with {self._process.exitcode}") from None
            return self.give_up(f"its headers crashed their reader (exit status {self._process.exitcode})")
        self.path, self.is_ready = None, True
        return info

    def give_up(self, why):
        self.is_gone, path, self.path = True, self.path, None
        return FrameInfo(Path(os.path.abspath(path)), error=why, is_hostile=True)

    def close(self):
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe, memory, environment):
    """Read headers until the other end of the pipe is closed."""
    # The server of these processes may be older than what the environment says of cameras.
    os.environ.clear()
    os.environ.update(environment)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with suppress(OSError, ValueError):
        # Nothing is unpacked on disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (_HEAD, _HEAD))
    with suppress(EOFError, OSError, KeyboardInterrupt):
        pipe.send(None)
        while True:
            pipe.send(read_frame_info(pipe.recv()))
