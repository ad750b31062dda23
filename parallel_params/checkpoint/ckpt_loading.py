"""`load_checkpoint`, as MindSpore has it: the named tensors of one file.

What `ParameterManager.save` has saved is loaded by `ParameterManager.load`.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from parallel_params.checkpoint.ckpt_format import TEXT
from parallel_params.checkpoint.ckpt_saving import (
    CHECKSUM,
    FORMATS,
    checksum_of,
    refuse_key,
)
from parallel_params.checkpoint.foreign_files import (
    CkptFile,
    SafetensorsFile,
    open_foreign,
)
from parallel_params.checkpoint.into_net import load_param_into_net
from parallel_params.errors import CheckpointDamaged, CheckpointError
from parallel_params.nn.cell import Cell
from parallel_params.nn.parameter import Parameter
from parallel_params.nn.settings import checked_bool
from parallel_params.tensor.tape import Array
from parallel_params.tensor.tensor import Tensor

Prefixes = str | list[str] | tuple[str, ...] | None

_log = logging.getLogger(__name__)


def load_checkpoint(
    ckpt_file_name: str | os.PathLike[str],
    net: Cell | None = None,
    strict_load: bool = False,
    filter_prefix: Prefixes = None,
    dec_key: bytes | None = None,
    dec_mode: str = "AES-GCM",
    specify_prefix: Prefixes = None,
    choice_func: Callable[[str], bool] | None = None,
    crc_check: bool = False,
    remove_redundancy: bool = False,
    format: str = "ckpt",
) -> dict[str, Parameter | str]:
    """Return the parameters of a file that MindSpore, or `save_checkpoint`, wrote.

    Only what is chosen is read. Numbers that were appended are parameters of shape
    `()`, texts are texts.

    Args:
        ckpt_file_name: of the file, suffix included.
        net: what to load them into, with `load_param_into_net`; None for nothing.
        strict_load: see there.
        filter_prefix: beginnings of names that are left out.
        dec_key: None; encrypted files are not offered.
        dec_mode: not used without a key.
        specify_prefix: beginnings of names, others are left out.
        choice_func: tells by its name whether a parameter is loaded; not asked if there
            are prefixes.
        crc_check: compare the CRC-32 if the file has one; a warning is logged if not.
        remove_redundancy: False: a file that lacks what another rank has saved is not
            one to be loaded alone. `ParameterManager.load` knows who saved what.
        format: "ckpt" or "safetensors".

    Returns:
        Parameters and texts by name, in the order of the file (by name for
        safetensors), with default flags.

    Raises:
        TypeError: an argument is none of these.
        ValueError: an empty prefix, or an unknown format.
        CheckpointError: the file is missing, is none of these, or nothing is chosen.
        CheckpointDamaged: it was cut short or changed.
        ParametersDoNotFit: see `load_param_into_net`.
    """
    specified = _checked_prefixes("specify_prefix", specify_prefix)
    filtered = _checked_prefixes("filter_prefix", filter_prefix)
    chosen = _chooser(specified, filtered, choice_func)
    _check_flags(dec_key, dec_mode, crc_check, remove_redundancy)
    path = _checked_path(ckpt_file_name, format)
    with open_foreign(path) as file:
        if isinstance(file, CkptFile):
            found = _read_ckpt(file, chosen, path, must_verify=crc_check)
        else:
            assert isinstance(file, SafetensorsFile)
            found = _read_safetensors(file, chosen, path, must_verify=crc_check)
    if not found:
        raise CheckpointError(
            f"{path}: nothing of it is left by filter_prefix, specify_prefix or "
            "choice_func"
        )
    if net is not None:
        load_param_into_net(net, found, strict_load)
    return found


def _check_flags(
    key: object, mode: object, crc_check: object, remove_redundancy: object
) -> None:
    refuse_key("dec_key", key, mode)
    checked_bool("crc_check", crc_check)
    if checked_bool("remove_redundancy", remove_redundancy):
        raise CheckpointError(
            "remove_redundancy: such files lack what other ranks have saved; load a "
            "checkpoint of all ranks with ParameterManager.load"
        )


def _checked_path(name: object, kind: str) -> Path:
    if kind not in FORMATS:
        raise ValueError(f"format is one of {FORMATS}, not {kind!r}")
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"ckpt_file_name is a str, not {name!r}")
    # A name that somebody gives may be a link; what it leads to must be a file.
    path = Path(os.path.realpath(name))
    if path.suffix != f".{kind}":
        raise CheckpointError(f"{path}: expected a .{kind} file")
    return path


def _checked_prefixes(what: str, given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    prefixes = (given,) if isinstance(given, str) else given
    if not isinstance(prefixes, list | tuple) or not all(
        isinstance(each, str) for each in prefixes
    ):
        raise TypeError(f"{what} is a str, or a list or tuple of them, not {given!r}")
    if not all(prefixes) or not prefixes:
        raise ValueError(f"{what}: an empty text, or none, chooses nothing")
    return tuple(prefixes)


def _chooser(
    specified: tuple[str, ...],
    filtered: tuple[str, ...],
    choice: Callable[[str], bool] | None,
) -> Callable[[str], bool]:
    if not specified and not filtered:
        return choice if choice is not None else lambda _: True

    def is_chosen(name: str) -> bool:
        is_in = not specified or name.startswith(specified)
        return is_in and not (filtered and name.startswith(filtered))

    return is_chosen


def _read_ckpt(
    file: CkptFile, chosen: Callable[[str], bool], path: Path, *, must_verify: bool
) -> dict[str, Parameter | str]:
    if must_verify and not file.verify():
        _log.warning("%s has no CRC-32 to be compared", path)
    found: dict[str, Parameter | str] = {}
    for name, tensor in file.tensors.items():
        if chosen(name):
            is_text = tensor.dtype == TEXT
            found[name] = (
                file.text(name) if is_text else _parameter(name, file.array(name))
            )
    return found


def _read_safetensors(
    file: SafetensorsFile,
    chosen: Callable[[str], bool],
    path: Path,
    *,
    must_verify: bool,
) -> dict[str, Parameter | str]:
    names = sorted(file.names())
    found: dict[str, Parameter | str] = {
        name: _parameter(name, file.array(name)) for name in names if chosen(name)
    }
    if not must_verify:
        return found
    expected = file.metadata.get(CHECKSUM)
    if expected is None:
        _log.warning("%s has no CRC-32 to be compared", path)
        return found
    every = {name: Tensor.wrap(file.array(name)) for name in names}
    if str(checksum_of(every)) != expected:
        raise CheckpointDamaged(
            f"{path} was changed after it was written: its CRC-32 does not fit"
        )
    return found


def _parameter(name: str, array: Array) -> Parameter:
    return Parameter._from_tensor(Tensor.wrap(array), name=name)
