"""DECam exposures as BANZAI's frames: one CCDData for each amplifier."""

import re

import numpy as np
from astropy.io import fits
from banzai.data import CCDData, HeaderOnly
from banzai.lco import LCOFrameFactory, LCOObservationFrame
from banzai.utils import fits_utils, image_utils

from crattn_stage.cameras import facts
from crattn_stage.cameras.matching import match
from crattn_stage.cameras.profile import find_profile
from crattn_stage.cameras.sections import Section
from crattn_stage.errors import FrameError

#: Where BANZAI's database is to know the camera.
SITE = "ctio"
#: What the converter can give, for a header without a saturation level.
TOP = 65535.0
#: Keywords with the letter of the amplifier behind them -> BANZAI's, without.
PER_AMPLIFIER = {"GAIN": "GAIN", "RDNOISE": "RDNOISE", "SATURAT": "SATURATE"}


class DECamFrame(LCOObservationFrame):
    """A DECam exposure, or what BANZAI made of one."""

    def get_output_filename(self, runtime_context):
        """Return the name of the reduced file: with ``-e91`` before ``.fits``, which DECam's own names lack.

        Parameters
        ----------
        runtime_context : `banzai.context.Context`

        Returns
        -------
        str
        """
        name = super().get_output_filename(runtime_context)
        if re.search(r"-e\d\d\.fits", name):
            return name
        return name.replace(".fits", f"-e{int(runtime_context.reduction_level):02d}.fits", 1)


class DECamFrameFactory(LCOFrameFactory):
    """Opens raw DECam files, and those that BANZAI wrote of them.

    Focus and alignment chips are left out.
    """

    @property
    def observation_frame_class(self):
        """Class of the frames."""
        return DECamFrame

    def open(self, file_info, runtime_context):
        """Open a file.

        Parameters
        ----------
        file_info : dict
            Its ``path``, or what else BANZAI's queues say of a file.
        runtime_context : `banzai.context.Context`

        Returns
        -------
        `DECamFrame` or None
            None where the camera is not in BANZAI's database, or frames of
            that type are not to be processed.

        Raises
        ------
        FrameError
            If a section is malformed or lies outside its image.
        """
        hdus, filename, frame_id = fits_utils.open_fits_file(file_info, runtime_context)
        primary = hdus.pop(0).header
        _complete(primary)
        parts = [HeaderOnly(primary, name="")]
        planes = {hdu.name: hdu.data for hdu in hdus if re.search("(BPM|ERR)$", hdu.name)}
        while hdus:
            # One CCD after the other goes to temporary files and out of memory.
            hdu = hdus.pop(0)
            is_image = hdu.is_image and hdu.data is not None and hdu.name not in planes
            if is_image and _is_detector(hdu):
                parts += _amplifiers(hdu, planes)
        frame = self.observation_frame_class(parts, filename, frame_id=frame_id)
        frame.instrument = self.get_instrument_from_header(primary, runtime_context.db_address)
        usable = frame.instrument is not None and image_utils.image_can_be_processed(frame, runtime_context)
        return frame if usable else None


def _is_detector(hdu):
    """Whether an image is of a science detector, not of a focus chip, and no mask or weight."""
    for block in find_profile("decam").hdus:
        table = {key: value for key, value in block.items() if key != "role"}
        if match(table, [hdu.header]) is not None:
            return block["role"] == "science"
    return True


def _complete(header):
    """Fill in what BANZAI asks of a primary header."""
    profile = find_profile("decam")
    is_standard = facts.observation_type(header, profile).upper() == "STANDARD"
    header["OBSTYPE"] = facts.calibration_type([header], profile).upper() or ("STANDARD" if is_standard else "EXPOSE")
    header.setdefault("SITEID", SITE)
    header.setdefault("PROPID", "unknown")
    header.setdefault("CCDSUM", "1 1")
    header["DAY-OBS"] = facts.night(header, profile)


def _amplifiers(hdu, planes):
    header = hdu.header
    # A file that BANZAI wrote has one amplifier in an extension, by the usual keywords.
    letters = [letter for letter in "AB" if Section.parse(header.get(f"DATASEC{letter}"))] or [""]
    for letter in letters:
        sections = {name: Section.parse(header.get(f"{name}{letter}")) for name in ("DATASEC", "BIASSEC")}
        window = (slice(0, hdu.data.shape[0]), slice(0, hdu.data.shape[1]))
        if letter:
            for name, section in sections.items():
                if section and not section.lies_within(hdu.data.shape):
                    raise FrameError(f"{hdu.name}: section {name}{letter} = {section} lies outside the image")
            corners = [section.slices for section in sections.values() if section]
            window = tuple(slice(min(s[i].start for s in corners), max(s[i].stop for s in corners)) for i in (0, 1))
        name = f"{hdu.name}{letter}"
        meta = fits_utils.sanitize_header(header)
        for keyword, plain in PER_AMPLIFIER.items():
            value = header.get(f"{keyword}{letter}", header.get(plain))
            if value is not None:
                meta[plain] = float(value)
        meta.update(EXTNAME=name, CCDSUM=header.get("CCDSUM", "1 1"))
        for keyword, value in (("GAIN", 1.0), ("SATURATE", TOP), ("CCDNUM", hdu.name)):
            meta.setdefault(keyword, value)
        meta["MAXLIN"] = meta["SATURATE"]
        if letter:
            meta["DETSEC"] = header.get(f"DETSEC{letter}", str(sections["DATASEC"]))
            for section_name, section in sections.items():
                if section:
                    meta[section_name] = str(_shifted(section, window))
            for keyword in [k for k in meta if re.fullmatch(r"(\w+SEC|GAIN|RDNOISE|SATURAT)[AB]", k)]:
                del meta[keyword]
        yield CCDData(
            np.ascontiguousarray(hdu.data[window], np.float32),
            fits.Header(meta),
            name=name,
            mask=planes.get(f"{name}BPM"),
            uncertainty=planes.get(f"{name}ERR"),
        )


def _shifted(section, window):
    """Return a section in the pixels of a window."""
    rows, columns = window
    return Section(
        tuple(x - columns.start for x in section.columns),
        tuple(y - rows.start for y in section.rows),
    )
