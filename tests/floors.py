"""The house as its source files show it: who imports whom, how long things are.

Reads files and parses them; imports nothing of the package.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

PACKAGE = "parallel_params"
ROOT = Path(__file__).parents[1] / PACKAGE

# A module may import lower floors only; `tensor`, `plan` and `comm` are neighbours.
FLOORS = {
    "errors": 0,
    "plan": 1,
    "tensor": 1,
    "comm": 1,
    "nn": 2,
    "optim": 2,
    "interop": 2,
    "ops": 2,
    "debug": 3,
    "runtime": 3,
    "checkpoint": 3,
    "manager": 4,
    "outer": 5,
    "testing": 6,
    "train": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 8,
}

Node = TypeVar("Node", bound=ast.AST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name, absolute: `parallel_params.plan.mesh.Mesh`, `numpy`."""

    target: str
    line: int
    is_typing_only: bool
    is_at_top: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """Its dotted name: `parallel_params.plan.mesh`."""
        parts = (PACKAGE, *self.path.relative_to(ROOT).with_suffix("").parts)
        return ".".join(parts).removesuffix(".__init__")

    @property
    def room(self) -> str:
        """The top-level module or folder it lies in: `plan`, `errors`."""
        return self.path.relative_to(ROOT).with_suffix("").parts[0]

    @property
    def place(self) -> str:
        """Its path inside the package."""
        return self.path.relative_to(ROOT).as_posix()

    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return _parse(self.path)

    def imports(self) -> tuple[Import, ...]:
        """All imports, those inside functions too."""
        return _all_imports(self.path)

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        """All nodes of a kind."""
        for node in ast.walk(self.tree()):
            if isinstance(node, kind):
                yield node

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """All functions, nested ones too."""
        yield from self.nodes(ast.FunctionDef)
        yield from self.nodes(ast.AsyncFunctionDef)


@cache
def modules() -> tuple[Module, ...]:
    """All source files of the package, in order."""
    return tuple(Module(path) for path in sorted(ROOT.rglob("*.py")))


@cache
def _names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _all_imports(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(_parse(path), is_typing_only=False, is_at_top=True))


def _imports(
    node: ast.AST, *, is_typing_only: bool, is_at_top: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in _targets(child):
            yield Import(
                target=target,
                line=child.lineno,  # type: ignore[attr-defined]  # a statement
                is_typing_only=is_typing_only,
                is_at_top=is_at_top,
            )
        is_guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _imports(
            child,
            is_typing_only=is_typing_only or is_guard,
            is_at_top=is_at_top and not is_function,
        )


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imported_modules(module: Module, *, at_top: bool) -> set[str]:
    """Modules of the package that a module imports, and the packages around them.

    Args:
        module: whose imports.
        at_top: only those that run when the module is imported.
    """
    known = _names()
    found: set[str] = set()
    for item in module.imports():
        if item.is_typing_only or (at_top and not item.is_at_top):
            continue
        for name in (item.target, item.target.rpartition(".")[0]):
            if name in known and name != module.name:
                found.add(name)
                break
    return found
