"""Eyes and ears of a UniMambaMia model: frames and sound -> tokens as wide as the language model.

Letters: m frames, n patches a frame, t tokens a frame, a audio tokens, d width.
"""

import logging
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambamia_cli.compressor.audio import AudioCompressor, AudioCompressorConfig, AudioStream
from mambamia_cli.errors import OutOfMemoryError
from mambamia_cli.language.model import free_cached, memory_guard
from mambamia_cli.language.unimambamia.config import RelativeConfig

log = logging.getLogger(__name__)

BATCH = 8  # frames a pass of the tower
RATE = 16_000  # samples a second
REMEDY = "--quant nf4, --no-audio or --device cpu"
_HOP, _MELS = 160, 3000  # samples a mel frame, mel frames a window of 30 s


class Sight(nn.Module):
    """frames -> (m, t, d): SigLIP patches of a layer, projected, averaged over pool x pool; `newframe` ends a frame."""

    def __init__(self, config: RelativeConfig, width: int):
        from transformers import SiglipVisionConfig, SiglipVisionModel

        super().__init__()
        self.config, self.batch = config, BATCH
        tower = SiglipVisionModel(SiglipVisionConfig(**config.vision))
        tower = getattr(tower, "vision_model", tower)  # older versions of transformers have one level more
        keep = config.select_layer if config.select_layer >= 0 else len(tower.encoder.layers) + 1 + config.select_layer
        self.embeddings, self.encoder = tower.embeddings, tower.encoder  # no final norm and no head: they are behind the layer
        del self.encoder.layers[keep:]
        sizes = [int(config.vision["hidden_size"])] + [width] * config.projector_layers
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            steps += [nn.GELU(), nn.Linear(inputs, outputs)] if steps else [nn.Linear(inputs, outputs)]
        self.projector = nn.Sequential(*steps)
        self.newframe = nn.Parameter(torch.empty(width))

    @torch.inference_mode()
    def forward(self, frames: Iterable[np.ndarray]) -> Tensor:
        """frames: pictures (H, W, 3) uint8 RGB of any size -> (m, t, d). Raises OutOfMemoryError when one at a time is too much."""
        tokens: list[Tensor] = []
        waiting: list[Tensor] = []
        for frame in frames:
            waiting.append(self.pixels(frame))
            if len(waiting) == BATCH:
                tokens += self._passes(waiting)
                waiting = []
        return torch.cat(tokens + self._passes(waiting))

    def _passes(self, pixels: list[Tensor]) -> list[Tensor]:
        """Tokens of pictures (3, S, S), `batch` of them a pass: half as many when memory runs out, from the last that are done."""
        done: list[Tensor] = []
        while pixels:
            try:
                with memory_guard("looking at the frames", REMEDY):
                    done.append(self._tokens(torch.stack(pixels[: self.batch])))
                pixels = pixels[self.batch :]
                continue
            except OutOfMemoryError:
                if self.batch == 1:
                    raise
            # Outside of the except block, where the traceback holds no tensors any more.
            self.batch = (self.batch + 1) // 2
            log.warning("memory ran out while looking at the frames: going on with %d at once", self.batch)
            free_cached()
        return done

    def _tokens(self, pixels: Tensor) -> Tensor:
        """(m, 3, S, S) -> (m, t, d)."""
        weight = self.newframe
        hidden = self.embeddings(pixels.to(weight.device, weight.dtype))  # (m, n, d_vision)
        hidden = self.projector(self.encoder(inputs_embeds=hidden).last_hidden_state)  # (m, n, d)
        side, pool = self.config.grid, self.config.pool
        grid = hidden.transpose(1, 2).unflatten(2, (side, side))  # (m, d, rows, columns)
        return F.avg_pool2d(grid, pool).flatten(2).transpose(1, 2)  # (m, t, d)

    def pixels(self, frame: np.ndarray) -> Tensor:
        """A picture (H, W, 3) -> (3, S, S) float32, as SigLIP's image processor makes it."""
        from PIL import Image

        images = self.config.images
        picture = Image.fromarray(frame)
        if self.config.pad and picture.width != picture.height:
            side = max(picture.size)
            square = Image.new("RGB", (side, side), tuple(int(v * 255) for v in images["image_mean"]))
            square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
            picture = square
        size = self.config.side
        picture = picture.resize((size, size), resample=Image.Resampling(images["resample"]))
        values = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255  # (3, S, S)
        mean, std = (torch.tensor(images[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
        return (values - mean) / std


class Hearing(nn.Module):
    """Sound -> (a, d): log-mel windows of 30 s, Qwen2-Audio's encoder (25 features a second), the audio compressor."""

    def __init__(self, config: RelativeConfig, width: int, state_size: int):
        from transformers import Qwen2AudioEncoder, Qwen2AudioEncoderConfig, WhisperFeatureExtractor

        super().__init__()
        assert config.audio is not None
        self.encoder = Qwen2AudioEncoder(Qwen2AudioEncoderConfig(**config.audio))
        self.compressor = AudioCompressor(AudioCompressorConfig(
            input_size=int(config.audio["d_model"]), hidden_size=config.audio_hidden, output_size=width, block=config.block,
            num_layers=config.audio_layers, expand=config.audio_expand, state_size=state_size))  # fmt: skip
        self.mels = WhisperFeatureExtractor(feature_size=int(config.audio.get("num_mel_bins", 128)))

    @torch.inference_mode()
    def forward(self, windows: Iterable[np.ndarray]) -> Tensor:
        """windows: samples (n <= 480,000) float32 at 16 kHz, consecutive -> (a, d). One window is in memory at a time."""
        stream = AudioStream(self.compressor)
        tokens = [stream.push(self.features(window)) for window in windows]
        return torch.cat([*tokens, stream.finish()])

    def features(self, window: np.ndarray) -> Tensor:
        """A window -> (l, d_audio), what is padding left out."""
        weight = self.encoder.conv1.weight
        found = self.mels(window, sampling_rate=RATE, return_attention_mask=True, padding="max_length", return_tensors="pt")
        mels = found["input_features"].to(weight.device, weight.dtype)  # (1, bins, 3000)
        convolved = (int(found["attention_mask"].sum()) - 1) // 2 + 1
        mask = torch.zeros(1, 1, 1, _MELS // 2, dtype=weight.dtype, device=weight.device)
        mask[..., convolved:] = float("-inf")
        mask = mask.expand(1, 1, _MELS // 2, _MELS // 2)  # every position sees those that are not padding
        hidden = self.encoder(mels, attention_mask=mask).last_hidden_state[0]  # (750, d_audio)
        return hidden[: (convolved - 2) // 2 + 1]
