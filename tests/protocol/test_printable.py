from hypothesis import given
from hypothesis import strategies as st

from omega21.protocol.printable import printable, printable_lines


def test_what_a_terminal_would_obey_is_shown_as_its_escape() -> None:
    assert printable("\x1b]52;c;aGk=\x07\x1b[2J\r\n\x9b1m") == (
        r"\x1b]52;c;aGk=\x07\x1b[2J\r\n\x9b1m"
    )
    assert printable("a\u202eb\u2066c\u200f\u2028\ufeff\udcff") == (
        r"a\u202eb\u2066c\u200f\u2028\ufeff\udcff"
    )


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    for text in ("", "GPU NVIDIA T4 · 15 °C", "¿señal?", "می‌خواهم", "训练", "👩‍🔬"):
        assert printable(text) == text


def test_long_text_is_cut_before_it_is_looked_at() -> None:
    assert printable("a" * 1000, most=10) == "a" * 9 + "…"
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"


@given(st.text())
def test_nothing_unprintable_is_left_and_a_second_time_changes_nothing(text: str) -> None:
    shown = printable(text)

    assert not set(shown) & set("\n\r\x1b\x07\x7f\u202e\u2069\u2028")
    assert printable(shown) == shown
