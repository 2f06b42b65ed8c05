"""fovea-nano's own byte-level BPE tokenizer and chat template.

Lower-case words of the world become single tokens. Capitals and digits never merge, so whatever is read off a
picture is spelt one character at a time and unseen words cost nothing special.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from foveate.world import make_example

SPECIAL_TOKENS = ("<pad>", "<bos>", "<end>", "<user>", "<assistant>", "<system>", "<image>")
VOCABULARY_SIZE = 1024

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<end>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def _corpus(scenes: int) -> list[str]:
    lines = []
    for index in range(scenes):
        for domain in ("shapes", "page"):
            example = make_example(
                domain, "train", index, questions=8, difficulty=1 + index % 3, caption="last"
            )
            lines += [text for q in example.questions() for text in (q.text, q.answer)]
    return lines


def build_tokenizer(scenes: int = 1500) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the world's own questions and answers (deterministic)."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[A-Z0-9]"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(scenes), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<end>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<assistant>", "<system>", "<image>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
