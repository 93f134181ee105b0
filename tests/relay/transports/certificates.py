"""A certificate authority for the tests, and server certificates good and bad."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC)


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = self._sign(self._name, self._key, NOW + timedelta(days=1), constraint)

    def trusted(self) -> ssl.SSLContext:
        """A client's context that trusts this authority and no other."""
        context = ssl.create_default_context(cadata=self._pem(self._certificate).decode())
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def file(self) -> Path:
        """Its own certificate, as operators name it."""
        path = self._folder / "authority.pem"
        path.write_bytes(self._pem(self._certificate))
        return path

    def server(self, host: str, *, expired: bool = False) -> ssl.SSLContext:
        """A server's context, with a certificate for one host."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        until = NOW - timedelta(hours=1) if expired else NOW + timedelta(days=1)
        certificate = self._sign(name, key, until, x509.SubjectAlternativeName([x509.DNSName(host)]))
        path = self._folder / f"{host}{'-expired' if expired else ''}.pem"
        path.write_bytes(self._pem(certificate) + _private(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime, extension: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(NOW - timedelta(days=2)).not_valid_after(until)
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())

    @staticmethod
    def _pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
