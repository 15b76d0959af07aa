"""A build for one GPU compiles the block shapes that this GPU takes, all of them, and nothing else."""

from __future__ import annotations

import pytest

from provisioner.building.shapes import SHARED_KIB, gpus_of, needed_shapes, shapes_of

KERNELS = [
    (way, dim, causal, dropout)
    for way in ("fwd", "bwd")
    for dim in (32, 64, 96, 128, 192, 256)
    for causal in (False, True)
    for dropout in (False, True)
]


@pytest.mark.parametrize("gpu", sorted(SHARED_KIB))
def test_every_gpu_takes_exactly_one_shape_of_each_kernel(gpu: int) -> None:
    for kernel in KERNELS:
        taken = len(needed_shapes(*kernel, [gpu]))
        lean = kernel[0] == "bwd" and kernel[1] == 256 and kernel[3] and SHARED_KIB[gpu][0] < 144
        assert taken == (0 if lean else 1), kernel  # upstream itself has none for head dim 256 with dropout on such GPUs


def test_the_shapes_of_a_kernel_are_different_ones() -> None:
    for kernel in KERNELS:
        arguments = [shape.arguments for shape in shapes_of(*kernel)]
        assert len(arguments) == len(set(arguments))


@pytest.mark.parametrize(
    ("archs", "gpus"),
    [
        (("sm_90",), (90,)),
        (("sm_80",), (80, 86, 89)),  # code for 8.0 does not run on Orin
        (("sm_86",), (86, 89)),
        (("sm_89", "sm_90a"), (89, 90)),
        (("sm_100",), (100, 103)),
        (("sm_100f",), (100, 103)),
        (("sm_90", "compute_90"), None),
        (("sm_77",), None),
    ],
)
def test_a_build_is_for_all_gpus_that_can_run_its_code(archs: tuple[str, ...], gpus: tuple[int, ...] | None) -> None:
    assert gpus_of(archs) == gpus


def test_code_for_every_gpu_keeps_every_shape() -> None:
    for kernel in KERNELS:
        kept = [shape.arguments for shape in needed_shapes(*kernel, None)]
        assert kept == [shape.arguments for shape in shapes_of(*kernel)]
