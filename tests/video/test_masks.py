import numpy as np
import pytest
import torch

from dgtalker.camera import orbit_camera
from dgtalker.head.template import TEMPLATE_PATH, HeadTemplate
from dgtalker.video.masks import JAW, NOSE_BASE, HeadGeometry, face_masks, head_region, neck_skin_mask, project

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
