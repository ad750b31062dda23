"""What importing the package costs: NumPy, and nothing that a step does not need."""

import subprocess
import sys

import pytest

# Each belongs to one floor or one moment: MPI to a world, the others to the command
# line, the config, checkpoints, 16-bit dtypes and compiled kernels.
LAZY = (
    "mpi4py",
    "llvmlite",
    "ml_dtypes",
    "numba",
    "pydantic",
    "rich",
    "safetensors",
    "threadpoolctl",
    "typer",
    "xxhash",
)


@pytest.mark.parametrize("module", ["parallel_params", "parallel_params.nn"])
def test_importing_the_package_loads_numpy_alone(module: str) -> None:
    program = (
        f"import sys; import {module}; import numpy; "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )

    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    loaded = set(answer.stdout.split())
    assert "numpy" in loaded
    assert not loaded & set(LAZY)
