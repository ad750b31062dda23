"""What is damaged, foreign or hostile is refused, and changes nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from saved_states import edit, manager_of, refused, save_trained, weight

from parallel_params.checkpoint.reading import _PIECE_BYTES, Reader
from parallel_params.comm.local import run_threads
from parallel_params.errors import (
    CheckpointDamaged,
    CheckpointError,
    CheckpointMismatch,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "saved"

    run_threads(2, lambda comm: save_trained(comm, path))
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
