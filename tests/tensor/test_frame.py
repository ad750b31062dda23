"""What the manager builds on: frames with sinks, unwinding, threads, freeing."""

import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_params import ops
from parallel_params.tensor import Frame, Tensor, no_grad, tape, value_and_grad
from parallel_params.tensor.tape import Array


def _tensor(*shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).normal(size=shape)
    return Tensor(values.astype(np.float32))


def _mlp(weights: list[Tensor], x: Tensor, labels: Tensor) -> Tensor:
    hidden = ops.linear(x, weights[0], weights[1], "gelu")
    return ops.cross_entropy(ops.linear(hidden, weights[2], weights[3]), labels)


WEIGHTS = [_tensor(6, 5), _tensor(6, seed=1), _tensor(4, 6, seed=2), _tensor(4, seed=3)]
BATCH = (_tensor(7, 5, seed=4), Tensor([0, 1, 2, 3, 3, 2, 1]))


def _sinks(weights: list[Tensor]) -> list[Array]:
    # Views of one arena, full of what an earlier step left there.
    arena = np.full(sum(w.size for w in weights), np.nan, np.float32)
    stops = np.cumsum([w.size for w in weights])[:-1]
    parts = np.split(arena, stops)
    return [p.reshape(w.shape) for p, w in zip(parts, weights, strict=True)]


def _tape_is_clean() -> bool:
    recording = tape.local.recording
    state = (recording.nodes, recording.depth, recording.floor)
    return state == ([], 0, tape.AMBIENT)


def test_sinks_receive_the_same_bits_as_plain_gradients() -> None:
    sinks = _sinks(WEIGHTS)
    with Frame(WEIGHTS, sinks) as frame:
        loss = _mlp(WEIGHTS, *BATCH)
        arrived = frame.sweep(loss, Tensor(1.0))
    _, expected = value_and_grad(lambda: _mlp(WEIGHTS, *BATCH), None, WEIGHTS)()
    assert all(found is sink for found, sink in zip(arrived, sinks, strict=True))
    assert isinstance(expected, tuple)
    for sink, gradient in zip(sinks, expected, strict=True):
        assert isinstance(gradient, Tensor)
        np.testing.assert_array_equal(sink, gradient.asnumpy())


def test_a_weight_used_twice_is_added_up_in_its_sink() -> None:
    w = _tensor(5, 5)
    (sink,) = _sinks([w])
    x = _tensor(3, 5, seed=1)
    with Frame([w], [sink]) as frame:
        out = ops.matmul(ops.linear(ops.linear(x, w), w), w) + w.sum() + (w @ w).sum()
        frame.sweep(out.sum(), Tensor(1.0))

    def fn(w: Tensor) -> Tensor:
        wt = w.T
        return (x @ wt @ wt @ w + w.sum() + (w @ w).sum()).sum()

    _, expected = value_and_grad(fn)(w)
    assert isinstance(expected, Tensor)
    np.testing.assert_allclose(sink, expected.asnumpy(), rtol=1e-4, atol=1e-4)


def test_nothing_arrived_is_none_and_leaves_the_sink_alone() -> None:
    used, unused = _tensor(2), _tensor(3)
    sinks = _sinks([used, unused])
    with Frame([used, unused], sinks) as frame:
        first, second = frame.sweep((used * used).sum(), Tensor(1.0))
    assert first is sinks[0]
    assert second is None
    assert np.isnan(sinks[1]).all()


def test_without_sinks_a_frame_returns_arrays() -> None:
    w = Tensor([1.0, 2.0])
    with Frame([w]) as frame:
        (gradient,) = frame.sweep((w * w).sum(), Tensor(1.0))
    assert isinstance(gradient, np.ndarray)
    np.testing.assert_array_equal(gradient, [2.0, 4.0])


def test_a_seed_scales_the_gradient() -> None:
    w = Tensor([1.0, 2.0])
    (sink,) = _sinks([w])
    with Frame([w], [sink]) as frame:
        frame.sweep((w * w).sum(), Tensor(0.25))
    np.testing.assert_array_equal(sink, [0.5, 1.0])


def test_a_root_that_does_not_depend_on_the_weights_brings_nothing() -> None:
    w = Tensor([1.0])
    with Frame([w]) as frame:
        assert frame.sweep(Tensor(1.0) * 2.0, Tensor(1.0)) == [None]


def test_frames_one_after_the_other_see_new_weights() -> None:
    w, sink = Tensor([1.0]), np.zeros(1, np.float32)
    for value in (1.0, 2.0):
        w.asnumpy()[:] = value
        with Frame([w], [sink]) as frame:
            frame.sweep((w * w * w).sum(), Tensor(1.0))
        assert sink[0] == 3.0 * value * value
    assert w._node is None


def test_an_exception_leaves_the_tape_and_the_weights_as_they_were() -> None:
    w = Tensor([1.0, 2.0]).requires_grad_()
    node = w._node
    kept: list[Tensor] = []

    def fails() -> None:
        with Frame([w]):
            kept.append(w * w)
            with Frame([w]):
                kept.append(w * kept[0])
                raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fails()
    assert w._node is node
    assert _tape_is_clean()
    assert not any(tape.is_tracked(tensor) for tensor in kept)


def test_an_exception_in_a_derivative_leaves_the_tape_clean() -> None:
    from parallel_params.tensor.ops.apply import result

    def vjp(_: Array) -> tuple[Array]:
        raise ArithmeticError

    w = Tensor([1.0])

    def fails() -> None:
        with Frame([w]) as frame:
            out = result(w._array * 2.0, (w * w,), vjp)
            frame.sweep(out, Tensor([1.0]))

    with pytest.raises(ArithmeticError):
        fails()
    assert _tape_is_clean()
    with Frame([w]) as frame:
        (gradient,) = frame.sweep(w * 3.0, Tensor([1.0]))
    np.testing.assert_array_equal(np.asarray(gradient), [3.0])


def test_what_a_frame_computed_is_a_constant_afterwards() -> None:
    w = Tensor([2.0])
    with Frame([w]) as frame:
        out = w * w
        frame.sweep(out, Tensor([1.0]))
    with Frame([w]) as frame:
        (gradient,) = frame.sweep(out * w, Tensor([1.0]))
    np.testing.assert_array_equal(np.asarray(gradient), [4.0])
    with pytest.raises(RuntimeError, match="nothing to do"):
        out.backward()


def test_activations_die_while_the_sweep_proceeds() -> None:
    w = _tensor(4)
    alive: list[int] = []
    seen: list[weakref.ref[Tensor]] = []
    from parallel_params.tensor.ops.apply import result

    def watch(x: Tensor) -> Tensor:
        def vjp(g: Array) -> tuple[Array]:
            alive.append(sum(ref() is not None for ref in seen))
            return (g,)

        return result(x._array, (x,), vjp)

    with Frame([w]) as frame:
        x = w
        for _ in range(5):
            x = watch(x)
            token = _tensor(1)
            seen.append(weakref.ref(token))
            array = x._array
            x = result(
                array,
                (x,),
                lambda g, token=token: (g,),  # type: ignore[misc]
            )
            del token
        frame.sweep(x, w)
    assert alive == [4, 3, 2, 1, 0]


def test_the_value_does_not_keep_what_led_to_it() -> None:
    w = _tensor(4)
    value, _ = value_and_grad(lambda x: (x * x).sum())(w)
    assert isinstance(value, Tensor)
    assert value._node is not None
    assert not value._node.inputs
    assert value._node.vjp is None


def test_threads_record_independently() -> None:
    barrier = threading.Barrier(3, timeout=10)
    found: dict[int, list[float]] = {}

    def body(rank: int) -> None:
        w = Tensor([1.0 + rank])
        with Frame([w]) as frame:
            barrier.wait()  # all frames are open
            out = w * w * w
            barrier.wait()
            (gradient,) = frame.sweep(out, Tensor([1.0]))
            barrier.wait()
        found[rank] = np.asarray(gradient).tolist()

    threads = [threading.Thread(target=body, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: [3.0], 1: [12.0], 2: [27.0]}
    assert _tape_is_clean()


def test_nothing_is_recorded_while_paused() -> None:
    w = Tensor([2.0])
    with Frame([w]) as frame:
        with no_grad():
            constant = w * w
            assert not tape.is_tracked(w)
            inner, _ = value_and_grad(lambda x: x * x)(w)
        (gradient,) = frame.sweep(constant * w + inner, Tensor([1.0]))  # type: ignore[operator]
    np.testing.assert_array_equal(np.asarray(gradient), [4.0])


def test_a_gradient_inside_a_pause_is_computed() -> None:
    with no_grad():
        _, gradient = value_and_grad(lambda x: x * x)(Tensor(3.0))
    assert float(gradient) == 6.0  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1))
def test_the_same_computation_gives_the_same_bits(seed: int) -> None:
    weights = [_tensor(*w.shape, seed=seed) for w in WEIGHTS]
    runs = []
    for _ in range(2):
        sinks = _sinks(weights)
        with Frame(weights, sinks) as frame:
            loss = _mlp(weights, *BATCH)
            frame.sweep(loss, Tensor(1.0))
        runs.append([loss.asnumpy().tobytes(), *(sink.tobytes() for sink in sinks)])
    assert runs[0] == runs[1]
