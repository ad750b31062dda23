"""The house stands: directions of dependency, single doors, sizes, docstrings."""

import ast
from collections.abc import Iterator

import pytest
from floors import FLOORS, Module, imported_modules, modules

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40

# Rooms of one floor do not import each other, but for these.
NEIGHBOURS = {
    ("optim", "nn"): "an optimizer is a Cell, as in MindSpore",
    ("nn", "optim"): "nn exports the optimizers under MindSpore's names",
}
# Third-party packages that only some places may load, see test_import.
DOORS = {
    "mpi4py": ("comm/mpi.py",),
    "pydantic": ("train/config/",),
    "pydantic_core": ("train/config/",),
    "typer": ("cli/",),
    "rich": ("cli/", "train/"),
}
# Who may look at the environment: the command line, and where a world is opened.
ENVIRONMENT = ("cli/", "comm/world.py")
FLAGS = {"layerwise_parallel", "parallel_optimizer"}
# Who turns flags into a plan.
FLAG_READERS = ("plan/",)
# Who carries them about without deciding anything: the parameter that has them, its
# optimizer state, the builder of specs, overrides of a job.
FLAG_CARRIERS = ("nn/", "optim/state.py", "runtime/specs.py", "train/")
FLAG_DECIDERS = {
    "nn/queries.py": "`parameters_broadcast_dict` is MindSpore's, and only a query",
}
# What these decorate says nothing that its getter or implementation does not say.
SILENT = {"setter", "overload"}
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
MODULES = modules()
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.place)


def _is_in(place: str, allowed: tuple[str, ...]) -> bool:
    return place.startswith(allowed)


def test_the_house_has_rooms() -> None:
    assert {"errors", "plan", "comm"} <= {module.room for module in MODULES}


@every_module
def test_every_module_lies_on_a_floor(module: Module) -> None:
    assert module.room in FLOORS


@every_module
def test_a_module_imports_only_lower_floors(module: Module) -> None:
    by_name = {other.name: other for other in MODULES}
    broken = []
    for name in imported_modules(module, at_top=False):
        room = by_name[name].room
        if room == module.room or (module.room, room) in NEIGHBOURS:
            continue
        if FLOORS[room] >= FLOORS[module.room]:
            broken.append(f"{module.name} -> {name}")
    assert not broken


def test_imports_make_no_cycle() -> None:
    graph = {m.name: imported_modules(m, at_top=True) for m in MODULES}
    for name in graph:
        seen: set[str] = set()
        todo = list(graph[name])
        while todo:
            step = todo.pop()
            if step not in seen:
                seen.add(step)
                todo += graph[step]
        assert name not in seen, f"{name} imports itself, through {sorted(seen)}"


@every_module
def test_a_heavy_package_has_its_door(module: Module) -> None:
    wrong = [
        f"{module.place}:{item.line} imports {item.target}"
        for item in module.imports()
        for package, doors in DOORS.items()
        if item.target.split(".")[0] == package and not _is_in(module.place, doors)
    ]
    assert not wrong


@every_module
def test_the_environment_is_read_at_the_door(module: Module) -> None:
    if _is_in(module.place, ENVIRONMENT):
        return
    wrong = [
        f"{module.place}:{node.lineno}"
        for node in ast.walk(module.tree())
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv")}
    ]
    wrong += [
        f"{module.place}:{item.line}"
        for item in module.imports()
        if item.target in {"os.environ", "os.getenv"}
    ]
    assert not wrong


@every_module
def test_flags_are_read_by_the_plan_alone(module: Module) -> None:
    if _is_in(module.place, FLAG_READERS + FLAG_CARRIERS):
        return
    wrong = [
        f"{module.place}:{node.lineno} reads {node.attr}"
        for node in ast.walk(module.tree())
        if isinstance(node, ast.Attribute)
        and node.attr in FLAGS
        and isinstance(node.ctx, ast.Load)
    ]
    assert not wrong


@every_module
def test_carriers_of_flags_decide_nothing(module: Module) -> None:
    if _is_in(module.place, FLAG_READERS) or module.place in FLAG_DECIDERS:
        return
    tests = [
        test
        for node in ast.walk(module.tree())
        for test in (
            [node.test]
            if isinstance(node, ast.If | ast.IfExp | ast.While)
            else node.ifs
            if isinstance(node, ast.comprehension)
            else []
        )
    ]
    wrong = [
        f"{module.place}:{node.lineno} decides by {node.attr}"
        for test in tests
        for node in ast.walk(test)
        if isinstance(node, ast.Attribute) and node.attr in FLAGS
    ]
    assert not wrong


@every_module
def test_files_are_short(module: Module) -> None:
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    assert lines < MAX_FILE_LINES or module.place in LONG_FILES


@every_module
def test_functions_are_short(module: Module) -> None:
    long = []
    for function in module.functions():
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        name = f"{module.place}:{function.name}"
        if lines - _docstring_lines(function) >= MAX_FUNCTION_LINES:
            long.append(f"{name} has {lines} lines")
    assert not [text for text in long if text.split()[0] not in LONG_FUNCTIONS]


def test_exceptions_are_still_needed() -> None:
    places = {module.place for module in MODULES}
    names = {f"{m.place}:{f.name}" for m in MODULES for f in m.functions()}
    assert set(LONG_FILES) <= places
    assert set(LONG_FUNCTIONS) <= names


@every_module
def test_public_things_have_docstrings(module: Module) -> None:
    tree = module.tree()
    missing = [
        f"{module.place}:{node.lineno} {node.name}"
        for node in _public_things(tree.body)
        if not ast.get_docstring(node)
    ]
    assert not missing
    assert ast.get_docstring(tree) or not tree.body


def _public_things(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public functions and classes, and those inside of public classes."""
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        if not {ast.unparse(d).split(".")[-1] for d in node.decorator_list} & SILENT:
            yield node
        if isinstance(node, ast.ClassDef):
            yield from _public_things(node.body)


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """A contract may be as long as it needs to be; the code may not."""
    if ast.get_docstring(function) is None:
        return 0
    first = function.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1
