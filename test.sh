#!/bin/bash
# shellcheck disable=SC2155,SC2046,SC2086,SC2089,SC2090 # lists of names and flags are split on purpose
# test.sh: every check of gamer, and everything that a check needs.
#
# Nothing here is installed, except by `deps`. Tools, source archives and kernels are
# Debian packages, fetched as an ordinary user and kept under ~/.cache/gamer.
#
#   1  settings and small helpers
#   2  archives: a private apt, source archives
#   3  tools: bpftool and QEMU, newer ones where this machine's are too old; mingw; shells; Wine, systemd, OpenRC
#   4  kernels: Debian's, unpacked, newest patch of each series; 6.12 built
#   5  the guest: helper programs, its root as one cpio archive
#   6  vm: one boot
#   7  host tests: what needs no VM
#   8  VM tests: the checks of test/guest.sh, one boot per kernel and group
#   9  the runner
#  10  demo
#  11  bench
#  12  deps, verbs
#
# Start reading at the bottom: the table of verbs names the function behind each.
set -euo pipefail

# ---------------------------------------------------------------------------
# 1  settings and small helpers
# ---------------------------------------------------------------------------
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$ROOT/build
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/gamer
GAMER=${GAMER:-$BUILD/gamer} # the binary to test; a run of tests freezes its own copy
BENCH=${BENCH:-$BUILD/gamer-bench} # so with the bench

note() { printf '%s\n' "$*" >&2; }
die() { note "test.sh: $*"; exit 1; }
usage() { note "test.sh: $*"; exit 64; }
have() { command -v "$1" >/dev/null 2>&1; }
# As the Makefile chooses
clang_name() { basename "$(command -v clang-19 clang | head -n1)"; }
# at_least A B: version A is B or newer
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$2" ]; }

# One lock per thing that is fetched or built, so that two test.sh can run at once.
locked() { # NAME CMD...
	local name=$1; shift
	mkdir -p "$CACHE/lock"
	( exec 8>"$CACHE/lock/$name"; flock 8; "$@" 8>&- )
}

# What is cached is a folder that carries the SHA-256 of its files. It appears under
# its name only when it is whole, and is checked before every use.
seal() { # TMPDIR DIR: give TMPDIR its list and its name
	(cd "$1" && find . -type f ! -name SHA256 -print0 | sort -z | xargs -0 sha256sum >SHA256)
	rm -rf "$2"
	mv "$1" "$2"
}
sealed() { [ -s "$1/SHA256" ] && (cd "$1" && sha256sum --quiet --status -c SHA256 2>/dev/null); }

# ---------------------------------------------------------------------------
# 2  archives: a private apt, source archives
# ---------------------------------------------------------------------------
# The mirror that this machine's own apt uses for its release. Whatever format its
# sources have, apt prints the addresses that it would fetch.
apt_mirror() {
	have apt-get || die "needs apt-get (Debian); elsewhere build with 'make DISTDIR=folder'"
	local codename uri
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	uri=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\([^']*\)/dists/$codename/InRelease'.*|\1|p" | head -n1)
	[ -n "$uri" ] || die "no Debian archive in this machine's apt sources"
	echo "$uri"
}

# apt_conf TYPE SUITE: an apt configuration for one suite (and what it builds on), with
# package lists at most a day old; prints its file name for APT_CONFIG. TYPE: deb, deb-src.
apt_conf() { locked "apt-$1-$2" _apt_conf "$@"; }
_apt_conf() {
	local type=$1 suite=$2 dir=$CACHE/apt/$1-$2 mirror suites
	local key=/usr/share/keyrings/debian-archive-keyring.gpg
	if [ ! -e "$dir/fresh" ] || [ -z "$(find "$dir/fresh" -mmin -1440)" ]; then
		mirror=$(apt_mirror)
		mkdir -p "$dir"/{lists/partial,cache/archives/partial}
		suites=$suite
		case $suite in *-backports) suites="${suite%-backports} $suite" ;; esac
		for s in $suites; do echo "$type [signed-by=$key] $mirror $s main"; done >"$dir/sources.list"
		cat >"$dir/conf" <<-EOT
			Dir::Etc::sourcelist "$dir/sources.list";
			Dir::Etc::sourceparts "/dev/null";
			Dir::Etc::preferencesparts "/dev/null";
			Dir::State::lists "$dir/lists";
			Dir::Cache "$dir/cache";
			APT::Sandbox::User "";
			APT::Default-Release "$suite";
			Acquire::Languages "none";
			Acquire::Retries "3";
			APT::Update::Post-Invoke "";
			DPkg::Post-Invoke "";
		EOT
		if APT_CONFIG=$dir/conf apt-get update -qq >"$dir/log" 2>&1 && ! grep -q '^[EW]:' "$dir/log"; then
			touch "$dir/fresh"
		elif [ -e "$dir/fresh" ]; then
			note "package lists of $suite could not be refreshed; using older ones"
		else
			die "package lists of $suite could not be fetched: $(grep -m1 '^[EW]:' "$dir/log" || true)"
		fi
	fi
	echo "$dir/conf"
}

# apt_fetch CONF DIR PACKAGE[=VERSION]...: the .deb files, in DIR; apt checks the hashes.
apt_fetch() {
	local conf=$1 dir=$2; shift 2
	(cd "$dir" && APT_CONFIG=$conf apt-get download -qq "$@" >&2) && return
	# A moving suite drops old versions: the next call looks again.
	rm -f "$(dirname "$conf")/fresh"
	note "could not download $*"
	return 1
}

# fetch-src DIR NAME=VERSION...: upstream archives (NAME_VERSION.orig.tar.*) of Debian source
# packages. Of VERSION only upstream's part counts, since Debian revisions come and go; the
# caller knows the SHA-256 of what it wants.
src_fetch() {
	local dest=${1:-} want; shift || true
	[ -n "$dest" ] && [ $# -gt 0 ] || usage "fetch-src wants DIR NAME=VERSION..."
	mkdir -p "$dest"
	for want; do
		want=${want/=*:/=} want=${want%-*}
		case $want in *=*) ;; *) usage "fetch-src: '$want' is not NAME=VERSION" ;; esac
		local dir=$CACHE/src/${want/=/_}
		sealed "$dir" || locked src src_download "${want%%=*}" "${want#*=}" "$dir"
		cp "$dir"/*.orig.tar.* "$dest/"
	done
}
src_download() {
	local name=$1 version=$2 dir=$3 suite conf full tmp
	for suite in trixie trixie-backports sid; do
		conf=$(apt_conf deb-src "$suite")
		full=$(APT_CONFIG=$conf apt-cache showsrc "$name" 2>/dev/null | sed -n 's/^Version: //p' | sort -Vu |
			while read -r v; do u=${v#*:}; [ "${u%-*}" = "$version" ] && echo "$v"; done | tail -n1) || true
		[ -n "$full" ] || continue
		note "fetching the source of $name $version ($suite)"
		mkdir -p "$CACHE/src"
		tmp=$(mktemp -d "$CACHE/src/.tmp.XXXXXX")
		if (cd "$tmp" && APT_CONFIG=$conf apt-get source -qq --tar-only "$name=$full" >&2); then
			find "$tmp" -type f ! -name "${name}_*.orig.tar.*" -delete
			rm -f "$tmp"/*.asc
			seal "$tmp" "$dir"
			return
		fi
		rm -rf "$tmp"
	done
	die "no source archive of $name $version in trixie, trixie-backports or sid"
}

# cached NAME SUITE PACKAGES PICK [ARGS]: prints the folder $CACHE/NAME, which has what PICK takes of these packages. Its
# own lock and a second look keep two test.sh from fetching it twice.
cached() {
	locked "${1//\//-}" cached_once "$CACHE/$1" "${@:2}" >&2 || die "$1 cannot be had"
	echo "$CACHE/$1"
}
cached_once() { sealed "$1" || unpacked "$@"; }
# unpacked DIR SUITE PACKAGES PICK [ARGS]: DIR, anew. PACKAGES: names, or a function that prints them. PICK ALL ROOT ARGS
# fills the folder ROOT from the packages, which are unpacked in the folder ALL.
unpacked() {
	local dir=$1 suite=$2 packages=$3 tmp rc=0
	note "fetching ${dir#"$CACHE"/} ($suite)"
	[ "$(type -t "$3")" != function ] || packages=$("$3") || return
	mkdir -p "${dir%/*}"
	tmp=$(mktemp -d "${dir%/*}/.tmp.XXXXXX")
	mkdir "$tmp"/{deb,all,root}
	apt_fetch "$(apt_conf deb "$suite")" "$tmp/deb" $packages &&
		printf '%s\n' "$tmp"/deb/*.deb | xargs -I{} dpkg-deb -x {} "$tmp/all" &&
		"$4" "$tmp/all" "$tmp/root" "${@:5}" && seal "$tmp/root" "$dir" || rc=1
	rm -rf "$tmp"
	return $rc
}

# headers drm|call: prints the folder with headers of the newest kernel: drm/*.h, or unistd_64.h, its numbers of
# system calls
headers() {
	case $1 in
	drm) cached src/drm-headers trixie-backports headers_drm headers_pick 'usr/src/*/include/uapi/drm' ;;
	call) cached src/call-headers sid linux-libc-dev headers_pick usr/lib/linux/uapi/x86/asm/unistd_64.h ;;
	esac
}
headers_drm() {
	APT_CONFIG=$(apt_conf deb trixie-backports) apt-cache pkgnames linux-headers- |
		grep -E '^linux-headers-[0-9.]+\+deb[0-9]+-common$' | sort -V | tail -n1
}
headers_pick() { cp -r "$1"/$3 "$2/"; } # ALL ROOT PATTERN

# ---------------------------------------------------------------------------
# 3  tools: bpftool and QEMU, newer ones where this machine's are too old; mingw; shells; Wine, systemd, OpenRC
# ---------------------------------------------------------------------------
# bpftool 7.1 silently drops struct_ops links; QEMU 7.2 crashes guests in which a
# scheduler attaches under load (thread=multi). So neither will do.
bpftool_usable() {
	local v
	v=$("$1" version 2>/dev/null | sed -n 's/^bpftool v//p') || return 1
	[ -n "$v" ] && at_least "$v" 7.5
}
qemu_usable() {
	local v
	v=$("$1" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p') || return 1
	[ -n "$v" ] && at_least "$v" 10
}

pahole_usable() { at_least "$("$1" --version 2>/dev/null || true)" v1.24; }
modetest_usable() { grep -q usage <<<"$("$1" -h 2>&1)"; } # libdrm's: sets modes, flips pages
promtool_usable() { "$1" --version >/dev/null 2>&1; } # Prometheus' own: reads metrics as it does
mingw_usable() { "$1" --version >/dev/null; }
zsh_usable() { "$1" -fc 'autoload compinit' 2>/dev/null; }
fish_usable() { "$1" --no-config -c true 2>/dev/null; }
mandoc_usable() { "$1" -Tlint -Werror <<<'.TH x 1 2000-01-01' >/dev/null; }
busybox_usable() { "$1" true && ! grep -q INTERP <<<"$(readelf -l "$1")"; }

#       tool                     check           package          program in it                   also wanted
TOOLS="
	busybox                  busybox_usable  busybox-static   bin/busybox
	bpftool                  bpftool_usable  bpftool          usr/sbin/bpftool
	pahole                   pahole_usable   dwarves          usr/bin/pahole
	qemu-system-x86_64       qemu_usable     qemu-system-x86  usr/bin/qemu-system-x86_64      qemu-system-data,seabios,ipxe-qemu
	modetest                 modetest_usable libdrm-tests     usr/bin/modetest
	zsh                      zsh_usable      zsh-static       bin/zsh-static                   zsh-common
	fish                     fish_usable     fish             usr/bin/fish
	mandoc                   mandoc_usable   mandoc           usr/bin/mandoc
	promtool                 promtool_usable prometheus       usr/bin/promtool
	x86_64-w64-mingw32-gcc   mingw_usable    gcc-mingw-w64-x86-64-win32  usr/bin/x86_64-w64-mingw32-gcc-win32
"

# tool NAME: prints the path of a usable one; unpacks one under the cache if it must.
tool() {
	local name check package program extra path own
	read -r name check package program extra < <(awk -v t="${1:-}" '$1 == t' <<<"$TOOLS") || true
	[ -n "${name:-}" ] || usage "tool: one of $(awk '{ print $1 }' <<<"$TOOLS" | xargs)"
	own=$CACHE/tools/$name/run
	[ "$name" != busybox ] || own=$CACHE/tools/$name/$program # guests get the file, no wrapper
	for path in "$(command -v "$name" || true)" "/usr/sbin/$name" "$own"; do
		if [ -x "$path" ] && "$check" "$path"; then echo "$path"; return; fi
	done
	locked "tool-$name" tool_unpack "$name" "$package" "$program" "$extra" >&2 ||
		die "no usable $name: this machine's is missing or too old, and its backports have none"
	"$check" "$own" || die "$name from backports does not run here"
	echo "$own"
}
# tool_file NAME: the same, but never a wrapper; its libraries may lie next to it.
tool_file() {
	local path
	path=$(tool "$1")
	case $path in */run) path=${path%run}$(awk -v t="$1" '$1 == t { print $4 }' <<<"$TOOLS") ;; esac
	echo "$path"
}

# A package and the libraries that this machine lacks; `run` in it finds them.
tool_unpack() { # NAME PACKAGE PROGRAM EXTRA
	local suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")-backports list
	"$CACHE/tools/$1/run" --version >/dev/null 2>&1 && return
	list=$(APT_CONFIG=$(apt_conf deb "$suite") apt-get install -y --no-install-recommends --print-uris "$2" ${4//,/ } |
		sed -n "s/^'[^']*' \([^_]*\)_\([^_]*\)_.*/\1=\2/p" | sed 's/%3a/:/g')
	[ -n "$list" ] && unpacked "$CACHE/tools/$1" "$suite" "$list" tool_pick "$@"
}
tool_pick() { # ALL ROOT NAME PACKAGE PROGRAM
	rm -rf "$1"/usr/share/{doc,man,locale}
	mv "$1"/* "$2/"
	cat >"$2/run" <<-EOT
		#!/bin/sh
		# $4, unpacked by test.sh with the libraries that this machine lacks
		d=$CACHE/tools/$3
		export LD_LIBRARY_PATH="\$d/usr/lib/x86_64-linux-gnu:\$d/lib/x86_64-linux-gnu:\$d/usr/lib"
		export QEMU_MODULE_DIR="\$d/usr/lib/x86_64-linux-gnu/qemu"
		case $3 in qemu*) set -- -L "\$d/usr/share/qemu" -L "\$d/usr/share/seabios" "\$@" ;; esac
		exec "\$d/$5" "\$@"
	EOT
	chmod +x "$2/run"
}

# Real Wine for the wine checks, one per calling convention of its system calls: Windows'
# in 8.0, System V's in 10.0. Of its 650 MB (110 MB to fetch) remains what runs test/prio.c without a prefix
# to be made first: 17 MB that are a root of their own, with the C library Wine was built for.
#   version  suite
WINES="
	8.0      bookworm
	10.0     trixie
"
WINE_DLLS="ntdll kernel32 kernelbase msvcrt"

# wine_get VERSION: prints the folder that is its root.
wine_get() { cached "wine/$1" "$(awk -v v="$1" '$1 == v { print $2 }' <<<"$WINES")" "libwine wine64 libc6 libunwind8 liblzma5" wine_pick; }
wine_pick() { # ALL ROOT: from packages as they are unpacked
	local all=$1 root=$2 wine=usr/lib/x86_64-linux-gnu/wine lib
	mkdir -p "$root"/{dev,proc,tmp,lib64,lib/x86_64-linux-gnu,usr/lib/wine,usr/share/wine,$wine/x86_64-unix,$wine/x86_64-windows}
	cp "$all/usr/lib/wine/wine64" "$root/usr/lib/wine/" &&
		cp "$all/usr/lib/wine/wineserver64" "$root/usr/lib/wine/wineserver" &&
		cp "$all/$wine/x86_64-unix/ntdll.so" "$root/$wine/x86_64-unix/" &&
		cp -r "$all/usr/share/wine/nls" "$root/usr/share/wine/" || return
	for lib in $WINE_DLLS; do
		strip --strip-debug -o "$root/$wine/x86_64-windows/$lib.dll" "$all/$wine/x86_64-windows/$lib.dll" || return
	done
	for lib in libc.so.6 libunwind.so.8 liblzma.so.5; do
		cp -L "$(find "$all" -path "*/x86_64-linux-gnu/$lib")" "$root/lib/x86_64-linux-gnu/" || return
	done
	cp "$(find "$all" -type f -name ld-linux-x86-64.so.2)" "$root/lib64/"
}

# What starts gamer on machines that guests look like, from trixie: its packages, and of them the
# paths that are wanted (no services: those a guest brings). What they link to comes along.
ROOT_LIBRARIES="libc6 libaudit1 libcap2 libcap-ng0 libcrypt1 libpam0g libpcre2-8-0 libselinux1 zlib1g"
SYSTEMD_PACKAGES="systemd libsystemd-shared libsystemd0 libacl1 libapparmor1 libblkid1 libkmod2 libmount1 libseccomp2 libssl3t64 libzstd1 liblzma5"
SYSTEMD_PATHS="usr/lib/systemd/systemd usr/lib/systemd/systemd-executor usr/bin/systemctl usr/bin/systemd-analyze
	usr/lib/systemd/system/*.target usr/lib/systemd/system/*.slice"
OPENRC_PACKAGES="openrc libeinfo1 librc1t64"
OPENRC_PATHS="etc/init.d etc/conf.d etc/rc.conf etc/runlevels usr/sbin/openrc usr/sbin/openrc-run usr/sbin/rc-service
	usr/sbin/rc-update usr/bin/rc-status usr/lib/rc"
# root_get systemd|openrc: prints a folder to be laid over a guest's root
root_get() {
	case $1 in
	systemd) cached roots/systemd trixie "$SYSTEMD_PACKAGES $ROOT_LIBRARIES" root_pick "$SYSTEMD_PATHS" ;;
	openrc) cached roots/openrc trixie "$OPENRC_PACKAGES $ROOT_LIBRARIES" root_pick "$OPENRC_PATHS" ;;
	esac
}
root_pick() { # ALL ROOT PATHS: these, the libraries that they link to, and those of the libraries
	local libs=usr/lib/x86_64-linux-gnu lib found more=1
	(cd "$1" && cp -a --parents $3 "$2") && find "$2" -xtype l -delete || return
	mkdir -p "$2/$libs" "$2/lib64"
	while [ -n "$more" ]; do
		more=
		for lib in $(find "$2" -type f -exec readelf -d {} + 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u); do
			[ ! -e "$2/$libs/$lib" ] || continue
			found=$(find "$1/usr/lib" -name "$lib" | head -n1)
			[ -n "$found" ] || { note "no $lib"; return 1; }
			cp -L "$found" "$2/$libs/"
			more=1
		done
	done
	cp "$2/$libs/ld-linux-x86-64.so.2" "$2/lib64/"
}

# wine_prepare: both versions, and the Windows program of the checks, in $PRIO.
PRIO=$BUILD/test-wine/prio.exe
wine_prepare() {
	wine_get 8.0 >/dev/null
	wine_get 10.0 >/dev/null
	locked prio prio_build
}
prio_build() {
	local c=$ROOT/test/prio.c mingw
	[ "$PRIO" -nt "$c" ] && return
	mingw=$(tool x86_64-w64-mingw32-gcc)
	mkdir -p "$(dirname "$PRIO")"
	"$mingw" -O2 -s -Wall -Wextra -Wno-missing-field-initializers -Werror -o "$PRIO.$$" "$c"
	mv "$PRIO.$$" "$PRIO"
}

# ---------------------------------------------------------------------------
# 4  kernels: Debian's, unpacked, newest patch of each series; 6.12 built
# ---------------------------------------------------------------------------
SERIES="6.12 6.16 6.17 6.18 6.19 7.0 7.1 7.2 7.3"
# Those of Debian 12 and 13, which have no sched_ext: there gamer advises the kernel's own scheduler.
ADVISED="6.1 6.12-stock"
# What a guest can load; dependencies come along. Series whose modules have left the
# archive boot without: everything that a guest needs to boot is built in.
MODULES="evdev uinput uhid hid-generic vgem virtio-gpu snd-aloop snd-dummy"

# One line per stock series: SERIES VERSION SUITE PACKAGE in-image|MODULE-PACKAGE|none
# A package of a few KB is a meta package; the kernel is in another.
KERNEL_SUITES="bookworm trixie-backports sid"
kernel_list() {
	local list=$CACHE/kernels/list conf suite fresh=1
	for suite in $KERNEL_SUITES; do
		conf=$(apt_conf deb "$suite")
		[ "$list" -nt "${conf%conf}fresh" ] || fresh=
	done
	[ -n "$fresh" ] || locked kernel-list kernel_list_write "$list"
	cat "$list"
}
kernel_list_write() {
	local suite conf
	mkdir -p "$CACHE/kernels"
	for suite in $KERNEL_SUITES; do
		conf=$(apt_conf deb "$suite")
		APT_CONFIG=$conf apt-cache pkgnames linux- |
			grep -E '^linux-(image|binary|binary-unsigned|modules)-[0-9.]+(\+deb[0-9]+|-[0-9]+)-amd64$' |
			APT_CONFIG=$conf xargs apt-cache show |
			awk -v suite="$suite" '
				/^Package: / { p = $2 }
				/^Size: / && $2 > 1000000 { sub(/^linux-/, "", p); kind = p; sub(/-[0-9].*/, "", kind); sub(/^[a-z-]*-/, "", p)
					if (kind == "modules") mods[p] = 1; else if (!(p in kern) || kind != "binary-unsigned") kern[p] = kind }
				END { for (p in kern) { split(p, v, /[.+]/)
					print v[1] "." v[2], p, suite, "linux-" kern[p] "-" p, kern[p] == "image" ? "in-image" : (p in mods) ? "linux-modules-" p : "none" } }'
	done | sort -k1,1V -k2,2V | awk '{ last[$1] = $0 } END { for (s in last) print last[s] }' | sort -V >"$1.tmp"
	mv "$1.tmp" "$1"
}

# kernel_get SERIES: prints the folder with that kernel, fetched or built if need be.
kernel_get() {
	local series=$1 dir=$CACHE/kernels/$1
	grep -qw -- "$series" <<<"$SERIES $ADVISED" || die "kernel '$series': one of $SERIES $ADVISED"
	locked "kernel-$series" _kernel_get "$series" "$dir" >&2 || die "kernel $series cannot be had"
	echo "$dir"
}
_kernel_get() {
	local series=$1 dir=$2 version suite package modules
	if [ "$series" = 6.12 ]; then
		cached_once "$dir" trixie linux-source-6.12 kernel_build
		return
	fi
	read -r _ version suite package modules < <(kernel_list | awk -v s="${series%-stock}" '$1 == s') || true
	if sealed "$dir"; then
		[ "$(cat "$dir/version" "$dir/wanted" 2>/dev/null)" = "${version:-none}"$'\n'"$MODULES" ] && return
		[ -z "${version:-}" ] && note "kernel $series has left the archive; using the cached one" && return
	fi
	[ -n "${version:-}" ] || return 1
	case $modules in in-image | none) modules= ;; esac
	unpacked "$dir" "$suite" "$package $modules" kernel_pick "$version" ||
		{ sealed "$dir" && note "using the cached $(cat "$dir/version")"; }
}
kernel_pick() { # ALL ROOT VERSION
	mkdir "$2/modules"
	find "$1" -type f -name 'vmlinuz*' -exec cp {} "$2/vmlinuz" \; && [ -s "$2/vmlinuz" ] || return
	modules_pick "$1" "$2/modules" || return
	echo "$3" >"$2/version"
	echo "$MODULES" >"$2/wanted"
}

# modules_pick ROOT DIR: the modules of $MODULES with what they need, decompressed, and
# DIR/load: one line per wanted module, its files in the order of loading.
modules_pick() {
	local root=$1 dir=$2 m
	declare -A FILE=()
	while read -r f; do m=${f##*/}; m=${m%.ko*}; FILE[${m//-/_}]=$f; done < <(find "$root" -name '*.ko*')
	for m in $MODULES; do
		[ -n "${FILE[${m//-/_}]:-}" ] || continue
		echo "$m:$(module_need "${m//-/_}" "$dir" | tr ' ' '\n' | awk '!seen[$0]++' | xargs echo '')"
	done >"$dir/load"
}
module_need() { # NAME DIR: prints its dependencies' names, then its own
	local m=$1 dir=$2 d f=${FILE[$1]:-}
	[ -n "$f" ] || return 0
	case $f in
	*.xz) xz -dc "$f" >"$dir/$m.ko" ;;
	*.zst) zstd -dcq "$f" >"$dir/$m.ko" ;;
	*) cp "$f" "$dir/$m.ko" ;;
	esac
	for d in $(tr '\0' '\n' <"$dir/$m.ko" | sed -n 's/^depends=//p' | tr ',-' ' _'); do
		module_need "$d" "$dir"
	done
	printf ' %s' "$m"
}

# Debian's 6.12 has no sched_ext. This one is small: tinyconfig and test/kernel-6.12.config.
kernel_build() { # ALL ROOT
	local src=$1/linux root=$2 pahole line config lost=''
	config=$(sed 's/#.*//' "$ROOT/test/kernel-6.12.config" | tr -s ' ' '\n' | sed '/^$/d; /=/!s/$/=y/; s/^/CONFIG_/')
	deps_or_die "$DEPS_KERNEL"
	pahole=$(tool pahole)
	note "building kernel 6.12 from Debian's source, once (about 10 minutes)"
	mkdir "$src" "$root/modules"
	tar -xf "$1"/usr/src/linux-source-6.12.tar.* -C "$src" --strip-components=1 || return
	set -- nice make -s -C "$src" -j "$(nproc)" PAHOLE="$pahole" KBUILD_BUILD_USER=gamer KBUILD_BUILD_HOST=test
	{
		"$@" tinyconfig && echo "$config" >>"$src/.config" && "$@" olddefconfig &&
			"$@" bzImage
	} >"$BUILD/kernel-6.12.log" 2>&1 || { note "see $BUILD/kernel-6.12.log"; return 1; }
	for line in $config; do grep -qxF "$line" "$src/.config" || lost+=" $line"; done
	[ -z "$lost" ] || die "kernel 6.12 was built without$lost"
	cp "$src/arch/x86/boot/bzImage" "$root/vmlinuz"
	APT_CONFIG=$(apt_conf deb trixie) apt-cache madison linux-source-6.12 | awk '{ print $3 }' | sort -V | tail -n1 >"$root/version"
}

# ---------------------------------------------------------------------------
# 5  the guest: helper programs, its root as one cpio archive
# ---------------------------------------------------------------------------
# Static programs from test/*.c; kernel headers come from this machine.
helpers_build() {
	local c out
	mkdir -p "$BUILD/test"
	for c in "$ROOT"/test/*.c; do
		out=$BUILD/test/$(basename "$c" .c)
		case ${out##*/} in bench | fuzz | game | merge | prio | profiled) continue ;; esac # the Makefile's; without main(), for the host; for Windows; with its symbols
		[ -z "$(find "$c" "$ROOT"/test/*.h -newer "$out" 2>&1)" ] && continue # or there is none yet
		case $out in
		*.bpf) "$(clang_name)" -target bpf -g -O2 -Wall -Wextra -Werror -c -o "$out.$$" "$c" ;;
		*)
			musl-gcc -static -O2 -std=gnu11 -Wall -Wextra -Wno-missing-field-initializers -Werror -pthread \
				-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu -o "$out.$$" "$c"
			strip "$out.$$" ;;
		esac
		mv "$out.$$" "$out"
	done
}

# guest_add FILE:GUESTPATH DIR: one file, with its libraries if it is dynamic.
guest_add() {
	local file=${1%%:*} path=${1#*:} dir=$2 lib to
	[ -e "$file" ] && [ "$path" != "$1" ] || die "--with FILE:GUESTPATH: no '$file'"
	mkdir -p "$dir$(dirname "$path")"
	cp -rL "$file" "$dir$path"
	[ -f "$file" ] || return 0
	for lib in $(LD_LIBRARY_PATH=${file%/usr/*}/usr/lib/x86_64-linux-gnu ldd "$file" 2>/dev/null | grep -o '/[^ )]*' || true); do
		to=$lib
		case $lib in "$CACHE"/*) to=/usr/lib/x86_64-linux-gnu/${lib##*/} ;; esac
		[ -e "$dir$to" ] || { mkdir -p "$dir$(dirname "$to")"; cp -L "$lib" "$dir$to"; }
	done
}

# guest_pack DIR CPIO: order, times and owners are fixed, for the lab repeats to the bit.
guest_pack() {
	find "$1" -exec touch -h -d @0 {} +
	(cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0) >"$2"
}

# ---------------------------------------------------------------------------
# 6  vm: one boot
# ---------------------------------------------------------------------------
VM_USAGE="usage: test.sh vm [--kernel SERIES] [--cpus N | --smp sockets=..,cores=..,threads=..]
	[--lab SEED [--even]] [--steady] [--gpu] [--mem MB] [--append ARGS] [--timeout S] [--log FILE] [--out DIR]
	[--modules NAME,...] [--with FILE:GUESTPATH | --with TOOL | --with wine|systemd|openrc]... [--init NAME] -- CMD
Boots a kernel and runs CMD in a shell there, with gamer and the programs of test/ on PATH.
CMD's output is our output, its exit code ours; 124: it took too long, 125: the guest died.
What CMD leaves in /out lands in --out DIR (build/out). --lab: deterministic, one virtual
nanosecond per instruction; --even: with CPUs that are equally fast. --steady: its clock counts
instructions, 4 ns each, and so stands when this machine does. --gpu adds a virtio GPU (not in the lab). --modules
loads more of what the kernel has, as far as it has it. --with puts a file, a tool of test.sh, what the wine
checks need, systemd or OpenRC into the guest. --init: another PID 1, on a read-only root (see test/deploy.sh)."

# With a host thread per CPU, QEMU may translate code that another CPU is just patching
# and keep the breakpoint it found there: an int3 oops in about 1 of 200 attaches on a
# busy host (QEMU 10; nearly every time with 7.2). So CPUs take turns in one thread, which
# with two VMs on two cores is as fast.
vm() {
	local kernel=6.18 smp=4 lab='' even='' steady='' gpu='' mem=1024 append='' timeout=600 log='' out=$BUILD/out with=() modules='' init='' opt
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		opt=$1
		case $opt in
		--gpu | --even | --steady) printf -v "${opt#--}" 1; shift; continue ;;
		--help | -h) echo "$VM_USAGE"; return ;;
		esac
		[ $# -gt 1 ] || usage "vm: $opt needs a value"
		case $opt in
		--cpus) smp=$2 ;;
		--kernel | --smp | --lab | --mem | --append | --init | --timeout | --log | --out) printf -v "${opt#--}" %s "$2" ;;
		--modules) modules=${2//,/ } ;;
		--with)
			case $2 in
			*:*) with+=("$2") ;;
			systemd | openrc) with+=("$(root_get "$2")/.:/") ;;
			wine) wine_prepare; with+=("$CACHE/wine:/wine" "$PRIO:/wine/prio.exe") ;;
			*) with+=("$(tool_file "$2"):/bin/$2") ;;
			esac ;;
		*) usage "vm: unknown option '$opt'"$'\n'"$VM_USAGE" ;;
		esac
		shift 2
	done
	[ $# -eq 2 ] || usage "$VM_USAGE"
	local cmd=$2 dir qemu work cpus args=() rc=0
	dir=$(kernel_get "$kernel")
	qemu=$(tool qemu-system-x86_64)
	mkdir -p "$BUILD"
	find "$BUILD" -maxdepth 1 -name 'vm-*.log' -mtime +1 -delete
	helpers_build
	work=$(mktemp -d)
	log=${log:-$BUILD/vm-$kernel-$(date +%H%M%S)-$$.log}

	vm_root "$work/root" "$dir" "$cmd" "${lab:+$((even ? 5 : 3))}" "$init" "evdev uinput vgem ${gpu:+virtio-gpu }$modules" "${with[@]}"
	guest_pack "$work/root" "$work/cpio"

	local line="console=ttyS0 loglevel=5 panic=-1 oops=panic tsc=reliable nokaslr mitigations=off audit=0 rdinit=/init"
	case $smp in [0-9]*) smp="cpus=$smp" ;; esac
	if [ -n "$even" ]; then
		read -r cpus smp < <(even_smp "$smp")
		line+=" nr_cpus=$cpus"
	fi
	args=(-nodefaults -no-user-config -machine pc -cpu "$VM_CPU" -smp "$smp" -m "$mem" -display none -no-reboot
		-kernel "$dir/vmlinuz" -initrd "$work/cpio"
		-serial "file:$log" -serial "file:$work/out" -serial "file:$work/end")
	if [ -n "$lab" ]; then
		args+=(-accel "tcg,thread=single" -icount "shift=0,sleep=off" -seed "$lab" -rtc "base=2026-01-01,clock=vm")
		line+=" initcall_blacklist=cmos_init"
	else
		args+=(-accel "tcg,thread=single" ${steady:+-icount shift=2,sleep=off -rtc clock=vm})
		line+=" no_timer_check" # on a busy host the timer comes late, and the kernel gives up
	fi
	[ -z "$gpu" ] || args+=(-device virtio-gpu-pci) # in the lab: no longer bit-exact
	: >"$work/out"
	vm_boot "$work" "$timeout" "$qemu" "${args[@]}" -append "$line${append:+ $append}" || rc=$?
	[ -n "$lab$steady" ] || sort -n "$work"/still.* | tail -n1 >"$log.still"
	vm_end "$work" "$log" "$out" "$rc" || rc=$?
	rm -rf "$work"
	return "$rc"
}
# Until its next timer QEMU (since 8.1) gives each CPU in turn an nth of the time that is left, n its
# CPUs, over and over, and the first two that are busy lose their first turn. Of four busy ones two
# get 0.58 of their share, of eight 0.46, others 1.55 and 1.45, and a thread that moves runs at
# another speed. With EVEN_CPUS, most of which the guest never starts, it is 0.94 to 1.06 and 0.83
# to 1.07, at the cost of many more turns: with one busy CPU it takes 7 times as long.
EVEN_CPUS=32
even_smp() { # SMP: how many CPUs the guest has; the same packages, as many as make EVEN_CPUS
	awk -F'[,=]' -v all=$EVEN_CPUS '{
		for (i = 1; i < NF; i += 2) n[$i] = $(i + 1)
		threads = n["threads"] ? n["threads"] : 1
		sockets = n["sockets"] ? n["sockets"] : 1
		cores = n["cores"] ? n["cores"] : n["cpus"] ? n["cpus"] / (sockets * threads) : 1
		cpus = n["cpus"] ? n["cpus"] : sockets * cores * threads
		printf "%d sockets=%d,cores=%d,threads=%d\n", cpus, (all - 1) / (cores * threads) + 1, cores, threads
	}' <<<"$1"
}
# Without ERMS and FSRM, by which the kernel copies and clears with string instructions: QEMU emulates these
# byte by byte, and gamer, the verifier's states for the most part, would load half as fast.
VM_CPU=max,erms=off,fsrm=off

vm_root() { # DIR KERNELDIR CMD QUANTUM INIT MODULES WITH...
	local dir=$1 kernel=$2 cmd=$3 quantum=$4 init=$5 modules=$6 w; shift 6
	mkdir -p "$dir/bin" "$dir/modules"
	cp "$(tool busybox)" "$dir/bin/busybox"
	cp "$ROOT/test/init" "$dir/init"
	for w in "$BUILD"/test/* "$ROOT"/test/*.sh; do
		[ -f "$w" ] && cp "$w" "$dir/bin/"
	done
	[ ! -x "$GAMER" ] || cp "$GAMER" "$dir/bin/gamer"
	[ ! -x "$BENCH" ] || cp "$BENCH" "$dir/bin/gamer-bench"
	ln -sf gamer-bench "$dir/bin/side"
	cp "$kernel"/modules/* "$dir/modules/" 2>/dev/null || true
	printf 'QUANTUM=%s\nINIT=%s\nWANT_MODULES="%s"\n' "$quantum" "$init" "$modules" >"$dir/vm.conf"
	printf '%s\n' "$cmd" >"$dir/cmd"
	for w; do guest_add "$w" "$dir"; done
}

# Run QEMU, pass on what CMD prints as it comes.
vm_boot() { # WORK TIMEOUT QEMU...
	local work=$1 timeout=$2 pid cpu rc=0; shift 2
	timeout -k 5 "$timeout" "$@" </dev/null >"$work/qemu" 2>&1 &
	pid=$!
	# A clock that counts instructions stands when the machine does.
	[ -n "$lab$steady" ] || for cpu in $(seq 0 $(($(nproc) - 1))); do standstill "$cpu" "$pid" >"$work/still.$cpu" 2>/dev/null & done
	tail -n +1 -f -s 0.1 --pid="$pid" "$work/out"
	wait "$pid" || rc=$?
	wait # for the watchers
	return "$rc"
}

# standstill CPU PID: for how many ms at once this CPU ran nobody, or not whoever watches it, at most
# until PID ends. The guest's clock goes on meanwhile: to its kernel its tasks did not get to run.
standstill() {
	local before now gap _ worst=0
	taskset -pc "$1" $BASHPID >/dev/null || true # not ours: then wherever
	read -r before _ </proc/uptime
	while kill -0 "$2"; do
		sleep 0.2
		read -r now _ </proc/uptime
		gap=$((10#${now/.} - 10#${before/.}))
		[ $gap -le $worst ] || worst=$gap
		before=$now
	done
	echo $((worst * 10))
}

# What the guest says on its way out: CMD's exit code, then /out as a tar archive.
vm_end() { # WORK LOG OUT RC
	local work=$1 log=$2 out=$3 rc=$4 guest
	guest=$(head -n1 "$work/end" 2>/dev/null | tr -d '\0' | sed -n 's/^rc=\([0-9]*\)$/\1/p')
	if [ -n "$guest" ] && [ "$rc" = 0 ]; then
		mkdir -p "$out"
		tail -n +2 "$work/end" | tar -C "$out" -xf -
		return "$guest"
	fi
	# What went wrong first says more than what came last.
	grep -m1 -A12 -E "$BAD_LOG" "$log" >&2 || tail -n 12 "$log" >&2
	cat "$work/qemu" >&2
	case $rc in
	124 | 137) note "test.sh: the guest took too long; kernel log: $log"; return 124 ;;
	*) note "test.sh: the guest died (QEMU exit $rc); kernel log: $log"; return 125 ;;
	esac
}

# ---------------------------------------------------------------------------
# 7  host tests: what needs no VM
# ---------------------------------------------------------------------------
# Each runs in a shell of its own and ends with the first thing that does not hold. $WORK is a folder of its own,
# and gamer's runtime directory; test/guard.py takes it away, and ends what is left running (host_one).
fail() { echo "$*"; exit 1; }
skip() { echo "$*"; exit 200; }
as_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }
# exits CODE CMD...: and says at most one line on stderr, kept in $SAID
exits() {
	local want=$1 rc=0 err; shift
	err=$(mktemp)
	"$@" >/dev/null 2>"$err" || rc=$?
	SAID=$(cat "$err")
	rm "$err"
	[ "$rc" = "$want" ] || fail "'$*' exits $rc, not $want: $SAID"
	[ "$(wc -l <<<"$SAID")" -le 1 ] || fail "'$*' says more than one line: $SAID"
}

# shellcheck source=test/lib.sh disable=SC2034 # PATIENCE is for it
PATIENCE=10 && . "$ROOT/test/lib.sh"

host_static() { : "one static binary: no interpreter, no shared library, stripped"
	local elf
	elf=$(readelf -lSdW "$GAMER")
	! grep -q INTERP <<<"$elf" || fail "has an ELF interpreter"
	! grep -q NEEDED <<<"$elf" || fail "needs shared libraries"
	! grep -q '\.symtab\|\.debug' <<<"$elf" || fail "is not stripped"
}
host_size() { : "at most 640 KB"
	local kb=$(($(stat -c %s "$GAMER") / 1024))
	[ "$kb" -le 640 ] || fail "$kb KB"
}
# options_table: of every command what its --help says: command, option, letter, type, min, max, default, choices
options_table() {
	local cmd
	for cmd in $("$GAMER" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
		"$GAMER" "$cmd" --help | awk -v cmd="$cmd" -v OFS='\t' '
			!/^  .. --/ { next }
			{ value = substr($0, 6) ~ /^--[a-z0-9-]+ [^ ]/ ? 1 : 0; letter = substr($0, 3, 2); $0 = substr($0, 6) }
			!value { print cmd, $1, letter, "flag"; next }
			$2 == "WORD" && match($0, /\([a-z|]+\)$/) { print cmd, $1, letter, "choice", 0, 0, 0, substr($0, RSTART + 1, RLENGTH - 2); next }
			match($0, /\([-0-9]+\.\.[0-9]+, default [-0-9]+\)$/) {
				split(substr($0, RSTART + 1, RLENGTH - 2), n, /\.\.|, default /); print cmd, $1, letter, "number", n[1], n[2], n[3]; next }
			{ print cmd, $1, letter, "string" }'
	done
}
host_options() { : "every command and option: its bounds are taken, what lies outside exits 64; so do unknown ones"
	local n=0 cmd long short type def min max choices bad
	while IFS=$'\t' read -r cmd long short type min max def choices; do
		n=$((n + 1))
		case $type in
		flag)
			exits 0 "$GAMER" "$cmd" "$long" --help
			exits 64 "$GAMER" "$cmd" "$long=1" ;;
		number)
			for def in "$min" "$max" "$def"; do exits 0 "$GAMER" "$cmd" "$long=$def" --help; done
			for bad in $((min - 1)) "${max}0" 99999999999999999999 '' x 1x; do exits 64 "$GAMER" "$cmd" "$long=$bad" --help; done ;;
		choice)
			for def in ${choices//|/ }; do exits 0 "$GAMER" "$cmd" "$long" "$def" --help; done
			for bad in '' nonsense "${choices%%|*}x" "$choices"; do exits 64 "$GAMER" "$cmd" "$long=$bad" --help; done ;;
		string)
			exits 64 "$GAMER" "$cmd" "$long"
			[ "$long" = --db ] || exits 64 "$GAMER" "$cmd" "$long=" --help ;;
		*) fail "$cmd $long: type '$type'" ;;
		esac
		[ -z "${short// /}" ] || [ "$type" != flag ] || exits 0 "$GAMER" "$cmd" "$short" --help
	done < <(options_table)
	[ "$n" -gt 10 ] || fail "only $n options"
	for cmd in $(options_table | cut -f1 | sort -u); do
		for bad in --nonsense -Z --jso --jsonx --help=1; do exits 64 "$GAMER" "$cmd" "$bad"; done
		exits 64 "$GAMER" "$cmd" nonsense
	done
	exits 0 "$GAMER" --version
	exits 64 "$GAMER" nonsense
	grep -q nonsense <<<"$SAID" || fail "does not name what is unknown: $SAID"
}
host_check() { : "check exits 0 everywhere, and its JSON is JSON"
	local out=$BUILD/test-check.json
	exits 0 "$GAMER" check
	"$GAMER" check --json >"$out" || fail "exit $?"
	python3 "$ROOT/test/judge.py" "$out"
	[ -e /sys/kernel/sched_ext ] || grep -q 'no sched_ext' <<<"$("$GAMER" check)" || fail "does not say: no sched_ext"
	grep -qE '^permission .* (held|missing)$' <<<"$("$GAMER" check)" || fail "$("$GAMER" check | grep ^permission)"
	[ "$(id -u)" = 0 ] && have setpriv || return 0
	grep -q '^permission .*CAP_PERFMON missing$' <<<"$(setpriv --bounding-set=-sys_admin,-perfmon "$GAMER" check)" || fail "does not say what is missing"
}
# says CODE WORDS CMD...: exits so, and its one line has these words
says() {
	local words=$2
	exits "$1" "${@:3}"
	grep -q -- "$words" <<<"$SAID" || fail "'${*:3}' says: $SAID"
}
host_words() { : "what cannot be had is said in one plain line, with the exit code that fits: CPUs, files, processes, commands"
	local last one
	export RUNTIME_DIRECTORY=$WORK STATE_DIRECTORY=$WORK
	last=$(sed 's/.*[-,]//' /sys/devices/system/cpu/possible)
	for one in $((last + 1)) 0,99999; do says 64 "of this machine (0-$last)" "$GAMER" run --fast-cpus $one; done
	says 64 'json and --metrics' "$GAMER" status --json --metrics
	says 64 'two databases' "$GAMER" db check "$WORK/a" --db "$WORK/b"
	says 64 'needs a command' "$GAMER" profile --
	for one in "check $WORK/none" "check --db $WORK/none" "list $WORK/none" "list --db $WORK/none" "export --db $WORK/none" "import $WORK/none"; do
		says 66 "$WORK/none: No such file" "$GAMER" db $one
	done
	exits 0 "$GAMER" db list # nothing learned yet is no error
	says 66 'no process 4194304' "$GAMER" events --pid 4194304
	says 66 'no thread 4194304' "$GAMER" events --trace "$WORK/trace" --tid 4194304
	for one in unit man check --help; do says 74 'standard output' bash -c '"$@" >/dev/full' - "$GAMER" $one; done
}
host_ordinary() { : "a game that ends has ended; limits too low are raised or named, one of files' sizes ends nothing; a PID namespace is told"
	as_root
	local rc=0
	(ulimit -Sn 64; ulimit -f 1; exec "$GAMER" run --observe --metrics-file "$WORK/metrics") 2> >(exec cat >"$WORK/log") &
	G=$!
	wait_for 30 "$GAMER" status || { kill $G || true; wait $G || rc=$?; }
	[[ $rc != 69 && $rc != 77 ]] || skip "gamer cannot observe here: $(tail -n1 "$WORK/log")"
	[ $rc = 0 ] || fail "exit $rc: $(cat "$WORK/log")"
	wait_for 20 grep -q "cannot write $WORK/metrics: File too large" "$WORK/log" || fail "$(cat "$WORK/log")"
	"$BENCH" --no-uinput --no-drm --workers 2 --seconds 600 >/dev/null 2>&1 &
	B=$!
	wait_for 30 eval '"$GAMER" status --json | grep -q "\"pid\":'$B',"' || fail "the game is not found"
	kill -KILL $B
	wait $B || true
	wait_for 10 grep -qx 'gamer: the game has ended' "$WORK/log" || fail "$(cat "$WORK/log")"
	! grep 'No such' "$WORK/log" || fail "an errno for what is no error"
	stop
	says 77 'RLIMIT_NOFILE is 32' bash -c 'ulimit -n 32; exec "$@"' - "$GAMER" profile -- true
	says 77 'RLIMIT_AS is 16777216' bash -c 'ulimit -v 16384; exec "$@"' - "$GAMER" profile -- true
	have unshare || return 0
	says 69 'PID namespace' unshare --pid --fork --mount-proc "$GAMER" run --observe --game 1
	unshare --pid --fork --kill-child --mount-proc "$GAMER" run --observe 2>"$WORK/inside" &
	G=$!
	wait_for 20 grep -q 'PID namespace (a container), from where no game' "$WORK/inside" || fail "$(cat "$WORK/inside")"
	kill -KILL $G # unshare waits for what it started, whatever else it is told
	wait $G || true
}
# observes: the gamer $G that writes to $WORK/log answers, or cannot observe here and has ended
answers_or_ended() { "$GAMER" status || ended "$1"; }
observes() {
	wait_for 30 answers_or_ended $G
	! ended $G || skip "gamer cannot observe here: $(tail -n1 "$WORK/log")"
}
# observe [ARGS]: a gamer that observes this machine, as $G
observe() {
	as_root
	"$GAMER" run --observe "$@" >"$WORK/log" 2>&1 &
	G=$!
	observes
}
# stop [SIGNAL]: gamer ends by it, in good order; one that still runs when a check is over ends so (host_one)
stop() { kill "-${1:-TERM}" $G; wait $G || fail "exit $?"; }
# supplies FILE=TEXT...: there are these power supplies, where $G looks, and it looks again.
supplies() {
	local dir=/proc/$G/root/sys/class/power_supply text
	rm -rf "${dir:?}"/*
	for text; do
		mkdir -p "$dir/${text%%/*}"
		echo "${text#*=}" >"$dir/${text%%=*}"
	done
	kill -HUP $G
}
power_is() { "$GAMER" status --json | grep -q "\"profile\": *\"$1\""; }
host_battery() { : "a machine is on battery by its own battery, not by a mouse's, and not while a charger is plugged in"
	as_root
	[ ! -e /sys/firmware/acpi/platform_profile ] || skip "the firmware's profile decides here"
	local ours='BAT0/type=Battery BAT0/status=Discharging' mouse='m/type=Battery m/scope=Device m/status=Discharging'
	unshare -m sh -c 'mount -t tmpfs none /sys/class/power_supply && exec "$0" run --observe' "$GAMER" >"$WORK/log" 2>&1 &
	G=$!
	observes
	becomes() { # PROFILE FILE=TEXT...
		local profile=$1; shift
		supplies "$@"
		wait_for 10 power_is "$profile" || fail "not $profile with $*"
	}
	becomes balanced $ours
	becomes performance $mouse
	becomes balanced $ours BAT0/scope=System $mouse AC/type=Mains AC/online=0
	becomes performance $ours AC/type=Mains AC/online=1
	becomes balanced $ours hub/type=USB hub/scope=Device hub/online=1
	becomes performance $ours C0/type=USB C0/online=1
	becomes balanced $ours C0/type=USB C0/online=0
	becomes performance ups/type=UPS ups/status=Discharging
	becomes balanced $ours
	becomes performance BAT0/type=Battery BAT0/status=Charging
}
# A gamer that observes this machine, and a game; $WORK, $G and $B are this test's own.
clients_start() {
	observe
	"$BENCH" --no-uinput --no-drm --workers 2 --seconds 600 >/dev/null 2>&1 &
	B=$!
	wait_for 30 eval '"$GAMER" status --json | grep -q "\"pid\":'$B'.*NetThread"' || fail "the game is not found"
}
host_top_once() { : "top --once and top in a pipe: the game's threads in the width asked for, no escape codes; --json"
	clients_start
	local name
	exits 64 "$GAMER" top --seconds 1
	COLUMNS=60 LC_ALL=C "$GAMER" top --once >"$WORK/once" || fail "exit $?"
	for name in "$B gamer-bench" InputThread AudioThread RenderThread 'Job 1'; do
		grep -q "$name" "$WORK/once" "$WORK/once" || fail "lacks $name: $(cat "$WORK/once")"
	done
	! LC_ALL=C grep -q '[^ -~]' "$WORK/once" || fail "has more than ASCII in it"
	[ -z "$(awk 'length > 60' "$WORK/once")" ] || fail "wider than 60: $(awk 'length > 60' "$WORK/once")"
	[ -n "$(awk 'length == 60' "$WORK/once")" ] || fail "does not use its 60 columns"
	COLUMNS=200 "$GAMER" top </dev/null | cat >"$WORK/piped"
	grep -q 'wake/s.*class' "$WORK/piped" || fail "200 columns hold no more than 60: $(cat "$WORK/piped")"
	! grep -q $'\033' "$WORK/piped" || fail "escape codes in a pipe"
	"$GAMER" top --json >"$WORK/status.json" || fail "--json exits $?"
	python3 "$ROOT/test/judge.py" "$WORK/status.json"
	kill $G
	wait $G || true
	exits 69 "$GAMER" top
	exits 69 "$GAMER" top --json
}

# screen_start COLUMNS ROWS [ENV]: a terminal in which top runs, between two looks at its settings
screen_start() {
	[ -z "${TMUX_SOCKET:-}" ] || tmux -L "$TMUX_SOCKET" kill-server 2>/dev/null || true
	export TMUX_TMPDIR=$WORK
	TMUX_SOCKET=$((${TMUX_SOCKET:-0} + 1)) # one that ends takes its time
	echo 'set -g status off' >"$WORK/conf"
	cat >"$WORK/shell" <<-EOT
		ulimit -c 0
		until [ -e "$WORK/raw" ]; do sleep 0.1; done
		clear
		stty -a >"$WORK/before"
		echo before top
		env ${3:-LC_ALL=C.UTF-8} "$GAMER" top
		echo "top ended: \$?"
		stty -a >"$WORK/after"
		read -r _
	EOT
	rm -f "$WORK/after" "$WORK/raw"
	tmux -L "$TMUX_SOCKET" -f "$WORK/conf" new-session -d -x "$1" -y "$2" "bash $WORK/shell"
	tmux -L "$TMUX_SOCKET" pipe-pane "cat >$WORK/raw"
	screen_shows 'q quit'
}
screen() { tmux -L "$TMUX_SOCKET" capture-pane -p; }
screen_keys() { tmux -L "$TMUX_SOCKET" send-keys "$@"; }
screen_has() { screen | grep -q -- "$1"; }
screen_shows() { wait_for 10 screen_has "$1" || fail "the screen lacks '$1': $(screen)"; }
# screen_fits ROWS COLUMNS: first and last line where they belong, and nothing between them cut off
screen_fits() {
	screen_shows '^ *[0-9]* .*InputThread *input ' # what belongs to one row is in one row
	screen >"$WORK/screen"
	[ "$(wc -l <"$WORK/screen")" = "$1" ] || fail "$(wc -l <"$WORK/screen") rows, not $1"
	head -n1 "$WORK/screen" | grep -q "^gamer .*: observing" || fail "first line: $(head -n1 "$WORK/screen")"
	tail -n1 "$WORK/screen" | grep -q '^q quit.*sorted by' || fail "last line: $(tail -n1 "$WORK/screen")"
	[ -z "$(LC_ALL=C.UTF-8 awk -v w="$2" 'length > w' "$WORK/screen")" ] || fail "wider than $2"
}
screen_coloured() { LC_ALL=C grep -q $'\033\[[0-9;]*[1-9][0-9;]*m' "$WORK/raw"; }
host_top_screen() { : "top in a terminal, 80x24 and 200x60: rows fit, a key sorts, a new size is redrawn"
	clients_start
	screen_start 80 24
	screen_fits 24 80
	screen_shows 'sorted by run'
	screen_keys s
	screen_shows 'sorted by wait'
	wait_for 5 eval 'screen | awk "\$3 ~ /^[0-9.]+\$/ { print \$3 }" | sort -grc' || fail "not sorted by wait: $(screen)"
	tmux -L "$TMUX_SOCKET" resize-window -x 200 -y 60
	screen_shows 'wake/s'
	wait_for 5 eval 'screen | tail -n1 | grep -q "q quit"' || fail "not redrawn: $(screen)"
	screen_fits 60 200
	wait_for 10 screen_coloured || fail "no colours at all"
	screen_start 80 24 'NO_COLOR=1 LC_ALL=C'
	wait_for 10 grep -q InputThread "$WORK/raw" || fail "nothing is recorded"
	! screen_coloured || fail "NO_COLOR has colours"
}
host_top_leaves() { : "top gives the terminal back: after q, signals, a crash, Ctrl-Z, and when gamer ends"
	clients_start
	local how code
	for how in q:0 C-c:0 TERM:0 HUP:0 QUIT:131 SEGV:139 stop:0 gamer:69; do
		code=${how#*:} how=${how%:*}
		screen_start 80 24
		[ "$(stty_of before)" != "$(stty -a -F "$(screen_tty)" | xargs)" ] || fail "top leaves the keys as they are"
		case $how in
		q | C-c) screen_keys "$how" ;;
		gamer) stop ;;
		stop)
			kill -TSTP "$(screen_pid)"
			wait_for 5 eval '[ "$(stty_of before)" = "$(stty -a -F "$(screen_tty)" | xargs)" ]' || fail "stopped, it keeps the terminal"
			screen_shows 'before top'
			kill -CONT "$(screen_pid)"
			screen_shows 'q quit'
			screen_keys q ;;
		*) kill "-$how" "$(screen_pid)" ;;
		esac
		wait_for 5 [ -s "$WORK/after" ] || fail "$how: does not end"
		screen_shows "top ended: $code"
		screen_has 'before top' || fail "$how: the screen is not as it was: $(screen)"
		! screen_has InputThread || fail "$how: leaves its own screen: $(screen)"
		[ "$(stty_of before)" = "$(stty_of after)" ] || fail "$how: the terminal is left as $(stty_of after)"
		[ "$(tmux -L "$TMUX_SOCKET" display -p '#{cursor_flag} #{wrap_flag} #{alternate_on}')" = '1 1 0' ] ||
			fail "$how: cursor, wrap or screen are not given back"
	done
	screen_has 'gamer: top: ' || fail "does not say that gamer ended: $(screen)"
}
stty_of() { xargs <"$WORK/$1"; }
screen_tty() { tmux -L "$TMUX_SOCKET" display -p '#{pane_tty}'; }
screen_pid() { ps -o pid=,comm= -t "$(screen_tty)" | awk '$2 == "gamer" { print $1 }'; }

# A fake gamer that gives $WORK/answer to everybody; see test/fake.py.
fake_start() {
	python3 "$ROOT/test/fake.py" "$WORK" &
	FAKE=$!
	wait_for 10 [ -S "$WORK/gamer.sock" ] || fail "no fake gamer"
}
# flood JOB N: as nobody and under a name that gamer wants to hear of; ends with the test
flood() {
	helpers_build
	chmod 755 "$WORK"
	[ -e "$WORK/x.exe" ] || cp "$BUILD/test/flood" "$WORK/x.exe"
	setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/x.exe" "$@" &
}
host_flood() { : "while programs start and rename themselves all the time gamer answers, finds each game, gives its sign of life and ends, each within 5 s"
	local n
	python3 -c 'if 1:
		import socket, sys, time
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		last, worst = time.monotonic(), 0
		while True:
			said = s.recv(4096)
			if b"WATCHDOG" in said or b"STOPPING" in said:
				worst, last = max(worst, time.monotonic() - last), time.monotonic()
			if b"STOPPING" in said:
				break
		print(int(worst * 1000))' "$WORK/notify" >"$WORK/worst" &
	W=$!
	wait_for 10 [ -S "$WORK/notify" ] || fail "nobody listens"
	export NOTIFY_SOCKET=$WORK/notify WATCHDOG_USEC=1000000
	observe
	flood rename 3
	flood exec 2
	for n in 1 2 3 4 5 6; do
		timeout 2 "$GAMER" status >"$WORK/status.txt" || fail "status $n has no answer in 5 s: $?"
		cp /bin/sleep "$WORK/game$n.exe"
		GAMER_GAME=1 "$WORK/game$n.exe" 600 &
		B=$!
		wait_for 5 game_is $B || fail "game $n is not found: $(timeout 2 "$GAMER" status | grep '^game:')"
		kill $B
		wait $B || true
	done
	kill -TERM $G
	wait_for 5 ended $G || fail "SIGTERM is not heard in 5 s"
	wait $G || fail "exit $?"
	wait $W
	[ "$(cat "$WORK/worst")" -le 5000 ] || fail "no sign of life for $(cat "$WORK/worst") ms"
}
host_events() { : "events: what it asks for, prints what comes; an error, the end of gamer and an unknown type are told"
	fake_start
	sed 's/\\u00e9/é/' "$ROOT/test/events.jsonl" >"$WORK/answer" # UTF-8 comes out as it came
	exits 64 "$GAMER" events --type input,frames
	grep -q "'frames'.* input game frame_timing gpu_submit migration classification deadline_miss run" <<<"$SAID" || fail "$SAID"
	exits 69 "$GAMER" events --type game,input --tid $FAKE --pid $$
	[ "$(cat "$WORK/requests")" = '{"v":1,"cmd":"events","types":"input,game","tid":'$FAKE',"pid":'$$'}' ] || fail "asks $(cat "$WORK/requests")"
	: >"$WORK/hold"
	"$GAMER" events --seconds 1 >"$WORK/out" || fail "exit $? after --seconds 1"
	cmp -n "$(stat -c %s "$WORK/out")" "$WORK/out" "$WORK/answer" || fail "prints something else"
	grep -q '"types":"","tid":0,"pid":0}$' "$WORK/requests" || fail "asks $(tail -n1 "$WORK/requests")"
	"$GAMER" events >"$WORK/out2" &
	B=$!
	wait_for 5 cmp "$WORK/out2" "$WORK/answer" || fail "prints late"
	kill -INT $B
	wait $B || fail "exit $? after Ctrl-C"
	echo '{"v":1,"error":"unknown command"}' >"$WORK/answer"
	exits 69 "$GAMER" events
	grep -q 'unknown command' <<<"$SAID" || fail "$SAID"
	exits 74 bash -c 'cp "$1" "$2/answer"; "$3" events >/dev/full' - "$ROOT/test/events.jsonl" "$WORK" "$GAMER"
	timeout 20 "$GAMER" events | head -n1 >"$WORK/out" || fail "stays when its reader has gone, exit $?"
}
host_trace() { : "events --trace: a Chrome trace, whole or absent; Ctrl-C, gamer's end, a full disk, what is no file"
	local trace
	fake_start
	python3 "$ROOT/test/fake.py" --records >"$WORK/answer"
	trace=$WORK/trace.json
	exits 64 "$GAMER" events --trace
	exits 73 "$GAMER" events --trace /dev/null --seconds 1
	exits 73 "$GAMER" events --trace "$WORK/no/such" --seconds 1
	exits 69 "$GAMER" events --trace "$trace"
	python3 "$ROOT/test/judge.py" "$trace" || fail "when gamer ends it is no trace"
	rm "$trace" "$WORK/requests"
	: >"$WORK/hold"
	"$GAMER" events --trace "$trace" 2>/dev/null &
	B=$!
	wait_for 30 eval '[ -s "$WORK/requests" ] && [ -e "$WORK/.trace.json.gamer-0" ]' || fail "writes nothing"
	[ ! -e "$trace" ] || fail "half a file is there"
	kill -INT $B
	wait $B || fail "exit $? after Ctrl-C"
	python3 "$ROOT/test/judge.py" "$trace"
	python3 - "$trace" <<-'EOT'
		import collections, json, sys
		events = json.load(open(sys.argv[1]))["traceEvents"]
		seen = collections.Counter((e["ph"], e["name"], e["pid"]) for e in events if e["ph"] != "M")
		want = {("i", "game", 1): 1, ("i", "classification", 1): 1, ("i", "classification", 2): 1, ("i", "input", 1): 1,
			("i", "gpu_submit", 1): 1, ("i", "gpu_submit", 2): 1, ("i", "migration", 1): 1, ("i", "migration", 2): 1,
			("X", "frame", 3): 2, ("C", "frame time", 3): 2, ("i", "deadline_miss", 1): 2, ("X", "deadline_miss", 2): 2,
			("X", "RenderThread", 1): 1, ("X", "cc1", 1): 1, ("i", "lost", 1): 1}
		assert seen == want, seen
		ran = [(e["tid"], e["ts"], e["dur"]) for e in events if e["name"] in ("RenderThread", "cc1")]
		assert ran == [(2, 34000, 550), (2, 34550, 30)], ran
		frame, = [e for e in events if e["name"] == "frame" and e["args"]["dropped"]]
		assert (frame["ts"], round(frame["ts"] + frame["dur"], 3)) == (16666.7, 33333.4), frame
		game, = [e for e in events if e["name"] == "game"]
		assert (game["ts"], game["args"]["comm"]) == (100, 'a "game" \u00e9\x1b'), game
		assert [e["ts"] for e in events if e["name"] == "input"] == [1000.001]
	EOT
	rm "$trace" "$WORK/hold"
	python3 "$ROOT/test/fake.py" --records 200 >"$WORK/answer"
	exits 74 bash -c 'ulimit -f 32; exec "$@"' - "$GAMER" events --trace "$trace" # like a full disk
	! compgen -G "$trace*" && [ ! -e "$WORK/.trace.json.gamer-0" ] || fail "half a file is left"
}
# refused PATH CMD...: the command, whose output would be PATH, is refused with one line, and PATH stays as it is
refused() {
	local path=$1 was; shift
	was=$(stat -c '%i %f %s' "$path")
	exits 73 timeout 10 "$@"
	[ -n "$SAID" ] || fail "'$*' does not say why"
	[ "$(stat -c '%i %f %s' "$path")" = "$was" ] || fail "'$*' has touched $path"
}
host_files() { : "files that gamer writes: only over a regular file or nothing, whole, durable; what others left is left; nothing of ours is"
	as_root
	fake_start
	local dir=$WORK/dir path cmd
	mkdir -p "$dir/folder"
	mknod "$dir/device" c 1 3
	mkfifo "$dir/pipe"
	echo mine >"$WORK/victim"
	ln -s ../victim "$dir/link"
	ln -s nowhere "$dir/dangling"
	for path in "$dir"/*; do
		for cmd in 'db export --db=' 'events --seconds 1 --trace' 'profile -o'; do
			# shellcheck disable=SC2086
			refused "$path" "$GAMER" ${cmd/profile/profile -p $$} "$path"
		done
	done
	# so is what is written while it runs; it says so once, and goes on
	mkdir "$WORK/run"
	ln -s ../victim "$WORK/run/status"
	path=$(stat -c '%i %f' "$dir/device")
	RUNTIME_DIRECTORY=$WORK/run "$GAMER" run --observe --metrics-file "$dir/device" 2>"$WORK/log" &
	B=$!
	wait_for 30 grep -q 'write .*/device: it is no regular file' "$WORK/log" || fail "metrics are not refused: $(cat "$WORK/log")"
	wait_for 10 env RUNTIME_DIRECTORY="$WORK/run" "$GAMER" status || fail "it does not go on: $(cat "$WORK/log")"
	kill $B
	wait $B || fail "exit $?"
	[ "$(grep -c '/run/status: it is a symbolic link' "$WORK/log")" = 1 ] || fail "$(cat "$WORK/log")"
	[ "$(stat -c '%i %f' "$dir/device")" = "$path" ] && [ -h "$WORK/run/status" ] || fail "a running gamer has replaced them"
	[ "$(cat "$WORK/victim")" = mine ] && [ ! -e "$dir/nowhere" ] || fail "a link was written through"
	# no capability is in force for the metrics file: a folder of another user must let gamer write
	rm "$WORK/run/status"
	install -d -m 755 -o 1000 "$WORK/theirs"
	RUNTIME_DIRECTORY=$WORK/run "$GAMER" run --observe --metrics-file "$WORK/theirs/metrics" 2>"$WORK/log" &
	B=$!
	wait_for 30 grep -q 'write .*/theirs/metrics: Permission denied' "$WORK/log" || fail "metrics in another's folder: $(cat "$WORK/log")"
	kill $B
	wait $B || fail "exit $?"
	[ ! -e "$WORK/theirs/metrics" ] || fail "another's folder was written to"
	# over a file, beside files of others, by whoever's mode
	install -m 600 /dev/null "$dir/x"
	for path in x.tmp .x.tmp .x.gamer-0; do echo mine >"$dir/$path"; done
	"$GAMER" profile --json --only syscalls -o "$WORK/json" -- "$GAMER" db export --db= "$dir/x" || fail "exit $?"
	python3 -c 'import json, sys; c = json.load(open(sys.argv[1]))["ebpf"]["syscalls"]["counts"]; assert c["fsync"] == 2 and c["renameat"] == 1, c' "$WORK/json" || fail "file and folder are not both synced"
	[ "$(stat -c '%a %s' "$dir/x")" = '600 24' ] || fail "x has $(stat -c '%a %s' "$dir/x")"
	[ "$(cat "$dir/x.tmp" "$dir/.x.tmp" "$dir/.x.gamer-0" | tr -d '\n')" = mineminemine ] || fail "files that are not ours were touched"
	rm "$dir/.x.gamer-0"
	install -m 666 -o 1000 /dev/null "$dir/x"
	(umask 027; "$GAMER" db export --db= "$dir/x") || fail "exit $?"
	[ "$(stat -c '%a %u' "$dir/x")" = '640 0' ] || fail "what another could write has mode and owner $(stat -c '%a %u' "$dir/x")"
	# two write the same file, one is killed, the disk is full
	python3 "$ROOT/test/fake.py" --records >"$WORK/answer"
	: >"$WORK/hold"
	"$GAMER" events --trace "$dir/x" 2>/dev/null &
	B=$!
	wait_for 30 [ -e "$dir/.x.gamer-0" ] || fail "the trace does not begin"
	"$GAMER" db export --db= "$dir/x" || fail "beside a trace: exit $?"
	[ -e "$dir/.x.gamer-0" ] && [ "$(stat -c %s "$dir/x")" = 24 ] || fail "export took the trace's file"
	kill -KILL $B
	wait $B 2>/dev/null || true
	[ -e "$dir/.x.gamer-0" ] || fail "nothing was left to take away"
	exits 74 bash -c 'ulimit -f 0; exec "$@" 2>/dev/null' - "$GAMER" db export --db= "$dir/x"
	[ "$(stat -c %s "$dir/x")" = 24 ] || fail "a full disk has spoiled the old file"
	path=$(cd "$dir" && find . -name '*x*' | sort | xargs)
	[ "$path" = './.x.tmp ./x ./x.tmp' ] || fail "left: $path"
}
host_clients_garbage() { : "no answer harms top, events and traces, however broken; nothing of it steers the terminal"
	local n rc cmd
	fake_start
	mkdir "$WORK/cases"
	python3 "$ROOT/test/fake.py" --records >"$WORK/records"
	python3 - "$ROOT/test/events.jsonl" "$WORK/cases" "$WORK/records" <<-'EOT'
		import random, sys
		events = open(sys.argv[1], "rb").read()
		records = open(sys.argv[3], "rb").read()
		status = (b"gamer 1: x\x1b[31m\xc2\x9by\ngame: 5 \xff\ntitles name\nthread 1 5000000 6 \xc3\xa9\x1b[1m render\n"
			b"thread 99999999999 18446744073709551616 -1 x\nthread x\nthread 2\n" + b"head\n" * 99 + b"thread 1 0 7\n" * 999 + b"\n")
		cases = [b"", b"\n", b"\0\n", b"{}\n", b"[]\n", b'"\n', b'{"v":1,"version":"1"}\n', b"[" * 60000 + b"\n",
			b'{"v":1,"version":' * 3000 + b"\n", b"x" * 200000, b'{"v":1,"version":"\\u12"}\n', b'{"v":1,"version":"\\\n',
			b'{"v":1,"version":"\x1b[31mred\x9b31m"}\n', status, status[:-1], records]
		random.seed(5)
		for base in (status, events, records):
		    for _ in range(12):
		        case = bytearray(base[:random.randrange(len(base))] + b"\n")
		        for _ in range(random.randrange(8)):
		            case[random.randrange(len(case))] = random.choice(b'"\\{}[],:0u\n\x1b\xff')
		        cases.append(bytes(case))
		for n, case in enumerate(cases):
		    open(f"{sys.argv[2]}/{n}", "wb").write(case)
	EOT
	for n in "$WORK"/cases/*; do
		cp "$n" "$WORK/answer"
		for cmd in 'top --once' 'events --seconds 1' "events --seconds 1 --trace $WORK/trace.json"; do
			rc=0
			LC_ALL=C "$GAMER" $cmd >"$WORK/out" 2>"$WORK/err" || rc=$?
			case $rc in 0 | 69) ;; *) cp "$n" "$BUILD/test-garbage"; fail "$cmd exits $rc for build/test-garbage: $(cat "$WORK/err")" ;; esac
			! LC_ALL=C grep -q '[^ -~]' "$WORK/out" "$WORK/err" || fail "$cmd passes on control codes: $(cat -v "$WORK/out" "$WORK/err")"
		done
		[ ! -e "$WORK/trace.json" ] || python3 "$ROOT/test/judge.py" "$WORK/trace.json" || { cp "$n" "$BUILD/test-garbage"; fail "no trace from build/test-garbage"; }
		rm -f "$WORK/trace.json"
	done
}
host_game_scores() { : "which of 81 programs is a game, under its own name and under any other, and which of those that run in 32 scenes"
	gcc -Os $FUZZ_FLAGS -w -ffunction-sections -fdata-sections -Wl,--gc-sections -o "$WORK/game" "$ROOT/test/game.c" "$BUILD/lib/libz.a"
	"$WORK/game" >"$WORK/said" || fail "$(head -n5 "$WORK/said")"
}
host_names() { : "names that steer terminals, break JSON or climb folders, and an environment of 2 MB, do no harm in any output"
	as_root
	local name out big n=0
	cat >"$WORK/named.py" <<-'EOT'
		import ctypes, os, sys, time
		ctypes.CDLL(None).prctl(15, os.fsencode(sys.argv[1]), 0, 0, 0)
		open(sys.argv[2], "w")
		time.sleep(600)
	EOT
	for name in '../../x' $'\e[31mred\e]0;t\a' $'\xff\xfe\xc3\x28' $'a"b\\c\nfps 999' $'\xc2\x9b31m\x7f\xe2\x80\xaex' 'Pokémon;x'; do
		n=$((n + 1))
		(
			big=$(printf '%100000s' '')
			for big in $(seq 18 | sed "s/.*/V&=$(tr ' ' x <<<"$big")/"); do export "${big?}"; done
			exec python3 "$WORK/named.py" "$name" "$WORK/named"
		) >/dev/null 2>&1 &
		B=$!
		wait_for 20 [ -e "$WORK/named" ] || fail "no process of that name"
		rm "$WORK/named"
		[ "$(wc -c <"/proc/$B/environ")" -gt 1800000 ] || fail "its environment has $(wc -c <"/proc/$B/environ") bytes"
		"$GAMER" run --observe --game $B --metrics-file "$WORK/metrics" 2>"$WORK/log.txt" &
		G=$!
		wait_for 30 eval '"$GAMER" status | grep -q "^game: $B "' || fail "not the game: $(cat "$WORK/log.txt")"
		"$GAMER" status >"$WORK/text.txt"
		"$GAMER" status --json >"$WORK/$n.json"
		"$GAMER" status --metrics >"$WORK/asked.txt"
		"$GAMER" events --seconds 1 >"$WORK/events.txt"
		COLUMNS=200 LC_ALL=C "$GAMER" top --once >"$WORK/ascii.txt"
		COLUMNS=200 LC_ALL=C.UTF-8 "$GAMER" top --once >"$WORK/top.txt"
		wait_for 10 grep -aq "^game $B " "$WORK/status" || fail "the status file does not have it: $(cat -v "$WORK/status")"
		cp "$WORK/status" "$WORK/status.txt"
		cp "$WORK/metrics" "$WORK/metrics.txt"
		kill $G $B
		wait $G || fail "gamer exits $?"
		python3 "$ROOT/test/judge.py" "$WORK/$n.json" || exit
		for out in "$WORK"/*.txt "$WORK/$n.json"; do
			! LC_ALL=C grep -q $'[^ -~\t\xc0-\xff\x80-\xbf]' "$out" || fail "$(printf %q "$name"): ${out##*/} has control codes: $(LC_ALL=C grep -m1 $'[^ -~\t\xc0-\xff\x80-\xbf]' "$out" | cat -v)"
			python3 -c 'import sys, unicodedata; t = open(sys.argv[1], "rb").read().decode(); assert not [c for c in t if c != "\n" and (unicodedata.category(c) == "Cc" or unicodedata.bidirectional(c)[1:] in ("RO", "LO"))]' "$out" ||
				fail "$(printf %q "$name"): ${out##*/} is not clean UTF-8"
		done
		python3 -c 'import json, os, sys; name = os.fsencode(sys.argv[2])[:15].decode(errors="replace"); game = json.load(open(sys.argv[1]))["game"]; assert game["comm"] == name, (game, name)' "$WORK/$n.json" "$name" || exit
		! LC_ALL=C grep -q '[^ -~]' "$WORK/ascii.txt" || fail "top shows what its terminal does not have: $(cat -v "$WORK/ascii.txt")"
		! grep -q '^fps ' "$WORK/status.txt" || fail "a name forges a line: $(cat -v "$WORK/status.txt")"
		[ "$name" != 'Pokémon;x' ] || for out in text status top; do
			grep -q " $name" "$WORK/$out.txt" || fail "$out lacks $name: $(cat -v "$WORK/$out.txt")"
		done
		[ -z "$(find "$WORK" /tmp -maxdepth 1 -name x -newer "$WORK/log.txt")" ] || fail "a name became a path"
	done
	# what a command is called with, or reads, comes back in its message
	for name in $'\e]0;t\a' $'\xff\n\xc2\x9b' $'\xe2\x80\xae'; do
		exits 64 "$GAMER" "$name"
		! LC_ALL=C grep -q '[^ -~]' <<<"$SAID" || fail "a message has $(cat -v <<<"$SAID")"
		"$GAMER" db check --db <(:)"$name" >"$WORK/out" 2>&1 || true
		! LC_ALL=C grep -q '[^ -~]' "$WORK/out" || fail "db check says $(cat -v "$WORK/out")"
	done
	exits 64 "$GAMER" Pokémon
	grep -q "'Pokémon'" <<<"$SAID" || fail "$SAID"
}
host_profile_names() { : "profile: names of threads that steer terminals, part frames or break JSON: JSON has them whole, the rest is clean"
	as_root
	cat >"$WORK/named.py" <<-'EOT'
		import ctypes, os, sys, threading, time
		def named(name):
		    ctypes.CDLL(None).prctl(15, os.fsencode(name), 0, 0, 0)
		    time.sleep(0.3)
		for name in sys.argv[1:]:
		    threading.Thread(target=named, args=(name,)).start()
	EOT
	set -- $'\e]0;t\a' $'\xff\xfe\xc3\x28' $'a"b\\c\nd 5' $'\xc2\x9b31m\xe2\x80\xaex' 'Pokémon;x'
	"$GAMER" profile --json -o "$WORK/json" -- python3 "$WORK/named.py" "$@" || fail "exit $?"
	python3 - "$WORK/json" "$@" <<-'EOT' || exit
		import json, os, sys
		got = {t["comm"] for t in json.load(open(sys.argv[1]))["ebpf"]["offcpu"]["thread_stats"].values()}
		want = {os.fsencode(name)[:15].decode(errors="replace") for name in sys.argv[2:]}
		assert want <= got, (want, got)
	EOT
	"$GAMER" profile --folded -o "$WORK/folded" -- python3 "$WORK/named.py" "$@" || fail "exit $?"
	"$GAMER" profile -o "$WORK/text" -- python3 "$WORK/named.py" "$@" || fail "exit $?"
	python3 - "$WORK/folded" "$WORK/text" <<-'EOT'
		import re, sys
		folded, text = (open(name, encoding="utf-8").read() for name in sys.argv[1:])
		for what in folded, text:
		    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", what), what[:500]
		assert all(re.fullmatch(r"[^;]+(;[^;]+)* \d+", line) for line in folded.splitlines()), folded[:500]
		for name in "?]0:t?", "???(", 'a"b\\c?d 5', "?31m?x", "Pok\u00e9mon:x":
		    assert f"\n{name};" in "\n" + folded, (name, folded[:500])
		rows = [line for line in text.splitlines() if re.match(" *[0-9]+ +[0-9]+ ", line)]
		assert any("Pok\u00e9mon;x" in row for row in rows) and len({len(row) for row in rows}) == 2, rows
	EOT
}
crowd_begin() {
	as_root
	CROWD=()
}
# crowd UID NAME COUNT LIBRARY [VARIABLE=VALUE]...: processes of that user and name, numbers in CROWD,
# with those variables. Each has its own copy of LIBRARY, unless that is "-", and uses it as Wine does.
crowd() {
	local uid=$1 name=$2 count=$3 lib=$4 i; shift 4
	chmod 755 "$WORK"
	cat >"$WORK/crowd.py" <<-'EOT'
		import ctypes, os, shutil, sys, time
		path, uid, name, lib = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
		libc, value = ctypes.CDLL(None), ctypes.c_int(15)
		if lib != "-":
		    os.mkdir(path)
		    shutil.copy(lib, path)
		    wine = ctypes.CDLL(f"{path}/ntdll.so")
		os.setresuid(uid, uid, uid)
		libc.prctl(4, 1, 0, 0, 0)
		libc.prctl(15, name.encode(), 0, 0, 0)
		while True:
		    time.sleep(0.1)
		    if lib != "-":
		        wine.NtSetInformationThread(ctypes.c_long(-2), 3, ctypes.byref(value), 4)
	EOT
	for ((i = 0; i < count; i++)); do
		env "$@" python3 "$WORK/crowd.py" "$WORK/lib.${#CROWD[@]}" "$uid" "$name" "$lib" 7>&- &
		CROWD+=($!)
	done
	for i in "${CROWD[@]: -count}"; do
		wait_for 30 grep -qx "$name" "/proc/$i/comm" || fail "no process $name of user $uid"
	done
}
# crowd_observe [COMMAND...]: a gamer that observes this machine, run by that command
crowd_observe() {
	"$@" "$GAMER" run --observe >"$WORK/log" 2>&1 7>&- &
	G=$!
	wait_for 3 timeout 1 "$GAMER" status || fail "does not answer: $(tail -n1 "$WORK/log")"
}
# thread_is PID CLASS [ROLE,SOURCE]
thread_is() {
	timeout 2 "$GAMER" status | awk -v p="$1" -v c="$2" -v r="${3:-}" '
		$1 == "thread" && $3 == p && $4 == c && (r == "" || $5 "," $6 == r) { n = 1 } END { exit !n }'
}

host_locked() { : "processes whose memory is locked, and descriptions of applications on a dead server, hold up no start, answer, game or stop; each is told of once"
	[ -w /dev/fuse ] || skip "needs /dev/fuse"
	crowd_begin
	local game
	mkfifo "$WORK/in"
	exec {LOCKED}<>"$WORK/in"
	locked() { # FOLDER NAME
		mkdir -p "$WORK/$1/applications"
		WINEPREFIX=/nowhere unshare -m sh -c 'mount --bind "$1" /usr/local/share && exec python3 "$2" /usr/local/share/applications "$3" 1000' \
			sh "$WORK/$1" "$ROOT/test/locked.py" "$2" <"$WORK/in" >"$WORK/$1.pid" 2>/dev/null {LOCKED}>&- 7>&- &
		CROWD+=($!)
		wait_for 20 [ -s "$WORK/$1.pid" ] || fail "no process is locked"
	}
	locked first wineserver
	crowd 1000 game.exe 1 - GAMER_GAME=1 SteamAppId=1
	game=${CROWD[-1]}
	crowd_observe nsenter -m -t "$(cat "$WORK/first.pid")"
	wait_for 20 game_is "$game" || fail "the game is not found: $(tail -n3 "$WORK/log")"
	locked second pipewire
	wait_for 20 grep -q "game: $(cat "$WORK/second.pid") pipewire cannot be read" "$WORK/log" || fail "the second is not told of"
	wait_for 20 thread_is "$(cat "$WORK/second.pid")" audio || fail "what can be read of it does not count"
	cp "$(command -v sleep)" "$WORK/native" # an interpreter's name is looked up nowhere, and others may run none
	SteamAppId=2 "$WORK/native" 1000 &
	CROWD+=($!)
	wait_for 20 grep -q 'game: /usr/local/share/applications cannot be read in time' "$WORK/log" || fail "the folder is not told of: $(tail -n3 "$WORK/log")"
	timeout 2 "$GAMER" status >"$WORK/status" || fail "does not answer"
	grep -q '^processes_locked *2 ' "$WORK/status" || fail "$(grep ^processes_locked "$WORK/status")"
	grep -q '^allocations_after_attach *0 ' "$WORK/status" || fail "it allocates"
	kill "$game" # a scan comes over them once more
	wait_for 20 eval '! game_is $game' || fail "the game has ended, and: $(tail -n1 "$WORK/log")"
	crowd 1001 wireplumber 1 -
	wait_for 20 thread_is "${CROWD[-1]}" audio || fail "a server that starts later is none: $(tail -n3 "$WORK/log")"
	[ "$(grep -c 'memory is locked' "$WORK/log")" = 2 ] || fail "told $(grep -c 'memory is locked' "$WORK/log") times of two"
	[ "$(grep -c 'cannot be read in time' "$WORK/log")" -le 2 ] || fail "$(grep 'cannot be read in time' "$WORK/log")" # in 275 s
	kill $G
	wait_for 10 ended $G || fail "is not to be stopped"
	wait $G || fail "exits $?"
}

# --- the fair back end ---
# fair_begin [THREADS [COMMAND...]]: a process of test/fair.c that takes lines at descriptor 8 and answers in $WORK/said
fair_begin() {
	[ "$(id -u)" = 0 ] || skip "needs root"
	helpers_build
	WORK=$(mktemp -d)
	export RUNTIME_DIRECTORY=$WORK/run
	mkdir "$WORK/run"
	mkfifo "$WORK/line"
	trap fair_end EXIT
	"${@:2}" "$BUILD/test/fair" game "${1:-3}" <"$WORK/line" >"$WORK/said" 8>&- &
	B=$!
	exec 8>"$WORK/line"
	PATH=$BUILD/test:$PATH
	SLICES=$("$GAMER" check --json | sed -n 's/.*"slices":\([01]\).*/\1/p')
	wait_for 30 grep -q ready "$WORK/said" || fail "the game does not start"
}
fair_end() {
	exec 8>&- || true
	kill "${CROWD[@]}" ${B:-} ${G:-} 2>/dev/null || true
	wait
}
# fair_runs [GAMER-ARGS]: gamer advises that process, or cannot here
fair_runs() {
	"$GAMER" run --backend fair --game $B --db= "$@" >"$WORK/log" 2>&1 8>&- &
	G=$!
	wait_for 30 answers_or_ended $G
	kill -0 $G 2>/dev/null || skip "gamer cannot advise here: $(tail -n1 "$WORK/log")"
}
FAIR_PLAIN='0 0 0 0 0' FAIR_WORKER='0 -8 0 1 100'
# shellcheck disable=SC2120 # fair_wants passes the number
fair_advised() { fair_has plain "$FAIR_WORKER" "${1:-3}"; }
# shellcheck disable=SC2120 # likewise
fair_back() { fair_has plain "$FAIR_PLAIN" "${1:-3}"; }
# fair_chosen: whoever chose something has it still
fair_chosen() {
	fair_has nice '0 3 0 0 0' && fair_has fifo '1 0 1 0 0' && fair_has idle '5 0 0 0 0' &&
		{ [ "$SLICES" = 0 ] || fair_has slice '0 0 0 0 2000'; }
}
fair_shown() { fair sweep $B; tail -n3 "$WORK/log"; }
fair_wants() { wait_for 10 "$@" || fail "not '$*': $(fair_shown)"; }
fair_advises() { fair_runs; fair_wants fair_advised; }
# fair_says LINE: the game does it
fair_says() {
	local n
	n=$(grep -c 'done' "$WORK/said" || true)
	echo "$1" >&8
	wait_for 30 eval '[ "$(grep -c done "$WORK/said")" -gt '"$n"' ]' || fail "the game does not '$1'"
}
# fair_stat NAME
fair_stat() { "$GAMER" status --json | sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

host_roles_frames() { : "who makes frames and sends a packet with each is render, and no network thread"
	fair_begin
	fair_says talk
	observe --game $B --db= 8>&-
	talks() { "$GAMER" status | awk -v r="$1" '$NF == "talker" && $5 == r && $7 >= 50 { n++ } END { exit !n }'; }
	wait_for 20 talks render || fail "$("$GAMER" status | grep talker)"
	sleep 1
	! talks network || fail "$("$GAMER" status | grep talker)"
}
host_fair_roles() { : "fair: a role becomes nice value and slice, of a new thread too, and ends with gamer; what a thread chose, and everybody else's thread, stays as it was"
	fair_begin
	others() { fair sweep | awk -v b=$B -v g="${G:-0}" '$1 != b && $1 != g' | sort -n -k2; }
	others >"$WORK/before"
	fair_chosen || skip "threads cannot choose here: $(fair_shown)"
	fair_advises
	fair_has batch '3 -8 0 1 100' || fail "SCHED_BATCH: $(fair_shown)"
	fair_chosen || fail "what was chosen is changed: $(fair_shown)"
	fair_says 'spawn 2'
	fair_wants fair_advised 5
	fair_says fork
	fair sweep "$(tail -n1 "$WORK/said" | cut -d' ' -f2)" | grep -q ' 0 0 0 0 0 fair$' ||
		fail "what the game starts has its values: $(fair sweep "$(tail -n1 "$WORK/said" | cut -d' ' -f2)")"
	others | join -1 2 -2 2 - <(sort -n -k2 "$WORK/before") --nocheck-order |
		awk '$3 == $11 && $4 " " $5 " " $6 " " $7 " " $8 != $12 " " $13 " " $14 " " $15 " " $16 { print; bad = 1 } END { exit bad || NR < 5 }' >"$WORK/changed" ||
		fail "threads of others are changed: $(cat "$WORK/changed")"
	stop INT
	fair_wants fair_back 5
	fair_has batch '3 0 0 0 0' || fail "SCHED_BATCH: $(fair_shown)"
	fair_chosen || fail "what was chosen is changed: $(fair_shown)"
	[ ! -e "$WORK/run/fair" ] || fail "the list is left"
}
host_fair_users() { : "fair: root's gamer advises the game of another user, and one in a container; a thread of a third user stays as it was"
	have setpriv && have unshare || skip "no setpriv or unshare"
	fair_begin 3 setpriv --reuid 65534 --regid 65534 --clear-groups
	local third
	setpriv --reuid 65533 --regid 65533 --clear-groups tail --pid=$B -f /dev/null 8>&- &
	third=$!
	fair_advises
	fair sweep $third | grep -q ' 0 0 0 0 0 ' || fail "the third user's: $(fair sweep $third)"
	stop INT
	fair_wants fair_back
	fair_end
	fair_begin 3 unshare --pid --fork --kill-child --mount-proc
	B=$(cat "/proc/$B/task/$B/children")
	fair_advises
	stop INT
	fair_wants fair_back
}
# fair_of PID VALUES: so its first thread is
fair_of() {
	local values=$2
	[ "$SLICES" = 1 ] || values="${2% *} 0"
	fair sweep "$1" | awk -v p="$1" -v v="$values" '$2 == p { exit $4 " " $5 " " $6 " " $7 " " $8 != v }'
}
host_fair_display() { : "fair: who serves the display to which the game connects gets a compositor's advice, whatever its name; not another user's"
	fair_begin 3 setpriv --reuid 65534 --regid 65534 --clear-groups
	local OTHER
	setpriv --reuid 65533 --regid 65533 --clear-groups "$BUILD/test/fair" display $$ >"$WORK/other" 8>&- &
	OTHER=$!
	setpriv --reuid 65534 --regid 65534 --clear-groups "$BUILD/test/fair" display ${$}1 >"$WORK/own" 8>&- &
	CROWD=("$!" "$OTHER")
	wait_for 10 grep -q ready "$WORK/own" && wait_for 10 grep -q ready "$WORK/other" || fail "no display"
	fair_advises
	fair_of "${CROWD[0]}" "$FAIR_PLAIN" || fail "the game does not use it yet: $(fair sweep "${CROWD[0]}")"
	fair_says "show $$"
	fair_says "show ${$}1"
	fair_wants fair_of "${CROWD[0]}" '0 -10 0 1 100'
	fair_of $OTHER "$FAIR_PLAIN" || fail "another user's display: $(fair sweep $OTHER)"
	stop INT
	fair_wants fair_of "${CROWD[0]}" "$FAIR_PLAIN"
}
host_fair_hostile() { : "fair: of what gamer gave a user keeps nothing, by a step up or another policy; a server's name gives another user nothing"
	have setpriv && have renice && have chrt || skip "no util-linux"
	fair_begin 3 setpriv --reuid 65534 --regid 65534 --clear-groups
	local user="setpriv --clear-groups --regid 65534 --reuid" tid OTHER
	chmod 755 "$WORK"
	ln -s "$(command -v sleep)" "$WORK/pipewire"
	$user 65533 "$WORK/pipewire" 600 8>&- &
	OTHER=$!
	$user 65534 "$WORK/pipewire" 600 8>&- &
	CROWD=("$!" "$OTHER")
	fair_advises
	fair_wants fair_of "${CROWD[0]}" '0 -15 0 1 100'
	fair_of $OTHER "$FAIR_PLAIN" || fail "another user's pipewire: $(fair sweep $OTHER)"
	tid=$(fair sweep $B | awk '$9 == "plain" { print $2 }' | head -n2)
	# shellcheck disable=SC2086 # two numbers
	set -- $tid
	$user 65534 renice -n -7 -p "$1" >/dev/null && $user 65534 chrt -R -b -p 0 "$2" || fail "a user may not"
	stop INT
	fair sweep $B >"$WORK/after"
	grep -q "^$B $1 [0-9]* 0 0 0 0 0 plain" "$WORK/after" || fail "nice one step up: $(grep plain "$WORK/after")"
	grep -q "^$B $2 [0-9]* 3 0 0 . . plain" "$WORK/after" || fail "SCHED_BATCH: $(grep plain "$WORK/after")"
}
host_fair_ends() { : "fair: whichever way gamer ends, nothing stays: SIGINT, SIGTERM, crashes; after SIGKILL the next start or restore puts back"
	fair_begin
	local sig
	for sig in INT TERM SEGV ABRT BUS KILL; do
		fair_advises
		kill -$sig $G
		wait $G 2>/dev/null || true
		[ $sig != KILL ] || break
		fair_back || fail "SIG$sig: $(fair_shown)"
		[ ! -e "$WORK/run/fair" ] || fail "SIG$sig leaves the list"
	done
	fair_advised || fail "somebody else put back: $(fair_shown)"
	exits 0 "$GAMER" restore
	fair_back || fail "restore: $(fair_shown)"
	fair_advises
	exits 75 "$GAMER" restore
	kill -KILL $G
	wait $G 2>/dev/null || true
	observe --db= 8>&-
	fair_wants fair_back
	fair_chosen || fail "what was chosen is changed: $(fair_shown)"
}
host_fair_theirs() { : "fair: what somebody else changes meanwhile is theirs and stays, value by value"
	fair_begin
	local tid
	fair_advises
	tid=$(fair sweep $B | awk '$9 == "plain" { print $2 }' | head -n2)
	set -- $tid
	renice -n 4 -p "$1" >/dev/null
	chrt -f -p 2 "$2" || skip "no real-time threads here"
	stop
	fair sweep $B >"$WORK/after"
	grep -q "^$B $1 [0-9]* 0 4 0 0 0 plain" "$WORK/after" || fail "nice of another, our slice: $(fair_shown)"
	grep -q "^$B $2 [0-9]* 1 [-0-9]* 2 " "$WORK/after" || fail "a real-time thread of another: $(fair_shown)"
	[ "$(grep -c ' 0 0 0 0 0 plain' "$WORK/after")" = 1 ] || fail "the third: $(fair_shown)"
}
host_fair_list() { : "fair: a list that is damaged, another's, another boot's or of a reused number touches nobody; what cannot be is refused with exit 78"
	fair_begin
	local size i n=0
	fair_advises
	kill -KILL $G
	wait $G 2>/dev/null || true
	cp "$WORK/run/fair" "$WORK/good"
	size=$(stat -c %s "$WORK/good")
	bad() { # WHAT
		exits 78 "$GAMER" restore
		grep -q "nothing is put back" <<<"$SAID" || fail "$1: says '$SAID'"
		fair_advised || fail "$1: threads are changed: $(fair_shown)"
		n=$((n + 1))
	}
	for i in 0 1 7 8 60 $((size - 1)); do
		head -c $i "$WORK/good" >"$WORK/run/fair"
		bad "$i bytes"
	done
	for ((i = 0; i < size; i += 29)); do
		python3 -c 'import sys; d = bytearray(open(sys.argv[1], "rb").read()); d[int(sys.argv[3])] ^= 16; open(sys.argv[2], "wb").write(d)' \
			"$WORK/good" "$WORK/run/fair" $i
		bad "bit at $i"
	done
	(cat "$WORK/good"; echo) >"$WORK/run/fair"
	bad longer
	cp "$WORK/good" "$WORK/run/fair"
	chown 65534 "$WORK/run/fair"
	bad "of another user"
	rm "$WORK/run/fair"
	ln -s "$WORK/good" "$WORK/run/fair"
	bad link
	rm "$WORK/run/fair"
	mkfifo "$WORK/run/fair"
	bad FIFO
	rm "$WORK/run/fair"
	# well formed, but: nice 99, another boot, another thread under each number
	edit() { python3 -c 'if 1:
		import sys, struct, zlib
		d = bytearray(open(sys.argv[1], "rb").read())
		at = 312
		if sys.argv[3] == "nice": d[at + 16] = 99
		if sys.argv[3] == "slice": d[at + 20:at + 24] = struct.pack("<I", 100001)
		if sys.argv[3] == "policy": d[at + 17] = 1
		if sys.argv[3] == "boot": d[16] ^= 1
		if sys.argv[3] == "group": d[68:72] = struct.pack("<I", 2); d[80:96] = b"/../../../../etc"
		if sys.argv[3] == "start":
			for i in range(at, len(d), 48): d[i:i + 8] = struct.pack("<Q", struct.unpack_from("<Q", d, i)[0] - 1)
		d[8:12] = struct.pack("<I", zlib.crc32(d[12:]))
		open(sys.argv[2], "wb").write(d)' "$WORK/good" "$WORK/run/fair" "$1"; }
	for i in nice slice policy group; do
		edit $i
		bad "a $i that cannot be"
	done
	for i in boot start; do
		edit $i
		exits 0 "$GAMER" restore
		fair_advised || fail "another $i: threads are changed: $(fair_shown)"
	done
	[ $n -gt 20 ] || fail "only $n"
	edit none
	exits 0 "$GAMER" restore
	fair_back || fail "the list as it was: $(fair_shown)"
}
host_fair_many() { : "fair: 5000 threads that start at once are advised by a call each, and put back"
	fair_begin
	local us calls
	fair_advises
	fair_says 'spawn 5000'
	fair_wants fair_advised 5003
	us=$(fair_stat fair_cpu_us) calls=$(fair_stat fair_calls)
	echo "# host_fair_many: $us us of CPU time"
	[ "$us" -le 500000 ] || fail "$us us" # 50 to 64 ms measured; a busy machine counts more
	[ "$calls" -ge 5000 ] && [ "$calls" -le 5100 ] || fail "$calls calls"
	stop INT
	fair_wants fair_back 5003
	echo "$us us of CPU time, $calls calls"
}
host_fair_loads() { : "fair: threads that do not sleep have a lead while they leave a CPU; a game with more of them loads, and holds up nobody"
	local cpus
	cpus=$(nproc --all)
	fair_begin
	fair_advises
	fair_says "load $((cpus - 1))"
	fair_wants fair_has loader '0 -12 0 1 0' $((cpus - 1))
	fair_says 'load 1'
	fair_wants fair_has loader "$FAIR_PLAIN" "$cpus"
	fair_advised || fail "the others lost their advice: $(fair_shown)"
	stop INT
	fair_wants fair_back
}
host_fair_group() { : "fair: a game that is alone in its session gets a weight for all of that, and its end takes it back; what limits nice is said"
	[ "$(cat /proc/sys/kernel/sched_autogroup_enabled 2>/dev/null)" = 1 ] || skip "no autogroups"
	# A session of its own: that of this shell may have no autogroup. The other process, no child of the game, ends with it.
	fair_begin 3 setsid sh -c '(tail --pid=$$ -f /dev/null &); exec "$@"' sh
	group_is() { grep -q " nice $1\$" /proc/$B/autogroup; }
	fair_advises
	group_is 0 || fail "a session with others: $(cat /proc/$B/autogroup)"
	grep -q "^limit: .*session only" <<<"$("$GAMER" status)" || fail "says nothing: $("$GAMER" status | head -n3)"
	stop INT
	fair_end
	fair_begin 3 setsid
	local sig
	for sig in INT KILL; do
		fair_runs
		fair_wants group_is -9
		! grep -q ^limit: <<<"$("$GAMER" status)" || fail "$("$GAMER" status | grep ^limit)"
		kill -$sig $G
		wait $G 2>/dev/null || true
		[ $sig != KILL ] || exits 0 "$GAMER" restore
		group_is 0 || fail "SIG$sig: $(cat /proc/$B/autogroup)"
	done
	fair_runs
	fair_wants group_is -9
	echo 5 >/proc/$B/autogroup
	stop INT
	group_is 5 || fail "another's value: $(cat /proc/$B/autogroup)"
	fair_end
	fair_begin 3 setsid sh -c 'sleep 600 & exec "$@"' sh
	fair_runs
	fair_wants group_is -9
	CROWD=("$(pgrep -P $B)")
	exec 8>&-
	B=${CROWD[0]}
	fair_wants group_is 0
}
host_fair_realtime() { : "fair --realtime: short bursts run under SCHED_FIFO; one that runs away has lost that within 2 s; all is put back"
	fair_begin
	fair_says pulse
	fair_runs
	fair_wants fair_has AudioThread '0 -15 0 1 100'
	stop INT
	fair_wants fair_has AudioThread "$FAIR_PLAIN"
	fair_runs --realtime
	fair_wants fair_has AudioThread '1 0 1 1 0'
	fair_advised || fail "others: $(fair_shown)"
	fair_says spin
	sleep 2
	fair_has AudioThread '0 -15 0 1 100' || fair_has AudioThread '0 -12 0 1 0' || fail "it spins on: $(fair_shown)"
	stop INT
	fair_wants fair_has AudioThread "$FAIR_PLAIN"
	fair_wants fair_back
}
host_fair_rights() { : "fair: without CAP_SYS_NICE exit 77 that names it; the capability is kept where threads are advised, and only there"
	fair_begin
	have setpriv || skip "no setpriv"
	local kept nice=$((1 << 23))
	says 77 CAP_SYS_NICE setpriv --bounding-set=-sys_nice "$GAMER" run --backend fair --db=
	says 77 CAP_SYS_NICE setpriv --bounding-set=-sys_nice "$GAMER" restore
	says 77 CAP_SYS_NICE setpriv --reuid 65534 --regid 65534 --clear-groups "$GAMER" run --backend fair --db=
	says 64 exclude "$GAMER" run --backend fair --observe
	fair_advises
	kept=0x$(awk '/CapEff/ { print $2 }' /proc/$G/status)
	((kept & nice)) || fail "it advises with $kept"
	stop INT
	observe --db= 8>&-
	wait_for 10 grep -q 'Seccomp:.*2' /proc/$G/status
	kept=0x$(awk '/CapPrm/ { print $2 }' /proc/$G/status)
	! ((kept & nice)) || fail "it observes with $kept"
}

host_owners() { : "a game belongs to a user: no other takes its place, and its servers come before those of others"
	crowd_begin
	local game audio
	crowd 1001 pipewire 20 -
	crowd 1000 pipewire 1 -
	audio=${CROWD[-1]}
	crowd 1000 game.exe 1 - GAMER_GAME=1 SteamAppId=1
	game=${CROWD[-1]}
	crowd_observe
	wait_for 20 game_is "$game" || fail "the game is not found: $(tail -n1 "$WORK/log")"
	wait_for 20 thread_is "$audio" audio || fail "its audio server is none: $(tail -n1 "$WORK/log")"
	crowd 1001 fake.exe 2 - GAMER_GAME=1 SteamAppId=1 UMU_ID=1 WINEPREFIX=/x
	crowd 1000 wireplumber 1 -
	wait_for 20 thread_is "${CROWD[-1]}" audio || fail "a server that starts later is none"
	game_is "$game" || fail "another user's is the game: $(tail -n1 "$WORK/log")"
	kill "$game"
	wait_for 20 grep -q 'game: .* fake.exe' "$WORK/log" || fail "the other user's is no game when the first has ended"
	[ "$(grep -c 'all places for servers' "$WORK/log")" = 1 ] || fail "a full table is told of $(grep -c 'all places' "$WORK/log") times"
}

host_seats() { : "while somebody sits at the first seat, a user without a seat has no game, not even one told by its environment"
	have setpriv && have unshare || skip "no setpriv or unshare"
	crowd_begin
	local user="setpriv --reuid 1000 --regid 1000 --clear-groups env GAMER_GAME=1"
	# shellcheck disable=SC2016 # sh's own
	unshare -m sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/users /run/systemd/seats &&
		printf "UID=1000\nSESSIONS=3\nSEATS=\n" >/run/systemd/users/1000 && printf "IS_SEAT0=1\nACTIVE_UID=1001\n" >/run/systemd/seats/seat0 &&
		exec "$@"' sh "$GAMER" run --observe --db= >"$WORK/log" 2>&1 &
	G=$!
	wait_for 10 timeout 1 "$GAMER" status || fail "does not answer: $(tail -n1 "$WORK/log")"
	$user sleep 600 &
	CROWD+=($!)
	sleep 3
	game_is none || fail "$("$GAMER" status | grep ^game:)"
	echo ACTIVE_UID=1000 >/proc/$G/root/run/systemd/seats/seat0
	sed -i s/SEATS=/SEATS=seat0/ /proc/$G/root/run/systemd/users/1000
	$user sleep 600 &
	CROWD+=($!)
	wait_for 10 game_is "${CROWD[1]}" || fail "at the seat: $("$GAMER" status | grep ^game:)"
}

host_owners_wine() { : "files of Wine that other processes bring, more than have a place, leave the game its own"
	crowd_begin
	local game
	printf 'int %s(long h, int c, void *v, int n) { return h + c + n + !v; }\n' NtSetInformationThread NtSetInformationProcess |
		gcc -O1 -shared -fPIC -Wl,-soname,none -x c -o "$WORK/ntdll.so" - || skip "no compiler"
	crowd 1001 fake.exe 20 "$WORK/ntdll.so" WINEPREFIX=/x
	crowd 1000 game.exe 1 "$WORK/ntdll.so" GAMER_GAME=1 SteamAppId=1
	game=${CROWD[-1]}
	crowd_observe
	wait_for 20 game_is "$game" || fail "the game is not found: $(tail -n1 "$WORK/log")"
	wait_for 20 thread_is "$game" game render,wine || fail "its Wine is not heard: $("$GAMER" status | grep "^thread.* $game ")"
	wait_for 20 grep -q 'all places for files of Wine' "$WORK/log" || fail "20 files: $(tail -n1 "$WORK/log")"
}

host_bench() { : "bench measures without gamer; JSON, SVG and CSV are well formed"
	(cd "$WORK" && "$BENCH" --seconds 3 --json --svg bench.svg --csv bench.csv >bench.json) || fail "exit $?"
	python3 "$ROOT/test/judge.py" "$WORK/bench.json"
	python3 -c 'import sys, xml.dom.minidom; assert xml.dom.minidom.parse(sys.argv[1]).documentElement.tagName == "svg"' "$WORK/bench.svg"
	grep -q '^fps,frametime' "$WORK/bench.csv" || fail "the CSV lacks MangoHud's columns"
	grep -qi p99 <<<"$("$BENCH" --seconds 1)" || fail "the text lacks p99"
}
host_db_full() { : "a full or read-only file system leaves the process database whole"
	[ "$(id -u)" = 0 ] || skip "needs root, to mount"
	unshare -m python3 "$ROOT/test/db.py" check_full "$GAMER"
}
host_db_merge() { : "512 observations are merged within 1 ms; who changes, or makes room, is not foretold what it was; failures are in a row where less than an hour of work lies between two"
	gcc -Os $FUZZ_FLAGS -w -ffunction-sections -Wl,--gc-sections -o "$WORK/merge" "$ROOT/test/merge.c" "$BUILD/lib/libz.a"
	"$WORK/merge"
}
host_fuzz() { : "30 s of fuzzing: each reader of what others write takes any bytes"
	fuzz 30
}
host_alloc() { : "whichever allocation fails while it loads and attaches, gamer ends in good order or does without"
	as_root
	python3 - "$(sanitized)" <<-'EOT'
		import os, signal, subprocess, sys, tempfile, time
		with tempfile.TemporaryDirectory() as dir:
		    env = dict(os.environ, RUNTIME_DIRECTORY=dir)
		    def run(nth):
		        err = open(dir + "/err", "w+")
		        p = subprocess.Popen([sys.argv[1], "run", "--observe"], env=dict(env, GAMER_FAIL_ALLOC=str(nth)), stderr=err)
		        end = time.time() + 60
		        while p.poll() is None and time.time() < end:
		            if os.path.exists(dir + "/status") and "observing" in open(dir + "/status").read():
		                p.terminate()
		                p.wait()
		            time.sleep(0.02)
		        p.kill()
		        err.seek(0)
		        return p.wait(), err.read()
		    # all of them would take hours; the first hundred are those of the probes
		    failed = 0
		    for nth in [*range(1, 100, 6), *range(100, 3000, 97)]:
		        code, said = run(nth)
		        # no BTF, or no BPF object to be had: said in a line of its own
		        assert code in (0, 69, 70), f"allocation {nth}: exit {code}: {said}"
		        assert not code or said.startswith("gamer: "), f"allocation {nth}: exit {code}, and nothing said"
		        failed += code != 0
		    assert failed > 5, f"only {failed} of them were missed"
	EOT
}
host_analyze() { : "clang's static analyzer and cppcheck find nothing in gamer.c"
	# They take minutes, and find the same in the same files.
	local sum=$(cat "$ROOT/gamer.c" "$ROOT"/build/*.h <("$(clang_name)" --version; cppcheck --version) | sha256sum)
	[ "$(cat "$BUILD/analyzed" 2>/dev/null)" != "$sum" ] || skip "they found nothing in these very files before (build/analyzed)"
	analyze
	echo "$sum" >"$BUILD/analyzed"
}
host_man() { : "man is a manual page that mandoc and groff find no fault with; every command, option and exit code is in it"
	local mandoc word
	mandoc=$(tool mandoc)
	"$GAMER" man >"$WORK/gamer.8" || fail "exit $?"
	"$mandoc" -Tlint -Wstyle "$WORK/gamer.8" >"$WORK/lint" || fail "$(head -n1 "$WORK/lint")"
	[ -z "$(groff -man -ww -Tutf8 "$WORK/gamer.8" 2>&1 >/dev/null)" ] || fail "groff warns"
	"$mandoc" -Tascii "$WORK/gamer.8" | sed "s/.$(printf '\b')//g" >"$WORK/text"
	for word in $(options_table | cut -f1,2 | tr '\t' '\n' | sort -u) sched_ext wakeup_us; do
		grep -qw -- "$word" "$WORK/text" || fail "lacks $word"
	done
	sed -i '/^EXIT STATUS/,/^SIGNALS/!d' "$WORK/text"
	for word in $( (echo '#include <sysexits.h>'; grep -o 'EX_[A-Z]*' "$ROOT/gamer.c" | sort -u) | gcc -E -P - | grep '^[0-9]'); do
		grep -qE "^ {5,8}([0-9, ]*, )?$word(,| |\$)" "$WORK/text" || fail "lacks exit code $word"
	done
}
host_commands() { : "README and man: each command of gamer is one that gamer takes as printed; README has at most 170 lines and no figure that RESULTS.md lacks"
	local line said n=0 all=$ROOT/test/RESULTS.md
	while IFS= read -r line; do
		line=${line#*/opt/gamer/} line=${line#GAMER_GAME=1 %command%}
		case $line in gamer | gamer\ *) ;; *) continue ;; esac
		line=${line%%[|#>]*} line=${line%2} line=${line/ -- / --help -- }
		[[ $line = *--help* ]] || line+=" --help"
		said=$(cd "$(dirname "$GAMER")" && eval "./$line" 2>&1 >/dev/null) || fail "'$line': $said"
		n=$((n + 1))
	done < <(sed -n 's/^    //p' "$ROOT/README.md" | sed 's/PID/1/'; "$GAMER" man | sed -n '/^.SH EXAMPLES/,/^.SH ADVICE/s/^\.B \\&//p' | sed 's/\\-/-/g')
	[ $n -ge 20 ] || fail "only $n commands"
	[ "$(wc -l <"$ROOT/README.md")" -le 170 ] || fail "$(wc -l <"$ROOT/README.md") lines"
	for n in $(sed -n '/<!-- figures: begin/,/<!-- figures: end/{/^|/p}' "$ROOT/README.md" | grep -oE '\| \**[0-9.]+' | tr -d '|* '); do
		grep -qE "[| *;]${n}[* ;|]" "$all" || fail "$n is not in RESULTS.md"
	done
}
# completes_all CMD...: CMD LINE prints what a shell offers for LINE: it is what the table of options says
completes_all() {
	local cmd long choices want got
	for cmd in $(options_table | cut -f1 | uniq); do
		want=$(options_table | awk -F'\t' -v c="$cmd" '$1 == c { print $2 }' | sort | xargs)
		got=$("$@" "gamer $cmd --" | sort | xargs)
		[ "$got" = "$want" ] || fail "'gamer $cmd --' is offered '$got', not '$want'"
	done
	while IFS=$'\t' read -r cmd long _ _ _ _ _ choices; do
		got=$("$@" "gamer $cmd $long " | xargs)
		[ "$(tr ' ' '\n' <<<"$got" | sort)" = "$(tr '|' '\n' <<<"$choices" | sort)" ] || fail "'gamer $cmd $long ' is offered '$got'"
	done < <(options_table | awk -F'\t' '$4 == "choice"')
	for want in ev:events 'run --pro:--profile' 'run --profile b:balanced' '--obs:--observe' 'db ex:export' 'completions z:zsh' \
		'events --type input,fr:input,frame_timing'; do
		got=$("$@" "gamer ${want%%:*}" | xargs)
		[ "$got" = "${want#*:}" ] || fail "'gamer ${want%%:*}' is offered '$got'"
	done
}
# completes_typed SETUP SHELL...: in a terminal, with the key TAB
completes_typed() {
	python3 - "$@" <<-'EOT'
		import os, pty, re, select, sys
		pid, fd = pty.fork()
		if pid == 0:
		    os.environ.update(TERM="dumb", PS1="> ", HOME="/nonexistent")
		    os.execvp(sys.argv[2], sys.argv[2:])
		seen = ""
		def shows(what):
		    global seen
		    while not (found := re.search(what, seen)):
		        if not select.select([fd], [], [], 60)[0]: sys.exit(f"does not show {what}: {seen!r}")
		        seen += os.read(fd, 4096).decode(errors="replace")
		    seen = seen[found.end():]
		    return found.group(1)
		os.write(fd, sys.argv[1].encode() + b'; gamer() { echo "got:$*."; }; echo rea""dy.\n')
		shows(r"\n(ready)\.")
		for typed, want in (("ev", "events"), ("run --pro", "run --profile"), ("run --profile b", "run --profile balanced"),
			("run --profile=pe", "run --profile=performance"), ("run -p bal", "run -p balanced"),
			("--obs", "--observe"), ("db ex", "db export"),
			("completions fi", "completions fish"), ("completions --shell z", "completions --shell zsh"),
			("events --type inp", "events --type input"), ("events --type input,gpu", "events --type input,gpu_submit"),
			("run --hooks=-inp", "run --hooks=-input"), ("run --hooks=-gpu,-inp", "run --hooks=-gpu,-input"),
			("db --file /etc/hostn", "db --file /etc/hostname"), ("unit x", "unit x")):
		    os.write(fd, f"gamer {typed}\t\n".encode())
		    got = shows(r"\ngot:(.*)\.").strip()
		    if got != want: sys.exit(f"'gamer {typed}' and TAB is '{got}', not '{want}'")
	EOT
}
complete_with_bash() { bash -c '. "$1"; COMP_WORDS=($2); [[ $2 != *" " ]] || COMP_WORDS+=("")
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _gamer; printf "%s\n" "${COMPREPLY[@]}"' - "$COMPLETIONS" "$1"; }
complete_with_fish() { "$FISH" --no-config -c 'test -z "$argv[3]"; or set fish_function_path $argv[3]
	source $argv[1]; complete -C $argv[2]' "$COMPLETIONS" "$1" "$FISH_FUNCTIONS" | cut -f1; }
# completions_of SHELL: in the file $COMPLETIONS; it asks the gamer on PATH
completions_of() {
	PATH=$(dirname "$GAMER"):$PATH
	mkdir -p "$BUILD/test-complete"
	COMPLETIONS=$BUILD/test-complete/$1
	"$GAMER" completions "$1" >"$COMPLETIONS" || fail "exit $?"
}
host_completions_bash() { : "bash completes commands, every option, choices and files as the table of options says; with TAB"
	completions_of bash
	completes_all complete_with_bash
	completes_typed ". '$COMPLETIONS'; bind 'set enable-bracketed-paste off'" bash --norc --noprofile -i
}
host_completions_zsh() { : "zsh completes commands, options, choices and files, with TAB"
	local zsh functions=''
	zsh=$(tool zsh)
	completions_of zsh
	case $zsh in "$CACHE"/*) functions="fpath=($(find "$CACHE/tools/zsh/usr/share/zsh/functions" -type d -exec echo {} +));" ;; esac
	completes_typed "$functions autoload -Uz compinit; compinit -u -D; . '$COMPLETIONS'" "$zsh" -f -i
	# the same as a file of $fpath
	cp "$COMPLETIONS" "$WORK/_gamer"
	completes_typed "$functions fpath+=($WORK); autoload -Uz compinit; compinit -u -D" "$zsh" -f -i
}
host_completions_fish() { : "fish completes commands, every option and choices as the table of options says"
	FISH=$(tool fish)
	FISH_FUNCTIONS=
	case $FISH in "$CACHE"/*) FISH_FUNCTIONS=$CACHE/tools/fish/usr/share/fish/functions ;; esac
	completions_of fish
	completes_all complete_with_fish
}
host_unit() { : "unit prints a systemd unit that starts this binary, or says that a unit cannot"
	grep -q "^ExecStart=$GAMER run" <<<"$("$GAMER" unit)" || fail "no ExecStart of $GAMER"
	cp "$GAMER" "$WORK/my gamer"
	exits 64 "$WORK/my gamer" unit
}
host_gpu_numbers() { : "GPU submit numbers are those of the newest kernel's own headers"
	local dir d
	dir=$(headers drm) || fail "no headers"
	mkdir "$WORK/linux"
	: >"$WORK/linux/bits.h" # of the kernel's own, and not needed here
	{
		printf '#include <%s>\n' stddef.h stdint.h linux/types.h linux/ioctl.h drm/drm.h
		for d in amdgpu asahi etnaviv i915 lima msm nouveau panfrost panthor pvr radeon v3d vc4 vgem virtgpu xe; do
			echo "#include <drm/${d}_drm.h>"
		done
		cat <<-'EOT'
			#include "gamer.bpf.c"
			#define X(driver, number, symbol) \
				_Static_assert(_IOC_NR(DRM_IOCTL_##symbol) == number, driver " " #symbol);
			GPU_SUBMITS(X)
		EOT
	} >"$WORK/numbers.c"
	cp "$ROOT/gamer.bpf.c" "$WORK/"
	gcc -fsyntax-only -D__user= -I"$dir" -I"$WORK" "$WORK/numbers.c"
}
# Programs with known answers, as gcc makes them; prints their folder, $BIN in the checks of profile. Names are kept.
profiled() {
	local dir=$BUILD/test/profiled.d src=$ROOT/test/profiled.c
	set -- -O1 -fno-omit-frame-pointer -Wall -Wextra -Werror -Wno-unused-function -pthread
	if [ ! "$dir/static" -nt "$src" ]; then
		mkdir -p "$dir"
		gcc "$@" -pie -fPIE -o "$dir/dynamic" "$src" -ldl
		gcc "$@" -shared -fPIC -DLIBRARY -o "$dir/library.so" "$src"
		gcc "$@" -static -o "$dir/static" "$src" -ldl 2>/dev/null # warns of dlopen
	fi
	echo "$dir"
}
# profile ARGS: gamer's profile as JSON in $WORK/json, what the program did in $WORK/truth
profile() {
	as_root
	"$GAMER" profile --json -o "$WORK/json" "$@" >"$WORK/truth" || fail "'profile $*' exits $?"
	python3 "$ROOT/test/judge.py" "$WORK/json"
}
# Python with the profile as d, its parts as off and calls, the program's truth, and near()
profile_is() {
	python3 - "$WORK" <<-EOT
		import json, sys
		d = json.load(open(sys.argv[1] + "/json"))
		truth = {k: int(v) for k, v in (l.split() for l in open(sys.argv[1] + "/truth"))}
		off, calls = d["ebpf"].get("offcpu"), d["ebpf"].get("syscalls")
		def near(a, b, share=0.02):
		    assert abs(a - b) <= share * b, f"{a} is not {b} within {share * 100} %"
		$(cat)
	EOT
}
host_profile_times() { : "profile: sleeps, a pipe, futex waits: times within 2 % of the program's own clock"
	profile -- "$BIN/dynamic" sleeps
	profile_is <<-'EOT'
		near(off["by_syscall"]["clock_nanosleep"]["time_ns"], truth["ns"])
		assert off["by_state"]["sleep"]["count"] >= 20 and off["max_time_ns"] >= 50e6, off
		assert sum(s["time_ns"] for s in off["by_state"].values()) == off["total_time_ns"], off
		assert off["avg_time_ns"] == off["total_time_ns"] // off["total_events"], off
		assert off["min_time_ns"] <= off["avg_time_ns"] <= off["max_time_ns"], off
		top = off["top_blocking_threads"][0]
		assert abs(top["percentage"] - 100) < 0.01, top
		near(top["time_ms"] * 1e6, off["total_time_ns"])
	EOT
	profile -- "$BIN/static" pipe
	profile_is <<-'EOT'
		near(off["by_syscall"]["read"]["time_ns"], truth["ns"])
		near(sum(t["total_time_ns"] for t in off["thread_stats"].values()), off["total_time_ns"], 1e-9)
	EOT
	profile -- "$BIN/dynamic" futex
	profile_is <<-'EOT'
		(key,) = [k for k in off["thread_stats"] if k.endswith(":%d" % truth["tid"])]
		futex = off["thread_stats"][key]["futex"]
		assert futex["waits"] == 200, futex
		near(off["thread_stats"][key]["total_time_ns"], truth["ns"])
		assert 0 < futex["time_ns"] <= truth["ns"], (futex, truth)
	EOT
}
host_profile_calls() { : "profile: system calls of every category are counted exactly, with forks, exec and 32-bit calls"
	local mode
	profile -- "$BIN/static" calls
	profile_is <<-'EOT'
		categories = "file_io memory process network time ipc security signal other".split()
		assert list(calls["by_category"]) == categories, calls["by_category"]
		assert sum(calls["by_category"].values()) == calls["total"], calls
		ia32 = truth.pop("ia32", 0)
		for name, n in truth.items():
		    assert calls["counts"][name] == n, (name, n, calls["counts"])
		assert calls["ia32"] == ia32 == calls["counts"].get("ia32 20", 0), calls
		assert sum(calls["counts"].values()) == calls["total"], calls
		assert len(calls["top_syscalls"]) == 10, calls["top_syscalls"]
		assert calls["by_category"]["network"] == truth["getsockname"], calls["by_category"]
	EOT
	for mode in forks execs; do
		profile -- "$BIN/dynamic" "$mode"
		profile_is <<-'EOT'
			assert calls["counts"]["getpriority"] == truth["getpriority"], calls["counts"]
		EOT
	done
	profile --only syscalls -- "$BIN/static" calls
	profile_is <<<'assert off is None and "futex" not in d["ebpf"] and calls["counts"]["lseek"] == 101'
}
# folded NAME... -- ARGS: some line of the folded profile has all these frames, in this order
folded() {
	local pattern=
	while [ "$1" != -- ]; do pattern="$pattern.*;$1"; shift; done
	[ "$2" != -p ] || shift
	"$GAMER" profile --folded -o "$WORK/folded" "$@" >"$WORK/truth" || fail "'profile --folded $*' exits $?"
	grep -qE "$pattern(;| ).* [0-9]+\$" "$WORK/folded" || fail "no line has '$pattern': $(head -c 2000 "$WORK/folded")"
}
host_profile_stacks() { : "profile: folded stacks name functions of static, PIE, dlopened, deleted and short-lived programs, of C++ and Rust"
	as_root
	folded main pipes calls_the_blocker block_on_pipe -- "$BIN/static" pipe
	folded main pipes calls_the_blocker block_on_pipe -- "$BIN/dynamic" pipe
	folded main library pipes calls_the_blocker block_in_library library_reads -- "$BIN/dynamic" library "$BIN/library.so"
	folded main execs ends_early -- "$BIN/dynamic" execs
	folded main pipes calls_the_blocker 'endless\(std::pair<A, A>, .*' 'game::Engine::frame\(int\)' tokio::runtime::waits \
		mycrate::pad::reads block_on_pipe -- "$BIN/dynamic" mangled
	! grep -qE '(^|;)[^ ]* 0x|;$' "$WORK/folded" || fail "$(head -c 1000 "$WORK/folded")"
	# code at run time: by the compiler's list of names, or by the Windows module it lies behind
	folded calls_the_blocker block_in_jit 'made at run time' -- "$BIN/static" jit
	rm "/tmp/perf-$(sed -n 's/^pid //p' "$WORK/truth").map"
	head -c 4096 /dev/zero >"$WORK/game.dll"
	folded calls_the_blocker block_in_jit 'game\.dll\+0x1108' -- "$BIN/dynamic" jit "$WORK/game.dll"
	# a program that is deleted, and another at its place, while it runs
	cp "$BIN/dynamic" "$WORK/program"
	"$WORK/program" pipe 9999 >/dev/null &
	until [ "$(readlink /proc/$!/exe)" = "$WORK/program" ]; do kill -0 $!; sleep 0.05; done
	rm "$WORK/program"
	folded calls_the_blocker block_on_pipe -- -p $! --seconds 1
	kill $!
	cp "$BIN/dynamic" "$WORK/program"
	cp "$BIN/dynamic" "$WORK/program.new"
	"$WORK/program" pipe 9999 >/dev/null &
	until [ "$(readlink /proc/$!/exe)" = "$WORK/program" ]; do kill -0 $!; sleep 0.05; done
	mv "$WORK/program.new" "$WORK/program"
	folded calls_the_blocker block_on_pipe -- -p $! --seconds 1
	kill $!
	[ ! -r /proc/kallsyms ] || grep -q ';[a-z_]*pipe_read_\[k\]' "$WORK/folded" || fail "no kernel frames: $(cat "$WORK/folded")"
}
host_profile_hostile() { : "profile: a name that takes hours to read costs its own stack the names, and no other"
	as_root
	folded main sleeps nap_ms -- "$BIN/static" hostile
	grep -q ';\[not named\] ' "$WORK/folded" || fail "it was read: $(cat "$WORK/folded")"
}
# within MB CMD...: it ends within 120 s, well, and never has more memory than that
within() {
	python3 - "$@" <<-'EOT' || fail "'$*'"
		import os, signal, sys
		pid = os.fork()
		if not pid:
		    os.execv(sys.argv[2], sys.argv[2:])
		signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
		signal.alarm(120)
		_, status, used = os.wait4(pid, 0)
		if status or used.ru_maxrss > int(sys.argv[1]) * 1024:
		    sys.exit(f"status {status:#x}, {used.ru_maxrss >> 10} MB")
	EOT
}
host_profile_perfmap() { : "profile: /tmp/perf-PID.map is its user's list, of bounded size; what else lies there is not read"
	as_root
	chmod 755 "$WORK"
	cp "$BIN/dynamic" "$WORK/program"
	head -c 4096 /dev/zero >"$WORK/plain"
	# each process puts something at its $map, then waits in code that it makes
	cat >"$WORK/all" <<-'EOT'
		list() { for i in $(seq 32256 32767); do printf '%x00000000 ffffffff %s\n' "$i" "$1"; done; }
		jit() {
			unshare -m sh -c 'cd "$0"; map=/tmp/perf-$$.map; echo $map >>maps; eval "$1"; shift; exec "$@" ./program jit plain 150' "$WORK" "$@" &
		}
		nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
		cd "$WORK"
		list stolen >secret
		list root_s >open
		list its_own >own
		chmod 600 secret
		jit 'mkfifo $map'
		jit 'ln -s /dev/zero $map'
		jit 'truncate -s 60M $map'
		jit 'ln -s "$WORK/secret" $map'
		jit 'cp secret $map; chown 65534 $map'
		jit 'touch $map; mount --bind secret $map' $nobody
		jit 'cp own $map; chown 65534 $map' $nobody
		jit 'mount -t tmpfs none /tmp; cp open $map' $nobody
		jit '{ cat own; yes "1000 40 many_more" 2>/dev/null | head -c 300M; } >$map'
		wait
		rm -f $(cat maps)
	EOT
	export WORK
	within 250 "$GAMER" profile --json -o "$WORK/json" --seconds 2 -- sh "$WORK/all" >/dev/null
	: >"$WORK/truth"
	profile_is <<-'EOT'
		named = [f for s in off["stacks"] for f in s["frames"]]
		assert "stolen" not in named, named
		assert "its_own" in named and "root_s" in named, named
		assert d["ebpf"]["lost"]["symbols"] == 1, d["ebpf"]["lost"]
	EOT
}
host_profile_foreign() { : "profile: a path of another mount namespace is not opened in gamer's own"
	as_root
	mkdir "$WORK/dir"
	cat >"$WORK/run" <<-'EOT'
		mount -t tmpfs none "$1/dir"
		cp /bin/true "$1/dir/program"
		for i in $(seq 20); do "$1/dir/program"; sleep 0.01; done
	EOT
	mkfifo "$WORK/dir/program"
	python3 - "$WORK" "$GAMER" <<-'EOT'
		import ctypes, os, subprocess, sys
		dir, libc = sys.argv[1], ctypes.CDLL(None)
		fd = libc.inotify_init1(os.O_NONBLOCK)
		assert libc.inotify_add_watch(fd, (dir + "/dir/program").encode(), 0x20) >= 0	# IN_OPEN
		subprocess.run([sys.argv[2], "profile", "-o", dir + "/text", "--", "unshare", "-m", "sh", dir + "/run", dir], check=True)
		try:
		    assert not os.read(fd, 4096), "gamer has opened the FIFO"
		except BlockingIOError:
		    pass
	EOT
}
host_profile_giant() { : "profile: a program with 3 GiB of symbols costs it neither memory nor time, and the report says so"
	as_root
	python3 - "$BIN/dynamic" "$WORK/program" <<-'EOT'
		import os, struct, sys
		data = bytearray(open(sys.argv[1], "rb").read())
		at, n, size = struct.unpack_from("<Q", data, 40)[0], *struct.unpack_from("<HH", data, 60)[:1], 64
		end = len(data) + 4095 & ~4095
		for i in range(n):
		    if struct.unpack_from("<I", data, at + i * size + 4)[0] == 2:	# SHT_SYMTAB
		        old = struct.unpack_from("<QQ", data, at + i * size + 24)
		        struct.pack_into("<QQ", data, at + i * size + 24, end, 3 << 30)
		        symbols = data[old[0]:sum(old)]
		with open(sys.argv[2], "wb") as f:
		    f.write(data)
		    f.seek(end)
		    f.write(symbols)
		    f.truncate(end + (3 << 30))
		os.chmod(sys.argv[2], 0o755)
	EOT
	within 100 "$GAMER" profile --json -o "$WORK/json" -- "$WORK/program" pipe >"$WORK/truth"
	profile_is <<-'EOT'
		assert d["ebpf"]["lost"]["symbols"] == 1, d["ebpf"]["lost"]
		assert any("block_on_pipe" in s["frames"] for s in off["stacks"]), off["stacks"]
	EOT
}
host_profile_children() { : "profile: a process with many mappings that forks often costs it no memory for each child"
	as_root
	cat >"$WORK/forks.py" <<-'EOT'
		import mmap, os, sys
		with open(sys.executable, "rb") as f:
		    maps = [mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC) for _ in range(4000)]
		for _ in range(1000):
		    if not os.fork():
		        os._exit(0)
		    os.wait()
	EOT
	within 100 "$GAMER" profile --json -o "$WORK/json" -- python3 "$WORK/forks.py"
}
host_profile_unanswered() { : "profile: a program whose file nobody may open any more takes no signal and no report from it"
	as_root
	local server gamer program tries=200 rc=0
	cp "$BIN/dynamic" "$WORK/program"
	python3 "$ROOT/test/unanswered.py" "$WORK/program" pipe 99999 >"$WORK/pid" &
	server=$!
	until program=$(cat "$WORK/pid" 2>/dev/null); [ -n "$program" ]; do kill -0 $server 2>/dev/null || skip "no fanotify"; sleep 0.1; done
	"$GAMER" profile --json -o "$WORK/json" --seconds 1 -p "$program" &
	gamer=$!
	# its child reads names
	until [ $((tries--)) = 0 ] || pgrep -P $gamer >/dev/null; do sleep 0.05; done
	kill $gamer || true
	tries=100
	while kill -0 $gamer 2>/dev/null && [ $((tries--)) -gt 0 ]; do sleep 0.05; done
	kill -9 $gamer 2>/dev/null || true
	wait $gamer || rc=$?
	kill -9 $server "-$program"
	wait $server 2>/dev/null || true
	[ $rc = 0 ] || fail "exit $rc: a file that is not read holds it up"
	: >"$WORK/truth"
	profile_is <<<'assert d["ebpf"]["lost"]["names"] > 0 and off["total_time_ns"] > 5e8, (d["ebpf"]["lost"], off["total_time_ns"])'
}
host_profile_threads() { : "profile: 2000 threads at once, none lost"
	profile -- "$BIN/dynamic" threads 2000
	profile_is <<-'EOT'
		assert not any(d["ebpf"]["lost"].values()), d["ebpf"]["lost"]
		assert len(off["thread_stats"]) == truth["threads"], len(off["thread_stats"])
		near(off["by_syscall"]["clock_nanosleep"]["time_ns"], truth["ns"])
	EOT
}
host_profile_rusage() { : "profile: CPU time, switches and faults of programs that end within a tick are those of rusage"
	local only
	# shellcheck disable=SC2016
	{
		echo 'all: 1 2 3'
		echo '%:; gcc -O1 -c -o $(D)/$@.o $(S)/as_user.c && size $(D)/$@.o'
	} >"$BUILD/test/small.mk"
	for only in all syscalls; do
		# shellcheck disable=SC2016
		for cmd in 'i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i + 1)); done' "exec $BIN/static forks 2000 >&2" \
			"exec make -s -j2 -f $BUILD/test/small.mk D=$BUILD/test S=$ROOT/test >&2"; do
			profile --only $only -- "$BIN/static" rusage sh -c "$cmd"
			profile_is <<-'EOT'
				ours = d["ebpf"]
				switches = ours["context_switches"]
				near(ours["cpu_time_ns"], truth["cpu_ns"], 0.05)
				# 20: those of the program that asks for the kernel's figures
				assert abs(switches["voluntary"] - truth["voluntary"]) < 0.05 * truth["voluntary"] + 20, (ours, truth)
				assert abs(switches["involuntary"] - truth["involuntary"]) < 0.05 * truth["involuntary"] + 20, (ours, truth)
				near(ours["page_faults"]["minor"], truth["minor"], 0.05)
				assert not any(n for what, n in ours["lost"].items() if what != "mappings"), ours["lost"]
			EOT
		done
	done
	rm -rf "$WORK" "$BUILD/test/small.mk" "$BUILD/test/"[123].o
}
host_profile_starts() { : "profile: what a new thread waits for its first run counts as runqueue"
	profile -- "$BIN/static" starts
	profile_is <<-'EOT'
		ns = off["by_state"]["runqueue"]["time_ns"]
		assert 0.95 * truth["ns"] <= ns, (off["by_state"], truth)
		assert off["by_state"]["runqueue"]["count"] >= 20, off["by_state"]
		first = [s for s in off["stacks"] if s["state"] == "runqueue"]
		assert len(first) == 20 and all("clone" in s["syscall"] for s in first), first
		near(sum(s["runqueue_ns"] for s in first), truth["ns"], 0.05)
		waits = off["wakeup_to_run"]
		assert sum(w["count"] for w in waits) == off["by_state"]["runqueue"]["count"], waits
		assert all(w["p50_ns"] <= w["p99_ns"] <= w["max_ns"] for w in waits), waits
		assert 0.95 * truth["ns"] <= sum(w["max_ns"] for w in waits) <= ns, (waits, truth)
	EOT
}
host_profile_namespace() { : "profile: in a PID namespace the figures are there, with its numbers; a /proc of another one is refused"
	as_root
	unshare --pid --fork true 2>/dev/null || skip "no PID namespaces here"
	local gamer=$GAMER
	# as of a command, then of a process that is there; a command in a namespace of its own, too
	GAMER=$WORK/inside
	printf '#!/bin/sh\nexec unshare --pid --fork --mount-proc %s "$@"\n' "$gamer" >"$GAMER"
	chmod +x "$GAMER"
	profile -- "$BIN/static" calls
	profile_is <<-'EOT'
		assert all(calls["counts"][k] == n for k, n in truth.items() if k != "ia32"), (calls, truth)
		assert d["pid"] < 100 and all(t["pid"] < 100 for t in off["thread_stats"].values()), off["thread_stats"]
		assert off["thread_stats"][f'{d["pid"]}:{d["pid"]}']["cpu_time_ns"], off["thread_stats"]
	EOT
	folded calls_the_blocker block_on_pipe -- "$BIN/static" pipe
	GAMER=$gamer
	# shellcheck disable=SC2016
	unshare --pid --fork --mount-proc sh -c '"$1" spin & "$2" profile --seconds 1 --json -o "$3" -p $!; kill $!' sh \
		"$BIN/static" "$GAMER" "$WORK/json" || fail "-p in a namespace: exit $?"
	profile_is <<<'assert d["ebpf"]["cpu_time_ns"] > 0 and len(off["thread_stats"]) == 1, d'
	profile -- unshare --pid --fork --mount-proc "$BIN/static" sleeps
	profile_is <<<'near(off["by_syscall"]["clock_nanosleep"]["time_ns"], truth["ns"])'
	exits 69 unshare --pid --fork "$GAMER" profile -- true
	[[ $SAID = *namespace* ]] || fail "does not name the namespace: $SAID"
}
host_profile_frames() { : "profile: a frame pointer that leads astray ends a stack; of a function's names the public one is shown"
	as_root
	folded sleeps_astray do_nanosleep_.k. -- "$BIN/static" frames
	awk '/;do_nanosleep/ && gsub(/\[unknown\]/, "") > 1 { exit 1 }' "$WORK/folded" || fail "$(cut -c1-200 "$WORK/folded")"
	folded main nap_ms clock_nanosleep -- "$BIN/static" sleeps
	folded main nap_ms clock_nanosleep -- "$BIN/dynamic" sleeps
}
host_profile_apart() { : "profile: what the command prints is not in a report that programs read"
	as_root
	local format
	for format in --json --folded; do
		"$GAMER" profile $format -- "$BIN/static" pipe >"$WORK/out" 2>"$WORK/err" || fail "$format: exit $?"
		! grep -q '^ns ' "$WORK/out" || fail "$format: the command's output is in the report"
		grep -q '^ns ' "$WORK/err" && grep -q 'output goes to standard error' "$WORK/err" || fail "$format: $(cat "$WORK/err")"
		[ $format = --folded ] || python3 "$ROOT/test/judge.py" "$WORK/out"
	done
	[ -z "$(grep -vE '^static(;.*)? [0-9]+$' "$WORK/out")" ] || fail "not folded: $(cat "$WORK/out")"
	# a file for the report, and a report for people, leave it where it was
	[ "$("$GAMER" profile --json -o "$WORK/json" -- echo hello)" = hello ] || fail "-o FILE: the output is gone"
	[ "$("$GAMER" profile -- echo hello | head -n1)" = hello ] || fail "text: the output is gone"
}
host_profile_behaviour() { : "profile: sleepers and threads that wait for one another are no mixture; files and memory are told"
	behaves() { # WORD ARGS
		local word=$1; shift
		profile "$@"
		: >"$WORK/truth"
		profile_is <<<"assert calls['analysis']['behaviour'] == '$word', calls"
	}
	behaves unknown -- sleep 0.5
	behaves unknown -- "$BIN/static" pingpong
	behaves io_bound -- dd if=/dev/zero of=/dev/null bs=4k count=50000 status=none
	behaves memory_bound -- python3 -c 'import mmap; [mmap.mmap(-1, 4096).close() for _ in range(10000)]'
}
attached() { grep -qs link_id "/proc/$1/fdinfo/"*; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# spins_below PID: `static spin`, its child, has used CPU time
spins_below() { [ "$(cpu_ticks "$(pgrep -P "$1" -x static)")" -gt 5 ]; }
host_profile_options() { : "profile: what it is called with, bounds, states, exit codes, signals"
	local rc=0 pid from profiler
	exits 64 "$GAMER" profile
	exits 64 "$GAMER" profile --
	exits 64 "$GAMER" profile -p $$ -- true
	exits 64 "$GAMER" profile -a -t $$
	exits 66 "$GAMER" profile -t 4194304
	exits 64 "$GAMER" profile --json --folded -- true
	exits 64 "$GAMER" profile -m 5 -M 4 -- true
	exits 73 "$GAMER" profile -o /nonexistent/file -- true
	exits 66 "$GAMER" profile -p 4194304
	exits 127 "$GAMER" profile -- /nonexistent
	exits 126 "$GAMER" profile -- /etc/passwd
	exits 7 "$GAMER" profile -- sh -c 'exit 7'
	exits 137 "$GAMER" profile -- sh -c 'kill -9 $$'
	profile -m 60000 -M 100000 -- "$BIN/static" pipe # all are 20 ms
	profile_is <<<'assert off["by_state"].get("sleep", {"count": 0})["count"] < 20 and "max_time_ns" not in off or off["min_time_ns"] >= 6e7'
	profile -M 10000 -- "$BIN/static" sleeps
	profile_is <<<'assert "clock_nanosleep" not in off["by_syscall"] and off.get("max_time_ns", 0) <= 1e7, off'
	profile --state runqueue -- "$BIN/static" sleeps
	profile_is <<<'assert list(off["by_state"]) == ["runqueue"] and off["by_state"]["runqueue"]["time_ns"] == off["total_time_ns"] < truth["ns"], off'
	# Ctrl-C of a recording without an end, and the time option
	"$BIN/static" spin &
	pid=$!
	from=$(date +%s%N)
	profile --seconds 1 -p $pid
	echo "took_ns $(($(date +%s%N) - from))" >>"$WORK/truth"
	profile_is <<<'assert 1 <= d["seconds"] <= truth["took_ns"] / 1e9 and "exit_status" not in d and calls["analysis"]["behaviour"] == "cpu_bound", (d["seconds"], calls)'
	sleep 60 &
	profile --seconds 1 -t $pid
	echo "spin $pid" >"$WORK/truth"
	profile_is <<<'assert d["tid"] == truth["spin"] and [t["tid"] for t in off["thread_stats"].values()] == [d["tid"]] and d["ebpf"]["cpu_time_ns"] > 0, d'
	profile --seconds 1 -a
	printf '%s\n' "spin $pid" "sleep $!" >"$WORK/truth"
	profile_is <<<'pids = {t["pid"] for t in off["thread_stats"].values()}; assert {truth["sleep"], truth["spin"]} <= pids and "pid" not in d, pids'
	kill $!
	"$GAMER" profile --json -o "$WORK/json" -p $pid &
	profiler=$!
	wait_for 10 attached $profiler || fail "does not attach"
	from=$(cpu_ticks $pid)
	wait_for 10 eval '[ "$(cpu_ticks $pid)" -gt $((from + 20)) ]' || fail "spin does not run"
	kill -INT $profiler
	wait $profiler || fail "SIGINT: exit $?"
	profile_is <<<'assert 0 < d["ebpf"]["cpu_time_ns"] <= d["seconds"] * 1e9 * 1.02, d'
	kill $pid
	"$GAMER" profile -o "$WORK/text" -- "$BIN/static" spin &
	pid=$!
	wait_for 10 spins_below $pid || fail "starts no command"
	kill -TERM $pid
	wait $pid || rc=$?
	[ $rc = 143 ] || fail "a command that SIGTERM ended: exit $rc"
	grep -q '^process .* on CPUs' "$WORK/text" || fail "no report after SIGTERM"
}
host_profile_disk() { : "profile: block requests are counted with their bytes, for whoever made them"
	local file=$BUILD/test/disk.bin
	dd if=/dev/urandom of="$file" bs=64K count=64 conv=fsync status=none
	dd if="$file" of=/dev/null bs=64K iflag=direct status=none || skip "no O_DIRECT on this file system"
	profile -- dd if="$file" of=/dev/null bs=64K iflag=direct status=none
	printf '%s\n' 'bytes 4194304' 'reads 64' >"$WORK/truth"
	profile_is <<-'EOT'
		if "block_io" not in d["ebpf"]:
		    sys.exit(200)
		io = d["ebpf"]["block_io"]
		near(io["bytes"], truth["bytes"], 0.02)
		assert io["requests"] >= truth["reads"] - 1, (io, truth)
		assert 0 < io["avg_time_ns"] <= io["max_time_ns"] and io["avg_time_ns"] == io["total_time_ns"] // io["requests"], io
	EOT
}
host_profile_rights() { : "profile: /proc without rights, labelled, nothing invented; CAP_BPF and CAP_PERFMON suffice without root"
	as_root
	local option caps=-all
	cp "$GAMER" "$BIN/static" "$WORK/"
	chmod -R a+rx "$WORK"
	nobody() { (cd "$WORK" && setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps="$caps" --ambient-caps="$caps" "$@"); }
	nobody ./gamer profile --json -- ./static pipe >"$WORK/out" 2>"$WORK/err" || fail "exit $?: $(cat "$WORK/err")"
	grep -q 'CAP_BPF and CAP_PERFMON' "$WORK/err" || fail "does not name what is missing: $(cat "$WORK/err")"
	python3 "$ROOT/test/judge.py" "$WORK/out"
	python3 - "$WORK/out" <<-'EOT'
		import json, sys
		d = json.load(open(sys.argv[1]))
		assert d["source"] == "proc" and "ebpf" not in d and d["missing_capability"] == "CAP_BPF and CAP_PERFMON", d
		assert "stacks" in d["lacks"], d
		# it looks 10 times a second, and once more when the command has ended
		first, child = d["proc"]["threads"].values()
		assert 10 <= first["read_calls"] <= 25 and 0 < child["write_calls"] <= 20, d
		assert 0 < first["voluntary_switches"] <= 25 and 0 < child["voluntary_switches"] <= 25, d
		assert 0.9 * first["seen_ns"] <= first["off_cpu_ns"] <= first["seen_ns"], first
		calls = d["proc"]["sampled_syscalls"]
		top = {c["name"]: c["samples"] for c in calls["top_syscalls"]}
		assert top["read"] and top["clock_nanosleep"] and len(top) <= 10, calls
		assert calls["samples"] == sum(top.values()) == sum(calls["by_category"].values()), calls
		assert calls["by_category"]["time"] >= top["clock_nanosleep"], calls
		assert calls["samples"] + calls["samples_running"] + calls["samples_in_no_syscall"] <= 2 * (d["proc"]["looks"] + 1), d
		# half of it waits to read, half sleeps
		assert calls["analysis"]["behaviour"] in ("io_bound", "mixed", "unknown"), calls
		assert len(d["proc"]["threads"]) == 2, d["proc"]["threads"]
	EOT
	for option in --folded '--only offcpu' '--only syscalls' '--state sleep' '-m 1' '-M 9' --user-stacks; do
		# shellcheck disable=SC2086
		exits 77 nobody ./gamer profile $option -- ./static pipe
	done
	for option in 'unknown ./static sleeps' 'cpu_bound timeout -s KILL 0.6 ./static spin'; do
		# shellcheck disable=SC2086
		nobody ./gamer profile --json -- ${option#* } >"$WORK/out" 2>/dev/null || true
		grep -q "\"behaviour\":\"${option%% *}\"" "$WORK/out" || fail "not $option: $(cat "$WORK/out")"
	done
	caps=-all,+bpf,+perfmon
	nobody ./gamer profile --folded -- ./static pipe >"$WORK/out" 2>"$WORK/err" || fail "exit $?: $(cat "$WORK/err")"
	grep -q 'block_on_pipe' "$WORK/out" || fail "no stacks with CAP_BPF and CAP_PERFMON: $(cat "$WORK/out" "$WORK/err")"
}
# The names and numbers of system calls in a header, one a line
calls_of() { sed -n 's/^#define __NR_\([a-z0-9_]*\)[ \t]*\([0-9]*\)$/\2 \1/p' "$1" | sort -n; }
host_profile_table() { : "profile: every x86-64 system call of this machine's headers and of the newest kernel has its name and number"
	local system newest ours
	ours=$(sed -n 's/^S(\([0-9]*\), \([a-z0-9_]*\), [A-Z]*)$/\1 \2/p' "$BUILD/syscalls.h")
	system=$(calls_of /usr/include/x86_64-linux-gnu/asm/unistd_64.h)
	[ "$(wc -l <<<"$system")" -gt 300 ] || fail "no system calls in this machine's headers"
	[ -z "$(comm -13 <(sort <<<"$ours") <(sort <<<"$system"))" ] || fail "not in the table: $(comm -13 <(sort <<<"$ours") <(sort <<<"$system") | xargs)"
	newest=$(calls_of "$(headers call)/unistd_64.h")
	diff <(echo "$newest") <(echo "$ours") >"$BUILD/test-table.diff" || fail "differs from the newest kernel's: $(xargs <"$BUILD/test-table.diff")"
}
host_roles() { : "observing without the hooks of devices: who sends packets is network, who waits for frames is not; nine of ten sure roles are right"
	local line="ok" n
	observe --hooks=-gpu,-frame,-input,-readers,-audio
	for n in none hogs; do
		"$BENCH" --seconds 4 --json --no-uinput --no-drm --load $n >"$WORK/host_roles.$n.json" || fail "bench: exit $?"
	done
	stop
	group_roles host_roles "$WORK" >&2
	[ "$line" = ok ] || fail "$line"
}
# openmetrics FILE: does Prometheus' own parser take it? Says why not. It wants a time with each sample.
openmetrics() {
	local dir rc=0
	dir=$(mktemp -d)
	awk -v now="$(date +%s)" '/^#/ { print; next } { print $0, now }' "$1" >"$dir/metrics"
	"$(tool promtool)" tsdb create-blocks-from openmetrics "$dir/metrics" "$dir/blocks" >"$dir/said" 2>&1 || rc=1
	[ $rc = 0 ] || echo "${1##*/}: $(tail -n1 "$dir/said")"
	rm -rf "$dir"
	return $rc
}
host_metrics() { : "Prometheus' own parser accepts what status and --metrics-file say while a game runs, and after gamer's end"
	local promtool
	promtool=$(tool promtool)
	"$BENCH" --seconds 600 --no-uinput --no-drm --frame-work-us 200 >/dev/null 2>&1 &
	observe --game $! --metrics-file "$WORK/metrics"
	wait_for 25 grep -q '^gamer_wakeup_seconds_bucket' "$WORK/metrics" || # it is written every 10 s
		fail "the metrics file has no histogram while a game runs"
	cp "$WORK/metrics" "$WORK/collected"
	"$GAMER" status --metrics >"$WORK/asked"
	stop
	"$promtool" check metrics <"$WORK/collected" >"$WORK/said" 2>&1 || fail "exit $?: $(head -n1 "$WORK/said")"
	[ ! -s "$WORK/said" ] || fail "the metrics file: $(head -n1 "$WORK/said")"
	grep -qx 'gamer_up 1' "$WORK/collected" || fail "no gamer_up 1 while it works"
	[ "$(grep -v '^#' "$WORK/metrics")" = 'gamer_up 0' ] || fail "after its end the file says: $(grep -v '^#' "$WORK/metrics" | head -n2)"
	"$promtool" check metrics <"$WORK/metrics" >"$WORK/said" 2>&1 || fail "after its end: $(head -n1 "$WORK/said")"
	openmetrics "$WORK/asked" || exit
	grep -q '^gamer_wakeup_seconds_bucket' "$WORK/asked" || fail "no histogram in what status says"
}
host_install() { : "make install puts one file under DESTDIR and PREFIX"
	make -s -C "$ROOT" install DESTDIR="$WORK" PREFIX=/opt >/dev/null
	[ "$(cd "$WORK" && find . -type f)" = ./opt/bin/gamer ] || fail "installs: $(cd "$WORK" && find . -type f -exec echo {} +)"
	"$WORK/opt/bin/gamer" --version >/dev/null
	# as scx_loader would start it, with the flags of its modes
	make -s -C "$ROOT" install DESTDIR="$WORK" PREFIX=/usr SCX_LINK=1 >/dev/null
	for mode in performance powersave balanced; do exits 0 "$WORK/usr/bin/scx_gamer" -p $mode --help; done
}
host_packages() { : "make deb, sysext and pkgbuild: each is installed and removed and leaves nothing; makepkg's steps build the same program"
	[ "$(id -u)" = 0 ] || skip "needs root"
	have dpkg-deb || skip "no dpkg-deb"
	local srcdir pkgdir said
	git clone -q "$ROOT" "$WORK/clone"
	# The libraries are as they are; PKGBUILD's steps build them anew. All of one time: none is older than another.
	mkdir "$WORK/clone/build"
	cp -a "$BUILD/lib" "$WORK/clone/build/"
	find "$WORK/clone/build/lib" -exec touch -h -r "$WORK/clone/Makefile" {} +
	make -s -C "$WORK/clone" DISTDIR="$BUILD/archives" deb sysext pkgbuild >/dev/null 2>"$WORK/said" || fail "$(tail -n1 "$WORK/said")"
	mkdir -p "$WORK/root/var/lib/dpkg/info" "$WORK/root/var/lib/dpkg/updates"
	: >"$WORK/root/var/lib/dpkg/status"
	packaged() { dpkg --root="$WORK/root" --force-script-chrootless --log=/dev/null "$@" >"$WORK/said" 2>&1 || fail "dpkg $1: $(tail -n1 "$WORK/said")"; }
	packaged -i "$WORK"/clone/build/gamer_*.deb
	cmp "$WORK/root/usr/bin/gamer" "$WORK/clone/build/gamer" || fail "another program is installed"
	said=$(grep '^Exec' "$WORK/root/usr/lib/systemd/system/gamer.service" | grep -v '=-\?/usr/bin/gamer ') && fail "the unit starts another program: $said"
	zcat "$WORK/root/usr/share/man/man8/gamer.8.gz" | grep -q '^.TH' || fail "no manual page"
	packaged -P gamer
	[ ! -e "$WORK/root/usr/bin/gamer" ] && [ -z "$(find "$WORK/root" -name '*gamer*')" ] || fail "left: $(find "$WORK/root" -name '*gamer*' | head -n1)"
	(
		# shellcheck disable=SC1091
		cd "$WORK/clone/build/arch" && . ./PKGBUILD || exit
		# shellcheck disable=SC2154
		paste -d' ' <(printf '%s \n' "${sha256sums[@]}") <(printf '%s\n' "${source[@]}") | sha256sum -c --quiet || exit
		srcdir=$WORK/src pkgdir=$WORK/pkg
		mkdir "$srcdir" "$pkgdir"
		tar xf "${source[0]}" -C "$srcdir"
		# shellcheck disable=SC2154
		cp -- "${noextract[@]}" "$srcdir"
		cd "$srcdir" && build && package
	) >"$WORK/said" 2>&1 || fail "PKGBUILD: $(tail -n1 "$WORK/said")"
	cmp "$WORK/pkg/usr/bin/gamer" "$WORK/clone/build/gamer" || fail "PKGBUILD makes another program"
	have systemd-sysext && unshare -m true || skip "no systemd-sysext, or no mounts for it alone; the other packages are well"
	mkdir -p "$WORK/root/usr/lib" "$WORK/root/var/lib/extensions"
	printf '%s\n' ID=test VERSION_ID=1 >"$WORK/root/usr/lib/os-release"
	cp -a "$WORK/clone/build/sysext/gamer" "$WORK/root/var/lib/extensions/"
	# What it mounts comes to whoever shares its mounts, and it wants a /run to mount.
	unshare -m bash -ec 'mount --make-rshared /; mount -t tmpfs none /run
		systemd-sysext --root="$1" merge; "$1/usr/bin/gamer" --version
		systemd-sysext --root="$1" unmerge; [ ! -e "$1/usr/bin/gamer" ]' - "$WORK/root" >"$WORK/said" 2>&1 ||
		fail "systemd-sysext: $(tail -n1 "$WORK/said")"
}
host_dist() { : "make dist: the same bytes from clones in different folders, by users with other settings; checksums; libraries"
	local other
	[ "$(git -C "$ROOT" rev-parse --show-toplevel 2>/dev/null)" = "$ROOT" ] || skip "this is no git checkout"
	other=$WORK/not/the/same
	git clone -q "$ROOT" "$WORK/one"
	git clone -q "$ROOT" "$other"
	make -s -C "$WORK/one" dist >/dev/null
	(umask 077 && LC_ALL=C.UTF-8 TZ=Asia/Tokyo make -s -j3 -C "$other" dist >/dev/null)
	[ "$(ls -x "$other/build/dist")" = "$(ls -x "$WORK/one/build/dist")" ] || fail "other files: $(ls -x "$other/build/dist")"
	diff -r "$WORK/one/build/dist" "$other/build/dist" >"$WORK/diff" || fail "$(head -n1 "$WORK/diff")"
	(cd "$WORK/one/build/dist" && sha256sum --quiet -c SHA256SUMS) || fail "checksums do not hold"
	(cd "$WORK/one/build/archives" && sed -n 's/^.*, \(.*orig.*\)/\1/p' ../dist/LIBRARIES | sha256sum -c) >"$WORK/libraries" ||
		fail "$(cat "$WORK/libraries")"
	[ "$(grep -c OK "$WORK/libraries")" = 4 ] || fail "tells other libraries: $(cat "$WORK/one/build/dist/LIBRARIES")"
}
host_shell() { : "shellcheck finds nothing in the shell scripts"
	deps_or_die "$DEPS_TEST"
	shellcheck -S warning "$ROOT/test.sh"
	shellcheck -S warning -s busybox "$ROOT"/test/init "$ROOT"/test/*.sh 2>/dev/null ||
		shellcheck -S warning -s dash -e SC3043 "$ROOT"/test/init "$ROOT"/test/*.sh
}

# gamer.c without main(), and so without all that only commands use: of the libraries zlib does
FUZZ_FLAGS="-DGAMER_NO_MAIN -D_GNU_SOURCE -std=gnu11 -D__real_malloc=malloc -D__real_calloc=calloc
	-D__real_realloc=realloc -DBPF_PACKED=\"$BUILD/gamer.bpf.gz\"
	-I$ROOT -I$BUILD -I$BUILD/lib/include -I$BUILD/lib/zlib -I$BUILD/lib/libbpf/include/uapi"
# fuzz [SECONDS [TARGET...]]: gamer.c itself, its readers fed by libFuzzer one after the other for
# SECONDS in all; what is found is in build/fuzz, and seeds the next run of its target
fuzz() {
	local dir=$BUILD/fuzz seconds=${1:-60} clang target; mkdir -p "$dir"
	deps_or_die "$DEPS_TEST"
	for clang in clang-19 clang clang-14; do
		have $clang && [ -e "$($clang -print-resource-dir)/lib/linux/libclang_rt.fuzzer-x86_64.a" ] && break
	done
	make --no-print-directory -C "$ROOT" >&2
	$clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined $FUZZ_FLAGS -Wno-unused \
		-ffunction-sections -Wl,--gc-sections -o "$dir/fuzz" "$ROOT/test/fuzz.c" "$BUILD/lib/libz.a"
	shift $(($# > 0))
	[ $# != 0 ] || set -- $(sed -n 's/^\t{ "\([a-z]*\)", fuzz_.*/\1/p' "$ROOT/test/fuzz.c")
	for target; do
		mkdir -p "$dir/$target"
		! declare -F "seed_$target" >/dev/null || "seed_$target" "$dir/$target"
		(cd "$dir" && FUZZ_TARGET=$target ./fuzz -max_total_time=$((seconds / $#)) -max_len=65536 \
			-artifact_prefix="$target-" -print_final_stats=1 "$target" 2>&1) | tail -n 40
	done
}
seed_db() { # DIR
	# shellcheck disable=SC2059 # the bytes are the format
	for v in 1 2; do printf "$(sed 's/#.*//' "$ROOT/test/process.v$v.hex" | tr -d ' \t\n' | sed 's/../\\x&/g')" >"$1/v$v"; done
	"$GAMER" db import "$1/v2" --db "$1/v3"
}
seed_requests() { # DIR
	printf '\377{"cmd":"status"}\n{"cmd":"events","types":"input,game","tid":5,"pid":7}\n' >"$1/two"
}

seed_elf() { # DIR
	local m
	echo 'int NtSetInformationThread(void) { return 1; } int other(void) { return 2; }' >"$1.c"
	for m in 64 32; do gcc -m$m -shared -fPIC -nostdlib -Wl,--build-id -Wl,-z,noseparate-code -o "$1/$m" "$1.c"; done
	strip -o "$1/stripped" "$1/64"
}
seed_perfmap() { printf '%s\n' '7f0012340000 40 made at run time' '7f0012340040 80 LazyCompile:~x y.js:1' >"$1/map"; }

# sanitized: prints the path of a gamer with address and undefined behaviour sanitizers, libraries
# included, by gcc and glibc. In it GAMER_FAIL_ALLOC=N lets the N-th allocation fail.
sanitized() {
	local dir=$BUILD/sanitize flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined"
	make --no-print-directory -C "$ROOT" build/sanitize/gamer B=build/sanitize DISTDIR="${DISTDIR:-build/archives}" CC=gcc \
		OPT="-O1 -g -fno-omit-frame-pointer -DGAMER_FAIL_ALLOC $flags" \
		LDFLAGS="$flags -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc -Wl,--no-as-needed -lm" >&2
	echo "$dir/gamer"
}
# A leak check at the end would want system calls that gamer has closed by then.
export ASAN_OPTIONS=detect_leaks=0:exitcode=99:allocator_may_return_null=1 UBSAN_OPTIONS=exitcode=99

# The host tests of what gamer reads, writes and prints run once more with that binary, as san_NAME.
SANITIZED="options|check|top|events|trace|clients|files|names|db_(golden|truncated|hostile|places|full)|metrics|profile_(calls|stacks|threads|options|names)"

# analyze: clang's static analyzer and cppcheck over gamer.c; prints what they find
analyze() {
	local flags="-D_GNU_SOURCE -DBPF_PACKED=\"x\" -I$ROOT -I$BUILD" found
	deps_or_die "$DEPS_TEST"
	make --no-print-directory -C "$ROOT" >&2
	found=$(analyze_clang $flags 2>&1
		# these macros of libbpf hold it up
		cppcheck --std=c11 --enable=warning,portability,performance --quiet --suppress=missingIncludeSystem -D__x86_64__ \
			'-DLIBBPF_OPTS(t, n, ...)=struct t n = { __VA_ARGS__ }' \
			'-Dbpf_object__for_each_program(p, o)=while ((p = bpf_object__next_program(o, p)))' \
			$flags "$ROOT/gamer.c" 2>&1)
	[ -z "$found" ] || fail "$found"
}
analyze_clang() {
	local l=$BUILD/lib
	"$(clang_name)" --analyze --analyzer-output text -std=gnu11 "$@" -I"$l/include" -I"$l/libbpf/include/uapi" \
		-I"$l/elfutils/libelf" -I"$l/zlib" -idirafter "$l/uapi" "$ROOT/gamer.c"
}

# host_CHECK of test/wine.sh: on this machine's own kernel, which may lack sched_ext.
host_wine() ( # CHECK
	[ "$(id -u)" = 0 ] || skip "needs root"
	local can=$("$GAMER" check | grep '^hook wine')
	grep -q '^hook wine *available' <<<"$can" || skip "$can"
	wine_prepare
	set +e +o pipefail # as in a guest: each check says itself what must hold
	is() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
	watch() {
		"$GAMER" run --observe "$@" >"$WORK/gamer.log" 2>&1 &
		G=$!
		wait_for 10 eval '"$GAMER" status >/dev/null 2>&1' || fail "does not answer: $(tail -n1 "$WORK/gamer.log")"
	}
	WORK=$(mktemp -d) WINES=$CACHE/wine
	export RUNTIME_DIRECTORY=$WORK
	. "$ROOT/test/wine.sh"
	local rc=0
	("$1" && stop) || rc=$?
	rm -rf "$BUILD/test-wine/last"
	mv "$WORK" "$BUILD/test-wine/last"
	exit $rc
)

# ---------------------------------------------------------------------------
# 8  VM tests: the checks of test/guest.sh, one boot per kernel and group
# ---------------------------------------------------------------------------
# Each boot adds two judgements of its own: GROUP_log, GROUP_json.
GROUPS_VM="
	life --cpus 4,sockets=2,cores=1,threads=2
	load --cpus 4 --mem 2048 --steady --with bpftool
	know --cpus 4 --gpu --steady
	dev  --cpus 4 --gpu --modules uhid,hid-generic,snd-dummy,snd-aloop --with modetest
	tell --cpus 4 --gpu --with modetest
	fault --cpus 4
	fair --cpus 4 --with bpftool
	lab  --lab 7
	shapes --lab 7 --even --timeout 3600
	wine --cpus 4 --mem 2048 --with wine
	closed --cpus 2 --append isolcpus=1
	systemd --cpus 2 --init systemd --with systemd
	busybox --cpus 2 --init busybox --with openrc
"
GROUP_log="the kernel log has no warning, no stall, no oops"
GROUP_json="every JSON that was printed is one document, and makes sense"
# What a group brings about on purpose
declare -A WANTED_LOG=([fault]='sched_ext: ' [fair]='sched_ext: ')
BAD_LOG='WARNING:|BUG:|Oops|[^n]stall|blocked for more than|lockup|general protection|UBSAN|Kernel panic|refcount_t|sched_ext:.*error'

# A bug of kernels before 6.18: sched_ext queues a balance callback and then calls ops.dispatch, which lets go of
# the CPU's lock where it moves a task. Whoever takes that lock meanwhile, as move_queued_task() does, warns once.
# "sched_ext: defer queue_balance_callback() until after ops.dispatch" has ended that in 6.18.
OLD_LOG='WARNING: .* at kernel/sched/sched\.h:[0-9]+ move_queued_task\+'

# Half of what the guests' watchdogs allow
STILL_MS=2500
STOOD_STILL='this machine stood still for'
GUEST_DIED="the guest died"

# log_fault SERIES GROUP FILE...: the first line that a kernel's log must not have, and the next; nothing if there is none
log_fault() {
	local known=${WANTED_LOG[$2]:-^$}
	at_least "$1" 6.18 || known+="|$OLD_LOG"
	cat "${@:3}" 2>/dev/null | grep -vE "$known" | grep -m1 -A1 -E "$BAD_LOG" | paste -sd ' ' || true
}

# group SERIES GROUP CHECK...: boots once and adds to the results.
group() {
	local series=$1 group=$2 name=$1-$2 opts check line still rc=0 from=$SECONDS; shift 2
	local out=$BUILD/out/$name log=$BUILD/vm-$name.log said=$BUILD/vm-$name.out cmd
	cmd="guest.sh $(printf '%s\n' "$@" | grep -vx -e "${group}_log" -e "${group}_json" | xargs)"
	opts=$(awk -v g="$group" '$1 == g { $1 = ""; print }' <<<"$GROUPS_VM")
	rm -rf "$out" "$log.still"
	vm --kernel "$series" --timeout 900 $opts --log "$log" --out "$out" -- "$cmd" 2>"$said.err" | group_clock "$series" >"$said" || rc=$?
	took "$from" "$series/$group"
	for check; do
		line=
		case $check in
		*_log)
			line=$(log_fault "$series" "$group" "$log" "$out/dmesg")
			line=${line:+"not ok $check: $line"}
			still=$(cat "$log.still" 2>/dev/null || true)
			[ "${still:-0}" -le $STILL_MS ] || line=${line:+"$line; $STOOD_STILL $still ms"}
			# here CPUs go while the scheduler ends, in which these kernels may deadlock: see README's Limits
			[ "$group" != fault ] || [ $rc = 0 ] || line=${line:+"$line; $GUEST_DIED"} ;;
		*_json)
			[ ! -e "$out/dmesg" ] || line=$(find "$out" -name '*.json' -o -name '*.jsonl' | tr '\n' '\0' | xargs -0r python3 "$ROOT/test/judge.py" 2>&1) ||
				line="not ok $check: $line"
			for opts in "$out"/*.metrics; do
				[ ! -e "$opts" ] || line=$(openmetrics "$opts") || line="not ok $check: $line"
			done ;;
		*) line=$(grep -m1 -E "^(ok|not ok|skip) $check(:|\$)" "$said" ||
			echo "not ok $check: no answer; $(tail -n1 "$said.err")") ;;
		esac
		line=${line:-ok $check}
		group_roles "$check" "$out"
		result "${line/ $check/ $series\/$check}"
	done
}

# How long each check of a boot took, by the host's clock, which is also the lab's price. The first
# one has the time that the boot took.
group_clock() { # SERIES
	local line from=$SECONDS
	while IFS= read -r line; do
		printf '%s\n' "$line"
		case $line in ok\ * | not\ ok\ * | skip\ *)
			line=${line#not } line=${line#* }
			took "$from" "$1/${line%%:*}"
			from=$SECONDS ;;
		esac
	done
}
# What gamer took bench's threads for; how soon, for the screen. Sets the caller's $line.
group_roles() { # CHECK OUT
	local said
	compgen -G "$2/$1.*.json" >/dev/null || return 0
	if said=$(python3 "$ROOT/test/judge.py" --roles "$1" "$2/$1".*.json 2>&1); then
		printf '    %s\n' "$said"
	elif [ "${line#ok}" != "$line" ]; then
		line="not ok $1: $(tail -n1 <<<"$said")"
	fi
}

# ---------------------------------------------------------------------------
# 9  the runner
# ---------------------------------------------------------------------------
RESULTS=$BUILD/results
TIMES=$BUILD/times # seconds and name of each host test and boot
FIRST_TRIES=$BUILD/first-tries # what failed once and was tried again
USUAL="6.16 6.18 7.3"

# One line, for the count, and with its number for the screen: "ok NAME", "not ok NAME: why",
# "skip NAME: why". Boots give theirs at the same time.
result() (
	exec 9>>"$RESULTS"
	flock 9
	echo "$1" >&9
	n=$(wc -l <"$RESULTS")
	printf "[%${#TOTAL}d/%d] %s\n" "$n" "$TOTAL" "$1"
)
took() { echo "$((SECONDS - $1)) $2" >>"$TIMES"; } # SINCE NAME

# guard [--limit SECONDS] CMD...: and what CMD leaves running ends, and is a failure (test/guard.py)
guard() { python3 "$ROOT/test/guard.py" "$@"; }

# A test is a function, of the shell or of Python, whose first line says what holds: NAME TAB TEXT
described() {
	sed -n -e 's/^\([a-z]*_[a-z0-9_]*\)() { : "\(.*\)"$/\1\t\2/p' \
		-e '/^def host_/{N;s/^def \([a-z_]*\).*\n *"""\(.*\)"""$/\1\t\2/p}' "$@"
}
HOST_CHECKS="$ROOT/test.sh $ROOT/test/client.py $ROOT/test/db.py"
# all_tests SERIES...: and what Debian's kernels without sched_ext have to show
all_tests() {
	local series group
	described $HOST_CHECKS
	described $HOST_CHECKS | sed -nE "s/^host_($SANITIZED)/san_\\1/p"
	described "$ROOT/test/wine.sh" | grep ^wine_ | sed 's/^/host_/'
	[ $# = 0 ] || set -- "$@" $ADVISED
	for series; do
		for group in $(awk '{ print $1 }' <<<"$GROUPS_VM"); do
			# These are about the machinery, not about the kernel.
			case $series:$group in
			6.18:* | 6.1:fair | *-stock:fair) ;;
			6.1:* | *-stock:* | *:lab | *:shapes | *:wine | *:fault | *:fair | *:closed | *:systemd | *:busybox) continue ;;
			esac
			cat "$ROOT"/test/{guest,wine,deploy}.sh | described | grep "^${group}_" | sed "s|^|$series/|" |
				grep -v "^\(${ADVISED// /\\|}\)/fair_foreign" # which wants a second scheduler
			printf '%s\t%s\n' "$series/${group}_log" "$GROUP_log" "$series/${group}_json" "$GROUP_json"
		done
	done
}

host_run() { # NAME; san_NAME: the check host_NAME, with gamer under sanitizers
	local rc=0 log=$BUILD/test-$1.log gamer=$GAMER from=$SECONDS
	case $1 in san_*) gamer=$(sanitized 2>"$log") ;; esac
	GAMER=$gamer guard --limit 900 bash "$ROOT/test.sh" _host "host_${1#*_}" >"$log" 2>&1 || rc=$?
	took "$from" "$1"
	case $rc in
	0) result "ok $1" ;;
	200) result "skip $1: $(tail -n1 "$log")" ;;
	*) result "not ok $1: $(tail -n1 "$log")" ;;
	esac
}

# boots NAME...: a line per boot: its kernel, its group, the checks of it
boots() {
	printf '%s\n' "$@" | sed -n 's|^\([^/]*\)/\([a-z]*\)_\(.*\)|\1 \2 \2_\3|p' |
		awk '{ k = $1 " " $2; if (!(k in c)) order[++n] = k; c[k] = c[k] " " $3 }
			END { for (i = 1; i <= n; i++) print order[i] c[order[i]] }'
}

# A stall of this machine may cost an emulated guest a time limit. What failed where the host's
# clock rules is tried once more, alone, and both results are told. What repeats to the bit gets no
# second try, and the kernel's log only where the machine was seen to stall or the guest died: then its whole boot.
second_try() {
	local again
	{
		grep -E '^not ok (host_|san_|[0-9.]+(-stock)?/(life|load|know|dev|tell|wine|closed|systemd|busybox|fault|fair)_)' "$RESULTS" | grep -vE '_(log|json):'
		grep -E "^not ok [^:]*_log:.*($STOOD_STILL|$GUEST_DIED)" "$RESULTS"
	} >"$FIRST_TRIES" || [ -s "$FIRST_TRIES" ] || return 0
	sed -E 's/^not ok ([^:]*):.*/\1/; s/_log$/_.*/; s/.*/^(ok|not ok|skip) &(:|$)/' "$FIRST_TRIES" |
		grep -Ef - "$RESULTS" >"$RESULTS.again"
	grep -vxFf "$RESULTS.again" "$RESULTS" >"$RESULTS.rest" || true
	mv "$RESULTS.rest" "$RESULTS"
	echo "a second try of:"
	cat "$FIRST_TRIES"
	again=$(sed -E 's/^(ok|not ok|skip) ([^:]*).*/\2/' "$RESULTS.again")
	lanes $again | xargs -r -L 1 bash "$ROOT/test.sh" 7>&- || true
}

# lanes NAME...: a line for each piece of work: all host tests, since each looks at the whole
# machine and so they take turns, and every boot
lanes() {
	printf '%s\n' "$@" | grep -v / | xargs -r echo _hosts
	boots "$@" | sed 's/^/_group /'
}
hosts() { local t; for t; do host_run "$t"; done; }

# run_tests NAME...: the host tests, and beside them and after them the boots, two at a time.
run_tests() {
	local t started=$SECONDS passed failed skipped
	[ $# -gt 0 ] || die "no test of that name; see './test.sh list'"
	made WERROR=-Werror
	exec 7>"$BUILD/tests.lock"
	flock -n 7 || { note "waiting for the tests that already run here"; flock 7; }
	# Someone may build while the tests run.
	mkdir -p "$BUILD/tested"
	cp "$GAMER" "$BENCH" "$BUILD/tested/"
	export GAMER=$BUILD/tested/gamer BENCH=$BUILD/tested/gamer-bench
	rm -f "$RESULTS" "$FIRST_TRIES" "$TIMES"
	export TOTAL=$#
	helpers_build
	lanes "$@" | xargs -r -P 2 -L 1 bash "$ROOT/test.sh" 7>&- || true
	touch "$RESULTS"
	second_try
	for t; do
		grep -qE "^(ok|not ok|skip) $t(:|\$)" "$RESULTS" || result "not ok $t: no result"
	done
	passed=$(grep -c '^ok ' "$RESULTS" || true)
	failed=$(grep -c '^not ok ' "$RESULTS" || true)
	skipped=$(grep -c '^skip ' "$RESULTS" || true)
	note "took $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s; longest: $(sort -rn "$TIMES" |
		head -n 8 | awk '{ printf "%s%s %d s", sep, $2, $1; sep = ", " }')"
	[ ! -s "$FIRST_TRIES" ] || { echo; echo "failed at the first try:"; sed 's/^not ok /  /' "$FIRST_TRIES"; }
	[ "$failed" = 0 ] || { echo; echo "failed:"; grep '^not ok ' "$RESULTS" | sed 's/^not ok /  /'; }
	echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
	[ "$failed" = 0 ]
}
names() { cut -f1; }
# What the kernel decides: that gamer loads, attaches and leaves, what the verifier says, that each
# hook fires, that it schedules under load. Of the usual kernels 6.18 has every check, the others these.
KERNEL="life_(attach|check|profile|ended|irq|verifier)|load_(mixed|hotplug)"
KERNEL+="|dev_(gpu|flip|mouse|hidraw|audio|sched)|(life|load|dev)_(log|json)"
# What user space decides of Wine is a host test too.
HOSTS="wine_(class|named|again|next|replaced|early)\t"
usual_tests() { all_tests $USUAL | grep -P "^((host|san)_|6\.18/(?!$HOSTS)|[^/]*/fair_|[0-9.]+/($KERNEL)\t)"; }
tests_all() { deps_or_die "$DEPS $DEPS_TEST"; run_tests $(usual_tests | names); }
tests_host() { deps_or_die "$DEPS $DEPS_TEST"; run_tests $(all_tests | names); }
tests_matrix() { run_tests $(all_tests $SERIES | names | grep /); }
tests_list() { usual_tests | awk -F'\t' '{ printf "%-28s %s\n", $1, $2 }'; }
tests_only() { # PATTERN: of the usual kernels, or of any where the pattern names one
	[ $# = 1 ] || usage "only wants a PATTERN"
	local series=$USUAL
	case $1 in *6.12/*) series=$SERIES ;; */*) series=${SERIES/6.12 /} ;; esac # 6.12 takes long to build
	run_tests $(all_tests $series | names | grep -E -- "$1")
}

# ---------------------------------------------------------------------------
# 10  demo
# ---------------------------------------------------------------------------
DEMO="gamer-bench --compare 'gamer run 2>/dev/null' --seconds 8 --frame-work-us 2000 --load hogs --load-threads 8 --svg"
demo() {
	made
	if [ -e /sys/kernel/sched_ext ] && [ "$(id -u)" = 0 ]; then
		note "on this machine, $(nproc) CPUs"
		PATH=$BUILD:$PATH sh -c "$DEMO $BUILD/demo.svg"
	else
		note "this kernel has no sched_ext (or you are not root): in a VM, kernel 6.18, 4 CPUs; about 2 minutes"
		vm --lab 7 --out "$BUILD/out/demo" --timeout 1800 -- "$DEMO /out/demo.svg"
		cp "$BUILD/out/demo/demo.svg" "$BUILD/demo.svg"
	fi
	echo
	echo "frame times without and with gamer: build/demo.svg"
}

# ---------------------------------------------------------------------------
# 11  bench
# ---------------------------------------------------------------------------
# What each peer's program is called, the name that it attaches under, how it is started
PEERS="
	lavd         scx_lavd         lavd
	bpfland      scx_bpfland      bpfland
	cosmos       scx_cosmos       cosmos
	flash        scx_flash        flash
	p2dq         scx_p2dq         p2dq
	cake         scx_cake         cake
	pandemonium  scx_pandemonium  pandemonium
"
# bench_sched SCHED PEERSDIR: its line for the guest (see test/bench.sh) and, after one more
# tab, the program to pack; nothing if it is a peer that is not here.
bench_sched() {
	local sched=$1 label='' name=gamer program options=run path=$GAMER
	case $sched in *=gamer[:@]*) label=${sched%%=*} sched=${sched#*=} ;; esac
	case $sched in
	eevdf | fifo) printf '%s\t-\t-\t\n' "$sched"; return ;;
	fair) name=-fair options='run --backend fair --db=' ;;
	gamer) ;;
	gamer@*)
		path=$(realpath "${sched#*@}") label=${label:-$(basename "$sched")}
		[ ! -d "$path" ] || { make --no-print-directory -C "$path" >&2; path=$path/build/gamer; } ;;
	gamer:*) options="run ${sched#*:}" ;;
	*)
		read -r _ program name options < <(awk -v s="$sched" '$1 == s' <<<"$PEERS") || usage "bench: no scheduler '$sched'"
		path=$2/$program
		[ -x "$path" ] || path=$(command -v "$program") || return 0 ;;
	esac
	[ -x "$path" ] || die "bench: no program '$path'"
	label=${label:-${sched//[\/ ]/_}}
	printf '%s\t%s\t/bench/%s %s\t%s:/bench/%s\n' "$label" "$name" "$label" "$options" "$path" "$label"
}

# What the guest says as it goes on: a figure as "=FILE TEXT", in OUT at once, or a line to show
bench_hear() { # SEED OUT
	local line file
	while IFS= read -r line; do
		file=${line%% *}
		case $line in
		=*) mkdir -p "$(dirname "$2/$1/${file#=}")"; printf '%s\n' "${line#* }" >>"$2/$1/${file#=}" ;;
		*) note "seed $1: $line"; [ "${line#* under }" = "$line" ] || echo "$line" >"$2/$1.cell" ;;
		esac
	done
}
# One run. A guest that dies costs the cell that it died in, not the rest: it is tried again
# without that scheduler.
bench_seed() { # SEED OUT ENV VM-OPTIONS...
	local seed=$1 top=$2 out=$2/$1 scheds=$2/$1.scheds env=$3 with=() w rc cell; shift 3
	while read -r w; do [ -z "$w" ] || with+=(--with "$w"); done < <(cut -f4 "$top/scheds")
	cut -f1-3 "$top/scheds" >"$scheds"
	while :; do
		rc=0
		vm "$@" "${with[@]}" --with "$scheds:/bench/scheds" --out "$out" --log "$out.log" -- "$env bench.sh" |
			bench_hear "$seed" "$top" || rc=$?
		case $rc in 124 | 125) ;; *) return "$rc" ;; esac
		cell=$(sed 's/ under /./' "$out.cell" || true)
		case $cell in '' | *.eevdf) die "bench: seed $seed: the guest died, see $out.log" ;; esac
		echo "the guest died with it (kernel log: $out.log)" >"$out/$cell.failed"
		find "$out" -type f ! -name '*.failed' -delete
		sed -i "/^${cell#*.}\t/d" "$scheds"
	done
}

SHAPES_USAGE="usage: test.sh bench-shapes [--shapes S,...|all] [--as name,stranger,env] [--seeds S,...] [--cpus N]
	[--kernel SERIES] [--seconds N] [--loads -] [--quick] [--peers DIR] [--jobs N] [--out DIR] [--json FILE] [SCHED...]
Games and other work of many shapes (gamer-bench --shape list) under each scheduler, all of a seed in
one boot of the lab, --jobs of them at once; beside each figure its ratio to EEVDF's of that boot, and ! where
it misses the goals in test/compare.py. SCHED: eevdf, gamer, gamer:OPTIONS, gamer@BINARY (or a checkout), fair
(EEVDF with gamer's advice), fifo (EEVDF, the game under SCHED_FIFO: what is late there, no scheduler avoids), or
a peer (see PEERS) from --peers or PATH; none: eevdf, fifo, gamer. Of gamer: and gamer@ the column may have a
name: old=gamer@/tmp/gamer, blind='gamer:--hooks=-gpu,-input'.
--as: how gamer knows a shape's game (default: name,stranger). --loads -: nothing beside it. --quick:
CPUs that are not equally fast, for shares and waits in about half the time; frames per second mean little. The figures
of all seeds stay in FILE, or in build/bench-shapes/shapes.json."
bench_shapes() {
	local seeds=7 cpus=4 kernel=6.18 seconds=2 shapes=all as=name,stranger loads='' peers='' out=$BUILD/bench-shapes
	local jobs=1 json='' even=--even env known sched
	while case ${1:-} in -*) ;; *) false ;; esac do
		case $1 in
		--help | -h) echo "$SHAPES_USAGE"; return ;;
		--quick) even=''; shift; continue ;;
		esac
		[ $# -gt 1 ] || usage "bench-shapes: $1 wants a value"
		case $1 in
		--seeds | --cpus | --kernel | --seconds | --shapes | --as | --loads | --peers | --out | --jobs | --json) declare "${1#--}=$2" ;;
		*) usage "bench-shapes: unknown option '$1'"$'\n'"$SHAPES_USAGE" ;;
		esac
		shift 2
	done
	made
	mkdir -p "$out"
	rm -rf "$out"/[0-9]*
	cp "$GAMER" "$BENCH" "$out/"
	export GAMER=$out/gamer BENCH=$out/gamer-bench # someone may build while it runs
	known=$("$BENCH" --shape list | awk -v only=",$shapes," 'only == ",all," || index(only, "," $1 ",") { print $1 ":" $2 }' | xargs)
	[ -n "$known" ] || usage "bench-shapes: no shape '$shapes'; gamer-bench --shape list tells them"
	[ $# -gt 0 ] || set -- eevdf fifo gamer
	for sched; do bench_sched "$sched" "$peers"; done |
		awk -F'\t' 'seen[$1]++ { print "test.sh: bench: two schedulers named " $1 >"/dev/stderr"; exit 1 } 1' >"$out/scheds"
	# Busy CPUs share one: so a millisecond's work takes a millisecond of a CPU where all are busy.
	env="SHAPES='$known' AS='${as//,/ }' SECONDS_EACH=$seconds WORK='--iters-per-ms $((50000 / ${cpus%%,*}))"
	env+="$([ "$loads" != - ] || echo ' --load none')'"
	helpers_build
	xargs -P "$jobs" -I{} bash "$ROOT/test.sh" _seed {} "$out" "$env" --kernel "$kernel" --cpus "$cpus" --mem 2048 \
		--timeout 7200 $even --lab {} <<<"${seeds//,/$'\n'}" || note "some runs are missing"
	python3 "$ROOT/test/compare.py" "$out" --json "${json:-$out/shapes.json}"
}
# A build next to the game with nothing learned, while it is learned, and with what was learned
bench_learn() { # [SEEDS]
	local seed out=$BUILD/bench-learn
	made
	for seed in $(seq 7 $((6 + ${1:-3}))); do
		vm --lab "$seed" --timeout 1800 --out "$out/$seed" -- 'guest.sh learn_build' >"$out.said" || true
		sed "s/^#/seed $seed:/" "$out/$seed/learn"
		grep '^ok' "$out.said" >/dev/null || note "seed $seed: $(cat "$out.said")"
	done
}
# Where the same work runs with and without what the scheduler knows of SMT and caches
bench_parts() {
	local out=$BUILD/out/parts rc=0
	made
	rm -rf "$out"
	vm --lab 7 --cpus 8,sockets=2,cores=2,threads=2 --timeout 1800 --out "$out" -- \
		"guest.sh $(described "$ROOT/test/guest.sh" | grep ^part_ | names | xargs)" || rc=$?
	sed 's/^# //' "$out/worth"
	return $rc
}
# ns per run of each BPF program, here and (where fentry and a scheduler can attach) in the lab
bench_hooks() { # [SERIES]
	local series=${1:-6.18} goals="Goals, natively: who is outside the game costs at most 10 over an empty program; who is in it at most
45, without the clock (a program that only reads it, run right after gamer's)."
	made
	helpers_build
	echo "this machine, gamer run --observe"
	RUNTIME_DIRECTORY=$(mktemp -d) "$BUILD/test/cost" "$GAMER" run --observe || note "not here"
	for with in "run --observe" run; do
		printf '\nthe lab (kernel %s, one instruction is one ns), gamer %s\n' "$series" "$with"
		vm --kernel "$series" --lab 7 --timeout 900 -- "cost gamer $with"
	done
	printf '\n%s\n' "$goals"
}

# The fair back end on this machine, which needs no sched_ext; on a quiet one
bench_fair() { # [ROUNDS [SECONDS [SHAPE,...]]]
	made
	python3 "$ROOT/test/native.py" "$GAMER" "$BENCH" "${1:-5}" "${2:-5}" "${3:-desktop,uncapped,onethread,interactive5,crowd}"
	echo "Goals: late frames and sound dropouts at most 0.1 of eevdf's; 1 % low at least 1.4 times where eevdf's is below 45;"
	echo "uncapped at least 2 times eevdf's fps; desktop's load at least 0.95; no figure worse than eevdf's; gamer itself 0.2 % of a CPU."
}

# ---------------------------------------------------------------------------
# 12  deps, verbs
# ---------------------------------------------------------------------------
# PACKAGE:what of it is looked for (a program, or a file)
DEPS="make:make gcc:gcc binutils:readelf libc6-dev:/usr/include/stdio.h linux-libc-dev:/usr/include/linux/bpf.h
	musl-tools:musl-gcc cpio:cpio bzip2:bzip2 xz-utils:xz zstd:zstd python3:python3"
# What some host tests need besides; where there is no clang-19 the fuzzer's library brings its own
DEPS_TEST="tmux:tmux shellcheck:shellcheck cppcheck:cppcheck groff-base:groff strace:strace
	libclang-rt-19-dev:/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-x86_64.a"
DEPS_KERNEL="flex:flex bison:bison bc:bc perl:perl libelf-dev:/usr/include/libelf.h zlib1g-dev:/usr/include/zlib.h"
deps_missing() { # DEPS
	local one
	for one in $1; do [ -e "${one#*:}" ] || have "${one#*:}" || echo "${one%%:*}"; done
	have clang-19 || { have clang && at_least "$(clang -dumpversion)" 19; } || echo clang
}
deps() {
	local missing table=${1:-$DEPS $DEPS_TEST}
	missing=$(deps_missing "$table" | xargs)
	if [ -z "$missing" ]; then note "nothing is missing"; return; fi
	if [ "$(id -u)" != 0 ]; then
		note "missing: $missing"
		die "as root: apt-get install --no-install-recommends $missing"
	fi
	# A newer clang where the release has one.
	apt-get update -qq >&2 || true
	[ -z "$(apt-cache pkgnames clang-19)" ] || missing=$(sed 's/\bclang\b/clang-19/' <<<"$missing")
	note "installing: $missing"
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >&2 || die "apt-get failed"
}
made() { deps_or_die; make --no-print-directory -C "$ROOT" "$@" >&2; } # gamer, as it is here
deps_or_die() { [ -z "$(deps_missing "${1:-$DEPS}")" ] || deps "${1:-$DEPS}"; }

# verb, function, what it does
VERBS="
	all        tests_all      every test: host, then kernels $USUAL (also without a verb)
	host       tests_host     the tests that need no VM
	only       tests_only     PATTERN: the tests whose name matches; 6.19/life picks a kernel
	matrix     tests_matrix   the kernel tests on every series
	list       tests_list     every test and what it holds gamer to
	vm         vm             [options] -- CMD: runs CMD in a guest; vm --help
	bench-shapes bench_shapes [options] [SCHED...]: games and work of many shapes in the lab; bench-shapes --help
	bench-hooks bench_hooks   [SERIES]: ns per run of each BPF program, beside an empty one
	bench-fair bench_fair     [ROUNDS [SECONDS [SHAPE,...]]]: this machine's scheduler, the same with gamer's advice, SCHED_FIFO
	bench-parts bench_parts whether SMT and caches are known: where the same work runs with and without that
	bench-learn bench_learn   [SEEDS]: a build next to the game, before and after it was learned
	demo       demo           gamer next to the kernel's own scheduler
	analyze    analyze        clang's static analyzer and cppcheck over gamer.c
	fuzz       fuzz           [SECONDS [TARGET...]]: fuzzes the readers of what others write; corpora in build/fuzz
	deps       deps           installs what make and make test need (as root), else names what is missing
	tool       tool           NAME: path of a usable bpftool, QEMU, busybox or mingw
	fetch-src  src_fetch      DIR NAME=VERSION...: upstream source archives
	_host      host_one
	_hosts     hosts
	_group     group
	_seed      bench_seed
"
host_one() {
	WORK=$(mktemp -d)
	export RUNTIME_DIRECTORY=$WORK
	trap host_end EXIT
	case $1 in host_profile_*) BIN=$(profiled) ;; esac
	case $1 in
	host_wine_*) locked host-wine host_wine "${1#host_}" ;;
	*) if declare -F "$1" >/dev/null; then "$1"; else python3 "$(grep -l "^def $1(" "$ROOT"/test/*.py)" "$1" "$GAMER"; fi ;;
	esac
	[ -z "${G:-}" ] || ended $G || stop
}
host_end() {
	[ -z "${TMUX_SOCKET:-}" ] || tmux -L "$TMUX_SOCKET" kill-server 2>/dev/null || true
	kill $(jobs -p) 2>/dev/null || true
}
# verb_lines [VERB]: the table for a person; a verb's arguments stand before its colon
verb_lines() {
	awk -v v="${1:-}" 'NF > 2 && (v == "" || $1 == v)' <<<"$VERBS" | sed 's/^\t//; s/^\([a-z-]*  *\)[a-z_]*  */  \1/'
}

verb=${1:-all}
[ $# = 0 ] || shift
read -r _ function takes < <(awk -v v="$verb" '$1 == v' <<<"$VERBS") || true
case $verb:${1:-} in
-h: | --help: | help:*) echo "usage: test.sh [VERB]"; verb_lines; exit ;;
vm:* | bench-shapes:*) ;;
*:-h | *:--help) [ -z "${takes:-}" ] || { verb_lines "$verb" | sed 's/^ */usage: test.sh /; s/   */  /'; exit; } ;;
*) case ${takes:-} in [a-z]*) [ $# = 0 ] || usage "$verb takes no arguments" ;; esac ;;
esac
# Whatever ends these verbs, Ctrl-C for one, also ends the guests and watchers that they started.
case $verb in all | host | only | matrix | vm | bench* | demo | fuzz)
	[ -n "${GUARDED:-}" ] || { have python3 || deps_or_die; GUARDED=1 exec python3 "$ROOT/test/guard.py" bash "$ROOT/test.sh" "$verb" "$@"; } ;;
esac
if [ -z "${function:-}" ]; then
	note "test.sh: no verb '$verb'"
	note "usage: test.sh [VERB]"
	verb_lines >&2
	exit 64
fi
"$function" "$@"; exit # bash reads on in this file as it goes, and someone may have edited it
