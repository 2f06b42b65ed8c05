"""Fetching media: the known attacks, replayed against a real socket with a resolver that lies."""

from __future__ import annotations

import asyncio
import base64
import io
import ssl
import zlib
from pathlib import Path

import PIL.Image
import pytest
from hostile_host import LOOPBACK, FakeResolver, HostileHost, redirect, reply

from foveate.errors import FoveateError
from foveate.media import MediaLimits, open_image
from foveate.serve.safety.fetch import MediaFetcher
from foveate.serve.safety.limits import SafetySettingsError
from foveate.serve.safety.policy import REASONS, MediaPolicy, MediaRefused

PEM = Path(__file__).parent / "pictures_example.pem"
HOST = "pictures.example"
# Made once: reading the machine's authorities takes a while.
TRUST = ssl.create_default_context(cafile=str(PEM))


def png(width: int = 8, height: int = 8) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (width, height), (10, 200, 30)).save(file, "PNG")
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A few bytes of PNG whose header claims any size."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = b"".join(
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def data_uri(data: bytes, declared: str = "image/png") -> str:
    return f"data:{declared};base64,{base64.b64encode(data).decode()}"


def refused(url: str, *, names: dict | None = None, kind: str = "image", **policy) -> MediaRefused:
    """The refusal of a URL by a fetcher that has nobody to talk to."""

    async def run() -> None:
        async with MediaFetcher(
            MediaPolicy(**policy), resolver=FakeResolver(names or {}), tls=TRUST
        ) as fetcher:
            try:
                await fetcher.fetch(url, kind=kind)
            finally:
                assert sum(fetcher.refused.values()) == 1

    with pytest.raises(MediaRefused) as caught:
        asyncio.run(run())
    return caught.value


def fetched(routes, path: str = "/a.png", *, names=None, kind: str = "image", **policy):
    """What a fetch over a real socket gives, with the host that was asked; loopback counts as reachable."""

    async def run():
        async with HostileHost(routes) as host:
            settings = {
                "schemes": ("http", "https", "data"),
                "ports": (host.port,),
                "private_networks": (f"{LOOPBACK}/32",),
                **policy,
            }
            resolver = FakeResolver({HOST: [LOOPBACK], **(names or {})})
            async with MediaFetcher(MediaPolicy(**settings), resolver=resolver, tls=TRUST) as fetcher:
                try:
                    return await fetcher.fetch(f"http://{HOST}:{host.port}{path}", kind=kind), host
                except MediaRefused as refusal:
                    return refusal, host

    return asyncio.run(run())


# -- what is let through -------------------------------------------------------------------------------------


def test_a_picture_is_fetched_from_the_checked_address_under_its_name():
    data, host = fetched({"/a.png": reply(png())}, "/a.png?signature=x%2fy")
    assert data == png()
    assert host.requests[0].startswith("GET /a.png?signature=x%2fy HTTP/1.1\r\n")
    assert f"host: {HOST}:{host.port}\r\n" in host.requests[0].lower()
    assert "cookie" not in host.requests[0].lower() and "authorization" not in host.requests[0].lower()


def test_a_redirect_is_followed_and_cookies_are_not_kept():
    first = reply(status="302 Found", headers=("Location: b.png", "Set-Cookie: a=1; Path=/"))
    data, host = fetched({"/a.png": first, "/b.png": reply(png())})
    assert data == png() and len(host.requests) == 2
    assert "cookie" not in host.requests[1].lower()


def test_tls_is_checked_against_the_name_and_not_the_address():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(PEM)
    asked = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def run():
        async with HostileHost({"/a.png": reply(png())}, tls=server) as host:
            policy = MediaPolicy(ports=(host.port,), private_networks=(f"{LOOPBACK}/32",))
            resolver = FakeResolver({HOST: [LOOPBACK], "other.example": [LOOPBACK]})
            async with MediaFetcher(policy, resolver=resolver, tls=TRUST) as fetcher:
                data = await fetcher.fetch(f"https://{HOST}:{host.port}/a.png")
                with pytest.raises(MediaRefused) as caught:
                    await fetcher.fetch(f"https://other.example:{host.port}/a.png")
            return data, caught.value, host

    data, refusal, host = asyncio.run(run())
    assert data == png() and refusal.reason == "unreachable"
    assert (
        asked == [HOST, "other.example"] and len(host.requests) == 1
    )  # no request under a wrong certificate


def test_the_next_address_is_tried_when_one_takes_no_connection():
    data, _ = fetched(
        {"/a.png": reply(png())},
        names={HOST: ["127.0.0.3", LOOPBACK]},
        private_networks=("127.0.0.0/8",),
        connect_timeout=1.0,
    )
    assert data == png()


def test_a_data_uri_is_decoded():
    fetcher = MediaFetcher()
    assert asyncio.run(fetcher.fetch(data_uri(png()))) == png()
    assert asyncio.run(fetcher.fetch(data_uri(png(), declared="text/html"))) == png()  # content decides
    assert (fetcher.fetched, fetcher.fetched_bytes) == (2, 2 * len(png()))


# -- where no connection may go ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.1.2", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("224.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.9"),
        *(
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ),
        *("::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::"),
        *("2002:a00:1::1", "2001::1", "2001:db8::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1"),
    ],
)
def test_names_and_literals_of_inner_addresses_are_refused(address):
    literal = f"[{address}]" if ":" in address else address
    for url in (f"https://{HOST}/a.png", f"https://{literal}/a.png"):
        refusal = refused(url, names={HOST: [address]})
        assert refusal.reason == "address"
    by_name = refused(f"https://{HOST}/a.png", names={HOST: ["1.1.1.1", address]})
    assert by_name.reason == "address" and address not in str(by_name)  # one bad address is enough


def test_an_unknown_name_and_an_inner_one_are_told_alike():
    inner, unknown = (
        refused("https://db.corp/a", names={"db.corp": ["10.0.0.1"]}),
        refused("https://db.corp/a"),
    )
    assert str(inner) == str(unknown)


def test_a_scoped_address_is_refused():
    assert (
        refused(f"https://{HOST}/a", names={HOST: ["fe80::1%1"]}, private_networks=("fe80::/10",)).reason
        == "address"
    )


@pytest.mark.parametrize(
    "host",
    [
        *(
            "2130706433",
            "0x7f000001",
            "017700000001",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "127.0.0.01",
        ),
        *(
            "127.0.0.1.nip.0x7f",
            "256.1.1.1",
            "1.2.3.4.5",
            "[::1%25lo]",
            "[fe80::1%eth0]",
            "[v1.x]",
            "[127.0.0.1]",
        ),
        *(
            "１２７.0.0.1",
            "ⓛocalhost",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "a..b",
            "-",
            "",
            "a_b-.example",
            "x" * 64,
        ),
    ],
)
def test_hosts_that_parsers_read_differently_are_refused(host):
    assert refused(f"https://{host}/a.png").reason == "malformed"


@pytest.mark.parametrize(
    "url",
    [
        "https://user@pictures.example/a.png",
        "https://user:secret@pictures.example/a.png",
        "http://user:secret@pictures.example/a.png?signature=secret",
        "https://pictures.example@127.0.0.1/",
        "https://127.0.0.1\\@pictures.example/",
        "https://pictures.example\\.127.0.0.1/",
        "https:\\\\pictures.example/a.png",
        " https://pictures.example/a.png",
        "https://pictures.example/a.png\n",
        "https://pictures.example/a\r\nX-Injected: 1",
        "https://pictures.\texample/a.png",
        "https://pictures.example /a.png",
        "https://pictures.example:80:443/",
        "https://pictures.example:0/",
        "https://pictures.example:99999/",
        "https://pictures.example:٤٤٣/",
        "https:///a.png",
        "https:pictures.example/a.png",
        "https://pictures.example/" + "a" * 5000,
        "https://pictures.example/\ud800",
        "https://pictures.example/\x00",
    ],
)
def test_urls_that_parsers_read_differently_are_refused(url):
    refusal = refused(url, names={HOST: ["1.1.1.1"]})
    assert refusal.reason in ("malformed", "scheme")
    assert "secret" not in str(refusal) and str(refusal).isprintable()


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "FILE:///etc/passwd", "file://localhost/etc/passwd"),
        *("ftp://pictures.example/a", "gopher://127.0.0.1:6379/_FLUSHALL", "jar:https://x!/a", "php://input"),
        *(
            "javascript:1",
            "ws://pictures.example",
            "http://pictures.example/a.png",
            "/etc/passwd",
            "C:\\a.png",
            "a.png",
        ),
        *("", "//pictures.example/a.png", "blob:https://x/1"),
    ],
)
def test_other_schemes_are_refused(url):
    assert refused(url).reason in ("scheme", "file")


def test_ports_of_other_services_are_refused():
    assert refused("https://pictures.example:6379/", names={HOST: ["1.1.1.1"]}).reason == "domain"


def test_only_listed_domains_are_asked():
    listed = ("pictures.example", "*.cdn.example")
    for host in (
        "other.example",
        "cdn.example",
        "evilcdn.example",
        "pictures.example.evil",
        "a.pictures.example",
    ):
        refusal = refused(f"https://{host}/a", names={host: ["1.1.1.1"]}, allowed_domains=listed)
        assert refusal.reason == "domain"
    policy = MediaPolicy(allowed_domains=listed)
    assert policy.allows_host("pictures.example") and policy.allows_host("a.b.cdn.example")


def test_a_name_that_changes_its_address_gains_nothing():
    """DNS rebinding: the first answer is checked and connected to; a second is never asked for."""

    async def run():
        inner = HostileHost({"/a.png": reply(png())}, address="127.0.0.2")
        async with HostileHost({"/a.png": reply(png())}) as outer, inner:
            policy = MediaPolicy(
                schemes=("http",), ports=(outer.port, inner.port), private_networks=(f"{LOOPBACK}/32",)
            )
            resolver = FakeResolver({HOST: [[LOOPBACK], ["127.0.0.2"]]})
            async with MediaFetcher(policy, resolver=resolver, tls=TRUST) as fetcher:
                data = await fetcher.fetch(f"http://{HOST}:{outer.port}/a.png")
                assert resolver.asked == [HOST]
                with pytest.raises(MediaRefused) as caught:  # now the name is an inner one
                    await fetcher.fetch(f"http://{HOST}:{inner.port}/a.png")
            return data, caught.value, inner.requests

    data, refusal, inner_requests = asyncio.run(run())
    assert data == png() and refusal.reason == "address" and inner_requests == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.2/secret", "address"),
        ("http://[::1]/secret", "address"),
        ("http://169.254.169.254/latest/meta-data/", "address"),
        ("http://inner.corp/secret", "address"),
        ("http://2130706433/", "redirect"),
        ("http://a@inner.corp/", "redirect"),
        ("//127.0.0.2/secret", "address"),
        ("\\\\127.0.0.2\\secret", "redirect"),
        ("file:///etc/passwd", "redirect"),
        ("data:image/png;base64,AAAA", "redirect"),
        ("", "redirect"),
        ("/a.png", "redirect"),
        ("http://other.example:22/", "domain"),
    ],
)
def test_redirects_are_checked_like_the_first_url(target, reason):
    names = {"inner.corp": ["10.0.0.1"], "other.example": ["1.1.1.1"]}
    status = "301 Moved" if len(target) % 2 else "307 Temporary"

    async def run():
        async with HostileHost({"/a.png": redirect(target, status)}) as host:
            policy = MediaPolicy(
                schemes=("http", "data"), ports=(host.port, 80), private_networks=(f"{LOOPBACK}/32",)
            )
            async with MediaFetcher(
                policy, resolver=FakeResolver({HOST: [LOOPBACK], **names}), tls=TRUST
            ) as fetcher:
                with pytest.raises(MediaRefused) as caught:
                    await fetcher.fetch(f"http://{HOST}:{host.port}/a.png")
                return caught.value

    refusal = asyncio.run(run())
    assert refusal.reason == reason
    assert not any(word in str(refusal) for word in ("127.0.0", "169.254", "inner.corp", "secret", "passwd"))


def test_an_allowed_domain_cannot_redirect_to_another():
    refusal, _ = fetched({"/a.png": redirect("http://other.example/")}, names={"other.example": [LOOPBACK]},
                         allowed_domains=(HOST,))  # fmt: skip
    assert refusal.reason == "domain"


def test_redirects_in_a_circle_end():
    refusal, host = fetched({"/a.png": redirect("/b"), "/b": redirect("/a.png")}, max_redirects=3)
    assert refusal.reason == "redirect" and len(host.requests) == 4


def test_redirects_from_https_to_http_are_refused():
    from foveate.serve.safety.location import follow, parse

    base = parse("https://pictures.example/a/b.png?c=d")
    assert follow(base, "../e.png#f").url == "https://pictures.example/e.png"
    with pytest.raises(MediaRefused, match="from https to http"):
        follow(base, "http://pictures.example/a/b.png")


# -- what is too much, too slow, or something else -----------------------------------------------------------


def endless(piece: bytes, *, pause: float = 0.0, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n"):
    """Sends for ever; counts what it could get rid of."""

    async def send(writer) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return send


def test_a_large_body_is_refused_by_its_declared_length_before_it_is_read():
    refusal, _ = fetched({"/a.png": reply(b"", length=10**12)}, max_bytes=1000)
    assert refusal.reason == "too_large" and "1,000,000,000,000" in str(refusal)


def test_a_body_without_end_is_cut_at_the_cap():
    sent = 0

    async def send(writer) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + png())
        while True:
            writer.write(bytes(10_000))
            await writer.drain()
            sent += 10_000

    refusal, _ = fetched({"/a.png": send}, max_bytes=100_000)
    assert refusal.reason == "too_large"
    assert sent < 20_000_000  # what buffers of both sockets took, not what would have come


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "br", "gzip, gzip", "identity, gzip", "zstd", "x-unknown"]
)
def test_compressed_transfers_are_refused_unread(encoding):
    bomb = zlib.compress(bytes(10**7))
    refusal, _ = fetched({"/a.png": reply(bomb, headers=(f"Content-Encoding: {encoding}",))})
    assert refusal.reason == "encoding"


def test_a_declared_length_that_lies_is_noticed():
    refusal, _ = fetched({"/a.png": reply(png(), length=len(png()) + 10)})
    assert refusal.reason == "unreachable"
    data, _ = fetched({"/a.png": reply(png() + b"GET /", length=len(png()))})
    assert data == png()


@pytest.mark.parametrize(
    "slow",
    [
        endless(b"", pause=0.05, head=b""),  # never answers
        endless(b"X-A: 1\r\n", pause=0.05, head=b"HTTP/1.1 200 OK\r\n"),  # never ends its headers
        endless(b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.02, head=b""),
        endless(b"\x00", pause=0.05, head=b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n"),  # a byte at a time
        endless(b"", pause=0.05, head=b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n\x89PNG"),
    ],
)
def test_slow_hosts_are_given_up_on(slow):
    refusal, _ = fetched({"/a.png": slow}, read_timeout=0.3, total_timeout=0.6)
    assert refusal.reason == "timeout"


def test_a_slow_name_server_is_given_up_on():
    async def resolver(host: str, port: int):
        await asyncio.sleep(60)

    async def run():
        async with MediaFetcher(MediaPolicy(total_timeout=0.1), resolver=resolver, tls=TRUST) as fetcher:
            await fetcher.fetch(f"https://{HOST}/a.png")

    with pytest.raises(MediaRefused) as caught:
        asyncio.run(run())
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
    ],
)
def test_hosts_that_do_not_speak_http_are_refused(answer):
    refusal, _ = fetched({"/a.png": answer})
    assert isinstance(refusal, MediaRefused) and refusal.reason == "unreachable"
    assert "SSH" not in str(refusal)


@pytest.mark.parametrize(
    "status", ["404 Not Found", "401 Unauthorized", "206 Partial Content", "204 No Content", "500 X"]
)
def test_other_statuses_are_refused_without_their_body(status):
    refusal, _ = fetched({"/a.png": reply(b"the inner secret", status=status)})
    assert refusal.reason == "status" and status.split()[0] in str(refusal) and "secret" not in str(refusal)


POLYGLOTS = {
    "html called PNG": b"<!doctype html><script>secret</script>" + png(),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "svg of entities": b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaa">]><svg>&a;</svg>',
    "zip": b"PK\x03\x04" + bytes(600),
    "pdf": b"%PDF-1.7\n" + png(),
    "postscript, for Pillow's Ghostscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a playlist, which would open further addresses": b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/\n",
    "audio": b"fLaC" + bytes(600),
    "audio in a container of pictures": b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(600),
    "ogg": b"OggS" + bytes(600),
    "instance credentials": b'{"AccessKeyId": "secret"}',
    "nothing": b"",
}


@pytest.mark.parametrize("body", POLYGLOTS.values(), ids=POLYGLOTS.keys())
def test_content_decides_what_something_is(body):
    refusal, _ = fetched({"/a.png": reply(body, headers=("Content-Type: image/png",))})
    by_uri = refused(data_uri(body))
    for error in (refusal, by_uri):
        assert error.reason == "type" and "secret" not in str(error)


def test_another_kind_is_given_up_on_after_its_first_bytes():
    refusal, _ = fetched({"/a.png": endless(b"<!doctype html>" * 100)}, total_timeout=5.0)
    assert refusal.reason == "type"


def test_a_picture_with_an_archive_behind_it_is_the_picture_alone():
    polyglot = png() + b"PK\x03\x04" + bytes(100)
    data, _ = fetched({"/a.png": reply(polyglot)})
    assert (open_image(data).width, open_image(data).height) == (8, 8)


@pytest.mark.parametrize("size", [(100_000, 100_000), (40_000, 1), (2**31 - 1, 2**31 - 1), (8192, 8192)])
def test_pixels_are_counted_by_the_header_before_any_is_decoded(size):
    refusal = refused(data_uri(claiming(*size)))
    assert refusal.reason == "too_large" and "is too large" in refusal.what


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n", claiming(0, 5), b"\xff\xd8\xff" + bytes(50), b"GIF89a", b"II*\x00"]
)
def test_damaged_headers_are_refused(data):
    assert refused(data_uri(data)).reason == "type"


def test_videos_are_taken_where_one_is_asked_for():
    head = b"\x00\x00\x00\x18ftypmp42" + bytes(600)
    data, _ = fetched({"/a.png": reply(head)}, kind="video")
    assert data == head
    assert refused(data_uri(head)).reason == "type"
    assert refused(data_uri(png()), kind="video").reason == "type"
    assert refused(data_uri(head), kind="video", max_video_bytes=100).reason == "too_large"


def test_opening_holds_to_the_same_policy():
    limits = MediaPolicy(max_pixels=100, max_frames=5).limits
    assert isinstance(limits, MediaLimits) and limits.max_frames == 5
    with pytest.raises(FoveateError, match="max_pixels"):
        open_image(png(11, 11), limits=limits)


# -- data: and file: -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("data:image/png;base64", "malformed"),
        ("data:image/png,rawbytes", "malformed"),
        ("data:;base64 ,AAAA", "malformed"),
        ("data:image/png;base64;base64,AAAA", "malformed"),
        (f"data:image/{'x' * 1000};base64,AAAA", "malformed"),
        ("data:image/png;base64,AAA", "encoding"),
        ("data:image/png;base64,AA==AA==", "encoding"),
        ("data:image/png;base64,AA A", "encoding"),
        ("data:image/png;base64,AAAA\n", "encoding"),
        ("data:image/png;base64,AA-_", "encoding"),
        ("data:image/png;base64,====", "encoding"),
        ("data:image/png;base64,AAAé", "encoding"),
        ("data:image/png;base64,%41%41%41%41", "encoding"),
        ("data:image/png;base64," + "A" * 4000, "too_large"),
    ],
)
def test_data_uris_are_read_strictly(uri, reason):
    assert refused(uri, max_bytes=1000).reason == reason


def test_the_size_of_a_data_uri_is_known_before_it_is_decoded(monkeypatch):
    def decoded(*_args, **_kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr("foveate.serve.safety.data_uri.binascii.a2b_base64", decoded)
    assert refused("data:image/png;base64," + "A" * 2000, max_bytes=1000).reason == "too_large"


def test_files_come_from_the_media_folder_alone(tmp_path):
    inside, outside = tmp_path / "media", tmp_path / "media-secret"
    inside.mkdir(), outside.mkdir()
    (inside / "a b.png").write_bytes(png())
    (outside / "b.png").write_bytes(png())
    (inside / "link.png").symlink_to(outside / "b.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    (inside / "folder.png").mkdir()
    policy = {"media_folder": inside}
    fetcher = MediaFetcher(MediaPolicy(**policy))
    assert asyncio.run(fetcher.fetch(f"file://{inside}/a%20b.png")) == png()
    told = set()
    for path in ("/../media-secret/b.png", "/%2e%2e/media-secret/b.png", "/link.png", "/loop.png", "/folder.png",
                 "/missing.png", "/a%00.png", "/%ff.png", "", "/a b.png?x"):  # fmt: skip
        refusal = refused(f"file://{inside}{path}", **policy)
        assert refusal.reason == "file"
        told.add(refusal.why)
    assert refused(f"file://other.example{inside}/a b.png", **policy).reason == "file"
    assert refused("file:///etc/passwd", **policy).why in told and len(told) == 1  # no telling what there is
    assert refused(f"file://{inside}/a%20b.png", max_bytes=10, **policy).reason == "too_large"
    assert refused(f"file://{inside}/a%20b.png").reason == "file"  # off unless a folder is named


# -- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"max_bytes": 0},
        {"max_pixels": float("nan")},
        {"total_timeout": 0.0},
        {"read_timeout": float("inf")},
        {"max_redirects": -1},
        {"schemes": ("htps",)},
        {"schemes": ("file",)},
        {"allowed_domains": "pictures.example"},
        {"private_networks": ("10.0.0.1/8",)},
        {"private_networks": ("everything",)},
    ],
)
def test_settings_that_cannot_be_enforced_are_errors(settings):
    with pytest.raises(SafetySettingsError):
        MediaPolicy(**settings)


def test_refused_networks_are_refused_though_public():
    assert refused("https://1.1.1.1/", refused_networks=("1.1.1.0/24",)).reason == "address"
    assert refused("https://[::ffff:1.1.1.1]/", refused_networks=("1.1.1.0/24",)).reason == "address"


def test_at_most_so_many_fetches_run_at_once():
    running, most = 0, 0

    async def resolver(host: str, port: int):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return ()

    async def run():
        async with MediaFetcher(MediaPolicy(max_concurrent=2), resolver=resolver, tls=TRUST) as fetcher:
            urls = (f"https://{number}.example/" for number in range(8))
            return await asyncio.gather(*(fetcher.fetch(f"{url}a") for url in urls), return_exceptions=True)

    assert all(isinstance(error, MediaRefused) for error in asyncio.run(run())) and most == 2


def test_every_reason_is_explained():
    import inspect

    from foveate.serve.safety import content, data_uri, fetch, folder, location

    text = "".join(inspect.getsource(module) for module in (content, data_uri, fetch, folder, location))
    assert all(f'"{reason}"' in text for reason in REASONS)
