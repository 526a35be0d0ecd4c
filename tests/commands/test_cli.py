"""The command line in this process: parsing, JSON, exit codes that need no engine."""

import json

import pytest

from dgtalker import cli
from dgtalker.commands import console
from dgtalker.errors import UserError
from dgtalker.files import check_output_file, check_output_folder


def run(capsys, *argv):
    """(exit code, stdout, stderr) of one command line."""
    try:
        code = cli.main(list(argv))
    except SystemExit as stop:
        code = stop.code
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and command in out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["dance"],
        ["talk"],
        ["render", "x", "-o", "y", "--size", "7"],
        ["render", "x", "-o", "y", "--yaw", "inf"],
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1


def test_set_may_be_repeated_or_given_several_values():
    for argv in (
        ["render", "x", "-o", "y.png", "--set", "lip1=1", "lip2=2", "--set", "blink=1"],
        ["render", "--set", "lip1=1", "lip2=2", "--set", "blink=1", "x", "-o", "y.png"],
    ):
        args = cli.build_parser("render").parse_args(cli._expand_set_options(argv))
        assert args.settings == ["lip1=1", "lip2=2", "blink=1"] and args.identity == "x"


def test_outputs_are_checked_before_the_work(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        check_output_file(blocker / "out.png", (".png",))
    with pytest.raises(UserError, match="must end in .png"):
        check_output_file(tmp_path / "out.gif", (".png",))
    with pytest.raises(UserError, match="is a folder"):
        check_output_file(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        check_output_folder(blocker)
    assert not check_output_folder(tmp_path / "later").exists()
    assert check_output_file(tmp_path / "new" / "out.png", (".png",)).parent.is_dir()


def test_json_has_no_nan(capsys):
    console.print_json({"a": float("nan"), "b": [1.5, float("inf")], "c": "text"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": "text"}


def test_progress_follows_the_engine(capsys):
    with console.Progress("work") as progress:
        progress(0, 0, "reading")
        assert progress.bar is None  # bad input that shows now is refused without a bar
        progress(1, 4)
        progress(3, 4, "more work")
        assert (progress.bar.n, progress.bar.total, progress.bar.desc) == (3, 4, "more work: ")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("The file is no good."), 2, "error: The file is no good."),
        (
            ValueError("two\nlines"),
            1,
            "error: dgtalker failed: ValueError: two lines ",
        ),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
)
def test_exit_codes(capsys, monkeypatch, error, code, sentence):
    from dgtalker.commands import bench

    def fail(args):
        raise error

    monkeypatch.delenv("DGTALKER_DEBUG", raising=False)
    monkeypatch.setattr(bench, "run", fail)
    found, out, err = run(capsys, "bench")
    assert (found, out) == (code, "") and err.startswith(sentence) and err.count("\n") == 1


def test_doctor_reports_machine_and_checks(capsys):
    code, out, _ = run(capsys, "doctor", "--json")
    report = json.loads(out)
    assert report["checks"]["python"]["status"] == "ok" and report["checks"]["torch"]["status"] == "ok"
    assert report["machine"]["cores"] >= 1 and code == (0 if report["ok"] else 1)


@pytest.mark.parametrize("command", ["talk", "create-identity"])
def test_help_loads_nothing_heavy(command):
    import subprocess
    import sys

    code = f"""
import sys
from dgtalker import cli
try:
    cli.main(["{command}", "--help"])
except SystemExit:
    print([name for name in ("torch", "numpy", "numba", "gradio") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"
