"""curl and getimds, in the six steps that the README of imds_mock.py gives its users."""

import os
import time

from conftest import GETIMDS, run, values

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


def curl(daemon, path, *options):
    """Status and body of one request."""
    ours = ["-s", "--noproxy", "*", "--max-time", "10", "-w", "%{http_code}"]
    out = run("curl", *ours, *options, daemon.url + path, env={"PATH": os.environ["PATH"]})
    return int(out[-3:]), out[:-3]


def token(daemon, seconds):
    status, body = curl(daemon, "/latest/api/token", "-X", "PUT", "-H", f"{TTL}: {seconds}")
    assert status == 200
    assert body and body.split() == [body], "the body is the token alone"
    return body


def test_without_a_token_the_answer_is_401(serve):
    assert curl(serve(), "/latest/meta-data/instance-id", "-v") == (401, "")


def test_a_token_opens_the_instance_id(serve):
    daemon = serve()
    header = f"{TOKEN}: {token(daemon, 60)}"
    answer = curl(daemon, "/latest/meta-data/instance-id", "-H", header)
    assert answer == (200, daemon.config["instance_id"])


def test_ssh_keys_are_listed_and_read(serve):
    daemon = serve()
    header = f"{TOKEN}: {token(daemon, 60)}"
    # The Python program listed `0/`; EC2 and this daemon list `0=NAME`.
    status, listing = curl(daemon, "/latest/meta-data/public-keys/", "-H", header)
    assert (status, listing) == (200, values(daemon.config)["/latest/meta-data/public-keys/"])
    assert [line.split("=")[0] for line in listing.split("\n")] == ["0", "1"]
    answer = curl(daemon, "/latest/meta-data/public-keys/0/openssh-key", "-H", header)
    assert answer == (200, daemon.config["ssh_public_keys"][0] + "\n")


def test_a_token_of_one_second_is_dead_after_two(serve):
    daemon = serve()
    header = f"{TOKEN}: {token(daemon, 1)}"
    time.sleep(2)  # the step itself, not a wait for something to be ready
    assert curl(daemon, "/latest/meta-data/instance-id", "-H", header) == (401, "")


def test_every_value_read_by_curl_is_the_configured_one(serve):
    daemon = serve()
    header = f"{TOKEN}: {token(daemon, 60)}"
    for path, value in values(daemon.config).items():
        assert curl(daemon, path, "-H", header) == (200, value), path


def test_getimds_prints_every_resource(serve, tmp_path):
    daemon = serve()
    printed = run(GETIMDS, f"{daemon.host}:{daemon.port}", env={"HOME": str(tmp_path)})
    for path, value in values(daemon.config).items():
        if not path.endswith("/"):
            assert path in printed
            for line in value.splitlines():
                assert line in printed, path
