#!/bin/busybox sh
# shellcheck shell=dash disable=SC2046 # lists are split on purpose
# bench.sh: what `test.sh bench-shapes` runs in a guest of the lab: every shape under every scheduler. No noise has
# to be shared out there, so a scheduler that has started does all its cells (one peer takes 25 s to attach).
#
# /bench/scheds has a line per scheduler: label, how the name begins that it attaches under
# ("-": the kernel's own), command. From the environment: SHAPES (NAME:game, NAME:subject, NAME:-), AS,
# SECONDS_EACH, WORK (gamer-bench's options that fix the work).
# A cell leaves CELL.LABEL.json in /out, or CELL.LABEL.failed with the reason: what was
# measured while its scheduler was not there is no figure.
#
# Start reading at the last lines.
OUT=${OUT:-/out}
TAB=$(printf '\t')
PATIENCE=1
# shellcheck source=test/lib.sh
. lib.sh

attached() { attached_as "$NAME"; }
alive() { ! ended "$G"; }
attached_or_dead() { attached || ! alive; }
gone() { state_is disabled && ! alive; }
# What a scheduler that failed has to say, and the kernel about it, on one line
last_words() {
	{ dmesg | sed -n 's/^\[[^]]*\] *\(sched_ext: .*\)/\1/p' | grep -v ' enabled$' | tail -n 2
	  tail -n 2 "/tmp/$LABEL.log"; } | tr -cd '\12\40-\176' | cut -c1-200 | tr '\n' ';'
}

# begin: the scheduler $LABEL runs as $G, and $SEQ tells if it still is the same one later.
begin() {
	state_is disabled || { WHY="sched_ext is $(cat $SCX/state) before it starts"; return 1; }
	[ "$NAME" != - ] || return 0
	dmesg -c >>$OUT/dmesg-bench
	$COMMAND >"/tmp/$LABEL.log" 2>&1 </dev/null &
	G=$!
	if [ "$NAME" = -fair ]; then
		wait_for 10 "${COMMAND%% *}" status || { WHY="does not advise: $(last_words)"; return 1; }
		return
	fi
	if ! wait_for 60 attached_or_dead || ! attached; then
		WHY="did not attach: $(last_words)"
		return 1
	fi
	SEQ=$(cat $SCX/enable_seq)
	sleep 1
}
stayed() {
	case $NAME in
	-) return 0 ;;
	-fair) alive && return ;;
	esac
	attached && alive && [ "$(cat $SCX/enable_seq)" = "$SEQ" ] && return
	WHY="left in the middle: $(last_words)"
	false
}
end() {
	[ -n "$G" ] || return 0
	! alive || kill -INT "$G"
	wait_for 20 gone || kill -KILL "$G"
	wait_for 20 state_is disabled
	wait "$G"
	G=''
}

# What is there already is told at once: it outlives this guest.
tell() {
	for f; do [ ! -s "$f" ] || sed "s|^|=${f#/out/} |" "$f"; done
}

# cell CELL COMMAND...: one figure. The command prints JSON. The scheduler is started if it
# does not run, and left running.
cell() {
	local cell=$1 to=$OUT/$1.$LABEL; shift
	WHY=''
	echo "$cell under $LABEL"
	[ -n "$G" ] && stayed || { end; begin; } && {
		WHY=''
		short_turns "$QUANTUM"
		timeout -s KILL $((SECONDS_EACH * 3 + 600)) "$@" >"$to.json" 2>/tmp/said ||
			WHY="exit $?: $(tail -n 1 /tmp/said)"
		short_turns 0
		stayed
		case $NAME in gamer*) gamer status >"$to.status" 2>/dev/null ;; esac
	}
	if [ -n "$WHY" ]; then
		rm -f "$to.json"
		echo "$WHY" | tee "$to.failed"
	fi
	tell "$to.json" "$to.failed"
}

# each COMMAND...: under every scheduler, in the order of $SCHEDS
each() {
	while IFS=$TAB read -r LABEL NAME COMMAND <&3; do
		G=''
		"$@"
		end
	done 3<"$SCHEDS"
}

# shapes: each once, those with a game as gamer may know it; FIFO is for a game or a subject.
shape() { # NAME AS
	cell "$1@$2" shapes --json --shape "$1" --as "$2" --seconds "$SECONDS_EACH" $WORK \
		$([ "$LABEL" != fifo ] || echo --realtime)
}
shapes() {
	local shape as
	for shape in $SHAPES; do
		case $NAME:$LABEL:${shape#*:} in
		-:fifo:-) ;;
		-:* | *:subject | *:-) shape "${shape%:*}" stranger ;;
		*) for as in $AS; do shape "${shape%:*}" "$as"; done ;;
		esac
	done
}
version() {
	case $NAME in
	-) set -- "$(uname -r)" ;;
	*) set -- "$(${COMMAND%% *} --version 2>&1 </dev/null | head -n 1)" ;;
	esac
	printf '%s\t%s\n' "$LABEL" "$1"
}

# Peers ask libbpf for these, which looks in a file that a distribution has. HZ: as measured.
kernel_config() {
	local a b
	a=$(awk '$1 == "jiffies:" { print $2; exit }' /proc/timer_list)
	sleep 1
	b=$(awk '$1 == "jiffies:" { print $2; exit }' /proc/timer_list)
	mkdir -p /boot
	{
		echo "CONFIG_HZ=$(((b - a + 5) / 10 * 10))"
		echo "CONFIG_NR_CPUS=$(($(cat /sys/devices/system/cpu/kernel_max) + 1))"
		echo CONFIG_X86_64=y
		! pidof rcu_preempt >/dev/null || echo CONFIG_PREEMPT_RCU=y
	} >"/boot/config-$(uname -r)"
}

SCHEDS=/bench/scheds
. /vm.conf
short_turns 0
mkdir -p $OUT
kernel_config
each version >$OUT/versions
tell $OUT/versions
ln -s gamer-bench /bin/shapes # gamer takes whoever is called gamer-bench for a game
each shapes
