"""Groups of parameters: order, rates, decays, and what is refused."""

import pytest
from small_parameters import ones, parameter, parameters

from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.optim import SGD, AdamW
from parallel_params.optim.settings import Settings

Group = dict[str, object]


def names(optimizer: SGD) -> str:
    return "".join(p.name for p in optimizer.parameters)


def test_parameters_stand_in_the_order_of_the_groups() -> None:
    a, b, c = parameters("abc")
    assert names(SGD([{"params": [c, a]}, {"params": [b]}])) == "cab"


def test_a_group_falls_back_to_the_rate_and_decay_of_the_constructor() -> None:
    a, b, c = parameters("abc")
    groups: list[Group] = [
        {"params": [a], "lr": 0.5},
        {"params": [b], "weight_decay": 0.25},
        {"params": [c], "lr": 0.125, "weight_decay": 0.0},
    ]
    optimizer = SGD(groups, 0.75, weight_decay=0.0625)
    assert optimizer.rates(0) == (0.5, 0.75, 0.125)
    assert [optimizer.settings(index) for index in range(3)] == [
        Settings(group=0, weight_decay=0.0625),
        Settings(group=1, weight_decay=0.25),
        Settings(group=2, weight_decay=0.0),
    ]


def test_each_group_moves_at_its_own_rate() -> None:
    a, b = parameters()
    optimizer = SGD([{"params": [a], "lr": 0.5}, {"params": [b]}], 0.25)
    optimizer(ones([a, b]))
    assert a.asnumpy().tolist() == [0.5, 1.5]
    assert b.asnumpy().tolist() == [0.75, 1.75]


def test_order_params_orders_parameters_and_so_the_gradients() -> None:
    a, b, c = parameters("abc")
    groups: list[Group] = [
        {"params": [a, b], "lr": 0.5},
        {"params": [c]},
        {"order_params": [c, a, b]},
    ]
    optimizer = SGD(groups, 0.25)
    assert names(optimizer) == "cab"
    assert [optimizer.settings(index).group for index in range(3)] == [1, 0, 0]


def test_a_generator_in_a_group_is_read_once() -> None:
    assert names(SGD([{"params": (p for p in parameters())}])) == "ab"
    assert names(SGD([{"params": filter(lambda p: True, parameters())}])) == "ab"


def test_rates_of_groups_are_parameters_named_by_group() -> None:
    a, b, c = parameters("abc")
    optimizer = SGD(
        [{"params": [a], "lr": 0.5}, {"params": [b]}, {"params": [c], "lr": 0.25}], 1.0
    )
    listed = [p.name for p in optimizer.get_parameters()]
    assert listed[:7] == [
        "global_step",
        "learning_rate_group_0",
        "learning_rate",
        "learning_rate_group_2",
        *"abc",
    ]
    assert isinstance(optimizer.learning_rate, ParameterTuple)
    assert [p.name for p in optimizer.learning_rate] == listed[1:4]


def test_a_list_in_one_group_makes_every_rate_one_per_step() -> None:
    a, b = parameters()
    optimizer = SGD([{"params": [a], "lr": [0.5, 0.25]}, {"params": [b]}], 1.0)
    assert [p.shape for p in optimizer.learning_rate] == [(2,), (2,)]
    assert [optimizer.rates(step) for step in (0, 1)] == [(0.5, 1.0), (0.25, 1.0)]
    with pytest.warns(UserWarning, match="has 2 values"):
        assert optimizer.rates(2) == (0.0, 0.0)


def test_a_schedule_in_one_group_leaves_the_others_alone() -> None:
    a, b = parameters()
    optimizer = SGD([{"params": [a], "lr": lambda step: 0.5**step}, {"params": [b]}], 1)
    assert [optimizer.rates(step) for step in (0, 1)] == [(1.0, 1.0), (0.5, 1.0)]
    assert [p.name for p in optimizer.get_parameters()][:2] == [
        "global_step",
        "learning_rate",
    ]


@pytest.mark.parametrize("is_grouped", [False, True])
def test_only_without_groups_names_keep_weights_from_decay(is_grouped: bool) -> None:
    params = [parameter(n) for n in ("w", "bias", "norm.gamma", "norm.beta", "beta_x")]
    optimizer = AdamW([{"params": params}] if is_grouped else params, weight_decay=0.5)
    decays = [optimizer.settings(index).weight_decay for index in range(5)]
    assert decays == ([0.5] * 5 if is_grouped else [0.5, 0.5, 0.0, 0.0, 0.0])


A, B = parameters("ab")
REFUSED: dict[str, tuple[list[Group], type[Exception], str]] = {
    "unknown key": (
        [{"params": [A], "rate": 1}],
        KeyError,
        "group 0 has the key 'rate'",
    ),
    "no params": ([{"lr": 0.1}], KeyError, "group 0 has no 'params'"),
    "empty params": ([{"params": []}], ValueError, "group 0 was given no parameters"),
    "params of one": ([{"params": A}], TypeError, "group 0 takes a list"),
    "params of int": ([{"params": 3}], TypeError, "group 0 takes a list"),
    "params None": ([{"params": None}], TypeError, "group 0 takes a list"),
    "params of ints": ([{"params": [3]}], TypeError, "member 0 is a int"),
    "in two groups": (
        [{"params": [A, B]}, {"params": [A]}],
        RuntimeError,
        "'a' is in group 0 and in group 1",
    ),
    "one name in two": (
        [{"params": [A]}, {"params": [parameter("a")]}],
        ValueError,
        "already exists",
    ),
    "short order": (
        [{"params": [A, B]}, {"order_params": [A]}],
        ValueError,
        "lists 1 parameters, the groups 2",
    ),
    "foreign order": (
        [{"params": [A, B]}, {"order_params": [A, parameter("c")]}],
        ValueError,
        "lists 'c', which is in none",
    ),
    "order and lr": (
        [{"params": [A]}, {"order_params": [A], "lr": 0.1}],
        ValueError,
        r"no other key, and has \['lr'\]",
    ),
    "two orders": (
        [{"params": [A]}, {"order_params": [A]}, {"order_params": [A]}],
        ValueError,
        "two groups with order_params",
    ),
    "order alone": ([{"order_params": [A]}], ValueError, "lists 1 parameters, the gro"),
    "lengths": (
        [{"params": [A], "lr": [0.1]}, {"params": [B], "lr": [0.1, 0.2]}],
        ValueError,
        r"\[1, 2\] values",
    ),
    "rate": ([{"params": [A], "lr": -1.0}], ValueError, "learning_rate_group_0.*-1.0"),
    "rate None": ([{"params": [A], "lr": None}], TypeError, "learning_rate_group_0"),
    "decay": ([{"params": [A], "weight_decay": -1.0}], ValueError, "of group 0.*-1.0"),
    "decay text": (
        [{"params": [A], "weight_decay": "x"}],
        TypeError,
        "of group 0.*'x'",
    ),
    "centralization int": (
        [{"params": [A], "grad_centralization": 1}],
        TypeError,
        "grad_centralization of group 0 must be True or False",
    ),
    "centralization": (
        [{"params": [A], "grad_centralization": True}],
        RuntimeError,
        "cannot be True",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_groups_are_refused_for(kind: str) -> None:
    groups, error, text = REFUSED[kind]
    with pytest.raises(error, match=text):
        SGD(groups)


def test_grad_centralization_may_be_false() -> None:
    a: Parameter = parameter()
    optimizer = SGD([{"params": [a], "grad_centralization": False}])
    assert optimizer.settings(0).grad_centralization is False
