"""Facts from pasted reports: one module per kind of text, each giving claims, merged by a stated precedence."""

from __future__ import annotations

from provisioner.machine.report.encoding import decode
from provisioner.machine.report.reading import Report, read_report

__all__ = ["Report", "decode", "read_report"]
