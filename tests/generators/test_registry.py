"""One registry, in step with the configurations, and light until a generator is built."""

from __future__ import annotations

import subprocess
import sys

from tests.generators.toys import CLASSES, NAMES


def test_every_configuration_has_its_generator() -> None:
    assert sorted(CLASSES) == sorted(NAMES)


def test_naming_a_generator_loads_no_torch() -> None:
    code = (
        "import sys; from tests.generators import toys; import twinweave.generators.rounds;"
        "[toys.conf(name) for name in toys.NAMES];"
        "sys.exit('torch' in sys.modules or 'opacus' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
