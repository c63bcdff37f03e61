#!/bin/sh
# The edge tests on aarch64, emulated: Debian bookworm for arm64 in a folder, run by qemu. By hand, as root, on Debian:
#   apt-get install qemu-user-static binfmt-support debootstrap
#   tests/arm64.sh wheels    every dependency of the edge has a wheel for aarch64? Downloads them, needs no root
#   tests/arm64.sh test      the same, then makes the root (once, minutes) and runs tests/edge in it
# Emulation proves function, not speed. ARM64_DIR: where everything lies (1.5 GB). PYTHON: with pip, 3.11 or newer.
set -eu
cd "$(dirname "$0")/.."
dir=${ARM64_DIR:-$PWD/build/arm64}
python=${PYTHON:-python3}
root=$dir/root
wheels=$dir/wheels

# What emulation cannot do. test_machine: qemu shows no processor time in /proc/self. test_strip_scene: hundreds of frames through
# the network, which takes some 50 times as long. The rest measures, states how fast something is, or waits 30 s for what
# takes longer here.
left_out="
    tests/edge/host/test_machine.py::test_own_process_has_memory_and_time
    tests/edge/camera/sources/test_strip_scene.py
    tests/edge/cli/test_cli.py::test_bench_reports_conditions_and_count_of_each_figure
    tests/edge/camera/test_image_files.py::test_read_image_refuses_garbage_in_linear_time
    tests/edge/control/test_model_rollout.py::test_missed_frames_count_against_a_canary_only_if_it_is_slower[that_is_slow]
    tests/edge/camera/test_supervisor.py::test_output_of_a_child_is_bounded_and_redacted
    tests/edge/camera/test_supervisor.py::test_hundreds_of_restarts_leave_nothing_open
    tests/edge/vision/test_tiles.py::test_laying_a_large_frame_is_quick
    tests/edge/vision/test_tracker.py::test_number_of_tracks_is_bounded"

tools="pytest hypothesis jsonschema onnx"

say() { printf '%s\n' "arm64: $*" >&2; }
die() { say "$*"; exit 1; }

fetch_wheels() {
    mkdir -p "$wheels"
    # glibc of Debian 12 (Raspberry Pi OS bookworm) is 2.36: everything up to manylinux_2_36 installs there.
    platforms=$(for minor in 17 24 26 27 28 31 34 35; do printf -- '--platform manylinux_2_%s_aarch64 ' $minor; done)
    # shellcheck disable=SC2086  # several words
    "$python" -m pip download --quiet --only-binary=:all: $platforms --platform manylinux2014_aarch64 --python-version 3.11 \
        --implementation cp --dest "$wheels" "$@"
}

requirements() { # of the extras $*, as setup.cfg has them
    "$python" - "$@" <<'PY'
import configparser, sys
setup = configparser.ConfigParser()
setup.read("setup.cfg")
lines = setup["options"]["install_requires"] + "".join(setup["options.extras_require"][extra] for extra in sys.argv[1:])
print("\n".join(line.replace(" ", "") for line in lines.split("\n") if line))
PY
}

make_root() {
    [ -e "$root/.complete" ] && return
    [ "$(id -u)" = 0 ] || die "needs root, to make the root file system"
    for program in debootstrap qemu-aarch64-static update-binfmts; do
        command -v "$program" >/dev/null || die "install first: apt-get install qemu-user-static binfmt-support debootstrap"
    done
    mirror=${MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" | head -n 1)}
    [ -n "$mirror" ] || die "no Debian mirror in the sources of apt: give one in MIRROR"
    say "making $root; some minutes"
    rm -rf "$root"
    debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv,python3-pip,openssl,procps bookworm "$root" \
        "$mirror" >"$dir/debootstrap.log" 2>&1 || die "debootstrap failed: $dir/debootstrap.log"
    touch "$root/.complete"
}

emulate() { # so that the kernel hands arm64 programs to qemu
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
}

inside() { # a command in the root, in a mount namespace of its own: nothing stays mounted
    # shellcheck disable=SC2016
    unshare --mount --pid --fork sh -euc '
        root=$1 tree=$2; shift 2
        mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/tmp"
        mkdir -p "$root/src" "$root/wheels"; mount --bind "$tree" "$root/src"; mount --bind "$0" "$root/wheels"
        exec chroot "$root" env -i PATH=/venv/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 TMPDIR=/tmp sh -euc "$*"
    ' "$wheels" "$root" "$PWD" "$@"
}

case ${1:-} in
wheels)
    # shellcheck disable=SC2046
    fetch_wheels $(requirements)
    say "wheels for aarch64 exist for every dependency:"
    (cd "$wheels" && ls -- *.whl)
    ;;
test)
    shift
    # shellcheck disable=SC2046,SC2086
    fetch_wheels $(requirements demo) $tools
    emulate
    make_root
    inside 'python3 -c "import platform; print(platform.machine())" | grep -qx aarch64'
    inside "test -e /venv/bin/pip || python3 -m venv /venv"
    inside "pip install --quiet --no-index --find-links /wheels $(requirements demo | sed "s/.*/'&'/" | tr '\n' ' ') $tools"
    # shellcheck disable=SC2086
    inside "cd /src && PYTHONDONTWRITEBYTECODE=1 python -m pytest -p no:cacheprovider tests/edge \
        $(printf ' --deselect %s' $left_out) $*"
    ;;
*)
    sed -n '2,6s/^# //p' "$0"
    exit 2
    ;;
esac
