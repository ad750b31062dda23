"""Plans that were written by someone else are read, or refused by name."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest

from parallel_params.errors import PlanError
from parallel_params.plan.codec import decode, dumps, encode, loads
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan, make_plan
from parallel_params.plan.policy import Policy
from parallel_params.plan.spec import ParamSpec

JSON = dict[str, "JSON"] | list["JSON"] | str | int | bool | None  # of one plan


def two_buckets() -> Plan:
    return make_plan(
        [
            ParamSpec("a", (4, 3), state_slots=("m",)),
            ParamSpec("b", (5,), state_slots=("m",)),
            ParamSpec("c", (6, 6), structure="matrix"),
            ParamSpec("d", (2, 2), structure="matrix"),
        ],
        Mesh(data=2),
        Policy(shard_threshold_bytes=0),
    )


def test_a_plan_written_with_another_packing_is_kept() -> None:
    plan = make_plan(
        [ParamSpec("a", (4,)), ParamSpec("b", (4,))], Mesh(data=2), Policy()
    )
    record = json.loads(dumps(plan))
    record["policy"]["bucket_bytes"] = 1  # today two buckets would be made of it
    again = decode(record)
    assert len(again.buckets) == 1
    assert again.buckets == plan.buckets


def test_a_plan_survives_pickle_and_copy() -> None:
    plan = two_buckets()
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan
    assert copy.deepcopy(plan).bucket_of("a") == plan.bucket_of("a")


def change(path: str, value: object) -> Callable[[dict[str, object]], None]:
    """Return an edit that sets the field at a path such as `buckets.0.index`."""

    def edit(record: dict[str, object]) -> None:
        *way, last = path.split(".")
        place: object = record
        for step in way:
            if isinstance(place, list):
                place = place[int(step)]
            elif isinstance(place, dict):
                place = place[step]
        if isinstance(place, list):
            place[int(last)] = value
        elif isinstance(place, dict) and value is MISSING:
            del place[last]
        elif isinstance(place, dict):
            place[last] = value

    return edit


MISSING = object()

# Bucket 0 holds c and d of a matrix rule, bucket 1 holds b and a.
REFUSED = [
    ("format", "another", r"plan.format: expected 'parallel_params plan 4'"),
    ("format", MISSING, r"plan: the field 'format' is missing"),
    ("extra", 1, r"plan: unknown field 'extra'"),
    ("mesh", [], r"plan.mesh: expected an object, got a list"),
    ("mesh.axes", "data", r"plan.mesh.axes: expected a list, got text"),
    ("mesh.axes", [1], r"plan.mesh.axes: expected text, got 1"),
    ("mesh.sizes", [2, 2], r"axes \('data',\) and sizes \(2, 2\) do not fit"),
    ("mesh.sizes", [0], r"mesh axis 'data': expected a whole number >= 1"),
    ("mesh.layerwise_axis", 3, r"plan.mesh.layerwise_axis: expected text, got 3"),
    ("mesh.batch_axes", "data", r"plan.mesh.batch_axes: expected a list, got text"),
    ("mesh.ranks_per_node", None, r"ranks_per_node: expected a whole number, got null"),
    ("policy.level", 5, r"level: expected 0 .* got 5"),
    ("policy.level", True, r"plan.policy.level: expected a whole number, got True"),
    ("policy.grains", "4", r"plan.policy.grains: expected a whole number, got text"),
    ("policy.grains", 3, r"policy.grains = 3 cannot be shared equally by 2 ranks"),
    ("policy.reduction", "slow", r"policy.reduction: unknown 'slow'"),
    ("policy.override", {}, r"plan.policy.override: expected a list, got an object"),
    ("policy.override", [{"pattern": "x", "level": 1}], r"no parameter matches 'x'"),
    ("policy.clip", 1.0, r"plan.policy.clip: expected an object, got 1.0"),
    (
        "policy.clip",
        {"norm": "1", "per": "all", "value": None},
        r"plan.policy.clip.norm: expected a number, got text",
    ),
    (
        "policy.loss_scale",
        {"initial": 1, "growth": True, "backoff": 0.5, "interval": 1},
        r"plan.policy.loss_scale.growth: expected a number, got True",
    ),
    ("policy.wire_dtype", "int8", r"policy.wire_dtype: unknown 'int8'"),
    ("policy.memory_limit_bytes", 1.5, r"memory_limit_bytes: expected a whole number"),
    ("params.0.rounds", [1], r"rounds are for rules of structure"),
    ("params.0.optimizer", 1, r"bucket 1: optimizer is 0, but parameter 'a' .* 1"),
    ("buckets.1.rounds", [1], r"bucket 1: rounds is \(1,\), but parameter 'b'"),
    ("buckets.1.row_slots", ["r"], r"bucket 1: row_slots is \('r',\), but"),
    (
        "params.0.requires_grad",
        1,
        r"params\[0\].requires_grad: .* true or false, got 1",
    ),
    ("params.0.shape", [4, 4], r"bucket 1: numel is 12, but parameter 'a' .* 16"),
    ("params.0.dtype", "float16", r"bucket 1: dtype is 'float32', but parameter 'a'"),
    ("params.0.name", "b", r"two parameters are called 'b'"),
    ("params.0.name", "e", r"bucket 1 holds 'a', which is no parameter or lies in two"),
    ("params.0.layerwise_parallel", True, r"bucket 1: axes is \('data',\), but"),
    ("params.0.parallel_optimizer", False, r"bucket 1: level is .* asks for <Level.NO"),
    ("params.0.requires_grad", False, r"bucket 1: is_trainable is True, but"),
    ("params.0.state_slots", ["v"], r"bucket 1: state_slots is \('m',\), but"),
    ("buckets", [], r"parameter 'a' lies in no bucket"),
    ("buckets.0.index", 1, r"bucket 0 says that it is number 1"),
    ("buckets.0.axes", ["model"], r"has no axis 'model'"),
    ("buckets.0.level", -1, r"level: expected 0 .* got -1"),
    ("buckets.0.structure", "element", r"'c' has an owner of its own"),
    ("buckets.0.structure", None, r"buckets\[0\].structure: expected text, got null"),
    ("buckets.0.extents", [], r"bucket 0 holds no parameter"),
    ("buckets.0.extents.0.owner", 2, r"'[cd]' is owned by position 2, expected 0 to 1"),
    ("buckets.0.extents.0.owner", None, r"is owned by position None"),
    ("buckets.0.extents.0.owner", 1, None),
    ("buckets.0.extents.1.owner", -1, r"is owned by position -1"),
    ("buckets.0.extents.1.start", 3, r"starts at element 3, expected"),
    ("buckets.1.extents.1.stop", 2, r"expected 0 <= start <= stop"),
    ("buckets.1.extents.1.row_numel", 2, r"bucket 1: row_numel is 2"),
    ("buckets.1.structure", "row", r"bucket 1: structure is 'row', but parameter 'b'"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_nonsense_is_refused_by_name(
    path: str, value: object, message: str | None
) -> None:
    record = json.loads(dumps(two_buckets()))
    change(path, value)(record)
    if message is None:  # both matrices with one owner: unwise, but a plan
        assert decode(record).buckets[0].extents[0].owner == value
    else:
        with pytest.raises(PlanError, match=message):
            decode(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the plan is no JSON"),
        ("{", r"the plan is no JSON"),
        ("[" * 100_000, r"the plan is no JSON"),
        ("[]", r"plan: expected an object, got a list"),
        ('{"format": NaN}', r"NaN is no number of JSON"),
        ('{"format": 1, "format": 2}', r"a field is given twice among \['format'"),
    ],
)
def test_text_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        loads(text)


def test_encoding_gives_json_values_alone() -> None:
    record = encode(two_buckets())
    assert json.loads(json.dumps(record)) == record
