"""The last good configuration on disk: what a process starts with while its database is away."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from tonsurance.core.errors import TonsuranceError
from tonsurance.core.parameters.declaration import thaw
from tonsurance.core.params import InvalidParameters, Params, build_params
from tonsurance.services.config_rows import read_values, write_values

LAST_GOOD = Path("config") / "last_good.json"
"""Where it lies in the home."""
_MAX_BYTES = 4_000_000


class NoLastGood(TonsuranceError):
    """There is no usable configuration on disk."""

    code = "no_last_good"


class _Kept(msgspec.Struct, frozen=True):
    version: int
    hash: str
    values: msgspec.Raw


def save_last_good(path: Path, params: Params) -> None:
    """Replace the file as a whole; readable by its owner only. Raises OSError."""
    values = write_values({name: thaw(value) for name, value in params.values.items()})
    content = msgspec.json.encode(_Kept(params.version, params.hash, msgspec.Raw(values.encode())))
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # created with mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def load_last_good(path: Path) -> Params:
    """The configuration that was good last. Raises NoLastGood saying why there is none."""
    try:
        with path.open("rb") as file:
            kept = msgspec.json.decode(file.read(_MAX_BYTES), type=_Kept)
        params = build_params(read_values(bytes(kept.values).decode()), kept.version)
    except FileNotFoundError as error:
        raise NoLastGood("None was kept on disk yet.") from error
    except (OSError, ValueError, AttributeError, TypeError, InvalidParameters) as error:
        raise NoLastGood(f"The one on disk cannot be used: {error}") from error
    if params.hash != kept.hash:
        raise NoLastGood("The one on disk was changed: its hash does not fit.")
    return params
