#!/bin/busybox sh
# shellcheck shell=dash
# guest.sh CHECK...: the checks that run inside a guest, one function each. Prints for each
# "ok CHECK", "not ok CHECK: why" or "skip CHECK: why"; test.sh counts them.
# The part of a name before "_" is its group: one boot runs the checks of one group, in
# this order. JSON left in /out is judged outside (test/judge.py).
#
#   1  helpers
#   2  life: how gamer starts, lives and ends
#   3  load: 40 seconds of everything at once
#   4  know: what gamer takes the threads of a synthetic game for
#   5  lab: what needs CPUs that no host disturbs: figures that repeat to the bit
#
# Start reading at the last line.
SCX=/sys/kernel/sched_ext
CPUS=$(nproc)

# ---------------------------------------------------------------------------
# 1  helpers
# ---------------------------------------------------------------------------
# A check ends with the first thing that does not hold. Each runs in a shell of its own.
fail() { echo "$*" >/tmp/why; exit 1; }
skip() { echo "$*" >/tmp/why; exit 2; }

# wait_for SECONDS COMMAND...: until it holds; generous, since emulated CPUs are slow.
wait_for() {
	local tenths=$(($1 * 10)); shift
	while ! "$@"; do
		[ $tenths -gt 0 ] || return 1
		tenths=$((tenths - 1))
		usleep 100000
	done
}
state_is() { [ "$(cat $SCX/state)" = "$1" ]; }
attached() { state_is enabled && case $(cat $SCX/root/ops 2>/dev/null) in gamer*) ;; *) false ;; esac; }
answers() { gamer status >/dev/null 2>&1; }
ended() { ! kill -0 "$1" 2>/dev/null; }

# start [ARGS]: a gamer in the background as $G, attached and answering.
start() {
	state_is disabled || fail "sched_ext is already $(cat $SCX/state)"
	gamer run "$@" >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 30 attached || fail "did not attach: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	wait_for 10 answers || fail "attached, but status has no answer"
}
# gone: gamer has ended with exit code $RC, the kernel's own scheduler runs, tasks too.
gone() {
	wait_for 20 state_is disabled || fail "state is $(cat $SCX/state)"
	wait_for 20 ended $G || fail "gamer still runs"
	wait $G
	RC=$?
	tasks_run || fail "tasks do not run"
}
# A process that forks, blocks and uses every CPU still gets through.
tasks_run() { timeout 30 sh -c 'for c in $(seq 0 '$((CPUS - 1))'); do taskset -c $c true || exit; done; echo x | cat >/dev/null'; }
# stops SIGNAL: the gamer that runs ends by it, in good order.
stops() { kill -"$1" $G; gone; is "exit code" "$RC" 0; }
# One number out of `gamer status --json`.
status_number() { gamer status --json | tr ',{}' '\n' | sed -n "s/.*\"$1\": *\"*\([0-9]*\).*/\1/p" | head -n 1; }
is() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }

# ---------------------------------------------------------------------------
# 2  life
# ---------------------------------------------------------------------------
life_attach() { : "attaches; root/ops says gamer; nothing is rejected"
	start
	is nr_rejected "$(cat $SCX/nr_rejected)" 0
	stops TERM
}

life_check() { : "check finds sched_ext here and says so, with exit 0"
	gamer check --json >/out/check.json || fail "exit $?"
	gamer check >/tmp/check || fail "exit $?"
	grep -q '^sched_ext *available' /tmp/check || fail "$(grep sched_ext /tmp/check)"
}
life_status() { : "status answers as text, JSON and metrics; the status file is there"
	start
	gamer status >/out/status.txt || fail "text: exit $?"
	gamer status --json >/out/status.json || fail "json: exit $?"
	gamer status --metrics >/out/status.metrics || fail "metrics: exit $?"
	tail -n 1 /out/status.metrics | grep -qx '# EOF' || fail "metrics do not end with # EOF"
	[ -s /run/gamer/status ] || fail "no /run/gamer/status"
	stops TERM
	gamer status >/dev/null 2>&1
	is "exit code of status without gamer" $? 69
}
life_sigint() { : "SIGINT: exit 0, scheduler gone, tasks run"
	start
	stops INT
}
life_sigterm() { : "SIGTERM: exit 0, scheduler gone, tasks run"
	start
	stops TERM
}
life_sigkill() { : "SIGKILL: scheduler gone, tasks run, the next start works"
	start
	kill -KILL $G
	gone
	start
	stops TERM
}
life_sysrq() { : "sysrq-S: scheduler gone, gamer ends and says why, tasks run"
	start
	echo S >/proc/sysrq-trigger
	gone
	[ -s /run/gamer/last_exit ] || fail "no /run/gamer/last_exit"
}
life_second() { : "a second gamer exits 75 with one line; the first stays"
	start
	timeout 20 gamer run >/tmp/second 2>&1
	is "exit code" $? 75
	is "lines printed" "$(wc -l </tmp/second)" 1
	attached || fail "the first one is gone"
	stops TERM
}
life_user() { : "an ordinary user gets 77 and the name of what is missing"
	timeout 20 as_user gamer run >/tmp/user 2>&1
	is "exit code" $? 77
	is "lines printed" "$(wc -l </tmp/user)" 1
	grep -q CAP_ /tmp/user || fail "no capability named: $(cat /tmp/user)"
}
life_budget() { : "resident set within 4 MB, no allocation after attach"
	start
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		gamer status --json >/tmp/s
		gamer status --metrics >/tmp/s
	done
	for _ in $(seq 50); do true | cat; done
	local rss
	rss=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/$G/status)
	[ "$rss" -le 4096 ] || fail "resident: $rss KB"
	is allocations_after_attach "$(status_number allocations_after_attach)" 0
	stops TERM
}
life_irq() { : "a thread of the game that only a timer wakes gets a role within a second"
	timerlat 4000 >/dev/null &
	start --game $!
	wait $!
	gamer status --json | grep -o '"input":{[^}]*}' >/tmp/input
	local n
	n=$(sed -n 's/.*"wakeups":\([0-9]*\).*/\1/p' /tmp/input)
	[ "${n:-0}" -ge 200 ] || fail "4000 wakeups at 1 kHz by a timer, ${n:-none} of them as input"
	stops TERM
}
life_again() { : "ten starts and stops in a row"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		start
		stops TERM
	done
}
life_bare() { : "runs on a root that cannot be written, with nothing but /run"
	mount -o remount,ro / || fail "the root stays writable"
	trap 'mount -o remount,rw /' EXIT
	start
	stops TERM
}

# ---------------------------------------------------------------------------
# 3  load
# ---------------------------------------------------------------------------
load_mixed() { : "40 s of spinning, forking, pinning, pipes and sleep; no thread stands still"
	start
	churn 40 10 >/tmp/churn 2>&1 || fail "$(tail -n 1 /tmp/churn)"
	healthy
	stops TERM
}
# Still the same gamer, nothing rejected, no allocation.
healthy() {
	wait_for 20 attached || fail "not attached any more: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	kill -0 $G 2>/dev/null || fail "gamer has ended"
	is nr_rejected "$(cat $SCX/nr_rejected)" 0
	is allocations_after_attach "$(status_number allocations_after_attach)" 0
}
load_hotplug() { : "CPUs go and come under load; gamer restarts with the same options"
	[ -w /sys/devices/system/cpu/cpu1/online ] || skip "this kernel has no CPU hotplug"
	start --profile=performance
	churn 20 15 >/tmp/churn 2>&1 &
	local churn=$! cpu
	for cpu in 1 3 2 1; do
		echo 0 >/sys/devices/system/cpu/cpu$cpu/online || fail "cpu$cpu does not go"
		wait_for 20 attached || fail "not back after cpu$cpu went: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
		echo 1 >/sys/devices/system/cpu/cpu$cpu/online || fail "cpu$cpu does not come"
		wait_for 20 attached || fail "not back after cpu$cpu came: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	done
	wait $churn || fail "$(tail -n 1 /tmp/churn)"
	healthy
	[ "$(status_number restarts)" -gt 0 ] || fail "no restart was counted"
	tr '\0' ' ' </proc/$G/cmdline | grep -q performance || fail "its options changed"
	is "CPUs online" "$(nproc)" "$CPUS"
	stops TERM
}
load_hooks() { : "with every optional hook switched off it still schedules, and says what is off"
	start --hooks=-cgroup,-cpuperf,-kick,-irq,-immed
	churn 10 10 >/tmp/churn 2>&1 || fail "$(tail -n 1 /tmp/churn)"
	healthy
	is "hooks off" "$(gamer status | grep -c 'switched off; instead')" 5
	stops TERM
}
load_bench() { : "bench measures under gamer next to hogs; its figures make sense"
	start
	timeout 120 gamer bench --seconds 5 --load hogs --load-threads 8 --json >/out/bench.json || fail "exit $?"
	healthy
	stops TERM
	timeout 120 gamer bench --seconds 5 --json >/out/bench-without.json || fail "without gamer: exit $?"
}

# ---------------------------------------------------------------------------
# 4  know: the tables that bench prints of it are judged outside
# ---------------------------------------------------------------------------
# observe: a gamer in the background as $G that only looks on.
observe() {
	gamer run --observe >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 30 answers || fail "no answer: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
}
# game NAME [ARGS]: bench, which asks the gamer that runs; NAME: CHECK.WHAT. The game is known
# by its program's name, since some checks have the hook that sees threads rename themselves off.
game() {
	local name=$1; shift
	ln -sf /bin/gamer /tmp/gamer-bench
	timeout 200 /tmp/gamer-bench bench --seconds 5 --json "$@" >"/out/$name.json" || fail "$name: bench exits $?"
}
ends() { kill -TERM $G; wait_for 20 ended $G || fail "gamer does not end"; }

know_exact() { : "scheduling: threads with a device are known by its hook within 1 ms, none is taken for another"
	start
	game know_exact.none
	game know_exact.hogs --load hogs --load-threads 8
	healthy
	stops TERM
}
know_observe() { : "--observe knows the same, whether it comes before the game or after"
	observe
	game know_observe.before
	ends
	game know_observe.late --warmup-ms 5000 &
	local bench=$!
	wait_for 30 pgrep -x gamer-bench >/dev/null || fail "no gamer-bench"
	sleep 1
	observe
	wait $bench || fail "bench: $(cat /tmp/why)"
	ends
}
know_outside() { : "no thread outside the game gets a role of a game, whatever it does"
	local bench strange=
	start
	churn 60 60 >/dev/null 2>&1 &
	timerlat 30000 >/dev/null &
	gamer bench --seconds 10 --load mixed --load-threads 16 --json >/out/know_outside.mixed.json &
	bench=$!
	while ! ended $bench; do
		gamer status | grep '^thread [0-9]' >/tmp/threads
		# of the game, or the compositor that shows it; else without a role of a game
		strange=$strange$(awk -v game=$bench '$3 != game && !($4 == "compositor" && $9 == "compositor") &&
			$5 != "none" && $5 != "cpu_bound" && $5 != "background"' /tmp/threads)
		sleep 1
	done
	wait $bench || fail "bench exits $?"
	killall churn timerlat
	[ -z "$strange" ] || fail "$strange"
	stops TERM
}

# ---------------------------------------------------------------------------
# 5  lab: prints figures; test.sh boots twice and compares
# ---------------------------------------------------------------------------
lab_repeat() { : "two boots with one seed print identical nanoseconds, with and without gamer"
	timerlat 200 3 >>/out/figures
	start
	timerlat 200 3 >>/out/figures
	gamer bench --seconds 2 --load hogs --load-threads 4 --json >>/out/figures || fail "bench: exit $?"
	gamer status --json >>/out/figures
	stops TERM
	cat /proc/uptime >>/out/figures
}

# shares PIDS_A PIDS_B SECONDS: CPU time that B's processes got, in percent of A's
cpu_ticks() { local sum=0 p; for p; do sum=$((sum + $(awk '{ print $14 + $15 }' "/proc/$p/stat"))); done; echo $sum; }
shares() {
	local a b a0 b0
	a0=$(cpu_ticks $1) b0=$(cpu_ticks $2)
	sleep "$3"
	a=$(($(cpu_ticks $1) - a0)) b=$(($(cpu_ticks $2) - b0))
	[ $a -gt 0 ] || fail "the lighter one never ran"
	echo $((b * 100 / a))
}
lab_weights() { : "CPU weights of control groups hold, on one CPU and on all"
	local cg=/sys/fs/cgroup a b mask where ratio
	grep -q cpu $cg/cgroup.controllers || skip "this kernel has no CPU controller"
	echo +cpu >$cg/cgroup.subtree_control
	mkdir -p $cg/a $cg/b
	echo 300 >$cg/b/cpu.weight
	start
	for where in 1 all; do
		a='' b='' mask=1
		[ $where = 1 ] || mask=$(printf %x $(((1 << CPUS) - 1)))
		for _ in $(if [ $where = 1 ]; then echo 1; else seq "$CPUS"; fi); do
			taskset $mask sh -c 'echo $$ >/sys/fs/cgroup/a/cgroup.procs; while :; do :; done' &
			a="$a $!"
			taskset $mask sh -c 'echo $$ >/sys/fs/cgroup/b/cgroup.procs; while :; do :; done' &
			b="$b $!"
		done
		ratio=$(shares "$a" "$b" 3)
		kill $a $b
		# 300 is exact; beside it the tick is coarse
		[ "$ratio" -ge 180 ] && [ "$ratio" -le 420 ] || fail "on $where CPU(s) B got $ratio % of A, not about 300"
	done
	stops TERM
}
# All evidence but the pattern is off. The CPUs share one CPU's worth of capacity: a burst
# looks twice as long as it is, and next to hogs four times.
pattern() { # NAME WORK-US [ARGS]
	local name=$1 work=$2; shift 2
	start --hooks=-gpu,-frame,-input,-readers,-audio,-network,-name,-wine
	game "$name" --iters-per-ms 62464 --frame-work-us "$work" --audio-frames 128 --no-uinput --no-drm "$@"
	stops TERM
}
lab_pattern() { : "by their pattern alone 95 % of a game's threads are known within 100 wakeups"
	pattern lab_pattern.none 8000
}
lab_pattern_load() { : "the same next to busy threads"
	pattern lab_pattern_load.hogs 4000 --load hogs --load-threads 8
	pattern lab_pattern_load.mixed 4000 --load mixed --load-threads 8
}
# input_p99 HOOKS: wakeup latency of bench's mouse reader next to hogs, us
input_p99() {
	start --hooks="$1"
	gamer bench --seconds 3 --load hogs --load-threads 8 --iters-per-ms 62464 --frame-work-us 1000 \
		--audio-frames 64 --no-drm >/tmp/bench || fail "bench: exit $?"
	stops TERM
	awk '$1 == "input" && NF == 7 { print int($5) }' /tmp/bench
}
lab_readers() { : "a role reaches the scheduler: who reads the mouse wakes 4 times faster (p99) than where no hook saw it"
	local with without
	with=$(input_p99 +readers) || exit
	without=$(input_p99 -readers,-input,-name) || exit
	echo "# input wakeup p99: $with us with the input hooks, $without us without" | tee -a /out/figures
	[ $((with * 4)) -le "$without" ] || fail "$with us with, $without us without"
}
lab_fast() { : "--fast-cpus: a critical thread moves to an idle fast CPU and stays there"
	local t n=0
	start --fast-cpus 2
	timerlat 3000 >/dev/null &
	t=$!
	taskset -p 1 $t >/dev/null # let it begin on CPU 0, which idle it would keep
	taskset -p "$(printf %x $(((1 << CPUS) - 1)))" $t >/dev/null
	taskset -p 8 "$(exec sh -c 'echo $PPID')" >/dev/null # looking must not disturb it
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		usleep 100000
		[ "$(awk '{ print $39 }' /proc/$t/stat)" != 2 ] || n=$((n + 1))
	done
	kill $t
	[ $n -ge 7 ] || fail "on the fast CPU in $n of 10 looks"
	stops TERM
}

for check; do
	rm -f /tmp/why
	("$check") >"/tmp/$check.log" 2>&1 # fail and skip set its result
	case $? in
	0) echo "ok $check" ;;
	2) echo "skip $check: $(cat /tmp/why)" ;;
	*)
		echo "not ok $check: $(cat /tmp/why 2>/dev/null || echo 'its shell ended early')"
		# The next check starts clean.
		killall -KILL gamer churn 2>/dev/null
		for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do echo 1 >"$cpu"; done 2>/dev/null
		wait_for 20 state_is disabled
		;;
	esac
	cp "/tmp/$check.log" /out/
done
