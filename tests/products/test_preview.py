"""Previews of masked frames."""

import numpy as np
from matplotlib import image as pictures

from crattn_stage.products.preview import drawn, write_png


def test_a_name_that_looks_like_a_formula_or_holds_an_escape_is_drawn(tmp_path):
    # matplotlib takes text between dollars for a formula, and raised for one it cannot parse.
    sky = np.random.default_rng(0).normal(size=(40, 40))
    path = write_png(tmp_path / "x.png", drawn([[(r"$\nonsense{$", sky, None), ("\x1b[2J", sky > 2, None)]]))
    assert pictures.imread(path).std() > 0
