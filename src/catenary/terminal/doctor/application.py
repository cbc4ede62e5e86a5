"""Checks of the application: whether it can be loaded, or reached over gRPC or HTTP. No call is made that changes it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Final

from catenary.auth.keys import RPC_PHRASE, effective_key
from catenary.config.effective import keys
from catenary.config.options import Options
from catenary.config.urls import http_url
from catenary.errors import AppError, ConfigError
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

_LIMIT_S: Final = 5.0
_CHECK: Final = "application"
_START: Final = "start the application, or correct rpc_host"


def check_cable(where: str) -> Iterator[Finding]:
    """Imports the application as the server would."""
    from catenary.channels.loading import load

    try:
        load(where)
    except ConfigError as error:
        yield problem(_CHECK, str(error), "run catenary in the directory of the module")
    else:
        yield ok(_CHECK, f"{where} is a cable")


async def check_application(options: Options) -> AsyncIterator[Finding]:
    """The application behind ``rpc_host``."""
    try:
        match options.rpc.implementation:
            case "grpc":
                yield await _grpc(options)
            case "http":
                yield await _http(options)
            case _:
                yield ok(_CHECK, "no application is called")
    except ImportError:
        # A missing library is a finding of its own.
        return


async def _grpc(options: Options) -> Finding:
    from catenary.metrics.counters import Counters
    from catenary.rpc.calls import CallLimits
    from catenary.rpc.grpc import GrpcApplication
    from catenary.rpc.tls import Tls

    rpc = options.rpc
    tls = Tls(verify=rpc.tls_verify, root_ca=rpc.tls_root_ca) if rpc.enable_tls else None
    application = GrpcApplication(rpc.host, counters=Counters(), limits=CallLimits(), tls=tls)
    await application.start()
    try:
        status = await application.health(_LIMIT_S)
    except AppError as error:
        text = f"the application can't be called over gRPC: {application.trouble or error}"
        return problem(_CHECK, text, _START)
    finally:
        await application.close(0)
    if status in ("", "SERVING"):
        text = f"the application at {rpc.host} answers over gRPC"
        return ok(_CHECK, text if status else f"{text} (it has no health service)")
    text = f"the application at {rpc.host} says that it is {status}"
    return problem(_CHECK, text, "look at its log")


async def _http(options: Options) -> Finding:
    from catenary.rpc.http_client import ConnectionBroken, HttpClient, ResponseUnusable
    from catenary.rpc.tls import Tls

    rpc = options.rpc
    found = http_url(rpc.host)
    # Not the query, which may have a token.
    url = f"{'https' if found.is_encrypted else 'http'}://{found.authority}{found.path}"
    key = effective_key(keys(options).rpc, RPC_PHRASE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    client = HttpClient(rpc.host, Tls(verify=rpc.tls_verify, root_ca=rpc.tls_root_ca), headers)
    try:
        async with asyncio.timeout(_LIMIT_S):
            # Without a body this is no call: a server refuses it, and does not ask its application.
            response = await client.post("connect", b"", {})
    except (OSError, ConnectionBroken, ResponseUnusable) as error:
        reason = str(error) or f"no answer within {_LIMIT_S:g} s"
        text = f"the application at {url} can't be reached: {reason}"
        return problem(_CHECK, text, _START)
    finally:
        await client.close()
    match response.status:
        case 401 | 403:
            text = f"the application at {url} refuses the key (HTTP {response.status})"
            return problem(_CHECK, text, "give both the same http_rpc_secret, or the same secret")
        case 404 | 405:
            text = f"nothing answers calls at {url} (HTTP {response.status})"
            return problem(_CHECK, text, "add the path to rpc_host, such as /_anycable")
        case status if 300 <= status < 400:
            text = f"{url} redirects calls to another place"
            return problem(_CHECK, text, "name that place in rpc_host")
        case 502 | 503 | 504:
            text = f"the application behind {url} does not answer (HTTP {response.status})"
            return problem(_CHECK, text, _START)
        case 400 | 415 | 422:
            return ok(_CHECK, f"the application at {url} answers over HTTP")
        case status:
            text = (
                f"the application at {url} answers an empty call with HTTP {status} (expected: 422)"
            )
            return warning(_CHECK, text, "check that rpc_host names AnyCable's HTTP RPC")
