"""The AWS SDK for Rust, which never falls back to version 1; the program is in rust-sdk/."""

import json

from conftest import CLIENTS, DOCUMENT, ROLE, identity, run, values


def read(daemon, home, *names):
    return json.loads(run(CLIENTS / "rust-sdk" / "debug" / "rust-sdk", *names, env=daemon.env(home)))


def test_every_value_is_read(serve, tmp_path):
    daemon = serve()
    expected = values(daemon.config)
    found = read(daemon, tmp_path, *expected, DOCUMENT)
    document = found.pop(DOCUMENT)
    assert found == expected
    document = json.loads(document)
    assert document | identity(daemon.config) == document


def test_the_region_provider_finds_the_region(serve, tmp_path):
    daemon = serve()
    assert read(daemon, tmp_path, "region") == {"region": daemon.config["region"]}


def test_without_a_role_there_are_no_credentials(serve, tmp_path):
    daemon = serve()
    assert read(daemon, tmp_path, "credentials") == {"credentials": None}
    daemon.stop()
    assert "GET /latest/meta-data/iam/security-credentials/ -> 404" in daemon.log


def test_role_credentials_are_the_configured_ones(serve, tmp_path):
    found = read(serve(role=ROLE), tmp_path, "credentials")
    assert found == {"credentials": ROLE["credentials"]}
