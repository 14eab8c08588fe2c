"""Draw ``view.png`` and ``view-phone.png``: screenshots of the page that ``crattn-stage view`` writes.

Run in a clone with ``python docs/figures/view.py``; it needs Chromium or Chrome.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

FIGURES = Path(__file__).parent
sys.path.append(str(FIGURES.parents[1] / "tests"))

from browser import Browser  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Browser(1180, 720) as browser:
        frame = Path(folder) / "demo.fits"
        for command in (["demo", folder], ["view", str(frame)]):
            subprocess.run([sys.executable, "-m", "crattn_stage.cli", *command], check=True)
        browser.open(frame.with_suffix(".html"))
        browser.wait("document.body && document.body.dataset.ready === '0'")
        browser.click("#hits tr:nth-child(11)")
        browser.evaluate("zoom(0.5)")
        browser.wait("!drawing")
        browser.screenshot(FIGURES / "view.png")
        browser.resize(390, 760, mobile=True)
        browser.click("#fit")
        browser.wait("!drawing")
        browser.screenshot(FIGURES / "view-phone.png")
