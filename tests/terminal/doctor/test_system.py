"""Memory of control groups, files of the system, half-open connections; and what docs/tuning.md says of them."""

from pathlib import Path

import pytest

from catenary.process.binding import BACKLOG
from catenary.terminal.doctor import machine, system
from catenary.terminal.doctor.findings import Finding
from tests.terminal.doctor import bad, configured

ROOT = Path(__file__).parents[3]
MB = system.MB
TOTAL_KB = 24 * 1_048_576


def found(tmp_path: Path, *flags: str, groups: str = "0::/\n", **files: str) -> list[Finding]:
    """The findings on a machine of 24 GB with these files, whose names have ``__`` for ``/``."""
    given = {
        "proc/meminfo": f"MemTotal: {TOTAL_KB} kB\n",
        "proc/self/cgroup": groups,
        **{name.replace("__", "/"): text for name, text in files.items()},
    }
    for name, text in given.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    roots = tmp_path / "proc", tmp_path / "cgroup"
    return list(system.check_system(configured(*flags), *roots))


@pytest.mark.parametrize(
    ("limit_mb", "flags", "level", "text"),
    [
        (512, (), "ok", "512 MB are allowed: enough for about 57856 clients"),
        (50, (), "problem", "50 MB are allowed; 1 processes need 60 MB"),
        (100, ("--workers=2",), "problem", "2 processes need 120 MB"),
        (512, ("--max-conn=50000",), "ok", "enough for about 57856"),
        (512, ("--max-conn=100000",), "warning", "max-conn=100000 needs about 841 MB"),
    ],
)
def test_memory(
    tmp_path: Path, limit_mb: int, flags: tuple[str, ...], level: str, text: str
) -> None:
    files = {"cgroup/memory.max".replace("/", "__"): f"{limit_mb * MB}\n"}
    if any("max-conn" in flag for flag in flags):
        files["proc__sys__fs__file-max"] = "1000000"
    (finding,) = found(tmp_path, *flags, **files)
    assert (finding.level, finding.check) == (level, "memory")
    assert text in finding.text


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1000"}, 1000),
        ("0::/a/b\n", {"a/b/memory.max": "500", "a/memory.max": "1000"}, 500),
        ("0::/../of/the/host\n", {"memory.max": "700"}, 700),
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/\n", {}, None),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "900"}, 900),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    found(tmp_path, groups=groups, **{f"cgroup/{name}": text for name, text in files.items()})
    assert system.memory_limit(tmp_path / "proc", tmp_path / "cgroup") == limit


def test_files_and_half_open_connections(tmp_path: Path) -> None:
    files = {"proc/sys/fs/file-max": "5000", "proc/sys/net/ipv4/tcp_max_syn_backlog": "128"}
    few = {**files, "proc/sys/net/ipv4/tcp_syncookies": "0"}
    assert [
        (each.level, each.check) for each in bad(found(tmp_path, "--max-conn=6000", **few))
    ] == [("problem", "system files"), ("warning", "backlog")]
    with_cookies = {**files, "proc/sys/net/ipv4/tcp_syncookies": "1"}
    assert found(tmp_path, "--max-conn=4000", **with_cookies) == []


def test_the_page_names_the_same_numbers() -> None:
    page = (ROOT / "docs/tuning.md").read_text()
    rows = {
        line.split(" | ")[0].removeprefix("| "): line
        for line in page.splitlines()
        if line.startswith("| ")
    }
    memory = next(line for name, line in rows.items() if name.startswith("memory"))
    assert f"{system.PROCESS_MB} MB a process, {system.CLIENT_BYTES // 1024} KB a client" in memory
    files = next(line for name, line in rows.items() if name == "open files of the process")
    assert f"{machine.OTHER_FILES} more" in files
    assert f"below {machine.FEW_FILES:,}" in files
    assert f"net.core.somaxconn = {BACKLOG}" in page
    for check in (
        "open files",
        "system files",
        "backlog",
        "local ports",
        "firewall",
        "keep-alive",
        "memory",
    ):
        assert f"| `{check}`: " in page
