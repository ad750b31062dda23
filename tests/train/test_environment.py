"""What a run ran on, and how many threads its BLAS had."""

import json
from pathlib import Path

import numpy as np
import pytest
from ranked import assert_on_all_ranks, on_threads

from parallel_params.comm.local import run_threads, solo
from parallel_params.comm.protocol import Communicator
from parallel_params.plan.guards import Clip
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.train.blas import blas_threads
from parallel_params.train.environment import (
    bit_facts,
    blas_libraries,
    describe_environment,
    different_facts,
    git_commit,
)


def num_threads() -> list[object]:
    return [library["num_threads"] for library in blas_libraries()]


def test_an_environment_is_json_and_names_every_host() -> None:
    def body(comm: Communicator) -> None:
        found = describe_environment(comm)
        ok = found["num_ranks"] == comm.size and found["num_nodes"] == 1
        hosts = found["hosts"]
        ok = ok and isinstance(hosts, list) and len(hosts) == comm.size
        assert_on_all_ranks(comm, ok and bool(json.dumps(found)), str(found))

    on_threads(body)


def facts(num_ranks: int = 2, **policy: object) -> dict[str, object]:
    choices = Policy(**{"grains": 4, **policy})  # type: ignore[arg-type]  # of a test
    return bit_facts(make_plan([ParamSpec("w", (8,))], Mesh(data=num_ranks), choices))


def test_facts_of_bits_are_equal_wherever_a_plan_promises_equal_bits() -> None:
    recorded = json.loads(json.dumps(facts()))
    assert different_facts(recorded, facts()) == []
    assert different_facts(recorded, facts(4, level=3, transport="messages")) == []


def test_other_facts_of_bits_are_named_one_by_one() -> None:
    now = facts()
    recorded = {**json.loads(json.dumps(now)), "numpy": "1.0", "age": 3}
    recorded["blas"] = [{"library": "blis", "num_threads": 2}]
    recorded["kernels"] = {"set": "other", "simd": now["kernels"]["simd"]}  # type: ignore[index]  # it is a table
    found = different_facts(recorded, facts(grains=8))
    assert f"numpy: was 1.0, is {np.__version__}" in found
    assert "grains: was 4, is 8" in found
    assert "blas 0 library: was blis, is " in "\n".join(found)
    assert "kernels set: was other, is numpy" in found
    assert "age: was 3, is not there" in found
    assert not any(line.startswith(("kernels simd", "reduction")) for line in found)


def test_without_the_promise_the_world_counts_too() -> None:
    fast = different_facts(facts(reduction="fast"), facts(4, reduction="fast"))
    assert "num ranks: was 2, is 4" in fast
    assert "ranks per node: was 2, is 4" in fast
    wire = different_facts(facts(), facts(wire_dtype="bfloat16"))
    assert "wire dtype: was none, is bfloat16" in wire
    assert "transport: was not recorded, is auto" in wire


def test_where_sums_over_parameters_are_cut_counts_if_there_are_any() -> None:
    assert different_facts(facts(), facts(alignment=1)) == []
    clip = Clip(norm=1.0)
    found = different_facts(facts(clip=clip), facts(clip=clip, alignment=1))
    assert [line.partition(":")[0] for line in found] == ["sums over parameters"]
    assert different_facts(facts(clip=clip), facts(4, clip=clip, level=3)) == []


def test_blas_has_the_threads_of_the_job_and_then_its_own_again() -> None:
    if not blas_libraries():
        pytest.skip("NumPy's BLAS is none that threadpoolctl knows")
    before = num_threads()

    def body(comm: Communicator) -> None:
        with blas_threads(1, comm):
            found = num_threads()
            comm.barrier()
        assert_on_all_ranks(comm, set(found) == {1}, str(found))

    run_threads(3, body)
    assert num_threads() == before


def test_blas_is_left_alone_at_zero_threads() -> None:
    before = num_threads()
    with blas_threads(0, solo()):
        assert num_threads() == before


def test_blas_has_its_own_threads_again_after_an_error() -> None:
    before = num_threads()
    with pytest.raises(KeyError), blas_threads(1, solo()):
        raise KeyError
    assert num_threads() == before


def test_the_commit_of_a_checkout_is_read_from_its_files(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("0123abcd\n", encoding="utf-8")
    assert git_commit(tmp_path) == "0123abcd"
    (git / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    packed = "# pack-refs\n4567ef refs/heads/main\n"
    (git / "packed-refs").write_text(packed, encoding="utf-8")
    assert git_commit(tmp_path) == "4567ef"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text("89\n", encoding="utf-8")
    assert git_commit(tmp_path) == "89"


def test_ranks_that_are_threads_set_blas_although_the_main_thread_did_before() -> None:
    if not blas_libraries():
        pytest.skip("NumPy's BLAS is none that threadpoolctl knows")
    with blas_threads(2, solo()):

        def body(comm: Communicator) -> list[object]:
            with blas_threads(1, comm):
                return num_threads()

        assert {number for found in run_threads(2, body) for number in found} == {1}
