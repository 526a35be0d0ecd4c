"""Speed of this machine on a real head, measured after a warm-up in which kernels are compiled."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgtalker.assets import PACKAGE
from dgtalker.errors import UserError

if TYPE_CHECKING:
    from dgtalker.camera import Camera
    from dgtalker.gaussians import Gaussians
    from dgtalker.identity import Identity

RENDER = {256: 16_000, 512: 60_000}  # picture size -> wanted number of Gaussians
TALK_SECONDS = 10.0
TRAIN_SIZE = 256  # picture size at which rendering is also timed with gradients
SECONDS_A_FIGURE = 1.5
APP_TIMEOUT = 120.0


def run_benchmark(source: str | None = None, with_app: bool = True, device: str = "auto") -> dict[str, Any]:
    """The report of `dgtalker bench --json`.

    Args:
        source: the identity, default the first shipped one.
        with_app: also start the app.
        device: "auto", "cpu" or "cuda"; where the head is drawn, see `rendering_device`.

    Raises:
        UserError: there is no such identity or device.
    """
    from dgtalker.camera import orbit_camera
    from dgtalker.doctor import describe_machine
    from dgtalker.identity import Identity, list_identities, rendering_device
    from dgtalker.render import render_frame

    source = source or next(iter(list_identities()), None)
    if source is None:
        raise UserError("There is no shipped identity to measure with; name one with --identity.")
    device = rendering_device(device)
    identity = Identity.from_pretrained(source, device=device)
    report: dict[str, Any] = {"identity": identity.name, "device": device, "render": {}, "train": {}, "frame": {}}
    rest = identity.frame(np.zeros(identity.n_exp), np.zeros(identity.n_lip))
    coefficients = _random_coefficients(identity, 64)
    for size, wanted in RENDER.items():
        camera, gaussians = orbit_camera(size=size), resample_splats(rest, wanted)
        ms = 1000 * median_seconds(lambda i, g=gaussians, c=camera: render_frame(g, c))
        report["render"][str(size)] = {"gaussians": gaussians.count, "ms": ms}
        if size == TRAIN_SIZE:
            ms = 1000 * median_seconds(lambda i, g=gaussians, c=camera: render_with_gradients(g, c))
            report["train"][str(size)] = {"gaussians": gaussians.count, "ms": ms}

        def frame(i: int, camera=camera) -> None:
            a = coefficients[i % len(coefficients)]
            render_frame(identity.frame(a[: identity.n_exp], a[identity.n_exp :]), camera)

        report["frame"][str(size)] = {"gaussians": rest.count, "fps": 1 / median_seconds(frame)}
    report["talk"] = _measure_talk(identity)
    report["app_start_s"] = app_start_seconds(source) if with_app and source in list_identities() else None
    report["machine"] = describe_machine()
    return report


def render_with_gradients(gaussians: Gaussians, camera: Camera) -> Gaussians:
    """Gradients of a picture's mean square by all five tensors of N splats: rendering forward and backward."""
    import torch

    from dgtalker.gaussians import Gaussians
    from dgtalker.render import render

    parts = [getattr(gaussians, part.name).detach().clone().requires_grad_() for part in fields(Gaussians)]
    image, _ = render(Gaussians(*parts), camera)
    image.square().mean().backward()
    if image.is_cuda:
        torch.cuda.synchronize()
    return Gaussians(*(part.grad for part in parts))


def median_seconds(function: Callable[[int], Any], seconds: float = SECONDS_A_FIGURE) -> float:
    """Median wall time of function(i), i = 0, 1, ..., over about `seconds`, after three calls for warm-up."""
    for i in range(3):
        function(i)
    times, end, i = [], time.perf_counter() + seconds, 0
    while time.perf_counter() < end or i < 5:
        start = time.perf_counter()
        function(i)
        times.append(time.perf_counter() - start)
        i += 1
    return statistics.median(times)


def resample_splats(gaussians: Gaussians, count: int) -> Gaussians:
    """The same head with `count` splats: an even selection, or splats split and shrunk if there are fewer."""
    import torch

    have = gaussians.count
    picked = gaussians[torch.arange(count) * have // count]
    if count > have:  # a surface covered by k times as many splats needs each 1/sqrt(k) as wide
        factor = (have / count) ** 0.5
        noise = torch.randn(picked.means.shape, generator=torch.Generator().manual_seed(0))
        picked.means = picked.means + noise.to(picked.means.device) * picked.scales * (1 - factor)
        picked.scales = picked.scales * factor
    return picked


def _random_coefficients(identity: Identity, count: int) -> np.ndarray:
    """Coefficients [count, K] distributed as in training: standard deviation 1, within the training range."""
    low, high = identity.limits.T
    rng = np.random.default_rng(0)
    return np.clip(rng.standard_normal((count, len(low))), low, high).astype(np.float32)


def _measure_talk(identity: Identity) -> dict[str, float]:
    from dgtalker.talk import talk

    with tempfile.TemporaryDirectory() as folder:
        audio, video = Path(folder, "speech.wav"), Path(folder, "talking.mp4")
        _write_speechlike(audio, TALK_SECONDS)
        start = time.perf_counter()
        talk(identity, audio, video)
        return {"audio_s": TALK_SECONDS, "wall_s": time.perf_counter() - start}


def _write_speechlike(path: Path, seconds: float, rate: int = 16_000) -> None:
    """Write a buzz in the rhythm of syllables; timing does not depend on the words."""
    import soundfile

    t = np.arange(int(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    soundfile.write(path, (0.1 * buzz * np.clip(np.sin(2 * np.pi * 2 * t), 0, 1)).astype(np.float32), rate)


def app_start_seconds(identity: str) -> float:
    """Seconds from starting the studio in a new process until its viewport has sent the first picture of `identity`.

    The picture is asked for over HTTP as the page does; a browser adds the time it takes to run the page's scripts.
    Raises RuntimeError if that does not happen within two minutes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False"}
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "dgtalker", "studio", "--host", "127.0.0.1", "--port", str(port)],
            cwd=PACKAGE.parent,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while not _first_picture(f"http://127.0.0.1:{port}", identity):
                if process.poll() is not None or time.perf_counter() - start > APP_TIMEOUT:
                    log.seek(0)
                    tail = log.read()[-300:].decode(errors="replace")
                    raise RuntimeError(f"the studio did not show a picture: {' '.join(tail.split())}")
                time.sleep(0.05)
            return time.perf_counter() - start
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _first_picture(url: str, identity: str) -> bool:
    """Load the page, find its viewport and ask it for a picture; False while the server is not up."""
    try:
        _get(f"{url}/")
        components = json.loads(_get(f"{url}/config"))["components"]
        viewport = next(c for c in components if "frame" in (c["props"].get("server_fns") or []))
        question = {
            "session_hash": "bench",
            "component_id": viewport["id"],
            "fn_name": "frame",
            "data": {"identity": identity, "size": 256},
        }
        answer = json.loads(_get(f"{url}/gradio_api/component_server", json.dumps(question).encode()))
    except (urllib.error.URLError, OSError):
        return False
    if not answer.get("jpeg"):
        raise RuntimeError(f"the app's viewport answered {str(answer)[:200]}")
    return True


def _get(url: str, body: bytes | None = None) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # localhost, never through a proxy
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})
    with opener.open(request, timeout=30) as response:
        return response.read()
