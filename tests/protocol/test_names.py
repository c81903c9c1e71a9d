import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from omega21.protocol.names import DEFAULT_RUN, RunName, Sha256, check_run_name


@pytest.mark.parametrize(
    "name", [DEFAULT_RUN, "a", "0", "mi-corrida_2", "a" * 63, "console", "com"]
)
def test_run_names(name: str) -> None:
    assert check_run_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "A", "-a", "_a", "a.b", "a/b", "a\\b", "..", "a b", "a\n", "ñ", "a" * 64, "٣",
        "con", "prn", "aux", "nul", "com1", "lpt9",
    ],
)  # fmt: skip
def test_what_no_run_may_be_called(name: str) -> None:
    with pytest.raises(ValueError, match="is not a run name"):
        check_run_name(name)
    with pytest.raises(ValidationError):
        TypeAdapter(RunName).validate_python(name)


@given(st.text(max_size=70))
def test_a_name_is_always_a_plain_folder_name(name: str) -> None:
    try:
        check_run_name(name)
    except ValueError:
        return
    assert name.isascii()
    assert name == name.lower()
    assert not set(name) & set("./\\: ")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_a_digest_is_64_hexadecimal_digits(text: str) -> None:
    assert TypeAdapter(Sha256).validate_python("0123456789abcdef" * 4)
    with pytest.raises(ValidationError):
        TypeAdapter(Sha256).validate_python(text)
