"""Container images from files, without a registry, an engine or a base."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_EXECUTABLE: Final = 0o755
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's and the images' names of processors, by the kernel's."""


def write_image(
    archive: Path,
    name: str,
    *,
    files: Mapping[str, Path],
    links: Mapping[str, str] | None = None,
    command: Sequence[str],
    user: str = "65532:65532",
) -> None:
    """Writes an image of one layer as `docker save` does.

    Parameters
    ----------
    archive
        The file to write.
    name
        The image's full name with its tag, such as ``localhost/rtx/pause:1``.
    files
        What is in it: path in the image to file on this machine; all are executable by everybody.
    links
        Symbolic links in it: path in the image to what it points to.
    command
        The entry point.
    user
        Whom it runs as, by number: a cluster that demands that no container runs as root cannot judge names.
    """
    layer = _layer(files, links or {})
    configuration = _bytes(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {
                "Entrypoint": list(command),
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "User": user,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created_by": "tools.cluster.images"}],
        }
    )
    configuration_name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = _bytes([{"Config": configuration_name, "RepoTags": [name], "Layers": ["layer.tar"]}])
    with tarfile.open(archive, "w") as tar:
        for path, content in (
            ("manifest.json", manifest),
            (configuration_name, configuration),
            ("layer.tar", layer),
        ):
            _add(tar, path, content, mode=0o644)


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        folders = {str(parent) for path in (*files, *links) for parent in Path(path.lstrip("/")).parents}
        for folder in sorted(folders - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            entry.mode = _EXECUTABLE
            tar.addfile(entry)
        for path, source in sorted(files.items()):
            _add(tar, path.lstrip("/"), source.read_bytes(), mode=_EXECUTABLE)
        for path, target in sorted(links.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            tar.addfile(entry)
    return content.getvalue()


def _add(tar: tarfile.TarFile, path: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))


def _bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
