"""How a node proves to NATS who it is, and the TLS between them.

Files are read again for each connection, so that renewed credentials and certificates apply to the next one. Errors name the
option and the path, never the contents.
Source: "Authentication" and "TLS" of the NATS documentation (docs.nats.io).
Knows: paths, keys. Does not know: sockets.
"""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from catenary.config.addresses import NatsAddress, nats_login
from catenary.config.options import NatsOptions
from catenary.errors import BackendError, ConfigError, MissingExtra

if TYPE_CHECKING:
    from catenary.auth.nkeys import UserKey


class NatsAccess(msgspec.Struct, frozen=True, kw_only=True):
    """``credentials_path`` names a ``.creds`` file, ``nkey_path`` one with a seed; a user, password or token is in the URL of
    a server. Any path of a certificate, or ``handshake_first``, means TLS, whatever the scheme of the URL. Replies come on
    subjects below ``inbox_prefix``.
    """

    credentials_path: str = ""
    nkey_path: str = ""
    ca_path: str = ""
    certificate_path: str = ""
    key_path: str = ""
    handshake_first: bool = False
    inbox_prefix: str = "_INBOX"

    @property
    def needs_tls(self) -> bool:
        """Does a connection have to be encrypted, although its URL does not say so?"""
        return self.handshake_first or bool(self.ca_path or self.certificate_path)

    def check(self) -> None:
        """Reads all files once. Raises :class:`ConfigError`, :class:`MissingExtra`."""
        try:
            if self.needs_tls:
                self.tls_context()
            if self.credentials_path or self.nkey_path:
                self._jwt_and_key()
        except BackendError as error:
            raise ConfigError(str(error)) from error

    def login(self, address: NatsAddress, nonce: str) -> dict[str, object]:
        """The fields of CONNECT. Raises :class:`BackendError`."""
        fields = nats_login(address)
        if not self.credentials_path and not self.nkey_path:
            return fields
        jwt, key = self._jwt_and_key()
        if not nonce:
            raise BackendError(
                f"{self._option} is given, but the server does not ask for a signature: it knows neither nkeys nor JWTs"
            )
        fields["sig"] = key.sign(nonce)
        if jwt:
            fields["jwt"] = jwt
        else:
            fields["nkey"] = key.public
        return fields

    def tls_context(self) -> ssl.SSLContext:
        """A context that verifies the server's certificate. Raises :class:`BackendError`."""
        name = f"nats_tls_ca_cert_path: {self.ca_path}"
        try:
            context = ssl.create_default_context(cafile=self.ca_path or None)
            if self.certificate_path:
                name = f"nats_tls_client_cert_path: {self.certificate_path}"
                # Without a terminal, a key with a password would wait for one.
                context.load_cert_chain(self.certificate_path, self.key_path, password="")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, FileNotFoundError) else error
            raise BackendError(f"{name}: {reason}") from error
        return context

    def ending(self, error: Exception | None, *, was_greeted: bool) -> str:
        """Why a connection has ended, or was not made; None is an end without an error."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate of the server is refused: {error.verify_message} (nats_tls_ca_cert_path)"
        if isinstance(error, ssl.SSLError):
            # The certificate of the server was accepted: what is left is that of the client.
            return f"TLS has failed: {error.reason or error} (look at nats_tls_client_cert_path)"
        if error is not None:
            return str(error)
        if was_greeted:
            return "the server ended the connection"
        return (
            "the server ended the connection and said nothing "
            "(does it expect TLS first: nats_tls_handshake_first?)"
        )

    @property
    def credentials(self) -> str:
        """The option with the credentials that a server may refuse, for errors."""
        return self._option or "the user, the password or the token of nats_servers"

    @property
    def _option(self) -> str:
        if self.credentials_path:
            return "nats_creds_path"
        return "nats_nkey_path" if self.nkey_path else ""

    def _jwt_and_key(self) -> "tuple[str, UserKey]":
        try:
            from catenary.auth.nkeys import UserKey, read_credentials
        except ImportError as error:
            raise MissingExtra(self._option, "jwt") from error
        path = self.credentials_path or self.nkey_path
        try:
            text = Path(path).read_text("utf-8")
            return read_credentials(text) if self.credentials_path else ("", UserKey(text.strip()))
        except OSError as error:
            raise BackendError(f"{self._option}: {path}: {error.strerror}") from error
        except ValueError as error:
            # A decoding error would show a part of the file.
            words = "expected text" if isinstance(error, UnicodeError) else error
            raise BackendError(f"{self._option}: {path}: {words}") from None


ANONYMOUS: Final = NatsAccess()
"""Without files: a user, password or token may be in the URL, and TLS is what URL and server say."""


def access_by(options: NatsOptions) -> NatsAccess:
    """The access that the options describe."""
    return NatsAccess(
        credentials_path=options.creds_path,
        nkey_path=options.nkey_path,
        ca_path=options.tls_ca_cert_path,
        certificate_path=options.tls_client_cert_path,
        key_path=options.tls_client_key_path,
        handshake_first=options.tls_handshake_first,
        inbox_prefix=options.inbox_prefix,
    )
