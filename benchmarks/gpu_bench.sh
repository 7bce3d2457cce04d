#!/bin/bash
# The GPU bench in one visit to a machine: bash benchmarks/gpu_bench.sh [stage ...]
#
# Stages: network memory correct blocks seed coverage (default: all). They are cut into pieces; each is a process of its
# own with a record of its own, so that a broken one harms no other. The pieces of one lane run one after the other on
# one GPU with its share of the processors; with four GPUs there are four lanes side by side, with one GPU one lane.
# What is not timed (compiling, comparing) also takes, at the lowest priority, processors that other lanes leave idle.
# At the end the records are joined; a later call with the same OUT replaces its own pieces.
#
# To run some stages again on another day, on another machine of the same kind: keep the pieces of the first visit
# (tar czf pieces.tgz -C "$OUT" pieces) and give them:
#   PIECES=pieces.tgz bash benchmarks/gpu_bench.sh correct coverage
# The pieces of these stages are replaced, the others stay as they are, and all are joined. Those that stay may be of
# another commit if their stages have the same sources there; else, or if they are of another device, they are refused
# before anything runs. A machine without the repository cannot tell: run the stages there with an OUT of their own,
# and join all pieces at home by python -m sparseflow.recipes.spike_bench.gpu --merge FILE ... --out RECORD.
#
#   OUT        folder of the records and the log (runs/gpu)
#   TOTAL      seconds for everything (575)
#   VISIT      1/2 or 2/2: the first or the second of two calls that share the pieces, for machines of two GPUs. The
#              second one also runs again what did not come to its end in the first.
#   PIECES     pieces of an earlier visit, one .tgz or several with spaces between, unpacked into OUT; a later one
#              replaces those of the same name
#   CACHES     folder for compiled code; the second of two calls finds there what the first made (a new one)
#   CKPT       trained networks, paths with spaces between (those in benchmarks/checkpoints)
#   KERNELS    kernels to choose from, as "cuda triton" (all)
#   PRECISION  fp16, exact or int8
#   QUICK      any text: a smoke run whose figures hold no check
#   WHEELS     folder of wheels that the machine lacks, for one that reaches no registry
#   GPUS       how many GPUs to use (all)
#   EXTRA      more options of python -m sparseflow.recipes.spike_bench.gpu
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-runs/gpu} TOTAL=${TOTAL:-575} CKPT=${CKPT-$(ls benchmarks/checkpoints/*.safetensors 2>/dev/null)}
mkdir -p "$OUT/pieces"
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl || exit
  export PYTHONPATH=src:.:$site
else
  export PYTHONPATH=src:.:${PYTHONPATH:-}
fi
export PYTHONUNBUFFERED=1
name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
target=h200; case "$name" in *H100*) target=h100 ;; esac
commit=${COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null)}
record=$OUT/spike_$target${QUICK:+_quick}.json
gpus=${GPUS:-$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)}
cpus=$(nproc)
[ "$gpus" -gt 4 ] && gpus=4
for archive in ${PIECES:-}; do tar xzf "$archive" -C "$OUT" pieces || exit; done
bench=(python3 -m sparseflow.recipes.spike_bench.gpu)
options=(--target "$target" --commit "${commit:-}" --precision "${PRECISION:-fp16}" ${QUICK:+--quick})
for c in $CKPT; do options+=(--checkpoint "$c"); done
for k in ${KERNELS:-}; do options+=(--kernel "$k"); done

# Visit, lane, share of the lane's time, name of the piece, its options. Shares are about the seconds that a piece needs.
# In one visit the lanes of the second are the third and the fourth.
pieces="
1 0 365 network-spiking_resnet50-32 --only network --case spiking_resnet50:32
1 0 165 network-sew_resnet18-1      --only network --case sew_resnet18:1
1 1 350 correct                     --only correct
1 1 170 network-sew_resnet18-32     --only network --case sew_resnet18:32
2 0 440 coverage                    --only coverage
2 0 110 memory                      --only memory
2 1 300 network-spiking_resnet50-1  --only network --case spiking_resnet50:1
2 1 125 blocks                      --only blocks
2 1 110 seed                        --only seed
"
order="network-sew_resnet18-32 network-sew_resnet18-1 network-spiking_resnet50-32 network-spiking_resnet50-1"
order="blocks seed correct memory $order coverage"
stages=("$@")
wanted() { [ ${#stages[@]} -eq 0 ] && return 0; for s in "${stages[@]}"; do [ "${1%%-*}" = "$s" ] && return 0; done; return 1; }
written=$(find "$OUT/pieces" -name '*.json' | wc -l)
visit=${VISIT:-} visit=${visit%/*}
stay=()
for file in "$OUT"/pieces/*.json; do
  if [ -f "$file" ] && { [ "$visit" = 2 ] || ! wanted "$(basename "$file" .json)"; }; then stay+=("$file"); fi
done
if [ ${#stay[@]} -gt 0 ]; then
  "${bench[@]}" --joins "${stay[@]}" --name "$name" --commit "${commit:-}" || exit
fi
# Whether a piece of the first visit shall run in the second.
again() { [ "$written" -gt 0 ] && { [ ! -f "$OUT/pieces/$1.json" ] || grep -q "ran to its end" "$OUT/pieces/$1.json"; }; }
lane_of() {  # $1: visit, $2: lane, $3: piece; the GPU on which it runs, or nothing
  if [ -z "$visit" ]; then echo $(((2 * ($1 - 1) + $2) % gpus)); return; fi
  if [ "$1" = "$visit" ]; then echo $(($2 % gpus)); return; fi
  [ "$visit" = 2 ] && again "$3" && echo $((1 % gpus))
}

run_lane() {  # $1: GPU, the rest: lines of pieces
  local gpu=$1 lines=("${@:2}") i line share piece rest left budget each=$((cpus / gpus)) cores
  cores=$((gpu * each))-$((gpu + 1 < gpus ? gpu * each + each - 1 : cpus - 1))
  # Machine code goes by what it is made of, so the lanes may share it; what was timed stays with its GPU.
  export CUDA_VISIBLE_DEVICES=$gpu TORCHINDUCTOR_CACHE_DIR=$caches/$gpu/inductor TRITON_CACHE_DIR=$caches/triton
  export SPARSEFLOW_CACHE=$caches/$gpu/sparseflow
  mkdir -p "$SPARSEFLOW_CACHE" "$caches/kernels"
  ln -sfn "$caches/kernels" "$SPARSEFLOW_CACHE/kernels"
  for ((i = 0; i < ${#lines[@]}; i++)); do
    rest=0; for line in "${lines[@]:i}"; do read -r share _ <<<"$line"; rest=$((rest + share)); done
    read -r share piece line <<<"${lines[i]}"
    left=$((TOTAL - SECONDS - 12)) budget=$((left * share / rest - 10))
    [ "$budget" -lt 15 ] && budget=15
    if [ "$left" -lt 20 ]; then echo "$piece: no time left"; continue; fi
    rm -f "$OUT/pieces/$piece.json"
    # shellcheck disable=SC2086
    timeout -k 10 $((budget + 25 < left ? budget + 25 : left)) taskset -c "$cores" "${bench[@]}" "${options[@]}" \
      --out "$OUT/pieces/$piece.json" --budget "$budget" $line ${EXTRA:-} >/dev/null 2>"$OUT/pieces/$piece.log"
    echo "$piece on GPU $gpu: status $? (1: a check fell short; 124: time), ended at $SECONDS s"
  done
}

echo "$name, target $target, commit ${commit:-?}, $gpus GPUs, $cpus cores, visit ${VISIT:-1/1}, stages ${stages[*]:-all}"
caches=${CACHES:-$(mktemp -d)}
# Two processors of every lane are for the process that times; those of the builders are theirs alone, since their
# time goes into compiling.
helpers="" each=$((cpus / gpus)) builders=""
if [ "$gpus" -gt 1 ] && [ "$each" -ge 8 ]; then
  wanted coverage && builders=$(lane_of 2 0 coverage)
  for ((gpu = 0; gpu < gpus; gpu++)); do
    [ "$gpu" = "$builders" ] && continue
    helpers+=,$((gpu * each + 2))-$((gpu + 1 < gpus ? gpu * each + each - 1 : cpus - 1))
  done
  options+=(--helpers "${helpers#,}")
fi
for ((gpu = 0; gpu < gpus; gpu++)); do
  lines=()
  while read -r of lane share piece line; do
    [ -n "${of:-}" ] && wanted "$piece" && [ "$(lane_of "$of" "$lane" "$piece")" = "$gpu" ] && lines+=("$share $piece $line")
  done <<<"$pieces"
  [ ${#lines[@]} -gt 0 ] && run_lane "$gpu" "${lines[@]}" &
done
wait
files=()
for piece in $order; do
  # A piece that was to run counts also where it wrote nothing; after the first of two visits, those of the second do not.
  was=1
  [ "$visit" = 1 ] && grep -q "^2 .* $piece " <<<"$pieces" && was=0
  if { [ $was = 1 ] && wanted "$piece"; } || [ -f "$OUT/pieces/$piece.json" ]; then files+=("$OUT/pieces/$piece.json"); fi
done
for f in "${files[@]}"; do log=${f%.json}.log; [ -f "$log" ] && { echo "== $(basename "$log" .log)"; cat "$log"; }; done >"$OUT/bench.log"
grep -hE "^(warm|blocks|seed|correct|memory|network|coverage): " "$OUT/bench.log" | cut -c1-200
"${bench[@]}" --merge "${files[@]}" --out "$record"
