"""A model whose plan is written as a page, and pages to compare with."""

from textwrap import dedent

from parallel_params.plan.mesh import Mesh
from parallel_params.plan.spec import ParamSpec

MODEL = (
    ParamSpec("embedding", (300, 64), requires_grad=False, aliases=("head",)),
    ParamSpec("0.weight", (512, 64), state_slots=("m", "v")),
    ParamSpec("0.bias", (512,), state_slots=("m", "v")),
    ParamSpec("1.weight", (256, 512), state_slots=("m", "v"), parallel_optimizer=False),
    ParamSpec("1.scale", (), state_slots=("m", "v"), parallel_optimizer=False),
    ParamSpec("own", (90, 90), state_slots=("m", "v"), layerwise_parallel=True),
)


NODES = Mesh(data=4, ranks_per_node=2)


def page(text: str) -> str:
    return dedent(text).removeprefix("\n")


BIG = ParamSpec("w", (512, 64), state_slots=("m",))
