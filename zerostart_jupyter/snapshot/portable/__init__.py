"""The portable tier: a session by its names, for another machine, Python patch release or GPU.

`saving` goes through the user's names and `restoring` brings them back, into a live kernel or into
a fresh one (`kernel`). In between lies a directory: `names.pickle`, one frame a name; the data
that pickles point at, as `arrays/*.npy`, `tensors.safetensors` and `buffers.bin`; `session.json`.
"""
