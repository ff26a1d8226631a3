#!/usr/bin/env bash
# Install what the tests need from Debian's packages (PostgreSQL's server
# programs), when run as root with apt. Otherwise say what is missing: the tests
# that need it then skip, and fail where CI is set.
set -euo pipefail

present() { compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || command -v initdb > /dev/null; }

if present; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql > /dev/null
fi
present || echo "missing: PostgreSQL's server programs (Debian: apt-get install postgresql); its tests will be skipped" >&2
