#!/usr/bin/env bash
# The wheel in an empty environment, away from the repository: segment, evaluate on scenes, train two steps, weights, env.
#
#   bash tools/check_wheel.sh                        # a fresh environment with everything (6 GiB in $TMPDIR, removed afterwards)
#   bash tools/check_wheel.sh --reuse .venv/bin/python   # dependencies of an environment that has them: a minute, no disk
#
# Ends with "wheel: ok", or stops at the first command that fails.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
reuse=
python=${PYTHON:-python3}
if [ "${1:-}" = --reuse ] && [ -n "${2:-}" ]; then
    reuse=$(command -v "$2") && reuse=$(cd "$(dirname "$reuse")" && pwd)/$(basename "$reuse")
    python=$reuse
elif [ $# -gt 0 ]; then
    echo "usage: tools/check_wheel.sh [--reuse PYTHON]" >&2
    exit 2
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
say() { echo "+ $*" >&2; }

say "wheel"
cd "$repository"
"$python" -m pip wheel -q --no-deps -w "$place" .
rm -rf build  # pip builds inside the tree
wheel=$(ls "$place"/ovseg-*.whl)
ls -l "$wheel"

say "environment"
"$python" -m venv "$place/env"
if [ -n "$reuse" ]; then
    # The directory alone: .pth files inside it, such as that of an editable ovseg, are not followed.
    "$reuse" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
        > "$("$place/env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/reused.pth"
    "$place/env/bin/pip" install -q --no-deps --force-reinstall "$wheel"
else
    "$place/env/bin/pip" install -q -c constraints.txt "$wheel"
fi

mkdir "$place/home" "$place/empty"
cd "$place/empty"
# Nothing of the caller's: no PYTHONPATH, no caches, no settings; the network is not needed.
run() {
    say "$*"
    env -i PATH="$place/env/bin:/usr/bin:/bin" HOME="$place/home" LANG=C.UTF-8 COLUMNS=120 TMPDIR="${TMPDIR:-/tmp}" \
        OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" HF_HUB_OFFLINE=1 "$@"
}
scenes=$(run python - "$repository" <<'PY'
import sys
from pathlib import Path

import ovseg

package = Path(ovseg.__file__).resolve().parent
repository = Path(sys.argv[1]).resolve()
assert package.is_relative_to(Path(sys.prefix).resolve()), package
assert not any(Path(p).resolve() == repository for p in sys.path), sys.path
assert not any(".pth" in str(f) and "ovseg" in str(f) for f in sys.meta_path), sys.meta_path
print(package / "data" / "scenes")
PY
)

run ovseg --version
run ovseg env
run ovseg weights list > weights.txt && grep -q nano weights.txt
run ovseg weights verify nano
run ovseg segment "$scenes/scenes/images/0003.jpg" --classes "cat; kitten, tree, grass, background" --out out.png
test -s out.png
run python - "$scenes/scenes/images/0003.jpg" <<'PY'
import sys

import ovseg

model = ovseg.Segmenter("nano", method="naclip")
model.set_vocabulary(["cat; kitten", "tree", "grass"])
result = model.segment(sys.argv[1])
assert result.labels.ndim == 2 and result.labels.max() < 3
PY
run ovseg eval configs/nano/naclip_nano_scenes.py --limit 5
test -s work_dirs/naclip_nano_scenes/result.json
run ovseg nano --out nano_out --methods clip sclip --limit 3
test -s nano_out/summary.json

# CLIP-DINOiser's heads for nano, two steps, from a folder of photos; a config of the user's own in this empty folder
run python - "$scenes" > own_train.py <<'PY'
import sys

from ovseg.apis import config_root

print(f"""_base_ = [{str(config_root() / "nano" / "clip_dinoiser_nano_train.py")!r}]
train_cfg = dict(max_iters=2, val_interval=1000)
val_cfg = val_dataloader = val_evaluator = None
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type="SegmentationDataset",
        classes=("photo",),
        data_root={sys.argv[1]!r},
        img_dir="scenes/images",
        mask_dir=None,
        on_error="raise",
        pipeline=[dict(type="LoadImage"), dict(type="RandomView", size=112), dict(type="PackInputs")],
    ),
)
default_hooks = dict(checkpoint=dict(interval=2))""")
PY
run ovseg train own_train.py --work-dir trained
ls trained/*.pth
leaked=$(grep -rlF "$repository/" "$place/env"/lib/python*/site-packages/ovseg "$place/empty" --include='*.py' --include='*.json' || true)
test -z "$leaked" || { echo "the repository's path is in: $leaked" >&2; exit 1; }
echo "wheel: ok"
