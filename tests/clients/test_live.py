"""The running instance misbehaves, ages and changes under SDKs that do not know it is a mock."""

import datetime
import json

import boto3
import pytest
from botocore.exceptions import CredentialRetrievalError
from conftest import CLIENTS, ROLE, run
from test_cloud_init import EC2_UUID, crawl

ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
CREDENTIALS = f"GET {ROLE_PATH}example-role -> "
TOKEN = "PUT /latest/api/token -> "


def role(number):
    """A role whose credentials the daemon's clock dates, one set for each number."""
    credentials = {
        "access_key_id": f"ASIAEXAMPLEEXAMPLE{number:02}",
        "secret_access_key": f"secret-{number}",
        "token": f"token-{number}",
    }
    return {"arn": ROLE["arn"], "credentials": credentials}


def keys(number):
    """The three of them as botocore hands them out."""
    return tuple(role(number)["credentials"].values())


def hours_pass(daemon, credentials, hours):
    """Moves the instance's clock, and the one by which botocore judges these credentials."""
    daemon.post("/clock", {"advance": f"{hours}h"})
    then = credentials._time_fetcher
    credentials._time_fetcher = lambda: then() + datetime.timedelta(hours=hours)


def count(daemon, line):
    return sum(1 for logged in daemon.log if logged.startswith(line))


def test_credentials_rotate_under_a_session(serve, point_at):
    daemon = serve(admin=True, role=role(1))
    point_at(daemon)
    credentials = boto3.Session().get_credentials()
    assert credentials.get_frozen_credentials()[:3] == keys(1)
    daemon.write(daemon.config | {"role": role(2)})
    daemon.post("/reload")
    hours_pass(daemon, credentials, 5)
    assert credentials.get_frozen_credentials()[:3] == keys(1), "good for another hour"
    hours_pass(daemon, credentials, 1)
    assert credentials.get_frozen_credentials()[:3] == keys(2)
    # The same keys, dated anew.
    hours_pass(daemon, credentials, 6)
    assert credentials.get_frozen_credentials()[:3] == keys(2)
    daemon.stop()
    assert count(daemon, CREDENTIALS + "200") == 3


def test_one_503_at_a_refresh_breaks_a_session_that_has_credentials_left(serve, point_at):
    daemon = serve(admin=True, role=role(1))
    point_at(daemon)
    credentials = boto3.Session().get_credentials()
    credentials.get_frozen_credentials()
    fault = {"path": ROLE_PATH + "*", "effect": "status", "status": 503, "requests": 1}
    daemon.post("/faults", fault)
    # From fifteen minutes before the end botocore wants new ones.
    credentials._time_fetcher = lambda: credentials._expiry_time - datetime.timedelta(minutes=12)
    with pytest.raises(CredentialRetrievalError):
        credentials.get_frozen_credentials()
    assert credentials.get_frozen_credentials()[:3] == keys(1)
    daemon.stop()
    assert count(daemon, CREDENTIALS + "200") == 2


@pytest.mark.parametrize("attempts, found", [(2, False), (3, True)])
def test_boto3_gets_through_two_503_with_a_third_attempt(
    serve, point_at, monkeypatch, attempts, found
):
    daemon = serve(admin=True, role=ROLE)
    point_at(daemon)
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", str(attempts))
    path = ROLE_PATH + "example-role"
    daemon.post("/faults", {"path": path, "sequence": [503, 503, "ok"]})
    credentials = boto3.Session().get_credentials()
    assert (credentials is not None) == found
    daemon.stop()
    assert [count(daemon, CREDENTIALS + status) for status in ("503", "200")] == [2, int(found)]


def test_boto3_reads_wrong_json_again(serve, point_at, monkeypatch):
    daemon = serve(admin=True, role=ROLE)
    point_at(daemon)
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "2")
    path = ROLE_PATH + "example-role"
    daemon.post("/faults", {"path": path, "effect": "wrong-json", "requests": 1})
    assert boto3.Session().get_credentials() is not None
    daemon.stop()
    assert count(daemon, CREDENTIALS + "200") == 2


def rust(daemon, home, *names):
    return json.loads(run(CLIENTS / "rust-sdk" / "debug" / "rust-sdk", *names, env=daemon.env(home)))


def test_the_rust_sdk_gets_through_two_503(serve, tmp_path):
    daemon = serve(admin=True, role=ROLE)
    daemon.post("/faults", {"path": "/latest/api/token", "sequence": [503, 503, "ok"]})
    daemon.post("/faults", {"path": ROLE_PATH, "sequence": [503, 503, "ok"]})
    assert rust(daemon, tmp_path, "credentials") == {"credentials": ROLE["credentials"]}
    daemon.stop()
    assert [count(daemon, TOKEN + status) for status in ("503", "200")] == [2, 1]
    assert [count(daemon, f"GET {ROLE_PATH} -> {status}") for status in (503, 200)] == [2, 1]


def test_boto3_does_not_replace_a_token_that_expired_early(serve, point_at):
    daemon = serve(admin=True, role=ROLE)
    point_at(daemon)
    fault = {"path": "/latest/api/token", "effect": "expired-token", "requests": 1}
    daemon.post("/faults", fault)
    assert boto3.Session().get_credentials() is None
    assert boto3.Session().get_credentials() is not None, "it asks for one each time"
    daemon.stop()
    assert [count(daemon, TOKEN + "200"), count(daemon, f"GET {ROLE_PATH} -> 401")] == [2, 1]


def test_cloud_init_replaces_a_token_that_expired_early(serve, tmp_path):
    daemon = serve(admin=True)
    zone = "/2021-03-23/meta-data/placement/availability-zone"
    daemon.post("/faults", {"path": zone, "effect": "expired-token", "requests": 1})
    found = crawl(daemon, tmp_path, EC2_UUID)
    assert found["availability_zone"] == daemon.config["availability_zone"]
    daemon.stop()
    assert [count(daemon, f"GET {zone} -> {status}") for status in (401, 200)] == [1, 1]
    assert count(daemon, TOKEN + "200") == 2
