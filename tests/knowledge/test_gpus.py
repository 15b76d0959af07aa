from __future__ import annotations

import pytest

from provisioner.knowledge import gpus


@pytest.mark.parametrize(
    ("written", "capability", "memory_gib"),
    [
        ("h100", "9.0", None),
        ("RTX 2080 Ti", "7.5", 11),
        ("RTX2080Ti", "7.5", 11),
        ("2080ti", "7.5", 11),
        ("4090", "8.9", 24),
        ("rtx4090", "8.9", 24),
        ("4090d", "8.9", 24),
        ("v100", "7.0", None),
        ("t4", "7.5", 16),
        ("b200", "10.0", None),
        ("gb200", "10.0", None),
        ("b300", "10.3", None),
        ("gb10", "12.1", 128),
        ("dgx spark", "12.1", 128),
        ("dgx h100", "9.0", None),
        ("h20", "9.0", 96),
        ("h800", "9.0", 80),
        ("l20", "8.9", 48),
        ("a100-80g", "8.0", 80),
        ("3060", "8.6", None),
        ("1080 Ti", "6.1", 11),
        ("orin", "8.7", None),
        ("thor", "11.0", 128),
        ("k80", "3.7", 12),
        ("rtx 6000 ada", "8.9", 48),
        ("rtx pro 6000", "12.0", 96),
        ("a6000", "8.6", 48),
    ],
)
def test_a_gpu_is_found_as_users_type_it(written: str, capability: str, memory_gib: int | None) -> None:
    found = gpus.find_gpu(written)
    assert found is not None
    assert found.compute_capability == capability
    assert found.memory_mib == (memory_gib * 1024 if memory_gib else None)


@pytest.mark.parametrize(
    ("reported", "capability"),
    [
        ("NVIDIA H100 80GB HBM3", "9.0"),
        ("NVIDIA A100-SXM4-40GB", "8.0"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "8.0"),
        ("NVIDIA A40-48Q", "8.6"),
        ("GRID A100D-40C", "8.0"),
        ("Tesla V100-SXM2-32GB", "7.0"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9"),
        ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", "7.5"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("NVIDIA GH200 480GB", "9.0"),
        ("NVIDIA H20-3e", "9.0"),
        ("Orin (nvgpu)", "8.7"),
        ("GeForce RTX 208...", "7.5"),
        ("Tesla P100-SXM2...", "6.0"),
        ("NVIDIA GeForce RTX 3060 ...", "8.6"),
        ("NVIDIA GeForce RTX 4090 Lap...", "8.9"),
        ("NVIDIA A100-SXM...", "8.0"),
    ],
)
def test_a_gpu_is_found_as_the_driver_calls_it(reported: str, capability: str) -> None:
    found = gpus.find_gpu(reported)
    assert found is not None
    assert found.compute_capability == capability


def test_a_laptop_card_is_not_taken_for_the_desktop_one() -> None:
    laptop, desktop = gpus.find_gpu("RTX 4090 Laptop GPU"), gpus.find_gpu("RTX 4090")
    assert laptop is not None
    assert desktop is not None
    assert (laptop.memory_mib, desktop.memory_mib) == (16 * 1024, 24 * 1024)


@pytest.mark.parametrize("name", ["RTX 6000", "RTX 5000", "Titan X", "4000"])
def test_a_name_of_several_generations_is_not_guessed_but_each_is_offered(name: str) -> None:
    assert gpus.find_gpu(name) is None
    offered = {found.compute_capability for text in gpus.suggest(name) if (found := gpus.find_gpu(text))}
    assert len(offered) >= 2


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA L20Y",
        "NVIDIA M403",
        "NVIDIA GeForce...",
        "GeForce RTX...",
        "NVIDIA Graphics Device",
        "Radeon RX 7900 XTX",
        "",
        "ada",
        "gpu",
        "80GB",
    ],
)
def test_a_name_that_decides_nothing_gives_nothing(name: str) -> None:
    assert gpus.find_gpu(name) is None


def test_a_misspelt_name_brings_the_nearest_ones() -> None:
    assert "GeForce RTX 4090" in gpus.suggest("rtx 4095")
    assert "GeForce RTX 4090" in gpus.suggest("4o90")


def test_every_name_in_the_table_finds_its_own_capability_or_offers_it() -> None:
    for model in gpus.models():
        found = gpus.find_gpu(model.name)
        if found is not None:
            assert found.compute_capability == model.compute_capability, model.name
        else:
            offered = [gpus.find_gpu(name) for name in gpus.suggest(model.name)]
            assert model.compute_capability in {one.compute_capability for one in offered if one}, model.name


def test_a_form_factor_that_no_model_has_is_ignored() -> None:
    found = gpus.find_gpu("B200 SXM6")
    assert found is not None
    assert found.compute_capability == "10.0"
