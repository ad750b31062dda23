"""The house stands: directions of dependency, single doors, sizes, docstrings."""

import ast
from collections.abc import Iterator

from floors import FLOORS, Module, imported_modules, modules

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40

# Rooms of one floor do not import each other, nor a higher one, but for these.
NEIGHBOURS = {
    ("optim", "nn"): "an optimizer is a Cell, as in MindSpore",
    ("checkpoint", "runtime"): "a checkpoint is read from, and into, the arenas",
    ("nn", "optim"): "nn exports the optimizers under MindSpore's names",
    ("optim", "testing"): "optim.check_rule is where writers of rules look for it",
}
# Third-party packages that only some places may load, see test_import.
DOORS = {
    "mpi4py": ("comm/mpi_library.py",),
    "pydantic": ("train/config/",),
    "pydantic_core": ("train/config/",),
    "typer": ("cli/",),
    "rich": ("cli/", "train/"),
    "numba": (
        "tensor/fast/compiler.py",
        "tensor/fast/reductions.py",
        "tensor/fast/vectors.py",
    ),
    "llvmlite": ("tensor/fast/reductions.py", "tensor/fast/vectors.py"),
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


def test_every_module_lies_on_a_floor() -> None:
    rooms = {module.room for module in MODULES}

    assert {"errors", "plan", "tensor", "comm", "nn", "cli"} <= rooms
    assert rooms <= set(FLOORS)


def test_a_module_imports_only_lower_floors() -> None:
    rooms = {module.name: module.room for module in MODULES}
    broken = [
        f"{module.name} -> {name}"
        for module in MODULES
        for name in sorted(imported_modules(module, at_top=False))
        if rooms[name] != module.room
        and (module.room, rooms[name]) not in NEIGHBOURS
        and FLOORS[rooms[name]] >= FLOORS[module.room]
    ]
    assert not broken


def test_imports_make_no_cycle() -> None:
    graph = {m.name: imported_modules(m, at_top=True) for m in MODULES}
    in_cycle = []
    for name in graph:
        seen: set[str] = set()
        todo = list(graph[name])
        while todo:
            step = todo.pop()
            if step not in seen:
                seen.add(step)
                todo += graph[step]
        if name in seen:
            in_cycle.append(name)
    assert not in_cycle


def test_a_heavy_package_has_its_door() -> None:
    wrong = [
        f"{module.place}:{item.line} imports {item.target}"
        for module in MODULES
        for item in module.imports()
        if not module.place.startswith(DOORS.get(item.target.split(".")[0], ("",)))
    ]
    assert not wrong


def test_the_environment_is_read_at_the_door() -> None:
    names = {"os.environ", "os.environb", "os.getenv"}
    wrong = [
        f"{module.place}:{line}"
        for module in MODULES
        if not module.place.startswith(ENVIRONMENT)
        for line, name in [
            *((item.line, item.target) for item in module.imports()),
            *(
                (node.lineno, ast.unparse(node))
                for node in module.nodes(ast.Attribute)
                if node.attr in {"environ", "environb", "getenv"}
            ),
        ]
        if name in names
    ]
    assert not wrong


def test_flags_are_read_by_the_plan_alone() -> None:
    wrong = [
        f"{module.place}:{node.lineno} reads {node.attr}"
        for module in MODULES
        if not module.place.startswith(FLAG_READERS + FLAG_CARRIERS)
        for node in _flags_in(module.tree())
        if isinstance(node.ctx, ast.Load)
    ]
    assert not wrong


def test_carriers_of_flags_decide_nothing() -> None:
    wrong = [
        f"{module.place}:{node.lineno} decides by {node.attr}"
        for module in MODULES
        if not module.place.startswith(FLAG_READERS)
        and module.place not in FLAG_DECIDERS
        for condition in _conditions_of(module)
        for node in _flags_in(condition)
    ]
    assert not wrong


def test_files_are_short() -> None:
    lines = {m.place: len(m.path.read_text("utf-8").splitlines()) for m in MODULES}
    long = {place: n for place, n in lines.items() if n >= MAX_FILE_LINES}

    assert long.keys() == LONG_FILES.keys(), long


def test_functions_are_short() -> None:
    lines = {
        f"{module.place}:{function.name}": _num_lines(function)
        for module in MODULES
        for function in module.functions()
    }
    long = {name: n for name, n in lines.items() if n >= MAX_FUNCTION_LINES}

    assert long.keys() == LONG_FUNCTIONS.keys(), long


def test_public_things_have_docstrings() -> None:
    missing = [
        f"{module.place}:{node.lineno} {node.name}"
        for module in MODULES
        for node in _public_things(module.tree().body)
        if not ast.get_docstring(node)
    ]
    missing += [
        module.place
        for module in MODULES
        if module.tree().body and not ast.get_docstring(module.tree())
    ]
    assert not missing


def _flags_in(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in FLAGS:
            yield node


def _conditions_of(module: Module) -> Iterator[ast.expr]:
    """What is asked in statements, expressions and comprehensions."""
    for node in ast.walk(module.tree()):
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node.test
        elif isinstance(node, ast.BoolOp):
            yield node
        elif isinstance(node, ast.comprehension):
            yield from node.ifs


def _public_things(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public functions and classes, and those inside of public classes."""
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        if not {ast.unparse(d).split(".")[-1] for d in node.decorator_list} & SILENT:
            yield node
        if isinstance(node, ast.ClassDef):
            yield from _public_things(node.body)


def _num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count without the docstring: a contract may be as long as it needs to be."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    first = function.body[0]
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)
