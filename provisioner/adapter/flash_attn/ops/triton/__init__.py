"""The place of upstream's Triton kernels; here PyTorch computes what is in it."""
