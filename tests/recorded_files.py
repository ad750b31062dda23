"""A file system that remembers what was done to it, and what a crash makes of that.

`RecordedFiles` does everything for real and keeps a list. `after_crash` plays the start
of such a list onto a model of a disk, where data and names live in memory until they
are synced, and says what is left after a crash.
"""

import os
import random
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from parallel_params.checkpoint.files import Files

WAYS = ("kill", "torn", "nodata", "zeros", "nonames", "mixed")
"""kill: all that was done is there. torn: the last operation is half done. nodata: what
was not synced is not in the files. zeros: it is, but reads as zeros. nonames: names
that were not synced are as before. mixed: any of these, by file and by name."""

Like = Literal[
    "folder", "create", "resize", "write", "sync", "names", "rename", "remove"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing done to the disk; paths are relative to the root."""

    like: Like
    path: str
    target: str = ""
    data: bytes = b""
    number: int = 0


class RecordedFiles(Files):
    """Does what `Files` does and remembers it; ranks may be threads."""

    def __init__(self, root: Path) -> None:
        self.operations: list[Operation] = []
        self._root = root
        self._open: dict[int, str] = {}
        self._lock = threading.Lock()

    def make_folder(self, path: Path) -> None:
        with self._lock:
            super().make_folder(path)
            self._note("folder", path)

    def create(self, path: Path) -> int:
        with self._lock:
            descriptor = super().create(path)
            self._open[descriptor] = self._name(path)
            self._note("create", path)
            return descriptor

    def open(self, path: Path) -> int:
        with self._lock:
            descriptor = super().open(path)
            self._open[descriptor] = self._name(path)
            return descriptor

    def resize(self, descriptor: int, num_bytes: int) -> None:
        with self._lock:
            super().resize(descriptor, num_bytes)
            self._note("resize", descriptor, number=num_bytes)

    def write(self, descriptor: int, data: memoryview, offset: int) -> None:
        with self._lock:
            super().write(descriptor, data, offset)
            self._note("write", descriptor, data=bytes(data), number=offset)

    def sync(self, descriptor: int) -> None:
        with self._lock:
            super().sync(descriptor)
            self._note("sync", descriptor)

    def close(self, descriptor: int) -> None:
        with self._lock:
            del self._open[descriptor]
            super().close(descriptor)

    def sync_folder(self, path: Path) -> None:
        with self._lock:
            super().sync_folder(path)
            self._note("names", path)

    def rename(self, path: Path, target: Path) -> None:
        with self._lock:
            super().rename(path, target)
            self._note("rename", path, target=self._name(target))

    def remove(self, path: Path) -> None:
        with self._lock:
            super().remove(path)
            self._note("remove", path)

    def remove_folder(self, path: Path) -> None:
        with self._lock:
            super().remove_folder(path)
            self._note("remove", path)

    def _note(
        self,
        like: Like,
        what: Path | int,
        *,
        target: str = "",
        data: bytes = b"",
        number: int = 0,
    ) -> None:
        path = self._open[what] if isinstance(what, int) else self._name(what)
        self.operations.append(
            Operation(like=like, path=path, target=target, data=data, number=number)
        )

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


@dataclass
class _Node:
    """A file or folder: what is in memory, and what is on the disk."""

    is_folder: bool
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    names: "dict[str, _Node]" = field(default_factory=dict)
    synced_names: "dict[str, _Node]" = field(default_factory=dict)


Disk = dict[str, bytes | None]
"""By path below the root: the content of a file, None for a folder."""


def after_crash(operations: list[Operation], way: str) -> Disk:
    """Return what is on the disk after a crash behind these operations."""
    disk = _Node(is_folder=True)
    for operation in operations[:-1]:
        _play(disk, operation)
    last = operations[-1]
    if way != "torn" or last.like not in ("write", "sync", "names"):
        _play(disk, last)
    elif last.like == "write":
        _play(disk, replace(last, data=last.data[: len(last.data) // 2]))
    left: Disk = {}
    _collect(disk, way, "", left, random.Random(f"{way} {len(operations)}"))
    return left


def lay_out(disk: Disk, root: Path) -> None:
    """Write files and folders into a new folder."""
    root.mkdir()
    for name, content in disk.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)


def _play(disk: _Node, operation: Operation) -> None:
    parent, name = (
        _find(disk, os.path.dirname(operation.path)),
        os.path.basename(operation.path),
    )
    if operation.like in ("folder", "create"):
        parent.names[name] = _Node(is_folder=operation.like == "folder")
    elif operation.like == "rename":
        target = _find(disk, os.path.dirname(operation.target))
        target.names[os.path.basename(operation.target)] = parent.names.pop(name)
    elif operation.like == "remove":
        del parent.names[name]
    elif operation.like == "names":
        node = _find(disk, operation.path)
        node.synced_names = dict(node.names)
    else:
        _play_data(parent.names[name], operation)


def _play_data(node: _Node, operation: Operation) -> None:
    start, data = operation.number, operation.data
    if operation.like == "sync":
        node.synced = bytes(node.data)
        return
    stop = start + len(data) if operation.like == "write" else start
    node.data.extend(bytes(max(0, stop - len(node.data))))
    if operation.like == "write":
        node.data[start:stop] = data


def _find(disk: _Node, path: str) -> _Node:
    node = disk
    for part in path.split("/"):
        if part not in ("", "."):
            node = node.names[part]
    return node


def _collect(
    node: _Node, way: str, path: str, left: Disk, choose: random.Random
) -> None:
    names = node.names
    if way == "nonames":
        names = node.synced_names
    elif way == "mixed":
        # Every change of a name is kept or lost by itself.
        names = {
            name: source[name]
            for name in sorted({*node.names, *node.synced_names})
            for source in [choose.choice([node.names, node.synced_names])]
            if name in source
        }
    for name, child in names.items():
        inner = f"{path}/{name}" if path else name
        left[inner] = None if child.is_folder else _data_after(child, way, choose)
        if child.is_folder:
            _collect(child, way, inner, left, choose)


def _data_after(node: _Node, way: str, choose: random.Random) -> bytes:
    if way == "mixed":
        way = choose.choice(["kill", "nodata", "zeros"])
    if way == "nodata":
        return node.synced
    if way == "zeros":
        synced = node.synced
        return synced + bytes(max(0, len(node.data) - len(synced)))
    return bytes(node.data)
