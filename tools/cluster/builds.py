"""The programs of the node, compiled by Go and kept for as long as what they are made of is the same."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tools.cluster.layout import KUBERNETES_VERSION, SOURCE, ClusterError, alone_in, cache

_KUBERNETES: Final = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet")
_PACKAGES: Final = {
    ".": [*(f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES), "./coredns", "./pause", "./volumes"],
    "metrics": ["sigs.k8s.io/metrics-server/cmd/metrics-server"],
}
"""What is built in which module: metrics-server has libraries that the others do not go with."""
_SHOWN_CHARACTERS: Final = 2000
_VERSIONED: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def cached_builds() -> Path:
    return cache() / "cluster-builds"


def programs() -> Path | None:
    """The folder with the programs, if they are built."""
    folder = cached_builds() / "programs" / _fingerprint()
    return folder if folder.is_dir() else None


def build(progress: Callable[[str], None]) -> Path:
    """Builds the programs, minutes on a machine that never did; returns their folder."""
    with alone_in(cached_builds(), partial(progress, "somebody else builds; waiting")):
        return programs() or _build(progress)


def _build(progress: Callable[[str], None]) -> Path:
    _require_go()
    progress("building Kubernetes, CoreDNS and metrics-server (once; minutes)")
    folder = cached_builds() / "programs" / _fingerprint()
    with _unfinished(folder) as unfinished:
        for module, packages in _PACKAGES.items():
            for package in packages:
                _go_build(SOURCE / module, package, unfinished)
                progress(f"{package.rpartition('/')[2]} built")
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other)
    return folder


def _go_build(module: Path, package: str, output: Path) -> None:
    flags = ["-s", "-w"]
    if module == SOURCE:
        major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
        stamps = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        flags += [f"-X {package}.{name}={value}" for package in _VERSIONED for name, value in stamps.items()]
    # At the lowest priority: the machine stays usable in these minutes.
    command = ["nice", "-n", "19", "go", "build", "-trimpath", "-ldflags", " ".join(flags), "-o", f"{output}/"]
    done = subprocess.run(
        [*command, package], cwd=module, env=_environment(), check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ClusterError(f"go build {package} failed: {done.stderr[-_SHOWN_CHARACTERS:].strip()}")


def _environment() -> dict[str, str]:
    kept = cached_builds()
    return os.environ | {
        "CGO_ENABLED": "0",
        "GOCACHE": str(kept / "compiled"),
        "GOMODCACHE": str(kept / "modules"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=readonly -modcacherw -buildvcs=false".strip(),
    }


def _require_go() -> None:
    wanted = re.findall(r"^go (\d+)\.(\d+)", (SOURCE / "metrics" / "go.mod").read_text(), re.MULTILINE)[0]
    needed = f"Go {'.'.join(wanted)} or newer is needed to build the node's programs (https://go.dev/dl)"
    if shutil.which("go") is None:
        raise ClusterError(f"{needed}, and there is no `go` on the PATH")
    question = ["go", "env", "GOVERSION"]
    said = subprocess.run(question, check=True, capture_output=True, text=True, env=_environment())
    found = re.match(r"go(\d+)\.(\d+)", said.stdout)
    if found is None or tuple(map(int, found.groups())) < tuple(map(int, wanted)):
        raise ClusterError(f"{needed}; `go` on the PATH is {said.stdout.strip()}")


def _fingerprint() -> str:
    """Of the sources and of what they are pinned to."""
    digest = hashlib.sha256(f"{KUBERNETES_VERSION} {_PACKAGES}".encode())
    for pattern in ("go.mod", "go.sum", "*.go"):
        for file in sorted(SOURCE.rglob(pattern)):
            digest.update(f"{file.relative_to(SOURCE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder that becomes `folder` when all went well."""
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    making.mkdir(parents=True)
    try:
        yield making
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
