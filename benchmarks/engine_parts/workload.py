"""The requests every arm is measured on: one seed, one list, whoever serves it.

Owns texts, pictures, lengths and arrivals, and the file that hands them to other programs. Knows no engine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

PROMPT_TOKENS = (20, 200)
OUTPUT_TOKENS = (16, 128)
SIDE = 512  # pixels of every picture
VOCABULARY = """
the a this that one two three some every left right upper lower bright dark small large round square red
green blue yellow grey picture corner shape edge colour shadow line area pattern object surface border
background is are looks seems lies stands meets covers repeats fades near under above between beside
inside because while although and or but then very quite almost slightly clearly
"""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One request.

    Attributes:
        question: the text beside the picture.
        picture: seed of the picture.
        output_tokens: how many tokens to generate; the model's own end is ignored.
        arrival: seconds after the start.
    """

    question: str
    picture: int
    output_tokens: int
    arrival: float = 0.0

    @property
    def messages(self) -> list[dict[str, Any]]:
        """One turn of the user, the picture first."""
        return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.question}]}]


def make_items(
    count: int,
    seed: int,
    tokens_of: Callable[[str], int],
    *,
    prompt_tokens: tuple[int, int] = PROMPT_TOKENS,
    output_tokens: tuple[int, int] = OUTPUT_TOKENS,
) -> list[Item]:
    """Requests with lengths drawn evenly from both ranges; no two share a picture, whatever their seeds.

    Args:
        tokens_of: length of a text in the model's tokens; questions end at the first word that reaches theirs.
    """
    rng, vocabulary = random.Random(seed), VOCABULARY.split()
    items = []
    for index in range(count):
        length, words = rng.randint(*prompt_tokens), ["Describe"]
        while tokens_of(" ".join(words) + ".") < length:
            words.append(rng.choice(vocabulary))
        outputs = rng.randint(*output_tokens)
        items.append(Item(question=" ".join(words) + ".", picture=1000 * seed + index, output_tokens=outputs))
    return items


def with_poisson_arrivals(items: Sequence[Item], rate: float, seed: int) -> list[Item]:
    """The same requests arriving at random, `rate` a second on average; the first at 0."""
    rng, now, arriving = random.Random(seed), 0.0, []
    for item in items:
        arriving.append(replace(item, arrival=now))
        now += rng.expovariate(rate)
    return arriving


def picture(seed: int) -> PIL.Image.Image:
    """Soft blots of random colours, 512 x 512; another seed, another picture."""
    blots = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(blots).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)


def save(items: Sequence[Item], prompts: Sequence[str], folder: Path) -> Path:
    """Writes requests.json and the pictures for a peer; `prompts` are the texts after the chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for item, prompt in zip(items, prompts, strict=True):
        path = folder / f"{item.picture}.png"
        picture(item.picture).save(path)
        rows.append(
            {
                "prompt": prompt,
                "question": item.question,
                "image": str(path),
                "output_tokens": item.output_tokens,
            }
        )
    target = folder / "requests.json"
    target.write_text(json.dumps(rows), encoding="utf-8")
    return target
