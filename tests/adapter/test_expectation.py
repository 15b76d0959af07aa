"""Verification asks of the adapter what its record claims, on every GPU that it is for."""

from __future__ import annotations

import pytest

from provisioner.adapter.kernels import AdapterVersion, claims
from provisioner.adapter.wheel import provenance
from provisioner.capability import ComputeCapability
from provisioner.codec import to_json
from provisioner.verifying.expectation import Expectation, on_device, read_provenance, settle


def expected(version: str, capability: str) -> Expectation:
    record = read_provenance(to_json(provenance(AdapterVersion.parse(version))))
    settled = settle(Expectation("flash-attn"), versions={"flash-attn": version}, provenance=record)
    return on_device(settled, ComputeCapability.parse(capability), version)


@pytest.mark.parametrize("version", ["2.8.3+aten", "2.8.3+turing109"])
@pytest.mark.parametrize("capability", ["7.0", "7.5", "9.0"])
def test_gradients_are_claimed_for_every_head_dim(version: str, capability: str) -> None:
    found = expected(version, capability)
    assert found.head_dims == found.backward_head_dims == claims().head_dims
    assert not found.foreign


@pytest.mark.parametrize(("capability", "dtypes"), [("7.0", ("fp16",)), ("7.5", ("fp16",)), ("8.0", ("fp16", "bf16"))])
def test_bfloat16_must_be_refused_below_8_0(capability: str, dtypes: tuple[str, ...]) -> None:
    assert expected("2.8.3+turing109", capability).dtypes == dtypes


def test_softcap_and_alibi_must_be_refused() -> None:
    assert not {"softcap", "alibi"} & set(expected("2.8.3+aten", "7.0").features or ())
