"""The state of an optimizer that steps alone: Parameters beside those of the model.

A managed optimizer has none of these; its state lies flat in arenas.
"""

import numpy as np

from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.optim.rule import state_dtype
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor


def state_name(slot: str, parameter: Parameter) -> str:
    """Return the name of a parameter's state: `moment1.0.weight`."""
    return f"{slot}.{parameter.name}"


def allocate(slot: str, parameters: ParameterTuple) -> ParameterTuple:
    """Return zeros for every parameter, with its shape and its flags.

    The element type is the one that rules compute in, which for float16 and bfloat16
    weights is float32.
    """
    members = []
    for p in parameters:
        zeros = np.zeros(p.shape, state_dtype(p.dtype.numpy))
        twin = Parameter(
            Tensor.wrap(zeros),
            state_name(slot, p),
            requires_grad=p.requires_grad,
            layerwise_parallel=p.layerwise_parallel,
            parallel_optimizer=p.parallel_optimizer,
        )
        twin.comm_fusion = p.comm_fusion
        members.append(twin)
    return ParameterTuple(members)


def flat(array: Array) -> Array:
    """Return the elements in C order: a view where the memory allows, else a copy."""
    return array.reshape(-1)
