#!/bin/busybox sh
# shellcheck shell=dash disable=SC2046 # lists are split on purpose
# guest.sh CHECK...: the checks that run inside a guest, one function each. Prints for each
# "ok CHECK", "not ok CHECK: why" or "skip CHECK: why"; test.sh counts them.
# The part of a name before "_" is its group: one boot runs the checks of one group, in
# this order. JSON left in /out is judged outside (test/judge.py).
#
#   1  helpers
#   2  life: how gamer starts, lives and ends
#   3  load: everything at once, for 20 seconds or for half an hour (SOAK_SECONDS)
#   4  know: what gamer takes the threads of a synthetic game for
#   5  dev: detection by what a game does to real devices (test/devices.c, modetest)
#   6  tell: events by real causes, read back by `gamer events`; its files
#   7  fault: whatever goes wrong, the machine goes on
#   8  lab: what needs CPUs that no host disturbs: figures that repeat to the bit
#   9  shapes: games and other work of many shapes, beside the kernel's own scheduler
#  10  closed: kernels that refuse gamer
#
# wine.sh has the group wine, deploy.sh systemd and busybox.
#
# Start reading at the last line.
CPUS=$(nproc)
. /vm.conf # QUANTUM, INIT
PATIENCE=5
# shellcheck source=test/lib.sh
. lib.sh

# ---------------------------------------------------------------------------
# 1  helpers
# ---------------------------------------------------------------------------
# A check ends with the first thing that does not hold. Each runs in a shell of its own.
fail() { echo "$*" >/tmp/why; exit 1; }
skip() { echo "$*" >/tmp/why; exit 2; }

attached() { attached_as gamer; }
answers() { gamer status >/dev/null 2>&1; }
none_left() { ! pidof gamer >/dev/null; }

# start [ARGS]: a gamer in the background as $G, attached and answering. It is alone while it loads.
start() {
	state_is disabled || fail "sched_ext is already $(cat $SCX/state)"
	short_turns 0
	gamer run "$@" >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 30 attached || fail "did not attach: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	wait_for 10 answers || fail "attached, but status has no answer"
	short_turns "$QUANTUM"
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
# stops SIGNAL: the gamer that runs ends by it, in good order, and has allocated nothing since it attached.
stops() {
	answers || fail "gamer does not answer any more: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	is allocations_after_attach "$(status_number allocations_after_attach)" 0
	kill -"$1" $G
	gone
	is "exit code" "$RC" 0
}
# settle: what a check that holds has left running ends here, in good order: what it played, gamer. Of a gamer that
# schedules nothing was rejected.
D='' G='' M='' PADS='' OTHERS=''
settle() {
	[ -z "$M" ] || ended $M || kill $M
	[ -z "$PADS" ] || kill $PADS
	[ -z "$D" ] || ended $D || over
	quit $OTHERS
	[ -z "$G" ] || ended $G || {
		! attached || healthy
		stops TERM
	}
}
# One number out of `gamer status --json`.
status_number() { gamer status --json | tr ',{}' '\n' | sed -n "s/.*\"$1\": *\"*\([0-9]*\).*/\1/p" | head -n 1; }
resident() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$G/status"; }
# What the kernel holds for its programs and maps, KB
kernel_kb() { cat /proc/$G/fdinfo/* 2>/dev/null | awk '$1 == "memlock:" { kb += $2 / 1024 } END { print int(kb) }'; }
small() { [ "$(resident)" -le 4096 ] || fail "resident: $(resident) KB"; }
is() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }

# ---------------------------------------------------------------------------
# 2  life
# ---------------------------------------------------------------------------
life_attach() { : "attaches, answers as text, JSON and metrics, rejects nothing, allocates nothing and stays within 4 MB, programs and maps too; SIGINT: exit 0, scheduler gone, tasks run"
	start
	gamer status >/out/status.txt || fail "text: exit $?"
	gamer status --json >/out/status.json || fail "json: exit $?"
	gamer status --metrics >/out/status.metrics || fail "metrics: exit $?"
	[ -s /run/gamer/status ] || fail "no /run/gamer/status"
	for _ in $(seq 50); do true | cat; done
	small
	[ "$(kernel_kb)" -ge 100 ] && [ "$(kernel_kb)" -le 4096 ] || fail "programs and maps: $(kernel_kb) KB"
	healthy
	stops INT
	gamer status >/dev/null 2>&1
	is "exit code of status without gamer" $? 69
}

life_check() { : "check finds sched_ext here and says so, with exit 0"
	gamer check --json >/out/check.json || fail "exit $?"
	gamer check >/tmp/check || fail "exit $?"
	grep -q '^sched_ext *available' /tmp/check || fail "$(grep sched_ext /tmp/check)"
}
life_profile() { : "profile works next to a gamer that schedules: a sleep's time and call; both stay"
	local ns
	start
	gamer profile --json -o /out/profile.json -- sleep 1 || fail "exit $?"
	ns=$(sed -n 's/.*"clock_nanosleep":{"time_ns":\([0-9]*\),.*/\1/p' /out/profile.json)
	# its clock starts before it is off the CPU
	[ "${ns:-0}" -ge 900000000 ] && [ "$ns" -lt 10000000000 ] || fail "a sleep of 1 s took '$ns' ns"
	grep -q '"source":"ebpf"' /out/profile.json || fail "$(head -c 500 /out/profile.json)"
	gamer profile --folded -- sleep 1 | grep -q '^sleep;.*do_nanosleep_\[k\]' || fail "no kernel frames"
	is "root/ops" "$(cat $SCX/root/ops)" gamer
}
life_ended() { : "SIGKILL, then sysrq-S: scheduler gone, tasks run, the next start works; after sysrq-S gamer ends and says why"
	start
	kill -KILL $G
	gone
	start
	echo S >/proc/sysrq-trigger
	gone
	[ -s /run/gamer/last_exit ] || fail "no /run/gamer/last_exit"
}
life_second() { : "a second gamer exits 75 with one line, with a folder of its own too: it names the one that is attached, which stays"
	start
	timeout 60 gamer run >/tmp/second 2>&1
	is "exit code" $? 75
	is "lines printed" "$(wc -l </tmp/second)" 1
	RUNTIME_DIRECTORY=/tmp/other.run timeout 60 gamer run --db= >/tmp/second 2>&1
	is "exit code with its own folder" $? 75
	grep -q "scheduler 'gamer' is attached" /tmp/second || fail "$(cat /tmp/second)"
	attached || fail "the first one is gone"
}
woken() { # ROLE N: so many wakeups of that role
	gamer status --json | sed -n "s/.*\"wakeup\":{.*\"$1\":{\"n\":\([0-9]*\).*/\1/p" >/tmp/woken
	[ "0$(cat /tmp/woken)" -ge "$2" ]
}
life_irq() { : "a thread of the game that only a timer wakes gets a role within a second"
	timerlat 10000000 >/dev/null &
	local t=$!
	start --game $t
	wait_for 20 woken input 200 || fail "a timer wakes a thread at 1 kHz: $(gamer status | grep '^wakeup.input ')"
	kill $t
}
life_frequency() { : "frequencies asked for follow utilization: little for light work, all for busy CPUs, little again; performance always asks for all"
	local cpu pids=''
	asks_little() { [ "$(status_number frequency)" -le 60 ]; }
	asks_all() { [ "$(status_number frequency)" -ge 90 ]; }
	for cpu in $(seq 0 $((CPUS - 1))); do
		taskset $((1 << cpu)) sh -c 'while :; do usleep 20000; done' &
		pids="$pids $!"
	done
	start --test perf --profile powersave
	wait_for 60 asks_little || fail "light work: $(status_number frequency) %"
	for cpu in $(seq "$CPUS"); do
		while :; do :; done &
		pids="$pids $!"
	done
	wait_for 60 asks_all || fail "busy CPUs: $(status_number frequency) %"
	kill $(echo "$pids" | tr ' ' '\n' | tail -n "$CPUS")
	wait_for 60 asks_little || fail "light work again: $(status_number frequency) %"
	stops TERM
	start --test perf --profile performance
	wait_for 60 asks_all || fail "performance: $(status_number frequency) %"
	kill $pids 2>/dev/null || true
}
life_fast() { : "where cores differ in speed, a critical thread takes a whole idle core before a fast one whose other thread is busy"
	local busy t n=0
	start --fast-cpus 0-1
	taskset -c 0 sh -c "while :; do :; done" >/dev/null &
	busy=$!
	timerlat 1000000 >/dev/null &
	t=$!
	taskset -p 1 "$(exec sh -c 'echo $PPID')" >/dev/null # looking must not disturb it
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		usleep 100000
		[ "$(awk '{ print $39 }' /proc/$t/stat)" -lt 2 ] || n=$((n + 1))
	done
	kill $busy $t
	[ $n -ge 7 ] || fail "on a whole core in $n of 10 looks"
}
life_bare() { : "runs on a root that cannot be written, with nothing but /run"
	mount -o remount,ro / || fail "the root stays writable"
	trap 'mount -o remount,rw /' EXIT
	start
	is "lines about the database" "$(grep -c 'stays in memory' /tmp/gamer.log)" 1
}

# cost_of ARGS: what gamer's programs cost the verifier: name, instructions, states
cost_of() {
	gamer run -v --db= "$@" >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 60 answers || fail "does not answer: $(tail -n 1 /tmp/gamer.log)"
	kill -TERM $G
	wait $G
	sed -n 's/^gamer: verified \([a-z0-9_]*\): processed \([0-9]*\) .* total_states \([0-9]*\) .*/\1\t\2\t\3/p' /tmp/gamer.log
}
life_verifier() { : "no program costs the verifier more than 30000 instructions, of the million that it allows"
	local series
	series=$(uname -r | cut -d. -f1,2)
	{ cost_of && cost_of --observe | grep ^runtime_; } | sort | sed "s/^/$series\t/" >/out/verifier.tsv
	[ "$(wc -l </out/verifier.tsv)" -ge 15 ] || fail "only $(wc -l </out/verifier.tsv) programs"
	awk '$3 > 30000 { print $2, $3, "instructions" }' /out/verifier.tsv >/tmp/more
	[ ! -s /tmp/more ] || fail "$(tr '\n' ';' </tmp/more)"
}

# programs NAME: how many of that name the database at $DB has
programs() { gamer db list --db "$DB" | awk -v n="$1" '$1 == n' | wc -l; }
# known COMMAND...: so many began as the database knows them
known() {
	local before
	before=$(status_number learn_known)
	"$@" >/dev/null || fail "$*: exit $?"
	echo $(($(status_number learn_known) - before))
}
life_db() { : "what programs are like is learned, kept over a restart, also where the clock's battery is flat, told apart by path, and forgotten by clear"
	local n
	DB=/tmp/life.db
	mkdir -p /tmp/other /tmp/third
	cp /bin/side /tmp/other/
	cp /bin/side /tmp/third/
	start --db $DB
	side compile >/dev/null
	/tmp/other/side compile >/dev/null
	gamer db clear --db $DB 2>/dev/null
	is "exit code of clear while it runs" $? 75
	stops TERM
	is "programs called cc1" "$(programs cc1)" 2
	gamer db list --db $DB | grep -q '^cc1 .* batch ' || fail "$(gamer db list --db $DB)"
	start --db $DB
	n=$(known side compile) || exit
	[ "$n" -ge 40 ] || fail "of 40 known compilers $n began as known"
	# It learns as it goes, but nothing of fewer than 3 observations. One may be a program of who asks.
	n=$(known /tmp/third/side compile 2) || exit
	[ "$n" -lt 2 ] || fail "of 2 compilers of another path $n began as known"
	healthy
	stops TERM
	is "programs called cc1" "$(programs cc1)" 3
	now=$(date +%s)
	trap 'date -s "@$now" >/dev/null' EXIT # now is not local: the trap runs when this function is over
	date -s @0 >/dev/null
	start --db $DB
	n=$(known side compile) || exit
	[ "$n" -ge 40 ] || fail "by a clock whose battery is flat $n of 40 known compilers began as known"
	stops TERM
	gamer db list --db $DB --json >/out/life_db.json
	for n in $(tr ',}' '\n' </out/life_db.json | sed -n 's/"seen_s"://p'); do
		[ "$n" -gt 1735689600 ] || fail "a program was seen at $n"
	done
	gamer db clear --db $DB || fail "clear: exit $?"
	is "programs called cc1" "$(programs cc1)" 0
}
life_db_bad() { : "a bad database is kept as .bad, one that is not ours is left alone; both are reported, and it schedules"
	DB=/tmp/bad.db
	echo garbage >$DB
	start --db $DB
	grep -q "^gamer: $DB .*kept as bad.db.bad" /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	stops TERM
	is "what was kept" "$(cat $DB.bad)" garbage
	[ ! -e $DB ] || gamer db check --db $DB >/dev/null || fail "the new one: exit $?"
	ln -s /tmp/elsewhere /tmp/link.db
	start --db /tmp/link.db
	grep -q "^gamer: /tmp/link.db .*symbolic link.*stays in memory" /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	is "lines said" "$(grep -vc 'no filter of system calls' /tmp/gamer.log)" 2 # 6.12's small configuration has none
	stops TERM
	[ ! -e /tmp/elsewhere ] && [ -h /tmp/link.db ] || fail "the link was written through or replaced"
}

# ---------------------------------------------------------------------------
# 3  load
# ---------------------------------------------------------------------------
load_mixed() { : "10 s of spinning, forking, pinning, pipes and sleep; no thread stands still"
	start
	churn 10 5 >/tmp/churn 2>&1 || fail "$(tail -n 1 /tmp/churn)"
	echo "# load_mixed: $(tail -n 1 /tmp/churn)"
	stayed
}
# Healthy, and the kernel has never ended it.
stayed() {
	healthy
	is restarts "$(status_number restarts)" 0
}
# Still the same gamer, nothing rejected, no allocation.
healthy() {
	wait_for 20 attached || fail "not attached any more: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	kill -0 $G 2>/dev/null || fail "gamer has ended"
	is nr_rejected "$(cat $SCX/nr_rejected)" 0
	is allocations_after_attach "$(status_number allocations_after_attach)" 0
}
came_back() { attached && [ "$(status_number restarts)" -ge "$1" ]; } # TIMES
load_hotplug() { : "a CPU goes and comes under load; gamer restarts with the same options"
	[ -w /sys/devices/system/cpu/cpu3/online ] || skip "this kernel has no CPU hotplug"
	start --profile=performance
	churn 12 15 >/tmp/churn 2>&1 &
	local churn=$! kept
	kept=$(storage)
	echo 0 >/sys/devices/system/cpu/cpu3/online || fail "it does not go"
	wait_for 20 came_back 1 || fail "not back after it went: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	echo 1 >/sys/devices/system/cpu/cpu3/online || fail "it does not come"
	wait_for 20 came_back 2 || fail "not back after it came: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	wait $churn || fail "$(tail -n 1 /tmp/churn)"
	healthy
	tr '\0' ' ' </proc/$G/cmdline | grep -q performance || fail "its options changed"
	is "CPUs online" "$(nproc)" "$CPUS"
	# Where these were freed while CPUs go, 6.14 to 6.19 would deadlock now and then (fault_hotplug).
	[ -n "$kept" ] || fail "no storage of tasks is seen"
	is "storage of tasks and cgroups" "$(storage)" "$kept"
}
# storage: the numbers of gamer's maps of the types that hold what tasks and cgroups own.
storage() { awk 'FNR == 1 { type = 0 } $1 == "map_type:" { type = $2 } $1 == "map_id:" && (type == 29 || type == 32) { print $2 }' /proc/$G/fdinfo/* | sort -un | tr '\n' ' '; }
load_hooks() { : "with every optional hook switched off it still schedules, and says what is off"
	start --hooks=-cgroup,-cpuperf,-kick,-peek,-irq,-immed
	churn 5 5 >/tmp/churn 2>&1 || fail "$(tail -n 1 /tmp/churn)"
	stayed
	is "hooks off" "$(gamer status | grep -c 'switched off; instead')" 6
}
# longest FILE COMMAND...: runs it; FILE says how long any task of the machine waited for a CPU meanwhile, at most, where
# the kernel tells that. Of a task that had waited longer before, only a longer wait counts.
longest() {
	local file=$1 at=/sys/fs/bpf/longest rc; shift
	bpftool prog loadall /bin/longest.bpf $at autoattach >/tmp/longest 2>&1 && cat $at/waits >/tmp/waits
	"$@"
	rc=$?
	[ ! -e $at/waits ] || awk '
		FNR == NR { before[$2] = $1; next }
		$1 > before[$2] + 0 && $1 > ns { ns = $1; task = $3 }
		END { printf "{\"v\":1,\"wait_ms\":%.6f,\"task\":\"%s\"}\n", ns / 1e6, task }' /tmp/waits $at/waits >"$file"
	rm -rf $at
	return $rc
}
load_soak() { : "a game next to the mixed load for SOAK_SECONDS: one gamer through all, and how long anyone waited for a CPU at most"
	local seconds=${SOAK_SECONDS:-8}
	start
	longest /out/soak.wait timeout -s KILL $((seconds * 3 + 120)) gamer-bench --json --seconds "$seconds" \
		--load mixed --load-threads $((2 * CPUS)) >/out/soak.json || fail "bench: exit $?"
	stayed
	echo "# load_soak: $seconds s: $(cat /out/soak.wait 2>/dev/null || echo 'this kernel does not say how long tasks wait')"
}

# ---------------------------------------------------------------------------
# 4  know: the tables that bench prints of it are judged outside
# ---------------------------------------------------------------------------
# observe [ARGS]: a gamer in the background as $G that only looks on.
observe() {
	gamer run --observe "$@" >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 30 answers || fail "no answer: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
}
# game NAME [ARGS]: bench, which asks the gamer that runs; NAME: CHECK.WHAT.
game() {
	local name=$1; shift
	timeout 200 gamer-bench --seconds 3 --json "$@" >"/out/$name.json" || fail "$name: bench exits $?"
}
# Where nobody can flip pages, whoever runs at the rate of frames looks like a compositor.
displays_or_skip() { ls /dev/dri/card* >/dev/null 2>&1 || skip "no DRM device here: anything may be a compositor"; }
know_exact() { : "scheduling: threads with a device are known by its hook within 1 ms, none is taken for another"
	displays_or_skip
	start
	game know_exact.none
	game know_exact.hogs --load hogs --load-threads 8
}
know_outside() { : "no thread outside the game gets a role of a game, whatever it does"
	local bench strange=
	displays_or_skip
	start
	churn 60 60 >/dev/null 2>&1 &
	timerlat 30000 >/dev/null &
	gamer-bench --seconds 10 --load mixed --load-threads 16 --json >/out/know_outside.mixed.json &
	bench=$!
	while ! ended $bench; do
		gamer status | grep '^thread [0-9]' >/tmp/threads
		strange=$strange$(awk -v game=$bench '$3 != game && $5 != "none" && $5 != "cpu_bound" &&
			$5 != "background"' /tmp/threads)
		sleep 1
	done
	wait $bench || fail "bench exits $?"
	killall churn timerlat
	[ -z "$strange" ] || fail "$strange"
}

# ---------------------------------------------------------------------------
# 5  dev: detection by what a game does to real devices
# ---------------------------------------------------------------------------
silence() { # a stdin that says nothing and does not end
	[ -p /tmp/say ] || mkfifo /tmp/say
	exec 3<>/tmp/say
}
# play JOB...: `devices` (or $GAME) in the background as $D, set up, not started; `say` is its stdin.
play() {
	silence
	: >/tmp/played
	"${GAME:-devices}" paused "$@" </tmp/say >/tmp/played 2>&1 3<&- &
	D=$!
	wait_for 20 grep -q ^ready /tmp/played || fail "devices: $(tail -n 1 /tmp/played)"
}
go() { kill -USR1 $D; }
# played JOB...: the same, and observed as the game
played() { play "$@"; observe --game $D; }
# as NAME JOB...: another program of that name does the same, as $O, until `quit`, or the end of the check
as() {
	local name=$1; shift
	ln -sf /bin/devices "/tmp/$name"
	"/tmp/$name" "$@" >"/tmp/as.$name" 2>&1 &
	O=$!
	OTHERS="$OTHERS $O"
}
quit() { local p; for p; do kill "$p" || fail "a program has ended: $(tail -n 1 /tmp/as.*)"; done; OTHERS=; }
# over: it ends and has told its figures: `told JOB FIELD` (2 thread, 3 count, 4 and 5 first
# time, 6 ns in all)
over() { kill -TERM $D; wait $D; }
told() { awk -v j="$1" -v f="$2" '$1 == j { print $f }' /tmp/played; }
# pad NAME [KIND]: a gamepad, or other device, among $PADS, which does what it is told by /tmp/NAME.in; its node is $NODE
pad() {
	local e kind=${2:-gamepad}
	rm -f "/tmp/$1.in"
	mkfifo "/tmp/$1.in"
	devices input "$kind" <>"/tmp/$1.in" >"/tmp/$1.said" 2>&1 &
	PADS="$PADS $!"
	wait_for 20 grep -q ^ready "/tmp/$1.said" || fail "no $kind: $(cat "/tmp/$1.said")"
	for e in /sys/class/input/event*; do
		[ "$(cat "$e/device/name")" != "test $kind" ] || NODE=/dev/input/${e##*/} # the last one
	done
}
# has_sent N: `devices input` has done what it was told: N events in all
has_sent() { wait_for 60 grep -qx "sent $1" /tmp/played || fail "$(tail -n 1 /tmp/played), not $1"; }
# say N LINE: it does it, after which it has sent N events in all
say() {
	local n=$1; shift
	echo "$*" >&3
	has_sent "$n"
}

# serves PID THREAD: class, role, source and confidence of a thread of any program in the table
serves() { gamer status | awk -v p="$1" -v c="$2" '$1 == "thread" && $3 == p && $9 == c { print $4, $5, $6, $7 }'; }
serves_as() { [ "$(serves "$1" "$2")" = "$3" ]; }
# row THREAD: role, source and confidence of the thread of $D with that name
row() { serves "$D" "$1" | cut -d' ' -f2-; }
# task_named THREAD: its tid
task_named() { gamer status | awk -v p="$D" -v c="$1" '$1 == "thread" && $3 == p && $9 == c { print $2 }'; }
row_is() { [ "$(row "$1")" = "$2" ]; }
row_is_not() { ! row_is "$@"; }
has() { wait_for 10 row_is "$1" "$2" || fail "$1 is '$(row "$1")', not '$2'"; }
lacks() { # THREAD... "ROLE SOURCE": none of them has it, and each is known; patterns may differ
	local t is; for last; do :; done
	for t; do
		[ "$t" != "$last" ] || continue
		is=$(row "$t")
		case $is in "$last "*) fail "$t is $is" ;; '') fail "$t is not in the table" ;; esac
	done
}
# number LINE WORD: what follows WORD in status's line "LINE: ..."
word() { gamer status | awk -v l="$1:" -v w="$2" '$1 == l { for (i = 2; i < NF; i++) if ($i == w) { sub(/\..*/, "", $(i + 1)); print $(i + 1) } }'; }
word_is() { [ "$(word "$1" "$2")" = "$3" ]; }
between() { [ -n "$2" ] && [ "$2" -ge "$1" ] && [ "$2" -le "$3" ]; }
word_between() { between "$3" "$(word "$1" "$2")" "$4"; }
# field TID NAME: a number of that thread's entry in status --json
field() { gamer status --json | tr '{' '\n' | grep "\"tid\": *$1," | sed -n "s/.*\"$2\": *\([0-9.]*\).*/\1/p"; }

# needs WHAT...: what this kernel lacks it cannot be asked for
needs() {
	local what
	for what; do
		case $what in
		gpu) [ -e /sys/bus/virtio/drivers/virtio_gpu ] ;;
		sound) [ -e /proc/asound/Dummy ] && [ -e /proc/asound/Loopback ] ;;
		uinput) [ -e /dev/uinput ] ;;
		modetest) command -v modetest >/dev/null ;;
		esac || skip "no $what here"
	done
}

hz_near() { between $(($2 * 9 / 10)) "$(field "$1" submit_hz | cut -d. -f1)" $(($2 * 11 / 10)); }
# A request that virtio_gpu takes, RESOURCE_CREATE (2D), has the number of amdgpu's submits; the other way
# round vgem's FENCE_SIGNAL, which follows each of its fences, has that of virtio_gpu's.
dev_gpu() { : "who submits is gpu from its first request on, at its rate; no other number or driver counts; without page flips frames come from the primary thread's submits, and are called so"
	needs gpu
	local tid at
	played submit 60 + query=request virtio_gpu d 0 60 0 + amdgpu=request virtio_gpu d 0x44 60 2,1,2,16,16,1,1,0,0,0,0,0,4096 + idle 60 + once=submit 0 + second=submit 10
	lacks submit once "gpu gpu"
	go
	has once "gpu gpu 100"
	has submit "gpu gpu 100"
	has second "gpu gpu 100"
	wait_for 10 word_between frame interval_us 15000 18400 || fail "60 submits a second: $(gamer status | grep ^frame:)"
	gamer status | grep -q '^frame: *cadence ' || fail "$(gamer status | grep ^frame:)"
	tid=$(task_named submit)
	wait_for 15 hz_near "$tid" 60 || fail "60 submits a second, status has $(field "$tid" submit_hz)"
	at=$(field "$tid" role_at_ns)
	lacks query amdgpu idle "gpu gpu"
	gamer status --json >/out/gpu.json
	wait_for 15 row_is_not once "gpu gpu 100" || fail "one submit, and gpu for 15 s"
	over
	is "the gpu thread" "$tid" "$(told submit 2)"
	between "$(told submit 4)" "$at" "$(told submit 5)" || fail "role at $at, first submit from $(told submit 4) to $(told submit 5)"
	[ "$(told query 5)" -gt 0 ] && [ "$(told amdgpu 5)" -gt 0 ] || fail "requests that are no submits were refused"
}
dev_refused() { : "what the kernel refuses is no evidence, of the game nor of a user without rights, however often it is asked for"
	needs gpu sound uinput
	local t sound refused
	pad still mouse
	sound=/dev/snd/pcm$(readlink /proc/asound/Dummy | sed 's/card/C/')D0p
	chmod 666 /dev/dri/render* "$sound" "$NODE"
	refused="flip=request virtio_gpu d 0xb0 200 0 + commit=request virtio_gpu d 0xbc 200 0 + exec=request virtio_gpu d 0x42 200 0 \
		+ sound=request $sound A 0x50 200 0 + look $NODE 200 + net=look - 200"
	played submit 60 + $refused
	ln -sf /bin/devices /tmp/stranger
	as_user /tmp/stranger $refused >/tmp/as.stranger 2>&1 &
	O=$!
	go
	sleep 3
	no_rows $O || fail "a user without rights is in the table: $(gamer status | grep "^thread.* $O ")"
	lacks flip commit exec "gpu gpu"
	lacks sound "audio audio"
	lacks look "input input"
	lacks net "network network"
	has submit "gpu gpu 100"
	over
	quit $O
	wait $O
	cat /tmp/as.stranger >>/tmp/played
	for t in flip commit exec sound look net; do
		[ -z "$(awk -v t=$t '$1 == t && ($3 < 200 || $5)' /tmp/played)" ] || fail "taken, or too few: $(grep "^$t " /tmp/played)"
		is "programs that asked for $t" "$(grep -c "^$t " /tmp/played)" 2
	done
}
# modeset [PROGRAM|-a]: modetest, or such a link to it, flips pages as $M; says how often on stderr, every 60 flips
modeset() {
	local connector crtc plane program=modetest
	case ${1:-} in /*) program=$1; shift ;; esac
	modetest -M virtio_gpu -c -p >/tmp/modes 2>/dev/null
	connector=$(awk '$3 == "connected" { print $1 }' /tmp/modes)
	crtc=$(awk '/^CRTCs/ { n = NR + 2 } n && NR == n { print $1 }' /tmp/modes)
	plane=$(awk '/^Planes/ { n = NR + 2 } n && NR == n { print $1 }' /tmp/modes)
	set -- "$@" -M virtio_gpu -s "$connector@$crtc:640x480" -v
	[ "$1" != -a ] || set -- "$@" -P "$plane@$crtc:640x480"
	silence
	: >/tmp/flips
	"$program" "$@" </tmp/say >/dev/null 2>/tmp/flips &
	M=$!
}
flips() { echo $(($(grep -c freq /tmp/flips) * 60)); }
flipped() { [ "$(flips)" -ge "$1" ]; }
dev_flip() { : "modetest's page flips make it the compositor; what is presented, and when, is what it counts"
	needs gpu modetest
	local first before lost low now hz
	play submit 120
	go
	observe --game $D
	modeset
	wait_for 30 flipped 120 || fail "modetest does not flip: $(tail -n 1 /tmp/flips)"
	wait_for 5 serves_as $M modetest "compositor compositor gpu 100" || fail "modetest is '$(serves $M modetest)'"
	# frames count from the submits' cadence until the first flip; modetest counts by sixties
	first=$(word frame presented) before=$(flips)
	lost=$(word frame dropped)
	wait_for 20 flipped $((before + 120)) || fail "modetest stopped flipping: $(tail -n 1 /tmp/flips)"
	low=$(($(flips) - before)) now=$(($(word frame presented) - first))
	between $((low - 60)) "$now" $(($(flips) - before + 65)) ||
		fail "presented $now more, modetest counts $before to $(flips)"
	gamer status | grep -q '^frame: *flip ' || fail "$(gamer status | grep ^frame:)"
	hz=$(sed -n 's/^freq: \([0-9]*\).*/\1/p' /tmp/flips | tail -n 1)
	if between 58 "$hz" 62; then # a real vertical blank, half as often as the game submits
		wait_for 10 word_between frame interval_us $((900000 / hz)) $((1100000 / hz)) ||
			fail "modetest at $hz Hz: $(gamer status | grep ^frame:)"
		between $((now / 3)) $(($(word frame dropped) - lost)) $((now * 2)) || fail "120 submits, 60 flips a second: $(gamer status | grep ^frame:)"
	else # a flip takes as long as it takes
		wait_for 10 word_between frame interval_us $((300000 / hz)) $((3000000 / hz)) ||
			fail "modetest at $hz Hz: $(gamer status | grep ^frame:)"
	fi
	wait_for 10 word_between frame submit_to_present_us 1 100000 || fail "$(gamer status | grep ^frame:)"
	has submit "gpu gpu 100"
}
dev_commit() { : "modetest's atomic commits make it the compositor, unless it is the game; without an event they are no frames"
	needs gpu modetest
	observe
	modeset -a
	wait_for 30 flipped 60 || fail "modetest -a does not flip: $(tail -n 1 /tmp/flips)"
	wait_for 5 serves_as $M modetest "compositor compositor gpu 100" || fail "modetest -a is '$(serves $M modetest)'"
	is "frames presented" "$(word frame presented)" 0
	stops TERM
	observe --game $M
	wait_for 5 serves_as $M modetest "game gpu gpu 100" || fail "as the game modetest is '$(serves $M modetest)'"
	kill $M
	wait $M
	wait_for 5 no_rows $M || fail "modetest has ended; $(gamer status | grep "^thread.* $M ")"
}

window_is() { word_is input window "$1"; }
dev_mouse() { : "a mouse at 1000 and 8000 reports a second: every event counts, the window opens and closes"
	needs uinput
	play input mouse
	go
	observe
	word_is input mouse 0 || fail "begins at $(word input mouse)"
	echo "send 3000 1000" >&3
	wait_for 5 window_is open || fail "1000 events a second, window $(word input window)"
	has_sent 3000
	wait_for 5 window_is closed || fail "nothing moves, window $(word input window)"
	is "mouse events" "$(word input mouse)" 3000
	say 11000 send 8000 8000
	is "mouse events" "$(word input mouse)" 11000
	say 11001 down
	say 11002 up
	is "mouse events" "$(word input mouse)" 11002
	is "other events" "$(word input keyboard) $(word input gamepad) $(word input touch)" "0 0 0"
}
dev_keys() { : "keyboard, gamepad and touch by what they can do; a held key keeps the window open, unplugging ends it"
	needs uinput
	local kind
	observe
	for kind in keyboard gamepad touch; do
		play input $kind
		go
		echo "send 100 50" >&3
		wait_for 5 window_is open || fail "$kind: window closed while events come"
		has_sent 100
		is "$kind events" "$(word input $kind)" 100
		wait_for 5 window_is closed || fail "$kind: window stays open"
		say 101 down
		is "$kind: held" "$(word input held)" 1
		sleep 1.2
		window_is open || fail "$kind: window closed while a key is held"
		say 102 up
		is "$kind: held" "$(word input held)" 0
		wait_for 5 window_is closed || fail "$kind: window stays open after the key is up"
		is "$kind events" "$(word input $kind)" 102
		say 103 down
		is "$kind: held" "$(word input held)" 1
		say 103 destroy
		wait_for 5 word_is input held 0 || fail "$kind: unplugged, held $(word input held)"
		wait_for 5 window_is closed || fail "$kind: unplugged, window $(word input window)"
		over
	done
	play input keyboard
	go
	say 1 down
	is "held" "$(word input held)" 1
	kill -KILL $D
	wait_for 5 word_is input held 0 || fail "its owner is killed, held $(word input held)"
}
dev_unplug() { : "one of two devices is unplugged: the other's held keys stay held until they are up"
	needs uinput
	observe
	pad other keyboard
	echo down >/tmp/other.in
	wait_for 20 word_is input held 1 || fail "one key down, held $(word input held)"
	play input keyboard
	go
	say 1 down
	is "held, one key each" "$(word input held)" 2
	kill -KILL $PADS
	PADS=
	wait_for 10 word_is input held 1 || fail "one of them unplugged, held $(word input held)"
	say 2 down 1
	is "held, two keys" "$(word input held)" 2
	say 3 up 1
	say 4 up
	is "held, all keys up" "$(word input held)" 0
	wait_for 5 window_is closed || fail "all keys up, window $(word input window)"
}
dev_reader() { : "the game's or compositor's thread that reads an event node is input; others are not"
	needs uinput
	local at node stranger
	played input mouse + evdev - + idle 100
	lacks evdev "input input"
	node=$(grep -l "test mouse" /sys/class/input/event*/device/name | sed 's|/sys/class/\(.*\)/device/name|/dev/\1|')
	as stranger evdev "$node"
	stranger=$O
	as kwin_wayland evdev "$node"
	go
	say 200 send 200 100
	has evdev "input input 95"
	wait_for 5 serves_as $O evdev "compositor input input 95" || fail "the compositor's reader is '$(serves $O evdev)'"
	no_rows $stranger || fail "a program that is no game is in the table"
	lacks input idle "input input"
	at=$(field "$(gamer status | awk -v p=$D '$3 == p && $5 == "input" { print $2 }')" role_at_ns)
	over
	is "events it has read" "$(told evdev 3)" 200
	between "$(told evdev 4)" "$at" "$(told evdev 5)" || fail "role at $at, first read from $(told evdev 4) to $(told evdev 5)"
}
dev_hidraw() { : "a gamepad by way of the HID layer: its events count as one's, its hidraw reader is input"
	[ -e /dev/uhid ] && [ -d /sys/bus/hid/drivers/hid-generic ] && [ -d /sys/class/hidraw ] ||
		skip "this kernel has no uhid, hid-generic or hidraw"
	played uhid 100 + reader=evdev /dev/hidraw0 + idle 100
	lacks reader "input input"
	go
	has reader "input input 95"
	lacks idle uhid "input input"
	over
	# It may have been ended between a report and counting it.
	local n=$(($(word input gamepad) - $(told uhid 3)))
	[ $n = 0 ] || [ $n = 1 ] || fail "$(word input gamepad) gamepad events, $(told uhid 3) told"
	is "other events" "$(word input mouse) $(word input keyboard) $(word input touch)" "0 0 0"
}
dev_audio() { : "threads of the game and of sound servers that play by PCM, by write or mmap, are audio"
	needs sound
	local one two player
	as player pcm_write Loopback
	player=$O
	as pipewire pcm_mmap Loopback
	for one in Dummy Loopback; do
		two=Loopback
		[ $one = Dummy ] || two=Dummy
		played pcm_write $one + pcm_mmap $two + idle 100
		lacks pcm_write pcm_mmap "audio audio"
		go
		has pcm_write "audio audio 95"
		has pcm_mmap "audio audio 95"
		lacks idle "audio audio"
		wait_for 5 serves_as $O pcm_mmap "audio audio audio 95" || fail "pipewire is '$(serves $O pcm_mmap)'"
		no_rows $player || fail "a program that is no game is in the table"
		over
		[ "$(told pcm_write 3)" -gt 0 ] && [ "$(told pcm_mmap 3)" -gt 0 ] || fail "nothing was played"
		stops TERM
	done
}
dev_sched() { : "while it schedules it finds the same roles, and those who send and receive by UDP; another program's are none"
	needs gpu sound
	as stranger udp_send 7001 20 + udp_recv 7001
	play submit 60 + udp_send 7000 20 + udp_recv 7000 + pcm_write Dummy + input mouse + evdev - + idle 60
	start --game $D
	go
	say 50 send 50 100
	has submit "gpu gpu 100"
	has udp_send "network network 90"
	has udp_recv "network network 90"
	has pcm_write "audio audio 95"
	has evdev "input input 95"
	lacks idle "gpu gpu"
	lacks idle "network network"
	no_rows $O || fail "a program that is no game is in the table"
}
dev_storm() { : "storms of fork, exec, rename and exit under any name while it schedules: the game stays the game, status stays clean"
	needs gpu
	local n
	play submit 60 + storm + more=storm
	as stranger storm + more=storm
	start --game $D
	go
	for n in 1 2 3; do
		sleep 1
		gamer status >/tmp/s || fail "no answer"
		gamer status --json >"/out/storm$n.json" || fail "no JSON"
		grep -q "^game: *$D\b" /tmp/s || fail "$(grep ^game: /tmp/s)"
		! tr -d '\n' </tmp/s | grep -q '[[:cntrl:]]' || fail "status prints control characters"
		no_rows $O || fail "a program that is no game is in the table"
	done
	has submit "gpu gpu 100"
	over
	[ "$(told storm 3)" -gt 30 ] || fail "only $(told storm 3) forks"
}
dev_auto() { : "who submits frames and reads input becomes the game by itself; what its threads did before counts"
	needs gpu uinput
	play submit 60 + input gamepad + evdev - + slow=submit 2
	go
	observe
	echo "send 5000 100" >&3
	wait_for 10 game_is $D || fail "$(gamer status | grep ^game:)"
	has submit "gpu gpu 100"
	has slow "gpu gpu 100"
	has evdev "input input 95"
	over
	wait_for 5 game_is none || fail "it has ended: $(gamer status | grep ^game:)"
}
# Scenes: which of several programs is the game, where the kernel has a say in it; host_game_scores has more.
# Each program has a name drawn at random, a control group as systemd names it, and its environment; what it
# does is real.
SESSION=/user.slice/user-1000.slice/session-2.scope
APPS=/user.slice/user-1000.slice/user@1000.service/app.slice
drawn() { tr -dc a-z </dev/urandom | head -c 9; }
# act NAME CGROUP "VARIABLE=VALUE..." JOB...: such a program, as $A and among $ACTORS
act() {
	local name=$1 group=/sys/fs/cgroup$2 env=$3; shift 3
	ln -sf /bin/devices "/tmp/scene/$name"
	mkdir -p "$group"
	# shellcheck disable=SC2086 # several variables
	(echo 0 >"$group/cgroup.procs"; exec env $env "/tmp/scene/$name" "$@") </dev/null >"/tmp/scene/$name.said" 2>&1 &
	A=$!
	ACTORS="$ACTORS $A"
}
# child_of NAME: the process that runs by now under that name, as $A
child_of() {
	wait_for 10 pidof "$1" >/dev/null || fail "$1 has not been started"
	A=$(pidof "$1")
	ACTORS="$ACTORS $A"
}
# told_to PROGRAM...: what a shell runs to become it once there is /tmp/scene/go
told_to() {
	rm -f /tmp/scene/go
	echo "until [ -e /tmp/scene/go ]; do usleep 100000; done; exec $*"
}
# scene WHAT: another begins; the one before had as many changes as it was to have
scene() {
	kill -CONT $ACTORS 2>/dev/null
	kill -KILL $ACTORS 2>/dev/null
	ACTORS=
	wait_for 20 game_is none || fail "$SCENE: all have ended: $(gamer status | grep ^game:)"
	[ "$(grep -c '^gamer: game: [0-9]' /tmp/gamer.log)" = $CHANGES ] || fail "$SCENE: $CHANGES games so far: $(grep '^gamer: game: [0-9]' /tmp/gamer.log | tail -n 3)"
	SCENE=$1
}
becomes() { # PID; host_game_scores knows how soon
	wait_for 20 game_is "$1" || fail "$SCENE: not $1: $(gamer status | grep ^game:)"
	CHANGES=$((CHANGES + 1))
	gamer status | grep ^game: | sed "s/^/$SCENE: /" >&2
}
stays() { # PID|none: for 6 s and more
	sleep 6
	game_is "$1" || fail "$SCENE: no longer $1: $(gamer status | grep ^game:)"
	gamer status | grep ^game: | sed "s/^/$SCENE: /" >&2
}
press() { echo "send $2 20" >"/tmp/$1.in"; }
rests() { ! gamer status | grep -q '^game: .*reads a gamepad'; }
dev_scenes() { : "the right game in 19 scenes of programs with drawn names, none where there is none, one change for each real change"
	needs gpu modetest uinput
	local A='' ACTORS='' M one two keys first game SCENE=none CHANGES=0
	local steam="SteamAppId=570 SteamGameId=570"
	mkdir -p /tmp/scene /usr/share/applications
	pad one; one=$NODE
	pad two; two=$NODE
	pad keys keyboard; keys=$NODE
	observe
	scene native; act "$(drawn)" $SESSION "" submit 60; becomes $A
	scene desktop
	act firefox-esr $APPS/app-gnome-firefox\\x2desr-11.scope "" demand 60
	act "$(drawn)" $APPS/app-blender-12.scope "" submit 60
	act "$(drawn)" $APPS/dbus-:1.2-org.gnome.Nautilus@0.service "" demand 30
	act "$(drawn)" $SESSION "" demand 60
	stays none
	scene "browsers without a control group of their own"; game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
	cp /bin/devices /tmp/scene/WebKitWebProcess
	act "$(drawn)" $SESSION "" submit 60 + start "exec -a --type=renderer /tmp/scene/$game idle 1"; child_of "$game"
	act "$(drawn)" $SESSION "" submit 60 + start "exec /tmp/scene/WebKitWebProcess submit 60"
	child_of WebKitWebProcess; stays none
	scene "applications without a control group of their own"; game=$(drawn); cp /bin/devices "/tmp/scene/$game"
	printf '[Desktop Entry]\nName=x\nCategories=Graphics;\n' >"/usr/share/applications/$game.desktop"
	act sway $SESSION "" idle 1 + start "exec /tmp/scene/$game submit 60"
	child_of "$game"; stays none; kill $A
	printf '[Desktop Entry]\nName=x\nCategories=Graphics;\nNoDisplay=true\n' >"/usr/share/applications/$game.desktop"
	"/tmp/scene/$game" submit 60 >/dev/null & ACTORS="$ACTORS $!"; becomes $! # an interpreter's
	scene "launcher first"; game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
	act "$(drawn | head -c 3)launcher" $APPS/app-steam-1.scope "$steam" submit 60 + start "$(told_to /tmp/scene/$game submit 60)"
	becomes $A; : >/tmp/scene/go; child_of "$game"; becomes $A; stays $A
	scene "launcher that stops"; game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
	act "$(drawn)" $APPS/app-steam-1.scope "$steam" submit 60 + start "$(told_to /tmp/scene/$game submit 60)"
	first=$A; becomes $A; : >/tmp/scene/go; child_of "$game"; kill -STOP $first; becomes $A; stays $A
	scene java; act browser $APPS/app-browser-3.scope "" demand 60; act java $SESSION "" submit 60 + threads 20; becomes $A
	scene flatpak; game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
	printf '[Desktop Entry]\nName=x\nCategories=Action;Game;\n' >"/usr/share/applications/org.$game.desktop"
	act bwrap $APPS/app-flatpak-org.$game-9.scope "" idle 1 + start "exec env -i /tmp/scene/$game submit 60"
	child_of "$game"; becomes $A
	scene pressure-vessel; game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
	act reaper $APPS/app-steam-1.scope "$steam" idle 1 + start "exec env -i /tmp/scene/$game submit 60"
	child_of "$game"; becomes $A; gamer status | grep -q "^game: $A .*started by a launcher" || fail "$SCENE: $(gamer status | grep ^game:)"
	scene wine; act "$(drawn).exe" $SESSION WINEPREFIX=/x submit 60; becomes $A
	scene "paused, then another is played"
	act "$(drawn)" $SESSION "" submit 60; first=$A; becomes $A; kill -STOP $A; stays $A
	act "$(drawn)" $SESSION "" submit 60; becomes $A; stays $A
	scene "two games"
	act "$(drawn)" $SESSION "" submit 60 + evdev $one; first=$A; becomes $A
	act "$(drawn)" $SESSION "" submit 60 + evdev $two; stays $first
	press two 1000; becomes $A; stays $A
	scene "two games of one launcher, and the first draws on"
	for first in 1 2; do
		game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
		act reaper $APPS/app-steam-1.scope "$steam" idle 1 + start "exec env -i /tmp/scene/$game submit 60"
		child_of "$game"; becomes $A
	done
	stays $A
	scene "the desktop's keyboard, then a gamepad"
	press keys 1000
	act "$(drawn)" $APPS/app-gnome-x-7.scope "" submit 60 + evdev $keys; stays none
	act "$(drawn)" $APPS/app-gnome-y-8.scope "" submit 60 + evdev $two; becomes $A
	scene "the player rests"; pad three
	act "$(drawn)" $APPS/app-gnome-z-9.scope "" submit 60 + evdev $NODE; first=$A; press three 200; becomes $A
	wait_for 20 rests || fail "$SCENE: $(gamer status | grep ^game:)"
	act "$(drawn)" $APPS/app-gnome-x-10.scope "" demand 60; stays $first
	scene "full screen"; game=$(drawn); ln -s "$(command -v modetest)" "/tmp/scene/$game"
	modeset "/tmp/scene/$game"; ACTORS="$ACTORS $M"; becomes $M; stays $M
	gamer status | grep -q "^game: $M .*fills the screen by itself" || fail "$SCENE: $(gamer status | grep ^game:)"
	scene "a session that is a user's service"; game=$(drawn); ln -s /bin/devices "/tmp/scene/$game"
	act cage $APPS/kiosk.service "" idle 1 + start "exec /tmp/scene/$game submit 60"
	child_of "$game"; becomes $A
	scene service; act "$(drawn)" /system.slice/x.service "" submit 60; stays none
	scene "told by hand"
	act "$(drawn)" $SESSION GAMER_GAME=1 idle 1; first=$A; becomes $A
	act "$(drawn)" $APPS/app-steam-1.scope "$steam" submit 60; stays $first
	scene end
	! grep 'cannot be' /tmp/gamer.log || fail "$(grep 'cannot be' /tmp/gamer.log)"
}
# gamer-bench is a name that makes a program the game as soon as it starts
dev_learned() { : "a game's submitting thread is known before its first submit in the next run, by the game's path"
	needs gpu
	local DB=/tmp/learned.db GAME=/tmp/gamer-bench
	rm -f $DB $GAME
	cp /bin/devices $GAME
	start --db $DB
	play submit 240 + idle 60
	wait_for 20 game_is $D || fail "$(gamer status | grep ^game:)"
	row_is submit "none none 0" || row_is submit "worker name 40" || fail "before its first submit: $(row submit)"
	go
	has submit "gpu gpu 100"
	wait_for 60 woken gpu 400 || fail "400 submits: $(gamer status | grep '^wakeup.gpu ')"
	over
	wait_for 5 game_is none || fail "it has ended: $(gamer status | grep ^game:)"
	stops TERM
	gamer db list --db $DB | grep -q '^submit .* gpu ' || fail "$(gamer db list --db $DB)"
	start --db $DB
	play submit 240 + idle 60
	wait_for 20 game_is $D || fail "again: $(gamer status | grep ^game:)"
	case $(row submit) in "gpu learned "*) ;; *) fail "in the next run: $(row submit)" ;; esac
	case $(row idle) in *learned*) fail "idle is $(row idle)" ;; esac
	go
	has submit "gpu gpu 100"
	over
	mkdir -p /tmp/elsewhere
	mv $GAME /tmp/elsewhere/
	GAME=/tmp/elsewhere/gamer-bench
	wait_for 5 game_is none || fail "it has ended again: $(gamer status | grep ^game:)"
	play submit 240
	wait_for 20 game_is $D || fail "elsewhere: $(gamer status | grep ^game:)"
	case $(row submit) in *learned*) fail "of another path: $(row submit)" ;; esac
	go
}
rows() { gamer status | awk -v p="$1" '$1 == "thread" && ($2 == p || $3 == p)' | wc -l; }
no_rows() { [ "$(rows "$1")" = 0 ]; }
dev_exec() { : "a game that becomes another program, out of its first thread or another, stays the game; killed it is gone, with its threads"
	local by
	printf '#!/bin/sh\nexec devices udp_send 7000 20 + udp_recv 7000\n' >/tmp/second
	chmod +x /tmp/second
	for by in exec exec_first; do
		played idle 20 + $by /tmp/second
		go
		has udp_recv "network network 90"
		has udp_send "network network 90"
		game_is $D || fail "$(gamer status | grep ^game:)"
		kill -KILL $D
		wait_for 5 game_is none || fail "killed: $(gamer status | grep ^game:)"
		wait_for 5 no_rows $D || fail "killed: $(rows $D) of its threads are left"
		stops TERM
	done
}
# next_pid N COMMAND...: runs it in the background, as process N
next_pid() {
	local want=$1 n; shift
	for n in 1 2 3 4 5 6 7 8 9 10; do
		echo $((want - 1)) >/proc/sys/kernel/ns_last_pid
		"$@" &
		[ $! != "$want" ] || return 0
		kill -KILL $!
		wait $!
	done
	return 1
}
dev_reuse() { : "a process that gets the game's pid, or a role's tid, again is not the game and has no role"
	local tid game
	[ -e /proc/sys/kernel/ns_last_pid ] || skip "this kernel cannot choose a pid"
	played udp_send 7000 20
	go
	has udp_send "network network 90"
	tid=$(gamer status | awk -v p=$D '$3 == p && $5 == "network" { print $2 }')
	game=$D
	kill -KILL $D
	wait $D
	next_pid "$tid" sleep 60 || fail "pid $tid could not be had again"
	next_pid "$game" devices idle 60 >/tmp/other || fail "pid $game could not be had again"
	sleep 2
	! game_is "$game" || fail "the game is dead; its pid's next owner took its place"
	! game_is "$tid" || fail "the game is dead; its thread's next owner took its place"
	no_rows "$game" || fail "$(gamer status | grep "^thread.* $game ")"
	no_rows "$tid" || fail "$(gamer status | grep "^thread *$tid ")"
	kill "$game" "$tid"
}
# many THREADS: all of them are in status or counted there, and gamer is as small as ever
many() {
	local n
	n=$(gamer status | awk '/^thread +[0-9]/ { n++ } / more threads\)$/ { n += substr($1, 2) } END { print n }')
	is "threads of the game" "$n" "$1"
	has udp_send "network network 90"
	gamer status --json >/out/many.json || fail "no JSON"
	small
}
tasks_are() { [ "$(ls /proc/$D/task | wc -l)" = "$1" ]; }
dev_many() { : "5000 threads of the game are all registered, those that come and those that were there, within 4 MB"
	play udp_send 7000 20 + threads 5000
	start --game $D
	go
	wait_for 60 tasks_are 5003 || fail "only $(ls /proc/$D/task | wc -l) threads"
	many 5003
	stops TERM
	observe --game $D
	many 5003
	over
	wait_for 5 game_is none || fail "it has ended: $(gamer status | grep ^game:)"
}
# Each hook, and the thread whose role it finds; those that find none, together
off() { echo "-$1" | sed "s/[ ,]/,-/g"; }
HOOKS_DEV="gpu:submit readers:evdev audio:pcm_write network:udp_send runtime,nvidia,frame,wine,input,game,name:-"
role_of() { case $1 in submit) echo gpu gpu 100 ;; evdev) echo input input 95 ;; pcm_write) echo audio audio 95 ;; udp_send) echo network network 90 ;; esac; }
dev_hooks() { : "each hook can be switched off, is said to be off, and takes only its own roles with it"
	needs gpu sound
	local pair hook lost t
	play submit 60 + udp_send 7000 20 + pcm_write Dummy + input mouse + evdev -
	go
	for pair in $HOOKS_DEV; do
		hook=${pair%:*} lost=${pair#*:}
		observe --game $D "--hooks=$(off $hook)"
		echo "send 20 1000" >&3
		for t in $(echo $hook | tr , ' '); do
			gamer status | grep -q "^hook $t:.*switched off" || fail "-$t: $(gamer status | grep "^hook $t:")"
		done
		for t in submit udp_send pcm_write evdev; do
			[ $t = "$lost" ] || has $t "$(role_of $t)"
		done
		[ "$lost" = - ] || row_is_not "$lost" "$(role_of "$lost")" || fail "-$hook: $lost is $(row "$lost")"
		stops TERM
	done
}
dev_off() { : "with every hook of detection off none of their programs is loaded; it runs, and knows the game it was told"
	local all
	all=$(off "$(echo "$HOOKS_DEV" | sed 's/:[^ ]*//g')")
	play udp_send 7000 20 + udp_recv 7000
	go
	observe -v --game $D "--hooks=$all"
	# run_ended waits for a client to ask for it
	! grep verified /tmp/gamer.log | grep -v ' threads: \| run_ended: ' >/tmp/loaded || fail "$(head -n 1 /tmp/loaded)"
	grep -q 'verified threads: ' /tmp/gamer.log || fail "does not say what was verified"
	game_is $D || fail "$(gamer status | grep ^game:)"
	sleep 1
	lacks udp_send udp_recv "network network"
	is "hooks off" "$(gamer status | grep -c 'switched off')" "$(echo "$all" | tr , '\n' | wc -l)"
}

# ---------------------------------------------------------------------------
# 6  tell: events by real causes, read back by `gamer events`; its files
# ---------------------------------------------------------------------------
# A counter, as status has it; 0 where it is left out because it is 0.
told_of() { gamer status | awk -v k="$1" '$1 == k { n = $2 } END { print n + 0 }'; }
told_is() { [ "$(told_of "$1")" = "$2" ]; }
# hear FILE [ARGS]: `gamer events ARGS` as $C, which has its answer
hear() {
	local file=$1; shift
	: >"$file"
	gamer events "$@" >"$file" 2>&1 &
	C=$!
	wait_for 20 grep -q '"command":"events"' "$file" || fail "events $*: $(tail -n 1 "$file")"
}
# heard FILE NAME: so many events of that name; lost FILE TYPE: what that client was told to be lost
heard() { grep -c "\"event\":\"$2\"" "$1"; }
heard_is() { [ "$(heard "$1" "$2")" = "$3" ]; }
lost() { sed -n "s/.*\"event\":\"lost\".*\"type\":\"$2\",\"count\":\([0-9]*\).*/\1/p" "$1" | awk '{ n += $1 } END { print n + 0 }'; }
# leave CLIENT...: they end, as they were told to
leave() {
	local c
	for c; do
		kill -TERM "$c"
		wait "$c" || fail "a client ended with $?: gamer has hung up"
	done
}
# line FILE WORD...: there is a line with all these words
line() {
	local file=$1; shift
	awk -v words="$*" 'BEGIN { n = split(words, word, " ") }
		{ for (i = 1; i <= n; i++) if (!index($0, word[i])) next; found = 1; exit }
		END { exit !found }' "$file"
}
waits() { # FILE WORD...
	wait_for 15 line "$@" || { local file=$1; shift; fail "no event with $* in $(wc -l <"$file"), the last: $(tail -n 1 "$file")"; }
}
# accounts TYPE: all that BPF sent has been read
accounts() { [ "$(told_of "events.$1")" = "$(told_of "events_read.$1")" ]; }

tell_types() { : "each of the eight types by a real cause, with the fields that it must have; they are told apart by type, thread and process"
	needs gpu uinput
	local all=/out/all.jsonl tid clients listener
	start
	hear $all
	listener=$C
	play submit 60 + input mouse + evdev - + other=submit 5
	go
	echo "send 1500 500" >&3
	wait_for 30 game_is $D || fail "$(gamer status | grep ^game:)"
	tid=$(task_named submit)
	waits $all '"event":"input"' '"kind":"mouse"' '"what":"motion"'
	waits $all '"event":"game"' "\"pid\":$D," '"what":"gpu"'
	waits $all '"event":"game"' "\"pid\":$D," '"what":"chosen"' '"comm":"devices"'
	waits $all '"event":"classification"' "\"tid\":$tid," '"role":"gpu"' '"source":"gpu"' '"confidence":100' '"class":"game"'
	waits $all '"event":"gpu_submit"' "\"tid\":$tid," '"driver":"vgem"' '"request":65' '"primary":1'
	waits $all '"event":"gpu_submit"' "\"tid\":$(task_named other)," '"primary":0'
	waits $all '"event":"frame_timing"' '"source":"cadence"'
	has_sent 1500
	say 1501 down
	say 1502 up
	waits $all '"event":"input"' '"what":"press"'
	waits $all '"event":"input"' '"what":"release"'
	hear /out/tid.jsonl --type migration,gpu_submit --tid "$tid"
	clients=$C
	hear /tmp/types --type deadline_miss
	clients="$clients $C"
	hear /tmp/ran --type run
	waits /tmp/ran '"event":"run"' "\"tid\":$tid," '"role":"gpu"' '"comm":"submit"' '"run_us":'
	leave $C
	sent_about() {
		taskset -p 2 "$tid" >/dev/null
		usleep 100000
		taskset -p 4 "$tid" >/dev/null
		line $all '"event":"migration"' "\"tid\":$tid," '"cpu":2' '"from":1'
	}
	wait_for 15 sent_about
	waits $all '"event":"migration"' "\"tid\":$tid," '"cpu":2' '"from":1'
	waits /out/tid.jsonl '"event":"migration"' "\"tid\":$tid," '"cpu":2' '"from":1'
	as hog hog 2 1500
	waits $all '"event":"deadline_miss"' "\"tid\":$tid," '"role":"gpu"'
	waits /tmp/types '"event":"deadline_miss"'
	leave $clients
	over
	wait_for 5 game_is none || fail "$(gamer status | grep ^game:)"
	waits $all '"event":"game"' "\"pid\":$D," '"what":"gone"'
	leave $listener
	[ "$(grep '"event"' /out/tid.jsonl | grep -vc "\"tid\":$tid,")" = 0 ] || fail "asked for one thread: $(grep -v "\"tid\":$tid," /out/tid.jsonl | tail -n 1)"
	[ "$(grep '"event"' /out/tid.jsonl | grep -vc 'migration\|gpu_submit')" = 0 ] || fail "asked for two types: $(tail -n 1 /out/tid.jsonl)"
	[ "$(grep '"event"' /tmp/types | grep -vc deadline_miss)" = 0 ] || fail "asked for one type: $(tail -n 1 /tmp/types)"
	is allocations_after_attach "$(status_number allocations_after_attach)" 0
}
tell_flip() { : "frames that a display shows are told with their times; by process, none but that of the game"
	needs gpu modetest
	local all=/out/flips.jsonl c
	play submit 120 + idle 50
	go
	observe --game $D
	modeset
	hear /tmp/flips.all --type frame_timing,classification
	c=$C
	hear $all --pid $D
	wait_for 30 flipped 120 || fail "modetest does not flip: $(tail -n 1 /tmp/flips)"
	waits $all '"event":"frame_timing"' '"source":"flip"' '"interval_us":' '"submit_to_present_us":' '"compositor_us":'
	waits /tmp/flips.all '"event":"classification"' "\"pid\":$M," '"role":"compositor"'
	kill $M
	wait $M
	leave $c $C
	over
	[ "$(grep '"event"' $all | grep -vc "\"pid\":$D,")" = 0 ] || fail "asked for one process: $(grep '"event"' $all | grep -v "\"pid\":$D," | tail -n 1)"
}
tell_full() { : "a ring that is full: what was sent, read and lost is what the device did, and who listens is told"
	needs uinput
	local n
	play input mouse
	observe
	hear /tmp/heard --type input
	go
	say 100 send 100 1000
	wait_for 10 told_is events_read.input 100 || fail "100 events, $(told_of events_read.input) read"
	kill -STOP $G
	say 6100 send 6000 8000
	kill -CONT $G
	wait_for 10 accounts input || fail "$(told_of events.input) sent, $(told_of events_read.input) read"
	say 6200 send 100 1000
	wait_for 10 accounts input || fail "$(told_of events.input) sent, $(told_of events_read.input) read"
	n=$(told_of events_lost.input)
	wait_for 10 heard_is /tmp/heard input $((6200 - n)) || fail "$n lost of 6200, and $(heard /tmp/heard input) lines"
	leave $C
	echo "# of 6200 events $n found no room" | tee -a /out/figures
	is "the device's events" "$(told_of input_mouse)" 6200
	is "sent and lost" "$(($(told_of events.input) + n))" 6200
	# a record is 24 bytes, and 8 before it; the ring holds 64 KiB
	between 3900 "$n" 4000 || fail "$n of 6000 lost"
	is "lost, as the client was told" "$(lost /tmp/heard input)" "$n"
	hear /tmp/heard --type input
	kill -STOP $G
	say 6300 send 100 1000
	leave $C
	kill -CONT $G
	wait_for 10 answers || fail "no answer after the one who listened has left"
	is "sent, then nobody listens; read" "$(told_of events_read.input)" "$(told_of events.input)"
}
tell_stalled() { : "who does not read is dropped and counted; another misses nothing and is told no later"
	needs uinput
	local c
	play input mouse
	observe
	go
	hear /tmp/heard --type input
	c=$C
	mkfifo /tmp/deaf
	exec 6<>/tmp/deaf # which has room for what a pipe holds
	gamer events --type input >/tmp/deaf 6<&- &
	C=$!
	wait_for 20 clients_are 3 || fail "$(status_number clients) clients"
	say 50000 send 50000 8000
	wait_for 10 told_is events_read.input 50000 || fail "50000 events, $(told_of events_read.input) read"
	wait_for 1 heard_is /tmp/heard input 50000 || fail "all are read, and who listens has $(heard /tmp/heard input) of 50000"
	wait_for 10 told_is clients_dropped 1 || fail "50000 events, and who reads none is still there"
	leave $c $C
	exec 6<&-
}
# busy SECONDS: $BUSY is user-space CPU of gamer, in parts of a million, over that time, in which
# the mouse sends 8000 events a second, as far as the machine can: by then $SENT of them in all.
hundredths() { tr -d . </proc/uptime | cut -d' ' -f1; }
busy() {
	local start now cpu
	start=$(hundredths) now=$start cpu=$(told_of cpu_us)
	echo "send 8000 8000" >&3
	while [ $((now - start)) -lt $(($1 * 100)) ]; do
		echo "send 8000 8000" >&3 # so that it has always more to send
		SENT=$((SENT + 8000))
		has_sent "$SENT"
		now=$(hundredths)
	done
	BUSY=$((($(told_of cpu_us) - cpu) * 100 / (now - start)))
	SENT=$((SENT + 8000))
	has_sent "$SENT"
}
tell_rate() { : "8 kHz mouse and 240 Hz frames: every event is accounted for, nothing is allocated"
	needs gpu uinput
	local SENT=0 BUSY alone unheard n
	play submit 240 + input mouse + evdev -
	start --game $D
	go
	busy 3
	has submit "gpu gpu 100"
	busy 3
	alone=$BUSY unheard=$SENT
	is "the device's events" "$(told_of input_mouse)" "$SENT"
	is "events sent, while nobody listens" "$(told_of events.input)" 0
	hear /tmp/heard
	busy 5
	over
	for n in input frame_timing gpu_submit migration classification deadline_miss; do
		wait_for 10 accounts $n || fail "$n: $(told_of events.$n) sent, $(told_of events_read.$n) read"
		wait_for 10 heard_is /tmp/heard $n "$(told_of events_read.$n)" || fail "$n: $(told_of events_read.$n) read, $(heard /tmp/heard $n) lines"
	done
	leave $C
	is "input events sent and lost" "$(($(told_of events.input) + $(told_of events_lost.input)))" $((SENT - unheard))
	for n in input frame_timing gpu_submit migration classification deadline_miss; do
		is "$n: lost, as told" "$(lost /tmp/heard $n)" "$(told_of events_lost.$n)"
		echo "# $n: $(told_of events.$n) sent, $(told_of events_lost.$n) lost" | tee -a /out/figures
	done
	echo "# user space, millionths of a CPU (emulated): $alone with nobody, $BUSY with a client that takes all" | tee -a /out/figures
	[ "$(heard /tmp/heard frame_timing)" -gt 250 ] || fail "only $(heard /tmp/heard frame_timing) frames"
	is allocations_after_attach "$(status_number allocations_after_attach)" 0
}
mappings() { grep -c anon_inode:bpf-map "/proc/$G/maps"; }
tell_leave() { : "clients that come and go 30 times cost no memory; with all rings mapped it stays within 4 MB"
	local before
	observe
	before=$(mappings)
	greeted() { gamer events | head -n 1 | grep '"command":"events"'; } # within 10 s, which a busy host may not have
	for _ in $(seq 30); do wait_for 10 greeted || fail "no answer"; done
	hear /tmp/heard
	echo "# resident with all rings mapped: $(resident) KB" | tee -a /out/figures
	small
	is "mappings of rings that came" "$(($(mappings) - before))" 12
	leave $C
	is clients_dropped "$(told_of clients_dropped)" 0
}
inode() { ls -i "$1" | awk '{ print $1 }'; }
# whole FILE FIRST LAST: it is replaced, never written to: who has it open reads on what it was
whole() {
	local file=$1 was text
	was=$(inode "$file")
	exec 5<"$file"
	replaced() { [ "$(inode "$file")" != "$was" ]; }
	wait_for 25 replaced || fail "$file is not replaced"
	text=$(cat <&5)
	exec 5<&-
	for text in "$text" "$(cat "$file")"; do
		echo "$text" | head -n 1 | grep -q "$2" && echo "$text" | tail -n 1 | grep -q "$3" ||
			fail "$file is not whole, it ends: $(echo "$text" | tail -n 1)"
	done
}
presented() { [ "$(status_number presented)" -ge "$1" ]; }
fps_between() { between "$1" "$(sed -n 's/^fps \([0-9]*\).*/\1/p' /run/gamer/status)" "$2"; }
tell_files() { : "the status and metrics files are there while a game runs, current, and never half written"
	needs gpu
	local file
	play submit 60
	observe --game $D --metrics-file /tmp/gamer.prom
	go
	for file in fps fps_1_percent_low frame_p99_ms frames_dropped deadline_misses; do
		wait_for 10 grep -q "^$file [0-9]" /run/gamer/status || fail "no $file: $(cat /run/gamer/status)"
	done
	grep -qx "game $D devices" /run/gamer/status || fail "$(cat /run/gamer/status)"
	wait_for 10 presented 101 || fail "frames: $(status_number presented)"
	gamer status --json >/out/status.low.json # while it has the times of all frames: judge.py reckons by them
	whole /run/gamer/status '^gamer ' '^deadline_misses [0-9]'
	whole /tmp/gamer.prom '^# HELP ' gamer_events_read
	wait_for 15 fps_between 40 66 || fail "60 submits a second: $(grep fps /run/gamer/status)"
	gamer status --metrics >/out/game.metrics
	grep -q gamer_frame_time_seconds_bucket /out/game.metrics || fail "no frame times in the metrics"
}
tell_group() { : "only root asks, and a group that is named"
	observe
	as_user gamer status >/tmp/said 2>&1
	is "exit code of another user" $? 77
	stops TERM
	observe --socket-group 1000
	as_user gamer status >/tmp/said 2>&1
	is "exit code of a member" $? 0
	stops TERM
	observe --socket-group 1001
	as_user gamer status >/tmp/said 2>&1
	is "exit code of no member" $? 77
	as_user gamer events --seconds 1 >/tmp/said 2>&1
	is "exit code of its listener" $? 77
}

# ---------------------------------------------------------------------------
# 7  fault
# ---------------------------------------------------------------------------
# falls ARGS: a gamer that --test lets fail; it has ended with 70, and says so
falls() {
	gamer run "$@" >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 90 ended $G || fail "does not end: $(tail -n 1 /tmp/gamer.log)"
	gone
	is "exit code" "$RC" 70
}
restarts_said() { grep -c '^gamer: restart [0-9]* of ' /tmp/gamer.log; }
restarts_are() { [ "$(restarts_said)" -ge "$1" ]; }
fault_error() { : "an error in the scheduler: started again as often as asked, each time said, then exit 70 and why in last_exit"
	falls --test error --restarts 1
	is "restarts" "$(restarts_said)" 1
	is "errors" "$(grep -c 'injected$' /tmp/gamer.log)" 2
	grep -q '^gamer: restart 1 of 1 in 1 s$' /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	grep -q '^exit=70 .*injected' /run/gamer/last_exit || fail "last_exit: $(cat /run/gamer/last_exit)"
	gamer run --help | grep -q -e --test && fail "--test is for tests"
	true
}
fault_stall() { : "a task that never gets a CPU: the kernel takes over after at most 5 s; exit 70 and why in last_exit, whatever its name"
	hogs=
	# nearly all that is queued has a name that sets a terminal's title; the kernel says it as it is
	for _ in $(seq $((CPUS * 2))); do
		(printf '\033]0;Pok\303\251mon\007' >/proc/self/comm; while :; do :; done) &
		hogs="$hogs $!"
	done
	trap 'kill $hogs' EXIT # not local: the trap runs when this function is over
	for _ in 1 2 3; do
		falls --test stall --restarts 0
		is "restarts" "$(restarts_said)" 0
		grep -q '^exit=70 .*runnable task stall.*failed to run for [5-9]\.' /run/gamer/last_exit ||
			fail "last_exit: $(cat -v /run/gamer/last_exit)"
		is "bytes that are no text" "$(cat /run/gamer/last_exit /tmp/gamer.log | tr -d '\040-\176\n\303\251' | wc -c)" 0
		! grep -q '?\]0;Pokémon?\[[0-9]*\] failed' /run/gamer/last_exit /tmp/gamer.log || return 0
	done
	fail "last_exit names others: $(cat -v /run/gamer/last_exit)"
}
fault_backoff() { : "SIGTERM between two restarts ends it at once; others are no harm there, and the status file tells"
	local t
	gamer run --test error --restarts 10 >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 180 restarts_are 3 || fail "$(tail -n 1 /tmp/gamer.log)"
	grep -q 'restart 3 of 10 in 4 s' /run/gamer/status || fail "status: $(cat /run/gamer/status)"
	kill -USR1 $G
	kill -HUP $G
	t=$(cut -d. -f1 /proc/uptime)
	kill -TERM $G
	wait $G
	is "exit code" $? 0
	t=$(($(cut -d. -f1 /proc/uptime) - t))
	[ $t -le 5 ] || fail "it took $t s"
}

fault_privileges() { : "after attach only some capabilities are in force, no new ones, and system calls are filtered; --no-seccomp opens those"
	start --test call
	grep -q 'a forbidden call: fails' /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	is "Seccomp" "$(of_process Seccomp)" 2
	is "NoNewPrivs" "$(of_process NoNewPrivs)" 1
	# for its child: sys_ptrace, checkpoint_restore, dac_read_search; to load again: bpf, perfmon, sys_admin
	is "CapEff" "$(of_process CapEff)" 0000000000000000
	is "CapPrm" "$(of_process CapPrm)" 000001c000280004
	is "oom_score_adj" "$(cat /proc/$G/oom_score_adj)" -1000
	healthy
	stops TERM
	observe --no-seccomp --test call
	grep -q 'a forbidden call: works' /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	is "Seccomp" "$(of_process Seccomp)" 0
}
of_process() { sed -n "s/^$1:[[:space:]]*//p" /proc/$G/status; }
# capable MASK: a gamer whose file has these capabilities, and a folder for who runs it
capable() {
	mkdir -p /tmp/capable
	chown 1000:1000 /tmp/capable
	export RUNTIME_DIRECTORY=/tmp/capable
	cp /bin/gamer /tmp/capable/gamer
	filecap "$1" /tmp/capable/gamer || skip "no capabilities of files here"
}
fault_capable() { : "an ordinary user runs a gamer whose file has CAP_BPF and CAP_PERFMON; what is missing is named"
	local mask
	for mask in 8000000000:CAP_PERFMON 4000000000:CAP_BPF; do
		capable ${mask%:*}
		as_user /tmp/capable/gamer run --observe >/tmp/gamer.log 2>&1
		is "exit code" $? 77
		grep -q "not permitted without ${mask#*:}" /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	done
	capable c000000000
	as_user /tmp/capable/gamer run --db= >/tmp/gamer.log 2>&1 &
	G=$!
	wait_for 90 attached || fail "$(tail -n 1 /tmp/gamer.log)"
	wait_for 20 answers || fail "attached, but status has no answer"
	gamer status | grep '^hook [giar]' >&2
	is "its user" "$(of_process Uid | cut -f1)" 1000
	is "CapEff" "$(of_process CapEff)" 0000000000000000
	grep -q '^gamer: capabilities are missing: CAP_SYS_ADMIN (no hooks in kernel modules), .*CAP_SYS_PTRACE' /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
}
filled() { ! dd if=/dev/zero of=/tmp/full/filler bs=4096 2>/dev/null; }
fault_full() { : "a file system without room for status, metrics and database: said once each, it schedules on, exit 0"
	local f t
	mkdir -p /tmp/full /tmp/full.game
	mount -t tmpfs -o size=64k none /tmp/full
	trap 'umount /tmp/full' EXIT
	filled || fail "it is not full"
	export RUNTIME_DIRECTORY=/tmp/full
	timerlat 100000000 >/dev/null &
	t=$!
	start --game $t --db /tmp/full/db --metrics-file /tmp/full/metrics
	true | true
	for f in status metrics; do
		wait_for 20 grep -q "^gamer: cannot write /tmp/full/$f: No space" /tmp/gamer.log || fail "does not tell of $f"
	done
	sleep 3 # and once: status is written each second
	healthy
	kill $t
	stops TERM
	for f in status metrics db; do
		is "times told of $f" "$(grep -c "^gamer: cannot write /tmp/full/$f: No space" /tmp/gamer.log)" 1
		[ ! -s /tmp/full/$f ] || fail "half a $f is there"
	done
}
fault_modules() { : "hooks attach when their module comes, and hold it while they are attached; other modules come and go"
	[ -e /sys/module/vgem ] && [ -e /sys/module/evdev ] || skip "drm or evdev are built in"
	unload vgem
	[ ! -e /sys/module/drm ] || skip "drm stays"
	start
	gamer status | grep -q '^hook gpu: .*module is not loaded' || fail "$(gamer status | grep '^hook gpu')"
	load vgem
	wait_for 60 grep -q 'module drm has come' /tmp/gamer.log || fail "it does not notice: $(tail -n 1 /tmp/gamer.log)"
	wait_for 60 hooked gpu || fail "not attached when drm came: $(gamer status | grep '^hook gpu')"
	healthy
	is "restarts" "$(status_number restarts)" 1
	rmmod drm 2>/dev/null
	[ -e /sys/module/drm ] || fail "drm is gone under a hook"
	for _ in 1 2 3; do
		rmmod vgem && load vgem && rmmod uinput && load uinput || fail "a module without hooks does not go and come"
	done
	hooked gpu || fail "no hook any more: $(gamer status | grep '^hook gpu')"
	healthy
	stops TERM
	unload vgem
	[ ! -e /sys/module/drm ] || fail "drm is held by nobody, and stays"
	load vgem
}
hooked() { gamer status >/tmp/hooked 2>&1 && ! grep "^hook $1:" /tmp/hooked; }
files_of() { sed -n "s/^$1: *//p" /modules/load; }
load() { for m in $(files_of "$1"); do [ -d "/sys/module/$m" ] || insmod "/modules/$m.ko" || return; done; }
unload() { for m in $(files_of "$1" | tr ' ' '\n' | tac); do rmmod "$m" 2>/dev/null; done; }
fault_storm() { : "control groups with weights come and go, a fork bomb in its limits, 10000 threads, memory runs out, a client dies; one gamer through all"
	local cg=/sys/fs/cgroup i p
	start
	echo "+cpu +pids" >$cg/cgroup.subtree_control
	sh -c 'while :; do :; done' &
	p=$!
	for i in $(seq 100); do
		mkdir $cg/g$i && echo $((i * 100)) >$cg/g$i/cpu.weight && echo $p >$cg/g$i/cgroup.procs || fail "group $i"
		echo $((i % 7 * 90 + 1)) >$cg/g$i/cpu.weight
		[ "$i" = 1 ] || rmdir $cg/g$((i - 1)) || fail "group $((i - 1)) stays"
	done
	kill $p
	healthy
	mkdir $cg/bomb
	echo 200 >$cg/bomb/pids.max
	(echo 0 >$cg/bomb/cgroup.procs; exec setsid sh -c 'bomb() { bomb | bomb & }; bomb' >/dev/null 2>&1) &
	p=$!
	wait_for 30 grep -q '^max [1-9]' $cg/bomb/pids.events || fail "the bomb does not reach its limit"
	tasks_run || fail "tasks do not run next to a fork bomb"
	echo 1 >$cg/bomb/cgroup.kill
	wait $p
	wait_for 30 rmdir $cg/bomb 2>/dev/null || fail "the bomb stays"
	healthy
	echo 20000 >/proc/sys/kernel/threads-max # by default as many as a quarter of 1 GB holds
	timeout 200 churn 5 15 10000 >/tmp/churn 2>&1 || fail "10000 threads: $(tail -n 1 /tmp/churn)"
	healthy
	p=''
	for i in 1 2; do
		dd if=/dev/zero of=/dev/null bs=700M 2>/dev/null &
		p="$p $!"
	done
	wait_for 60 ran_out || fail "memory does not run out"
	kill $p 2>/dev/null
	healthy
	gamer events >/dev/null &
	p=$!
	wait_for 20 clients_are 2 || fail "$(status_number clients) clients"
	kill -KILL $p
	wait_for 20 clients_are 1 || fail "$(status_number clients) clients after one has died"
}
ran_out() { dmesg | grep -q 'Out of memory: Killed process .*(dd)'; }
clients_are() { [ "$(status_number clients)" = "$1" ]; }
# back_again SECONDS: gamer, which had to let go, schedules and answers as before.
back_again() {
	wait_for "$1" attached || fail "not attached again: $(tail -n 3 /tmp/gamer.log | tr '\n' ' ')"
	wait_for 20 answers || fail "no answer"
	healthy
}
fault_hogs() { : "real-time hogs on every CPU, longer than the kernel's watchdog waits: the machine comes back, whoever schedules"
	local cpu hogs=''
	start
	for cpu in $(seq 0 $((CPUS - 1))); do
		taskset -c "$cpu" chrt -f 50 timeout 8 sh -c 'while :; do :; done' &
		hogs="$hogs $!"
	done
	wait $hogs
	tasks_run || fail "tasks do not run after the hogs"
	back_again 120
}
fault_hotplug() { : "40 times a CPU goes and comes under load, faster than it can follow: at the end it schedules, with its options"
	local i cpu
	[ -w /sys/devices/system/cpu/cpu1/online ] || skip "this kernel has no CPU hotplug"
	start --profile performance
	churn 600 60 >/dev/null 2>&1 &
	local churn=$!
	for i in $(seq "${HOTPLUGS:-40}"); do
		cpu=/sys/devices/system/cpu/cpu$((i % (CPUS - 1) + 1))/online
		echo 0 >$cpu && echo 1 >$cpu || fail "$cpu: round $i"
	done
	kill $churn
	back_again 120
	is "failures" "$(restarts_said)" 0
	[ "$(status_number restarts)" -gt 0 ] || fail "no restart was counted"
	gamer status | grep -q 'profile performance' || fail "its options changed: $(gamer status | head -n 1)"
}
fault_flood() { : "programs that rename themselves all the time while the kernel ends the scheduler: gamer hears of it within 5 s, and says why"
	[ -w /sys/devices/system/cpu/cpu1/online ] || skip "this kernel has no CPU hotplug"
	local flood
	all_rename() { [ "$(pidof x.exe | wc -w)" -ge 4 ]; }
	ln -sf "$(command -v flood)" /tmp/x.exe
	start
	kill -STOP $G
	as_user /tmp/x.exe rename 3 &
	flood=$!
	sleep 5 # a ring that takes all that they send is full by then
	echo S >/proc/sysrq-trigger
	wait_for 20 state_is disabled || fail "state is $(cat $SCX/state)"
	kill $flood
	kill -CONT $G
	wait_for 5 ended $G || fail "it does not know that it has ended: $(timeout 5 gamer status | head -n 1)"
	gone
	is "exit code" "$RC" 0
	grep -q '^exit=0 .*what=the kernel ended the scheduler reason=[a-z]' /run/gamer/last_exit || fail "last_exit: $(cat /run/gamer/last_exit)"
	start
	as_user /tmp/x.exe rename 3 &
	flood=$!
	# Who is forked while the kernel ends a scheduler is above all that still are in its class: as many busy ones as CPUs
	# would, before 7.0, keep RCU's thread from running, for which the kernel waits.
	wait_for 10 all_rename || fail "$(pidof x.exe)"
	echo 0 >/sys/devices/system/cpu/cpu1/online
	wait_for 20 attached || fail "not back after cpu1 went, and says: $(timeout 5 gamer status | head -n 1)"
	wait_for 5 answers || fail "no answer"
	[ "$(status_number restarts)" -gt 0 ] || fail "no restart was counted"
	kill $flood
	echo 1 >/sys/devices/system/cpu/cpu1/online
	back_again 30
}
fault_suspend() { : "suspended to memory (S3) and woken by the clock's alarm: it schedules on, with its options"
	local alarm=/sys/class/rtc/rtc0/wakealarm
	[ -w $alarm ] || skip "no clock here that wakes the machine"
	grep -q '\[deep\]' /sys/power/mem_sleep || skip "this machine knows no S3: $(cat /sys/power/mem_sleep)"
	start --profile performance
	# It must not ring before the last CPU sleeps, or nothing wakes it.
	echo +20 >$alarm || fail "the alarm cannot be set"
	echo mem >/sys/power/state || fail "it does not go to sleep: $(dmesg | grep -w PM: | tail -n 1)"
	dmesg | grep -q 'Waking up from system sleep state S3' || fail "it was not in S3"
	back_again 60
	is "CPUs online" "$(nproc)" "$CPUS"
	gamer status | grep -q 'profile performance' || fail "its options changed: $(gamer status | head -n 1)"
}
# foreign: a scheduler that is not gamer attaches; it stays until foreign_ends
foreign() { bpftool struct_ops register /bin/foreign.bpf /sys/fs/bpf >/tmp/foreign 2>&1; }
foreign_ends() { rm /sys/fs/bpf/foreign && wait_for 20 state_is disabled; }
# --- the fair back end: on kernels without sched_ext, beside another scheduler, in a cgroup ---
# advice_starts: a process $B of test/fair.c, which a gamer $G advises
advice_starts() {
	SLICES=$(gamer check --json | sed -n 's/.*"slices": *\([01]\).*/\1/p')
	[ "$SLICES" = 1 ] || note_kernel_without_slices
	mkfifo /tmp/line
	fair game 3 </tmp/line >/tmp/said &
	B=$!
	exec 8>/tmp/line
	wait_for 10 grep -q ready /tmp/said || fail "the game does not start"
	[ -z "$1" ] || echo $B >"$1/cgroup.procs"
	gamer run --backend "${2:-fair}" --game $B --db= >/tmp/gamer.log 2>&1 8>&- &
	G=$!
	wait_for 20 fair_has plain '0 -8 0 1 100' || fail "no advice: $(fair sweep $B | tr '\n' ';') $(tail -n 2 /tmp/gamer.log)"
	fair_has nice '0 3 0 0 0' || fail "a chosen nice value is changed: $(fair sweep $B)"
}
# Only kernels before 6.12 may say so.
note_kernel_without_slices() {
	case $(uname -r) in [0-5].* | 6.[0-9].* | 6.1[01].*) ;; *) fail "check finds no slices on $(uname -r)" ;; esac
}
advice_ends() {
	kill -INT $G
	wait $G || fail "exit $?"
	fair_has plain '0 0 0 0 0' || fail "not put back: $(fair sweep $B | tr '\n' ';')"
	exec 8>&-
	wait_for 10 ended $B
	rm -f /tmp/line
}
fair_auto() { : "auto schedules where the kernel has sched_ext, else advises; check says which, and whether slices go along"
	local want=scx
	[ -e $SCX ] || want=fair
	grep -q "\"backend\": *\"$want\"" <<-EOT || fail "$(gamer check | head -n 4)"
		$(gamer check --json)
	EOT
	[ $want = scx ] || { advice_starts '' auto; advice_ends; }
}
fair_foreign() { : "another scheduler beside gamer is refused; beside another one auto ends with 75 and names it, --backend fair advises threads there and takes nothing over"
	[ -e $SCX ] || skip "this kernel has no sched_ext"
	mount -t bpf bpf /sys/fs/bpf
	start
	! foreign || fail "two at once"
	healthy
	stops TERM
	foreign || fail "it does not attach: $(cat /tmp/foreign)"
	tasks_run || fail "tasks do not run under it"
	timeout 60 gamer run --db= >/tmp/gamer.log 2>&1
	is "exit code" $? 75
	grep -q "'foreign' is attached (--backend fair" /tmp/gamer.log || fail "$(cat /tmp/gamer.log)"
	advice_starts ''
	is "root/ops" "$(cat $SCX/root/ops)" foreign
	grep -q "'foreign' is attached" /run/gamer/status || fail "$(cat /run/gamer/status)"
	advice_ends
	is "root/ops" "$(cat $SCX/root/ops)" foreign
	foreign_ends || fail "it does not end"
}
fair_cgroup() { : "a game that is alone in its cgroup gets a weight there, until gamer ends or is killed; beside others in it that is said"
	local at=/sys/fs/cgroup/game other
	weight() { [ "$(cat $at/cpu.weight)" = "$1" ]; }
	[ -e /sys/fs/cgroup/cgroup.controllers ] || skip "no cgroup2"
	echo +cpu >/sys/fs/cgroup/cgroup.subtree_control || skip "no weights of cgroups"
	mkdir $at
	advice_starts $at
	wait_for 10 weight 800 || fail "weight $(cat $at/cpu.weight)"
	advice_ends
	weight 100 || fail "SIGINT leaves weight $(cat $at/cpu.weight)"
	advice_starts $at
	wait_for 10 weight 800 || fail "weight $(cat $at/cpu.weight)"
	kill -KILL $G
	wait $G
	gamer restore || fail "restore: exit $?"
	weight 100 || fail "restore leaves weight $(cat $at/cpu.weight)"
	exec 8>&-
	wait_for 10 ended $B
	rm /tmp/line
	sleep 1000 & other=$!
	echo $other >$at/cgroup.procs
	advice_starts $at
	weight 100 || fail "the weight of others is $(cat $at/cpu.weight)"
	gamer status | grep -q '^limit: .*cgroup only.*/game' || fail "$(gamer status | head -n 4)"
	advice_ends
	kill $other
	wait $other
	rmdir $at
}

# ---------------------------------------------------------------------------
# 8  lab, and for benches part and learn
# ---------------------------------------------------------------------------
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
lab_pinned() { : "who is displaced on the one CPU that it may use goes on next, ahead of busy threads"
	start
	local busy
	timerlat 1000000 $CPUS >/dev/null &
	busy=$!
	taskset -c 1 timerlat 1000000 >/dev/null &
	busy="$busy $!"
	taskset -c 1 timerlat 1000000 >/dev/null &
	busy="$busy $!"
	taskset -c 1 timerlat 500 0 1000 >/tmp/late || fail "timerlat: exit $?"
	tee -a /out/away </tmp/late
	kill $busy
	set -- $(tail -n 1 /tmp/late)
	[ "$4" -ge 10000 ] || fail "it is not displaced: away for $4 ns (p99)"
	[ "$4" -le 1000000 ] || fail "displaced for $4 ns (p99)"
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
		ratio=$(shares "$a" "$b" 1)
		kill $a $b
		# 300 is exact; beside it the tick is coarse
		[ "$ratio" -ge 180 ] && [ "$ratio" -le 420 ] || fail "on $where CPU(s) B got $ratio % of A, not about 300"
	done
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
}
lab_readers() { : "who reads the game's mouse wakes within a millisecond (p99) next to busy threads"
	local late
	start --hooks=+readers
	gamer-bench --seconds 2 --load hogs --load-threads 8 --iters-per-ms 62464 --frame-work-us 1000 \
		--audio-frames 64 --no-drm >/tmp/bench || fail "bench: exit $?"
	stops TERM
	late=$(awk '/^input *wake_p99_us / { print int($3) }' /tmp/bench)
	echo "# input wakeup p99: $late us" | tee -a /out/readers
	[ "${late:-9999}" -le 1000 ] || fail "$late us"
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
}
lab_compact() { : "in powersave light tasks go where few CPUs are enough, and leave the others asleep; in performance they are anywhere"
	local cpu t tasks='' profile n
	is_timerlat() { grep -q timerlat "/proc/$1/comm"; }
	taskset -p 2 "$(exec sh -c 'echo $PPID')" >/dev/null # looking must not disturb them
	for cpu in 2 3; do
		taskset -c $cpu timerlat 100000000 >/dev/null &
		wait_for 10 is_timerlat $! || fail "no timerlat"
		taskset -p f $! >/dev/null
		tasks="$tasks $!"
	done
	for profile in performance powersave; do
		start --profile $profile
		n=0
		for _ in $(seq 20); do
			usleep 50000
			for t in $tasks; do [ "$(awk '{ print $39 }' "/proc/$t/stat")" -ge 2 ] || n=$((n + 1)); done
		done
		echo "$profile: on the first two of $CPUS CPUs in $n of 40 looks"
		if [ $profile = powersave ]; then [ $n -ge 28 ]; else [ $n -le 24 ]; fi || fail "$profile: in $n of 40 looks"
		stops TERM
	done
	kill $tasks
}

# For `test.sh bench-parts`: what shows where tasks run, not how long they wait, on 2 packages of 2 cores of 2
# threads. What the other parts are worth bench-shapes tells: `bench-shapes gamer without='gamer:--test=no-boost'`.

# where_is PART HOGS FIELD: what `where` counts next to busy threads, under a scheduler without PART
where_is() {
	start ${1:+--test=no-$1}
	where 2 20000 500 200 "$2" >/tmp/part || fail "where: exit $?"
	stops TERM
	sed -n "s/.*$3 \([0-9]*\).*/\1/p" /tmp/part
}
# worth PART TENTHS HOGS FIELD: without it there must be so many tenths
worth() {
	local with without
	with=$(where_is '' "$3" "$4") && without=$(where_is "$1" "$3" "$4") || exit
	echo "# $1: $4 $with with it, $without without" | tee -a /out/worth
	[ $((with * $2)) -le $((without * 10)) ] || fail "$1: $4 $with with it, $without without"
}
part_smt() { : "critical threads share a core a quarter as often as without knowing of SMT"
	worth smt 40 $CPUS shared
}
part_llc() { : "busy threads change the package a twentieth as often as without knowing of caches"
	worth llc 200 $((CPUS * 2)) crossed
}
# figure FILE GROUP FIGURE: of what gamer-bench prints as JSON
figure() { tr '{' '\n' <"$1" | sed -n "s/.*\"group\":\"$2\",\"figure\":\"$3\",\"value\":\([-0-9.]*\).*/\1/p"; }
# built NAME OPTIONS...: the game next to a build that goes on all the time, as /out/learn.NAME:
# right and wrong tiers, preemptions by short tasks, late frames %, those shown late %, units per second
built() {
	local name=$1 side; shift
	start "$@"
	side build 6 >/tmp/build &
	side=$!
	gamer-bench --seconds 5 --iters-per-ms 62464 --audio-frames 64 --no-uinput --no-drm --frame-work-us 1000 --json \
		>/out/learn_build.$name.bench || fail "bench: exit $?"
	wait $side || fail "build: exit $?"
	gamer status --json | tr ',' '\n' >/tmp/status
	stops TERM
	for f in learn_right learn_wrong short_preemptions; do sed -n "s/.*\"$f\":\([0-9]*\).*/\1/p" /tmp/status; done >/tmp/built
	for f in late shown_late; do figure /out/learn_build.$name.bench game $f; done >>/tmp/built
	sed -n 's/.*units_per_s":\([0-9.]*\).*/\1/p' /tmp/build >>/tmp/built
	xargs </tmp/built >/out/learn.$name
	awk -v n="$name" '{ printf "# %-8s %5.1f %% of %d short tasks began in their tier, %d preemptions by them, %s %% of frames late, %s %% shown late, %.1f units/s\n",
		n, $1 * 100 / ($1 + $2), $1 + $2, $3, $4, $5, $6 }' /out/learn.$name | tee -a /out/learn
}
learn_build() { : "a build next to the game: learned, 95 % of its tasks begin in their tier, and preempt a tenth as often as while it is learned"
	rm -f /tmp/process.db
	built without --test no-learn --db= || exit
	built empty --db /tmp/process.db || exit
	built learned --db /tmp/process.db || exit
	cat /out/learn.without /out/learn.empty /out/learn.learned | xargs | awk '{
		if ($13 < 19 * $14) print "learned: " $14 " of " $13 + $14 " in the wrong tier"
		if ($1 > 9 * $2) print "without it only " $2 " are wrong: nothing to learn"
		if ($15 * 10 > $9) print "preemptions: " $15 " learned, " $9 " while it is learned"
		if ($18 < $6 * 0.9) print "units per second: " $18 " learned, " $6 " without" }' >/tmp/built
	[ ! -s /tmp/built ] || fail "$(cat /tmp/built)"
	gamer db list --db /tmp/process.db --json >/out/learned.json
	grep -q '"comm":"cc1","exe":[0-9]*,"tier":"batch"' /out/learned.json || fail "cc1 is not known as batch"
}
# ---------------------------------------------------------------------------
# 9  shapes: games and other work of many shapes, beside what the kernel's own scheduler does in the same boot
# ---------------------------------------------------------------------------
# What must hold: the shape, how gamer may know its game, group and figure as gamer-bench --shape prints them, and
# the bound, with a margin that noise does not reach: x: so many times EEVDF's. Others are bench-shapes' to tell.
SHAPE_BOUNDS="
onethread     name     game    fps         >= 54
uncapped      name     game    fps         >= 1.7 x
uncapped      name     load    share       >= 8
spin          name     game    fps         >= 54
loading       name     interactive wake_p50_us <= 1 x
latestart     stranger game    fps         >= 0.9 x
latestart     stranger game    late        <= 1.3 x
interactive5  stranger task    wake_p99_us <= 1.5 x
relay-go      stranger reader  wake_p95_us <= 500
rt-share      stranger waker   wake_p50_us <= 300
fifo-audio    stranger audio   wake_p99_us <= 1.5 x
nices         stranger nice5   share       <= 1.5 x
nices         stranger nice0   share       >= 0.7 x
idle4         stranger idle    share       <= 5
nested        stranger p100    share       <= 1.5 x
pinned        stranger pinned  share       >= 0.7 x
timers8       stranger others  share       >= 0.85 x
"
# shapes_run LABEL SHAPE@AS...: under the scheduler that runs
shapes_run() {
	local label=$1 shape; shift
	for shape; do
		timeout -s KILL 300 /tmp/shapes --json --shape "${shape%@*}" --as "${shape#*@}" --seconds 1 \
			--iters-per-ms $((50000 / CPUS)) >"/tmp/$shape.$label" || fail "$shape under $label: exit $?"
	done
}
# shapes_hold SHAPE...: under gamer, and under EEVDF where a bound wants it: every row of these shapes does.
shapes_hold() {
	local shape as group figure op bound times value base
	printf '%s' "$SHAPE_BOUNDS" | awk -v wanted=" $* " 'index(wanted, " " $1 " ")' >/tmp/bounds
	cp /bin/gamer-bench /tmp/shapes # gamer takes whoever is called gamer-bench for a game
	shapes_run eevdf $(awk '$7 == "x" { print $1 "@" $2 }' /tmp/bounds | uniq)
	start
	shapes_run gamer $(awk '{ print $1 "@" $2 }' /tmp/bounds | uniq)
	stops TERM
	while read -r shape as group figure op bound times; do
		value=$(figure "/tmp/$shape@$as.gamer" "$group" "$figure") base=1
		[ -z "$times" ] || base=$(figure "/tmp/$shape@$as.eevdf" "$group" "$figure")
		[ -n "$value" ] && [ -n "$base" ] || fail "$shape: $group has no $figure"
		echo "$shape as $as: $group $figure $value $op $bound${times:+ x $base}" |
			awk -v v="$value" -v op="$op" -v b="$bound" -v base="$base" \
				'{ print "#", (op == "<=" ? v <= b * base : v >= b * base) ? "holds" : "misses", $0 }'
	done </tmp/bounds >/tmp/held
	tee -a /out/shapes </tmp/held
	! grep '^# misses' /tmp/held >/tmp/missed || fail "$(paste -sd ';' /tmp/missed)"
}
shapes_games() { : "no game is worse off than under the kernel's own scheduler, whatever its shape; a recognised one is well off"
	shapes_hold onethread uncapped spin loading latestart
}
shapes_waiters() { : "whoever waits and works for milliseconds waits no longer than under the kernel's own scheduler"
	shapes_hold interactive5 relay-go rt-share fifo-audio
}
shapes_shares() { : "nice, policies, control groups and affinity give the shares that they give under the kernel's own scheduler"
	shapes_hold nices idle4 nested pinned
}
shapes_hostile() { : "nobody gets the machine by short naps"
	shapes_hold timers8
}

# ---------------------------------------------------------------------------
# 10  closed: kernels that refuse gamer
# ---------------------------------------------------------------------------
# refused WORDS COMMAND...: exit 69 with these words in the last line; nothing was tried again
refused() {
	local words=$1; shift
	timeout 60 "$@" >/tmp/refused 2>&1
	is "exit code of $*" $? 69
	tail -n 1 /tmp/refused | grep -q "$words" || fail "$* says: $(cat /tmp/refused)"
	! grep -q restart /tmp/refused || fail "$* tried again: $(cat /tmp/refused)"
	is "state" "$(cat $SCX/state)" disabled
}
closed_isolcpus() { : "isolcpus=, with which kernels take no scheduler, is named: exit 69 at once; check says it before; observing works"
	gamer check | grep -q '^sched_ext *isolcpus=1:' || fail "$(gamer check | grep ^sched_ext)"
	refused 'isolcpus=1' gamer run --backend scx --db=
	observe
}
# the last one, for nothing opens that lock again
closed_lockdown() { : "lockdown=confidentiality is named: exit 69 at once, also of what observes and of profile; check says it"
	echo confidentiality >/sys/kernel/security/lockdown || skip "this kernel has no lockdown"
	gamer check | grep -q '^sched_ext *lockdown=confidentiality:' || fail "$(gamer check | grep ^sched_ext)"
	refused lockdown=confidentiality gamer run --db=
	refused lockdown=confidentiality gamer run --observe
	refused lockdown=confidentiality gamer profile -- true
}

# What wine.sh wants; its checks are wine_*.
# shellcheck disable=SC2034
GAMER=gamer WORK=/tmp WINES=/wine PRIO=/wine/prio.exe
watch() { observe "$@"; } # Wine's hook does the same where gamer schedules, and loads much faster
# shellcheck source=test/wine.sh
. wine.sh
# shellcheck source=test/deploy.sh
. deploy.sh
# Emulated on a busy host, a poll may take longer than any poller's: its pattern is the host's
# checks' to tell.
ROLES=$(echo "$ROLES" | sed 's/polling:input/polling:(input|render)/')

# left: the processes that were not here when all began, as $LEFT; not those of another PID 1, whose
# services come and go
running() { # without a process of its own
	local p
	for p in $(grep -l . /proc/[0-9]*/cmdline 2>/dev/null); do
		p=${p#/proc/} p=${p%/cmdline}
		[ ! -d "/proc/$p" ] || echo "$p"
	done
}
left() {
	LEFT=
	[ -z "$INIT" ] || return 1
	running >/tmp/running
	LEFT=$(grep -vxFf /tmp/began /tmp/running | xargs)
	[ -n "$LEFT" ]
}
none_new() { ! left; }
running >/tmp/began

for check; do
	rm -f /tmp/why
	echo "$check" "$(cut -d' ' -f1 /proc/uptime)" >&2
	("$check" && settle) >"/tmp/$check.log" 2>&1 # fail and skip set its result
	rc=$?
	case $rc in 0 | 2)
		if ! wait_for 10 none_new; then
			rc=1
			echo "leaves running: $(for p in $LEFT; do tr '\0' ' ' <"/proc/$p/cmdline"; echo "($p)"; done | xargs)" >/tmp/why
		fi ;;
	esac
	case $rc in
	0) echo "ok $check" ;;
	2) echo "skip $check: $(cat /tmp/why)" ;;
	*)
		echo "not ok $check: $(cat /tmp/why 2>/dev/null || echo 'its shell ended early')"
		# The next check starts clean.
		killall -KILL gamer 2>/dev/null
		! left || kill -KILL $LEFT 2>/dev/null
		rm -f /sys/fs/bpf/foreign
		for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do echo 1 >"$cpu"; done 2>/dev/null
		wait_for 20 state_is disabled
		wait_for 20 none_left
		;;
	esac
	cp "/tmp/$check.log" /out/
done
