"""A rank that trains a network with this package, at one level of sharding."""

import os
from collections.abc import Sequence

import numpy as np

import parallel_params as pp
from benchmarks import our_models
from benchmarks.measure import environment
from benchmarks.messages import Built, Ran, Usage
from benchmarks.models import (
    EPS,
    LEARNING_RATE,
    WEIGHT_DECAY,
    batches,
    fill_start,
    model_of,
)
from benchmarks.rank_steps import (
    fastest_gflops,
    forget_peak,
    memory,
    run_steps,
    trim_heap,
)
from parallel_params import optim
from parallel_params.tensor.allocator import keep_freed_memory

SQUARE = 1024  # sides of the matrices whose product shows what BLAS can do


class Ours:
    """This package on one rank.

    Args:
        model: name of the network, see `models`.
        batch_sizes: what `run` will be asked for.
        policy: fields of `Policy`.
        kernels: the set that computes.
    """

    def __init__(
        self,
        *,
        model: str,
        batch_sizes: Sequence[int],
        policy: dict[str, object],
        kernels: str = "numpy",
    ) -> None:
        self._comm = pp.init()
        self.rank = self._comm.rank
        pp.set_kernels(kernels)  # type: ignore[arg-type]  # refused if it is none
        self._model = model_of(model)
        self._policy = policy
        self._batches = {
            size: batches(self._model, rank=self.rank, batch=size)
            for size in batch_sizes
        }
        # What BLAS allocates at its first product is not the model's.
        square = np.ones((256, 256), np.float32)
        np.matmul(square, square)
        self._comm.barrier()

    def environment(self) -> str:
        """Name what the figures depend on."""
        return f"{self._comm.description}, {environment()}, kernels {pp.kernel_set()}"

    def pid(self) -> int:
        """Return the process this rank is."""
        return os.getpid()

    def trim(self) -> bool:
        """Give freed memory back to the system."""
        return trim_heap()

    def keep_memory(self) -> bool:
        """Keep what is freed, as a job does; for all sides alike."""
        return keep_freed_memory()

    def memory(self) -> Usage:
        """Say what this process has in memory."""
        return memory()

    def gflops(self) -> float:
        """Measure what BLAS can do."""
        square = np.ones((SQUARE, SQUARE), np.float32)
        out = np.empty_like(square)
        return fastest_gflops(lambda: np.matmul(square, square, out=out), 2 * SQUARE**3)

    def build(self) -> Built:
        """Make the model, its optimizer and the manager."""
        forget_peak()
        net, self._loss = our_models.build(self._model)
        parameters = net.trainable_params()
        fill_start((parameter.asnumpy() for parameter in parameters), self._model)
        optimizer = optim.AdamW(
            parameters, LEARNING_RATE, eps=EPS, weight_decay=WEIGHT_DECAY
        )
        policy = pp.Policy(**self._policy)  # type: ignore[arg-type]  # fields by name
        self._manager = pp.ParameterManager(
            net, optimizer, policy=policy, comm=self._comm
        )
        plan = self._manager.plan
        return Built(
            num_elements=sum(spec.numel for spec in plan.params),
            planned_bytes=plan.bytes_per_rank(self.rank).total,
            largest_bucket_bytes=max(bucket.weight_bytes for bucket in plan.buckets),
        )

    def run(self, first: int, number: int, batch: int) -> Ran:
        """Take steps; the loss is that of all ranks."""
        loss, manager, shares = self._loss, self._manager, self._batches[batch]

        def step(index: int) -> float:
            return float(manager.step(loss, *shares[index % len(shares)]))

        return run_steps(step, first, number)

    def close(self) -> None:
        """Give back what the manager holds."""
        if hasattr(self, "_manager"):
            self._manager.close()
