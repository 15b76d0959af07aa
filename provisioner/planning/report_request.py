"""What is asked for when a pasted report is planned: flash-attn for the machine as its owner runs it."""

from __future__ import annotations

import re

from provisioner.machine.facts import Machine
from provisioner.planning.refusals import is_windows
from provisioner.planning.values import BuildChoice, Request

_NOT_A_RELEASE = re.compile(r"(\.dev|a0|\+git|\.nv\d\d)")


def request_for_report(machine: Machine) -> Request:
    """Return the request that answers a report.

    A torch that is no release (a nightly, a vendor's own build) was chosen on purpose, and no wheel is built for it, so flash-attn
    is compiled. On Windows itself third parties' wheels are all there is.
    """
    torch = machine.software.torch or ""
    build = BuildChoice.ALWAYS if _NOT_A_RELEASE.search(torch) else BuildChoice.AUTO
    return Request(build=build, allow_community=is_windows(machine))
