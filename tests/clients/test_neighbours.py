"""Who may do what (docs/architecture.md, D7), seen from next door: two network namespaces with a
cable between them. In one is the daemon; the other has several addresses and a route to
169.254.169.254."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import IMDS_MOCK
from test_namespace import Namespace

ROLE = {
    "arn": "arn:aws:iam::123456789012:role/developer",
    # Nobody is there; nobody is asked either, for want of credentials to sign with.
    "sts_endpoint": "http://127.0.0.1:9",
}
OURS = ["10.77.0.1", "169.254.169.254", "[fd00:77::1]"]
# What the neighbour calls us, and with which address of its own.
FROM = {"10.77.0.2": OURS[0], "10.77.0.3": OURS[1], "fd00:77::2": OURS[2]}
CLOSED = (52, 56)  # curl's: an empty answer, or a reset in place of one.


@pytest.fixture(scope="module")
def street():
    """Our namespace and the neighbour's."""
    if not sys.platform.startswith("linux"):
        pytest.skip("network namespaces are Linux's; FreeBSD has VNET jails for this")
    if missing := [tool for tool in ("unshare", "nsenter", "ip", "curl") if not shutil.which(tool)]:
        pytest.skip(f"not installed: {missing}")
    with contextlib.ExitStack() as stack:
        sides = []
        for _ in range(2):
            sides.append(Namespace())
            stack.callback(sides[-1].close)
        house, neighbour = sides
        far_end = ["peer", "name", "eth0", "netns", neighbour.pid]
        house.run("ip", "link", "add", "eth0", "type", "veth", *far_end)
        for side, addresses in (
            (house, ["10.77.0.1/24", "fd00:77::1/64"]),
            (neighbour, ["10.77.0.2/24", "10.77.0.3/24", "fd00:77::2/64"]),
        ):
            for address in addresses:
                # Without the wait for a twin that IPv6 would make.
                nodad = ["nodad"] if ":" in address else []
                side.run("ip", "addr", "add", address, "dev", "eth0", *nodad)
            for device in "lo", "eth0":
                side.run("ip", "link", "set", device, "up")
        house.run("ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
        neighbour.run("ip", "route", "add", "169.254.169.254/32", "via", "10.77.0.1")
        yield house, neighbour


class Daemon:
    """The daemon on all addresses of its namespace: metadata on port 80, admin on 8998."""

    def __init__(self, namespace, directory, config, arguments):
        self.config, self.stderr = directory / "config.json", directory / "stderr"
        self.config.write_text(json.dumps(config))
        everywhere = ["--host", "0.0.0.0", "--host", "::", "--port", "80"]
        everywhere += ["--admin-host", "0.0.0.0", "--admin-host", "::", "--admin-port", "8998"]
        with self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [*namespace.enter, IMDS_MOCK, "--config", self.config, *everywhere, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        started = [self.process.stdout.readline() for _ in range(4)]
        assert all("running on http://" in line for line in started), self.stderr.read_text()
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout))
        self.reader.start()

    def refusals(self):
        lines = self.stderr.read_text().splitlines()
        return [line for line in lines if "refused a connection" in line]

    def reload(self, config):
        self.config.write_text(json.dumps(config))
        before = self.stderr.read_text().count("read again")
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.stderr.read_text().count("read again") == before:
            assert time.monotonic() < deadline, self.stderr.read_text()
            time.sleep(0.01)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(timeout=5) == 0, self.stderr.read_text()
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.join(timeout=5)


@pytest.fixture
def serve(street, tmp_path):
    with contextlib.ExitStack() as stack:

        def start(config, *arguments):
            daemon = Daemon(street[0], tmp_path, config, arguments)
            stack.callback(daemon.stop)
            return daemon

        yield start


def ask(side, url, *arguments, source=None):
    """curl's exit status, the answer's status and body."""
    by = ["--interface", source] if source else []
    command = ["curl", "-sg", "--noproxy", "*", "--max-time", "10", "-w", "\n%{http_code}"]
    done = subprocess.run(
        [*side.enter, *command, *by, *arguments, url], capture_output=True, text=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return done.returncode, int(status), body


def error(answer):
    """What an error of the admin service says."""
    exit_status, status, body = answer
    assert (exit_status, status) == (0, 403), answer
    return json.loads(body)["error"]


def test_a_neighbour_is_closed_at_accept_and_named_once(street, serve):
    house, neighbour = street
    daemon = serve({"role": ROLE})
    for source, host in FROM.items():
        for path in ("/", "/latest/meta-data/iam/security-credentials/developer") * 3:
            exit_status, status, body = ask(neighbour, f"http://{host}{path}", source=source)
            assert (exit_status in CLOSED, status, body) == (True, 0, "")
        # A token least of all.
        put = ["-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"]
        refused = ask(neighbour, f"http://{host}/latest/api/token", *put, source=source)
        assert refused[0] in CLOSED
    # Nothing has to be said for that.
    silent = (
        "import socket; peer = socket.create_connection(('10.77.0.1', 80), 10);"
        "peer.settimeout(10); print(peer.recv(100))"
    )
    assert neighbour.run(sys.executable, "-c", silent) == "b''\n"
    refusals = daemon.refusals()
    assert len(refusals) == len(FROM), refusals
    for line, source in zip(refusals, FROM):
        assert f"from {source}," in line
        assert f'add "{source}" to "allow_from"' in line
    daemon.stop()
    assert daemon.log == []


def test_what_the_line_says_lets_that_neighbour_in_and_no_other(street, serve):
    house, neighbour = street
    daemon = serve({"role": ROLE})
    for allowed in FROM:
        daemon.reload({"role": ROLE, "allow_from": [allowed]})
        for source, host in FROM.items():
            exit_status, status, _ = ask(neighbour, f"http://{host}/", source=source)
            if source == allowed:
                # For want of a token, so reached.
                assert (exit_status, status) == (0, 401)
            else:
                assert (exit_status in CLOSED, status) == (True, 0)
    daemon.reload({"role": ROLE, "allow_from": ["10.77.0.0/24", "fd00:77::/64"]})
    for source, host in FROM.items():
        assert ask(neighbour, f"http://{host}/", source=source)[1] == 401
        # From where it may come, it may not come by any name.
        name = ["-H", "Host: rebound.attacker.example"]
        assert ask(neighbour, f"http://{host}/", *name, source=source)[1] == 403
    daemon.reload({"role": ROLE, "allow_from": ["10.77.0.4/30"]})
    assert ask(neighbour, f"http://{OURS[0]}/")[0] in CLOSED


def test_the_machine_itself_is_local_by_each_of_its_addresses(street, serve):
    house, _ = street
    daemon = serve({"role": ROLE})
    for host in [*OURS, "127.0.0.1", "[::1]", "127.0.0.2"]:
        assert ask(house, f"http://{host}/")[:2] == (0, 401), host
        exit_status, status, body = ask(house, f"http://{host}:8998/status?verbose")
        assert (exit_status, status) == (0, 200), host
        assert json.loads(body)["state"] == "waiting"
    assert daemon.refusals() == []


def test_a_neighbour_learns_the_status_and_nothing_else(street, serve):
    house, neighbour = street
    # Who may read metadata may not administer for that.
    daemon = serve({"role": ROLE, "allow_from": ["10.77.0.0/24", "fd00:77::/64"]})
    keys = json.dumps({"AccessKeyId": "AKIASTRANGER0000", "SecretAccessKey": "x"})
    for source, host in FROM.items():
        admin = f"http://{host}:8998"

        def asked(path, *arguments):
            return ask(neighbour, admin + path, *arguments, source=source)

        assert asked("/status") == (0, 200, "false")
        assert asked("/status", "-X", "DELETE")[1] == 405
        for path, *arguments in [
            ("/status?verbose",),
            ("/status?",),
            ("/config",),
            ("/metadata/",),
            ("/events",),
            ("/faults",),
            ("/clock",),
            ("/metrics",),
            ("/requests",),
            ("/nothing",),
            ("/bootstrap/creds",),
            ("/bootstrap/creds", "-d", keys),
            ("/reload", "-X", "POST"),
            ("/user-data", "-X", "PUT", "-d", "x"),
            ("/faults", "-d", '{"path": "*", "effect": "reset"}'),
            ("/status/../config", "--path-as-is"),
            # Whatever it says of itself.
            ("/config", "-H", "Host: 127.0.0.1", "-H", "X-Forwarded-For: 127.0.0.1"),
            ("/config", "-H", "Authorization: Bearer x"),
        ]:
            assert "this machine" in error(asked(path, *arguments)), path
    assert json.loads(ask(house, "http://127.0.0.1:8998/status?verbose")[2])["state"] == "waiting"


def test_a_neighbour_with_the_secret_is_as_good_as_anyone(street, serve, tmp_path):
    house, neighbour = street
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    serve({"role": ROLE}, "--bootstrap-secret-file", str(secret))
    right, wrong = (["-H", f"Authorization: Bearer {text}"] for text in ("sesame", "sesam"))
    for side, host in (neighbour, "10.77.0.1"), (house, "10.77.0.1"), (house, "127.0.0.1"):
        url = f"http://{host}:8998"
        assert ask(side, f"{url}/status") == (0, 200, "false")
        assert "secret" in error(ask(side, f"{url}/config"))
        assert "secret" in error(ask(side, f"{url}/config", *wrong))
        assert ask(side, f"{url}/config", *right)[:2] == (0, 200)
    # For the admin service: it opens no way to the credentials.
    assert ask(neighbour, "http://10.77.0.1/", *right)[0] in CLOSED


def test_without_a_role_of_sts_anyone_may_call_unless_networks_are_named(street, serve):
    _, neighbour = street
    fixed = {"access_key_id": "ASIA1", "secret_access_key": "s", "token": "t"}
    daemon = serve({"role": {"arn": ROLE["arn"], "credentials": fixed}})
    assert "whoever reaches this address" in daemon.stderr.read_text()
    for source, host in FROM.items():
        assert ask(neighbour, f"http://{host}/", source=source)[:2] == (0, 401)
    assert "this machine" in error(ask(neighbour, "http://10.77.0.1:8998/config"))
    daemon.reload({"allow_from": ["10.77.0.2"]})
    reached = [ask(neighbour, "http://10.77.0.1/", source=source)[1] for source in list(FROM)[:2]]
    assert reached == [401, 0]
