"""Training on two processes, and training that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fakes.people import TEMPLATE, TINY

from dgtalker import resumable
from dgtalker.errors import UserError
from dgtalker.head.generator import Generator
from dgtalker.training.prior.distributed import ProcessGroup
from dgtalker.training.prior.precision import choose_precision, set_precision

SCRIPT = Path(__file__).parents[2] / "fakes" / "train_prior_process.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
# Without time boxes, which read the clock.
STEPS = {"uv_minutes": float("inf"), "view_minutes": float("inf"), "measure_seconds": 1e9}


def start(folder, processes=1, **changes):
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launch, str(SCRIPT), str(folder), json.dumps(STEPS | changes)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


def losses(folder):
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [r for r in records if r["stage"] in ("uv", "views")], [r for r in records if r["stage"] == "held_out"]


def is_past(path, stage, step):
    with open(path, "rb") as file:  # opened once: safetensors opens twice, and the file is replaced all the time
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    values = json.loads(header["__metadata__"]["values"])
    return values["stage"] == stage and values["step"] >= step


def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    # Shares of unequal size, and none at all.
    same = dict(log_steps=1, uv_batch=1, view_batch=3, uv_steps=10, view_steps=10)
    for name, processes in (("one", 1), ("two", 2)):
        finish(start(tmp_path / name, processes, **same))
    one, one_measured = losses(tmp_path / "one")
    two, two_measured = losses(tmp_path / "two")
    assert len(one) == len(two) == 20
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"t", "stage"}:
            assert a[name] == pytest.approx(b[name], abs=1e-4), (a["stage"], a["step"], name)
    assert len(two_measured) == len(one_measured) == 2  # by the first process alone
    assert two_measured[-1]["psnr_front"] == pytest.approx(one_measured[-1]["psnr_front"], abs=0.02)
    # And one process goes on where two stopped.
    finish(start(tmp_path / "two", 1, **same | {"resume": True}))


def test_failure_of_the_first_process_ends_all(tmp_path):
    (tmp_path / "state.safetensors").mkdir()  # cannot be overwritten
    process = start(tmp_path, 2)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0 and said.count("cannot be written") >= 2


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    same = dict(checkpoint_seconds=0.0, uv_steps=30, view_steps=20, mapping_steps=1000)
    finish(start(tmp_path / "a", **same))
    for stage, step in (("uv", 7), ("mapping", 0), ("views", 5)):
        process = start(tmp_path / "b", **same, resume=True)
        while process.poll() is None:
            try:
                if is_past(tmp_path / "b" / "state.safetensors", stage, step):
                    break
            except FileNotFoundError:
                pass
            time.sleep(0.002)
        assert process.poll() is None, f"over before {stage} {step} could be seen: {process.stderr.read()}"
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(start(tmp_path / "b", **same, resume=True))
    a, b = (resumable.load_state(tmp_path / name / "state.safetensors") for name in "ab")
    assert a[0].keys() == b[0].keys() and a[1]["numpy_rng"] == b[1]["numpy_rng"]
    assert all(torch.equal(a[0][name], b[0][name]) for name in a[0])
    assert [r for r in losses(tmp_path / "a")[1]][-1]["psnr_front"] == losses(tmp_path / "b")[1][-1]["psnr_front"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_one_process_needs_no_group():
    with ProcessGroup() as processes:
        assert (
            processes.is_first
            and processes.take_share([1, 2]) == [1, 2]
            and processes.broadcast_numbers(1, 0.5) == [1, 0.5]
        )
        assert processes.sum_by_name({"a": torch.tensor(2.0)}) == {"a": 2.0}
        with pytest.raises(ZeroDivisionError):
            processes.run_on_first(lambda: 1 / 0)


def test_precision_of_the_convolutions():
    torch.manual_seed(0)
    generator = Generator(TINY, TEMPLATE)
    torch.nn.init.normal_(generator.synthesis.to_maps.weight)
    w = torch.randn(2, generator.w_dim)
    plain = generator.synthesis(w)
    assert choose_precision(generator, "auto", 1) == "float32"  # on a CPU
    set_precision(generator, "bfloat16")
    narrow = generator.synthesis(w)
    assert narrow.dtype == torch.float32 and not torch.equal(narrow, plain)
    assert (narrow - plain).abs().max() < 0.05 * plain.abs().max()
    set_precision(generator, "float32")
    assert torch.equal(generator.synthesis(w), plain)
    with pytest.raises(UserError, match="no precision 'int8'"):
        choose_precision(generator, "int8", 1)
