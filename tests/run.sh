#!/usr/bin/env bash
# Builds everything and runs every test: the one command that says whether the tree is good. Arguments go to ctest (-R name, -V, ...).
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/setup --tests
export PATH=$HOME/.cache/smelt/venv/bin:$PATH
cmake --preset default -DSMELT_TESTS=ON
cmake --build build/default
ctest --test-dir build/default --output-on-failure --no-tests=error -j "$(nproc)" "$@"
