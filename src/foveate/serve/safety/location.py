"""Reading http(s) URLs in one way only: what two parsers could read differently is refused.

Owns the grammar, a strict part of RFC 3986, and how a URL is shown in messages. Opens nothing. Requests are built from
these parts and the text is never parsed again, so no second parser can disagree (Tsai, "A New Era of SSRF", 2017).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from foveate.media.sources import short_name
from foveate.serve.safety.addresses import Address
from foveate.serve.safety.policy import MediaRefused

MAX_LENGTH = 4096
_PORTS = {"https": 443, "http": 80}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#.*)?", re.I
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# C0, C1, space, backslash, marks that look like none.
_BAD = re.compile(r"[\x00-\x20\x7f-\x9f\\\u2028\u2029\ufeff]")
# Targets of redirects that are read in several ways: after three slashes the host follows for browsers, a path for
# others; and a first part with a colon that is no scheme (RFC 3986 §4.2 has none).
_AMBIGUOUS = re.compile(r"///|(?![A-Za-z][A-Za-z0-9+.-]*:)[^/?#]*:")
_KEPT = "/?:@!$&'()*+,;=-._~%[]"  # what stays as written in path and query; the rest is percent-encoded


@dataclass(frozen=True, kw_only=True)
class Location:
    """One http(s) URL in parts.

    Attributes:
        host: lower case, without final dot or brackets.
        address: the host where it is an IP address, else None.
        target: path and query in ASCII, as sent.
    """

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None = None

    @property
    def host_header(self) -> str:
        """The Host field: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address in ASCII, for resolving a redirect against."""
        return f"{self.scheme}://{self.host_header}{self.target}"

    @property
    def shown(self) -> str:
        """For messages and logs: without the query, which often carries a signature."""
        path, mark, _ = self.target.partition("?")
        return short_name(f"{self.scheme}://{self.host_header}{path}{'?…' if mark else ''}")


def scheme_of(url: str) -> str:
    """The scheme in lower case; empty if there is none."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else ""


def parse(url: str) -> Location:
    """The parts of an http or https URL.

    Raises:
        MediaRefused: it has credentials, odd characters, an address in an unusual notation, or is no such URL.
    """
    if len(url) > MAX_LENGTH:
        raise _malformed("The media URL", f"it has {len(url):,} characters, and {MAX_LENGTH:,} are allowed")
    if found := _BAD.search(url):
        raise _malformed("The media URL", f"it has the character {found[0]!a} at {found.start()}")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise _malformed("The media URL", "it is not written https://host/path")
    if "@" in parts["authority"]:
        raise _malformed(
            "The media URL", "it has a user name or password before the host", "Use a signed URL."
        )
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        why = "its host is not plain ASCII letters, digits, dots and hyphens"
        raise _malformed("The media URL", why, "Write an international name in its xn-- form.")
    scheme = parts["scheme"].lower()
    host, address = _host(authority["host"])
    port = int(authority["port"]) if authority["port"] else _PORTS[scheme]
    if not 1 <= port <= 65535:
        raise _malformed("The media URL", f"its port is {port}")
    target = (parts["path"] or "/") + (parts["query"] or "")
    return Location(scheme=scheme, host=host, port=port, target=_ascii(target), address=address)


def follow(base: Location, location: str) -> Location:
    """Where a redirect from `base` leads; `MediaRefused` as for `parse`, without telling what the host sent."""
    if _BAD.search(location) or len(location) > MAX_LENGTH or _AMBIGUOUS.match(location):
        raise _redirect(base, "its target is not a plain URL")
    try:
        # With a scheme it must be whole: `https:a` and `https:///a` are read in several ways, too.
        joined = location if scheme_of(location) else urljoin(base.url, location)
    except ValueError as error:  # half a bracket
        raise _redirect(base, "its target is not a plain URL") from error
    if scheme_of(joined) not in _PORTS:
        raise _redirect(base, "it leads to another scheme")
    try:
        target = parse(joined)
    except MediaRefused as error:
        raise _redirect(base, "its target is not a plain URL") from error
    if base.scheme == "https" and target.scheme == "http":
        raise _redirect(base, "it leads from https to http")
    return target


def _redirect(base: Location, why: str) -> MediaRefused:
    return MediaRefused(
        f"{base.shown} redirects to where none may lead",
        reason="redirect",
        why=why,
        fix="Give the final URL, or the picture as data: URI.",
    )


def _host(written: str) -> tuple[str, Address | None]:
    if written.startswith("["):
        try:
            address: Address = ipaddress.IPv6Address(written[1:-1])
        except ValueError as error:
            raise _malformed("The media URL", "what stands in brackets is no IPv6 address") from error
        return str(address), address
    host = written.lower().removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _malformed("The media URL", "its host is not a name of labels of 1 to 63 characters")
    # Whatever ends in a number is an IPv4 address to browsers and to inet_aton, which read 127.1, 0x7f000001,
    # 017700000001 and 2130706433 as loopback. Only four decimal numbers mean the same to all.
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        if not re.fullmatch(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})", host):
            raise _malformed("The media URL", "its host is an address that is not four decimal numbers")
        try:
            return host, ipaddress.IPv4Address(host)
        except ValueError as error:
            raise _malformed("The media URL", "a number of its address is above 255") from error
    return host, None


def _ascii(target: str) -> str:
    """Percent-encoded where it must be; a surrogate half has no UTF-8 form."""
    try:
        return quote(target, safe=_KEPT)
    except UnicodeEncodeError as error:
        raise _malformed("The media URL", "it has half a surrogate pair") from error


def _malformed(what: str, why: str, fix: str = "") -> MediaRefused:
    return MediaRefused(
        f"{what} is refused",
        reason="malformed",
        why=why,
        fix=fix or "Give a plain URL, or the picture as data: URI.",
    )
