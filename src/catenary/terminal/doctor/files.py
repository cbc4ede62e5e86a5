"""Checks of the files that the options name: certificates, keys, directories."""

import os
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from catenary.config.options import Options
from catenary.terminal.doctor.certificates import Certificate, certificates
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

_SOON: Final = timedelta(days=21)
_INLINE: Final = "-----BEGIN"


def check_files(options: Options, config_path: str | None) -> Iterator[Finding]:
    """Everything that is read at the start."""
    if config_path is not None:
        yield from _configuration(Path(config_path))
    server, redis = options.server, options.redis
    if server.ssl_cert:
        yield from _pair("ssl_cert", server.ssl_cert, "ssl_key", server.ssl_key, is_server=True)
    if redis.tls_client_cert_path:
        yield from _pair(
            "redis_tls_client_cert_path",
            redis.tls_client_cert_path,
            "redis_tls_client_key_path",
            redis.tls_client_key_path,
            is_server=False,
        )
    for option, path in (
        ("redis_tls_ca_cert_path", redis.tls_ca_cert_path),
        ("rpc_tls_root_ca", options.rpc.tls_root_ca),
    ):
        if path and _INLINE not in path:
            yield from _authorities(option, path)
    if options.jwt.public_key and not options.jwt.public_key.startswith(_INLINE):
        yield _readable("jwt_public_key", options.jwt.public_key)
    if options.enats.enabled and options.enats.store_dir:
        yield _writable("enats_store_dir", Path(options.enats.store_dir))


def _configuration(path: Path) -> Iterator[Finding]:
    if path.stat().st_mode & stat.S_IROTH:
        yield warning(
            "config-path",
            f"every user of this machine may read {path}, which may contain secrets",
            f"chmod o-r {path}",
        )


def _pair(
    cert_option: str, cert: str, key_option: str, key: str, *, is_server: bool
) -> Iterator[Finding]:
    """A certificate with its private key."""
    for option, path in ((cert_option, cert), (key_option, key)):
        found = _readable(option, path)
        if found.level == "problem":
            yield found
            return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            text = f"the key in {key} does not belong to the certificate in {cert}"
            yield problem(cert_option, text, f"name the key that was made for it: {key_option}")
        else:
            text = f"{cert} and {key} are no certificate and key in PEM: {reason or error}"
            yield problem(cert_option, text, "a key must not have a passphrase")
        return
    if Path(key).stat().st_mode & stat.S_IROTH:
        text = f"every user of this machine may read the private key {key}"
        yield warning(key_option, text, f"chmod o-r {key}")
    try:
        chain = certificates(Path(cert).read_text(errors="replace"))
    except ValueError as error:
        yield problem(cert_option, f"{cert}: {error}", "remove it, or copy it again")
        return
    yield _validity(cert_option, cert, chain)
    if is_server:
        yield from _order(cert_option, cert, chain)


def _no_password() -> str:
    raise ValueError("the key has a passphrase")


def _authorities(option: str, path: str) -> Iterator[Finding]:
    found = _readable(option, path)
    if found.level == "problem":
        yield found
        return
    try:
        ssl.create_default_context(cafile=path)
        chain = certificates(Path(path).read_text(errors="replace"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        yield problem(option, f"{path} has no certificates in PEM: {reason}", "name a PEM file")
        return
    yield _validity(option, path, chain)


def _validity(option: str, path: str, chain: list[Certificate]) -> Finding:
    now = datetime.now(UTC)
    if not chain:
        return problem(option, f"{path} has no certificate", "name a PEM file")
    first = min(chain, key=lambda each: each.not_after)
    day = f"{first.not_after:%Y-%m-%d}"
    if first.not_after <= now:
        return problem(option, f"a certificate in {path} has expired on {day}", "renew it")
    late = max(each.not_before for each in chain)
    if late > now:
        text = f"a certificate in {path} is not valid before {late:%Y-%m-%d %H:%M} UTC"
        return problem(option, text, "check the clock of this machine, or wait")
    if first.not_after - now < _SOON:
        days = (first.not_after - now).days
        text = f"a certificate in {path} expires in {days} days, on {day}"
        return warning(option, text, "renew it; the server reads it at its start only")
    return ok(option, f"{path} is valid until {day}")


def _order(option: str, path: str, chain: list[Certificate]) -> Iterator[Finding]:
    """Clients need every certificate between the server's and one that they know."""
    for number, (each, following) in enumerate(pairwise(chain), 1):
        if each.issuer != following.subject:
            text = f"certificate {number + 1} in {path} has not issued certificate {number}"
            advice = "begin with the server's own certificate, each followed by that of its issuer"
            yield problem(option, text, advice)
            return
    if len(chain) == 1 and chain[0].issuer != chain[0].subject:
        text = f"{path} has the server's certificate alone"
        advice = "add those of its issuers, unless clients know the issuer (fullchain.pem)"
        yield warning(option, text, advice)
    elif chain[0].issuer == chain[0].subject:
        text = f"the certificate in {path} is self-signed"
        yield warning(option, text, "browsers refuse it unless it is installed there")


def _readable(option: str, path: str) -> Finding:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        advice = f"name another file with {option}, or let this user ({_user()}) read it"
        return problem(option, f"{path} can't be read: {error.strerror}", advice)
    return ok(option, f"{path} can be read")


def _writable(option: str, path: Path) -> Finding:
    place = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return ok(option, f"{path} can be written")
    advice = f"name another directory, or let this user ({_user()}) write it"
    return problem(option, f"{path} can't be written", advice)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
