import numpy as np
import pytest

from dgtalker import metrics


def noise(seed=0, size=64):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def face(opening=10.0, lids=6.0):
    """478 landmarks whose lips open by `opening` pixels and whose lids stand `lids` pixels apart."""
    points = np.random.default_rng(0).uniform(90, 110, (478, 2))
    points[33], points[133], points[263], points[362] = (60, 90), (85, 90), (160, 90), (135, 90)
    for u, v in metrics.INNER_PAIRS:
        points[u], points[v] = (110, 150 - opening / 2), (110, 150 + opening / 2)
    for pairs, (outer, inner) in metrics.EYES:
        for u, v in pairs:
            x = (points[outer][0] + points[inner][0]) / 2
            points[u], points[v] = (x, 90 - lids / 2), (x, 90 + lids / 2)
    return points


def test_psnr_of_a_known_error():
    a = np.full((8, 8, 3), 100, np.uint8)
    assert metrics.psnr(a, a + 5) == pytest.approx(20 * np.log10(255 / 5), abs=1e-4)
    assert metrics.psnr(a, a) == metrics.PSNR_CEILING


def test_ssim_is_one_for_the_same_and_low_for_another_picture():
    pytest.importorskip("skimage")
    assert metrics.ssim(noise(), noise()) == pytest.approx(1, abs=1e-5)
    assert metrics.ssim(noise(), noise(1)) < 0.2


def test_lips_have_forty_landmarks_and_a_box_inside_the_picture():
    assert len(set(metrics.LIPS)) == 40
    points = face()
    rows, columns = metrics.mouth_box(points, 256)
    lips = points[list(metrics.LIPS)]
    assert columns.start < lips[:, 0].min() and columns.stop > lips[:, 0].max()
    rows, columns = metrics.mouth_box(points - 300, 256)  # outside: still a box that can be cut out
    assert noise(size=256)[rows, columns].size > 0


def test_aperture_is_measured_in_eye_distances():
    assert metrics.aperture(face(opening=10)) == pytest.approx(10 / 100)
    assert metrics.aperture(2 * face(opening=10)) == pytest.approx(10 / 100)


def test_eye_closure_rises_as_the_lids_meet():
    count_closures = [metrics.eye_closure(face(lids=lids)) for lids in (8, 4, 0)]
    assert count_closures == sorted(count_closures) and count_closures[-1] == pytest.approx(0)


def test_lip_distance_sees_lips_only():
    a, b = face(), face()
    b[list(metrics.LIPS)] += (3, 4)
    b[33] += 100
    assert metrics.lip_distance(a, b) == pytest.approx(5)


def test_pearson_leaves_out_missed_frames_and_is_zero_for_a_still_curve():
    a = np.sin(np.arange(30.0))
    b = a.copy()
    b[3] = np.nan
    assert metrics.pearson(a, b) == pytest.approx(1)
    assert metrics.pearson(a, np.ones(30)) == 0


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_best_lag_counts_frames_that_the_rendering_is_late(late):
    curves = [np.convolve(np.random.default_rng(i).normal(size=90), np.ones(5), "same") for i in range(3)]
    assert metrics.best_lag(curves, [np.roll(c, late) for c in curves]) == late


def test_spearman_sees_order_not_size():
    x = np.linspace(0, 1, 11)
    assert metrics.spearman(x, x**5) == pytest.approx(1)
    assert metrics.spearman(x, -x) == pytest.approx(-1)


def test_region_change_and_motion_energy_stay_inside_the_mask():
    a = np.zeros((8, 8, 3), np.uint8)
    b = a.copy()
    b[:4] = 10
    upper = np.zeros((8, 8), np.float32)
    upper[:4] = 1
    assert metrics.region_change(a, b, upper) == pytest.approx(10)
    assert metrics.region_change(a, b, 1 - upper) == 0
    assert metrics.motion_energy([a, b, a], upper) == pytest.approx(100)
    assert metrics.motion_energy([a], upper) == 0


def test_slope_is_the_gain_and_wild_frames_turn_only_the_plain_one():
    x = np.linspace(0, 0.3, 60)
    y = 0.02 + 0.75 * x
    y[10] = np.nan
    assert metrics.slope(x, y) == pytest.approx(0.75) and metrics.robust_slope(x, y) == pytest.approx(0.75)
    y[-2:] = 3
    assert metrics.slope(x, y) > 1.5 and metrics.robust_slope(x, y) == pytest.approx(0.75, abs=0.02)
    assert np.isnan(metrics.slope(np.ones(60), y)) and np.isnan(metrics.robust_slope(np.ones(60), y))


def test_robust_slope_of_a_long_curve_needs_no_more_memory():
    x = np.random.default_rng(0).uniform(size=100_000)
    assert metrics.robust_slope(x, 2 * x) == pytest.approx(2)


def test_binned_medians_follow_a_bent_curve():
    x = np.random.default_rng(0).uniform(size=400)
    true, made = metrics.binned_medians(x, np.minimum(x, 0.5))
    assert len(true) == 10 and (np.diff(true) > 0).all()
    np.testing.assert_allclose(made, np.minimum(true, 0.5), atol=1e-3)
    assert len(metrics.binned_medians(np.array([1.0, np.nan]), np.ones(2))[0]) == 1


@pytest.mark.parametrize("size", [128, 256])
def test_outline_is_as_wide_in_any_size_of_picture(size):
    alpha = np.zeros((3, size, size), np.uint8)
    alpha[1, size // 4 : -size // 4, size // 4 : -size // 4] = 255
    alpha[2] = 255
    outline = metrics.find_outline(alpha)
    row, reach = outline.rim[1, size // 2], 4 * size // 256
    assert np.flatnonzero(row)[: 2 * reach].tolist() == list(range(size // 4 - reach, size // 4 + reach))
    assert row.sum() == 4 * reach and outline.inside[1, size // 2].sum() == size // 2 - 2 * reach
    assert not outline.rim[[0, 2]].any() and not outline.inside[0].any() and outline.inside[2].all()


def test_error_share_is_of_the_squared_error():
    a, b = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)
    b[0, 0, 0], b[1, 3, 3] = 10, 20
    where = np.zeros((2, 4, 4), bool)
    where[1, 3, 3] = True
    assert metrics.error_share(a, b, where) == pytest.approx(0.8)
    assert np.isnan(metrics.error_share(a, a, where))
