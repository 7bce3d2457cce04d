#!/bin/bash
# The GPU bench in one visit to a machine: bash benchmarks/gpu_bench.sh [stage ...]
#
# Stages: blocks seed correct memory network coverage (default: all). Each is a process of its own, so that a broken one
# harms no other; the record is written after every stage, and a later call with the same OUT completes it.
#
#   OUT        folder of the record and the log (runs/gpu)
#   TOTAL      seconds for everything (575)
#   CKPT       trained networks, paths with spaces between (the one in benchmarks/checkpoints)
#   KERNELS    kernels to choose from, as "cuda triton" (all)
#   PRECISION  fp16 or exact
#   QUICK      any text: a smoke run whose figures hold no check
#   WHEELS     folder of wheels that the machine lacks, for one that reaches no registry
#   EXTRA      more options of python -m sparseflow.recipes.spike_bench.gpu
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-runs/gpu} TOTAL=${TOTAL:-575} CKPT=${CKPT-benchmarks/checkpoints/sew_resnet18_cifar10_224.safetensors}
mkdir -p "$OUT"
site=$OUT/site
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl || exit
fi
export PYTHONUNBUFFERED=1 PYTHONPATH=src:.:$site
name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
target=h200; case "$name" in *H100*) target=h100 ;; esac
record=$OUT/spike_$target${QUICK:+_quick}.json
commit=${COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null)}
declare -A share=([blocks]=30 [seed]=20 [correct]=15 [memory]=8 [network]=50 [coverage]=50)
stages=("$@"); [ ${#stages[@]} -eq 0 ] && stages=(blocks seed correct memory network coverage)
options=(--target "$target" --out "$record" --commit "${commit:-}" --precision "${PRECISION:-fp16}" ${QUICK:+--quick})
for c in $CKPT; do options+=(--checkpoint "$c"); done
for k in ${KERNELS:-}; do options+=(--kernel "$k"); done
echo "$name, target $target, commit ${commit:-?}, stages ${stages[*]}, $(nproc) cores"
for ((i = 0; i < ${#stages[@]}; i++)); do
  rest=0; for s in "${stages[@]:i}"; do rest=$((rest + share[$s])); done
  left=$((TOTAL - SECONDS)); budget=$((left * share[${stages[i]}] / rest - 15))
  if [ "$budget" -lt 10 ]; then echo "${stages[i]}: no time left"; continue; fi
  timeout -k 12 $((budget + 45 < left ? budget + 45 : left)) python3 -m sparseflow.recipes.spike_bench.gpu \
    "${options[@]}" --only "${stages[i]}" --budget "$budget" ${EXTRA:-} >/dev/null 2>>"$OUT/bench.log" \
    || echo "${stages[i]}: status $? (1: a check fell short; 124: time)"
done
[ -f "$record" ] && python3 -m sparseflow.recipes.spike_bench.gpu --show "$record"
