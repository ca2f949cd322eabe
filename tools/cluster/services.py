"""The node's programs: what each is started with, and when it counts as ready."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tools.cluster.layout import (
    API_PORT,
    DNS_DOMAIN,
    DNS_SERVICE_ADDRESS,
    NODE_NAME,
    POD_NETWORK,
    SERVICE_NETWORK,
    Layout,
)
from tools.cluster.packages import CNI_PLUGINS, installed

PAUSE_IMAGE: Final = "localhost/rtx/pause:1"
CONTAINERD_SOCKET: Final = "/run/containerd/containerd.sock"
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ETCD: Final = "http://127.0.0.1:2379"


def environment(programs: Path) -> dict[str, str]:
    """What every service sees of the environment; nothing of whoever started the cluster."""
    # HOME is not root's: a program that looks for its own settings finds none.
    return {"PATH": f"{programs}:{SYSTEM_PATH}", "HOME": "/var/lib", "LANG": "C.UTF-8", "TMPDIR": "/var/tmp"}  # noqa: S108


def services(layout: Layout, programs: Path) -> list[dict[str, Any]]:
    """The plan for the supervisor; writes the configuration files that it names."""
    _write_settings(layout)
    authorities, settings = layout.authorities, layout.settings
    authority = str(authorities / "ca.crt")
    plan: list[dict[str, Any]] = []

    def add(name: str, command: list[str], *, needs: list[str], probe: str | None, program: str | None = None) -> None:
        plan.append(
            {
                "name": name,
                "command": [installed(program) if program else str(programs / name), *command],
                "needs": needs,
                "probe": probe,
                "authority": authority if probe is not None and probe.startswith("https:") else None,
                "log": str(layout.logs / f"{name}.log"),
            }
        )

    add("etcd", _etcd(), needs=[], probe=f"{_ETCD}/health", program="etcd")
    add(
        "containerd",
        ["--config", str(settings / "containerd.toml")],
        needs=[],
        probe=CONTAINERD_SOCKET,
        program="containerd",
    )
    add("kube-apiserver", _api_server(layout), needs=["etcd"], probe=f"{layout.api_url}/readyz")
    add(
        "kube-controller-manager",
        _controller_manager(authorities),
        needs=["kube-apiserver"],
        probe="https://127.0.0.1:10257/healthz",
    )
    add("kube-scheduler", _scheduler(authorities), needs=["kube-apiserver"], probe="https://127.0.0.1:10259/healthz")
    add(
        "kubelet",
        [
            f"--config={settings / 'kubelet.json'}",
            f"--kubeconfig={authorities / 'kubelet.kubeconfig'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={layout.node_address}",
        ],
        needs=["containerd", "kube-apiserver"],
        probe="http://127.0.0.1:10248/healthz",
    )
    add(
        "kube-proxy", _proxy(authorities), needs=["kube-apiserver"], probe=f"http://{layout.node_address}:10256/healthz"
    )
    add(
        "volumes",
        [f"-kubeconfig={authorities / 'volumes.kubeconfig'}", f"-node={NODE_NAME}", "-directory=/var/lib/volumes"],
        needs=["kube-apiserver"],
        probe=None,
    )
    return plan


def _etcd() -> list[str]:
    return [
        "--name=rtx",
        "--data-dir=/var/lib/etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=rtx=http://127.0.0.1:2380",
        # A power cut ends the cluster anyway: its state is thrown away with it.
        "--unsafe-no-fsync",
    ]


def _api_server(layout: Layout) -> list[str]:
    files = layout.authorities
    return [
        f"--advertise-address={layout.node_address}",
        # Pods come through the Service `kubernetes`, the machine through the link.
        "--bind-address=0.0.0.0",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={_ETCD}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={files / 'ca.crt'}",
        f"--tls-cert-file={files / 'serving.crt'}",
        f"--tls-private-key-file={files / 'serving.key'}",
        f"--kubelet-certificate-authority={files / 'ca.crt'}",
        f"--kubelet-client-certificate={files / 'kubelet-client.crt'}",
        f"--kubelet-client-key={files / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{DNS_DOMAIN}",
        f"--service-account-key-file={files / 'service-accounts.key'}",
        f"--service-account-signing-key-file={files / 'service-accounts.key'}",
        f"--requestheader-client-ca-file={files / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={files / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={files / 'front-proxy-client.key'}",
    ]


def _component(authorities: Path, name: str) -> list[str]:
    kubeconfig = authorities / f"{name}.kubeconfig"
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--tls-cert-file={authorities / 'serving.crt'}",
        f"--tls-private-key-file={authorities / 'serving.key'}",
        "--bind-address=127.0.0.1",
        # There is one of each.
        "--leader-elect=false",
    ]


def _controller_manager(authorities: Path) -> list[str]:
    return [
        *_component(authorities, "controller-manager"),
        f"--service-account-private-key-file={authorities / 'service-accounts.key'}",
        f"--root-ca-file={authorities / 'ca.crt'}",
        f"--cluster-signing-cert-file={authorities / 'ca.crt'}",
        f"--cluster-signing-key-file={authorities / 'ca.key'}",
        "--use-service-account-credentials=true",
    ]


def _scheduler(authorities: Path) -> list[str]:
    return _component(authorities, "scheduler")


def _proxy(authorities: Path) -> list[str]:
    return [
        f"--kubeconfig={authorities / 'proxy.kubeconfig'}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_NETWORK}",
        "--metrics-bind-address=127.0.0.1:10249",
        # These are the machine's, and not a node's to set.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def _write_settings(layout: Layout) -> None:
    settings = layout.settings
    (settings / "cni").mkdir(exist_ok=True)
    (settings / "cni" / "10-rtx.conflist").write_text(json.dumps(_container_network(), indent=1))
    (settings / "kubelet.json").write_text(json.dumps(_kubelet(layout), indent=1))
    (settings / "containerd.toml").write_text(_containerd(layout))


def _container_network() -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_NETWORK}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "rtx", "plugins": [bridge, ports]}


def _containerd(layout: Layout) -> str:
    # The score by which the kernel chooses whom to end cannot be lowered everywhere; restricted, it stays as it is.
    return f"""\
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{layout.settings / "cni"}"
"""


def _kubelet(layout: Layout) -> dict[str, Any]:
    files = layout.authorities
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(files / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(files / "kubelet.crt"),
        "tlsPrivateKeyFile": str(files / "kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": DNS_DOMAIN,
        "resolvConf": str(layout.settings / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # The machine's disk is not the node's to keep tidy, and an image that is gone cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }
