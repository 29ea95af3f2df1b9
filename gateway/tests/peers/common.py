"""What the scripts that play a peer have in common: they say what happens in lines of JSON, and speak TLS with both
certificates."""

import json
import socket
import ssl
import threading

ONE_WRITER = threading.Lock()


def say(**line):
    with ONE_WRITER:
        print(json.dumps(line), flush=True)


def tls(options, side):
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options.cert, options.key)
    context.load_verify_locations(options.ca)
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def nodelay(event):
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
