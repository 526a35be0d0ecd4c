"""Made-up people for tests of the prior's training: quick to make, quick to draw."""

import numpy as np
import torch

from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import GeneratorConfig
from dgtalker.render import render
from dgtalker.training.prior.config import PriorConfig
from fakes.template import fake_template

SIZE = 32
TINY = GeneratorConfig(map_size=SIZE, channels=(8, 8, 4), appearance_dim=8, hair_dim=4, mapping_hidden=8)
TEMPLATE = fake_template()


class FakePeople:
    """Balls with two colour factors and hair that is long or absent; exactly linear but for the hair's opacity."""

    expression_names = TEMPLATE.expression_names

    def __init__(self):
        self.atlas = TEMPLATE.atlas(SIZE)
        self.corners = TEMPLATE.triangles[self.atlas.texel_triangle].long()
        self.made = 0

    def fingerprint(self):
        return "balls"

    def sample(self, rng):
        return rng.standard_normal(8).astype(np.float32)

    def groups(self, person):
        return {"tone": "light" if person[5] > 0 else "dark"}

    def choices(self, person):
        return []

    def factors(self, person):
        return person

    def shape(self, person):
        return person[:5]

    def texels(self, person, expression):
        self.made += 1
        vertices = TEMPLATE.vertices + torch.tensordot(torch.from_numpy(person[:5]), TEMPLATE.shape_basis, 1)
        vertices = vertices + torch.tensordot(torch.from_numpy(expression), TEMPLATE.expression_basis, 1)
        positions = (vertices[self.corners] * self.atlas.texel_bary[..., None]).sum(1)
        ramp = self.atlas.texel_rowcol[:, 1:].float() / SIZE
        color = torch.tensor([0.6, 0.5, 0.4]) + 0.1 * person[5] * ramp + 0.1 * person[6] * (1 - ramp)
        hair = self.atlas.texel_part == 2
        opacity = torch.where(hair & bool(person[7] < 0), 0.0, 1.0)
        return {"positions": positions, "color": color, "opacity": opacity}

    def capture(self, person, expressions, cameras):
        made = self.texels(person, expressions[0])
        n = len(made["color"])
        ball = Gaussians(
            made["positions"], torch.tensor([[1.0, 0, 0, 0]]).expand(n, 4), torch.full((n, 3), 0.07),
            made["opacity"] * 0.9, made["color"],
        )  # fmt: skip
        return render(ball, cameras, backend="reference")[0].numpy()


class GeneratedPeople(FakePeople):
    """The same people, pictured with the splats of a generator that holds them exactly."""

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def capture(self, person, expressions, cameras):
        made = self.texels(person, expressions[0])
        splats = self.generator(self.generator.w_mean[None])[0].detach()
        splats.means, splats.colors = made["positions"], made["color"]
        splats.opacities = made["opacity"] * 0.97
        return (render(splats, cameras)[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def settings(folder, **changes):
    values = dict(
        generator=TINY, people=6, captured=3, held_out=1, image_size=24, uv_steps=12, view_steps=8, mapping_steps=20,
        uv_minutes=60, view_minutes=60, people_minutes=60, expressions=2, workers=1, uv_batch=2, checkpoint_seconds=1e9,
    )  # fmt: skip
    return PriorConfig(folder, **(values | changes))
