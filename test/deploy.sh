# shellcheck shell=dash disable=SC2154 # guest.sh sets SCX
# deploy.sh: machines that gamer is put on. /init sources it to become another PID 1, guest.sh
# for the checks that run then; it brings fail, is, wait_for, attached, state_is, tasks_run.
#
#   1  roots: what PID 1 finds
#   2  systemd: an image like SteamOS, the unit, scx.service's way
#   3  busybox: inittab, OpenRC, a kiosk's script, an initramfs with nothing but the binary

# ---------------------------------------------------------------------------
# 1  roots: what PID 1 finds
# ---------------------------------------------------------------------------
# An image: nothing can be written but these, and all of them but /etc, /opt, /var is new at each boot.
image() {
	local d
	for d in etc opt var out; do
		mkdir -p "/$d" "/tmp/$d"
		cp -a "/$d/." "/tmp/$d"
		mount -t tmpfs none "/$d"
		cp -a "/tmp/$d/." "/$d"
		rm -rf "/tmp/$d"
	done
	mkdir -p /usr/local/bin /usr/sbin /home/player
	ln -s usr/sbin /sbin
	cp /bin/gamer /usr/bin/ # where systemd's PATH finds it
	cp /bin/gamer-bench /home/player/game
	chown -R 1000:1000 /home/player
	chmod -R 700 /home/player
	mount -o remount,ro /
}
become_systemd() {
	image
	mkdir -p /etc/systemd/system/multi-user.target.wants
	echo 00000000000000000000000000000001 >/etc/machine-id
	printf '[Service]\nExecStart=/init cmd\n' >/etc/systemd/system/cmd.service
	ln -s ../cmd.service /etc/systemd/system/multi-user.target.wants/
	ln -s /usr/lib/systemd/system/multi-user.target /etc/systemd/system/default.target
	exec /usr/lib/systemd/systemd
}
become_busybox() {
	image
	cat >/etc/inittab <<-'EOT'
		::respawn:/bin/sh -c '/opt/gamer/gamer && exec sleep 99999999'
		::once:/init cmd
	EOT
	mkdir /opt/gamer
	cp /bin/gamer /opt/gamer/
	exec init
}

# ---------------------------------------------------------------------------
# 2  systemd: an image like SteamOS, the unit, scx.service's way
# ---------------------------------------------------------------------------
UNIT=/etc/systemd/system/gamer.service
# property NAME [UNIT]
property() { systemctl show -P "$1" "${2:-gamer}"; }
property_is() { [ "$(property "$1")" = "$2" ]; }
# dropin LINE...: of the unit, in place of the one before; then it is as if it had never run
dropin() {
	systemctl stop gamer
	mkdir -p $UNIT.d
	printf '%s\n' '[Service]' "$@" >$UNIT.d/test.conf
	systemctl daemon-reload
	systemctl reset-failed gamer 2>/dev/null || true
}
# typed WORD: what the manual has a person type, of the block with that word
typed() {
	gamer man | awk -v word="$1" '
		/^\.nf/ { block = ""; next }
		/^\.fi/ { if (index(block, word)) printf "%s", block; next }
		{ sub(/^\\&/, ""); gsub(/\\-/, "-"); gsub(/\\\(aq/, "\047"); gsub(/\\\(dq/, "\""); gsub(/\\\(ga/, "`"); gsub(/\\\(ha/, "^")
			gsub(/\|\\:/, "|"); gsub(/\\e/, "\\"); block = block $0 "\n" }'
}
# unit_there: installed, and started by that, if this is the first check
unit_there() {
	[ ! -e $UNIT ] || return 0
	install() { mkdir -p "${3%/*}" && cp "$2" "$3"; } # which this busybox lacks
	cd /bin && eval "$(typed 'enable --now')"
}
# unit_runs: started if it does not run
unit_runs() {
	unit_there
	systemctl start gamer || fail "start: $(property Result), exit $(property ExecMainStatus)"
}
# hooks_of FILE: which hooks are not attached, of a status in JSON
hooks_of() { sed 's/.*"hooks":{\([^}]*\)}.*/\1/' "$1"; }

systemd_install() { : "on a root that cannot be written three commands install it; it is active when it schedules, not before"
	local tries=0
	! touch /usr/local/bin/gamer 2>/dev/null || fail "the root can be written"
	mkdir /opt/gamer && cp /bin/gamer /opt/gamer/ || fail "/opt cannot be written"
	/opt/gamer/gamer unit >$UNIT
	systemctl enable gamer || fail "enable: exit $?"
	[ -e /etc/systemd/system/multi-user.target.wants/gamer.service ] || fail "not enabled"
	systemctl start --no-block gamer
	until property_is ActiveState active; do
		tries=$((tries + 1))
		[ $tries -lt 3000 ] && ! property_is ActiveState failed || fail "is $(property ActiveState), $(property Result)"
		usleep 20000
	done
	attached || fail "active, but it does not schedule"
	[ $tries -gt 0 ] || fail "active before it could load anything"
	property StatusText | grep -q '^scheduling 2 CPUs' || fail "its status is '$(property StatusText)'"
	grep -q '^gamer .*: scheduling' /run/gamer/status || fail "/run/gamer/status: $(cat /run/gamer/status)"
}
systemd_hardened() { : "verify has nothing to say; exposure at most 4.5; every hook is there as without a unit, and a game in a closed home is found"
	unit_runs
	systemd-analyze verify $UNIT >/tmp/verify 2>&1 || fail "$(cat /tmp/verify)"
	[ ! -s /tmp/verify ] || fail "$(cat /tmp/verify)"
	systemd-analyze security --no-pager --threshold=45 gamer || fail "$(systemd-analyze security --no-pager gamer | tail -n 1)"
	gamer status --json >/out/systemd_hardened.json
	GAMER_GAME=1 as_user /home/player/game --seconds 60 --no-uinput --no-drm >/dev/null &
	wait_for 60 eval 'gamer status --json 2>/dev/null | grep -q "\"game\":{[^}]*\"comm\":\"gamer-bench\""' || fail "no game: $(gamer status | grep ^game)"
	kill $!
	systemctl stop gamer
	gamer run >/dev/null 2>&1 &
	G=$!
	wait_for 120 answers || fail "no answer without the unit"
	gamer status --json >/out/systemd_plain.json
	kill $G
	gone
	is "what is attached" "$(hooks_of /out/systemd_hardened.json)" "$(hooks_of /out/systemd_plain.json)"
}
systemd_fair() { : "within the unit's limits it advises a user's game, and the cgroup of that game, which is the user's, gets a weight until it stops"
	local at=/sys/fs/cgroup/system.slice/game.service
	weight() { [ "$(cat $at/cpu.weight)" = "$1" ]; }
	unit_runs
	dropin ExecStart= 'ExecStart=/opt/gamer/gamer run --backend fair'
	printf '%s\n' '[Service]' Delegate=cpu Environment=GAMER_GAME=1 \
		'ExecStart=/bin/as_user /home/player/game --seconds 600 --no-uinput --no-drm' >/etc/systemd/system/game.service
	systemctl start game gamer || fail "start: $(property Result), $(property Result game)"
	chown 1000 $at/cpu.weight || fail "no weight for the game's cgroup"
	systemctl restart gamer
	wait_for 60 weight 800 || fail "weight $(cat $at/cpu.weight): $(gamer status | grep -E '^(game|limit|gamer)')"
	wait_for 60 eval 'fair sweep "$(property MainPID game)" | grep -q " 0 -15 0 1 "' || fail "no advice: $(fair sweep "$(property MainPID game)")"
	systemctl stop gamer || fail "stop: exit $?"
	weight 100 || fail "stop leaves weight $(cat $at/cpu.weight)"
	fair sweep "$(property MainPID game)" | grep -vq ' 0 0 0 0 0 ' && fail "stop leaves $(fair sweep "$(property MainPID game)")"
	systemctl stop game
	dropin
}
systemd_stop() { : "stop gives the machine back; what it learned is in /var/lib/gamer"
	unit_runs
	true | true
	systemctl stop gamer || fail "stop: exit $?"
	state_is disabled || fail "state is $(cat $SCX/state)"
	tasks_run || fail "tasks do not run"
	is "its state" "$(property ActiveState)" inactive
	is "its result" "$(property Result)" success
	[ -s /var/lib/gamer/process.db ] || fail "learned nothing"
}
systemd_crash() { : "it crashes, and is started again and schedules; sysrq-S is a person's wish: it stays off"
	local pid
	unit_runs
	pid=$(property MainPID)
	kill -SEGV "$pid"
	wait_for 120 property_is NRestarts 1 || fail "NRestarts is $(property NRestarts)"
	wait_for 120 property_is ActiveState active || fail "is $(property ActiveState)"
	attached || fail "does not schedule again"
	[ "$(property MainPID)" != "$pid" ] || fail "the same process"
	echo S >/proc/sysrq-trigger
	wait_for 30 property_is ActiveState inactive || fail "is $(property ActiveState) after sysrq-S"
	state_is disabled || fail "state is $(cat $SCX/state)"
	[ -s /run/gamer/last_exit ] || fail "no last_exit in /run/gamer, which must outlive it"
	is "restarts" "$(property NRestarts)" 1
}
# final CODE LINE...: with these lines in its unit it ends with that code, once
final() {
	local code=$1; shift
	dropin "$@"
	! systemctl start gamer || fail "starts where it must exit $code"
	is "exit code" "$(property ExecMainStatus)" "$code"
	is "its state" "$(property ActiveState)" failed
	is "restarts after $code" "$(property NRestarts)" 0
}
systemd_final() { : "what a restart cannot help is final: 64, 69 and 77 of gamer itself; what it may help is tried 5 times"
	unit_there
	final 64 ExecStart= 'ExecStart=/opt/gamer/gamer run --nonsense'
	final 69 InaccessiblePaths=/sys/kernel/btf
	final 77 User=65534
	dropin RestartSec=0 ExecStart= 'ExecStart=/bin/sh -c "exit 70"'
	! systemctl start gamer || fail "starts with exit 70"
	wait_for 60 property_is ActiveState failed || fail "is $(property ActiveState)"
	is "restarts after 70" "$(property NRestarts)" 5
	dropin
}
systemd_watchdog() { : "it tells the watchdog that it lives; one that hangs is ended, to be started again"
	local first
	unit_there
	dropin WatchdogSec=5
	systemctl start gamer
	first=$(property WatchdogTimestampMonotonic)
	wait_for 60 eval '[ "$(property WatchdogTimestampMonotonic)" != '"$first ]" || fail "does not tell"
	is NRestarts "$(property NRestarts)" 0
	kill -STOP "$(property MainPID)"
	wait_for 60 property_is NRestarts 1 || fail "NRestarts is $(property NRestarts)"
	dropin
}
systemd_scx() { : "scx.service's way: SCX_SCHEDULER=gamer by its name on PATH, without flags; a flag that it does not know is no success"
	mkdir -p /etc/default
	cat >/etc/systemd/system/scx.service <<-'EOT'
		[Service]
		EnvironmentFile=/etc/default/scx
		ExecStart=/bin/sh -c 'exec $SCX_SCHEDULER $SCX_FLAGS'
	EOT
	printf 'SCX_SCHEDULER=scx_lavd\nSCX_FLAGS="--autopilot"\n' >/etc/default/scx
	systemctl daemon-reload
	install() { :; } # /usr/bin has it
	eval "$(typed SCX_SCHEDULER)" || fail "restart: $?"
	wait_for 60 eval 'attached || [ "$(property ActiveState scx)" = failed ]'
	attached || fail "does not schedule: $(property Result scx), exit $(property ExecMainStatus scx)"
	systemctl stop scx
	wait_for 20 state_is disabled || fail "state is $(cat $SCX/state)"
	printf 'SCX_SCHEDULER=gamer\nSCX_FLAGS="--performance"\n' >/etc/default/scx
	systemctl start scx
	wait_for 30 eval '[ "$(property ActiveState scx)" = failed ]' || fail "takes a flag that it does not know"
	is "exit code" "$(property ExecMainStatus scx)" 64
}

# ---------------------------------------------------------------------------
# 3  busybox: inittab, OpenRC, a kiosk's script, an initramfs with nothing but the binary
# ---------------------------------------------------------------------------
# quiet: takes gamer out of inittab, and ends it
quiet() {
	sed -i '/gamer/d' /etc/inittab
	kill -HUP 1
	killall -TERM gamer 2>/dev/null
	wait_for 60 none_left || fail "it still runs"
	wait_for 20 state_is disabled || fail "state is $(cat $SCX/state)"
}
# stays_off: while init starts something else again and again
stays_off() {
	: >/tmp/ticks
	echo '::respawn:/bin/sh -c "echo >>/tmp/ticks; sleep 1"' >>/etc/inittab
	kill -HUP 1
	wait_for 60 eval '[ "$(wc -l </tmp/ticks)" -ge 4 ]' || fail "init starts nothing"
	sed -i '/ticks/d' /etc/inittab
	none_left || fail "it came again"
	state_is disabled || fail "state is $(cat $SCX/state)"
}

# oldest: the first of gamer's processes, the one that started its children
oldest() { pidof gamer | tr ' ' '\n' | sort -n | head -n 1; }
busybox_respawn() { : "by inittab it schedules from boot on; killed, it comes again; ended by sysrq-S or with the line taken out, it stays off"
	local pid
	wait_for 120 answers || fail "no answer"
	attached || fail "does not schedule"
	pid=$(oldest)
	kill -KILL "$pid"
	wait_for 60 eval '[ "$(oldest)" -gt '"$pid ]" || fail "is not started again"
	wait_for 120 answers || fail "no answer the second time"
	attached || fail "does not schedule again"
	echo S >/proc/sysrq-trigger
	wait_for 60 none_left || fail "it still runs after sysrq-S"
	stays_off
	quiet
	stays_off
	eval "$(typed ::respawn)"
	wait_for 120 answers || fail "no answer as the manual has it: $(tail -n 1 /etc/inittab)"
	quiet
}
busybox_kiosk() { : "a kiosk's script starts it next to the game; it finds the game, outlives the script, and ends by SIGTERM"
	quiet
	cat >/tmp/kiosk <<-'EOT'
		#!/bin/sh
		gamer >/tmp/kiosk.log 2>&1 &
		exec gamer-bench --seconds 600 --no-uinput --no-drm
	EOT
	chmod +x /tmp/kiosk
	setsid /tmp/kiosk >/dev/null &
	wait_for 120 answers || fail "no answer: $(cat /tmp/kiosk.log)"
	wait_for 60 eval 'gamer status 2>/dev/null | grep -q "^game: .*gamer-bench"' || fail "no game: $(gamer status | grep ^game)"
	kill $!
	wait_for 60 eval 'gamer status 2>/dev/null | grep -q "^game: none"' || fail "the game has ended: $(gamer status | grep ^game)"
	attached || fail "it ended with the script"
	killall -TERM gamer
	wait_for 20 state_is disabled || fail "state is $(cat $SCX/state)"
	wait_for 20 none_left || fail "it still runs"
}
busybox_openrc() { : "OpenRC: the runlevel starts it, status tells it, stop gives the machine back"
	quiet
	export PATH=$PATH:/usr/sbin
	touch /etc/fstab /etc/insserv.conf
	openrc sysinit
	openrc boot
	openrc default
	eval "$(typed openrc-run)" || fail "as the manual has it: exit $?"
	# rc-status knows no script that came in the second in which it noted the dependencies
	[ -e /etc/runlevels/default/gamer ] || fail "not in the runlevel"
	wait_for 60 eval '[ -n "$(pidof gamer)" ]' || fail "starts nothing"
	wait_for 120 attached || fail "does not schedule"
	rc-service gamer status || fail "status: exit $?"
	rc-service gamer stop || fail "stop: exit $?"
	wait_for 20 state_is disabled || fail "state is $(cat $SCX/state)"
	wait_for 20 none_left || fail "it still runs"
}
# alone MOUNT...: gamer on a root with nothing but it and these, as FILESYSTEM:PLACE
alone() {
	mkdir -p /tmp/alone
	cp /bin/gamer /tmp/alone/
	# shellcheck disable=SC2016
	exec unshare -m sh -c 'for m; do
			mkdir -p "/tmp/alone/${m#*:}" && mount -t "${m%:*}" none "/tmp/alone/${m#*:}" || exit 99
		done; exec chroot /tmp/alone /gamer' - "$@"
}
# alone_says CODE WORDS MOUNT...
alone_says() {
	local code=$1 words=$2; shift 2
	(alone "$@") >/tmp/said 2>&1
	is "exit code with '$*'" $? "$code"
	is "lines with '$*'" "$(wc -l </tmp/said)" 1
	grep -q "$words" /tmp/said || fail "with '$*' it says: $(cat /tmp/said)"
}
busybox_initramfs() { : "on a root with nothing but the binary it says what is not mounted, and mounts nothing; with /sys and /run it schedules"
	quiet
	alone_says 69 'no BTF (/sys/kernel/btf/vmlinux)'
	alone_says 73 'cannot make /run/gamer' sysfs:sys
	(alone sysfs:sys tmpfs:run) >/tmp/said 2>&1 &
	G=$!
	wait_for 120 attached || fail "does not schedule: $(cat /tmp/said)"
	grep -q 'no /proc' /tmp/said || fail "does not say that it lacks /proc: $(cat /tmp/said)"
	tasks_run || fail "tasks do not run"
	kill -TERM $G
	gone
	is "exit code" "$RC" 0
}
