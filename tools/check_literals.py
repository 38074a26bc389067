"""Business numbers stand in the registry of parameters alone, and every one of them is used. Exits 1 and lists faults.

Three rules: a room of business code holds no number but 0, 1, -1 and a square's 2, unless a constant of it is listed in
ALLOWED with the reason; a declared parameter is read somewhere or awaited by a feature of the registry's list, never
both; a key that is read is declared.

    python tools/check_literals.py [src]
"""

from __future__ import annotations

import ast
import fnmatch
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from declared_use import check_use, mirror_faults
from literal_rules import ALLOWED, OUTSIDE, ROOMS
from parameter_reads import Module, constants, load_modules

MIRRORS = {
    ("core/waterfall.py", "LOCKED_SHARES"): ("risk", "locked_shares"),
    ("core/claims.py", "BREAKER_PERCENT"): ("risk", "breaker_percent"),
}
"""Constants that a contract enforces and the registry shows: equal to the declared default, which they use."""

BYPASSES = {"DEFAULT_PARAMS", "PARAMETERS", "REGISTRY"}
"""The declared defaults. Business code takes the parameters in force, as an argument."""
_FREE = (0, 1, -1)


@dataclass(frozen=True)
class Found:
    """A number in a room; `constant` is the module's constant it belongs to."""

    line: int
    text: str
    constant: str | None
    why: str = "a business number in code"
    todo: str = "declare it in core/parameters and take it as an argument"


def is_room(name: str) -> bool:
    """Whether a module holds business code."""
    return _matches(name, ROOMS) and not _matches(name, OUTSIDE)


def _matches(name: str, patterns: tuple[str, ...] | dict[str, str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def find_numbers(tree: ast.Module) -> Iterator[Found]:
    """All numbers of a module that are business until somebody says why not."""
    names = {id(value): name for name, value in constants(tree)}
    for statement in tree.body:
        name = names.get(id(getattr(statement, "value", None)))
        for line, text in _walk(statement, _is_free):
            yield Found(line, text, name)


def _walk(node: ast.AST, free: Callable[[float], bool]) -> Iterator[tuple[int, str]]:
    """Numbers at and below a node, but for those that are free there."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):  # a docstring
            return
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if free(-value):
            return
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(2))):  # a square
            yield from _walk(left, free)
            return
        case ast.Constant():
            value = read_number(node.value)
            if value is not None and not free(value):
                yield node.lineno, ast.unparse(node)
            return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from _walk(child, _free_at(node, child, free))


def _free_at(node: ast.AST, child: ast.AST, free: Callable[[float], bool]) -> Callable[[float], bool]:
    """Which numbers are free below this child: a default is only nothing, a duration has no free numbers but 0."""
    match node:
        case ast.arguments() if child in node.defaults or child in node.kw_defaults:
            return _is_nothing
        case ast.ClassDef() if isinstance(child, ast.AnnAssign):
            return _is_nothing
        case ast.Call(func=ast.Name(id="timedelta") | ast.Attribute(attr="timedelta")):
            return _is_nothing
    return free


def _is_free(value: float) -> bool:
    return value in _FREE


def _is_nothing(value: float) -> bool:
    return value == 0


def read_number(value: object) -> float | None:
    """The number a constant is, also as a text: 0.97 of "0.97", 0.05 of "5%", a fraction of "19/20"; else None."""
    if isinstance(value, bool) or value is None or value is Ellipsis:
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, complex):
        return math.nan
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    parts = [_parse(part) for part in text.strip().removesuffix("%").split("/")]
    return None if None in parts else parts[0] if len(parts) == 1 and "%" not in text else math.nan


def _parse(text: str) -> float | None:
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def check_numbers(modules: list[Module]) -> Iterator[str]:
    """Faults of the rooms, and exceptions that excuse nothing any more."""
    excused: set[tuple[str, str]] = set()
    by_name = {module.name: module for module in modules}
    for module in filter(lambda module: is_room(module.name), modules):
        for found in (*find_numbers(module.tree), *_find_imports(module, by_name)):
            name = (module.name, found.constant or "")
            if name in ALLOWED:
                excused.add(name)
                continue
            yield f"{module.path}:{found.line}: {found.text}, {found.why}, {found.todo}"
    for path, name in sorted(ALLOWED.keys() - excused):
        yield f"{Path(__file__).name}: ALLOWED {path} {name}, excuses nothing any more, take it out of the list"
    for pattern in OUTSIDE:
        if not _matches_any(pattern, by_name):
            yield f"{Path(__file__).name}: OUTSIDE {pattern}, no such module, take it out of the list"


def _matches_any(pattern: str, names: dict[str, Module]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for name in names)


def _find_imports(module: Module, by_name: dict[str, Module]) -> Iterator[Found]:
    """Constants with a number that a room takes from elsewhere in our code, and the declared defaults."""
    for node in module.nodes:
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            source, name = module.imported.get(alias.asname or alias.name, ("", ""))
            if name in BYPASSES or _holds_number(by_name.get(source), name):
                yield _found_outside(node.lineno, f"import of {name} from {source}", name)
            inner = by_name.get(f"{source.removesuffix('.py')}/{name}.py")
            yield from _find_attributes(module, alias.asname or name, inner)


def _find_attributes(module: Module, local: str, source: Module | None) -> Iterator[Found]:
    """The same by way of the module: `catalog.TRANCHES` after `from tonsurance.core import catalog`."""
    for node in module.nodes if source is not None else ():
        match node:
            case ast.Attribute(value=ast.Name(id=taken), attr=name) if taken == local and (
                name in BYPASSES or _holds_number(source, name)
            ):
                yield _found_outside(node.lineno, f"use of {taken}.{name}", name)


def _found_outside(line: int, text: str, name: str) -> Found:
    return Found(line, text, name, "a number that is not the one in force", "take the parameters as an argument")


def _holds_number(source: Module | None, name: str) -> bool:
    if source is None or is_room(source.name):
        return False
    return any(found.constant == name for found in find_numbers(source.tree))


def check(source: Path) -> list[str]:
    """Every fault of a source folder, as sentences: path:line: what, why, what to do."""
    package = source / "tonsurance"
    modules = load_modules(package)
    sys.path.insert(0, str(source.resolve()))  # the registry of this folder, not of an installed package
    return [*check_numbers(modules), *mirror_faults(modules, MIRRORS), *check_use(modules, set(MIRRORS.values()))]


def main() -> int:
    """Check the folder given, or src."""
    problems = check(Path(sys.argv[1] if len(sys.argv) > 1 else "src"))
    for problem in problems:
        print(problem)
    if not problems:
        print("literals: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
