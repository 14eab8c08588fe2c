"""The page to look at a frame: what it holds, and what a browser does with it."""

import base64
import html
import json
import re
import zlib

import numpy as np
import pytest
from astropy.io import fits
from browser import Browser, chromium
from click.testing import CliRunner
from conftest import need, sky_image, with_track
from scipy.ndimage import binary_dilation

from crattn_stage.cli import main
from crattn_stage.errors import FrameError
from crattn_stage.fits.frame import Marks, ObservationFrame
from crattn_stage.products.view import AT_THRESHOLD, MASKED, NOT_SEARCHED, write_view

TORCH = ("--model", "fast", "--engine", "torch")
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\"'&"


class PaintedStage:
    """A stage that takes bright pixels for cosmic rays, and the pixels around them for likely ones."""

    def __init__(self):
        self.provenance = {"model": HOSTILE}

    def threshold_for(self, profile):
        return 0.5

    def do_stage(self, frame):
        for extension, ccd in frame.ccds():
            frame.mark(extension, Marks(np.flatnonzero(ccd.data > 1000)))

    def probability(self, image, bad, amplifiers, level=None, spectrum=False):
        hit = image > 1000
        return (0.9 * hit + 0.2 * (binary_dilation(hit) & ~hit)).astype(np.float32), np.isfinite(image)


def page_of(path, target, **options):
    with ObservationFrame(path) as frame:
        write_view(frame, PaintedStage(), target, **options)
    return target.read_text()


def planes_of(page, number=0):
    detector = json.loads(html.unescape(re.search(r'id="data">(.*?)</script>', page)[1]))["detectors"][number]
    shape = detector["height"], detector["width"]
    texts = [re.search(rf'id="plane-{number}-{i}">(.*?)</script>', page)[1] for i in range(3)]
    return detector, [np.frombuffer(zlib.decompress(base64.b64decode(t)), np.uint8).reshape(shape) for t in texts]


def test_the_page_holds_image_probability_and_mask(tmp_path):
    image, hit = with_track(sky_image())
    image[5, 7] = np.nan
    fits.writeto(tmp_path / "a.fits", image)
    detector, (shade, level, flags) = planes_of(page_of(tmp_path / "a.fits", tmp_path / "a.html"))
    assert np.array_equal(flags & MASKED, hit) and np.argwhere(flags & NOT_SEARCHED).tolist() == [[5, 7]]
    assert np.array_equal(level >= AT_THRESHOLD, hit)
    # A tenth of the slider below the threshold the pixels around are masked as well.
    assert ((level > 0) & ~hit).sum() == (binary_dilation(hit) & ~hit).sum() and shade[hit].min() > shade[~hit].max()
    ((x, y, pixels, peak, _),) = detector["hits"]
    row, column = np.argwhere(hit).mean(0)
    assert (x, y, pixels) == (round(column, 1), round(row, 1), hit.sum()) and 80 < peak < 130


def test_a_frame_that_run_wrote_is_shown_as_it_was_masked(frame_file, tmp_path):
    runner, path = CliRunner(), frame_file()
    assert runner.invoke(main, ["run", str(path), *TORCH, "--threshold", "0.9"]).exit_code == 0
    masked = tmp_path / "frame-crmask.fits"
    result = runner.invoke(main, ["view", str(masked), *TORCH])
    assert result.exit_code == 0 and result.output.startswith(f"{tmp_path}/frame-crmask.html: 0.")
    page = (tmp_path / "frame-crmask.html").read_text()
    _, (_, _, flags) = planes_of(page)
    assert np.array_equal(flags & MASKED == MASKED, fits.getdata(masked, "MASK") == 8)
    assert "as in the file, by fast" in page and '"threshold": 0.9' in page
    again = runner.invoke(main, ["view", str(masked), *TORCH])
    assert (
        again.exit_code == 1
        and again.output.count("\n") == 1
        and "overwrite=True (--overwrite) replaces it" in again.output
    )


def test_detectors_are_chosen_and_what_cannot_be_shown_is_an_error(tmp_path):
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(sky_image((40, 30), seed=i), name=f"CCD{i}") for i in (1, 2, 3))]
    fits.HDUList(hdus).writeto(tmp_path / "m.fits")
    page = page_of(tmp_path / "m.fits", tmp_path / "m.html", extensions=["CCD3", "1"])
    assert [planes_of(page, i)[0]["name"] for i in (0, 1)] == ["CCD3", "CCD1"] and "not on this page: CCD2" in page
    with pytest.raises(FrameError, match="no detector CCD9; known: 1 CCD1, 2 CCD2, 3 CCD3"):
        page_of(tmp_path / "m.fits", tmp_path / "n.html", extensions=["CCD9"])
    fits.writeto(tmp_path / "bias.fits", sky_image(), fits.Header({"IMAGETYP": "bias"}))
    with pytest.raises(FrameError, match="bias frame: it is not masked"):
        page_of(tmp_path / "bias.fits", tmp_path / "n.html")
    assert not (tmp_path / "n.html").exists()


@pytest.fixture
def big(tmp_path):
    """The page of a CCD of 2048 x 4096 pixels with texts in its header that try to run scripts."""
    image, _ = with_track(sky_image((4096, 2048)), row=3000, start=1500)
    image[100:103, 200:203] += 5000
    header = fits.Header({"OBJECT": HOSTILE[:60], "INSTRUME": HOSTILE[:60]})
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(image, name=HOSTILE[:60])]).writeto(tmp_path / "b.fits")
    page_of(tmp_path / "b.fits", tmp_path / "b.html")
    return tmp_path / "b.html"


@pytest.mark.filterwarnings("ignore:Card is too long")
def test_clicks_in_a_browser(big):
    assert b"<script>window" not in big.read_bytes() and b"<img src=x" not in big.read_bytes()
    if chromium() == "none":
        pytest.skip("CRATTN_CHROMIUM=none: no browser can be had here")
    need(chromium(), "needs Chromium or Chrome; CRATTN_CHROMIUM names it")
    with Browser(1280, 800) as browser:
        browser.open(big)
        browser.wait("document.body && document.body.dataset.ready === '0'")
        assert browser.evaluate("typeof window.hacked") == "undefined"
        assert browser.evaluate("document.querySelectorAll('#hits tr').length") == 2
        # A click on the second hit, the track, centres the view on it.
        browser.click("#hits tr:nth-child(2)")
        browser.wait("state.chosen === 1 && !drawing")
        x, y, scale = browser.evaluate("[state.x, state.y, state.scale]")
        assert abs(x - 1509.5) < 1 and abs(y - 3003) < 1 and scale >= 6
        red = "(() => { const c = document.getElementById('canvas'); const p = c.getContext('2d').getImageData("
        red += "c.width / 2, c.height / 2, 1, 1).data; return [p[0], p[1], p[2]].join() === '255,45,45'; })()"
        assert browser.evaluate(red)
        # The mask goes and comes, by button and by key.
        browser.click("#mask")
        browser.wait(f"!drawing && !{red}")
        browser.click("#blink")
        browser.wait(f"!drawing && {red}")
        browser.click("#blink")
        assert browser.evaluate("!blinking && state.shown")
        # Dragging moves the image, the wheel zooms around the pointer.
        browser.mouse("mousePressed", 400, 400, button="left", clickCount=1)
        browser.mouse("mouseMoved", 460, 430, button="left", buttons=1)
        browser.mouse("mouseReleased", 460, 430, button="left", clickCount=1)
        moved = browser.evaluate("[state.x, state.y]")
        assert abs(moved[0] - (x - 60 / scale)) < 0.01 and abs(moved[1] - (y + 30 / scale)) < 0.01
        browser.mouse("mouseWheel", 400, 400, deltaX=0, deltaY=-200)
        browser.wait(f"state.scale > {1.5 * scale}")
        # A lower threshold masks the pixels around the hits; a higher one than theirs, none.
        counts = []
        for value in (60, 128, 250):
            browser.evaluate(
                f"(() => {{ const t = document.getElementById('threshold'); t.value = {value};"
                " t.dispatchEvent(new Event('input')); })()"
            )
            counts.append(int(browser.evaluate("document.getElementById('count').textContent").split()[0]))
        assert counts[0] > counts[1] > counts[2] == 0
        browser.click("#reset")
        assert browser.evaluate("document.getElementById('value').textContent") == "0.500"
        # On a phone nothing is wider than the screen.
        browser.resize(390, 844, mobile=True)
        browser.click("#fit")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        assert [url for url in browser.requests if not url.startswith("file:")] == [] and browser.errors == []
