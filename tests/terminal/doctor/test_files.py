"""Certificates, keys and directories that the options name."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from catenary.terminal.doctor.certificates import certificates
from catenary.terminal.doctor.files import check_files
from catenary.terminal.doctor.findings import Finding
from tests.parts.certificates import Authority, Certificate
from tests.terminal.doctor import bad, configured, shown

DAY = dt.timedelta(days=1)


def signed_by_itself(first: dt.datetime, last: dt.datetime) -> Certificate:
    """A certificate without an authority, valid between two moments."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(first).not_valid_after(last)
    return Certificate(
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def for_days(days: int) -> Certificate:
    now = dt.datetime.now(dt.UTC)
    return signed_by_itself(now - DAY, now + days * DAY)


@pytest.fixture
def authority() -> Authority:
    return Authority()


def checked(directory: Path, chain: bytes, key: bytes) -> list[Finding]:
    cert, secret = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(chain)
    secret.write_bytes(key)
    secret.chmod(0o600)
    options = configured(f"--ssl_cert={cert}", f"--ssl_key={secret}")
    return list(check_files(options, None))


def test_a_whole_chain(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue("localhost")
    found = checked(tmp_path, issued.certificate + authority.pem, issued.key)
    (finding,) = [each for each in found if each.level == "ok" or "expires" in each.text]
    assert "cert.pem" in finding.text
    assert [each.text for each in bad(found) if "expires" not in each.text] == []


def test_a_chain_that_lacks_its_issuer_or_has_a_wrong_order(
    tmp_path: Path, authority: Authority
) -> None:
    issued = authority.issue("localhost")
    found = checked(tmp_path, issued.certificate, issued.key)
    assert ("warning", f"{tmp_path}/cert.pem has the server's certificate alone") in shown(found)
    other = Authority("another")
    found = checked(tmp_path, issued.certificate + other.pem, issued.key)
    text = f"certificate 2 in {tmp_path}/cert.pem has not issued certificate 1"
    assert ("problem", text) in shown(found)


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    (finding,) = bad(checked(tmp_path, for_days(90).certificate, for_days(90).key))
    assert finding.level == "problem"
    assert "does not belong to the certificate" in finding.text


def test_validity(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    for made, level, text in (
        (for_days(90), "ok", "is valid until"),
        (for_days(9), "warning", "expires in 8 days"),
        (signed_by_itself(now - 9 * DAY, now - DAY), "problem", "has expired on"),
        (signed_by_itself(now + DAY, now + 90 * DAY), "problem", "is not valid before"),
        (signed_by_itself(now - DAY, dt.datetime(2070, 1, 1, tzinfo=dt.UTC)), "ok", "until 2070"),
    ):
        found = checked(tmp_path, made.certificate, made.key)
        assert (level, True) in [(each.level, text in each.text) for each in found], found


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for flags, text in (
        (("--ssl_cert=", "--ssl_key="), None),
        ((f"--ssl_cert={missing}", f"--ssl_key={missing}"), "No such file"),
        ((f"--ssl_cert={broken}", f"--ssl_key={broken}"), "no certificate and key in PEM"),
        ((f"--rpc_tls_root_ca={missing}",), "No such file"),
        ((f"--rpc_tls_root_ca={broken}",), "no certificates in PEM"),
        ((f"--jwt_public_key={missing}",), "No such file"),
    ):
        found = bad(check_files(configured(*flags), None))
        assert [text in each.text for each in found if text] == [True] * bool(text), flags
        assert all(each.level == "problem" for each in found)


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (finding,) = bad(checked(tmp_path, for_days(90).certificate, locked))
    assert finding.level == "problem"
    assert "passphrase" in finding.text + finding.advice


def test_a_broken_certificate_after_a_good_one(tmp_path: Path) -> None:
    made = for_days(90)
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    found = bad(checked(tmp_path, made.certificate + broken, made.key))
    assert [each.level for each in found] == ["problem"]


def test_secrets_that_everybody_may_read(tmp_path: Path) -> None:
    made = for_days(90)
    checked(tmp_path, made.certificate, made.key)
    (tmp_path / "key.pem").chmod(0o644)
    configuration = tmp_path / "anycable.toml"
    configuration.write_text("")
    configuration.chmod(0o644)
    options = configured(f"--ssl_cert={tmp_path}/cert.pem", f"--ssl_key={tmp_path}/key.pem")
    found = bad(check_files(options, str(configuration)))
    assert {each.advice for each in found} >= {
        f"chmod o-r {tmp_path}/key.pem",
        f"chmod o-r {configuration}",
    }
    configuration.chmod(0o600)
    assert all(
        "anycable.toml" not in each.text for each in check_files(options, str(configuration))
    )


def test_a_directory_for_nats(tmp_path: Path) -> None:
    flags = ("--embed_nats", f"--enats_store_dir={tmp_path}/new/place")
    assert bad(check_files(configured(*flags), None)) == []
    (tmp_path / "new").write_text("a file")
    (finding,) = bad(check_files(configured(*flags), None))
    assert finding.text == f"{tmp_path}/new/place can't be written"


def test_certificates_agree_with_a_library(authority: Authority) -> None:
    pem = authority.issue("localhost").certificate + authority.pem
    ours, theirs = certificates(pem.decode()), x509.load_pem_x509_certificates(pem)
    assert [each.not_after for each in ours] == [each.not_valid_after_utc for each in theirs]
    assert [each.not_before for each in ours] == [each.not_valid_before_utc for each in theirs]
    assert ours[0].issuer == ours[1].subject != ours[0].subject
    with pytest.raises(ValueError, match="certificate 1 can't be read"):
        certificates("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
