"""Make a CA and a server certificate, for a coordinator without a PKI of its own, and for tests.

``python -m fedkt.deploy.certificates --out pki --host fedkt.example.org --days 365`` writes ``ca.pem`` (give
it to every site), ``ca.key`` (keep it off the server), ``server.pem`` and ``server.key``. An existing CA is
used again, so running it anew renews the server's certificate and sites need nothing new.
"""

import argparse
import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedkt.files import write_secret

CA_DAYS = 3650


def make_certificates(
    out: Path, hosts: Sequence[str], days: float = 365, starts: datetime.datetime | None = None
) -> None:
    """Write the four files into ``out``; ``hosts``: names and addresses under which sites reach the server.

    ``starts``: when the certificate begins to hold (default: a minute ago, for clocks that lag).
    """
    now = datetime.datetime.now(datetime.UTC)
    if (out / "ca.key").is_file():
        ca_key = serialization.load_pem_private_key((out / "ca.key").read_bytes(), None)
        ca = x509.load_pem_x509_certificate((out / "ca.pem").read_bytes())
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    else:
        ca_key = ec.generate_private_key(ec.SECP384R1())
        ca = _ca(ca_key, now)
        write_secret(out / "ca.key", _pem(ca_key))
        (out / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    key = ec.generate_private_key(ec.SECP384R1())
    begin = starts or now - datetime.timedelta(minutes=1)
    names = [_general_name(host) for host in hosts]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(hosts[0]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    write_secret(out / "server.key", _pem(key))
    (out / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _ca(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(_name("fedkt CA"))
        .issuer_name(_name("fedkt CA"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("pki"))
    parser.add_argument("--host", action="append", help="a name or address of the server; may be repeated")
    parser.add_argument("--days", type=float, default=365)
    given = parser.parse_args()
    hosts = given.host or ["localhost", "127.0.0.1"]
    make_certificates(given.out, hosts, given.days)
    print(f"{given.out}: ca.pem goes to every site; server.pem and server.key belong to {', '.join(hosts)}.")


if __name__ == "__main__":
    main()
