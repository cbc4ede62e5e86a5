"""TLS to the application: trusted certificate authorities.

Source: the options rpc_enable_tls, rpc_tls_verify and rpc_tls_root_ca (anycable/anycable,
rpc/config.go). Knows: certificates. Does not know: gRPC, HTTP.
"""

import ssl
from pathlib import Path

import msgspec

from catenary.errors import ConfigError


class Tls(msgspec.Struct, frozen=True):
    """``root_ca`` is the path of a PEM file or PEM text; empty for the system's authorities.

    Without ``verify``, any certificate is accepted: the connection is encrypted, but not authenticated.
    """

    verify: bool = True
    root_ca: str = ""


def client_context(tls: Tls) -> ssl.SSLContext:
    """Returns the context for connections. Raises :class:`ConfigError` for an unusable root_ca."""
    pem = _root_pem(tls)
    try:
        context = ssl.create_default_context(cadata=pem or None)
    except ssl.SSLError as error:
        raise ConfigError(f"rpc_tls_root_ca: expected certificates in PEM, got {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 sets this flag, and then refuses the certificates of many private authorities: ``openssl x509`` does
    # not add the key identifier that it demands, and Go does not check for it.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _root_pem(tls: Tls) -> str:
    if not tls.root_ca or "-----BEGIN" in tls.root_ca:
        return tls.root_ca
    try:
        return Path(tls.root_ca).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"rpc_tls_root_ca: expected a PEM file or PEM text, got {tls.root_ca!r}: {error}"
        ) from error
