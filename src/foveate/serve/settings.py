"""Settings of one server, checked when they are made; the flags and variables of `foveate serve` are made of them.

Owns names, defaults, ranges and the line that explains each. Knows no HTTP and no model.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeSettingsError(FoveateError):
    """Server settings that cannot work."""


def setting(default: Any, help: str, *, metavar: str | None = None) -> Any:
    """A field with the line that `foveate serve --help` and the docs show."""
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a server listens, what it lets in, and what a request gets that does not say.

    The help of each field stands beside it.

    Raises:
        ServeSettingsError: a value outside its range, naming both.
    """

    host: str = setting(
        "127.0.0.1", "Address to listen on; others than loopback are reachable by others.", metavar="ADDRESS"
    )
    port: int = setting(8000, "Port to listen on; 0 takes a free one.", metavar="PORT")
    model_name: str = setting("", "Name of the model in the API; else its reference.", metavar="NAME")
    visual_budget: str = setting(
        "full", "Visual tokens of each picture: full, auto, N or 25%; a request may say.", metavar="BUDGET"
    )
    reducer: str = setting(
        "fastervlm", "How they are chosen, where a request does not say.", metavar="METHOD"
    )
    max_queue: int = setting(
        128, "Requests that may wait beside those that run; the next gets 429.", metavar="N"
    )
    max_output_tokens: int = setting(8192, "Most tokens that a request may ask for.", metavar="N")
    default_max_tokens: int = setting(
        1024, "Longest answer in tokens where a request does not say.", metavar="N"
    )
    max_images: int = setting(16, "Pictures in one request.", metavar="N")
    max_video_frames: int = setting(
        64, "Frames of all videos in one request, where the model reads videos.", metavar="N"
    )
    file_store_bytes: int = setting(
        256 * 2**20, "Uploaded pictures kept in memory; the oldest make room.", metavar="BYTES"
    )
    file_store_seconds: int = setting(86_400, "How long one is kept.", metavar="SECONDS")
    max_body_bytes: int = setting(64 * 2**20, "Largest request in bytes.", metavar="BYTES")
    drain_seconds: float = setting(
        30.0, "After SIGTERM, how long requests in flight may go on.", metavar="SECONDS"
    )
    api_key_file: Path | None = setting(  # noqa: RUF009 - its default is None
        None, "File of hashed API keys; with it every request needs one.", metavar="FILE"
    )
    media_domains: tuple[str, ...] = setting(
        (), "Only fetch pictures from these hosts. Repeatable.", metavar="HOST"
    )
    media_folder: Path | None = setting(  # noqa: RUF009 - its default is None
        None, "Let requests name files in this folder (file://).", metavar="FOLDER"
    )
    allowed_hosts: tuple[str, ...] = setting(
        (), "Names under which the server may be called, beside its address. Repeatable.", metavar="NAME"
    )
    allowed_origins: tuple[str, ...] = setting(
        (), "Web origins whose pages may call the API. Repeatable.", metavar="ORIGIN"
    )
    output_watch: bool = setting(
        True, "End answers that go in circles or run on like noise; cap pictures that cause long ones."
    )
    playground: bool = setting(True, "Serve the playground at /.")

    def __post_init__(self) -> None:
        checks = (
            ("port", 0 <= self.port <= 65535, "0 to 65535"),
            ("max_queue", self.max_queue >= 0, "0 or more"),
            ("max_output_tokens", self.max_output_tokens >= 1, "1 or more"),
            (
                "default_max_tokens",
                1 <= self.default_max_tokens <= self.max_output_tokens,
                f"1 to max_output_tokens ({self.max_output_tokens})",
            ),
            ("max_images", self.max_images >= 0, "0 or more"),
            ("max_video_frames", self.max_video_frames >= 0, "0 or more"),
            ("file_store_bytes", self.file_store_bytes >= 0, "0 or more"),
            ("file_store_seconds", self.file_store_seconds >= 1, "1 or more"),
            ("max_body_bytes", self.max_body_bytes >= 1024, "1024 or more"),
            ("drain_seconds", 0 <= self.drain_seconds < float("inf"), "0 or more"),
            ("allowed_origins", "*" not in self.allowed_origins, "origins by name: * would let any page in"),
        )
        for name, valid, allowed in checks:
            if not valid:
                flag = f"--{name.replace('_', '-')}"
                raise ServeSettingsError(
                    f"{flag} is {getattr(self, name)}",
                    why=f"it must be {allowed}",
                    fix="Correct the setting.",
                )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK or self.host.startswith("127.")


def environment_variable(name: str) -> str:
    """The variable that sets a field or flag: FOVEATE_PORT for port."""
    return f"FOVEATE_{name.upper()}"


def help_of(name: str) -> str:
    """The line that explains a field."""
    found = next(entry for entry in dataclasses.fields(ServeSettings) if entry.name == name)
    return str(found.metadata["help"])
