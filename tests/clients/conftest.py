"""What every client test needs: the real daemon with a given configuration, an environment
that leads a client to it and nowhere else, and the values the client must read there."""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
IMDS_MOCK = TARGET / "release" / "imds_mock"
GETIMDS = TARGET / "release" / "getimds"
CLIENTS = TARGET / "clients"  # what `run` installed: venv/, js-sdk/, rust-sdk/

EXAMPLE = json.loads((TOP / "config.json").read_text())
ROLE = {
    "arn": "arn:aws:iam::123456789012:role/example-role",
    "credentials": {
        "access_key_id": "ASIAEXAMPLEEXAMPLE01",
        "secret_access_key": "example/secret+key/EXAMPLE1234",
        "token": "example//token+with/base64==",
        "expiration": "2099-12-31T23:59:59Z",
    },
}


class Daemon:
    """A running imds_mock. `log` holds its request lines, complete once it was stopped."""

    def __init__(self, config, config_file, admin=False, arguments=(), env=None):
        self._config_file = config_file
        self._stderr_file = config_file.with_suffix(".stderr")
        self.write(config)
        self.log = []
        arguments = ["--config", config_file, "--host", "127.0.0.1", "--port", "0", *arguments]
        if admin:
            arguments += ["--admin-host", "127.0.0.1", "--admin-port", "0"]
        with self._stderr_file.open("w") as stderr:
            self._process = subprocess.Popen(
                [IMDS_MOCK, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | (env or {}),
            )
        started = queue.SimpleQueue()
        lines = 2 if admin else 1
        self._reader = threading.Thread(target=self._read, args=(started, lines), daemon=True)
        self._reader.start()
        try:
            line = started.get(timeout=10)
            found = re.fullmatch(r"IMDSv2 mock v\S+ running on (http://([\d.]+):(\d+))", line)
            assert found, f"not a start line: {line!r}; {self.said()}"
            if admin:
                self.admin = started.get(timeout=10).split(" running on ")[1]
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self.url, self.host, self.port = found[1], found[2], int(found[3])

    def _read(self, started, lines):
        for _ in range(lines):
            started.put(self._process.stdout.readline().rstrip("\n"))
        for line in self._process.stdout:
            self.log.append(line.rstrip("\n"))

    def said(self):
        """What it has written to stderr so far."""
        return self._stderr_file.read_text()

    def wait_for(self, part):
        """The first line on stderr with `part` in it, which must come."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in self.said().splitlines():
                if part in line:
                    return line
            time.sleep(0.01)
        pytest.fail(f"no line has {part!r} in it: {self.said()}")

    def write(self, config):
        """Writes the configuration that a reload will read."""
        self._config_file.write_text(json.dumps(config))
        self.config = config

    def post(self, path, body=None):
        """Asks the administrative service for something; a refusal is an error."""
        data = json.dumps(body).encode() if body is not None else b""
        request = urllib.request.Request(self.admin + path, data=data, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def stop(self):
        """Ends it as a service manager would; anything but a clean end is a failure."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail("imds_mock did not end within 5 s of SIGTERM")
        self._reader.join(timeout=5)
        assert status == 0, f"imds_mock ended with status {status}: {self.said()}"

    def env(self, home):
        """The environment of a client: this daemon as its metadata service, no other source."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url + "/",
        }


@pytest.fixture
def serve(tmp_path):
    """Starts the daemon: `serve()` with the example configuration, `serve(key=value)` changed,
    `serve(admin=True)` with its administrative service, and with more arguments or variables."""
    with contextlib.ExitStack() as stack:

        def start(admin=False, arguments=(), env=None, **changes):
            file = tmp_path / "config.json"
            daemon = Daemon(EXAMPLE | changes, file, admin, arguments, env)
            stack.callback(daemon.stop)
            return daemon

        yield start


def values(config):
    """Path -> text that any client must read from a daemon with this configuration."""
    interface = f"network/interfaces/macs/{config['mac']}/"
    keys = config["ssh_public_keys"]
    meta_data = {
        "instance-id": config["instance_id"],
        "hostname": config["hostname"],
        "local-hostname": config["local_hostname"],
        "public-hostname": config["public_hostname"],
        "local-ipv4": config["local_ipv4"],
        "public-ipv4": config["public_ipv4"],
        "mac": config["mac"],
        "placement/availability-zone": config["availability_zone"],
        "placement/region": config["region"],
        # A key is listed under its comment.
        "public-keys/": "\n".join(f"{n}={key.split(' ', 2)[2]}" for n, key in enumerate(keys)),
        "network/interfaces/macs/": config["mac"] + "/",
        interface + "device-number": "0",
        interface + "local-ipv4s": config["local_ipv4"],
    }
    for n, key in enumerate(keys):
        meta_data[f"public-keys/{n}/openssh-key"] = key + "\n"
    return {
        **{f"/latest/meta-data/{name}": value for name, value in meta_data.items()},
        "/latest/user-data": config["user_data"],
    }


DOCUMENT = "/latest/dynamic/instance-identity/document"


def identity(config):
    """Keys of the identity document that follow from this configuration."""
    return {
        "accountId": config["account_id"],
        "architecture": config["architecture"],
        "availabilityZone": config["availability_zone"],
        "instanceId": config["instance_id"],
        "instanceType": config["instance_type"],
        "privateIp": config["local_ipv4"],
        "region": config["region"],
    }


@pytest.fixture
def point_at(monkeypatch, tmp_path):
    """Makes this process a client of the given daemon, with no other source of settings."""

    def point(daemon):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in daemon.env(tmp_path).items():
            monkeypatch.setenv(name, value)

    return point


def run(*command, env):
    """Runs a client to its end and returns what it printed; a failure shows its stderr."""
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout
