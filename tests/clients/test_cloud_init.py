"""cloud-init's DataSourceEc2 from Debian's package; what runs there is cloud_init_crawl.py."""

import base64
import gzip
import json
from pathlib import Path

import pytest
from conftest import ROLE, identity, run

CRAWL = Path(__file__).with_name("cloud_init_crawl.py")
EC2_UUID = "ec2a1b2c-0000-4000-8000-000000000001"
OTHER_UUID = "0a1b2c3d-0000-4000-8000-000000000001"


def crawl(daemon, tmp_path, uuid):
    # Debian's package belongs to Debian's Python, which is not the one running this test.
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return json.loads(run("/usr/bin/python3", CRAWL, daemon.url, uuid, tmp_path, env=env))


@pytest.mark.parametrize(
    "uuid, http_tokens, cloud_name",
    [(EC2_UUID, "required", "aws"), (OTHER_UUID, "optional", "unknown")],
    ids=["v2", "v1"],
)
def test_an_instance_is_found_and_described_as_configured(
    serve, tmp_path, uuid, http_tokens, cloud_name
):
    # Compressed, as large user data is in practice: bytes that are no text must arrive whole.
    user_data = gzip.compress(b"#cloud-config\nhostname: demo\n", mtime=0)
    daemon = serve(
        http_tokens=http_tokens,
        role=ROLE,
        user_data=None,
        user_data_base64=base64.b64encode(user_data).decode(),
    )
    config = daemon.config
    found = crawl(daemon, tmp_path, uuid)

    assert found["warnings"] == []
    assert found["cloud_name"] == cloud_name
    assert found["used_a_token"] == (http_tokens == "required")
    assert found["api_version"] == "2021-03-23"
    assert found["instance_id"] == config["instance_id"]
    assert found["hostname"] == config["local_hostname"]
    assert found["public_ssh_keys"] == config["ssh_public_keys"]
    assert found["availability_zone"] == config["availability_zone"]
    assert found["region"] == config["region"]
    if cloud_name == "aws":  # elsewhere cloud-init does not ask for the document
        assert found["identity"] | identity(config) == found["identity"]
    assert base64.b64decode(found["user_data"]) == user_data

    meta_data = found["meta_data"]
    assert meta_data["iam"]["info"]["Code"] == "Success"
    assert meta_data["public-ipv4"] == config["public_ipv4"]
    assert meta_data["placement"]["availability-zone"] == config["availability_zone"]
    interfaces = meta_data["network"]["interfaces"]["macs"]
    assert list(interfaces) == [config["mac"]]
    assert interfaces[config["mac"]]["device-number"] == "0"
    assert interfaces[config["mac"]]["local-ipv4s"] == config["local_ipv4"]


def test_no_user_data_is_an_instance_without_user_data(serve, tmp_path):
    found = crawl(serve(user_data=None), tmp_path, EC2_UUID)
    assert (found["user_data"], found["warnings"]) == ("", [])
