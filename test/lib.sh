# shellcheck shell=dash disable=SC2154 # QUANTUM is in /vm.conf
# lib.sh: what the checks of the host (test.sh), those of a guest (guest.sh) and the lab's benches (bench.sh) share
SCX=/sys/kernel/sched_ext

# wait_for SECONDS COMMAND...: does it hold within that time? $PATIENCE times as long, for emulated CPUs are slow
# and the host may be busy.
wait_for() {
	local tenths=$(($1 * 10 * PATIENCE)); shift
	until "$@" >/dev/null 2>&1; do
		[ $((tenths -= 1)) -ge 0 ] || return 1
		sleep 0.1
	done
}
state_is() { [ "$(cat $SCX/state 2>/dev/null || echo disabled)" = "$1" ]; }
# attached_as NAME: so begins the name of the scheduler that runs
attached_as() { state_is enabled && case $(cat $SCX/root/ops 2>/dev/null) in "$1"*) ;; *) false ;; esac; }
ended() { ! kill -0 "$1" 2>/dev/null; }
# game_is PID|none: so says a running gamer
game_is() { "${GAMER:-gamer}" status | grep -E "^game: $1( |\$)" >/dev/null; }
# short_turns RATE: how often QEMU's CPUs take turns in the lab is decided while something is measured (see
# quantum.c), 0: not; a scheduler that loads is alone, and would take 7 times as long.
short_turns() { [ -z "$QUANTUM" ] || quantum "$1"; }
# fair_has NAME VALUES [N]: all threads of that name in the process $B, N at least, have those values, as `fair sweep`
# tells them: policy, nice, priority, reset on fork, slice; the last where $SLICES are known to this kernel
fair_has() {
	local values=$2
	[ "$SLICES" = 1 ] || values="${2% *} 0"
	fair sweep "$B" | awk -v name="$1" -v values="$values" -v want="${3:-1}" '
		$9 == name { n++; if ($4 " " $5 " " $6 " " $7 " " $8 != values) bad++ } END { exit n < want || bad }'
}
