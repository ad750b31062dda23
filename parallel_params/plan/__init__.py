"""The plan: pure arithmetic of who holds what. No MPI, no arrays, no rank.

Reads: `interval` -> `policy` -> `mesh` -> `lattice` -> `spec` -> `bucket` -> `pack` ->
`place` -> `layout` -> `plan`, each using only those before it; `pieces`, `transfer`,
`moves`, `cost`, `codec`, `describe` and `explain` read finished plans.
"""

from parallel_params.plan.announce import Collective, Purpose
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.codec import decode, dumps, encode, loads
from parallel_params.plan.cost import Machine, estimate
from parallel_params.plan.guards import Clip, LossScale
from parallel_params.plan.interval import Interval, even_split
from parallel_params.plan.lattice import Lattice
from parallel_params.plan.memory import RankBytes
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.moves import Moves, find_moves
from parallel_params.plan.pieces import Piece
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Kind, Level, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.plan.transfer import Transfer, transfer

__all__ = [
    "Bucket",
    "Clip",
    "Collective",
    "Extent",
    "Interval",
    "Kind",
    "Lattice",
    "Level",
    "LossScale",
    "Machine",
    "Mesh",
    "Moves",
    "ParamSpec",
    "Piece",
    "Plan",
    "Policy",
    "Purpose",
    "RankBytes",
    "Transfer",
    "decode",
    "dumps",
    "encode",
    "estimate",
    "even_split",
    "find_moves",
    "loads",
    "make_plan",
    "transfer",
]
