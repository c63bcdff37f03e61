#!/usr/bin/env bash
# release.sh FOLDER: everything that a release consists of, with checksums. BIN: of the virtual environment.
# KEY: the private key that signs the model; without it the model is not signed.
set -euo pipefail
umask 022

cd "$(dirname "$0")/.."
OUT=$(realpath -m "${1:?release.sh FOLDER}")
BIN=$(realpath "${BIN:-.venv/bin}")

version=$("$BIN/python" -c 'import edge; print(edge.__version__)')
grep -q "^## \[$version\]" CHANGELOG.md || { echo "CHANGELOG.md has no section $version" >&2; exit 1; }
[ -z "$(git status --porcelain)" ] || { echo "there are changes that are not committed" >&2; exit 1; }

mkdir -p "$OUT"
"$BIN/python" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$OUT" .
git archive --format=tar.gz --prefix="defectd-$version/" -o "$OUT/defectd-$version.tar.gz" HEAD
(cd edge/model/builtin && "$BIN/python" -m zipfile -c "$OUT/student-$version.zip" card.json student.onnx student.int8.onnx)
if [ -n "${KEY:-}" ]; then
  "$BIN/defectd" model sign "$OUT/student-$version.zip" --key "$KEY"
fi
if command -v dpkg-deb >/dev/null; then
  deploy/deb.sh "$OUT"
fi
(cd "$OUT" && sha256sum -- *"$version"* >SHA256SUMS && cat SHA256SUMS)
