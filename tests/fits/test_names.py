import pytest

from crattn_stage.fits.names import is_output, output_path, preview_path

NAMES = [
    ("a.fits", "a-crmask.fits", "a.png"),
    ("a.fit", "a-crmask.fit", "a.png"),
    ("a.fit.gz", "a-crmask.fit.gz", "a.png"),
    ("a.fts.bz2", "a-crmask.fts.bz2", "a.png"),
    ("a.FITS", "a-crmask.FITS", "a.png"),
    ("A.FITS.FZ", "A-crmask.FITS.FZ", "A.png"),
    ("a.fits.fz.xz", "a-crmask.fits.fz.xz", "a.png"),
    ("a.b.fits", "a.b-crmask.fits", "a.b.png"),
    ("a.fits.1.fits", "a.fits.1-crmask.fits", "a.fits.1.png"),
    ("a.fitsy", "a-crmask.fitsy", "a.fitsy.png"),
    ("a", "a-crmask", "a.png"),
    (".fits", ".fits-crmask", ".fits.png"),
]


@pytest.mark.parametrize(("name", "output", "preview"), NAMES)
def test_outputs_are_named_before_all_their_suffixes(tmp_path, name, output, preview):
    assert output_path(tmp_path / name) == tmp_path / output
    assert preview_path(tmp_path / name) == tmp_path / preview
    assert output_path(tmp_path / name, "out").name == name
    assert is_output(tmp_path / output) and not is_output(tmp_path / name)
