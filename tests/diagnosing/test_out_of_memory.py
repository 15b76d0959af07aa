"""An out-of-memory message names its cause by its four numbers."""

from __future__ import annotations

import pytest

from provisioner.diagnosing.out_of_memory import read_message
from provisioner.diagnosing.reports import diagnose_report

NEW = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {tried}. GPU 0 has a total capacity of 23.69 GiB of which {free} is free. "
    "Including non-PyTorch memory, this process has 9.1 GiB memory in use. Of the allocated memory {allocated} is allocated by PyTorch, and "
    "{unused} is reserved by PyTorch but unallocated."
)


def message(tried: str, free: str, allocated: str, unused: str) -> str:
    return NEW.format(tried=tried, free=free, allocated=allocated, unused=unused)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (message("2.00 GiB", "310.00 MiB", "12.10 GiB", "10.20 GiB"), "memory-fragmented"),
        (message("2.00 GiB", "120.00 MiB", "9.00 GiB", "100.00 MiB"), "memory-held-by-others"),
        (message("15.66 GiB", "14.00 GiB", "8.60 GiB", "200.00 MiB"), "one-huge-tensor"),
        (message("10.00 MiB", "1.57 GiB", "3.24 GiB", "154.45 MiB"), "memory-limited-elsewhere"),
        (message("896.00 MiB", "310.00 MiB", "22.10 GiB", "200.00 MiB"), "memory-really-used"),
    ],
)
def test_the_numbers_tell_which_cause_it_is(text: str, code: str) -> None:
    _, findings = diagnose_report(text)
    assert findings[0].code == code
    assert findings[0].primary
    assert findings[0].explains == ("cuda-out-of-memory",)


def test_the_older_wording_is_read_too() -> None:
    text = (
        "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 10.76 GiB total capacity; 9.50 GiB already allocated; "
        "12.56 MiB free; 9.80 GiB reserved in total by PyTorch)"
    )
    found = read_message(text)
    assert found is not None
    assert found.tried == 20
    assert found.free == 12.56
    assert found.allocated == 9.5 * 1024


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('File "/v/transformers/loss/loss_utils.py", line 36, in fixed_cross_entropy', "logits and cross-entropy"),
        ('File "/v/bitsandbytes/optim/optimizer.py", line 291, in step', "optimizer states"),
        ('File "/v/transformers/integrations/sdpa.py", line 3, in eager_attention_forward', "attention scores"),
        ('File "/v/peft/utils/other.py", line 130, in prepare_model_for_kbit_training', "a float32 copy"),
        ('File "/v/vllm/worker/cache_engine.py", line 81, in _allocate', "vLLM's KV cache"),
        ('File "/v/transformers/modeling_utils.py", line 5170, in caching_allocator_warmup', "the weights while loading"),
    ],
)
def test_the_traceback_tells_what_was_being_made_when_memory_ran_out(line: str, expected: str) -> None:
    text = (
        "Traceback (most recent call last):\n  "
        + line
        + "\n    x = f(y)\n"
        + message("896.00 MiB", "310.00 MiB", "22.10 GiB", "200.00 MiB")
    )
    _, findings = diagnose_report(text)
    assert findings[0].code == "memory-really-used"
    assert expected in findings[0].title
    assert any(line in quote for quote in findings[0].evidence)


def test_the_misspelt_capacity_of_older_torch_is_read() -> None:
    found = read_message("Tried to allocate 1.70 GiB. GPU 0 has a total capacty of 6.00 GiB of which 0 bytes is free.")
    assert found is not None
    assert (found.total, found.free) == (6144, 0)
