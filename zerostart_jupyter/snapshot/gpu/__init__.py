"""A kernel's GPU memory: to the host and back, by the CUDA driver's own checkpoints."""
