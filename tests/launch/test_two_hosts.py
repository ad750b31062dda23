"""Two hosts: windows inside, messages between, the bits of one host, counted bytes.

The hosts are network namespaces, see `launch/two_hosts.py`; where these cannot be had
the tests are skipped and say why.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits
from two_hosts_rank import CASES, INSIDE, MESHES, PER_HOST, Outcome, mesh_of, train
from world.launch import HELPERS

from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator

TOOL = HELPERS.parent / "launch" / "two_hosts.py"
RANK = HELPERS / "two_hosts_rank.py"
TIMEOUT_S = 60.0
CANNOT = 77
# Of UCX inside of MPICH, while the world is made; seen once in some hundred worlds.
NO_WAY = "Destination is unreachable"
# What the headers of packets, their receipts and MPI's own words add.
OVERHEAD = 0.03
# What TCP may have sent a second time, where a case sends little: one long packet.
AGAIN = 64 << 10


def run_two_hosts(*words: str, **variables: str) -> str:
    """Return what a world on two hosts printed; skip where there are none."""
    environ = {**os.environ, "PYTHONPATH": str(HELPERS.parent), **variables}
    process = subprocess.Popen(
        [sys.executable, str(TOOL), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        text=True,
    )
    with process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            raise
    if process.returncode == CANNOT:
        pytest.skip(stderr.strip())
    skip_without_way(stderr)
    assert process.returncode == 0, stdout + stderr
    return stdout


def skip_without_way(stderr: str) -> None:
    """Skip if MPI itself has found no way between the hosts: no world, nothing to test.

    Before any rank has run a line of this package.
    """
    if "Init_thread" in stderr and NO_WAY in stderr:
        pytest.skip(f"MPI's own start failed between the hosts: {NO_WAY}")


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, int], Outcome]:
    """Train on all meshes at all levels, on two hosts of two ranks."""
    stdout = run_two_hosts(str(PER_HOST), "--", sys.executable, str(RANK))
    found = [Outcome(**each) for each in json.loads(stdout)]
    return dict(zip(CASES, found, strict=True))


Outcomes = dict[tuple[str, int], Outcome]


@pytest.mark.slow  # starts two hosts and an MPI world on them
@pytest.mark.parametrize(("mesh", "level"), CASES)
def test_two_hosts_have_the_bits_of_one(
    outcomes: Outcomes, mesh: str, level: int
) -> None:
    assert outcomes[mesh, level].hash == hash_on_one_host(mesh)


@cache
def hash_on_one_host(mesh: str) -> str:
    """Return the hash of the weights on a mesh, trained by threads at level 0."""

    def body(comm: Communicator) -> str:
        return train(comm, 0, mesh_of(mesh), which=mesh).hash

    with threadpool_limits(1, "blas"):  # as the hosts' ranks have
        (found,) = set(run_threads(2 * PER_HOST, body))
    return found


@pytest.mark.slow  # as above
def test_two_hosts_have_the_bits_of_one_rank(outcomes: Outcomes) -> None:
    with threadpool_limits(1, "blas"):
        alone = run_threads(1, lambda comm: train(comm, 0).hash)[0]

    assert {outcomes["data", level].hash for level in range(4)} == {alone}


@pytest.mark.slow  # as above
@pytest.mark.parametrize(("mesh", "level"), [c for c in CASES if c[0] in INSIDE])
def test_the_cable_carries_what_the_plan_announces(
    outcomes: Outcomes, mesh: str, level: int
) -> None:
    found = outcomes[mesh, level]

    assert found.announced <= found.carried <= found.announced * (1 + OVERHEAD)
    if "model" in mesh:  # what goes along the axis stays inside the hosts
        assert found.announced_along == 0
        assert found.carried - found.announced < found.along_axis / 2


@pytest.mark.slow  # as above
@pytest.mark.parametrize("mesh", [each for each in MESHES if each not in INSIDE])
def test_the_cable_carries_what_cells_send_along_an_axis_across_the_hosts(
    outcomes: Outcomes, mesh: str
) -> None:
    ratios = []
    for level in range(4):
        found = outcomes[mesh, level]
        announced = found.announced + found.announced_along
        assert announced <= found.carried <= announced * (1 + OVERHEAD) + AGAIN
        ratios.append(found.carried / announced)

    assert min(ratios) <= 1 + OVERHEAD


@pytest.mark.slow  # as above
def test_nothing_of_two_hosts_is_left_behind(tmp_path: Path) -> None:
    run_two_hosts("1", "--", sys.executable, "-c", "pass", TMPDIR=str(tmp_path))

    assert not list(tmp_path.iterdir())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process that has ended in between
            assert str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.slow  # as above, and a cable of settable speed
def test_the_benchmark_of_the_cable_compares_every_way() -> None:
    run_two_hosts("1", "--", sys.executable, "-c", "pass")  # skips, where it must
    words = "-m benchmarks cable --widths 64,32,4 --batch 2 --rounds 1"
    done = subprocess.run(
        [sys.executable, *words.split()],
        cwd=HELPERS.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    skip_without_way(done.stderr)
    assert done.returncode == 0, done.stderr
    rows = [row.split("  ")[0] for row in done.stdout.splitlines()[3:]]
    assert rows == ["Allreduce", "Allreduce, update", "sockets"] + [
        f"{what}, level {level}"
        for level in range(4)
        for what in ("update", "step")
        if (what, level) != ("update", 3)
    ]
