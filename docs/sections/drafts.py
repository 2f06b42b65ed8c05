"""Draft heads: what the shipped one gives."""

from __future__ import annotations

from collections.abc import Callable

from sections.markdown import ROOT, read, table

HEAD = ROOT / "src" / "foveate" / "assets" / "fovea-nano-draft"
_KINDS = ("caption", "dialogue", "page", "grounding", "short", "all")


def draft_evaluation() -> str:
    """Tokens a pass by shape of the draft, temperature and kind of prompt."""
    rows = read("src/foveate/assets/fovea-nano-draft/evaluation.json")["rows"]
    lengths = {(row["draft"], row["temperature"], row["kind"]): row["accepted_length"] for row in rows}
    shapes = dict.fromkeys((row["draft"], row["temperature"]) for row in rows)
    prompts = {row["kind"]: row["prompts"] for row in rows}
    header = ("draft", "temperature", *(f"{kind} ({prompts[kind]})" for kind in _KINDS))
    body = [
        (draft, f"{temperature:g}", *(f"{lengths[draft, temperature, kind]:.2f}" for kind in _KINDS))
        for draft, temperature in shapes
    ]
    return table(header, body)


def draft_run() -> str:
    """What the shipped head is made of and how long it learnt."""
    recipe = read("src/foveate/assets/fovea-nano-draft/recipe.json")
    size = (HEAD / "model.safetensors").stat().st_size
    training = recipe["training"]
    objective = training["objective"]
    rows = [
        ("kind", f"{recipe['head']['kind']}, pictures {recipe['head']['visual']}"),
        ("weights", f"{size / 1e6:.1f} MB of float16 safetensors"),
        ("steps", f"{recipe['steps']:,} of {training['batch_size']} replies"),
        ("prompts", f"{_prompts(recipe):,}, each reply learnt from {training['reuse']} times"),
        (
            "tokens of replies",
            f"{recipe['reply_tokens_seen']:,}, {training['sampled']:.0%} of replies sampled",
        ),
        (
            "loss",
            f"{objective['state_weight']:g} smooth L1 of states + {objective['token_weight']:g} cross-entropy, "
            f"noise {objective['feature_noise']:g}",
        ),
        ("AdamW", f"rate {training['learning_rate']:g}, (0.9, 0.95), values clipped at {training['clip']:g}"),
    ]
    return table(("", ""), rows)


def _prompts(recipe: dict) -> int:
    training = recipe["training"]
    per_round = training["round_size"] // training["batch_size"] * training["reuse"]
    return -(-recipe["steps"] // per_round) * training["round_size"]


SECTIONS: dict[str, Callable[[], str]] = {"draft-evaluation": draft_evaluation, "draft-run": draft_run}
