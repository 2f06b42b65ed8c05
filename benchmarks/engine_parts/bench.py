"""What is measured: the parts of the benchmark for one model in one dtype, and their sizes.

Owns which arms meet in which part, loading and warming them. Knows no command line and no result file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import models
from engine_parts import peers, serving, single_stream, throughput
from engine_parts.foveate_arm import FoveateArm, can_quantise
from engine_parts.ledger import Ledger
from engine_parts.transformers_arms import TransformersArms
from engine_parts.workload import Item, make_items

INT8_MISSING = "not measured: this version loads no int8 weights"
WARMING = 90  # seeds from here on are of short requests that are not measured


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured.

    Attributes:
        sequential_requests: of each repetition but the first, which serves all.
        arrivals: repetitions of the Poisson trace.
        decode_tokens: of one request alone.
    """

    repetitions: int = 5
    requests: int = 32
    prompt_tokens: tuple[int, int] = (20, 200)
    output_tokens: tuple[int, int] = (16, 128)
    sequential_requests: int = 4
    arrivals: int = 2
    decode_repetitions: int = 7
    decode_tokens: int = 64


FULL = Size()
QUICK = Size(
    repetitions=2,
    requests=4,
    prompt_tokens=(20, 60),
    output_tokens=(4, 12),
    sequential_requests=2,
    arrivals=1,
    decode_repetitions=2,
    decode_tokens=12,
)


class Bench:
    """One model in one dtype; arms are loaded and warmed when they are first asked for.

    Args:
        model: "smolvlm", "llava", "fovea-nano" or a folder.
        pythons: of the peers that are installed.
    """

    def __init__(
        self, model: str, dtype: str, threads: int, size: Size, pythons: dict[str, Path], ledger: Ledger
    ) -> None:
        self._model, self._dtype, self._threads = model, dtype, threads
        self.size, self.pythons, self.ledger = size, pythons, ledger
        self._open_peers: list[peers.Peer] = []

    @cached_property
    def folder(self) -> Path:
        return models.folder_of(self._model)

    @cached_property
    def foveate(self) -> FoveateArm:
        return self._warm(FoveateArm(self.folder, self._dtype))

    @cached_property
    def int8(self) -> FoveateArm:
        return self._warm(FoveateArm(self.folder, self._dtype, quantise="int8"))

    @cached_property
    def plain(self) -> TransformersArms:
        arms = TransformersArms(self.folder, getattr(torch, self._dtype))
        arms.sequential(self.items(99, count=1))
        arms.static(self.items(98, count=2), 2)
        return arms

    @cached_property
    def vllm(self) -> peers.Peer:
        return self._peer("vllm", self.folder, self.foveate)

    def items(self, seed: int, *, count: int | None = None, arm: FoveateArm | None = None) -> list[Item]:
        """Requests of this run's size."""
        tokenizer = (arm or self.foveate).model.tokenizer
        return make_items(
            count or self.size.requests,
            seed,
            lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
            prompt_tokens=self.size.prompt_tokens,
            output_tokens=self.size.output_tokens if seed < WARMING else (4, 4),
        )

    def _warm(self, arm: FoveateArm) -> FoveateArm:
        arm.all_at_once(self.items(99, count=2, arm=arm))
        return arm

    def _peer(self, name: str, folder: Path, arm: FoveateArm) -> peers.Peer:
        peer = peers.Peer(name, self.pythons[name], folder, self._dtype, self._threads)
        self._open_peers.append(peer)
        warming = self.items(99, count=2, arm=arm)
        peer.serve(warming, arm.prompts(warming))
        return peer

    def close(self) -> None:
        for peer in self._open_peers:
            peer.close()

    # -- parts -------------------------------------------------------------------------------------------

    @cached_property
    def workloads(self) -> list[list[Item]]:
        return [self.items(seed + 1) for seed in range(self.size.repetitions)]

    def throughput(self) -> dict[str, Any]:
        """All requests at once."""
        arms: dict[str, throughput.Arm] = {
            "foveate": lambda items: self.foveate.all_at_once(items),
            "sequential": lambda items: self.plain.sequential(items),
        }
        if "vllm" in self.pythons:
            arms["vllm"] = lambda items: self.vllm.serve(items, self.foveate.prompts(items))
        measured = throughput.measure(
            self.ledger,
            self.workloads,
            arms,
            lambda items, size: self.plain.static(items, size),
            sequential_requests=self.size.sequential_requests,
        )
        result = throughput.summarise(measured, self.workloads)
        about = self.vllm.about if "vllm" in self.pythons else peers.NOT_INSTALLED.format("vllm")
        return {**result, "peers": {"vllm": about}}

    def poisson(self) -> dict[str, Any]:
        """Requests that arrive at random."""
        first = self.workloads[:1]
        arms: dict[str, throughput.Arm] = {
            "foveate": lambda items: self.foveate.all_at_once(items),
            "sequential": lambda items: self.plain.sequential(items),
        }
        measured = throughput.measure(self.ledger, first, arms, None, sequential_requests=0)
        return serving.measure(
            self.ledger,
            first[0],
            len(first[0]) / measured["foveate"][0]["seconds"],
            lambda items: self.foveate.arriving(items),
            measured["sequential"][0],
            repetitions=self.size.arrivals,
        )

    def decode(self) -> dict[str, Any]:
        """One request alone."""
        items = [
            Item(question=item.question, picture=item.picture, output_tokens=self.size.decode_tokens)
            for item in self.items(50, count=self.size.decode_repetitions)
        ]
        arms: dict[str, single_stream.Alone] = {
            "foveate": lambda item: self.foveate.alone(item),
            "static cache": lambda item: self.plain.bare_loop(item, static=True),
            "dynamic cache": lambda item: self.plain.bare_loop(item, static=False),
        }
        if can_quantise():
            arms[single_stream.INT8] = lambda item: self.int8.alone(item)
        result = single_stream.decode(self.ledger, items, arms)
        return result if can_quantise() else {**result, "int8_over_full_precision": INT8_MISSING}

    def repeated_image(self) -> dict[str, Any]:
        """The same picture twice."""
        items = self.items(70, count=2 * self.size.decode_repetitions)
        pairs = [
            (
                Item(question=one.question, picture=one.picture, output_tokens=1),
                Item(question=other.question, picture=one.picture, output_tokens=1),
            )
            for one, other in zip(items[::2], items[1::2], strict=True)
        ]
        return single_stream.repeated_image(self.ledger, pairs, lambda item: self.foveate.alone(item))

    def openvino(self) -> dict[str, Any] | str:
        """LLaVA's shape, which OpenVINO GenAI serves: it refuses Idefics3."""
        if "openvino" not in self.pythons:
            return peers.NOT_INSTALLED.format("openvino")
        folder = models.make_llava()
        arm = self._warm(FoveateArm(folder, self._dtype))
        exported = peers.export_for_openvino(self.pythons["openvino"], folder)
        try:
            peer = self._peer("openvino", exported, arm)
        except peers.PeerError as error:  # bfloat16 ends it with SIGFPE on some processors
            return f"failed: {error.what}"
        arms: dict[str, throughput.Arm] = {
            "foveate": arm.all_at_once,
            "openvino": lambda items: peer.serve(items, arm.prompts(items)),
        }
        workloads = [self.items(seed + 21, arm=arm) for seed in range(self.size.repetitions)]
        measured = throughput.measure(
            self.ledger.under("llava"), workloads, arms, None, sequential_requests=0
        )
        tokenizer = arm.model.tokenizer
        result = throughput.summarise(
            measured, workloads, decode=lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
        )
        return {**result, "peers": {"openvino": peer.about}}


PARTS: dict[str, Callable[[Bench], Any]] = {
    "throughput": Bench.throughput,
    "poisson": Bench.poisson,
    "decode": Bench.decode,
    "repeated_image": Bench.repeated_image,
    "openvino": Bench.openvino,
}
