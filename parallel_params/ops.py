"""Every operator, under MindSpore's names: `from parallel_params import ops`.

Operators live by family in `tensor/ops/`; this is only the place to look them up.
"""

from parallel_params.tensor.grad import GradOperation, get_grad, grad, value_and_grad
from parallel_params.tensor.ops.activation import (
    gelu,
    relu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from parallel_params.tensor.ops.adaptive_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
)
from parallel_params.tensor.ops.arithmetic import (
    add,
    clip_by_value,
    div,
    floor_div,
    maximum,
    minimum,
    mod,
    mul,
    neg,
    sub,
)
from parallel_params.tensor.ops.arrange import flip, pad, repeat_interleave, tile
from parallel_params.tensor.ops.attention import scaled_dot_product_attention
from parallel_params.tensor.ops.batch_norm import batch_norm
from parallel_params.tensor.ops.compare import (
    equal,
    greater,
    greater_equal,
    invert,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    masked_fill,
    not_equal,
    where,
)
from parallel_params.tensor.ops.conv import conv1d, conv2d
from parallel_params.tensor.ops.convert import (
    assign,
    astype,
    copy,
    stop_gradient,
)
from parallel_params.tensor.ops.create import (
    arange,
    eye,
    full,
    full_like,
    one_hot,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from parallel_params.tensor.ops.dropout import dropout
from parallel_params.tensor.ops.elementwise import (
    abs,
    ceil,
    cos,
    erf,
    exp,
    floor,
    log,
    pow,
    reciprocal,
    round,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
)
from parallel_params.tensor.ops.embedding import embedding
from parallel_params.tensor.ops.extreme import (
    amax,
    amin,
    argmax,
    argmin,
    max,
    min,
    std,
    var,
)
from parallel_params.tensor.ops.gated import swiglu
from parallel_params.tensor.ops.group_norm import group_norm
from parallel_params.tensor.ops.indexing import (
    gather,
    gather_elements,
)
from parallel_params.tensor.ops.join import (
    concat,
    split,
    stack,
    unstack,
)
from parallel_params.tensor.ops.linear_loss import linear_cross_entropy
from parallel_params.tensor.ops.loss import (
    cross_entropy,
    mse_loss,
)
from parallel_params.tensor.ops.matmul import (
    bmm,
    linear,
    matmul,
)
from parallel_params.tensor.ops.norm import (
    layer_norm,
    rms_norm,
)
from parallel_params.tensor.ops.pool import (
    avg_pool1d,
    avg_pool2d,
    max_pool1d,
    max_pool2d,
)
from parallel_params.tensor.ops.rectifiers import (
    elu,
    hardswish,
    leaky_relu,
    mish,
)
from parallel_params.tensor.ops.reduction import (
    mean,
    sum,
)
from parallel_params.tensor.ops.rotary import rotary
from parallel_params.tensor.ops.shape import (
    broadcast_to,
    expand_dims,
    flatten,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from parallel_params.tensor.ops.softmax import (
    log_softmax,
    softmax,
)
from parallel_params.tensor.ops.sums import cumsum, logsumexp, norm
from parallel_params.tensor.ops.topk import topk

__all__ = [
    "add",
    "sub",
    "mul",
    "div",
    "floor_div",
    "mod",
    "neg",
    "maximum",
    "minimum",
    "clip_by_value",
    "erf",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "square",
    "sin",
    "cos",
    "abs",
    "sign",
    "floor",
    "ceil",
    "round",
    "pow",
    "relu",
    "tanh",
    "sigmoid",
    "gelu",
    "silu",
    "softplus",
    "leaky_relu",
    "elu",
    "hardswish",
    "mish",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "invert",
    "isnan",
    "isinf",
    "isfinite",
    "where",
    "matmul",
    "linear",
    "sum",
    "mean",
    "amax",
    "amin",
    "max",
    "min",
    "argmax",
    "argmin",
    "topk",
    "var",
    "std",
    "reshape",
    "transpose",
    "swapaxes",
    "broadcast_to",
    "expand_dims",
    "squeeze",
    "flatten",
    "pad",
    "tile",
    "repeat_interleave",
    "flip",
    "masked_fill",
    "cumsum",
    "logsumexp",
    "norm",
    "bmm",
    "concat",
    "stack",
    "split",
    "unstack",
    "gather",
    "gather_elements",
    "embedding",
    "dropout",
    "scaled_dot_product_attention",
    "rotary",
    "swiglu",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "conv1d",
    "conv2d",
    "max_pool1d",
    "max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "batch_norm",
    "softmax",
    "log_softmax",
    "cross_entropy",
    "linear_cross_entropy",
    "mse_loss",
    "zeros",
    "ones",
    "full",
    "zeros_like",
    "ones_like",
    "full_like",
    "arange",
    "eye",
    "one_hot",
    "astype",
    "copy",
    "stop_gradient",
    "assign",
    "value_and_grad",
    "grad",
    "get_grad",
    "GradOperation",
]
