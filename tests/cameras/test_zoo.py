"""The zoo of real and built frames of many cameras: every one is right, or rightly left alone.

Expectations are written from the formats' documentation and the readers of their pipelines, named with each.
"""

import numpy as np
import pytest
from archives.masked import run_and_check

from crattn_stage.fits.frame import OpenFrame
from crattn_stage.stage import AttentionCRStage, RuntimeContext


def masked(profile, science, mask=None, cosmic_ray=8, bad=None, dark=()):
    """A frame that is masked: HDUs, (file, HDU) of mask planes, the cosmic-ray bit or code, bad values, borders."""
    return {"profile": profile, "science": science, "mask": mask or {}, "cosmic_ray": cosmic_ray, "bad": bad,
            "dark": dark, "left": None}  # fmt: skip


def left(profile, why):
    """A frame that is skipped or refused with these words."""
    return {"profile": profile, "left": why}


def _in_companion(*indices):
    return {index: ("companion", index) for index in indices}


EXPECTED = {
    # afw MaskedImageFitsWriter: image, mask, variance by EXTTYPE; MP_ cards name the bits, MP_CR = 3.
    "lsst_maskedimage.fits": masked("lsst-exposure", [1], {1: ("frame", 2)}, 8, [1, 2]),
    # kbmod layered_image.cpp: science, mask (float), variance; meanings of its flags are in no file: all of them bad.
    "kbmod_demo.fits": masked("kbmod-layered", [1], cosmic_ray=1),
    # NOIRLab Community Pipeline, data quality mask since V3.5: one code a pixel, 1 bad, 3 saturated, 5 cosmic ray.
    "k4m_151214_021723_oki_zd_v0-ccd2.fits": masked("noirlab-cp", [1], _in_companion(1), 5, [1, 3]),
    "k4m_151214_021723_ood_zd_v0-ccd2.fits": left("noirlab-cp", "mask"),
    "ksb_170430_055945_ooi_r_ls9.CCD4.fits": masked("noirlab-cp", [1], _in_companion(1), 5, [1, 3]),
    "ksb_170430_055945_ood_r_ls9.CCD4.fits": left("noirlab-cp", "mask"),
    "ksb_170430_055945_oow_r_ls9.CCD4.fits": left("noirlab-cp", "weight"),
    # BASS: trimmed, with DATASEC of the raw amplifiers; its weight lies beside it.
    "bok_deep2g-ccd1.fits": masked("bass-90prime", [1]),
    "bok_deep2g-ccd1.wht.fits": left("bass-90prime", "weight"),
    # ESO: DPR CATG CALIB, DPR TYPE SKY,FLAT.
    "efosc_flat.fits": left("efosc2", "flat"),
    # CFHT header documentation: DATASEC [33:416,...], OBSTYPE MASK.
    "megacam_object.fits": masked("cfht-megacam-plain", [1, 2], dark=[np.s_[:, :32], np.s_[:, 416:]]),
    "megacam_mask.fits": left("cfht-megacam-plain", "mask"),
    # ZTF supplement: 16 noisy, 128 pixel spike (possible radiation hit), 256 saturated, 512 dead.
    "ztf_20200531200000_000535_zr_c05_o_q1_sciimg.fits": masked(
        "ztf", [0], {0: ("companion", 0)}, 128, [4, 16, 256, 512]
    ),
    "ztf_20200531200000_000535_zr_c05_o_q1_mskimg.fits": left("ztf", "mask"),
    # Good or bad, whatever the value for it is; code 8 is free for cosmic rays.
    "primary_mask_255.fits": masked("generic", [0], {0: ("frame", 1)}, 8, [255]),
    "primary_mask_int16.fits": masked("generic", [0], {0: ("frame", 1)}, 8, [1]),
    # astropy.nddata fits_ccddata_writer: PRIMARY, MASK (uint8 of bool), UNCERT with UTYPE.
    "ccddata_mask_uncert.fits": masked("ccddata", [0], {0: ("frame", 1)}, 8, [1]),
    # astrocut: HDU 1 the image, HDU 2 its uncertainty; science columns begin behind SCCSA.
    "tess2018234235059-s0002-1-1-0121-s_ffic.fits": masked("tess-ffi", [1], dark=[np.s_[:, :44]]),
    # DRAGONS gemini_instruments: amplifiers are HDUs without names; 32 columns of overscan on alternating sides.
    "N20190501S0123.fits": masked("gmos-n", [1, 2, 3, 4]),
    # DRAGONS DQ_definitions: 1 bad, 4 saturated, 8 cosmic ray, 16 no data.
    "N20190501S0123_flatCorrected.fits": masked(
        "gemini-north-reduced", [1, 4], {1: ("frame", 3), 4: ("frame", 6)}, 8, [1, 4, 16]
    ),
    # ACS Data Handbook: 4 bad pixel, 256 saturated, 8192 cosmic ray of the pipeline, 4096 of AstroDrizzle.
    "j8zz01abq_flt.fits": masked("hst-acs", [1, 4], {1: ("frame", 3), 4: ("frame", 6)}, 8192, [4, 256]),
    # jwst datamodels dqflags: 1 do not use, 2 saturated, 4 jump.
    "jw01234001001_02101_00001_nrcb1_rate.fits": masked("jwst", [1], {1: ("frame", 3)}, 4, [1, 2]),
    # afw writer: MP_CR says which bit, 3; MP_BAD 0, MP_SAT 1.
    "calexp-HSC-R-9615-41.fits": masked("hsc-calexp", [1], {1: ("frame", 2)}, 8, [1, 2]),
    # Subaru FITS dictionary: DATA-TYP.
    "SUPA_OBJECT.fits": masked("suprimecam", [0]),
    "SUPA_BIAS.fits": left("suprimecam", "bias"),
    # INDI CCD::addFITSKeywords: FRAME Light, Dark.
    "ekos_Light.fits": masked("ekos-indi", [0]),
    "ekos_Dark.fits": left("ekos-indi", "dark"),
    # PypeIt keck_deimos: idname Line is an arc.
    "d0910_0005.fits": left("keck-deimos", "line"),
    # One plane of a cube is an image.
    "andor_solis_3d.fits": masked("andor-solis", [0]),
    # (Bytes of aspired_3d.fits were lost on its way: most of its pixels are noise of 1e38.)
    "aspired_3d.fits": masked("generic", [0]),
    # ESO OUT1 PRSCY = 5 and OVSCY = 5: rows without light below and above.
    "FORS2_OBJECT.fits": masked("fors2", [0], dark=[np.s_[:5], np.s_[389:]]),
    "FORS2_BIAS.fits": left("fors2", "bias"),
    # TRIM says that it was cut, and DATASEC is that of the raw frame.
    "ibex_trimmed_with_raw_datasec.fits": masked("mosaic-kpno", [0]),
    # N.I.N.A. and SharpCap: BAYERPAT says that neighbours see different colours.
    "NINA_2024-03-01_M42_LIGHT_0001.fits": left("nina", "colour"),
    "SharpCap_Capture_00001.fits": left("sharpcap", "colour"),
    "MaximDL_light.fts": masked("maxim-dl", [0]),
    "zwo_8bit.FIT": masked("cmos-cameras", [0]),
    # SDSS data model, frame: image, calibration (1-D), sky and tables.
    "frame-r-001737-3-0100.fits.bz2": masked("sdss", [0]),
    # THELI, WFC@INT: BIASSEC and TRIMSEC, no DATASEC.
    "r362811.fit": masked("int-wfc", [1, 2, 3, 4], dark=[np.s_[:, :50], np.s_[384:]]),
    # QuickReduce: OTAnn.SCI; gaps between cells are NaN.
    "20160202T030000.0_odi.fits": masked("wiyn-odi", [1, 2]),
    # drizzlepac: c0m is the image, its flags would be in c1m, which is not here.
    "u9yq0703m_c0m.fits": masked("hst-wfpc2", [1, 2]),
    # Gemini IRAF: SCI, VAR, SKYFIT, no DQ: the made plane is one of Gemini's.
    "gmos_longslit.fits": masked("gemini-south-reduced", [1]),
    # banzai-floyds: columns 2049 to 2079 are overscan; a00 arc, w00 lamp flat.
    "floyds_raw_e00.fits.fz": masked("lco-floyds", [1], dark=[np.s_[:, 2048:]]),
    "floyds_raw_a00.fits.fz": left("lco-floyds", "arc"),
    "floyds_raw_w00.fits.fz": left("lco-floyds", "lampflat"),
    "lco_bpm_fl15.fits.fz": left("lco-sinistro", "skyflat"),
    # LCOGT/banzai data.py and lco.py: SCI, CAT, BPM (1 bad, 2 saturated, 4 low in the flat, 8 cosmic ray), ERR.
    "ogg0m404-sq30-20240320-0100-e91.fits.fz": masked("lco", [1], {1: ("frame", 3)}, 8, [1, 2, 4]),
    "ogg2m001-ep04-20230918-0050-e91.fits.fz": masked("lco", [1], {1: ("frame", 3)}, 8, [1, 2, 4]),
}
MASKED = [name for name, expected in EXPECTED.items() if not expected["left"]]


@pytest.fixture(scope="module")
def fixed_stage():
    """The stage with an engine that is not chosen by its speed here."""
    return AttentionCRStage(RuntimeContext("att-deepcr", engine="openvino"))


@pytest.fixture
def zoo(data):
    """The folder of the frames."""
    return data / "zoo"


def test_every_frame_of_the_zoo_is_here(zoo):
    listed = {line.split("\t")[0] for line in (zoo / "MANIFEST.tsv").read_text().splitlines()[1:]}
    assert listed == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_frame_of_the_zoo_is_understood(name, zoo):
    expected = EXPECTED[name]
    with OpenFrame(zoo / name) as frame:
        layout = frame.layout
        assert layout.profile.name == expected["profile"], layout.recognised_by
        said = layout.refusal or layout.exposure.calibration_type
        if expected["left"]:
            assert expected["left"] in said.lower() and not layout.extensions
            return
        assert not said
        assert [e.index for e in layout.extensions] == expected["science"], layout.planes
        assert {e.index: e.mask for e in layout.extensions if e.mask} == expected["mask"]
        for extension in layout.extensions:
            assert extension.convention.cosmic_ray == expected["cosmic_ray"]
            inside = np.zeros(extension.shape, bool)
            for amplifier in extension.amplifiers:
                inside[amplifier.section] = True
            for strip in expected["dark"]:
                assert not inside[strip].any()
            if expected["bad"]:
                convention = extension.flags[2]
                assert all(convention.bad_pixels(np.full((1, 1), value)).all() for value in expected["bad"])
                assert not convention.bad_pixels(np.full((1, 1), expected["cosmic_ray"])).any()
            else:
                assert not extension.flags or name == "kbmod_demo.fits"


# The last block of one is not filled.
@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("name", MASKED)
def test_masked_frame_of_the_zoo(name, zoo, fixed_stage, tmp_path):
    known = zoo / f"{name}.truth.npz"
    truth = {key: plane.reshape(plane.shape[-2:]) for key, plane in np.load(known).items()} if known.exists() else {}
    found = run_and_check(zoo / name, tmp_path / name, fixed_stage, truth)
    assert found is None or found >= 0.9
