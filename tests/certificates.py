"""A self-signed certificate for servers of the tests, made by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess

import pytest


def make_certificate(folder, *, host="localhost"):
    """Return a server's TLS context and the path of its certificate; skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = f"subjectAltName=DNS:{host}" + (",IP:127.0.0.1" if host == "localhost" else "")
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=test", "-addext", names]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]  # made in no time, unlike one of RSA
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def with_tls(context):
    """Return what a `RawServer` wraps its sockets with."""
    return lambda sock: context.wrap_socket(sock, server_side=True)
