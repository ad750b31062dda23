"""JSON from people we do not trust: no repeated keys, no NaN, no surprises.

Also the one way in which we write it, so that equal values are equal text.
"""

import json
from typing import NoReturn

from parallel_params.errors import CheckpointError


def read_json(content: bytes, where: str) -> object:
    """Return the value of a JSON text.

    Args:
        content: the text, in UTF-8.
        where: its name in errors.

    Raises:
        CheckpointError: it is no JSON, repeats a key, or has NaN or Infinity in it.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: expected JSON, but {error}") from error


def canonical(value: object) -> bytes:
    """Return a value as JSON text, always the same for equal values.

    Raises:
        ValueError: it holds NaN or an infinity.
        TypeError: it holds something that JSON has no word for.
    """
    return _dumps(value, is_sorted=True)


def in_order(value: object) -> bytes:
    """Return a value as JSON text with the keys in the order they have; see above."""
    return _dumps(value, is_sorted=False)


def _dumps(value: object, *, is_sorted: bool) -> bytes:
    _check_keys(value)
    text = json.dumps(
        value,
        sort_keys=is_sorted,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode("utf-8")


def _check_keys(value: object) -> None:
    # json would turn them into text: another value would come back.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of an object is no text")
            _check_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_keys(inner)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return record


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
