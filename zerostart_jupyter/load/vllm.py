"""`vllm serve --load-format zerostart`: vLLM calls this in each of its processes.

Entry point of the group `vllm.general_plugins`.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)
_registered = False


def register() -> None:
    """Make the load format known to vLLM; a second call does nothing.

    vLLM calls it for whoever has zerostart installed, so a vLLM it does not fit is only warned of.
    """
    global _registered
    if _registered:
        return
    try:
        from vllm.model_executor.model_loader import register_model_loader

        from zerostart_jupyter.load.vllm_loader import ZerostartModelLoader
    except ImportError as error:
        log.warning("vLLM has no load format zerostart: this version does not fit (%s).", error)
        return
    register_model_loader("zerostart")(ZerostartModelLoader)
    _registered = True
