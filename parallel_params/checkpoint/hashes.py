"""The hash of what lies on disk: xxh3-128, faster than any disk. It is no signature.

Source: Collet, xxHash; XXH3, 128 bits.
"""

from collections.abc import Iterable
from typing import TypeAlias

Bytes: TypeAlias = bytes | memoryview


def hash_of(data: Bytes) -> str:
    """Return the hash of some bytes, 32 hex digits."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def hash_of_pieces(pieces: Iterable[Bytes]) -> str:
    """Return the hash of the bytes that pieces make one behind the other."""
    import xxhash

    state = xxhash.xxh3_128()
    for piece in pieces:
        state.update(piece)
    return state.hexdigest()
