"""Values that no parameter of a kind may take: 200 of each, as they come out of JSON or out of a careless caller."""

from __future__ import annotations

import math
import random

from tonsurance.core.parameters.declaration import Kind, Parameter

COUNT = 200
_UNICODE_DIGITS = ("٠٫٠٥", "０．０５", "५", "𝟓", "⑤", "Ⅴ", "五", "٥٪", "1\u00a0000", "½")  # noqa: RUF001
_UNITS = ("5%", "0.05 per year", "4 TON", "10 USD", "$5", "1e-2/y", "90d", "300s", "5 pct", "0,05", "1_000", "0x10")
_NOT_NUMBERS = (None, True, False, "", " ", "0.05", "5", "-0", "NaN", "Infinity", "null", [], {}, [0.5], {"value": 0.5})


def nested(levels: int) -> object:
    """A list in a list, so many times."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def _fill(fixed: list[object], more: random.Random) -> list[object]:
    """Exactly 200: the fixed ones, and texts made from numbers."""
    made = [f"{more.uniform(-1e6, 1e6)!r}{more.choice((' ', '%', 'x', '', 'f'))}" for _ in range(COUNT)]
    return (fixed + made)[:COUNT]


def _numbers(parameter: Parameter) -> list[object]:
    low, high = parameter.low, parameter.high
    assert low is not None
    assert high is not None
    beyond = [low - step for step in (1, 1e3, 1e9, 1e300)] + [high + step for step in (1, 1e3, 1e13, 1e300)]
    return [
        *_NOT_NUMBERS,
        *_UNICODE_DIGITS,
        *_UNITS,
        math.nan,
        -math.nan,
        math.inf,
        -math.inf,
        10**400,
        -(10**400),
        1.7976931348623157e308,
        b"0.05",
        object(),
        1j,
        *beyond,
        *(nested(levels) for levels in (1, 7, 8, 9, 50)),
    ]


def bad_values(parameter: Parameter) -> list[object]:
    """200 values that this parameter must refuse. Numbers need bounds, texts choices, objects fields."""
    more = random.Random(parameter.key)
    match parameter.kind:
        case Kind.FLOAT:
            return _fill(_numbers(parameter), more)
        case Kind.INT:
            return _fill([*_numbers(parameter), *(n + 0.5 for n in range(40)), 2**63, -(2**63) - 1, 1e17], more)
        case Kind.BOOL:
            unlike = [value for value in _NOT_NUMBERS if not isinstance(value, bool)]
            return _fill([*unlike, 0, 1, 0.0, -0.0, 1.0, math.nan, "true", "TRUE", "yes", b"true", object()], more)
        case Kind.STRING:
            texts: list[object] = [f"LINEAR{n}" for n in range(100)] + [f"{chr(n)}LINEAR" for n in range(32)]
            shapes: list[object] = [None, True, 1, 0.5, math.nan, [], {}, ["LINEAR"], "x" * 2_000, "L\u0000", "\ud800"]
            return _fill([*texts, *shapes, "ＬＩＮＥＡＲ", "LİNEAR", *range(60)], more)  # noqa: RUF001
        case Kind.JSON:
            return _fill([*_objects(parameter), *_NOT_NUMBERS, *_UNICODE_DIGITS, *_UNITS, *_deep()], more)


def _objects(parameter: Parameter) -> list[object]:
    """Objects that are almost right: a field missing, one too many, one wrong."""
    right = dict.fromkeys(parameter.fields, 0.5)
    wrong = (math.nan, math.inf, -0.5, 1.5, "0.5", None, True, [0.5], {}, 10**400)
    found: list[object] = [right | {name: bad} for name in parameter.fields for bad in wrong]
    found += [{name: 0.5 for name in parameter.fields if name != left_out} for left_out in parameter.fields]
    return [*found, right | {"more": 0.5}, right | {"\u0000": 0.5}, {name.upper(): 0.5 for name in right}]


def _deep() -> list[object]:
    return [*(nested(levels) for levels in range(1, 30)), {"a": nested(100_000)}, ["x" * 20_000], list(range(10_000))]
