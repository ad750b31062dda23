"""The pytest plugin: tests marked `mpi` run in a real MPI world of each size.

One plain `pytest` runs everything. In the parent, a marked test becomes one item per
world size, beside its own run on threads if it asks for `on_ranks`. In a child, or by
hand under `mpirun -n 3 python -m pytest --with-mpi`, `child.py` is at work instead.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from ranked import OnRanks, on_threads
from world.judge import Judge

from parallel_params.comm.launch_env import is_launched
from parallel_params.comm.local import solo
from parallel_params.comm.protocol import Communicator

_NEEDS_MPI = "need --with-mpi option to run"  # pytest-mpi's reason to skip
_CHILD = "world-child"
_PARENT = "world-parent"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of test worlds."""
    group = parser.getgroup("worlds", "tests marked mpi, in worlds of ranks")
    group.addoption(
        "--world-sizes",
        default="1,2,3,4",
        help="sizes of the MPI worlds that marked tests run in; empty for none",
    )
    group.addoption(
        "--world-timeout",
        type=float,
        default=20.0,
        help="seconds without news after which a world is asked for stacks and ended",
    )
    # Set by the parent for its children.
    group.addoption("--world-folder", type=Path, help="where a rank writes its records")


# Last: there is a terminal to be muted only then.
@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Find out whether this process is a rank, and play that part."""
    is_mpi = config.getoption("--with-mpi") or config.getoption("--only-mpi")
    if not is_mpi and not is_launched(os.environ):
        config.pluginmanager.register(Parent(config), _PARENT)
        return
    if not is_mpi:
        raise pytest.UsageError(
            "this pytest runs inside an MPI world: add --with-mpi to run the marked "
            "tests in it, or run pytest without mpirun, which opens worlds by itself"
        )
    # Not at the top: it loads MPI, which the parent has no use for.
    from world.child import Child, mute_terminal

    from parallel_params.comm import mpi

    _separate_temporary_folders(config)
    child = Child(mpi.world(environ=os.environ), config.getoption("--world-folder"))
    config.pluginmanager.register(child, _CHILD)
    if child.comm.rank != 0:
        mute_terminal(config)


def _separate_temporary_folders(config: pytest.Config) -> None:
    """Give this rank a root of its own for `tmp_path`.

    pytest numbers and tidies folders below one root; ranks that start and end at the
    same moment find each other's half made or half removed.
    """
    root = tempfile.mkdtemp(prefix="pytest-rank-")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = root
    config.add_cleanup(lambda: shutil.rmtree(root, ignore_errors=True))


@pytest.fixture(scope="session")
def on_ranks(request: pytest.FixtureRequest) -> OnRanks:
    """Run a body on 1, 2, 3 and 5 threads; in an MPI world, on its ranks."""
    child = request.config.pluginmanager.get_plugin(_CHILD)
    return on_threads if child is None else child.on_ranks


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Communicator:
    """The communicator of the MPI world that a test marked `mpi` runs in."""
    child = request.config.pluginmanager.get_plugin(_CHILD)
    return solo() if child is None else child.comm


class Parent:
    """Makes the items of the worlds and ends the worlds with the session."""

    def __init__(self, config: pytest.Config) -> None:
        sizes = str(config.getoption("--world-sizes"))
        options = [f"--rootdir={config.rootpath}"]
        if config.inipath is not None:
            options.append(f"--config-file={config.inipath}")
        self._judges = {
            int(size): Judge(
                int(size),
                timeout_s=config.getoption("--world-timeout"),
                root=config.rootpath,
                options=options,
            )
            for size in sizes.split(",")
            if size
        }

    def pytest_sessionstart(self) -> None:
        """Let SIGTERM end the session as Ctrl-C does, so that no world stays behind."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    # Last: what -k, -m and --deselect have thrown away must not come back.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Replace each marked test by its run on threads and one item per world."""
        marked = [item for item in items if item.get_closest_marker("mpi") is not None]
        kept = [item for item in items if _runs_here(item)]
        worlds = [
            _world_item(item, judge)
            for judge in self._judges.values()
            for item in marked
            if judge.num_ranks >= _min_size(item)
        ]
        items[:] = [*kept, *worlds]

    def pytest_unconfigure(self) -> None:
        """End the worlds that are still there."""
        for judge in self._judges.values():
            judge.close()


class WorldItem(pytest.Item):
    """One test in a world of one size."""

    original: pytest.Item
    judge: Judge

    def runtest(self) -> None:
        """Have the test judged and take the verdict over."""
        verdict = self.judge.judge(self.original.nodeid)
        if verdict.outcome == "failed":
            pytest.fail(verdict.text, pytrace=False)
        if verdict.outcome == "skipped":
            pytest.skip(verdict.text)
        if verdict.outcome == "xfailed":
            pytest.xfail(verdict.text)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Name the place of the test that runs in the world."""
        path, line, _ = self.original.reportinfo()
        return path, line, self.name


def _world_item(item: pytest.Item, judge: Judge) -> WorldItem:
    assert item.parent is not None
    ranks = "1 rank" if judge.num_ranks == 1 else f"{judge.num_ranks} ranks"
    made = WorldItem.from_parent(item.parent, name=f"{item.name}[{ranks}]")
    assert isinstance(made, WorldItem)
    made.original, made.judge = item, judge
    judge.nodeids.append(item.nodeid)
    return made


def _runs_here(item: pytest.Item) -> bool:
    """Whether a test runs in this process; takes pytest-mpi's skip off if it does."""
    if item.get_closest_marker("mpi") is None:
        return True
    if "on_ranks" not in getattr(item, "fixturenames", ()):
        return False
    item.own_markers[:] = [
        mark for mark in item.own_markers if mark.kwargs.get("reason") != _NEEDS_MPI
    ]
    return True


def _min_size(item: pytest.Item) -> int:
    sizes = [mark.kwargs.get("min_size") for mark in item.iter_markers(name="mpi")]
    return max([size for size in sizes if size is not None], default=1)
