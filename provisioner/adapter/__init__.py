"""The 2.x adapter: flash-attn's functions over kernels that run on Volta and Turing, and the making of its wheel.

``flash_attn/`` holds the sources of the package that goes into the wheel; nothing here imports it.
"""
