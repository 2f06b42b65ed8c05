"""Small tokenizers of every kind that a checkpoint may bring; special tokens are 0 (end) and 1 (image)."""

from __future__ import annotations

from typing import Any

import tiny
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIALS = ["<end>", "<image>"]
WORDS = ("yes", "no", "red", "green", "a", "the", "true", "null", "é", "日本", "name", "count")
SIGNS = ("{}", "[]", '"', ":", ",", "0123456789", "-.")


def byte_level() -> Any:
    """Tokens are pieces of bytes in another alphabet (GPT-2, Qwen, SmolLM)."""
    return tiny.tiny_tokenizer(("<image>",), "<end>")


def byte_fallback() -> Any:
    """SentencePiece's BPE as converted for Llama and Gemma: spaces are marked, unknown characters are bytes, and one
    space is taken off the front of what is decoded."""
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"]
    pieces += sorted({letter for word in (*WORDS, *SIGNS) for letter in word})
    pieces += [
        "es",
        "yes",
        "\u2581y",
        "\u2581yes",
        "\u2581n",
        "no",
        "\u2581no",
        "\u2581\u2581",
        '{"',
        '":',
        "日本",
    ]
    backend = Tokenizer(
        models.BPE(
            vocab={piece: place for place, piece in enumerate(dict.fromkeys(pieces))},
            merges=[("e", "s"), ("y", "es"), ("\u2581", "y"), ("\u2581", "yes"), ("n", "o"), ("日", "本")],
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _finish(backend)


def unigram() -> Any:
    """SentencePiece's unigram model without bytes (T5, XLM-R): characters that training never saw have no spelling."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[*SPECIALS, "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator([*WORDS, *SIGNS, *tiny.CORPUS], trainer)
    return _finish(backend, "<unk>")


def word_pieces() -> Any:
    """BERT's: a piece without ## begins a new word, though its text holds no space."""
    letters = sorted(set('abcdefghijklmnopqrstuvwxyz0123456789{}[]":,-'))
    pieces = [*SPECIALS, "[UNK]", *letters, *(f"##{letter}" for letter in letters), "yes", "no", "##es"]
    backend = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    backend.decoder = decoders.WordPiece(cleanup=False)
    return _finish(backend, "[UNK]")


def _finish(backend: Any, *unknown: str) -> Any:
    backend.add_special_tokens([AddedToken(name, special=True) for name in (*SPECIALS, *unknown)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", clean_up_tokenization_spaces=False
    )


KINDS = {"byte level": byte_level, "byte fallback": byte_fallback, "unigram": unigram}
