"""`load_param_into_net`: what is loaded, what is said, and all or nothing."""

from typing import Any

import numpy as np
import pytest
from ranked import OnRanks, assert_on_all_ranks
from small_nets import adamw, make_net

import parallel_params as pp
from parallel_params import nn
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import ParametersDoNotFit, PlanMismatch, RankFailed

NAMES = ["0.weight", "0.bias", "1.gamma", "1.beta"]


def make(seed: int = 0) -> nn.SequentialCell:
    pp.set_seed(seed)
    return nn.SequentialCell(nn.Dense(2, 3), nn.LayerNorm((3,)))


def values_of(net: nn.Cell) -> dict[str, bytes]:
    return {p.name: p.asnumpy().tobytes() for _, p in net.parameters_and_names()}


def renamed(net: nn.Cell, prefix: str) -> dict[str, pp.Parameter | str]:
    return {prefix + p.name: p for _, p in net.parameters_and_names()}


def test_equal_names_are_loaded_and_flags_stay_the_nets() -> None:
    source, net = make(1), make(2)
    net[0].weight.requires_grad = False
    net[0].bias.layerwise_parallel = True
    assert pp.load_param_into_net(net, renamed(source, "")) == ([], [])
    assert values_of(net) == values_of(source)
    assert not net[0].weight.requires_grad
    assert net[0].bias.layerwise_parallel


def test_both_lists_come_back_and_are_logged_with_near_names(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, net = make(1), make(2)
    given: dict[str, pp.Parameter | str] = {
        "0.weight": source[0].weight,
        "0.biass": source[0].bias,
        "note": "a text",
    }
    before = values_of(net)
    found = pp.load_param_into_net(net, given)
    assert found == (NAMES[1:], ["0.biass", "note"])
    assert values_of(net) == {**before, "0.weight": values_of(source)["0.weight"]}
    assert "the dict has no '0.bias' (Did you mean '0.biass'" in caplog.text
    assert "the net has no '0.biass' (Did you mean '0.bias'" in caplog.text
    with pytest.raises(ParametersDoNotFit, match=r"the dict has no '0\.bias'"):
        pp.load_param_into_net(net, given, strict_load=True)


@pytest.mark.parametrize("prefix", ["backbone.", "a.b."])
def test_a_beginning_of_all_names_is_dropped(prefix: str) -> None:
    source, net = make(1), make(2)
    assert pp.load_param_into_net(net, renamed(source, prefix)) == ([], [])
    assert values_of(net) == values_of(source)


def test_a_beginning_of_some_names_is_no_reason_to_guess() -> None:
    """MindSpore's guess by `endswith` takes `ema.0.weight` for `0.weight`."""
    source, net = make(1), make(2)
    before = values_of(net)
    given = {**renamed(source, "net."), "ema.0.weight": source[0].weight}
    missing, unused = pp.load_param_into_net(net, given)
    assert (missing, unused) == (NAMES, [*given])
    assert values_of(net) == before


def test_renames_are_explicit() -> None:
    source, net = make(1), make(2)
    given: dict[str, pp.Parameter | str] = {
        "fc.weight": source[0].weight,
        "fc.bias": source[0].bias,
        "norm.gamma": source[1].gamma,
    }
    renames = {"fc.": "0.", "norm.": "1."}
    assert pp.load_param_into_net(net, given, renames=renames) == (["1.beta"], [])
    with pytest.raises(ParametersDoNotFit, match="both be called"):
        pp.load_param_into_net(
            net, {**given, "0.bias": source[0].bias}, renames=renames
        )


@pytest.mark.parametrize(
    ("dtype", "wanted", "is_fine"),
    [
        ("float64", "float32", True),
        ("bfloat16", "float32", True),
        ("float32", "float16", True),
        ("int64", "int8", True),
        ("int32", "float32", False),
        ("float32", "int32", False),
        ("bool", "int8", False),
        ("uint8", "int32", False),
    ],
)
def test_a_type_is_changed_within_its_kind_unless_strict(
    dtype: str, wanted: str, is_fine: bool
) -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            own = pp.Tensor(np.zeros(3), getattr(pp, wanted))
            self.w = pp.Parameter(own, "w")

    array = pp.Tensor([1, 2, 0]).astype(
        getattr(pp, f"{dtype}{'_' * (dtype == 'bool')}")
    )
    net, given = Net(), {"w": pp.Parameter(array)}
    with pytest.raises(RuntimeError, match=r"w' is .*strict_load"):
        pp.load_param_into_net(net, given, strict_load=True)
    if not is_fine:
        with pytest.raises(ParametersDoNotFit, match="convert it first"):
            pp.load_param_into_net(net, given)
        return
    pp.load_param_into_net(net, given)
    assert net.w.asnumpy().tolist() == [1, 2, 0]
    if wanted == "int8":
        given["w"].asnumpy()[0] = 200
        with pytest.raises(ParametersDoNotFit, match="0 to 200"):
            pp.load_param_into_net(net, given)


def test_nothing_is_loaded_if_one_does_not_fit() -> None:
    source, net = make(1), make(2)
    before = values_of(net)
    given = renamed(source, "")
    given["1.beta"] = pp.Parameter(pp.Tensor(np.zeros(4, np.float32)))
    with pytest.raises(RuntimeError, match=r"1.beta.*\(3,\).*\(4,\)"):
        pp.load_param_into_net(net, given)
    assert values_of(net) == before


def test_other_arguments_are_refused() -> None:
    net = make()
    refused: list[tuple[Any, Any, dict[str, Any]]] = [
        (3, {}, {}),
        (net, [], {}),
        (net, {"0.weight": np.zeros((3, 2))}, {}),
        (net, {0: net[0].weight}, {}),
        (net, {}, {"strict_load": 1}),
        (net, {}, {"remove_redundancy": True}),
    ]
    for cell, given, more in refused:
        with pytest.raises(TypeError):
            pp.load_param_into_net(cell, given, **more)


@pytest.mark.mpi
def test_a_managed_net_is_loaded_by_all_ranks(on_ranks: OnRanks) -> None:
    """Whoever has which part of a weight, master weights included."""

    def body(comm: Communicator) -> None:
        wrong = []
        for level in range(4):
            source, net = make_net(1), make_net(2)
            manager = pp.ParameterManager(
                net,
                adamw(net),
                comm=comm,
                policy=pp.Policy(level=pp.Level(level), shard_threshold_bytes=0),
            )
            left = pp.load_param_into_net(net, renamed(source, ""))
            found, expected = values_of(net), values_of(source)
            if left != ([], []) or found != expected:
                wrong.append(level)
            manager.close()
        assert_on_all_ranks(comm, not wrong, f"levels {wrong}")

    on_ranks(body)


@pytest.mark.mpi
@pytest.mark.parametrize("level", [0, 2])
def test_a_rank_that_cannot_load_takes_all_with_it(
    on_ranks: OnRanks, level: int
) -> None:
    """Another shape, a name that is missing: whatever the last rank alone has."""

    def spoiled(source: nn.Cell, spoil: str) -> dict[str, pp.Parameter | str]:
        given = renamed(source, "")
        last = [*given][-1]
        if spoil == "shape":
            given[last] = pp.Parameter(pp.Tensor(np.zeros((7, 7, 7), np.float32)))
        elif spoil == "name":
            del given[last]
        return given

    def body(comm: Communicator) -> None:
        source, net = make_net(1), make_net(2)
        manager = pp.ParameterManager(
            net, adamw(net), comm=comm, policy=pp.Policy(level=pp.Level(level))
        )
        before, wrong = values_of(net), []
        for spoil, kinds in (
            ("shape", (ParametersDoNotFit, RankFailed)),
            ("name", (PlanMismatch,)),
        ):
            is_last = comm.rank == comm.size - 1
            given = spoiled(source, spoil if is_last else "")
            try:
                pp.load_param_into_net(net, given)
                wrong += [spoil] if comm.size > 1 else []
            except kinds:
                pass
            if comm.size > 1 and values_of(net) != before:
                wrong.append(f"{spoil}: values moved")
            comm.barrier()
        pp.load_param_into_net(net, renamed(source, ""))
        wrong += [] if values_of(net) == values_of(source) else ["not loaded later"]
        manager.close()
        assert_on_all_ranks(comm, not wrong, str(wrong))

    on_ranks(body)
