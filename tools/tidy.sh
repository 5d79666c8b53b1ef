#!/usr/bin/env bash
# clang-tidy on C files outside testing/, two or more at a time.
# usage: tidy.sh BUILD JOBS all|changed       (BUILD: a folder configured with clang)
#
# `changed` are files with changes that are not committed, and those changed since the branch left main (or
# origin/main); on main itself, by the last commit. Without git, or in a clone that has no earlier commit, they are none.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 jobs=$2 which=$3

base_commit() {
    local head main
    head=$(git rev-parse HEAD 2>/dev/null) || return 1
    for main in origin/main main; do
        main=$(git merge-base HEAD "$main" 2>/dev/null) || continue
        [ "$main" = "$head" ] || { echo "$main" && return; }
    done
    git rev-parse --verify --quiet HEAD~1
}

if [ "$which" = all ]; then
    mapfile -t files < <(git ls-files '*.c' ':!testing')
elif base=$(base_commit); then
    mapfile -t files < <({ git diff --name-only --diff-filter=d "$base" -- '*.c' ':!testing' &&
        git ls-files --others --exclude-standard -- '*.c' ':!testing'; } | sort -u)
    echo "clang-tidy: ${#files[@]} files changed since ${base:0:12}"
else
    echo "clang-tidy: no earlier commit to compare with, so no file counts as changed (\`make tidy\` takes all)"
    exit 0
fi
most=40 # 2 to 3 seconds each
if [ "$which" != all ] && [ ${#files[@]} -gt $most ]; then
    echo "clang-tidy: only the first $most of them, \`make tidy\` takes all"
    files=("${files[@]:0:$most}")
fi
[ ${#files[@]} != 0 ] || exit 0
printf '%s\n' "${files[@]}" | xargs -P "$jobs" -n 4 clang-tidy -p "$build" --quiet 2>&1 |
    { grep -v '^[0-9]* warnings\? generated\.$' || true; } # those are left out by .clang-tidy
