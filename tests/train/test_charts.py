"""The drawings of a report show what they are given."""

import re

import numpy as np
import pytest

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import make_plan
from parallel_params.plan.policy import Level, Policy
from parallel_params.plan.spec import ParamSpec
from parallel_params.train.charts import (
    draw_curve,
    draw_holdings,
    draw_picture,
    draw_scatter,
)


def places(svg: str) -> list[tuple[float, float]]:
    found = re.search(r'<polyline class="line" points="([^"]*)"', svg)
    assert found
    pairs = (pair.split(",") for pair in found[1].split())
    return [(float(x), float(y)) for x, y in pairs]


def labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_curve_rises_where_its_values_rise() -> None:
    drawn = places(draw_curve([(10, 0.90), (20, 0.94), (30, 0.92)], "accuracy"))
    (x1, y1), (x2, y2), (x3, y3) = drawn
    assert x1 < x2 < x3
    assert y2 < y3 < y1  # from the top
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)


def test_values_over_decades_get_a_logarithmic_axis() -> None:
    svg = draw_curve([(1, 1.0), (2, 0.1), (3, 0.01)], "loss")
    heights = [y for _, y in places(svg)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert labels(svg)[:3] == ["0.01", "0.1", "1"]


def test_a_curve_names_round_numbers_around_its_values() -> None:
    svg = draw_curve([(5, 0.9333), (10, 0.9667)], "accuracy")
    assert labels(svg) == ["0.93", "0.94", "0.95", "0.96", "0.97", "step 0", "5", "10"]


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-30])
def test_a_constant_curve_can_be_drawn(value: float) -> None:
    assert len(places(draw_curve([(1, value), (2, value)], "flat"))) == 2
    assert len(places(draw_curve([(1, value)], "point"))) == 1


def test_many_points_are_averaged_over_neighbours() -> None:
    svg = draw_curve([(step, 1.0 + step % 2) for step in range(1, 6001)], "loss")
    drawn = places(svg)
    assert len(drawn) == 300
    assert len({y for _, y in drawn}) == 1


def test_nothing_noted_is_said() -> None:
    assert "<svg" not in draw_curve([], "loss")


def widths(section: str, look: str) -> list[float]:
    return [
        float(width)
        for width in re.findall(rf'class="{look}"[^>]*width="([^"]*)"', section)
    ]


def test_holdings_fill_what_each_rank_holds() -> None:
    specs = [ParamSpec("w", (64, 64), state_slots=("m",))]
    policy = Policy(level=Level.STATE, shard_threshold_bytes=0)
    page = draw_holdings(make_plan(specs, Mesh(data=2), policy))
    weight, _, state = page.split("<h3>")[1:]
    assert widths(weight, "held") == widths(weight, "all") == [560.0, 560.0]
    assert widths(state, "held") == [280.0, 280.0]
    assert labels(state) == ["rank 0", "8.0 KiB", "rank 1", "8.0 KiB"]


def test_holdings_leave_out_what_is_not_there() -> None:
    specs = [ParamSpec("frozen", (64,), requires_grad=False)]
    page = draw_holdings(make_plan(specs, Mesh(data=20), Policy()))
    weight, gradient, _ = page.split("<h3>")[1:]
    assert len(widths(weight, "held")) == 16
    assert widths(gradient, "held") == []
    assert "and 4 more ranks" in page


def test_a_picture_has_a_cell_per_dark_pixel() -> None:
    svg = draw_picture(np.array([[0.0, 1.0], [0.5, 0.0]], dtype=np.float32))
    cells = re.findall(r'x="(\d+)" y="(\d+)".*?fill="rgb\((\d+),', svg)
    assert cells == [("1", "0", "0"), ("0", "1", "127")]
    assert 'viewBox="0 0 2 2"' in svg


def test_a_scatter_has_a_dot_per_pair_and_the_line_on_which_both_are_the_same() -> None:
    values = np.array([-1.0, 0.25, 2.0])
    svg = draw_scatter(values, values)
    line = re.search(r'class="same" x1="(.*?)" y1="(.*?)" x2="(.*?)" y2="(.*?)"', svg)
    assert line
    x1, y1, x2, y2 = map(float, line.groups())
    dots = re.findall(r'<circle cx="(.*?)" cy="(.*?)"', svg)
    assert len(dots) == 3
    for x, y in ((float(x), float(y)) for x, y in dots):
        assert (y - y1) / (y2 - y1) == pytest.approx((x - x1) / (x2 - x1), abs=0.01)


def test_a_scatter_leaves_out_what_is_no_number_and_thins_out_many() -> None:
    assert draw_scatter(np.zeros(2), np.full(2, np.nan)) == "<p>nothing was noted</p>"
    many = np.linspace(0, 1, 1200)
    assert draw_scatter(many, many).count("<circle") == 400
    assert draw_scatter(np.ones(3), np.ones(3)).count("<circle") == 3
