"""What a run ran on: versions, BLAS kernels, MPI, hosts. Goes into `env.json`.

Looks at the machine and at installed packages, never at environment variables.
"""

import dataclasses
import os
import platform
import socket
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from zlib import crc32

import numpy as np
from threadpoolctl import threadpool_info

from parallel_params.comm.protocol import Communicator
from parallel_params.plan.plan import Plan
from parallel_params.tensor.kernel_set import kernel_set

_CHECKOUT = Path(__file__).parents[2]


def package_version() -> str:
    """Give the version of this package."""
    return metadata.version("parallel-params")


def describe_environment(comm: Communicator) -> dict[str, object]:
    """Collect what may decide a run's numbers and speed, as plain JSON values.

    Collective: every rank; each adds its host name.
    """
    hosts = host_names(comm)
    return {
        "parallel_params": package_version(),
        "git_commit": git_commit(_CHECKOUT),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "blas": blas_libraries(),
        "kernels": dataclasses.asdict(kernel_set()),
        "num_cores": os.cpu_count(),
        "communicator": comm.description,
        "num_ranks": comm.size,
        "num_nodes": len(set(hosts)),
        "hosts": hosts,
    }


def bit_facts(plan: Plan) -> dict[str, object]:
    """Collect what has to stay equal for a run to end with the same bits.

    World size, level and transport are among them only where the plan promises nothing
    about them. To be asked while BLAS has the run's threads.

    Args:
        plan: what is executed.
    """
    policy = plan.policy
    facts: dict[str, object] = {
        "package": package_version(),
        "numpy": np.__version__,
        "blas": blas_libraries(),
        "kernels": _own_kernels(),
        "reduction": policy.reduction,
        "grains": plan.grains,
        "wire_dtype": policy.wire_dtype,
        "master_weights": policy.master_weights,
    }
    if any(plan.group_size(bucket) < plan.mesh.size for bucket in plan.buckets):
        # Slices have products of other shapes on another mesh.
        mesh = plan.mesh
        facts["mesh"] = dict(zip(mesh.axes, mesh.sizes, strict=True))
    if _has_sums(plan):
        facts["sums_over_parameters"] = _leaves_of(plan)
    if not plan.is_same_bits_everywhere:
        facts["num_ranks"] = plan.mesh.size
        facts["ranks_per_node"] = plan.mesh.ranks_per_node
        facts["transport"] = policy.transport
    return facts


def _has_sums(plan: Plan) -> bool:
    """Tell whether a step adds up over whole parameters: for norms, or for a rule."""
    clip = plan.policy.clip
    has_norms = clip is not None and clip.norm is not None
    return has_norms or any(bucket.rounds for bucket in plan.buckets)


def _leaves_of(plan: Plan) -> str:
    """Name where such sums are cut: it follows the alignment and the packing."""
    alignment = plan.policy.alignment
    offsets = [plan.extent_of(spec.name).interval.start for spec in plan.params]
    places = ",".join(str(offset % alignment) for offset in offsets)
    return f"cut at multiples of {alignment}, packed as {crc32(places.encode()):08x}"


def different_facts(
    recorded: Mapping[str, object], now: Mapping[str, object]
) -> list[str]:
    """Say what differs between two `bit_facts`, one line per fact.

    Args:
        recorded: as read back from `env.json`.
        now: of the run at hand.

    Returns:
        Lines such as `numpy: was 2.3.1, is 2.4.6`; none if all bits can be the same.
    """
    before, after = _flat(recorded), _flat(now)
    return [
        f"{name.replace('_', ' ')}: was {before.get(name, 'not recorded')}, "
        f"is {after.get(name, 'not there')}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _flat(facts: Mapping[str, object]) -> dict[str, str]:
    """Give every single fact a name: `blas 0 kernels`."""
    flat: dict[str, str] = {}
    for name, value in facts.items():
        inner: Mapping[str, object] = {}
        if isinstance(value, Mapping):
            inner = value
        elif isinstance(value, list):
            inner = {str(index): member for index, member in enumerate(value)}
        else:
            flat[name] = "none" if value is None else str(value)
        flat.update({f"{name} {key}": text for key, text in _flat(inner).items()})
    return flat


def _own_kernels() -> dict[str, object]:
    """Name what computes beside BLAS: NumPy's loops follow the processor."""
    found: object = np.show_config(mode="dicts")
    simd = found.get("SIMD Extensions", {}) if isinstance(found, dict) else {}
    chosen = kernel_set()
    facts: dict[str, object] = {"set": chosen.name}
    if chosen.compiler:
        facts["compiler"] = chosen.compiler
    return {**facts, "simd": " ".join(simd.get("found", []))}


def blas_libraries() -> list[dict[str, object]]:
    """List the loaded BLAS libraries: version, kernels, threads."""
    return [
        {
            "library": pool["internal_api"],
            "version": pool["version"],
            "kernels": pool.get("architecture"),
            "num_threads": pool["num_threads"],
        }
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]


def git_commit(checkout: Path) -> str | None:
    """Read the commit of a checkout from its files; None if it is none.

    No git is started: a process under MPI had better not fork.
    """
    try:
        head = (checkout / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = checkout / ".git" / name
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        packed = (checkout / ".git" / "packed-refs").read_text(encoding="utf-8")
    except OSError:
        return None
    lines = (line.split() for line in packed.splitlines())
    return next((words[0] for words in lines if words[1:] == [name]), None)


def host_names(comm: Communicator) -> list[str]:
    """Return the host of every rank.

    Collective: every rank.
    """
    own = socket.gethostname().encode()
    return [name.decode() for name in comm.all_gather_bytes(own)]
