"""What the cells of a job send along an axis in one step, before anything is sent.

One grain is rehearsed on one rank: shapes decide what is sent, and the same code that
will send it is run. That makes this rank's weights and one grain's activations.
"""

import numpy as np

from parallel_params.nn.parallel.rehearsal import rehearse
from parallel_params.plan.along import AxisTraffic
from parallel_params.plan.grains import resolve_grains
from parallel_params.plan.mesh import Mesh
from parallel_params.tensor.grad import value_and_grad
from parallel_params.tensor.tensor import Tensor
from parallel_params.train.build import build
from parallel_params.train.config.job import Job
from parallel_params.train.data.batches import Batches
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.data.sampler import Share
from parallel_params.train.losses import loss_of
from parallel_params.train.meshes import cut_axis_of


def rehearse_axis(
    job: Job, dataset: Dataset, mesh: Mesh, rank: int = 0
) -> AxisTraffic | None:
    """Rehearse a step of a job as one rank; None if nothing is cut along an axis.

    Args:
        job: what would be trained.
        dataset: what it learns from.
        mesh: of the world.
        rank: of it.
    """
    name = cut_axis_of(job, mesh)
    if name is None or mesh.group_size((name,)) == 1:
        return None
    axis, heard = rehearse(mesh, name, rank)
    trainee = build(job, dataset, axis)
    net = trainee.net
    share = Share(index=mesh.share_index(rank), count=mesh.num_shares)
    x, y = Batches(job, dataset, share).at(0)
    num_grains = resolve_grains(mesh, trainee.policy) // mesh.num_shares
    grain = len(x) // num_grains
    first, answers = Tensor(x[:grain]), Tensor(y[:grain])
    net.set_train(True)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return loss_of(net, trainee.task.loss, x, y)

    # Zeros in the place of what others would have sent: the values mean nothing.
    with np.errstate(all="ignore"), axis.guard():
        value_and_grad(loss, None, net.trainable_params())(first, answers)
    return heard.traffic(num_grains * job.train.accumulate)
