"""What cells send along an axis stands beside what the plan sends."""

import json

import pytest

from parallel_params.plan.along import AxisCall, AxisTraffic
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Policy
from parallel_params.plan.spec import ParamSpec

CALLS = tuple(
    AxisCall(operator=name, what="(4,) float32, dim 0", bytes_sent=sent)
    for name, sent in (("leave", 24), ("join", 520), ("leave", 24))
)


def traffic(num_passes: int) -> AxisTraffic:
    return AxisTraffic(
        axis="model",
        num_ranks=2,
        num_passes=num_passes,
        course=CALLS,
        calls={"all_gather": 5 * num_passes, "all_to_all": num_passes},
        bytes_sent={"all_gather": 552 * num_passes, "all_to_all": 16 * num_passes},
    )


@pytest.mark.parametrize(
    ("num_passes", "grains", "rows"),
    [
        (1, "its one grain ", ["leave 2 48 B", "join 1 520 B", "together 3 568 B"]),
        (
            2,
            "each of its 2 grains ",
            ["leave 4 96 B", "join 2 1.0 KiB", "together 6 1.1 KiB"],
        ),
    ],
)
def test_operators_are_summed_over_a_step(
    num_passes: int, grains: str, rows: list[str]
) -> None:
    head, _, *lines = traffic(num_passes).describe().splitlines()

    assert f"a rank sends in a step for {grains}" in head
    assert [" ".join(line.split()) for line in lines] == rows


def test_the_page_of_a_plan_has_it_beside_its_own() -> None:
    plan = make_plan([ParamSpec("w", (8,))], Mesh(data=2, model=2), Policy())

    page = [
        " ".join(line.split()) for line in plan.describe(along=traffic(2)).split("\n")
    ]

    place = page.index("and cells, along 'model' 12 1.1 KiB")
    assert page[place - 1].startswith("together ")
    assert "cells" not in plan.describe() + plan.summarise()


def test_a_page_without_it_says_that_cut_cells_send_more() -> None:
    cut = ParamSpec("w", (8,), layerwise_parallel=True, slice_dim=0)
    plan = make_plan([cut], Mesh(data=2, model=2), Policy())

    assert "along axis 'model' send more in the middle" in plan.describe()
    assert "send more" not in plan.describe(along=traffic(2))
    assert "collectives a step, cells more along axis 'model'" in plan.summarise()


def test_json_has_every_collective_in_order() -> None:
    found = json.loads(json.dumps(traffic(1).as_json()))

    assert [call["operator"] for call in found["course"]] == ["leave", "join", "leave"]
    assert found["bytes_sent"] == {"all_gather": 552, "all_to_all": 16}
