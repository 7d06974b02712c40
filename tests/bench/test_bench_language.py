"""The language benchmark on a tiny model: every variant has figures, a variant that cannot run has a reason."""

from fixtures.language_models import save_model

from mambamia_cli.bench.language import VARIANTS, language_speed, to_dict, to_text


def test_every_variant_is_measured(tmp_path, cache):
    save_model("llama", tmp_path / "m")
    rows = language_speed(str(tmp_path / "m"), prompt_tokens=30, new_tokens=8)
    assert [(row.backend, row.quant) for row in rows] == list(VARIANTS)
    assert all(row.error is None and row.load_s > 0 and row.prefill_s > 0 and row.tokens_per_s > 0 for row in rows)
    table = to_text(rows).splitlines()
    assert len(table) == len(rows) + 2 and table[-2].endswith(" 1.0")
    assert to_dict(rows)[0]["quant"] == "int4" and "error" not in to_dict(rows)[0]


def test_a_variant_that_cannot_run_is_a_line(tmp_path, cache):
    save_model("qwen2", tmp_path / "q")
    (row,) = language_speed(str(tmp_path / "q"), [("fast", "int8")], prompt_tokens=10, new_tokens=2)
    assert row.tokens_per_s is None and "fast CPU decoder" in row.error and row.error in to_text([row])
