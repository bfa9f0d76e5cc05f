"""A real role: clients that know nothing but our endpoint become the role, at an STS that
recomputes every signature, and at moto, which looks at policies and trust too."""

import datetime
import ipaddress
import json
import os
import subprocess
import time
import urllib.request

import boto3
import pytest
from conftest import CLIENTS, run
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import ThreadedMotoServer
from sts_server import StsServer

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/developer"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/developer/desk"
DOCUMENT = "latest/meta-data/iam/security-credentials/developer"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
# The region of the example configuration, which is where its clients look for STS.
REGION = "us-east-1"


def settings(url):
    """The role, to be assumed at the STS there."""
    return {"arn": ROLE, "session_name": "desk", "sts_endpoint": url}


def bootstrap(daemon, **credentials):
    """Posts credentials, which must be taken."""
    request = urllib.request.Request(
        daemon.admin + "/bootstrap/creds", json.dumps(credentials).encode()
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"")


def read(daemon, path):
    """What the metadata service says at a path."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    put = urllib.request.Request(f"{daemon.url}/latest/api/token", headers=ttl, method="PUT")
    with urllib.request.urlopen(put, timeout=10) as answer:
        token = {"X-aws-ec2-metadata-token": answer.read().decode()}
    get = urllib.request.Request(f"{daemon.url}/{path}", headers=token)
    with urllib.request.urlopen(get, timeout=10) as answer:
        return answer.read().decode()


def caller(url):
    """Who this process is to the STS there; its credentials come from nowhere but our endpoint."""
    session = boto3.Session()
    assert session.get_credentials().method == "iam-role"
    return session.client("sts", endpoint_url=url, region_name=REGION).get_caller_identity()["Arn"]


def test_boto3_is_the_role_through_ten_renewals(serve, point_at):
    with StsServer(lifetime=3) as sts:
        sts.add_user("AKIABOOTBOOTBOOT", SECRET)
        daemon = serve(admin=True, role=settings(sts.url))
        point_at(daemon)
        bootstrap(daemon, AccessKeyId="AKIABOOTBOOTBOOT", SecretAccessKey=SECRET)
        daemon.wait_for("assumed: ")
        deadline = time.monotonic() + 60
        while sts.issued < 11 and time.monotonic() < deadline:
            assert caller(sts.url) == SESSION
        with sts.lock:
            calls = list(sts.calls)
    assert {call["error"] for call in calls} == {None}
    actions = {}
    for call in calls:
        actions.setdefault(call["parameters"]["Action"], []).append(call["key_id"])
    sessions = [f"ASIASESSION{n:05}" for n in range(1, 12)]
    # Each renewal is signed by the session before it, and boto3 had most of them in its hands.
    assert actions["AssumeRole"][:11] == ["AKIABOOTBOOTBOOT", *sessions[:10]]
    assert len(set(actions["GetCallerIdentity"])) >= 8


def test_sts_is_spoken_to_over_tls_with_the_roots_that_are_given(
    serve, point_at, tmp_path, monkeypatch
):
    bundle, cert, key = certificates(tmp_path)
    with StsServer(tls=(cert, key)) as sts:
        sts.add_user("AKIABOOTBOOTBOOT", SECRET)
        keys = {"AccessKeyId": "AKIABOOTBOOTBOOT", "SecretAccessKey": SECRET}
        stranger = serve(admin=True, role=settings(sts.url))
        bootstrap(stranger, **keys)
        assert "certificate" in stranger.wait_for("failing: NoAnswer")
        assert json.loads(read(stranger, DOCUMENT))["Code"] == "Failed"
        stranger.stop()
        assert sts.calls == []

        role = settings(sts.url)
        daemon = serve(admin=True, role=role, env={"AWS_CA_BUNDLE": str(bundle)})
        bootstrap(daemon, **keys)
        daemon.wait_for("assumed: ")
        point_at(daemon)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        assert caller(sts.url) == SESSION


def certificates(directory):
    """A root certificate, and one for 127.0.0.1 with its key, as files."""
    today = datetime.datetime.now(datetime.timezone.utc)
    root_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's own root")])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an STS")])
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def certificate(subject, public_key, extension):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(root_name)
        builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(today - datetime.timedelta(days=1))
        builder = builder.not_valid_after(today + datetime.timedelta(days=1))
        made = builder.add_extension(extension, critical=True).sign(root_key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    files = {
        "root.pem": certificate(root_name, root_key.public_key(), x509.BasicConstraints(True, None)),
        "sts.pem": certificate(name, key.public_key(), here),
        "sts.key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for file, content in files.items():
        (directory / file).write_bytes(content)
    return [directory / file for file in files]


class Moto:
    """moto's server with a role, a user who may assume it, and one who may not."""

    def __init__(self):
        # Its address is in the name of nothing: every service is at this one.
        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        self.iam = boto3.client(
            "iam",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        self.users = {name: self.user(name) for name in ("me", "stranger")}
        self.trust([f"arn:aws:iam::{ACCOUNT}:user/me", ROLE, SESSION])
        may_assume = self.policy({"Action": "sts:AssumeRole", "Resource": ROLE})
        put = {"PolicyName": "assume", "PolicyDocument": may_assume}
        self.iam.put_user_policy(UserName="me", **put)
        self.iam.put_role_policy(RoleName="developer", **put)
        self.enforce()

    def user(self, name):
        self.iam.create_user(UserName=name)
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return {name: key[name] for name in ("AccessKeyId", "SecretAccessKey")}

    @staticmethod
    def policy(statement):
        return json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
        )

    def trust(self, principals):
        """Who may assume the role. moto knows a session by its own ARN only, AWS by the role's."""
        trust = self.policy({"Action": "sts:AssumeRole", "Principal": {"AWS": principals}})
        self.iam.create_role(RoleName="developer", AssumeRolePolicyDocument=trust)

    def enforce(self):
        """From now on every signature and policy counts."""
        self.post("/moto-api/reset-auth", "0")

    def post(self, path, body):
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(self.url + path, body.encode(), plain)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"

    def distrust_sessions(self):
        """Takes the role out of its own trust policy."""
        self.post("/moto-api/reset-auth", "inf")
        self.iam.delete_role_policy(RoleName="developer", PolicyName="assume")
        self.iam.delete_role(RoleName="developer")
        self.trust([f"arn:aws:iam::{ACCOUNT}:user/me"])
        self.enforce()

    def close(self):
        self.post("/moto-api/reset-auth", "inf")
        self.post("/moto-api/reset", "")
        self.server.stop()


@pytest.fixture
def moto():
    made = Moto()
    yield made
    made.close()


def test_moto_sees_boto3_as_the_role(moto, serve, point_at):
    daemon = serve(admin=True, role=settings(moto.url))
    point_at(daemon)
    assert boto3.Session().get_credentials() is None
    bootstrap(daemon, **moto.users["me"])
    daemon.wait_for("assumed: ")
    assert caller(moto.url) == SESSION
    # The session is more than a name: moto checks its signature and what it may do.
    sts, iam = (
        boto3.client(service, endpoint_url=moto.url, region_name=REGION)
        for service in ("sts", "iam")
    )
    assert sts.assume_role(RoleArn=ROLE, RoleSessionName="again")["Credentials"]
    with pytest.raises(iam.exceptions.ClientError, match="AccessDenied"):
        iam.list_users()


@pytest.mark.parametrize(
    "name, change, error, code",
    [
        ("stranger", {}, "AccessDenied", "AssumeRoleUnauthorizedAccess"),
        ("me", {"SecretAccessKey": SECRET}, "SignatureDoesNotMatch", "Failed"),
        ("me", {"AccessKeyId": "AKIANOBODYNOBODY"}, "InvalidClientTokenId", "Failed"),
    ],
)
def test_what_moto_refuses_is_said_in_the_document(moto, serve, name, change, error, code):
    daemon = serve(admin=True, role=settings(moto.url))
    bootstrap(daemon, **moto.users[name] | change)
    daemon.wait_for(f"failing: {error}")
    document = json.loads(read(daemon, DOCUMENT))
    assert document["Code"] == code
    assert error in document["Message"]
    # The right ones mend it at once.
    bootstrap(daemon, **moto.users["me"])
    daemon.wait_for("assumed: ")
    assert json.loads(read(daemon, DOCUMENT))["Code"] == "Success"


def test_moto_lets_the_session_renew_itself_as_far_as_the_role_trusts_itself(
    moto, serve, tmp_path
):
    state = ["--state-file", str(tmp_path / "state.json")]

    def restarted():
        """A start renews at once, whatever is left of the session."""
        daemon = serve(admin=True, role=settings(moto.url), arguments=state)
        line = daemon.wait_for("renewed: ")
        assert json.loads(read(daemon, DOCUMENT))["Code"] == "Success"
        daemon.stop()
        return line

    first = serve(admin=True, role=settings(moto.url), arguments=state)
    bootstrap(first, **moto.users["me"])
    session = json.loads(first.wait_for("assumed: ") and read(first, DOCUMENT))["AccessKeyId"]
    first.stop()
    line = restarted()
    assert line.endswith(f"signed by {session}")
    moto.distrust_sessions()
    line = restarted()
    assert f"signed by {moto.users['me']['AccessKeyId']}" in line
    assert "because the session was refused: AccessDenied" in line


def test_the_walk_through_of_the_readme(moto, serve, tmp_path):
    daemon = serve(admin=True, role=settings(moto.url))
    aws = CLIENTS / "venv" / "bin" / "aws"
    # As version 2 of the command line exports them; PyPI has version 1, which cannot.
    exported = json.dumps({"Version": 1, **moto.users["me"]}, indent=2)
    curl = ["curl", "-sf", "--noproxy", "*"]
    post = [*curl, "-d", "@-", f"{daemon.admin}/bootstrap/creds"]
    subprocess.run(post, input=exported, text=True, check=True, timeout=10)
    daemon.wait_for("assumed: ")
    env = daemon.env(tmp_path) | {"AWS_ENDPOINT_URL_STS": moto.url, "AWS_DEFAULT_REGION": REGION}
    identity = json.loads(run(aws, "sts", "get-caller-identity", env=env))
    assert identity["Arn"] == SESSION
    assert run(*curl, f"{daemon.admin}/status", env=env) == "true"
