"""Checks of the numbers an optimizer is built with; exception types are MindSpore's.

One line per check at the call, one sentence per error: whose argument, what is wanted,
what was given.
"""

import math


def check_flag(what: str, value: object) -> bool:
    """Return `value` if it is True or False.

    Raises:
        TypeError: it is something else, numbers included.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {value!r}")
    return value


def check_number(what: str, value: object) -> float:
    """Return `value` as a float.

    Raises:
        TypeError: it is no int or float; True and False are none either.
        ValueError: it is infinite or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite, not {value!r}")
    return float(value)


def check_not_negative(what: str, value: object) -> float:
    """Return `value` as a float.

    Raises:
        TypeError: it is no number.
        ValueError: it is below 0 or not finite.
    """
    number = check_number(what, value)
    if number < 0:
        raise ValueError(f"{what} must be 0 or more, not {value!r}")
    return number


def check_positive(what: str, value: object) -> float:
    """Return `value` as a float.

    Raises:
        TypeError: it is no number.
        ValueError: it is 0, below or not finite.
    """
    number = check_number(what, value)
    if number <= 0:
        raise ValueError(f"{what} must be more than 0, not {value!r}")
    return number


def check_beta(what: str, value: object) -> float:
    """Return `value` if it is a float between 0 and 1, both excluded.

    Raises:
        TypeError: it is no float; an int neither.
        ValueError: it lies outside.
    """
    number = check_float(what, value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{what} must lie between 0 and 1, not {value!r}")
    return number


def check_eps(what: str, value: object) -> float:
    """Return `value` if it is a float above 0.

    Raises:
        TypeError: it is no float; an int neither.
        ValueError: it is 0, below or not finite.
    """
    return check_positive(what, check_float(what, value))


def check_float(what: str, value: object) -> float:
    """Return `value` if it is a float.

    Raises:
        TypeError: it is something else; an int too, as in MindSpore.
    """
    if not isinstance(value, float):
        raise TypeError(f"{what} must be a float, not {value!r}")
    return value


def check_fraction(what: str, value: object) -> float:
    """Return `value` as a float, from 0 to 1, both included.

    Raises:
        TypeError: it is no number.
        ValueError: it lies outside.
    """
    number = check_number(what, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{what} must lie from 0 to 1, not {value!r}")
    return number


def check_count(what: str, value: object, *, least: int) -> int:
    """Return `value` if it is a whole number, `least` or more.

    Raises:
        TypeError: it is no int; True and False are none either.
        ValueError: it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{what} must be {least} or more, not {value!r}")
    return value
