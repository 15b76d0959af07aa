"""flash_attn 2.x over kernels that run where upstream's do not: an adapter made by `provision`, not Dao-AILab's flash-attn.

The functions and their results are those of flash-attn 2.x; the kernels are PyTorch's memory-efficient attention (``aten``), and on
Turing, where they were compiled in, those of flash-attn 1.0.9 (``turing109``). What neither can do (softcap, ALiBi, dropout patterns,
bfloat16 below compute capability 8.0) raises an error. `kernels` says which set a call would take,
`__build__` which are inside.
"""

from ._about import __build__, __version__, kernels
from .flash_attn_interface import (
    flash_attn_func,
    flash_attn_kvpacked_func,
    flash_attn_qkvpacked_func,
    flash_attn_varlen_func,
    flash_attn_varlen_kvpacked_func,
    flash_attn_varlen_qkvpacked_func,
    flash_attn_with_kvcache,
)

__all__ = [
    "__build__",
    "__version__",
    "flash_attn_func",
    "flash_attn_kvpacked_func",
    "flash_attn_qkvpacked_func",
    "flash_attn_varlen_func",
    "flash_attn_varlen_kvpacked_func",
    "flash_attn_varlen_qkvpacked_func",
    "flash_attn_with_kvcache",
    "kernels",
]
