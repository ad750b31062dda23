"""`save_checkpoint`, as MindSpore has it: named tensors of one process into one file.

What a job goes on from is saved by `ParameterManager.save`: by all ranks, with the
optimizer state, at once or not at all. This is for files that MindSpore reads.
"""

import os
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from parallel_params.checkpoint.ckpt_format import MAX_TEXT_BYTES, TEXT
from parallel_params.checkpoint.single_file import (
    Head,
    bytes_of,
    write_ckpt,
    write_safetensors,
    written_aside,
)
from parallel_params.errors import CheckpointError, CheckpointFolderMissing
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import checked_bool
from parallel_params.plan.spec import ITEM_BYTES
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

FORMATS = ("ckpt", "safetensors")
CHECKSUM = "crc_num"
"""Where a safetensors file of MindSpore's has its CRC-32."""

# MindSpore's: nobody changes a checkpoint, and nobody else reads it.
_FILE_MODE = 0o400

_Item = tuple[str, Tensor | str]


def save_checkpoint(
    save_obj: Cell | Sequence[object] | Mapping[str, object],
    ckpt_file_name: str | os.PathLike[str],
    integrated_save: bool = True,
    async_save: bool | str = False,
    append_dict: Mapping[str, object] | None = None,
    enc_key: bytes | None = None,
    enc_mode: str = "AES-GCM",
    choice_func: Callable[[str], bool] | None = None,
    crc_check: bool = False,
    format: str = "ckpt",
) -> None:
    """Save parameters as one file that MindSpore reads.

    A file of that name is replaced when the new one is on the disk; nobody may write it
    afterwards (mode 0400). Names, shapes, element types and values are in it, flags are
    not.

    Args:
        save_obj: a Cell, optimizers too; a list of Parameters, or of `{"name": ...,
            "data": Tensor}`; or a dict of Parameters, ndarrays and texts by name.
        ckpt_file_name: of the file; the suffix is appended where it is missing.
        integrated_save: checked only: what a rank sees of a parameter is all of it.
        async_save: True, "thread" or "process": return after a copy, and write beside
            (in a thread in either case). A later save of that name waits for it.
        append_dict: numbers, bools, texts and Tensors to be saved as well.
        enc_key: None; encrypted files are not offered.
        enc_mode: not used without a key.
        choice_func: tells by its name whether a parameter is saved.
        crc_check: put a CRC-32 at the end.
        format: "ckpt", or "safetensors", which has no texts.

    Raises:
        TypeError: an argument is none of these.
        CheckpointError: nothing to save, two things of one name, a type or text that
            such a file has no word for, or a key.
        CheckpointFolderMissing: the folder is not there.
        CheckpointNotSaved: the system refuses; the file that was there still is.

    Collective: if a manager cuts the weights over nodes (level 3), its ranks, each with
        a file of its own. Otherwise the calling rank alone.
    """
    checked_bool("integrated_save", integrated_save)
    is_async = _checked_async(async_save)
    target = _target(ckpt_file_name, format, enc_key, enc_mode)
    checked_bool("crc_check", crc_check)
    items = [*_items_of(save_obj, choice_func), *_appended(append_dict)]
    heads = _heads(items, format)
    if format == "safetensors":  # every tensor at a multiple of its element
        order = sorted(range(len(items)), key=lambda i: -ITEM_BYTES[heads[i].dtype])
        items, heads = [items[i] for i in order], [heads[i] for i in order]
    name = f"save_checkpoint {target}"
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join()
    if is_async:
        items = [(key, _copied(value)) for key, value in items]
        job = threading.Thread(
            target=_write, name=name, args=(target, heads, items, format, crc_check)
        )
        job.start()
    else:
        _write(target, heads, items, format, crc_check)


def _checked_async(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise TypeError(f"async_save is a bool or a str, not {value!r}")
    if value not in ("process", "thread"):
        raise ValueError(f"async_save is 'process' or 'thread', not {value!r}")
    return True


def _target(name: object, kind: object, key: object, mode: object) -> Path:
    if kind not in FORMATS:
        raise ValueError(f"format is one of {FORMATS}, not {kind!r}")
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"ckpt_file_name is a str, not {name!r}")
    refuse_key("enc_key", key, mode)
    text = os.path.realpath(name)
    if os.path.isdir(text):
        raise IsADirectoryError(f"ckpt_file_name: {text} is a folder, not a file")
    target = Path(text if text.endswith(f".{kind}") else f"{text}.{kind}")
    if not target.parent.is_dir():
        raise CheckpointFolderMissing(
            f"{target} cannot be written: the folder {target.parent} is not there; "
            "make it first"
        )
    return target


def refuse_key(what: str, key: object, mode: object) -> None:
    """Refuse a key: encrypted files are neither written nor read here.

    Raises:
        TypeError: it is no bytes, or the mode no text.
        CheckpointError: there is one.
    """
    if not isinstance(key, bytes | None):
        raise TypeError(f"{what} is bytes or None, not {type(key).__name__}")
    if not isinstance(mode, str):
        raise TypeError(f"the mode of {what} is a str, not {mode!r}")
    if key is not None:
        raise CheckpointError(
            f"{what}: encrypted files are not offered; encrypt the whole file with a "
            "tool made for that"
        )


def _items_of(given: object, choice: Callable[[str], bool] | None) -> list[_Item]:
    """Return names and values of what is to be saved."""
    found: list[tuple[object, object]]
    if isinstance(given, Cell):
        found = [(p.name, p) for _, p in given.parameters_and_names()]
    elif isinstance(given, Mapping):
        found = [*given.items()]
    elif isinstance(given, list | tuple):
        found = [_named(each) for each in given]
    else:
        raise TypeError(f"save_obj is a Cell, list or dict, not {type(given).__name__}")
    items: list[_Item] = []
    for name, value in found:
        if not isinstance(name, str):
            raise TypeError(f"save_obj: names are texts, not {name!r}")
        if isinstance(value, np.ndarray):
            value = Tensor.wrap(value)
        if not isinstance(value, Tensor | str):
            raise TypeError(
                f"save_obj: {name!r} is a {type(value).__name__}; expected a Parameter"
            )
        if choice is None or choice(name):
            items.append((name, value))
    return items


def _named(entry: object) -> tuple[object, object]:
    if isinstance(entry, Parameter):
        return entry.name, entry
    if isinstance(entry, dict) and {"name", "data"} <= entry.keys():
        return entry["name"], entry["data"]
    raise TypeError(
        "save_obj: a list is of Parameters or of {'name': ..., 'data': ...}, not of "
        f"{type(entry).__name__}"
    )


def _appended(given: object) -> list[_Item]:
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise TypeError(f"append_dict is a dict, not {type(given).__name__}")
    items: list[_Item] = []
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(
            value, int | float | str | Tensor
        ):
            raise TypeError(
                f"append_dict: {name!r} is a {type(value).__name__}; expected a name, "
                "and an int, float, bool, str or Tensor"
            )
        items.append((name, value if isinstance(value, str) else Tensor(value)))
    return items


def _heads(items: Sequence[_Item], kind: str) -> list[Head]:
    """Return what the file will say of its tensors; refuse what it cannot say."""
    if not items:
        raise CheckpointError("there is no parameter to save")
    heads, known = [], set[str]()
    for name, value in items:
        if name in known or not name or not name.isprintable():
            problem = "is there twice" if name in known else "is no name for a tensor"
            raise CheckpointError(f"save_checkpoint: {name!r} {problem}; rename it")
        known.add(name)
        is_text = isinstance(value, str)
        dtype = TEXT if isinstance(value, str) else value.dtype.name
        if dtype not in ITEM_BYTES and (not is_text or kind != "ckpt"):
            raise CheckpointError(
                f"save_checkpoint: {name!r} is of type {dtype}, which a .{kind} file "
                "has no word for"
            )
        if is_text and 4 * len(str(value)) > MAX_TEXT_BYTES:
            raise CheckpointError(
                f"save_checkpoint: {name!r} is a text of {len(str(value))} characters; "
                f"expected at most {MAX_TEXT_BYTES // 4}"
            )
        shape = () if isinstance(value, str) else value.shape
        heads.append(Head(name=name, dtype=dtype, shape=shape))
    return heads


def _copied(value: Tensor | str) -> Tensor | str:
    return value if isinstance(value, str) else Tensor.wrap(value.asnumpy().copy())


def _array(value: Tensor | str) -> Array:
    if isinstance(value, str):
        # At least one character, as NumPy has it: an empty text is a zero.
        encoded = (value or "\0").encode("utf-32-le", "surrogatepass")
        text: Array = np.frombuffer(encoded, np.uint8)
        return text
    return value.asnumpy()


def _write(
    target: Path,
    heads: Sequence[Head],
    items: Sequence[_Item],
    kind: str,
    has_checksum: bool,
) -> None:
    own = f"{os.getpid()}-{threading.get_ident()}"
    aside = target.with_name(f"{target.name}.{own}.tmp")
    with written_aside(target, aside):
        arrays = (_array(value) for _, value in items)
        if kind == "ckpt":
            write_ckpt(aside, heads, arrays, has_checksum=has_checksum)
        else:
            facts = {"format": "ms"}
            if has_checksum:
                facts[CHECKSUM] = str(checksum_of(dict(items)))
            write_safetensors(aside, heads, arrays, facts)
        aside.chmod(_FILE_MODE)


def checksum_of(values: Mapping[str, Tensor | str]) -> int:
    """Return MindSpore's CRC-32 of a safetensors file: names and values, by name."""
    checksum = 0
    for name in sorted(values):
        checksum = zlib.crc32(name.encode(), checksum)
        checksum = zlib.crc32(bytes_of(_array(values[name])), checksum)
    return checksum
