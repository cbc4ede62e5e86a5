"""Changes of source files are noticed, in directories that come later, too; libraries are not watched."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from catenary.errors import install_command
from catenary.process.source_watch import SourceTree, SourceWatch
from tests.parts.heart import in_loop
from tests.parts.ports import free_port
from tests.parts.reloadable_server import reloadable_server

pytest.importorskip("watchfiles")


class Changes:
    """Counts reports, and waits for the next one."""

    def __init__(self) -> None:
        self.reports = 0
        self._reported = asyncio.Event()

    def __call__(self) -> None:
        self.reports += 1
        self._reported.set()

    async def next(self) -> None:
        await self._reported.wait()
        self._reported.clear()


async def until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110  (it is the kernel)
            await asyncio.sleep(0.01)


def watched_num() -> int:
    """How many directories this process has the kernel watch."""
    found = 0
    for descriptor in Path("/proc/self/fdinfo").iterdir():
        try:
            found += descriptor.read_text().count("inotify wd:")
        except FileNotFoundError:
            continue
    return found


@asynccontextmanager
async def watching(root: Path) -> AsyncIterator[Changes]:
    changes = Changes()
    watch = SourceWatch(root, changes)
    await watch.start()
    try:
        yield changes
    finally:
        await watch.stop(5)


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def with_libraries(root: Path) -> None:
    """Two directories of source, and many of libraries."""
    write(root / "app.py")
    write(root / "package" / "module.py")
    for number in range(10):
        write(root / "node_modules" / f"library{number}" / "build.py")
        write(root / ".venv" / "lib" / f"library{number}" / "module.py")
        write(root / "env" / "lib" / f"library{number}" / "module.py")
    write(root / "env" / "pyvenv.cfg")
    write(root / "package" / "__pycache__" / "module.py")


def test_directories_of_libraries_are_not_entered(tmp_path: Path) -> None:
    with_libraries(tmp_path)
    tree = SourceTree(tmp_path)
    assert tree.directories == {tmp_path, tmp_path / "package"}
    assert set(tree.files) == {tmp_path / "app.py", tmp_path / "package" / "module.py"}


def test_a_project_inside_its_virtual_environment_is_watched(tmp_path: Path) -> None:
    write(tmp_path / "pyvenv.cfg")
    app = write(tmp_path / "app.py")
    write(tmp_path / "lib" / "python3.11" / "site-packages" / "module.py")
    assert set(SourceTree(tmp_path).files) == {app}


def test_symbolic_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "module.py")
    root = tmp_path / "project"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "linked" / "circle").symlink_to(root)
    assert set(SourceTree(root).files) == {root / "linked" / "module.py"}


def test_files_of_editors_do_not_count(tmp_path: Path) -> None:
    for name in (".#app.py", "flycheck_app.py", "app.py~", "notes.txt", "app.pyc"):
        write(tmp_path / name)
    assert not SourceTree(tmp_path).files


def test_a_changed_file_is_named_whatever_happened_to_it(tmp_path: Path) -> None:
    kept, changed, removed = (write(tmp_path / f"{name}.py") for name in "abc")
    earlier = SourceTree(tmp_path)
    changed.write_text("1")
    removed.unlink()
    write(tmp_path / "d.py")
    assert SourceTree(tmp_path).changed_since(earlier) == ["b.py", "c.py", "d.py"]
    assert kept.exists()


@in_loop
async def test_the_kernel_watches_directories_of_source_only(tmp_path: Path) -> None:
    with_libraries(tmp_path)
    before = watched_num()
    async with watching(tmp_path):
        await until(lambda: watched_num() > before)
        assert watched_num() - before == 2


@in_loop
async def test_changes_are_reported_and_those_of_libraries_are_not(tmp_path: Path) -> None:
    with_libraries(tmp_path)
    before = watched_num()
    async with watching(tmp_path) as changes:
        await until(lambda: watched_num() > before)
        write(tmp_path / "node_modules" / "library1" / "build.py", "1")
        write(tmp_path / "notes.txt", "1")
        write(tmp_path / "package" / "module.py", "1")
        await changes.next()
        (tmp_path / "package" / "module.py").unlink()
        await changes.next()
        assert changes.reports == 2


@in_loop
async def test_a_new_directory_is_watched(tmp_path: Path) -> None:
    before = watched_num()
    async with watching(tmp_path) as changes:
        await until(lambda: watched_num() == before + 1)
        module = write(tmp_path / "new" / "deep" / "module.py")
        await changes.next()
        await until(lambda: watched_num() == before + 3)
        module.write_text("1")
        await changes.next()


@in_loop
async def test_a_directory_that_is_moved_away_is_a_change(tmp_path: Path) -> None:
    root = tmp_path / "project"
    write(root / "package" / "module.py")
    before = watched_num()
    async with watching(root) as changes:
        await until(lambda: watched_num() == before + 2)
        (root / "package").rename(tmp_path / "package")
        await changes.next()


@in_loop
async def test_a_change_before_the_watch_stands_is_reported(tmp_path: Path) -> None:
    app = write(tmp_path / "app.py")
    changes = Changes()
    watch = SourceWatch(tmp_path, changes)
    app.write_text("1")
    await watch.start()
    await changes.next()
    await watch.stop(5)


def test_a_changed_file_reloads_the_application(tmp_path: Path) -> None:
    with reloadable_server(tmp_path) as reloadable:
        server = reloadable.serve("--reload")
        jack = reloadable.client("jack")
        (tmp_path / "notes.txt").write_text("no code")
        reloadable.write(2)
        reloadable.wait_for_generation(2)
        assert reloadable.who(jack)[1] == 2
        assert "Source files changed: app.py" in server.output()


def test_watching_needs_a_library(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['watchfiles'] = None; from catenary.cli import main; "
    (tmp_path / "app.py").write_text("from catenary import Cable, Connection\n")
    arguments = ["app:cable", "--reload", "--port=0", f"--http_broadcast_port={free_port()}"]
    done = subprocess.run(
        [sys.executable, "-c", hidden + f"sys.exit(main({arguments}))"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    line = f"catenary: reload needs an optional library: {install_command('reload')}"
    assert done.stderr.splitlines()[-1] == line
