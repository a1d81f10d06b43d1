"""The first screen of a report: claims, the figure behind each, its limit, and whether it holds.

A claim *holds* if the whole 95 % interval keeps the limit, *fails* if the whole of it breaks the
limit, and is *open* in between. Every claim that nothing was measured for says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from simscope.errors import did_you_mean
from simscope.trust.status import NOT_TESTED, is_tested, not_tested
from simscope.trust.study import AS_TRAINED, Claim

HOLDS, OPEN, FAILS = "holds", "open", "fails"


def claims_of(family: str, first_run: str, metrics: Collection[str]) -> list[Claim]:
    """What is asked of every network of a family, whatever its study claims."""
    gap, more = f"overtraining/runs/{first_run}/gap", f"accuracy/seed_range/{AS_TRAINED}"
    gain = f"null/gain/{AS_TRAINED}"
    shared = [
        Claim(claim="Other microscopes cost little accuracy, against training there",
              figure="microscopes/worst/loss", at_most=0.1),
        Claim(claim="Structures never seen cost little accuracy",
              figure="structures/worst/loss", at_most=0.1),
    ]  # fmt: skip
    if family == "localiser":
        axial = [
            Claim(claim="Axial errors of isolated emitters near the Cramér-Rao bound (ratio)",
                  figure="limit/figures/network/z_nm/ratio", at_most=1.5),
        ] if "rmse_axial_nm" in metrics else []  # fmt: skip
        return [
            Claim(claim="Finds more than local maxima do (gain in Jaccard index)",
                  figure=gain, at_least=0.01),
            Claim(claim="Errors of isolated emitters near the Cramér-Rao bound (ratio)",
                  figure="limit/figures/network/lateral/ratio", at_most=1.5),
            *axial,
            Claim(claim="The yardstick itself, maximum likelihood, is on the bound (ratio)",
                  figure="limit/figures/maximum likelihood/lateral/ratio", at_most=1.1),
            Claim(claim="Not overtrained: Jaccard index on training samples less fresh ones",
                  figure=f"{gap}/jaccard", at_most=0.02),
            Claim(claim="Seeds agree: range of the Jaccard index",
                  figure=f"{more}/jaccard", at_most=0.03),
            *shared,
            Claim(claim="Invents little on empty frames",
                  figure="empty/per_um2", at_most=0.01, unit="1/µm²"),
            Claim(claim="Stated probabilities are true (calibration error)",
                  figure="calibration/probability/expected_calibration_error", at_most=0.05),
            Claim(claim="Stated uncertainties are true (RMS of error over stated, at most)",
                  figure="calibration/uncertainty/x_nm/rms", at_most=1.2),
        ]  # fmt: skip
    if family == "regressor":
        return [
            Claim(claim="Knows more than the mean (gain in R²)", figure=gain, at_least=0.01),
            Claim(claim="Errors near the Cramér-Rao bound (ratio)",
                  figure="limit/figures/network/ratio", at_most=3.0),
            Claim(claim="Not overtrained: R² on training samples less fresh ones",
                  figure=f"{gap}/r2", at_most=0.02),
            Claim(claim="Seeds agree: range of R²", figure=f"{more}/r2", at_most=0.03),
            *shared,
            Claim(claim="Stated uncertainties are true (RMS of error over stated, at most)",
                  figure="calibration/uncertainty/all numbers/rms", at_most=1.2),
        ]  # fmt: skip
    return shared


def verdict(claim: Claim, sections: dict[str, Any]) -> dict[str, Any]:
    """A claim with its figure and whether it holds, or why that is not known."""
    limit = claim.at_least if claim.at_most is None else claim.at_most
    row = {
        "claim": claim.claim,
        "figure": claim.figure,
        "relation": "at least" if claim.at_most is None else "at most",
        "limit": limit,
        "unit": claim.unit,
    }
    found = figure_at(claim.figure, sections)
    if not is_tested(found):
        return row | {"value": None, "low": None, "high": None} | found
    low = found["value"] if found["low"] is None else found["low"]
    high = found["value"] if found["high"] is None else found["high"]
    kept = [end >= limit if claim.at_most is None else end <= limit for end in (low, high)]
    status = HOLDS if all(kept) else OPEN if any(kept) else FAILS
    return row | {end: found[end] for end in ("value", "low", "high")} | {"status": status}


def figure_at(path: str, sections: dict[str, Any]) -> dict[str, Any]:
    """The figure at a way through the sections, or ``not_tested`` with the reason."""
    here: Any = sections
    for part in path.split("/"):
        if isinstance(here, dict) and here.get("status") == NOT_TESTED:
            return not_tested(here["reason"])
        if not isinstance(here, dict) or part not in here:
            known = [str(name) for name in here] if isinstance(here, dict) else []
            return not_tested(f"there is no figure {path!r}: {did_you_mean(part, known)}".rstrip())
        here = here[part]
    if isinstance(here, int | float) and not isinstance(here, bool):
        return {"value": here, "low": None, "high": None}
    if not isinstance(here, dict) or "value" not in here:
        return not_tested(
            here["reason"] if isinstance(here, dict) and "reason" in here
            else f"{path!r} is no figure"
        )  # fmt: skip
    if here["value"] is None:
        return not_tested("there was nothing to compute it from")
    return here


def limits_in_words(report: dict[str, Any], said: Sequence[str]) -> list[str]:
    """What the network cannot be trusted with, in plain words: the author's, then the measured."""
    sections = report["sections"]
    words = [*said, _range_of_training(report)]
    for row in report["verdicts"]:
        if row["status"] in (FAILS, OPEN):
            verb = "fails" if row["status"] == FAILS else "is not settled"
            words.append(
                f"“{row['claim']}” {verb}: {row['value']:.3g}{_unit(row)} where "
                f"{row['relation']} {row['limit']:g}{_unit(row)} is asked."
            )
    for name, kind in (("microscopes", "microscope"), ("structures", "structure")):
        worst = sections.get(name, {}).get("worst")
        if worst and is_tested(worst) and worst["loss"]["value"] > 0:
            words.append(
                f"The worst {kind} is “{worst['name']}”: it costs {worst['loss']['value']:.3g} of "
                f"the {report['metrics'][worst['metric']]['words']}."
            )
    for name, section in sections.items():
        if not is_tested(section):
            words.append(f"Not tested: {name.replace('_', ' ')}, because {section['reason']}.")
    return words


def _unit(row: dict[str, Any]) -> str:
    return f" {row['unit']}" if row["unit"] else ""


def _range_of_training(report: dict[str, Any]) -> str:
    drawn = report["trained_range"]
    ranges = "; ".join(f"{path} {label}" for path, label in drawn.items())
    begun = f"It was trained on {report['recipe']} alone: whatever differs is extrapolation."
    return begun + (f" Drawn there: {ranges}." if ranges else "")
