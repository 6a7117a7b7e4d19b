"""The certificate for TLS, taken up anew when its files change: connections that are open go on with the old one."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.parts import Parts

log = logging.getLogger("gateway.tls")

LOOKS = 1.0
"""Seconds between two looks at the files."""


class CertificateError(ValueError):
    """A certificate and key that cannot be used; the text says why."""


class Certificate:
    """Keeps `context` in step with the files. The key may stand in the certificate's file. `protocols`: its ALPN's."""

    def __init__(self, certificate: Path, key: Path | None, protocols: Sequence[str] = ("http/1.1",)) -> None:
        self._files = (certificate, key)
        self._signature = self._look()
        self.context = _context(*self._files)
        self.context.set_alpn_protocols(protocols)

    @asynccontextmanager
    async def running(self, parts: Parts) -> AsyncIterator[None]:
        async with parts.running("certificate", self._follow):
            yield

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOKS)
            if (signature := self._look()) == self._signature:
                continue
            try:
                _context(*self._files)  # tried elsewhere first: half a pair would break the one in use
                self.context.load_cert_chain(*self._files)
            except (CertificateError, OSError) as error:
                log.warning("the new certificate is not taken: %s", error)
            else:
                log.info("the new certificate is in use")
            self._signature = signature  # now: whatever else fails is tried again

    def _look(self) -> list[tuple[int, int]]:
        found = []
        for file in filter(None, self._files):
            try:
                stat = file.stat()
            except OSError:
                return []  # being replaced
            found.append((stat.st_mtime_ns, stat.st_size))
        return found


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError:
        raise CertificateError(f"{certificate}: not a certificate with its key") from None
    except OSError as error:
        raise CertificateError(f"{certificate}: {error.strerror}") from None
    return context
