"""The TLS files of a SuperLink: an authority of your own, and a certificate it signs.

    python -m scripts.certificates FOLDER --host server.example [--host 10.0.0.7] [--days 365]

Writes into FOLDER
    ca.pem       for every party (`--root-certificates`) and the SuperLink: not secret
    ca.key       signs further certificates: keep it off the server, and secret
    server.pem   the SuperLink's certificate, for every --host, localhost and 127.0.0.1
    server.key   its key: at the SuperLink alone, readable by its owner

Where FOLDER has an authority already, it signs a new certificate: parties keep their ca.pem.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from scripts.ending import command
from twinweave.errors import ConfigError, SourceError

_OWN = ("localhost", "127.0.0.1")  # what the SuperLink's own parts call it
_AUTHORITY, _SERVER = "Twinweave authority", "Twinweave SuperLink"
_AUTHORITY_DAYS = 3650


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, the error's own code for an AppError."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", action="append", required=True, help="name or address; repeat")
    parser.add_argument("--days", type=int, default=365, help="that the certificate is valid")
    options = parser.parse_args(argv)
    written = write_certificates(options.folder, options.host, days=options.days)
    for path in written.values():
        print(path)
    return 0


def write_certificates(folder: Path, hosts: Sequence[str], *, days: int = 365) -> dict[str, Path]:
    """Write the files; their paths by `ca`, `certificate`, `key`. Raises SourceError, ConfigError.

    hosts: names and addresses by which parties reach the SuperLink.
    """
    if not 0 < days <= _AUTHORITY_DAYS:
        raise ConfigError("--days", f"not in 1 to {_AUTHORITY_DAYS}", "Give fewer, and renew.")
    names = [_alternative(host) for host in dict.fromkeys((*hosts, *_OWN))]
    files = {"ca": "ca.pem", "certificate": "server.pem", "key": "server.key"}
    paths = {name: folder / file for name, file in files.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _authority(paths["ca"], folder / "ca.key")
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = _certificate(_SERVER, key, authority, days, names)
        paths["certificate"].write_bytes(certificate.public_bytes(Encoding.PEM))
        _write_key(paths["key"], key)
    except OSError:
        raise SourceError(f"{folder} cannot be written. Give another folder.") from None
    return paths


def _authority(certificate: Path, key: Path) -> ec.EllipticCurvePrivateKey:
    """The folder's own authority, made where there is none."""
    if certificate.exists() != key.exists():
        raise SourceError(
            f"{certificate.parent} has one of ca.pem and ca.key. Put the other one there, or give "
            "an empty folder for a new authority."
        )
    if not key.exists():
        made = ec.generate_private_key(ec.SECP384R1())
        own = _certificate(_AUTHORITY, made, made, _AUTHORITY_DAYS, None)
        _write_key(key, made)
        certificate.write_bytes(own.public_bytes(Encoding.PEM))
        return made
    try:
        held = load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError):
        held = None
    if not isinstance(held, ec.EllipticCurvePrivateKey):
        raise SourceError(f"{key} is not a key that this command made. Give an empty folder.")
    return held


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9._-]+", host):
            return x509.DNSName(host)
    raise ConfigError(
        "--host", "neither a host name in ASCII nor an address", "Leave out scheme and port."
    )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    days: int,
    names: Sequence[x509.GeneralName] | None,
) -> x509.Certificate:
    """names: of a server; None: of an authority."""
    now, ca = datetime.now(UTC), names is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(_AUTHORITY))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=not ca,
                key_cert_sign=ca,
                crl_sign=ca,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if names is not None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(signer, hashes.SHA384())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


if __name__ == "__main__":
    sys.exit(main())
