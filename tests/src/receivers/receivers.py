"""Receives what is sent: HTTP posts and mails, each written down as one line of JSON.

Arguments: a directory. It gets `ports` (HTTP, SMTP with STARTTLS and a login, plain SMTP), `http.ndjson` and
`mail.ndjson`. While a file `refuse` is there, everything is refused for the time being.
"""

import email
import email.policy
import http.server
import json
import os
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

directory = sys.argv[1]
lock = threading.Lock()


def refuses():
    return os.path.exists(os.path.join(directory, "refuse"))


def write_down(name, value):
    with lock, open(os.path.join(directory, name), "a", encoding="utf-8") as out:
        out.write(json.dumps(value) + "\n")


class Posts(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if refuses():
            self.send_error(503, "not now")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        write_down("http.ndjson", {"path": self.path, "headers": headers, "body": body.decode()})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Mails:
    def __init__(self, name):
        self.name = name

    async def handle_DATA(self, _server, session, envelope):
        if refuses():
            return "451 not now"
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        write_down(
            "mail.ndjson",
            {
                "server": self.name,
                "tls": session.ssl is not None,
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "subject": letter["subject"],
                "text": letter.get_content(),
            },
        )
        return "250 taken"


def authenticate(_server, _session, _envelope, _mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"capstan", b"mail secret")
    return AuthResult(success=good)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem"))
secure_port, plain_port = int(sys.argv[2]), int(sys.argv[3])
Controller(
    Mails("secure"),
    hostname="127.0.0.1",
    port=secure_port,
    tls_context=context,
    require_starttls=True,
    auth_required=True,
    authenticator=authenticate,
).start()
Controller(Mails("plain"), hostname="127.0.0.1", port=plain_port).start()
posts = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Posts)
ready = os.path.join(directory, "ports")
with open(ready + ".new", "w", encoding="utf-8") as out:
    out.write(f"{posts.server_address[1]}\n")
os.rename(ready + ".new", ready)
posts.serve_forever()
