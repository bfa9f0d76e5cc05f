"""Real clients as the command of `imds_mock -- COMMAND`, where everything else would win."""

import json
import os
import sys

import pytest
from conftest import CLIENTS, EXAMPLE, IMDS_MOCK, ROLE, run

NOWHERE = "http://127.0.0.1:9"  # discard: nobody listens
CREDENTIALS = ROLE["credentials"]


@pytest.fixture
def on_ec2(tmp_path):
    """Runs a command on an instance with a role, from the desk of somebody who works with AWS."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(EXAMPLE | {"role": ROLE}))
    (tmp_path / ".aws").mkdir()
    keys = "aws_access_key_id = AKIAFILE\naws_secret_access_key = file\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{keys}[work]\n{keys}")
    (tmp_path / ".aws" / "config").write_text(
        f"[default]\nregion = ap-south-1\nec2_metadata_service_endpoint = {NOWHERE}\n"
        f"[profile work]\nregion = ap-south-1\n"
    )
    desk = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": "environment",
        "AWS_SESSION_TOKEN": "environment",
        "AWS_PROFILE": "work",
        "AWS_DEFAULT_PROFILE": "work",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/web",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{NOWHERE}/container",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / ".aws" / "credentials"),
        "AWS_CONFIG_FILE": str(tmp_path / ".aws" / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": NOWHERE,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": "IPv6",
        "AWS_EC2_INSTANCE_PROFILE_NAME": "another",
        "HTTP_PROXY": NOWHERE,
        "http_proxy": NOWHERE,
        "NO_PROXY": "internal.example",
    }
    return lambda *command: run(IMDS_MOCK, "--config", config, "--", *command, env=desk)


def test_the_command_line_has_the_role_and_the_region_that_was_set(on_ec2):
    lines = on_ec2(CLIENTS / "venv" / "bin" / "aws", "configure", "list").splitlines()[2:]
    rows = {line.split()[0]: line.split()[1:3] for line in lines}
    assert rows["access_key"] == ["*" * 16 + CREDENTIALS["access_key_id"][-4:], "iam-role"]
    assert rows["secret_key"] == ["*" * 16 + CREDENTIALS["secret_access_key"][-4:], "iam-role"]
    assert rows["region"] == ["eu-central-1", "env"]
    assert rows["profile"] == ["<not", "set>"]


def test_boto3_has_the_role(on_ec2):
    script = """if True:
        import boto3, json
        session = boto3.Session()
        found = session.get_credentials()
        print(json.dumps([found.method, session.region_name, *found.get_frozen_credentials()[:3]]))
    """
    assert json.loads(on_ec2(sys.executable, "-c", script)) == [
        "iam-role",
        "eu-central-1",
        CREDENTIALS["access_key_id"],
        CREDENTIALS["secret_access_key"],
        CREDENTIALS["token"],
    ]


@pytest.mark.parametrize(
    "client",
    [
        ("node", CLIENTS / "js-sdk" / "client.mjs"),
        (CLIENTS / "rust-sdk" / "debug" / "rust-sdk",),
    ],
    ids=["javascript", "rust"],
)
def test_the_other_sdks_have_the_role(on_ec2, client):
    found = json.loads(on_ec2(*client, "credentials"))
    assert found == {"credentials": CREDENTIALS}
