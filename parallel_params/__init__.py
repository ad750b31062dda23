"""Parameters sharded over MPI ranks, the way each `Parameter` says.

The public surface begins on this page; `nn`, `ops`, `optim` and `plan` hold the rest.
Importing it loads NumPy alone.
"""

from importlib import metadata as _metadata

from parallel_params import debug, errors, nn, ops, optim, outer, plan
from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.ckpt_loading import load_checkpoint
from parallel_params.checkpoint.ckpt_saving import save_checkpoint
from parallel_params.checkpoint.into_net import load_param_into_net
from parallel_params.comm.local import run_threads
from parallel_params.comm.world import init
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter, ParameterTuple
from parallel_params.outer.loop import OuterLoop
from parallel_params.plan import Level, Mesh, ParamSpec, Plan, Policy, make_plan
from parallel_params.tensor import (
    DType,
    GradOperation,
    Tensor,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    get_grad,
    grad,
    int8,
    int16,
    int32,
    int64,
    no_grad,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
    value_and_grad,
)
from parallel_params.tensor.allocator import keep_freed_memory
from parallel_params.tensor.initializer import initializer
from parallel_params.tensor.kernel_set import kernel_set, set_kernels
from parallel_params.tensor.random import get_seed, set_seed

__version__ = _metadata.version("parallel-params")

__all__ = [
    "ParameterManager",
    "OuterLoop",
    "Checkpointer",
    "save_checkpoint",
    "load_checkpoint",
    "load_param_into_net",
    "Parameter",
    "ParameterTuple",
    "Tensor",
    "nn",
    "ops",
    "optim",
    "outer",
    "plan",
    "debug",
    "errors",
    "init",
    "run_threads",
    "Level",
    "Mesh",
    "ParamSpec",
    "Plan",
    "Policy",
    "make_plan",
    "value_and_grad",
    "grad",
    "get_grad",
    "GradOperation",
    "no_grad",
    "initializer",
    "set_seed",
    "get_seed",
    "kernel_set",
    "keep_freed_memory",
    "set_kernels",
    "DType",
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "string",
]
