#!/usr/bin/env bash
# Rebuilds the indexes of repositories and proves that this is fast and that nothing is lost: at least 0.8 times as fast as a plain
# insert of the same rows in the order of their keys, in the same run; at least 1,000,000 references of map nodes checked a
# second; and the same logical dump as that of the index that grew.
#
# usage: tests/proofs/rebuild.sh [--seed N] [--trials N] [--start-trial I] [--short] [--chunks N] [--work DIR] [--sabotage NAME|list]
#   --seed N          decides names and places of all chunks, and the small histories; chance without it, and printed
#   --trials N        how many trials (default 1: 30 small histories, then three rebuilds of 2,000,000 chunks)
#   --start-trial I   number of the first: trial I of a seed is the same in every run
#   --short           3 small histories, three rebuilds of 200,000 chunks; 0.4 of both speeds is enough, in time or processor time
#   --chunks N        another size than 2,000,000
#   --work DIR        where the repository goes (default $TMPDIR, else /tmp); the room needed is checked
#   --sabotage NAME   plants a fault that must be found; 'list' names them
#
# The repository of index scale has tables of contents, map nodes and manifests, and no chunk's bytes: its data packs are
# sparse files. A rebuild reads it with the product's store for folders into the product's database in a file, opened as the
# controller opens it. The plain insert writes the same rows (objects and complete nodes) from memory into the same schema of
# an empty database, opened alike, 524,288 in a transaction; only its inserting is timed. 'ratio' compares that with all of a
# rebuild but reading map nodes and checking their references, which has its own figure; 'whole-ratio' counts that too. Of
# several rounds the fastest counts, for each figure and on both sides: other work on the machine only ever adds time.
# The last line is 'rebuild: PASS ...' or 'rebuild: FAIL ...'.
# The suite runs it alone.
set -euo pipefail

# shellcheck source=tests/proofs/parts/program.bash
. "$(dirname "${BASH_SOURCE[0]}")/parts/program.bash"
build_program VirtBackup.Proofs.Rebuild tests/VirtBackup.Proofs.CollectionScale tests/VirtBackup.Repository.Tests/Fixtures
exec "$program" "$@"
