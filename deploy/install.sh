#!/usr/bin/env bash
# Installs defectd as a service: Debian 12 and newer, Raspberry Pi OS (64 bit), Ubuntu 22.04 and newer. See --help.
#
# Steps of an install: preflight -> version folder -> check the configuration -> switch -> ready, or back.
# The running version is left alone until the new one is complete beside it and has accepted the configuration.
set -euo pipefail
umask 022

PREFIX=/opt/defectd
CONFIG_DIR=/etc/defectd
STATE_DIR=/var/lib/defectd
LOG_DIR=/var/log/defectd
UNIT_DIR=/etc/systemd/system
UNIT=defectd.service
PAGE_UNIT=defectd-web.service
UDEV_RULES=/etc/udev/rules.d/60-defectd-cameras.rules
JOURNALD_CONF=/etc/systemd/journald.conf.d/60-defectd.conf
COMMAND=/usr/local/bin/defectd
MAN_DIR=/usr/local/share/man/man1
COMPLETION=/usr/local/share/bash-completion/completions/defectd
OWN_USER=defectd
MIN_SYSTEMD=249
MIN_DISK_MIB=1000
SETTLE_S=${DEFECTD_SETTLE_S:-10} # how long a new version has to run on after it became ready

HERE=$(cd "$(dirname "$0")" && pwd)
SELF=$HERE/$(basename "$0")

usage() {
  cat <<END
install.sh                       install or upgrade, from this checkout or from the bundle that contains this script
install.sh --offline FOLDER      install or upgrade from a bundle, without a network
install.sh --bundle FOLDER       make such a bundle (no root needed); more than one target may share a folder
install.sh --rollback            go back to the previous version
install.sh --uninstall           remove the program and the unit; configuration and state stay
install.sh --uninstall --purge   remove these, too

  --config FILE           becomes $CONFIG_DIR/config.yaml, if there is none yet
  --python PATH           the Python to use, 3.11 or newer
  --network-cameras       all cameras are network streams: hide all devices from the service (upgrades keep this)
  --local-cameras         undo --network-cameras
  --page-unit             the page as a unit of its own, for web.process: unit (upgrades keep this)
  --no-page-unit          undo --page-unit: the daemon starts the page
  --no-start              install, but do not start or restart
  --arch ARCH             for --bundle: x86_64 or aarch64 instead of this machine's
  --python-version X.Y    for --bundle: instead of this machine's

Once installed: edit $CONFIG_DIR/config.yaml, then \`systemctl enable --now defectd\`. See docs/plant.md.
END
}

say() { printf '%s\n' "$*"; }
fail() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}
usage_error() {
  printf 'install.sh: %s\n\n' "$*" >&2
  usage >&2
  exit 2
}

main() {
  read_arguments "$@"
  case $ACTION in
    install) install_or_upgrade ;;
    bundle) make_bundle ;;
    rollback) go_back ;;
    uninstall) uninstall ;;
  esac
}

read_arguments() {
  ACTION=install BUNDLE="" CONFIG="" PYTHON="" CAMERAS="" PAGE="" START=yes PURGE=no ARCH="" PYTHON_VERSION=""
  while (($#)); do
    case $1 in
      --offline | --bundle | --config | --python | --arch | --python-version)
        (($# > 1)) || usage_error "$1 needs a value"
        ;;
    esac
    case $1 in
      -h | --help) usage; exit 0 ;;
      --offline) BUNDLE=$2; shift ;;
      --bundle) ACTION=bundle BUNDLE=$2; shift ;;
      --rollback) ACTION=rollback ;;
      --uninstall) ACTION=uninstall ;;
      --purge) PURGE=yes ;;
      --config) CONFIG=$2; shift ;;
      --python) PYTHON=$2; shift ;;
      --network-cameras) CAMERAS=network ;;
      --local-cameras) CAMERAS=local ;;
      --page-unit) PAGE=unit ;;
      --no-page-unit) PAGE=daemon ;;
      --no-start) START=no ;;
      --arch) ARCH=$2; shift ;;
      --python-version) PYTHON_VERSION=$2; shift ;;
      *) usage_error "unknown option $1" ;;
    esac
    shift
  done
  [[ $PURGE == no || $ACTION == uninstall ]] || usage_error "--purge goes with --uninstall"
  [[ -z $ARCH$PYTHON_VERSION || $ACTION == bundle ]] || usage_error "--arch and --python-version go with --bundle"
  if [[ $ACTION == install && -z $BUNDLE && -d $HERE/wheels ]]; then BUNDLE=$HERE; fi
}

# ---- installing -----------------------------------------------------------------------------------------------------

install_or_upgrade() {
  preflight
  find_source
  make_version
  add_user
  place_configuration
  check_configuration
  switch_to "$VERSION"
}

preflight() {
  need_root
  [[ -d /run/systemd/system ]] || fail "no systemd runs here. Use the container instead, or run defectd from a checkout: make run"
  local version
  version=$(systemctl --version | awk 'NR == 1 { print int($2) }')
  ((version >= MIN_SYSTEMD)) || fail "systemd $version is too old: $MIN_SYSTEMD or newer is needed (Debian 12, Ubuntu 22.04)"
  [[ -z $CONFIG || -r $CONFIG ]] || fail "--config $CONFIG: cannot be read"
  find_python
  mkdir -p "$PREFIX/versions"
  exec 9>"$PREFIX/.lock"
  flock -n 9 || fail "another install.sh is running (it holds $PREFIX/.lock)"
  local free_mib
  free_mib=$(df --output=avail -m "$PREFIX" | tail -n 1)
  ((free_mib >= MIN_DISK_MIB)) || fail "only $free_mib MiB are free at $PREFIX: $MIN_DISK_MIB MiB are needed"
}

need_root() {
  [[ $(id -u) == 0 ]] || fail "needs root: sudo $SELF"
}

# Prefers the system's own Python to the newest one: the distribution delivers its security updates.
find_python() {
  local candidate found=""
  for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
    command -v "$candidate" >/dev/null || continue
    found+=" $candidate=$("$candidate" -c 'import platform; print(platform.python_version())')"
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
    "$candidate" -c 'import struct, sys; sys.exit(struct.calcsize("P") != 8)' ||
      fail "$candidate is a 32-bit program: defectd needs a 64-bit system (Raspberry Pi OS 64 bit)"
    "$candidate" -c 'import ensurepip, venv' 2>/dev/null ||
      fail "$candidate cannot make virtual environments: apt-get install $("$candidate" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    PYTHON=$(command -v "$candidate")
    return
  done
  fail "Python 3.11 or newer is needed; found:${found:- none}
  Debian 12, Raspberry Pi OS 12, Ubuntu 24.04:  apt-get install python3 python3-venv
  Ubuntu 22.04:  apt-get install python3.11 python3.11-venv   (in universe), then run this again
  other systems:  install Python 3.11 in addition, and give --python /path/to/python3.11"
}

# Finds the wheel, the unit and the other files. SHARE: the folder of the files beside the program.
find_source() {
  SCRATCH=$(mktemp -d)
  trap 'rm -rf "$SCRATCH"' EXIT
  if [[ -n $BUNDLE ]]; then
    BUNDLE=$(cd "$BUNDLE" 2>/dev/null && pwd) || fail "--offline $BUNDLE: there is no such folder"
    [[ -f $BUNDLE/SHA256SUMS ]] || fail "$BUNDLE is no bundle: make one with install.sh --bundle FOLDER"
    (cd "$BUNDLE" && sha256sum --quiet --strict --check SHA256SUMS) ||
      fail "the bundle $BUNDLE is damaged: copy it again"
    SHARE=$BUNDLE/share
    need_target
    WHEEL=$(echo "$BUNDLE"/wheels/defectd-*.whl)
    NETWORK=(--no-index --find-links "$BUNDLE/wheels")
  else
    SHARE=$SCRATCH/share
    build_from_checkout "$SCRATCH"
    NETWORK=()
  fi
  [[ -f $WHEEL ]] || fail "exactly one wheel of defectd is needed in $BUNDLE/wheels"
  local stamp
  stamp=$({ sha256sum <"$WHEEL"; cd "$SHARE" && find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum)
  VERSION=$(basename "$WHEEL" | cut -d- -f2)-${stamp:0:8}
}

target_of_python() {
  "$PYTHON" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())'
}

need_target() {
  local target
  target=$(target_of_python)
  grep -qxF "$target" "$BUNDLE/targets" ||
    fail "the bundle is for $(paste -sd, "$BUNDLE/targets"), this machine is $target (Python, machine).
  On a machine with a network: install.sh --bundle FOLDER --python-version ${target% *} --arch ${target#* }"
}

# Builds a wheel and the files beside it.  $1: a folder.  Sets WHEEL.  Does not write into the checkout.
build_from_checkout() {
  local checkout folder=$1
  checkout=$(cd "$HERE/.." && pwd)
  [[ -f $checkout/setup.cfg && -d $checkout/edge ]] || fail "$HERE is neither in a checkout nor a bundle of defectd"
  say "Building defectd from $checkout ..."
  mkdir -p "$folder/source"
  cp -r "$checkout"/{edge,trainer,systemd,setup.cfg,pyproject.toml,README.md,LICENSE} "$folder/source"
  "$PYTHON" -m venv "$folder/tools"
  export SOURCE_DATE_EPOCH=946684800 # the same source gives the same wheel, byte by byte
  quietly "$folder/tools/bin/python" -m pip --disable-pip-version-check wheel --no-deps -w "$folder/built" "$folder/source"
  WHEEL=$(echo "$folder"/built/defectd-*.whl)
  mkdir -p "$folder/share"
  cp -r "$checkout/systemd/." "$checkout/deploy/udev" "$checkout/deploy/journald" "$folder/share"
  cp "$checkout"/{README.md,LICENSE,CHANGELOG.md,config.yaml} "$checkout/docs/plant.md" "$checkout/deploy/man_pages.py" "$folder/share"
}

quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    fail "this command failed: $*"
  fi
  rm -f "$log"
}

# Makes the virtual environment of this version. The file `complete` is written last: without it the folder is redone.
make_version() {
  FOLDER=$PREFIX/versions/$VERSION
  if [[ -f $FOLDER/complete ]]; then
    say "defectd $VERSION is already installed."
    return
  fi
  say "Installing defectd $VERSION into $FOLDER ..."
  rm -rf "$FOLDER"
  "$PYTHON" -m venv "$FOLDER"
  quietly "$FOLDER/bin/python" -m pip --disable-pip-version-check install --no-cache-dir "${NETWORK[@]}" "${WHEEL}[report]"
  mkdir -p "$FOLDER/share/defectd"
  cp -r "$SHARE/." "$FOLDER/share/defectd"
  install -m 755 "$SELF" "$FOLDER/share/defectd/install.sh"
  if [[ -e $FOLDER/share/defectd/man_pages.py ]]; then
    quietly "$FOLDER/bin/python" "$FOLDER/share/defectd/man_pages.py" "$FOLDER/share/defectd/man"
  fi
  "$FOLDER/bin/defectd" completion bash >"$FOLDER/share/defectd/completion.bash"
  "$FOLDER/bin/defectd" model verify >/dev/null || fail "the shipped model does not work on this processor"
  sync -f "$FOLDER"
  touch "$FOLDER/complete"
}

add_user() {
  getent group video >/dev/null || groupadd --system video
  getent passwd $OWN_USER >/dev/null ||
    useradd --system --user-group --no-create-home --home-dir $STATE_DIR --shell /usr/sbin/nologin $OWN_USER
}

place_configuration() {
  mkdir -p $CONFIG_DIR
  sed -e "s#^state_dir: .*#state_dir: $STATE_DIR#" -e 's#^  broker: embedded$#  broker: mqtt://127.0.0.1:1883#' \
    "$FOLDER/share/defectd/config.yaml" >$CONFIG_DIR/config.example.yaml
  if [[ ! -e $CONFIG_DIR/mqtt-password ]]; then install -m 600 /dev/null $CONFIG_DIR/mqtt-password; fi
  if [[ -n $CONFIG && ! -e $CONFIG_DIR/config.yaml ]]; then
    "$FOLDER/bin/defectd" check -c "$CONFIG" >/dev/null || fail "--config $CONFIG is refused: the running version was left alone"
    install -m 640 -g $OWN_USER "$CONFIG" $CONFIG_DIR/config.yaml
  elif [[ -n $CONFIG ]] && ! cmp -s "$CONFIG" $CONFIG_DIR/config.yaml; then
    say "$CONFIG_DIR/config.yaml exists and is kept; $CONFIG is not used."
  fi
}

check_configuration() {
  [[ -e $CONFIG_DIR/config.yaml ]] || return 0
  "$FOLDER/bin/defectd" check -c $CONFIG_DIR/config.yaml >/dev/null ||
    fail "version $VERSION refuses $CONFIG_DIR/config.yaml: the running version was left alone. Correct the file and run this again"
}

# ---- switching, and back --------------------------------------------------------------------------------------------

# $1: a version whose folder is complete. The link `switching` points to the version that ran before, from the first
# change until this version runs: a switch that was killed in between is found there, and is done again as a whole.
switch_to() {
  local old interrupted=no
  OLD_RUNS=yes
  if [[ -L $PREFIX/switching ]]; then interrupted=yes; fi
  old=$(version_before)
  trap '' INT TERM HUP # from here to the end, an interruption must not leave the node between two versions
  point_at switching "${old:-none}"
  point_at current "$1"
  place_unit "$1"
  place_surroundings "$1"
  if ! should_run "$old"; then
    # With --no-start the old version runs on: `switching` stays, so that the next install restarts the service.
    if ! systemctl --quiet is-active $UNIT || [[ $old == "$1" && $interrupted == no ]]; then OLD_RUNS=no; fi
    report_done "$1" "$old"
    return
  fi
  systemctl --quiet enable $UNIT
  if runs_unchanged "$old" "$1" "$interrupted" || came_up; then
    OLD_RUNS=no
    start_page
    report_done "$1" "$old"
    return
  fi
  show_journal
  if [[ -z $old || $old == "$1" ]]; then
    fail "defectd $1 is installed, but does not become ready: see above, and journalctl -u defectd"
  fi
  point_at current "$old"
  place_unit "$old"
  place_surroundings "$old"
  if came_up; then
    rm -f "$PREFIX/switching"
    fail "defectd $1 does not become ready (see above): $old runs again, nothing is lost"
  fi
  show_journal
  fail "defectd $1 does not become ready, and neither does $old any more: see above, and journalctl -u defectd"
}

# The version that ran before a killed switch, or else the current one.
version_before() {
  local old
  old=$(version_behind switching)
  if [[ -z $old || ($old != none && ! -d $PREFIX/versions/$old) ]]; then
    version_behind current
  elif [[ $old != none ]]; then
    echo "$old"
  fi
}

version_behind() { basename "$(readlink "$PREFIX/$1" 2>/dev/null)" 2>/dev/null || true; }

point_at() {
  ln -sfn "versions/$2" "$PREFIX/.$1"
  mv -T "$PREFIX/.$1" "$PREFIX/$1"
}

place_unit() {
  local from=$PREFIX/versions/$1/share/defectd drop_ins=$UNIT_DIR/$UNIT.d
  UNIT_CHANGED=no
  if placed "$from/$UNIT" $UNIT_DIR/$UNIT; then UNIT_CHANGED=yes; fi
  if [[ -z $CAMERAS && -e $drop_ins/network-cameras.conf ]]; then CAMERAS=network; fi
  case $CAMERAS in
    network)
      if placed "$from/$UNIT.d/network-cameras.conf" $drop_ins/network-cameras.conf; then UNIT_CHANGED=yes; fi
      # The site adapts this file: never overwrite it.
      if [[ ! -e $drop_ins/addresses.conf ]]; then placed "$from/$UNIT.d/addresses.conf" $drop_ins/addresses.conf; fi
      ;;
    local)
      if [[ -e $drop_ins/network-cameras.conf ]]; then
        rm -f $drop_ins/network-cameras.conf
        UNIT_CHANGED=yes
      fi
      ;;
  esac
  place_page_unit "$from"
  systemctl daemon-reload
}

# The unit of the page, where it has one; a version before it has none.  $1: the files beside the program.
place_page_unit() {
  if [[ -z $PAGE && -e $UNIT_DIR/$PAGE_UNIT ]]; then PAGE=unit; fi
  if [[ $PAGE == unit && -e $1/$PAGE_UNIT ]]; then
    placed "$1/$PAGE_UNIT" $UNIT_DIR/$PAGE_UNIT || true
  elif [[ -n $PAGE ]]; then
    remove_page_unit
  fi
}

remove_page_unit() {
  [[ -e $UNIT_DIR/$PAGE_UNIT ]] || return 0
  if [[ -d /run/systemd/system ]]; then systemctl --quiet disable --now $PAGE_UNIT; fi
  rm -f $UNIT_DIR/$PAGE_UNIT
}

# The page follows each restart of the daemon (PartOf).
start_page() {
  [[ $PAGE == unit && -e $UNIT_DIR/$PAGE_UNIT ]] || return 0
  systemctl --quiet enable --now $PAGE_UNIT || say "The page does not start: journalctl -u defectd-web"
}

place_surroundings() {
  local from=$PREFIX/versions/$1/share/defectd
  if placed "$from/udev/60-defectd-cameras.rules" $UDEV_RULES && [[ -S /run/udev/control ]]; then
    udevadm control --reload && udevadm trigger --subsystem-match=video4linux
  fi
  if placed "$from/journald/60-defectd.conf" $JOURNALD_CONF; then systemctl restart systemd-journald; fi
  ln -sfn "$PREFIX/current/bin/defectd" $COMMAND
  place_help "$from"
}

# Manual pages and completion of this version, where it has them.  $1: the files beside the program.
place_help() {
  remove_help
  if [[ -d $1/man/man1 ]]; then install -D -m 644 -t $MAN_DIR "$1"/man/man1/*.1; fi
  if [[ -e $1/completion.bash ]]; then placed "$1/completion.bash" $COMPLETION || true; fi
}

remove_help() { rm -f $MAN_DIR/defectd{,-*}.1 $COMPLETION; }

# True when the file was new or changed.
placed() {
  cmp -s "$1" "$2" && return 1
  install -D -m 644 "$1" "$2"
}

# A unit that a person stopped stays stopped; a first install starts if configured.  $1: the previous version.
should_run() {
  [[ $START == yes && -e $CONFIG_DIR/config.yaml ]] || return 1
  [[ -z $1 ]] || systemctl --quiet is-enabled $UNIT 2>/dev/null || systemctl --quiet is-active $UNIT
}

# True when this version runs already: repeating an install does not interrupt inspection. After a killed switch
# nothing tells which version runs.
runs_unchanged() {
  [[ $1 == "$2" && $UNIT_CHANGED == no && $3 == no ]] && systemctl --quiet is-active $UNIT
}

# Restarts the unit. True when it becomes ready and is still the same process SETTLE_S later.
came_up() {
  local pid
  systemctl reset-failed $UNIT 2>/dev/null || true
  systemctl restart $UNIT 2>/dev/null || return 1
  pid=$(main_pid)
  sleep "$SETTLE_S"
  systemctl --quiet is-active $UNIT && [[ $(main_pid) == "$pid" && $pid != 0 ]]
}

main_pid() { systemctl show -P MainPID $UNIT; }

show_journal() {
  journalctl --unit $UNIT --no-pager --lines 15 --output cat >&2 || true
}

# $1: the current version, $2: the previous one.
report_done() {
  if [[ -n $2 && $2 != "$1" ]]; then point_at previous "$2"; fi
  if [[ $OLD_RUNS == no ]]; then rm -f "$PREFIX/switching"; fi
  remove_old_versions
  if [[ $OLD_RUNS == yes ]]; then
    say "defectd $1 is installed. The service still runs another version until: systemctl restart defectd"
  elif systemctl --quiet is-active $UNIT; then
    say "defectd $1 runs: $(systemctl show -P StatusText $UNIT)"
  else
    say "defectd $1 is installed, and not started. Next:
  cp $CONFIG_DIR/config.example.yaml $CONFIG_DIR/config.yaml    # unless it exists; then edit it: node, broker, cameras
  defectd check -c $CONFIG_DIR/config.yaml --probe
  systemctl enable --now defectd"
  fi
}

# Keeps two: the current version, and the one to go back to.
remove_old_versions() {
  local folder
  for folder in "$PREFIX"/versions/*; do
    case $(basename "$folder") in
      "$(version_behind current)" | "$(version_behind previous)") ;;
      *) rm -rf "$folder" ;;
    esac
  done
}

go_back() {
  preflight
  local old
  old=$(version_behind previous)
  if [[ -L $PREFIX/switching ]]; then old=$(version_before); fi # a killed switch: back to what ran before it
  [[ -n $old && -d $PREFIX/versions/$old ]] || fail "there is no version to go back to"
  VERSION=$old FOLDER=$PREFIX/versions/$old
  check_configuration
  switch_to "$old"
}

# ---- removing -------------------------------------------------------------------------------------------------------

uninstall() {
  need_root
  if [[ -d /run/systemd/system && -e $UNIT_DIR/$UNIT ]]; then systemctl --quiet disable --now $UNIT; fi
  remove_page_unit
  remove_help
  rm -f $UNIT_DIR/$UNIT $UNIT_DIR/$UNIT.d/network-cameras.conf $UDEV_RULES $COMMAND $CONFIG_DIR/config.example.yaml
  rm -rf "$PREFIX"
  if [[ $PURGE == yes ]]; then
    rm -rf $CONFIG_DIR $STATE_DIR $LOG_DIR $UNIT_DIR/$UNIT.d $UNIT_DIR/$PAGE_UNIT.d
    if getent passwd $OWN_USER >/dev/null; then userdel $OWN_USER; fi
  else
    rmdir --ignore-fail-on-non-empty $UNIT_DIR/$UNIT.d 2>/dev/null || true
  fi
  if [[ -d /run/systemd/system ]]; then
    systemctl daemon-reload
    systemctl reset-failed $UNIT 2>/dev/null || true
    if [[ -S /run/udev/control ]]; then udevadm control --reload; fi
    if [[ -e $JOURNALD_CONF ]]; then
      rm -f $JOURNALD_CONF
      systemctl restart systemd-journald
    fi
  fi
  if [[ $PURGE == yes ]]; then
    say "defectd is removed, with its configuration and state."
  else
    say "defectd is removed. $CONFIG_DIR and $STATE_DIR are kept; --purge removes them, too."
  fi
}

# ---- bundling -------------------------------------------------------------------------------------------------------

# Makes a folder with all that a machine without a network needs: wheels, this script, the files beside the program.
make_bundle() {
  find_python
  SCRATCH=$(mktemp -d)
  trap 'rm -rf "$SCRATCH"' EXIT
  if [[ -e $BUNDLE && ! -e $BUNDLE/targets && -n $(ls -A "$BUNDLE") ]]; then
    fail "--bundle $BUNDLE: it contains other files; give a new or empty folder"
  fi
  build_from_checkout "$SCRATCH"
  mkdir -p "$BUNDLE/wheels"
  BUNDLE=$(cd "$BUNDLE" && pwd)
  local target download=(download --only-binary=:all: --dest "$BUNDLE/wheels")
  target=$(target_of_python)
  target="${PYTHON_VERSION:-${target% *}} ${ARCH:-${target#* }}"
  if [[ $target != "$(target_of_python)" ]]; then
    local glibc
    for glibc in 2_28 2_27 2_17; do download+=(--platform "manylinux_${glibc}_${target#* }"); done
    download+=(--platform "manylinux2014_${target#* }" --python-version "${target% *}" --implementation cp)
  fi
  say "Fetching the wheels for Python ${target% *} on ${target#* } ..."
  quietly "$SCRATCH/tools/bin/python" -m pip --disable-pip-version-check "${download[@]}" "${WHEEL}[report]"
  rm -f "$BUNDLE"/wheels/defectd-*.whl
  cp "$WHEEL" "$BUNDLE/wheels"
  rm -rf "$BUNDLE/share"
  cp -r "$SCRATCH/share" "$BUNDLE/share"
  install -m 755 "$SELF" "$BUNDLE/install.sh"
  { cat "$BUNDLE/targets" 2>/dev/null || true; printf '%s\n' "$target"; } | sort -u >"$SCRATCH/targets"
  cp "$SCRATCH/targets" "$BUNDLE/targets"
  (cd "$BUNDLE" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >"$SCRATCH/sums")
  cp "$SCRATCH/sums" "$BUNDLE/SHA256SUMS"
  say "$BUNDLE is ready ($(du -sh "$BUNDLE" | cut -f1), for $(paste -sd, "$BUNDLE/targets")). On the node: sudo FOLDER/install.sh"
}

main "$@"
