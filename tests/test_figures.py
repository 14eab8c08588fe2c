"""The pictures of the manual that need no data are drawn by the commands it names."""

import runpy

from conftest import ROOT
from matplotlib import image as pictures


def test_gallery_is_drawn(tmp_path):
    script = runpy.run_path(str(ROOT / "docs" / "figures" / "gallery.py"))
    script["main"](tmp_path / "gallery.png")
    assert pictures.imread(tmp_path / "gallery.png").std() > 0
