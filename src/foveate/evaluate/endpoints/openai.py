"""Any server that speaks OpenAI's chat completions as a model to evaluate, here or far away.

Owns the request, its pace and its retries. A reply that could not be had is an error of a kind (`failures`), never an
empty answer. Knows no tasks and no run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from foveate.evaluate.contract import EvaluationError, Message, Parameters, Picture, Reply
from foveate.evaluate.endpoints.failures import (
    EndpointError,
    count_of,
    read_reply,
    text_of,
    transport_error,
)
from foveate.evaluate.endpoints.identity import ServedFingerprint
from foveate.evaluate.endpoints.pictures import DEFAULT, SendingCodec
from foveate.evaluate.load.client import only_model
from foveate.evaluate.load.settings import base_url

LONGEST_WAIT = 60.0  # seconds; a server that asks for more is asked again in another session


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """A server and how it is asked.

    Attributes:
        url: with or without /v1.
        model: its name there.
        codec: of the pictures sent; see `SendingCodec`.
        rate: requests a second at most; None is as fast as replies come.
        timeout: seconds without a byte before a request has failed.
        retries: further tries after a failure that may pass.
        backoff: seconds before the first further try, doubled each time, where the server names none.
        extra: fields of the request's body to add; null takes one out.

    Raises:
        EvaluationError: a value out of range, or a password in the address.
        LoadError: no http(s) address.
    """

    url: str
    model: str
    codec: str = DEFAULT
    rate: float | None = None
    timeout: float = 120.0
    retries: int = 4
    backoff: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        base_url(self.url)
        SendingCodec.parse(self.codec)
        if urlsplit(self.url).password is not None:
            raise EvaluationError(
                "The endpoint's address has a password in it",
                why="addresses are kept with the run",
                fix="Name the variable that holds the key with --key-from.",
            )
        checks = (
            ("rate", self.rate is None or 0 < self.rate < math.inf, "above 0"),
            ("timeout", 0 < self.timeout < math.inf, "above 0"),
            ("retries", self.retries >= 0, "0 or more"),
            ("backoff", self.backoff >= 0, "0 or more"),
        )
        for name, valid, allowed in checks:
            if not valid:
                raise EvaluationError(f"{name} is {getattr(self, name)}", why=f"it must be {allowed}")


class OpenAIModel:
    """`model = OpenAIModel(settings, key=os.environ.get("OPENAI_API_KEY"))`; close it in the end.

    Where the server tells a fingerprint of its weights and code in /v1/models, as `foveate serve` does, that is in
    `key`, and a reply under another one is refused. Other servers are known by their address alone: after changing the
    model behind the same address and name, ask without a cache.
    """

    def __init__(self, settings: EndpointSettings, *, key: str | None = None) -> None:
        self.settings = settings
        self._base = base_url(settings.url)
        self._codec = SendingCodec.parse(settings.codec)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._served = ServedFingerprint(self._base, settings.model, self._headers)
        self._client: httpx2.AsyncClient | None = None
        self._next = 0.0  # when the next request may be sent, on `time.monotonic`

    def describe(self) -> dict[str, Any]:
        """The endpoint and how pictures are sent; no key."""
        facts = {
            "kind": "endpoint",
            "name": self.settings.model,
            "url": self._base,
            "codec": self._codec.name,
        }
        return {**facts, "extra": dict(self.settings.extra)}

    def key(self, messages: Sequence[Message], parameters: Parameters) -> str:
        """See `contract.Model.key`: of the whole request, encoded pictures in it, the address and the server's
        fingerprint, which is asked for the first time.

        Raises:
            FoveateError: a picture cannot be opened.
        """
        body, _ = self._body(messages, parameters)
        served = self._served.get()
        facts = [self._base, body] if served is None else [self._base, body, served]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    async def complete(self, messages: Sequence[Message], parameters: Parameters) -> Reply:
        """See `contract.Model.complete`.

        Raises:
            EndpointError: no reply after all tries; its kind says why.
            FoveateError: a picture cannot be opened.
        """
        body, pictures = await asyncio.to_thread(self._body, messages, parameters)
        began = time.perf_counter()
        for attempt in range(self.settings.retries + 1):
            try:
                sent, data = await self._ask(body)
                break
            except EndpointError as error:
                if not error.passing or attempt == self.settings.retries:
                    raise
                if (error.retry_after or 0.0) > LONGEST_WAIT:
                    raise
                await self._hold(error.retry_after, attempt)
        now = time.perf_counter()
        self._served.check(data)
        choice, usage = data["choices"][0], data.get("usage")
        return Reply(
            text=text_of(choice["message"]),
            finish_reason=str(choice.get("finish_reason") or "stop"),
            prompt_tokens=count_of(usage, "prompt_tokens"),
            generated_tokens=count_of(usage, "completion_tokens"),
            image_tokens=count_of(usage, "image_tokens"),
            image_tokens_kept=count_of(usage, "image_tokens_kept"),
            cached_tokens=count_of(usage, "prompt_tokens_details", "cached_tokens"),
            seconds={"total": now - sent, "waited": sent - began},
            pictures=tuple(pictures),
        )

    async def close(self) -> None:
        """Closes its connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _body(
        self, messages: Sequence[Message], parameters: Parameters
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The request, and what is told of its pictures. Foveate's own fields are there only where they are set: other
        servers refuse what they do not know."""
        pictures: list[dict[str, Any]] = []
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": [self._message(message, pictures) for message in messages],
            "max_tokens": parameters.max_tokens,
            "temperature": parameters.temperature,
            "seed": parameters.seed,
            "visual_budget": parameters.visual_budget,
            "reducer": parameters.reducer,
            **self.settings.extra,
        }
        return {name: value for name, value in body.items() if value is not None}, pictures

    def _message(self, message: Message, pictures: list[dict[str, Any]]) -> dict[str, Any]:
        content = message["content"]
        if not isinstance(content, str):
            content = [self._part(part, pictures) for part in content]
            if message["role"] != "user":  # many servers take text alone from others
                content = "".join(part["text"] for part in content)
        return {"role": message["role"], "content": content}

    def _part(self, part: Mapping[str, Any], pictures: list[dict[str, Any]]) -> dict[str, Any]:
        picture = part.get("image")
        if not isinstance(picture, Picture):
            return {"type": "text", "text": part["text"]}
        data = self._codec.encode(picture.open())
        pictures.append(self._codec.facts(data))
        return {"type": "image_url", "image_url": {"url": self._codec.uri(data)}}

    async def _ask(self, body: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
        """When the request left, on `time.perf_counter`, and the reply's JSON."""
        if self._client is None:
            # As many connections as the runner asks at once; a pool of ours would only hide its queue.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
            self._client = httpx2.AsyncClient(
                headers=self._headers, timeout=self.settings.timeout, limits=limits
            )
        await self._turn()
        sent = time.perf_counter()
        try:
            response = await self._client.post(f"{self._base}/chat/completions", json=body)
        except httpx2.HTTPError as error:
            raise transport_error(error) from error
        return sent, read_reply(response)

    async def _turn(self) -> None:
        """Waits until a request may be sent: by the rate, and by what the server last asked for."""
        now = time.monotonic()
        at = max(now, self._next)
        if self.settings.rate is not None:
            self._next = at + 1 / self.settings.rate
        await asyncio.sleep(at - now)

    async def _hold(self, retry_after: float | None, attempt: int) -> None:
        """After a failure: the time that the server names holds for all requests, a backoff for this one alone."""
        if retry_after is not None:
            self._next = max(self._next, time.monotonic() + retry_after)
            return
        # Drawn, so that requests that failed together do not come back together.
        longest = min(LONGEST_WAIT, self.settings.backoff * 2**attempt)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))


def served_model(url: str, *, key: str | None = None) -> str:
    """The name of the one model that a server lists.

    Raises:
        LoadError: no server there, or it lists none or several.
    """

    async def find() -> str:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as client:
            return await only_model(client, base_url(url))

    return asyncio.run(find())
