"""Hashes of weights: equal hashes mean equal bits.

They tell ranks and runs apart cheaply; they are no signature.
"""

import hashlib
from collections.abc import Mapping

from parallel_params.comm.protocol import Communicator
from parallel_params.nn.parameter import Parameter
from parallel_params.plan.plan import Plan

HASH_BYTES = 16


def weight_hash(parameter: Parameter) -> bytes:
    """Return a hash of the parameter's bytes, 16 bytes long."""
    data = parameter.asnumpy().tobytes()
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def hash_of_all(
    plan: Plan, comm: Communicator, parameters: Mapping[str, Parameter]
) -> str:
    """Return one hash of all weights, the same on all ranks, 32 hex digits.

    Weights that are a rank's own enter with the values of every rank.

    Args:
        plan: says which weights are copies.
        comm: all ranks of the plan.
        parameters: by name, in the order of the plan's.

    Collective: all ranks.
    """
    copies = hashlib.blake2b(digest_size=HASH_BYTES)
    own = hashlib.blake2b(digest_size=HASH_BYTES)
    for name, parameter in parameters.items():
        is_copy = plan.group_size(plan.bucket_of(name)) == comm.size
        target = copies if is_copy else own
        target.update(name.encode() + weight_hash(parameter))
    if all(plan.group_size(bucket) == comm.size for bucket in plan.buckets):
        return copies.hexdigest()
    parts = comm.all_gather_bytes(own.digest())
    return hashlib.blake2b(
        copies.digest() + b"".join(parts), digest_size=HASH_BYTES
    ).hexdigest()
