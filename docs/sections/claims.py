"""Published systems and their claims."""

from __future__ import annotations

from collections.abc import Callable

from foveate.claims import registry, results, systems
from foveate.claims.reporting import estimate_rows
from sections.markdown import ROOT, table

CLAIMS = ROOT / "results" / "claims"


def claims_results() -> str:
    parts = []
    for name in registry.CLAIMS:
        claim, result = registry.get(name), results.read(CLAIMS, name)
        parts.append(f"**{name}** ({claim.system}): {systems.claim_state(name, CLAIMS)}. {claim.statement}")
        if result is not None:
            header = ("quantity", "measured", "95 % interval", "margin", "met")
            parts.append(table(header, estimate_rows(result)))
            parts.append(
                f"`{result['command']}`, {len(result['seeds'])} seeds, {result['machine']['processor']}. "
                f"[Arms and plot](../results/claims/{name}.md)."
            )
    return "\n\n".join(parts)


def _reference(system: systems.System) -> str:
    title = system.title or ""
    return f"[{title}](https://arxiv.org/abs/{system.arxiv})" if system.arxiv else title


def claims_systems() -> str:
    rows = [
        (
            row.system.name,
            row.system.about,
            _reference(row.system),
            row.system.room if row.system.file is None else f"{row.system.room}: `{row.system.file}`",
            row.state,
        )
        for row in systems.standings(CLAIMS)
    ]
    return table(("system", "what it does", "paper", "room", "state here"), rows)


def claims_short() -> str:
    rows = systems.standings(CLAIMS)
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row.state, []).append(row.system.name)
    counts = [
        (state, str(len(names)), "" if state == systems.NOT_BUILT else ", ".join(names))
        for state, names in sorted(named.items(), key=lambda item: item[0] == systems.NOT_BUILT)
    ]
    return table((f"of {len(rows)} published systems", "", ""), counts)


SECTIONS: dict[str, Callable[[], str]] = {
    "claims-results": claims_results,
    "claims-short": claims_short,
    "claims-systems": claims_systems,
}
