"""The published relative of the MambaMia family: 32 frames and the sound of a video, answered by Qwen2. Imports no torch."""
