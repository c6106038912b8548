#!/usr/bin/env python3
"""Runs the CI benchmark with Busybee's driver: `benches/run.py BENCH_DIR --out x.json [options of bench.py]`.

BENCH_DIR is the folder of the benchmark that also drives Buildbot (bench.py, scenarios.py, drivers/).
`--driver buildbot --venv VENV` instead runs Buildbot, so that both come from one machine and one hour.
"""
import os
import sys

bench_dir = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, bench_dir)
sys.dont_write_bytecode = True

import drivers  # noqa: E402  (found in BENCH_DIR)

drivers.__path__.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "drivers"))
if "--driver" not in sys.argv:
    sys.argv += ["--driver", "busybee"]

import bench  # noqa: E402

bench.main()
