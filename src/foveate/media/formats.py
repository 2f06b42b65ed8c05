"""What a file is, decided by its first bytes and never by its name.

Owns signatures. Knows neither how to decode nor any limit. Names the common things that people pass by
mistake, so that the error says "this is a HEIC photo" and not "cannot identify".
"""

from __future__ import annotations

IMAGES = ("PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF")

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"%PDF-", "PDF document"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"\x00\x00\x01\x00", "ICO icon"),
    (b"8BPS", "Photoshop document"),
    (b"\x1a\x45\xdf\xa3", "Matroska or WebM video"),
    (b"FLV\x01", "FLV video"),
    (b"\x00\x00\x01\xba", "MPEG video"),
    (b"OggS", "Ogg file"),
    (b"ID3", "MP3 sound"),
    (b"fLaC", "FLAC sound"),
    (b"version https://git-lfs", "Git LFS pointer, not the file itself"),
)
_BRANDS = {
    b"avif": "AVIF image",
    b"avis": "AVIF image",
    b"mif1": "HEIF photo",
    b"heic": "HEIC photo",
} | dict.fromkeys((b"heix", b"hevc", b"heim", b"heis"), "HEIC photo")
_ADVICE = {
    "HEIC photo": "Convert it to JPEG or PNG.",
    "HEIF photo": "Convert it to JPEG or PNG.",
    "AVIF image": "Convert it to JPEG or PNG.",
    "SVG drawing": "Render it to PNG first.",
    "PDF document": "Render its pages to PNG first.",
    "ZIP archive": "Unpack it first.",
    "gzip archive": "Unpack it first.",
    "Git LFS pointer, not the file itself": "Run: git lfs pull",
}


def identify(head: bytes) -> str | None:
    """The kind of file that starts with `head` (the first 512 bytes are enough), or None if it is not known.

    One of `IMAGES`, or words for an error message ("MP4 or QuickTime video", "web page").
    """
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "AVI video", b"WAVE": "WAV sound"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "MP4 or QuickTime video")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "web page"
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in head[:512].lower():
        return "SVG drawing"
    return None


def advice(kind: str | None) -> str:
    """The next step for somebody who gave `kind` where an image was needed."""
    if kind is not None and "video" in kind:
        return "Open it with read_video, or save one frame as PNG."
    return _ADVICE.get(kind or "", f"Give one of {', '.join(IMAGES)}.")
