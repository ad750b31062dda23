"""Who takes part in `step` and `memory`, and worlds of them."""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import typer

from benchmarks.worlds import Contestant, ContestantFailed, World

MLP = "784,2048,2048,2048,10"
MODEL_HELP = "tiny, mlp, gpt, convnet, or widths of the layers of an MLP."
REFERENCE = "torch-ddp"
LEVELS = ("0", "1", "2", "3")
TORCH = ("fused", "default", "ddp", "ddp-default", "ddp-zero", "fsdp2", "fsdp2-keep")
DEFAULT = (
    "level-1,level-2,level-3,level-1-messages,torch-ddp,torch-ddp-zero,torch-fsdp2"
)
NAMES_HELP = (
    "Of level-0 to level-3, each also with -messages, -fast and -numba, and of "
    f"{', '.join(f'torch-{kind}' for kind in TORCH)}."
)


def numbers_of(text: str) -> tuple[int, ...]:
    """Read a comma-separated list of whole numbers."""
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of whole numbers") from None


def contestants(
    names: str, *, model: str, batch_sizes: Sequence[int]
) -> list[Contestant]:
    """Read the names of contestants; those of torch are left out where it is not."""
    has_torch = importlib.util.find_spec("torch") is not None
    chosen = []
    for name in names.split(","):
        contestant = _contestant(name)
        if contestant.is_torch and not has_torch:
            print(f"{name}: PyTorch is not installed here")
            continue
        arguments = {
            "model": model,
            "batch_sizes": list(batch_sizes),
            **contestant.arguments,
        }
        chosen.append(dataclasses.replace(contestant, arguments=arguments))
    return chosen


def _contestant(name: str) -> Contestant:
    kind = name.removeprefix("torch-")
    if kind != name and kind in TORCH:
        return Contestant(
            name=name,
            target="benchmarks.torch_rank:Torch",
            arguments={"kind": kind},
            is_torch=True,
        )
    level, *options = name.removeprefix("level-").split("-")
    fields: Mapping[str, Mapping[str, object]] = {
        "messages": {"transport": "messages"},
        "fast": {"reduction": "fast"},
    }
    is_ours = name.startswith("level-") and level in LEVELS
    if not is_ours or not set(options) <= {*fields, "numba"}:
        raise typer.BadParameter(f"{name!r} is no contestant. {NAMES_HELP}")
    policy: dict[str, object] = {"level": int(level)}
    for option in options:
        policy |= fields.get(option, {})
    kernels = "fast" if "numba" in options else "numpy"
    return Contestant(
        name=name,
        target="benchmarks.ours:Ours",
        arguments={"policy": policy, "kernels": kernels},
    )


@contextmanager
def started(
    chosen: Sequence[Contestant], *, num_ranks: int
) -> Iterator[dict[str, World]]:
    """Start a world of each contestant; say of those that cannot why, and go on.

    All of them keep the memory that they free, as jobs of this package do: it is the
    arithmetic that is compared, not how often a library goes to the system.
    """
    with ExitStack() as stack:
        worlds: dict[str, World] = {}
        for contestant in chosen:
            world = _start_or_say(contestant, num_ranks)
            if world is not None:
                worlds[contestant.name] = stack.enter_context(world)
                world.ask(bool, "keep_memory")
        yield worlds


def _start_or_say(contestant: Contestant, num_ranks: int) -> World | None:
    try:
        return World(contestant, num_ranks=num_ranks)
    except ContestantFailed as failure:
        print(f"{failure}\n")
        return None
