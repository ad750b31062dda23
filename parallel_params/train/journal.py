"""What a run says and what it leaves behind: console lines, metrics, the run folder.

Every rank has a journal; those of all ranks but the first speak and write nothing, so
the loop asks nobody for a rank.
"""

import dataclasses
import math
import textwrap
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from parallel_params.plan import codec
from parallel_params.plan.plan import Plan
from parallel_params.tensor.kernel_set import kernel_set
from parallel_params.train.config.dump import dump_job
from parallel_params.train.config.job import DigitsData, Job
from parallel_params.train.console import (
    Console,
    Progress,
    Row,
    folded,
    grouped,
    make_progress,
)
from parallel_params.train.data.digits import SHAPE
from parallel_params.train.data.samples import Samples
from parallel_params.train.evaluation import Verdict
from parallel_params.train.kernels import describe_kernels
from parallel_params.train.models import describe_model
from parallel_params.train.report import Page, write_report
from parallel_params.train.result import TrainResult
from parallel_params.train.run_folder import RunFolder


class Journal:
    """Speaks and writes for one run.

    Args:
        job: what is done.
        folder: takes the files.
        console: takes the lines.
        samples: what is learned from.
    """

    def __init__(
        self, job: Job, folder: RunFolder, console: Console, samples: Samples
    ) -> None:
        self._job = job
        self._folder = folder
        self._console = console
        self._samples = samples
        self._facts: list[str] = []
        self._plan: Plan | None = None
        self._environment: Mapping[str, object] = {}
        self._losses = array("d")
        self._rows: list[Row] = []
        self._progress: Progress | None = None

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def batch_size(self) -> int:
        """Samples of the whole world per step."""
        return self._job.data.batch

    def open(
        self,
        plan: Plan,
        environment: Mapping[str, object],
        rates: Sequence[float],
        *,
        source: Path | None,
        note: str = "",
    ) -> None:
        """Write what is known before the first step, and say it.

        Args:
            plan: what will be executed.
            environment: of `describe_environment`.
            rates: learning rate of each step.
            source: the job file; without one the resolved job stands for it.
            note: what is otherwise than planned, if anything.
        """
        resolved = dump_job(self._job)
        given = resolved.encode() if source is None else source.read_bytes()
        suffix = ".toml" if source is None else source.suffix
        self._folder.write_bytes(f"job{suffix}", given)
        self._folder.write_text("job.resolved.toml", resolved)
        self._folder.write_text("plan.json", codec.dumps(plan))
        self._folder.write_json("env.json", environment)
        self._plan, self._environment = plan, environment
        self._facts = [
            _world_line(environment, self._job.parallel.blas_threads),
            _job_line(self._job, self._samples, plan, num_steps=len(rates)),
        ]
        self._console.say(folded(self._facts[0], hang=6))
        self._console.say(folded(f"job   {self._facts[1]}", hang=6))
        page = textwrap.indent(plan.summarise().rstrip(), "      ")
        head, *body = folded(page, hang=2).lstrip().splitlines()
        self._console.say("\n".join([head.replace("plan ", "plan  ", 1), *body]))
        if note:
            self._facts.append(note)
            self._console.say(folded(f"note  {note}", hang=6))
        self._console.say(f"run   {self.path}")
        self._progress = make_progress(
            self._console, self._job.log.progress, num_steps=len(rates)
        )

    def advance(self, step: int, loss: float) -> None:
        """Take note that `step` steps are done, the last with this loss."""
        assert self._progress is not None, "a journal is opened first"
        self._losses.append(loss)
        self._progress.advance(step)

    def note(self, row: Row) -> None:
        """Show a row and add it to metrics.jsonl."""
        assert self._progress is not None, "a journal is opened first"
        self._progress.show(row)
        self._rows.append(row)
        epoch = row.step * self.batch_size / len(self._samples.train_y)
        facts = {**dataclasses.asdict(row), "epoch": round(epoch, 4)}
        del facts["num_steps"]
        facts["loss"] = _finite(row.loss)
        if row.test_accuracy is None:
            del facts["test_accuracy"]
        self._folder.append_json("metrics.jsonl", facts)

    def stop(self) -> None:
        """End the display of progress, also when the run failed."""
        assert self._progress is not None, "a journal is opened first"
        self._progress.close()

    def close(
        self, result: TrainResult, weights: bytes, verdict: Verdict, traffic: str
    ) -> None:
        """Write how the run ended, and say it.

        Args:
            result: of the run.
            weights: the content of `model.safetensors`.
            verdict: of the final weights.
            traffic: what was sharded where and what was sent, as text.
        """
        summary = {
            **dataclasses.asdict(result),
            "folder": str(result.folder),
            "loss": _finite(result.loss),
        }
        self._folder.write_bytes("model.safetensors", weights)
        self._folder.write_json("result.json", summary)
        self._folder.write_text("report.html", self._page(result, verdict, traffic))
        self._console.say(
            f"done  {result.seconds:.1f} s, {grouped(round(result.samples_per_s))} "
            f"samples/s; test accuracy {result.test_accuracy:.4f}, best "
            f"{result.best_accuracy:.4f} at step {result.best_step}"
        )
        self._console.say(f"bits  weights {result.weights_hash}")
        self._console.say(f"next  open {self.path / 'report.html'}")
        self._console.say("      numbers: metrics.jsonl, weights: model.safetensors")

    def _page(self, result: TrainResult, verdict: Verdict, traffic: str) -> str:
        pictures = None
        if isinstance(self._job.data, DigitsData):
            pictures = self._samples.test_x.reshape(-1, *SHAPE)
        assert self._plan is not None, "a journal is opened first"
        return write_report(
            Page(
                title=self._job.title or self._job.run.name or "a run",
                facts=self._facts,
                result=result,
                losses=self._losses,
                rows=self._rows,
                verdict=verdict,
                pictures=pictures,
                plan=self._plan,
                traffic=traffic,
                environment=self._environment,
                job=dump_job(self._job),
            )
        )


def _world_line(environment: Mapping[str, object], blas_threads: int) -> str:
    ranks = _counted(environment["num_ranks"], "rank")
    nodes = _counted(environment["num_nodes"], "node")
    threads = _counted(blas_threads, "BLAS thread") + " each"
    if blas_threads == 0:
        threads = "BLAS threads as they are"
    version = environment["parallel_params"]
    chosen = kernel_set()
    loops = "" if chosen.name == "numpy" else f" | {describe_kernels(chosen)}"
    # "MPICH 5.0.2, 2 ranks" here: the ranks have been counted.
    where = str(environment["communicator"]).removesuffix(f", {ranks}")
    return (
        f"parallel_params {version} | {ranks} on {nodes} | {where} | {threads}{loops}"
    )


def _job_line(job: Job, samples: Samples, plan: Plan, *, num_steps: int) -> str:
    model = describe_model(
        job.model, sample_shape=samples.shape, num_classes=samples.num_classes
    )
    numel = grouped(sum(spec.numel for spec in plan.params))
    return (
        f"{job.run.name or 'job'} (seed {job.seed}): {model}, {numel} parameters, "
        f"{job.optim.name}, {num_steps} steps of {job.data.batch} samples"
    )


def _finite(loss: float) -> float | None:
    """Give a loss as JSON has it: None for that of a step that was skipped."""
    return loss if math.isfinite(loss) else None


def _counted(number: object, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
