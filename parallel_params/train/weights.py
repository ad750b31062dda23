"""The final weights as one safetensors file that other programs can open."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.plan import Plan


def encode_weights(
    parameters: Iterable[Parameter],
    plan: Plan,
    comm: Communicator,
    *,
    facts: Mapping[str, str],
) -> bytes:
    """Write all weights as a safetensors file.

    A weight that ranks have slices of appears once per slice, as `name@rank3`, by the
    first rank that has it.

    Args:
        parameters: the whole net's.
        plan: says which weights are copies of one another.
        comm: all ranks.
        facts: kept in the file's header.

    Collective: every rank.
    """
    from safetensors.numpy import save

    arrays: dict[str, NDArray[np.generic]] = {}
    for parameter in parameters:
        name, array = parameter.name, np.ascontiguousarray(parameter.asnumpy())
        if plan.group_size(plan.bucket_of(name)) == comm.size:
            arrays[name] = array
            continue
        holders = _first_holders(plan, name)
        contents = comm.all_gather_bytes(array.tobytes())
        for rank in holders:
            content = contents[rank]
            part = np.frombuffer(content, array.dtype).reshape(array.shape)
            arrays[f"{name}@rank{rank}"] = part
    return save(arrays, metadata=dict(facts))


def _first_holders(plan: Plan, name: str) -> list[int]:
    """Return the first rank of every slice of a weight."""
    mesh, axes = plan.mesh, plan.bucket_of(name).axes
    return [r for r in range(mesh.size) if mesh.position(r, axes) == 0]
