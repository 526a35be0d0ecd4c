"""evaluate: what is refused before any work is done."""

import pytest

from dgtalker import cli


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--report", "page.pdf"], "must end in .html"),
        (["--report", "."], "must end in .html"),
        (["--frames", "file"], "is a file"),
    ],
)
def test_outputs_are_checked_first(fake_identity, tmp_path, monkeypatch, capsys, options, saying):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert cli.main(["evaluate", str(fake_identity), str(tmp_path), *options]) == 2
    assert saying in capsys.readouterr().err


def test_views_of_a_film_are_a_sensible_number(tmp_path, capsys):
    films = ["synthesize-performance", str(tmp_path), "-o", str(tmp_path / "out"), "--makehuman", str(tmp_path)]
    assert cli.main([*films, "--views", "-3"]) == 2
    assert "--views" in capsys.readouterr().err
