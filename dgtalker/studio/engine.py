"""What the studio asks of the engine: identities, frames, splats and videos. Heavy imports wait for first use."""

from __future__ import annotations

import base64
import io
import logging
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgtalker.errors import UserError
from dgtalker.studio.view import View, parse_view

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from dgtalker.gaussians import Gaussians
    from dgtalker.identity import Identity
    from dgtalker.performance.expression import ExpressionSettings
    from dgtalker.performance.session import Session

log = logging.getLogger(__name__)
LOADED_IDENTITIES = 4  # heads kept in memory
PREVIEW_SIZE = 192  # pixels in the gallery
CACHED_POSES = 8  # splats kept, so that a camera-only move does not run the head again


class Engine:
    """Shared by all users, holding nothing about any of them: every call carries the whole view it wants."""

    def __init__(self) -> None:
        self._identities: OrderedDict[str, Identity] = OrderedDict()
        self._poses: OrderedDict[tuple, Gaussians] = OrderedDict()
        self._lock = threading.Lock()  # one picture at a time: the renderer already uses every core

    # -- identities -------------------------------------------------------------------------------

    def gallery(self) -> list[dict[str, Any]]:
        """Every shipped identity as {name, title, preview: data URL or None}; cheap, loads no model."""
        from dgtalker.identity import list_identities

        return [self._gallery_card(name) for name in list_identities()]

    def describe(self, name: Any) -> dict[str, Any]:
        """One identity, which it loads.

        {name, exp_names, lip_names, face_names, labels, about, limits, ranges, means, sheet}. All from labels to means
        are by name: limits end the coefficients' sliders, ranges and means are those of speech.
        about, ranges and means are empty, sheet is None, where the identity has never been described.
        """
        with self._lock:
            identity = self._identity(name)
        rows = identity.descriptions
        return {
            "name": name,
            "exp_names": list(identity.exp_names),
            "lip_names": list(identity.lip_names),
            "face_names": identity.control_names,
            "labels": {**identity.labels, **{control.name: control.label for control in identity.controls}},
            "about": {key: _figures_in_words(row) for key, row in rows.items()} | _leakage_in_words(identity),
            "limits": slider_ranges(identity),
            "ranges": {key: [row["low"], row["high"]] for key, row in rows.items()},
            "means": {key: row["mean"] for key, row in rows.items() if "mean" in row},
            "sheet": identity.config["coefficients"].get("strip") if identity.coefficient_sheet_path else None,
        }

    def coefficient_sheet(self, name: Any) -> dict[str, str]:
        """{image: data URL}: pictures of what each coefficient does, a row each. Raises UserError if it has none."""
        with self._lock:
            path = self._identity(name).coefficient_sheet_path
        if path is None:
            raise UserError(
                f"'{name}' has no pictures of its coefficients: python -m dgtalker describe-identity {name}."
            )
        return {"image": "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode()}

    def parse_view(self, data: Any) -> View:
        """The browser's view, checked against its identity."""
        name = data.get("identity") if isinstance(data, Mapping) else None
        with self._lock:
            identity = self._identity(name)
        return parse_view(data, identity.exp_names, identity.lip_names, slider_ranges(identity), identity.control_names)

    def identity(self, name: str) -> Identity:
        """The loaded identity called `name`; UserError when no such identity is installed or it is damaged."""
        with self._lock:
            return self._identity(name)

    def _identity(self, name: Any) -> Identity:
        from dgtalker.identity import Identity, list_identities, rendering_device

        known = list_identities()  # asked every time: the names on disk are the only ones served
        if not isinstance(name, str) or name not in known:
            raise UserError(f"There is no identity called {str(name)[:60]!r}: pick one from the gallery.")
        if name not in self._identities:
            self._identities[name] = Identity.from_pretrained(name, device=rendering_device())
            if len(self._identities) > LOADED_IDENTITIES:
                self._identities.popitem(last=False)
        self._identities.move_to_end(name)
        return self._identities[name]

    @staticmethod
    def _gallery_card(name: str) -> dict[str, Any]:
        from dgtalker.identity import KIND, PREVIEW_FILE
        from dgtalker.pretrained import find_checkpoint, read_config

        title, preview = name, None
        try:
            folder = find_checkpoint(name, KIND)
            title = str(read_config(folder, KIND).get("title") or name)
            if (folder / PREVIEW_FILE).is_file():
                from PIL import Image

                with Image.open(folder / PREVIEW_FILE) as image:
                    image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
                    preview = "data:image/jpeg;base64," + _encode(image.convert("RGB"), "JPEG", quality=88)
        except (UserError, OSError) as error:  # a damaged folder stays listed: opening it says what is wrong
            log.warning("identity %s: %s", name, error)
        return {"name": name, "title": title, "preview": preview}

    def warm_up(self) -> None:
        """Draw the first identity once, so that the first visitor does not wait for imports and compilers."""
        try:
            name = next(iter(self.gallery()))["name"]
            self.frame(self.parse_view({"identity": name}))
        except StopIteration:
            return
        except Exception as error:
            log.warning("could not warm up: %s", error)

    # -- pictures ---------------------------------------------------------------------------------

    def splats(self, view: View) -> Gaussians:
        """The head of `view`, from the cache when only the camera moved. Call with the lock held."""
        if view.pose in self._poses:
            self._poses.move_to_end(view.pose)
            return self._poses[view.pose]
        identity = self._identity(view.identity)
        gaussians = identity.posed_splats(view.edits)
        self._poses[view.pose] = gaussians
        while len(self._poses) > CACHED_POSES:
            self._poses.popitem(last=False)
        return gaussians

    def render(self, view: View) -> np.ndarray:  # [size,size,3] uint8
        """The view as an image on white."""
        from dgtalker.camera import orbit_camera
        from dgtalker.render import render_frame

        camera = orbit_camera(yaw=view.yaw, pitch=view.pitch, size=view.size, zoom=view.zoom)
        with self._lock:
            return render_frame(self.splats(view), camera)

    def frame(self, view: View, quality: int = 88) -> dict[str, Any]:
        """The view as {jpeg: base64, size, ms}, `ms` being the engine's own time."""
        start = time.perf_counter()
        return {
            "jpeg": _encode(self.render(view), "JPEG", quality=quality),
            "size": view.size,
            "ms": round(1e3 * (time.perf_counter() - start), 1),
        }

    def snapshot(self, view: View) -> dict[str, str]:
        """The view as a PNG to download: {name, mime, data: base64}."""
        return {"name": f"{view.identity}.png", "mime": "image/png", "data": _encode(self.render(view), "PNG")}

    def export(self, view: View) -> dict[str, str]:
        """The splats of the view as a standard 3DGS .ply to download: {name, mime, data: base64}."""
        with self._lock:
            gaussians = self.splats(view)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "head.ply"
            gaussians.save_ply(path)
            data = base64.b64encode(path.read_bytes()).decode()
        return {"name": f"{view.identity}.ply", "mime": "application/octet-stream", "data": data}

    # -- capabilities -----------------------------------------------------------------------------

    def badges(self) -> dict[str, str]:
        """{device, renderer}: what this machine draws with, in words."""
        from dgtalker.identity import rendering_device

        on_gpu = rendering_device() == "cuda"
        return {"device": "GPU" if on_gpu else "CPU", "renderer": "gsplat" if on_gpu else "numba"}

    # -- talking ----------------------------------------------------------------------------------

    def talk(
        self,
        view: View,
        audio: str,
        folder: Path,
        camera: str,
        size: int,
        expression_from: str | None,
        settings: ExpressionSettings,
        cached: Session | None,
        progress: Callable[..., None],
        cancelled: Callable[[], bool],
    ) -> tuple[Path, Path, Session] | None:
        """Write the talking video and its coefficients into `folder`; returns (mp4, csv, what they were made from).

        camera: "front", "spiral" or "still" (the view's own). The view's sliders are added to what the audio asks for.
        cached: a session of the same audio and settings, whose curves are shown instead of new ones. Returns None once
        cancelled() is true. Raises UserError for bad input.
        """
        from dgtalker.performance.session import STILL
        from dgtalker.talk import TalkOptions, talk

        video, table = folder / f"{view.identity}.mp4", folder / f"{view.identity}-coefficients.csv"
        identity = self.identity(view.identity)
        if cached:
            cached.check_identity(identity)
        options = TalkOptions(
            size=size,
            camera=(view.yaw, view.pitch, view.zoom) if camera == STILL else camera,
            edits=view.edits,
            expression=settings,
            expression_from=expression_from,
            curves=cached.curves if cached else None,
        )
        result = talk(identity, audio, video, options, save_coefficients=table, progress=progress, cancelled=cancelled)
        return (video, table, result.session) if result and result.session else None


def slider_ranges(identity: Identity) -> dict[str, list[float]]:
    """[low, high] of each coefficient's slider, by name."""
    names = identity.exp_names + identity.lip_names
    return {name: [round(float(x), 2) for x in ends] for name, ends in zip(names, identity.ranges, strict=True)}


def _figures_in_words(row: Mapping[str, Any]) -> str:
    """One coefficient's figures in words."""
    purity = "" if row["purity"] is None else f" {row['purity']:.0%} of the change stays in its half of the face."
    return (
        f"{row['name']}: explains {row['match']:.0%} of the motion.{purity} "
        f"Mostly between {row['low']:.1f} and {row['high']:.1f}."
    )


def _leakage_in_words(identity: Identity) -> dict[str, str]:
    """What was measured of each face control, in words."""
    return {
        control.name: f"Moves the {control.region} face; the other half changes {control.leakage:.1%} of that."
        for control in identity.controls
        if control.leakage is not None
    }


def _encode(image: np.ndarray | Image.Image, kind: str, **options: Any) -> str:
    """The image as a file of that kind, in base64."""
    from PIL import Image

    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode()
