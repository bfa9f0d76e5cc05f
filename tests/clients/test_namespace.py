"""The real addresses: a network namespace with 169.254.169.254 and fd00:ec2::254 on its loopback
interface, imds_mock on port 80 of both as nobody, and clients that know no other place to ask.
"""

import ast
import json
import os
import pwd
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import EXAMPLE, GETIMDS, IMDS_MOCK, run, values

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "linux.md"
ADDRESSES = ["169.254.169.254", "[fd00:ec2::254]"]
UUID = "ec2a1b2c-0000-4000-8000-000000000001"


class Namespace:
    """A network namespace that lasts as long as the process that holds it."""

    def __init__(self):
        # Ends with its standard input, so with us, whatever happens.
        holder = ["unshare", "--net", "--", "sh", "-c", "echo made; exec cat"]
        self._holder = subprocess.Popen(
            holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if self._holder.stdout.readline() != "made\n":
            pytest.skip(f"no network namespace can be made here: {self._holder.communicate()[1]}")
        self.pid = str(self._holder.pid)
        self.enter = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]

    def run(self, *command):
        """Runs a client in it, without any hint where the metadata service is."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        return run(*self.enter, *command, env=env)

    def close(self):
        self._holder.communicate()


@pytest.fixture(scope="module")
def namespace():
    if not sys.platform.startswith("linux"):
        pytest.skip("network namespaces are Linux's; FreeBSD has VNET jails for this")
    if os.geteuid() != 0:
        pytest.skip("only root can make a network namespace and bind port 80")
    if missing := [tool for tool in ("unshare", "nsenter", "ip", "curl") if not shutil.which(tool)]:
        pytest.skip(f"not installed: {missing}")
    made = Namespace()
    try:
        made.run("ip", "link", "set", "lo", "up")
        made.run("ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
        made.run("ip", "addr", "add", "fd00:ec2::254/128", "dev", "lo")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def daemon(namespace, tmp_path_factory):
    """The daemon as root starts it, serving; its start lines are checked."""
    config = tmp_path_factory.mktemp("namespace") / "config.json"
    config.write_text(json.dumps(EXAMPLE))
    hosts = [part for address in ADDRESSES for part in ("--host", address)]
    command = [IMDS_MOCK, "--config", config, *hosts, "--port", "80", "--user", "nobody"]
    process = subprocess.Popen(
        [*namespace.enter, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [*map(lines.put, process.stdout)], daemon=True)
    reader.start()
    try:
        for address in ADDRESSES:
            line = lines.get(timeout=10)
            assert line.endswith(f" running on http://{address}:80\n"), line
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=5)


def test_it_is_nobody_with_nobodys_group_alone(daemon):
    nobody = pwd.getpwnam("nobody")
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert set(status["Groups"].split()) <= {str(nobody.pw_gid)}
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


@pytest.mark.parametrize("address", ADDRESSES)
def test_curl_reads_every_value(namespace, daemon, address):
    curl = ["curl", "-sfg", "--noproxy", "*", "--max-time", "10"]
    url = f"http://{address}"
    ttl = ["-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"]
    token = namespace.run(*curl, *ttl, url + "/latest/api/token")
    for path, value in values(EXAMPLE).items():
        read = namespace.run(*curl, "-H", f"X-aws-ec2-metadata-token: {token}", url + path)
        assert read == value, path


def test_aws_ec2_imdsv2_get_needs_no_address(namespace, daemon):
    script = (
        "import sys, types; sys.path.insert(0, sys.argv[1]); import test_imdsv2_get as client;"
        "there = types.SimpleNamespace(host='169.254.169.254', port=80);"
        "print([client.imdsv2_get(there, path) for path in sys.argv[2:]])"
    )
    paths = [path.lstrip("/") for path in values(EXAMPLE)]
    printed = namespace.run(sys.executable, "-c", script, str(HERE), *paths)
    assert ast.literal_eval(printed) == [(value, True) for value in values(EXAMPLE).values()]


def test_getimds_needs_no_address(namespace, daemon):
    found = json.loads(namespace.run(GETIMDS, "--json"))
    leaves = {path: value for path, value in values(EXAMPLE).items() if not path.endswith("/")}
    assert found | leaves == found


def test_cloud_init_finds_its_instance(namespace, daemon, tmp_path):
    url = f"http://{ADDRESSES[0]}"
    crawl = HERE / "cloud_init_crawl.py"
    found = json.loads(namespace.run("/usr/bin/python3", crawl, url, UUID, tmp_path))
    assert found["warnings"] == []
    assert found["cloud_name"] == "aws"
    assert found["instance_id"] == EXAMPLE["instance_id"]
    assert found["public_ssh_keys"] == EXAMPLE["ssh_public_keys"]


def test_the_guides_nft_lines_keep_a_neighbour_out(namespace, daemon):
    if not shutil.which("nft"):
        pytest.skip("not installed: nft")
    neighbour = Namespace()
    try:
        far_end = ["peer", "name", "eth0", "netns", neighbour.pid]
        namespace.run("ip", "link", "add", "eth0", "type", "veth", *far_end)
        for side, address in (namespace, "10.77.0.1/24"), (neighbour, "10.77.0.2/24"):
            side.run("ip", "addr", "add", address, "dev", "eth0")
            side.run("ip", "link", "set", "eth0", "up")
        neighbour.run("ip", "route", "add", "169.254.169.254/32", "via", "10.77.0.1")
        # Refused for want of a token, so reached; and curl ends well whatever the status is.
        curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/"]
        assert neighbour.run(*curl, "--retry", "3", "--max-time", "10") == "401"
        lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("nft ")]
        assert len(lines) == 5
        namespace.run("sh", "-ec", "\n".join(lines))
        # Dropped without an answer: only waiting shows it, and cut short it is none.
        kept_out = [*neighbour.enter, *curl, "--max-time", "1"]
        assert subprocess.run(kept_out, capture_output=True).stdout == b"000"
        assert namespace.run(*curl, "--max-time", "10") == "401"
    finally:
        neighbour.close()
