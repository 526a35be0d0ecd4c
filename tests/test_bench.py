"""The benchmark's parts; the figures themselves are the machine's."""

import json
import time

import numpy as np
import pytest
import torch

from dgtalker import bench
from dgtalker.camera import orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import Identity


def test_median_seconds_measures_wall_time():
    assert bench.median_seconds(lambda i: time.sleep(0.01), seconds=0.1) == pytest.approx(0.03, abs=0.025)


@pytest.mark.parametrize("count", [100, 400, 1000])
def test_resample_keeps_the_head_in_place(fake_identity, count):
    identity = Identity.from_pretrained(fake_identity)
    head = identity.frame(np.zeros(identity.n_exp), np.zeros(identity.n_lip))
    other = bench.resample_splats(head, count)
    assert other.count == count
    torch.testing.assert_close(other.means.mean(0), head.means.mean(0), atol=0.05, rtol=0)
    assert torch.isfinite(other.means).all() and (other.scales > 0).all()


def test_report_has_the_keys_that_other_tools_read(fake_identity, monkeypatch):
    monkeypatch.setattr(bench, "SECONDS_A_FIGURE", 0.05)
    monkeypatch.setattr(bench, "TALK_SECONDS", 0.5)
    report = json.loads(json.dumps(bench.run_benchmark(str(fake_identity), with_app=False)))
    for size in ("256", "512"):
        assert report["render"][size]["gaussians"] == bench.RENDER[int(size)] and report["render"][size]["ms"] > 0
        assert report["frame"][size]["fps"] > 0
    assert report["train"]["256"]["gaussians"] == bench.RENDER[256] and report["train"]["256"]["ms"] > 0
    assert report["device"] in ("cpu", "cuda")
    assert report["talk"]["audio_s"] == 0.5 and report["talk"]["wall_s"] > 0
    assert report["app_start_s"] is None and report["machine"]["cpu"]


def test_gradients_are_of_all_that_is_drawn(fake_identity):
    identity = Identity.from_pretrained(fake_identity)
    head = identity.frame(np.zeros(identity.n_exp), np.zeros(identity.n_lip))
    found = bench.render_with_gradients(head, orbit_camera(size=64))
    for name in ("means", "scales", "opacities", "colors"):
        gradient = getattr(found, name)
        assert gradient.shape == getattr(head, name).shape and torch.isfinite(gradient).all() and gradient.any()


def test_a_device_that_is_not_here_is_refused(fake_identity):
    with pytest.raises(UserError, match="device"):
        bench.run_benchmark(str(fake_identity), with_app=False, device="tpu")


def test_without_an_identity_there_is_nothing_to_measure(monkeypatch, tmp_path):
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path))
    with pytest.raises(UserError, match="no shipped identity"):
        bench.run_benchmark()


def test_app_start_waits_for_a_picture(fake_identity, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(fake_identity.parent.parent))
    assert 0 < bench.app_start_seconds("fake") < bench.APP_TIMEOUT
