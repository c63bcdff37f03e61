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

# What emulation cannot do, and why.
#   test_box, own process: qemu's /proc shows the memory of the emulator, which is not wrong, but not ours either
left_out=""

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
    command -v debootstrap >/dev/null && command -v qemu-aarch64-static >/dev/null ||
        die "install first: apt-get install qemu-user-static binfmt-support debootstrap"
    mirror=${MIRROR:-$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" | head -n 1)}
    say "making $root; some minutes"
    rm -rf "$root"
    debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv,python3-pip,openssl,procps bookworm "$root" \
        "${mirror:-http://deb.debian.org/debian}" >"$dir/debootstrap.log" 2>&1 || die "debootstrap failed: $dir/debootstrap.log"
    touch "$root/.complete"
}

emulate() { # so that the kernel hands arm64 programs to qemu
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
}

inside() { # a command in the root, in a mount namespace of its own: nothing stays mounted
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
    # shellcheck disable=SC2046
    fetch_wheels $(requirements demo) pytest hypothesis jsonschema onnx setuptools wheel
    emulate
    make_root
    inside 'python3 -c "import platform; print(platform.machine())" | grep -qx aarch64'
    inside 'test -e /venv/.complete || { python3 -m venv /venv && /venv/bin/pip install --quiet --no-index --find-links /wheels /wheels/*.whl && touch /venv/.complete; }'
    inside "cd /src && PYTHONDONTWRITEBYTECODE=1 python -m pytest -p no:cacheprovider tests/edge $left_out $*"
    ;;
*)
    sed -n '2,6s/^# //p' "$0"
    exit 2
    ;;
esac
