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
from parallel_params.train.build import Trainee
from parallel_params.train.config.dump import dump_job
from parallel_params.train.config.job import Job
from parallel_params.train.console import (
    Console,
    Progress,
    Row,
    folded,
    grouped,
    make_progress,
)
from parallel_params.train.data.dataset import Dataset
from parallel_params.train.kernels import describe_kernels
from parallel_params.train.labels import label_of
from parallel_params.train.models.build import describe_model
from parallel_params.train.report import Page, write_report
from parallel_params.train.result import TrainResult
from parallel_params.train.run_folder import RunFolder
from parallel_params.train.tasks.task import Baseline, Evaluation


class Journal:
    """Speaks and writes for one run.

    Args:
        job: what is done.
        folder: takes the files.
        console: takes the lines.
        trainee: what is trained, and on what.
    """

    def __init__(
        self, job: Job, folder: RunFolder, console: Console, trainee: Trainee
    ) -> None:
        self._job = job
        self._folder = folder
        self._console = console
        self._dataset = trainee.dataset
        self._task = trainee.task
        self._facts: list[str] = []
        self._plan: Plan | None = None
        self._environment: Mapping[str, object] = {}
        self._losses = array("d")
        self._first_step = 1
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
        notes: Sequence[str] = (),
    ) -> None:
        """Write what is known before the first step, and say it.

        Args:
            plan: what will be executed.
            environment: of `describe_environment`.
            rates: learning rate of each step.
            source: the job file; without one the resolved job stands for it.
            notes: what is otherwise than planned, and what the run goes on from.
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
            _job_line(self._job, self._dataset, plan, num_steps=len(rates)),
        ]
        self._console.say(folded(self._facts[0], hang=6))
        self._console.say(folded(f"job   {self._facts[1]}", hang=6))
        page = textwrap.indent(plan.summarise().rstrip(), "      ")
        head, *body = folded(page, hang=2).lstrip().splitlines()
        self._console.say("\n".join([head.replace("plan ", "plan  ", 1), *body]))
        for note in notes:
            self._facts.append(note)
            self._console.say(folded(f"note  {note}", hang=6))
        self._console.say(f"run   {self.path}")
        self._progress = make_progress(
            self._console, self._job.log.progress, num_steps=len(rates)
        )

    def advance(self, step: int, loss: float) -> None:
        """Take note that `step` steps are done, the last with this loss."""
        assert self._progress is not None, "a journal is opened first"
        if not self._losses:
            self._first_step = step
        self._losses.append(loss)
        self._progress.advance(step)

    def note(self, row: Row) -> None:
        """Show a row and add it to metrics.jsonl."""
        assert self._progress is not None, "a journal is opened first"
        self._progress.show(row)
        self._rows.append(row)
        epoch = row.step * self.batch_size / self._dataset.num_train
        facts = {**row.facts(), "epoch": round(epoch, 4)}
        self._folder.append_json("metrics.jsonl", facts)
        if row.sample:
            self._folder.append_text(
                "samples.txt", f"step {row.step}\n{row.sample}\n\n"
            )

    def stop(self) -> None:
        """End the display of progress, also when the run failed."""
        assert self._progress is not None, "a journal is opened first"
        self._progress.close()

    def close(
        self, result: TrainResult, weights: bytes, evaluation: Evaluation, traffic: str
    ) -> None:
        """Write how the run ended, and say it; of all ranks, the one that writes.

        Args:
            result: of the run.
            weights: the content of `model.safetensors`.
            evaluation: of the final weights.
            traffic: what was sharded where and what was sent, as text.
        """
        if not self._folder.is_writer:
            return
        # First of all: whatever comes after can be made again from it.
        self._folder.write_bytes("model.safetensors", weights)
        baselines = self._task.baselines()
        summary = {
            **dataclasses.asdict(result),
            "folder": str(result.folder),
            "loss": result.loss if math.isfinite(result.loss) else None,
            "scores": dict(evaluation.scores),
            "baselines": {each.name: each.score for each in baselines},
        }
        page = self._page(result, evaluation, baselines, traffic)
        self._folder.write_json("result.json", summary)
        self._folder.write_text("report.html", page)
        label = self._task.metric.label
        self._console.say(
            f"done  {result.seconds:.1f} s, {grouped(round(result.samples_per_s))} "
            f"samples/s; test {label} {result.test_score:.4f}, best "
            f"{result.best_score:.4f} at step {result.best_step}"
        )
        if baselines:
            beside = ", ".join(f"{each.name} {each.score:.4f}" for each in baselines)
            self._console.say(folded(f"base  {beside} (simple methods)", hang=6))
        self._console.say(f"bits  weights {result.weights_hash}")
        self._console.say(f"next  open {self.path / 'report.html'}")
        self._console.say("      numbers: metrics.jsonl, weights: model.safetensors")

    def _curve(self) -> tuple[str, list[float]]:
        """Name the loss of every step, in the task's own unit if it has one."""
        said = [self._task.words_for(loss) for loss in self._losses]
        if name := next((name for each in said for name in each), ""):
            return f"training {label_of(name)}", [e.get(name, math.nan) for e in said]
        return "loss", list(self._losses)

    def _page(
        self,
        result: TrainResult,
        evaluation: Evaluation,
        baselines: Sequence[Baseline],
        traffic: str,
    ) -> str:
        assert self._plan is not None, "a journal is opened first"
        return write_report(
            Page(
                title=self._job.title or self._job.run.name or "a run",
                facts=self._facts,
                result=result,
                losses=self._curve(),
                first_step=self._first_step,
                rows=self._rows,
                metric=self._task.metric,
                evaluation=evaluation,
                baselines=baselines,
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


def _job_line(job: Job, dataset: Dataset, plan: Plan, *, num_steps: int) -> str:
    model = describe_model(job.model, dataset.interface)
    numel = grouped(sum(spec.numel for spec in plan.params))
    return (
        f"{job.run.name or 'job'} (seed {job.seed}): {model}, {numel} parameters, "
        f"{job.optim.name}, {num_steps} steps of {job.data.batch} samples"
    )


def _counted(number: object, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
