import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from crattn_stage.cameras.profile import find_profile
from crattn_stage.cameras.sections import Section, read_amplifiers
from crattn_stage.errors import FrameError

limits = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


@given(columns=limits, rows=limits, space=st.sampled_from(["", " "]))
def test_sections_survive_a_round_trip(columns, rows, space):
    text = "[{}:{},{}{}:{}]".format(*columns, space, *rows)
    section = Section.parse(text)
    assert section == Section(columns, rows)
    assert Section.parse(str(section)) == section
    height, width = (s.stop - s.start for s in section.slices)
    assert (width, height) == (abs(columns[1] - columns[0]) + 1, abs(rows[1] - rows[0]) + 1)
    # Read backwards or not, the same pixels.
    assert section.slices == Section(columns[::-1], rows[::-1]).slices


@given(start=st.integers(0, 500), count=st.integers(1, 500), factor=st.integers(1, 4), flip=st.booleans())
def test_binned_sections_keep_size_and_direction(start, count, factor, flip):
    pair = (start * factor + 1, (start + count) * factor)
    section = Section(pair[::-1] if flip else pair, (1, factor)).binned((factor, factor))
    expected = (start + 1, start + count)
    assert section == Section(expected[::-1] if flip else expected, (1, 1))


@pytest.mark.parametrize("text", ["[1:10]", "1:10,1:10]", "[a:b,1:2]", "[0:10,1:10]", "[1:10,1:10", 17])
def test_malformed_sections_are_named(text):
    with pytest.raises(FrameError, match="malformed section DATASEC"):
        Section.parse(text, "DATASEC")


@pytest.mark.parametrize("text", [None, "", "UNKNOWN", "N/A", "[1:0,1:0]", "[0:0, 0:0]"])
def test_absent_sections_are_none(text):
    assert Section.parse(text) is None


def amplifiers(shape, camera="generic", **cards):
    return read_amplifiers(fits.Header(cards), shape, find_profile(camera))


def test_decam_amplifiers_have_their_own_gain():
    cards = {"DATASECA": "[57:312,1:512]", "DATASECB": "[313:568,1:512]", "GAINA": 4.2, "GAINB": 3.7}
    (a, b), notes = amplifiers((512, 624), "decam", **cards)
    assert (a.section[1], a.gain) == (slice(56, 312), 4.2)
    assert (b.section[1], b.gain) == (slice(312, 568), 3.7) and not notes


def test_unbinned_section_of_a_binned_image():
    (amplifier,), _ = amplifiers((512, 1024), DATASEC="[1:2048,2:1025]", CCDSUM="2 2")
    assert amplifier.section == (slice(0, 512), slice(0, 1024))


def test_a_section_of_another_image_is_refused_and_overlaps_are():
    with pytest.raises(FrameError, match=r"DATASEC = \[101:300,1:90\] lies outside the image of 200 x 100"):
        amplifiers((100, 200), DATASEC="[101:300,1:90]")
    with pytest.raises(FrameError, match="overlap"):
        amplifiers((100, 100), "decam", DATASECA="[1:60,1:100]", DATASECB="[60:100,1:100]")


@pytest.mark.parametrize("shape", [(384, 400), (100, 200)])
def test_a_section_that_outlived_trimming_or_cutting_out_is_not_used_and_said(shape):
    (whole,), (note,) = amplifiers(shape, DATASEC="[33:432,1:384]")
    assert whole.section == (slice(0, shape[0]), slice(0, shape[1]))
    assert "DATASEC = [33:432,1:384] is of the frame that this image was cut from" in note


@pytest.mark.parametrize(
    ("cards", "columns"),
    [
        ({"TRIMSEC": "[51:400,1:384]"}, (50, 400)),
        ({"DATASEC": "[51,1:400,384]"}, (50, 400)),
        ({"DATASEC": "[50:400,0:384]"}, (50, 400)),
        ({"DATASEC": "[50:399,0:383]"}, (50, 400)),
        ({"BIASSEC": "[1:50,1:384]"}, (50, 400)),
        ({"BIASSEC": "[381:400,1:384]"}, (0, 380)),
        ({"DATASEC": "[1:400,1:384]", "BIASSEC": "[381:400,1:384]"}, (0, 380)),
        # A whole axis, as IRAF and numpy write it.
        ({"TRIMSEC": "[51:400, :]"}, (50, 400)),
        ({"DATASEC": "[51:400,*]"}, (50, 400)),
        # Where another program has left it, far away.
        ({"BIASSEC": "[2051:2080,1:2048]"}, (0, 400)),
    ],
)
def test_the_forms_that_sections_have(cards, columns):
    (amplifier,), _ = amplifiers((384, 400), **cards)
    assert amplifier.section == (slice(0, 384), slice(*columns))


def test_a_malformed_overscan_beside_a_data_section_is_not_used_and_said():
    (amplifier,), (note,) = amplifiers((384, 400), TRIMSEC="[1:380, :]", BIASSEC="[381:400]")
    assert amplifier.section == (slice(0, 384), slice(0, 380))
    assert note == "malformed section BIASSEC = '[381:400]'; not used"
    with pytest.raises(FrameError, match="malformed section BIASSEC"):
        amplifiers((384, 400), BIASSEC="[381:400]")


def test_no_section_is_the_whole_image():
    (amplifier,), notes = amplifiers((30, 40), GAIN=1.5)
    assert amplifier.section == (slice(0, 30), slice(0, 40)) and amplifier.gain == 1.5 and not notes
