"""The dashboard at `/`: HTML, styles and scripts from the package, no external resources.

The addresses of scripts and styles contain a digest, so a browser caches them forever, and
reopening the page needs one request; a new version has other addresses.
"""

import hashlib
import mimetypes
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response
from fastapi.responses import HTMLResponse

from omega21.language import _
from omega21.protocol.errors import NotFound

_FOREVER: Final = "public, max-age=31536000, immutable"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
_VERSION_MARK: Final = "{version}"

router = APIRouter(include_in_schema=False)


def _read(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _read(item, f"{prefix}{item.name}/")
        else:
            yield f"{prefix}{item.name}", item.read_bytes()


_FILES: Final = dict(_read(files("omega21.server") / "static"))
VERSION: Final = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:16]
_PAGE: Final = _FILES["index.html"].decode().replace(_VERSION_MARK, VERSION)


@router.get("/")
def show_dashboard(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return the page, or 304 if the browser has it."""
    headers = {"Cache-Control": "no-cache", "ETag": f'"{VERSION}"'}
    if _has(if_none_match):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(_PAGE, headers=headers)


@router.get("/static/{version}/{name:path}")
def get_static(
    version: str, name: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Return a file of the page. Raises NotFound, also for files of another version."""
    content = _FILES.get(name)
    if content is None or version != VERSION:
        raise NotFound(
            _("there is no {name!r} in this version").format(name=name[:80]),
            hint=_("load the page again"),
        )
    headers = {"Cache-Control": _FOREVER, "ETag": f'"{VERSION}"'}
    if _has(if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_type(name), headers=headers)


def _has(etags: str | None) -> bool:
    """Whether the browser has this version; a compressing proxy makes the ETag a weak one."""
    given = [tag.strip().removeprefix("W/") for tag in (etags or "").split(",")]
    return f'"{VERSION}"' in given


def _type(name: str) -> str:
    # Not by `mimetypes`: on Windows the registry may have any type for .js.
    suffix = f".{name.rpartition('.')[2]}"
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
