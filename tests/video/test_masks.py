import numpy as np
import pytest
import torch

from dgtalker.camera import orbit_camera
from dgtalker.head.template import TEMPLATE_PATH, HeadTemplate
from dgtalker.video.masks import (
    JAW,
    JAW_ANGLES,
    LOBES,
    NOSE_BASE,
    HeadGeometry,
    face_masks,
    hanging_hair_mask,
    head_region,
    neck_fade,
    neck_skin_mask,
    project,
)

pytestmark = pytest.mark.skipif(not TEMPLATE_PATH.is_file(), reason="the packaged head template is absent")


@pytest.fixture(scope="module")
def head():
    template = HeadTemplate.load()
    return HeadGeometry.from_template(template, torch.zeros(len(template.shape_basis)))


def view(yaw=0.0, pitch=0.0):
    camera = orbit_camera(yaw, pitch, 256)
    return camera.world_to_camera.double().numpy(), camera.intrinsics.double().numpy()


@pytest.mark.parametrize("yaw", [-30, 0, 30])
def test_halves_are_separate_and_the_nose_is_dead(head, yaw):
    pose, intrinsics = view(yaw)
    upper, lower = face_masks(head, pose, intrinsics, 256)
    assert (upper * lower).max() == 0
    marks = np.floor(project(head.landmarks, pose, intrinsics)[:, :2]).astype(int)

    def at(mask, *indices):
        return [mask[marks[i, 1], marks[i, 0]] for i in indices]

    assert min(at(upper, 10, 151, 159, 145, 386, 374)) > 0.98  # forehead and eyelids
    assert min(at(lower, 13, 14, 17, 0, 61, 291, 152)) > 0.98  # lips and chin
    assert max(at(upper, 4, 1) + at(lower, 4)) < 0.05  # the tip of the nose
    assert at(upper, NOSE_BASE)[0] == 0


def test_region_ends_at_the_neck(head):
    pose, intrinsics = view()
    landmarks = project(head.landmarks, pose, intrinsics)[:, :2]
    region = head_region(head, landmarks, pose, intrinsics, 256)
    inside = np.floor(landmarks[[10, 4, 152]]).astype(int)
    assert region[inside[:, 1], inside[:, 0]].min() > 0.98
    assert region[-4:].max() < 0.02  # below the neck
    chin = inside[2, 1]
    assert region[chin + 12, :60].max() < 0.02 and region[chin + 12, -60:].max() < 0.02  # shoulders
    assert region[5, 5:-5].min() > 0.98  # hair may be wide


def test_collar_goes_and_skin_stays(head):
    pose, intrinsics = view()
    landmarks = project(head.landmarks, pose, intrinsics)[:, :2]
    angle = np.linspace(np.pi, 0, len(JAW))
    landmarks[list(JAW)] = landmarks[13] + np.stack([48 * np.cos(angle), 38 * np.sin(angle)], 1)
    region = head_region(head, landmarks, pose, intrinsics, 256)
    rng = np.random.default_rng(0)
    shading = np.linspace(1.1, 0.6, 256)[None, :, None]
    picture = np.float32([0.75, 0.55, 0.45]) * shading * np.ones((256, 1, 1)) + rng.normal(0, 0.01, (256, 256, 3))
    middle, chin = (int(v) for v in landmarks[152])
    picture[chin + 12 :, : middle - 22] = [0.2, 0.25, 0.35]  # denim
    keep = neck_skin_mask(picture.clip(0, 1).astype(np.float32), region, landmarks, 80.0)
    assert keep[chin + 18 : chin + 30, middle - 40 : middle - 27].max() < 0.1
    assert keep[chin + 18 : chin + 30, middle - 12 : middle + 25].min() > 0.9
    assert keep[: chin - 20, middle - 30 : middle + 30].min() > 0.98


@pytest.mark.parametrize("roll", [0, 20])
def test_every_neck_fades_out_along_its_ring(head, roll):
    pose, intrinsics = view()
    angle = np.radians(roll)
    pose[:3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ pose[:3]
    fade = neck_fade(head, pose, intrinsics, 256)
    middle = project(np.array([[0, head.ring[:, 1].min(), head.ring[:, 2].max()]]), pose, intrinsics)[0, :2]
    up = np.array([np.sin(angle), -np.cos(angle)])
    values = [fade[tuple(np.floor((middle + step * up)[::-1]).astype(int))] for step in range(-6, 40)]
    assert values[0] == 0 and values[-1] == 1 and (np.diff(values) >= 0).all()
    assert sum(0.02 < v < 0.98 for v in values) >= 8  # smooth, no edge
    assert 0.02 < np.abs(np.diff(values)).max() < 0.2


def _person(head, hair_down: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture of a person in a jersey, alpha, region, neck fade and landmarks; brown hair, long or above the ears."""
    pose, intrinsics = view()
    landmarks = project(head.landmarks, pose, intrinsics)[:, :2]
    region, fade = head_region(head, landmarks, pose, intrinsics, 256), neck_fade(head, pose, intrinsics, 256)
    y, x = np.mgrid[:256, :256] + 0.5
    hull = landmarks[:468]
    middle, half = hull[:, 0].mean(), 0.5 * np.ptp(hull[:, 0])
    lobes = landmarks[list(LOBES), 1].max()
    hem = np.flatnonzero(fade[:, 128] < 0.5)[0]
    skin = (np.abs(x - middle) < 0.6 * half) | (np.hypot(x - middle, y - hull[:, 1].mean()) < half)
    bottom = hem + 5 if hair_down else lobes - 12
    hair = (np.hypot(x - middle, y - lobes + 20) < 1.5 * half) & (y < lobes) & (y < bottom)
    hair |= (np.abs(x - middle) > 0.95 * half) & (np.abs(x - middle) < 1.4 * half) & (y > lobes - 40) & (y < bottom)
    jersey = (y > hem - 8) & ~hair
    picture = np.full((256, 256, 3), 0.9, np.float32)
    picture[skin], picture[jersey], picture[hair & ~skin] = [0.75, 0.55, 0.45], [0.2, 0.3, 0.6], [0.3, 0.2, 0.12]
    picture += np.random.default_rng(0).normal(0, 0.01, picture.shape).astype(np.float32)
    return picture.clip(0, 1), (skin | jersey | hair).astype(np.float32), region, fade, landmarks


def test_long_hair_stays_down_to_the_neck_and_the_clothes_beside_it_go(head):
    picture, alpha, region, fade, landmarks = _person(head, hair_down=True)
    mask = hanging_hair_mask(picture, alpha, region, fade, landmarks, 80.0)
    row = int(landmarks[list(JAW_ANGLES), 1].max()) + 4
    columns = np.flatnonzero((np.abs(picture[row] - [0.3, 0.2, 0.12]).max(-1) < 0.06) & (region[row] < 0.1))
    assert len(columns) > 20 and mask[row, columns].mean() > 0.85
    jersey = np.abs(picture - [0.2, 0.3, 0.6]).max(-1) < 0.06
    assert (mask * jersey).max() < 0.6 and (mask * jersey).sum() < 0.1 * mask.sum()


def test_short_hair_adds_nothing_below_the_ears(head):
    picture, alpha, region, fade, landmarks = _person(head, hair_down=False)
    mask = hanging_hair_mask(picture, alpha, region, fade, landmarks, 80.0)
    assert mask[int(landmarks[list(LOBES), 1].max()) + 6 :].max() < 0.05
