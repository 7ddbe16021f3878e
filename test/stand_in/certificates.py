"""A certificate authority for one run, and what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = stripe_portal test
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, IP:::1, DNS:localhost
"""


def make(directory: Path) -> None:
    """Write ca.pem, server.pem signed by it, and untrusted.pem that nobody vouches for."""
    config = directory / 'openssl.cnf'
    config.write_text(CONFIG)

    def openssl(name: str, *options: str) -> None:
        subprocess.run(
            ['openssl', 'req', '-new', '-x509', '-config', config, '-days', '7', '-newkey', 'ec', '-pkeyopt',
             'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', directory / f'{name}.key',
             '-out', directory / f'{name}.pem', *options],
            check=True, capture_output=True)

    openssl('ca', '-subj', '/CN=stripe_portal test authority', '-extensions', 'authority')
    openssl('server', '-subj', '/CN=localhost', '-extensions', 'server',
            '-CA', str(directory / 'ca.pem'), '-CAkey', str(directory / 'ca.key'))
    openssl('untrusted', '-subj', '/CN=localhost', '-extensions', 'server')
