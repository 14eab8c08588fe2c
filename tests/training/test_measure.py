from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from training_support import few_planes_fixture, noise_with_hits, skies_fixture  # noqa: F401

from training.data.contamination import Scene
from training.data.skies import Sky
from training.evaluation import empty, peers, tables
from training.evaluation.lco import read_test_set
from training.evaluation.measure import Objects, completeness, measure, visible
from training.evaluation.scene_sets import make_scenes, star_scenes


def test_hits_are_counted_one_by_one():
    image = np.full((60, 60), 100, np.float32)
    sky = Sky(image, np.zeros(image.shape, bool), 100.0, 5.0, gain=2.0)
    rows, columns = [10, 40], [10, 30]
    charge, truth = np.zeros_like(image), np.zeros(image.shape, bool)
    for row, column, length, value in zip(rows, columns, (3, 12), (100, 1000), strict=True):
        charge[row, column : column + length] = value
        truth[row - 1 : row + 2, column - 1 : column + length + 1] = True
    scene = Scene(sky, image + charge / 2, truth)
    objects = Objects.of([scene, scene])
    assert objects.charge.tolist() == [300, 12000] * 2 and np.allclose(objects.length, np.hypot(1, [3, 12, 3, 12]))
    assert objects.peak.tolist() == [10, 100] * 2
    found = np.zeros(image.shape, bool)
    found[41, 41] = True
    assert objects.found([found, ~truth]).tolist() == [False, True, False, False]
    assert completeness(objects.charge, objects.found([found, truth]), (0, 1000, np.inf)) == [(0.5, 2), (1.0, 2)]


def test_what_can_be_told_from_noise():
    clean = np.zeros((20, 40), np.float32)
    sky = Sky(clean, np.zeros(clean.shape, bool), 100.0, 2.0, gain=1.0)
    image, truth = clean.copy(), np.zeros(clean.shape, bool)
    # A hit of 10 sigma, whose last pixel has half a sigma; and one of 1.5 sigma.
    image[5, 5:9], image[15, 30] = (20, 5, 1, 1), 3
    truth[4:7, 4:10], truth[14:17, 29:32] = True, True
    touching, bright = visible([Scene(sky, image, truth)])
    np.testing.assert_allclose(touching, [21 / 27, 12 / 27, 9 / 27])
    assert bright == 18 / 27


def test_star_scenes_know_their_stars():
    scenes, stars = star_scenes(200)
    for scene, cores in zip(scenes, stars, strict=True):
        assert len(cores) > 20
        values = scene.image[tuple(cores.T)]
        assert np.median(values) > scene.sky.level + 5 * scene.sky.sigma


def masking(mask):
    """Return a peer that masks the same pixels of every scene."""
    return peers.Peer("fixed", lambda scenes: ([mask.astype(np.float32)] * len(scenes), 0.0), 0.5)


def test_stars_without_hits_are_masked_by_a_ring_too():
    scenes, stars = empty.lone_stars(widths=(2.5,))
    assert len(stars[0]) == 300
    (scene,), mask = scenes, np.zeros(scenes[0].image.shape, bool)
    peaks = tuple(np.rint(stars[0]).astype(int).T)
    # The brightest have a S/N of 10,000, the faintest can be seen.
    assert scene.image[peaks][-1] > 1e6 and np.median(scene.image[peaks][:20]) > scene.sky.level + 3 * scene.sky.sigma
    assert empty.masked_stars(masking(mask), scenes, stars) == [0]
    for row, column in np.transpose(peaks)[:30]:
        mask[row, column + 3] = mask[row + 5, column + 5] = True
    assert empty.masked_stars(masking(mask), scenes, stars) == [0.1]


def test_objects_in_noise_are_counted_hot_pixels_aside():
    fields = empty.noise_fields(200)
    assert [field.name for field in fields][:2] == ["Gaussian", "Poisson, 5 e"] and len(fields) == 7
    mask = np.zeros((200, 200), bool)
    mask[10, 10:12] = mask[100, 100] = True
    fields[0].expected[100, 99:101] = True
    counts = empty.false_objects(masking(mask), fields[:1])
    assert counts == [1 / 200**2 * 1e6]
    sigma = [field.scene.sky.sigma for field in fields]
    tails = [(field.scene.image < field.scene.sky.level - 4 * s).mean() for field, s in zip(fields, sigma, strict=True)]
    # Those of Student's t are heavier than a Gaussian's.
    assert tails[0] < 2e-4 and tails[3] > 1e-3


def test_a_detector_and_its_twin_get_the_same_draws():
    scenes = noise_with_hits()
    (scrappy,) = peers.method("astro-scrappy", settings=[5.0], levels=(3.0,))
    results = [
        measure("stars", scenes, replace(scrappy, name=name, threshold=threshold))
        for name, threshold in (("att-deepcr", 4.0), ("deepcr", 4.0), ("released att-deepcr", 2.0))
    ]
    text = str(tables.differences("stars", "star fields", results))
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert lines["att-deepcr - deepcr"].count("0.00 [0.00, 0.00]") >= 3
    assert not lines["att-deepcr - released att-deepcr"].endswith("0.00 [0.00, 0.00]")
    assert "released att-deepcr - deepcr" not in text and len(lines) == 5


def write_lco(path, exposures=3):
    """Write a file in the layout of the LCO cosmic-ray data set."""
    rng = np.random.default_rng(0)
    shape = (60, 70)
    hdus = fits.HDUList([fits.PrimaryHDU()])
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 9.3})

    def add(data, name, version=0):
        hdus.append(fits.CompImageHDU(data, header, name=name))
        hdus[-1].ver = version

    images = [rng.normal(200, 14, shape).astype(np.float32) for _ in range(exposures)]
    hits = [np.zeros(shape, np.uint8) for _ in images]
    for number, (image, hit) in enumerate(zip(images, hits, strict=True)):
        hit[10 * number + 5, 20:30] = 1
        image[hit == 1] += 2000
    for number, image in enumerate(images):
        add(image, "SCI", number)
    add(np.ones(shape, np.uint8), "VALID_MASK", 1)
    hdus.append(fits.BinTableHDU(name="CAT"))
    for hit in hits:
        add(hit, "CR")
    for number in range(exposures):
        ignore = np.zeros(shape, np.uint8)
        ignore[:, :3], ignore[50, 50] = 1, 8 * (number == 1)
        add(ignore, "IGNORE")
    hdus.writeto(path)


def test_the_lco_data_set_is_read_and_scored(tmp_path):
    folder = tmp_path / "test_set" / "masked_fits"
    folder.mkdir(parents=True)
    write_lco(folder / "coj0m403-kb24-20190101-0147-e91_3frms_masks.fits")
    write_lco(folder / "lsc1m009-fa04-20190101-0150-e91_3frms_masks.fits")
    sets = read_test_set(tmp_path, 1)
    assert {name: len(scenes) for name, scenes in sets.items()} == {"0m4": 3, "1m0": 3}
    for number, scene in enumerate(sets["0m4"]):
        assert scene.sky.bad.sum() == 60 * 3 + (number == 1) and scene.sky.read_noise == 9.3
        assert scene.truth.sum() == 3 * 12 and scene.truth[10 * number + 4 : 10 * number + 7, 19:31].all()
    (scrappy,) = peers.method("astro-scrappy", settings=[15.0], objlim=0.5)
    result = measure("0m4", sets["0m4"], scrappy)
    assert result.row["objects"] == 1 and result.row["tpr"] > 0.9 and result.row["fpr"] < 1e-2
    text = "".join(map(str, tables.accuracy("LCO", "LCO 0m4", [result])))
    assert "Astro-SCRAPPY 15" in text and f"{result.row['f1']:.4f}" in text
    assert f"{result.row['fpr']:.5f}" in str(tables.summary([result]))
    fits.PrimaryHDU().writeto(folder / "ogg2m001-ep01-20190101-0001-e91_3frms_masks.fits")
    with pytest.raises(ValueError, match="not of the LCO CR data set"):
        read_test_set(tmp_path, 1)


def test_scenes_of_other_names_have_other_noise_and_hits(skies):
    # Names of one length had one seed.
    one, other = (make_scenes(skies, name, 1)[0] for name in ("stars:1.5", "stars:1.2"))
    assert not np.array_equal(one.truth, other.truth)
    again = make_scenes(skies, "stars:1.5", 1)[0]
    assert np.array_equal(one.image, again.image) and np.array_equal(one.truth, again.truth)


@pytest.mark.parametrize("name", ["moon", "r:5", "stars:wide", "coadd:-3"])
def test_unknown_scenes_are_refused(skies, name):
    with pytest.raises(ValueError, match=f"unknown scenes '{name}'; known: r, z"):
        make_scenes(skies, name, 1)


def test_scenes_without_their_data_say_what_is_missing(skies):
    with pytest.raises(ValueError, match="'z': there is no deep coadd"):
        make_scenes(skies, "z", 1)
    with pytest.raises(ValueError, match="'frames': no frames are given"):
        make_scenes(skies, "frames", 1)
