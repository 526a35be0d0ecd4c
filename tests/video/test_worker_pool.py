"""Bad inputs of preprocessing: each is told once, as a warning or as the error."""

import logging

import pytest

from dgtalker.errors import UserError
from dgtalker.video.worker_pool import InputProblems


def test_problems_are_warnings_while_something_is_left(caplog):
    problems = InputProblems()
    for sentence in ("a.mp4 has no face.", "a.mp4 has no face.", "b.mp4 has two faces."):
        problems.add(UserError(sentence))
    with caplog.at_level(logging.WARNING):
        problems.warn_or_raise(["c.mp4"])
        problems.warn_or_raise(["c.mp4"])
    assert caplog.messages == ["a.mp4 has no face.", "b.mp4 has two faces."]


def test_the_last_input_that_fails_is_an_error_and_not_a_warning_too(caplog):
    problems = InputProblems()
    with problems:
        raise UserError("a.mp4 has no face.")
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match="a.mp4 has no face"):
        problems.warn_or_raise([])
    assert caplog.messages == []
    with pytest.raises(UserError, match="No usable clip"):
        InputProblems().warn_or_raise([])
