# gamer's build: four pinned libraries as static archives, the BPF object with its
# skeleton, one static musl binary, and the bench beside it. Everything that is made lands in build/.
#
#   1. what can be set on the command line
#   2. the libraries: name, version, SHA-256
#   3. library objects (compiled from the archives as they are)
#   4. BPF object, packed, and skeleton
#   5. the binaries
#   6. install, dist, packages, clean, and the aliases for test.sh
#
# Start reading at 5.

# --- 1. settings -----------------------------------------------------------------------
PREFIX  ?= /usr/local
DESTDIR ?=
# 1: install also makes the link scx_gamer, the name by which scx_loader would start it.
SCX_LINK ?=
# A folder that already holds the four archives (offline, or not on Debian).
DISTDIR ?=
CC      := musl-gcc
CLANG   ?= $(shell for c in clang-19 clang; do command -v $$c && exit; done; echo clang)
OPT     ?= -Os
# Errors for whoever tests gamer; a newer compiler's warnings stop nobody who only builds it.
WERROR  ?= $(if $(CI),-Werror)
VERSION := 0.1.0
DATE    := 2026-11-21

B := build
L := $(B)/lib
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2);)

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all demo test install stage dist deb sysext pkgbuild clean
# Bytes depend on neither the language of who builds nor the folder.
export LC_ALL := C
HERE := -ffile-prefix-map=$(CURDIR)=.
all: $(B)/gamer $(B)/gamer-bench

# --- 2. libraries ----------------------------------------------------------------------
# The upstream archives as Debian's source packages carry them.
ZLIB_VERSION := 1.3.1
ZLIB_ARCHIVE := zlib_1.3.dfsg+really$(ZLIB_VERSION).orig.tar.gz
ZLIB_SHA256  := 60dd315c07f616887caa029408308a018ace66e3d142726a97db164b3b8f69fb
ELF_VERSION  := 0.192
ELF_ARCHIVE  := elfutils_$(ELF_VERSION).orig.tar.bz2
ELF_SHA256   := 616099beae24aba11f9b63d86ca6cc8d566d968b802391334c91df54eab416b4
BPF_VERSION  := 1.5.0
BPF_ARCHIVE  := libbpf_$(BPF_VERSION).orig.tar.gz
BPF_SHA256   := 53492aff6dd47e4da04ef5e672d753b9743848bdb38e9d90eafbe190b7983c44
IBERTY_VERSION := 20250315
IBERTY_ARCHIVE := libiberty_$(IBERTY_VERSION).orig.tar.xz
IBERTY_SHA256  := 5b510b5e0918dcb00a748900103365a00411855f202089ff81dc5ef99d8beeaa
# What test.sh asks the package archive for: source package = Debian version.
SOURCES := zlib=1:1.3.dfsg+really$(ZLIB_VERSION)-1 elfutils=$(ELF_VERSION)-4 libbpf=$(BPF_VERSION)-3 \
	libiberty=$(IBERTY_VERSION)-1
ARCHIVES := $(ZLIB_ARCHIVE) $(ELF_ARCHIVE) $(BPF_ARCHIVE) $(IBERTY_ARCHIVE)

# What is linked in, as gamer --version tells it. musl is the build machine's own.
LIBC = $(shell echo 'int main(){}' | $(CC) -static -Wl,--trace -xc - -o /dev/null | grep -o '/[^()]*/libc\.a' | head -n1)
$(B)/release.h: Makefile
	$(Q)mkdir -p $(@D); libc=$(LIBC); { \
	printf '#define GAMER_%s\n' 'VERSION "$(VERSION)"' 'DATE "$(DATE)"' 'LIBRARIES \'; \
	printf '\t"%s %s, %s, %s  %s\\n" \\\n' \
	libbpf $(BPF_VERSION) 'LGPL-2.1-only OR BSD-2-Clause' $(BPF_SHA256) '$(BPF_ARCHIVE)' \
	'libelf of elfutils' $(ELF_VERSION) 'LGPL-3.0-or-later OR GPL-2.0-or-later' $(ELF_SHA256) '$(ELF_ARCHIVE)' \
	'demangler of libiberty' $(IBERTY_VERSION) 'LGPL-2.0-or-later AND GPL-2.0-or-later WITH GCC-exception-2.0' \
	$(IBERTY_SHA256) '$(IBERTY_ARCHIVE)' \
	zlib $(ZLIB_VERSION) Zlib $(ZLIB_SHA256) '$(ZLIB_ARCHIVE)' \
	musl "$$($(AR) p $$libc version.lo | grep -ao '[0-9][0-9.]*[0-9]' | head -n1)" MIT \
	"$$(sha256sum <$$libc | cut -d' ' -f1)" libc.a; echo; } >$@

# One unpacked tree per library: checked against its hash, then stamped.
define unpack
$(L)/$(1)/.unpacked: Makefile
	$$(call say,UNPACK,$(1))set -e; \
	dir='$$(DISTDIR)'; \
	if [ -z "$$$$dir" ]; then \
		dir=$(B)/archives; \
		[ -f "$$$$dir/$(2)" ] || ./test.sh fetch-src "$$$$dir" '$(4)' >&2; \
	fi; \
	[ -f "$$$$dir/$(2)" ] || { echo "gamer: $$$$dir/$(2) is missing" >&2; exit 1; }; \
	echo "$(3)  $$$$dir/$(2)" | sha256sum --check --quiet >&2 || \
		{ echo "gamer: $$$$dir/$(2) is not the pinned archive" >&2; exit 1; }; \
	rm -rf $(L)/$(1); mkdir -p $(L)/$(1)/o; \
	tar xf "$$$$dir/$(2)" -C $(L)/$(1) --strip-components=1; \
	touch $$@
endef
$(eval $(call unpack,zlib,$(ZLIB_ARCHIVE),$(ZLIB_SHA256),$(word 1,$(SOURCES))))
$(eval $(call unpack,elfutils,$(ELF_ARCHIVE),$(ELF_SHA256),$(word 2,$(SOURCES))))
$(eval $(call unpack,libbpf,$(BPF_ARCHIVE),$(BPF_SHA256),$(word 3,$(SOURCES))))
$(eval $(call unpack,libiberty,$(IBERTY_ARCHIVE),$(IBERTY_SHA256),$(word 4,$(SOURCES))))

# --- 3. library objects ----------------------------------------------------------------
# musl-gcc sees no kernel headers; these links show it just the kernel's.
$(L)/uapi/.made:
	$(Q)set -e; rm -rf $(@D); mkdir -p $(@D); arch=$$(gcc -print-multiarch); \
	for d in linux asm-generic drm; do ln -s /usr/include/$$d $(@D)/$$d; done; \
	if [ -d /usr/include/$$arch/asm ]; then ln -s /usr/include/$$arch/asm $(@D)/asm; \
	else ln -s /usr/include/asm $(@D)/asm; fi; touch $@

# x86-64's system calls, as S(number, name, category): what the kernel's header has, and what newer
# kernels add, each row with the number of its first name. `make` says where the header is too old.
# The first category with a pattern that fits the name is the call's; FILE where none fits.
CALL_CATEGORIES := \
	'READY poll|ppoll|.*select.*|epoll_.*wait.*' \
	'IPC pipe.*|shm.*|sem.*|msg.*|mq_.*|.*pmsg|eventfd.*|futex.*' \
	'SIGNAL rt_.*|sig.*|.*kill|.*_signal|pause|restart_syscall' \
	'TIME clock_.*|timer.*|.*itimer|.*timeofday|time|alarm|nanosleep|adjtimex' \
	'NETWORK socket.*|accept.*|connect|bind|listen|shutdown|recv.*|sendto|send.*msg|.*sockname' \
	'NETWORK getpeername|.*sockopt' \
	'MEMORY mmap|munmap|mremap|mprotect|msync|mincore|mseal|brk|mlock.*|munlock.*|.*madvise' \
	'MEMORY .*mempolicy.*|mbind|migrate_pages|move_pages|remap_file_pages|swap.*|memfd_.*|process_vm.*' \
	'MEMORY process_mrelease|pkey_.*|membarrier|userfaultfd|modify_ldt|cachestat|map_shadow_stack' \
	'PROCESS sched_.*|.*clone.*|.*fork|exec.*|exit.*|wait4|waitid|.*pid|.*pgid|.*pgrp|getsid|setsid' \
	'PROCESS gettid|pidfd_.*|.*rlimit.*|.*rusage|times|ptrace|personality|.*priority|.*prctl|acct' \
	'PROCESS set_tid_address|.*thread_area|ioprio_.*|.*robust_list|unshare|setns|getcpu|kcmp|rseq.*' \
	'SECURITY .*uid|.*gid|.*groups|capget|capset|umask|.*key.*|seccomp|security|landlock_.*|lsm_.*' \
	'SECURITY getrandom' \
	'OTHER uname|.*sys.*|uselib|ustat|vhangup|reboot|sethostname|setdomainname|iopl|ioperm|.*module.*' \
	'OTHER get_kernel_syms|quotactl.*|nfsservctl|tuxcall|lookup_dcookie|vserver|kexec_.*|perf_.*|bpf' \
	'OTHER .*probe'
NEWER_CALLS := "335 uretprobe uprobe" \
	"451 cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount" \
	"459 lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat" \
	"466 removexattrat open_tree_attr file_getattr file_setattr listns rseq_slice_yield"
$(B)/syscalls.h: Makefile $(L)/uapi/.made
	$(Q){ sed -n 's/^#define __NR_\([a-z0-9_]*\)[ \t]*\([0-9]*\)$$/\2 \1/p' $(L)/uapi/asm/unistd_64.h; \
	printf '%s\n' $(NEWER_CALLS) $(CALL_CATEGORIES); } | \
	awk '/^[A-Z]/ { category[++rows] = $$1; pattern[rows] = "^(" $$2 ")$$"; next } \
	{ for (i = 2; i <= NF; i++) name[$$1 + i - 2] = $$i } \
	END { if (!(450 in name)) exit 1; for (n = 0; n < 512; n++) if (n in name) { \
	for (i = 1; i <= rows && name[n] !~ pattern[i]; i++); \
	printf "S(%d, %s, %s)\n", n, name[n], i <= rows ? category[i] : "FILE" } }' \
	>$@ || { echo "gamer: the kernel's headers (linux-libc-dev) are older than 6.1" >&2; exit 1; }

LIBCFLAGS := $(OPT) $(HERE) -w -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -idirafter $(L)/uapi

# $(1) name, $(2) sources relative to the tree, $(3) flags, $(4) trees whose headers it needs
define library
$(1)_SRC := $(2)
$(L)/lib$(1).a: $(L)/$(4)/.unpacked $(L)/uapi/.made $(5)
	$$(call say,LIB,$$@)set -e; cd $(L)/$(4); rm -f o/*.o; \
	for f in $(2); do printf '%s\n' $$$$f; done | \
	xargs -P $$$$(nproc) -I {} sh -c '$(CC) $(subst $(L),..,$(LIBCFLAGS)) $(3) -c {} -o o/$$$$(basename {} .c).o'; \
	rm -f ../lib$(1).a; $(AR) rcsD ../lib$(1).a o/*.o
endef
# What packs is for libelf, and is linked where nothing drops it; what reads files is left out (NO_GZ).
ZLIB_SRC := $(addsuffix .c,adler32 crc32 deflate inffast inflate inftrees trees zutil)
$(eval $(call library,z,$(ZLIB_SRC),-DHAVE_UNISTD_H -D_LARGEFILE64_SOURCE=1,zlib))
$(eval $(call library,elf,libelf/*.c lib/next_prime.c lib/crc32.c lib/eu-search.c,\
	-std=gnu11 -D_GNU_SOURCE -DHAVE_CONFIG_H -I. -Ilib -Ilibelf -I../zlib,elfutils,\
	$(L)/elfutils/config.h $(L)/zlib/.unpacked))
$(eval $(call library,bpf,src/*.c,-std=gnu89 -D_GNU_SOURCE -D_LARGEFILE64_SOURCE \
	-D_FILE_OFFSET_BITS=64 -Iinclude -Iinclude/uapi -I../elfutils/libelf -I../zlib,libbpf,\
	$(L)/elfutils/.unpacked $(L)/zlib/.unpacked))
# Names of C++ and Rust, for `gamer profile`.
$(eval $(call library,iberty,$(addprefix libiberty/,cp-demangle.c rust-demangle.c safe-ctype.c),\
	-Iinclude -DHAVE_STDLIB_H -DHAVE_STRING_H -DHAVE_LIMITS_H,libiberty))

# What elfutils' configure would have found with musl.
$(L)/elfutils/config.h: $(L)/elfutils/.unpacked
	$(Q)printf '#define %s\n' 'HAVE_ERR_H 1' 'HAVE_DECL_MMAP 1' 'HAVE_DECL_MEMPCPY 0' \
	'HAVE_DECL_MEMRCHR 1' 'HAVE_DECL_POWEROF2 0' 'HAVE_DECL_RAWMEMCHR 0' \
	'HAVE_DECL_REALLOCARRAY 1' 'HAVE_GCC_STRUCT 1' 'HAVE_VISIBILITY 1' \
	'HAVE_FALLTHROUGH 1' 'SIZEOF_LONG 8' 'PACKAGE_NAME "elfutils"' \
	'PACKAGE_VERSION "$(ELF_VERSION)"' >$@; echo '#include <eu-config.h>' >>$@

# libbpf's headers under the name that programs include them by.
$(L)/include/bpf: $(L)/libbpf/.unpacked
	$(Q)mkdir -p $(@D); ln -sfn ../libbpf/src $@

# --- 4. BPF ----------------------------------------------------------------------------
# bpftool before 7.5 skips .struct_ops.link maps without a word, so test.sh refuses it.
BPFTOOL ?= $(shell ./test.sh tool bpftool)
BPFFLAGS := $(HERE) --target=bpf -mcpu=v3 -O2 -g -Wall -Wextra $(WERROR) -Wno-unused-parameter \
	-fms-extensions -Wno-microsoft-anon-tag -Wno-missing-declarations \
	-D__TARGET_ARCH_x86 -I. -I$(L)/include

$(B)/gamer.bpf.o: gamer.bpf.c vmlinux.h | $(L)/include/bpf
	$(call say,BPF,$@)$(CLANG) $(BPFFLAGS) -c $< -o $@

# Where memory for its tables is missing, it must not walk through them.
$(B)/gamer.skel.h: $(B)/gamer.bpf.o
	$(call say,SKEL,$@)tool="$(BPFTOOL)"; [ -n "$$tool" ] && \
	$$tool gen object $(B)/gamer.linked.o $< && \
	$$tool gen skeleton $(B)/gamer.linked.o name gamer_bpf >$@ && \
	sed -i -e '/s->data = gamer_bpf__elf_bytes/d' \
		-e 's/if (!s->\(map\|prog\)s) {/& s->\1_cnt = 0;/' $@

# The object itself: gamer.c includes it packed, and not as the skeleton's text.
$(B)/gamer.bpf.gz: $(B)/gamer.skel.h
	$(call say,GZIP,$@)gzip -9nc $(B)/gamer.linked.o >$@

# --- 5. the binaries -------------------------------------------------------------------
CFLAGS := $(OPT) $(HERE) -std=gnu11 -Wall -Wextra $(WERROR) -fno-strict-aliasing \
	-ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables
CPPFLAGS := -D_GNU_SOURCE -DBPF_PACKED='"$(B)/gamer.bpf.gz"' \
	-I. -I$(B) -I$(L)/include -I$(L)/libbpf/include/uapi -I$(L)/elfutils/libelf -I$(L)/zlib \
	-idirafter $(L)/uapi
# malloc and its family are wrapped to count what is allocated after attach.
LDFLAGS := -static -s -Wl,--gc-sections -Wl,--build-id=none \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
# libbpf reads the kernel's configuration by these for an object that asks for it, which gamer's does not: they
# are never called, and zlib's own would bring its compressor along, 24 KB.
NO_GZ := $(foreach f,gzopen gzopen64 gzgets gzclose,-Wl,--defsym=$(f)=inflateEnd)

$(B)/gamer: gamer.c gamer.bpf.c $(B)/gamer.skel.h $(B)/gamer.bpf.gz $(B)/release.h $(B)/syscalls.h \
	$(L)/libbpf.a $(L)/libelf.a $(L)/libz.a $(L)/libiberty.a
	$(call say,CC,$@)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(NO_GZ) -o $@ $< \
	$(L)/libbpf.a $(L)/libelf.a $(L)/libz.a $(L)/libiberty.a

# A program of its own, which needs neither gamer nor its libraries.
$(B)/gamer-bench: test/bench.c test/bpf.h test/helper.h gamer.bpf.c $(L)/uapi/.made
	$(call say,CC,$@)$(CC) $(CFLAGS) -Wno-missing-field-initializers -pthread -idirafter $(L)/uapi \
	-static -s -Wl,--gc-sections -Wl,--build-id=none -o $@ $<

# --- 6. the rest -----------------------------------------------------------------------
install: $(B)/gamer
	$(Q)install -D -m 755 $< $(DESTDIR)$(PREFIX)/bin/gamer
	$(if $(SCX_LINK),$(Q)ln -sf gamer $(DESTDIR)$(PREFIX)/bin/scx_gamer)

# What is handed on: the binaries, what is linked into gamer, and the checksums of all.
dist: $(B)/gamer $(B)/gamer-bench
	$(call say,DIST,$(B)/dist)set -e; rm -rf $(B)/dist; mkdir $(B)/dist; cd $(B)/dist; \
	cp ../gamer ../gamer-bench .; ./gamer --version >LIBRARIES; sha256sum gamer gamer-bench LIBRARIES >SHA256SUMS

# What a package holds: the program, and what it prints about itself.
STAGE ?= $(B)/stage
stage: $(B)/gamer
	$(Q)set -e; rm -rf '$(STAGE)/usr'; $(MAKE) -s install PREFIX=/usr DESTDIR='$(STAGE)'; cd '$(STAGE)/usr'; \
	put() { mkdir -p "$${1%/*}"; cat >"$$1"; chmod 644 "$$1"; }; \
	bin/gamer man | gzip -9nc | put share/man/man8/gamer.8.gz; \
	bin/gamer completions bash | put share/bash-completion/completions/gamer; \
	bin/gamer completions zsh | put share/zsh/site-functions/_gamer; \
	bin/gamer completions fish | put share/fish/vendor_completions.d/gamer.fish; \
	$(abspath $(B)/gamer) unit | sed 's|$(abspath $(B)/gamer)|/usr/bin/gamer|' | put lib/systemd/system/gamer.service; \
	find . -type d -exec chmod 755 {} +; find . -exec touch -hd $(DATE)T00:00Z {} +

# For Debian and what comes from it. The service ends with the package.
deb: stage
	$(call say,DEB,$(B)/gamer_$(VERSION)_amd64.deb)set -e; d=$(B)/stage; rm -rf $$d/DEBIAN; mkdir -m 755 $$d/DEBIAN; \
	printf '%s\n' 'Package: gamer' 'Version: $(VERSION)' 'Architecture: amd64' 'Section: utils' 'Priority: optional' \
	'Maintainer: gamer <root@localhost>' "Installed-Size: $$(du -sk $$d/usr | cut -f1)" \
	'Description: scheduler for gaming machines (sched_ext)' >$$d/DEBIAN/control; \
	printf '%s\n' '#!/bin/sh' 'set -e' '# not while another system is being built' \
	'if [ "$$1" = remove ] && [ -z "$$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then' \
	'	systemctl disable --now gamer.service || true' 'fi' >$$d/DEBIAN/prerm; \
	chmod 644 $$d/DEBIAN/control; chmod 755 $$d/DEBIAN/prerm; \
	SOURCE_DATE_EPOCH=$$(date -d $(DATE)T00:00Z +%s) dpkg-deb --root-owner-group -Zxz -b $$d $(B)/gamer_$(VERSION)_amd64.deb >/dev/null; \
	rm -r $$d/DEBIAN

# For systems whose /usr is not to be written: a folder for /var/lib/extensions, and an image where squashfs can be made.
sysext: stage
	$(call say,SYSEXT,$(B)/sysext/gamer)set -e; d=$(B)/sysext/gamer; rm -rf $(B)/sysext; mkdir -p $$d; cp -a $(B)/stage/usr $$d; \
	mkdir -p $$d/usr/lib/extension-release.d; \
	printf '%s\n' ID=_any ARCHITECTURE=x86-64 >$$d/usr/lib/extension-release.d/extension-release.gamer; \
	if command -v mksquashfs >/dev/null; then mksquashfs $$d $$d.raw -all-root -noappend -quiet -no-progress; \
	else echo 'gamer: no mksquashfs (squashfs-tools): the folder alone' >&2; fi

# For Arch: makepkg in this folder builds from what lies beside it.
pkgbuild: $(foreach l,zlib elfutils libbpf libiberty,$(L)/$(l)/.unpacked)
	$(call say,ARCH,$(B)/arch)set -e; rm -rf $(B)/arch; mkdir -p $(B)/arch; \
	dir='$(DISTDIR)'; for a in $(ARCHIVES); do cp "$${dir:-$(B)/archives}/$$a" $(B)/arch/; done; \
	git archive --prefix=gamer-$(VERSION)/ -o $(B)/arch/gamer-$(VERSION).tar.gz HEAD; cd $(B)/arch; \
	printf '%s\n' 'pkgname=gamer' 'pkgver=$(VERSION)' 'pkgrel=1' "pkgdesc='scheduler for gaming machines (sched_ext)'" \
	'arch=(x86_64)' 'license=(GPL-2.0-only)' 'makedepends=(bpf clang musl linux-api-headers)' 'options=(!strip !debug)' \
	'source=(gamer-$(VERSION).tar.gz $(ARCHIVES))' 'noextract=($(ARCHIVES))' \
	"sha256sums=($$(sha256sum gamer-$(VERSION).tar.gz | cut -d' ' -f1) $(ZLIB_SHA256) $(ELF_SHA256) $(BPF_SHA256) $(IBERTY_SHA256))" \
	'build() { make -C gamer-$(VERSION) DISTDIR="$$srcdir"; }' \
	'package() { make -C gamer-$(VERSION) DISTDIR="$$srcdir" STAGE="$$pkgdir" stage; }' >PKGBUILD

clean:
	$(Q)rm -rf $(B)

demo test:
	$(Q)./test.sh $(filter demo,$@)
