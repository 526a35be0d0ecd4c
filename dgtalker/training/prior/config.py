"""Settings of train-prior."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from dgtalker.errors import UserError
from dgtalker.head.generator import GeneratorConfig
from dgtalker.people.target_cache import PeopleConfig


@dataclass(frozen=True)
class PriorConfig:
    """Settings of train-prior. Minutes are wall-clock time; a run with infinite ones can be repeated exactly."""

    output: Path  # folder of the prior and of its training state
    people_folder: Path | None = None  # of synthesize-people; None: a folder of the output
    makehuman: Path | None = None  # folder with MakeHuman skins, hair, eyes, ... (CC0), to generate missing people
    resume: bool = False  # continue from the folder's state
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)  # size of the generator
    seed: int = 0  # of people, weights and batches
    people: int = 900  # people with UV targets, at most
    captured: int = 360  # of these, people with pictures, at most
    people_minutes: float = 20.0  # time to generate those who are missing
    workers: int | None = None  # processes that generate them, of 1 GB each; None: one per core
    held_out: int = 8  # further people, never trained on, to measure with
    expressions: int = 3  # expressions per person, both for UV targets and pictures
    views: int = 4  # pictures per expression
    image_size: int = 256  # side of the pictures in pixels
    uv_minutes: float = 4.0  # stage 1
    uv_steps: int = 4000  # stage 1, at most
    uv_batch: int = 4  # people per step in stage 1, all processes together
    view_minutes: float = 45.0  # stage 2
    view_steps: int = 20000  # stage 2, at most
    view_batch: int = 1  # people per step in stage 2, all processes together
    views_per_step: int = 2  # pictures of each of them
    mapping_steps: int = 1500  # of the mapping network
    checkpoint_seconds: float = 120.0  # between saved states
    measure_seconds: float = 240.0  # between measurements on held-out people
    log_steps: int = 50  # between records of the losses, which are means over these steps
    learning_rate: float = 2e-3  # of the convolutions; the other groups are scaled to it
    device: str = "cpu"  # cpu or cuda
    precision: str = "auto"  # of the convolutions: float32, bfloat16, or auto: the faster one, float32 on a CPU

    @staticmethod
    def preset(name: str, output: Path, size: str | None = None, **changes) -> PriorConfig:
        """Settings called "cpu" (an hour or two on two cores) or "gpu", with a generator of `size` "fast" or "full".

        Without a size: fast for cpu, full for gpu.
        """
        sizes = {
            ("cpu", "fast"): {},
            ("cpu", "full"): {
                "people": 700, "captured": 600, "image_size": 384, "uv_minutes": 6.0, "view_minutes": 60.0,
            },
            ("gpu", "fast"): {"image_size": 384},
            ("gpu", "full"): {"image_size": 512},
        }  # fmt: skip
        gpu = {
            "people": 2000, "captured": 1000, "people_minutes": 180.0, "uv_minutes": 30.0, "uv_steps": 20000,
            "uv_batch": 16, "view_minutes": 600.0, "view_steps": 200000, "view_batch": 8,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
        }  # fmt: skip
        size = size or ("full" if name == "gpu" else "fast")
        if (name, size) not in sizes:
            raise UserError(f"There is no preset '{name}' of size '{size}': choose cpu or gpu, fast or full.")
        base = PriorConfig(output, generator=GeneratorConfig.preset(size))
        return replace(base, **sizes[name, size] | (gpu if name == "gpu" else {}) | changes)

    @property
    def people_config(self) -> PeopleConfig:
        """What is generated of every person."""
        return PeopleConfig(self.seed, self.generator.map_size, self.image_size, self.expressions, self.views)
