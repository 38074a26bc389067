"""The live page and its parts: read once, served with an ETag."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from tonsurance.api.etag import answer_unless_known
from tonsurance.api.injected import IfNoneMatch

MODULES = (
    "activity",
    "alerts",
    "app",
    "cards",
    "catalog",
    "claims",
    "clock",
    "draw",
    "elements",
    "factors",
    "feed",
    "formats",
    "offer",
    "outcome",
    "panel",
    "places",
    "policies",
    "products",
    "purchase",
    "quote",
    "reads",
    "shop",
    "status",
    "steps",
    "terms",
    "wallet",
    "words",
)
PARTS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    **{f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8") for name in MODULES},
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}


def page_routes() -> list[HTTPRouteHandler]:
    """One route per part of the page."""
    return [_part_route(path, name, media_type) for path, (name, media_type) in PARTS.items()]


def _part_route(path: str, name: str, media_type: str) -> HTTPRouteHandler:
    content = files("tonsurance.api").joinpath("static", name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'

    @get(path, include_in_schema=False, media_type=media_type, name=f"page {name}")
    async def get_part(if_none_match: IfNoneMatch = None) -> Response[bytes]:
        return answer_unless_known(content, etag, if_none_match, known=b"")

    return get_part
