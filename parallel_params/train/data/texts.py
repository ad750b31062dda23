"""Texts as rows of characters, and token files as maps."""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parallel_params.errors import DataError
from parallel_params.train.data.words import Words

# Paragraphs in a row that are learned from or held out together, and of how many
# stretches the last is held out.
_STRETCH, _EVERY = 20, 10


def load_text(
    path: str, *, context: int, test_path: str | None, test_share: float
) -> Words:
    """Read a text in UTF-8 as characters; its last part, or another text, is held out.

    The alphabet is that of both parts: which characters there are is known beforehand.

    Raises:
        DataError: missing, no UTF-8, empty, or too short for a window.
    """
    text = _read(Path(path))
    if test_path is None:
        cut = len(text) - round(len(text) * test_share)
        parts = text[:cut], text[cut:]
    else:
        parts = text, _read(Path(test_path))
    return words_of(*parts, context=context, source=path, facts={"file": path})


def load_topics(*, context: int) -> Words:
    """Take CPython's language reference, as `help()` of the running Python shows it.

    Paragraphs that stand there twice count once, so that none is both learned from and
    tested on; see `hold_out` for which are tested on.

    Raises:
        DataError: this Python was installed without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "pydoc_data.topics: this Python was installed without its language "
            'reference (pydoc_data); install it, or use data.name = "text"'
        ) from None
    train, test = hold_out(topics)
    facts = {
        "text": "pydoc_data.topics",
        "python": platform.python_version(),
        "sha256": hashlib.sha256((train + test).encode()).hexdigest(),
    }
    return words_of(
        train, test, context=context, source="pydoc_data.topics", facts=facts
    )


def hold_out(topics: Mapping[str, str]) -> tuple[str, str]:
    """Cut topics into a text to learn from and one to test on.

    Twenty paragraphs of every two hundred, in the order of the topics' names, are held
    out: parts of all subjects, in stretches long enough to be read on.

    Returns:
        Both texts; no paragraph stands in both, or twice in one.
    """
    parts: tuple[list[str], list[str]] = ([], [])
    seen: set[str] = set()
    for name in sorted(topics):
        for paragraph in topics[name].strip().split("\n\n"):
            same_but_layout = " ".join(paragraph.split())
            if same_but_layout not in seen:
                is_test = len(seen) // _STRETCH % _EVERY == _EVERY - 1
                parts[is_test].append(paragraph)
                seen.add(same_but_layout)
    return "\n\n".join(parts[0]), "\n\n".join(parts[1])


def words_of(
    train: str, test: str, *, context: int, source: str, facts: Mapping[str, object]
) -> Words:
    """Number the characters of two texts, in the order of Unicode."""
    letters = sorted(set(train) | set(test))
    codes = np.array([ord(letter) for letter in letters], dtype=np.uint32)
    kind = np.uint8 if len(letters) <= 2**8 else np.uint16
    if len(letters) > 2**16:
        raise DataError(f"{source}: {len(letters)} different characters; at most 65536")

    def numbered(text: str) -> NDArray[np.generic]:
        points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        return np.searchsorted(codes, points).astype(kind)

    return Words(
        train=numbered(train),
        test=numbered(test),
        context=context,
        vocabulary=len(letters),
        letters=letters,
        source=source,
        facts=facts,
    )


def load_tokens(
    path: str,
    *,
    dtype: str,
    vocabulary: int,
    context: int,
    test_path: str | None,
    test_share: float,
) -> Words:
    """Map a file of tokens, one number behind the other and nothing else.

    Raises:
        DataError: missing, empty, no whole number of tokens, or too short.
    """
    tokens = _map(Path(path), dtype)
    if test_path is None:
        cut = len(tokens) - round(len(tokens) * test_share)
        train, test = tokens[:cut], tokens[cut:]
    else:
        train, test = tokens, _map(Path(test_path), dtype)
    return Words(
        train=train,
        test=test,
        context=context,
        vocabulary=vocabulary,
        source=path,
        facts={"file": path, "dtype": dtype},
    )


def _map(path: Path, dtype: str) -> NDArray[np.generic]:
    width = np.dtype(dtype).itemsize
    try:
        size = path.stat().st_size
        if size == 0 or size % width:
            raise DataError(
                f"{path}: {size} bytes are no tokens of {width} bytes each "
                f"(data.dtype = {dtype!r})"
            )
        return np.memmap(path, dtype=np.dtype(dtype).newbyteorder("<"), mode="r")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such data file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected a file of tokens") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such data file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; expected a text") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not text:
        raise DataError(f"{path}: empty; expected a text")
    return text
