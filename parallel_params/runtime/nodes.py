"""Which ranks share memory, as the mesh says it: so many neighbours per node.

Reads the world; what follows from it is the plan's business.
"""

import math
from collections.abc import Mapping

from parallel_params.comm.protocol import Communicator
from parallel_params.plan.mesh import Mesh


def ranks_per_node(comm: Communicator) -> int:
    """Return how many consecutive ranks share memory; 1 where nodes are not alike.

    Collective: all ranks.
    """
    if comm.size == 1:
        return 1
    own = ",".join(map(str, comm.node_ranks()))
    nodes = [
        [int(rank) for rank in text.decode().split(",")]
        for text in comm.all_gather_bytes(own.encode())
    ]
    size = len(nodes[0])
    is_regular = all(
        members == list(range(rank - rank % size, rank - rank % size + size))
        for rank, members in enumerate(nodes)
    )
    return size if is_regular else 1


def mesh_on_nodes(mesh: Mesh | None, comm: Communicator) -> Mesh:
    """Return the mesh with the nodes that there really are.

    Smaller nodes than the real ones stay as asked for: they share less, which is right.

    Collective: all ranks.
    """
    real = ranks_per_node(comm)
    if mesh is None:
        return Mesh(data=comm.size, ranks_per_node=real)
    if real % mesh.ranks_per_node == 0 or mesh.size != comm.size:
        return mesh
    axes: Mapping[str, int] = dict(zip(mesh.axes, mesh.sizes, strict=True))
    return Mesh(
        axes,
        ranks_per_node=math.gcd(real, mesh.ranks_per_node),
        layerwise_axis=mesh.layerwise_axis,
        batch_axes=mesh.batch_axes,
    )
