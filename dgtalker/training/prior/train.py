"""Training of the generative prior on synthetic people: resumable at any step, in one process or many.

0. people: UV targets and pictures are generated and cached on disk (dgtalker/people).
   The linear path in closed form, and with it every person's latent w (linear_path.py).
1. uv: all attributes supervised in the UV map, without rendering (steps.py, losses.py).
   mapping: the mapping network z -> w (mapping.py).
2. views: image losses against the pictures, through the renderer (steps.py).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker import resumable
from dgtalker.errors import UserError
from dgtalker.head.generator import Generator
from dgtalker.head.template import HeadTemplate
from dgtalker.metrics.image_loss import tensor_psnr
from dgtalker.people.cache_key import open_people
from dgtalker.people.generation import list_wanted_people, make_people
from dgtalker.people.recorded_expressions import load_recorded_expressions
from dgtalker.people.source import PeopleSource, SyntheticPeople
from dgtalker.people.target_cache import HELD_OUT, TexelTargets, Views
from dgtalker.render import render
from dgtalker.training.prior.config import PriorConfig
from dgtalker.training.prior.distributed import ProcessGroup
from dgtalker.training.prior.linear_path import fit_linear_path
from dgtalker.training.prior.mapping import mapping_error, train_mapping
from dgtalker.training.prior.precision import choose_precision, set_precision
from dgtalker.training.prior.steps import PriorBatches, latents_with_expressions

STATE_FILE = "state.safetensors"
STOPPED = "Stopped; the same command with --resume continues."
# Parameters of each stage: start of their names, and learning rate relative to PriorConfig.learning_rate.
UV_RATES = {"synthesis": 1.0, "color_mean": 0.5, "offset_mean": 0.2, "logit_opacity_mean": 5.0}
VIEW_RATES = {
    "synthesis": 0.4, "color_mean": 0.5, "color_basis": 0.07, "offset_mean": 0.1, "log_scale_mean": 1.5,
    "axis_angle_mean": 0.5, "logit_opacity_mean": 4.0, "hair_basis": 0.04,
}  # fmt: skip


def train_prior(
    config: PriorConfig,
    progress: resumable.Progress = resumable.no_progress,
    cancelled: resumable.Cancelled = resumable.always_false,
    source: PeopleSource | None = None,
    template: HeadTemplate | None = None,
) -> Path:
    """Train a prior and write it to `config.output`; returns that folder.

    Under torchrun every process calls this with the same files; only the first one writes and reports.

    Args:
        config: settings.
        progress: called as progress(done, total, message) in each stage, in people or in percent.
        cancelled: asked between steps whether to stop; Ctrl-C does the same.
        source: people other than the synthetic ones.
        template: head template other than the packaged one.

    Raises:
        UserError: bad folder, settings or state.
        TrainingStopped: stopped on request, after saving a state for --resume.
    """
    with resumable.stop_on_interrupt(cancelled) as stop, ProcessGroup(config.device) as processes:
        return _PriorTraining(config, progress, stop, source, template, processes).run_all_stages()


class _PriorTraining:
    """One run of train_prior: what the stages share."""

    def __init__(
        self,
        config: PriorConfig,
        progress: resumable.Progress,
        stop: resumable.Cancelled,
        source: PeopleSource | None,
        template: HeadTemplate | None,
        processes: ProcessGroup,
    ):
        self.config, self.stop, self.processes = config, stop, processes
        self.progress = progress if processes.is_first else resumable.no_progress
        self.output = Path(config.output)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            log = resumable.RunLog(self.output / "log.jsonl")
        except OSError as error:
            raise UserError(f"'{self.output}' cannot be written: {error.strerror}.") from error
        self.log = log if processes.is_first else lambda **_: None
        self.template = template or HeadTemplate.load()
        if source is None:
            if config.makehuman is None:
                raise UserError("Synthetic people need --makehuman, the folder with MakeHuman's skins, hair and eyes.")
            source = SyntheticPeople(config.makehuman, config.generator.map_size, template)
        folder = Path(config.people_folder or self.output / "people")
        recorded = load_recorded_expressions(folder, source.expression_names)
        self.cache = open_people(folder, source, config.people_config, self.template, recorded)
        self.saved, self.values = self._load()
        self.checkpoint_due = resumable.IntervalTimer(config.checkpoint_seconds)
        self.measure_due = resumable.IntervalTimer(config.measure_seconds)

    # ---- state ----

    def _load(self) -> tuple[dict[str, Tensor], dict]:
        fresh = {"stage": "people", "step": 0, "used_s": 0.0, "people": None, "captured": None, "precision": None}
        if not self.config.resume:
            return {}, fresh
        try:
            tensors, values = resumable.load_state(self.output / STATE_FILE)
        except FileNotFoundError:
            return {}, fresh  # stopped while people were generated
        settings = self._settings()
        if values["settings"] != settings:
            if values["settings"] | {"people": ""} == settings | {"people": ""}:
                raise UserError(
                    f"'{self.output}' was begun with other people than the present ones; leave --resume out."
                )
            raise UserError(f"The state in '{self.output}' was made with other settings; leave --resume out.")
        return tensors, values

    def _settings(self) -> dict:
        # Only what must not change: a resumed run may have more time or steps.
        generator = {k: v for k, v in asdict(self.config.generator).items() if not k.startswith("z_")}
        settings = {"generator": generator, "seed": self.config.seed, "people": self.cache.folder.name}
        return json.loads(json.dumps(settings))

    def _save(self, optimizer: torch.optim.Optimizer | None, **values) -> None:
        self.values.update(values)
        self.processes.run_on_first(lambda: self._write(optimizer))

    def _write(self, optimizer: torch.optim.Optimizer | None) -> None:
        self.values.update(settings=self._settings(), numpy_rng=self.rng.bit_generator.state)
        # The people's w as well: fitted again on another machine, bases could have other signs.
        latents = {"rest": self.w_rest, "held_out": self.w_held_out}
        tensors = resumable.add_prefix("model", self.generator.state_dict()) | resumable.add_prefix("w", latents)
        if optimizer is not None:
            tensors |= resumable.add_prefix("optimizer", resumable.optimizer_tensors(optimizer))
        resumable.save_state(self.output / STATE_FILE, tensors, self.values)

    def _save_and_stop(self, optimizer: torch.optim.Optimizer, **values) -> None:
        self._save(optimizer, **values)
        raise resumable.TrainingStopped(STOPPED)

    # ---- stages ----

    def run_all_stages(self) -> Path:
        """Run all stages that the saved state has not finished; returns the output folder."""
        self.processes.run_on_first(self._make_people)
        self._read_people()
        self._make_generator()
        if self.values["stage"] == "people":
            self._next_stage("uv")
        if self.values["stage"] == "uv":
            self._optimise("uv", UV_RATES, self.config.uv_minutes, self.config.uv_steps, self._uv_step)
            self._next_stage("mapping")
        if self.values["stage"] == "mapping":
            self.processes.run_on_first(self._train_mapping)
            self.processes.broadcast(self.generator.mapping.state_dict().values())
            self._next_stage("views")
        if self.values["stage"] == "views":
            if self.pictures:
                self._train_views()
            self._next_stage("done")
        self.processes.run_on_first(self._finish)
        return self.output

    def _next_stage(self, stage: str) -> None:
        self.saved = {}
        self._save(None, stage=stage, step=0, used_s=0.0)

    def _make_people(self) -> None:
        config, values, cache = self.config, self.values, self.cache
        wanted = list_wanted_people(config.people, config.captured, config.held_out)
        if again := values["people"] is not None:  # a resumed run waits for the same people as before
            wanted = list_wanted_people(values["people"], values["captured"], config.held_out)
        box = resumable.TimeBudget(math.inf if again else config.people_minutes)
        few = wanted[: config.held_out + 4]  # with fewer there is nothing to train
        try:
            make_people(cache, few, config.workers, self.progress, self.stop)
            make_people(cache, wanted, config.workers, self.progress, self.stop, lambda: box.over)
        except resumable.TrainingStopped:
            raise resumable.TrainingStopped(STOPPED) from None
        here = [(i, pictures) for i, pictures in wanted if i < HELD_OUT and cache.has(i, pictures)]
        values["people"], values["captured"] = len(here), sum(pictures for _, pictures in here)
        self.log(stage="people", people=len(here), captured=values["captured"], seconds=round(box.used_s, 1))

    def _read_people(self) -> None:
        counts = self.processes.broadcast_numbers(*(self.values[name] or 0 for name in ("people", "captured")))
        self.values["people"], self.values["captured"] = people, captured = [int(count) for count in counts]
        held_out = [HELD_OUT + i for i in range(self.config.held_out)]
        self.people: list[TexelTargets] = [self.cache.texels(i) for i in range(people)]
        self.people_held_out: list[TexelTargets] = [self.cache.texels(i) for i in held_out]
        self.pictures: list[Views] = [self.cache.views(i) for i in range(captured)]
        self.pictures_held_out: list[Views] = [self.cache.views(i) for i in held_out]

    def _make_generator(self) -> None:
        config = self.config
        torch.manual_seed(config.seed)
        self.rng = np.random.default_rng([config.seed, 7])
        someone = self.people[0]
        z_dim = len(someone.factors) + len(self.cache.source.expression_names)
        choices = tuple((int(start), int(stop), sharpness) for start, stop, sharpness in someone.choices.tolist())
        self.generator = Generator(replace(config.generator, z_dim=z_dim, z_choices=choices), self.template)
        self.w_rest = torch.zeros(len(self.people), self.generator.w_dim)
        self.w_held_out = torch.zeros(len(self.people_held_out), self.generator.w_dim)
        if self.saved:
            self.generator.load_state_dict(resumable.select_prefix("model", self.saved))
            self.w_rest, self.w_held_out = (self.saved[f"w/{name}"] for name in ("rest", "held_out"))
            self.rng.bit_generator.state = self.values["numpy_rng"]
        else:
            self.processes.run_on_first(self._fit_linear_path)
        self.generator = self.generator.to(self.processes.device)
        self.generator.train()
        self.processes.broadcast([*self.generator.state_dict().values()])
        self.w_rest, self.w_held_out = self.w_rest.contiguous(), self.w_held_out.contiguous()
        self.processes.broadcast([self.w_rest, self.w_held_out])
        self._choose_precision()
        self.batches = PriorBatches(self.generator, self.people, self.pictures, self.w_rest, self.rng, self.processes)

    def _fit_linear_path(self) -> None:
        seed, generator = self.config.seed, self.generator
        sample = [self.cache.draw_expression(np.random.default_rng([seed, 8, i])) for i in range(500)]
        path, w_rest = fit_linear_path(generator, self.people, torch.from_numpy(np.stack(sample)))
        self.w_rest.copy_(w_rest)
        for row, person in enumerate(self.people_held_out):
            self.w_held_out[row] = path.encode(generator, person)

    def _choose_precision(self) -> None:
        wanted = self.values["precision"] or self.config.precision
        chosen = choose_precision(self.generator, wanted, self.config.view_batch)
        (narrow,) = self.processes.broadcast_numbers(chosen == "bfloat16")  # the first process timed it for all
        self.values["precision"] = "bfloat16" if narrow else "float32"
        set_precision(self.generator, self.values["precision"])

    def _optimizer(self, rates: dict[str, float]) -> torch.optim.Adam:
        """Adam over the parameters whose names start with a key of `rates`; the others are not trained."""
        self.generator.requires_grad_(False)
        groups = []
        for prefix, scale in rates.items():
            parameters = [p.requires_grad_() for n, p in self.generator.named_parameters() if n.startswith(prefix)]
            groups.append({"params": parameters, "lr": self.config.learning_rate * scale, "scale": scale})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        if saved := resumable.select_prefix("optimizer", self.saved):
            resumable.restore_optimizer(optimizer, saved)
        return optimizer

    def _schedule(self, optimizer: torch.optim.Optimizer, done: float, step: int) -> None:
        factor = min(1.0, (step + 1) / 100) * (0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        for group in optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["scale"] * factor

    def _optimise(self, stage: str, rates: dict[str, float], minutes: float, steps: int, step_losses) -> None:
        """Minimise step_losses(step)["loss"] until time or steps are used up; log all losses, save and measure."""
        optimizer = self._optimizer(rates)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        box = resumable.TimeBudget(minutes, self.values["used_s"])
        step, sums, since = self.values["step"], {}, 0
        while step < steps:
            requests = self.stop(), self.checkpoint_due(), stage == "views" and self.measure_due(), box.fraction
            stopped, save, measure, spent = self.processes.broadcast_numbers(*requests)
            if stopped:
                self._save_and_stop(optimizer, step=step, used_s=box.used_s)
            if spent >= 1:
                break
            if save:
                self._save(optimizer, step=step, used_s=box.used_s)
            if measure:
                self.processes.run_on_first(lambda step=step: self._measure(step))
            done = max(spent, step / steps)
            self._schedule(optimizer, done, step)
            optimizer.zero_grad(set_to_none=True)
            parts = step_losses(step)
            if parts:
                parts["loss"].backward()
            self.processes.sum_gradients(parameters)
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            step, since = step + 1, since + 1
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            if step % self.config.log_steps == 0:
                means = {name: total / since for name, total in self.processes.sum_by_name(sums).items()}
                self.log(stage=stage, step=step, **{name: round(value, 6) for name, value in means.items()})
                self.progress(100 * done, 100, f"{stage}: step {step}, loss {means['loss']:.4f}")
                sums, since = {}, 0
        self.values.update(step=step, used_s=box.used_s)

    def _uv_step(self, step: int) -> dict[str, Tensor]:
        return self.batches.uv_losses(self.config.uv_batch)

    def _view_step(self, step: int) -> dict[str, Tensor]:
        return self.batches.image_losses(step, self.config.view_batch, self.config.views_per_step)

    def _train_mapping(self) -> None:
        config, generator = self.config, self.generator
        factors, held_out = (
            torch.stack([p.factors for p in people]) if people else torch.zeros(0, 0)
            for people in (self.people, self.people_held_out)
        )
        rng = np.random.default_rng([config.seed, 9])  # of its own: only the first process runs this
        draw = self.cache.draw_expression
        try:
            loss = train_mapping(generator, factors, self.w_rest, draw, rng, config.mapping_steps, self.stop)
        except resumable.TrainingStopped:  # resuming starts it again
            raise resumable.TrainingStopped(STOPPED) from None
        self.log(stage="mapping", loss=loss, held_out_squared_error=mapping_error(generator, held_out, self.w_held_out))

    def _train_views(self) -> None:
        if self.values["step"] == 0:
            self.processes.run_on_first(lambda: self._measure(0))
        self._optimise("views", VIEW_RATES, self.config.view_minutes, self.config.view_steps, self._view_step)
        self.processes.run_on_first(lambda: self._measure(self.values["step"]))

    @torch.no_grad()
    def _measure(self, step: int) -> None:
        """PSNR on held-out people, and a contact sheet of them: ground truth above, render below."""
        from dgtalker.report.contact_sheets.grid import save_rows

        if not self.pictures_held_out:
            return
        scores: dict[str, list[float]] = {"front": [], "side": []}
        rows: list[list[np.ndarray]] = []
        device = self.processes.device
        for w_rest, views in zip(self.w_held_out, self.pictures_held_out, strict=True):
            truth, ours = [], []
            for i in range(len(views)):
                face = int(views.expression_index[i])
                gaussians = self.generator(
                    latents_with_expressions(self.generator, w_rest[None], views.expressions[face][None])
                )[0]
                picture = render(gaussians, views.cameras[[i]].to(device))[0][0].cpu().clamp(0, 1)
                target = views.images([i])[0].float() / 255
                scores["side" if i % 2 else "front"].append(tensor_psnr(picture, target))
                truth.append(target.numpy())
                ours.append(picture.numpy())
            if len(rows) < 8:
                rows += [truth, ours]
        result = {f"psnr_{k}": round(float(np.mean(v)), 3) for k, v in scores.items()}
        self.log(stage="held_out", step=step, **result)
        save_rows(self.output / "held_out.png", rows)
        self.values["held_out"] = {"people": len(self.pictures_held_out), "step": step, **result}

    def _finish(self) -> None:
        from dgtalker.report.cards.prior import write_card
        from dgtalker.report.contact_sheets.prior import write_sheets

        generator = self.generator.to("cpu").eval()
        facts = {"people": self.values["people"], "captured": self.values["captured"],
                 "held_out": self.values.get("held_out", {})}  # fmt: skip
        settings = {k: v for k, v in asdict(self.config).items() if isinstance(v, int | float) and k != "resume"}
        settings = {k: v for k, v in settings.items() if math.isfinite(v)}  # infinite time limits
        settings |= {"precision": self.values["precision"], "processes": self.processes.world}
        facts = settings | facts
        generator.save_pretrained(self.output, training=facts)
        write_sheets(Generator.from_pretrained(self.output, template=self.template), self.output)
        write_card(self.output, generator, facts)
        self.log(stage="done", **facts["held_out"])
