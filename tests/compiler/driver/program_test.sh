#!/usr/bin/env bash
# The smelt program from outside: program_test.sh errors|inspect|compile|calibrate|folds|budget|report PROGRAM CASES
set -uo pipefail
part=$1 smelt=$2 cases=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
llama=$cases/llama_gqa/genai_fp32/model.onnx
failures=0

fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# refused TEXT WORDS...: smelt WORDS fails by itself (no signal) and says TEXT on stderr.
refused() {
  local text=$1 status
  shift
  "$smelt" "$@" >out.log 2>err.log
  status=$?
  if [ $status -eq 0 ] || [ $status -ge 126 ]; then fail "smelt $* ended with $status"; fi
  grep -qF -- "$text" err.log || { fail "smelt $* did not say '$text':"; cat err.log; }
}

# works WORDS...: smelt WORDS succeeds; its stdout is in out.log.
works() { "$smelt" "$@" >out.log 2>err.log || { fail "smelt $* ended with $?:"; cat err.log; }; }

# only FILE...: nothing else is left in the folder but logs and these.
only() {
  local found
  found=$(ls -A | grep -vxE "out.log|err.log|$(IFS='|'; echo "$*")")
  [ -z "$found" ] || fail "left behind: $found"
}

# A tokenizer of single bytes that fits a vocabulary of 128: letters and signs from "!" to "~", space and newline.
make_tokenizer() {
  local vocab="" id=0 code
  for code in $(seq 33 126); do
    case $code in
      34) vocab+="\"\\\"\": $id, " ;;
      92) vocab+="\"\\\\\": $id, " ;;
      *) vocab+="\"$(printf "\\x$(printf %x "$code")")\": $id, " ;;
    esac
    id=$((id + 1))
  done
  cat >"$1" <<JSON
{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": null,
 "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
  "vocab": {$vocab "\u0120": $id, "\u010a": $((id + 1))}, "merges": []}}
JSON
}

inspect() {
  works inspect "$llama"
  for said in "onnxruntime-genai" "layers                2" "kv_heads              2" "group_query_attention 2" \
              "rms norm, epsilon 1e-06" "int4" "embedding"; do
    grep -qF -- "$said" out.log || fail "inspect did not say '$said'"
  done
  works inspect --json "$llama"
  python3 -c 'import json; d = json.load(open("out.log")); assert d["raised"] and d["architecture"]["layers"] == 2' ||
    fail "inspect --json"
  # The same matrix as embedding [V, H] and as head [H, V] counts once.
  works inspect "$cases/llama_gqa/optimum/model.onnx"
  works inspect "$cases/bert_cls/optimum/model.onnx"
  refused "no artifact" inspect --verify "$llama"
  echo "not a model" >junk.onnx
  refused "junk.onnx" inspect junk.onnx
  only junk.onnx
}

errors() {
  refused "did you mean --weights?" compile "$llama" --wieghts int4
  refused "--weights needs a value" compile "$llama" --weights
  refused "found 0 operands" compile
  refused "contradict" compile "$llama" --data a.txt --stats b.stats
  refused "did you mean compile?" compil "$llama"
  refused "none.onnx" compile none.onnx
  echo "this is no protobuf" >text.onnx
  refused "text.onnx" compile text.onnx
  head -c 3000 "$llama" >cut.onnx
  refused "cut.onnx" compile cut.onnx
  refused "--threads is 99999, expected at most 1024" compile "$llama" --threads 99999
  refused "missing/x.html" report "$llama" -o missing/x.html
  refused "missing/x.smelt" compile "$llama" -o missing/x.smelt
  mkdir folder
  refused "is the folder" compile "$llama" -o folder
  cp "$llama" model.onnx
  refused "is the model itself" compile model.onnx -o model.onnx
  refused "no tokenizer.json" compile model.onnx --data text.onnx
  refused "lunch" compile model.onnx --stop-after lunch
  # An op that nobody knows is refused by name, raised or not.
  LC_ALL=C sed 's/Softmax/Sofamax/g' "$cases/bert_cls/optimum/model.onnx" >sofa.onnx
  refused "Sofamax" compile sofa.onnx -o bert.smelt
  rm sofa.onnx
  refused "runs as a graph, which only CPUs do" compile "$cases/bert_cls/optimum/model.onnx" --as-is --target native,cuda
  only text.onnx cut.onnx folder model.onnx
  cmp -s "$llama" model.onnx || fail "the model was changed"
}

compile() {
  # Without a tokenizer an artifact is made; it says that it reads no text.
  works compile "$llama" --weights int8 --target x86-64-v3 -o model.smelt -q
  refused "tokenizer" run model.smelt --raw "hello"
  works inspect model.smelt --json
  grep -q '"s8c"' out.log || fail "inspect does not name the format"

  refused "tokenizer" eval model.smelt --text err.log --context 64

  # Dumps have every phase, and stopping early writes no artifact.
  works compile "$llama" --stop-after quantized --dump dumps
  for name in 0_imported 1_raised 2_fused 6_quantized; do
    [ -s dumps/$name.mlir ] || fail "no dump $name"
  done
  grep -q "onnx.node" dumps/0_imported.mlir || fail "the import has no onnx.node"
  grep -q "packed_offset" dumps/6_quantized.mlir || fail "the quantized model has no offsets"
  only model.smelt dumps

  # Killed in the middle: nothing that looks like an artifact, and nothing at all after the next compilation.
  # (A shell's background jobs ignore SIGINT, which takes the same way as SIGTERM.)
  rm -r dumps
  for signal in TERM HUP KILL; do
    "$smelt" compile "$llama" -o killed.smelt -q &
    local job=$!
    for _ in $(seq 200); do
      ls killed.smelt* >/dev/null 2>&1 && break
      sleep 0.01
    done
    sleep 0.1
    kill -$signal $job
    wait $job 2>/dev/null
    [ $? -ge 128 ] || fail "the compilation was not killed by $signal"
    [ ! -e killed.smelt ] || fail "an artifact after $signal"
    if [ $signal != KILL ]; then only model.smelt; fi
  done
  # The same model gives the same bytes, whatever the number of threads and what was killed before.
  works compile "$llama" --weights int8 --target x86-64-v3 -o killed.smelt -q --threads 1
  only model.smelt killed.smelt
  cmp -s model.smelt killed.smelt || fail "two compilations differ"
}

folds() {
  cp "$llama" model.onnx
  make_tokenizer tokenizer.json
  for _ in $(seq 60); do echo "the quick brown fox jumps over the lazy dog"; done >a.txt
  # In a format that loses next to nothing, a fold that is not undone on the other side would show.
  local exact=(model.onnx --data a.txt --weights s8g32 --head s8g32 --activations float --kv f16 --target native -q)
  works compile "${exact[@]}" --fold awq,smooth,hadamard --work work -o folded.smelt
  works inspect folded.smelt --json
  python3 - <<'PY' || fail "inspect of a folded model"
import json
metadata = json.load(open("out.log"))["metadata"]
assert sum(metadata["folds"].values()) >= 2, metadata.get("folds")
folded = [linear["fold"] for linear in metadata["linears"] if "fold" in linear]
assert len(folded) == sum(metadata["folds"].values())
assert all(0 < fold["error_left"] < 0.97 + 1e-9 for fold in folded), folded
PY
  works eval folded.smelt -r model.onnx -t a.txt --context 64 --chunks 8 --json -q
  python3 -c 'import json; kl = json.load(open("out.log"))["mean_kl"]; assert kl < 1e-3, kl' ||
    fail "a fold changed the function: $(cat out.log)"
  # The folds that were kept give the same bytes; without folds there are others, and nothing is said of any.
  [ -s work/folds.json ] || fail "the work folder keeps no folds"
  works compile "${exact[@]}" --fold awq,smooth,hadamard --work work -o again.smelt
  cmp -s folded.smelt again.smelt || fail "folds that were kept gave other bytes"
  works compile "${exact[@]}" --fold none --work work -o plain.smelt
  works inspect plain.smelt --json
  python3 -c 'import json; assert "folds" not in json.load(open("out.log"))["metadata"]' ||
    fail "folds where none were asked for"
  cmp -s folded.smelt plain.smelt && fail "the folds are not in the artifact"
}

# Code differs with the formats that a budget chooses: it is counted, and each attempt has its own.
budget() {
  cp "$llama" model.onnx
  make_tokenizer tokenizer.json
  for _ in $(seq 60); do echo "the quick brown fox jumps over the lazy dog"; done >a.txt
  local common=(model.onnx --data a.txt --target native,vulkan --work work -q)
  works compile "${common[@]}" --bits 9 -o finest.smelt
  # The first attempt takes the finest formats, since nothing is known of code, and weighs too much.
  local limit=$(($(stat -c %s finest.smelt) - 20000))
  works compile "${common[@]}" --max-size $limit -o small.smelt
  grep -q "cannot be met" err.log && fail "a budget was missed: $(cat err.log)"
  [ "$(stat -c %s small.smelt)" -le "$limit" ] || fail "more bytes than the budget of $limit"
  works inspect small.smelt --verify --json
  python3 -c 'import json; assert sum(s["kind"] == "gpu code" for s in json.load(open("out.log"))["sections"]) == 1' ||
    fail "not one section of GPU code: $(cat out.log)"
}

calibrate() {
  cp "$llama" model.onnx
  make_tokenizer tokenizer.json
  for _ in $(seq 60); do echo "the quick brown fox jumps over the lazy dog"; done >a.txt
  for _ in $(seq 60); do echo '{"text": "1 + 2 = 3; 4 * 5 = 20; [6] {7} <8>"}'; done >b.jsonl
  works calibrate model.onnx --data a.txt -o a.stats -q
  works calibrate model.onnx --data b.jsonl -o b.stats -q --sample-tokens 64
  cmp -s a.stats b.stats && fail "other text gave the same statistics"

  # Statistics are read: other text gives other weights; the same text gives the same, from a file or at once.
  for name in a b; do works compile model.onnx --stats $name.stats --target x86-64-v3 -o $name.smelt -q; done
  works compile model.onnx --data a.txt --target x86-64-v3 -o c.smelt -q
  cmp -s a.smelt b.smelt && fail "other statistics gave the same artifact"
  works compile model.onnx --stats a.stats --stop-after quantized --dump a
  works eval a.smelt --reference model.onnx --text a.txt --context 64 --json -q
  grep -q '"mean_kl"' out.log || fail "no mean_kl in: $(cat out.log)"

  # Shards give the bytes of one run; a part of them does not pass for the whole.
  for i in 1 2; do works calibrate model.onnx --data a.txt --second-moments --shard $i/2 -o part$i.stats -q; done
  works calibrate model.onnx --data a.txt --second-moments -o whole.stats -q
  works merge part2.stats part1.stats -o merged.stats
  cmp -s whole.stats merged.stats || fail "merged shards differ from the whole"
  refused "shard 1/2 of the same data is in both" merge part1.stats part1.stats -o twice.stats
  refused "is empty: the data have fewer batches than shards" calibrate model.onnx --data a.txt --shard 1/50 -q
  refused "--output is missing" merge part1.stats
  works compile model.onnx --stats part1.stats --target x86-64-v3 -o part.smelt
  grep -qF "shards 2 of 2 are missing" err.log || fail "nothing was said of the missing shard"
  refused "second moments in one only" merge a.stats whole.stats -o both.stats

  # Tasks: choices and prompts against the float model; malformed lines are named.
  cat >choice.jsonl <<'JSON'
{"context": "the quick brown", "choices": ["fox", "8 <"], "answer": 0}
{"question": "the lazy", "choices": ["[6]", "dog", "ab"], "answer": 1}
JSON
  echo '{"prompt": "the quick", "expect": "x", "check": "contains", "max_tokens": 4}' >prompt.jsonl
  works eval a.smelt -r model.onnx --task choice.jsonl --task prompt.jsonl -t a.txt -t b.jsonl --context 64 --json -q
  python3 - <<'PY' || fail "eval --json with tasks"
import json
found = json.load(open("out.log"))
choice, prompt = found["tasks"]
assert choice["kind"] == "choice" and choice["acc"]["items"] == 2 and "flips" in choice, choice
assert prompt["kind"] == "generation" and prompt["passed"]["items"] == 1, prompt
assert [t["text"] for t in found["texts"]] == ["a.txt", "b.jsonl"]
assert found["tokens"] == sum(t["tokens"] for t in found["texts"])
assert 0 <= found["median_kl"] <= found["kl_90"] <= found["kl_99"] <= found["kl_99_9"] <= found["max_kl"]
assert 0 <= found["top5_flips"] <= 1 and found["rms_delta_p"] >= abs(found["mean_delta_p"])
PY
  # The float model against itself.
  works eval model.onnx -r model.onnx -t a.txt --context 64 --chunks 2 --json -q
  python3 -c 'import json; d = json.load(open("out.log")); assert abs(d["mean_kl"]) < 1e-12 and d["same_top"] == 1' ||
    fail "a model differs from itself: $(cat out.log)"
  echo '{"context": "c", "choices": ["a", "b"], "answer": 7}' >>choice.jsonl
  refused "choice.jsonl:3: \"answer\" is 7, expected" eval a.smelt --task choice.jsonl -q
  printf 'one\ttwo\t3\n' >pairs.tsv
  refused "need an encoder" eval a.smelt --task pairs.tsv --context 64 -q

  # Data that is none.
  : >empty.txt
  refused "has no text; expected about" calibrate model.onnx --data empty.txt -q
  printf 'x' >one.txt
  refused "has 1 token of text" calibrate model.onnx --data one.txt -q
  printf 'ab\0cd' >binary.txt
  refused "binary.txt' is not text: byte 2 is zero" calibrate model.onnx --data binary.txt -q
  works calibrate model.onnx --samples 2 -o default.stats
  works calibrate model.onnx --data a.txt --samples 1 --sample-tokens 16 -o few.stats
  grep -qF "only 16 tokens of calibration text" err.log || fail "nothing was said of too little text: $(cat err.log)"
  grep -qF "all of one kind (prose)" err.log || fail "nothing was said of one kind of text: $(cat err.log)"

  # Statistics of another model.
  mkdir other
  cp "$cases/llama_gqa/optimum/model.onnx" other/
  refused "collect them again" compile other/model.onnx --stats a.stats
  head -c 100 a.stats >cut.stats
  refused "cut.stats" compile model.onnx --stats cut.stats
  echo '{"text": ' >bad.jsonl
  refused "bad.jsonl:1" calibrate model.onnx --data bad.jsonl
  refused "no calibration data" calibrate model.onnx --data nowhere
  refused "missing/a.stats" calibrate model.onnx --data a.txt -o missing/a.stats
}

report() {
  cp "$llama" model.onnx
  make_tokenizer tokenizer.json
  for _ in $(seq 60); do echo "the quick brown fox jumps over the lazy dog"; done >a.txt
  works calibrate model.onnx --data a.txt -o a.stats -q
  works compile model.onnx --weights int4 --stats a.stats --target native -o small.smelt -q
  works compile model.onnx --weights int8 --target native -o large.smelt -q
  works report small.smelt large.smelt -r model.onnx -t a.txt --context 64 --chunks 4 --stats a.stats -p "the quick" --answer-tokens 4 --bench 1 -q
  grep -q "<svg" small.html || fail "the page has no plot"
  for name in small large; do works report $name.smelt -r model.onnx -t a.txt --context 64 --chunks 4 --json -o $name.json -q; done
  python3 - <<'PY' || fail "the report's data"
import json
small, large = (json.load(open(f"{name}.json")) for name in ("small", "large"))
assert small["bytes"] < large["bytes"] and small["quality"]["mean_kl"] > large["quality"]["mean_kl"] > 0
assert {(l["layer"], l["kind"]) for l in small["linears"] if l["layer"] >= 0} and all("output_error" in l for l in small["linears"])
assert sum(part["bytes"] for part in small["parts"]) <= small["bytes"]
assert sum(small["weights"]["largest_of_group"]["counts"]) > 0
assert sum(small["quality"]["kl_histogram"]["counts"]) == small["quality"]["tokens"]
PY
  works report --compare small.json large.json
  grep -q "mean KL" out.log || fail "the comparison says nothing of KL"
  works report --compare small.json small.json --max-kl-increase 0 --max-size-increase 0%
  refused "size went from" report --compare small.json large.json --max-size-increase 1%
  refused "mean KL went from" report --compare large.json small.json --max-kl-increase 0.5
  refused "is no report" report --compare small.json tokenizer.json
  refused "expected a share" report --compare small.json large.json --max-kl-increase much
  refused "need --compare" report small.smelt --max-kl-increase 1
  refused "compared by size and KL" report small.smelt large.smelt
}

$part
[ $failures -eq 0 ]
