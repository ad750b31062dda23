"""Initial values: laws, aliases, and any interval alone."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params.tensor import Tensor, random
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor import initializer as init
from parallel_params.tensor.initializer import LazyTensor, initializer

LAWS: list[init.Initializer] = [
    init.Zero(),
    init.One(),
    init.Constant(2.5),
    init.Identity(),
    init.Normal(),
    init.Uniform(),
    init.TruncatedNormal(1.0, 0.0, -1.0, 2.0),
    init.XavierUniform(),
    init.XavierNormal(2.0),
    init.HeUniform(),
    init.HeNormal(mode="fan_out", nonlinearity="relu"),
    init.VarianceScaling(),
    init.VarianceScaling(2.0, "fan_avg", "uniform"),
    init.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
    init.Orthogonal(2.0),
    init.Sparse(0.5),
]
every_law = pytest.mark.parametrize("law", LAWS, ids=repr)


def lazy(law: "init.Initializer | str", shape: list[int]) -> LazyTensor:
    made = initializer(law, shape)
    assert isinstance(made, LazyTensor)
    return made


@every_law
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64])
def test_any_interval_alone_equals_the_slice_of_the_whole(
    law: init.Initializer, dtype: dtypes.DType
) -> None:
    made = initializer(law, [5, 7], dtype)
    assert isinstance(made, LazyTensor)
    whole = made.asnumpy().reshape(-1)
    for start, stop in [(0, 35), (0, 1), (3, 18), (8, 8), (21, 35), (34, 35)]:
        part = np.empty(stop - start, dtype.numpy)
        made.fill(start, stop, out=part)
        assert_array_equal(part, whole[start:stop])


def test_an_interval_across_blocks_equals_the_slice() -> None:
    made = lazy("normal", [3, random.BLOCK])
    part = np.empty(random.BLOCK + 11, np.float32)
    made.fill(5, 5 + part.size, out=part)
    assert_array_equal(part, made.asnumpy().reshape(-1)[5 : 5 + part.size])


SIGMAS = [
    (init.Normal(), 0.01),
    (init.Normal(2.0, 1.0), 2.0),
    (init.Uniform(), 0.07 / np.sqrt(3)),
    (init.TruncatedNormal(), 0.01),
    (init.XavierUniform(), np.sqrt(2 / 500)),
    (init.XavierNormal(2.0), 2 * np.sqrt(2 / 500)),
    (init.HeUniform(), np.sqrt(2 / 200)),
    (init.HeUniform(mode="fan_out"), np.sqrt(2 / 300)),
    (init.HeNormal(), np.sqrt(2 / 200)),
    (init.HeNormal(nonlinearity="tanh"), 5 / 3 / np.sqrt(200)),
    (init.HeUniform(np.sqrt(5)), np.sqrt(2 / 6 / 200)),
    (init.VarianceScaling(), np.sqrt(1 / 200)),
    (init.VarianceScaling(1.0, "fan_avg", "uniform"), np.sqrt(1 / 250)),
    (init.VarianceScaling(3.0, "fan_out", "untruncated_normal"), np.sqrt(3 / 300)),
]


@pytest.mark.parametrize(("law", "sigma"), SIGMAS, ids=[repr(s[0]) for s in SIGMAS])
def test_law_has_its_width(law: init.Initializer, sigma: float) -> None:
    values = lazy(law, [300, 200]).asnumpy()
    assert_allclose(values.std(), sigma, rtol=0.02)  # 60 000 draws: seven errors
    assert abs(values.mean() - getattr(law, "mean", 0.0)) < 5 * sigma / np.sqrt(6e4)


def test_even_laws_stay_within_their_bounds() -> None:
    for law, bound in [
        (init.Uniform(), 0.07),
        (init.XavierUniform(), np.sqrt(6 / 500)),
        (init.HeUniform(), np.sqrt(2) * np.sqrt(3 / 200)),
    ]:
        reached = np.abs(lazy(law, [300, 200]).asnumpy()).max()
        assert 0.99 * bound < reached <= bound * (1 + 1e-6)


def test_a_truncated_law_stays_within_absolute_bounds() -> None:
    law = init.TruncatedNormal(1.0, 0.5, -0.5, 1.0)
    values = lazy(law, [300, 200]).asnumpy()
    assert -0.5 <= values.min() < -0.49
    assert 0.99 < values.max() <= 1.0
    far = lazy(init.TruncatedNormal(1.0, 0.0, 7.0, 9.0), [100]).asnumpy()
    assert np.isfinite(far).all()
    assert far.min() >= 7.0
    with pytest.raises(ValueError, match="no mass"):
        init.TruncatedNormal(a=1.0, b=-1.0)


def test_identity_has_ones_on_the_diagonal() -> None:
    assert_array_equal(lazy("identity", [3, 2]).asnumpy(), np.eye(3, 2))
    with pytest.raises(ValueError, match="2 dims"):
        initializer("identity", [3])


def test_fans_of_a_convolution_count_the_receptive_field() -> None:
    values = lazy(init.HeNormal(), [64, 32, 3, 3]).asnumpy()
    assert_allclose(values.std(), np.sqrt(2 / (32 * 9)), rtol=0.02)


ALIASES = [
    *["zeros", "zero", "ones", "one", "normal", "uniform", "truncatednormal"],
    *["xavier_uniform", "xavieruniform", "xavier_normal", "xaviernormal"],
    *["he_uniform", "heuniform", "he_normal", "henormal"],
    *["identity", "variancescaling"],
]


@pytest.mark.parametrize("alias", ALIASES)
def test_alias_is_known_in_any_case(alias: str) -> None:
    for spelling in (alias, alias.upper(), alias.title()):
        kind = type(lazy(spelling, [2, 2]).init).__name__
        assert kind.lower() == alias.replace("_", "").rstrip("s") or alias[0] in "zo"


@pytest.mark.parametrize("alias", ["constant", "trunc_normal", "truncated_normal", ""])
def test_alias_is_unknown(alias: str) -> None:
    with pytest.raises(ValueError, match="no initializer"):
        initializer(alias, [2, 2])


def test_a_number_is_a_constant() -> None:
    assert lazy_values(3) == [3.0, 3.0]
    assert lazy_values(0.5) == [0.5, 0.5]
    assert initializer(3, 2, dtypes.int32).asnumpy().dtype == np.int32


def lazy_values(value: float) -> object:
    return initializer(value, [2]).tolist()


def test_a_tensor_must_fit_the_shape() -> None:
    tensor = Tensor([1.0, 2.0])
    assert initializer(tensor, [2]) is tensor
    assert initializer(tensor) is tensor
    with pytest.raises(ValueError, match="shape"):
        initializer(tensor, [3])


@pytest.mark.parametrize("shape", [None, [0], [2, -1], [2, None], ["2"], [2.0], "2", 0])
def test_a_bad_shape_is_refused(shape: list[int]) -> None:
    with pytest.raises(ValueError, match="positive ints"):
        initializer("zeros", shape)


@pytest.mark.parametrize("bad", [None, [1.0], np.ones(2), init.Normal])
def test_another_init_is_refused(bad: float) -> None:
    with pytest.raises(TypeError):
        initializer(bad, [2])
    with pytest.raises(TypeError):
        initializer("zeros", [2], np.float32)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    "make",
    [
        lambda: init.HeNormal(mode="fan_avg"),
        lambda: init.HeUniform(nonlinearity="unknown"),
        lambda: init.VarianceScaling(scale=0.0),
        lambda: init.VarianceScaling(mode="fan"),  # type: ignore[arg-type]  # the point
        lambda: init.VarianceScaling(distribution="normal"),
        lambda: initializer("he_uniform", [3]),
        lambda: initializer("xavier_normal", [3]),
    ],
)
def test_laws_refuse_what_they_do_not_know(make: "object") -> None:
    assert callable(make)
    with pytest.raises(ValueError):  # noqa: PT011 - seven texts
        make()


def test_init_data_makes_the_values_once() -> None:
    made = lazy("normal", [4])
    assert made.has_init
    values = made.init_data()
    assert type(values) is Tensor
    assert values.asnumpy() is made.init_data().asnumpy()
    with pytest.raises(AttributeError, match="nothing"):
        _ = made.nothing


def test_values_depend_on_seed_and_order_not_on_when_they_are_made() -> None:
    before = random.get_seed()
    try:
        random.set_seed(3)
        first, second = lazy("normal", [4]), lazy("normal", [4])
        late = second.tolist(), first.tolist()
        random.set_seed(3)
        lazy("zeros", [4])  # draws nothing, so it does not count
        early = lazy("normal", [4]).tolist(), lazy("normal", [4]).tolist()
    finally:
        random.set_seed(before)
    assert late == early[::-1]
    assert early[0] != early[1]


def test_constants_are_constants() -> None:
    with pytest.raises(TypeError, match="number"):
        init.Constant("3")  # type: ignore[arg-type]  # the point
    assert repr(init.Normal(0.5)) == "Normal(sigma=0.5, mean=0.0)"
