"""Worker processes of Amp on ampstore.

    python -m amp.model             ->     python -m ampstore.amp -m amp.model

The protocol between master and workers is the same either way.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

SetupParallel = Callable[..., Any]

_MODULE = re.compile(r"(?<= -m )(?=amp\.)")


def on_ampstore(setup_parallel: SetupParallel) -> SetupParallel:
    """`setup_parallel` whose workers run on ampstore if they are modules of Amp."""

    def setup(
        parallel: Mapping[str, object],
        workercommand: str,
        log: Callable[..., object],
        setup_publisher: bool = False,
    ) -> Any:
        command = _MODULE.sub("ampstore.amp -m ", workercommand, count=1)
        return setup_parallel(parallel, command, log, setup_publisher)

    setup.__name__ = setup.__qualname__ = "setup_parallel"
    setup.__doc__ = setup_parallel.__doc__
    return setup
