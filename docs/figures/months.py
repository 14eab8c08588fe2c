"""Draw ``months.png``: a screenshot of the pages of a simulated year that ``python -m benchmarks.months`` has kept.

Run in a clone with ``python docs/figures/months.py FOLDER``; it needs Chromium or Chrome.
"""

import sys
from pathlib import Path

from PIL import Image

FIGURES = Path(__file__).parent
sys.path.append(str(FIGURES.parents[1] / "tests"))

from browser import Browser  # noqa: E402

if __name__ == "__main__":
    with Browser(1180, 960) as browser:
        browser.open(Path(sys.argv[1]) / "year" / "ct4m-decam" / "index.html")
        browser.wait("document.body && document.body.dataset.ready === 'camera'")
        browser.wait("document.querySelectorAll('.plot .main-svg').length >= 8")
        browser.screenshot(FIGURES / "months.png")
    Image.open(FIGURES / "months.png").convert("RGB").quantize(48).save(FIGURES / "months.png", optimize=True)
