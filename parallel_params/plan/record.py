"""Typed reading of JSON values that nobody has checked yet.

Knows types and names of fields; whether the values make sense, their users check.
"""

from collections.abc import Sequence

from parallel_params.errors import PlanError


class Record:
    """A JSON object with exactly the fields expected, each read with its type.

    Args:
        value: What should be the object.
        where: Its name in error messages, such as `plan.mesh`.
        keys: All of its fields.

    Raises:
        PlanError: it is no object, or lacks a field, or has one too many.
    """

    def __init__(self, value: object, where: str, keys: Sequence[str]) -> None:
        if not isinstance(value, dict):
            raise PlanError(f"{where}: expected an object, got {_name_type(value)}")
        for key in keys:
            if key not in value:
                raise PlanError(f"{where}: the field {key!r} is missing")
        for key in value:
            if key not in keys:
                raise PlanError(f"{where}: unknown field {key!r}")
        self._value = value
        self._where = where

    def number(self, key: str) -> int:
        """Return a whole number."""
        return self._number(self._value[key], key)

    def optional_number(self, key: str) -> int | None:
        """Return a whole number, or None for null."""
        return None if self._value[key] is None else self.number(key)

    def optional_number_or_text(self, key: str) -> int | str | None:
        """Return a whole number or a word for one, or None for null."""
        value = self._value[key]
        return value if isinstance(value, str) else self.optional_number(key)

    def real(self, key: str) -> float:
        """Return a number, whole or not."""
        value = self._value[key]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong(value, key, "a number")
        return value

    def optional_real(self, key: str) -> float | None:
        """Return a number, or None for null."""
        return None if self._value[key] is None else self.real(key)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._value[key]
        if not isinstance(value, bool):
            raise self._wrong(value, key, "true or false")
        return value

    def text(self, key: str) -> str:
        """Return text."""
        return self._text(self._value[key], key)

    def optional_text(self, key: str) -> str | None:
        """Return text, or None for null."""
        return None if self._value[key] is None else self.text(key)

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        return tuple(self._number(item, key) for item in self._items(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(self._text(item, key) for item in self._items(key))

    def mapping(self, key: str) -> dict[str, object]:
        """Return an object within this one as it is, whatever its fields."""
        value = self._value[key]
        if not isinstance(value, dict):
            raise self._wrong(value, key, "an object")
        return value

    def error(self, key: str, problem: str) -> PlanError:
        """Return an error about a field, to be raised."""
        return PlanError(f"{self._where}.{key}: {problem}")

    def record(self, key: str, keys: Sequence[str]) -> "Record":
        """Return an object within this one."""
        return Record(self._value[key], f"{self._where}.{key}", keys)

    def optional_record(self, key: str, keys: Sequence[str]) -> "Record | None":
        """Return an object within this one, or None for null."""
        return None if self._value[key] is None else self.record(key, keys)

    def records(self, key: str, keys: Sequence[str]) -> list["Record"]:
        """Return a list of objects of the same fields."""
        return [
            Record(item, f"{self._where}.{key}[{index}]", keys)
            for index, item in enumerate(self._items(key))
        ]

    def _items(self, key: str) -> list[object]:
        value = self._value[key]
        if not isinstance(value, list):
            raise self._wrong(value, key, "a list")
        return value

    def _number(self, value: object, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(value, key, "a whole number")
        return value

    def _text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self._wrong(value, key, "text")
        return value

    def _wrong(self, value: object, key: str, expected: str) -> PlanError:
        return PlanError(
            f"{self._where}.{key}: expected {expected}, got {_name_type(value)}"
        )


def _name_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    return names.get(type(value), repr(value))
