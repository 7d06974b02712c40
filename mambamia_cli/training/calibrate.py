"""What the matching of words needs to know of footage in general: which words are seen where they are not."""

import torch
from torch import Tensor

from mambamia_cli.language.lexicon import Lexicon
from mambamia_cli.language.matching import smoothed
from mambamia_cli.training import features
from mambamia_cli.training.align import Aligner
from mambamia_cli.training.reels import RATE

REELS, TOGETHER = 176, 4  # films looked at, and how many make one video of 48 s


@torch.no_grad()
def common(model: Aligner, reels: features.ReelSet, *, smooth: float = 0.6) -> Tensor:
    """-> (v,) each word's mean best log-odds over videos without drawings, less the mean over words."""
    films = [i for i, kind in enumerate(reels.kinds) if kind == "film"][:REELS]
    best = []
    for at in range(0, len(films), TOGETHER):
        patches = torch.cat([torch.from_numpy(reels.patches(i).astype("float32")) for i in films[at : at + TOGETHER]])
        tokens = model.read(model.compressor.gather(patches[None]))[0][0]  # (m, t, width)
        odds = word_odds(model.lexicon, tokens)
        best.append(smoothed(odds, [k / RATE for k in range(odds.shape[1])], smooth).amax(1))
    level = torch.stack(best).mean(0)
    return level - level.mean()


def word_odds(lexicon: Lexicon, tokens: Tensor) -> Tensor:
    """tokens (m, t, width) -> (v, m): log-odds of every word alone, the best token of each frame."""
    shares = lexicon.scores(tokens).log_softmax(-1)  # (m, t, v)
    return (shares - torch.log1p(-shares.exp().clamp(max=1 - 1e-6))).amax(1).T
