"""The jobs on a mesh in a real world of four: started, trained, reported, looked at.

Shortened, not cut otherwise: the mesh, the level and what is cut are the jobs' own. The
words are few, so that the last look at them takes no time.
"""

import json
from pathlib import Path

import pytest
from world.launch import run_in_world

from parallel_params.plan import codec

# Each starts a launcher and four Pythons, which takes seconds.
pytestmark = pytest.mark.slow

SHORT = (
    "train.steps=3",
    "train.eval_every=2",
    "log.every=1",
    "optim.schedule.warmup=1",
)
WORDS = (
    "data={name='tokens', path='w', dtype='uint8', vocabulary=16, context=8, batch=16}"
)
SMALL_GPT = ("model.layers=1", "model.width=16", WORDS)
# Four processes on a machine of few cores that others use as well.
TIMEOUT_S = 180.0
JOBS = {
    "gpt-mesh": (SMALL_GPT, {"data": 2, "model": 2}),
    "gpt-experts": (("model.hidden=8", *SMALL_GPT), {"data": 2, "expert": 2}),
    "classes": (("data.batch=64", "data.tests=64"), {"classes": 4}),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_on_a_mesh_trains_in_a_world_of_four(name: str, tmp_path: Path) -> None:
    overrides, axes = JOBS[name]
    folder = tmp_path / "run"
    (tmp_path / "w").write_bytes(bytes(i * i % 16 for i in range(700)))
    overrides = tuple(
        each.replace("path='w'", f"path='{tmp_path / 'w'}'") for each in overrides
    )
    words = ["train", name, *SHORT, *overrides, f"run.folder={folder}", "--json"]

    world = run_in_world(4, ["-m", "parallel_params", *words], timeout_s=TIMEOUT_S)

    assert world.returncode == 0, world.stderr
    result = json.loads(world.stdout)
    assert (result["num_ranks"], result["num_steps"]) == (4, 3)
    mesh = codec.loads((folder / "plan.json").read_text(encoding="utf-8")).mesh
    assert dict(zip(mesh.axes, mesh.sizes, strict=True)) == axes
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 2, 3]
    looks = [row[f"test_{result['metric']}"] for row in rows[1:]]  # behind 2 and 3
    assert looks[-1] == pytest.approx(result["test_score"])
    assert (folder / "report.html").stat().st_size > 1000
    assert (folder / "model.safetensors").stat().st_size > 1000
