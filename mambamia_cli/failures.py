"""Any exception -> one of our errors, with its exit code and one sentence."""

import errno

from mambamia_cli.errors import InputError, MambamiaError, ModelError, OutOfMemoryError, OutputError

_ALLOCATION = ("can't allocate memory", "out of memory", "not enough memory")


def translate(error: BaseException) -> MambamiaError:
    """An error of ours as it is; memory and weight-file errors as their class; the rest as an internal one.

    Torch's and safetensors' classes are told by name: naming them by import would load torch to print an error.
    """
    if isinstance(error, MambamiaError):
        return error
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if isinstance(error, MemoryError) or "OutOfMemoryError" in kinds or any(mark in text for mark in _ALLOCATION):
        return OutOfMemoryError("memory ran out", "lower --token-budget or --max-frames, or use --quant nf4")
    if "SafetensorError" in kinds:
        return ModelError("a weights file is damaged", "fetch it again with 'mambamia models pull'")
    if isinstance(error, (UnicodeError, OSError)) and "embedded null" not in text and getattr(error, "filename", None):
        return InputError(f"cannot read {error.filename}: {(error.strerror or text).lower()}", "check the path")  # type: ignore[union-attr]
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OutputError("a result cannot be written: no space left", "free some space or write elsewhere")
    summary = text.splitlines()[0][:200] if text else "no message"
    return MambamiaError(f"internal error: {type(error).__name__}: {summary}", "run again with --debug for the traceback")
