"""The layers that a transformer is made of: settings, names, shapes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from parallel_params import nn, ops
from parallel_params.tensor import Tensor, random, value_and_grad
from parallel_params.tensor import dtype as dtypes
from parallel_params.tensor.gradcheck import check_grad
from parallel_params.tensor.tape import Array


def _draw(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _shapes(cell: nn.Cell) -> dict[str, tuple[int, ...]]:
    return {path: p.shape for path, p in cell.parameters_and_names()}


# ---- embedding


def test_an_embedding_looks_rows_up() -> None:
    cell = nn.Embedding(5, 3)
    assert _shapes(cell) == {"embedding_table": (5, 3)}
    out = cell(Tensor([[4, 0]]))
    assert_array_equal(out.asnumpy()[0], cell.embedding_table.asnumpy()[[4, 0]])
    assert "vocab_size=5, embedding_size=3" in str(cell)


def test_the_padding_row_of_an_embedding_is_zero() -> None:
    random.set_seed(3)
    plain = nn.Embedding(5, 3).embedding_table.asnumpy()
    random.set_seed(3)
    padded = nn.Embedding(5, 3, padding_idx=2).embedding_table.asnumpy()
    assert padded[2].tolist() == [0.0] * 3
    assert_array_equal(np.delete(padded, 2, 0), np.delete(plain, 2, 0))


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ((0, 3), ValueError),
        ((3, 0), ValueError),
        ((3.0, 3), TypeError),
        ((3, True), TypeError),
        ((3, 3, 1), TypeError),
        ((3, 3, False, "unknown"), ValueError),
        ((3, 3, False, Tensor([[1.0]])), ValueError),
        ((3, 3, False, "normal", dtypes.float32, 3), ValueError),
        ((3, 3, False, "normal", dtypes.float32, -1), ValueError),
    ],
)
def test_an_embedding_refuses(
    settings: tuple[int, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        nn.Embedding(*settings)


# ---- norms


def test_norms_have_their_parameters() -> None:
    assert _shapes(nn.LayerNorm(4)) == {"gamma": (4,), "beta": (4,)}
    assert _shapes(nn.LayerNorm((3, 4), has_bias=False)) == {"gamma": (3, 4)}
    assert _shapes(nn.RMSNorm([4])) == {"gamma": (4,)}
    assert nn.RMSNorm(4, dtype=dtypes.float64).gamma.dtype is dtypes.float64


def test_norms_compute_their_functions() -> None:
    x = _draw(5, 8)
    centred = x - x.mean(1, keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 0.1)
    cell = nn.LayerNorm([8], gamma_init=2.0, beta_init=0.5, epsilon=0.1)
    assert_allclose(cell(Tensor(x)).asnumpy(), 2.0 * wanted + 0.5, 1e-5, 1e-6)
    wanted = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    assert_allclose(nn.RMSNorm(8)(Tensor(x)).asnumpy(), wanted, 1e-5, 1e-6)
    assert "normalized_shape=(8,), epsilon=0.1" in str(cell)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"normalized_shape": 0}, ValueError),
        ({"normalized_shape": ()}, TypeError),
        ({"normalized_shape": 2.0}, TypeError),
        ({"normalized_shape": 4, "epsilon": -1.0}, ValueError),
        ({"normalized_shape": 4, "epsilon": "a"}, TypeError),
        ({"normalized_shape": 4, "gamma_init": Tensor([1.0])}, ValueError),
    ],
)
@pytest.mark.parametrize("cell", [nn.LayerNorm, nn.RMSNorm])
def test_norms_refuse(
    cell: type[nn.Cell], settings: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        cell(**settings)  # type: ignore[arg-type]  # the point


def test_layer_norm_refuses_an_axis_that_is_not_where_the_shape_begins() -> None:
    nn.LayerNorm((3, 4), -2, -2)
    with pytest.raises(ValueError, match="begin_norm_axis is -2, where"):
        nn.LayerNorm((3, 4), -3)


# ---- rotary embedding


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    turn = nn.RotaryEmbedding(8)
    q, k = _draw(8), _draw(2, 8)[1]
    at = [turn(Tensor(np.tile(row, (9, 1)))).asnumpy() for row in (q, k)]
    scores = at[0] @ at[1].T
    for distance in (-3, 0, 5):
        diagonal = np.diagonal(scores, distance)
        assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
    assert_allclose((at[0] ** 2).sum(1), (q**2).sum(), rtol=1e-5)


def test_rotary_may_start_behind_what_is_known() -> None:
    turn, x = nn.RotaryEmbedding(4, base=50.0), Tensor(_draw(3, 6, 4))
    whole = turn(x).asnumpy()
    assert_array_equal(turn(x[:, 4:], 4).asnumpy(), whole[:, 4:])


def test_rotary_refuses() -> None:
    with pytest.raises(ValueError, match="dim is even"):
        nn.RotaryEmbedding(3)
    with pytest.raises(ValueError, match=r"x must be even, shape is \(2, 3\)"):
        ops.rotary(Tensor(_draw(2, 3)), Tensor(1.0), Tensor(1.0))
    with pytest.raises(ValueError, match=r"cos of shape \(2, 3\) .* to \(2, 2\)"):
        ops.rotary(Tensor(_draw(2, 4)), Tensor(_draw(2, 3)), Tensor(_draw(2, 3)))
    with pytest.raises(TypeError, match="not Int64"):
        ops.rotary(Tensor([[1, 2]]), Tensor([1.0]), Tensor([1.0]))


# ---- multi-head attention


def _attention(**settings: object) -> nn.MultiheadAttention:
    random.set_seed(1)
    cell = nn.MultiheadAttention(8, 4, batch_first=True, **settings)  # type: ignore[arg-type]  # checked there
    if cell.in_proj_bias is not None:
        cell.in_proj_bias.set_data(Tensor(_draw(*cell.in_proj_bias.shape)))
    return cell


def _gradients(cell: nn.Cell, *inputs: object, **options: object) -> dict[str, Array]:
    def loss(*inputs: object) -> Tensor:
        out = cell(*inputs, **options)
        out = out[0] if isinstance(out, tuple) else out
        assert isinstance(out, Tensor)
        return (out * out).sum()

    weights = cell.trainable_params()
    _, found = value_and_grad(loss, None, weights)(*inputs)
    assert isinstance(found, tuple)
    pairs = zip(weights, found, strict=True)
    return {p.name: np.asarray(g) for p, g in pairs}


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_kv_heads": 2}, {"rotary": True}, {"has_bias": False}],
    ids=str,
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_one_product_for_all_projections_equals_three(
    settings: dict[str, object], is_causal: bool
) -> None:
    cell, x = _attention(**settings), Tensor(_draw(2, 5, 8))
    packed, none = cell(x, need_weights=False, is_causal=is_causal)
    apart, weights = cell(x, is_causal=is_causal)
    assert none is None
    assert weights.shape == (2, 5, 5)
    assert_allclose(weights.asnumpy().sum(-1), 1.0, rtol=1e-5)
    assert_allclose(packed.asnumpy(), apart.asnumpy(), 1e-5, 1e-6)
    found = _gradients(cell, x, need_weights=False, is_causal=is_causal)
    for name, wanted in _gradients(cell, x, is_causal=is_causal).items():
        assert_allclose(found[name], wanted, 1e-4, 1e-4)


def test_attention_takes_positions_first_and_single_sequences() -> None:
    cell, x = _attention(), Tensor(_draw(2, 5, 8))
    wanted, weights = cell(x)
    cell.batch_first = False
    out, _ = cell(x.swapaxes(0, 1))
    assert_allclose(out.asnumpy(), wanted.asnumpy().swapaxes(0, 1), 1e-5, 1e-6)
    one, its = cell(x[1], average_attn_weights=False)
    assert_allclose(one.asnumpy(), wanted.asnumpy()[1], 1e-5, 1e-6)
    assert_allclose(its.asnumpy().mean(0), weights.asnumpy()[1], 1e-5, 1e-6)


@pytest.mark.parametrize("need_weights", [False, True])
def test_masks_hide_keys(need_weights: bool) -> None:
    cell, x = _attention(), Tensor(_draw(2, 5, 8))
    short, _ = cell(x[:, :3], need_weights=need_weights)
    padding = Tensor([[False] * 3 + [True] * 2] * 2)
    out, _ = cell(x, None, None, padding, need_weights)
    assert_allclose(out.asnumpy()[:, :3], short.asnumpy(), 1e-5, 1e-6)
    hidden = Tensor(np.triu(np.ones((5, 5), np.bool_), 1))
    causal, _ = cell(x, need_weights=need_weights, is_causal=True)
    for mask in (hidden, Tensor(np.tile(hidden.asnumpy(), (8, 1, 1)))):
        out, _ = cell(x, need_weights=need_weights, attn_mask=mask)
        assert_allclose(out.asnumpy(), causal.asnumpy(), 1e-5, 1e-6)


def test_a_trained_mask_gets_its_gradient() -> None:
    cell, x = _attention(), Tensor(_draw(1, 5, 8))

    def loss(mask: Tensor, need_weights: bool) -> Tensor:
        out: Tensor = cell(x, need_weights=need_weights, attn_mask=mask)[0].sum()
        return out

    mask = Tensor(_draw(5, 5))
    found = [value_and_grad(loss, 0)(mask, flag)[1] for flag in (False, True)]
    assert isinstance(found[0], Tensor)
    assert isinstance(found[1], Tensor)
    assert np.abs(found[0].asnumpy()).max() > 1e-4
    assert_allclose(found[0].asnumpy(), found[1].asnumpy(), 1e-4, 1e-6)


def test_attention_of_other_widths_has_weights_of_its_own() -> None:
    cell = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, has_bias=False)
    assert _shapes(cell) == {
        "q_proj_weight": (8, 8),
        "k_proj_weight": (8, 6),
        "v_proj_weight": (8, 5),
        "out_proj.weight": (8, 8),
    }
    out, weights = cell(
        Tensor(_draw(3, 2, 8)), Tensor(_draw(7, 2, 6)), Tensor(_draw(7, 2, 5))
    )
    assert (out.shape, weights.shape) == ((3, 2, 8), (2, 3, 7))


def test_dropout_of_attention_works_while_training_alone() -> None:
    cell, x = _attention(dropout=0.5), Tensor(_draw(2, 5, 8))
    assert_array_equal(
        cell(x, need_weights=False)[0].asnumpy(),
        cell(x, need_weights=False)[0].asnumpy(),
    )
    cell.set_train()
    for need_weights in (False, True):
        outs = []
        for step in (1, 1, 2):
            with random.scope("step", step):
                outs.append(cell(x, need_weights=need_weights)[0].asnumpy())
        assert_array_equal(outs[0], outs[1])
        assert not np.array_equal(outs[0], outs[2])


def test_attention_has_torchs_numbers_under_torchs_names() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(8, 4, batch_first=True)
    cell = _attention()
    cell.load_state_dict(
        {name: Tensor(w.detach().numpy()) for name, w in theirs.state_dict().items()}
    )
    x, memory = _draw(2, 5, 8), _draw(2, 7, 8)
    hidden = np.arange(35).reshape(5, 7) % 3 == 1
    for keys, mask in ((x, None), (memory, hidden)):
        ours = cell(
            Tensor(x), Tensor(keys), attn_mask=mask if mask is None else Tensor(mask)
        )
        want = theirs(
            *(torch.tensor(a) for a in (x, keys, keys)),
            attn_mask=mask if mask is None else torch.tensor(mask),
        )
        for found, wanted in zip(ours, want, strict=True):
            assert_allclose(found.asnumpy(), wanted.detach().numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_heads": 3}, ValueError, "num_heads 3 does not divide embed_dim 8"),
        ({"num_kv_heads": 3}, ValueError, "num_kv_heads 3 does not divide"),
        ({"dropout": 1.0}, ValueError, "dropout lies in"),
        ({"num_heads": 8, "rotary": True}, ValueError, "even width of heads, not 1"),
        ({"has_bias": 1}, TypeError, "has_bias is True or False"),
        ({"kdim": 0}, ValueError, "kdim is at least 1"),
    ],
)
def test_attention_refuses(
    settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nn.MultiheadAttention(**{"embed_dim": 8, "num_heads": 4, **settings})  # type: ignore[arg-type]  # the point


def test_attention_names_the_shapes_that_do_not_fit() -> None:
    cell, x = _attention(), Tensor(_draw(2, 5, 8))
    with pytest.raises(
        ValueError, match=r"key must be \[batch, positions, 8\].*\(2, 7"
    ):
        cell(x, Tensor(_draw(2, 7, 6)))
    with pytest.raises(ValueError, match=r"attn_mask of shape \(4, 4\) .* \(5, 5\) or"):
        cell(x, attn_mask=Tensor(_draw(4, 4)))
    with pytest.raises(ValueError, match=r"key_padding_mask of shape \(5,\)"):
        cell(x, key_padding_mask=Tensor(_draw(5)))


# ---- blocks


@pytest.mark.parametrize(
    ("settings", "wide"),
    [
        ({}, {"up.weight": (32, 8), "up.bias": (32,), "down.weight": (8, 32)}),
        (
            {"activation": "swiglu", "norm": "rms", "has_bias": False},
            {"up.weight": (48, 8), "down.weight": (8, 24)},
        ),
    ],
)
def test_a_block_has_the_parameters_of_its_parts(
    settings: dict[str, object], wide: dict[str, tuple[int, ...]]
) -> None:
    block = nn.TransformerBlock(8, 2, **settings)  # type: ignore[arg-type]  # of all kinds
    shapes = _shapes(block)
    for name, shape in wide.items():
        assert shapes[f"feed_forward.{name}"] == shape
    assert shapes["attention_norm.gamma"] == (8,)
    assert shapes["attention.in_proj_weight"] == (24, 8)
    assert any(name.endswith("bias") for name in shapes) == ("norm" not in settings)


def test_a_block_adds_attention_and_feed_forward_to_its_input() -> None:
    block = nn.TransformerBlock(8, 2, rotary=True, num_kv_heads=1, activation="swiglu")
    x = Tensor(_draw(2, 5, 8))
    attended, _ = block.attention(block.attention_norm(x), is_causal=True)
    middle = x + attended
    wanted = middle + block.feed_forward(block.feed_norm(middle))
    assert_allclose(block(x).asnumpy(), wanted.asnumpy(), 1e-5, 1e-5)


def test_a_causal_block_sees_no_future() -> None:
    block, x = nn.TransformerBlock(8, 2), _draw(1, 6, 8)
    before = block(Tensor(x)).asnumpy()
    x[:, 4:] += 1.0
    after = block(Tensor(x)).asnumpy()
    assert_allclose(after[:, :4], before[:, :4], 1e-5, 1e-6)
    assert np.abs(after[:, 4:] - before[:, 4:]).max() > 0.1


def test_gradients_of_a_block_can_be_differentiated_again() -> None:
    block = nn.TransformerBlock(4, 2, activation="swiglu", dtype=dtypes.float64)
    x = Tensor(_draw(1, 3, 4).astype(np.float64))
    check_grad(block, x)


@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layer_has_torchs_numbers(norm_first: bool) -> None:
    torch = pytest.importorskip("torch")
    settings = {"batch_first": True, "norm_first": norm_first}
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, **settings)
    cell = nn.TransformerEncoderLayer(8, 2, 16, 0.0, **settings)  # type: ignore[arg-type]  # bools
    norms = {"weight": "gamma", "bias": "beta"}
    values = {}
    for name, weight in theirs.state_dict().items():
        *path, last = name.split(".")
        last = norms[last] if path[0].startswith("norm") else last
        values[".".join([*path, last])] = Tensor(weight.detach().numpy())
    cell.load_state_dict(values)
    x = _draw(2, 5, 8)
    hidden = np.array([[False] * 5, [False] * 3 + [True] * 2])
    found = cell(Tensor(x), None, Tensor(hidden)).asnumpy()
    theirs.train()  # its fast path pads what is hidden with zeros
    wanted = theirs(torch.tensor(x), None, torch.tensor(hidden)).detach().numpy()
    assert_allclose(found, wanted, 1e-4, 1e-5)


def test_blocks_refuse() -> None:
    with pytest.raises(ValueError, match="norm is 'layer' or 'rms', not 'batch'"):
        nn.TransformerBlock(8, 2, norm="batch")
    with pytest.raises(ValueError, match="no activation is called 'rellu'"):
        nn.TransformerBlock(8, 2, activation="rellu")
    with pytest.raises(ValueError, match="must be even, to be halved"):
        ops.swiglu(Tensor(_draw(2, 3)))
