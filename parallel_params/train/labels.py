"""Names of numbers as people write them."""


def label_of(name: str) -> str:
    """Write the name of a number as people do: bits/char, R2."""
    return {"r2": "R2"}.get(name, name.replace("_per_", "/").replace("_", " "))
