"""A receipt for people: what runs where, the checks as a table, what failed or was not run and why, and a table of times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from provisioner.cli.console import Output
from provisioner.verifying.receipt import Check, Outcome, Receipt

SHOWN = 5
"""Failed checks of one code that are printed; the receipt holds all."""

LEGEND = (
    "error: the largest deviation from float64 attention, relative to the largest value; limit: twice that of plain attention in the same "
    "precision, plus half a unit in the last place"
)
CASES = "cases: d head dim, h query/key heads, n tokens of each length (queries:keys)"


def show(receipt: Receipt, output: Output) -> None:
    """Print the receipt."""
    versions = ", ".join(f"{name} {version}" for name, version in receipt.versions.items())
    machine = "".join(f", {name} {value}" for name, value in receipt.machine.items() if name in ("driver", "python"))
    output.prose(f"{'; '.join(receipt.devices) or 'no GPU'}{machine}: {versions or 'nothing that is looked for'}")
    if receipt.archs:
        output.prose(f"flash-attn has kernels for {', '.join(receipt.archs)}")
    for library, path in receipt.attention.items():
        output.prose(f"{library} takes {path}")
    _show_checks(receipt.checks, output)
    for line in (*_failures(receipt.checks), *_skips(receipt.checks)):
        output.prose(line)
    _show_times(receipt, output)
    for warning in receipt.warnings:
        output.prose(f"warning: {warning}")
    output.prose(_last_line(receipt))


def _show_checks(checks: tuple[Check, ...], output: Output) -> None:
    from rich.table import Table

    table = Table("checks", "passed", "refused as expected", "skipped", "failed", "worst error / limit", box=None)
    groups: dict[str, list[Check]] = {}
    several = len({check.device for check in checks} - {None}) > 1
    for check in checks:
        groups.setdefault(_group(check, _where(check) if several else ""), []).append(check)
    columns = (Outcome.PASSED, Outcome.EXPECTED_REFUSAL, Outcome.SKIPPED, Outcome.FAILED)
    for group, members in groups.items():
        counts = Counter(check.outcome for check in members)
        table.add_row(group, *(str(counts[outcome] or "") for outcome in columns), _worst(members))
    output.console().print(table)
    if any(check.error is not None for check in checks):
        output.prose(LEGEND)


def _group(check: Check, where: str) -> str:
    """Name the row of a check: imports one by one, computed cases by family and call, and ``where`` it ran."""
    family, colon, case = check.name.partition(": ")
    return f"{family} {case.split()[0]}{where}" if colon and " " in case else check.name + where


def _where(check: Check) -> str:
    return "" if check.device is None else f" (GPU {check.device})"


def _worst(members: list[Check]) -> str:
    measured = [(check.error / check.limit, check) for check in members if check.error is not None and check.limit]
    if not measured:
        return ""
    _, check = max(measured, key=lambda pair: pair[0])
    return f"{check.error:.1e} / {check.limit:.1e}"


def _failures(checks: tuple[Check, ...]) -> Iterator[str]:
    """The failed checks by code, each code with what it means."""
    from provisioner.verifying.failures import MEANING

    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    for code in dict.fromkeys(check.code for check in failed):
        members = [check for check in failed if check.code == code]
        for check in members[:SHOWN]:
            yield f"failed [{code}] {check.name}{_where(check)}: {check.told}"
        if len(members) > SHOWN:
            yield f"failed [{code}] {len(members) - SHOWN} more: --json or --receipt FILE holds all"
        if code in MEANING:
            yield f"  {code}: {MEANING[code]}"
    if any(check.error is not None for check in failed):
        yield CASES


def _skips(checks: tuple[Check, ...]) -> Iterator[str]:
    """What was not run, by reason."""
    reasons: dict[str, list[Check]] = {}
    for check in checks:
        if check.outcome is Outcome.SKIPPED:
            reasons.setdefault(check.detail, []).append(check)
    for reason, members in reasons.items():
        yield f"skipped {members[0].name if len(members) == 1 else f'{len(members)} checks'}: {reason}"


def _show_times(receipt: Receipt, output: Output) -> None:
    from rich.table import Table

    from provisioner.verifying.speed_report import rows

    measured = rows(receipt.timings)
    if not measured:
        return
    names = list(dict.fromkeys(name for row in measured for name in row.times))
    facts = receipt.timings[0]
    against = "SDPA's backends" if all(name.startswith("sdpa ") for name in names) else "flash-attn against SDPA"
    title = f"{against} on this GPU: ms (TFLOP/s), causal, {facts['dtype']}, head dim {facts['head_dim']}"
    table = Table("GPU", "tokens", "pass", *names, title=title, title_justify="left", box=None)
    for row in measured:
        cells = [f"{row.times[name]:.3f} ({row.tflops[name]:.0f})" if name in row.times else "" for name in names]
        table.add_row("" if row.device is None else str(row.device), str(row.seqlen), row.direction, *cells)
    output.console().print(table)


def _last_line(receipt: Receipt) -> str:
    took = f"{receipt.seconds:.0f} s ({receipt.mode}; {receipt.seconds_after_imports:.0f} s without imports)"
    match receipt.verdict:
        case "yes":
            return f"passed in {took}"
        case "no":
            return f"FAILED in {took}"
        case _:
            return f"imports passed in {took}; no attention was computed"
