"""`value_and_grad` and its relatives, row by row of MindSpore's table."""

import pytest
from graded import X, Y, array, parts, product, weight

from parallel_params.nn.parameter import Parameter
from parallel_params.tensor import (
    GradOperation,
    Tensor,
    float16,
    float64,
    get_grad,
    grad,
    int32,
    value_and_grad,
)

# ---- the shape of the answer


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_weights_give_a_tuple_in_their_order(kind: type) -> None:
    w, v = weight(5.0), weight(7.0, name="v")
    value, grads = value_and_grad(lambda x: (x * w * w * v).sum(), None, kind((v, w)))(
        X
    )
    assert isinstance(grads, tuple)
    assert [array(g) for g in grads] == [[75.0], [210.0]]
    assert float(value) == 525.0  # type: ignore[arg-type]


def test_one_weight_gives_a_bare_gradient_and_a_list_of_one_a_tuple() -> None:
    w = weight(5.0)
    fn = value_and_grad(lambda x: (x * w).sum(), None, w)
    assert array(fn(X)[1]) == [3.0]
    (gradient,) = parts(grad(lambda x: (x * w).sum(), None, [w])(X))
    assert array(gradient) == [3.0]


def test_no_weights_give_no_gradients() -> None:
    assert value_and_grad(lambda x: x.sum(), None, [])(X)[1] == ()


@pytest.mark.parametrize("position", [0, (0,), [0], -2])
def test_one_position_gives_a_bare_gradient(position: int) -> None:
    assert array(grad(product, position)(X, Y)) == [6.0, 16.0]


def test_several_positions_give_a_tuple() -> None:
    gradients = grad(product, (1, 0))(X, Y)
    assert [array(g) for g in gradients] == [[1.0, 4.0], [6.0, 16.0]]


def test_positions_and_weights_give_both_kinds() -> None:
    w, v = weight(5.0), weight(7.0, name="v")

    def fn(x: Tensor, y: Tensor) -> Tensor:
        return (x * y * w + v).sum()

    _, (of_x, (of_w, of_v)) = value_and_grad(fn, 0, [w, v])(X, Y)
    assert [array(g) for g in (of_x, of_w, of_v)] == [[15.0, 20.0], [11.0], [2.0]]
    of_inputs, of_w = parts(value_and_grad(fn, (0, 1), w)(X, Y)[1])
    assert [array(g) for g in (*of_inputs, of_w)] == [[15.0, 20], [5.0, 10.0], [11.0]]


def test_a_weight_named_twice_gets_its_gradient_twice() -> None:
    w = weight(5.0)
    first, second = grad(lambda x: (x * w).sum(), None, [w, w])(X)
    assert array(first) == array(second) == [3.0]


def test_unused_weights_and_inputs_have_zeros() -> None:
    w = weight(5.0, 6.0, 7.0)
    of_y, of_w = grad(lambda x, y: x.sum(), 1, w)(X, Y)
    assert array(of_y) == [0.0, 0.0]
    assert array(of_w) == [0.0, 0.0, 0.0]


# ---- outputs


def test_an_output_that_is_no_number_counts_as_its_sum() -> None:
    assert array(grad(product)(X, Y)) == array(grad(lambda x: (x * x * Y).sum())(X))


def test_several_outputs_are_added_up() -> None:
    value, gradient = value_and_grad(lambda x: (x.sum(), x * x))(X)
    assert isinstance(value, tuple)
    assert len(value) == 2
    assert array(gradient) == [3.0, 5.0]


def test_with_has_aux_only_the_first_output_is_differentiated() -> None:
    value, gradient = value_and_grad(lambda x: (x.sum(), x * x, "y"), has_aux=True)(X)
    assert isinstance(value, tuple)
    assert value[2] == "y"
    assert array(gradient) == [1.0, 1.0]
    gradient, aux = parts(grad(lambda x: (x.sum(), x * x), has_aux=True)(X))
    assert isinstance(aux, tuple)
    assert array(aux[0]) == [1.0, 4.0]


def test_has_aux_with_one_output_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than one output"):
        value_and_grad(lambda x: x.sum(), has_aux=True)(X)


# ---- ids


def test_return_ids_pairs_gradients_with_positions_and_names() -> None:
    w = weight(5.0, name="layer.w")
    fn = grad(lambda x, y: (x * y * w).sum(), (0, 1), [w], return_ids=True)
    gradients = fn(X, Y)
    ((first, _), (second, of_y)), ((name, of_w),) = parts(gradients)
    assert (first, second, name) == (0, 1, "layer.w")
    assert array(get_grad(gradients, 1)) == array(of_y) == [5.0, 10.0]
    assert array(get_grad(gradients, w)) == array(of_w) == [11.0]


def test_return_ids_of_one_position_is_one_pair() -> None:
    position, gradient = grad(product, return_ids=True)(X, Y)
    assert position == 0
    assert array(gradient) == [6.0, 16.0]
    assert array(get_grad((position, gradient), 0)) == [6.0, 16.0]


def test_a_gradient_that_is_not_there_is_an_error() -> None:
    gradients = grad(product, (0, 1), return_ids=True)(X, Y)
    with pytest.raises(RuntimeError, match="no gradient of 2"):
        get_grad(gradients, 2)
    with pytest.raises(RuntimeError, match="no gradient of 'w'"):
        get_grad(gradients, weight(1.0))
    with pytest.raises(TypeError, match="position or a weight"):
        get_grad(gradients, "w")
    with pytest.raises(TypeError, match="gradients must be"):
        get_grad([1], 0)


# ---- element types and inputs


@pytest.mark.parametrize("dtype", [float16, float64, int32])
def test_a_gradient_has_the_type_of_its_parameter(dtype: object) -> None:
    w = Parameter(Tensor([2.0], dtype=dtype), name="w")  # type: ignore[arg-type]
    gradient = grad(lambda x: (x * w).sum(), None, w)(X)
    assert isinstance(gradient, Tensor)
    assert gradient.dtype == dtype
    assert array(gradient) == [3.0]


def test_an_integer_input_has_an_integer_gradient_through_a_division() -> None:
    x = Tensor([4, 6])
    gradient = grad(lambda x: (x / 0.5).sum())(x)
    assert isinstance(gradient, Tensor)
    assert gradient.dtype == x.dtype
    assert array(gradient) == [2, 2]


def test_a_python_number_has_no_gradient() -> None:
    assert grad(lambda x: Tensor(3.0) * x)(2.0) == ()
    (of_y,) = parts(grad(lambda x, y: (y * x).sum(), (0, 1))(2.0, Y))
    assert array(of_y) == [2.0, 2.0]


def test_plain_tensors_named_as_weights_have_their_true_gradient() -> None:
    w = Tensor([5.0])
    assert array(grad(lambda x: (x * w).sum(), None, w)(X)) == [3.0]


def test_a_frozen_weight_named_explicitly_has_its_true_gradient() -> None:
    w = weight(5.0)
    w.requires_grad = False
    (gradient,) = parts(grad(lambda x: (x * w).sum(), None, [w])(X))
    assert array(gradient) == [3.0]


def test_equal_names_are_told_apart_by_identity() -> None:
    w, v = weight(5.0, name="same"), weight(7.0, name="same")
    of_w, of_v = grad(lambda x: (x * w * w * v).sum(), None, [w, v])(X)
    assert (array(of_w), array(of_v)) == ([210.0], [75.0])


def test_one_tensor_as_two_inputs_is_differentiated_by_position() -> None:
    def fn(x: Tensor, y: Tensor) -> Tensor:
        return (x * x + 5.0 * y).sum()

    of_x, of_y = grad(fn, (0, 1))(X, X)
    assert (array(of_x), array(of_y)) == ([2.0, 4.0], [5.0, 5.0])


def test_a_weight_given_as_an_input_is_differentiated_by_position_too() -> None:
    w = weight(5.0, 6.0)
    of_x, of_w = grad(lambda x: (x * x * w).sum(), 0, w)(w)
    assert (array(of_x), array(of_w)) == ([50.0, 72.0], [25.0, 36.0])


def test_keyword_arguments_are_passed_on() -> None:
    assert array(grad(lambda x, *, by: x * by)(X, by=3.0)) == [3.0, 3.0]


# ---- the older spelling


def test_grad_operation_by_first_all_and_listed() -> None:
    w = weight(5.0)

    def fn(x: Tensor, y: Tensor) -> Tensor:
        return (x * y * w).sum()

    assert array(GradOperation()(fn)(X, Y)) == [15.0, 20.0]
    of_all = parts(GradOperation(get_all=True)(fn)(X, Y))
    assert [array(g) for g in of_all] == [[15.0, 20.0], [5.0, 10.0]]
    (of_w,) = parts(GradOperation(get_by_list=True)(fn, [w])(X, Y))
    assert array(of_w) == [11.0]
    inputs, weights = parts(
        GradOperation(get_all=True, get_by_list=True)(fn, [w])(X, Y)
    )
    assert [array(g) for g in (*inputs, *weights)] == [
        [15.0, 20.0],
        [5.0, 10.0],
        [11.0],
    ]
    (of_x,) = parts(GradOperation(get_all=True)(lambda x: x * x)(X))
    assert array(of_x) == [2.0, 4.0]


def test_grad_operation_scales_by_its_last_argument() -> None:
    gradient = GradOperation(sens_param=True)(product)(X, Y, Tensor([10.0, 0.0]))
    assert array(gradient) == [60.0, 0.0]
    gradient = GradOperation(sens_param=True)(product)(X, Y, 0.5)
    assert array(gradient) == [3.0, 8.0]


def test_grad_operation_wants_bools() -> None:
    with pytest.raises(TypeError, match="get_all must be a bool"):
        GradOperation(get_all=1)  # type: ignore[arg-type]
