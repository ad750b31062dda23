"""Free memory is what machine and cgroups say, wherever the cgroups are mounted."""

import sys
from pathlib import Path

import pytest

from parallel_params.comm.free_memory import read_free_memory

KIB, GIB = 2**10, 2**30
V1_MOUNT = "32 31 0:29 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2_MOUNT = "41 31 0:38 {root} /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw"
NO_LIMIT_V1 = 9223372036854771712


def write(root: Path, files: dict[str, object]) -> str:
    """Make a machine of these files; return its root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return str(root)


def machine(*, cgroup: str, mount: str) -> dict[str, object]:
    return {
        "proc/meminfo": "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: 5000 kB",
        "proc/sys/kernel/random/boot_id": "one-boot",
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": f"23 1 0:2 / / rw - ext4 /dev/vda rw\n{mount}",
    }


def v1(folder: str, *, limit: int, usage: int, cached: int = 0) -> dict[str, object]:
    place = f"sys/fs/cgroup/memory{folder}"
    return {
        f"{place}/memory.limit_in_bytes": limit,
        f"{place}/memory.usage_in_bytes": usage,
        f"{place}/memory.stat": f"inactive_file 7\ntotal_inactive_file {cached}\n"
        "total_active_file 1",
    }


def v2(folder: str, *, limit: object, usage: int, cached: int = 0) -> dict[str, object]:
    place = f"sys/fs/cgroup{folder}"
    return {
        f"{place}/memory.max": limit,
        f"{place}/memory.current": usage,
        f"{place}/memory.stat": f"anon 9\ninactive_file {cached}\nactive_file 1\n"
        "slab_reclaimable 2",
    }


def test_a_machine_alone_tells_what_is_available(tmp_path: Path) -> None:
    root = write(tmp_path, machine(cgroup="0::/", mount=V2_MOUNT.format(root="/")))
    (found,) = read_free_memory(root)
    assert found.free_bytes == 5000 * KIB
    assert (found.key, found.name.startswith("the machine ")) == ("one-boot", True)


def test_every_limit_around_a_cgroup_of_version_2_counts(tmp_path: Path) -> None:
    files = machine(cgroup="0::/job/step/task", mount=V2_MOUNT.format(root="/"))
    files |= v2("/job", limit=8 * GIB, usage=5 * GIB, cached=GIB)
    files |= v2("/job/step", limit="max", usage=5 * GIB)
    files |= v2("/job/step/task", limit=4 * GIB, usage=GIB)
    _, task, job = read_free_memory(write(tmp_path, files))
    assert (task.free_bytes, job.free_bytes) == (3 * GIB + 3, 4 * GIB + 3)
    assert task.name.startswith("the cgroup /job/step/task of ")
    assert job.name.endswith(" (limit 8.00 GiB)")
    assert len({"one-boot", task.key, job.key}) == 3


def test_version_1_counts_the_pages_of_all_below(tmp_path: Path) -> None:
    cgroup = "5:cpu:/other\n4:hugetlb,memory:/job\n0::/"
    files = machine(cgroup=cgroup, mount=V1_MOUNT.format(root="/"))
    files |= v1("", limit=NO_LIMIT_V1, usage=GIB)
    files |= v1("/job", limit=4 * GIB, usage=3 * GIB, cached=GIB)
    _, job = read_free_memory(write(tmp_path, files))
    assert job.free_bytes == 2 * GIB + 1


@pytest.mark.parametrize("path", ["/docker/a1", "/docker/a1/inner", "/../elsewhere"])
def test_a_container_sees_its_own_part_as_the_whole(tmp_path: Path, path: str) -> None:
    mount = V1_MOUNT.format(root="/docker/a1" if path != "/../elsewhere" else "/")
    files = machine(cgroup=f"4:memory:{path}", mount=mount)
    files |= v1("", limit=2 * GIB, usage=GIB, cached=10)
    files |= v1("/inner", limit=3 * GIB, usage=0)
    found = read_free_memory(write(tmp_path, files))[1:]
    assert found[-1].free_bytes == GIB + 11
    assert len(found) == 1 + path.endswith("inner")


def test_more_used_than_allowed_is_nothing_free(tmp_path: Path) -> None:
    files = machine(cgroup="0::/job", mount=V2_MOUNT.format(root="/"))
    files |= v2("/job", limit=GIB, usage=2 * GIB)
    assert read_free_memory(write(tmp_path, files))[1].free_bytes == 0


def test_where_nothing_tells_nothing_is_known(tmp_path: Path) -> None:
    assert read_free_memory(str(tmp_path)) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_this_machine_tells() -> None:
    found = read_free_memory()
    assert found
    assert all(each.free_bytes >= 0 for each in found)
    assert found == sorted(found, key=lambda each: " " in each.key)
