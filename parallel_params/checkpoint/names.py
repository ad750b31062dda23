"""Names of parameters in files of others: PyTorch's for the same layers, or any rename.

MindSpore's names are ours. Knows names alone, no shapes and no layers.
"""

from collections.abc import Container, Sequence

from parallel_params.errors import CheckpointError

TORCH = {
    "gamma": "weight",
    "beta": "bias",
    "embedding_table": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Last part of a name here, and in a `state_dict` of PyTorch."""


def to_torch(name: str) -> str:
    """Return what PyTorch calls a parameter: `norm.gamma` is `norm.weight`.

    Examples:
        >>> to_torch("blocks.0.norm.gamma"), to_torch("head.weight")
        ('blocks.0.norm.weight', 'head.weight')
    """
    stem, dot, last = name.rpartition(".")
    return f"{stem}{dot}{TORCH.get(last, last)}"


def from_torch(name: str, known: Container[str]) -> str:
    """Return which of the known names PyTorch's name stands for; itself if none."""
    stem, dot, last = name.rpartition(".")
    ours = [f"{stem}{dot}{own}" for own, theirs in TORCH.items() if theirs == last]
    return next((each for each in (name, *ours) if each in known), name)


def read_renames(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Read `OLD=NEW` pairs of beginnings of names.

    Raises:
        CheckpointError: a text is no such pair.
    """
    pairs = []
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals or not old:
            raise CheckpointError(
                f"expected OLD=NEW, beginnings of names such as model.=, got {text!r}"
            )
        pairs.append((old, new))
    return pairs


def rename(name: str, renames: Sequence[tuple[str, str]]) -> str:
    """Replace the first beginning that fits.

    Examples:
        >>> rename("model.head.weight", [("model.", "")])
        'head.weight'
    """
    for old, new in renames:
        if name.startswith(old):
            return new + name[len(old) :]
    return name
