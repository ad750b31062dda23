"""What layers ask of their settings."""


def checked_count(setting: str, value: object) -> int:
    """Return `value` if it is an int of at least 1.

    Raises:
        TypeError: it is no int.
        ValueError: it is less.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{setting} is an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{setting} is at least 1, not {value}")
    return value


def checked_number(setting: str, value: object) -> float:
    """Return `value` as a float.

    Raises:
        TypeError: it is no number.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{setting} is a number, not {value!r}")
    return float(value)


def checked_chance(setting: str, value: object) -> float:
    """Return `value` as a chance that may be 0 but not 1.

    Raises:
        TypeError: it is no number.
        ValueError: it does not lie in [0, 1).
    """
    chance = checked_number(setting, value)
    if not 0.0 <= chance < 1.0:
        raise ValueError(f"{setting} lies in [0, 1), not at {chance}")
    return chance


def checked_epsilon(setting: str, value: object) -> float:
    """Return `value` as a float of at least 0.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative, or not a number.
    """
    epsilon = checked_number(setting, value)
    if not epsilon >= 0.0:
        raise ValueError(f"{setting} is at least 0, not {epsilon}")
    return epsilon
