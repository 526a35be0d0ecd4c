"""Training of the generative prior on synthetic people: one command, resumable at any moment.

0. people: UV targets and pictures, cached on disk          (people_cache.py)
   the linear path in closed form, hence every person's w   (linear_path.py)
1. uv: all attributes supervised in the UV map, no rendering; then the mapping network z -> w
2. views: image losses against the pictures, through the renderer
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dgtalker.errors import UserError
from dgtalker.head.generator import Generator, GeneratorConfig
from dgtalker.head.template import HeadTemplate
from dgtalker.render import render
from dgtalker.training import common
from dgtalker.training.expressions import factors_from_expression
from dgtalker.training.image_loss import image_loss, psnr
from dgtalker.training.linear_path import LinearPath, fit_linear_path
from dgtalker.training.people_cache import HELD_OUT, PeopleConfig, PeopleSource, SyntheticPeople, TexelTargets, Views
from dgtalker.training.people_folder import open_people
from dgtalker.training.people_making import make_people, wanted_people
from dgtalker.training.prior_losses import SmoothnessPairs, regularisers, uv_loss
from dgtalker.training.recorded_expressions import recorded_expressions

STATE_FILE = "state.safetensors"
STOPPED = "Stopped; the same command with --resume continues."


@dataclass(frozen=True)
class PriorConfig:
    """Settings of train-prior."""

    output: Path  # folder of the prior and of its training state
    people_folder: Path | None = None  # of synthesize-people; None: a folder of the output
    makehuman: Path | None = None  # folder with MakeHuman skins, hair, eyes, ... (CC0), to make missing people
    resume: bool = False  # continue from the folder's state
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)  # size of the generator
    seed: int = 0  # of people, weights and batches
    people: int = 480  # people with UV targets, at most
    captured: int = 320  # of these, people with pictures, at most
    people_minutes: float = 15.0  # time to make those who are missing
    workers: int | None = None  # processes to make them, of 1 GB each; None: one a core
    held_out: int = 8  # further people, never trained on, to measure with
    expressions: int = 3  # expressions per person, both for UV targets and pictures
    views: int = 4  # pictures per expression
    image_size: int = 256  # side of the pictures in pixels
    uv_minutes: float = 4.0  # stage 1
    uv_steps: int = 4000  # stage 1, at most
    uv_batch: int = 4  # people per step in stage 1
    view_minutes: float = 45.0  # stage 2
    view_steps: int = 20000  # stage 2, at most
    view_batch: int = 1  # people per step in stage 2
    views_per_step: int = 2  # pictures of each of them
    mapping_steps: int = 1500  # of the mapping network
    checkpoint_seconds: float = 120.0  # between saved states
    measure_seconds: float = 240.0  # between measurements on held-out people
    learning_rate: float = 2e-3  # of the convolutions; the other groups are scaled to it
    device: str = "cpu"  # cpu or cuda

    @staticmethod
    def preset(name: str, output: Path, **changes) -> PriorConfig:
        """ "cpu" (an hour on two cores) or "gpu"."""
        if name == "cpu":
            base = PriorConfig(output)
        elif name == "gpu":
            base = PriorConfig(
                output, generator=GeneratorConfig.preset("full"), people=2000, captured=1000,
                people_minutes=180, image_size=512, uv_minutes=30, uv_steps=20000, uv_batch=16, view_minutes=600,
                view_steps=200000, view_batch=8, device="cuda" if torch.cuda.is_available() else "cpu",
            )  # fmt: skip
        else:
            raise UserError(f"There is no preset '{name}': choose cpu or gpu.")
        return replace(base, **changes)

    @property
    def people_config(self) -> PeopleConfig:
        """What is made of every person."""
        return PeopleConfig(self.seed, self.generator.map_size, self.image_size, self.expressions, self.views)


def train_prior(
    config: PriorConfig,
    progress: common.Progress = common.no_progress,
    cancelled: common.Cancelled = common.never,
    source: PeopleSource | None = None,
    template: HeadTemplate | None = None,
) -> Path:
    """Train a prior and write it to `config.output`; returns that folder.

    Args:
        progress: progress(done, total, message) in minutes of the stage's time box.
        cancelled: asked between steps; Ctrl-C does the same.
        source, template: other people or another head than the packaged ones.

    Raises:
        UserError: bad folder, settings or state.
        TrainingStopped: stopped on request, after saving a state for --resume.
    """
    with common.stop_on_interrupt(cancelled) as stop:
        return _Run(config, progress, stop, source, template).all_stages()


class _Run:
    """One run of train_prior: what the stages share."""

    def __init__(self, config, progress, stop, source, template):
        self.config, self.progress, self.stop = config, progress, stop
        self.output = Path(config.output)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            self.log = common.Log(self.output / "log.jsonl")
        except OSError as error:
            raise UserError(f"'{self.output}' cannot be written: {error.strerror}.") from error
        self.template = template or HeadTemplate.load()
        if source is None:
            if config.makehuman is None:
                raise UserError("Synthetic people need --makehuman, the folder with MakeHuman's skins, hair and eyes.")
            source = SyntheticPeople(config.makehuman, config.generator.map_size, template)
        self.source = source
        folder = Path(config.people_folder or self.output / "people")
        recorded = recorded_expressions(folder, source.expression_names)
        self.cache = open_people(folder, source, config.people_config, self.template, recorded)
        self.saved, self.values = self._load()
        self.checkpoint_due = common.Every(config.checkpoint_seconds)
        self.measure_due = common.Every(config.measure_seconds)

    # ---- state ----

    def _load(self) -> tuple[dict[str, Tensor], dict]:
        fresh = {"stage": "people", "step": 0, "used_s": 0.0, "people": None, "captured": None}
        if not self.config.resume:
            return {}, fresh
        try:
            tensors, values = common.load_state(self.output / STATE_FILE)
        except FileNotFoundError:
            return {}, fresh  # stopped before there was anything but the cache
        if values["settings"] != self._settings():
            raise UserError(f"The state in '{self.output}' was made with other settings; leave --resume out.")
        return tensors, values

    def _settings(self) -> dict:
        # Only what a state must agree on: longer time boxes or more steps may be asked for on resuming.
        generator = {k: v for k, v in asdict(self.config.generator).items() if k != "z_dim"}
        return json.loads(json.dumps({"generator": generator, "seed": self.config.seed}))

    def _save(self, optimizer: torch.optim.Optimizer | None, **values) -> None:
        self.values.update(values, settings=self._settings(), numpy_rng=common.numpy_rng_state(self.rng))
        tensors = common.pack("model", self.generator.state_dict()) | common.pack("rng", common.rng_tensors())
        if optimizer is not None:
            tensors |= common.pack("optimizer", common.optimizer_tensors(optimizer))
        common.save_state(self.output / STATE_FILE, tensors, self.values)

    def _stop_here(self, optimizer=None, **values) -> None:
        if hasattr(self, "generator"):
            self._save(optimizer, **values)
        raise common.TrainingStopped(STOPPED)

    # ---- stages ----

    def all_stages(self) -> Path:
        """Everything, skipping what the saved state has behind it."""
        self._make_people()
        self._make_generator()
        if self.values["stage"] == "people":
            self._next_stage("uv")
        if self.values["stage"] == "uv":
            self._train_uv()
            self._next_stage("mapping")
        if self.values["stage"] == "mapping":
            self._train_mapping()
            self._next_stage("views")
        if self.values["stage"] == "views":
            self._train_views()
            self._next_stage("done")
        return self._finish()

    def _next_stage(self, stage: str) -> None:
        self.saved = {}
        self._save(None, stage=stage, step=0, used_s=0.0)

    def _make_people(self) -> None:
        config, values, cache = self.config, self.values, self.cache
        wanted = wanted_people(config.people, config.captured, config.held_out)
        if values["people"] is not None:  # the same people as before, however long they take
            wanted = wanted_people(values["people"], values["captured"], config.held_out)
        box = common.TimeBox(config.people_minutes if values["people"] is None else math.inf)
        must = min(len(wanted), config.held_out + 4)
        make_people(cache, wanted[:must], config.workers, self.progress, self.stop)
        make_people(cache, wanted, config.workers, self.progress, self.stop, lambda: box.over)
        here = [(i, pictures) for i, pictures in wanted if cache.has(i, pictures)]
        values["people"] = sum(i < HELD_OUT for i, _ in here)
        values["captured"] = sum(i < HELD_OUT and pictures for i, pictures in here)
        self.log(stage="people", people=values["people"], captured=values["captured"], seconds=round(box.used_s, 1))
        held_out = [HELD_OUT + i for i in range(config.held_out)]
        self.people: list[TexelTargets] = [cache.texels(i) for i in range(values["people"])]
        self.people_held_out: list[TexelTargets] = [cache.texels(i) for i in held_out]
        self.pictures: list[Views] = [cache.views(i) for i in range(values["captured"])]
        self.pictures_held_out: list[Views] = [cache.views(i) for i in held_out]

    def _make_generator(self) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng([config.seed, 7])
        names = self.source.expression_names
        z_dim = len(self.people[0].factors) + len(names)
        generator = Generator(replace(config.generator, z_dim=z_dim), self.template)
        sample = np.stack([self.cache.draw_expression(np.random.default_rng([config.seed, 8, i])) for i in range(500)])
        path: LinearPath = fit_linear_path(generator, self.people, torch.from_numpy(sample))
        self.w_rest = torch.stack([path.encode(generator, p) for p in self.people])  # [P,W]
        held_out = [path.encode(generator, p) for p in self.people_held_out]
        self.w_held_out = torch.stack(held_out) if held_out else torch.zeros(0, generator.w_dim)
        if self.saved:
            generator.load_state_dict(common.unpack("model", self.saved))
            common.restore_rng(common.unpack("rng", self.saved))
            common.restore_numpy_rng(self.rng, self.values["numpy_rng"])
        self.generator = generator.to(config.device)
        self.generator.train()

    def _w(self, w_rest: Tensor, expressions: Tensor) -> Tensor:  # [B,W], [B,52] -> [B,W]
        w = w_rest.clone()
        w[:, self.generator.slices["expression"]] = expressions / self.generator.expression_std.cpu()
        return w.to(self.config.device)

    def _optimizer(self, scales: dict[str, float]) -> torch.optim.Adam:
        """Adam over the parameters whose names start with a key of `scales`; learning rates are scaled by it."""
        groups = []
        for prefix, scale in scales.items():
            parameters = [p for n, p in self.generator.named_parameters() if n.startswith(prefix)]
            groups.append({"params": parameters, "lr": self.config.learning_rate * scale, "scale": scale})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        if saved := common.unpack("optimizer", self.saved):
            common.restore_optimizer(optimizer, saved)
        return optimizer

    def _schedule(self, optimizer: torch.optim.Optimizer, box: common.TimeBox, step: int, steps: int) -> None:
        done = max(box.fraction, step / steps)
        factor = min(1.0, (step + 1) / 100) * (0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["scale"] * factor

    def _loop(self, stage: str, scales: dict[str, float], minutes: float, steps: int, step_loss) -> None:
        """Optimise `step_loss(step) -> dict with "loss"` until time or steps are over; save and measure."""
        optimizer = self._optimizer(scales)
        box = common.TimeBox(minutes, self.values["used_s"])
        step, running = self.values["step"], {}
        while step < steps and not box.over:
            if self.stop():
                self._stop_here(optimizer, step=step, used_s=box.used_s)
            self._schedule(optimizer, box, step, steps)
            optimizer.zero_grad(set_to_none=True)
            parts = step_loss(step)
            parts["loss"].backward()
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 5.0)
            optimizer.step()
            step += 1
            for name, value in parts.items():
                value = float(value.detach())
                running[name] = 0.98 * running.get(name, value) + 0.02 * value
            if step % 50 == 0:
                self.log(stage=stage, step=step, **{k: round(v, 5) for k, v in running.items()})
                self.progress(box.used_s / 60, minutes, f"{stage}: step {step}, loss {running['loss']:.4f}")
            if self.checkpoint_due():
                self._save(optimizer, step=step, used_s=box.used_s)
            if stage == "views" and self.measure_due():
                self._measure(step)
        self.values.update(step=step, used_s=box.used_s)

    def _train_uv(self) -> None:
        config = self.config
        stacked = {
            "positions": torch.stack([p.positions for p in self.people]),  # [P,S,N,3]
            "color": torch.stack([p.color for p in self.people]),
            "opacity": torch.stack([p.opacity for p in self.people]),
            "expressions": torch.stack([p.expressions for p in self.people]),
        }
        self.uv_targets = stacked
        scales = {"synthesis": 1.0, "color_mean": 0.5, "offset_mean": 0.2, "logit_opacity_mean": 5.0}
        self._loop("uv", scales, config.uv_minutes, config.uv_steps, lambda step: self._uv_step(config.uv_batch))

    def _uv_step(self, batch: int) -> dict[str, Tensor]:
        targets, device = self.uv_targets, self.config.device
        who = torch.from_numpy(self.rng.integers(len(self.people), size=batch))
        face = torch.from_numpy(self.rng.integers(targets["expressions"].shape[1], size=batch))
        w = self._w(self.w_rest[who], targets["expressions"][who, face])
        attributes = self.generator.attributes(w, return_residuals=True)
        return uv_loss(
            self.generator, attributes, targets["positions"][who, face].float().to(device),
            targets["color"][who].float().to(device) / 255, targets["opacity"][who].float().to(device) / 255,
        )  # fmt: skip

    def _train_mapping(self) -> None:
        """Regress w from z = (factors of the person, of the expression), starting from a ridge regression."""
        generator, config = self.generator, self.config
        mapping, rest = generator.mapping, generator.slices["expression"]
        factors = torch.stack([p.factors for p in self.people])  # [P,Zp]
        n_person = factors.shape[1]
        x = torch.cat([factors, torch.ones(len(factors), 1)], 1)
        ridge = x.T @ x + 0.05 * len(x) * torch.eye(x.shape[1])
        solution = torch.linalg.solve(ridge, x.T @ self.w_rest)  # [Zp+1,W]
        with torch.no_grad():
            mapping.linear.weight.zero_()
            mapping.linear.bias.copy_(solution[-1])
            mapping.linear.weight[:, :n_person] = solution[:-1].T.to(mapping.linear.weight)
        optimizer = torch.optim.AdamW(mapping.parameters(), lr=1e-3, weight_decay=1e-2)
        bank = np.stack([self.cache.draw_expression(self.rng) for _ in range(max(500, 2 * config.mapping_steps))])
        for step in range(config.mapping_steps):
            if self.stop():  # a few seconds' work: it starts again from the state saved before it
                raise common.TrainingStopped(STOPPED)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 - step / config.mapping_steps)
            who = torch.from_numpy(self.rng.integers(len(self.people), size=256))
            scores = bank[self.rng.integers(len(bank), size=256)]
            z = torch.cat([factors[who], torch.from_numpy(factors_from_expression(scores, self.rng))], 1)
            # A little noise on the person's factors: there are few people, and near ones look alike.
            z[:, :n_person] += 0.1 * torch.randn(256, n_person)
            target = self._w(self.w_rest[who], torch.from_numpy(scores))
            loss = F.mse_loss(mapping(z.to(config.device)), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            z = torch.zeros(len(self.w_held_out), n_person + rest.stop - rest.start)
            for i, person in enumerate(self.people_held_out):
                z[i, :n_person] = person.factors
            error = mapping(z.to(config.device)).cpu() - self.w_held_out
            held_out = {n: round(float(error[:, s].square().mean()), 4) for n, s in generator.slices.items()}
        if config.mapping_steps:
            self.log(stage="mapping", loss=loss.detach(), held_out_squared_error=held_out)

    def _train_views(self) -> None:
        config = self.config
        if not self.pictures:
            return
        self.pairs = SmoothnessPairs(self.generator)
        self.uv_targets = {
            "positions": torch.stack([p.positions for p in self.people]),
            "color": torch.stack([p.color for p in self.people]),
            "opacity": torch.stack([p.opacity for p in self.people]),
            "expressions": torch.stack([p.expressions for p in self.people]),
        }
        if self.values["step"] == 0:
            self._measure(0)
        scales = {
            "synthesis": 0.4, "color_mean": 0.5, "color_basis": 0.07, "offset_mean": 0.1, "log_scale_mean": 1.5,
            "axis_angle_mean": 0.5, "logit_opacity_mean": 4.0, "hair_basis": 0.04,
        }  # fmt: skip
        self._loop("views", scales, config.view_minutes, config.view_steps, self._view_step)
        self._measure(self.values["step"])

    def _view_step(self, step: int) -> dict[str, Tensor]:
        config, generator = self.config, self.generator
        chosen = []
        for _ in range(config.view_batch):
            person = int(self.rng.integers(len(self.pictures)))
            views = self.pictures[person]
            face = int(self.rng.integers(len(views.expressions)))
            of_face = (views.expression_index == face).nonzero()[:, 0].numpy()
            pick = self.rng.permutation(of_face)[: config.views_per_step]
            chosen.append((person, views, face, torch.from_numpy(pick)))
        w = self._w(
            torch.stack([self.w_rest[c[0]] for c in chosen]), torch.stack([c[1].expressions[c[2]] for c in chosen])
        )
        attributes = generator.attributes(w, return_residuals=True)
        gaussians = generator.gaussians_from_attributes(attributes)
        image = torch.zeros((), device=config.device)
        for item, (_, views, _, pick) in enumerate(chosen):
            pictures, _ = render(gaussians[item], views.cameras[pick].to(config.device))
            target = views.images(pick).to(config.device).float() / 255
            image = image + image_loss(pictures, target) / len(chosen)
        parts = {"image": image, **regularisers(generator, attributes, self.pairs)}
        if step % 4 == 0:  # the true surface keeps holding the splats, most of all where no picture looks
            parts["uv"] = 0.2 * self._uv_step(1)["loss"]
        return {"loss": sum(parts.values()), **{k: v.detach() for k, v in parts.items()}}

    @torch.no_grad()
    def _measure(self, step: int) -> dict[str, float]:
        """PSNR on held-out people, and a picture of them: truth above, render below."""
        from dgtalker.training.contact_sheet import save_rows

        if not self.pictures_held_out:
            return {}
        scores: dict[str, list[float]] = {"front": [], "side": []}
        rows: list[list[np.ndarray]] = []
        for w_rest, views in zip(self.w_held_out, self.pictures_held_out, strict=True):
            truth, ours = [], []
            for i in range(len(views)):
                face = int(views.expression_index[i])
                gaussians = self.generator(self._w(w_rest[None], views.expressions[face][None]))[0]
                picture = render(gaussians, views.cameras[[i]].to(self.config.device))[0][0].cpu().clamp(0, 1)
                target = views.images([i])[0].float() / 255
                scores["side" if i % 2 else "front"].append(psnr(picture, target))
                truth.append(target.numpy())
                ours.append(picture.numpy())
            if len(rows) < 8:
                rows += [truth, ours]
        result = {f"psnr_{k}": round(float(np.mean(v)), 3) for k, v in scores.items()}
        self.log(stage="held_out", step=step, **result)
        save_rows(self.output / "held_out.png", rows)
        self.values["held_out"] = {"people": len(self.pictures_held_out), "step": step, **result}
        return result

    def _finish(self) -> Path:
        from dgtalker.training.contact_sheet import write_sheets
        from dgtalker.training.model_card import write_card

        generator = self.generator.to("cpu").eval()
        facts = {"people": self.values["people"], "captured": self.values["captured"],
                 "held_out": self.values.get("held_out", {})}  # fmt: skip
        settings = {k: v for k, v in asdict(self.config).items() if isinstance(v, int | float) and k != "resume"}
        generator.save_pretrained(self.output, training={**settings, **facts})
        write_sheets(Generator.from_pretrained(self.output, template=self.template), self.output)
        write_card(self.output, generator, facts)
        self.log(stage="done", **facts["held_out"])
        return self.output
