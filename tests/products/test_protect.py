import os

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from conftest import sky_image, with_track
from hypothesis import given, settings
from hypothesis import strategies as st

from crattn_stage.errors import FrameError
from crattn_stage.fits import region_files
from crattn_stage.process import process
from crattn_stage.products import protect
from crattn_stage.products.protect import protected_pixels, read_areas
from crattn_stage.products.settings import MaskSettings
from crattn_stage.stage import AttentionCRStage, RuntimeContext

SHAPE = 120, 100


def wcs_header(angle=0.0, scale=(0.5, 0.3), centre=(150.0, -30.0)):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix = centre, (50, 60)
    turned = np.deg2rad(angle)
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    wcs.wcs.cd = rotation @ np.diag([-scale[0] / 3600, scale[1] / 3600])
    return wcs.to_header()


def true_separation(header, ra, dec):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return SkyCoord(ra, dec, unit="deg").separation(WCS(header).pixel_to_world(columns, rows)).arcsec


@given(
    angle=st.floats(0, 360),
    x=st.floats(-20, 120),
    y=st.floats(-20, 140),
    radius=st.floats(0, 60),
    pole=st.sampled_from([(150.0, -30.0), (0.001, 0.0), (10.0, 89.99)]),
)
def test_circles_of_a_catalogue_are_those_on_the_sky(tmp_path_factory, angle, x, y, radius, pole):
    header = wcs_header(angle, centre=pole)
    place = WCS(header).pixel_to_world(x, y)
    path = tmp_path_factory.mktemp("catalogue") / "stars.csv"
    Table({"RA": [place.ra.deg], "DEC": [place.dec.deg], "radius_arcsec": [radius]}).write(path)
    mask = protected_pixels([path], header, SHAPE)
    separation = true_separation(header, place.ra.deg, place.dec.deg)
    assert mask[separation < radius * 0.999 - 1e-3].all() and not mask[separation > radius * 1.001 + 1e-3].any()


@pytest.mark.parametrize("kind", ["ecsv", "fits", "reg-sky", "reg-image", "sexagesimal"])
def test_formats(tmp_path, kind):
    from astropy import units

    header = wcs_header(scale=(0.5, 0.5))
    place = WCS(header).pixel_to_world(40, 70)
    path = tmp_path / f"areas.{'reg' if kind.startswith('reg') else 'csv' if kind == 'sexagesimal' else kind}"
    if kind == "reg-image":
        path.write_text("image\ncircle(41,71,6)\n-circle(41,71,1.2) # a hole\ntext(5,5) # text={a name}\n")
    elif kind == "reg-sky":
        path.write_text(f'fk5\ncircle({place.ra.deg},{place.dec.deg},3")\n')
    elif kind == "sexagesimal":
        ra, dec = place.to_string("hmsdms", sep=":", precision=4).split()
        path.write_text(f"raj2000,dej2000,radius_arcmin\n{ra},{dec},0.05\n")
    else:
        Table({"ra": [place.ra], "dec": [place.dec], "radius": [3] * units.arcsec}).write(path)
    mask = protected_pixels([path], header, SHAPE)
    rows, columns = np.nonzero(mask)
    assert (rows.mean(), columns.mean()) == pytest.approx((70, 40), abs=0.2)
    assert mask.sum() == pytest.approx(np.pi * 36, rel=0.1) and mask[70, 40] == (kind != "reg-image")


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("a.csv", "ra,dec,radius\n1,2,3\n", "has no unit; call it radius_arcsec"),
        ("a.csv", "ra,radius_deg\n1,3\n", "no column of declination: it has ra, radius_deg"),
        ("a.csv", "ra,dec,radius_arcsec\n1,2,3\n1,2,nan\n", "row 2: its radius is nan degrees"),
        ("a.csv", "ra,dec,radius_arcsec\n1,,3\n", "row 1: its declination is nan"),
        ("a.csv", "ra,dec,radius_deg\n1,2,90\n", "row 1: its radius is 90 degrees, not 0 to 10"),
        ("a.csv", "ra,dec,radius_deg\n1,200,1\n", "row 1: its declination is 200"),
        ("a.csv", "ra,dec,radius_furlong\n1,2,1\n", "no column of radius"),
        ("a.csv", "\0\1\2", "not a catalogue|no column"),
        ("a.ecsv", "ra,dec\n", "not a catalogue"),
        ("a.fits", "SIMPLE", "not a catalogue"),
        ("a.txt", "1 2 3", r"a DS9 region file \(.reg\) or a catalogue"),
        ("a.reg", "image\npoint(3,4)\n", "a point or a line has no area"),
        ("a.reg", "physical\ncircle(3,4,5)\n", "not understood"),
        ("a.reg", "circle(3,4,5)\n", "not understood"),
        ("a.reg", "image\npanda(1,1,2,3,4,5,6,7)\n", "not understood"),
        ("a.reg", "image\ncircle(3,4,-5)\n", "not a DS9 region file"),
        ("a.reg", "image\ncircle(3,4,5) || box(1,1,2,2)\n", "composite"),
    ],
)
def test_what_cannot_be_understood_is_refused_not_left_out(tmp_path, name, text, cause):
    (tmp_path / name).write_text(text)
    with pytest.raises(FrameError, match=cause) as caught:
        read_areas(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.reg")
    with pytest.raises(FrameError, match=r"a\.reg: not a regular file"):
        read_areas(tmp_path / "a.reg")


def test_what_cannot_be_placed_is_refused(tmp_path):
    sky, image, nan = (tmp_path / f"{name}.reg" for name in ("sky", "image", "nan"))
    sky.write_text('icrs\ncircle(150,-30,5")\n')
    image.write_text("image\ncircle(50,60,5)\n")
    nan.write_text("image\ncircle(nan,60,5)\n")
    with pytest.raises(FrameError, match="in sky coordinates, and the frame has no WCS"):
        protected_pixels([sky], fits.Header({"CRVAL1": 3.0}), SHAPE)
    with pytest.raises(FrameError, match="several detectors"):
        protected_pixels([image], wcs_header(), SHAPE, alone=False)
    with pytest.raises(FrameError, match=r"region 1 .CirclePixelRegion. is not finite"):
        protected_pixels([nan], wcs_header(), SHAPE)


def test_distortions_and_places_far_off(tmp_path):
    header = wcs_header(scale=(0.5, 0.5))
    header.update(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1e-4, B_0_2=-1e-4)
    place = WCS(header).pixel_to_world(70, 30)
    areas = [(place.ra.deg, place.dec.deg, 4.0), (330, 30, 36000.0), (151, -31, 5.0), (150.0, 60, 5.0)]
    (tmp_path / "a.csv").write_text("ra,dec,radius_arcsec\n" + "".join(f"{r},{d},{s}\n" for r, d, s in areas))
    circles = "".join(f'circle({r},{d},{s}")\n' for r, d, s in areas)
    (tmp_path / "a.reg").write_text(f"icrs\n{circles}polygon(330,30,331,30,331,31)\n")
    for name in ("a.csv", "a.reg"):
        mask = protected_pixels([tmp_path / name], header, SHAPE)
        assert mask.sum() == pytest.approx(np.pi * 64, rel=0.1) and mask[30, 70]


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
        {"CTYPE1": "XPLN-TAN", "CTYPE2": "YPLN-TAN"},
        {"CD1_1": 0.0, "CD1_2": 0.0},
        {"CTYPE1": "RA---XYZ"},
        {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"},
    ],
)
def test_a_wcs_that_is_not_of_the_sky_is_none(cards):
    from crattn_stage.fits.wcs import sky_wcs

    header = wcs_header()
    for name in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
        header.remove(name, ignore_missing=True)
    header.update(cards)
    assert sky_wcs(header) is None and sky_wcs(wcs_header()) is not None


def test_the_wcs_of_a_cube_of_one_plane_is_that_of_its_plane():
    from crattn_stage.fits.wcs import sky_wcs

    cards = {"NAXIS": 3, "NAXIS1": 100, "NAXIS2": 120, "NAXIS3": 1, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    scale = {"CRVAL1": 20.0, "CRVAL2": 5.0, "CRPIX1": 1.0, "CRPIX2": 1.0, "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_2": 1e-4}
    wcs = sky_wcs(fits.Header({**cards, **scale}))
    assert wcs.pixel_to_world(0, 0).ra.deg == pytest.approx(20)


def test_huge_files_and_regions_are_within_limits(tmp_path, monkeypatch):
    path = tmp_path / "huge.reg"
    path.write_text("image\ncircle(50,60,1e12)\nellipse(1,1,1e9,1e-3,0)\n" + "circle(1e15,1e15,1)\n" * 50)
    assert protected_pixels([path], wcs_header(), SHAPE).all()
    monkeypatch.setattr(region_files, "MOST_REGIONS", 20)
    path.write_text("image\n" + "circle(5,5,1)\n" * 21)
    with pytest.raises(FrameError, match="21 regions; 20 are read at most"):
        read_areas(path)
    monkeypatch.setattr(region_files, "MOST_BYTES", 20)
    path.write_text("image\n" + "circle(5,5,1)\n" * 22)
    with pytest.raises(FrameError, match="a region file of"):
        read_areas(path)
    monkeypatch.setattr(protect, "MOST_ROWS", 3)
    catalogue = tmp_path / "a.csv"
    catalogue.write_text("ra,dec,radius_deg\n" + "1,2,0.1\n" * 4)
    with pytest.raises(FrameError, match="4 rows; 3 are read at most"):
        read_areas(catalogue)


@settings(max_examples=12)
@given(x=st.integers(0, 99), y=st.integers(0, 119), radius=st.integers(1, 40), grow=st.integers(0, 3))
def test_nothing_is_flagged_in_a_protected_area_and_what_is_saved_is_counted(
    tmp_path_factory, baseline_frame, x, y, radius, grow
):
    path, truth = baseline_frame
    folder = tmp_path_factory.mktemp("areas")
    (folder / "a.reg").write_text(f"image\ncircle({x + 1},{y + 1},{radius})\n")
    counts = {}
    for name, files in (("plain", ()), ("protected", (str(folder / "a.reg"),))):
        one = AttentionCRStage(RuntimeContext("astroscrappy", masks=MaskSettings(grow=grow, protect=files)))
        process(path, folder / f"{name}.fits", one)
        counts[name] = fits.getdata(folder / f"{name}.fits", "MASK") > 0
    inside = protected_pixels([folder / "a.reg"], fits.Header(), SHAPE)
    assert np.array_equal(counts["protected"], counts["plain"] & ~inside) and counts["plain"][truth].all()
    assert fits.getval(folder / "protected.fits", "CRNPROT") == np.count_nonzero(counts["plain"] & inside)


@pytest.fixture(scope="module")
def baseline_frame(tmp_path_factory):
    image, truth = with_track(sky_image(SHAPE))
    path = tmp_path_factory.mktemp("frame") / "frame.fits"
    fits.PrimaryHDU(image).writeto(path)
    return path, truth
