"""Phone timings. Real recordings need pocketsphinx and the example material."""

import json
import sys

import numpy as np
import pytest

from dgtalker.audio import phone_alignment as module
from dgtalker.audio.phone_alignment import (
    align_phones,
    align_recording,
    find_transcripts,
    grid_transcript,
)
from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio


@pytest.fixture(scope="module")
def clip(shared):
    """A GRID clip of which the word timings are known."""
    pytest.importorskip("pocketsphinx")
    path = shared / "data" / "grid_s1" / "test" / "pbwp9a.mpg"
    if not path.is_file():
        pytest.skip("no GRID clips")
    return path


def words(phones):
    """[(word, start, end)]"""
    found = []
    for phone in phones:
        if found and found[-1][0] == phone.word:
            found[-1][2] = phone.end
        else:
            found.append([phone.word, phone.start, phone.end])
    return found


def test_a_grid_clip_says_what_its_name_says(clip):
    samples = load_audio(clip)
    phones = align_phones(samples, grid_transcript(clip.stem))
    assert " ".join(p.label for p in phones).startswith("P L EY S B L UW W IH")
    edges = [t for p in phones for t in (p.start, p.end)]
    assert edges == sorted(edges) and 0 <= edges[0] and edges[-1] <= len(samples) / 16000
    assert all(0 < p.confidence <= 1 for p in phones)
    known = [line.split() for line in clip.with_suffix(".align").read_text().splitlines()]
    known = [(word, int(a) / 25000, int(b) / 25000) for a, b, word in known if word not in ("sil", "sp")]
    found = words(phones)
    assert [w[0] for w in found] == [w[0] for w in known]
    apart = [abs(a - b) for x, y in zip(found, known, strict=True) for a, b in zip(x[1:], y[1:], strict=True)]
    assert np.median(apart) < 0.03 and max(apart) < 0.15


def test_the_answer_does_not_depend_on_what_was_heard_before(clip):
    samples, text = load_audio(clip), grid_transcript(clip.stem)
    first = align_phones(samples, text)
    align_phones(0.1 * samples[::-1].copy()[:20000], "now")
    assert align_phones(samples, text) == first


def test_timings_are_kept_and_a_damaged_record_is_made_again(clip, tmp_path, monkeypatch):
    text = grid_transcript(clip.stem)
    first = align_recording(clip, text, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text())["text"] == text
    with monkeypatch.context() as patch:
        patch.setattr(module, "align_phones", lambda *_: pytest.fail("aligned again"))
        assert align_recording(clip, text, tmp_path) == first
    kept.write_text("{")
    assert align_recording(clip, text, tmp_path) == first
    align_recording(clip, "bin red", tmp_path)  # another text is another record
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "text, complaint",
    [("xyzzyqy blue", "xyzzyqy"), ("...", "no words"), ("the narrative would be tedious to him " * 9, "seem")],
)
def test_what_cannot_be_aligned_is_one_sentence(clip, text, complaint):
    with pytest.raises(UserError, match=complaint):
        align_phones(load_audio(clip), text)


def test_without_pocketsphinx_one_sentence_says_so(monkeypatch):
    module._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(UserError, match="pocketsphinx"):
        align_phones(np.zeros(16000, np.float32), "now")


def test_names_of_grid_clips():
    assert grid_transcript("bbaf2n") == "bin blue at f. two now"
    assert grid_transcript("id2_swwp2s.mpg") == "set white with p. two soon"
    assert grid_transcript("pgbrzn") == "place green by r. zero now"
    assert (
        grid_transcript("LJ001-0001") is None and grid_transcript("brbk7") is None and grid_transcript("xxxxxx") is None
    )


def test_transcripts_are_found_in_the_forms_that_corpora_have(tmp_path):
    (tmp_path / "metadata.csv").write_text('LJ1-2|He said "no", then.\nLJ1-3|12 men|twelve men\n')
    (tmp_path / "transcription").write_text("<s> he was not </s> (austen-0880)\n")
    (tmp_path / "transcripts.txt").write_text("libri-24-1 IF THE READER\n")
    (tmp_path / "beside.txt").write_text("hello there\n")
    assert find_transcripts(tmp_path) == {
        "LJ1-2": 'He said "no", then.',
        "LJ1-3": "twelve men",
        "austen-0880": "he was not",
        "libri-24-1": "IF THE READER",
        "beside": "hello there",
    }
    assert find_transcripts(tmp_path / "nowhere") == {}
