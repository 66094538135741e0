"""Certificates for the tests of TLS, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAME = "localhost"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """Authorities, and certificates that they signed, as files of one directory."""

    directory: Path

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def pair(self, name: str) -> tuple[str, str]:
        """The files of a certificate and its key."""
        return self.path(f"{name}.pem"), self.path(f"{name}.key")

    def environment(self, mode: int) -> dict[str, str]:
        """The settings of a server with the certificate `server`, whose clients have those of the authority `ca`."""
        return {
            "MILVINE_COMMON_SECURITY_TLSMODE": str(mode),
            "MILVINE_TLS_SERVERPEMPATH": self.path("server.pem"),
            "MILVINE_TLS_SERVERKEYPATH": self.path("server.key"),
            "MILVINE_TLS_CAPEMPATH": self.path("ca.pem"),
        }

    def authority(self, name: str) -> None:
        made = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
        self._openssl("req", "-x509", *_KEY, *made)

    def signed(
        self, name: str, authority: str, subject: str = f"/CN={NAME}", names: str = f"DNS:{NAME},IP:127.0.0.1"
    ) -> None:
        """`names`: the subject's other names, in openssl's form."""
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-utf8", "-subj", subject)
        self._openssl("req", *_KEY, *request)
        (self.directory / "extensions").write_text(f"subjectAltName={names}")
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
        given = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2", "-extfile", "extensions")
        self._openssl("x509", "-req", *signer, *given)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)
