"""The node that `make cluster-up` starts: what a Kubernetes has to do, and that nothing of it stays behind.

Everything that runs in the pods is a static busybox, in a namespace whose pods have to pass Pod Security "restricted".
The node is started in a folder of its own; while another one runs on this machine, these tests are skipped.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.busybox import IMAGE, write_busybox_image
from tests.e2e.leftovers import assert_nothing_left, machine_state
from tools.cluster import builds
from tools.cluster.layout import ClusterError, Layout
from tools.cluster.node import Cluster

REPOSITORY = Path(__file__).parents[2]
MANIFESTS = Path(__file__).parent / "cluster.yaml"
NAMESPACE = "cluster-test"
READY_TIMEOUT_SECONDS = 120
# Building the programs on a machine that never did is part of the first start.
START_TIMEOUT_SECONDS = 2400

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(START_TIMEOUT_SECONDS)]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    if os.geteuid() != 0:
        pytest.skip("a node can only be started by root")
    layout = Layout(tmp_path_factory.mktemp("cluster") / "state")
    if taken := Cluster(layout).machine.conflicts():
        pytest.skip(f"networks of the node are in use: {', '.join(taken)}; `make cluster-down` may help")
    return layout


@pytest.fixture(scope="module")
def machine_before(layout: Layout) -> dict[str, str]:
    return machine_state()


@pytest.fixture(scope="module")
def started(layout: Layout, machine_before: dict[str, str]) -> Iterator[Cluster]:
    try:
        assert run(layout, "up") == 0
        yield Cluster(layout)
    finally:
        run(layout, "down")


@pytest.fixture(scope="module")
def cluster(started: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The node with two pods of a web server behind a Service, and a pod to ask from."""
    archive = write_busybox_image(tmp_path_factory.mktemp("image"))
    started.import_image(archive)
    started.kubectl("apply", "-f", str(MANIFESTS))
    wait = f"--timeout={READY_TIMEOUT_SECONDS}s"
    started.kubectl("rollout", "status", "deployment/web", "-n", NAMESPACE, wait, "--request-timeout=0")
    started.kubectl("wait", "--for=condition=Ready", "pod/shell", "-n", NAMESPACE, wait, "--request-timeout=0")
    return started


def test_status_says_what_runs(started: Cluster, layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(layout, "status") == 0
    said = capfd.readouterr().out
    for name in ("etcd", "containerd", "kube-apiserver", "kubelet", "kube-proxy", "coredns", "metrics-server"):
        assert re.search(rf"^{name}\S* +ready$", said, re.MULTILINE), f"{name} is not said to be ready"


def test_starting_twice_changes_nothing(started: Cluster, layout: Layout) -> None:
    before = Cluster(layout).machine.first_process
    assert run(layout, "up") == 0
    assert Cluster(layout).machine.first_process == before


def test_version_is_the_one_that_is_pinned(started: Cluster) -> None:
    said = json.loads(started.kubectl("version", "-o", "json"))
    assert said["serverVersion"]["gitVersion"] == said["clientVersion"]["gitVersion"] == "v1.34.4"


def test_pods_find_services_by_name(cluster: Cluster) -> None:
    said = in_shell(cluster, "nslookup", f"web.{NAMESPACE}.svc.cluster.local")
    assert service_address(cluster) in said
    assert in_shell(cluster, "wget", "-qO-", "http://web:8080/index.html") == "hello\n"


def test_machine_reaches_services(cluster: Cluster) -> None:
    with urllib.request.urlopen(f"http://{service_address(cluster)}:8080/index.html", timeout=10) as response:
        assert response.read() == b"hello\n"


def test_service_reaches_every_pod(cluster: Cluster) -> None:
    ask = "for each in $(seq 40); do wget -qO- http://web:8080/cgi-bin/name; done"
    assert len(set(in_shell(cluster, "sh", "-c", ask).split())) == 2


def test_pods_reach_the_api_server(cluster: Cluster) -> None:
    in_shell(cluster, "sh", "-c", "nc -w 5 kubernetes.default 443 </dev/null")


def test_pods_reach_nothing_beyond_this_machine(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="bad address"):
        in_shell(cluster, "wget", "-qO-", "http://example.com/")
    with pytest.raises(ClusterError, match="unreachable"):
        in_shell(cluster, "wget", "-qO-", "http://203.0.113.1/")


def test_logs_are_read(cluster: Cluster) -> None:
    assert "shell is there" in cluster.kubectl("logs", "shell", "-n", NAMESPACE)


def test_ports_are_forwarded(cluster: Cluster, layout: Layout) -> None:
    programs = builds.programs()
    assert programs is not None
    command: list[str | Path] = [programs / "kubectl", "--kubeconfig", layout.kubeconfig, "-n", NAMESPACE]
    with subprocess.Popen(
        [*command, "port-forward", "service/web", ":8080"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/index.html", timeout=10) as response:
            assert response.read() == b"hello\n"
        process.terminate()


def test_use_of_node_and_pods_is_shown(cluster: Cluster) -> None:
    assert re.search(r"rtx-node +\d+m +\d+% +\d+Mi +\d+%", cluster.kubectl("top", "nodes"))
    assert re.search(r"metrics-server\S+ +\d+m +\d+Mi", cluster.kubectl("top", "pods", "-n", "kube-system"))


def test_pod_security_refuses_what_is_not_restricted(cluster: Cluster) -> None:
    privileged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "shell", "image": IMAGE, "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(privileged))


def test_volume_is_writable_for_the_pods_group_and_goes_with_its_claim(cluster: Cluster, layout: Layout) -> None:
    assert in_shell(cluster, "sh", "-c", "id -u > /data/user && cat /data/user") == "1000\n"
    volumes = layout.directory / "var" / "lib" / "volumes"
    assert [file.read_text() for file in volumes.glob("*/user")] == ["1000\n"]
    cluster.kubectl("delete", "pod/shell", "persistentvolumeclaim/data", "-n", NAMESPACE, "--request-timeout=0")
    awaited(lambda: not any(volumes.iterdir()), "the volume's folder is gone")
    cluster.kubectl("apply", "-f", str(MANIFESTS))
    wait = f"--timeout={READY_TIMEOUT_SECONDS}s"
    cluster.kubectl("wait", "--for=condition=Ready", "pod/shell", "-n", NAMESPACE, wait, "--request-timeout=0")


def test_program_that_dies_is_started_again(cluster: Cluster, layout: Layout) -> None:
    subprocess.run(Cluster(layout).machine.command("sh", "-c", "kill -9 $(pidof kubelet)"), check=True)
    awaited(lambda: "kubelet" in restarted(cluster), "the kubelet was started again")
    awaited(lambda: cluster.status()[0], "all is ready again")


def test_machine_keeps_its_settings_and_packet_filters(cluster: Cluster, machine_before: dict[str, str]) -> None:
    assert machine_state() == machine_before


def test_killed_node_is_cleaned_up_by_the_next_start(cluster: Cluster, layout: Layout) -> None:
    first = Cluster(layout).machine.first_process
    assert first is not None
    os.kill(first, signal.SIGKILL)
    awaited(lambda: Cluster(layout).machine.first_process is None, "the node is dead")
    assert run(layout, "status") == 1
    assert run(layout, "up") == 0
    with pytest.raises(ClusterError, match="not found"):
        cluster.kubectl("get", "namespace", NAMESPACE)


def test_stop_leaves_nothing(cluster: Cluster, layout: Layout, machine_before: dict[str, str]) -> None:
    assert run(layout, "down") == 0
    assert_nothing_left(layout)
    assert machine_state() == machine_before
    assert run(layout, "status") == 1
    assert run(layout, "down") == 0


def test_interrupted_start_is_undone(layout: Layout) -> None:
    with starting_until(layout, "etcd is ready") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert_nothing_left(layout)


def test_killed_start_is_cleaned_up(layout: Layout) -> None:
    with starting_until(layout, "etcd is ready") as process:
        process.kill()
    assert run(layout, "down") == 0
    assert_nothing_left(layout)


def environment(layout: Layout) -> dict[str, str]:
    return os.environ | {"RTX_CLUSTER_DIRECTORY": str(layout.directory), "PYTHONPATH": str(REPOSITORY)}


def run(layout: Layout, command: str) -> int:
    words = [sys.executable, "-m", "tools.cluster", command]
    return subprocess.run(words, cwd=REPOSITORY, env=environment(layout), check=False).returncode


def starting_until(layout: Layout, line: str) -> "subprocess.Popen[str]":
    """A start that has come as far as that line."""
    words = [sys.executable, "-m", "tools.cluster", "up"]
    process = subprocess.Popen(words, cwd=REPOSITORY, env=environment(layout), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for said in process.stdout:
        if line in said:
            return process
    raise AssertionError(f"the start ended without: {line}")


def in_shell(cluster: Cluster, *words: str) -> str:
    return cluster.kubectl("exec", "shell", "-n", NAMESPACE, "--", *words)


def service_address(cluster: Cluster) -> str:
    return cluster.kubectl("get", "service", "web", "-n", NAMESPACE, "-o", "jsonpath={.spec.clusterIP}")


def awaited(question: Callable[[], bool], said: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while not question():
        assert time.monotonic() < deadline, f"not so in time: {said}"
        time.sleep(0.1)


def restarted(cluster: Cluster) -> str:
    return "\n".join(line for line in cluster.status()[1] if "started" in line)
