"""A rank that trains a network with PyTorch: alone, DDP, its ZeRO optimizer, FSDP2.

Processes that talk through gloo over 127.0.0.1, one thread each, fused AdamW unless the
name says otherwise. DDP keeps gradients as views of its buckets, which is its fastest
and smallest way.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from benchmarks import torch_models
from benchmarks.messages import Built, Place, Ran, Usage
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
from parallel_params.tensor.allocator import keep_freed_memory

Made = tuple[torch.nn.Module, torch.optim.Optimizer]


def _adamw(net: torch.nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        net.parameters(), LEARNING_RATE, eps=EPS, weight_decay=WEIGHT_DECAY, fused=fused
    )


def _plain(net: torch.nn.Module, *, fused: bool = True) -> Made:
    return net, _adamw(net, fused=fused)


def _plain_default(net: torch.nn.Module) -> Made:
    return _plain(net, fused=False)


def _ddp(net: torch.nn.Module, *, fused: bool = True) -> Made:
    net = DistributedDataParallel(net, gradient_as_bucket_view=True)
    return net, _adamw(net, fused=fused)


def _ddp_default(net: torch.nn.Module) -> Made:
    return _ddp(net, fused=False)


def _ddp_zero(net: torch.nn.Module) -> Made:
    net = DistributedDataParallel(net, gradient_as_bucket_view=True)
    return net, ZeroRedundancyOptimizer(
        net.parameters(),
        optimizer_class=torch.optim.AdamW,
        lr=LEARNING_RATE,
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        fused=True,
    )


def _fsdp2(net: torch.nn.Module, *, reshard: bool = True) -> Made:
    for layer in torch_models.layers_of(net):
        fully_shard(layer, reshard_after_forward=reshard)
    fully_shard(net, reshard_after_forward=reshard)
    return net, _adamw(net, fused=True)


def _fsdp2_keep(net: torch.nn.Module) -> Made:
    return _fsdp2(net, reshard=False)


KINDS: Mapping[str, Callable[[torch.nn.Module], Made]] = {
    "fused": _plain,
    "default": _plain_default,
    "ddp": _ddp,
    "ddp-default": _ddp_default,
    "ddp-zero": _ddp_zero,
    "fsdp2": _fsdp2,
    "fsdp2-keep": _fsdp2_keep,
}


class Torch:
    """PyTorch on one rank.

    Args:
        place: where the other ranks are.
        model: name of the network, see `models`.
        batch_sizes: what `run` will be asked for.
        kind: one of `KINDS`.
    """

    def __init__(
        self,
        place: Place,
        *,
        model: str,
        batch_sizes: Sequence[int],
        kind: str,
    ) -> None:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo",
            init_method=place.store,
            rank=place.rank,
            world_size=place.num_ranks,
        )
        self.rank, self._kind, self._model = place.rank, kind, model_of(model)
        self._batches = {
            size: [
                (torch.from_numpy(inputs), torch.from_numpy(labels))
                for inputs, labels in batches(self._model, rank=self.rank, batch=size)
            ]
            for size in batch_sizes
        }
        # What MKL and gloo allocate at first use is not the model's.
        square = torch.ones(256, 256, requires_grad=True)
        (square @ square).sum().backward()
        dist.all_reduce(torch.ones(1))

    def environment(self) -> str:
        """Name what the figures depend on."""
        lines = torch.__config__.show().splitlines()
        names = [line.strip(" -") for line in lines]
        blas = [name for name in names if "Math Kernel Library" in name]
        return (
            f"torch {torch.__version__}, {'; '.join(blas) or 'no MKL'}, "
            f"own kernels {torch.backends.cpu.get_cpu_capability()}, "
            f"{torch.get_num_threads()} thread, {dist.get_backend()}"
        )

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
        square = torch.ones(1024, 1024)
        out = torch.empty_like(square)
        with torch.no_grad():
            return fastest_gflops(
                lambda: torch.mm(square, square, out=out), 2 * 1024**3
            )

    def build(self) -> Built:
        """Make the model and its optimizer."""
        forget_peak()
        net = torch_models.build(self._model)
        start = (parameter.detach().numpy() for parameter in net.parameters())
        fill_start(start, self._model)
        num_elements = sum(parameter.numel() for parameter in net.parameters())
        self._net, self._optimizer = KINDS[self._kind](net)
        return Built(num_elements=num_elements)

    def run(self, first: int, number: int, batch: int) -> Ran:
        """Take steps; the loss is that of this rank's share."""
        net, optimizer, shares = self._net, self._optimizer, self._batches[batch]

        def step(index: int) -> float:
            inputs, labels = shares[index % len(shares)]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(inputs), labels.view(-1))
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return run_steps(step, first, number)

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()
