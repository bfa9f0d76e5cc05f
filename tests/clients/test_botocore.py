"""botocore and boto3: the fetchers that every Python program on EC2 goes through."""

import json

import boto3
import botocore.session
import pytest
from botocore.configprovider import SmartDefaultsConfigStoreFactory
from botocore.utils import (
    IMDSFetcher,
    IMDSRegionProvider,
    InstanceMetadataFetcher,
    InstanceMetadataRegionFetcher,
)
from conftest import DOCUMENT, ROLE, identity, values


def test_region_comes_from_the_zone(serve, point_at):
    daemon = serve()
    point_at(daemon)
    region = daemon.config["availability_zone"][:-1]
    assert InstanceMetadataRegionFetcher(base_url=daemon.url).retrieve_region() == region
    session = botocore.session.Session()
    assert IMDSRegionProvider(session).provide() == region
    # `defaults_mode = auto` compares a client's region with the instance's.
    smart_defaults = SmartDefaultsConfigStoreFactory(None, IMDSRegionProvider(session))
    assert smart_defaults.resolve_auto_mode(region) == "in-region"
    assert smart_defaults.resolve_auto_mode("eu-north-1") == "cross-region"


def test_every_value_is_read_with_a_token(serve):
    daemon = serve()
    fetcher = IMDSFetcher(base_url=daemon.url)
    token = fetcher._fetch_metadata_token()
    assert token
    for path, value in values(daemon.config).items():
        assert fetcher._get_request(path.lstrip("/"), None, token).text == value, path
    document = json.loads(fetcher._get_request(DOCUMENT.lstrip("/"), None, token).text)
    assert document | identity(daemon.config) == document


def test_version_1_is_refused_when_tokens_are_required(serve):
    fetcher = IMDSFetcher(base_url=serve().url)
    with pytest.raises(IMDSFetcher._RETRIES_EXCEEDED_ERROR_CLS):
        fetcher._get_request("latest/meta-data/instance-id", None)


def test_version_1_is_served_when_tokens_are_optional(serve):
    daemon = serve(http_tokens="optional")
    answer = IMDSFetcher(base_url=daemon.url)._get_request("latest/meta-data/instance-id", None)
    assert answer.text == daemon.config["instance_id"]


def test_without_a_role_there_are_no_credentials(serve, point_at):
    daemon = serve()
    point_at(daemon)
    assert InstanceMetadataFetcher(base_url=daemon.url).retrieve_iam_role_credentials() == {}
    assert boto3.Session().get_credentials() is None
    daemon.stop()
    assert "GET /latest/meta-data/iam/security-credentials/ -> 404" in daemon.log


def test_role_credentials_are_the_configured_ones(serve, point_at):
    daemon = serve(role=ROLE)
    point_at(daemon)
    fetched = InstanceMetadataFetcher(base_url=daemon.url).retrieve_iam_role_credentials()
    assert fetched["role_name"] == ROLE["arn"].split("/")[-1]
    assert fetched["expiry_time"] == ROLE["credentials"]["expiration"]
    credentials = boto3.Session().get_credentials()
    assert credentials.method == "iam-role"
    assert credentials.get_frozen_credentials()[:3] == (
        ROLE["credentials"]["access_key_id"],
        ROLE["credentials"]["secret_access_key"],
        ROLE["credentials"]["token"],
    )
