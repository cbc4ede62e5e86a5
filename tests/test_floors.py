"""The floors of the house, proved from its imports: down only, never in a circle.

ARCHITECTURE.md draws them; here is the same drawing as a table. Imports inside functions count.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "catenary"

# A room's floor, and its wing. A room with a wing is not known to the others of its floor.
ROOMS: dict[str, tuple[int, str]] = {
    "messages": (0, ""),
    "config": (0, ""),
    "metrics": (0, ""),
    "errors": (0, ""),
    "wire": (1, ""),
    "protocols": (1, ""),
    "broker": (1, ""),
    "auth": (1, ""),
    "maybe_awaitable": (1, ""),
    "ports": (1, ""),
    "silent_observer": (1, ""),
    "tracer": (1, ""),
    "supervision": (2, ""),
    "logs": (2, ""),
    "node": (2, "heart"),
    "rpc": (2, "rpc"),
    "routing": (2, "routing"),
    "adapters": (2, "adapters"),
    "channels": (2, "channels"),
    "tracing": (2, "tracing"),
    "edge": (3, ""),  # what transports and api stand on: without a wing, all of its floor know it
    "codeworkers": (3, "codeworkers"),
    "transports": (3, "transports"),
    "api": (3, "api"),
    "console": (3, "console"),
    "process": (3, "process"),
    "cli": (4, ""),
    "__main__": (4, ""),
    "server": (4, ""),
    "terminal": (4, ""),
    "": (0, ""),  # catenary/__init__.py: the public names
}

# Edges speak to the node and what is below it; an adapter is named by the assembly alone.
KNOWN_TO_EDGES = {"heart", ""}
# Code workers run channels, and know nothing of the node.
KNOWN_TO_CODE_WORKERS = {"channels", ""}

IMPURE = {"asyncio", "socket", "time", "random", "os", "logging", "secrets", "ssl"}

LIBRARIES: dict[str, tuple[str, ...]] = {
    "redis": ("adapters.redis", "channels.publishers.redis"),
    "hiredis": ("adapters.redis",),
    "nats": (),  # the protocol is our own
    "grpc": ("channels.rpc_grpc",),
    "pytest": ("channels.pytest_plugin",),
    "google": ("protocols",),
    "httptools": ("rpc", "edge.uvicorn_http"),
    "jwt": ("auth.public_keys",),
    "cryptography": ("auth.public_keys", "auth.nkeys"),
    "fastapi": ("channels.fastapi",),
    "itsdangerous": ("channels.sessions",),
    "django": ("channels.django",),
    "opentelemetry": ("tracing",),
    "watchfiles": ("process.source_watch",),
    "uvloop": ("cli", "server", "terminal"),
    "uvicorn": ("edge", "transports", "api", "console", "process", "server"),
    "starlette": ("transports", "api", "console", "cli", "server"),
}

VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager"}


@dataclass(frozen=True)
class Import:
    """One module asks for another; names are without ``catenary.`` where the other is ours."""

    importer: str
    imported: str
    is_ours: bool

    def __str__(self) -> str:
        return f"{self.importer or '__init__'} imports {self.imported}"


def modules_of(source: Path) -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its name without ``catenary.``."""
    root = source / PACKAGE
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def imports_of(modules: dict[str, ast.Module]) -> list[Import]:
    """Every import statement, wherever it stands."""
    return [each for name, tree in modules.items() for each in _imports(name, tree, set(modules))]


def _imports(importer: str, tree: ast.Module, ours: set[str]) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _import(importer, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}: expected absolute imports only"
            assert node.module is not None
            for alias in node.names:
                whole = _import(importer, f"{node.module}.{alias.name}")
                # ``from catenary.wire import frames`` imports a module, other names are in one.
                is_module = whole.is_ours and whole.imported in ours
                yield whole if is_module else _import(importer, node.module)


def _import(importer: str, name: str) -> Import:
    top, _, rest = name.partition(".")
    return Import(importer, rest, True) if top == PACKAGE else Import(importer, name, False)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


# The rules. Each returns what breaks it.


def without_floor(modules: Iterable[str]) -> list[str]:
    return sorted({room_of(module) for module in modules} - set(ROOMS))


def upward(imports: Iterable[Import]) -> list[str]:
    """Imports that go up, or to another wing of the same floor, or past the node's front."""
    return [str(each) for each in imports if each.is_ours and not _may(each)]


def _may(each: Import) -> bool:
    importer, imported = room_of(each.importer), room_of(each.imported)
    if importer in ("", imported):
        # The package itself names what is public, whichever floor that is on.
        return True
    (floor, _), (below, other) = ROOMS[importer], ROOMS[imported]
    if floor == 3 and below == 2:
        known = KNOWN_TO_CODE_WORKERS if importer == "codeworkers" else KNOWN_TO_EDGES
        return other in known
    if floor == below:
        # A room outside the wings may be imported by all wings of its floor, and imports none of them.
        return not other
    return below < floor


def circles(imports: Iterable[Import]) -> list[str]:
    """Modules that import each other, whichever way round."""
    graph: dict[str, set[str]] = {}
    for each in imports:
        # Names that the package itself exports are loaded on request.
        if each.is_ours and each.importer not in ("", each.imported):
            graph.setdefault(each.importer, set()).add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" → ".join(error.args[1])]
    return []


def impure(imports: Iterable[Import]) -> list[str]:
    """Floors 0 and 1 have no I/O, clocks, random numbers or logs."""
    return [
        str(each)
        for each in imports
        if not each.is_ours
        and ROOMS[room_of(each.importer)][0] <= 1
        and each.imported.partition(".")[0] in IMPURE
    ]


def astray(imports: Iterable[Import]) -> list[str]:
    """Outside libraries that are used outside their room."""
    found = []
    for each in imports:
        rooms = None if each.is_ours else LIBRARIES.get(each.imported.partition(".")[0])
        if rooms is not None and not any(is_in(each.importer, room) for room in rooms):
            found.append(str(each))
    return found


def vague(modules: Iterable[str]) -> list[str]:
    return [module for module in modules if VAGUE & set(module.split("."))]


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return modules_of(SOURCE)


@pytest.fixture(scope="module")
def imports(modules: dict[str, ast.Module]) -> list[Import]:
    return imports_of(modules)


def test_the_walk_sees_the_house(modules: dict[str, ast.Module], imports: list[Import]) -> None:
    assert Import("node.node", "node.hub", True) in imports
    assert Import("server.applications", "rpc.grpc", True) in imports, "imports inside functions"
    assert Import("node.hub", "asyncio", False) in imports
    assert {"", "node", "node.hub", "wire.frames", "cli"} <= set(modules)


def test_every_room_has_its_floor(modules: dict[str, ast.Module]) -> None:
    assert without_floor(modules) == []


def test_imports_go_down(imports: list[Import]) -> None:
    assert upward(imports) == []


def test_imports_go_in_no_circle(imports: list[Import]) -> None:
    assert circles(imports) == []


def test_floors_0_and_1_are_pure(imports: list[Import]) -> None:
    assert impure(imports) == []


def test_each_outside_library_has_one_room(imports: list[Import]) -> None:
    assert astray(imports) == []


def test_no_module_is_a_bag(modules: dict[str, ast.Module]) -> None:
    assert vague(modules) == []


# The rules themselves, on small houses that break them.


def house(tmp_path: Path, **files: str) -> list[Import]:
    """The imports of a house of these files: ``node__hub="import os"`` is node/hub.py."""
    for name, text in files.items():
        path = tmp_path / PACKAGE / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return imports_of(modules_of(tmp_path))


@pytest.mark.parametrize(
    ("importer", "statement", "is_fine"),
    [
        ("node__node", "from catenary.wire.frames import frame", True),
        ("node__node", "from catenary.ports import PubSub", True),
        ("node__node", "from catenary.supervision.service import Service", True),
        ("adapters__redis__pubsub", "from catenary.supervision.service import Service", True),
        ("supervision__service", "from catenary.node.node import Node", False),
        ("ports", "from catenary.supervision.service import Service", False),
        ("transports__websocket", "from catenary.node.node import Node", True),
        ("server__assembly", "from catenary.rpc.grpc import GrpcApplication", True),
        ("auth__keys", "from catenary.wire import handshake", True),
        ("messages__names", "from catenary.wire.frames import frame", False),
        ("wire__frames", "from catenary.node.node import Node", False),
        ("wire__frames", "import catenary.node.node", False),
        ("wire__frames", "from catenary.node import node", False),
        ("wire__frames", "def late():\n    from catenary.node.node import Node", False),
        ("node__node", "from catenary.rpc.grpc import GrpcApplication", False),
        ("rpc__grpc", "from catenary.node.node import Node", False),
        ("adapters__redis", "from catenary.node.hub import Hub", False),
        ("adapters__redis", "from catenary.rpc.grpc import GrpcApplication", False),
        ("channels__cable", "from catenary.node.node import Node", False),
        ("node__node", "from catenary.transports.websocket import WebSocketConnection", False),
        ("transports__websocket", "from catenary.rpc.grpc import GrpcApplication", False),
        ("transports__websocket", "from catenary.api.broadcast import BroadcastEndpoint", False),
        ("transports__websocket", "from catenary.edge.admission import Admission", True),
        ("edge__connection", "from catenary.edge.sniffer import RequestSniffer", True),
        ("edge__admission", "from catenary.node.node import Node", True),
        ("edge__admission", "from catenary.adapters.redis import client", False),
        ("edge__routes", "from catenary.transports.websocket import WebSocketEndpoint", False),
        ("edge__sniffer", "from catenary.api.intake import IntakeEndpoint", False),
        ("node__node", "from catenary.edge.request import environment_of", False),
        ("api__broadcast", "from catenary.adapters.redis import client", False),
        ("console__gate", "from catenary.api.access import Access", False),
        ("console__gate", "from catenary.node.node import Node", True),
        ("api__broadcast", "from catenary.process.drain import drain", False),
        ("process__drain", "from catenary.edge.connection import ClientConnection", True),
        ("process__drain", "from catenary.transports.websocket import WebSocketConnection", False),
        ("process__lifecycle", "from catenary.server.assembly import Assembly", False),
        ("process__workers", "from catenary.adapters.nats import embedded", False),
        ("server__run", "from catenary.process.lifecycle import run", True),
    ],
)
def test_direction(tmp_path: Path, importer: str, statement: str, is_fine: bool) -> None:
    assert (upward(house(tmp_path, **{importer: statement})) == []) is is_fine


def test_a_circle_is_seen(tmp_path: Path) -> None:
    imports = house(
        tmp_path,
        node__a="from catenary.node.b import x",
        node__b="from catenary.node import c",
        node__c="def late():\n    import catenary.node.a",
    )
    assert upward(imports) == []
    (circle,) = circles(imports)
    assert {"node.a", "node.b", "node.c"} <= set(circle.split(" → "))


@pytest.mark.parametrize("module", sorted(IMPURE))
def test_impurity_is_seen(tmp_path: Path, module: str) -> None:
    imports = house(
        tmp_path, wire__frames=f"import {module}", node__node=f"from {module} import anything"
    )
    assert impure(imports) == [f"wire.frames imports {module}"]


@pytest.mark.parametrize(
    ("importer", "statement", "is_fine"),
    [
        ("adapters__redis__client", "from redis.asyncio import Redis", True),
        ("adapters__nats__engine", "from redis.asyncio import Redis", False),
        ("adapters__nats__connection", "import nats", False),
        ("node__node", "import redis", False),
        ("channels__rpc_grpc", "import grpc.aio", True),
        ("server__assembly", "import grpc", False),
        ("node__node", "import uvicorn", False),
        ("server__assembly", "from uvicorn.config import Config", True),
        ("process__listener", "from uvicorn.config import Config", True),
        ("cli", "import uvicorn", False),
        ("server__run", "from watchfiles import awatch", False),
        ("rpc__grpc", "from google.protobuf import message", False),
    ],
)
def test_a_library_out_of_its_room_is_seen(
    tmp_path: Path, importer: str, statement: str, is_fine: bool
) -> None:
    assert (astray(house(tmp_path, **{importer: statement})) == []) is is_fine


def test_bags_and_strangers_are_seen() -> None:
    assert vague(["node.hub", "node.utils", "common", "wire.base.frames"]) == [
        "node.utils",
        "common",
        "wire.base.frames",
    ]
    assert without_floor(["node.hub", "cellar.rats"]) == ["cellar"]
