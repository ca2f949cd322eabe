"""What of the node's tool needs neither root nor a node: folders, certificates, images."""

import hashlib
import json
import ssl
import tarfile
from pathlib import Path

import pytest
from cryptography import x509
from tools.cluster import authorities
from tools.cluster.images import write_image
from tools.cluster.layout import ClusterError, Layout
from tools.cluster.machine import Machine, Networks


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "state")
    layout.claim()
    layout.authorities.mkdir()
    authorities.make(layout)
    return layout


def read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None
    return member.read()


def test_folders_have_addresses_of_their_own() -> None:
    layouts = [Layout(Path(f"/home/somebody/{name}")) for name in ("cluster", "docker", "another")]
    addresses = [address for layout in layouts for address in (layout.host_address, layout.node_address)]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith("198.19.") for address in addresses)
    # The kernel allows 15 characters.
    assert all(len(layout.interface) <= 15 for layout in layouts)


@pytest.mark.parametrize("folder", ["/var/lib/cluster", "/run/cluster"])
def test_folder_that_the_node_would_not_see_is_refused(folder: str) -> None:
    with pytest.raises(ClusterError, match="name a folder elsewhere"):
        Layout(Path(folder)).require_free()


def test_folder_with_something_else_is_refused_and_never_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    layout = Layout(tmp_path)
    with pytest.raises(ClusterError, match="holds something else"):
        layout.claim()
    Machine(layout, "node", Networks()).stop()
    assert (tmp_path / "precious").exists()


def test_folder_of_a_cluster_is_removed(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    layout.claim()
    Machine(layout, "node", Networks()).stop()
    assert not layout.directory.exists()


def test_process_that_got_the_number_of_a_dead_node_is_not_taken_for_it(layout: Layout) -> None:
    layout.machine_file.write_text(json.dumps({"first": {"pid": 1, "started": "another time"}}))
    assert Machine(layout, "node", Networks()).first_process is None


def test_certificates_are_signed_for_whom_they_serve(layout: Layout) -> None:
    authority = x509.load_pem_x509_certificate((layout.authorities / "ca.crt").read_bytes())
    serving = x509.load_pem_x509_certificate((layout.authorities / "serving.crt").read_bytes())
    serving.verify_directly_issued_by(authority)
    names = serving.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    assert layout.node_address in {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    kubelet = x509.load_pem_x509_certificate((layout.authorities / "kubelet.crt").read_bytes())
    assert kubelet.subject.rfc4514_string() == "CN=system:node:rtx-node,O=system:nodes"


def test_certificates_and_keys_belong_together(layout: Layout) -> None:
    for name in ("serving", "kubelet", "kubelet-client", "front-proxy-client"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(layout.authorities / f"{name}.crt", layout.authorities / f"{name}.key")


def test_keys_are_for_nobody_else(layout: Layout) -> None:
    files = [layout.kubeconfig, *layout.authorities.iterdir()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_image_has_its_files_and_says_what_is_in_it(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF and more")
    archive = tmp_path / "image.tar"
    write_image(
        archive,
        "localhost/rtx/program:1",
        files={"/usr/bin/program": program},
        links={"/bin/sh": "/usr/bin/program"},
        command=["/usr/bin/program"],
    )
    with tarfile.open(archive) as image:
        (entry,) = json.loads(read(image, "manifest.json"))
        assert entry["RepoTags"] == ["localhost/rtx/program:1"]
        configuration = json.loads(read(image, entry["Config"]))
        assert configuration["config"]["Entrypoint"] == ["/usr/bin/program"]
        (layer_name,) = entry["Layers"]
        layer_bytes = read(image, layer_name)
        assert configuration["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer_bytes).hexdigest()}"]
        layer_file = tmp_path / "layer.tar"
        layer_file.write_bytes(layer_bytes)
    with tarfile.open(layer_file) as layer:
        assert read(layer, "usr/bin/program") == b"\x7fELF and more"
        assert layer.getmember("usr/bin/program").mode == 0o755
        assert layer.getmember("bin/sh").linkname == "/usr/bin/program"
        assert layer.getnames().index("usr/bin") < layer.getnames().index("usr/bin/program")
