import re
from collections.abc import Iterator

import pytest

from omega21.protocol import errors
from omega21.protocol.errors import (
    InvalidSamples,
    OmegaError,
    Problem,
    UnknownProblem,
    error_classes,
    from_problem,
    to_problem,
)

CLASSES = list(error_classes())

HTTP_STATUSES = {
    400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 431,
    500, 501, 502, 503, 504, 507,
}  # fmt: skip


def drawn_tree() -> Iterator[tuple[int, str]]:
    """Read (depth, name) of each class from the tree that is drawn at the top of the module."""
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        drawn = re.match(r" {4}((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+)", line)
        if drawn:
            yield len(drawn[1]) // 4, drawn[2]


def real_tree(root: type[OmegaError] = OmegaError, depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, root.__name__
    for child in root.__subclasses__():
        yield from real_tree(child, depth + 1)


def by_parent(tree: Iterator[tuple[int, str]]) -> dict[str, set[str]]:
    """Turn (depth, name) in the order of the tree into the children of each."""
    path: list[str] = []
    children: dict[str, set[str]] = {}
    for depth, name in tree:
        del path[depth:]
        children[name] = set()
        if path:
            children[path[-1]].add(name)
        path.append(name)
    return children


def test_the_tree_is_the_one_drawn_at_the_top_of_the_module() -> None:
    assert by_parent(drawn_tree()) == by_parent(real_tree())


def test_the_walk_meets_every_class_once() -> None:
    names = [name for _, name in real_tree()]
    assert [cls.__name__ for cls in CLASSES] == names
    assert len(set(names)) == len(names)
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, OmegaError)
    }
    assert defined == set(CLASSES)


def test_codes_and_exit_numbers_are_unique() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)
    assert len({cls.exit_code for cls in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
class TestEachClass:
    def test_its_numbers_are_in_range(self, cls: type[OmegaError]) -> None:
        assert 1 <= cls.exit_code <= 125  # from 126 on, a shell gives them a meaning
        assert cls.http_status in HTTP_STATUSES
        assert re.fullmatch(r"[a-z][a-z0-9_]+", cls.code)
        assert cls.__doc__

    def test_it_survives_the_wire(self, cls: type[OmegaError]) -> None:
        sent = cls("sample 3 is wrong", hint="send another", retry_after=2.5)
        text = to_problem(sent).model_dump_json()
        got = from_problem(Problem.model_validate_json(text))
        assert type(got) is cls
        assert str(got) == str(sent) == "sample 3 is wrong; send another"
        assert got.retry_after == 2.5

    def test_it_survives_two_links(self, cls: type[OmegaError]) -> None:
        once = from_problem(to_problem(cls("wrong")))
        assert str(from_problem(to_problem(once))) == str(once) == str(cls("wrong"))


def test_a_problem_says_what_and_what_to_do() -> None:
    problem = to_problem(InvalidSamples("expected 1600 features, got 1599", hint="send 1600"))
    assert problem.model_dump(exclude_none=True) == {
        "type": "about:blank",
        "title": "Invalid samples",
        "status": 422,
        "detail": "expected 1600 features, got 1599; send 1600",
        "code": "invalid_samples",
        "status_text": "error",
    }


def test_a_message_without_a_hint_stands_alone() -> None:
    assert str(InvalidSamples("wrong")) == "wrong"
    assert str(errors.UnknownRun("no run", hint="")) == "no run"
    assert str(errors.UnknownRun("no run")).startswith("no run; ")


def test_a_code_of_a_newer_server_is_kept_in_words() -> None:
    text = b'{"title": "T", "status": 418, "detail": "brewing", "code": "teapot", "new": [1]}'
    got = from_problem(Problem.model_validate_json(text))
    assert type(got) is UnknownProblem
    assert "brewing (teapot, HTTP 418)" in str(got)
