"""The AWS command line from PyPI."""

from urllib.parse import parse_qs, urlsplit

from conftest import CLIENTS, ROLE, run


def aws(daemon, home, *arguments):
    return run(CLIENTS / "venv" / "bin" / "aws", *arguments, env=daemon.env(home))


def listed(daemon, home):
    """`aws configure list` as name -> (value, type)."""
    lines = aws(daemon, home, "configure", "list").splitlines()[2:]
    rows = [line.replace("<not set>", "-").split() for line in lines]
    return {row[0]: (row[1], row[2]) for row in rows}


def test_without_a_role_the_command_line_has_no_credentials(serve, tmp_path):
    daemon = serve()
    assert listed(daemon, tmp_path)["access_key"] == ("-", "None")
    daemon.stop()
    assert daemon.log == [
        "PUT /latest/api/token -> 200",
        "GET /latest/meta-data/iam/security-credentials/ -> 404",
    ]


def test_the_command_line_signs_with_the_role_credentials(serve, tmp_path):
    daemon = serve(role=ROLE)
    shown = listed(daemon, tmp_path)
    credentials = ROLE["credentials"]
    for name, value in [
        ("access_key", credentials["access_key_id"]),
        ("secret_key", credentials["secret_access_key"]),
    ]:
        assert shown[name] == ("*" * 16 + value[-4:], "iam-role")
    # Signed on this machine, nothing is sent; a region that has only Signature Version 4.
    url = aws(daemon, tmp_path, "s3", "presign", "s3://bucket/key", "--region", "eu-central-1")
    query = parse_qs(urlsplit(url.strip()).query)
    assert query["X-Amz-Credential"][0].split("/")[0] == credentials["access_key_id"]
    assert query["X-Amz-Security-Token"] == [credentials["token"]]
