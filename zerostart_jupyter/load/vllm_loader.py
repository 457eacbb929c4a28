"""vLLM's own loader with our reading in place of its own: imported inside vLLM only.

Source: vLLM 0.32 and 0.33, `DefaultModelLoader._get_weights_iterator`, whose filters are applied in
its order. What we do not read (files that are not safetensors, torchao's) it reads itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Generator, Iterable
from pathlib import Path

import torch
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.ep_weight_filter import should_skip_weight
from vllm.model_executor.model_loader.weight_utils import (
    filter_mm_encoder_only_safetensors_files,
    filter_safetensors_files_by_weight_name,
)

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load.checkpoint import open_located
from zerostart_jupyter.load.loader import begin
from zerostart_jupyter.load.located import Located
from zerostart_jupyter.load.near import nearer


class ZerostartModelLoader(DefaultModelLoader):  # type: ignore[misc]
    """Reads safetensors files through zerostart; `model_loader_extra_config` may name a reader."""

    counter_before_loading_weights: float

    def __init__(self, load_config: LoadConfig) -> None:
        extra = dict(load_config.model_loader_extra_config or {})
        self._reader = str(extra.pop("reader", "auto"))
        super().__init__(
            dataclasses.replace(
                load_config, load_format="safetensors", model_loader_extra_config=extra
            )
        )

    def _get_weights_iterator(
        self, source: DefaultModelLoader.Source
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        """(prefixed name, tensor) of the files that the source means, in their order."""
        folder, files, safe, index = self._prepare_weights(
            source.model_or_path,
            source.subfolder,
            source.revision,
            source.fall_back_to_pt,
            source.allow_patterns_overrides,
        )
        if not safe or self.load_config.safetensors_load_strategy == "torchao":
            return super()._get_weights_iterator(source)  # type: ignore[no-any-return]
        if self._encoder_only_lm_prefixes is not None:
            files = filter_mm_encoder_only_safetensors_files(
                files,
                folder,
                index,
                self._encoder_only_lm_prefixes,
                weights_mapper=self._encoder_only_weights_mapper,
            )
            if not files:
                raise RuntimeError(
                    f"No file of {source.model_or_path} holds weights of the multimodal encoder."
                )
        if source.is_unused_weight is not None:
            files = filter_safetensors_files_by_weight_name(files, source.is_unused_weight)
        if self.counter_before_loading_weights == 0.0:
            self.counter_before_loading_weights = time.perf_counter()
        return self._read(source, sorted(files))

    def _read(
        self, source: DefaultModelLoader.Source, files: Iterable[str]
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        located = Located(str(source.model_or_path), tuple(map(Path, files)))
        with contextlib.ExitStack() as undo:
            checkpoint = undo.enter_context(open_located(nearer(located, Settings.read())))
            # Experts of other ranks are not even read.
            checkpoint.only(lambda name: not should_skip_weight(name, self.local_expert_ids))
            weights = begin(checkpoint, device="cpu", reader=self._reader, background=True)
            undo.pop_all()  # the reading closes it
        try:
            for name in weights:
                yield source.prefix + name, weights[name]
        except BaseException:  # at the end, a copy of the files may still want its last bytes
            weights.cancel()
            raise
