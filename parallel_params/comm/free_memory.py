"""How much memory this process can still take: of its machine, and of its cgroups.

Linux tells; elsewhere nothing is known. What others are about to take nobody knows.
Swap is not counted, nor is a limit on addresses (`ulimit -v`), which counts pages that
no memory lies behind.

Source: Linux kernel documentation, filesystems/proc, admin-guide/cgroup-v2 and
    admin-guide/cgroup-v1/memory.
"""

import os.path
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Without a limit version 1 says the largest number of pages, and not a word.
_NO_LIMIT = 1 << 60
# Version 1: of the cgroup with all below it. Pages of files that can be read again.
_V1 = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file", "total_active_file")
_V2 = ("max", "current", "inactive_file", "active_file", "slab_reclaimable")


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMemory:
    """What a machine or a cgroup still has for the processes in it.

    Attributes:
        key: the same for two processes if they take from the same memory.
        name: for people.
        free_bytes: not taken, or taken by what can be dropped at once.
    """

    key: str
    name: str
    free_bytes: int


def read_free_memory(root: str = "/") -> list[FreeMemory]:
    """Ask the machine, and every cgroup around this process that has a limit.

    Args:
        root: where `proc` and the mounted cgroups are found.

    Returns:
        The machine first; empty if the system does not tell.
    """
    base = Path(root)
    machine = _read(base / "proc/sys/kernel/random/boot_id").strip() or platform.node()
    found = []
    available = _field(_read(base / "proc/meminfo"), "MemAvailable:")
    if available is not None:
        name = f"the machine {platform.node()}"
        free = FreeMemory(key=machine, name=name, free_bytes=1024 * available)
        found.append(free)
    own = _read(base / "proc/self/cgroup").splitlines()
    for mount in _read(base / "proc/self/mountinfo").splitlines():
        for folder, name, is_v2 in _cgroups(mount.split(" "), own, base):
            free_bytes, limit = _room(folder, is_v2)
            if free_bytes is not None:
                key = f"{machine} {folder.stat().st_ino}"
                name = f"the cgroup {name} of {platform.node()} (limit {limit})"
                found.append(FreeMemory(key=key, name=name, free_bytes=free_bytes))
    return found


def _cgroups(
    mount: list[str], own: list[str], base: Path
) -> Iterator[tuple[Path, str, bool]]:
    """Yield the cgroups of this process below a mount: folder, name, whether v2."""
    kind, _, options = mount[mount.index("-") + 1 :]
    if kind not in ("cgroup", "cgroup2"):
        return
    if kind == "cgroup" and "memory" not in options.split(","):
        return
    for line in own:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if controllers if kind == "cgroup2" else "memory" not in names:
            continue
        below = os.path.relpath(path, mount[3])
        # A container may see nothing but its own part of the tree, as the whole.
        parts = [] if below.startswith("..") else Path(below).parts
        for depth in range(len(parts), -1, -1):
            inner = "/".join(parts[:depth])
            folder = base / mount[4].lstrip("/") / inner
            yield folder, f"/{inner}", kind == "cgroup2"


def _room(folder: Path, is_v2: bool) -> tuple[int | None, str]:
    """Return what a cgroup has left, None without a limit; and the limit for people."""
    limit_name, usage_name, *files = _V2 if is_v2 else _V1
    limit = _number(_read(folder / f"memory.{limit_name}"))
    usage = _number(_read(folder / f"memory.{usage_name}"))
    if limit is None or limit >= _NO_LIMIT or usage is None:
        return None, ""
    statistics = _read(folder / "memory.stat")
    cached = sum(_field(statistics, name) or 0 for name in files)
    return max(0, limit - usage + min(cached, usage)), f"{limit / 2**30:.2f} GiB"


def _field(text: str, name: str) -> int | None:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == [name]:
            return _number(words[1])
    return None


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # this system has no such file, or does not show it
        return ""
