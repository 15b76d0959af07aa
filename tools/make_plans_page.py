"""Write docs/plans.md: what `provision plan --explain` says for six machines, from the plans themselves.

``python tools/make_plans_page.py`` writes the page anew; a test holds it to what the planner says today.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from provisioner.cli.plan_text import candidate_lines, plan_lines
from provisioner.machine.facts import Driver, Gpu, Machine, Platform
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.survey import survey
from provisioner.planning.values import Request

PAGE = Path(__file__).parents[1] / "docs" / "plans.md"
UBUNTU = Platform(os="Ubuntu 22.04.5 LTS", glibc="2.35", wsl="no", machine="x86_64", system="linux")

MACHINES: tuple[tuple[str, str, str, Machine], ...] = (
    (
        "A V100 box",
        "provision plan --gpu V100 --driver 535.171.04 --glibc 2.35 --explain",
        "No release of flash-attn ever had kernels for Volta, so nothing is compiled in vain: Unsloth runs on xformers, whose CUTLASS "
        "operator calls torch's own kernels, and flash-attn's 2.x functions come from an adapter over the same kernels. What matters is a torch "
        "that still holds sm_70.",
        Machine((Gpu("Tesla V100", "7.0", 16384),), Driver("535.171.04"), UBUNTU),
    ),
    (
        "An RTX 2080 Ti under WSL 2",
        "provision plan --gpu 'RTX 2080 Ti' --driver 556.12 --wsl --glibc 2.39 --explain",
        "The driver is the Windows one, so it is compared with the Windows column (528.33 for CUDA 12). Nothing is compiled under WSL 2 unless "
        "--build asks: then the adapter gets the Turing kernels of flash-attn 1.0.9.",
        Machine(
            (Gpu("GeForce RTX 2080 Ti", "7.5", 11264),),
            Driver("556.12"),
            replace(UBUNTU, os="Ubuntu 24.04 LTS", glibc="2.39", wsl="2"),
        ),
    ),
    (
        "An RTX 4090 with driver 525 on Ubuntu 20.04",
        "provision plan --gpu 'RTX 4090' --driver 525.60.13 --glibc 2.31 --explain",
        "The driver runs every CUDA 12 build, but flash-attn wheels from 2.8.0 on ask for glibc 2.32; 2.7.4.post1 does not, and "
        "its sm_80 kernels run on sm_89.",
        Machine(
            (Gpu("GeForce RTX 4090", "8.9", 24576),), Driver("525.60.13"), replace(UBUNTU, os="Ubuntu 20.04.6 LTS", glibc="2.31")
        ),
    ),
    (
        "A B200",
        "provision plan --gpu B200 --driver 570.124.06 --glibc 2.35 --explain",
        "Only wheels that nvcc 12.8 or newer built hold sm_100, and only torch with CUDA 12.8 or newer does.",
        Machine((Gpu("B200", "10.0", 184320),), Driver("570.124.06"), UBUNTU),
    ),
    (
        "A Jetson AGX Orin with JetPack 6",
        "provision plan --machine orin.json --explain",
        "The package index's aarch64 builds are for servers. On a Jetson torch comes from NVIDIA's Jetson index and flash-attn is compiled "
        "with JetPack's toolkit.",
        Machine((Gpu("Orin (nvgpu)", "8.7"),), Driver("540.4.0", "12.6"), replace(UBUNTU, machine="aarch64", jetson="36.4.3")),
    ),
    (
        "An RTX 2080 Ti beside an RTX 4090",
        "provision plan --gpu 'RTX 2080 Ti' --gpu 'RTX 4090' --driver 550.54.15 --glibc 2.35 --explain",
        "One environment for both runs what both can run. The plan says how to get flash-attn on the 4090, and why the adapter is not the default.",
        Machine((Gpu("GeForce RTX 2080 Ti", "7.5", 11264), Gpu("GeForce RTX 4090", "8.9", 24576)), Driver("550.54.15"), UBUNTU),
    ),
)


def page() -> str:
    """Return the text of the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Six machines, six plans"
    yield ""
    yield "What `provision plan --explain` says. This page is generated (`python tools/make_plans_page.py`) and checked by a test."
    catalog = load_catalog()
    for title, command, comment, machine in MACHINES:
        plan = make_plan(machine, Request(), catalog)
        candidates = (*plan.candidates, *survey(machine, Request(), catalog, plan.candidates))
        yield from ("", f"## {title}", "", comment, "", "```console", f"$ {command}")
        yield from plan_lines(machine, plan)
        yield ""
        yield from candidate_lines(candidates)
        yield "```"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
