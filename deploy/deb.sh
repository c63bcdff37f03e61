#!/usr/bin/env bash
# deb.sh FOLDER: make a Debian package of defectd in FOLDER, for this machine's Debian release and architecture.
#
# The package contains the wheels. On the node install.sh works as always: it makes a folder for the version, checks the
# configuration first, and goes back to the old version when the new one does not become ready.
set -euo pipefail
umask 022

OUT=${1:?deb.sh FOLDER}
HERE=$(cd "$(dirname "$0")" && pwd)
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
TREE=$SCRATCH/tree
SHARE=$TREE/usr/share/defectd

"$HERE/install.sh" --bundle "$SHARE" ${PYTHON:+--python "$PYTHON"}
WHEEL=$(basename "$SHARE"/wheels/defectd-*.whl)
VERSION=$(cut -d- -f2 <<<"$WHEEL")
MINOR=$(cut -d' ' -f1 "$SHARE/targets" | cut -d. -f2)
ARCH=$(dpkg --print-architecture)

mkdir -p "$TREE/DEBIAN" "$TREE/usr/share/doc/defectd"
cat >"$TREE/usr/share/doc/defectd/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
Copyright: the defectd authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0. Each wheel below /usr/share/defectd/wheels
 carries the licence of its own project.
END
cat >"$TREE/DEBIAN/control" <<END
Package: defectd
Version: $VERSION
Architecture: $ARCH
Maintainer: the defectd authors <defectd@localhost>
Installed-Size: $(du -sk "$TREE/usr" | cut -f1)
Depends: python3 (>= 3.$MINOR~), python3 (<< 3.$((MINOR + 1))~), python3-venv, systemd (>= 249), passwd
Section: misc
Priority: optional
Description: edge inspection daemon for steel strip
 Cameras in, defect events out over MQTT, on a bare CPU. Contains its Python
 dependencies as wheels and installs them into /opt/defectd.
END
cat >"$TREE/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
if [ -d /run/systemd/system ]; then
  exec /usr/share/defectd/install.sh --python /usr/bin/python3
fi
echo "defectd: no systemd runs here; run /usr/share/defectd/install.sh on the machine itself"
END
cat >"$TREE/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
[ "$1" = remove ] || exit 0
/usr/share/defectd/install.sh --uninstall
END
# The same as install.sh --uninstall --purge, because install.sh has been removed by then.
cat >"$TREE/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
[ "$1" = purge ] || exit 0
rm -rf /etc/defectd /var/lib/defectd /var/log/defectd /etc/systemd/system/defectd.service.d /etc/systemd/system/defectd-web.service.d
if getent passwd defectd >/dev/null; then userdel defectd; fi
END
chmod 755 "$TREE"/DEBIAN/{postinst,prerm,postrm}
mkdir -p "$OUT"
dpkg-deb --root-owner-group -Zxz --build "$TREE" "$OUT/defectd_${VERSION}_$ARCH.deb"
