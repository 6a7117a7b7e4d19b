#!/bin/sh
# Installs the programs that are missing here, where a package manager may do it; says what it could not.
#   system.sh venv PYTHON   what `PYTHON -m venv` needs
#   system.sh tests         what the tests need: clients in other languages, browsers, and proxies
set -u

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

install() { # by the names that Debian gives, then Fedora's, then Homebrew's
    if command -v apt-get >/dev/null; then
        as_root apt-get update -qq >/dev/null 2>&1
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q "$2" >/dev/null 2>&1
    elif command -v brew >/dev/null; then
        brew install -q "$3" >/dev/null 2>&1
    else
        return 1
    fi
}

need() { # program, package names
    command -v "$1" >/dev/null && return
    echo "installing $1"
    install "$2" "$3" "$4" || echo "cannot install $1: the tests that need it are skipped"
}

need_server() { # Debian starts what it installs where systemd runs: not unasked
    PATH="$PATH:/usr/sbin"
    if [ -d /run/systemd/system ] && command -v apt-get >/dev/null && ! command -v "$1" >/dev/null; then
        echo "not installing $1, which would be started: the tests that need it are skipped"
    else
        need "$1" "$1" "$1" "$1"
    fi
}

case "$1" in
venv)
    "$2" -c 'import ensurepip, venv' 2>/dev/null && exit 0
    version=$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    install "python$version-venv" python3 python3 || {
        echo "$2 cannot make virtual environments: install python$version-venv"
        exit 1
    }
    ;;
tests)
    need node nodejs nodejs node
    need go golang-go golang go
    need jq jq jq jq
    [ "$(uname)" = Linux ] && need fusermount3 fuse3 fuse3 macfuse
    need curl curl curl curl
    need ip iproute2 iproute iproute2mac
    need redis-server redis-server redis redis
    [ "$(uname)" = Linux ] && need systemd-analyze systemd systemd systemd
    need chromium chromium chromium chromium
    need chromedriver chromium-driver chromedriver chromedriver
    if [ "$(uname)" = Linux ]; then
        need firefox firefox-esr firefox firefox
        need WebKitWebDriver webkit2gtk-driver webkit2gtk4.1 webkitgtk
        need Xvfb xvfb xorg-x11-server-Xvfb xorg-server
    fi
    need_server nginx
    need_server caddy
    ;;
esac
