"""Cells whose ranks work together along an axis of a mesh, and what they are made of.

    mesh = pp.Mesh(data=2, model=2)
    with nn.parallel.open_axis(comm, mesh) as axis:
        net = nn.SequentialCell(
            nn.parallel.ColumnParallelDense(64, 256, activation="relu", axis=axis),
            nn.parallel.RowParallelDense(256, 10, axis=axis),
        )

Their weights are slices of those that one rank would have, flagged
`layerwise_parallel`: never broadcast or reduced along the axis.
"""

from parallel_params.nn.parallel.attention import HeadParallelAttention
from parallel_params.nn.parallel.axis import Axis, open_axis
from parallel_params.nn.parallel.cell import AxisCell, axes_of
from parallel_params.nn.parallel.classifier import ShardedClassifier
from parallel_params.nn.parallel.dense import ColumnParallelDense, RowParallelDense
from parallel_params.nn.parallel.experts import Experts
from parallel_params.nn.parallel.passing import (
    enter,
    enter_cut,
    exchange,
    join,
    leave,
    leave_cut,
    scaled,
    sum_cut,
)
from parallel_params.nn.parallel.rehearsal import rehearse_step
from parallel_params.nn.parallel.sequence import (
    SequenceParallelDropout,
    SequenceParallelNorm,
)
from parallel_params.nn.parallel.transformer import (
    ParallelFeedForward,
    ParallelTransformerBlock,
)
from parallel_params.nn.parallel.vocabulary import (
    VocabParallelEmbedding,
    parallel_cross_entropy,
)

__all__ = [
    "Axis",
    "open_axis",
    "AxisCell",
    "axes_of",
    "ColumnParallelDense",
    "RowParallelDense",
    "VocabParallelEmbedding",
    "parallel_cross_entropy",
    "HeadParallelAttention",
    "ParallelFeedForward",
    "ParallelTransformerBlock",
    "SequenceParallelNorm",
    "SequenceParallelDropout",
    "ShardedClassifier",
    "Experts",
    "enter",
    "leave",
    "enter_cut",
    "leave_cut",
    "join",
    "sum_cut",
    "exchange",
    "scaled",
    "rehearse_step",
]
