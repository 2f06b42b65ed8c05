"""/v1/files: pictures uploaded once, and named by their id in later requests."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response, UploadFile

from foveate.serve.context import Context, Here
from foveate.serve.files import StoredFile
from foveate.serve.protocol.files import FileDeleted, FileList, FileObject
from foveate.serve.safety.content import byte_cap, require_content, too_large

router = APIRouter()
LONGEST_NAME = 200
# Content that no browser runs as a page of this server.
DOWNLOAD_HEADERS = {
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def _told(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.data),
        "created_at": file.created,
        "expires_at": file.expires,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


def _owner(here: Context, request: Request) -> str:
    caller = here.caller_of(request)
    return "" if caller is None else caller.name


@router.post("/v1/files", response_model=FileObject, tags=["OpenAI"])
async def upload_file(
    request: Request,
    here: Here,
    file: UploadFile,
    purpose: Annotated[Literal["vision", "user_data"], Form()],
) -> dict[str, Any]:
    """Keeps a picture for a while; its id stands for it in requests."""
    policy, shown = here.pictures.policy, "the uploaded file"
    cap = byte_cap(policy, "image")
    data = await file.read(cap + 1)
    if len(data) > cap:
        raise too_large(shown, cap, at_least=len(data))
    await asyncio.to_thread(require_content, data, "image", policy, shown)
    name = "".join(letter for letter in (file.filename or "picture") if letter.isprintable())[:LONGEST_NAME]
    return _told(here.files.add(data, name=name, purpose=purpose, owner=_owner(here, request)))


@router.get("/v1/files", response_model=FileList, tags=["OpenAI"])
async def list_files(request: Request, here: Here) -> dict[str, Any]:
    """The caller's pictures."""
    return {
        "object": "list",
        "data": [_told(file) for file in here.files.of(_owner(here, request))],
        "has_more": False,
    }


@router.get("/v1/files/{file_id}", response_model=FileObject, tags=["OpenAI"])
async def get_file(file_id: str, request: Request, here: Here) -> dict[str, Any]:
    """What is known of a picture."""
    return _told(here.files.get(file_id, owner=_owner(here, request)))


@router.get("/v1/files/{file_id}/content", response_class=Response, tags=["OpenAI"])
async def get_file_content(file_id: str, request: Request, here: Here) -> Response:
    """The picture's bytes as they were uploaded."""
    file = here.files.get(file_id, owner=_owner(here, request))
    return Response(file.data, media_type="application/octet-stream", headers=DOWNLOAD_HEADERS)


@router.delete("/v1/files/{file_id}", response_model=FileDeleted, tags=["OpenAI"])
async def delete_file(file_id: str, request: Request, here: Here) -> dict[str, Any]:
    """Forgets a picture."""
    here.files.remove(file_id, owner=_owner(here, request))
    return {"id": file_id, "object": "file", "deleted": True}
