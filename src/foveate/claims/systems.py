"""The published systems that Foveate works on, and where each stands here.

Owns the list. A title or number is given only where it was checked against the paper or several bibliographies; what
was not is None. States come from recorded results, never from this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foveate.claims import registry, results

NOT_BUILT = "not built yet"
NO_CLAIM = "no claim yet"
RUNNING = "running"  # a claim is there, no result is recorded yet
STALE = "stale"  # the result was made by other claim code


@dataclass(frozen=True, kw_only=True)
class System:
    """One published system.

    Attributes:
        about: what it does, in a few words of ours.
        room: the package of Foveate that it belongs to.
        file: where its mechanism is built, relative to the package; None until it is.
    """

    name: str
    about: str
    room: str
    file: str | None = None
    title: str | None = None
    arxiv: str | None = None
    year: int | None = None


def _system(
    name: str,
    about: str,
    room: str,
    *,
    file: str | None = None,
    title: str | None = None,
    arxiv: str | None = None,
    year: int | None = None,
) -> System:
    if year is None and arxiv is not None:
        year = 2000 + int(arxiv[:2])
    return System(name=name, about=about, room=room, file=file, title=title, arxiv=arxiv, year=year)


SYSTEMS: tuple[System, ...] = (
    _system("EmbodiedMidtrain", "picks mid-training data by closeness to robot data", "curate"),
    _system("TokenFLEX", "one projector for any number of visual tokens", "train"),
    _system(
        "UniFusion",
        "conditions image generation on pooled layers of a frozen model",
        "create",
        title="UniFusion: Vision-Language Model as Unified Encoder in Image Generation",
        arxiv="2510.12789",
    ),
    _system(
        "SpecVLM",
        "drafts tokens with a small model trained online",
        "decode",
        file="decode/heads/draft.py",
        title="SpecVLM: Fast Speculative Decoding in Vision-Language Models",
        arxiv="2509.11815",
    ),
    _system(
        "Workload-Router-Pool",
        "routes requests over pools of models by their signals",
        "route",
        title="The Workload-Router-Pool Architecture for LLM Inference Optimization",
        arxiv="2603.21354",
    ),
    _system(
        "HiRED",
        "divides a token budget among tiles by attention",
        "reduce",
        file="reduce/methods/hired.py",
        title="HiRED: Attention-Guided Token Dropping for Efficient Inference of High-Resolution "
        "Vision-Language Models",
        arxiv="2408.10945",
    ),
    _system(
        "StreamingVLM",
        "watches endless video with sinks and a window",
        "decode",
        file="decode/streaming/session.py",
        title="StreamingVLM: Real-Time Understanding for Infinite Video Streams",
        arxiv="2510.09608",
    ),
    _system(
        "FasterVLM",
        "keeps the patches that the encoder's CLS token attends to",
        "reduce",
        file="reduce/methods/fastervlm.py",
        title="[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster",
        arxiv="2412.01818",
    ),
    _system(
        "xLLM",
        "serves with separate stages, continuous batching and shared caches",
        "engine",
        file="engine/scheduler.py",
        title="xLLM Technical Report",
        arxiv="2510.14686",
    ),
    _system(
        "VPBench",
        "shows how drawn markers move benchmark ranks",
        "evaluate",
        file="evaluate/perturb/markers.py",
        title="Visually Prompted Benchmarks Are Surprisingly Fragile",
        arxiv="2512.17875",
    ),
    _system(
        "GFlowVLM",
        "fine-tunes with flow objectives for diverse solutions",
        "train",
        title="GFlowVLM: Enhancing Multi-step Reasoning in Vision-Language Models with Generative Flow Networks",
        arxiv="2503.06514",
    ),
    _system("SynSpill", "adapts to rare anomalies with synthetic pairs", "train"),
    _system(
        "Dream-VL/VLA",
        "answers and acts by discrete diffusion",
        "decode",
        title="Dream-VL & Dream-VLA: Open Vision-Language and Vision-Language-Action Models with Diffusion "
        "Language Model Backbone",
        arxiv="2512.22615",
    ),
    _system(
        "QueCC",
        "compresses to a few tokens by the question; a scaling law of tokens and parameters",
        "evaluate",
        file="evaluate/scaling.py",
        title="Inference Optimal VLMs Need Fewer Visual Tokens and More Parameters",
        arxiv="2411.03312",
    ),
    _system(
        "DPN",
        "pools visual tokens inside the language model, as a router says",
        "train",
        title="Dynamic Pyramid Network for Efficient Multimodal Large Language Model",
        arxiv="2503.20322",
    ),
    _system(
        "QQT",
        "scaling laws that say how strictly to filter data",
        "curate",
        title="Scaling Laws for Data Filtering: Data Curation cannot be Compute Agnostic",
        arxiv="2404.07177",
    ),
    _system("compact judges", "filters image and text pairs with a small judge model", "curate"),
    _system(
        "Verbose Images",
        "pictures that make a model answer at length",
        "route",
        title="Inducing High Energy-Latency of Large Vision-Language Models with Verbose Images",
        arxiv="2401.11170",
    ),
    _system("remote sensing", "a survey of models for pictures from above", "evaluate"),
    _system(
        "FastVLM",
        "a hybrid encoder with few tokens at high resolution",
        "models",
        title="FastVLM: Efficient Vision Encoding for Vision Language Models",
        arxiv="2412.13303",
    ),
    _system(
        "detection and segmentation review",
        "scenarios in which models detect and segment",
        "evaluate",
        title="Vision-Language Model for Object Detection and Segmentation: A Review and Evaluation",
        arxiv="2504.09480",
    ),
    _system(
        "OLA-VLM",
        "distils expert embeddings into the language model's layers",
        "train",
        title="OLA-VLM: Elevating Visual Perception in Multimodal LLMs with Auxiliary Embedding Distillation",
        arxiv="2412.09585",
    ),
    _system("E-ViLM", "a light video model that predicts semantic codes of masked regions", "train"),
    _system("UniEdit-I", "edits by understanding, editing and verifying in turns", "create"),
    _system(
        "AQuA",
        "asks back when a question is ambiguous",
        "evaluate",
        file="evaluate/tasks/aqua.py",
        title="AQuA: Toward Strategic Response Generation for Ambiguous Visual Questions",
        arxiv="2603.07394",
    ),
    _system(
        "tree search for 3D scenes",
        "places furniture by a search that a model guides",
        "create",
        title="Global-Local Tree Search in VLMs for 3D Indoor Scene Generation",
        arxiv="2503.18476",
    ),
    _system(
        "InfiniteVL",
        "mixes linear and sparse attention for input without end",
        "models",
        title="InfiniteVL: Synergizing Linear and Sparse Attention for Highly-Efficient, Unlimited-Input "
        "Vision-Language Models",
        arxiv="2512.08829",
    ),
    _system(
        "REF-VLM",
        "refers to objects by triplets that decoders read",
        "train",
        title="REF-VLM: Triplet-Based Referring Paradigm for Unified Visual Decoding",
    ),
    _system(
        "TokenPacker",
        "a projector whose coarse queries look at fine regions",
        "train",
        title="TokenPacker: Efficient Visual Projector for Multimodal LLM",
        arxiv="2407.02392",
    ),
    _system(
        "LLMC+",
        "compares ways to compress tokens and weights",
        "evaluate",
        title="LLMC+: Benchmarking Vision-Language Model Compression with a Plug-and-play Toolkit",
        arxiv="2508.09981",
    ),
    _system(
        "RLRF",
        "learns SVG from how its drawings render",
        "train",
        title="Rendering-Aware Reinforcement Learning for Vector Graphics Generation",
        arxiv="2505.20793",
    ),
    _system("Giraffe", "extends a model's context to long videos", "train"),
    _system("dLLM-Serve", "serves diffusion language models within memory", "decode"),
    _system(
        "BridgeVLA",
        "acts in 3D through heat maps over views",
        "act",
        title="BridgeVLA: Input-Output Alignment for Efficient 3D Manipulation Learning with Vision-Language Models",
        arxiv="2506.07961",
    ),
    _system(
        "VLM-RL",
        "rewards driving by contrasting language goals",
        "train",
        title="VLM-RL: A Unified Vision Language Models and Reinforcement Learning Framework for Safe "
        "Autonomous Driving",
        arxiv="2412.15544",
    ),
    _system("Comp-LoRA", "adapts in the complement of the weights' main directions", "train"),
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one system stands: its claims and, in the same order, the state of each."""

    system: System
    claims: tuple[str, ...]
    states: tuple[str, ...]

    @property
    def state(self) -> str:
        """All states in a few words, each once."""
        return ", ".join(dict.fromkeys(self.states))


def claim_state(name: str, folder: Path) -> str:
    """A claim's verdict as recorded, or that it runs still, or that its code has changed since."""
    result = results.read(folder, name)
    if result is None:
        return RUNNING
    return STALE if results.is_stale(result, registry.get(name)) else str(result["verdict"]["outcome"])


def standings(folder: Path) -> list[Standing]:
    """Every system with the state of its claims, read from recorded results."""
    rows = []
    for system in SYSTEMS:
        claims = tuple(registry.of_system(system.name))
        states = tuple(claim_state(name, folder) for name in claims)
        if not claims:
            states = (NOT_BUILT if system.file is None else NO_CLAIM,)
        rows.append(Standing(system=system, claims=claims, states=states))
    return rows
