#!/bin/sh
# Installs the Debian packages that a make target needs and that are missing.  If none is missing, apt is not run.
#
#   scripts/apt-packages.sh base      a Python that can make virtual environments
#   scripts/apt-packages.sh peers     the TLS and QUIC programs with which the demo and the tests exchange data
#   scripts/apt-packages.sh compiler  a C compiler, for the agent in C among the tests
#   scripts/apt-packages.sh deb       what builds the Debian packages
#   scripts/apt-packages.sh packages  what checks them, and runs them in a container
set -eu

missing=""
need() { # need COMMAND PACKAGE: add the package that has the command, if the command is missing
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

for tier in "$@"; do
    case "$tier" in
        base)
            need python3 python3
            python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
            ;;
        peers)
            need openssl openssl
            need gnutls-serv gnutls-bin
            need gtlsclient ngtcp2-client
            PATH="$PATH:/usr/sbin" need gtlsserver ngtcp2-server
            PATH="$PATH:/usr/sbin" need haproxy haproxy
            ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
            ;;
        compiler)
            need cc "gcc libc6-dev"
            ;;
        deb)
            need dpkg-deb dpkg
            ;;
        packages)
            need dpkg-deb dpkg
            need lintian lintian
            need podman podman
            PATH="$PATH:/usr/sbin" need runc runc
            need shellcheck shellcheck
            ;;
        *)
            echo "$0: there is no tier $tier" >&2
            exit 2
            ;;
    esac
done

[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "These Debian packages are needed and not installed:$missing" >&2
    echo "Installing them takes root.  Run this once, then try again:" >&2
    echo "    sudo apt-get install$missing" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "There is no apt-get here.  Install by your own package manager what these Debian packages bring:$missing" >&2
    exit 1
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of names
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
