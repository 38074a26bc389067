"""Bodies of requests, decoded once and strictly from their bytes: to the framework "90" is as good as 90, and an amount
would have been a float on its way.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from litestar import Request

from tonsurance.api.admin_guard import BODY
from tonsurance.core.errors import BadField, InputError
from tonsurance.core.units import BIGINT_MAX

AMOUNT = r"[0-9]{1,20}(\.[0-9]{1,20})?"
"""How an amount is written as a text. The decimals of Python would also take other scripts' digits, 1_0 and +1."""
WRITTEN_AMOUNT = {"type": ["number", "string"], "pattern": f"^{AMOUNT}$"}
"""The same in the schema: the framework knows decimals as texts only."""
_ID = r"[0-9]{1,19}"
ID_SCHEMA = {"pattern": f"^{_ID}$"}
"""How an id is written in a path; the framework's integers would be of any script."""
_DIGITS = re.compile(_ID)
_AMOUNT = re.compile(AMOUNT)
_NAMED = re.compile(r"`\$\.([A-Za-z0-9_]{1,64})|field `([^`]{1,64})`")
Body = TypeVar("Body")


class _Amounts(msgspec.Struct):
    """The amounts of a body, whichever it has, as they were written."""

    coverage_amount: msgspec.Raw = msgspec.Raw()
    amount_ton: msgspec.Raw = msgspec.Raw()


_find_amounts = msgspec.json.Decoder(_Amounts).decode


class ExactRequest(Request[Any, Any, Any]):
    """A request whose body is what `read_body` makes of it, for the type that the route's option names."""

    async def json(self) -> Any:
        """The body. Raises InputError, BadField."""
        return read_body(await self.body(), self.route_handler.opt[BODY])


async def check_exact_body(request: Request[Any, Any, Any]) -> None:
    """Refuse a body that is not strictly of the route's type."""
    kind = request.route_handler.opt.get(BODY)
    if kind is not None:
        read_body(await request.body(), kind)


async def check_given_body(request: Request[Any, Any, Any]) -> None:
    """The same where the body may be left out."""
    if await request.body():
        await check_exact_body(request)


def read_body(body: bytes, kind: type[Body]) -> Body:
    """A body of this type, its amounts exact. Raises InputError, BadField."""
    try:
        made = msgspec.json.decode(body, type=kind)
        _check_amounts(body)
    except RecursionError as error:
        raise InputError("The body is nested too deeply.") from error
    except msgspec.ValidationError as error:
        raise name_field(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError("The body is not JSON.") from error
    return made


def _check_amounts(body: bytes) -> None:
    found = _find_amounts(body)
    for field in found.__struct_fields__:
        written = bytes(getattr(found, field))
        if written.startswith(b'"'):
            read_decimal(field, msgspec.json.decode(written, type=str))


def read_decimal(field: str, text: str) -> Decimal:
    """A number written in decimal digits. Raises BadField."""
    if not _AMOUNT.fullmatch(text):
        raise BadField(field, f"{field} is a number in decimal digits.")
    return Decimal(text)


def read_id(field: str, text: str) -> int:
    """An id from a path. Raises BadField."""
    if not _DIGITS.fullmatch(text) or int(text) > BIGINT_MAX:
        raise BadField(field, f"{field} is a whole number in decimal digits, at most {BIGINT_MAX}.")
    return int(text)


def name_field(message: str) -> InputError:
    """What is wrong with a body, with the field that it is about."""
    words = message.split(" - at ", maxsplit=1)[0]
    found = _NAMED.search(message)
    if found is None:
        return InputError(f"The body cannot be used: {words}.")
    return BadField(found[1] or found[2], f"{found[1] or found[2]}: {words}.")
