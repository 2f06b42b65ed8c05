"""Fetching pictures and videos that requests name, without becoming a way into the network around the server.

Owns the order of checks, the connection and the counts. The name is resolved once, every address is checked, and the
connection goes to that very address while TLS and the Host field carry the name, so a name that changes its address in
between (DNS rebinding) gains nothing. Redirects are followed here, each checked like the first URL. No cookies, proxies
from the environment, kept connections or content decoding. Replays CVE-2025-6242 and CVE-2026-100650 in its tests.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import httpx2

from foveate.errors import nearest
from foveate.media.sources import short_name
from foveate.serve.safety import data_uri, folder
from foveate.serve.safety.addresses import Address, Reachable
from foveate.serve.safety.content import HEAD, Kind, byte_cap, require_content, require_kind, too_large
from foveate.serve.safety.location import Location, follow, parse, scheme_of
from foveate.serve.safety.policy import MediaPolicy, MediaRefused
from foveate.serve.safety.resolver import Resolver, SystemResolver

_AT_ONCE = 256 * 1024  # letters of a data: URI that take less time to read than a thread takes to wake
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_TRIES = 3  # addresses of one name to try to connect to
_HEADERS = {
    "Accept": "image/*, video/*;q=0.9",
    "Accept-Encoding": "identity",  # pictures are compressed already; whatever answers otherwise is refused
    "User-Agent": "foveate",
}
_DEFAULT_POLICY = MediaPolicy()


class MediaFetcher:
    """Gets the bytes behind https:, data: and (from a named folder) file: URLs, within a policy.

    Args:
        resolver: host and port to addresses; else the machine's own.
        tls: for servers with a certificate authority of their own; else the machine's trusted ones.

    Attributes:
        refused: refusals by reason (see `foveate.serve.safety.policy.REASONS`).
        fetched, fetched_bytes: what was let through.
    """

    def __init__(
        self,
        policy: MediaPolicy = _DEFAULT_POLICY,
        *,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self.refused: Counter[str] = Counter()
        self.fetched = self.fetched_bytes = 0
        self._reachable = Reachable.of(policy.private_networks, policy.refused_networks)
        self._own_resolver = SystemResolver() if resolver is None else None
        self._resolver: Resolver = resolver or self._own_resolver  # type: ignore[assignment]
        self._places = asyncio.Semaphore(policy.max_concurrent)
        # The transport, not the client: a client keeps cookies from one caller's fetch for the next caller's.
        self._transport = httpx2.AsyncHTTPTransport(
            verify=True if tls is None else tls,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),  # a kept one was verified for another name
        )

    async def fetch(self, url: str, *, kind: Kind = "image") -> bytes:
        """The encoded bytes, known to start like an image (or video) and, for images, to claim few enough pixels.

        Raises:
            MediaRefused: anything that the policy, the host or the content stands against; counted by reason.
        """
        scheme = scheme_of(url[:64])
        try:
            if scheme == "file" or (scheme == "data" and scheme in self.policy.schemes):
                if scheme == "data" and len(url) <= _AT_ONCE:
                    data = self._read(url, scheme, kind)
                else:
                    data = await asyncio.to_thread(self._read, url, scheme, kind)
            else:
                data, shown = await self._download(url, scheme, kind)
                # In a thread: reading the header of a hostile TIFF or PNG may take a while.
                await asyncio.to_thread(require_content, data, kind, self.policy, shown)
        except MediaRefused as refusal:
            self.refused[refusal.reason] += 1
            raise
        self.fetched += 1
        self.fetched_bytes += len(data)
        return data

    def _read(self, url: str, scheme: str, kind: Kind) -> bytes:
        """What is here already, checked."""
        cap = byte_cap(self.policy, kind)
        if scheme == "file":
            data, shown = folder.read(url, self.policy.media_folder, cap), short_name(url)
        else:
            data, shown = data_uri.decode(url, cap), data_uri.SHOWN
        require_content(data, kind, self.policy, shown)
        return data

    async def _download(self, url: str, scheme: str, kind: Kind) -> tuple[bytes, str]:
        """The bytes, and what to call them in messages."""
        if scheme not in self.policy.schemes:
            raise self._wrong_scheme("The media URL", scheme)  # which may have a password in it
        location, cap = parse(url), byte_cap(self.policy, kind)
        try:
            async with asyncio.timeout(self.policy.total_timeout), self._places:
                return await self._get(location, kind, cap), location.shown
        except TimeoutError as error:
            raise _timeout(location, f"it took more than {self.policy.total_timeout:g} s") from error

    async def _get(self, first: Location, kind: Kind, cap: int) -> bytes:
        location = first
        for _ in range(self.policy.max_redirects + 1):
            self._require_allowed(location, first)
            response = await self._request(location, await self._addresses(location, first), first)
            try:
                if response.status_code not in _REDIRECTS:
                    return await _body(response, first, kind, cap)
                location = follow(location, response.headers.get("Location", ""))
            finally:
                await response.aclose()
        raise MediaRefused(
            f"{first.shown} redirects too often",
            reason="redirect",
            why=f"more than {self.policy.max_redirects} times",
            fix="Give the final URL.",
        )

    def _require_allowed(self, location: Location, first: Location) -> None:
        """Scheme, host and port; of a redirect, the message names only what the caller sent."""
        redirected = location is not first
        name = f"A redirect of {first.shown}" if redirected else location.shown
        if location.scheme not in self.policy.schemes:
            raise self._wrong_scheme(name, location.scheme)
        if not self.policy.allows_host(location.host):
            raise MediaRefused(
                f"{name} is refused",
                reason="domain",
                why="this server fetches media from listed hosts only",
                fix="Send the picture as data: URI, or start the server with --media-domains HOST.",
            )
        if location.port not in self.policy.ports:
            ports = ", ".join(str(port) for port in self.policy.ports)
            raise MediaRefused(
                f"{name} is refused",
                reason="domain",
                why=f"only ports {ports} are allowed",
                fix="Serve the picture from one of them, or send it as data: URI.",
            )

    def _wrong_scheme(self, name: str, scheme: str) -> MediaRefused:
        allowed = ", ".join(self.policy.schemes)
        why = f"{scheme}: is not among {allowed}" if scheme else "it has no scheme"
        hint = nearest(scheme, self.policy.schemes) if scheme else ""
        fix = hint if hint.startswith("Did") else "Send the picture as data: URI."
        return MediaRefused(f"{name} is refused", reason="scheme", why=why, fix=fix)

    async def _addresses(self, location: Location, first: Location) -> Sequence[Address]:
        """All addresses of the host; refused unless every one of them may be reached.

        One message for no address and for a private one: otherwise anybody could ask which names a private network has.
        """
        if location.address is not None:
            found: Sequence[Address] = (location.address,)
        else:
            found = await self._resolver(location.host, location.port)
        if not found or not all(self._reachable.allows(address) for address in found):
            name = first.shown if location is first else f"A redirect of {first.shown}"
            raise MediaRefused(
                f"{name} is refused",
                reason="address",
                why="its host has no public address",
                fix="Check the host's name, or send the picture as data: URI.",
            )
        return found

    async def _request(
        self, location: Location, addresses: Sequence[Address], first: Location
    ) -> httpx2.Response:
        """The response's head, from the first address that takes the connection."""
        policy = self.policy
        timeouts = {"connect": policy.connect_timeout, "read": policy.read_timeout,
                    "write": policy.read_timeout, "pool": policy.total_timeout}  # fmt: skip
        extensions: dict[str, object] = {"timeout": timeouts}
        if location.scheme == "https":
            extensions["sni_hostname"] = location.host  # the certificate is checked against it, too
        failure: httpx2.TransportError | None = None
        for address in addresses[:_TRIES]:
            url = httpx2.URL(
                scheme=location.scheme,
                host=str(address),
                port=location.port,
                raw_path=location.target.encode(),
            )
            headers = {"Host": location.host_header, **_HEADERS}
            request = httpx2.Request("GET", url, headers=headers, extensions=extensions)
            try:
                return await self._transport.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
            except httpx2.TransportError as error:
                raise _broken(first, error) from error
        assert failure is not None, "a name without addresses is refused before"
        raise _broken(first, failure) from failure

    async def aclose(self) -> None:
        """Ends its connections and threads."""
        await self._transport.aclose()
        if self._own_resolver is not None:
            self._own_resolver.close()

    async def __aenter__(self) -> MediaFetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _body(response: httpx2.Response, first: Location, kind: Kind, cap: int) -> bytes:
    """The body as sent, counted as it comes and given up as soon as its start is of another kind."""
    if response.status_code != 200:
        raise MediaRefused(
            f"{first.shown} cannot be fetched",
            reason="status",
            why=f"the host answered with status {response.status_code}",
            fix="Check the URL and whether it needs a login.",
        )
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise MediaRefused(
            f"{first.shown} is refused",
            reason="encoding",
            why="it comes compressed although plain bytes were asked for",
            fix="Send the picture as data: URI.",
        )
    declared = response.headers.get("Content-Length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > cap:
        raise too_large(first.shown, cap, at_least=int(declared[:20]))
    data, judged = bytearray(), False
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) > cap:
                raise too_large(first.shown, cap, at_least=len(data))
            if not judged and len(data) >= HEAD:
                require_kind(bytes(data[:HEAD]), kind, first.shown)
                judged = True
    except httpx2.TransportError as error:
        raise _broken(first, error) from error
    return bytes(data)


def _broken(first: Location, error: httpx2.TransportError) -> MediaRefused:
    if isinstance(error, httpx2.TimeoutException):
        return _timeout(first, "its host did not answer in time")
    return MediaRefused(
        f"{first.shown} cannot be fetched",
        reason="unreachable",
        why=f"no connection, or one that broke ({type(error).__name__})",
        fix="Try again, or send the picture as data: URI.",
    )


def _timeout(location: Location, why: str) -> MediaRefused:
    return MediaRefused(
        f"{location.shown} is too slow",
        reason="timeout",
        why=why,
        fix="Try again, or send the picture as data: URI.",
    )
