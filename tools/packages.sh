#!/usr/bin/env bash
# Installs what is missing of the named sections of requirements.txt, by apt.   usage: packages.sh SECTION...
set -euo pipefail
cd "$(dirname "$0")/.."
names=()
for section in "$@"; do
    mapfile -t -O ${#names[@]} names < <(sed -n "/^\[$section\]/,/^\[/p" requirements.txt | sed -e 's/#.*//' \
        -e '/^\[/d' -e 's/[[:space:]]//g' -e '/^$/d')
done
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "there is no apt here: install the packages of requirements.txt, which names them for Fedora and Arch too," \
        "then run \`make build\`" >&2
    exit 1
fi
missing=()
for name in "${names[@]}"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0
root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "installing needs root, and there is no sudo; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    root=(sudo)
fi
echo "installing: ${missing[*]}"
"${root[@]}" apt-get update -q
"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
