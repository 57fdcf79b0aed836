#!/usr/bin/env bash
# The numerical tests as other processors would run them, each from three starts that `make test` does not use:
# with what oneDNN and XLA choose on processors with fewer instructions. Takes an hour or two.
#
# tests/thorough.sh [words for pytest]; SEEDS="4 5" and BACKENDS=jax ask for less.
set -uo pipefail
cd "$(dirname "$0")/.."

TENSORFLOW=(
  TF_ENABLE_ONEDNN_OPTS=0
  TF_ENABLE_ONEDNN_OPTS=1
  "TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2"
  "TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX512_CORE"
)
XLA=(  # JAX is all XLA, TensorFlow compiles some of the generator's training with it
  XLA_FLAGS=--xla_cpu_prefer_vector_width=128
  XLA_FLAGS=--xla_cpu_prefer_vector_width=256
  XLA_FLAGS=--xla_cpu_prefer_vector_width=512
  XLA_FLAGS=--xla_cpu_max_isa=AVX2
)
failures=0

try() {  # backend, setting, seed, interpreter, words for pytest
  local backend=$1 setting=$2 seed=$3 python=$4
  shift 4
  # a setting is one or two assignments, so it has to be split
  # shellcheck disable=SC2086
  if output=$(env KERAS_BACKEND="$backend" TEST_SEED="$seed" JAX_PYTHON=.venv-jax/bin/python $setting \
    "$python" -m pytest -q -m numerical -n auto --dist=loadfile --no-loadscope-reorder -p no:warnings "$@" 2>&1); then
    echo "$backend, $setting, seed $seed: $(grep -E "^[0-9]+ passed" <<<"$output")"
  else
    failures=$((failures + 1))
    echo "$output"
    echo "$backend, $setting, seed $seed: FAILED"
  fi
}

for seed in ${SEEDS:-1 2 3}; do
  for backend in ${BACKENDS:-tensorflow jax}; do
    if [ "$backend" = tensorflow ]; then
      for setting in "${TENSORFLOW[@]}" "${XLA[@]}"; do
        try tensorflow "$setting" "$seed" .venv/bin/python "$@"
      done
    else  # one backend against the other is compared above
      for setting in "${XLA[@]}"; do
        try jax "$setting" "$seed" .venv-jax/bin/python --ignore=tests/test_backends.py "$@"
      done
    fi
  done
done
[ "$failures" = 0 ]
