"""The compiled loop of the GELU in the form with tanh."""

from parallel_params.tensor.fast.compiler import compiled
from parallel_params.tensor.fast.exponential import exp
from parallel_params.tensor.tape import Array


@compiled("void(T[:, ::1], T[::1], T[:, ::1], boolean, T[::1])")
def bias_gelu(
    x: Array, bias: Array, slope: Array, has_slope: bool, constants: Array
) -> None:
    """Take gelu(x + bias) in the tanh form in place, and write its derivative.

    In place only: were there another array for the result, it could overlap with x, and
    then the compiled loop would go element by element.
    """
    one = x.dtype.type(1)
    a, cubic = constants[0], constants[1]  # of 2 u = a y + cubic y^3
    for i in range(x.shape[0]):
        row = x[i]
        if not has_slope:
            for j in range(row.size):
                y = row[j] + bias[j]
                row[j] = y * (one / (one + exp(-((y * y * cubic + a) * y))))
            continue
        derivative = slope[i]
        for j in range(row.size):
            y = row[j] + bias[j]
            square = y * y * cubic
            share = one / (one + exp(-((square + a) * y)))  # (1 + tanh(u)) / 2
            steep = (square + square + square + a) * y
            derivative[j] = steep * share * (one - share) + share
            row[j] = y * share
