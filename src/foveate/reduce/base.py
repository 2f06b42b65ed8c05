"""The contract of every reducer, and all of its work that must not differ between methods.

Owns planning, batching, tiles, gathering, merging, invariants and names for caches. A method answers one
question, `choose` (or `score`): which k of these n tokens, and what goes into them. It cannot override the
rest: `__init_subclass__` refuses. Knows no language model: prompts and positions are in `prompt.py`.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, final

import torch

from foveate.errors import ReductionError
from foveate.models.parts.salience import TowerRequest
from foveate.models.records import MediaFeatures, VisualGrid
from foveate.reduce.budget import Budget, Plan
from foveate.reduce.gathering import combine, gather_problems, scatter_choices
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.layout import TokenLayout, layout_of
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import top_k, top_k_within
from foveate.reduce.tiles import salience_quotas, uniform_quotas
from foveate.reduce.tokens import Choice, Tokens

PositionMode = Literal["keep", "repack"]
TileRule = Literal["whole", "uniform", "salience"]


@dataclass(frozen=True, kw_only=True)
class ReducerConfig:
    """Settings of every method; a method adds its own in a subclass.

    Attributes:
        positions: "keep" leaves survivors where they stood, "repack" closes the gaps; "default" is the
            method's own for 1-D positions and "keep" for M-RoPE.
        tiles: how tiles share the budget: "whole" (they do not: one set), "uniform", "salience" (HiRED's
            rule), or "default", the method's own.
        alpha: the overview's share of the budget where tiles share it by salience.
        column_fallback: lets a method that wants a CLS row score with the column mean where there is none.
    """

    positions: Literal["default", "keep", "repack"] = "default"
    tiles: Literal["default", "whole", "uniform", "salience"] = "default"
    alpha: float = 0.5
    column_fallback: bool = False

    def __post_init__(self) -> None:
        require("positions", self.positions, ("default", "keep", "repack"))
        require("tiles", self.tiles, ("default", "whole", "uniform", "salience"))
        if not 0 <= self.alpha <= 1:
            raise ReductionError(f"alpha is {self.alpha}", why="it is a share, from 0 to 1")


def require(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a word that is not among those allowed."""
    if value not in allowed:
        raise ReductionError(f"{name} is {value!r}", why=f"it can be {', '.join(allowed)}")


class Reducer(abc.ABC):
    """Keeps k of the visual tokens of each image.

    A subclass declares `name`, `needs`, maybe `Config`, `default_tiles` and `repacks`, and defines `choose`.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs()
    Config: ClassVar[type[ReducerConfig]] = ReducerConfig
    default_tiles: ClassVar[TileRule] = "uniform"
    tile_rules: ClassVar[tuple[TileRule, ...]] = ("whole", "uniform", "salience")  # that it can work under
    repacks: ClassVar[bool] = True  # what the authors' code does with 1-D positions
    stage: ClassVar[str] = "before the language model"
    version: ClassVar[int] = 1  # part of the name for caches: raise it when the rule's outcome changes
    sealed: ClassVar[frozenset[str]] = frozenset(
        ("plan", "select", "select_batch", "apply", "cache_key", "check", "request", "position_mode")
    )

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        inherited = frozenset().union(*(base.__dict__.get("sealed", ()) for base in cls.__mro__[1:]))
        broken = sorted(inherited & cls.__dict__.keys())
        if broken:
            raise ReductionError(
                f"The reducer {cls.__name__} overrides {', '.join(broken)}",
                why="plans, gathering, invariants and cache names are the same for every method",
                fix="Define choose (or score) and leave the rest to the base class.",
            )

    def __init__(self, config: ReducerConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()
        if self.tile_rule not in self.tile_rules:
            raise ReductionError(
                f"The method {self.name} cannot share tiles by the rule {self.tile_rule!r}",
                why="it works on the raster of one tile at a time"
                if self.tile_rule == "whole"
                else "how many tokens its rasters give must be known before the tower has looked",
                fix=f"It can: {', '.join(self.tile_rules)}.",
            )

    # -- what a method answers ---------------------------------------------------------------------------

    @abc.abstractmethod
    def choose(self, tokens: Tokens, k: int) -> Choice:
        """Which k of each set of n tokens stay, 1 <= k <= n; no loop over tokens, no wait for the device.

        A method that defines `fit` keeps fit(rows, cols, k) of them.
        """

    def fit(self, rows: int, cols: int, k: int) -> int:
        """How many of at most k tokens a tile of rows x cols can be cut to; grids cannot give every number."""
        return k

    def refusal(self, grid: VisualGrid, kept: int) -> ReductionError | None:
        """Why the rule has no meaning for `kept` tokens of such a grid; None where it has one."""
        return None

    # -- before encoding ---------------------------------------------------------------------------------

    @property
    def tile_rule(self) -> TileRule:
        """How tiles share the budget."""
        return self.default_tiles if self.config.tiles == "default" else self.config.tiles

    @property
    def required(self) -> Needs:
        """`needs` under these settings."""
        needs = self.needs
        if needs.salience == "cls" and self.config.column_fallback:
            needs = replace(needs, salience="any")
        if needs.salience is None and self.tile_rule == "salience":
            needs = replace(needs, salience="any")
        return needs

    @final
    def check(self, model: Any) -> None:
        """Refuses a model whose tower cannot give what the method needs.

        Raises:
            ReductionError: with the reason and the nearest methods that work there.
        """
        from foveate.reduce.registry import methods_for

        plain = model.plain_decoder if self.required.language else True
        missing = self.required.missing(model.salience_kind, model.resizes, plain_decoder=plain)
        if missing:
            others = ", ".join(methods_for(model.salience_kind, model.resizes, near=self.name)[:3])
            fallback = (
                " or allow the column mean with column_fallback=True" if self.needs.salience == "cls" else ""
            )
            raise ReductionError(
                f"The method {self.name} cannot reduce images of {model.ref} ({model.family})",
                why=missing,
                fix=f"Use {others}{fallback}.",
            )

    @final
    def request(self) -> TowerRequest:
        """What `VisionLanguageModel.encode` must listen to."""
        needs = self.required
        return TowerRequest(salience=needs.salience is not None, shallow=needs.shallow, keys=needs.keys)

    @final
    def plan(
        self, grid: VisualGrid, budget: Budget | str | int, *, question: str = "", edges: float | None = None
    ) -> Plan:
        """How many tokens of an image will be kept, before it is encoded.

        Separators go as soon as one token goes, so between "all that show the picture" and N there is nothing.

        Raises:
            ReductionError: the budget cannot be read, asks for more than the image has, or for so few that the
                method has no answer.
        """
        plan = Budget.parse(budget).plan(grid.tokens, question=question, edges=edges)
        if plan.is_full:
            return plan
        layout = layout_of(grid)
        kept, reason = plan.kept, plan.reason
        if kept > layout.count:
            kept = layout.count
            reason += f"; {grid.tokens - layout.count} separators are dropped"
        fitting = self._fitting(layout, kept)
        if fitting != kept:
            reason += f"; {self.name} cuts this grid to {fitting} of at most {kept}"
        if refused := self.refusal(grid, fitting):
            raise refused
        return replace(plan, kept=fitting, ceiling=kept, reason=reason)

    def _fitting(self, layout: TokenLayout, kept: int) -> int:
        if type(self).fit is Reducer.fit:
            return kept
        sizes = tuple(tile.tokens for tile in layout.tiles)
        quotas = uniform_quotas(sizes, kept)
        if self.stage == "input":  # the frames of a video are made smaller alike
            quotas = (kept // len(sizes),) * len(sizes)
        return sum(
            self.fit(tile.rows, tile.cols, quota) for tile, quota in zip(layout.tiles, quotas, strict=True)
        )

    @final
    def position_mode(self, *, m_rope: bool) -> PositionMode:
        """Whether survivors keep their positions or close the gaps."""
        if self.config.positions != "default":
            return self.config.positions
        return "keep" if m_rope or not self.repacks else "repack"

    @final
    def cache_key(self, plan: Plan, *, question: str = "") -> str:
        """What must be in the name of cached features and prefixes beside picture and processing.

        The same for every budget that comes to the same plan; "full" for plans that drop nothing.
        """
        if plan.is_full:
            return "full"
        settings = ",".join(f"{name}={value}" for name, value in sorted(asdict(self.config).items()))
        key = f"{self.name}.{self.version}({settings})@{plan.ceiling}"
        if self.required.question:
            key += f"?{hashlib.sha256(question.encode()).hexdigest()[:32]}"
        return key

    # -- after encoding ----------------------------------------------------------------------------------

    @final
    def select(self, item: MediaFeatures, plan: Plan, *, question: str = "") -> KeepMap:
        """Which tokens of one image stay."""
        return self.select_batch([item], [plan], questions=[question])[0]

    @final
    @torch.inference_mode()
    def select_batch(
        self, items: Sequence[MediaFeatures], plans: Sequence[Plan], *, questions: Sequence[str] = ()
    ) -> list[KeepMap]:
        """The same for many images; those of one grid and plan are computed together.

        The choice for an item depends on that item alone, never on its neighbours in the batch.
        """
        questions = questions or [""] * len(items)
        groups: dict[Any, list[int]] = {}
        for index, (item, plan) in enumerate(zip(items, plans, strict=True)):
            assert plan.total == item.grid.tokens, f"a plan for {plan.total} tokens meets {item.grid.tokens}"
            signature = (item.grid, plan, item.features.device, item.features.dtype)
            groups.setdefault(signature, []).append(index)
        maps: dict[int, KeepMap] = {}
        for (grid, plan, device, _), indices in groups.items():
            chosen = [items[index] for index in indices]
            if plan.is_full:
                full = KeepMap.full(grid, method=self.cache_key(plan), asked=plan.asked, device=device)
                maps.update((index, full) for index in indices)
                continue
            found = self._select_group(chosen, plan, [questions[index] for index in indices])
            maps.update(zip(indices, found, strict=True))
        return [maps[index] for index in range(len(items))]

    def _select_group(
        self, items: Sequence[MediaFeatures], plan: Plan, questions: Sequence[str]
    ) -> list[KeepMap]:
        """Items of one grid, one plan."""
        grid, device = items[0].grid, items[0].features.device
        layout = layout_of(grid, device)
        rule = self.tile_rule if len(layout.tiles) > 1 else "whole"
        whole = gather_problems(items, layout, self.required, questions, None)
        if rule == "whole":
            problems = [(whole, self.choose(whole.tokens, plan.ceiling))]
        else:
            quotas = self._quotas(rule, grid, layout, whole.tokens, plan.ceiling)
            if isinstance(self, ScoringReducer):
                scores = self.score(whole.tokens)
                kept = top_k_within(scores, layout.tile, quotas, plan.kept)
                problems = [(whole, Choice(kept=kept, scores=scores))]
            else:
                problems = self._choose_by_tile(items, layout, questions, rule, quotas)
        return scatter_choices(
            problems, layout, grid=grid, plan=plan, method=self.cache_key(plan), stage=self.stage
        )

    def _quotas(
        self, rule: TileRule, grid: VisualGrid, layout: TokenLayout, tokens: Tokens, kept: int
    ) -> torch.Tensor:
        """[B, T] how many tokens each tile keeps."""
        if rule == "salience":
            guide = tokens.shallow if tokens.shallow is not None else tokens.needed_salience()
            return salience_quotas(grid, layout, guide, kept, self.config.alpha)
        sizes = tuple(tile.tokens for tile in layout.tiles)
        return torch.tensor(uniform_quotas(sizes, kept), device=tokens.device).expand(tokens.batch, -1)

    def _choose_by_tile(
        self,
        items: Sequence[MediaFeatures],
        layout: TokenLayout,
        questions: Sequence[str],
        rule: TileRule,
        quotas: torch.Tensor,
    ) -> list[Any]:
        """Tiles of one shape and quota are one batch; quotas by salience are read back once a batch."""
        rows = quotas.tolist() if rule == "salience" else [quotas[0].tolist()] * len(items)
        groups: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        for item, row in enumerate(rows):
            for tile, quota in enumerate(row):
                shape = layout.tiles[tile]
                if quota:
                    groups.setdefault((shape.rows, shape.cols, quota), []).append((item, tile))
        problems = []
        for (_, _, quota), members in groups.items():
            problem = gather_problems(items, layout, self.required, questions, members)
            problems.append((problem, self.choose(problem.tokens, quota)))
        return problems

    @final
    def apply(self, item: MediaFeatures, keep: KeepMap) -> MediaFeatures:
        """The image with its kept tokens alone, deepstack levels too; a full keep-map returns the item itself.

        The result's `grid` is that of the image before reduction: where tokens stood is read from it.
        """
        assert keep.grid == item.grid, "a keep-map of another image"
        if keep.is_full:
            return item
        return MediaFeatures(
            features=combine(item.features, keep),
            grid=item.grid,
            deepstack=tuple(combine(level, keep) for level in item.deepstack),
            digest=item.digest,
        )


class ScoringReducer(Reducer):
    """A method that is a ranking: the k largest scores stay, of equal ones the lowest id."""

    sealed: ClassVar[frozenset[str]] = frozenset(("choose",))

    @abc.abstractmethod
    def score(self, tokens: Tokens) -> torch.Tensor:
        """[B, n] float32."""

    @final
    def choose(self, tokens: Tokens, k: int) -> Choice:
        scores = self.score(tokens)
        return Choice(kept=top_k(scores, k), scores=scores)
