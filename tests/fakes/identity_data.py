"""A tiny prior on the real template and a data set rendered through it: one made-up person who "speaks" tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dgtalker.camera import Camera, orbit_camera
from dgtalker.head.generator import Generator, GeneratorConfig
from dgtalker.head.splats import region_weights
from dgtalker.head.template import HeadTemplate
from dgtalker.navigation.speech_backbone import BackboneConfig, SpeechBackbone
from dgtalker.render import render
from dgtalker.video.dataset import ClipInfo, DatasetInfo, write_clip, write_info

SIZE, FEATURES = 64, 80


def tiny_generator() -> Generator:
    """32² texels, few channels, a little colour."""
    torch.manual_seed(0)
    config = GeneratorConfig(map_size=32, channels=(8, 8, 8), appearance_dim=6, hair_dim=2, z_dim=8, mapping_hidden=8)
    generator = Generator(config, HeadTemplate.load())
    with torch.no_grad():
        generator.color_mean.copy_(
            0.5 + 0.2 * torch.sin(9 * generator.surface.positions(generator.rest_vertices[None])[0])
        )
        generator.color_basis.normal_(0, 0.03)
    return generator.eval()


def write_fake_dataset(folder: Path, generator: Generator, clips: int = 3, frames: int = 30) -> Path:
    """Clips in which jawOpen follows features 0..3 and the eyelids and brows signals of their own."""
    random = np.random.default_rng(0)
    names = list(generator.template.expression_names)
    jaw, brow = names.index("jawOpen"), names.index("browInnerUp")
    blinks = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    shape = torch.randn(len(generator.template.shape_basis), generator=torch.Generator().manual_seed(1)) * 0.5
    appearance = torch.randn(generator.config.appearance_dim, generator=torch.Generator().manual_seed(2))
    upper, lower = region_weights(generator)
    infos = []
    for c in range(clips):
        t = np.arange(frames)
        opening = np.clip(np.sin(t / 3 + c), 0, 1) * 0.6
        lift, blink = np.clip(np.sin(t / 7 + 2 * c), 0, 1) * 0.8, (np.abs(t % 13 - 6) < 2) * 0.9
        expression = torch.zeros(frames, 52)
        expression[:, jaw], expression[:, brow] = torch.from_numpy(opening).float(), torch.from_numpy(lift).float()
        for index in blinks:
            expression[:, index] = torch.from_numpy(blink).float()
        features = random.normal(0, 0.1, (2 * frames, FEATURES))
        features[:, :4] += np.repeat(opening, 2)[:, None] * 4
        features[:, 4:6] += np.repeat(lift, 2)[:, None] * 2
        camera = Camera.stack([orbit_camera(yaw=6 * np.sin(k / 9 + c), size=SIZE) for k in t])
        w = generator.w_from_geometry(shape.expand(frames, -1), expression)
        w[:, generator.slices["appearance"]] = appearance
        images, alphas, ups, lows, points = [], [], [], [], []
        with torch.no_grad():
            for k in range(frames):
                splats = generator(w[k : k + 1])[0]
                image, alpha = render(splats, camera[k : k + 1])
                splats.colors = torch.stack([upper, lower, 0 * lower], dim=-1)
                regions, _ = render(splats, camera[k : k + 1], background=(0.0, 0.0, 0.0))
                images.append(image[0])
                alphas.append(alpha[0, ..., 0])
                ups.append(regions[0, ..., 0])
                lows.append(regions[0, ..., 1])
                points.append(project(generator.template.landmarks(generator.vertices(w[k : k + 1]))[0], camera[k]))

        def byte(rows):
            return (torch.stack(rows).clamp(0, 1) * 255).round().byte()

        tensors = {
            "images": byte(images), "alpha": byte(alphas), "mask_upper": byte(ups), "mask_lower": byte(lows),
            "world_to_camera": camera.world_to_camera, "intrinsics": camera.intrinsics,
            "landmarks": torch.stack(points), "expression": expression, "scores": expression.clone(),
            "blink": torch.from_numpy(blink).float(), "features": torch.from_numpy(features).half(),
        }  # fmt: skip
        write_clip(folder, f"clip{c}", tensors)
        infos.append(ClipInfo(f"clip{c}", frames, "made up"))
    write_info(folder, DatasetInfo("log-mel", shape.tolist(), infos, size=SIZE))
    return folder


def project(points: torch.Tensor, camera: Camera) -> torch.Tensor:
    """World points [M, 3] -> pixels [M, 2]."""
    seen = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    pixels = seen @ camera.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


def write_backbone(folder, kind: str = "log-mel", dim: int = FEATURES) -> Path:
    """A small speech backbone that knows nothing."""
    torch.manual_seed(0)
    backbone = SpeechBackbone(BackboneConfig(kind, dim, ("aperture", "width"), hidden=8, dropout=0.0))
    return backbone.save_pretrained(folder, {"training": {"attribution": "CC0, the backbone's people"}}, "# toy\n")
