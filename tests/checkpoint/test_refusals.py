"""What is not a whole checkpoint of this net is refused, and changes nothing."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from odd_nets import policy_of
from ranked import assert_on_all_ranks
from saved_states import edit, make_manager, refused, take_steps, tensors_in

from parallel_params import optim
from parallel_params.checkpoint.checkpointer import Checkpointer
from parallel_params.checkpoint.files import Files
from parallel_params.checkpoint.reading import _PIECE_BYTES, Reader
from parallel_params.comm.local import run_threads
from parallel_params.comm.protocol import Communicator
from parallel_params.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotSaved,
)
from parallel_params.manager import ParameterManager
from parallel_params.nn.parameter import Parameter
from parallel_params.tensor.tensor import Tensor


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "saved"

    def body(comm: Communicator) -> None:
        manager, net = make_manager(comm, 1)
        take_steps(manager, net)
        manager.save(path)

    run_threads(2, body)
    return path


@pytest.fixture
def saved(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    return Path(shutil.copytree(whole, tmp_path / "saved"))


@pytest.mark.parametrize("name", ["model.safetensors", "optim.safetensors"])
def test_a_flipped_bit_is_found_and_its_tensor_named(saved: Path, name: str) -> None:
    stored = next(
        stored
        for stored in Reader.open(saved).manifest.tensors
        if stored.key.name == "first" and bool(stored.key.slot) == (name[0] == "o")
    )
    data = bytearray((saved / name).read_bytes())
    data[stored.blocks[0].offset + 5] ^= 16
    (saved / name).write_bytes(data)

    refused(saved, CheckpointDamaged, name, "'first'")


@pytest.mark.parametrize("place", [0, _PIECE_BYTES - 1, _PIECE_BYTES, -1])
def test_a_flipped_bit_is_found_in_every_piece_of_a_block(
    tmp_path: Path, place: int
) -> None:
    """Pieces are what is read at once to be hashed; the last one is shorter."""
    numel = _PIECE_BYTES // 2 + 3
    comm = run_threads(1, lambda comm: comm)[0]
    manager_of(comm, weight("w", numel)).save(tmp_path / "saved")
    stored = next(s for s in Reader.open(tmp_path / "saved").manifest.weights)
    path = tmp_path / "saved" / "model.safetensors"
    data = bytearray(path.read_bytes())
    first, last = stored.blocks[0].offset, stored.blocks[-1].offset + 4 * numel
    data[(last if place < 0 else first) + place] ^= 1
    path.write_bytes(data)
    with Reader.open(tmp_path / "saved") as reader, pytest.raises(CheckpointDamaged):
        reader.array(stored)


def test_a_flipped_bit_in_the_head_or_the_manifest_is_found(saved: Path) -> None:
    for name, place in (("model.safetensors", 30), ("manifest.json", 600)):
        whole = (saved / name).read_bytes()
        data = bytearray(whole)
        data[place] ^= 1
        (saved / name).write_bytes(data)
        refused(saved, CheckpointDamaged, name)
        (saved / name).write_bytes(whole)


def test_a_file_that_is_cut_short_or_gone_is_named(saved: Path) -> None:
    path = saved / "optim.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    refused(saved, CheckpointDamaged, "optim.safetensors", "bytes")
    path.unlink()
    refused(saved, CheckpointError, "optim.safetensors", "No such file")


def test_a_folder_without_a_manifest_is_no_checkpoint(saved: Path) -> None:
    (saved / "manifest.json").unlink()
    refused(saved, CheckpointError, "no checkpoint")
    refused(saved / "nowhere", CheckpointError, "is not there")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("parallel_params checkpoint 2", "a newer format"),
        ("parallel_params checkpoint 0", "an older format"),
        ("something else", "no manifest"),
        (7, "no manifest"),
    ],
)
def test_another_version_is_told_from_another_format(
    saved: Path, version: object, words: str
) -> None:
    edit(saved, lambda record: record.update(format=version))
    refused(saved, CheckpointError, words)


def _blocks(record: dict, index: int = 0) -> list[dict]:  # type: ignore[type-arg]  # JSON
    blocks: list[dict] = record["tensors"][index]["blocks"]  # type: ignore[type-arg]
    return blocks


HOSTILE: dict[str, Callable[[dict], object]] = {  # type: ignore[type-arg]  # JSON
    "../model": lambda r: r["files"][0].update(name="../model.safetensors"),
    "/etc": lambda r: r["files"][0].update(name="/etc/model.safetensors"),
    "is there twice": lambda r: r["files"][0].update(name=r["files"][1]["name"]),
    "file 9": lambda r: _blocks(r)[0].update(file=9),
    "reaches byte": lambda r: _blocks(r)[0].update(offset=2**61),
    "the head reaches": lambda r: _blocks(r)[0].update(offset=8),
    "starts at byte": lambda r: _blocks(r, 0)[0].update(
        offset=_blocks(r, 1)[0]["offset"]
    ),
    "expected a number from 0": lambda r: _blocks(r)[0].update(offset=-4096),
    "or too large": lambda r: _blocks(r)[0].update(stop=2**40),
    "is none": lambda r: _blocks(r).append(_blocks(r)[-1]),
    "elements of": lambda r: r["tensors"][0].update(shape=[2**40, 2**20]),
    "no shape": lambda r: r["tensors"][0].update(shape=[-1]),
    "hold 0 elements": lambda r: _blocks(r).clear(),
    "unknown element type": lambda r: r["tensors"][0].update(dtype="object"),
    "printable": lambda r: r["tensors"][0].update(name="a\nb"),
    "the tensor": lambda r: r["tensors"].append(r["tensors"][0]),
    "slices": lambda r: r["tensors"][0].update(slice=1),
    "hex digits": lambda r: _blocks(r)[0].update(hash="x" * 32),
    "is missing": lambda r: r["tensors"][0].pop("dtype"),
    "unknown field": lambda r: r.update(further=1),
    "layout": lambda r: r.update(layout="three"),
    "expected a list": lambda r: r.update(files={}),
    "head is longer": lambda r: r["files"][0].update(header_bytes=2**40),
    "a whole number": lambda r: r.update(step=1.5),
    "training": lambda r: r["training"].pop("random"),
    "optimizers": lambda r: r["training"].update(optimizers=[]),
}


@pytest.mark.parametrize("words", HOSTILE)
def test_a_hostile_manifest_is_refused_before_anything_is_read(
    saved: Path, words: str
) -> None:
    edit(saved, HOSTILE[words])
    kind = CheckpointMismatch if words == "optimizers" else CheckpointError
    if words == "the head reaches":
        kind = CheckpointError
    refused(saved, kind, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[1]", "an object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "JSON"),
        (b'{"format": "parallel_params checkpoint 1", "step": 1e999}', "manifest.json"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "JSON"),
    ],
)
def test_a_manifest_that_is_no_strict_json_is_refused(
    saved: Path, text: bytes, words: str
) -> None:
    (saved / "manifest.json").write_bytes(text)
    refused(saved, CheckpointError, words)


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_links_and_pipes_are_not_followed(saved: Path, name: str) -> None:
    target = saved.parent / "elsewhere"
    (saved / name).rename(target)
    (saved / name).symlink_to(target)
    refused(saved, CheckpointError, name, "a link")
    (saved / name).unlink()
    os.mkfifo(saved / name)
    refused(saved, CheckpointError, name, "no ordinary file")


def test_a_manifest_of_absurd_length_is_not_read(saved: Path) -> None:
    os.truncate(saved / "manifest.json", 2**40)  # sparse
    refused(saved, CheckpointError, "no manifest is larger")


# ---- a checkpoint of something else


def manager_of(comm: Communicator, *parameters: Parameter) -> ParameterManager:
    return ParameterManager(
        list(parameters),
        optim.Momentum([p for p in parameters if p.requires_grad], 0.1, 0.9),
        comm=comm,
        policy=policy_of(1),
    )


def weight(name: str, *shape: int, **flags: bool) -> Parameter:
    return Parameter(Tensor(np.ones(shape, np.float32)), name=name, **flags)


def test_another_net_is_refused_with_near_names(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        manager_of(comm, weight("head.weight", 3, 2)).save(tmp_path / "one")

        with pytest.raises(CheckpointMismatch, match=r"'head.wieght'.*'head.weight'"):
            manager_of(comm, weight("head.wieght", 3, 2)).load(tmp_path / "one")
        with pytest.raises(
            CheckpointMismatch, match=r"shape \(3, 2\) there and \(2, 3\)"
        ):
            manager_of(comm, weight("head.weight", 2, 3)).load(tmp_path / "one")
        both = manager_of(comm, weight("head.weight", 3, 2), weight("b", 2))
        with pytest.raises(CheckpointMismatch, match="no parameter 'b'"):
            both.load(tmp_path / "one")
        both.save(tmp_path / "two")
        with pytest.raises(CheckpointMismatch, match="does not have: 'b'"):
            manager_of(comm, weight("head.weight", 3, 2)).load(tmp_path / "two")

    run_threads(2, body)


def test_a_partial_load_says_what_it_left_alone(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        manager_of(comm, weight("a", 3), weight("old", 2)).save(tmp_path / "saved")
        here = weight("a", 3)
        here.set_data(Tensor(np.zeros(3, np.float32)))
        manager = manager_of(comm, here, weight("new", 2))
        notes = manager.load(tmp_path / "saved", strict=False).notes
        assert here.asnumpy().tolist() == [1.0, 1.0, 1.0]
        assert any("'new' stays as it is" in note for note in notes), notes
        assert any("not used" in note and "'old'" in note for note in notes), notes

    run_threads(1, body)


def test_another_optimizer_is_refused_but_for_the_weights(whole: Path) -> None:
    def body(comm: Communicator) -> None:
        manager, _ = make_manager(comm, 1, seed=5, optimizer="lars")
        with pytest.raises(CheckpointMismatch, match="another optimizer"):
            manager.load(whole)
        manager.load(whole, weights_only=True)
        assert manager.num_steps == 0

    run_threads(2, body)


def test_what_was_frozen_starts_anew_and_what_is_frozen_now_is_dropped(
    tmp_path: Path,
) -> None:
    def body(comm: Communicator) -> None:
        first = manager_of(comm, weight("a", 3), weight("b", 3, requires_grad=False))
        first.update({"a": np.ones(3)})
        first.save(tmp_path / "saved")
        second = manager_of(comm, weight("a", 3, requires_grad=False), weight("b", 3))
        second.update({"b": np.ones(3)})
        notes = second.load(tmp_path / "saved").notes
        assert any("'b' starts anew" in note for note in notes), notes
        assert any("'a' is dropped" in note for note in notes), notes
        second.save(tmp_path / "again")
        assert tensors_in(tmp_path / "again")["moments/moments.b"][7:] == bytes(12)

    run_threads(1, body)


# ---- a save that fails


class FullDisk(Files):
    """Refuses one kind of operation from the n-th on."""

    def __init__(self, method: str, number: int = 0, code: int = errno.ENOSPC) -> None:
        self._left = number

        def refuse(*arguments: object) -> object:
            self._left -= 1
            if self._left < 0:
                raise OSError(code, os.strerror(code))
            return getattr(super(FullDisk, self), method)(*arguments)

        setattr(self, method, refuse)


@pytest.mark.parametrize(
    ("method", "number", "code"),
    [
        ("make_folder", 0, errno.EACCES),
        ("create", 1, errno.EROFS),
        ("resize", 0, errno.EFBIG),
        ("write", 3, errno.ENOSPC),
        ("sync", 2, errno.EIO),
        ("rename", 0, errno.EIO),
        ("sync_folder", 0, errno.EIO),
    ],
)
@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_save_that_fails_says_why_on_all_ranks_and_harms_nothing(
    tmp_path: Path, method: str, number: int, code: int, is_asynchronous: bool
) -> None:
    def body(comm: Communicator) -> None:
        manager = manager_of(comm, weight("w", 8))
        good = Checkpointer(tmp_path / "kept")
        good.save(manager, extras={"is": "good"})
        manager.update({"w": np.ones(8)})
        # Every rank has a disk of its own here; the first rank's is full.
        files = FullDisk(method, number, code) if comm.rank == 0 else Files()
        bad = Checkpointer(tmp_path / "kept", asynchronous=is_asynchronous, files=files)
        try:
            bad.save(manager)
            bad.finish(comm)
            text = "no error"
        except CheckpointNotSaved as error:
            text = "" if os.strerror(code) in str(error) else str(error)
        assert_on_all_ranks(comm, not text, text)
        loaded = good.load(manager)
        assert_on_all_ranks(comm, loaded.manifest.extras == {"is": "good"})

    run_threads(2, body)


def test_a_folder_that_is_there_is_not_written_over(whole: Path) -> None:
    before = tensors_in(whole)

    def body(comm: Communicator) -> None:
        manager, _ = make_manager(comm)
        with pytest.raises(CheckpointNotSaved, match="is there already"):
            manager.save(whole)

    run_threads(2, body)
    assert tensors_in(whole) == before


@pytest.mark.parametrize(
    "extras", [{"a": float("nan")}, {"a": {1: 2}}, {"a": object()}, {"a": [1j]}]
)
def test_extras_that_are_no_json_are_refused(
    tmp_path: Path, extras: dict[str, object]
) -> None:
    def body(comm: Communicator) -> None:
        manager = manager_of(comm, weight("w", 8))
        with pytest.raises(CheckpointNotSaved, match="JSON"):
            manager.save(tmp_path / "saved", extras=extras)

    run_threads(2, body)
    assert not (tmp_path / "saved").exists()


def test_half_a_step_is_not_saved(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        w = weight("w", 8)
        manager = manager_of(comm, w)
        manager.accumulate(lambda x: (w * x).sum(), np.ones((2, 1), np.float32))
        with pytest.raises(CheckpointNotSaved, match="accumulated"):
            manager.save(tmp_path / "saved")
        manager.step(lambda x: (w * x).sum(), np.ones((2, 1), np.float32))
        manager.save(tmp_path / "saved")

    run_threads(1, body)


def test_names_that_would_be_one_in_a_file_are_refused(tmp_path: Path) -> None:
    def body(comm: Communicator) -> None:
        own = weight("w", 2, layerwise_parallel=True)
        manager = manager_of(comm, own, weight("w@slice1", 2))
        with pytest.raises(CheckpointNotSaved, match="'w@slice1'"):
            manager.save(tmp_path / "saved")

    run_threads(2, body)
