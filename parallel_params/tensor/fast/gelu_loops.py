"""The compiled loop of the GELU in the form with tanh."""

import numpy as np

from parallel_params.tensor.fast.compiler import compiled, inlined
from parallel_params.tensor.fast.exponential import bounded, parts, power
from parallel_params.tensor.tape import Array


@inlined
def _one_and_power(
    row: Array, bias: Array, constants: Array, out: Array, scratch: Array
) -> None:
    """Add the bias to a row, and write 1 + exp(-2 u) into `out`.

    In three loops, see `exponential`.
    """
    one = row.dtype.type(1)
    a, cubic = constants[0], constants[1]
    for j in range(row.size):
        y = row[j] + bias[j]
        row[j] = y
        out[j] = bounded((y * y * cubic + a) * y)
    for j in range(row.size):
        out[j], scratch[j] = parts(out[j])
    for j in range(row.size):
        out[j] = one + power(out[j], scratch[j])


@compiled("void(T[:, ::1], T[::1], T[:, ::1], boolean, T[::1])")
def bias_gelu(
    x: Array, bias: Array, slope: Array, has_slope: bool, constants: Array
) -> None:
    """Take gelu(x + bias) in the tanh form in place, and write its derivative.

    In place only: were there another array for the result, it could overlap with x, and
    then the compiled loop would go element by element.

    Args:
        x: [rows, width].
        bias: [width].
        slope: [rows, width] receives the derivative.
        has_slope: whether it does.
        constants: [4], for -2 u = constants[0] y + constants[1] y^3 and, of 2 u, the
            derivative constants[2] + constants[3] y^2.
    """
    one, width = x.dtype.type(1), x.shape[1]
    a, cubic = constants[2], constants[3]
    scratch, divisor = np.empty(width, x.dtype), np.empty(width, x.dtype)
    for i in range(x.shape[0]):
        row = x[i]
        if not has_slope:
            _one_and_power(row, bias, constants, divisor, scratch)
            for j in range(width):
                row[j] = row[j] * (one / divisor[j])
            continue
        derivative = slope[i]
        _one_and_power(row, bias, constants, divisor, derivative)
        for j in range(width):
            y = row[j]
            share = one / divisor[j]  # (1 + tanh(u)) / 2
            steep = (y * y * cubic + a) * y
            derivative[j] = steep * share * (one - share) + share
            row[j] = y * share
