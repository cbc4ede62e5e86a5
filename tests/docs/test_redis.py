"""Runs the commands of docs/redis.md. The users of the page are applied in tests/adapters/redis/test_permissions.py."""

from pathlib import Path

from tests.parts.machine import blocks, machine


def test_one_server_and_a_cluster_of_one_node(tmp_path: Path) -> None:
    one, cluster = blocks("docs/redis.md")
    server, doctor = one.splitlines()
    with machine(tmp_path) as reader:
        with reader.terminal("redis-server --save ''", 6379):
            # There is no application.
            found = reader.type(f"{doctor.partition('#')[0]} || true")
            assert '"check":"redis","text":"a message that was published came back"' in found
            with reader.terminal(server, 8080) as running:
                running.wait_for("Storing on Redis")
        *steps, doctor, server = cluster.splitlines()
        try:
            reader.type("\n".join(steps))
            assert "ok" in reader.type(doctor)
            with (
                reader.terminal(server, 8080) as running,
                reader.terminal("catenary subscribe --stream=hello") as listener,
            ):
                running.wait_for("Primaries of the Redis Cluster: ")
                listener.wait_for("subscribed to")
                reader.type("catenary publish hello there")
                listener.wait_for("there")
        finally:
            reader.type("redis-cli shutdown nosave || true")
