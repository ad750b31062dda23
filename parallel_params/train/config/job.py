"""What a job is: one frozen dataclass per table of the job file.

The docstring below a field is its description everywhere: in the JSON schema, in
`pparams config keys` and in an editor. Nothing here reads files or compares fields with
each other; `load` does the one, `rules` the other.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from parallel_params.train.config.data import Data
from parallel_params.train.config.limits import (
    STRICT,
    Axes,
    Count,
    Seed,
    SlicePolicy,
    Text,
    Whole,
)
from parallel_params.train.config.loss import BY_TASK, Loss
from parallel_params.train.config.models import Model
from parallel_params.train.config.optim import Optim
from parallel_params.train.config.outer import EVERY_STEP, Outer
from parallel_params.train.config.sizes import MemoryLimit, NumBytes, PositiveNumBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagOverride:
    """Flags and level of parameters, said from outside of the model."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    match: Text
    """Names of the parameters it is for, as in `0.*` or `*.bias`."""
    parallel_optimizer: bool | None = None
    """May the ranks share the work on its optimizer state."""
    layerwise_parallel: bool | None = None
    """Is it each rank's own, neither broadcast nor reduced."""
    comm_fusion: Whole | None = None
    """Parameters of one number travel together; 0 travels alone."""
    level: Literal[0, 1, 2, 3] | None = None
    """Another level than parallel.level for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How weights, gradients and optimizer state lie on the ranks."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    mesh: Axes | None = None
    """Axes of the world and their ranks, one may be 0: what is left; none: data."""
    layerwise_axis: Text | None = None
    """Along which axis layerwise-parallel parameters differ; by default the model's."""
    level: Literal[0, 1, 2, 3] = 1
    """0 nothing is sharded, 1 optimizer state, 2 also gradients, 3 also weights."""
    bucket: PositiveNumBytes = 4 * 2**20
    """Bytes that travel in one collective, like "1 MiB"."""
    shard_threshold: NumBytes = 64 * 2**10
    """Parameters below this stay whole on every rank, like "64 KiB"."""
    grains: Count | None = None
    """Equal slices of the batch, summed in a fixed tree; by default one per rank."""
    reduction: Literal["canonical", "fast"] = "canonical"
    """canonical: the same bits on 1, 2, 4 ... ranks; fast: on a fixed number only."""
    blas_threads: Whole = 1
    """BLAS threads of a rank (they change bits); 0 leaves the library's own choice."""
    kernels: Literal["numpy", "fast", "auto"] = "numpy"
    """Loops beside BLAS (they change bits); fast needs parallel-params[fast]."""
    keep_memory: bool = True
    """Keep the memory of freed arrays for the next step, where glibc is."""
    transport: Literal["auto", "window", "messages"] = "auto"
    """Ranks of a node share memory (window) or not; auto: if it can be had."""
    wire_dtype: Literal["bfloat16", "float16"] | None = None
    """What gradients are rounded to between nodes; gives up the same bits."""
    master_weights: bool = True
    """Do 16-bit parameters keep a float32 weight, which is what is moved."""
    memory_limit: MemoryLimit | None = None
    """What one rank may hold, like "1 GiB"; by default what is free; or "unlimited"."""
    override: tuple[FlagOverride, ...] = ()
    """Flags and levels of parameters, set from outside; a later entry wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """How long to train and how often to look."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    steps: Count | None = None
    """Optimizer steps; either this or `epochs`."""
    epochs: Count | None = None
    """Passes over the training samples; either this or `steps`."""
    eval_every: Count = 100
    """Steps between two looks at the test samples; the last step always looks."""
    accumulate: Count = 1
    """Parts a batch is taken in, one after the other, before its step."""
    patience: Count | None = None
    """Looks without a better test score after which the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """When a run saves what it can go on from."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    every: Count | None = None
    """Steps between two checkpoints; by default one is saved on a signal alone."""
    keep: Count = 3
    """How many of the newest stay."""
    keep_best: bool = True
    """Does the one with the best test score stay as well."""
    background: bool = False
    """Write from a copy while training goes on; the copy takes memory."""
    layout: Literal["one", "shards"] = "one"
    """one: files that all ranks write into; shards: one per rank, as PyTorch's DCP."""
    way: Literal["system", "mpi"] = "system"
    """mpi: layout one is written by MPI-IO; not in the background, nor by threads."""
    folder: Text | None = None
    """Where they are; by default checkpoints in the run folder. One run at a time."""
    other_bits: Literal["warn", "refuse"] = "warn"
    """What to do if versions, kernels or reduction have changed since the save."""
    layerwise: SlicePolicy = "fail"
    """For ranks' own parameters, now more or fewer: fail, from_rank:K, mean, by_key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a run says while it runs."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    every: Count = 50
    """Steps between two lines of progress and of metrics.jsonl."""
    progress: Literal["auto", "bar", "plain", "off"] = "auto"
    """auto: a bar on a terminal, else plain lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where a run leaves what it made."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    folder: Text | None = None
    """Folder of the run, must not exist; by default runs/<name>/<time of start>."""
    name: Text | None = None
    """Name in runs/<name>; by default that of the job file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One complete training run of parallel_params."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: str = ""
    """What the run is about, in a few words."""
    seed: Seed = 0
    """Decides first weights and order of samples, for any number of ranks."""
    data: Data
    """What to learn from."""
    model: Model
    """What learns."""
    optim: Optim
    """How it learns."""
    loss: Loss = BY_TASK
    """What is made small."""
    parallel: Parallel = Parallel()
    """How weights, gradients and optimizer state lie on the ranks."""
    outer: Outer = EVERY_STEP
    """LocalSGD and DiLoCo: workers train by themselves and meet every so often."""
    train: Train
    """How long to train and how often to look."""
    checkpoint: Checkpoint = Checkpoint()
    """When a run saves what it can go on from."""
    log: Log = Log()
    """What a run says while it runs."""
    run: Run = Run()
    """Where a run leaves what it made."""
