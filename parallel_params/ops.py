"""Every operator, under MindSpore's names: `from parallel_params import ops`."""

from parallel_params.tensor.ops.activation import gelu, relu, sigmoid, tanh
from parallel_params.tensor.ops.arithmetic import add, div, mul, neg, sub
from parallel_params.tensor.ops.convert import stop_gradient
from parallel_params.tensor.ops.loss import cross_entropy, mse_loss
from parallel_params.tensor.ops.matmul import linear, matmul
from parallel_params.tensor.ops.reduction import mean, sum
from parallel_params.tensor.ops.shape import (
    broadcast_to,
    expand_dims,
    flatten,
    reshape,
    squeeze,
    swapaxes,
    transpose,
)
from parallel_params.tensor.ops.softmax import log_softmax, softmax
