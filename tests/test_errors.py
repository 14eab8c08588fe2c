import pickle

import pytest

from crattn_stage.errors import EngineError, FrameError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("undecodable \udcff", r"undecodable \udcff"),
        ("backwards \u202e", r"backwards \u202e"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown
    for kind in (FrameError, EngineError):
        assert str(kind(f"{text}: damaged")) == f"{shown}: damaged"
        assert str(pickle.loads(pickle.dumps(kind(text)))) == shown
