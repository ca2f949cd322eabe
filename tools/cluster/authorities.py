"""Who is who in the cluster: two authorities, a certificate for each program and one for the administrator.

They are made anew for every start of a cluster and go with it.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.cluster.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    DNS_DOMAIN,
    NODE_NAME,
    Layout,
)

_VALIDITY: Final = dt.timedelta(days=365)
_CLOCK_DIFFERENCE: Final = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """A certificate to be: the name in it, its groups, and the addresses it serves under."""

    name: str
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Authority:
    """Signs certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
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
        own = _builder(self._name, self._name, self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        own = own.add_extension(usage, critical=True)
        self.certificate = _encoded(own.sign(self._key, hashes.SHA256()))

    @property
    def key(self) -> bytes:
        return _key_encoded(self._key)

    def issue(self, identity: Identity) -> tuple[bytes, bytes]:
        """The certificate and the key of `identity`, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in identity.groups]
        subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(subject, self._name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if identity.addresses:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
            names = x509.SubjectAlternativeName([_general_name(address) for address in identity.addresses])
            builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return _encoded(builder.sign(self._key, hashes.SHA256())), _key_encoded(key)


def make(layout: Layout) -> None:
    """Writes every certificate, key and kubeconfig that the cluster needs, and the administrator's."""
    folder = layout.authorities
    cluster, front_proxy = Authority("rtx-cluster"), Authority("rtx-cluster-front-proxy")
    _write(folder / "ca.crt", cluster.certificate)
    _write(folder / "ca.key", cluster.key)
    _write(folder / "front-proxy-ca.crt", front_proxy.certificate)
    _write_pair(folder, "front-proxy-client", front_proxy.issue(Identity("front-proxy-client")))
    serving = Identity("kube-apiserver", addresses=_api_addresses(layout))
    _write_pair(folder, "serving", cluster.issue(serving))
    kubelet_client = Identity("kube-apiserver-kubelet-client", groups=("system:masters",))
    _write_pair(folder, "kubelet-client", cluster.issue(kubelet_client))
    node = Identity(f"system:node:{NODE_NAME}", ("system:nodes",), (NODE_NAME, layout.node_address, "127.0.0.1"))
    _write_pair(folder, "kubelet", cluster.issue(node))
    _write(folder / "service-accounts.key", _key_encoded(ec.generate_private_key(ec.SECP256R1())))
    for name, identity in {
        "controller-manager": Identity("system:kube-controller-manager"),
        "scheduler": Identity("system:kube-scheduler"),
        "proxy": Identity("system:kube-proxy"),
        "volumes": Identity("rtx-volumes", groups=("system:masters",)),
    }.items():
        _write(folder / f"{name}.kubeconfig", _kubeconfig(layout, cluster, *cluster.issue(identity)))
    certificate, key = ((folder / f"kubelet.{ending}").read_bytes() for ending in ("crt", "key"))
    _write(folder / "kubelet.kubeconfig", _kubeconfig(layout, cluster, certificate, key))
    administrator = Identity("rtx-administrator", groups=("system:masters",))
    _write(layout.kubeconfig, _kubeconfig(layout, cluster, *cluster.issue(administrator)))


def _api_addresses(layout: Layout) -> tuple[str, ...]:
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DNS_DOMAIN}")
    return (*names, "localhost", API_SERVICE_ADDRESS, "127.0.0.1", layout.node_address)


def _kubeconfig(layout: Layout, authority: Authority, certificate: bytes, key: bytes) -> bytes:
    server = {"server": f"https://{layout.node_address}:{API_PORT}"}
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "rtx", "cluster": server | {"certificate-authority-data": _base64(authority.certificate)}}
        ],
        "users": [
            {"name": "rtx", "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}}
        ],
        "contexts": [{"name": "rtx", "context": {"cluster": "rtx", "user": "rtx"}}],
        "current-context": "rtx",
    }
    return json.dumps(configuration, indent=1).encode()


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(now + _VALIDITY)
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_encoded(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _write_pair(folder: Path, name: str, pair: Sequence[bytes]) -> None:
    certificate, key = pair
    _write(folder / f"{name}.crt", certificate)
    _write(folder / f"{name}.key", key)


def _write(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
