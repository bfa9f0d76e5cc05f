"""A client with the wire behaviour of FreeBSD's aws-ec2-imdsv2-get, which ec2-scripts use.

Before each request it opens a connection only to drop it; its requests have no `Host` and no
`Connection`; it reads until the server closes; `GET //` tells it whether a token is needed,
which it then asks for one second only. A status other than 404 counts as an answer.
"""

import socket

import pytest
from conftest import values


def exchange(daemon, method, path, *headers):
    """Status and body of one request, as that tool frames it."""
    address = (daemon.host, daemon.port)
    socket.create_connection(address, timeout=10).close()
    with socket.create_connection(address, timeout=10) as connection:
        lines = [f"{method} /{path} HTTP/1.1", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def imdsv2_get(daemon, path):
    """What the tool prints, and whether it used a token; None where it fails."""
    headers = []
    if exchange(daemon, "GET", "/")[0] == 401:
        status, token = exchange(
            daemon, "PUT", "latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 1"
        )
        assert status == 200
        headers = [f"X-aws-ec2-metadata-token: {token.decode()}"]
    status, body = exchange(daemon, "GET", path, *headers)
    return None if status == 404 else (body.decode(), bool(headers))


@pytest.mark.parametrize("http_tokens", ["required", "optional"])
def test_it_prints_the_configured_values(serve, http_tokens):
    daemon = serve(http_tokens=http_tokens)
    for path, value in values(daemon.config).items():
        assert imdsv2_get(daemon, path.lstrip("/")) == (value, http_tokens == "required"), path


def test_what_is_not_there_is_a_failure(serve):
    # ec2-scripts take this for an instance without user data.
    assert imdsv2_get(serve(user_data=None), "latest/user-data") is None
