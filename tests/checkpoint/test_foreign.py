"""Checkpoints for others and from others: files, names, partial matches."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from saved_states import make_manager, take_steps, tensors_in

from parallel_params import nn, optim
from parallel_params.checkpoint.ckpt_loading import load_checkpoint
from parallel_params.checkpoint.ckpt_saving import save_checkpoint
from parallel_params.checkpoint.exporting import Naming, export
from parallel_params.checkpoint.header import Entry, decode_header, encode_header
from parallel_params.checkpoint.importing import import_file
from parallel_params.checkpoint.manifest import Key
from parallel_params.checkpoint.names import from_torch, read_renames, to_torch
from parallel_params.checkpoint.reading import Reader
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotSaved,
)
from parallel_params.manager import ParameterManager
from parallel_params.plan.spec import ParamSpec
from parallel_params.tensor.random import set_seed


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "saved"

    def body(comm: Communicator) -> None:
        manager, net = make_manager(comm, 2)
        take_steps(manager, net)
        manager.save(path)

    run_threads(2, body)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_exported_and_imported_is_the_same_weights(
    saved: Path, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"weights{suffix}"
    notes = export(Reader.open(saved), file, Naming())
    specs = [
        ParamSpec(stored.key.name, stored.shape)
        for stored in Reader.open(saved).manifest.weights
    ]
    done = import_file(file, tmp_path / "imported", wanted=specs)
    assert done.notes == ()
    expected = {k: v for k, v in tensors_in(saved).items() if k.startswith("/")}
    found = dict(tensors_in(tmp_path / "imported"))
    if suffix == ".npz":  # which has no bfloat16
        assert notes == ["short is float32 there: .npz has no bfloat16"]
        assert found.pop("/short").startswith(b"float32")
        expected.pop("/short")
    assert found == expected

    def body(comm: Communicator) -> str:
        manager, _ = make_manager(comm, 3, seed=5)
        notes = manager.load(tmp_path / "imported", weights_only=True, strict=False)
        assert len(notes.notes) == (suffix == ".npz")
        before = manager.weights_hash()
        with pytest.raises(CheckpointMismatch, match="load it with weights_only=True"):
            manager.load(tmp_path / "imported", strict=False)
        assert manager.weights_hash() == before
        return before

    def original(comm: Communicator) -> str:
        manager, _ = make_manager(comm, 1, seed=5)
        manager.load(saved)
        return manager.weights_hash()

    if suffix == ".safetensors":
        assert run_threads(4, body)[0] == run_threads(1, original)[0]
    else:
        run_threads(1, body)


def test_torch_reads_what_is_exported_for_it(saved: Path, tmp_path: Path) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    export(Reader.open(saved), tmp_path / "w.safetensors", Naming(is_torch=True))
    found = load_file(tmp_path / "w.safetensors")
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        stored.key.name: stored.shape for stored in Reader.open(saved).manifest.weights
    }
    model = load_file(saved / "model.safetensors")  # without any export
    assert all(bool((model[name] == found[name]).all()) for name in found)


def small_net(seed: int) -> nn.SequentialCell:
    set_seed(seed)
    return nn.SequentialCell(
        nn.Dense(4, 6), nn.LayerNorm((6,)), nn.BatchNorm1d(6), nn.Embedding(5, 3)
    )


def specs_of(net: nn.Cell) -> list[ParamSpec]:
    return [ParamSpec(p.name, p.shape) for _, p in net.parameters_and_names()]


def test_a_state_dict_of_torch_is_imported_under_our_names(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="whose files these are")
    save_file = pytest.importorskip("safetensors.torch").save_file
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6),
        torch.nn.LayerNorm(6),
        torch.nn.BatchNorm1d(6),
        torch.nn.Embedding(5, 3),
    )
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    net = small_net(1)
    wanted = specs_of(net)
    done = import_file(tmp_path / "w.safetensors", tmp_path / "in", wanted=wanted)
    assert sorted(done.taken) == sorted(spec.name for spec in wanted)
    assert len(done.notes) == 1
    assert "2.num_batches_tracked is not used" in done.notes[0]
    manager = ParameterManager(net, optim.AdamW(net.trainable_params(), 0.1))
    manager.load(tmp_path / "in", weights_only=True)
    theirs = model.state_dict()
    for _, parameter in net.parameters_and_names():
        expected = theirs[to_torch(parameter.name)].numpy()
        assert np.array_equal(parameter.asnumpy(), expected), parameter.name


def test_a_file_of_mindspores_functions_is_imported_and_exported(
    tmp_path: Path,
) -> None:
    source, net = small_net(1), small_net(2)
    save_checkpoint(source, tmp_path / "w.ckpt", append_dict={"epoch": 3, "by": "us"})
    done = import_file(tmp_path / "w.ckpt", tmp_path / "in", wanted=specs_of(net))
    assert len(done.taken) == len(specs_of(net))
    assert [note.split(" is")[0] for note in done.notes] == ["epoch"]
    manager = ParameterManager(net, optim.AdamW(net.trainable_params(), 0.1))
    manager.load(tmp_path / "in", weights_only=True)
    export(Reader.open(tmp_path / "in"), tmp_path / "out.ckpt", Naming())
    other = small_net(3)
    found = load_checkpoint(tmp_path / "out.ckpt", other, strict_load=True)
    for ours, theirs, first in zip(
        net.parameters_dict().values(),
        other.parameters_dict().values(),
        source.parameters_dict().values(),
        strict=True,
    ):
        assert ours.asnumpy().tobytes() == first.asnumpy().tobytes()
        assert theirs.asnumpy().tobytes() == first.asnumpy().tobytes()
    assert {*found} == {spec.name for spec in specs_of(net)}


def test_names_of_torch_are_understood_where_the_net_has_ours() -> None:
    known = {"norm.gamma", "norm.beta", "head.weight", "embed.embedding_table"}
    for name in known:
        assert from_torch(to_torch(name), known) == name
    assert from_torch("other.weight", known) == "other.weight"


def test_a_partial_import_tells_what_is_left_with_near_names(tmp_path: Path) -> None:
    arrays = {
        "model.head.weight": np.ones((3, 2), np.float32),
        "model.haed.bias": np.ones(3, np.float32),
        "model.norm.weight": np.ones(5, np.float32),
    }
    np.savez(tmp_path / "w.npz", **arrays)  # type: ignore[arg-type]  # names of arrays
    wanted = [
        ParamSpec("head.weight", (3, 2)),
        ParamSpec("head.bias", (3,)),
        ParamSpec("norm.gamma", (4,)),
    ]
    done = import_file(
        tmp_path / "w.npz",
        tmp_path / "imported",
        renames=read_renames(["model.="]),
        wanted=wanted,
    )
    assert done.taken == ("head.weight",)
    told = "\n".join(done.notes)
    assert "model.haed.bias is not used. Did you mean 'head.bias'" in told
    assert "shape (5,), and norm.gamma has (4,)" in told
    assert "not in the file: head.bias, norm.gamma" in told


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pt", b"\x80\x02", "expected a .safetensors, .npz, .ckpt file"),
        ("w.npz", b"PK\x03\x04broken", "cannot be read"),
        ("w.npz", b"\x80\x04pickle", "it is no archive of arrays"),
        ("w.npz", b"PK", "it is no archive of arrays"),
        ("w.safetensors", b"", "no safetensors file"),
        ("w.safetensors", b"\xff" * 16, "no safetensors file"),
        ("w.safetensors", b"\x02" + bytes(7) + b"[]", "is an object"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        import_file(tmp_path / name, tmp_path / "imported")
    assert not (tmp_path / "imported").exists()


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.array([{"a": 1}], dtype=object))
    with zipfile.ZipFile(tmp_path / "w.npz") as archive:
        assert archive.namelist() == ["a.npy"]
    with pytest.raises(CheckpointError, match="pickle"):
        import_file(tmp_path / "w.npz", tmp_path / "imported")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        '{"a": {"dtype": "F32", "shape": [9999999999], "data_offsets": [0, 8]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}',
        '{"a": {"dtype": "O", "shape": [2], "data_offsets": [0, 8]}}',
        '{"a": {"dtype": "F32", "shape": [2]}}',
        '{"a": 3}',
        '{"__metadata__": {"a": 1}}',
        '{"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},'
        ' "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}',
        "{",
    ],
)
def test_a_hostile_head_is_refused(text: str) -> None:
    head = len(text).to_bytes(8, "little") + text.encode()
    with pytest.raises(CheckpointError, match="somewhere"):
        decode_header(head, len(head) + 8, "somewhere")


def test_a_head_that_is_read_back_is_the_one_written() -> None:
    entries = [
        Entry(key="b", dtype="float64", shape=(2, 3), start=0),
        Entry(key="none", dtype="int8", shape=(0, 3), start=48),
        Entry(key="a", dtype="bfloat16", shape=(), start=48),
    ]
    head = encode_header(entries, {"format": "pt"})
    assert decode_header(head, len(head) + 50, "") == (entries, {"format": "pt"})


def test_an_export_writes_over_nothing_and_leaves_nothing_half_done(
    saved: Path, tmp_path: Path
) -> None:
    reader = Reader.open(saved)
    (tmp_path / "there.npz").write_bytes(b"mine")
    with pytest.raises(CheckpointNotSaved, match="there already"):
        export(reader, tmp_path / "there.npz", Naming())
    with pytest.raises(CheckpointError, match="ends in"):
        export(reader, tmp_path / "w.bin", Naming())
    naming = Naming(renames=[("first", "gain")])
    with pytest.raises(CheckpointError, match="both be called 'gain'"):
        export(reader, tmp_path / "w.npz", naming)
    with pytest.raises(CheckpointNotSaved, match="No such file"):
        export(reader, tmp_path / "nowhere" / "w.npz", Naming())
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_bytes() == b"mine"


def test_a_parameter_is_renamed_with_its_state_and_slices() -> None:
    naming = Naming(is_torch=True, renames=[("blocks.", "h.")])
    key = Key("blocks.0.norm.gamma", "moment1", 1)
    assert naming.name_of(key, 2) == "moment1.h.0.norm.weight@slice1"
    assert naming.name_of(key._replace(slot=""), 1) == "h.0.norm.weight"
