"""Pictures on their way to an endpoint: a named codec, and what the other side decodes from it.

A hidden encoder changes what a model sees: eight adapters of lmms-eval hold a JPEG-85 encoder that no result mentions.
Here the codec is chosen by name, lossless by default, the media type follows the bytes, and a reply tells the digest of
the pixels that the encoded bytes decode to. Owns the codecs; knows no HTTP.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass

from PIL import Image

from foveate.evaluate.contract import EvaluationError
from foveate.media import open_image

DEFAULT = "png"
_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_SUBSAMPLING = {"JPEG": "4:4:4", "WEBP": "4:2:0"}  # lossy WebP knows no other


@dataclass(frozen=True, kw_only=True)
class SendingCodec:
    """How pictures are sent: "png" and "webp" without loss, "jpeg:85" and "webp:80" with a quality from 1 to 100.

    The variant "codec:jpeg-85" of `perturb` is another codec: it halves the resolution of colour too, as most programs
    do. Facts of a lossy codec tell how colour is sampled.
    """

    name: str
    kind: str
    quality: int | None

    @classmethod
    def parse(cls, text: str) -> SendingCodec:
        """The codec of this name.

        Raises:
            EvaluationError: not written as one.
        """
        found = re.fullmatch(r"(png|jpeg|webp)(?::(\d{1,3}))?", text)
        quality = int(found[2]) if found is not None and found[2] else None
        wrong_quality = quality is not None and not 1 <= quality <= 100
        if found is None or wrong_quality or (found[1] == "png") > (quality is None):
            raise EvaluationError(
                f"{text!r} is no codec for pictures",
                why="it is png, webp, or jpeg or webp with a quality from 1 to 100",
                fix="Such as: --codec png, --codec jpeg:85",
            )
        if found[1] == "jpeg" and quality is None:
            raise EvaluationError("The codec jpeg needs a quality", fix="Such as: --codec jpeg:85")
        return cls(name=text, kind=found[1].upper(), quality=quality)

    def encode(self, picture: Image.Image) -> bytes:
        """The picture's file. JPEG keeps full colour resolution, so that its quality is the only loss."""
        target = io.BytesIO()
        rgb = picture.convert("RGB")
        if self.kind == "PNG":
            rgb.save(target, "PNG", compress_level=1)
        elif self.kind == "JPEG":
            rgb.save(target, "JPEG", quality=self.quality, subsampling=0)
        elif self.quality is None:
            rgb.save(target, "WEBP", lossless=True)
        else:
            rgb.save(target, "WEBP", quality=self.quality)
        return target.getvalue()

    def facts(self, data: bytes) -> dict[str, object]:
        """What a reply tells of a picture that was sent as these bytes."""
        seen = open_image(data)
        told = {"width": seen.width, "height": seen.height, "codec": self.name, "digest": seen.digest[:16]}
        return told if self.quality is None else told | {"subsampling": _SUBSAMPLING[self.kind]}

    def uri(self, data: bytes) -> str:
        """The data: URI of encoded bytes."""
        return f"data:{_MEDIA_TYPES[self.kind]};base64,{base64.b64encode(data).decode('ascii')}"
