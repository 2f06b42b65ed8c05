"""/v1/files."""

from __future__ import annotations

from typing import Literal

from foveate.serve.protocol.common import Loose


class FileObject(Loose):
    """An uploaded picture."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(Loose):
    """Those of the caller, the newest first."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: Literal[False] = False


class FileDeleted(Loose):
    """It is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
