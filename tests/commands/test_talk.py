"""talk as a process: blinks, variants and sessions."""

import csv
import os

import numpy as np
import pytest
from fakes.command_line import run_command
from fakes.speech import write_speech

from dgtalker import cli
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video


@pytest.fixture(autouse=True)
def installed(fake_identity, monkeypatch):
    """`fake` is a shipped identity."""
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(fake_identity.parents[1]))


def curves(path) -> dict[str, list[str]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_blinks_and_variants_leave_the_lips_alone(tmp_path):
    audio, other = write_speech(tmp_path / "a.wav", 2.0), write_speech(tmp_path / "b.wav", 0.7)
    (tmp_path / "blinks.csv").write_text("time\n0.4\n1.2\n")
    choices = {
        "plain": [], "none": ["--blinks", "none"], "hand": ["--blinks", "0.4, 1.2"],
        "table": ["--blinks", tmp_path / "blinks.csv"], "variant": ["--variant", 1, "--seed", 4],
        "voice": ["--expression-audio", other, "--blink-rate", 0],
    }  # fmt: skip
    seen = {}
    for name, options in choices.items():
        table = tmp_path / f"{name}.csv"
        video = ["-o", tmp_path / "v.mp4", "--size", 32]
        code, _, err = run_command("talk", "fake", audio, *video, "--save-coefficients", table, *options)
        assert code == 0, err
        seen[name] = curves(table)
    for table in seen.values():
        assert all(table[f"lip{n}"] == seen["plain"][f"lip{n}"] for n in (1, 2, 3))
    assert set(seen["none"]["blink"]) == set(seen["voice"]["blink"]) == {"0"}
    assert seen["hand"]["blink"][10] == seen["hand"]["blink"][30] == "1" and seen["hand"] == seen["table"]
    expressions = {tuple(seen[name]["exp1"]) for name in ("plain", "variant", "voice")}
    assert len(expressions) == 3


def test_a_session_gives_the_same_frames(tmp_path):
    audio = write_speech(tmp_path / "a.wav", 1.2)
    saved, video, again = (tmp_path / name for name in ("s.json", "v.mp4", "again.mp4"))
    code, _, err = run_command("talk", "fake", audio, "-o", video, "--size", 64, "--camera", "spiral", "--variant", 1,
                       "--set", "lip1=1", "--save-session", saved)  # fmt: skip
    assert code == 0, err
    code, _, err = run_command("talk", "--session", saved, audio, "-o", again, "--save-session", tmp_path / "s2.json")
    assert code == 0, err
    assert np.array_equal(list(read_video(video)), list(read_video(again))) and probe(again).audio
    assert saved.read_text() == (tmp_path / "s2.json").read_text()
    code, _, err = run_command("talk", "--session", saved, "-o", again, "--size", 96)
    assert code == 0 and "silent: give the sound 'a.wav'" in err
    assert probe(again).width == 96 and not probe(again).audio


def test_what_sessions_and_schedules_cannot_be(tmp_path, capsys):
    def refused(*argv, saying):  # in this process: there are many
        try:
            code = cli.main([str(word) for word in argv])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        sentence = err.splitlines()[-1]
        assert code == 2 and out == "" and "Traceback" not in err, err
        assert sentence.startswith("error: ") and saying.lower() in sentence.lower() and sentence.endswith("."), (
            sentence
        )

    audio, other = write_speech(tmp_path / "a.wav", 1.0), write_speech(tmp_path / "b.wav", 1.5)
    saved, out = tmp_path / "s.json", ["-o", tmp_path / "x.mp4", "--size", 32]
    assert cli.main(["talk", "fake", str(audio), *map(str, out), "--save-session", str(saved)]) == 0
    os.unlink(tmp_path / "x.mp4")
    (tmp_path / "foreign.json").write_text('{"some": "thing"}')
    (tmp_path / "cut.json").write_text(saved.read_text()[:300])
    (tmp_path / "else.json").write_text(saved.read_text().replace('"fake"', '"owner/repo"'))
    refused("talk", "--session", tmp_path / "foreign.json", *out, saying="not a session")
    refused("talk", "--session", tmp_path / "cut.json", *out, saying="cut short")
    refused("talk", "--session", tmp_path / "none.json", *out, saying="does not exist")
    refused("talk", "--session", tmp_path / "else.json", *out, saying="'owner/repo' is not installed")
    refused("talk", "--session", saved, other, *out, saying="not the sound of the session")
    refused("talk", "--session", saved, tmp_path / "no.wav", *out, saying="does not exist")
    refused("talk", "--session", saved, "--seed", 3, *out, saying="--seed")
    refused("talk", "fake", *out, saying="AUDIO must be given")
    refused("talk", *out, saying="IDENTITY and AUDIO")
    refused("talk", "fake", audio, "--blinks", "often", *out, saying="not a time")
    refused("talk", "fake", audio, "--blinks", "7", *out, saying="the sound lasts 1.00 s")
    refused("talk", "fake", audio, "--blink-rate", 999, *out, saying="rate")
    refused("talk", "fake", audio, "--variant", -1, *out, saying="variant")
    refused("talk", "fake", audio, "--save-session", tmp_path / "s.txt", *out, saying=".json")
    assert not (tmp_path / "x.mp4").exists()
