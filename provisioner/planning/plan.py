"""Machine, request and knowledge in; the plan out: every candidate judged, the best one described, or a refusal that helps.

Pure: no host, no socket, no clock. The same input gives the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from provisioner.machine.facts import Gpu, Machine
from provisioner.planning.assemble import assemble
from provisioner.planning.catalog import Catalog
from provisioner.planning.judging import judge_all, listed_candidates
from provisioner.planning.no_route import no_route
from provisioner.planning.refusals import refuse_unsupported
from provisioner.planning.values import Plan, Request


def make_plan(machine: Machine, request: Request, catalog: Catalog) -> Plan:
    """Return the plan for a machine.

    Raise `NoRoute` when nothing that exists would work (its details carry the candidates, its hints what would work instead),
    and `SourceUnreachable` when only places that do not answer stand in the way.
    """
    machine = visible(machine)
    refuse_unsupported(machine, request)
    judgement = judge_all(machine, request, catalog)
    candidates = listed_candidates(judgement)
    if not judgement.accepted:
        raise no_route(machine, request, catalog, judgement, candidates)
    return assemble(machine, request, catalog, judgement, candidates)


def visible(machine: Machine) -> Machine:
    """Return the machine with the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, where it lists indices; else as it is."""
    listed = (machine.cuda_visible_devices or "").split(",")
    if not machine.gpus or not all(index.strip().isdigit() for index in listed):
        return machine
    wanted = [int(index) for index in listed]
    shown: list[Gpu] = [machine.gpus[index] for index in wanted if index < len(machine.gpus)]
    return replace(machine, gpus=tuple(shown)) if shown else machine
