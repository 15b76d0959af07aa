"""GPU memory: who holds it, what torch's allocator does with it, and what a training run will need."""
