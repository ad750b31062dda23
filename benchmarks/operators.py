"""Where the time of a step goes, by operator, forward and backward.

The tape tells: the time from one recorded operation to the next is the forward time of
the second, what it cost to call it included; each derivative is timed where the sweep
calls it. Calls of `np.matmul` and of the optimizer's rule are timed besides. The clocks
cost about two microseconds an operation, so a step of `tiny` is mostly theirs.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import typer
from threadpoolctl import threadpool_limits

import parallel_params as pp
from benchmarks.measure import blas_variables, environment
from benchmarks.models import MODELS, model_of, product_flops
from benchmarks.ours import Ours
from benchmarks.rank_steps import fastest_gflops
from parallel_params.optim.rules.adam import AdamWRule
from parallel_params.tensor import tape

HEAD = "| operator | result | times | forward | backward | in products | share |"
RULE = "|---|---|---|---|---|---|---|"
FORWARD, BACKWARD, PRODUCTS = range(3)


@dataclass(slots=True)
class Clocks:
    """Seconds of one step.

    Attributes:
        by_operator: (operator, shape of its result) -> forward, backward, in products.
        counts: how often each was called.
        rule: of the optimizer.
        current: the row to which products are counted now.
        last: when the last recorded operation was through.
    """

    by_operator: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(lambda: [0.0, 0.0, 0.0])
    )
    counts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    rule: float = 0.0
    products: float = 0.0
    last: float = 0.0

    def start(self) -> None:
        """Begin a step."""
        self.by_operator.clear()
        self.counts.clear()
        self.rule = self.products = 0.0
        self.last = time.perf_counter()

    def take_products(self) -> float:
        """Return the seconds in products since this was last asked."""
        seconds, self.products = self.products, 0.0
        return seconds


def _clocked_record(clocks: Clocks, record: Callable[..., None]) -> Callable[..., None]:
    def recorded(out: Any, inputs: Any, vjp: tape.Vjp, higher: Any = None) -> None:
        operator = vjp.__qualname__.split(".")[0].strip("_")
        key = operator, "x".join(map(str, out._array.shape))
        row = clocks.by_operator[key]
        row[FORWARD] += time.perf_counter() - clocks.last
        row[PRODUCTS] += clocks.take_products()
        clocks.counts[key] += 1

        def timed(g: tape.Array) -> tuple[tape.Array | None, ...]:
            clocks.take_products()
            start = time.perf_counter()
            parts = vjp(g)
            row[BACKWARD] += time.perf_counter() - start
            row[PRODUCTS] += clocks.take_products()
            return parts

        record(out, inputs, timed, higher)
        clocks.last = time.perf_counter()

    return recorded


def _clocked_product(
    clocks: Clocks, matmul: Callable[..., tape.Array]
) -> Callable[..., tape.Array]:
    def product(*args: Any, **kwargs: Any) -> tape.Array:
        start = time.perf_counter()
        out = matmul(*args, **kwargs)
        clocks.products += time.perf_counter() - start
        return out

    return product


def _clocked_rule(clocks: Clocks, update: Callable[..., None]) -> Callable[..., None]:
    def updated(*args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        update(*args, **kwargs)
        clocks.rule += time.perf_counter() - start

    return updated


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Medians over some steps, in seconds.

    Attributes:
        found: (operator, shape of its result) -> forward, backward, in products.
        counts: how often each was called in a step.
        rule: of the optimizer.
        total: of a step.
        bare: of a step without the clocks.
    """

    found: dict[tuple[str, str], list[float]]
    counts: dict[tuple[str, str], int]
    rule: float
    total: float
    bare: float

    @property
    def rest(self) -> float:
        """What no operator and no rule took."""
        spent = sum(row[FORWARD] + row[BACKWARD] for row in self.found.values())
        return self.total - self.rule - spent


def profile(model: str, *, kernels: str, num_steps: int) -> Profile:
    """Take steps on one rank, bare and with clocks."""
    batch = model_of(model).batch
    ours = Ours(model=model, batch_sizes=[batch], policy={"level": 0}, kernels=kernels)
    ours.keep_memory()
    ours.build()
    ours.run(0, 3, batch)
    bare = statistics.median(ours.run(3, num_steps, batch).seconds)
    clocks = Clocks()
    steps: list[dict[tuple[str, str], list[float]]] = []
    rules, totals = [], []
    with (
        mock.patch.object(tape, "record", _clocked_record(clocks, tape.record)),
        mock.patch.object(np, "matmul", _clocked_product(clocks, np.matmul)),
        mock.patch.object(AdamWRule, "update", _clocked_rule_of(clocks)),
    ):
        for index in range(num_steps):
            clocks.start()
            totals.append(ours.run(index, 1, batch).seconds[0])
            steps.append({key: list(row) for key, row in clocks.by_operator.items()})
            rules.append(clocks.rule)
    ours.close()
    return Profile(
        found={
            key: [statistics.median(step[key][i] for step in steps) for i in range(3)]
            for key in steps[0]
        },
        counts=dict(clocks.counts),
        rule=statistics.median(rules),
        total=statistics.median(totals),
        bare=bare,
    )


def rows_of(seen: Profile) -> list[str]:
    """Return the rows of a table, slowest first, in milliseconds."""
    total = seen.total
    spent = {key: row[FORWARD] + row[BACKWARD] for key, row in seen.found.items()}
    lines = [
        _line(*key, str(seen.counts[key]), *seen.found[key], share=spent[key] / total)
        for key in sorted(seen.found, key=lambda key: -spent[key])
    ]
    lines.append(_line("AdamW", "", "1", share=seen.rule / total, forward=seen.rule))
    lines.append(_line("the rest", "", "", share=seen.rest / total, forward=seen.rest))
    in_products = sum(row[PRODUCTS] for row in seen.found.values())
    lines.append(_line("**all**", "", "", total, None, in_products, share=1.0))
    return lines


def _clocked_rule_of(clocks: Clocks) -> Callable[..., None]:
    return _clocked_rule(clocks, AdamWRule.update)


def _line(
    operator: str,
    result: str,
    times: str,
    forward: float | None = None,
    backward: float | None = None,
    products: float | None = None,
    *,
    share: float,
) -> str:
    cells = (
        "" if s is None else f"{s * 1e3:.2f}" for s in (forward, backward, products)
    )
    return f"| {' | '.join((operator, result, times, *cells))} | {share:.0%} |"


def main(
    model: str = typer.Option("gpt", help=", ".join(MODELS)),
    kernels: str = typer.Option("numpy", help="numpy or fast."),
    steps: int = typer.Option(10, help="Of which medians are taken."),
) -> None:
    """Say where the time of a step goes, by operator, on one rank."""
    with threadpool_limits(1):
        square = np.ones((1024, 1024), np.float32)
        rate = fastest_gflops(lambda: np.matmul(square, square), 2 * 1024**3)
        seen = profile(model, kernels=kernels, num_steps=steps)
        rate = max(rate, fastest_gflops(lambda: np.matmul(square, square), 2 * 1024**3))
    least = product_flops(MODELS[model], MODELS[model].batch) / rate / 1e9
    print(f"{MODELS[model].text}; {environment()}, kernels {pp.kernel_set()}")
    print(f"{blas_variables()}\n")
    print("\n".join([HEAD, RULE, *rows_of(seen)]))
    bare = seen.bare
    print(
        f"\nMilliseconds of a step. Without the clocks a step takes {bare * 1e3:.2f}, "
        f"of which its products would take {least * 1e3:.2f}, or {least / bare:.0%}, "
        f"at the {rate:.0f} GFLOP/s of a large one."
    )
    pp.set_kernels("numpy")
