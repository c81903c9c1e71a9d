"""What a run trains: a built-in kind of task, or the user's own source."""

from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, JsonValue, Tag

from omega21.protocol.messages import Document
from omega21.protocol.names import Sha256

Options = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")], JsonValue]
"""Options of a task, by name."""

ENTRY_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
"""`package.module:function`."""


LOSS_NAMES: Final = (
    "cross_entropy", "nll", "bce", "bce_with_logits", "mse", "mae", "huber", "reconstruction",
)  # fmt: skip
"""The built-in losses, for source that has no function `loss`."""


class BuiltInTask(Document):
    """A task that the package has: `models.registry` lists the kinds and what `config` may hold."""

    kind: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    config: Options = Field(default_factory=dict)


class CodeTask(Document):
    """A task in the user's own source.

    `code_sha256` names the source (`protocol.code`), `entry` the function in it that builds the
    model, as `module:function`; it gets the schema, and `config` as keyword arguments. `loss` is
    the name of a built-in loss, for source that has no function `loss`. `requirements` are the
    distributions that the source needs, as in PEP 508.
    """

    kind: Literal["code"] = "code"
    entry: str = Field(pattern=ENTRY_PATTERN, max_length=256)
    code_sha256: Sha256
    config: Options = Field(default_factory=dict)
    loss: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,31}$")
    requirements: Annotated[tuple[str, ...], Field(max_length=64)] = ()


def _kind(value: object) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "code" if kind == "code" else "built_in"


Task = Annotated[
    Annotated[BuiltInTask, Tag("built_in")] | Annotated[CodeTask, Tag("code")],
    Discriminator(_kind),
]
