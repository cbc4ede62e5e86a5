"""nginx, HAProxy and Caddy with the very files of deploy/, on free ports, in front of a server of a test.

Only ports, timeouts and the places of files are replaced in them.
"""

import os
import shutil
import signal
import subprocess
import time
from abc import abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.parts.missing import missing
from tests.parts.ports import free_port, wait_until_listening

DEPLOY = Path(__file__).parents[2] / "deploy"
_NGINX = "/usr/share/nginx:/usr/sbin:/sbin"


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """The text with other values. Raises AssertionError if one of them is not there."""
    for old, new in pairs:
        assert old in text, f"{old!r} is not in the file"
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        missing(name, f"apt-get install {name}")
    return found


class ReverseProxy:
    """A proxy that listens on ``port`` and passes everything to the server at another port."""

    is_transparent = False
    """Whether it passes bytes on, and names the client by the PROXY protocol."""

    keeps_clients = True
    """Whether open connections survive a reload."""

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self.server_port = server_port
        self._scratch = TemporaryDirectory()
        self.directory = Path(self._scratch.name)
        self._log = (self.directory / "output").open("wb")
        self.configure()
        self.process = subprocess.Popen(
            self.command(),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=self.environment(),
        )
        try:
            wait_until_listening(self.port)
        except TimeoutError:
            self.close()
            raise

    @abstractmethod
    def configure(self) -> None:
        """Writes the files."""

    @abstractmethod
    def command(self) -> list[str]:
        """Runs it in the foreground."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def reload(self) -> None:
        """Lets it read its configuration again; returns when other processes serve new connections."""
        before = self._children()
        self.process.send_signal(self.reload_signal)
        deadline = time.monotonic() + 20
        while not self._children() - before:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no reload:\n{self.log.read_text()}")
            time.sleep(0.02)
        wait_until_listening(self.port)

    def _children(self) -> set[str]:
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    @property
    def log(self) -> Path:
        """Where it writes a line for each request."""
        return self.directory / "output"

    def wait_for_log(self, text: str, timeout_s: float = 20) -> None:
        """Returns once its log has a text. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log.read_text():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {text!r} in the log:\n{self.log.read_text()}")
            time.sleep(0.02)

    def close(self) -> None:
        """Stops it, with all its processes."""
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        self._scratch.cleanup()

    stop_signal = signal.SIGTERM
    reload_signal = signal.SIGHUP


class Nginx(ReverseProxy):
    """``deploy/nginx/catenary.conf``."""

    file = "catenary.conf"
    idle = ("_timeout 75s", "_timeout 2s")

    def site(self) -> str:
        return replaced(
            (DEPLOY / "nginx" / self.file).read_text(),
            ("listen 80;", f"listen 127.0.0.1:{self.port};"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.server_port}"),
            self.idle,
        )

    def configure(self) -> None:
        site = replaced(self.site(), ("/var/log/nginx/catenary.log", str(self.log)))
        self._write(f"http {{\n{self._temporary()}\n{site}\n}}\n")

    def _write(self, blocks: str) -> None:
        here = self.directory
        user = "user root;\n" if os.getuid() == 0 else ""
        (here / "nginx.conf").write_text(
            f"{user}daemon off;\nworker_processes 1;\npid {here}/pid;\nerror_log {here}/output warn;\n"
            f"events {{ worker_connections 512; }}\n{blocks}"
        )

    def _temporary(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        return "\n".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)

    def command(self) -> list[str]:
        path = str(self.directory / "nginx.conf")
        return [program("nginx"), "-c", path, "-e", str(self.log)]


class NginxStream(Nginx):
    """``deploy/nginx/stream.conf``."""

    file = "stream.conf"
    is_transparent = True

    def configure(self) -> None:
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        if not module.exists():
            missing("nginx's module stream", "apt-get install libnginx-mod-stream")
        self._write(self.site())
        path = self.directory / "nginx.conf"
        path.write_text(f"load_module {module};\n{path.read_text()}")


class HAProxy(ReverseProxy):
    """``deploy/haproxy/haproxy.cfg``."""

    file = "haproxy.cfg"
    idle: tuple[tuple[str, str], ...] = (
        ("timeout client 75s", "timeout client 2s"),
        ("timeout server 75s", "timeout server 2s"),
        ("timeout tunnel 75s", "timeout tunnel 2s"),
    )

    def configure(self) -> None:
        text = replaced(
            (DEPLOY / "haproxy" / self.file).read_text(),
            ("bind :80\n", f"bind 127.0.0.1:{self.port}\n"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.server_port}"),
            ("maxconn 50000", "maxconn 100"),
            *self.idle,
        )
        (self.directory / "haproxy.cfg").write_text(text)

    def command(self) -> list[str]:
        return [program("haproxy"), "-W", "-f", str(self.directory / "haproxy.cfg")]

    reload_signal = signal.SIGUSR2


class HAProxyTcp(HAProxy):
    """``deploy/haproxy/tcp.cfg``."""

    file = "tcp.cfg"
    is_transparent = True
    idle = HAProxy.idle[:2]


class Caddy(ReverseProxy):
    """``deploy/caddy/Caddyfile``."""

    keeps_clients = False

    def configure(self) -> None:
        text = replaced(
            (DEPLOY / "caddy" / "Caddyfile").read_text(),
            (":80 {", f"http://:{self.port} {{"),
            ("127.0.0.1:8080", f"127.0.0.1:{self.server_port}"),
            ("admin localhost:2019", f"admin unix/{self.directory}/admin"),
        )
        (self.directory / "Caddyfile").write_text(text)

    def environment(self) -> dict[str, str]:
        home = str(self.directory)
        return {**os.environ, "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}

    def command(self) -> list[str]:
        return [program("caddy"), "run", "--config", str(self.directory / "Caddyfile")]

    def reload(self) -> None:
        path = self.directory / "Caddyfile"
        # Caddy does nothing for a configuration that is the same.
        path.write_text(path.read_text().replace("keepalive 3s", "keepalive 4s"))
        subprocess.run(
            [program("caddy"), "reload", "--config", str(path)],
            check=True, capture_output=True, env=self.environment(), timeout=30,
        )  # fmt: skip
