#!/bin/sh
# Builds an index of the sample and asks it three questions; prints each command before it runs.
# usage: samples/demo.sh FOLDER     (BIN: where `colindex` is installed, if not on the path)
set -eu
folder=${1:?usage: samples/demo.sh FOLDER}
PATH=${BIN:+$(cd "$BIN" && pwd):}$PATH

show() {
    printf '\n$'
    for word; do case $word in *' '*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac; done
    printf '\n'
    "$@"
}

mkdir -p "$folder"
rm -rf "$folder/wikipedia.colindex"
show colindex build samples/wikipedia-2k.jsonl.gz -o "$folder/wikipedia.colindex"
show colindex search "$folder/wikipedia.colindex" "who got the first nobel prize in physics" -k 3
show colindex search "$folder/wikipedia.colindex" "which direction do the easter island heads face" -k 3
show colindex search "$folder/wikipedia.colindex" "what is a solar chimney?" -k 3 --stats
printf '\nYour turn:  %s search %s "..."\n' "${BIN:+$BIN/}colindex" "$folder/wikipedia.colindex"
