from __future__ import annotations

import pytest

from hpo.doctor.machine import ControlGroup, check_cores, check_gpu, check_memory
from hpo.doctor.result import gigabytes
from hpo.runtime.progress import n_cores


@pytest.fixture
def group(tmp_path):
    """Control groups as files: what is written is what the kernel would say."""

    def made(membership, files):
        for name, text in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(text)
        (tmp_path / "membership").write_text(membership)
        return ControlGroup(tmp_path / "cgroup", tmp_path / "membership")

    return made


V1 = "4:memory:/a/b\n1:cpu,cpuacct:/a\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "cores", "memory"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": "3000\n", "memory.current": "1000\n"}, 1.5, 2000),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "1000\n"}, None, None),
        ("0::/host/only\n", {"cpu.max": "200000 100000\n"}, 2.0, None),  # in a container: the path is the host's
        ("0::/a\n", {"a/cpu.max": "max 100000", "cpu.max": "100000 100000"}, 1.0, None),  # a group above it
        (
            "0::/a\n",
            {"a/memory.max": "9000", "a/memory.current": "5000", "a/memory.stat": "anon 1\ninactive_file 4000\n"},
            None,
            8000,
        ),
        (
            V1,
            {
                "cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n",
                "memory/a/memory.limit_in_bytes": "5000\n", "memory/a/memory.usage_in_bytes": "7000\n",
            },
            0.5,
            0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000",
              "memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "1"}, None, None),
        ("", {}, None, None),
    ],
)  # fmt: skip
def test_the_limits_of_a_control_group(group, membership, files, cores, memory):
    limits = group(membership, files)
    assert (limits.cores(), limits.memory()) == (cores, memory)


def test_this_machine_can_be_asked():
    limits = ControlGroup()
    assert limits.cores() is None or limits.cores() > 0
    assert limits.memory() is None or limits.memory() >= 0


def test_more_workers_than_cores(plan, group):
    assert check_cores(plan(workers=n_cores()), group("", {})).state == "ok"
    many = check_cores(plan(workers=n_cores() + 1), group("", {}))
    assert (many.state, many.fix) == ("warning", f"use --workers {n_cores()}")


def test_a_container_with_less_than_the_machine(plan, group, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    half = group("0::/\n", {"cpu.max": "50000 100000"})
    found = check_cores(plan(), half)
    assert (found.state, found.fix) == ("warning", "set OMP_NUM_THREADS=1")
    assert f"0.5 of {n_cores()} cores, by the container's limit" in found.message
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert check_cores(plan(), half).state == "ok"


def test_memory_for_the_workers(plan, group):
    room = group("0::/\n", {"memory.max": "3000000000", "memory.current": "0"})
    assert check_memory(plan(), room).state == "ok"
    two_many = check_memory(plan(workers=4), room)
    assert (two_many.state, two_many.fix) == ("problem", "use --workers 2")
    assert "3.0 GB available, by the container's limit" in two_many.message
    tight = group("0::/\n", {"memory.max": "500000000", "memory.current": "0"})
    assert "close other programs" in check_memory(plan(), tight).fix


def test_features_of_many_posters_fill_memory(plan, group):
    assert check_memory(plan(n_posters=10**10), group("", {})).state == "problem"


def test_the_gpu_is_one_line(plan):
    assert check_gpu(plan()).state == "ok"
    assert "\n" not in check_gpu(plan()).message


def test_bytes_in_words():
    assert [gigabytes(size) for size in (35e6, 1.24e9, 310e9)] == ["35 MB", "1.2 GB", "310 GB"]
