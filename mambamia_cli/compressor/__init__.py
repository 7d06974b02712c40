"""Patch grids to anchors and delta: the MambaMia compressor. Knows only torch.

Where the host waits for a card: nowhere in here. A window (stream.StreamingCompressor._compress) is queued whole. Its shapes
follow from the sizes of its chunks alone and no number of a tensor is read, so that it is one graph for torch.compile
(fullgraph) and every full window after the first runs the same ops on the same shapes, as a CUDA graph wants it. A graph of
another shape is made for the first window (no state enters), for the last one (shorter), and after `smaller()`. Two things lie
outside of this: `offload`, which moves each chunk between the memories, and mamba-ssm's kernels, which tune themselves at the
first call of each shape. What waits around the compressor is listed in pipeline/index.py.
"""
