"""A primary with replicas, and sentinels that replace it: real processes on this machine."""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import redis

from tests.parts.ports import free_port, wait_until_listening
from tests.parts.redis import RedisServer, server_binary

NAME: Final = "Main"
"""The name of the primary, in upper and lower case."""

DOWN_AFTER_MS: Final = 800


class Sentinel:
    """A sentinel in a process of its own. ``lines`` are added to its configuration."""

    def __init__(
        self, directory: Path, primary_port: int, *, quorum: int, lines: Sequence[str]
    ) -> None:
        self.port = free_port()
        config = directory / f"sentinel-{self.port}.conf"
        config.write_text(
            "\n".join(
                (
                    f"port {self.port}",
                    "bind 127.0.0.1",
                    f"dir {directory}",
                    f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {quorum}",
                    f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                    f"sentinel failover-timeout {NAME} 4000",
                    *lines,
                    "",
                )
            )
        )
        self._process = subprocess.Popen(
            [server_binary(), str(config), "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_listening(self.port)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class RedisSentinels:
    """A primary, ``replicas`` that follow it, and three sentinels; all are running when it is built.

    ``flags`` are those of the servers, ``lines`` belong to the configuration of the sentinels.
    """

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 2,
        flags: Sequence[str] = (),
        lines: Sequence[str] = (),
        password: str = "",
        sentinel_password: str = "",
    ) -> None:
        self._stack = ExitStack()
        self._password = password
        self._sentinel_password = sentinel_password
        self.servers: list[RedisServer] = []
        self.sentinels: list[Sentinel] = []
        try:
            for index in range(1 + replicas):
                (directory / str(index)).mkdir()
                first = self.servers[:1]
                of = [
                    part for each in first for part in ("--replicaof", "127.0.0.1", str(each.port))
                ]
                server = RedisServer(directory / str(index), flags=(*flags, *of))
                server.start()
                self._stack.callback(server.stop)
                self.servers.append(server)
            self._until(lambda: self.replicas_of(self.servers[0]) == replicas)
            for _ in range(3):
                sentinel = Sentinel(directory, self.servers[0].port, quorum=2, lines=lines)
                self._stack.callback(sentinel.close)
                self.sentinels.append(sentinel)
            self._until(self._is_known)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stack.close()

    @property
    def places(self) -> str:
        """The addresses of the sentinels, as an option names them."""
        return ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)

    def primary(self) -> RedisServer:
        """The server that the sentinels name."""
        with self._client(self.sentinels[0].port, self._sentinel_password) as client:
            found = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", NAME)
        return next(each for each in self.servers if each.port == int(found[1]))

    def replicas_of(self, server: RedisServer) -> int:
        """The number of replicas that are connected and up to date."""
        with self._client(server.port, self._password) as client:
            found = client.info("replication")
        count = int(found["connected_slaves"])
        return sum(found[f"slave{index}"]["state"] == "online" for index in range(count))

    def until_replaced(self, former: RedisServer) -> None:
        """Returns when the sentinels name another primary. Raises TimeoutError."""
        self._until(lambda: self.primary() is not former)

    def until_whole(self) -> None:
        """Returns when all servers run and all but one are replicas. Raises TimeoutError."""
        self._until(lambda: self.replicas_of(self.primary()) == len(self.servers) - 1)

    def _is_known(self) -> bool:
        """Does each sentinel know the other two, and all replicas? Else it does not agree to a failover."""
        for each in self.sentinels:
            with self._client(each.port, self._sentinel_password) as client:
                found = client.execute_command("SENTINEL MASTER", NAME)
            if (int(found["num-other-sentinels"]), int(found["num-slaves"])) != (
                len(self.sentinels) - 1,
                len(self.servers) - 1,
            ):
                return False
        return True

    def _client(self, port: int, password: str) -> redis.Redis:
        return redis.Redis(
            port=port, password=password or None, socket_timeout=5, decode_responses=True
        )

    def _until(self, condition: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + 30
        while not condition():
            if time.monotonic() > give_up_at:
                raise TimeoutError("the sentinels did not get there")
            time.sleep(0.05)
