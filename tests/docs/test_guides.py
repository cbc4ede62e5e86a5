"""Runs the code and commands of docs/, with the servers and variables that they name.

That their files fit together and pass type checks is tested in tests/channels and tests/terminal.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from catenary.config.pusher_apps import pusher_apps
from catenary.config.stream_rules import stream_rules
from tests.config.sources import options
from tests.parts import guide
from tests.parts.machine import Machine, blocks, machine
from tests.parts.node import require_node, require_packages

GET = "curl --fail --silent --show-error"
PUBLIC = "catenary --public --norpc --broadcast_adapter=http"
"""``make run`` of the README."""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as fresh:
        yield fresh


def python(code: str) -> str:
    return f"python -W error - <<'END'\n{code}\nEND"


def test_a_whole_job_without_a_variable(reader: Machine) -> None:
    guide.write("publishing", reader.directory)
    with (
        reader.terminal(f"{PUBLIC} --presets=broker", 8080, 8090),
        reader.terminal("catenary subscribe --stream=orders/1") as listener,
    ):
        listener.wait_for("subscribed to")
        reader.type(python("import jobs; jobs.order_paid(1)"))
        listener.wait_for('{"state":"paid"}')
        printed = reader.type(python("import reading; print(reading.room_now('orders/1'))"))
        assert printed == "([], [{'state': 'paid'}])\n"


def test_a_whole_job_with_the_secret_of_the_server(reader: Machine) -> None:
    guide.write("publishing", reader.directory)
    text = (guide.ROOT / "docs" / "publishing.md").read_text()
    (server,) = re.findall(r"^`(catenary .*--secret=s3cret.*)`:$", text, re.MULTILINE)
    (api,) = blocks("docs/publishing.md")
    with reader.terminal(f"{server} --broadcast_adapter=http", 8080):
        job = python("import jobs; jobs.order_paid(1)")
        reader.type(f"export ANYCABLE_SECRET=s3cret\n{job}")
        reader.type(python("import places; places.over_http.publish(b'[]')"))
        printed = reader.type(api.replace("curl ", f"{GET} "))
        assert '{"type":"info","total":0}' in printed
        assert '"messages":[]' in printed


def test_a_job_without_a_server_says_where_it_looked(reader: Machine) -> None:
    guide.write("publishing", reader.directory)
    job = python("import jobs; jobs.order_paid(1)")
    printed = reader.type(f"if {job}\nthen exit 1; fi".replace("END\nthen", "END\nthen"))
    assert (
        "BackendError: no server accepts broadcasts at http://localhost:8090/_broadcast" in printed
    )


def test_a_cable_and_its_jobs(reader: Machine) -> None:
    guide.write("channels", reader.directory)
    text = (guide.ROOT / "docs" / "channels.md").read_text()
    (server,) = re.findall(r"^`(catenary chat:cable --secret=s3cret)`:$", text, re.MULTILINE)
    listen = "catenary subscribe ChatChannel id=42 --header='Cookie: user_id=7'"
    with (
        reader.terminal(f"{server} --broadcast_adapter=http", 8080),
        reader.terminal(f"{listen} --url=ws://localhost:8080/cable") as listener,
    ):
        listener.wait_for("subscribed to")
        reader.type(python("import jobs; jobs.ChatChannel.broadcast_to(42, {'text': 'by a job'})"))
        listener.wait_for('"by a job"')


def test_long_polling_by_hand(reader: Machine) -> None:
    (block,) = blocks("docs/long-polling.md")
    server, request = block.splitlines()
    with reader.terminal(server.partition("#")[0], 8080):
        printed = reader.type(request)
    assert "X-Anycable-Poll-ID: " in printed
    assert '"type":"confirm_subscription"' in printed


def test_every_way_to_serve_a_cable(reader: Machine) -> None:
    guide.write("channels", reader.directory)
    commands = [
        line.partition("#")[0].strip()
        for block in blocks("docs/channels.md")
        for line in block.splitlines()
    ]
    assert len(commands) == 6
    for command in commands:
        port = 50051 if command.startswith("catenary rpc") else 8080
        with reader.terminal(command, port) as server:
            if port == 8080:
                reader.type(f"{GET} localhost:8080/ready")
            assert "Traceback" not in server.output()


def test_pages_beside_a_cable_and_a_cable_beside_pages(reader: Machine) -> None:
    guide.write("asgi", reader.directory)
    _, serve, _, flask = blocks("docs/asgi.md")
    ours, uvicorn = (line.partition("#")[0].strip() for line in serve.splitlines())
    for command, port, path, pages in (
        (ours, 8080, "/cable", ""),
        (uvicorn, 8000, "/cable/", "/shop"),
    ):
        with reader.terminal(command, port):
            orders_arrive(reader, f"ws://localhost:{port}{path}", f"http://localhost:{port}{pages}")
    gunicorn, server = flask.splitlines()
    assert gunicorn == "gunicorn --bind=localhost:5000 --threads=8 flask_app:wsgi"
    serves = "from flask_app import wsgi; from werkzeug.serving import run_simple"
    wsgi = f"{sys.executable} -c '{serves}; run_simple(\"localhost\", 5000, wsgi, threaded=True)'"
    with reader.terminal(wsgi, 5000), reader.terminal(server, 8080):
        orders_arrive(reader, "ws://localhost:8080/cable", "http://localhost:5000")


def orders_arrive(reader: Machine, cable: str, pages: str) -> None:
    cookies = reader.type(f"{GET} --cookie-jar - --request POST {pages}/login/7")
    cookie = re.findall(r"session\t(\S+)", cookies)[0]
    listen = f"catenary subscribe OrdersChannel --url={cable} --header='Cookie: session={cookie}'"
    with reader.terminal(listen) as listener:
        listener.wait_for("subscribed to")
        reader.type(f"{GET} --request POST {pages}/orders/7")
        listener.wait_for('{"status":"paid"}')


def test_durable_streams(reader: Machine) -> None:
    serve, read, serve_writes, write = blocks("docs/durable-streams.md")
    with reader.terminal(serve, 8080, 8090):
        printed = reader.type(read.replace("curl ", "curl --silent --show-error "))
        assert printed.startswith('[{"text":"Hello"}]event: data\ndata:[{"text":"Hello"}]\n')
    with reader.terminal(serve_writes, 8080):
        printed = reader.type(write.replace("curl ", "curl --fail --silent --show-error "))
        assert printed == '[{"state":"paid"},{"state":"sent"}]'


def test_health_checks(reader: Machine) -> None:
    ask, serve = blocks("docs/health.md")
    with reader.terminal(serve, 8080):
        text, answer = reader.type(ask.replace("curl ", f"{GET} ")).splitlines()
    (shown,) = (json.loads(each) for each in blocks("docs/health.md", "json"))
    assert text == "OK"
    assert json.loads(answer).keys() == shown.keys()
    assert json.loads(answer)["checks"][0].keys() == shown["checks"][0].keys()
    (pod,) = (yaml.safe_load(each)["spec"] for each in blocks("docs/health.md", "yaml"))
    (container,) = pod["containers"]
    node, server = options(*container["args"]).node, options(*container["args"]).server
    stop_s = node.shutdown_delay_s + node.shutdown_timeout_s
    assert stop_s < pod["terminationGracePeriodSeconds"]
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "readiness")
    }
    assert probes == {"liveness": server.health_path, "readiness": server.ready_path}


def test_the_rest_api(reader: Machine) -> None:
    serve, listen, *asking = blocks("docs/api.md")
    script = "".join(asking).replace("curl ", f"{GET} ")
    with (
        reader.terminal(serve, 8080),
        reader.terminal(listen) as listener,
    ):
        listener.wait_for("subscribed to")
        printed = reader.type(script.replace(f"\n{GET}", f"\necho; {GET}"))
    answers = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    (shown,) = (json.loads(each) for each in blocks("docs/api.md", "json"))
    listed, details, subscribed, unsubscribed, disconnected, newest, oldest = answers
    assert listed.keys() == shown.keys()
    assert listed["connections"][0].keys() == shown["connections"][0].keys()
    assert details["subscriptions"][0]["streams"] == ["hello"]
    assert (subscribed["subscribed"], unsubscribed["subscribed"]) == (True, False)
    assert disconnected == {"disconnected": 1}
    assert [each["data"] for each in newest["messages"]] == ["2"]
    assert [each["data"] for each in oldest["messages"]] == ["1", "2"]


def test_pusher_s_api(reader: Machine) -> None:
    (serve,) = blocks("docs/pusher-api.md")
    (script,) = blocks("docs/pusher-api.md", "js")
    node = f"{require_node()} --input-type=module -"
    with reader.terminal(serve, 8080):
        printed = reader.type(f"cd {require_packages().parent}; {node} <<'END'\n{script}\nEND")
    assert printed == '{"channels":{}}\n'
    (file,) = blocks("docs/pusher-api.md", "toml")
    (app,) = pusher_apps(options(file=file))
    assert [each.events for each in app.webhooks] == [
        ("channel_occupied", "channel_vacated", "client_event")
    ]


def test_pusher_s_clients(reader: Machine) -> None:
    serve, publish = blocks("docs/pusher.md")
    (script,) = blocks("docs/pusher.md", "js")
    require_node()
    (reader.directory / "node_modules").symlink_to(require_packages())
    heard = "channel.bind('pusher:subscription_succeeded', () => console.log('subscribed'))"
    (reader.directory / "page.mjs").write_text(f"{script}\n{heard}")
    with reader.terminal(serve, 8080, 8090), reader.terminal("node page.mjs") as page:
        page.wait_for("subscribed")
        reader.type(publish.replace("curl ", f"{GET} "))
        page.wait_for("Hello")


def test_coming_from_pusher(reader: Machine) -> None:
    (serve,) = blocks("docs/pusher-migration.md")
    with reader.terminal(serve, 8080) as server:
        server.wait_for("/apps/ID")


def test_metrics(reader: Machine) -> None:
    serve, scrape, statsd = blocks("docs/metrics.md")
    with reader.terminal(f"{serve.strip()} --metrics_rotate_interval=1", 8080) as server:
        printed = reader.type(scrape.replace("curl ", f"{GET} "))
        assert "\nanycable_go_clients_num 0\n" in printed
        server.wait_for("metrics: clients_num=0 server_msg_total=0")
    with reader.terminal(statsd, 8080) as server:
        server.wait_for("Sending metrics to StatsD at localhost:8125")


def test_logs(reader: Machine) -> None:
    """The lines are tested in tests/logs; here, that each command starts a server which writes what the page says."""
    levels, one_client = blocks("docs/logs.md")
    debug, as_json = (line.partition("#")[0].strip() for line in levels.splitlines())
    with reader.terminal(debug, 8080) as server:
        server.wait_for("DEBUG")
    with reader.terminal(as_json, 8080) as server:
        server.wait_for('"event":"server"')
    command = one_client.partition(" 2>&1")[0]
    with reader.terminal(f"{PUBLIC} {command.removeprefix('catenary ')}", 8080) as server:
        reader.type("catenary subscribe --stream=hello --timeout=0.2")
        server.wait_for('"event":"closed"')
        events = [json.loads(line) for line in server.output().splitlines() if "sid" in line]
    seen = {each["event"] for each in events if each["logger"] == "catenary.client"}
    assert seen == {"opened", "connected", "received", "subscribed", "transmitted", "closed"}
    life = (guide.ROOT / "docs" / "logs.md").read_text().partition("## The life of a client")[2]
    assert {each for each in seen if f"`{each}`" in life} == seen


def test_traces(reader: Machine) -> None:
    install, to_console = blocks("docs/tracing.md")
    to_collector = install.splitlines()[1]
    with reader.terminal(to_collector, 8080) as server:
        server.wait_for("Tracing to otlp http://localhost:4318 (sample ratio 0.01)")
    with reader.terminal(to_console, 8080) as server:
        reader.type("catenary subscribe --stream=hello --timeout=0.2")
        server.wait_for('{"name": "connect", ')


def test_the_terminal(reader: Machine) -> None:
    begin, serve, *steps = blocks("docs/terminal.md")
    reader.type(begin)
    reader.directory = reader.directory / "chat"
    (public,) = (each for each in steps if each.startswith("catenary --public"))
    with reader.terminal(serve, 8080), reader.terminal(public, 8081):
        for step in steps:
            if step is not public:
                reader.type(re.sub(r"--(seconds|timeout)=1s?\b", r"--\1=0.2", step))


def test_no_page_installs_from_an_index() -> None:
    """No index has this package: every command must work from a clone."""
    pages = [
        guide.ROOT / "README.md",
        *guide.ROOT.glob("docs/*.md"),
        *guide.ROOT.glob("examples/**/*.md"),
    ]
    sources = [*guide.ROOT.glob("src/**/*.py"), *guide.ROOT.glob("src/**/*.in")]
    wrong = re.compile(r"pip install ['\"]?catenary")
    assert [each for each in (*pages, *sources) if wrong.search(each.read_text())] == []


def test_a_charging_station(reader: Machine) -> None:
    guide.write("ocpp", reader.directory)
    server, reset = blocks("docs/ocpp.md")
    with (
        reader.terminal(server, 8080, 8090) as central,
        reader.terminal("python station.py") as station,
    ):
        station.wait_for("Accepted'}")
        central.wait_for("cs-1 booted: {'chargePointModel': 'M'")
        reader.type(reset)
        central.wait_for("cs-1 answered 1: {'status': 'Accepted'}")


def test_a_graphql_client(reader: Machine) -> None:
    guide.write("graphql", reader.directory)
    (reader.directory / "node_modules").symlink_to(require_packages())
    server, client = blocks("docs/graphql.md")
    install, node = client.split("\n", 1)
    assert install.startswith("npm install ")
    with reader.terminal(server, 8080):
        assert reader.type(node) == "3\n2\n1\n"
        reader.type(python("import visitors"))


def test_adaptive_concurrency(reader: Machine) -> None:
    """How it adapts is tested in tests/rpc/test_adaptive_concurrency.py."""
    (serve,) = blocks("docs/adaptive-concurrency.md")
    with reader.terminal(serve, 8080) as server:
        server.wait_for("(concurrency: auto (initial=25, min=5, max=100))")


def test_the_console(reader: Machine) -> None:
    """Its pages are tested in a browser: tests/browser/test_console.py."""
    (commands,) = blocks("docs/console.md")
    public, guarded = commands.splitlines()
    visit = f"{GET} --location http://localhost:8080"
    with reader.terminal(public, 8080, 8090):
        assert "<title>Catenary</title>" in reader.type(f"{visit}/")
    with reader.terminal(guarded, 8080):
        assert "<title>Log in · Catenary</title>" in reader.type(f"{visit}/_high_voltage_/")


def test_a_new_version_takes_over_the_ports(reader: Machine) -> None:
    (server,) = blocks("docs/upgrades.md")
    server = server.replace("/run/catenary/", "")
    with (
        reader.terminal("redis-server --save ''", 6379),
        reader.terminal(server, 8080) as old,
        reader.terminal(server) as new,
    ):
        old.wait_for("A new server has taken over the ports")
        old.wait_for("server: Stopped")
        assert "shares no Redis" not in new.output()
        assert reader.type(f"{GET} localhost:8080/health") == "OK\n"


def test_rules_for_streams(reader: Machine) -> None:
    show_and_serve, publish = blocks("docs/streams.md")
    show, serve = show_and_serve.splitlines()
    (reader.directory / "anycable.toml").write_text("".join(blocks("docs/streams.md", "toml")))
    assert [each.match for each in stream_rules(options(file=reader.type(show)))] == [
        "prices:*",
        "chat/*",
        "ticks:*",
        "orders/*",
    ]
    with reader.terminal(serve, 8080, 8090):
        printed = reader.type(publish.replace("curl ", f"{GET} "))
    (message,) = (json.loads(line) for line in printed.splitlines())
    assert json.loads(message["data"]) == 1.18
