"""One central tool on one table: `central.py` runs this file in the tools' own environment.

    python central_worker.py mst|aim GIVEN.npz FOUND.npy EPSILON DELTA SEED

Imports nothing of this project, which that environment lacks.
"""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np


def main() -> None:
    tool, given, found, epsilon, delta, seed = sys.argv[1:]
    table = import_module("pandas").DataFrame
    pipelines = import_module("dpmm.pipelines")
    kind = {"mst": pipelines.MSTPipeline, "aim": pipelines.AIMPipeline}[tool]
    with np.load(given) as archive:
        codes, sizes = archive["codes"], archive["sizes"]
    names = [f"c{i}" for i in range(len(sizes))]
    # Two jobs at least: with one, this version's AIM passes its arguments in the wrong order.
    pipeline = kind(epsilon=float(epsilon), delta=float(delta), disable_processing=True, n_jobs=2)
    domain = dict(zip(names, sizes.tolist(), strict=True))
    pipeline.fit(table(codes, columns=names), domain=domain, random_state=int(seed))
    made = pipeline.generate(n_records=len(codes), random_state=int(seed))
    np.save(found, made[names].to_numpy())


if __name__ == "__main__":
    main()
