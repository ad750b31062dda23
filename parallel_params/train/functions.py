"""Functions of a user's own module, named in a job as `module:function`."""

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType

from parallel_params.errors import ConfigError
from parallel_params.train.config.words import did_you_mean


def find_function(name: str, key: str) -> Callable[..., object]:
    """Import a module and take a function from it.

    The module is looked for where Python looks, then in the folder the job was started
    in; a program of that folder's own needs no installing.

    Args:
        name: as in `shapes.moons:samples`.
        key: the key of the job that names it, for errors.

    Raises:
        ConfigError: there is no such module, or no such function in it.
    """
    place, _, attribute = name.partition(":")
    module = _module(place, key)
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [each for each in vars(module) if callable(getattr(module, each))]
        raise ConfigError(
            [
                f"{key}: module {place} has no function {attribute!r}"
                f"{did_you_mean(attribute, known)}"
            ]
        )
    function: Callable[..., object] = found
    return function


def _module(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not _is_about(error, name):
            raise
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not _is_about(error, name):
            raise
        problem = f"{key}: there is no module {name!r}, neither installed nor in {here}"
        raise ConfigError([problem]) from None
    finally:
        sys.path.remove(here)


def _is_about(error: ModuleNotFoundError, name: str) -> bool:
    """Tell a module that is not there from one that misses another."""
    return error.name is not None and f"{name}.".startswith(f"{error.name}.")
