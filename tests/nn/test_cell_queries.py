"""Queries and switches: every row of PARAMETER.md's table 4.2, and PyTorch's habits."""

from collections import OrderedDict

import pytest

from parallel_params import nn
from parallel_params.nn import Cell, Parameter
from parallel_params.tensor import Tensor
from parallel_params.tensor.initializer import initializer, lazy_init


class Fc(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter([1.0, 2.0])
        self.bias = Parameter([0.0], requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        return x * self.weight


class Net(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.fc = Fc()
        self.own = Parameter([3.0], layerwise_parallel=True)


ORDER = ["own", "fc.weight", "fc.bias"]


def test_get_parameters_yields_each_once_outer_cells_first() -> None:
    net = Net()
    net.tied = net.fc.weight
    found = net.get_parameters()
    assert next(found) is net.own
    assert [p.name for p in net.get_parameters()] == ["own", "fc.weight", "fc.bias"]
    assert [p.name for p in net.get_parameters(expand=False)] == ["own", "fc.weight"]


def test_trainable_and_untrainable_params_are_filtered_lists() -> None:
    net = Net()
    assert net.trainable_params() == [net.own, net.fc.weight]
    assert net.untrainable_params() == [net.fc.bias]
    assert net.trainable_params(recurse=False) == [net.own]
    assert net.untrainable_params(recurse=False) == []


def test_parameters_and_names_yields_paths() -> None:
    net = Net()
    assert [path for path, _ in net.parameters_and_names()] == ORDER
    prefixed = [path for path, _ in net.parameters_and_names("p")]
    assert prefixed == ["p.own", "p.fc.weight", "p.fc.bias"]
    assert [path for path, _ in net.parameters_and_names(expand=False)] == ["own"]
    assert list(net.named_parameters()) == list(net.parameters_and_names())


def test_parameters_dict_is_keyed_by_name_and_duplicates_collapse() -> None:
    net = Net()
    found = net.parameters_dict()
    assert isinstance(found, OrderedDict)
    assert list(found) == ORDER
    assert list(net.parameters_dict(recurse=False)) == ["own"]
    net.fc.bias.name = "own"
    assert net.parameters_dict()["own"] is net.fc.bias
    assert len(net.parameters_dict()) == 2


def test_parameters_broadcast_dict_leaves_out_layerwise_parallel_ones() -> None:
    net = Net()
    found = net.parameters_broadcast_dict()
    assert isinstance(found, OrderedDict)
    assert list(found) == ["fc.weight", "fc.bias"]
    assert net.parameters_broadcast_dict(recurse=False) is None


def test_check_names_tells_both_paths_of_a_clash() -> None:
    net = Net()
    net.check_names()
    net.fc.bias.name = "own"
    with pytest.raises(ValueError, match=r"own and fc\.bias.*'own' already exists"):
        net.check_names()


def test_update_parameters_name_prepends_to_the_path() -> None:
    net = Net()
    net.fc.weight.name = "mine"
    net.update_parameters_name("p.")
    assert [p.name for p in net.get_parameters()] == ["p." + path for path in ORDER]
    net.update_parameters_name()
    assert net.own.name == "p.own"
    for bad in ("a b", "a/b", "größe"):
        with pytest.raises(ValueError, match="prefix"):
            net.update_parameters_name(bad)
    with pytest.raises(TypeError):
        net.update_parameters_name(3)  # type: ignore[arg-type]  # the point


def test_set_comm_fusion_reaches_every_parameter() -> None:
    net = Net()
    assert net.set_comm_fusion(5) is net
    assert {p.comm_fusion for p in net.get_parameters()} == {5}
    with pytest.raises(ValueError, match="comm_fusion"):
        net.set_comm_fusion(-1)


def test_set_grad_touches_this_cell_alone() -> None:
    net = Net()
    assert not net.requires_grad
    assert net.set_grad() is net
    assert (net.requires_grad, net.fc.requires_grad) == (True, False)
    net.set_grad(False)
    assert not net.requires_grad
    assert net.own.requires_grad


def test_set_train_reaches_every_cell() -> None:
    net = Net()
    assert (net.training, net.fc.training) == (False, False)
    assert net.set_train() is net
    assert (net.training, net.fc.training) == (True, True)
    net.set_train(False)
    assert (net.training, net.fc.training) == (False, False)


def test_recompute_sets_the_parameters_property() -> None:
    net = Net()
    net.recompute(parallel_optimizer_comm_recompute=True, mp_comm_recompute=False)
    assert all(p.parallel_optimizer_comm_recompute for p in net.get_parameters())
    with pytest.raises(TypeError):
        net.recompute(mp_comm_recompute=1)  # type: ignore[arg-type]  # the point


def test_init_parameters_data_initialises_lazy_parameters() -> None:
    net = Net()
    with lazy_init():
        net.lazy = Parameter(initializer("ones", [2]))
    found = net.init_parameters_data()
    assert not net.lazy.has_init
    assert found[net.lazy] is net.lazy
    assert len(found) == 4


def test_parameter_layout_dict_is_empty() -> None:
    assert Net().parameter_layout_dict == {}


def test_buffers_are_not_offered() -> None:
    assert not hasattr(Net(), "buffers")


def test_cells_are_found_by_path() -> None:
    net = Net()
    net.same = net.fc
    assert [path for path, _ in net.cells_and_names()] == ["", "fc"]
    assert [path for path, _ in net.cells_and_names("p")] == ["p", "p.fc"]
    assert list(net.cells()) == [net.fc]
    assert net.name_cells() == {"fc": net.fc}
    seen: list[Cell] = []
    assert net.apply(seen.append) is net
    assert seen == [net.fc, net]


def test_str_is_mindspore_2_0s() -> None:
    assert str(Fc()) == repr(Fc()) == "Fc<>"
    assert str(Net()) == "Net<\n  (fc): Fc<>\n  >"
    assert str(nn.SequentialCell(nn.Dense(2, 3, activation="relu"))) == (
        "SequentialCell<\n"
        "  (0): Dense<\n"
        "    input_channels=2, output_channels=3, has_bias=True, activation=ReLU<>\n"
        "    (activation): ReLU<>\n"
        "    >\n"
        "  >"
    )


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Net has no attribute 'nothing'"):
        _ = Net().nothing


def test_a_cell_without_construct_cannot_be_called() -> None:
    with pytest.raises(AttributeError, match="construct"):
        Net()(Tensor([1.0]))


def test_calling_a_cell_calls_construct() -> None:
    assert Fc()(x=Tensor([2.0, 2.0])).tolist() == [2.0, 4.0]


def test_zero_grad_forgets_gradients() -> None:
    net = Net()
    (net.fc(Tensor([1.0, 1.0])).sum() * 2.0).backward()
    gradient = net.fc.weight.grad
    assert gradient is not None
    assert gradient.tolist() == [2.0, 2.0]
    net.zero_grad()
    assert net.fc.weight.grad is None


def test_state_dict_shares_memory_and_loads_elsewhere() -> None:
    net, other = Net(), Net()
    net.own.set_data(Tensor([7.0]))
    state = net.state_dict()
    assert list(state) == ORDER
    net.own.asnumpy()[0] = 8.0
    result = other.load_state_dict(state)
    assert other.own.item() == 8.0
    assert result == ([], [])


def test_load_state_dict_writes_all_or_nothing() -> None:
    net = Net()
    state = {"own": Tensor([9.0]), "fc.weight": Tensor([9.0]), "extra": Tensor([1.0])}
    with pytest.raises(KeyError, match=r"missing \['fc.bias'\], .*'extra'"):
        net.load_state_dict(state)
    with pytest.raises(ValueError, match=r"fc\.weight"):
        net.load_state_dict(state, strict=False)
    assert net.own.item() == 3.0
    state = {"own": Tensor([9.0]), "x": Tensor([1.0])}
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["fc.weight", "fc.bias"]
    assert result.unexpected_keys == ["x"]
    assert net.own.item() == 9.0
