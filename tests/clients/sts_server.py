#!/usr/bin/env python3
"""An STS for tests: AssumeRole and GetCallerIdentity with sessions of seconds, every signature
recomputed by botocore, and faults on request.

In a test:   with StsServer(lifetime=2) as sts: ... sts.url, sts.add_user("AKIA1", "secret")
By hand:     sts_server.py --user AKIA1:secret --lifetime 2 [--port 0] [--tls CERT KEY]
             prints its URL, then takes one JSON object a line on stdin, as POST /_control does.

Control:     {"script": [FAULT...]}   one for each of the next calls
             {"always": FAULT}        for all calls that the script says nothing about
             {"lifetime": SECONDS}    of further sessions
             {"clock_offset": SECONDS} its clock against the machine's
             {"refuse_sessions": CODE or null}  for calls signed by a session it handed out
             {"expire": KEY_ID}, {"revoke": KEY_ID}, {"user": "KEY_ID:SECRET"}
             {"release": true}        ends all hanging
GET /_calls  what was called: [{"at", "key_id", "parameters", "error"}...]

FAULT:       null, "hang", "close", "drip", "echo", "huge", "redirect",
             {"code": CODE, "status": N, "message": TEXT, "headers": {...}},
             {"status": N, "body": TEXT, "headers": {...}}
"""

import argparse
import datetime
import hmac
import json
import math
import ssl
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
TOLERANCE = 300  # seconds a request's date may be off
ACCOUNT = "123456789012"


class Refused(Exception):
    """What STS answers instead of a result."""

    def __init__(self, code, message, status=403):
        super().__init__(message)
        self.code, self.status = code, status


class Key:
    """A key, the token and the expiry it may have, and who it is."""

    def __init__(self, key_id, secret, token=None, expires=None, arn=None):
        self.key_id, self.secret, self.token, self.expires = key_id, secret, token, expires
        self.arn = arn or f"arn:aws:iam::{ACCOUNT}:user/{key_id}"
        self.is_session = token is not None


class StsServer:
    """The server; a context manager that runs it in a thread."""

    def __init__(self, lifetime=3600, port=0, tls=None):
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.lifetime, self.clock_offset = lifetime, 0
        self.keys, self.script, self.always, self.calls = {}, [], None, []
        self.refused_sessions, self.issued = None, 0
        handler = type("BoundHandler", (Handler,), {"sts": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def now(self):
        """Its time, seconds since 1970."""
        return time.time() + self.clock_offset

    def add_user(self, key_id, secret, token=None):
        """Makes a key that can sign the first call."""
        self.keys[key_id] = key = Key(key_id, secret, token)
        key.is_session = False
        return key

    def control(self, command):
        """Does what a control object says; see the module's text."""
        for name, value in command.items():
            with self.lock:
                if name == "script":
                    self.script.extend(value)
                elif name in ("always", "lifetime", "clock_offset"):
                    setattr(self, name, value)
                elif name == "refuse_sessions":
                    self.refused_sessions = value
                elif name == "expire":
                    self.keys[value].expires = 0
                elif name == "revoke":
                    del self.keys[value]
                elif name == "user":
                    self.add_user(*value.split(":", 1))
                elif name == "release":
                    self.released.set()
                else:
                    raise ValueError(f"no such control: {name}")

    def authenticate(self, request):
        """The key that signed the request, if all about it is right. Call with the lock held."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        scope = fields.get("Credential", "").split("/")
        if scheme != "AWS4-HMAC-SHA256" or len(scope) != 5:
            raise Refused("IncompleteSignature", f"Not a signature of version 4: {scheme}", 400)
        key_id, date, region, service, end = scope
        key = self.keys.get(key_id)
        token = request.headers.get("x-amz-security-token")
        if not key or token != key.token:
            raise Refused("InvalidClientTokenId", "The security token in the request is invalid.")
        timestamp = request.headers.get("x-amz-date", "")
        dated = datetime.datetime.strptime(timestamp + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        if abs(dated - self.now()) > TOLERANCE:
            raise Refused("SignatureDoesNotMatch", f"Signature expired: {timestamp} is not now")
        signed = fields["SignedHeaders"].split(";")
        needed = {"host", "x-amz-date"} | ({"x-amz-security-token"} if token else set())
        if service != "sts" or end != "aws4_request" or date != timestamp[:8]:
            raise Refused("SignatureDoesNotMatch", "The scope is not that of this request.")
        if not needed <= set(signed):
            raise Refused("SignatureDoesNotMatch", f"Not signed: {needed - set(signed)}")
        again = AWSRequest(
            method="POST",
            url=self.url + request.path,
            data=request.body,
            headers={name: request.headers.get(name, "") for name in signed},
        )
        again.context["timestamp"] = timestamp
        signer = SigV4Auth(Credentials(key.key_id, key.secret, key.token), service, region)
        canonical = signer.canonical_request(again)
        expected = signer.signature(signer.string_to_sign(again, canonical), again)
        if not hmac.compare_digest(expected, fields.get("Signature", "")):
            raise Refused(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                f"The Canonical String for this request should have been\n'{canonical}'",
            )
        if key.expires is not None and key.expires <= self.now():
            raise Refused("ExpiredToken", "The security token included in the request is expired")
        return key

    def assume_role(self, key, parameters):
        """The inside of the result. Call with the lock held."""
        if key.is_session and self.refused_sessions:
            raise Refused(self.refused_sessions, "as the test wanted")
        if key.is_session and int(parameters.get("DurationSeconds", 3600)) > 3600:
            raise Refused("ValidationError", "role chaining: at most 3600 seconds", 400)
        self.issued += 1
        n = self.issued
        account, role = parameters["RoleArn"].split(":")[4], parameters["RoleArn"].split("/")[-1]
        arn = f"arn:aws:sts::{account}:assumed-role/{role}/{parameters['RoleSessionName']}"
        # Whole seconds, as STS has them; never less than what was asked for.
        expires = math.ceil(self.now() + self.lifetime)
        session = Key(
            f"ASIASESSION{n:05}",
            f"sWh3/eS+jTg6{n:05}/Bk7qXa9LfRn2vMc5YiOp0Ud6Wz",
            f"sCv2/lO<pYf5{n:05}/" + "Rn8uIm4Z+" * 90 + "==",
            expires,
            arn,
        )
        self.keys[session.key_id] = session
        expiration = datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
        return (
            f"<AssumedRoleUser><Arn>{escape(arn)}</Arn><AssumedRoleId>AROA:{n}</AssumedRoleId>"
            f"</AssumedRoleUser><Credentials><AccessKeyId>{session.key_id}</AccessKeyId>"
            f"<SecretAccessKey>{escape(session.secret)}</SecretAccessKey>"
            f"<SessionToken>{escape(session.token)}</SessionToken>"
            f"<Expiration>{expiration:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
        )


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    sts = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return formatdate(self.sts.now(), usegmt=True)

    def do_GET(self):
        with self.sts.lock:
            calls = json.dumps(self.sts.calls)
        self.answer(200, calls, {"Content-Type": "application/json"})

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/_control":
            self.sts.control(json.loads(self.body))
            return self.answer(200, "")
        form = parse_qs(self.body.decode(), keep_blank_values=True)
        parameters = {name: values[0] for name, values in form.items()}
        authorization = self.headers.get("authorization", "")
        call = {
            "at": time.time(),
            "key_id": authorization.partition("Credential=")[2].partition("/")[0],
            "parameters": parameters,
            "error": None,
        }
        with self.sts.lock:
            self.sts.calls.append(call)
            fault = self.sts.script.pop(0) if self.sts.script else self.sts.always
        self.drips = fault == "drip"
        if fault and not self.drips:
            call["error"] = fault
            return self.misbehave(fault)
        try:
            with self.sts.lock:
                key = self.sts.authenticate(self)
                status, body = 200, self.act(key, parameters)
        except Refused as refused:
            call["error"] = refused.code
            status, body = refused.status, error(refused.code, str(refused))
        self.answer(status, body)

    def act(self, key, parameters):
        action = parameters.get("Action")
        if action == "AssumeRole":
            result = self.sts.assume_role(key, parameters)
        elif action == "GetCallerIdentity":
            result = (
                f"<Arn>{escape(key.arn)}</Arn><UserId>{key.key_id}</UserId>"
                f"<Account>{ACCOUNT}</Account>"
            )
        else:
            raise Refused("InvalidAction", f"Not known here: {action}", 400)
        return (
            f'<{action}Response xmlns="{NAMESPACE}">\n  <{action}Result>{result}</{action}Result>'
            f"\n  <ResponseMetadata><RequestId>0</RequestId></ResponseMetadata>\n"
            f"</{action}Response>\n"
        )

    def misbehave(self, fault):
        if fault == "hang":
            self.sts.released.wait()
        if fault in ("hang", "close"):
            self.close_connection = True
        elif fault == "echo":
            with self.sts.lock:
                said = [f"{key.secret} {key.token}" for key in self.sts.keys.values()]
            said += [f"{name}:{value}" for name, value in self.headers.items()]
            self.answer(403, error("SignatureDoesNotMatch", "\n".join(said)))
        elif fault == "huge":
            self.answer(200, "<a>" + "x" * 3_000_000 + "</a>")
        elif fault == "redirect":
            self.answer(307, "", {"Location": self.sts.url + "/elsewhere"})
        else:
            status = fault.get("status", 403)
            body = fault.get("body")
            if body is None:
                body = error(fault["code"], fault.get("message", "as the test wanted"))
            self.answer(status, body, fault.get("headers", {}))

    def answer(self, status, body, headers=None):
        body = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/xml", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        pieces = [body[i : i + 1] for i in range(len(body))] if getattr(self, "drips", 0) else [body]
        for piece in pieces:
            self.wfile.write(piece)
            if len(pieces) > 1:
                time.sleep(0.05)

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError):
            pass  # The client went away, as it must from a hanging or dripping answer.


def error(code, message):
    """STS's XML for an error."""
    return (
        f'<ErrorResponse xmlns="{NAMESPACE}">\n  <Error>\n    <Type>Sender</Type>\n'
        f"    <Code>{escape(code)}</Code>\n    <Message>{escape(message)}</Message>\n  </Error>\n"
        f"  <RequestId>0</RequestId>\n</ErrorResponse>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--user", action="append", default=[], metavar="KEY_ID:SECRET")
    parser.add_argument("--lifetime", type=float, default=3600, metavar="SECONDS")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    arguments = parser.parse_args()
    with StsServer(arguments.lifetime, arguments.port, arguments.tls) as sts:
        for user in arguments.user:
            sts.control({"user": user})
        print(sts.url, flush=True)
        for line in sys.stdin:
            sts.control(json.loads(line))


if __name__ == "__main__":
    main()
