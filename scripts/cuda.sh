#!/usr/bin/env bash
# Do everything worth doing on a machine with a CUDA device in one call: the tests marked `gpu`, the default suite, the
# tables for README.md, sweeps over the batch, the studies at full width, training on all devices where there are several,
# and last the benchmark of the fusions, which takes longest. Needs a Python with torch for CUDA, pytest and
# pytest-benchmark, and for the studies what the extra `study` brings; cnnperf itself need not be installed.
#
#     scripts/cuda.sh [FOLDER]        (default: results/cuda)
#
# FOLDER gets the run files, the logs of each step and figures.md. A step that fails does not keep the next ones from running.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-results/cuda}
python=${PYTHON:-python3}
mkdir -p "$folder"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || {
    echo "scripts/cuda.sh: $python has no torch that sees a CUDA device; set PYTHON to one that has" >&2
    exit 2
}
# Where the package is installed, pytest loads its plugin by itself, and a second time would be an error.
plugin=$("$python" -c '
from importlib.metadata import entry_points
print("" if any(entry.name == "cnnperf" for entry in entry_points(group="pytest11")) else "-p cnnperf.plugin")
')

failed=()
step() {
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee "$folder/$name.log" || failed+=("$name")
}

# shellcheck disable=SC2086 # no plugin is no argument
{
    step tests "$python" -m pytest $plugin tests -m gpu
    step suite "$python" -m pytest $plugin benchmarks --benchmark-autosave --benchmark-storage="$folder/runs"
}
figures() {
    printf '<!-- figures:begin -->\n<!-- figures:end -->\n' >"$folder/$1.md"
    step "$1" "$python" -m cnnperf.cli figures "$folder/$1.md" "$folder/$2"
}
figures figures runs
for architecture in lenet5 resnet18; do
    step "sweep-$architecture" "$python" -m cnnperf.cli sweep "$architecture" --over batch --to-memory \
        --out "$folder/sweep-$architecture.json"
done
# Full width on CUDA; a study goes on where it was, so that a cut session loses no seed.
for study in gradient-flow pooling squeeze-excitation depth; do
    step "study-$study" "$python" -m cnnperf.cli study "$study" --out "$folder/studies"
done
devices=$("$python" -c 'import torch; print(torch.cuda.device_count())')
if ((devices > 1)); then
    step scaling env OMP_NUM_THREADS=1 "$python" -m torch.distributed.run --standalone --nproc-per-node "$devices" \
        -m cnnperf.scaling --device cuda --time 4 --out "$folder/scaling.json"
    figures scaling-figures scaling.json
else
    echo "== scaling: left out, it needs several CUDA devices and there is one"
fi
# shellcheck disable=SC2086
step fusion "$python" -m pytest $plugin benchmarks/test_se_fusion.py --cnnperf-device=cuda --cnnperf-suite=full \
    --benchmark-autosave --benchmark-storage="$folder/fusion-runs"
figures fusion-figures fusion-runs

if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
