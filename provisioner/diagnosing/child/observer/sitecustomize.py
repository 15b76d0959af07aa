"""Started by Python itself in a process under ``provision run --observe``: begins to answer, then lets the next sitecustomize run."""

import importlib
import os
import sys


def _start() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    this = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")  # the one that ours stands in front of: a distribution's or conda's
    except ImportError:
        if this is not None:
            sys.modules["sitecustomize"] = this
    sys.path.insert(0, here)
    try:
        importlib.import_module("provision_observer").start()
    finally:
        sys.path.remove(here)


if os.environ.get("PROVISION_OBSERVE"):
    _start()
