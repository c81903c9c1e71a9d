"""The body of a source: the same files come out, and nothing else is accepted."""

import json
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from omega21.protocol.errors import BodyTooLarge, InvalidCode
from omega21.protocol.tasks.code import (
    MAX_CODE_BYTES,
    check_files,
    code_sha256,
    decode_code,
    encode_code,
)
from omega21.protocol.tasks.consent import Consent

NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
FILES = st.dictionaries(
    st.builds(lambda folder, name: f"{folder}_/m_{name}.py", NAMES, NAMES),
    st.binary(max_size=50),
    min_size=1,
    max_size=5,
)
NET = {"net.py": b"def build(schema): ...", "data/words.txt": b"a"}


def body_of(head: object, content: bytes = b"") -> bytes:
    """A body with any list of files."""
    text = json.dumps(head).encode()
    return zstandard.compress(struct.pack("<I", len(text)) + text + content)


@given(FILES)
def test_the_same_files_come_out(files: dict[str, bytes]) -> None:
    assert decode_code(encode_code(files), code_sha256(files)) == files


@given(FILES, FILES)
def test_other_files_have_another_digest(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    assert (code_sha256(one) == code_sha256(other)) == (one == other)


def test_the_digest_is_fixed() -> None:
    """Stored runs name their source by it."""
    assert code_sha256(NET) == "bd71608e16a1b6265bcdb0731e38237b6d861fd11ceda3a03303bc79b3c348c5"
    assert code_sha256(NET) == code_sha256(dict(reversed(NET.items())))


@given(st.data())
def test_a_tampered_body_is_refused(data: st.DataObject) -> None:
    body, digest = encode_code(NET), code_sha256(NET)
    at = data.draw(st.integers(0, len(body) - 1))
    flipped = bytes([body[at] ^ data.draw(st.integers(1, 255))])
    damaged = data.draw(
        st.sampled_from([body[:at], body[:at] + flipped + body[at + 1 :], body + b"x"])
    )
    try:
        found = decode_code(damaged, digest)
    except (InvalidCode, BodyTooLarge):
        return
    assert found == NET  # a bit of the frame that decides nothing


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises((InvalidCode, BodyTooLarge)):
        decode_code(body, "0" * 64)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


@given(JSON)
def test_any_list_of_files_is_refused(head: object) -> None:
    with pytest.raises(InvalidCode):
        decode_code(body_of(head), "0" * 64)


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../net.py", "a/../../net.py", "a/./b.py", "", "a//b.py", "a/", "."),
        *(
            "a\\b.py",
            "C:/x.py",
            "c:x.py",
            "con.py",
            "a/NUL",
            "x\0.py",
            "a\n.py",
            "a .py/ b",
            "a./b",
        ),
        *("json.py", "os/__init__.py", "omega21/x.py", "torch.py", "numpy/a.py"),
        *("omega21_code_0123456789abcdef.py", "__pycache__/a.pyc", "a.pyc", "x.pth", "e\u0301.py"),
        *("\ud800.py", "a" * 101 + ".py", "/".join(["ab"] * 90)),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidCode, match="cannot be in a source"):
        check_files({"net.py": 1, name: 1})
    with pytest.raises(InvalidCode):
        decode_code(body_of([[name, 0]]), "0" * 64)


@pytest.mark.parametrize("names", [("a.py", "A.py"), ("a", "a/b.py"), ("A/b.py", "a")])
def test_paths_that_are_one_on_some_systems_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(InvalidCode, match="cannot be in a source"):
        check_files(dict.fromkeys(names, 1))


def test_a_data_folder_may_have_any_name() -> None:
    check_files({"json/words.txt": 1, "torch/weights.bin": 1, "niño/año.txt": 1})


@pytest.mark.parametrize(
    "body",
    [
        body_of([["net.py", 5]], b"1234"),
        body_of([["net.py", 3]], b"1234"),
        body_of([["net.py", -1]]),
        body_of([["net.py", 1], ["net.py", 1]], b"12"),
        body_of([["net.py", True]], b"1"),
        body_of([]),
        body_of([[f"a{number}.py", 0] for number in range(1001)]),
        zstandard.compress(b""),
        zstandard.compress(struct.pack("<I", 2**31)),
    ],
)
def test_a_wrong_list_of_files_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidCode):
        decode_code(body, "0" * 64)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(BodyTooLarge):
        decode_code(zstandard.compress(b"\0" * (MAX_CODE_BYTES + 2**20)), "0" * 64)
    with pytest.raises(InvalidCode, match="the limit is"):
        check_files({"net.py": MAX_CODE_BYTES + 1})


@pytest.mark.parametrize(
    ("texts", "allows"),
    [
        ([], False),
        (["0"], False),
        (["any"], True),
        (["1"], True),
        (["sha256:" + "a" * 64], True),
        (["a" * 64], True),
        (["sha256:" + "b" * 64], False),
        (["sha256:" + "b" * 64 + ", sha256:" + "a" * 64], True),
    ],
)
def test_consent_is_any_or_digests(texts: list[str], allows: bool) -> None:
    consent = Consent.of(texts, source="--allow-code")
    assert consent.allows("a" * 64) == allows
    assert Consent.of(consent.texts(), source="--allow-code") == consent
    assert consent.also("a" * 64).allows("a" * 64)


@pytest.mark.parametrize("text", ["sha256:12", "md5:" + "a" * 64, "A" * 64, "maybe"])
def test_a_wrong_consent_is_refused(text: str) -> None:
    with pytest.raises(InvalidCode, match="--allow-code"):
        Consent.of([text], source="--allow-code")
