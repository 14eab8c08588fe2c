"""Images and spectra are told apart by what headers say, above all where they have DISPAXIS."""

import pytest
from astropy.io import fits

from crattn_stage.cameras.dispersion import dispersion
from crattn_stage.cameras.profile import recognise


def told(**cards):
    header = fits.Header({name.replace("__", "-"): value for name, value in cards.items()})
    return dispersion([header], recognise([header])[0])


@pytest.mark.parametrize(
    "cards",
    [
        # Put there by hand for IRAF, or by a spectrograph: with its disperser, mode, or slit.
        {"DISPAXIS": 1, "GRISM": "Old_Med_Red", "APERTURE": "1347_11a", "INSTRUME": "LDSS3-Two", "EXPTYPE": "Object"},
        {"DISPAXIS": 1, "DISPERSR": "Gri-300-17.5", "SLITMASK": "n2000", "INSTRUME": "IMACS Long-Camera"},
        {"DISPAXIS": 2, "OBS__MOD": "GRISM", "INSTRUME": "IRCS", "FILTER02": "60mas_midJHK"},
        {"DISPAXIS": 2, "OBS__MOD": "SPEC", "DISPERSR": "SCFCGRMB01", "SLIT": "SCFCSLLC08", "INSTRUME": "FOCAS"},
        {"DISPAXIS": 1, "DISPERSE": "300GPM", "IMAGETYP": "object"},
        {"DISPAXIS": 1, "GRATING": "KPC-10A", "FILTER": "GG-385"},
        {"DISPAXIS": 2.0, "GRISM": "Grism no. 4"},
        {"DISPAXIS": 1, "GRATING": 600},
        {"DISPAXIS": 1, "GRISM": "4 Grism 7", "SLIT": "2 Free"},
        {"DISPAXIS": 1, "OBSTYPE": "longslit"},
        {"DISPAXIS": 1, "SLIT": "1.5 arcsec"},
        {"DISPAXIS": 2, "EXP_TYPE": "NRC_WFSS", "TELESCOP": "JWST", "INSTRUME": "NIRCAM"},
        # Two words without the card are enough.
        {"OBS__MOD": "SPEC", "DISPERSR": "VPH850", "INSTRUME": "NEWSPEC"},
        {"OBSMODE": "spectroscopy"},
        {"INSTRUME": "MIKE-Blue"},
    ],
)
def test_spectra(cards):
    found = told(**cards)
    assert found.is_spectrum and not found.note and not found.refusal


@pytest.mark.parametrize(
    "cards",
    [
        {"DISPAXIS": 1, "GRISM": "Open", "FILTER": "VR", "INSTRUME": "LDSS3-Two", "EXPTYPE": "Object"},
        # For alignment through the mask.
        {"DISPAXIS": 1, "GRISM": "Open", "SLIT": "1347_11a", "INSTRUME": "LDSS3-Two"},
        {"DISPAXIS": 1, "DISPERSR": "Imaging", "INSTRUME": "IMACS Short-Camera", "FILTER": "WB4800-7800"},
        {"DISPAXIS": 2, "OBS__MOD": "IMAG", "DISPERSR": "NONE", "SLIT": "NONE", "INSTRUME": "FOCAS"},
        {"DISPAXIS": 1, "GRATING": "mirror"},
        {"DISPAXIS": 1, "GRATING": "<NO GRATING>"},
        {"DISPAXIS": 1, "GRISM": "1 Free", "FILTER": "R"},
        {"DISPAXIS": 1, "GRM_ID": "OPEN SLOT"},
        {"DISPAXIS": 1, "OBSTYPE": "ACQUISITION", "SLIT": "1.0"},
        {"DISPAXIS": 1, "OBSTYPE": "MOS acquisition"},
        {"DISPAXIS": 1, "OBSMODE": "IMAGING", "FILTER": "r"},
        {"DISPAXIS": 1, "ACAMMODE": "IMAGING", "ACAMDISP": "NONE"},
        {"DISPAXIS": 1, "SLIT": "open"},
        # There is no such axis.
        {"DISPAXIS": 0, "FILTER": "R"},
        {"DISPAXIS": "NONE"},
        {"DISPAXIS": 0, "EXP_TYPE": "NRC_IMAGE", "TELESCOP": "JWST"},
        # A camera that says nothing of dispersion.
        {"FILTER": "r", "OBSTYPE": "OBJECT"},
        {"GRATING": "empty_1", "FILTER": "SDSSr"},
    ],
)
def test_images(cards):
    found = told(**cards)
    assert not found.is_spectrum and not found.note and not found.refusal


@pytest.mark.parametrize(
    ("cards", "is_spectrum", "note"),
    [
        ({"DISPAXIS": 1, "FILTER": "R"}, True, "taken for a spectrum by DISPAXIS = 1 alone"),
        # What is called IMAGE, or says nothing, tells nothing.
        ({"DISPAXIS": 1, "IMAGETYP": "IMAGE", "GRISM": "unknown"}, True, "taken for a spectrum by DISPAXIS = 1 alone"),
        ({"DISPAXIS": 0, "GRISM": "Grism 7"}, False, "masked as an image, although GRISM = Grism 7"),
        ({"DISPERSR": "b2k kb2k"}, False, "masked as an image, although DISPERSR = b2k kb2k"),
        ({"OBS__MOD": "SPEC"}, False, "masked as an image, although OBS-MOD = SPEC"),
        ({"DISPAXIS": "X"}, False, "DISPAXIS = X is not understood"),
    ],
)
def test_what_is_not_plain_is_said(cards, is_spectrum, note):
    found = told(**cards)
    assert found.is_spectrum == is_spectrum and not found.refusal
    assert found.note.startswith(note) and "[[image]] or [[spectrum]] in a camera profile settles it" in found.note


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"OBSTYPE": "ACQUISITION", "GRATING": "600/4310"}, "OBSTYPE = ACQUISITION, GRATING = 600/4310"),
        ({"OBS__MOD": "SPEC", "DISPERSR": "NONE"}, "OBS-MOD = SPEC, DISPERSR = NONE"),
        ({"OBS__MOD": "imaging", "OBSTYPE": "longslit"}, "OBS-MOD = imaging, OBSTYPE = longslit"),
    ],
)
def test_words_that_contradict_each_other_are_refused(cards, said):
    found = told(DISPAXIS=1, **cards)
    assert found.refusal.startswith(f"an image or a spectrum? DISPAXIS = 1, {said}; [[image]]")
    assert "\n" not in found.refusal


def test_a_profile_settles_it_and_the_frame_says_what_it_was_taken_for(tmp_path, monkeypatch):
    import numpy as np

    from crattn_stage.errors import FrameError
    from crattn_stage.fits.frame import ObservationFrame
    from crattn_stage.products.description import describe

    def write(**cards):
        header = fits.Header({"INSTRUME": "TwoFaced", "DISPAXIS": 1, **cards})
        pixels = np.random.default_rng(1).normal(300, 8, (64, 64)).astype(np.float32)
        fits.writeto(tmp_path / "f.fits", pixels, header, overwrite=True)
        return tmp_path / "f.fits"

    with ObservationFrame(write()) as frame:
        assert frame.exposure.is_spectrum and frame.notes[0].startswith("taken for a spectrum by DISPAXIS")
    path = write(OBSTYPE="ACQUIRE", GRATING="600")
    with pytest.raises(FrameError, match=r"an image or a spectrum\?"):
        ObservationFrame(path)
    assert describe(path)["verdict"] == "refuse"
    (tmp_path / "cameras").mkdir()
    monkeypatch.setenv("CRATTN_CAMERAS", str(tmp_path / "cameras"))
    profile = tmp_path / "cameras" / "twofaced.toml"
    profile.write_text(
        '[[recognise]]\nINSTRUME = "TwoFaced"\n[[image]]\nOBSTYPE = "ACQ.*"\n[[spectrum]]\nINSTRUME = ".*"\n'
        '[keywords]\ndisperser = ["WHEEL9"]\n'
    )
    for kind, is_spectrum in (("ACQUIRE", False), ("object", True)):
        with ObservationFrame(write(OBSTYPE=kind, GRATING="600")) as frame:
            assert frame.exposure.is_spectrum == is_spectrum and not frame.notes
    profile.write_text('[[recognise]]\nINSTRUME = "TwoFaced"\n[keywords]\ndisperser = ["WHEEL9"]\n')
    with ObservationFrame(write(WHEEL9="open")) as frame:
        assert not frame.exposure.is_spectrum and not frame.notes
