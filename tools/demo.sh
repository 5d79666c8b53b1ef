#!/usr/bin/env bash
# Draws a few pictures with the shipped model: what `make demo` shows. --clean removes these and no others.
# usage: demo.sh DARKROOM FOLDER | demo.sh --clean FOLDER
set -euo pipefail
darkroom=$1 folder=$2
[ "$darkroom" = --clean ] || mkdir -p "$folder"
n=0
while IFS='|' read -r size seed prompt; do
    n=$((n + 1))
    file=$folder/$(printf '%d-%s.png' "$n" "$(printf '%s' "$prompt" | tr -c 'a-z0-9\n' '-')")
    if [ "$darkroom" = --clean ]; then
        rm -f "$file"
        continue
    fi
    "$darkroom" generate -p "$prompt" -W "${size%x*}" -H "${size#*x}" -s "$seed" --steps 25 -o "$file" -q
    printf '%-60s %s\n' "$prompt" "$file"
done <<'LIST'
128x128|1|a red circle on a white background
192x192|2|a big blue star on a yellow background
128x128|3|a red circle left of a blue square on a white background
192x192|4|a green triangle above a purple ring on a white background
192x128|5|a small orange cross on a black background
128x192|6|a yellow square below a red star on a blue background
LIST
if [ "$darkroom" = --clean ]; then
    [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
else
    echo "$n pictures in $(cd "$folder" && pwd)"
fi
