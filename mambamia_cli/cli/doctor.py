"""`mambamia doctor`: the machine, the packages, and what would be used and why."""

import json
from collections.abc import Callable

from mambamia_cli.cli.options import Options, takes


@takes("model", "device", "quant", "json", "quiet", "verbose", "debug")
def doctor(*, options: Options) -> Callable[[], int]:
    """Show the device, the packages, and what a run would use and why. Exit 1 when something needed is missing."""

    def job() -> int:
        from mambamia_cli.cli.diagnosis import diagnose, to_text

        findings = diagnose(options.model, options.device, options.quant)
        print(json.dumps(findings, indent=2) if options.json else to_text(findings))
        return 0 if findings["ok"] else 1

    return job
