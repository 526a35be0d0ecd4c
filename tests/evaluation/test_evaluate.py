"""The whole report, on a data set rendered from the very identity that is then measured: the truth is known."""

import json

import numpy as np
import pytest
import torch

from dgtalker.camera import orbit_camera
from dgtalker.errors import UserError
from dgtalker.evaluation import EvaluationConfig, evaluate
from dgtalker.evaluation import metrics as m
from dgtalker.evaluation.evaluate import draw
from dgtalker.identity import Identity
from dgtalker.video.dataset import ClipInfo, Dataset, DatasetInfo, write_clip, write_info

SIZE, FRAMES, SHORTER = 64, 16, 10  # every clip has so many frames less than the one before


def read_faces(pictures):
    """Stands for MediaPipe: lips open with the darkness of the lower half, lids with the brightness of the upper."""
    found = []
    for picture in pictures:
        rows = picture.astype(np.float64).mean((1, 2))
        points = np.random.default_rng(0).uniform(0.4, 0.6, (478, 2)) * SIZE
        points[33], points[133], points[263], points[362] = (10, 20), (26, 20), (54, 20), (38, 20)
        for u, v in m.INNER_PAIRS:
            gap = (255 - rows[SIZE // 2 :].mean()) / 10
            points[u], points[v] = (32, 48 - gap / 2), (32, 48 + gap / 2)
        for pairs, _ in m.EYES:
            for u, v in pairs:
                gap = rows[: SIZE // 2].mean() / 20
                points[u], points[v] = (32, 20 - gap), (32, 20 + gap)
        found.append(points)
    return np.array(found, np.float32)


def make_dataset(folder, identity, clips=2, late=0, kind="log-mel"):
    """Clips rendered from the identity's own answer to random features, the pictures `late` frames late."""
    camera = orbit_camera(size=SIZE)
    infos = []
    for number in range(clips):
        rng, frames = np.random.default_rng(number), FRAMES - SHORTER * number
        smooth = np.cumsum(rng.normal(size=(2 * frames, 80)), 0) * 0.3
        features, blink = smooth.astype(np.float16), np.linspace(0, 1, frames).astype(np.float32)
        codes = identity.encode(features.astype(np.float32), blink)
        pictures = np.stack([draw(identity, e, a, camera) for e, a in zip(*codes, strict=True)])
        upper = np.zeros((frames, SIZE, SIZE), np.uint8)
        lower = upper.copy()
        upper[:, : SIZE // 2 - 4], lower[:, SIZE // 2 + 4 :] = 255, 255
        tensors = {
            "images": np.roll(pictures, late, axis=0),
            "alpha": np.full((frames, SIZE, SIZE), 255, np.uint8),
            "mask_upper": upper,
            "mask_lower": lower,
            "world_to_camera": camera.world_to_camera.expand(frames, 4, 4).numpy(),
            "intrinsics": camera.intrinsics.expand(frames, 3, 3).numpy(),
            "landmarks": np.zeros((frames, 478, 2), np.float32),
            "expression": np.zeros((frames, 52), np.float32),
            "scores": np.zeros((frames, 52), np.float32),
            "blink": blink,
            "features": features,
        }
        name = f"clip{number}"
        write_clip(folder, name, {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()})
        infos.append(ClipInfo(name, frames, "made"))
    write_info(folder, DatasetInfo(kind, [0.0] * 4, infos, size=SIZE))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def identity(fake_identity):
    return Identity.from_pretrained(fake_identity)


@pytest.fixture(scope="module")
def report(identity, tmp_path_factory):
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("set")
    dataset = make_dataset(folder, identity)
    config = EvaluationConfig(refine_cameras=True, sheets=folder / "sheets")
    return evaluate(identity, dataset, config, faces=read_faces), folder


def test_keys_that_other_tools_read(report):
    report = json.loads(json.dumps(report[0]))
    wanted = {"psnr", "psnr_mouth", "ssim", "lmd_px", "aperture_r", "aperture_lag_frames"}
    for block in (report["self_driven"], report["baselines"]["static"], report["self_driven_refined"]):
        assert wanted <= set(block)
    assert {"lip_to_upper", "exp_to_lower"} <= set(report["leakage"])
    assert {"spearman", "lip_motion_ratio"} <= set(report["blink"])
    assert "mouth_energy_ratio" in report["silence"]
    assert report["frames"] == 2 * FRAMES - SHORTER and len(report["clips"]) == 2
    assert set(report["hashes"]) == {"identity", "dataset"}


def test_the_truth_scores_perfectly_and_the_static_head_does_not(report):
    moving, static = report[0]["self_driven"], report[0]["baselines"]["static"]
    assert moving["psnr"] == m.PSNR_CEILING and moving["ssim"] == pytest.approx(1, abs=1e-4)
    assert moving["lmd_px"] == 0 and moving["aperture_r"] == pytest.approx(1) and moving["aperture_lag_frames"] == 0
    assert static["psnr"] < 60 and static["aperture_r"] == 0 and static["lmd_px"] > 0


def test_alignment_does_no_harm_where_cameras_are_right(report):
    assert report[0]["self_driven_refined"]["psnr"] == m.PSNR_CEILING


def test_blink_and_leakage_of_a_head_made_without_leakage(report):
    assert report[0]["leakage"]["lip_to_upper"] < 0.1
    assert report[0]["blink"]["lip_motion_ratio"] < 0.2


def test_sheets_are_written(report):
    assert sorted(path.name for path in (report[1] / "sheets").iterdir()) == ["clip0.jpg", "clip1.jpg"]


def test_pictures_that_come_before_the_rendering_make_it_late(identity, tmp_path):
    pytest.importorskip("skimage")
    report = evaluate(identity, make_dataset(tmp_path, identity, late=-2), faces=read_faces)
    assert report["self_driven"]["aperture_lag_frames"] == 2
    assert report["self_driven"]["aperture_r"] < 0.99


def test_no_clips_to_evaluate_is_refused(identity, tmp_path):
    dataset = make_dataset(tmp_path, identity, clips=1)
    with pytest.raises(UserError, match="At least one clip"):
        evaluate(identity, dataset, EvaluationConfig(clips=0), faces=read_faces)
