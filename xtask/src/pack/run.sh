#!/bin/sh
# Runs the tests and benchmarks that are packed beside this script. It needs no internet and no root, and asks nothing.
# `cargo xtask pack` of the project sunfleck made the pack; docs/remote-gpu.md there says more.
set -u

usage() {
    cat <<'TEXT'
Usage: sh run.sh COMMAND [ARGUMENTS]

  check                     checksums, and the adapter that the others will use
  test [FILTER...]          the tests on that adapter
  bench [NAME] [-- ARGS...] the benchmarks, or the one called NAME; with PyTorch and CUDA here, its attention too
  peers                     attention of PyTorch alone
  generate [ARGS...]        text from the model, with and without drafts, or one call of `sunfleck generate ARGS`
  all [-- ARGS...]          test, bench (with ARGS) and generate

Logs and JSON go to results/ beside this script, and as one file to results.tar.gz. The exit status is 0 only where
everything that ran succeeded. Environment, all optional:
  SUNFLECK_ADAPTER=PART     the adapter, by a part of its name (default: the best; see `check`)
  VK_DRIVER_FILES=FILE      the Vulkan driver's JSON file, where it is not found by itself
  SUNFLECK_MODEL=FILE.gguf  the model (default: the packed one)
  SUNFLECK_PARTS=FOLDER     where the parts of the packed model are (default: here, or beside the archive)
  SUNFLECK_RESULTS=FOLDER   another folder for results
  SUNFLECK_FULL=1           also the long tests
TEXT
}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH
absolute() { # PATH: as it is seen from the folder where the user stands
    case $1 in
    '' | /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$PWD" "$1" ;;
    esac
}

if [ -n "${SUNFLECK_MODEL:-}" ]; then
    SUNFLECK_MODEL=$(absolute "$SUNFLECK_MODEL")
    export SUNFLECK_MODEL
fi
results=$(absolute "${SUNFLECK_RESULTS:-}")
parts=$(absolute "${SUNFLECK_PARTS:-}")
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || die "the folder of this script cannot be entered"
cd -- "$here" || die "$here cannot be entered"
[ -r pack.env ] || die "pack.env is missing in $here: unpack the whole archive again"
# shellcheck source=/dev/null
. ./pack.env
results=${results:-$here/results}
work=$here/work
loader=$here/loader/lib
icd=''

# ---- What was packed ----------------------------------------------------------------------------------------------

hasher=''
for program in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r'; do
    [ -n "$hasher" ] || ! command -v "${program%% *}" >/dev/null 2>&1 || hasher=$program
done
[ -n "$hasher" ] || die "checksums need sha256sum, shasum or openssl; there is none of them here"

sha256() { # FILE: its checksum
    $hasher <"$1" | cut -c1-64
}

check_files() {
    count=0
    while read -r file_sum file_name; do
        [ -f "$file_name" ] || die "$file_name is missing: unpack the whole archive again"
        [ "$(sha256 "$file_name")" = "$file_sum" ] || die "$file_name is damaged (its checksum is wrong): copy and unpack the archive again"
        count=$((count + 1))
    done <SHA256SUMS
    [ "$count" -gt 0 ] || die "SHA256SUMS is empty: unpack the whole archive again"
    say "checksums: $count files are whole"
}

check_machine() {
    system=$(uname -s)
    processor=$(uname -m)
    [ "$system" = Linux ] || die "the programs are for Linux, this is $system"
    [ "$processor" = "$PACK_PROCESSOR" ] ||
        die "the programs are for $PACK_PROCESSOR, this machine is $processor: pack on a machine of its kind"
    if ! message=$(bin/sunfleck --version 2>&1); then
        die "bin/sunfleck does not start here: $message (built with ${PACK_C_LIBRARY:-an unknown C library}, here is" \
            "$(getconf GNU_LIBC_VERSION 2>/dev/null || echo another): pack on a system that is no newer than this one)"
    fi
}

needs_model() { # NAME of a program
    case " $PACK_NEEDS_MODEL " in
    *" $1 "*) return 0 ;;
    *) return 1 ;;
    esac
}

# The model: SUNFLECK_MODEL, or the packed one, put together from its parts. Fails where there is none.
find_model() {
    if [ -n "${SUNFLECK_MODEL:-}" ]; then
        [ -f "$SUNFLECK_MODEL" ] || die "SUNFLECK_MODEL names $SUNFLECK_MODEL, which is no file"
        return 0
    fi
    [ -f MODEL ] || return 1
    read -r whole_sum whole_name <MODEL
    SUNFLECK_MODEL=$here/model/$whole_name
    export SUNFLECK_MODEL
    mkdir -p model || die "$here/model cannot be made"
    [ -f "$SUNFLECK_MODEL" ] && [ "$(sha256 "$SUNFLECK_MODEL")" = "$whole_sum" ] && return 0
    say "putting the model together"
    rm -f model/unfinished
    sed 1d MODEL >"$work/parts"
    while read -r part_sum part_name; do
        part=''
        for part_folder in "${parts:-$here}" "$here" "$here/model" "$here/.."; do
            if [ -f "$part_folder/$part_name" ]; then
                part=$part_folder/$part_name
                break
            fi
        done
        [ -n "$part" ] || die "$part_name, a part of the model, is neither in $here nor beside it: copy it there, or set" \
            "SUNFLECK_PARTS to the folder that has it"
        [ "$(sha256 "$part")" = "$part_sum" ] || die "$part is damaged (its checksum is wrong): copy it again"
        cat "$part" >>model/unfinished || die "$here/model cannot be written; the model needs as much room as its parts"
    done <"$work/parts"
    [ "$(sha256 model/unfinished)" = "$whole_sum" ] || die "the parts are whole but do not make the model: pack again"
    mv model/unfinished "$SUNFLECK_MODEL"
}

# ---- The adapter --------------------------------------------------------------------------------------------------

# Runs a command with the loader and the driver that were found, and only that command: other programs may not like them.
driven() {
    (
        if [ -n "$libraries" ]; then
            LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
            export LD_LIBRARY_PATH
        fi
        if [ -n "$icd" ]; then
            VK_DRIVER_FILES=$icd
            VK_ICD_FILENAMES=$icd # the name that loaders before 1.3.207 know
            export VK_DRIVER_FILES VK_ICD_FILENAMES
        fi
        exec "$@"
    )
}

# Tries libraries $1 and the driver's file $2; keeps them where the adapters are better than those before.
try_driver() {
    libraries=$1
    icd=$2
    listed=$(driven bin/sunfleck adapters --json 2>>"$results/adapters.log" | tr '{' '\n')
    printf '%s\n' "libraries=$1 driver=$2" "$listed" >>"$results/adapters.log"
    adapters=$(printf '%s\n' "$listed" | grep '"name"')
    [ -z "${SUNFLECK_ADAPTER:-}" ] || adapters=$(printf '%s\n' "$adapters" | grep -F -- "$SUNFLECK_ADAPTER")
    one=$(printf '%s\n' "$adapters" | sed -n 1p)
    case $one in
    '') grade=0 ;;
    *'"device_type":"Cpu"'*) grade=1 ;;
    *) grade=2 ;;
    esac
    if [ "$grade" -gt "$best_grade" ]; then
        best_grade=$grade
        best_libraries=$libraries
        best_icd=$icd
        adapter=$one
    fi
    [ "$best_grade" = 2 ]
}

# Drivers' files where loaders do not look by themselves, and one of our own where there is a driver without a file.
driver_files() {
    for file in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd*.json /run/opengl-driver/share/vulkan/icd.d/nvidia_icd*.json \
        /usr/share/vulkan/icd.d/nvidia_icd*.json /etc/vulkan/icd.d/nvidia_icd*.json; do
        [ ! -f "$file" ] || printf '%s\n' "$file"
    done
    for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib "/usr/lib/$PACK_PROCESSOR-linux-gnu" /usr/lib64 /usr/lib; do
        for library in libGLX_nvidia.so.0 libEGL_nvidia.so.0; do
            [ -e "$folder/$library" ] || continue
            file=$work/$library.json
            printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.3.0"}}\n' \
                "$folder/$library" >"$file"
            printf '%s\n' "$file"
        done
    done
}

find_adapter() {
    best_grade=0
    best_libraries=''
    best_icd=''
    : >"$results/adapters.log"
    nvidia=''
    for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
        [ ! -d "$folder" ] || nvidia=$nvidia:$folder
    done
    if ! try_driver '' '' && ! { [ -d "$loader" ] && try_driver "$loader$nvidia" ''; } &&
        [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then
        driver_files >"$work/drivers"
        while read -r file; do
            try_driver '' "$file" && break
            [ -d "$loader" ] && try_driver "$loader$nvidia" "$file" && break
        done <"$work/drivers"
    fi
    libraries=$best_libraries
    icd=$best_icd
    if [ "$best_grade" = 0 ]; then
        hint='no Vulkan driver was found. Set VK_DRIVER_FILES to the JSON file of the driver'
        [ -d "$loader" ] || hint="$hint; where there is no libvulkan.so.1, pack again with --with-loader"
        [ -z "${SUNFLECK_ADAPTER:-}" ] || hint="no adapter has \"$SUNFLECK_ADAPTER\" in its name; or $hint"
        die "$hint. What was tried is in $results/adapters.log"
    fi
    adapter_name=$(field name)
    say "adapter: $adapter_name ($(field backend), $(field device_type), $(field driver))"
    [ -z "$libraries" ] || say "libraries: $libraries"
    [ -z "$icd" ] || say "driver file: $icd"
}

field() { # NAME: a field of the adapter, still escaped as in JSON
    printf '%s\n' "$adapter" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

# ---- Steps and their record ---------------------------------------------------------------------------------------

quoted() { # TEXT: as a JSON string
    printf '"'
    printf '%s' "$1" | tr '\n\t\r' '   ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'
    printf '"'
}

# Writes what is known so far, so that a run that is cut off leaves the truth: a step that had begun has no exit status.
write_summary() { # [STEP that is running]
    {
        printf '{\n "machine": {"adapter": "%s", "backend": "%s", "device_type": "%s", "driver": "%s",\n' \
            "$(field name)" "$(field backend)" "$(field device_type)" "$(field driver)"
        printf '  "system": %s, "processor": %s, "gpu": %s},\n' "$(quoted "$(uname -sr)")" \
            "$(quoted "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | sed -n 1p)")" "$(quoted "$gpu")"
        printf ' "pack": {"version": %s, "commit": %s, "date": %s},\n' \
            "$(quoted "$PACK_VERSION")" "$(quoted "$PACK_COMMIT")" "$(quoted "$PACK_DATE")"
        printf ' "command": %s,\n "date": %s,\n "steps": [' "$(quoted "$command")" "$(quoted "$started")"
        separator=''
        [ ! -s "$work/steps" ] || while IFS= read -r line; do
            printf '%s\n  %s' "$separator" "$line"
            separator=,
        done <"$work/steps"
        [ ! -s "$work/steps" ] || separator=,
        [ -z "${1:-}" ] || printf '%s\n  {"name": %s, "exit": null, "result": "did not end"}' "$separator" "$(quoted "$1")"
        printf '\n ],\n "exit": %s\n}\n' "${2:-null}"
    } >"$results/summary-$command.json"
}

record() { # NAME EXIT SECONDS RESULT
    printf '{"name": %s, "exit": %s, "seconds": %s, "result": %s}\n' "$(quoted "$1")" "$2" "$3" "$(quoted "$4")" >>"$work/steps"
    write_summary
}

step() { # NAME COMMAND...: runs it, shows and keeps what it prints
    step_name=$1
    shift
    log=$results/$step_name.log
    say "== $step_name"
    write_summary "$step_name"
    rm -f "$work/exit"
    begun=$(date +%s)
    {
        "$@" </dev/null
        echo $? >"$work/exit"
    } 2>&1 | tee "$log"
    code=$(cat "$work/exit" 2>/dev/null) || code=1
    seconds=$(($(date +%s) - begun))
    result=$(grep '^test result:' "$log" | tail -n 1)
    ran=$(printf '%s\n' "$result" | sed -n 's/.* \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p')
    [ -z "$ran" ] || [ "$ran" = '0 0' ] || tests_ran=1
    [ -n "$result" ] || result=$([ "$code" = 0 ] && echo ok || tail -n 1 "$log")
    record "$step_name" "$code" "$seconds" "$result"
    say "== $step_name: exit status $code after $seconds s"
    [ "$code" = 0 ] || failed=1
    return "$code"
}

skip() { # NAME REASON
    say "== $1: skipped, $2"
    record "$1" null 0 "skipped: $2"
}

# ---- Commands -----------------------------------------------------------------------------------------------------

run_tests() {
    tests_ran=''
    found=''
    for program in bin/test-*; do
        [ -x "$program" ] || continue
        found=1
        name=${program#bin/}
        if needs_model "$name" && ! find_model; then
            skip "$name" 'there is no model: set SUNFLECK_MODEL=FILE.gguf'
            continue
        fi
        # The list is separated by commas, which a name may have.
        step "$name" driven env SUNFLECK_TEST_ADAPTERS="${adapter_name%%,*}" RUST_BACKTRACE=1 "$program" "$@"
    done
    [ -n "$found" ] || die "no test is packed"
    if [ -z "$tests_ran" ] && [ -z "$failed" ]; then
        say "error: no test ran; does the filter match any?"
        failed=1
    fi
}

has_torch() {
    command -v python3 >/dev/null 2>&1 &&
        python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1
}

run_peers() {
    peers=$results/peers-torch.json
    rm -f "$peers"
    step peers-torch python3 peers/torch_attention.py --out "$peers"
}

run_benches() {
    wanted=''
    if [ $# -gt 0 ] && [ "$1" != -- ]; then
        wanted=$1
        shift
        [ -x "bin/bench-$wanted" ] || die "no benchmark called $wanted is packed; there are:" bin/bench-*
    fi
    [ "${1:-}" != -- ] || shift
    found=''
    for program in bin/bench-*; do
        [ -x "$program" ] || continue
        found=1
        name=${program#bin/}
        [ -z "$wanted" ] || [ "$name" = "bench-$wanted" ] || continue
        peers=''
        if [ "$name" = bench-attention ]; then
            if has_torch; then
                run_peers || peers=''
            else
                skip peers-torch 'python3 has no PyTorch with CUDA here'
            fi
        fi
        if needs_model "$name" && ! find_model; then
            skip "$name" 'there is no model: set SUNFLECK_MODEL=FILE.gguf'
            continue
        fi
        rm -rf "$work/files"
        step "$name" driven env SUNFLECK_BENCH_ADAPTER="$adapter_name" SUNFLECK_BENCH_OUT="$work/files" \
            SUNFLECK_BENCH_COMMIT="$PACK_COMMIT" SUNFLECK_BENCH_PEERS="$peers" CARGO_TARGET_DIR="$work/criterion" \
            "$program" --bench "$@"
        for file in "$work"/files/*.json "$work"/files/*.svg; do
            [ ! -f "$file" ] || cp "$file" "$results/"
        done
    done
    [ -n "$found" ] || [ "$command" = all ] || die "no benchmark is packed"
}

generated() { # DRAFTER FILE: one answer as JSON
    driven bin/sunfleck generate --json --adapter "$adapter_name" --drafter "$1" --max-tokens 128 \
        'Once upon a time, there was a little robot who' >"$2"
}

run_generate() {
    if ! find_model; then
        [ "$command" = all ] || die "there is no model: set SUNFLECK_MODEL=FILE.gguf, or pack again with --with-model"
        skip generate 'there is no model: set SUNFLECK_MODEL=FILE.gguf'
        return
    fi
    if [ $# -gt 0 ]; then
        step generate driven bin/sunfleck generate --adapter "$adapter_name" "$@"
        return
    fi
    for drafter in none ngram; do
        step "generate-$drafter" generated "$drafter" "$results/generate-$drafter.json"
    done
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
help | -h | --help) usage && exit 0 ;;
check | test | bench | peers | generate | all) ;;
*)
    usage >&2
    exit 2
    ;;
esac
mkdir -p "$results" "$work" || die "$here cannot be written: set SUNFLECK_RESULTS, or unpack elsewhere"
: >"$work/steps"
rm -f "$results/summary-$command.json" results.tar.gz # of an earlier run
if [ ! -d "${XDG_RUNTIME_DIR:-/nowhere}" ]; then
    XDG_RUNTIME_DIR=$work # drivers complain where it is unset
    export XDG_RUNTIME_DIR
fi
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
gpu=$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv,noheader 2>/dev/null | sed -n 1p)
failed=''
check_files
check_machine
adapter=''
[ "$command" = peers ] || find_adapter
case $command in
check) ;;
test)
    [ "${1:-}" != -- ] || shift
    run_tests "$@"
    ;;
bench) run_benches "$@" ;;
peers)
    has_torch || die "python3 has no PyTorch with CUDA here"
    run_peers
    ;;
generate)
    [ "${1:-}" != -- ] || shift
    run_generate "$@"
    ;;
all)
    run_tests
    run_benches "$@"
    run_generate
    ;;
esac
write_summary '' "${failed:-0}"
(cd -- "$results" && tar czf "$here/results.tar.gz" .) || say "results.tar.gz could not be written; the files are in $results"
say "results: $results, and all of it in $here/results.tar.gz"
if [ -n "$failed" ]; then
    say "NOT everything succeeded: see the steps above"
    exit 1
fi
