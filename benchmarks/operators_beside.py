"""The time of a step by family of operators: both sets of kernels, and PyTorch.

Ours are the clocks of `operators`, PyTorch's are its profiler's, which names what it
calls inside; both slow a step down. They take turns, round by round.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from threadpoolctl import threadpool_limits

import parallel_params as pp
from benchmarks.against_torch import INSTALL
from benchmarks.measure import blas_variables, environment
from benchmarks.models import (
    EPS,
    LEARNING_RATE,
    MODELS,
    WEIGHT_DECAY,
    Model,
    batches,
    fill_start,
)
from benchmarks.operators import BACKWARD, FORWARD, PRODUCTS, profile

DENSE, REST = "dense layers, activations", "the rest"
# Parts of names, ours and PyTorch's; the first that fits decides.
FAMILIES: Mapping[str, Sequence[str]] = {
    "attention": ("attention", "aten::cat"),
    "cross-entropy": ("cross_entropy", "log_softmax", "nll_loss"),
    "convolutions": ("conv",),
    "pools": ("pool",),
    "norms": ("norm",),
    "embeddings": ("embedding",),
    DENSE: ("linear", "relu", "gelu", "threshold", "aten::mm", "addmm", "aten::sum"),
    "optimizer": ("adamw", "AdamW"),
}
ROWS = (*FAMILIES, REST)
Seconds = Mapping[str, float]


def family(operator: str) -> str:
    """Return the family of an operator, or the rest."""
    for name, parts in FAMILIES.items():
        if any(part in operator for part in parts):
            return name
    return REST


def ours(model: str, kernels: str, num_steps: int) -> tuple[Seconds, float]:
    """Return seconds of a step by family, and those of a step without clocks."""
    seen = profile(model, kernels=kernels, num_steps=num_steps)
    sums: dict[str, float] = defaultdict(float)
    for (operator, _), row in seen.found.items():
        seconds = row[FORWARD] + row[BACKWARD]
        if operator == "linear_cross_entropy":  # a dense layer as well
            sums[DENSE] += row[PRODUCTS]
            seconds -= row[PRODUCTS]
        sums[family(operator)] += seconds
    sums["optimizer"] += seen.rule
    sums[REST] += seen.rest
    return sums, seen.bare


def theirs(model: Model, num_steps: int) -> tuple[Seconds, float]:
    """Return the same of PyTorch with fused AdamW, as its profiler counts."""
    import torch
    from torch.profiler import ProfilerActivity

    from benchmarks import torch_models
    from benchmarks.rank_steps import run_steps

    torch.set_num_threads(1)
    net = torch_models.build(model)
    fill_start((p.detach().numpy() for p in net.parameters()), model)
    rule = torch.optim.AdamW(
        net.parameters(), LEARNING_RATE, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    shares = [
        (torch.from_numpy(x), torch.from_numpy(y).reshape(-1))
        for x, y in batches(model, rank=0, batch=model.batch)
    ]

    def step(index: int) -> float:
        x, y = shares[index % len(shares)]
        rule.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch's
        rule.step()
        return loss.item()

    run_steps(step, 0, 3)
    bare = statistics.median(run_steps(step, 3, num_steps).seconds)
    sums: dict[str, float] = defaultdict(float)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as found:
        run_steps(step, 0, num_steps)
    for event in found.key_averages():
        sums[family(event.key)] += event.self_cpu_time_total / 1e6 / num_steps
    return sums, bare


def compare(model: Model, *, num_rounds: int, num_steps: int) -> list[str]:
    """Return the lines of a table in milliseconds, medians over the rounds."""
    rounds: dict[str, list[tuple[Seconds, float]]] = defaultdict(list)
    for _ in range(num_rounds):
        for kernels in ("numpy", "fast"):
            rounds[f"`{kernels}`"].append(ours(model.name, kernels, num_steps))
            pp.set_kernels("numpy")
        rounds["PyTorch"].append(theirs(model, num_steps))
    lines = [
        f"**{model.text}**, ms of a step",
        "",
        f"| | {' | '.join(rounds)} |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        cells = [
            statistics.median(sums.get(row, 0.0) for sums, _ in each)
            for each in rounds.values()
        ]
        if any(cells):
            lines.append(f"| {row} | {' | '.join(f'{s * 1e3:.2f}' for s in cells)} |")
    bare = [statistics.median(b for _, b in each) for each in rounds.values()]
    texts = [f"{seconds * 1e3:.2f}" for seconds in bare]
    return [*lines, f"| without clocks | {' | '.join(texts)} |", ""]


def main(
    models: str = typer.Option(",".join(MODELS), help="Which networks, in turn."),
    rounds: int = typer.Option(3, help="Turns of each library."),
    steps: int = typer.Option(5, help="Of each turn; a tiny step counts for 100."),
    write: str = typer.Option("", help="Markdown file for the tables."),
) -> None:
    """Say where the time of a step goes, by family of operators, beside PyTorch."""
    try:
        import torch  # noqa: F401 - before anything is measured
    except ImportError:
        print(INSTALL)
        raise typer.Exit(1) from None
    page = [f"One rank, one thread; {environment()}; {blas_variables()}", ""]
    print(page[0], flush=True)
    with threadpool_limits(1):
        for name in models.split(","):
            if name not in MODELS:
                raise typer.BadParameter(f"{name!r} is none of {', '.join(MODELS)}")
            num_steps = 100 * steps if name == "tiny" else steps
            lines = compare(MODELS[name], num_rounds=rounds, num_steps=num_steps)
            print("\n".join(["", *lines]), flush=True)
            page += lines
    if write:
        Path(write).write_text("\n".join(page), encoding="utf-8")
