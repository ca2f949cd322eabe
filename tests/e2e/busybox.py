"""An image to try things with: a static busybox."""

import subprocess
from pathlib import Path

from tools.cluster.images import write_image

IMAGE = "localhost/rtx/busybox:1"
APPLETS = ("cat", "hostname", "httpd", "id", "nc", "nslookup", "seq", "sh", "sleep", "wget")


def write_busybox_image(folder: Path) -> Path:
    """The archive of the image, from Debian's package."""
    download = ["apt-get", "-qq", "download", "busybox-static"]
    if subprocess.run(download, cwd=folder, check=False, capture_output=True).returncode != 0:
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(download, cwd=folder, check=True)
    (package,) = folder.glob("busybox-static_*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, folder / "package"], check=True)
    archive = folder / "busybox.tar"
    links = {f"/bin/{applet}": "/bin/busybox" for applet in APPLETS}
    files = {"/bin/busybox": folder / "package" / "bin" / "busybox"}
    write_image(archive, IMAGE, files=files, links=links, command=["/bin/sh"])
    return archive
