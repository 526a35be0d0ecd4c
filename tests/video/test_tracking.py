import numpy as np
import torch

from dgtalker.video.tracking import (
    LandmarkModel,
    Tracker,
    TrackingConfig,
    rotation_from_vector,
    smooth_signals,
    vector_from_rotation,
)


def face_model(seed=0, shapes=8, units=12):
    """Landmarks on the front of an ellipsoid with smooth random deformations."""
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(478, 3, generator=g)
    p[:, 2] = p[:, 2].abs()
    normals = torch.nn.functional.normalize(p, dim=-1)
    mean = normals * torch.tensor([0.8, 1.1, 0.9])

    def basis(count, scale):
        frequency = 2 * torch.randn(count, 3, 3, generator=g)
        phase = 6 * torch.rand(count, 1, 3, generator=g)
        return scale * torch.sin(torch.einsum("lc,kcd->kld", mean, frequency) + phase)

    return LandmarkModel(mean, basis(shapes, 0.05), basis(units, 0.12), normals, torch.ones(478), torch.ones(478))


def video(model, frames=90, noise=0.0, seed=1):
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(frames) / 25
    turn = torch.stack([0.1 * torch.sin(5 * t), 0.15 * torch.sin(2 * t), 0.05 * torch.sin(3 * t)], -1)
    rotation = rotation_from_vector(turn) @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    translation = torch.stack([0.1 * torch.sin(t), 0.05 * torch.cos(t), 12 + 0.1 * torch.sin(2 * t)], -1)
    units = len(model.expression_basis)
    scores = (0.5 + 0.5 * torch.sin(t[:, None] * torch.rand(units, generator=g) * 8)) * 0.5
    shape = torch.randn(len(model.shape_basis), generator=g)
    points = model.mean + torch.einsum("k,klc->lc", shape, model.shape_basis)
    points = points + torch.einsum("te,elc->tlc", scores, model.expression_basis)
    camera = torch.einsum("tij,tlj->tli", rotation, points) + translation[:, None]
    pixels = 3.75 * 288 * camera[..., :2] / camera[..., 2:] + torch.tensor([180.0, 144.0])
    pixels = pixels + noise * torch.randn(pixels.shape, generator=g)
    measured = (scores + 0.1 * torch.randn(scores.shape, generator=g)).clamp(0, 1)
    return pixels, measured, rotation, scores


def test_recovers_pose_and_expression():
    model = face_model()
    pixels, measured, rotation, scores = video(model, noise=0.2)
    tracker = Tracker(model)
    identity = tracker.fit_identity(pixels, measured, torch.tensor([360.0, 288.0]).expand(len(pixels), 2))
    track = tracker.track(pixels, measured, (360, 288), identity)
    assert track.error.mean() < 0.5
    angle = vector_from_rotation(track.rotation @ rotation.transpose(1, 2)).norm(dim=-1).rad2deg()
    assert angle.max() < 2.0
    assert (track.expression - scores).abs().mean() < 0.08
    assert torch.allclose(track.translation[:, 2].median(), torch.tensor(12.0), atol=0.3)


def test_smoothing_removes_jitter_and_keeps_nods():
    model = face_model()
    pixels, measured, rotation, _ = video(model, noise=1.5)
    sizes = torch.tensor([360.0, 288.0]).expand(len(pixels), 2)
    identity = Tracker(model).fit_identity(pixels, measured, sizes)
    errors = {}
    for smooth in (False, True):
        tracker = Tracker(model, TrackingConfig(smooth=smooth))
        track = tracker.track(pixels, measured, (360, 288), identity)
        turn = vector_from_rotation(track.rotation @ rotation.transpose(1, 2)).rad2deg()
        errors[smooth] = (turn - turn.mean(0)).square().mean().sqrt()
    assert errors[True] < 0.7 * errors[False]


def test_clean_signals_stay():
    t = np.arange(75) / 25
    clean = np.stack([np.sin(2 * np.pi * 1.5 * t), t**2], -1)  # a nod, a slow drift
    assert np.abs(smooth_signals(clean) - clean).max() < 0.02
    rng = np.random.default_rng(0)
    noisy = clean + 0.1 * rng.standard_normal(clean.shape)
    assert np.std(smooth_signals(noisy) - clean) < 0.07


def test_rotation_vector_round_trip():
    v = torch.randn(20, 3) * 0.5
    assert torch.allclose(vector_from_rotation(rotation_from_vector(v)), v, atol=1e-5)
    assert vector_from_rotation(torch.eye(3)[None]).abs().max() == 0
