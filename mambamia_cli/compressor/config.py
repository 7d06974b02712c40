"""Sizes and options of a compressor: one frozen record, saved beside the weights as config.json."""

import dataclasses
import json
from pathlib import Path

from mambamia_cli.errors import ModelError


@dataclasses.dataclass(frozen=True)
class CompressorConfig:
    """Defaults are those of mambamia-tiny. Raises ModelError for values that do not fit together."""

    vision_width: int = 432  # d_vision, width of a patch from the vision encoder
    hidden_size: int = 192  # d; input_proj is absent when it equals vision_width
    output_size: int | None = None  # width of the anchors handed out; no output_proj when None
    grid_rows: int = 7  # g, rows of patches a frame, one query each
    patches_per_row: int = 7  # k
    num_layers: int = 3
    ssm: str = "mamba2"  # or "mamba1"
    bidirectional: bool = True
    state_size: int = 64  # s
    head_dim: int = 64  # p, Mamba-2 only
    n_groups: int = 1  # heads share B and C; only 1 exists in the family
    expand: float = 2  # d_inner = expand * hidden_size
    conv_kernel: int = 4
    chunk_size: int = 64  # tokens a chunk of the scan; changes speed, not numbers
    norm_eps: float = 1e-5
    gpa: bool = True  # False: queries reach their row through the mixer alone (table 2's base)
    gate_min: float = 0.01
    gate_max: float = 0.99
    query_dropout: float = 0.1
    gpa_init_scale: float = 1e-3
    taa_layout: str = "frames"  # or "rows"; see taa.py
    taa_bidirectional: bool = False
    taa_expand: float = 1.0
    taa_state_size: int = 64

    def __post_init__(self):
        def need(holds: bool, what: str) -> None:
            if not holds:
                raise ModelError(f"compressor config: {what}", "correct the model folder's config.json")

        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int or field.name == "output_size" and value is not None:
                need(type(value) is int and value >= 1, f"{field.name} must be a whole number above 0, not {value!r}")
            elif field.type is float:
                need(isinstance(value, int | float) and not isinstance(value, bool), f"{field.name} must be a number")
            elif field.type is bool:
                need(isinstance(value, bool), f"{field.name} must be true or false, not {value!r}")
        need(self.ssm in ("mamba1", "mamba2"), f"ssm must be mamba1 or mamba2, not {self.ssm!r}")
        need(self.taa_layout in ("frames", "rows"), f"taa_layout must be frames or rows, not {self.taa_layout!r}")
        need(self.n_groups == 1, f"n_groups must be 1, not {self.n_groups}")
        need(0 <= self.gate_min < self.gate_max <= 1, "gate_min and gate_max must satisfy 0 <= min < max <= 1")
        need(0 <= self.query_dropout < 1, "query_dropout must be in [0, 1)")
        need(self.expand > 0 and self.taa_expand > 0, "expand and taa_expand must be above 0")
        if self.ssm == "mamba2":
            taa_width = self.hidden_size * (self.grid_rows if self.taa_layout == "frames" else 1)
            for name, inner in (
                ("expand", self.expand * self.hidden_size),
                ("taa_expand", self.taa_expand * taa_width),
            ):
                whole = inner == round(inner) and round(inner) % self.head_dim == 0 and inner > 0
                need(whole, f"{name} gives an inner width of {inner:g}, not a multiple of head_dim {self.head_dim}")

    @classmethod
    def paper(cls) -> "CompressorConfig":
        """The paper's sizes beside SigLIP2 so400m-384 and Qwen2-7B: about 247 M parameters."""
        return cls(
            vision_width=1152,
            hidden_size=3072,
            output_size=3584,
            grid_rows=24,
            patches_per_row=24,
            state_size=128,
            chunk_size=256,
            taa_layout="rows",
            taa_expand=2,
            taa_state_size=128,
        )

    @classmethod
    def from_dict(cls, values: dict) -> "CompressorConfig":
        """Raises ModelError for a key this version does not know."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ModelError(
                f"compressor config has unknown keys: {', '.join(unknown)}",
                "correct config.json, or update mambamia if the weights are newer than this version",
            )
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> "CompressorConfig":
        """Raises ModelError when the file is missing or is not a JSON object of known keys."""
        remedy = "fetch the model again with `mambamia models pull` or name another with --model"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}", remedy) from None
        except ValueError:
            raise ModelError(f"{path} is not valid JSON", remedy) from None
        if not isinstance(values, dict):
            raise ModelError(f"{path} does not hold a JSON object", remedy)
        return cls.from_dict(values)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @property
    def anchor_width(self) -> int:
        """Width of the anchors that leave the model."""
        return self.output_size or self.hidden_size

    @property
    def tokens_per_frame(self) -> int:
        """Length of a frame in the compressor's sequence: its patches and one query a row."""
        return self.grid_rows * (self.patches_per_row + 1)
