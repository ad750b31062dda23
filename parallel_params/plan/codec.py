"""Plan <-> JSON, and its digest.

A plan read back is the plan that was written, buckets included: they are not computed
anew, so a run saved by another version keeps its layout. What is read is untrusted and
checked whole before anyone uses it.
"""

import hashlib
import json
from dataclasses import asdict, fields
from typing import NoReturn, cast

from parallel_params.errors import PlanError
from parallel_params.plan.bucket import Bucket, Extent
from parallel_params.plan.check import check_plan
from parallel_params.plan.guards import Clip, ClipScope, LossScale
from parallel_params.plan.interval import Interval
from parallel_params.plan.mesh import Mesh
from parallel_params.plan.plan import Plan
from parallel_params.plan.policy import (
    Level,
    MemoryLimit,
    NonFinite,
    Policy,
    Reduction,
    Transport,
    WireDtype,
    as_level,
)
from parallel_params.plan.record import Record
from parallel_params.plan.spec import ParamSpec, Structure

FORMAT = "parallel_params plan 4"

_SPEC_FIELDS = tuple(field.name for field in fields(ParamSpec))
_POLICY_FIELDS = tuple(field.name for field in fields(Policy))
_CLIP_FIELDS = tuple(field.name for field in fields(Clip))
_SCALE_FIELDS = tuple(field.name for field in fields(LossScale))
_MESH_FIELDS = ("axes", "sizes", "ranks_per_node", "layerwise_axis", "batch_axes")
_BUCKET_FIELDS = tuple(field.name for field in fields(Bucket))
_EXTENT_FIELDS = ("name", "start", "stop", "row_numel", "owner")


def encode(plan: Plan) -> dict[str, object]:
    """Return the plan as JSON values; `decode` is its inverse."""
    return {
        "format": FORMAT,
        "mesh": _encode_mesh(plan.mesh),
        "policy": _encode_policy(plan.policy),
        "params": [_encode_spec(spec) for spec in plan.params],
        "buckets": [_encode_bucket(bucket) for bucket in plan.buckets],
    }


def dumps(plan: Plan) -> str:
    """Return the plan as canonical JSON text: equal plans, equal text."""
    return json.dumps(encode(plan), sort_keys=True, separators=(",", ":"))


def digest(plan: Plan) -> str:
    """Return the SHA-256 of the canonical text, in hex."""
    return hashlib.sha256(dumps(plan).encode()).hexdigest()


def loads(text: str) -> Plan:
    """Return the plan of a text that `dumps` wrote.

    Raises:
        PlanError: the text is no JSON, or not a plan that could have been made.
    """
    try:
        data = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant
        )
    except PlanError:
        raise
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the plan is no JSON: {error}") from error
    return decode(data)


def decode(data: object) -> Plan:
    """Return the plan of JSON values that `encode` gave.

    Raises:
        PlanError: naming the first field that is missing, unknown or of a wrong type,
            or the first bucket that contradicts parameters, mesh and policy.
    """
    record = Record(data, "plan", ("format", "mesh", "policy", "params", "buckets"))
    if record.text("format") != FORMAT:
        raise PlanError(
            f"plan.format: expected {FORMAT!r}, got {record.text('format')!r}"
        )
    params = tuple(
        _decode_spec(item) for item in record.records("params", _SPEC_FIELDS)
    )
    mesh = _decode_mesh(record.record("mesh", _MESH_FIELDS))
    policy = _decode_policy(record.record("policy", _POLICY_FIELDS))
    buckets = tuple(
        _decode_bucket(item) for item in record.records("buckets", _BUCKET_FIELDS)
    )
    check_plan(params=params, mesh=mesh, policy=policy, buckets=buckets)
    return Plan(params=params, mesh=mesh, policy=policy, buckets=buckets)


def _encode_spec(spec: ParamSpec) -> dict[str, object]:
    return {name: _plain(getattr(spec, name)) for name in _SPEC_FIELDS}


def _decode_spec(record: Record) -> ParamSpec:
    return ParamSpec(
        record.text("name"),
        record.numbers("shape"),
        record.text("dtype"),
        requires_grad=record.flag("requires_grad"),
        layerwise_parallel=record.flag("layerwise_parallel"),
        parallel_optimizer=record.flag("parallel_optimizer"),
        comm_fusion=record.number("comm_fusion"),
        structure=cast(Structure, record.text("structure")),  # checked by ParamSpec
        state_slots=record.texts("state_slots"),
        row_slots=record.texts("row_slots"),
        column_slots=record.texts("column_slots"),
        rounds=record.numbers("rounds"),
        optimizer=record.number("optimizer"),
        is_statistic=record.flag("is_statistic"),
        aliases=record.texts("aliases"),
        slice_dim=record.optional_number("slice_dim"),
    )


def _encode_mesh(mesh: Mesh) -> dict[str, object]:
    return {name: _plain(getattr(mesh, name)) for name in _MESH_FIELDS}


def _decode_mesh(record: Record) -> Mesh:
    axes, sizes = record.texts("axes"), record.numbers("sizes")
    if len(axes) != len(sizes) or len(set(axes)) != len(axes):
        raise PlanError(f"plan.mesh: axes {axes} and sizes {sizes} do not fit together")
    return Mesh(
        dict(zip(axes, sizes, strict=True)),
        ranks_per_node=record.number("ranks_per_node"),
        layerwise_axis=record.optional_text("layerwise_axis"),
        batch_axes=record.texts("batch_axes"),
    )


def _encode_policy(policy: Policy) -> dict[str, object]:
    record = {name: _plain(getattr(policy, name)) for name in _POLICY_FIELDS}
    record["override"] = [
        {"pattern": pattern, "level": int(level)} for pattern, level in policy.overrides
    ]
    return record


def _decode_policy(record: Record) -> Policy:
    """Return the policy; its choices among words are checked by `Policy` itself."""
    return Policy(
        level=as_level(record.number("level")),
        bucket_bytes=record.number("bucket_bytes"),
        shard_threshold_bytes=record.number("shard_threshold_bytes"),
        grains=record.optional_number("grains"),
        reduction=cast(Reduction, record.text("reduction")),
        alignment=record.number("alignment"),
        override=[
            (item.text("pattern"), item.number("level"))
            for item in record.records("override", ("pattern", "level"))
        ],
        transport=cast(Transport, record.text("transport")),
        clip=_decode_clip(record.optional_record("clip", _CLIP_FIELDS)),
        non_finite=cast(NonFinite, record.text("non_finite")),
        loss_scale=_decode_scale(record.optional_record("loss_scale", _SCALE_FIELDS)),
        wire_dtype=cast(WireDtype | None, record.optional_text("wire_dtype")),
        master_weights=record.flag("master_weights"),
        memory_limit_bytes=cast(
            MemoryLimit | None, record.optional_number_or_text("memory_limit_bytes")
        ),
    )


def _decode_clip(record: Record | None) -> Clip | None:
    if record is None:
        return None
    return Clip(
        norm=record.optional_real("norm"),
        per=cast(ClipScope, record.text("per")),  # checked by Clip
        value=record.optional_real("value"),
    )


def _decode_scale(record: Record | None) -> LossScale | None:
    if record is None:
        return None
    return LossScale(
        initial=record.real("initial"),
        growth=record.real("growth"),
        backoff=record.real("backoff"),
        interval=record.number("interval"),
    )


def _encode_bucket(bucket: Bucket) -> dict[str, object]:
    record = {name: _plain(getattr(bucket, name)) for name in _BUCKET_FIELDS}
    record["extents"] = [
        {
            "name": extent.name,
            "start": extent.interval.start,
            "stop": extent.interval.stop,
            "row_numel": extent.row_numel,
            "owner": extent.owner,
        }
        for extent in bucket.extents
    ]
    return record


def _decode_bucket(record: Record) -> Bucket:
    return Bucket(
        index=record.number("index"),
        axes=record.texts("axes"),
        level=as_level(record.number("level")),
        dtype=record.text("dtype"),
        structure=cast(Structure, record.text("structure")),  # checked by check_plan
        is_trainable=record.flag("is_trainable"),
        state_slots=record.texts("state_slots"),
        row_slots=record.texts("row_slots"),
        column_slots=record.texts("column_slots"),
        rounds=record.numbers("rounds"),
        optimizer=record.number("optimizer"),
        extents=tuple(
            Extent(
                name=extent.text("name"),
                interval=Interval(extent.number("start"), extent.number("stop")),
                row_numel=extent.number("row_numel"),
                owner=extent.optional_number("owner"),
            )
            for extent in record.records("extents", _EXTENT_FIELDS)
        ),
    )


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Clip | LossScale):
        return asdict(value)
    return int(value) if isinstance(value, Level) else value


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise PlanError(f"a field is given twice among {[key for key, _ in pairs]}")
    return record


def _refuse_constant(word: str) -> NoReturn:
    raise PlanError(f"{word} is no number of JSON")
