"""MindSpore's functions and its `.ckpt` files: what is written, read, and refused."""

import importlib.util
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parallel_params as pp
from parallel_params import nn
from parallel_params.checkpoint.ckpt_format import encode_head, encode_trailer
from parallel_params.checkpoint.foreign_files import open_foreign
from parallel_params.checkpoint.single_file import Head, bytes_of, write_ckpt
from parallel_params.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointFolderMissing,
    CheckpointNotSaved,
)
from parallel_params.plan.spec import ITEM_BYTES
from parallel_params.tensor.dtype import dtype_named
from parallel_params.tensor.tape import Array

APPENDED = {
    "epoch": 3,
    "lr": 0.5,
    "ok": True,
    "note": "häßlich \N{SNOWMAN}",
    "none": "",
}


def array_of(dtype: str, shape: tuple[int, ...] = (2, 3)) -> Array:
    numbers = np.arange(int(np.prod(shape)))
    array: Array = numbers.astype(dtype_named(dtype).numpy).reshape(shape)
    return array


def parameter(name: str, array: Array) -> pp.Parameter:
    return pp.Parameter._from_tensor(pp.Tensor.wrap(array), name=name)


def every_kind() -> dict[str, pp.Parameter]:
    """One parameter of every element type, a scalar, and one without elements."""
    arrays = {dtype: array_of(dtype) for dtype in ITEM_BYTES}
    arrays["scalar"], arrays["empty"] = array_of("float32", ()), np.zeros((0, 3))
    return {name: parameter(name, array) for name, array in arrays.items()}


def assert_same(found: object, expected: pp.Parameter) -> None:
    assert isinstance(found, pp.Parameter)
    assert (found.name, found.dtype, found.shape) == (
        expected.name,
        expected.dtype,
        expected.shape,
    )
    assert found.asnumpy().tobytes() == expected.asnumpy().tobytes()


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
@pytest.mark.parametrize("has_checksum", [False, True])
def test_every_type_comes_back_with_its_bits(
    tmp_path: Path, kind: str, has_checksum: bool
) -> None:
    given = every_kind()
    texts = APPENDED if kind == "ckpt" else {}
    pp.save_checkpoint(
        given,
        str(tmp_path / "w"),
        append_dict=texts,
        crc_check=has_checksum,
        format=kind,
    )
    path = tmp_path / f"w.{kind}"
    found = pp.load_checkpoint(path, crc_check=has_checksum, format=kind)
    assert [*found] == [*given, *texts] if texts else sorted(found) == sorted(given)
    for name, expected in given.items():
        assert_same(found[name], expected)
    if texts:
        assert (found["note"], found["none"]) == (APPENDED["note"], "")
        for name, value in (("epoch", 3), ("lr", 0.5), ("ok", True)):
            number = found[name]
            assert isinstance(number, pp.Parameter)
            assert number.shape == ()
            assert number.asnumpy() == value
    assert path.stat().st_mode & 0o777 == 0o400
    assert os.listdir(tmp_path) == [path.name]


def messages_of_protobuf(*, is_packed: bool = False) -> Any:
    """Return the message `Checkpoint` made by protobuf's own library."""
    pytest.importorskip("google.protobuf", reason="the oracle of the bytes")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name=f"tensors{is_packed}.proto", package=f"p{is_packed}", syntax="proto2"
    )
    field = descriptor_pb2.FieldDescriptorProto
    for message, name, number, kind, label in [
        ("Checkpoint", "value", 1, ".Value", field.LABEL_REPEATED),
        ("Value", "tag", 1, field.TYPE_STRING, field.LABEL_REQUIRED),
        ("Value", "tensor", 2, ".TensorProto", field.LABEL_OPTIONAL),
        ("Value", "later", 9, field.TYPE_FIXED64, field.LABEL_OPTIONAL),
        ("TensorProto", "dims", 1, field.TYPE_INT64, field.LABEL_REPEATED),
        ("TensorProto", "tensor_type", 2, field.TYPE_STRING, field.LABEL_REQUIRED),
        ("TensorProto", "tensor_content", 3, field.TYPE_BYTES, field.LABEL_REQUIRED),
    ]:
        if not file.message_type or file.message_type[-1].name != message:
            file.message_type.add(name=message)
        added = file.message_type[-1].field.add(name=name, number=number, label=label)
        if isinstance(kind, str):
            added.type, added.type_name = field.TYPE_MESSAGE, f".{file.package}{kind}"
        else:
            added.type = kind
        added.options.packed = is_packed and name == "dims"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{file.package}.Checkpoint")
    return message_factory.GetMessageClass(found)


def test_protobuf_reads_what_is_written(tmp_path: Path) -> None:
    given = every_kind()
    pp.save_checkpoint(given, tmp_path / "w.ckpt", append_dict={"note": "ab"})
    message = messages_of_protobuf().FromString((tmp_path / "w.ckpt").read_bytes())
    assert [value.tag for value in message.value] == [*given, "note"]
    for value in message.value[:-1]:
        expected = given[value.tag]
        assert tuple(value.tensor.dims) == expected.shape
        assert value.tensor.tensor_type == str(expected.dtype)
        assert value.tensor.tensor_content == expected.asnumpy().tobytes()
    assert message.SerializeToString() == (tmp_path / "w.ckpt").read_bytes()


@pytest.mark.parametrize("is_packed", [False, True])
def test_what_protobuf_writes_is_read(tmp_path: Path, is_packed: bool) -> None:
    """In parts, with packed dims and with fields that came later."""
    message = messages_of_protobuf(is_packed=is_packed)()
    array = array_of("bfloat16", (300, 5))
    data = array.tobytes()
    for part in (data[:7], data[7:]):
        value = message.value.add(tag="w", later=7)
        value.tensor.dims.extend(array.shape)
        value.tensor.tensor_type, value.tensor.tensor_content = "BFloat16", part
    (tmp_path / "w.ckpt").write_bytes(message.SerializeToString())
    assert_same(pp.load_checkpoint(tmp_path / "w.ckpt")["w"], parameter("w", array))


def test_a_large_tensor_lies_in_parts_and_comes_back_whole(tmp_path: Path) -> None:
    arrays = [array_of("float64", (5, 5)), array_of("int8", (3,))]
    heads = [
        Head(name="a", dtype="float64", shape=(5, 5)),
        Head(name="b", dtype="int8", shape=(3,)),
    ]
    write_ckpt(tmp_path / "w.ckpt", heads, arrays, piece_bytes=64)
    assert (tmp_path / "w.ckpt").read_bytes().count(b"Float64") == 4
    found = pp.load_checkpoint(tmp_path / "w.ckpt")
    for head, array in zip(heads, arrays, strict=True):
        assert_same(found[head.name], parameter(head.name, array))


def value_of(
    name: str = "w",
    type_name: str = "Float32",
    dims: tuple[int, ...] = (2,),
    content: bytes = bytes(8),
) -> bytes:
    return encode_head(name, type_name, dims, len(content)) + content


HOSTILE = [
    (b"", "no value"),
    (b"\xff" * 40, "no .ckpt file"),
    (b"\x80\x04pickle", "no .ckpt file"),
    (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut short"),
    (value_of()[:-1], "cut short"),
    (value_of() + b"\x12\x00", "at its outside"),
    (value_of(dims=(2**62, 2**62)), "needs"),
    (value_of(dims=(2**64 - 1,)), "negative dims"),
    (value_of(dims=(1,) * 65, content=bytes(4)), "more than 64 dims"),
    (value_of(dims=(3,)), "needs 12 bytes and has 8"),
    (value_of(type_name="Int4"), "element type 'Int4'"),
    (value_of(type_name="x" * 40), "more than 32"),
    (value_of(name=""), "cannot be one"),
    (value_of(name="a\n"), "cannot be one"),
    (value_of(name="n" * 2000), "cannot be one"),
    (value_of() + value_of("v") + value_of(), "'w' is there twice"),
    (value_of() + value_of(type_name="Int32"), "do not fit together"),
    (value_of(type_name="str", dims=(0,), content=b"abc"), "text of 3 bytes"),
    (value_of(type_name="str", content=b"\xff" * 8), "is no text"),
    (b"\x0a\x05\x0a\x01w\x1a\x00", "MapParameter"),
    (b"\x0a\x03\x0a\x01w", "without name or tensor"),
    (b"\x0a\x02\x0b\x00", "unknown kind 3"),
]


@pytest.mark.parametrize(("content", "words"), HOSTILE)
def test_a_hostile_file_is_refused_before_it_costs_memory(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "w.ckpt").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=words):
            pp.load_checkpoint(tmp_path / "w.ckpt")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_cut_short_anywhere_is_refused_or_is_whole_values(
    tmp_path: Path,
) -> None:
    path = tmp_path / "w.ckpt"
    whole = value_of("a") + value_of("b", "Int8", (), b"\x07")
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length == len(value_of("a")):
            assert [*pp.load_checkpoint(path)] == ["a"]
            continue
        with pytest.raises(CheckpointError):
            pp.load_checkpoint(path)


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
def test_a_changed_file_is_noticed_by_its_crc(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"w.{kind}"
    given = [parameter("w", array_of("float32"))]
    pp.save_checkpoint(given, path, crc_check=True, format=kind)
    content = bytearray(path.read_bytes())
    at = bytes(content).index(array_of("float32").tobytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)
    assert pp.load_checkpoint(path, format=kind)  # nobody asked
    with pytest.raises(CheckpointDamaged, match="CRC-32"):
        pp.load_checkpoint(path, crc_check=True, format=kind)


def test_a_file_without_crc_is_loaded_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pp.save_checkpoint([parameter("w", array_of("int8"))], tmp_path / "w.ckpt")
    pp.load_checkpoint(tmp_path / "w.ckpt", crc_check=True)
    assert "has no CRC-32" in caplog.text


def test_old_files_have_dims_of_0_for_scalars(tmp_path: Path) -> None:
    content = value_of(
        dims=(0,), content=bytes_of(np.float32(2.5).reshape(1)).tobytes()
    )
    (tmp_path / "w.ckpt").write_bytes(content)
    found = pp.load_checkpoint(tmp_path / "w.ckpt")["w"]
    assert isinstance(found, pp.Parameter)
    assert (found.shape, float(found)) == ((), 2.5)


def test_a_saved_object_may_be_a_cell_a_list_or_a_dict(tmp_path: Path) -> None:
    net = nn.SequentialCell(nn.Dense(2, 3), nn.LayerNorm((3,)))
    names = ["0.weight", "0.bias", "1.gamma", "1.beta"]
    for given in (
        net,
        net.trainable_params(),
        [{"name": p.name, "data": p} for p in net.trainable_params()],
        net.parameters_dict(),
        {p.name: p.asnumpy() for p in net.trainable_params()},
    ):
        pp.save_checkpoint(given, tmp_path / "w")
        assert [*pp.load_checkpoint(tmp_path / "w.ckpt")] == names
    pp.save_checkpoint(net, tmp_path / "w", choice_func=lambda name: "0." in name)
    assert [*pp.load_checkpoint(tmp_path / "w.ckpt")] == names[:2]


def test_an_optimizer_goes_on_from_its_file(tmp_path: Path) -> None:
    """Step, rate, weights and moments come back (PARAMETER.md, B 7)."""

    def build(seed: int) -> nn.Optimizer:
        pp.set_seed(seed)
        return nn.Adam(nn.Dense(2, 3).trainable_params(), learning_rate=0.25)

    def step(optimizer: nn.Optimizer) -> None:
        optimizer(tuple(pp.Tensor.wrap(np.ones_like(p)) for p in optimizer.parameters))

    first, second = build(1), build(2)
    step(first)
    pp.save_checkpoint(first, tmp_path / "w")
    assert pp.load_param_into_net(second, pp.load_checkpoint(tmp_path / "w.ckpt")) == (
        [],
        [],
    )
    for optimizer in (first, second):
        step(optimizer)
    for ours, theirs in zip(
        first.get_parameters(), second.get_parameters(), strict=True
    ):
        assert_same(theirs, ours)


def test_a_save_beside_takes_the_values_of_its_call(tmp_path: Path) -> None:
    given = parameter("w", array_of("float32"))
    for word in (True, "thread", "process"):
        pp.save_checkpoint([given], tmp_path / "w", async_save=word)
        expected = parameter("w", given.asnumpy().copy())
        given.asnumpy()[...] += 1
        pp.save_checkpoint([given], tmp_path / "other", async_save=word)
        pp.save_checkpoint([expected], tmp_path / "w")  # waits for the one before
        assert_same(pp.load_checkpoint(tmp_path / "w.ckpt")["w"], expected)
    pp.save_checkpoint([given], tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == ["other.ckpt", "w.ckpt"]


def test_what_is_asked_of_a_load_is_what_is_read(tmp_path: Path) -> None:
    names = ["net.a", "net.b", "moment.net.a"]
    pp.save_checkpoint([parameter(n, array_of("int8")) for n in names], tmp_path / "w")

    def load(**wishes: Any) -> list[str]:
        return [*pp.load_checkpoint(tmp_path / "w.ckpt", **wishes)]

    assert load(filter_prefix="moment") == names[:2]
    assert load(specify_prefix=["net.b", "moment"]) == names[1:]
    assert load(specify_prefix="net", filter_prefix=("net.a",)) == ["net.b"]
    assert load(choice_func=lambda name: name.endswith("a")) == [
        "net.a",
        "moment.net.a",
    ]
    refused: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"filter_prefix": ""}, ValueError),
        ({"specify_prefix": []}, ValueError),
        ({"specify_prefix": 3}, TypeError),
        ({"specify_prefix": "other"}, CheckpointError),
        ({"dec_key": "text"}, TypeError),
        ({"dec_key": b"0" * 16}, CheckpointError),
        ({"crc_check": 1}, TypeError),
        ({"remove_redundancy": True}, CheckpointError),
        ({"format": "npz"}, ValueError),
        ({"format": "safetensors"}, CheckpointError),
    ]
    for wishes, error in refused:
        with pytest.raises(error):
            load(**wishes)
    with pytest.raises(CheckpointError, match="No such file"):
        pp.load_checkpoint(tmp_path / "nowhere.ckpt")
    with pytest.raises(CheckpointError, match=r"expected a \.ckpt"):
        pp.load_checkpoint(tmp_path / "w.npz")


def test_what_cannot_be_saved_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    good = [parameter("w", array_of("int8"))]

    def save(given: Any = good, name: Any = tmp_path / "w", **more: Any) -> None:
        pp.save_checkpoint(given, name, **more)

    complex_one = [{"name": "c", "data": pp.Tensor([1j])}]
    refused: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"given": 3}, TypeError),
        ({"given": [3]}, TypeError),
        ({"given": {"a": 3}}, TypeError),
        ({"given": {3: good[0]}}, TypeError),
        ({"given": []}, CheckpointError),
        ({"given": [*good, *good]}, CheckpointError),
        ({"given": complex_one}, CheckpointError),
        ({"append_dict": {"w": 1}}, CheckpointError),
        ({"append_dict": {"a": [1]}}, TypeError),
        ({"append_dict": [1]}, TypeError),
        ({"append_dict": {"a": "b"}, "format": "safetensors"}, CheckpointError),
        ({"name": 3}, TypeError),
        ({"name": tmp_path}, IsADirectoryError),
        ({"name": tmp_path / "nowhere" / "w"}, CheckpointFolderMissing),
        ({"name": tmp_path / "nowhere" / "w"}, FileNotFoundError),
        ({"integrated_save": 1}, TypeError),
        ({"async_save": 1}, TypeError),
        ({"async_save": "later"}, ValueError),
        ({"enc_key": b"0" * 16}, CheckpointError),
        ({"format": "npz"}, ValueError),
    ]
    for arguments, error in refused:
        with pytest.raises(error):
            save(**arguments)
    assert os.listdir(tmp_path) == []


def test_a_file_that_was_there_stays_if_the_new_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.ckpt"
    pp.save_checkpoint([parameter("w", array_of("int8"))], path)
    before = path.read_bytes()

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(CheckpointNotSaved, match="No space left"):
        pp.save_checkpoint([parameter("v", array_of("int8"))], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.ckpt"]


MINDSPORE_READS_AND_WRITES = """
import sys
import mindspore
folder = sys.argv[1]
found = mindspore.load_checkpoint(f"{folder}/ours.ckpt", crc_check=True)
assert found["note"] == sys.argv[2] and found["none"] == "", found["note"]
assert found["scalar"].shape == () and found["bfloat16"].dtype == mindspore.bfloat16
tensors = {name: p for name, p in found.items() if not isinstance(p, str)}
mindspore.save_checkpoint(tensors, f"{folder}/theirs.ckpt", crc_check=True)
plain = mindspore.load_checkpoint(f"{folder}/ours.safetensors", format="safetensors")
for name, p in plain.items():
    assert (p.asnumpy() == found[name].asnumpy()).all(), name
mindspore.save_checkpoint(plain, f"{folder}/theirs.safetensors", format="safetensors",
                          crc_check=True)
nn = mindspore.nn
net = nn.SequentialCell(nn.Dense(2, 3), nn.LayerNorm((3,)), nn.Embedding(4, 2),
                        nn.Conv2d(2, 3, 3, has_bias=True), nn.BatchNorm2d(3))
left = mindspore.load_param_into_net(
    net, mindspore.load_checkpoint(f"{folder}/net.ckpt"), strict_load=True)
assert left == ([], []), left
mindspore.save_checkpoint(net, f"{folder}/back.ckpt")
"""


def test_a_real_mindspore_reads_ours_and_writes_what_is_read(tmp_path: Path) -> None:
    if importlib.util.find_spec("mindspore") is None:
        pytest.skip("MindSpore is not installed; protobuf's library stands in above")
    given = every_kind()
    pp.save_checkpoint(
        given, tmp_path / "ours.ckpt", append_dict=APPENDED, crc_check=True
    )
    plain = {name: p for name, p in given.items() if name not in ("bfloat16", "empty")}
    pp.save_checkpoint(plain, tmp_path / "ours.safetensors", format="safetensors")
    net = nn.SequentialCell(
        nn.Dense(2, 3),
        nn.LayerNorm((3,)),
        nn.Embedding(4, 2),
        nn.Conv2d(2, 3, 3, has_bias=True),
        nn.BatchNorm2d(3),
    )
    pp.save_checkpoint(net, tmp_path / "net")
    program = [sys.executable, "-c", MINDSPORE_READS_AND_WRITES, str(tmp_path)]
    answer = subprocess.run(
        [*program, str(APPENDED["note"])], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    back = pp.load_checkpoint(tmp_path / "theirs.ckpt", crc_check=True)
    # MindSpore writes nothing for a tensor without elements.
    assert {*given} - {*back} == {"empty"}
    for name in {*given} & {*back}:
        assert_same(back[name], given[name])
    again = pp.load_checkpoint(
        tmp_path / "theirs.safetensors", crc_check=True, format="safetensors"
    )
    for name, expected in plain.items():
        assert_same(again[name], expected)
    found = pp.load_checkpoint(tmp_path / "back.ckpt")
    assert pp.load_param_into_net(net, found, strict_load=True) == ([], [])


def test_ckpt_files_are_foreign_files_like_the_others(tmp_path: Path) -> None:
    given = every_kind()
    pp.save_checkpoint(given, tmp_path / "w.ckpt", append_dict=APPENDED)
    with open_foreign(tmp_path / "w.ckpt") as file:
        assert [*file.names()] == [*given, "epoch", "lr", "ok"]
        assert all(file.shape(name) == p.shape for name, p in given.items())
    assert encode_trailer(0) == b"crc_num" + bytes(10)
