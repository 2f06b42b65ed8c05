"""What the engine is asked to do for one request.

Owns the record only; `front.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foveate.engine import SamplingParameters, VisualBudget

if TYPE_CHECKING:
    from foveate.models.records import Prompt


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the engine is to do for one request.

    Attributes:
        prompt: messages for `model.prepare`, pictures as bytes; or a prompt that is prepared.
        tenant: requests of different tenants never share cached prefixes.
    """

    prompt: Sequence[dict[str, Any]] | Prompt
    parameters: SamplingParameters
    visual: VisualBudget | None = None
    priority: int = 0
    tenant: str = ""
