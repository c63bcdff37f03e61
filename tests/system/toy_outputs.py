"""defectd with toy outputs: one that works and four that fail, each in its own way.

The daemon has no such outputs: this entry point adds rows to the registry and leaves the rest as it is shipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

# A script finds `fakes` in tests/, and before that `edge` in the checkout: tests/edge is a folder of that name, too.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from fakes.outputs import BlockingOutput, DyingOutput, HangingOutput, RaisingOutput, ToyOutput, kind

from edge.cli import main
from edge.delivery.output import OutputContext
from edge.delivery.outputs import OUTPUTS

TOYS = {
    "good": ToyOutput,
    "raising": RaisingOutput,
    "dying": DyingOutput,
    "hanging": HangingOutput,
    "blocking": BlockingOutput,
}

for name, make in TOYS.items():

    def build(context: OutputContext, name: str = name, make: type[ToyOutput] = make) -> ToyOutput:
        return make(context, name)

    OUTPUTS.append(kind(build, name))
sys.exit(main())
