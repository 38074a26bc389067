"""Base URLs of TON APIs, and which key goes to which of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from tonsurance.core.errors import UsageError

MAX_URLS = 8
_PLAIN = re.compile(r"[!-~]{1,512}")
_KEY = re.compile(r"[!-~]{1,512}")
_ADVICE = "Set the key as TON_API_KEY."


def check_url(base_url: str) -> str:
    """The URL without a trailing slash and API path. Raises UsageError when it is not one, or carries a secret."""
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except ValueError:  # its text would repeat a part of the URL
        raise UsageError("The URL of a TON API cannot be read.") from None
    if parts.username is not None:
        raise UsageError("The TON API's URL must hold no query, fragment or user.", advice=_ADVICE)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _PLAIN.fullmatch(base_url):
        raise UsageError(f"{parts.scheme}://{parts.hostname or ''} is not an http(s) URL of a TON API.")
    if parts.query or parts.fragment:
        raise UsageError("The TON API's URL must hold no query, fragment or user.", advice=_ADVICE)
    return base_url.rstrip("/").removesuffix("/api/v2").removesuffix("/api/v3")


def split_urls(text: str) -> tuple[str, ...]:
    """The URLs in a list separated by commas, in its order, the one to ask first first.

    Raises UsageError when it holds none, an empty one, one twice, more than eight, or one that `check_url` refuses.
    """
    return check_urls([part.strip() for part in text.split(",")])


def check_urls(base_urls: Sequence[str]) -> tuple[str, ...]:
    """Each URL checked. Raises UsageError when there is none, one twice, or more than eight."""
    if not 0 < len(base_urls) <= MAX_URLS:
        raise UsageError(f"1 to {MAX_URLS} URLs of TON APIs can be used, not {len(base_urls)}.")
    if not all(base_urls):
        raise UsageError("The list of TON APIs holds an empty URL.")
    checked = tuple(check_url(url) for url in base_urls)
    folded = [_fold(url) for url in checked]
    for index, url in enumerate(folded):
        if url in folded[:index]:
            raise UsageError(f"The TON API {checked[index]} is listed twice.")
    return checked


def is_toncenter(url: str) -> bool:
    """Whether this is a server of toncenter.com."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host == "toncenter.com" or host.endswith(".toncenter.com")


def assign_keys(urls: Sequence[str], api_key: str | Mapping[str, str] | None) -> dict[str, str | None]:
    """The key for each URL, or None.

    A mapping names the URL of each key. A single key goes to a single URL; of several URLs it goes to those of
    toncenter.com only. Raises UsageError when a key cannot go into a header, is for a URL that is not used, or would
    go to none; the message never holds the key.
    """
    if api_key is None or not api_key:
        return dict.fromkeys(urls)
    if isinstance(api_key, str):
        keys = {url: api_key for url in urls if len(urls) == 1 or is_toncenter(url)}
        if not keys:
            raise UsageError("The API key is for toncenter.com, and none of the URLs is.", advice="Unset TON_API_KEY.")
    else:
        keys = {check_url(url): key for url, key in api_key.items()}
        for url in keys:
            if url not in urls:
                raise UsageError(f"An API key is given for {url}, which is not used.")
    if not all(_KEY.fullmatch(key) for key in keys.values()):
        raise UsageError("The API key holds characters that no key has, or none at all.")
    return {url: keys.get(url) for url in urls}


def _fold(url: str) -> str:
    """The same for URLs that name the same server."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}{parts.path}"
