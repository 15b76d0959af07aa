"""Environment provisioning and build tool for flash-attn and Unsloth.

One flow: ``machine`` (facts) → ``planning`` (choice) → ``locking`` (exact files) → ``environments`` (on disk)
→ ``verifying`` (numbers from the GPU). Each stage turns one frozen value into the next.
"""

__version__ = "0.1.0"
