"""A trained identity: baked head, anchor, bases and encoders in one folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.errors import UserError
from dgtalker.files import write_atomic
from dgtalker.gaussians import Gaussians
from dgtalker.head.baked import ATTRIBUTES, BakedHead
from dgtalker.head.face_controls import FaceControl, FaceControls, share_lids
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.pretrained import (
    find_checkpoint,
    list_checkpoints,
    load_into,
    quantize_int8,
    read_config,
    read_weights,
    write_checkpoint,
)
from dgtalker.render.gsplat_backend import gsplat_available

KIND = "identity"
SHOWN_FIRST = ("actor2", "actor3", "actor1")  # of the shipped identities
PREVIEW_FILE = "preview.png"
CARD_FILE = "README.md"
COEFFICIENT_SHEET_FILE = "coefficients.webp"  # what each coefficient does, in pictures
FULL_PRECISION = (
    "head.mean_means",  # half precision would move splats by a fifth of a pixel
    *(f"head.weights_{name}" for name in ATTRIBUTES),  # small, and turned with the axes: rounding would add up to
    "navigation.blendshapes.raw",  # two grey levels
    "navigation.blendshapes.scales",
    "navigation.unit",
    "navigation.w_can",
    *(
        f"navigation.{branch}_encoder.audio.head.{kind}"
        for branch in ("expression", "lip")
        for kind in ("weight", "bias")
    ),
    *(f"navigation.{branch}_encoder.audio.attention.weight" for branch in ("expression", "lip")),
    "navigation.expression_encoder.blink.linear",
    "navigation.expression_encoder.blink.quadratic",
)
INT8_TENSORS = tuple(  # 56 dB at 512 px against half precision
    f"{kind}_{name}" for kind in ("head.basis", "controls.change") for name in ATTRIBUTES
)
SLIDER_STD = 3.0  # that every slider reaches at least, either way
MAX_COEFFICIENT = 20.0  # training standard deviations; more is a typing error


class Identity:
    """One person's head, and the encoders that turn sound into its motion.

    Coefficients are in training standard deviations; zero is the canonical expression: lips closed, eyes open.
    """

    def __init__(
        self,
        name: str,
        navigation: Navigation,
        head: BakedHead,
        config: Mapping | None = None,
        face_controls: FaceControls | None = None,
    ):
        """`config`: the rest of config.json (title, feature_kind, parents, training, attribution ...)."""
        self.name = name
        self.navigation = navigation.eval().requires_grad_(False)
        self.head = head.eval().requires_grad_(False)
        self.face_controls = None if face_controls is None else face_controls.eval().requires_grad_(False)
        self.config = dict(config or {})
        self.folder: Path | None = None

    # -- loading and saving -------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, device: str = "cpu") -> Identity:
        """Load a shipped name, a folder or a hub repository. Raises UserError if there is none or it is damaged."""
        folder = find_checkpoint(source, kind=KIND, revision=revision)
        config = read_config(folder, KIND)
        try:
            navigation = Navigation(NavigationConfig.from_dict(config["navigation"]))
            head = BakedHead(**config["head"])
            controls = config.get("controls")
            controls = None if controls is None else FaceControls.from_config(controls)
            name = str(config["name"])
            config["feature_kind"]
            if head.coefficients != navigation.config.n_exp + navigation.config.n_lip:
                raise ValueError("the number of coefficients")
        except (KeyError, TypeError, ValueError, AssertionError, RuntimeError, MemoryError) as error:
            raise UserError(f"'{folder}' is damaged: its config.json lacks or garbles {error}.") from error
        tensors = read_weights(folder, config)
        for module, prefix in ((navigation, "navigation."), (head, "head."), (controls, "controls.")):
            part = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if module is not None:
                load_into(module, part, folder)
        if controls is not None and not controls.fits(head.count):
            raise UserError(f"'{folder}' is damaged: its face controls move splats that it does not have.")
        identity = cls(name, navigation, head, config, controls)
        identity.folder = Path(folder)
        return identity.to(device)

    def save_pretrained(
        self,
        folder: str | Path,
        preview: np.ndarray | None = None,
        card: str | None = None,
        coefficient_sheet: bytes | None = None,
    ) -> Path:
        """Write config.json and model.safetensors (fp16, bases int8) and, if given, the files beside them.

        preview: uint8 [H,W,3], written as PNG. card: the README's Markdown. coefficient_sheet: a WebP file's bytes.
        """
        folder = Path(folder)
        modules = {"navigation": self.navigation, "head": self.head, "controls": self.face_controls}
        states = {prefix: module.state_dict() for prefix, module in modules.items() if module is not None}
        tensors = {f"{prefix}.{key}": value for prefix, state in states.items() for key, value in state.items()}
        tensors = compress_tensors(tensors)
        config = {key: value for key, value in self.config.items() if key not in ("kind", "weights_sha256", "controls")}
        config |= {
            "name": self.name,
            "navigation": self.navigation.config.to_dict(),
            "head": self.head.config(),
        }
        if self.face_controls is not None:
            config["controls"] = self.face_controls.config()
        write_checkpoint(folder, KIND, config, tensors, half=False)
        if preview is not None:
            from PIL import Image

            Image.fromarray(preview).save(folder / PREVIEW_FILE)
        if card is not None:
            (folder / CARD_FILE).write_text(card, encoding="utf-8")
        if coefficient_sheet is not None:
            write_atomic(folder / COEFFICIENT_SHEET_FILE, coefficient_sheet)
        self.folder = folder
        return folder

    def to(self, device: str | torch.device) -> Identity:
        """Move to a device, in place."""
        self.navigation.to(device)
        self.head.to(device)
        if self.face_controls is not None:
            self.face_controls.to(device)
        return self

    # -- properties ---------------------------------------------------------------------------------------------------

    @property
    def n_exp(self) -> int:
        """Number of expression coefficients k_e."""
        return self.navigation.config.n_exp

    @property
    def n_lip(self) -> int:
        """Number of lip coefficients k_l."""
        return self.navigation.config.n_lip

    @property
    def exp_names(self) -> list[str]:
        """Names "exp1" .. of the expression coefficients, in order of explained motion."""
        return [f"exp{i + 1}" for i in range(self.n_exp)]

    @property
    def lip_names(self) -> list[str]:
        """Names "lip1" .. of the lip coefficients, in order of explained motion."""
        return [f"lip{i + 1}" for i in range(self.n_lip)]

    @property
    def controls(self) -> tuple[FaceControl, ...]:
        """The face controls, in order; () for a head without. Each runs from 0 (off) to 1."""
        return () if self.face_controls is None else self.face_controls.controls

    @property
    def control_names(self) -> list[str]:
        """Names of the face controls, in order: "smile" .."""
        return [control.name for control in self.controls]

    @property
    def descriptions(self) -> dict[str, dict]:
        """Findings of describe-identity: {"lip3": {name, match, purity, low, high, motion_mm, opens_mm}}.

        {} if it was not run or its record does not fit.
        """
        record, names = self.config.get("coefficients"), self.exp_names + self.lip_names
        groups = [record.get(group) for group in ("exp", "lip")] if isinstance(record, Mapping) else []
        if [len(rows) if isinstance(rows, list) else -1 for rows in groups] != [self.n_exp, self.n_lip]:
            return {}
        rows = [row for rows in groups for row in rows]
        return dict(zip(names, map(dict, rows), strict=True)) if all(map(_is_description, rows)) else {}

    @property
    def labels(self) -> dict[str, str]:
        """Display names of the coefficients, {"lip3": "lip 3 · rounding"}; only "lip 3" without a description."""
        found = self.descriptions
        numbered = {name: f"{name[:3]} {name[3:]}" for name in self.exp_names + self.lip_names}
        return {name: f"{text} · {found[name]['name']}" if found else text for name, text in numbered.items()}

    @property
    def coefficient_sheet_path(self) -> Path | None:
        """Contact sheet of the coefficients in the folder it was loaded from; None without one or undescribed."""
        path = self.folder / COEFFICIENT_SHEET_FILE if self.folder and self.descriptions else None
        return path if path and path.is_file() else None

    @property
    def feature_kind(self) -> str:
        """Audio features the encoders were trained on: "whisper-tiny.en" or "log-mel"."""
        return self.config["feature_kind"]

    @property
    def title(self) -> str:
        """Display name."""
        return self.config.get("title", self.name)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        """Where the tensors are."""
        return self.navigation.w_can.device

    @property
    def limits(self) -> np.ndarray:
        """[n_exp + n_lip, 2] smallest and largest value of each coefficient in training."""
        return self.navigation.limits.cpu().numpy()

    @property
    def ranges(self) -> np.ndarray:
        """[n_exp + n_lip, 2] float32, how far each coefficient can be set: +-3 joined with where speech keeps it.

        That is the 99 % range that describe-identity found; without it, the extremes of training.
        """
        rows = self.descriptions.values()
        usual = np.array([[row["low"], row["high"]] for row in rows]) if rows else self.limits
        low, high = np.clip(usual, -MAX_COEFFICIENT, MAX_COEFFICIENT).T
        return np.stack([np.minimum(low, -SLIDER_STD), np.maximum(high, SLIDER_STD)], axis=1).astype(np.float32)

    # -- inference -------------------------------------------------------------------------------------------------

    def gaussians(
        self, a_exp: Tensor | np.ndarray, a_lip: Tensor | np.ndarray, controls: Tensor | np.ndarray | None = None
    ) -> Gaussians:
        """Splats [..., N] of a_exp [..., n_exp], a_lip [..., n_lip]. Raises UserError for NaN or a wrong count.

        controls: [..., K] values of the face controls, in 0..1, as `shown_controls` has them; None: all zero.
        """
        a_exp, a_lip = (torch.as_tensor(a, dtype=torch.float32, device=self.device) for a in (a_exp, a_lip))
        self._check_coefficients(a_exp, a_lip)
        changes = None
        if controls is not None and self.face_controls is not None:
            changes = self.face_controls.changes(torch.as_tensor(controls, dtype=torch.float32, device=self.device))
        return self.head(torch.cat([a_exp, a_lip], dim=-1), changes)

    def frame(self, a_exp: np.ndarray, a_lip: np.ndarray, controls: np.ndarray | None = None) -> Gaussians:
        """The same for one frame on the CPU, fast: a_exp [n_exp], a_lip [n_lip], controls [K] -> Gaussians [N]."""
        a_exp, a_lip = np.asarray(a_exp, np.float32), np.asarray(a_lip, np.float32)
        self._check_coefficients(a_exp, a_lip)
        changes = []
        if controls is not None and self.face_controls is not None:
            changes = self.face_controls.frame_changes(controls)
        return self.head.frame(np.concatenate([a_exp, a_lip]), changes)

    def splats(self, a_exp: np.ndarray, a_lip: np.ndarray, controls: np.ndarray | None = None) -> Gaussians:
        """One frame's splats on the identity's device: the quick `frame` on the CPU, `gaussians` elsewhere."""
        draw = self.frame if self.device.type == "cpu" else self.gaussians
        return draw(a_exp, a_lip, controls)

    def posed_splats(self, settings: Mapping[str, float]) -> Gaussians:
        """`splats` of settings by name: coefficients, blink and face controls, {"lip3": 1.5, "smile": 0.7}.

        Raises UserError as `coefficients` does.
        """
        a_exp, a_lip = self.coefficients(settings)
        controls = np.array([[settings.get(name, 0.0) for name in self.control_names]], np.float32)
        blink = np.array([np.clip(settings.get("blink", 0.0), 0, 1)], np.float32)
        return self.splats(a_exp, a_lip, self.shown_controls(controls, blink)[0])

    def shown_controls(self, controls: np.ndarray, blink: np.ndarray) -> np.ndarray:
        """Values [N, K] of the face controls, clipped to 0..1, as they are shown with blink [N]; see share_lids."""
        return share_lids(np.clip(controls, 0.0, 1.0), blink, self.controls)

    @torch.inference_mode()
    def encode(
        self, features: np.ndarray | Tensor, blink: np.ndarray | Tensor | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Encode sound: a_exp [N, n_exp] and a_lip [N, n_lip], float32.

        features [2N, D] of this identity's feature_kind; blink [N] in 0..1 (None: open eyes).
        Raises UserError if the features are of another kind, or blink of another length.
        """
        features = torch.as_tensor(features, dtype=torch.float32, device=self.device)
        frames, expected = len(features) // 2, self.navigation.config.feature_dim
        if features.ndim != 2 or features.shape[1] != expected or len(features) % 2:
            raise UserError(
                f"'{self.name}' needs {self.feature_kind} features, two rows of {expected} a frame; "
                f"these are {tuple(features.shape)}."
            )
        if frames == 0:
            return np.zeros((0, self.n_exp), np.float32), np.zeros((0, self.n_lip), np.float32)
        blink = torch.zeros(frames) if blink is None else torch.as_tensor(blink, dtype=torch.float32)
        if blink.shape != (frames,):
            raise UserError(f"The blink signal has {tuple(blink.shape)} values, the sound {frames} frames.")
        navigation = self.navigation
        a_exp = navigation.expression(features[None], blink[None].to(self.device).clamp(0, 1))
        a_exp, a_lip = navigation.clamp_coefficients(a_exp, navigation.lips(features[None]))
        return a_exp[0].cpu().numpy(), a_lip[0].cpu().numpy()

    @torch.inference_mode()
    def blink_coefficients(self, blink: np.ndarray | Tensor | float) -> np.ndarray:
        """The term [..., n_exp] that blink [...] in 0 (open) .. 1 (shut) adds to a_exp; zero at 0."""
        blink = torch.as_tensor(blink, dtype=torch.float32, device=self.device).clamp(0, 1)
        return self.navigation.blink(blink).cpu().numpy()

    @property
    def blink_weights(self) -> np.ndarray:
        """[3, n_exp] rows linear, quadratic, unit: blink_coefficients(e) is (e * linear + e^2 * quadratic) / unit."""
        encoder = self.navigation.expression_encoder.blink
        rows = (encoder.linear, encoder.quadratic, self.navigation.unit[: self.n_exp])
        return torch.stack([row.detach() for row in rows]).cpu().numpy()

    def coefficients(self, settings: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """{"lip3": 1.5, "exp1": -1, "blink": 1} -> a_exp [n_exp], a_lip [n_lip]; what is not named is zero.

        What lies outside of `ranges` counts as their end.
        Face controls may be named, and change nothing here. Raises UserError for an unknown name, or a value that is
        not finite or absurdly large.
        """
        names = self.exp_names + self.lip_names
        self.check_settings(settings)
        values = np.clip(np.array([settings.get(name, 0.0) for name in names], np.float32), *self.ranges.T)
        a_exp, a_lip = values[: self.n_exp], values[self.n_exp :]
        return a_exp + self.blink_coefficients(float(settings.get("blink", 0.0))), a_lip

    def check_settings(self, settings: Mapping[str, float]) -> None:
        """Raises UserError unless these are coefficients, blink or face controls of this head, with good values."""
        check_coefficients(settings, self.exp_names + self.lip_names, self.control_names)

    def permute_coefficients(self, order: Tensor, signs: Tensor) -> None:
        """Reorder coefficients and flip their signs, in place: a'[k] = signs[k] a[order[k]]; pictures stay the same.

        order [K] int64 is a permutation within each branch (expression first, then lips), signs [K] are +-1.
        """
        self.navigation.permute_coefficients(order.to(self.device), signs.to(self.device))
        self.head.permute_coefficients(order, signs)

    def rotate_coefficients(self, rotation_exp: Tensor, rotation_lip: Tensor, std: Tensor, limits: Tensor) -> None:
        """Turn the axes inside each branch, in place; the same sound still gives the same splats.

        rotation_exp [n_exp, n_exp] and rotation_lip [n_lip, n_lip] are orthogonal and act along unit directions of the
        latent space. std [K]: the new units, in steps along these; limits [K, 2] in new units.
        """
        before = self.navigation.blendshapes.scales.double().cpu()
        self.navigation.rotate_coefficients(*(r.float().to(self.device) for r in (rotation_exp, rotation_lip)))
        self.navigation.set_units(std.float().to(self.device), limits.float().to(self.device))
        rotation = torch.block_diag(rotation_exp, rotation_lip).double().cpu()
        self.head.transform_coefficients(rotation * std.double().cpu() / before[:, None])

    def select_coefficients(self, kept: Tensor) -> None:
        """Keep coefficients `kept` [k] alone, in place, in rising order and some of either branch; others stay zero."""
        constant = torch.zeros(self.n_exp + self.n_lip, device=self.device)
        self.navigation = self.navigation.select_coefficients(kept.to(self.device), constant)
        self.head = self.head.select_coefficients(kept)

    def _check_coefficients(self, a_exp: Tensor | np.ndarray, a_lip: Tensor | np.ndarray) -> None:
        if a_exp.shape[-1:] != (self.n_exp,) or a_lip.shape[-1:] != (self.n_lip,):
            raise UserError(
                f"'{self.name}' takes {self.n_exp} expression and {self.n_lip} lip coefficients, "
                f"not {tuple(a_exp.shape)} and {tuple(a_lip.shape)}."
            )
        for a in (a_exp, a_lip):
            if not bool(a.isfinite().all() if isinstance(a, Tensor) else np.isfinite(a).all()):
                raise UserError("A coefficient is not a finite number.")


def compress_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors "navigation.KEY" and "head.KEY" in the precision of the file: int8 bases, fp16, float32 where needed."""
    stored = quantize_int8(tensors, [key for key in INT8_TENSORS if key in tensors])
    exact = (*FULL_PRECISION, *(f"{key}.scale" for key in INT8_TENSORS))
    return {k: v.half() if v.dtype == torch.float32 and k not in exact else v for k, v in stored.items()}


def _is_description(row: object) -> bool:
    """Whether a row of config.json's "coefficients" has a name and all its numbers; two of them may be null."""
    if not isinstance(row, Mapping) or not {"name", "purity", "opens_mm"} <= row.keys():
        return False
    numbers = [row.get(key) for key in ("match", "low", "high", "motion_mm")]
    numbers += [row[key] for key in ("purity", "opens_mm") if row[key] is not None]
    return isinstance(row["name"], str) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)


def check_coefficients(values: Mapping[str, float], names: Sequence[str], controls: Sequence[str] = ()) -> None:
    """Raises UserError unless `values` maps coefficients out of `names`, blink or face controls to good numbers."""
    for name, value in values.items():
        if name not in names and name != "blink" and name not in controls:
            raise UserError(f"There is no coefficient '{name}'; choose from {', '.join([*names, 'blink', *controls])}.")
        largest = MAX_COEFFICIENT if name in names else 1.0
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or abs(value) > largest:
            raise UserError(f"Coefficient {name} must be a number within +-{largest:g}, not {value}.")


def rendering_device(device: str = "auto") -> str:
    """The device to load a head on. "auto": "cuda" where there is one and gsplat can draw on it, else "cpu".

    Raises UserError for a device that is not here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() and gsplat_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"There is no device {device!r}; choose auto, cpu or cuda.") from error
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"Heads cannot be drawn on the device {device!r}; choose auto, cpu or cuda.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"There is no CUDA device {device!r} here; choose auto or cpu.")
    return device


def list_identities() -> list[str]:
    """Names of the shipped identities, the best first: the studio opens on it."""
    return sorted(list_checkpoints(KIND), key=lambda name: (*SHOWN_FIRST, name).index(name))


def list_priors() -> list[str]:
    """Names of the shipped priors."""
    return list_checkpoints("prior")
