"""The server extension: shows what kernels write about themselves, and restores them."""
