import json
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from conftest import sky_image

from benchmarks.grade import FIELDS, GAIN, exposure, measured
from crattn_stage.cli import main
from crattn_stage.errors import FrameError
from crattn_stage.grade import grade, page, total
from crattn_stage.products.settings import MaskSettings
from crattn_stage.quality.labels import LABELS
from crattn_stage.quality.registration import Stars, register
from crattn_stage.quality.summary import Detection, Summary
from crattn_stage.stage import AttentionCRStage, RuntimeContext
from training.commands import main as training
from training.data.hits import read_footprints, read_hit_table
from training.data.library import SPLITS, Skies

SIDE = 400


class Known:
    """A stage whose masks are given: by name of the file."""

    def __init__(self, masks):
        self.masks = masks

    def do_stage(self, frame):
        pixels = np.flatnonzero(self.masks[frame.path.name])
        frame.detections = [Detection(frame.extensions[0].name, pixels, Summary())]
        return frame


def exposures(folder, field, seed=5, **header):
    """Write the exposures of a field; return their paths and what is known of them."""
    paths, known = [], []
    for number in range(field.exposures):
        image, *rest = exposure(field, number, SIDE, seed)
        paths.append(folder / f"{number}.fits")
        fits.writeto(paths[-1], image, fits.Header({"GAIN": GAIN, "FILTER": "r", **header}))
        known.append((image, *rest))
    return paths, known


@pytest.fixture(scope="module")
def triple(tmp_path_factory):
    return exposures(tmp_path_factory.mktemp("triple"), replace(FIELDS["trail"], flipped=True, density=500.0))


def test_a_known_mask_is_graded_as_it_is(triple, tmp_path):
    paths, known = triple
    masks, expected = {}, {"faint": [0, 0], "bright": [0, 0]}
    stars = 0
    for path, (image, hits, _, other, charge) in zip(paths, known, strict=True):
        mask = np.zeros(image.shape, bool)
        for number, (peak, pixels) in enumerate(hits):
            # Every fourth hit is missed, and what is hardly above the noise.
            is_found = number % 4 > 0 and peak > 4.5
            if is_found:
                mask.ravel()[pixels] = True
            if peak >= 5:
                kind = expected["faint" if peak < 10 else "bright"]
                kind[0] += is_found
                kind[1] += 1
        # Stars that are masked.
        clean = np.where((charge > 0) | other, 0, image)
        clean[:40] = clean[-40:] = clean[:, :40] = clean[:, -40:] = 0
        for _ in range(4):
            y, x = np.unravel_index(np.argmax(clean), clean.shape)
            clean[y - 9 : y + 10, x - 9 : x + 10] = 0
            mask[y - 1 : y + 2, x - 1 : x + 2] = True
            stars += 1
        masks[path.name] = mask
    results = grade(paths, Known(masks), tmp_path / "labels")
    own = total(results)
    assert not any(result.failure for result in results)
    for kind, (found, of) in expected.items():
        fraction, low, high = own.completeness(kind)
        assert fraction == pytest.approx(found / of, abs=0.06 if kind == "faint" else 0.02)
        assert low < found / of < high
    # Where a hit is masked that noise hides.
    assert stars <= own.false <= stars + 8
    assert own.objects == own.hit + own.false + own.fixed + own.unjudged
    html = page(results, "<b>mine</b>")
    assert "&lt;b&gt;mine" in html and html.count("data:image/png") >= 6

    image, hits, _, other, charge = known[0]
    with fits.open(tmp_path / "labels" / "0-labels.fits.fz") as file:
        labels = file[1].data
        assert file[0].header["CRLAB1"] == "hit" and "1.fits" in str(file[0].header["HISTORY"])
    assert labels.dtype == np.uint8 and labels.shape == image.shape
    assert (labels[charge > 1000] == LABELS["hit"]).mean() > 0.9
    # Neither the satellite nor the moving object nor a hot pixel is a hit.
    only = other & (charge == 0)
    assert (labels[only] == LABELS["hit"]).mean() < 0.02
    assert (labels[(charge == 0) & ~other] == LABELS["hit"]).sum() < 20


def test_masks_of_a_model_are_graded_as_they_are(tmp_path):
    stage = AttentionCRStage(RuntimeContext("fast", engine="openvino", masks=MaskSettings(injections=0)))
    # Together, so that chance matters less than what is wrong.
    fields = [replace(FIELDS[name], density=700.0) for name in ("narrow", "amplifiers", "wide")]
    results = [measured(field, SIDE, 7, stage, tmp_path) for field in fields]
    assert not any(result["failures"] for result in results)
    (false, area), (known, _) = (np.sum([r["false"][by] for r in results], axis=0) for by in ("graded", "true"))
    of_all = 9 * SIDE**2 / 1e6
    assert area > 0.9 * of_all and abs(false - known) <= 4
    for kind, limit in (("faint", 0.04), ("bright", 0.01), ("pixels", 0.01)):
        found, of = np.sum([result[kind]["graded"] for result in results], axis=0)
        known, all_known = np.sum([result[kind]["true"] for result in results], axis=0)
        assert found / of == pytest.approx(known / all_known, abs=limit), kind
        assert of == pytest.approx(all_known * area / of_all, rel=0.1), kind


def run(*arguments):
    result = CliRunner().invoke(main, ["grade", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_reports(triple, tmp_path):
    paths, _ = triple
    kept = tmp_path / "g.json"
    status, output = run(*paths, "--engine", "openvino", "--json", kept, "--html", tmp_path / "g.html")
    assert status == 0 and len(re.findall(r"hits found, S/N above 10 +\d+\.\d% of \d+ \(", output)) == 4
    report = json.loads(kept.read_text())
    assert report["masks"]["model"] == "fast" and len(report["masks"]["sha256"]) == 64
    low, high = report["total"]["bright_interval"]
    assert low < report["total"]["bright_completeness"] < high
    assert "graded by 3 exposures" in (tmp_path / "g.html").read_text()
    # Frames without a mask have none to be graded.
    status, output = run(*paths, "--own-mask")
    assert status == 1 and "has no mask of cosmic rays" in output and len(output.splitlines()) == 1
    assert run(*paths, "--own-mask", "--model", "fast")[0] == 2


def refused(*paths):
    status, output = run(*paths, "--engine", "openvino")
    assert status == 1 and "Traceback" not in output
    return output


def test_what_cannot_be_graded_is_refused_in_a_line(triple, tmp_path):
    paths, known = triple
    assert "give two or more" in refused(paths[0])
    copy = tmp_path / "copy.fits"
    copy.write_bytes(paths[0].read_bytes())
    assert "the same exposure as" in refused(paths[0], copy)
    unusable = []
    for keyword, value, why in (("FILTER", "g", "another filter"), ("INSTRUME", "other", "another camera")):
        unusable.append((tmp_path / f"{keyword}.fits", why))
        fits.writeto(unusable[-1][0], known[1][0], fits.Header({"GAIN": GAIN, "FILTER": "r", keyword: value}))
        output = refused(paths[0], unusable[-1][0])
        assert "no two exposures can be compared" in output and why in output and len(output.splitlines()) == 1
    # The others are graded without them, wherever they stand.
    (tmp_path / "cut.fits").write_bytes(paths[2].read_bytes()[:200_000])
    unusable += [(tmp_path / "cut.fits", "truncated"), (copy, "the same exposure as")]
    output = refused(unusable[0][0], *paths[:2], *(path for path, _ in unusable[1:]))
    for path, why in unusable:
        (line,) = (line for line in output.splitlines() if line.startswith(f"{path}: cannot be graded: "))
        assert why in line
    assert output.count(": graded") == 2 and "together" in output
    for seed in (1, 2):
        image = sky_image((SIDE, SIDE), seed=seed)
        fits.writeto(tmp_path / f"empty{seed}.fits", image, fits.Header({"FILTER": "r"}))
    output = refused(tmp_path / "empty1.fits", tmp_path / "empty2.fits")
    assert "no WCS and too few stars in common" in output and "no exposure can be graded" in output
    # Another field: the others are graded all the same.
    image = exposure(FIELDS["pair"], 0, SIDE, 99)[0]
    fits.writeto(tmp_path / "elsewhere.fits", image, fits.Header({"GAIN": GAIN, "FILTER": "r"}))
    output = refused(*paths[:2], tmp_path / "elsewhere.fits")
    assert output.count(": graded") == 2 and output.count("cannot be graded") == 1


def test_labels_are_those_of_one_exposure_each(triple, tmp_path):
    _, known = triple
    paths, masks = [], {}
    for number, (image, *_) in enumerate(known[:2]):
        paths.append(tmp_path / str(number) / "odd\n\x1b[2Jname.fits")
        paths[-1].parent.mkdir()
        fits.writeto(paths[-1], image, fits.Header({"GAIN": GAIN, "FILTER": "r"}))
        masks[paths[-1].name] = np.zeros(image.shape, bool)
    with pytest.raises(FrameError, match="would both have the labels"):
        grade(paths, Known(masks), tmp_path / "labels")
    paths[1] = paths[1].rename(paths[1].with_name("plain.fits"))
    masks["plain.fits"] = masks[paths[0].name]
    grade(paths, Known(masks), tmp_path / "labels")
    with pytest.raises(FrameError, match=r"labels\.fits\.fz exists; overwrite=True"):
        grade(paths, Known(masks), tmp_path / "labels")
    grade(paths, Known(masks), tmp_path / "labels", overwrite=True)
    found = sorted((tmp_path / "labels").iterdir())
    assert len(found) == 2 and found[1].name == "plain-labels.fits.fz"
    assert fits.getval(found[0], "CRFRAME") == "odd??[2Jname.fits"


def test_labels_are_training_data(triple, tmp_path):
    paths, known = triple
    nothing = Known({path.name: np.zeros((SIDE, SIDE), bool) for path in paths})
    grade(paths, nothing, tmp_path)
    labels = sorted(tmp_path.iterdir())
    stamps = [read_hit_table(path) for path in labels]
    for own, (_, hits, *_, charge) in zip(stamps, known, strict=True):
        # A pair of boxes and charges that belong together: noise and the faintest pixels make a difference.
        true = []
        for peak, pixels in hits:
            rows, columns = np.unravel_index(pixels, charge.shape)
            if peak > 8:
                true.append((np.ptp(rows) + 1, np.ptp(columns) + 1, charge.ravel()[pixels].sum()))
        true = np.array(true)
        assert 0.5 * len(true) < len(own) <= len(true)
        seen = np.array([(*stamp.shape, stamp.sum()) for stamp in own])
        near = np.abs(seen[:, None, :2] - true[:, :2]).max(2) <= 2
        alike = near & (np.abs(seen[:, None, 2] / true[:, 2] - 1) < 0.15)
        assert alike.any(1).mean() > 0.9 and all((stamp > 0).sum() > 1 for stamp in own)
    # As a catalogue of its own, and through one that `build` makes of several.
    assert sum(len(read_footprints(labels[0], split)) for split in SPLITS) == len(stamps[0])
    built = tmp_path / "hits.fits"
    done = CliRunner().invoke(training, ["build", *map(str, labels), "--output", str(built)], catch_exceptions=False)
    count = sum(map(len, stamps))
    assert done.exit_code == 0 and f"{count} hits" in done.output
    held = {split: read_footprints(built, split) for split in SPLITS}
    assert sum(map(len, held.values())) == count and len(held["test"]) == pytest.approx(count / 10, abs=1)
    library = Skies("validation", hits=labels[:1])
    assert [stamp.tobytes() for stamp in library.hits] == [
        s.tobytes() for s in read_footprints(labels[0], "validation")
    ]


def test_without_a_gain_labels_have_no_charge(triple, tmp_path):
    _, known = triple
    paths = [tmp_path / f"{number}.fits" for number in range(2)]
    for path, (image, *_) in zip(paths, known, strict=False):
        fits.writeto(path, image, fits.Header({"FILTER": "r"}))
    nothing = Known({path.name: np.zeros((SIDE, SIDE), bool) for path in paths})
    (first, _) = grade(paths, nothing, tmp_path)
    assert any("gain is not known" in note for note in first.notes)
    label = str(tmp_path / "0-labels.fits.fz")
    assert (fits.getdata(label, 1) == LABELS["hit"]).sum() > 100
    done = CliRunner().invoke(training, ["build", label, "--output", str(tmp_path / "hits.fits")])
    assert done.exit_code == 1 and "have no charge" in done.output and len(done.output.splitlines()) == 1


def wcs_header(x, y):
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": x, "CRPIX2": y}
    return fits.Header({**cards, "CD1_1": -1e-4, "CD2_2": 1e-4, "CD1_2": 0.0, "CD2_1": 0.0})


def test_a_wcs_is_checked_by_the_stars():
    from crattn_stage.fits.wcs import sky_wcs

    rng = np.random.default_rng(0)
    place, flux = rng.uniform(0, 1000, (80, 2)), np.sort(rng.pareto(0.8, 80))[::-1]
    shapes = (1000, 1000), (1000, 1000)

    def stars(dx, dy):
        return Stars(place[:, 0] + dx, place[:, 1] + dy, flux, flux)

    def at(found):
        return np.ravel(found.mapping.at(500.0, 500.0))

    right = sky_wcs(wcs_header(500, 500)), sky_wcs(wcs_header(512, 493))
    found = register(stars(0, 0), stars(12.3, -7.4), shapes, right)
    assert found.how == "WCS" and at(found) == pytest.approx([512.3, 492.6], abs=0.01)
    # It is off by a hundred pixels.
    found = register(stars(0, 0), stars(112.3, -7.4), shapes, right)
    assert found.how == "stars" and "disagrees" in found.note
    assert at(found) == pytest.approx([612.3, 492.6], abs=0.01)
    far = sky_wcs(wcs_header(500, 500)), sky_wcs(wcs_header(5000, 500))
    other = Stars(*rng.uniform(0, 1000, (2, 80)), flux, flux)
    with pytest.raises(FrameError, match="do not overlap"):
        register(stars(0, 0), other, shapes, far)
    few = Stars(place[:3, 0], place[:3, 1], flux[:3], flux[:3])
    assert register(few, few, shapes, right).how == "WCS alone"


def test_bad_pixels_that_were_registered_instead_of_stars_are_not_graded(tmp_path):
    """A warm camera without a WCS: what stays is as much of the detector as of the sky, and the rest is in no mask."""
    rng = np.random.default_rng(4)
    common = rng.integers(20, 380, (40, 2))
    paths, masks = [], {}
    for number in range(2):
        image, mask = rng.normal(1000, 5, (400, 400)), np.zeros((400, 400), bool)
        own = rng.integers(20, 380, (120, 2))
        for row, column in [*common, *own]:
            image[row - 1 : row + 2, column - 1 : column + 2] += np.outer((200, 500, 200), (0.5, 1, 0.5))
        for row, column in own:
            mask[row - 1 : row + 2, column - 1 : column + 2] = True
        paths.append(tmp_path / f"{number}.fits")
        fits.writeto(paths[-1], image.astype(np.float32), fits.Header({"FILTER": "r", "EXPTIME": 60.0}))
        masks[paths[-1].name] = mask
    # A mask that has them says that they are hits.
    assert all(result.failure == "" for result in grade(paths, Known(masks)))
    empty = {name: np.zeros_like(mask) for name, mask in masks.items()}
    for result in grade(paths, Known(empty)):
        assert "may be bad pixels instead of stars" in result.failure


def hidden(paths):
    """Return masks that have nothing."""
    return Known({path.name: np.zeros((SIDE, SIDE), bool) for path in paths})


def written(folder, images, **header):
    """Write exposures; return their paths."""
    paths = [folder / f"{number}.fits" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        fits.writeto(path, image.astype(np.float32), fits.Header({"GAIN": GAIN, "FILTER": "r", **header}))
    return paths


def labels_of(folder, number):
    return fits.getdata(folder / "labels" / f"{number}-labels.fits.fz", 1)


def test_pixels_that_flicker_are_no_hits(triple, tmp_path):
    """They are bright in two of three exposures, and in one of them ten times as bright."""
    _, known = triple
    images = [image.copy() for image, *_ in known]
    rng = np.random.default_rng(3)
    place = tuple(rng.integers(20, SIDE - 20, (2, 60)))
    images[0][place] += 3000
    images[2][place] += 300
    paths = written(tmp_path, images)
    grade(paths, hidden(paths), tmp_path / "labels")
    assert (labels_of(tmp_path, 0)[place] == LABELS["hit"]).mean() < 0.05
    assert (labels_of(tmp_path, 2)[place] == LABELS["hit"]).mean() < 0.05


def test_saturated_stars_are_not_judged_though_no_header_tells_the_level(triple, tmp_path):
    _, known = triple
    full = 1500.0
    images = [np.minimum(image * scale, full) for (image, *_), scale in zip(known, (1.0, 0.8, 1.1), strict=True)]
    paths = written(tmp_path, images)
    grade(paths, hidden(paths), tmp_path / "labels")
    for number, (image, (_, _, _, _, charge)) in enumerate(zip(images, known, strict=True)):
        labels = labels_of(tmp_path, number)
        star = (image >= full) & (charge == 0)
        assert star.sum() > 20 and (labels[star] == LABELS["unknown"]).all()
        # Hits that are saturated are hits.
        hit = (image >= full) & (charge > 1000)
        assert not hit.any() or (labels[hit] == LABELS["hit"]).mean() > 0.5


def test_the_rim_is_not_judged(triple, tmp_path):
    """Nor is overscan that was left."""
    _, known = triple
    images = [image.copy() for image, *_ in known]
    for image in images:
        image[:, -20:] = np.random.default_rng(1).normal(20, 3, (SIDE, 20))
    paths = written(tmp_path, images)
    grade(paths, hidden(paths), tmp_path / "labels")
    labels = labels_of(tmp_path, 0)
    rim = np.ones(labels.shape, bool)
    rim[4:-4, 4:-24] = False
    assert (labels[rim] == LABELS["unknown"]).all() and (labels[~rim] == LABELS["unknown"]).mean() < 0.15


def test_stars_that_differ_are_warned_of(triple, tmp_path):
    from scipy.ndimage import uniform_filter1d

    _, known = triple
    images = [image for image, *_ in known]
    assert not any(result.warnings for result in grade(triple[0], hidden(triple[0])))
    # Tracking failed during the second exposure.
    paths = written(tmp_path, [images[0], uniform_filter1d(images[1], 9, axis=1), images[2]])
    kept = tmp_path / "g.json"
    status, output = run(*paths, "--engine", "openvino", "--json", kept)
    assert status == 0 and re.search(r"WARN: with 1.fits: the stars differ by \d+% of their light", output)
    frames = json.loads(kept.read_text())["frames"]
    assert all(any("the stars differ" in warning for warning in frame["warnings"]) for frame in frames)


def test_of_few_stars_it_is_warned(tmp_path):
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:SIDE, :SIDE]
    stars = rng.integers(30, SIDE - 30, (12, 2))
    images, masks = [], {}
    for number in range(3):
        image, mask = rng.normal(1000, 5, (SIDE, SIDE)), np.zeros((SIDE, SIDE), bool)
        for row, column in stars + 5 * number:
            image += 900 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)
        for row, column in rng.integers(20, SIDE - 20, (30, 2)):
            image[row, column : column + 3] += 200
            mask[row, column : column + 3] = True
        images.append(image)
        masks[f"{number}.fits"] = mask
    for result in grade(written(tmp_path, images), Known(masks)):
        assert result.grade.bright_found > 20 and re.search(r"no more than 1\d stars", " ".join(result.warnings))


def still(folder, count, flicker):
    """Write exposures that did not move, with single pixels of their own, and others that flicker."""
    rng = np.random.default_rng(6)
    stars = rng.integers(20, SIDE - 20, (60, 2))
    places = rng.integers(20, SIDE - 20, (flicker, 2))
    images = []
    for number in range(count):
        image = rng.normal(1000, 5, (SIDE, SIDE))
        for row, column in stars:
            image[row - 2 : row + 3, column - 2 : column + 3] += 900 * np.outer(*[[0.1, 0.5, 1, 0.5, 0.1]] * 2)
        image[tuple(rng.integers(20, SIDE - 20, (2, 40)))] += 200
        image[tuple(places[np.arange(flicker) % count != number].T)] += 200
        images.append(image)
    return written(folder, images, EXPTIME=60.0)


@pytest.mark.parametrize(("count", "flicker", "is_refused"), [(2, 0, True), (3, 0, False), (3, 20, True)])
def test_single_pixels_of_a_set_that_did_not_move_are_hits_only_if_none_flickers(tmp_path, count, flicker, is_refused):
    paths = still(tmp_path, count, flicker)
    for result in grade(paths, Known({path.name: fits.getdata(path) > 1150 for path in paths})):
        assert ("are single pixels" in result.failure) == is_refused
        assert is_refused or result.grade.bright > 35
    # A mask of bad pixels settles it.
    for path in paths:
        with fits.open(path, mode="append") as file:
            bad = np.zeros((SIDE, SIDE), np.uint8)
            bad[3, 3] = 1
            file.append(fits.ImageHDU(bad, name="BPM"))
    for result in grade(paths, Known({path.name: fits.getdata(path) > 1150 for path in paths})):
        assert not result.failure


def test_stars_are_registered_among_many_hot_pixels(tmp_path):
    """A warm camera that drifts, without a WCS: a hundred hot pixels stay where they are, and thirty stars move."""
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:SIDE, :SIDE]
    hot, stars = tuple(rng.integers(10, SIDE - 10, (2, 100))), rng.integers(30, SIDE - 30, (30, 2))
    images, masks = [], {}
    for number in range(3):
        image = rng.normal(1000, 5, (SIDE, SIDE))
        image[hot] += 500
        for row, column in stars + 6 * number:
            image += 900 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)
        images.append(image)
        masks[f"{number}.fits"] = np.zeros((SIDE, SIDE), bool)
        masks[f"{number}.fits"][hot] = True
    for result in grade(written(tmp_path, images), Known(masks)):
        assert result.grade.fixed > 90 and result.grade.false + result.grade.hit + result.grade.bright < 4
