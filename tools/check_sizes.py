"""Size rules of the house: modules, functions and names. Exits 1 and lists what is too large.

Limits: a module 400 lines, a function 60 (without its docstring); nine in ten stay under 300 and 30.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

MODULE_MAX, MODULE_P90 = 400, 300
FUNCTION_MAX, FUNCTION_P90 = 60, 30
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from `def` to its end, without the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def measure(path: Path) -> tuple[int, list[tuple[str, int]]]:
    """Lines of a module, and (name, lines) of each of its functions."""
    text = path.read_text(encoding="utf-8")
    functions = [
        (f"{path}:{node.lineno} {node.name}", function_lines(node))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return text.count("\n"), functions


def share_over(sizes: list[int], limit: int) -> float:
    """Share of sizes above a limit."""
    return sum(size > limit for size in sizes) / max(1, len(sizes))


def check(root: Path) -> list[str]:
    """Every broken rule below a folder, as sentences."""
    modules: dict[Path, int] = {}
    functions: list[tuple[str, int]] = []
    for path in sorted(root.rglob("*.py")):
        modules[path], found = measure(path)
        functions += found
    problems = [f"{p}: {n} lines, at most {MODULE_MAX}" for p, n in modules.items() if n > MODULE_MAX]
    problems += [f"{name}: {n} lines, at most {FUNCTION_MAX}" for name, n in functions if n > FUNCTION_MAX]
    problems += [f"{p}: a module is named after what it holds" for p in modules if p.stem in FORBIDDEN_NAMES]
    if share_over(list(modules.values()), MODULE_P90) > 0.1:
        problems.append(f"more than one module in ten is over {MODULE_P90} lines")
    if share_over([n for _, n in functions], FUNCTION_P90) > 0.1:
        problems.append(f"more than one function in ten is over {FUNCTION_P90} lines")
    return problems


def main() -> int:
    """Check the folders given, or src."""
    roots = [Path(arg) for arg in sys.argv[1:]] or [Path("src")]
    problems = [problem for root in roots for problem in check(root)]
    for problem in problems:
        print(problem)
    if not problems:
        print("sizes: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
