"""Slices of layerwise-parallel parameters: saved each, and taken by a word."""

from pathlib import Path

import numpy as np
import pytest
from ranked import assert_on_all_ranks

from parallel_params import optim
from parallel_params.checkpoint.manifest import Key
from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import CheckpointError, CheckpointMismatch
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.policy import Level, Policy
from parallel_params.tensor.tensor import Tensor


def layered(comm: Communicator, mesh: Mesh | None = None) -> ParameterManager:
    """Return a manager of a parameter that all share and one that each slice has."""
    shared = Parameter(Tensor(np.ones(5, np.float32)), name="shared")
    own = Parameter(
        Tensor(np.full((3, 2), comm.rank + 1.0, np.float32)),
        name="own",
        layerwise_parallel=True,
    )
    return ParameterManager(
        [shared, own],
        optim.Momentum([shared, own], 0.5, 0.9),
        comm=comm,
        mesh=mesh,
        policy=Policy(level=Level(1), shard_threshold_bytes=0, alignment=1),
    )


def values_of(manager: ParameterManager) -> list[float]:
    return sorted(set(manager._parameters["own"].asnumpy().reshape(-1).tolist()))


@pytest.mark.parametrize("sizes", [{"data": 4}, {"data": 2, "model": 2}])
def test_every_slice_of_a_layerwise_parameter_is_saved_by_itself(
    tmp_path: Path, sizes: dict[str, int]
) -> None:
    """Values of their own are kept apart, and never taken for copies."""

    def save(comm: Communicator) -> list[float]:
        manager = layered(comm, Mesh(sizes))
        manager.update({"shared": np.ones(5), "own": np.full((3, 2), comm.rank)})
        manager.save(tmp_path / "saved")
        return values_of(manager)

    def load(comm: Communicator) -> list[float]:
        manager = layered(comm, Mesh(sizes))
        assert manager.load(tmp_path / "saved").notes == ()
        return values_of(manager)

    saved = run_threads(4, save)
    assert run_threads(4, load) == saved
    num_slices = sizes.get("model", 4)
    manifest = Reader.open(tmp_path / "saved").manifest
    assert len([t for t in manifest.weights if t.key.name == "own"]) == num_slices
    assert manifest.find(Key("own", "moments", num_slices - 1)) is not None


@pytest.mark.parametrize(
    ("layerwise", "expected"),
    [
        (1, [[2.0]] * 3),
        ("from_rank", [[1.0]] * 3),
        ("from_rank:1", [[2.0]] * 3),
        ("mean", [[1.5]] * 3),
        ({0: 1, 1: 0, 2: 1}, [[2.0], [1.0], [2.0]]),
    ],
)
def test_another_number_of_slices_needs_a_word(
    tmp_path: Path, layerwise: object, expected: list[list[float]]
) -> None:
    run_threads(2, lambda comm: layered(comm).save(tmp_path / "saved"))

    def load(comm: Communicator) -> list[float]:
        manager = layered(comm)
        try:
            manager.load(tmp_path / "saved")
        except CheckpointMismatch as error:
            refusal = "2 slices of shape (3, 2) of 'own', and here are 3" in str(error)
        assert_on_all_ranks(comm, refusal, "another refusal")
        notes = manager.load(tmp_path / "saved", layerwise=layerwise).notes  # type: ignore[arg-type]  # one of them
        told = "'own': 2 slices of shape (3, 2) became 3 of shape (3, 2)"
        assert_on_all_ranks(comm, told in " ".join(notes), str(notes))
        return values_of(manager)

    assert run_threads(3, load) == expected


def test_fewer_slices_take_those_of_their_number_by_key(tmp_path: Path) -> None:
    run_threads(3, lambda comm: layered(comm).save(tmp_path / "saved"))

    def load(comm: Communicator) -> list[float]:
        manager = layered(comm)
        manager.load(tmp_path / "saved", layerwise="by_key")
        return values_of(manager)

    assert run_threads(2, load) == [[1.0], [2.0]]
    with pytest.raises(CheckpointMismatch, match=r"slice 3 the saved slice 3.*0 to 2"):
        run_threads(4, load)


@pytest.mark.parametrize(
    ("layerwise", "words"),
    [
        ("from_rank:2", "layerwise='from_rank:2', and 2 ranks have saved"),
        (2, "slice 0 the saved slice 2, and there are 0 to 1"),
        ({0: 1}, "gives slice 1 the saved slice None"),
        ("from_rank:x", "expected fail, from_rank:K"),
        ("average", "expected fail, from_rank:K"),
        (True, "expected fail, from_rank:K"),
        ({0: "1"}, "expected fail, from_rank:K"),
    ],
)
def test_a_policy_that_names_nothing_is_refused_on_all_ranks(
    tmp_path: Path, layerwise: object, words: str
) -> None:
    run_threads(2, lambda comm: layered(comm).save(tmp_path / "saved"))

    def load(comm: Communicator) -> str:
        try:
            layered(comm).load(tmp_path / "saved", layerwise=layerwise)  # type: ignore[arg-type]  # wrong on purpose
        except CheckpointError as error:
            return str(error)
        return ""

    assert all(words in told for told in run_threads(3, load))


def test_a_rank_of_two_axes_is_asked_for_its_slice(tmp_path: Path) -> None:
    """Rank 3 of data=2, model=2 had slice 1 of the model axis."""
    mesh = Mesh({"data": 2, "model": 2})
    run_threads(4, lambda comm: layered(comm, mesh).save(tmp_path / "saved"))
    manager = layered(run_threads(1, lambda comm: comm)[0])
    manager.load(tmp_path / "saved", layerwise="from_rank:3")
    assert values_of(manager) == [2.0]
