"""Trusted authorities, and the errors of unusable ones."""

import ssl
from pathlib import Path

import pytest

from catenary.errors import ConfigError
from catenary.rpc.tls import Tls, client_context
from tests.parts.certificates import Authority


def test_a_root_is_given_as_a_path_or_as_text(tmp_path: Path) -> None:
    pem = Authority().pem
    path = tmp_path / "ca.pem"
    path.write_bytes(pem)
    for root_ca in (str(path), pem.decode()):
        (trusted,) = client_context(Tls(root_ca=root_ca)).get_ca_certs(binary_form=True)
        assert ssl.DER_cert_to_PEM_cert(trusted).encode() == pem


def test_without_a_root_the_system_s_are_trusted() -> None:
    system = ssl.create_default_context().get_ca_certs(binary_form=True)
    assert client_context(Tls()).get_ca_certs(binary_form=True) == system


def test_verification_is_on_unless_it_is_turned_off() -> None:
    checked = client_context(Tls())
    assert checked.verify_mode is ssl.CERT_REQUIRED
    assert checked.check_hostname
    assert checked.minimum_version is ssl.TLSVersion.TLSv1_2
    unchecked = client_context(Tls(verify=False))
    assert unchecked.verify_mode is ssl.CERT_NONE
    assert not unchecked.check_hostname


@pytest.mark.parametrize(
    "root_ca", ["/nowhere/ca.pem", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
)
def test_a_root_that_can_not_be_read_stops_the_start(root_ca: str) -> None:
    with pytest.raises(ConfigError, match="rpc_tls_root_ca: expected"):
        client_context(Tls(root_ca=root_ca))
