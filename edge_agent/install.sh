#!/bin/sh
# Put the agent on this device: a virtual environment, a user, a systemd unit.
#
#   sudo ./install.sh [--extras agent,tflite] [--from WHEEL_OR_FOLDER] [ENROLLMENT_STRING]
#
# Run again it upgrades. With an enrollment string the device joins its fleet and the agent starts.
set -eu

prefix=/opt/edgeward-agent
state=/var/lib/edgeward-agent
unit=/etc/systemd/system/edgeward-agent.service
user=edgeward-agent
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source=$(dirname -- "$here")
extras=agent
string=

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

while [ $# -gt 0 ]; do
    case $1 in
        --extras) [ $# -gt 1 ] || fail "--extras takes a list" 2; extras=$2; shift 2 ;;
        --from) [ $# -gt 1 ] || fail "--from takes a wheel or a folder" 2; source=$2; shift 2 ;;
        -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) fail "unknown option $1" 2 ;;
        *) [ -z "$string" ] || fail "one enrollment string, not two" 2; string=$1; shift ;;
    esac
done

[ "$(id -u)" -eq 0 ] || fail "run it as root"
[ -e "$source" ] || fail "there is no $source; give --from WHEEL_OR_FOLDER"
command -v python3 > /dev/null || fail "python3 (3.11 to 3.13) is missing"
python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    || fail "python3 is $(python3 --version); Edgeward needs 3.11 to 3.13"
command -v systemctl > /dev/null || fail "this device has no systemd; see edge_agent/README.md for other ways"

id "$user" > /dev/null 2>&1 || useradd --system --home-dir "$state" --shell /usr/sbin/nologin "$user"
install -d -o "$user" -g "$user" -m 0750 "$state"
[ -x "$prefix/bin/python" ] || python3 -m venv "$prefix"
"$prefix/bin/pip" install --upgrade "$source[$extras]"
install -m 0644 "$here/README.md" "$prefix/README.md"
install -m 0644 "$here/edgeward-agent.service" "$unit"
ln -sf "$prefix/bin/edgeward-agent" /usr/local/bin/edgeward-agent
systemctl daemon-reload

if [ -n "$string" ]; then
    runuser -u "$user" -- "$prefix/bin/edgeward-agent" enroll --state-dir "$state" "$string"
fi
if [ -e "$state/identity/identity.json" ]; then
    systemctl enable edgeward-agent
    systemctl restart edgeward-agent
    echo "the agent runs; watch it with: journalctl -fu edgeward-agent"
else
    echo "next: sudo -u $user edgeward-agent enroll STRING && sudo systemctl enable --now edgeward-agent"
fi
