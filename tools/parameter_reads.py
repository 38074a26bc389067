"""Finds the parameters a source tree reads, by `ast`: nothing of it is run.

A reader is a function with the arguments `category, key` side by side (`params.value`, `loader.get_float`); an accessor
hands its own argument to a reader as the key, under a fixed category. A key made of parts matches by its fixed ones.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
PARAMS_MODULE = "core/params.py"
DECLARATIONS = "core/parameters/"
READER_HOMES = ("core/", "services/")
"""Where readers are defined; elsewhere such functions show parameters or change them."""
_ANYTHING = ".+"
_CATEGORY = re.compile("[a-z_]+")


@dataclass(frozen=True)
class Module:
    """One source file; `name` is its path within the package."""

    name: str
    path: Path
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def texts(self) -> dict[str, str]:
        """Constants of the module that are texts."""
        return {
            name: value.value
            for name, value in constants(self.tree)
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        }

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Names taken from our own modules: (the module, its name there)."""
        return {
            alias.asname or alias.name: (node.module.partition(".")[2].replace(".", "/") + ".py", alias.name)
            for node in self.nodes
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tonsurance")
            for alias in node.names
            if node.module is not None
        }

    @cached_property
    def functions(self) -> list[Function]:
        """All functions and methods."""
        return [node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@dataclass(frozen=True)
class Read:
    """A place that reads parameters: all of the category whose key matches. `strict`: at least one must.

    `attribute` is the field that keeps the value, when core/params.py puts it there: it is used when the field is.
    """

    module: Module
    line: int
    category: str
    pattern: str
    strict: bool
    attribute: str | None = None

    @property
    def shown(self) -> str:
        """The key as it stands, with * for what is put in."""
        return re.sub(r"\\(.)", r"\1", self.pattern.replace(_ANYTHING, "*"))


@dataclass
class _Callees:
    """What a call of a name in one module reads: the place of `category` (the key follows), or category and place."""

    readers: dict[str, int]
    accessors: dict[str, tuple[str, int]] = field(default_factory=dict)


def load_modules(package: Path) -> list[Module]:
    """All modules of a package."""
    return [
        Module(path.relative_to(package).as_posix(), path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
        for path in sorted(package.rglob("*.py"))
    ]


def constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names that are given a value at the top of a module."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if _is_given(node) else []
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value


def _is_given(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None


def find_reads(modules: list[Module], categories: tuple[str, ...]) -> list[Read]:
    """Every read of a parameter by a key that can be told. The declarations themselves are no reads."""
    users = [module for module in modules if not module.name.startswith(DECLARATIONS)]
    readers = {
        name: place for module in users if module.name.startswith(READER_HOMES) for name, place in _find_readers(module)
    }
    callees = {module.name: _Callees(readers) for module in users}
    while sum(_learn_accessors(module, callees) for module in users):
        pass  # an accessor may hand on to another one
    return [read for module in users for read in _reads_of(module, callees[module.name], categories)]


def list_pairs(module: Module, categories: tuple[str, ...]) -> list[Read]:
    """The (category, key) pairs that stand in a module as tuples."""
    pairs = (_as_pair(node, module) for node in module.nodes if isinstance(node, ast.Tuple))
    return [
        Read(module, key.lineno, category, pattern, strict=True)
        for category, key in filter(None, pairs)
        if category in categories and (pattern := key_pattern(key, module.texts)) is not None
    ]


def list_attributes(modules: list[Module]) -> set[str]:
    """Names of all attributes that are read."""
    return {
        node.attr
        for module in modules
        if not module.name.startswith(DECLARATIONS)
        for node in module.nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def key_pattern(node: ast.expr, texts: dict[str, str]) -> str | None:
    """A regular expression of the keys an expression can be; None when nothing of it is fixed."""
    pattern = _pattern(node, texts)
    return None if set(pattern) <= set(_ANYTHING) else pattern


def _pattern(node: ast.expr, texts: dict[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return re.escape(text)
        case ast.Name(id=name) if name in texts:
            return re.escape(texts[name])
        case ast.JoinedStr(values=parts):
            return "".join(_pattern(part, texts) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _pattern(left, texts) + _pattern(right, texts)
        case ast.FormattedValue(value=value):
            return _pattern(value, texts)
    return _ANYTHING


def _arguments(function: Function) -> list[str]:
    spec = function.args
    names = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _find_readers(module: Module) -> Iterator[tuple[str, int]]:
    for function in module.functions:
        names = _arguments(function)
        if ("category", "key") in pairwise(names):
            yield function.name, names.index("category")


def _learn_accessors(module: Module, callees: dict[str, _Callees]) -> bool:
    """Note the accessors a module has and imports, as far as known by now. Whether there is a new one."""
    mine = callees[module.name]
    before = len(mine.accessors)
    for name, (source, original) in module.imported.items():
        if source in callees and original in callees[source].accessors:
            mine.accessors[name] = callees[source].accessors[original]
    for function in module.functions:
        names = _arguments(function)
        for node in ast.walk(function):
            pair = _called_pair(node, module, mine) if isinstance(node, ast.Call) else None
            if pair is not None and isinstance(pair[1], ast.Name) and pair[1].id in names:
                mine.accessors[function.name] = (pair[0], names.index(pair[1].id))
    return len(mine.accessors) > before


def _reads_of(module: Module, callees: _Callees, categories: tuple[str, ...]) -> Iterator[Read]:
    handed_on = {id(node) for function in module.functions for node in _own_arguments(function)}
    attributes = _attributes_filled(module)
    loose: set[str] = set()
    for node in module.nodes:
        pair, place = _pair_at(node, module, callees)
        category, key = pair or ("", node)
        if category not in categories and not (place == "call" and _CATEGORY.fullmatch(category)):
            continue
        pattern = key_pattern(key, module.texts)
        if pattern is not None:
            yield Read(module, key.lineno, category, pattern, place != "tuple", attributes.get(id(node)))
        elif place != "tuple" and id(key) not in handed_on:
            loose.add(category)
    for node in module.nodes if loose else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for category in loose:  # the key is a variable: it can be any text of this module
                yield Read(module, node.lineno, category, re.escape(node.value), strict=False)


def _pair_at(node: ast.AST, module: Module, callees: _Callees) -> tuple[tuple[str, ast.expr] | None, str]:
    """The category and the key that a node names, and where: in a call of a reader, an index, or just a tuple."""
    match node:
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Tuple() as index, *_]):
            return _as_pair(index, module), "index"
        case ast.Call():
            return _called_pair(node, module, callees), "call"
        case ast.Subscript(value=ast.Name(id="Literal")):
            return None, ""
        case ast.Subscript(slice=ast.Tuple() as index):
            return _as_pair(index, module), "index"
        case ast.Tuple():
            return _as_pair(node, module), "tuple"
    return None, ""


def _called_pair(call: ast.Call, module: Module, callees: _Callees) -> tuple[str, ast.expr] | None:
    name = getattr(call.func, "id", getattr(call.func, "attr", None))
    if name in callees.accessors:
        category, place = callees.accessors[name]
        key = _argument(call, place, "key")
        return None if key is None else (category, key)
    if name not in callees.readers:
        return None
    place = callees.readers[name]
    pair = _argument(call, place, "category"), _argument(call, place + 1, "key")
    return None if None in pair else _as_pair(ast.Tuple(elts=list(pair)), module)


def _argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    if place < len(call.args):
        return call.args[place]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _as_pair(node: ast.Tuple, module: Module) -> tuple[str, ast.expr] | None:
    match node.elts:
        case [ast.Constant(value=str(category)), key]:
            return category, key
        case [ast.Name(id=name), key] if name in module.texts:
            return module.texts[name], key
    return None


def _own_arguments(function: Function) -> Iterator[ast.Name]:
    names = set(_arguments(function))
    return (node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in names)


def _attributes_filled(module: Module) -> dict[int, str]:
    """In core/params.py: which field of a struct each call gives its value to, by the call's identity."""
    if module.name != PARAMS_MODULE:
        return {}
    return {
        id(inner): keyword.arg
        for node in module.nodes
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg is not None
        for inner in ast.walk(keyword.value)
        if isinstance(inner, ast.Call)
    }
