/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * gamer.bpf.c: everything that runs in the kernel, and the ABI that it shares with gamer.c.
 *
 *   1. ABI                   what crosses the line to user space; gamer.c includes this file
 *   2. tunables              what user space sets, mostly before load; the table of thresholds
 *   3. state and maps        task storage, per-CPU and per-cache state, the event rings
 *   4. kernel compatibility  one name for what kernels 6.12 to 7.3 call differently
 *   5. the scheduler         whole, in the order of a task's life
 *   6. roles and evidence    evidence by source -> role -> importance; learning; run/sleep patterns
 *   7. detection hooks       what threads and devices do in the kernel and in Wine -> evidence, input window
 *   8. profiler              times off the CPU, system calls, block I/O of a process tree
 *   9. ops table             what the kernel attaches
 *
 * The scheduler's model
 *
 * Each last-level cache has a clock of fair time. A task's fair time is the CPU time that it has
 * had, divided by its weight (nice value x the weights of its cgroups up to the root); the game
 * and what serves it weigh --game-weight times more, as long as all others together have a tenth of
 * a busy cache. All run time is charged, critical or not.
 * The clock moves to the fair time of the first task that waits, so it tells what a task at its
 * share has had. A task ahead of the clock has had more than its share, a task behind it less.
 * A task keeps LAG_MAX_NS of what it did not use while it slept, and owes at most what the clock
 * makes good in half a second of real time, and never more than DEBT_MAX_NS.
 *
 * The scheduler sees three importances: critical, normal, batch. Critical is who has had no more
 * than its share, weighs as much as nice 0, and has one of three reasons: its role; a boost, which a
 * critical thread hands to a thread of its team that it wakes (it ends after BOOST_NS and travels
 * BOOST_HOPS wakeups); or that it is light: short, and far below its share.
 * So a lead decides when a task runs, and not how much. Nobody keeps a lead by sleeping briefly.
 *
 * A wakeup goes to an idle CPU's local queue. Where no CPU is idle, a critical wakeup takes the
 * CPU with the least important work of the same cache, then of the next one.
 * The task goes to the head of that CPU's local queue. Critical work gives way only to what is far
 * shorter; where no CPU gives way, the task waits in its cache's critical queue. A waker that
 * is about to sleep hands its CPU over to whom it wakes, within SLICE_NORMAL_NS of the slice
 * start. A light task that is not critical takes a CPU from batch work only. All else waits in the
 * queues. A cache has three: critical, shortest burst first; normal, by fair time; idle, for
 * SCHED_IDLE, by arrival. A CPU has one for pinned tasks, by fair time.
 *
 * A CPU serves the critical queue; then whoever has had least of three: the task that ran until
 * now, the first of the normal and the first of the pinned queue; then the idle queue; then
 * other caches' queues, also where a task waits there behind more others than here.
 *
 * Five invariants, each tested as a ratio to the kernel's own scheduler in the same boot:
 *   share    with all CPUs busy, each task gets its weighted share over a second
 *   latency  who wakes below its share runs before those at or above theirs
 *   bound    slices shrink with the queue's depth; a normal queue that nobody served for RESCUE_NS,
 *            a pinned one for PINNED_RESCUE_NS and an idle one for IDLE_TURN_NS is served first
 *   lead     only below one's share (see above)
 *   classes  a CPU that a real-time or deadline task has is neither idle nor a victim
 *
 * Slices are SLICE_NORMAL_NS, SLICE_CONTENDED_NS where tasks wait, or less where many wait;
 * critical work gets twice its average burst. The tick cuts the slice of work that is not
 * critical where critical work waits, or where the slice is over and anything waits.
 *
 * A wakeup's path is gamer_select_cpu, which itself inserts where a CPU is idle or gives way, else
 * -> gamer_enqueue -> gamer_dispatch; then gamer_running -> gamer_stopping. In comments on fields
 * running() is gamer_running() with what it calls, and so on. Start reading at section 5. What a
 * hook sees becomes evidence_set() -> role_settle() -> acts_as, and that is all the scheduler looks at.
 */

/* ===================================================================================== */
/* 1. ABI                                                                                */
/* ===================================================================================== */

#ifdef __bpf__
#include "vmlinux.h"
#endif

#define MAX_CPUS		512	/* kernels with more are refused with a message */
#define MAX_LLCS		64
#define LLC_CPUS		64	/* a cache with more counts as several */
#define PERF_STEPS		16	/* of a frequency request; not measured */
#define SPEED_STEPS		16	/* a CPU's speed is told in such parts of the fastest; not measured */
#define SPEEDS			4	/* of CPUs: so many steps, the last is all slower ones; not measured */
#define HIST_SLOTS		64	/* quarter-octave slots, see hist_slot() */

/* id, name, importance (enum prio) */
#define ROLES(X)				\
	X(NONE,		none,		NORMAL)	\
	X(INPUT,	input,		CRITICAL) \
	X(AUDIO,	audio,		CRITICAL) \
	X(GPU,		gpu,		CRITICAL) \
	X(RENDER,	render,		CRITICAL) \
	X(COMPOSITOR,	compositor,	CRITICAL) \
	X(NETWORK,	network,	NORMAL)	\
	X(PHYSICS,	physics,	NORMAL)	\
	X(WORKER,	worker,		NORMAL)	\
	X(CPU_BOUND,	cpu_bound,	BATCH)	\
	X(BACKGROUND,	background,	BATCH)

#define X(id, name, prio) ROLE_##id,
enum role { ROLES(X) ROLE_NR };
#undef X

/*
 * Where a role comes from, weakest first: a higher source that lives hides the lower ones.
 * id, name, seconds that it lives after the last event (0: until it is taken back)
 */
#define SOURCES(X) \
	X(NONE, none, 0) X(NAME, name, 0) X(LEARNED, learned, 0) X(DOORBELL, doorbell, 4) \
	X(PATTERN, pattern, 0) X(NETWORK, network, 4) X(AUDIO, audio, 4) X(INPUT, input, 120) \
	X(GPU, gpu, 4) X(WINE, wine, 0)

#define X(id, name, seconds) SOURCE_##id,
enum source { SOURCES(X) SOURCE_NR };
#undef X

/* What a process is to the game; by user space for a process, or by its page flips. */
#define CLASSES(X) \
	X(OTHER, other) X(GAME, game) X(COMPOSITOR, compositor) X(AUDIO, audio) \
	X(WINESERVER, wineserver)

#define X(id, name) CLASS_##id,
enum class { CLASSES(X) CLASS_NR };
#undef X

/*
 * Parts of the scheduler that can be left out, to measure what they are worth. What is left
 * out is gone: the verifier removes it.
 */
#define PARTS(X)				\
	X(PREEMPT, preempt)	/* critical wakeups take a CPU from less important work */ \
	X(DISPLACE, displace)	/* what is short takes a CPU from long critical work */ \
	X(BOOST, boost)		/* whom critical threads of the game wake is critical too */ \
	X(HANDOFF, handoff)	/* a waker about to sleep leaves its CPU to whom it wakes */ \
	X(SMT, smt)		/* critical threads avoid a core that runs one already */ \
	X(LLC, llc)		/* queues and victims by cache */ \
	X(LEARN, learn)		/* new tasks begin as the process database knows their program */

#define X(id, name) PART_##id,
enum part { PARTS(X) PART_NR };
#undef X

/*
 * What tests ask for. Failures, of which CALL is that user space makes a system call that the filter
 * forbids. PERF: frequencies are asked for where no driver heeds them.
 */
enum failure { TEST_ERROR = PART_NR, TEST_STALL, TEST_CALL, TEST_PERF, TEST_NR };

/* What runs on a CPU, by how little it minds being interrupted. */
enum prio {
	PRIO_IDLE = 0,
	PRIO_BATCH,
	PRIO_NORMAL,
	PRIO_CRITICAL,
	PRIO_FOREIGN,	/* a higher scheduling class (RT, DL) has the CPU */
	PRIO_UNKNOWN,	/* nobody looked yet; only where nothing is scheduled */
};

/* Per-CPU counters kept by BPF: id, name, help. */
#define BPF_STATS(X)								\
	X(WAKEUPS, wakeups, "wakeups seen")					\
	X(IDLE_HITS, idle_hits, "wakeups placed on an idle CPU")		\
	X(PREEMPTIONS, preemptions, "running tasks displaced by a critical wakeup") \
	X(CRITICAL_QUEUED, critical_queued, "enqueues to a critical queue")	\
	X(NORMAL_QUEUED, normal_queued, "enqueues to a normal queue")		\
	X(PINNED_QUEUED, pinned_queued, "enqueues to a single-CPU queue")	\
	X(RESCUES, rescues, "queues served out of turn because of their age")	\
	X(KEPT, kept, "used-up slices after which the task was still the first in turn") \
	X(STEALS, steals, "tasks taken from another cache's queue")		\
	X(SLICE_CUTS, slice_cuts, "slices cut at the tick because work waited")	\
	X(HANDOFFS, handoffs, "wakeups that took over the CPU of a waker about to sleep") \
	X(BOOSTS, boosts, "wakeups that carried a boost to the woken thread")	\
	X(ROLE_CHANGES, role_changes, "changes of a thread's role")		\
	X(LEARN_KNOWN, learn_known, "programs and threads that began as the database knows them") \
	X(LEARN_RIGHT, learn_right, "tasks that were of the tier that they began in") \
	X(LEARN_WRONG, learn_wrong, "tasks that were of another")		\
	X(LEARN_LOST, learn_lost, "observations of tasks that found no room")	\
	X(SHORT_PREEMPTIONS, short_preemptions, "preemptions by tasks that ended within 64 bursts") \
	X(GPU_SUBMITS, gpu_submits, "GPU submits of the game")			\
	X(INPUT_MOUSE, input_mouse, "input events of mice")			\
	X(INPUT_KEYBOARD, input_keyboard, "input events of keyboards")		\
	X(INPUT_GAMEPAD, input_gamepad, "input events of gamepads and joysticks") \
	X(INPUT_TOUCH, input_touch, "input events of touch screens and pads")

#define X(id, name, help) BPF_STAT_##id,
enum bpf_stat { BPF_STATS(X) BPF_STAT_NR };
#undef X

/*
 * What is told as it happens, in a ring each: id, name, KiB of the ring, whether it is frequent:
 * user space takes such records in batches. But for the game's ring, which user space needs
 * itself, nothing is sent while nobody listens.
 */
#define EVENTS(X)				\
	X(INPUT, input, 64, 1)			\
	X(GAME, game, 256, 0)			\
	X(FRAME, frame_timing, 64, 1)		\
	X(SUBMIT, gpu_submit, 64, 1)		\
	X(MIGRATION, migration, 64, 1)		\
	X(CLASSIFICATION, classification, 64, 0) \
	X(MISS, deadline_miss, 64, 0)		\
	X(RUN, run, 256, 1)	/* the last: not among those that a client gets unasked */

#define X(id, name, kib, frequent) EVENT_##id,
enum event_type { EVENTS(X) EVENT_NR };
#undef X

/* How a task came to the CPU that it runs on: id, name. */
#define REASONS(X)			\
	X(KERNEL, kernel)	/* the kernel's own scheduler chose */ \
	X(IDLE, idle)		/* it was idle at the wakeup */ \
	X(PREEMPT, preempt)	/* it ran the least important work */ \
	X(HANDOFF, handoff)	/* the waker left it */ \
	X(QUEUE, queue)		/* of those that share a cache it was free first */ \
	X(STEAL, steal)		/* it had nothing to do, in another cache */ \
	X(PINNED, pinned)	/* no other was allowed */

#define X(id, name) REASON_##id,
enum reason { REASONS(X) REASON_NR };
#undef X

/* Histograms of how long something took: id, name, help. Slots as of hist_slot(ns >> 3). */
#define HISTS(X)								\
	X(FRAME, frame_time, "time from frame to frame")			\
	X(SUBMIT_PRESENT, submit_to_present, "from the game's submit to the display") \
	X(COMPOSITOR, compositor, "from the game's submit to the page flip")	\
	X(INPUT_READER, input_to_reader, "from a device's event until its reader ran") \
	X(INPUT_SUBMIT, input_to_submit, "from a device's event to the next submit") \
	X(INPUT_PRESENT, input_to_present, "from a device's event to the display") \
	X(DETECTION, detection, "from a thread's first evidence to its role")

#define X(id, name, help) HIST_##id,
enum hist { HISTS(X) HIST_NR };
#undef X
#define HIST_SHIFT		3	/* theirs reach from 2 us to 268 ms */
#define FRAME_LOG		4096	/* frames that are remembered one by one; a power of two */

/*
 * Constants of the running kernel, read from its BTF by user space before load. A required
 * one that is missing stops the start: SCX_DSQ_LOCAL_ON read as 0 has frozen machines.
 * name, enum type in BTF, required (1) or 0 where absent
 */
#define KERNEL_CONSTS(X)					\
	X(SCX_DSQ_LOCAL, scx_dsq_id_flags, 1)			\
	X(SCX_DSQ_LOCAL_ON, scx_dsq_id_flags, 1)		\
	X(SCX_ENQ_WAKEUP, scx_enq_flags, 1)			\
	X(SCX_ENQ_PREEMPT, scx_enq_flags, 1)			\
	X(SCX_ENQ_IMMED, scx_enq_flags, 0)			\
	X(SCX_ENQ_REENQ, scx_enq_flags, 1)			\
	X(SCX_DSQ_ITER_REV, scx_dsq_iter_flags, 0)		\
	X(SCX_WAKE_SYNC, scx_wake_flags, 1)			\
	X(SCX_KICK_IDLE, scx_kick_flags, 1)			\
	X(SCX_KICK_PREEMPT, scx_kick_flags, 1)			\
	X(SCX_PICK_IDLE_CORE, scx_pick_idle_cpu_flags, 1)	\
	X(SCX_ECODE_ACT_RESTART, scx_exit_code, 1)		\
	X(SCX_EXIT_SYSRQ, scx_exit_kind, 1)			\
	X(SCX_TASK_QUEUED, scx_ent_flags, 1)			\
	X(SCX_OPS_ENQ_EXITING, scx_ops_flags, 1)		\
	X(SCX_OPS_ENQ_MIGRATION_DISABLED, scx_ops_flags, 0)

/* One scheduled CPU. Hot fields first, one cache line; other CPUs read them for O(1) choice. */
struct cpu_state {
	__u64 run_at_ns;	/* when the running task got the CPU; running() */
	__u64 slice_start_ns;	/* when it last began with other than critical work; dispatch() */
	__u32 tgid;		/* process of the running task; running() */
	__u32 util;		/* how busy the CPU was lately, out of UTIL_ONE; cpu_used() */
	__u8 prio;		/* enum prio of what has the CPU; running(), dispatch() */
	__u8 boost_depth;	/* hops that the running task's boost may still travel */
	__u8 pinned_next;		/* 1: the pinned queue is next; dispatch() */
	__u8 class;		/* enum class of the running task; runtime_runs() */
	__u8 pinned_critical;	/* 1: that queue or the local one begins with critical work; enqueue_pinned() */
	__u8 pinned_waits;	/* 0: that queue is empty; under the CPU's lock, take_pinned() */
	__u8 perf;		/* last frequency request, in PERF_STEPS; cpu_set_perf() */
	__u8 fanout;		/* threads of its process woken in this stint, it may wrap; task_woke() */
	__u64 fanout_ns;		/* run_at_ns of the last stint that woke several; task_woke() */
	__u64 ends_at_ns;	/* when the running task sleeps, by its average; gamer_running() */
	__u64 pinned_served_ns;	/* the pinned queue was served, or empty; dispatch(), enqueue_pinned() */
	__u64 util_at_ns;	/* until when util counts; cpu_used() */
	__u64 stat[BPF_STAT_NR];			/* monotonic counters; owner CPU */
	__u64 role_run_ns[ROLE_NR];			/* CPU time by role; stopping() */
	__u64 side_run_ns[2];				/* CPU time of others, of the game and its servers; stopping() */
	__u64 misses[ROLE_NR];				/* deadlines missed; deadline_check() */
	__u64 by_source[SOURCE_NR];			/* changes of role; role_settle() */
	__u64 moves[REASON_NR];				/* ran elsewhere than before; task_moved() */
	__u64 move_wait_ns[REASON_NR];			/* how long those waited; task_moved() */
	__u64 sent[EVENT_NR];				/* events, into a ring; event_sent() */
	__u64 lost[EVENT_NR];				/* events that found it full; event_sent() */
	__u32 wake_hist[ROLE_NR][HIST_SLOTS];		/* wakeup latency; running() */
	__u32 hist[HIST_NR][HIST_SLOTS];		/* hist_add() */
	__u64 switched_ns;				/* the last switch that a client heard of; run_ended() */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct cpu_state) % 64 == 0, "cpu_state shares no cache line");
_Static_assert(__builtin_offsetof(struct cpu_state, stat) == 64, "hot part is one line");

/* One last-level cache: its clock of fair time, and how its queues were served. */
struct llc_state {
	__u64 clock_ns;		/* fair time: what a task at its share has had; clock_moves() */
	__u64 clock_at_ns;	/* when the clock moved last; clock_moves() */
	__u64 normal_served_ns;	/* last time the normal queue was served or empty; dispatch() */
	__u64 idle_served_ns;	/* the same of the idle queue */
	__u64 window_at_ns;	/* when the clock's last window began; clock_moves() */
	__u64 window_ns;	/* and where; window_ends() */
	__u64 debt_max_ns;	/* what a task may owe, by the clock's speed; window_ends() */
	__u32 crowded;		/* 1: a timer ends slices; slices_end() */
	__u32 game_recip;	/* 1024 / weight of the game and its servers; window_ends() */
	__u64 runs[4];		/* by enum prio: CPUs that run such work and may be asked for; cpu_shows() */
	__u64 taken;		/* CPUs that a wakeup took, and whose task has not come yet; cpu_awaits() */
	__u64 side_ns[2];	/* sums of side_run_ns when the clock's last window began; window_ends() */
	__u64 compact;		/* CPUs that were enough for all work of the last window; window_ends() */
} __attribute__((aligned(64)));
_Static_assert(__builtin_offsetof(struct llc_state, runs) == 64, "the masks have a line of their own");

/* Every record begins so. at_ns: CLOCK_MONOTONIC; tid, tgid: 0 where no thread did it. */
#define EVENT_HEAD						\
	__u64 at_ns;						\
	__u32 tid;						\
	__u32 tgid;						\
	__u16 cpu;	/* where it was seen */			\
	__u8 type;	/* enum event_type */			\
	__u8 role	/* enum role of the thread */

struct event { EVENT_HEAD; };

/* A device's event. Not which key, nor how far: this is no key logger. */
struct event_input {
	EVENT_HEAD;
	__u8 kind;		/* enum input_kind */
	__u8 what;		/* enum input_what */
	__u8 pad[2];
};
_Static_assert(sizeof(struct event_input) == 24, "ABI");
enum input_what { INPUT_MOTION, INPUT_RELEASE, INPUT_PRESS };

/* What made a process worth a look; bits of event_game.what. */
enum hint {
	HINT_NAME = 1,		/* its program, name or environment is one of those that matter */
	HINT_GPU = 2,		/* it has begun to draw, at first or again */
	HINT_INPUT = 4,		/* it reads an input device, at first or again */
	HINT_FLIP = 8,		/* it flips pages of a display: it is a compositor by that */
	HINT_AUDIO = 16,	/* it transfers sound */
	HINT_EXIT = 32,		/* no process: scx_end has been written */
	HINT_LEARNED = 64,	/* no process: learn_sums has something to take */
};

/* A process that may matter; hint_send() bounds how many there are. */
struct event_game {
	EVENT_HEAD;
	__u32 what;		/* enum hint */
	char comm[16];		/* of the process's first thread; not trusted, may lack its end */
};
_Static_assert(sizeof(struct event_game) == 40, "ABI");

#define ACTIVITY_BIN_SHIFT	28	/* ns of a bin: 268 ms */
#define ACTIVITY_BINS		16

/* What a process does. Times are CLOCK_MONOTONIC, 0: never. activity_drew(), current_did() */
struct activity {
	__u64 frame_at_ns;	/* the last frame */
	__u64 input_at_ns;	/* the last read of a gamepad that gave events */
	__u64 sound_at_ns;	/* the last transfer of sound */
	__u32 frames;		/* without a pause of a second */
	__u32 bin;		/* number of the newest bin: frame_at_ns >> ACTIVITY_BIN_SHIFT */
	__u8 bins[ACTIVITY_BINS];	/* frames in bin n are at n % ACTIVITY_BINS */
	__u8 told;		/* enum hint bits that user space knows of */
	__u8 nvidia;		/* 1: frames are requests to NVIDIA's driver, which need not be any; gpu_doorbell() */
	__u8 pad[6];
};
_Static_assert(sizeof(struct activity) == 56, "ABI");

/* A frame reached the display, or began where no display is seen. The game's thread, or 0. */
struct event_frame {
	EVENT_HEAD;
	__u32 interval_ns;	/* since the frame before, 0: none lately */
	__u32 submit_to_present_ns;	/* of this frame, 0: unknown */
	__u32 compositor_ns;	/* of this frame, from submit to flip, 0: unknown */
	__u32 dropped;		/* the game's frames that it replaced */
	__u32 missed;		/* 1: the display waited longer than its period */
	__u32 source;		/* enum frame_source */
	__u32 pad;
};
_Static_assert(sizeof(struct event_frame) == 48, "ABI");

/* A thread of the game handed work to the GPU. */
struct event_submit {
	EVENT_HEAD;
	__u32 gap_ns;		/* since its last one, 0: none lately */
	__u8 submit;		/* entry of GPU_SUBMITS: driver and request */
	__u8 primary;		/* 1: it is the thread with the most submits */
	__u8 pad[6];
};
_Static_assert(sizeof(struct event_submit) == 32, "ABI");

/* A thread of the game, or one that serves it, runs on another CPU than before. */
struct event_migration {
	EVENT_HEAD;
	__u32 wait_ns;		/* from being ready to run until it ran: what the move cost it */
	__u16 from;		/* CPU before */
	__u8 reason;		/* enum reason */
	__u8 pad[5];
};
_Static_assert(sizeof(struct event_migration) == 32, "ABI");

/* A thread's role changed. */
struct event_classification {
	EVENT_HEAD;		/* role: now */
	__u8 old_role;
	__u8 source;		/* enum source */
	__u8 confidence;	/* 0..100 */
	__u8 class;		/* enum class */
};
_Static_assert(sizeof(struct event_classification) == 24, "ABI");

/* A critical thread's work took longer than the time until it is due again. */
struct event_miss {
	EVENT_HEAD;
	__u32 amount_ns;	/* actual - expected */
	__u64 expected_ns;	/* CLOCK_MONOTONIC */
	__u64 actual_ns;
};
_Static_assert(sizeof(struct event_miss) == 40, "ABI");

/* A thread of anybody has left its CPU. */
struct event_run {
	EVENT_HEAD;
	__u32 pad;
	__u64 from_ns;		/* when it got the CPU, CLOCK_MONOTONIC */
	char comm[16];		/* not trusted, may lack its end */
};
_Static_assert(sizeof(struct event_run) == 48, "ABI");

/* One thread that belongs to the game or serves it; the thread iterator's record. */
struct thread_row {
	__u64 role_at_ns;	/* when its role last changed, CLOCK_MONOTONIC */
	__u64 seen_at_ns;	/* its first evidence of any kind */
	__u64 submits;		/* GPU submits */
	__u64 submit_gap_ns;	/* EWMA of the time between them, 0: none */
	__u64 wakeups;		/* since first seen */
	__u64 role_wakeups;	/* wakeups until its role last changed */
	__u64 burst_ns;		/* EWMA of run time between sleeps */
	__u64 gap_ns;		/* EWMA of time between wakeups */
	__u64 run_ns;		/* on a CPU, since first seen */
	__u64 wait_ns;		/* ready, and waiting for one */
	__u64 start_ns;		/* after boot: with tid, what no other thread has */
	__u8 own_slice;		/* 1: somebody asked for a slice */
	__u8 overran;		/* 1: it ran too long for a real-time thread; runtime_overruns() */
	__u8 busy;		/* 1: it has not slept for BUSY_BURST_NS */
	__u8 pad[5];
	__u32 tid;
	__u32 tgid;
	__u8 class;		/* enum class */
	__u8 role;		/* enum role */
	__u8 source;		/* enum source */
	__u8 confidence;	/* 0..100 */
	__u8 primary;		/* 1: the game's thread with the most submits */
	__u8 acts_as;		/* enum role by which it is scheduled or advised */
	__u16 cpu;		/* where it ran last */
	char comm[16];		/* not trusted, may lack its end */
};
_Static_assert(sizeof(struct thread_row) == 128, "ABI");

/* Frames as the display shows them, or as the game submits them. One writer at a time. */
enum frame_source { FRAME_NONE, FRAME_CADENCE, FRAME_FLIP };
struct frame_state {
	__u64 presented;	/* frames that reached the display; frame_flipped(), frame_begins() */
	__u64 dropped;		/* game frames replaced before they were shown */
	__u64 missed;		/* refresh periods that passed without a new frame */
	__u64 present_at_ns;	/* last completion */
	__u64 flip_at_ns;	/* last flip or commit request */
	__u64 submit_at_ns;	/* last submit of the game's primary thread */
	__u64 shown_submit_ns;	/* the submit that the pending flip shows */
	__u64 interval_ns;	/* EWMA between completions */
	__u64 refresh_ns;	/* shortest interval seen lately: the display's period */
	__u64 submit_to_present_ns;	/* EWMA */
	__u64 compositor_ns;	/* EWMA, from the game's submit to the flip request */
	__u32 crtc;		/* display that is followed */
	__u32 source;		/* enum frame_source */
	__u32 pending;		/* game frames since the last flip request */
	__u32 flip_replaced;	/* game frames that the last flip request left out */
	__u64 submit_gap_ns;	/* EWMA between the primary thread's submits; gpu_submitted() */
	__u64 flip_behind_ns;	/* from the game's submit to the last flip request, 0: unknown */
};
_Static_assert(sizeof(struct frame_state) == 120, "ABI");

/*
 * What counts as a GPU submit: the driver's own name, the request's number, and its symbol in
 * the kernel's DRM headers without "DRM_IOCTL_" (a test compares). Numbers without the driver
 * mean nothing: 0x44 is amdgpu's submit and creates a resource on virtio_gpu.
 */
#define GPU_SUBMITS(X) \
	X("i915", 0x69, I915_GEM_EXECBUFFER2) X("xe", 0x49, XE_EXEC) X("amdgpu", 0x44, AMDGPU_CS) \
	X("amdgpu", 0x57, AMDGPU_USERQ_SIGNAL) X("radeon", 0x66, RADEON_CS) \
	X("nouveau", 0x52, NOUVEAU_EXEC) X("nouveau", 0x81, NOUVEAU_GEM_PUSHBUF) \
	X("msm", 0x46, MSM_GEM_SUBMIT) X("panfrost", 0x40, PANFROST_SUBMIT) \
	X("panthor", 0x49, PANTHOR_GROUP_SUBMIT) X("lima", 0x43, LIMA_GEM_SUBMIT) \
	X("v3d", 0x40, V3D_SUBMIT_CL) X("v3d", 0x47, V3D_SUBMIT_CSD) X("vc4", 0x40, VC4_SUBMIT_CL) \
	X("etnaviv", 0x46, ETNAVIV_GEM_SUBMIT) X("powervr", 0x4d, PVR_SUBMIT_JOBS) \
	X("asahi", 0x4a, ASAHI_SUBMIT) X("virtio_gpu", 0x42, VIRTGPU_EXECBUFFER) \
	X("vgem", 0x41, VGEM_FENCE_ATTACH)

/* With --realtime: so long a burst of SCHED_FIFO may be, and so many wakeups come before; not measured */
#define REALTIME_NS	2000000
#define REALTIME_WAKEUPS 500

#define BENCH_COMM	"gamer-bench"	/* our own synthetic game */

/* Thread names that tell a role, by their beginning; confidence NAME_CONFIDENCE. */
#define THREAD_NAMES(X) \
	X("dxvk-submit", GPU) X("dxvk-queue", GPU) X("dxvk-cs", RENDER) X("dxvk-frame", RENDER) \
	X("dxvk-shader", BACKGROUND) X("dxvk-cleanup", BACKGROUND) X("vkd3d_queue", GPU) \
	X("vkd3d-swapchain", RENDER) X("vkd3d_fence", GPU) X("vkd3d-disk", BACKGROUND) \
	X("wined3d_cs", RENDER) X("RenderThread", RENDER) X("RHIThread", GPU) \
	X("RHISubmission", GPU) X("GameThread", RENDER) X("UnityGfxDevice", RENDER) \
	X("UnityMain", RENDER) X("Job.Worker", WORKER) X("TaskGraph", WORKER) \
	X("Foreground Work", WORKER) X("Background Work", BACKGROUND) \
	X("AsyncLoading", BACKGROUND) X("PhysX", PHYSICS) X("AudioThread", AUDIO) \
	X("AudioMixer", AUDIO) X("FMOD mixer", AUDIO) X("FMOD stream", AUDIO) X("OpenAL", AUDIO) \
	X("SDLAudio", AUDIO) X("pulse-", AUDIO) X("pw-", AUDIO) X("data-loop", AUDIO) \
	X("alsa-", AUDIO) X("InputThread", INPUT) X("SDLJoystick", INPUT) X("winebus", INPUT) \
	X("wine_xinput", INPUT) X("wine_dinput", INPUT) X("wine_wginput", INPUT) \
	X("wine_dsound", AUDIO) X("wine_dmsynth", AUDIO) X("audio_client", AUDIO) \
	X("NetThread", NETWORK) X("gamescope-", COMPOSITOR) X("KWin", COMPOSITOR)

/* What serves a game: name, class */
#define SERVER_NAMES(X) \
	X("gamescope", COMPOSITOR) X("gamescope-wl", COMPOSITOR) X("kwin_wayland", COMPOSITOR) \
	X("kwin_x11", COMPOSITOR) X("gnome-shell", COMPOSITOR) X("mutter", COMPOSITOR) X("Xorg", COMPOSITOR) \
	X("Xwayland", COMPOSITOR) X("sway", COMPOSITOR) X("weston", COMPOSITOR) X("Hyprland", COMPOSITOR) \
	X("labwc", COMPOSITOR) X("cosmic-comp", COMPOSITOR) X("wayfire", COMPOSITOR) X("river", COMPOSITOR) \
	X("cage", COMPOSITOR) X("niri", COMPOSITOR) X("vrcompositor", COMPOSITOR) \
	X("monado-service", COMPOSITOR) X("wivrn-server", COMPOSITOR) X("pipewire", AUDIO) X("pipewire-pulse", AUDIO) \
	X("wireplumber", AUDIO) X("pulseaudio", AUDIO) X("jackd", AUDIO) X("jackdbus", AUDIO) \
	X("wineserver", WINESERVER) X("wineserver64", WINESERVER) X("wineserver32", WINESERVER)

/*
 * Programs that user space wants to hear of when they start, by their beginning. Programs
 * with .exe in their name or one of ENV_NAMES in their environment are told of besides; any
 * other game is found by what it does. "wine" is Wine's loader, which becomes NAME.exe.
 */
#define PROGRAM_NAMES(X) SERVER_NAMES(X) X(BENCH_COMM, OTHER) X("wine", OTHER)

/* Variables that tell of a game unless they are empty or 0: name, the trait that user space takes them for */
#define ENV_NAMES(X) \
	X("GAMER_GAME=", DECLARED) X("SteamAppId=", LAUNCHED) X("SteamGameId=", LAUNCHED) \
	X("LUTRIS_GAME_UUID=", LAUNCHED) X("HEROIC_APP_NAME=", LAUNCHED) X("UMU_ID=", LAUNCHED)

/* A name's beginning, for comparing two words at once. Filled in by user space. */
struct prefix {
	__u64 value[2];		/* the text, zero-padded */
	__u64 mask[2];		/* ones where the text has bytes */
};
_Static_assert(sizeof(struct prefix) == 32, "ABI");
enum { THREAD_NAME_MAX = 48, PROGRAM_NAME_MAX = 32, ENV_NAME_MAX = 8 };

/* Kinds of input devices, by what they can do: id, name, ms that input lasts. */
#define INPUT_KINDS(X)			\
	X(MOUSE, mouse, INPUT_MOUSE_MS)	\
	X(KEYBOARD, keyboard, INPUT_KEYBOARD_MS) \
	X(GAMEPAD, gamepad, INPUT_GAMEPAD_MS) \
	X(TOUCH, touch, INPUT_TOUCH_MS)

/* Keys that are down, by device: a device that goes takes its keys along. */
struct held {
	__u64 dev;	/* address, 0: free; input_hold() */
	__u32 keys;	/* input_hold(), input_gone() */
	__u32 pad;
};
_Static_assert(sizeof(struct held) == 16, "ABI");

#define X(id, name, window_ms) INPUT_##id,
enum input_kind { INPUT_KINDS(X) INPUT_KIND_NR };
#undef X

/*
 * What the process database knows programs as: id, name. What a tier means to the scheduler
 * stands at the database, in gamer.c.
 */
#define TIERS(X) \
	X(BATCH, batch) X(INTERACTIVE, interactive) X(LAT_CRITICAL, lat_critical)

#define X(id, name) TIER_##id,
enum tier { TIERS(X) TIER_NR };
#undef X

/* A program: two of one name are told apart by where they were started from. */
struct learn_key {
	char comm[16];		/* of the thread, zero-padded; not trusted */
	__u32 exe;		/* hash of the path, 0: any; game_exec() */
};
_Static_assert(sizeof(struct learn_key) == 20, "ABI");

/* What its tasks did since user space took the last of these; learn_observe() */
struct learn_sum {
	__u64 burst_ns;		/* EWMA of their bursts: of those that took most of their time */
	__u64 dev_ns;		/* EWMA of how far one task's was from that */
	__u64 wakeups_hz;	/* EWMA of wakeups per second */
	__u64 switches_hz;	/* EWMA of context switches per second */
	__u32 count;		/* observations */
	__u32 votes[TIER_NR];	/* of them, by tier */
	__u32 role_votes;	/* of them, those whose role was `role` by exact evidence */
	__u8 role;		/* enum role, NONE: none had one */
	__u8 pad[3];
};
_Static_assert(sizeof(struct learn_sum) == 56, "ABI");

/* How a new task begins; user space */
struct prediction {
	__u32 burst_ns;		/* 0: unknown */
	__u32 gap_ns;		/* between wakeups, 0: unknown */
	__u8 tier;		/* enum tier, TIER_NR: unknown */
	__u8 confidence;	/* 0..100 of the tier */
	__u8 role;		/* enum role, NONE: unknown */
	__u8 role_confidence;	/* 0..100 */
};
_Static_assert(sizeof(struct prediction) == 12, "ABI");
enum { LEARN_PROGRAMS = 512, LEARN_SUMS = 1024 };

/*
 * Why the kernel let the scheduler go; written once by gamer_exit. It lies in memory of its own
 * and not in a ring, because whoever fills the ring could hide it.
 */
struct scx_end {
	__u64 exit_code;	/* kernel's or the hotplug restart code */
	__s32 kind;		/* enum scx_exit_kind of the kernel */
	__u32 written;		/* 1: all else has its value */
	char reason[64];
	char msg[256];
};
_Static_assert(sizeof(struct scx_end) == 336, "ABI");

/*
 * --- gamer profile ---
 * Why a thread was off its CPU. A blocked thread is in its state until somebody wakes it and
 * waits for a CPU from then on; a preempted one waits for a CPU all the time.
 */
#define PROF_STATES(X)							\
	X(SLEEP, sleep, "waits for something, signals wake it")		\
	X(DISK, disk, "waits for I/O, uninterruptible")			\
	X(LOCK, uninterruptible, "waits in the kernel for something else than I/O") \
	X(PREEMPTED, preempted, "could run, others had the CPU")	\
	X(RUNQUEUE, runqueue, "was woken and waited for a CPU")		\
	X(STOPPED, stopped, "stopped by a signal")			\
	X(TRACED, traced, "stopped by a debugger")			\
	X(OTHER, other, "parked, frozen")

#define X(id, name, help) PROF_##id,
enum prof_state { PROF_STATES(X) PROF_STATE_NR };
#undef X

/* What a walk over all tasks does. */
enum prof_walk {
	PROF_WALK_MARK,		/* follow those that belong to the tree; shows none */
	PROF_WALK_LIST,		/* show those that are followed */
	PROF_WALK_COLLECT,	/* and end their times off the CPU */
};

#define PROF_FRAMES	127	/* of a stack; deeper ones lose their outer end */
#define PROF_SYSCALLS	512	/* numbers that are counted, of each kind */
#define PROF_NO_SYSCALL	0xffff	/* a fault, an interrupt, a thread of the kernel */
#define PROF_IA32	0x8000	/* set in the number of a 32-bit call */

/* What one thread did in one program: it gets a new record by exec. */
struct prof_thread {
	__u64 start_ns, end_ns;	/* CLOCK_MONOTONIC; marked, fork; last switch, exec, end */
	__u64 min_ns, max_ns;	/* of the events, from the CPU's loss to its return */
	__u64 wait_max_ns;	/* from a wakeup until the thread ran, the longest */
	__u64 events;		/* times off the CPU, within the bounds */
	__u64 n[PROF_STATE_NR];	/* by state; one event may count in its state and in runqueue */
	__u64 ns[PROF_STATE_NR];
	__u64 futex_n, futex_ns;	/* of sleep: inside of a futex call */
	__u64 minor_faults, major_faults;
	__u64 voluntary, involuntary;	/* context switches as the kernel counts them */
	__u64 cpu_ns;		/* time on CPUs, likewise */
	__u32 waits[HIST_SLOTS];	/* wakeups by the time until the thread ran: hist_slot(ns >> HIST_SHIFT) */
	__u32 id;		/* of this record; no two have the same */
	__u32 tgid, tid;	/* in gamer's PID namespace */
	__u32 gone;		/* 1: the thread has ended */
	char comm[16];		/* not trusted */
};
_Static_assert(sizeof(struct prof_thread) == 520, "ABI");

/* Who is followed. */
enum prof_scope { PROF_TREE, PROF_THREAD, PROF_SYSTEM };

/* Where and why a thread was off its CPU. */
struct prof_key {
	__u64 ustack, kstack;	/* keys of stacks, 0: unknown */
	__u32 id;		/* of the thread's record */
	__u16 nr;		/* system call that it was in, or PROF_NO_SYSCALL */
	__u8 state;		/* enum prof_state; RUNQUEUE: from its fork until it first ran */
	__u8 pad;
};
_Static_assert(sizeof(struct prof_key) == 24, "ABI");

struct prof_off {
	__u64 n;		/* times */
	__u64 ns;		/* in that state */
	__u64 wait_ns;		/* then waiting for a CPU */
	__u64 max_ns;		/* longest, both together */
};
_Static_assert(sizeof(struct prof_off) == 32, "ABI");

/* Innermost first. */
struct prof_stack {
	__u64 ip[PROF_FRAMES];
	__u64 n;		/* of these; beyond lies what an earlier, deeper one left */
};
_Static_assert(sizeof(struct prof_stack) == 1024, "ABI");

struct prof_counts {
	__u64 n[2][PROF_SYSCALLS];	/* system calls by number; 64-bit, 32-bit */
	__u64 odd;			/* with numbers beyond, or none */
};

/* Block requests that are done, by the record of whoever made them, who may be gone. */
struct prof_io_sum {
	__u64 n, ns, bytes, max_ns;	/* from the request to its end */
};

/* What did not fit, or could not be had. */
struct prof_lost {
	__u64 threads;		/* no memory to follow a thread */
	__u64 offs;		/* times off the CPU whose stack is not known */
	__u64 stacks;		/* new stacks that found no room */
	__u64 ios;		/* block requests that found no room */
};

/* What clang's analyzer cannot see for itself */
#ifdef __clang_analyzer__
#define CERTAIN(cond)	do { if (!(cond)) __builtin_unreachable(); } while (0)
#else
#define CERTAIN(cond)	do { } while (0)
#endif

/* Histogram over nanoseconds: slots 0..3 are 256 ns wide, then 4 per doubling, to 33 ms. */
static inline __attribute__((always_inline, unused)) __u32 hist_slot(__u64 ns)
{
	__u64 v = ns >> 8;	/* 256 ns units: below that a wakeup is free */
	__u32 log = 0, slot;

	if (v < 4)
		return v;
	if (v >> 32)
		return HIST_SLOTS - 1;
	if (v >> 16) { v >>= 16; log += 16; }
	if (v >> 8) { v >>= 8; log += 8; }
	if (v >> 4) { v >>= 4; log += 4; }
	if (v >> 2) { v >>= 2; log += 2; }
	if (v >> 1)
		log += 1;
	/* log = floor(log2 v); the two bits below the leading one pick the quarter */
	CERTAIN(log >= 2);
	slot = (log - 1) * 4 + (((ns >> 8) >> (log - 2)) & 3);
	return slot < HIST_SLOTS ? slot : HIST_SLOTS - 1;
}

#ifdef __bpf__

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char _license[] SEC("license") = "GPL";

#define NSEC_PER_USEC	1000ULL
#define NSEC_PER_MSEC	1000000ULL
#define NSEC_PER_SEC	1000000000ULL
#define EWMA_SHIFT	3	/* weight of a new sample: 1/8 */
#define PF_KTHREAD	0x00200000
#define MAX_RT_PRIO	100	/* task_struct.prio below: SCHED_FIFO, SCHED_RR, SCHED_DEADLINE */
#define CGROUP_DEPTH	8	/* cgroups above a task whose weights count */
enum { SCHED_NORMAL = 0, SCHED_FIFO = 1, SCHED_BATCH = 3, SCHED_IDLE = 5 };

/* ===================================================================================== */
/* 2. tunables                                                                           */
/* ===================================================================================== */

/* Constant after load: the verifier drops whatever they switch off. */
#define X(name, type, required) const volatile u64 k_##name;
KERNEL_CONSTS(X)
#undef X

const volatile u32 nr_cpu_ids = 1;		/* possible CPUs; topology */
const volatile u32 cpu_mask = MAX_CPUS - 1;	/* possible CPUs, to the next power of two, less 1 */
const volatile u32 nr_llcs = 1;			/* last-level caches; topology */
const volatile u32 tests;			/* run --test: bits of parts left out and of failures */
const volatile u8 smt_on;			/* 1: some core has two threads */
const volatile u8 perf_control;			/* 1: ask for CPU frequencies */
const volatile u8 have_cgroups;			/* 1: the kernel passes cgroup weights */
const volatile u8 have_patterns;		/* 1: run and sleep patterns are evidence */
const volatile u8 have_gpu;			/* 1: submits are evidence */
const volatile u8 have_frames;			/* 1: page flips are looked at */
const volatile u8 have_names;			/* 1: thread names are evidence */
const volatile u8 learning;			/* 1: tasks are observed for the database */
const volatile u8 observing;			/* 1: no scheduler; contexts are made when needed */
const volatile u8 advising;			/* 1: user space advises threads by what they act as */
const volatile u32 realtime_ns;			/* so long the bursts of a real-time thread may be, 0: there is none */
const volatile struct prefix thread_names[THREAD_NAME_MAX];	/* from THREAD_NAMES */
const volatile u8 thread_name_roles[THREAD_NAME_MAX];		/* enum role of each */
const volatile struct prefix program_names[PROGRAM_NAME_MAX];	/* from PROGRAM_NAMES */
const volatile struct prefix env_names[ENV_NAME_MAX];		/* from ENV_NAMES */
const volatile u8 have_kick;			/* 1: scx_bpf_kick_cpu may be called */
const volatile u8 have_peek;			/* 1: queues may be looked into, by iterators */
const volatile u32 game_weight_recip = 128;	/* 1024 / weight of the game and its servers; --game-weight */
const volatile u32 irq_mask;			/* interrupt bits of the preemption counter, 0: unknown */
const volatile s32 irq_from_rq;			/* from the CPU's runqueue to the counter, 0: by its symbol */
const volatile u16 cpu_llc[MAX_CPUS];		/* cache index of a CPU */
const volatile u16 cpu_sibling[MAX_CPUS];	/* SMT sibling, itself where none */
const volatile u8 cpu_bit[MAX_CPUS];		/* its bit in the masks of its cache */
const volatile u16 cpu_at[MAX_LLCS * LLC_CPUS];	/* by cache and bit: the CPU */
const volatile u8 cpu_rank[MAX_CPUS];		/* 0: fastest, to SPEEDS - 1; hybrid parts only */
const volatile u8 hybrid;			/* 1: CPUs differ in capacity or preference */
const volatile u32 llc_depth_recip[MAX_LLCS];	/* 1024 / CPUs of the cache, at least 1 */

/* The least frequency out of 1024, for all and for the game's critical work; by the power profile. */
u32 perf_floor, perf_game_floor;
u32 compacts;			/* 1: work keeps to few CPUs; by the power profile */

/*
 * All thresholds, and where each number comes from. "Lab" is the benchmark's game on virtual CPUs
 * beside busy threads (hogs) or threads that wake each other (pipes); "late" is a frame's thread
 * that ran 500 us after its wakeup or later. "Not measured" is a first choice that was kept. How
 * long evidence lives stands in SOURCES.
 */

/* --- slices --- */
#define SLICE_NORMAL_NS		(4 * NSEC_PER_MSEC)	/* where nothing waits; not measured */
#define SLICE_CONTENDED_NS	(3 * NSEC_PER_MSEC)	/* where tasks wait; not measured */
/*
 * Where so many tasks wait per CPU, a slice is so short that 64 of them have had a turn within 100 ms.
 * The tick is too slow for that: a timer of the cache ends these slices.
 */
#define CROWD			16
#define SLICE_CROWD_NS		(1 * NSEC_PER_MSEC)
#define THRONG			64	/* that many are no game's machine: thousands must not stall */
#define SLICE_THRONG_NS		(250 * NSEC_PER_USEC)
#define SLICE_CRITICAL_MIN_NS	(1 * NSEC_PER_MSEC)	/* bounds of twice the average burst; not measured */
#define SLICE_CRITICAL_MAX_NS	(16 * NSEC_PER_MSEC)	/* a frame at 60 Hz */

/* --- fair time --- */
/*
 * What a task that slept keeps of its unused share. Without it an interactive task of 5 ms bursts
 * waited 15 ms at each wakeup beside 8 busy threads on 4 CPUs; EEVDF: 2.7 ms.
 */
#define LAG_MAX_NS		(10 * NSEC_PER_MSEC)
#define LIGHT_NS		(LAG_MAX_NS / 2)	/* who left so much runs at once; not measured */
/*
 * What a task may owe: more than one tick of nice 19 costs at HZ=250 (276 ms), but no more than the
 * clock makes good in DEBT_WINDOWS windows, which bounds the wait by half a second of real time.
 * Without the second bound a thread of nice 19 that slept and ran by turns stood still for 1.4 s.
 */
#define DEBT_MAX_NS		(400 * NSEC_PER_MSEC)
#define DEBT_WINDOW_NS		(128 * NSEC_PER_MSEC)
#define DEBT_WINDOWS		4
/*
 * In windows of DEBT_WINDOW_NS: where a cache is busy so far, in eighths, and all but the game had less than one of so
 * many parts of what ran there, the game's weight ends; it doubles again where they had more than one of OTHERS_MUCH.
 * Lab: without it a 1 ms task beside a game that loads with 8 threads is late at each wakeup, with it at none.
 */
#define BUSY_EIGHTHS		7	/* not measured */
#define OTHERS_LITTLE		10	/* by design */
#define OTHERS_MUCH		5	/* twice as much, so that a doubled weight does not end again */

/* --- what keeps other work from starving --- */
#define RESCUE_NS		(20 * NSEC_PER_MSEC)	/* so long unserved, a cache's normal queue is next; not measured */
#define PINNED_RESCUE_NS	(60 * NSEC_PER_MSEC)	/* the same of a CPU's pinned queue; not measured */
#define STUCK_NS		NSEC_PER_SEC	/* the last in the queue does not wait longer for a throng; not measured */
/* An idle-class task gets a slice so often on each CPU: at most 5 %. Lab: 80 ms gave it 5.4 %. */
#define IDLE_TURN_NS		(160 * NSEC_PER_MSEC)

/* --- light tasks and boosts --- */
#define LIGHT_BURST_NS		(2 * NSEC_PER_MSEC)	/* a light task's burst; not measured */
#define BOOST_NS		(8 * NSEC_PER_MSEC)	/* a boost ends; not measured */
#define BOOST_HOPS		4			/* wakeups that a boost travels; not measured */

/* --- preemption, handoff --- */
#define HANDOFF_SOON_NS		(200 * NSEC_PER_USEC)	/* a waker sleeps within this, by its average; not measured */
/*
 * Critical work gives way to what is done in half of the time that it still needs, less this. Lab: without it sound
 * is late at 24 % of its wakeups beside a game whose jobs of 8 ms take all CPUs, with it at none.
 */
#define SHORTER_NS		(100 * NSEC_PER_USEC)
#define VICTIM_TRIES		8	/* CPUs of an importance that are asked: bounds the wakeup path; not measured */
/* A kernel thread of one CPU is critical while its bursts are shorter. Not measured. */
#define KTHREAD_BURST_NS	(1 * NSEC_PER_MSEC)

/* --- frequency, compaction --- */
#define COMPACT_FIFTHS		4	/* a CPU is enough for so much of its time; not measured */
#define UTIL_SHIFT		25	/* 34 ms; the kernel's average forgets half in 32 ms */
#define UTIL_ONE		(1U << 20)

/* --- learning --- */
#define LONG_BURST_NS		(5 * NSEC_PER_MSEC)	/* longer bursts are batch work; by design */
#define LEARN_MATURE		8	/* bursts until averages say something: their weight is 1/8 */
#define LEARN_DOUBT		64	/* until they may contradict the database; not measured */
#define LEARN_AGAIN		320	/* until they are told again; not measured */
#define LEARN_TELL_NS		(2 * NSEC_PER_SEC)	/* between two wakeups of user space; not measured */

/* --- patterns: what bursts look like --- */
/* Rates of wakeups in Hz (most, least) and lengths of bursts: by design, with room for jitter. */
#define INPUT_RATE		8800, 120
#define INPUT_BURST_NS		(100 * NSEC_PER_USEC)
#define AUDIO_RATE		1500, 80
#define AUDIO_BURST_NS		(3 * NSEC_PER_MSEC)
#define RENDER_RATE		360, 30
#define RENDER_BURST_MIN_NS	(1 * NSEC_PER_MSEC)
#define RENDER_BURST_MAX_NS	(16 * NSEC_PER_MSEC)
#define COMPOSITOR_RATE		240, 50
#define COMPOSITOR_BURST_MIN_NS	(500 * NSEC_PER_USEC)
#define COMPOSITOR_BURST_MAX_NS	(8 * NSEC_PER_MSEC)
#define BACKGROUND_BURST_NS	(100 * NSEC_PER_USEC)
#define BUSY_BURST_NS		(100 * NSEC_PER_MSEC)	/* so long a burst is of no frame; not measured */
/* The frames of the known game may be slower. Not measured. */
#define GAME_RENDER_RATE	360, 15
#define GAME_RENDER_BURST_MAX_NS (33 * NSEC_PER_MSEC)
/*
 * Steady gaps deviate by less than gap >> STEADY_SHIFT. Sound is steady, and its bursts take less
 * than so many quarters of a gap. Not measured.
 */
#define STEADY_SHIFT		2
#define AUDIO_QUARTERS		2
/* The same of a thread that is known for sound already, and may be late for that. Not measured. */
#define AUDIO_KNOWN_STEADY_SHIFT 1
#define AUDIO_KNOWN_QUARTERS	3
/* Shares of wakeups are out of 256: by devices and timers, by softirqs (packets). Not measured. */
#define IRQ_WOKEN_MIN		64
#define SOFTIRQ_MIN		128
#define NETWORK_BURST_NS	(1 * NSEC_PER_MSEC)	/* packets' bursts; not measured */
#define NETWORK_GAP_PARTS	16	/* and they take less than this part of a gap; not measured */
/* Wakeups from one packet to the next: so few, and packets are what the thread wakes up for; not so many. */
#define NETWORK_WAKEUPS		2
#define NETWORK_ELSE		8
#define FANOUT_MIN		64	/* share of wakeups as one of several: a job worker; not measured */
#define LATE_GAPS		4	/* of so many gaps that we delayed one counts; not measured */
/* Bursts that agree, by design. A role found at 10 stays: lost and found again, it cost up to 3.8 s. */
#define MATCH_TAKEN		10
#define MATCH_LIKELY		50
#define MATCH_SURE		100
#define MATCH_ODD		4	/* agreeing bursts that one odd burst costs; not measured */

/* --- roles --- */
#define CONFIDENT		50	/* from here on a critical role makes critical; by design */
#define NAME_CONFIDENCE		40	/* a name alone does not, nor a doorbell; by design */
#define DOORBELL_CONFIDENCE	45
/* Windows' own numbers for what Wine passes on. */
#define WINE_TIME_CRITICAL	15
#define WINE_REALTIME_CLASS	4
/* A deadline is missed by more than period >> LATE, if the period is steadier than >> DEV. Not measured. */
#define MISS_LATE_SHIFT		3
#define MISS_DEV_SHIFT		1

/* --- hints to user space, frames, input --- */
/* Hints of one process and of all in a second. Measured under a flood: 0.4 to 1 % of a CPU. */
#define HINTS_OF_ONE		4
#define HINTS_OF_ALL		256
/* So many frames, none a second after the one before, make a candidate for the game. Not measured. */
#define HINT_FRAMES		8
#define HINT_AGAIN_NS		(5 * NSEC_PER_SEC)	/* without input before it is told of again; not measured */
#define ENV_PIECE		96	/* bytes of an environment that are read at once; not measured */
#define ENV_PIECES		1024	/* of an environment at most; not measured */
#define FRAME_BREAK_NS		(2 * NSEC_PER_MSEC)	/* between submits: a new frame; not measured */
#define FRAME_FRESH_NS		NSEC_PER_SEC		/* older stamps belong to no frame; not measured */
#define FRAME_MISSED_SHIFT	1	/* a frame later than period + (period >> this); not measured */
#define REFRESH_SHIFT		4	/* weight of a longer interval in the period; not measured */
/* The input window: how long it stays open after an event. Mouse: a report's interval at 125 Hz; others: not measured. */
#define INPUT_MOUSE_MS		8
#define INPUT_KEYBOARD_MS	1000
#define INPUT_GAMEPAD_MS	500
#define INPUT_TOUCH_MS		500
#define INPUT_NOISE_SHIFT	7	/* sticks tremble by less of their range; not measured */
#define HELD_SLOTS		16	/* devices whose keys are held at once; not measured */

/* ===================================================================================== */
/* 3. state and maps                                                                     */
/* ===================================================================================== */

/* The three kinds of maps: kept with a task or cgroup, by key, and rings. */
#define MAP_STORAGE(of, name, value_type)				\
	struct {							\
		__uint(type, BPF_MAP_TYPE_##of##_STORAGE);		\
		__uint(map_flags, BPF_F_NO_PREALLOC);			\
		__type(key, int);					\
		__type(value, value_type);				\
	} name SEC(".maps")
#define MAP_TABLE(kind, name, entries, key_type, value_type)		\
	struct {							\
		__uint(type, BPF_MAP_TYPE_##kind);			\
		__uint(max_entries, entries);				\
		__type(key, key_type);					\
		__type(value, value_type);				\
	} name SEC(".maps")
#define MAP_RING(name, bytes)						\
	struct {							\
		__uint(type, BPF_MAP_TYPE_RINGBUF);			\
		__uint(max_entries, bytes);				\
	} name SEC(".maps")

/* What one source says about a thread. */
struct evidence {
	u8 role;		/* enum role, NONE: nothing */
	u8 confidence;		/* 0..100 */
	u16 until;		/* evidence_clock() at which it ends, 0: never */
};

/* All that gamer knows of a thread. Times are scheduler-clock ns. */
struct task_ctx {
	/* 64 bytes that the scheduler itself lives on */
	u64 fair_at_ns;		/* fair time that it has had, by its cache's clock; task_charge(), task_in_bounds() */
	u64 run_at_ns;		/* got a CPU; running() */
	u64 wake_at_ns;		/* became runnable by a wakeup, 0 once running; task_woke() */
	u64 ready_at_ns;	/* became runnable, 0 once running; task_woke(), runtime_ran() */
	u64 boost_until_ns;	/* end of a boost received by a wakeup; task_woke() */
	u32 burst_ns;		/* run time since the last sleep; stopping() */
	u32 burst_avg_ns;	/* EWMA of bursts; stopping() */
	u32 inv_weight;		/* charge factor, 1024 = nice 0 and default cgroups; task_set_weight() */
	u32 class_gen;		/* class_gen that class knows of; class_refresh() */
	u16 llc;		/* cache whose clock fair_at_ns goes by; task_enters() */
	u16 irq_woken;		/* EWMA of wakeups by a device, a timer or a boost, 0..256; task_woke() */
	u8 acts_as;		/* enum role by which it is scheduled; role_settle() */
	u8 class;		/* enum class of its process; class_refresh() */
	u8 policy;		/* SCHED_*; task_set_weight() */
	u8 placed_by;		/* enum reason why it runs where it does; select_cpu(), enqueue() */
	/* what tells the role, and what is told */
	u64 run_ns, wait_ns;	/* sums; runtime_ran(), runtime_waited() */
	u64 last_wake_ns;	/* last wakeup, kept for the rate; task_woke() */
	u64 slept_at_ns;	/* last went to sleep; stopping() */
	u64 waker_ns;		/* run_at_ns of that waker, 0: something else woke it; task_woke() */
	u32 gap_avg_ns;		/* EWMA of the time between wakeups; task_woke() */
	u32 gap_dev_ns;		/* EWMA of its deviation; task_woke() */
	u32 weights_gen;	/* cgroup_gen that inv_weight knows of; task_reweigh() */
	u16 preempted;		/* switches by force since the last sleep; stopping() */
	u16 last_cpu;		/* where it ran last, plus 1; task_moved() */
	u16 match;		/* bursts that agreed with pattern_role; stopping() */
	u16 fanout;		/* EWMA of wakeups as one of several, 0..256; runtime_slept() */
	u16 waker_cpu;		/* where the last waker of its process ran; task_woke() */
	u16 softirq;		/* EWMA of wakeups by a softirq, 0..256; task_woke() */
	u16 until;		/* evidence_clock() at which the role in force ends, 0: never */
	u16 hints;		/* of a first thread: hints of its process this second; hint_allowed() */
	u8 pattern_role;	/* role that the last bursts look like; stopping() */
	u8 role;		/* enum role in force; role_settle() */
	u8 confidence;		/* 0..100 of role */
	u8 source;		/* enum source of role */
	s8 wine_priority;	/* last thread priority set by Windows' means; wine_set_thread() */
	u8 wine_class;		/* of a first thread: its process's priority class, 0: not set */
	u8 boost_depth;		/* hops left while boosted */
	u8 late_gaps;		/* gaps that told of our delay; task_woke() */
	u32 wakeups;		/* real ones; task_woke() */
	u32 role_wakeups;	/* wakeups when the role last changed; role_settle() */
	u32 network_wakeups;	/* wakeups when it last sent or received; network_used() */
	u32 submits;		/* GPU submits, since its process is the game; gpu_submitted() */
	u32 submit_gap_ns;	/* EWMA of the time between them; gpu_submitted() */
	u64 submit_at_ns;	/* last one; gpu_submitted() */
	u64 role_at_ns;		/* when the role last changed, CLOCK_MONOTONIC; role_settle() */
	u64 seen_at_ns;		/* first evidence, CLOCK_MONOTONIC; evidence_set() */
	u64 hints_at_ns;	/* when that second began, CLOCK_MONOTONIC; hint_allowed() */
	u64 learn_run_ns;	/* run time since it was last observed; learn_slept() */
	u64 learn_long_ns;	/* of it, in long bursts; learn_slept() */
	u32 learn_longs;	/* their number; learn_slept() */
	u32 exe;		/* hash of its program's path, 0: unknown; game_exec() */
	u16 bursts;		/* since the program began, restarts at LEARN_DOUBT; learn_slept() */
	u16 observe_at;		/* bursts at which it is observed next; learn_observe() */
	u16 preemptions;	/* by it, since the program began; take_victim() */
	u8 began_as;		/* enum tier that it began in; learn_begin() */
	u8 foretold;		/* 1: its averages began as the database's; learn_begin() */
	u8 overran;		/* 1: it ran too long for a real-time thread; runtime_overruns() */
	struct evidence evidence[SOURCE_NR];	/* evidence_set() */
};
_Static_assert(__builtin_offsetof(struct task_ctx, run_ns) == 64, "the hot part is one line long");

MAP_STORAGE(TASK, task_ctxs, struct task_ctx);

/* What a process is, on its first thread: nothing that is keyed by a number can go stale. */
MAP_STORAGE(TASK, procs, u32);	/* enum class; user space by pidfd, flip_requested() */
MAP_STORAGE(TASK, activities, struct activity);	/* user space reads by pidfd */

u32 class_gen = 1;	/* moves after each change in procs; threads look again when it did */
u32 game_tgid;		/* the game's process, 0: none; user space */

#define X(id, name, kib, frequent) MAP_RING(name##_ring, (kib) * 1024);
EVENTS(X)
#undef X

u32 events_wanted = 1U << EVENT_GAME;	/* bits by enum event_type that somebody reads; user space */
u64 run_watched_ns;		/* since when run_ended() is attached; user space */

/*
 * The way to the process database and back. Tasks that end by the thousand a second must not
 * cost an event each, so observations are summed by program where they are made, and user
 * space takes the sums away when learn_observe() wakes it: every LEARN_TELL_NS at most, and not at
 * all while nobody is observed. Full, the map drops what is new.
 */
MAP_TABLE(HASH, learn_sums, LEARN_SUMS, struct learn_key, struct learn_sum);

MAP_TABLE(HASH, predictions, LEARN_PROGRAMS, struct learn_key, struct prediction);

/* Hints of all processes in the second that began at hints_at_ns; hint_allowed() */
u64 hints_at_ns;
u32 hints;

struct scx_end scx_end;		/* gamer_exit() */

u64 learn_told_ns;		/* last HINT_LEARNED; learn_observe() */
u32 predict_any;		/* some prediction holds for any path; user space */

/* Timers of the caches: slices_end() */
struct slice_timer {
	struct bpf_timer timer;
};
MAP_TABLE(ARRAY, slice_timers, MAX_LLCS, u32, struct slice_timer);

/* Weight of a cgroup relative to the default, 1024 = 100; cgroup callbacks. */
MAP_STORAGE(CGRP, cgroup_weights, u32);

/* Moves with every change of a cgroup's weight; tasks look again when it did. */
u32 cgroup_gen = 1;

/* CPUs by speed, the fastest first; hybrid parts only, set once by gamer_init. Hidden, because a map
 * that holds a kernel pointer cannot be mapped by user space. */
__hidden struct bpf_cpumask __kptr *speeds[SPEEDS] SEC(".data.masks");

struct frame_state frame;
u64 input_until_ns;		/* the input window is open until then; input_event_seen() */
u32 input_held;			/* keys and buttons that are down; input_hold(), input_gone() */
u32 input_open;			/* was the window open at the last walk over threads(); its clock */
u32 primary_tid;		/* the game's thread with the most GPU submits; gpu_submitted() */
u32 primary_tgid, primary_submits;	/* its process, its submits */

/*
 * An input's way to the display: when the oldest event came that has not gone on. Each stage
 * hands it to the next; scheduler-clock ns, 0: none.
 */
struct {
	u64 event_ns;		/* no reader ran since; input_event_seen() */
	u64 read_ns;		/* no submit since; input_taken() */
	u64 submit_ns;		/* no flip since; gpu_submitted() */
	u64 flip_ns;		/* not on the display yet; flip_requested() */
} input_path;

/* The last frames, for whoever asks: frame n lies at n % FRAME_LOG. frame_logged() */
u32 frame_log_ns[FRAME_LOG];
u64 frames_logged;

/* run --test error or stall; injected() */
u32 inject_after = 100;		/* so many tasks are queued before */
s32 inject_pid;			/* the one that is not, 0: none yet */

/* Made as long as cpu_mask says before it is loaded: all of it is resident in user space. */
struct cpu_state cpu_states[MAX_CPUS] SEC(".bss.cpus");
struct llc_state llc_states[MAX_LLCS];

static __always_inline struct cpu_state *cpu_state_of(u32 cpu)
{
	return &cpu_states[cpu & cpu_mask];
}

static __always_inline struct cpu_state *cpu_here(void)
{
	return cpu_state_of(bpf_get_smp_processor_id());
}

static __always_inline u32 llc_of(u32 cpu)
{
	return cpu_llc[cpu & (MAX_CPUS - 1)] & (MAX_LLCS - 1);
}

static __always_inline void stat_inc(struct cpu_state *cs, enum bpf_stat id)
{
	cs->stat[id]++;
}

/* hist_slot(), in a form whose bound the verifiers of old kernels (6.1) see too. */
static __always_inline u64 hist_slot_sure(u64 ns)
{
	u64 slot = hist_slot(ns);

	asm volatile("%0 &= %1" : "+r"(slot) : "i"(HIST_SLOTS - 1));
	return slot;
}

static __always_inline void hist_add(struct cpu_state *cs, enum hist hist, u64 ns)
{
	cs->hist[hist][hist_slot_sure(ns >> HIST_SHIFT)]++;
}

static __always_inline bool event_wanted(enum event_type type)
{
	return events_wanted & (1U << type);
}

/* The one way into a ring. A full one costs the event and nothing else: it is counted. */
#define EVENT_SEND(id, ring, e) event_sent(id, bpf_ringbuf_output(&ring, e, sizeof(*(e)), 0))
static __always_inline bool event_sent(enum event_type type, long err)
{
	struct cpu_state *cs = cpu_here();

	if (err)
		cs->lost[type]++;
	else
		cs->sent[type]++;
	return !err;
}

/* How a record of thread `ids` begins; the rest of it is 0. */
#define EVENT_INIT(id, ids)								\
	.at_ns = bpf_ktime_get_ns(), .tid = (u32)(ids), .tgid = (ids) >> 32,		\
	.cpu = bpf_get_smp_processor_id(), .type = EVENT_##id

/* DSQ ids: three per cache, one per CPU for who is pinned to it. */
#define DSQ_CRITICAL(llc)	(0x1000ULL + (llc) * 4)
#define DSQ_NORMAL(llc)		(0x1001ULL + (llc) * 4)
#define DSQ_IDLE(llc)		(0x1002ULL + (llc) * 4)
#define DSQ_PINNED(cpu)		(0x10000ULL + (cpu))

/* ===================================================================================== */
/* 4. kernel compatibility                                                               */
/* ===================================================================================== */

/* In every kernel from 6.12 that has sched_ext; weak because an observer does without. */
s32 scx_bpf_create_dsq(u64 dsq_id, s32 node) __ksym __weak;
s32 scx_bpf_select_cpu_dfl(struct task_struct *p, s32 prev_cpu, u64 wake_flags,
			   bool *is_idle) __ksym __weak;
s32 scx_bpf_dsq_nr_queued(u64 dsq_id) __ksym __weak;
bool scx_bpf_test_and_clear_cpu_idle(s32 cpu) __ksym __weak;
s32 scx_bpf_pick_idle_cpu(const struct cpumask *allowed, u64 flags) __ksym __weak;
s32 __scx_bpf_select_cpu_and(struct task_struct *p, const struct cpumask *cpus,
			     struct scx_bpf_select_cpu_and_args *args) __ksym __weak;
s32 scx_bpf_select_cpu_and___five(struct task_struct *p, s32 prev_cpu, u64 wake_flags, const struct cpumask *cpus,
				  u64 flags) __ksym __weak;
void scx_bpf_cpuperf_set(s32 cpu, u32 perf) __ksym __weak;
u32 scx_bpf_cpuperf_cur(s32 cpu) __ksym __weak;
void scx_bpf_put_idle_cpumask(const struct cpumask *mask) __ksym __weak;
bool bpf_cpumask_empty(const struct cpumask *mask) __ksym __weak;
bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *mask) __ksym __weak;
struct cgroup *scx_bpf_task_cgroup(struct task_struct *p) __ksym __weak;
void bpf_cgroup_release(struct cgroup *cgrp) __ksym __weak;
struct cgroup *bpf_cgroup_ancestor(struct cgroup *cgrp, int level) __ksym __weak;
struct bpf_cpumask *bpf_cpumask_create(void) __ksym __weak;
void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym __weak;
void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym __weak;

/* Weak because Debian's 7.1 ships them with malformed BTF: see enqueue_shared(), any_idle(). */
void scx_bpf_kick_cpu(s32 cpu, u64 flags) __ksym __weak;
const struct cpumask *scx_bpf_get_idle_cpumask(void) __ksym __weak;

/* By kernel: the first that exists is called (see the functions below). */
u64 scx_bpf_now(void) __ksym __weak;
bool scx_bpf_dsq_insert___v2___new(struct task_struct *p, u64 dsq, u64 slice, u64 flags) __ksym __weak;
bool scx_bpf_dsq_insert___bool(struct task_struct *p, u64 dsq, u64 slice, u64 flags) __ksym __weak;
void scx_bpf_dsq_insert___void(struct task_struct *p, u64 dsq, u64 slice, u64 flags) __ksym __weak;
void scx_bpf_dispatch___old(struct task_struct *p, u64 dsq, u64 slice, u64 flags) __ksym __weak;
bool __scx_bpf_dsq_insert_vtime(struct task_struct *p,
				struct scx_bpf_dsq_insert_vtime_args *args) __ksym __weak;
void scx_bpf_dsq_insert_vtime___five(struct task_struct *p, u64 dsq, u64 slice, u64 vtime,
				     u64 flags) __ksym __weak;
void scx_bpf_dispatch_vtime___old(struct task_struct *p, u64 dsq, u64 slice, u64 vtime,
				  u64 flags) __ksym __weak;
bool scx_bpf_dsq_move_to_local___flags(u64 dsq, u64 flags) __ksym __weak;
bool scx_bpf_dsq_move_to_local___v2___new(u64 dsq, u64 flags) __ksym __weak;
bool scx_bpf_dsq_move_to_local___plain(u64 dsq) __ksym __weak;
bool scx_bpf_consume___old(u64 dsq) __ksym __weak;
bool scx_bpf_task_set_slice___new(struct task_struct *p, u64 slice) __ksym __weak;
u32 scx_bpf_reenqueue_local___v1(void) __ksym __weak;
void scx_bpf_error_bstr(char *fmt, u64 *data, u32 size) __ksym __weak;

/* The CPU's preemption counter: a variable of its own from 6.15, in a struct before. */
extern const int __preempt_count __ksym __weak;
extern const struct pcpu_hot pcpu_hot __ksym __weak;

/* A look into a queue, in order; in every kernel from 6.12. */
int bpf_iter_scx_dsq_new(struct bpf_iter_scx_dsq *it, u64 dsq_id, u64 flags) __ksym __weak;
struct task_struct *bpf_iter_scx_dsq_next(struct bpf_iter_scx_dsq *it) __ksym __weak;
void bpf_iter_scx_dsq_destroy(struct bpf_iter_scx_dsq *it) __ksym __weak;
bool scx_bpf_dsq_move___new(struct bpf_iter_scx_dsq *it, struct task_struct *p, u64 dsq,
			    u64 flags) __ksym __weak;

/* What each CPU runs, whatever the scheduling class. */
extern const struct rq runqueues __ksym __weak;

#define IRQ_SOFT	0x100	/* a softirq is being served; alone: no other interrupt is */

/* Not 0: this code runs on behalf of a device or a timer, and not of a task. */
static __always_inline u32 compat_in_interrupt(void)
{
	if (!irq_mask)
		return 0;
	if (irq_from_rq) {
		const struct rq *rq = bpf_get_current_task_btf()->se.cfs_rq->rq;
		u32 count = 0;

		bpf_probe_read_kernel(&count, sizeof(count), (const char *)rq + irq_from_rq);
		return count & irq_mask;
	}
	if (&__preempt_count)
		return *(const u32 *)bpf_this_cpu_ptr(&__preempt_count) & irq_mask;
	if (&pcpu_hot)
		return (u32)((const struct pcpu_hot *)bpf_this_cpu_ptr(&pcpu_hot))->preempt_count &
		       irq_mask;
	return 0;
}

static __always_inline u64 compat_now(void)
{
	return bpf_ksym_exists(scx_bpf_now) ? scx_bpf_now() : bpf_ktime_get_ns();
}

static __always_inline void compat_insert(struct task_struct *p, u64 dsq, u64 slice, u64 flags)
{
	if (bpf_ksym_exists(scx_bpf_dsq_insert___v2___new))
		scx_bpf_dsq_insert___v2___new(p, dsq, slice, flags);
	else if (bpf_ksym_exists(scx_bpf_dsq_insert___bool))
		scx_bpf_dsq_insert___bool(p, dsq, slice, flags);
	else if (bpf_ksym_exists(scx_bpf_dsq_insert___void))
		scx_bpf_dsq_insert___void(p, dsq, slice, flags);
	else
		scx_bpf_dispatch___old(p, dsq, slice, flags);
}

static __always_inline void compat_insert_key(struct task_struct *p, u64 dsq, u64 slice, u64 key,
					      u64 flags)
{
	if (bpf_core_type_exists(struct scx_bpf_dsq_insert_vtime_args)) {
		struct scx_bpf_dsq_insert_vtime_args args = {
			.dsq_id = dsq, .slice = slice, .vtime = key, .enq_flags = flags,
		};

		__scx_bpf_dsq_insert_vtime(p, &args);
	} else if (bpf_ksym_exists(scx_bpf_dsq_insert_vtime___five)) {
		scx_bpf_dsq_insert_vtime___five(p, dsq, slice, key, flags);
	} else {
		scx_bpf_dispatch_vtime___old(p, dsq, slice, key, flags);
	}
}

/*
 * The kernel's choice of an idle CPU, of `cpus` only: prev_cpu, then the same cache, then any; or negative.
 * Before 6.16 any, and none for who may not run everywhere. Without SCX_WAKE_SYNC, for which the kernel would
 * choose the waker's CPU first.
 */
static __always_inline s32 compat_select_of(struct task_struct *p, s32 prev_cpu, const struct cpumask *cpus,
					    u64 flags)
{
	if (bpf_core_type_exists(struct scx_bpf_select_cpu_and_args) && bpf_ksym_exists(__scx_bpf_select_cpu_and)) {
		struct scx_bpf_select_cpu_and_args args = { .prev_cpu = prev_cpu, .flags = flags };

		return __scx_bpf_select_cpu_and(p, cpus, &args);
	}
	if (bpf_ksym_exists(scx_bpf_select_cpu_and___five))
		return scx_bpf_select_cpu_and___five(p, prev_cpu, 0, cpus, flags);
	if ((u32)p->nr_cpus_allowed < nr_cpu_ids)
		return -1;
	if (!flags && bpf_cpumask_test_cpu(prev_cpu, cpus) && scx_bpf_test_and_clear_cpu_idle(prev_cpu))
		return prev_cpu;
	return scx_bpf_pick_idle_cpu(cpus, flags);
}

static __always_inline bool compat_can_kick(void)
{
	return have_kick && bpf_ksym_exists(scx_bpf_kick_cpu);
}

static __always_inline bool compat_take(u64 dsq)
{
	if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___v2___new))
		return scx_bpf_dsq_move_to_local___v2___new(dsq, 0);
	if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___flags))
		return scx_bpf_dsq_move_to_local___flags(dsq, 0);
	if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___plain))
		return scx_bpf_dsq_move_to_local___plain(dsq);
	return scx_bpf_consume___old(dsq);
}

/* The smallest key in a queue; `none` where the queue is empty or cannot be looked into. */
static __noinline u64 compat_first_key(u64 dsq, u64 none)
{
	struct bpf_iter_scx_dsq it;
	struct task_struct *p;

	if (!have_peek || !bpf_ksym_exists(bpf_iter_scx_dsq_new))
		return none;
	bpf_iter_scx_dsq_new(&it, dsq, 0);
	p = bpf_iter_scx_dsq_next(&it);
	if (p)
		none = p->scx.dsq_vtime;
	bpf_iter_scx_dsq_destroy(&it);
	return none;
}

static __always_inline void compat_set_slice(struct task_struct *p, u64 slice)
{
	/* Kernels with the kfunc warn about the direct write. */
	if (bpf_ksym_exists(scx_bpf_task_set_slice___new))
		scx_bpf_task_set_slice___new(p, slice);
	else
		p->scx.slice = slice;
}

/* ===================================================================================== */
/* 5. the scheduler                                                                      */
/* ===================================================================================== */

#define BPF_OPS(name, args...) SEC("struct_ops/" #name) BPF_PROG(name, ##args)
#define BPF_OPS_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(name, ##args)
#include <bpf/bpf_tracing.h>

/*
 * What the scheduler asks of the sections below: what a task's process is, what a burst's end tells
 * of the task, what the database knows of it, and whether an input's reader just ran.
 */
static __always_inline u8 task_class(struct task_struct *p, struct task_ctx *t, u64 now);
static __always_inline void runtime_slept(struct task_struct *p, struct task_ctx *t,
					  struct cpu_state *cs, u64 now);
static __always_inline void runtime_busy(struct task_struct *p, struct task_ctx *t, u64 now);
static __always_inline void input_taken(struct cpu_state *cs, u64 now);
static __always_inline void learn_named(struct task_struct *p, struct task_ctx *t, const void *comm);
int learn_observe(struct task_struct *p, struct task_ctx *t);

/* --- task context --- */

static __always_inline struct task_ctx *task_ctx_of(struct task_struct *p)
{
	return bpf_task_storage_get(&task_ctxs, p, 0, 0);
}

/* For the hooks: the scheduler makes every task's context at its birth, an observer here. */
static __always_inline struct task_ctx *task_ctx_make(struct task_struct *p)
{
	return bpf_task_storage_get(&task_ctxs, p, 0,
				    observing ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

static __always_inline u32 ewma(u32 avg, u32 sample)
{
	return avg - (avg >> EWMA_SHIFT) + (sample >> EWMA_SHIFT);
}

static __always_inline u32 clamp_u32(u64 ns)
{
	return ns > 0xffffffffULL ? 0xffffffff : ns;
}

static __always_inline u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

/* Signed: the kernel orders keys that way, and `now - warp` may be before boot. */
static __always_inline u64 later(u64 a, u64 b)
{
	return (s64)(a - b) > 0 ? a : b;
}

/* Thread and process number of a task in one word. */
static __always_inline u64 task_ids(struct task_struct *p)
{
	return (u64)p->tgid << 32 | (u32)p->pid;
}

/* --- importance --- */

static __always_inline u8 role_prio(u8 role)
{
	switch (role) {
#define X(id, name, prio) case ROLE_##id: return PRIO_##prio;
	ROLES(X)
#undef X
	}
	return PRIO_NORMAL;
}

#define BIT(n)	(1U << (n))

static __always_inline bool has_part(enum part part)
{
	return !(tests & BIT(part));
}

/* As a set: a switch over unknown roles costs the verifier a walk for each. */
static __always_inline bool role_is_critical(u8 role)
{
#define X(id, name, prio) (PRIO_##prio == PRIO_CRITICAL ? BIT(ROLE_##id) : 0) |
	return BIT(role & 31) & (ROLES(X) 0);
#undef X
}

static __always_inline bool task_boosted(const struct task_ctx *t, u64 now)
{
	return (s64)(t->boost_until_ns - now) > 0;
}

/* Did somebody just use an input device, or hold a key? */
static __always_inline bool input_window(u64 now)
{
	return input_held || (s64)(input_until_ns - now) > 0;
}

static __always_inline struct llc_state *llc_state_of(u32 llc)
{
	return &llc_states[llc & (MAX_LLCS - 1)];
}

/* How fast its fair time goes: the game and what serves it weigh up to --game-weight times more. */
static __always_inline u32 task_inv_weight(const struct task_ctx *t)
{
	return t->class ? ((u64)t->inv_weight * llc_state_of(t->llc)->game_recip) >> 10 : t->inv_weight;
}

/* How much more than its share a task has had, in fair time. */
static __always_inline s64 task_ahead_ns(const struct task_ctx *t)
{
	return t->fair_at_ns - llc_state_of(t->llc)->clock_ns;
}

/* It left half of what it may keep of its share. */
static __always_inline bool task_light(const struct task_ctx *t)
{
	return task_ahead_ns(t) <= -(s64)LIGHT_NS;
}

/*
 * Importance now: by the role, by a boost, or because the task is light and runs for a moment.
 * Only who weighs as much as nice 0 and has had no more than its share is critical: a lead decides when a
 * task runs, and not how much. Whoever does not sleep for long is batch work, but the game's busy threads
 * are not; what SCHED_BATCH and SCHED_IDLE say is believed.
 */
static __always_inline u8 task_prio(const struct task_ctx *t, u64 now)
{
	u8 prio = role_prio(t->acts_as);

	if (t->policy != SCHED_NORMAL)
		return PRIO_BATCH;
	if (t->class == CLASS_GAME)
		prio = prio == PRIO_BATCH ? PRIO_NORMAL : prio;
	else if (prio == PRIO_NORMAL && t->burst_ns > LONG_BURST_NS)
		prio = PRIO_BATCH;
	if (prio != PRIO_CRITICAL && !task_boosted(t, now) && (!task_light(t) || t->burst_avg_ns > LIGHT_BURST_NS))
		return prio;
	if (task_inv_weight(t) > 1024 || task_ahead_ns(t) > 0)
		return prio == PRIO_CRITICAL ? PRIO_NORMAL : prio;
	return PRIO_CRITICAL;
}

/* --- weight, fair time, charge --- */

/* The kernel's own weights: fair time per run time, 1024 at nice 0, from nice -20 to 19. */
static const u32 nice_inv_weight[40] = {
	12, 15, 19, 23, 29, 36, 45, 57, 70, 88,
	110, 137, 171, 213, 268, 336, 421, 527, 655, 821,
	1024, 1279, 1601, 1994, 2479, 3130, 3855, 4877, 6096, 7654,
	9533, 11916, 14980, 18079, 23302, 29127, 36158, 45590, 58254, 69905,
};
#define IDLE_INV_WEIGHT	349525	/* SCHED_IDLE weighs 3 */

/* cgroup_scale: the product of the weights from the task's cgroup to the root, 1024 by default. */
static __always_inline void task_set_weight(struct task_struct *p, struct task_ctx *t,
					    u32 cgroup_scale)
{
	u32 nice = p->static_prio - 100;
	u64 inv = p->policy == SCHED_IDLE ? IDLE_INV_WEIGHT : nice < 40 ? nice_inv_weight[nice] : 1024;

	t->policy = p->policy;
	t->inv_weight = min_u64((inv << 10) / (cgroup_scale ? cgroup_scale : 1), 1 << 22);
}

/* Look up the cgroups' weights again where some weight changed. Rare: off the wakeup path. */
static __noinline void task_reweigh(struct task_struct *p, struct task_ctx *t)
{
	u64 scale = 1024;
	struct cgroup *cgrp, *up;
	u32 *own;
	int i;

	t->weights_gen = cgroup_gen;
	cgrp = scx_bpf_task_cgroup(p);
	if (!cgrp)
		return;
	for (i = 1; i <= CGROUP_DEPTH && i <= cgrp->level; i++) {
		up = bpf_cgroup_ancestor(cgrp, i);
		if (!up)
			break;
		own = bpf_cgrp_storage_get(&cgroup_weights, up, 0, 0);
		if (own)
			scale = scale * *own >> 10;
		bpf_cgroup_release(up);
	}
	bpf_cgroup_release(cgrp);
	task_set_weight(p, t, min_u64(scale, 1 << 20));
}

/*
 * A window of a cache's clock is over. What a task may owe follows the clock's speed. And the game's
 * weight ends where the others together had little of a busy cache: a game that loads with many threads
 * would leave less than the little that light work asks for.
 */
__noinline int window_ends(u32 llc, u64 window_ns)
{
	struct llc_state *ls = llc_state_of(llc);
	u64 cpus = 0, ran[2] = {}, others, all, enough;
	const struct cpu_state *cs;
	u32 i, recip = ls->game_recip;

	for (i = 0; i < MAX_CPUS && i < nr_cpu_ids; i++) {
		if (llc_of(i) != (llc & (MAX_LLCS - 1)))
			continue;
		cs = cpu_state_of(i);
		ran[0] += cs->side_run_ns[0];
		ran[1] += cs->side_run_ns[1];
		cpus++;
	}
	others = ran[0] - ls->side_ns[0];
	all = others + ran[1] - ls->side_ns[1];
	if (all < window_ns * cpus * BUSY_EIGHTHS / 8)
		recip = game_weight_recip;
	else if (others < all / OTHERS_LITTLE)
		recip = 1024;
	else if (others > all / OTHERS_MUCH)
		recip = later(recip / 2, game_weight_recip);
	ls->game_recip = recip;
	enough = 1 + all * 5 / (window_ns * COMPACT_FIFTHS);
	ls->compact = enough < LLC_CPUS ? (1ULL << enough) - 1 : ~0ULL;
	ls->side_ns[0] = ran[0];
	ls->side_ns[1] = ran[1];
	ls->debt_max_ns = later(min_u64(DEBT_WINDOWS * (ls->clock_ns - ls->window_ns), DEBT_MAX_NS),
				LAG_MAX_NS);
	ls->window_ns = ls->clock_ns;
	return 0;
}

/*
 * The cache's clock of fair time. It moves to what the first task in the queue has had, which is the
 * least of all that wait. Where none waits nobody is behind: then the clock follows whoever runs, but
 * no faster than real time, or a light task alone on its CPU would make all others look idle.
 * Racy: a lost step is made up by the next one.
 */
static __always_inline void clock_moves(u32 llc, u64 to, u64 now, bool first)
{
	struct llc_state *ls = llc_state_of(llc);
	u64 most = ls->clock_ns + (now - ls->clock_at_ns), began = ls->window_at_ns;

	if (!first && (s64)(to - most) > 0)
		to = most;
	ls->clock_at_ns = now;
	if ((s64)(to - ls->clock_ns) > 0)
		ls->clock_ns = to;
	/* One CPU ends a window. Another CPU's clock may be a little ahead of this one. */
	if ((s64)(now - began) >= (s64)DEBT_WINDOW_NS &&
	    __sync_val_compare_and_swap(&ls->window_at_ns, began, now) == began)
		window_ends(llc, now - began);
}

/* The task is in another cache than before: its lead or debt stays what it was. */
static __always_inline void task_enters(struct task_ctx *t, u32 llc)
{
	if (t->llc == llc)
		return;
	t->fair_at_ns += llc_state_of(llc)->clock_ns - llc_state_of(t->llc)->clock_ns;
	t->llc = llc;
}

/* What a task keeps of what it did not use is bounded, and so is what it owes. */
static __always_inline void task_in_bounds(struct task_ctx *t)
{
	const struct llc_state *ls = llc_state_of(t->llc);

	t->fair_at_ns = later(t->fair_at_ns, ls->clock_ns - LAG_MAX_NS);
	if (task_ahead_ns(t) > (s64)ls->debt_max_ns)
		t->fair_at_ns = ls->clock_ns + ls->debt_max_ns;
}

/* Fair time of `used` ns on a CPU. */
static __always_inline u64 task_charge(const struct task_ctx *t, u64 used)
{
	return (min_u64(used, NSEC_PER_SEC) * task_inv_weight(t)) >> 10;
}

/* So long the task ran. One function for all who see it. */
static __always_inline void runtime_used(struct task_ctx *t, struct cpu_state *cs, u64 used)
{
	t->burst_ns = clamp_u32(t->burst_ns + used);
	t->run_ns += used;
	if (t->role < ROLE_NR)
		cs->role_run_ns[t->role] += used;
}

/* The task's CPU: what it ran since it began, or since the last call, counts. */
static __always_inline void task_settles(struct task_ctx *t, struct cpu_state *cs, u64 now)
{
	u64 until = later(now, t->run_at_ns), used = until - t->run_at_ns;

	t->run_at_ns = until;
	t->fair_at_ns += task_charge(t, used);
	cs->side_run_ns[t->class != CLASS_OTHER] += used;
	runtime_used(t, cs, used);
}

/* --- slice --- */

/* waiting: tasks per CPU that wait, 1024 is one. Many tasks get short slices, so that all have a turn. */
static __always_inline u64 normal_slice(u64 waiting)
{
	return !waiting ? SLICE_NORMAL_NS :
	       waiting < CROWD * 1024 ? SLICE_CONTENDED_NS :
	       waiting < THRONG * 1024 ? SLICE_CROWD_NS : SLICE_THRONG_NS;
}

static __always_inline u64 task_slice(const struct task_ctx *t, u8 prio, u64 waiting)
{
	u64 slice;

	if (prio != PRIO_CRITICAL)
		return normal_slice(waiting);
	slice = 2ULL * t->burst_avg_ns;
	if (slice < SLICE_CRITICAL_MIN_NS)
		return SLICE_CRITICAL_MIN_NS;
	return min_u64(slice, SLICE_CRITICAL_MAX_NS);
}

/* The key in the critical queue, by the real clock: of two tasks that wake together the shorter is first. */
static __always_inline u64 critical_key(const struct task_ctx *t, u64 now)
{
	return now + min_u64(t->burst_avg_ns, SLICE_CRITICAL_MAX_NS);
}

/* --- a task is born, enters the class, changes its weight --- */

s32 BPF_OPS_SLEEPABLE(gamer_init_task, struct task_struct *p, struct scx_init_task_args *args)
{
	struct task_ctx *t = bpf_task_storage_get(&task_ctxs, p, 0,
						  BPF_LOCAL_STORAGE_GET_F_CREATE), *parent;

	if (!t)
		return -12;	/* ENOMEM: fork fails instead of a task that nobody tracks */
	/*
	 * The storage outlives restarts, see storage_keep(): what is known of a task stays when a CPU comes
	 * or goes. The clocks of the last scheduler do not, nor what user space said of processes.
	 */
	if (!args->fork) {
		t->fair_at_ns = t->wake_at_ns = t->ready_at_ns = 0;
		t->llc = t->class_gen = 0;
		bpf_task_storage_delete(&procs, p);
	}
	t->weights_gen = 0;
	task_set_weight(p, t, 1024);
	/* What forks is the current task, and its program is that of the child. */
	parent = args->fork ? task_ctx_of(bpf_get_current_task_btf()) : NULL;
	if (!parent)
		return 0;
	t->exe = parent->exe;
	/* A child begins with what its parent has had: nobody gains time by forking. */
	t->llc = parent->llc;
	t->fair_at_ns = parent->fair_at_ns;
	return 0;
}

void BPF_OPS(gamer_enable, struct task_struct *p)
{
	struct task_ctx *t = task_ctx_of(p);

	if (!t)
		return;
	task_set_weight(p, t, 1024);
	t->weights_gen = 0;
	t->fair_at_ns = later(t->fair_at_ns, llc_state_of(t->llc)->clock_ns);
	/* Again after a time in another class: then it is no new task. */
	if (!t->observe_at)
		learn_named(p, t, p->comm);
}

void BPF_OPS(gamer_set_weight, struct task_struct *p, u32 weight)
{
	struct task_ctx *t = task_ctx_of(p);

	if (!t)
		return;
	t->weights_gen = 0;
	task_set_weight(p, t, 1024);
}

s32 BPF_OPS_SLEEPABLE(gamer_cgroup_init, struct cgroup *cgrp, struct scx_cgroup_init_args *args)
{
	u32 *scale = bpf_cgrp_storage_get(&cgroup_weights, cgrp, 0,
					  BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!scale)
		return -12;	/* ENOMEM */
	*scale = args->weight * 1024 / 100;
	return 0;
}

void BPF_OPS(gamer_cgroup_set_weight, struct cgroup *cgrp, u32 weight)
{
	u32 *scale = bpf_cgrp_storage_get(&cgroup_weights, cgrp, 0, 0);

	if (!scale)
		return;
	*scale = weight * 1024 / 100;
	__sync_fetch_and_add(&cgroup_gen, 1);
}

void BPF_OPS(gamer_cgroup_move, struct task_struct *p, struct cgroup *from, struct cgroup *to)
{
	struct task_ctx *t = task_ctx_of(p);

	if (t)
		t->weights_gen = 0;
}

/* --- wakeup --- */

/* Is it of the waker's process, or are both of the game and of what serves it? */
static __always_inline bool same_team(struct task_struct *p, const struct task_ctx *t,
				      const struct cpu_state *waker)
{
	return waker->tgid == (u32)p->tgid || (waker->class && t->class != CLASS_OTHER);
}

/*
 * Who a critical thread waits for matters as much as itself: a critical thread that wakes
 * one of its team hands it a boost that ends after BOOST_NS or BOOST_HOPS wakeups.
 */
static __always_inline bool boost_by_waker(struct task_struct *p, struct task_ctx *t,
					   struct cpu_state *waker, u64 now)
{
	if (!has_part(PART_BOOST) || waker->prio != PRIO_CRITICAL || !waker->boost_depth ||
	    !same_team(p, t, waker))
		return false;
	t->boost_until_ns = now + BOOST_NS;
	t->boost_depth = waker->boost_depth - 1;
	stat_inc(waker, BPF_STAT_BOOSTS);
	return true;
}

/*
 * Rate and regularity of wakeups. Where the thread slept late because it had run late, the
 * gap tells of our delay and not of the thread: a timer thread that we kept waiting would
 * lose its regularity by it, then its role, and then wait for good. But one in four such gaps
 * counts, or a first gap that was far too short would stand for good.
 */
static __always_inline void runtime_woke(struct task_ctx *t, u64 now)
{
	u32 gap = clamp_u32(now - t->last_wake_ns);
	u64 busy = t->slept_at_ns - t->last_wake_ns;
	bool late = t->gap_avg_ns && busy > t->gap_avg_ns - (t->gap_avg_ns >> 2);
	u32 dev;

	if (t->last_wake_ns && (!late || ++t->late_gaps % LATE_GAPS == 0)) {
		dev = gap > t->gap_avg_ns ? gap - t->gap_avg_ns : t->gap_avg_ns - gap;
		t->gap_dev_ns = t->gap_avg_ns ? ewma(t->gap_dev_ns, dev) : 0;
		t->gap_avg_ns = t->gap_avg_ns ? ewma(t->gap_avg_ns, gap) : gap;
	}
	t->last_wake_ns = now;
}

/* Real-time and kernel threads wake others on behalf of a device or a timer. */
static __always_inline bool waker_drives(void)
{
	struct task_struct *waker = bpf_get_current_task_btf();

	return waker->prio < MAX_RT_PRIO || (waker->flags & PF_KTHREAD && waker->pid);
}

/* A real wakeup (not every switch-in), seen once, on the waker's CPU `cs`. */
static __always_inline void task_woke(struct task_struct *p, struct task_ctx *t,
				      struct cpu_state *cs, u64 now)
{
	u32 interrupt = compat_in_interrupt();
	bool irq_woken = interrupt || waker_drives() || boost_by_waker(p, t, cs, now);

	/* This kernel does not tell interrupt context: a process that is not the game's hardly woke the thread. */
	if (!irq_mask && t->class == CLASS_GAME && cs->tgid != (u32)p->tgid)
		irq_woken = true;
	t->softirq -= t->softirq >> EWMA_SHIFT;
	if (interrupt == IRQ_SOFT)
		t->softirq += 256 >> EWMA_SHIFT;
	if (!t->last_wake_ns)
		t->irq_woken = irq_woken ? 256 : 0;
	t->waker_ns = 0;
	if (!interrupt && cs->tgid == (u32)p->tgid) {
		t->waker_ns = cs->run_at_ns;
		t->waker_cpu = bpf_get_smp_processor_id();
		if (cs->fanout++)
			cs->fanout_ns = cs->run_at_ns;
	}
	t->wakeups++;
	t->irq_woken -= t->irq_woken >> EWMA_SHIFT;
	if (irq_woken)
		t->irq_woken += 256 >> EWMA_SHIFT;
	runtime_woke(t, now);
	t->wake_at_ns = t->ready_at_ns = now;
	stat_inc(cs, BPF_STAT_WAKEUPS);
}

/* --- select: an idle CPU, or one that runs less important work --- */

/*
 * Each cache has a mask of its CPUs for each importance, so that a wakeup finds the least important
 * work in a few steps. A CPU that changes to work of another importance moves its bit, and a wakeup
 * that takes the CPU clears the bit: of two wakeups only one gets it. The CPU's next task, or the
 * same one that goes on, sets the bit again, but not before the task that took the CPU has come: until
 * then the CPU may hand itself over from task to task. An idle CPU, or one that a higher class has, has no bit.
 */
static __always_inline u64 cpu_bit_of(u32 cpu)
{
	return 1ULL << (cpu_bit[cpu & (MAX_CPUS - 1)] & 63);
}

static __always_inline bool cpu_claim(u32 cpu, u8 prio)
{
	u64 bit = cpu_bit_of(cpu);

	return __sync_fetch_and_and(&llc_state_of(llc_of(cpu))->runs[prio & 3], ~bit) & bit;
}

/* On the CPU itself: what it runs is of that importance. A look costs less than an atomic step. */
static __always_inline void cpu_shows(struct cpu_state *cs, u32 cpu, u8 prio)
{
	struct llc_state *ls = llc_state_of(llc_of(cpu));
	u64 bit = cpu_bit_of(cpu);

	if (!observing && prio != cs->prio && ls->runs[cs->prio & 3] & bit)
		cpu_claim(cpu, cs->prio);
	cs->prio = prio;
	if (!observing && prio != PRIO_IDLE && prio != PRIO_FOREIGN && !((ls->runs[prio & 3] | ls->taken) & bit))
		__sync_fetch_and_or(&ls->runs[prio & 3], bit);
}

/*
 * On the waker's CPU: a task is on its way to the CPU that it took. Lab, without this: a game's job thread was late in
 * 17 % of frames beside tasks that pass messages, because two job threads got one CPU.
 */
static __always_inline void cpu_awaits(u32 cpu)
{
	__sync_fetch_and_or(&llc_state_of(llc_of(cpu))->taken, cpu_bit_of(cpu));
}

/* On the CPU itself: that task has come, or comes no more, as the next tick takes for granted. True: one was awaited. */
static __always_inline bool cpu_reached(u32 cpu)
{
	struct llc_state *ls = llc_state_of(llc_of(cpu));
	u64 bit = cpu_bit_of(cpu);

	return ls->taken & bit && __sync_fetch_and_and(&ls->taken, ~bit) & bit;
}

/*
 * Does what this CPU runs, at importance `prio`, give way to a wakeup of `t`? Critical work does so to
 * what is far shorter: that a moment's work waits for the end of a long burst costs more than the long
 * burst loses.
 */
static __always_inline bool cpu_yields(const struct cpu_state *cs, u8 prio, const struct task_ctx *t,
				       u64 now)
{
	if (prio < PRIO_CRITICAL)
		return true;
	return has_part(PART_DISPLACE) && t->burst_avg_ns &&
	       (s64)(cs->ends_at_ns - now) > (s64)(2 * t->burst_avg_ns + SHORTER_NS);
}

/*
 * Has a real-time or deadline task the CPU? Where the CPU was idle before, no callback tells: the
 * kernel's mask shows the CPU as idle until our class is asked again, and so does `prio`.
 */
static __noinline bool cpu_foreign(u32 cpu)
{
	const struct rq *rq = &runqueues ? bpf_per_cpu_ptr(&runqueues, cpu) : NULL;
	struct task_struct *curr = rq ? rq->curr : NULL;

	if (!curr || curr->prio >= MAX_RT_PRIO)
		return false;
	cpu_state_of(cpu)->prio = PRIO_FOREIGN;	/* gamer_dispatch() takes it back */
	return true;
}

/*
 * Does the other thread of a CPU's core run critical work, or a task that just took it, or another class?
 * A critical waker that is about to sleep leaves the core to whom it wakes.
 */
static __always_inline bool core_busy(u32 cpu)
{
	u32 sibling = cpu_sibling[cpu & (MAX_CPUS - 1)];
	const struct cpu_state *cs = cpu_state_of(sibling);
	u8 prio = cs->prio;

	return smt_on && prio != PRIO_IDLE &&
	       (prio == PRIO_CRITICAL ? (s64)(cs->ends_at_ns - compat_now()) > (s64)HANDOFF_SOON_NS :
		!(llc_state_of(llc_of(sibling))->runs[prio & 3] & cpu_bit_of(sibling)));
}

/*
 * A CPU of a cache that runs work of importance `prio`, from `near` on, which gives way and is taken by
 * this; or -1. Best one whose core runs no critical work. A function that the verifier sees once.
 */
__noinline s32 victim_in(struct task_struct *p __arg_trusted, struct task_ctx *t __arg_nonnull, u32 prio,
			 u32 llc, u32 near)
{
	u64 runs = llc_state_of(llc)->runs[prio & 3], now = prio == PRIO_CRITICAL ? compat_now() : 0;
	u32 from = llc_of(near) == llc ? cpu_bit[near & (MAX_CPUS - 1)] & 63 : 0, cpu;
	s32 beside = -1;
	int i;

	runs = runs >> from | runs << (-from & 63);
	for (i = 0; i < VICTIM_TRIES && runs; i++) {
		cpu = cpu_at[(llc & (MAX_LLCS - 1)) * LLC_CPUS + ((from + __builtin_ctzll(runs)) & 63)];
		runs &= runs - 1;
		if (!bpf_cpumask_test_cpu(cpu, p->cpus_ptr) || !cpu_yields(cpu_state_of(cpu), prio, t, now))
			continue;
		if (core_busy(cpu))
			beside = cpu;
		else if (cpu_claim(cpu, prio) && !cpu_foreign(cpu))
			return cpu;
	}
	return beside >= 0 && cpu_claim(beside, prio) && !cpu_foreign(beside) ? beside : -1;
}

/*
 * The CPU that a task of importance `of` takes from what is less important, in the same cache or in the
 * next one; -1 where none gives way.
 */
static __always_inline s32 take_victim(struct task_struct *p, struct task_ctx *t, u8 of, u32 near)
{
	u32 llc, i, prio, most = of == PRIO_CRITICAL ? PRIO_CRITICAL : of - 1;
	s32 cpu;

	if (!has_part(PART_PREEMPT))
		return -1;
	/* Who was woken by an interrupt best takes the CPU that it came to. */
	if (compat_in_interrupt())
		near = bpf_get_smp_processor_id();
	llc = llc_of(near);
	for (i = 0; i < 2 && i < nr_llcs; i++) {
		for (prio = PRIO_BATCH; prio <= PRIO_CRITICAL && prio <= most; prio++) {
			cpu = victim_in(p, t, prio, llc, near);
			if (cpu < 0)
				continue;
			stat_inc(cpu_here(), BPF_STAT_PREEMPTIONS);
			t->preemptions++;
			return cpu;
		}
		llc = llc + 1 < nr_llcs ? llc + 1 : 0;
	}
	return -1;
}

/*
 * A waker that is about to sleep (pipes, sockets, a child's end) leaves its CPU to the woken
 * task without a trip through the queues, as long as the two together stay within one slice:
 * then the others are due. A waker whose average burst goes on for longer keeps its CPU.
 */
static __always_inline bool handoff(struct task_struct *p, struct task_ctx *t,
				    struct cpu_state *cs, u64 wake_flags, u64 now)
{
	if (!has_part(PART_HANDOFF) || !(wake_flags & k_SCX_WAKE_SYNC) ||
	    now - cs->slice_start_ns > SLICE_NORMAL_NS ||
	    (s64)(cs->ends_at_ns - now) > (s64)HANDOFF_SOON_NS ||
	    !bpf_cpumask_test_cpu(bpf_get_smp_processor_id(), p->cpus_ptr) ||
	    cs->pinned_critical || scx_bpf_dsq_nr_queued(k_SCX_DSQ_LOCAL) ||
	    scx_bpf_dsq_nr_queued(DSQ_CRITICAL(llc_of(bpf_get_smp_processor_id()))))
		return false;
	stat_inc(cs, BPF_STAT_HANDOFFS);
	t->placed_by = REASON_HANDOFF;
	compat_insert(p, k_SCX_DSQ_LOCAL, SLICE_CONTENDED_NS, 0);
	return true;
}

/*
 * Is any CPU idle? Where none is, the kernel's search by cores, caches and all CPUs finds the same,
 * and is nearly half of what a wakeup by a pipe costs here. Not known: as if one were. `near` is
 * looked at first: between two CPUs that wait for each other even the mask would cost 1 %.
 */
static __always_inline bool any_idle(u32 near)
{
	const struct cpumask *idle;
	bool any;

	if (cpu_state_of(near)->prio == PRIO_IDLE || !bpf_ksym_exists(scx_bpf_get_idle_cpumask))
		return true;
	idle = scx_bpf_get_idle_cpumask();
	any = !bpf_cpumask_empty(idle);
	scx_bpf_put_idle_cpumask(idle);
	return any;
}

/*
 * Where CPUs differ in speed, an idle one for a critical task: a whole idle core before a thread whose core
 * is busy, because sharing a core costs more than a slower one; then the fastest, then the nearest. Or -1.
 */
static __always_inline s32 pick_fast_idle(struct task_struct *p, s32 prev_cpu)
{
	struct bpf_cpumask *cpus;
	s32 i, cpu;

	for (i = smt_on ? 0 : SPEEDS; i < 2 * SPEEDS; i++) {
		cpus = speeds[i % SPEEDS];
		if (!cpus)
			continue;
		cpu = compat_select_of(p, prev_cpu, (const struct cpumask *)cpus,
				       i < SPEEDS ? k_SCX_PICK_IDLE_CORE : 0);
		if (cpu >= 0)
			return cpu;
	}
	return -1;
}

/* Is that CPU allowed, idle, and no sibling of critical work? Then this takes it. */
static __always_inline bool cpu_take_idle(struct task_struct *p, u32 cpu)
{
	return bpf_cpumask_test_cpu(cpu, p->cpus_ptr) && !core_busy(cpu) && scx_bpf_test_and_clear_cpu_idle(cpu);
}

/*
 * In powersave, for what is not the game's, nor makes frames: an idle CPU of those that were enough lately, so that
 * the other cores sleep on; -1 where there is none. The slowest CPUs come first. A wakeup never waits for this.
 */
static __always_inline s32 pick_compact(struct task_struct *p, s32 prev_cpu)
{
	u32 llc = llc_of(prev_cpu), i, cpu;
	u64 few = llc_state_of(llc)->compact;

	if (few & cpu_bit_of(prev_cpu) && cpu_take_idle(p, prev_cpu))
		return prev_cpu;
	for (i = 0; i < VICTIM_TRIES && few; i++, few &= few - 1) {
		cpu = cpu_at[llc * LLC_CPUS + (__builtin_ctzll(few) & 63)];
		if (llc_of(cpu) == llc && cpu_take_idle(p, cpu))	/* there may be fewer CPUs than bits */
			return cpu;
	}
	return -1;
}

/* An idle CPU that no higher class has, or -1: the second try is for a mask that lags behind. */
static __noinline s32 pick_idle(struct task_struct *p)
{
	s32 cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);

	if (cpu >= 0 && cpu_foreign(cpu)) {
		cpu = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
		if (cpu >= 0 && cpu_foreign(cpu))
			cpu = -1;
	}
	return cpu;
}

s32 BPF_OPS(gamer_select_cpu, struct task_struct *p, s32 prev_cpu, u64 wake_flags)
{
	struct task_ctx *t = task_ctx_of(p);
	struct cpu_state *cs = cpu_here();
	u64 now = compat_now();
	bool idle = false;
	s32 cpu = prev_cpu, victim;
	u8 prio;

	if (!t)
		return prev_cpu;
	task_woke(p, t, cs, now);
	task_in_bounds(t);
	prio = task_prio(t, now);
	if (any_idle(prev_cpu)) {
		cpu = -1;
		if (compacts && t->class == CLASS_OTHER &&
		    (prio != PRIO_CRITICAL || t->burst_avg_ns <= LIGHT_BURST_NS))
			cpu = pick_compact(p, prev_cpu);
		else if (hybrid && prio == PRIO_CRITICAL)
			cpu = pick_fast_idle(p, prev_cpu);
		if (cpu >= 0)
			idle = true;
		else
			cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
		if (idle && cpu_foreign(cpu)) {
			victim = pick_idle(p);
			idle = victim >= 0;
			cpu = idle ? victim : cpu;
		}
	}
	if (idle) {
		stat_inc(cs, BPF_STAT_IDLE_HITS);
		t->placed_by = REASON_IDLE;
		compat_insert(p, k_SCX_DSQ_LOCAL, task_slice(t, prio, 0), 0);
		return cpu;
	}
	if (prio != PRIO_CRITICAL) {
		if (handoff(p, t, cs, wake_flags, now))
			return bpf_get_smp_processor_id();
		/* Who is far below its share waits for no batch work. */
		if (prio != PRIO_NORMAL || !task_light(t))
			return cpu;
	}
	victim = take_victim(p, t, prio, prev_cpu);
	if (victim < 0)
		return cpu;
	t->placed_by = REASON_PREEMPT;
	cpu_awaits(victim);
	/*
	 * To the head of the victim's local queue. That costs no more than the CPU's reschedule, because
	 * the kernel is about to queue the task there anyway; a kick would cost an interrupt here besides.
	 */
	compat_insert(p, k_SCX_DSQ_LOCAL, task_slice(t, prio, 1), k_SCX_ENQ_PREEMPT | k_SCX_ENQ_IMMED);
	return victim;
}

/* --- enqueue --- */

/* Only one CPU will do: by affinity, or because the task may not migrate now. */
static __always_inline bool task_pinned(struct task_struct *p)
{
	u32 disabled = 0;

	if (p->nr_cpus_allowed == 1)
		return true;
	if (bpf_core_field_exists(p->migration_disabled))
		disabled = p->migration_disabled;
	/* Entering a BPF program may itself count once on the current task. */
	return disabled > (p == bpf_get_current_task_btf() ? 1 : 0);
}

/*
 * A task that can run on one CPU only. Kernel threads bound to a CPU complete I/O and deferred work that
 * everybody waits for, so a short one takes the CPU from what runs.
 *
 * Critical work that cannot take the CPU, or was displaced (any task may be that in a hook of ours, which
 * keeps the task on its CPU), is next in the CPU's pinned queue.
 *
 * Where none of our tasks runs, the task goes straight to the CPU's local queue, which wakes the CPU. The
 * idle mask must not decide that: wakeups claim a CPU that is going offline from the mask, and then land
 * elsewhere. A thread queued here (ksoftirqd, with it RCU) would wait on an idle CPU until the watchdog
 * ends us.
 *
 * A kernel thread that wakes goes to the local queue in any case. The kernel (6.16) does not call
 * gamer_dispatch() on a CPU that is about to go offline, and waits for RCU meanwhile: a ksoftirqd in the
 * pinned queue would hold up RCU, RCU the CPU's end, and the CPU's end the ksoftirqd.
 */
static __always_inline void enqueue_pinned(struct task_struct *p, struct task_ctx *t, u32 cpu,
					   u8 prio, u64 now, u64 enq_flags)
{
	struct cpu_state *cs = cpu_state_of(cpu), *me = cpu_here();
	u64 key, slice;

	if ((p->flags & PF_KTHREAD) && t->burst_avg_ns < KTHREAD_BURST_NS)
		prio = PRIO_CRITICAL;
	if (cs->prio == PRIO_IDLE || cs->prio == PRIO_FOREIGN) {
		scx_bpf_test_and_clear_cpu_idle(cpu);
		compat_insert(p, k_SCX_DSQ_LOCAL, task_slice(t, prio, 0), enq_flags);
		return;
	}
	if (prio == PRIO_CRITICAL && (enq_flags & k_SCX_ENQ_WAKEUP) &&
	    cpu_yields(cs, cs->prio, t, now) && cpu_claim(cpu, cs->prio)) {
		stat_inc(me, BPF_STAT_PREEMPTIONS);
		compat_insert(p, k_SCX_DSQ_LOCAL, task_slice(t, prio, 0),
			      enq_flags | k_SCX_ENQ_PREEMPT);
		return;
	}
	cs->pinned_critical |= prio == PRIO_CRITICAL;
	slice = task_slice(t, prio, 1024ULL * (1 + scx_bpf_dsq_nr_queued(DSQ_PINNED(cpu))));
	if ((p->flags & PF_KTHREAD) && (enq_flags & k_SCX_ENQ_WAKEUP)) {
		compat_insert(p, k_SCX_DSQ_LOCAL, slice, enq_flags);
		return;
	}
	stat_inc(me, BPF_STAT_PINNED_QUEUED);
	if (!cs->pinned_waits)
		cs->pinned_served_ns = now;
	cs->pinned_waits = 1;
	key = t->fair_at_ns - (prio == PRIO_CRITICAL ? DEBT_MAX_NS : 0);
	compat_insert_key(p, DSQ_PINNED(cpu), slice, key, enq_flags);
}

/*
 * Into a queue that other CPUs take from. A CPU may have gone idle since one was looked for, or affinity
 * may have kept the task from the other CPUs: an idle CPU is woken after the insert, so that it cannot
 * miss the task. Where the kick cannot be called, the task goes to the idle CPU's local queue instead,
 * and a CPU that goes idle in between waits for the next tick of any CPU.
 */
static __always_inline void enqueue_shared(struct task_struct *p, u64 dsq, u64 slice, u64 key,
					   u64 enq_flags)
{
	s32 idle;

	if (!compat_can_kick()) {
		idle = pick_idle(p);
		if (idle >= 0) {
			compat_insert(p, k_SCX_DSQ_LOCAL_ON | idle, slice, enq_flags);
			return;
		}
	}
	compat_insert_key(p, dsq, slice, key, enq_flags);
	if (compat_can_kick()) {
		idle = pick_idle(p);
		if (idle >= 0)
			scx_bpf_kick_cpu(idle, k_SCX_KICK_IDLE);
	}
}

/*
 * run --test error or stall: after a while an error, or one task of user space that is queued nowhere
 * until the kernel's watchdog sees the task. True: p is that task.
 */
static __always_inline bool injected(struct task_struct *p)
{
	static char why[] = "injected";	/* the kernel wants it writable */
	u64 nothing[1] = { 0 };

	if (!(tests & (BIT(TEST_ERROR) | BIT(TEST_STALL))))
		return false;
	if (inject_after) {
		inject_after--;
		return false;
	}
	if (tests & BIT(TEST_ERROR))
		scx_bpf_error_bstr(why, nothing, sizeof(nothing));
	else if (!inject_pid && !(p->flags & PF_KTHREAD))
		inject_pid = p->pid;
	return p->pid == inject_pid;
}

/* Tasks that wait in a cache's normal queue, per CPU; 1024 is one. */
static __always_inline u64 llc_waiting(u32 llc)
{
	return (u64)scx_bpf_dsq_nr_queued(DSQ_NORMAL(llc)) * llc_depth_recip[llc & (MAX_LLCS - 1)];
}

/* The cache's timer: ends the slices that are over, for as long as many tasks wait. */
static int slices_end(void *map, u32 *key, struct slice_timer *timer)
{
	u32 llc = *key & (MAX_LLCS - 1), i;
	u64 waiting = llc_waiting(llc), now = compat_now();
	u64 slice = normal_slice(waiting);
	struct cpu_state *cs;

	if (waiting < CROWD * 1024) {
		llc_states[llc].crowded = 0;
		return 0;
	}
	for (i = 0; i < MAX_CPUS && i < nr_cpu_ids; i++) {
		cs = cpu_state_of(i);
		if (llc_of(i) == llc && cs->prio > PRIO_IDLE && cs->prio < PRIO_CRITICAL &&
		    (s64)(now - cs->run_at_ns) >= (s64)slice)
			scx_bpf_kick_cpu(i, k_SCX_KICK_PREEMPT);
	}
	bpf_timer_start(&timer->timer, slice, 0);
	return 0;
}

static __always_inline void crowd_begins(u32 llc)
{
	struct slice_timer *timer = bpf_map_lookup_elem(&slice_timers, &llc);

	if (!timer || !compat_can_kick())
		return;
	llc_state_of(llc)->crowded = 1;
	bpf_timer_start(&timer->timer, SLICE_CROWD_NS, 0);
}

void BPF_OPS(gamer_enqueue, struct task_struct *p, u64 enq_flags)
{
	struct task_ctx *t = task_ctx_of(p);
	u32 cpu = p->thread_info.cpu, llc = llc_of(cpu);
	struct cpu_state *cs = cpu_here();
	bool pinned = task_pinned(p);
	u64 now = compat_now(), waiting, dsq, slice, key;
	s32 victim = -1;
	u8 prio;

	if (injected(p))
		return;
	if (!t) {
		compat_insert(p, k_SCX_DSQ_LOCAL, SLICE_CONTENDED_NS, enq_flags);
		return;
	}
	task_enters(t, llc);
	if ((enq_flags & k_SCX_ENQ_WAKEUP) && !t->wake_at_ns)	/* pinned: it came without gamer_select_cpu */
		task_woke(p, t, cs, now);
	task_in_bounds(t);
	prio = task_prio(t, now);
	t->placed_by = pinned ? REASON_PINNED : REASON_QUEUE;
	if (pinned) {
		enqueue_pinned(p, t, cpu, prio, now, enq_flags);
		return;
	}
	if (prio == PRIO_CRITICAL) {
		stat_inc(cs, BPF_STAT_CRITICAL_QUEUED);
		/*
		 * What something yet shorter has displaced displaces others as well, and so does what a higher
		 * class took the CPU from. By a kick: an insert into another CPU's local queue is done later
		 * from here, and before 7.0 it loses SCX_ENQ_PREEMPT on the way.
		 */
		if (!(enq_flags & k_SCX_ENQ_WAKEUP) && compat_can_kick())
			victim = take_victim(p, t, prio, cpu);
		if (victim >= 0)
			llc = llc_of(victim);	/* that CPU serves the queue of its own cache */
		dsq = DSQ_CRITICAL(llc);
		slice = task_slice(t, prio, 0);
		key = critical_key(t, now);
	} else {
		stat_inc(cs, BPF_STAT_NORMAL_QUEUED);
		waiting = llc_waiting(llc);
		if (waiting >= CROWD * 1024 && !llc_states[llc].crowded)
			crowd_begins(llc);
		dsq = t->policy == SCHED_IDLE ? DSQ_IDLE(llc) : DSQ_NORMAL(llc);
		slice = normal_slice(1 + waiting);
		key = t->policy == SCHED_IDLE ? now : t->fair_at_ns;
	}
	enqueue_shared(p, dsq, slice, key, enq_flags);
	if (victim >= 0)
		scx_bpf_kick_cpu(victim, k_SCX_KICK_PREEMPT);
}

/* --- dispatch --- */

/* The CPU's pinned queue: all its tasks are on this CPU's run queue, so if none is taken it is empty. */
static __always_inline bool take_pinned(struct cpu_state *cs, u32 cpu, u64 now)
{
	cs->pinned_next = 0;
	cs->pinned_served_ns = now;
	if (cs->pinned_waits && !compat_take(DSQ_PINNED(cpu)))
		cs->pinned_waits = 0;
	return cs->pinned_waits;
}

/* Serve a cache's normal queue; remembers when, for the age rescue. */
static __always_inline bool take_normal(struct cpu_state *cs, u32 llc, u64 now)
{
	cs->pinned_next = 1;
	llc_state_of(llc)->normal_served_ns = now;
	return compat_take(DSQ_NORMAL(llc));
}

/* The idle class has its turn where nothing else waits, or was not served for long (`due`). */
static __always_inline bool take_idle(u32 llc, u64 now, bool due)
{
	struct llc_state *ls = llc_state_of(llc);

	if (due && (s64)(now - ls->idle_served_ns) <
		   (s64)((IDLE_TURN_NS * llc_depth_recip[llc & (MAX_LLCS - 1)]) >> 10))
		return false;
	ls->idle_served_ns = now;
	return compat_take(DSQ_IDLE(llc));
}

/* What waits in other caches is better run here than not at all, or than behind more tasks there. */
static __always_inline bool steal(struct cpu_state *cs, u32 llc, u64 now, u64 waiting)
{
	u32 i;

	for (i = 1; i < MAX_LLCS; i++) {
		if (i >= nr_llcs)
			break;
		llc = llc + 1 < nr_llcs ? llc + 1 : 0;
		if (waiting && llc_waiting(llc) < waiting + 1024)
			continue;
		if (compat_take(DSQ_CRITICAL(llc)) || take_normal(cs, llc, now) ||
		    (!waiting && take_idle(llc, now, false))) {
			stat_inc(cs, BPF_STAT_STEALS);
			return true;
		}
	}
	return false;
}

/* What only this CPU may run waits for what others might take: it is mostly shorter. */
static __always_inline bool take_critical(struct cpu_state *cs, u32 cpu, u32 llc, u64 now)
{
	if (!compat_take(DSQ_CRITICAL(llc)) && !(cs->pinned_critical && take_pinned(cs, cpu, now)))
		return false;
	cpu_claim(cpu, cs->prio);	/* no wakeup takes the CPU from it before it runs */
	cpu_reached(cpu);
	return true;
}

/*
 * Who is last in the normal queue owes most. Where thousands of tasks come at once, the clock slows
 * down, and what was a short wait becomes one that the kernel's watchdog ends us for. Affinity cannot
 * change meanwhile: the kernel takes a task from its queue for that, and the move then fails.
 */
static __always_inline bool take_stuck(u32 cpu, u32 llc, u64 now)
{
	struct bpf_iter_scx_dsq it;
	struct task_struct *p;
	struct task_ctx *t;
	bool taken = false;

	if (!have_peek || !k_SCX_DSQ_ITER_REV || !bpf_ksym_exists(scx_bpf_dsq_move___new))
		return false;
	bpf_iter_scx_dsq_new(&it, DSQ_NORMAL(llc), k_SCX_DSQ_ITER_REV);
	p = bpf_iter_scx_dsq_next(&it);
	t = p ? task_ctx_of(p) : NULL;
	if (t && t->ready_at_ns && (s64)(now - t->ready_at_ns) > (s64)STUCK_NS &&
	    bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
		taken = scx_bpf_dsq_move___new(&it, p, k_SCX_DSQ_LOCAL, 0);
	bpf_iter_scx_dsq_destroy(&it);
	return taken;
}

/*
 * The slice of `prev` is over: has it had less than the first that waits? The kernel asks for the next
 * task before it queues the one that ran, so without this question two tasks on a CPU would
 * alternate, whatever their weights.
 */
static __always_inline bool prev_is_first(struct task_struct *prev, const struct task_ctx *t,
					  struct cpu_state *cs, u32 cpu, u32 llc, u64 now)
{
	struct llc_state *ls = llc_state_of(llc);
	u64 waiting = llc_waiting(llc), fair_at = t->fair_at_ns;

	if (t->policy == SCHED_IDLE)
		return false;
	if (!waiting)
		clock_moves(llc, fair_at, now, false);
	else if ((s64)(fair_at - compat_first_key(DSQ_NORMAL(llc), fair_at - 1)) > 0)
		return false;
	ls->normal_served_ns = now;
	if (cs->pinned_waits && (s64)(fair_at - compat_first_key(DSQ_PINNED(cpu), fair_at - 1)) > 0)
		return false;
	if (nr_llcs > 1 && steal(cs, llc, now, 1 + waiting))
		return false;
	stat_inc(cs, BPF_STAT_KEPT);
	compat_set_slice(prev, task_slice(t, PRIO_NORMAL, waiting));
	return true;
}

/* Who has had least of the pinned and the normal queue's first; alternately where that is not known. */
static __noinline bool take_other(struct cpu_state *cs, u32 cpu, u32 llc, u64 now)
{
	u64 clock = llc_state_of(llc)->clock_ns;
	bool pinned_first = cs->pinned_next;

	cs->slice_start_ns = now;
	if (cs->pinned_waits && have_peek)
		pinned_first = (s64)(compat_first_key(DSQ_NORMAL(llc), clock + 2 * DEBT_MAX_NS) -
				     compat_first_key(DSQ_PINNED(cpu), clock)) > 0 ||
			       (s64)(now - cs->pinned_served_ns) > (s64)PINNED_RESCUE_NS;
	if (pinned_first && take_pinned(cs, cpu, now))
		return true;
	if (take_normal(cs, llc, now))
		return true;
	return !pinned_first && take_pinned(cs, cpu, now);
}

/* What the running task means to those that it will wake. */
static __always_inline void runtime_judge(const struct task_ctx *t, struct cpu_state *cs, u32 cpu, u64 now)
{
	cpu_shows(cs, cpu, task_prio(t, now));
	/* What is critical by itself starts a chain; a boosted task passes on what is left. */
	cs->boost_depth = cs->prio != PRIO_CRITICAL ? 0 :
			  task_boosted(t, now) ? t->boost_depth : BOOST_HOPS;
}

void BPF_OPS(gamer_dispatch, s32 cpu, struct task_struct *prev)
{
	struct cpu_state *cs = cpu_state_of(cpu);
	u32 llc = llc_of(cpu);
	u64 now = compat_now();
	bool runs = prev && (prev->scx.flags & k_SCX_TASK_QUEUED);
	struct task_ctx *t = NULL;

	if ((s64)(now - llc_states[llc].normal_served_ns) > (s64)RESCUE_NS &&
	    take_other(cs, cpu, llc, now)) {
		stat_inc(cs, BPF_STAT_RESCUES);
		return;
	}
	if (take_critical(cs, cpu, llc, now) || take_idle(llc, now, true))
		return;
	if (llc_states[llc].crowded && take_stuck(cpu, llc, now)) {
		stat_inc(cs, BPF_STAT_RESCUES);
		return;
	}
	if (runs)
		t = task_ctx_of(prev);
	if (t)
		task_settles(t, cs, now);
	if (!(t && prev_is_first(prev, t, cs, cpu, llc, now)) &&
	    (take_other(cs, cpu, llc, now) || take_idle(llc, now, false) ||
	     (nr_llcs > 1 && steal(cs, llc, now, 0))))
		return;
	if (t)		/* prev goes on, and may be less important by now */
		runtime_judge(t, cs, cpu, now);
	if (runs)
		return;
	/*
	 * Nothing of ours runs here from now on, and enqueue_pinned() must know. Taking from
	 * the shared queues may drop this CPU's lock, so look once more for what came before
	 * the mark was set.
	 */
	cpu_reached(cpu);
	cpu_shows(cs, cpu, PRIO_IDLE);
	take_pinned(cs, cpu, now);
}

/* --- running --- */

/* How long it took from the wakeup to the CPU. */
static __always_inline void runtime_waited(struct task_ctx *t, struct cpu_state *cs, u64 run_at)
{
	if (t->ready_at_ns)
		t->wait_ns += run_at - t->ready_at_ns;
	t->ready_at_ns = 0;
	if (!t->wake_at_ns)
		return;
	if (t->role < ROLE_NR)
		cs->wake_hist[t->role][hist_slot_sure(run_at - t->wake_at_ns)]++;
	t->wake_at_ns = 0;
}

/* It runs on another CPU than last time; before its wait is added up. */
static __always_inline void task_moved(struct task_struct *p, struct task_ctx *t,
				       struct cpu_state *cs, u32 cpu, u64 run_at)
{
	u32 from = t->last_cpu - 1;
	u8 reason = t->placed_by;
	u64 wait = t->ready_at_ns ? run_at - t->ready_at_ns : 0;

	t->last_cpu = cpu + 1;
	if (from == cpu || from >= MAX_CPUS)
		return;
	if (nr_llcs > 1 && (reason == REASON_QUEUE || reason == REASON_PREEMPT) &&
	    llc_of(from) != llc_of(cpu))
		reason = REASON_STEAL;
	if (reason >= REASON_NR)
		return;
	cs->moves[reason]++;
	cs->move_wait_ns[reason] += wait;
	if (t->class != CLASS_OTHER && event_wanted(EVENT_MIGRATION)) {
		struct event_migration e = {
			EVENT_INIT(MIGRATION, task_ids(p)), .role = t->role,
			.wait_ns = clamp_u32(wait), .from = from, .reason = reason,
		};

		e.cpu = cpu;
		EVENT_SEND(EVENT_MIGRATION, migration_ring, &e);
	}
}

/* The task got the CPU. */
static __always_inline void runtime_runs(struct task_struct *p, struct task_ctx *t,
					 struct cpu_state *cs, u64 now)
{
	cs->class = task_class(p, t, now);
	cs->run_at_ns = now;
	cs->tgid = p->tgid;
	cs->fanout = 0;
	if (!observing && t->placed_by == REASON_PREEMPT)
		cpu_reached(p->thread_info.cpu);
	runtime_judge(t, cs, p->thread_info.cpu, now);
	t->run_at_ns = now;
	task_moved(p, t, cs, p->thread_info.cpu, now);
	runtime_waited(t, cs, now);
	if (input_path.event_ns && cs->class && t->evidence[SOURCE_INPUT].role)
		input_taken(cs, now);
}

/*
 * A CPU's frequency follows its utilization as the kernel's own governor has it: what ran counts by the
 * frequency that it ran at, the average forgets in UTIL_SHIFT's time, and a quarter is added. The power
 * profile has floors. A request may cost a write to the hardware: only where it changes.
 */
static __always_inline u64 cpu_speed(s32 cpu)
{
	return bpf_ksym_exists(scx_bpf_cpuperf_cur) ? (u64)scx_bpf_cpuperf_cur(cpu) << 10 : UTIL_ONE;
}

/* Since the last call the CPU ran at that speed, out of UTIL_ONE; 0: the CPU was idle. */
static __always_inline void cpu_used(struct cpu_state *cs, u64 speed, u64 now)
{
	u64 ns = min_u64(now - cs->util_at_ns, 1ULL << UTIL_SHIFT);

	cs->util += ((s64)speed - cs->util) * (s64)ns >> UTIL_SHIFT;
	cs->util_at_ns = now;
}

static __always_inline void cpu_set_perf(struct cpu_state *cs, s32 cpu)
{
	u32 floor = cs->class && cs->prio == PRIO_CRITICAL ? perf_game_floor : perf_floor;
	u32 util = (cs->util + (cs->util >> 2)) >> 10, perf;

	perf = (min_u64(util > floor ? util : floor, 1024) + 1024 / PERF_STEPS - 1) / (1024 / PERF_STEPS);
	if (perf == cs->perf || !bpf_ksym_exists(scx_bpf_cpuperf_set))
		return;
	cs->perf = perf;
	scx_bpf_cpuperf_set(cpu, perf * (1024 / PERF_STEPS));
}

void BPF_OPS(gamer_running, struct task_struct *p)
{
	struct task_ctx *t = task_ctx_of(p);
	u32 cpu = p->thread_info.cpu;
	struct cpu_state *cs = cpu_state_of(cpu);
	struct llc_state *ls = llc_state_of(llc_of(cpu));
	u64 now = compat_now();
	bool first;

	if (!t)
		return;
	task_enters(t, llc_of(cpu));
	if (have_cgroups && t->weights_gen != cgroup_gen && bpf_ksym_exists(scx_bpf_task_cgroup) &&
	    bpf_ksym_exists(bpf_cgroup_release) && bpf_ksym_exists(bpf_cgroup_ancestor))
		task_reweigh(p, t);
	runtime_runs(p, t, cs, now);
	/* Where the idle class runs and none waits, all have had their share: the clock goes with real time. */
	first = t->policy != SCHED_IDLE && t->placed_by == REASON_QUEUE && cs->prio < PRIO_CRITICAL;
	if (first || !scx_bpf_dsq_nr_queued(DSQ_NORMAL(t->llc)))
		clock_moves(t->llc, t->policy == SCHED_IDLE ? ls->clock_ns + NSEC_PER_SEC : t->fair_at_ns, now,
			    first);
	/* The dispatch would have taken a critical pinned task first; one that still waits is like any other. */
	if (cs->prio < PRIO_CRITICAL)
		cs->pinned_critical = 0;
	cs->ends_at_ns = now + t->burst_avg_ns -
			 (t->burst_ns < t->burst_avg_ns ? t->burst_ns : 0);
	if (perf_control) {
		cpu_used(cs, 0, now);
		cpu_set_perf(cs, cpu);
	}
}

/* --- stopping --- */

/* The task leaves the CPU: to wait for it again, or to sleep. One function for all who see it. */
static __always_inline void runtime_ran(struct task_struct *p, struct task_ctx *t,
					struct cpu_state *cs, u64 now, bool runnable)
{
	if (!runnable) {
		runtime_slept(p, t, cs, now);
		return;
	}
	t->preempted++;
	t->ready_at_ns = now;
	if (observing && have_patterns && t->burst_ns > BUSY_BURST_NS && t->pattern_role != ROLE_CPU_BOUND)
		runtime_busy(p, t, now);
}

void BPF_OPS(gamer_stopping, struct task_struct *p, bool runnable)
{
	struct task_ctx *t = task_ctx_of(p);
	struct cpu_state *cs = cpu_state_of(p->thread_info.cpu);
	u64 now = compat_now();

	if (!t)
		return;
	task_settles(t, cs, now);
	if (perf_control)
		cpu_used(cs, cpu_speed(p->thread_info.cpu), now);
	runtime_ran(p, t, cs, now, runnable);
}

/* --- tick, a higher class, the task's end --- */

void BPF_OPS(gamer_tick, struct task_struct *p)
{
	u32 cpu = p->thread_info.cpu, llc = llc_of(cpu);
	struct cpu_state *cs = cpu_state_of(cpu);
	struct task_ctx *t;

	if (cpu_reached(cpu))
		cpu_shows(cs, cpu, cs->prio);
	if (perf_control) {
		cpu_used(cs, cpu_speed(cpu), compat_now());
		cpu_set_perf(cs, cpu);
	}
	/*
	 * The kernel enforces slices at the tick only, and refills 20 ms where nothing
	 * waited at the time: so look again here.
	 */
	if (cs->prio >= PRIO_CRITICAL)
		return;
	if (!cs->pinned_critical && !scx_bpf_dsq_nr_queued(DSQ_CRITICAL(llc))) {
		t = task_ctx_of(p);
		if (!t || compat_now() - cs->run_at_ns < SLICE_CONTENDED_NS)
			return;
		if (!scx_bpf_dsq_nr_queued(DSQ_PINNED(cpu)) && !scx_bpf_dsq_nr_queued(k_SCX_DSQ_LOCAL) &&
		    !scx_bpf_dsq_nr_queued(DSQ_NORMAL(llc)) && !scx_bpf_dsq_nr_queued(DSQ_IDLE(llc)))
			return;
	}
	stat_inc(cs, BPF_STAT_SLICE_CUTS);
	compat_set_slice(p, 0);
}

/* A higher class takes the CPU: what waits in its local queue must not wait for that. */
void BPF_OPS(gamer_cpu_release, s32 cpu, struct scx_cpu_release_args *args)
{
	cpu_shows(cpu_state_of(cpu), cpu, PRIO_FOREIGN);
	if (bpf_ksym_exists(scx_bpf_reenqueue_local___v1))
		scx_bpf_reenqueue_local___v1();
}

/* Who ends before its averages matured shows what it was by its end. */
void BPF_OPS(gamer_exit_task, struct task_struct *p, struct scx_exit_task_args *args)
{
	struct task_ctx *t = task_ctx_of(p);

	if (!t || !t->bursts)
		return;
	if (t->observe_at == LEARN_MATURE)
		learn_observe(p, t);
	if (t->bursts < LEARN_DOUBT)
		cpu_here()->stat[BPF_STAT_SHORT_PREEMPTIONS] += t->preemptions;
}

/* --- the scheduler begins and ends --- */

static __always_inline s32 speed_fill(struct bpf_cpumask **cpus, u32 speed)
{
	struct bpf_cpumask *mask = bpf_cpumask_create();
	bool any = false;
	u32 i;

	if (!mask)
		return -12;	/* ENOMEM */
	for (i = 0; i < MAX_CPUS && i < nr_cpu_ids; i++) {
		if (cpu_rank[i] != speed)
			continue;
		bpf_cpumask_set_cpu(i, mask);
		any = true;
	}
	if (any)
		mask = bpf_kptr_xchg(cpus, mask);
	if (mask)
		bpf_cpumask_release(mask);
	return 0;
}

/* A function of its own: the verifier loses track of a loop's counter that a map is asked for. */
__noinline int llc_begins(u32 llc)
{
	struct slice_timer *timer = bpf_map_lookup_elem(&slice_timers, &llc);
	struct llc_state *ls = llc_state_of(llc);
	s32 err;

	if (!timer)
		return -12;	/* ENOMEM */
	ls->normal_served_ns = ls->clock_at_ns = ls->window_at_ns = compat_now();
	ls->debt_max_ns = DEBT_MAX_NS;
	ls->game_recip = game_weight_recip;
	bpf_timer_init(&timer->timer, &slice_timers, 1 /* CLOCK_MONOTONIC */);
	bpf_timer_set_callback(&timer->timer, slices_end);
	err = scx_bpf_create_dsq(DSQ_CRITICAL(llc), -1);
	if (!err)
		err = scx_bpf_create_dsq(DSQ_NORMAL(llc), -1);
	if (!err)
		err = scx_bpf_create_dsq(DSQ_IDLE(llc), -1);
	return err;
}

s32 BPF_OPS_SLEEPABLE(gamer_init)
{
	s32 err = 0;
	u32 i;

	for (i = 0; i < MAX_LLCS && i < nr_llcs && !err; i++)
		err = llc_begins(i);
	for (i = 0; i < MAX_CPUS && i < nr_cpu_ids && !err; i++)
		err = scx_bpf_create_dsq(DSQ_PINNED(i), -1);
	for (i = 0; hybrid && i < SPEEDS && !err; i++)
		err = speed_fill(&speeds[i], i);
	return err;
}

void BPF_OPS(gamer_exit, struct scx_exit_info *info)
{
	struct event_game e = { EVENT_INIT(GAME, 0ULL), .what = HINT_EXIT };

	scx_end.kind = info->kind;
	scx_end.exit_code = bpf_core_field_exists(info->exit_code) ? info->exit_code : 0;
	if (bpf_probe_read_kernel_str(scx_end.reason, sizeof(scx_end.reason), info->reason) < 0)
		scx_end.reason[0] = 0;
	if (bpf_probe_read_kernel_str(scx_end.msg, sizeof(scx_end.msg), info->msg) < 0)
		scx_end.msg[0] = 0;
	/* Atomic, which orders it behind all above: user space reads the rest once it sees this. */
	__sync_fetch_and_add(&scx_end.written, 1);
	/* This only wakes user space. Where the ring is full, user space is awake. */
	EVENT_SEND(EVENT_GAME, game_ring, &e);
}

/* ===================================================================================== */
/* 6. roles and evidence                                                                 */
/* ===================================================================================== */

/* Evidence lives for seconds: a clock of 2^30 ns is fine enough, and two bytes last 9 hours. */
static __always_inline u16 evidence_clock(u64 now)
{
	u16 clock = now >> 30;

	return clock ? clock : 1;
}

/* Has evidence, or a role, with this `until` ended? With 0 it never ends. */
static __always_inline bool evidence_ended(u16 until, u64 now)
{
	return until && (s16)(until - evidence_clock(now)) < 0;
}

#define SOURCE_SECONDS(id, name, seconds) seconds,
static const u8 source_seconds[] = { SOURCES(SOURCE_SECONDS) };

/* Roles that evidence may give to the threads of a process of this class. */
static __always_inline u32 class_roles(u8 class)
{
	switch (class) {
	case CLASS_GAME:
		return ~0U;
	case CLASS_COMPOSITOR:
		return BIT(ROLE_INPUT) | BIT(ROLE_AUDIO) | BIT(ROLE_GPU) | BIT(ROLE_COMPOSITOR);
	case CLASS_AUDIO:
		return BIT(ROLE_AUDIO);
	case CLASS_OTHER:
		/* Where page flips are seen, a process that flips none is no compositor. */
		return BIT(ROLE_CPU_BOUND) | BIT(ROLE_BACKGROUND) |
		       (game_tgid && !have_frames ? BIT(ROLE_COMPOSITOR) : 0);
	}
	return 0;
}

/* The role of a thread that shows no evidence, by what its process is for. */
static __always_inline u8 class_default_role(u8 class)
{
	return class == CLASS_GAME ? ROLE_WORKER : class == CLASS_COMPOSITOR ? ROLE_COMPOSITOR :
	       class == CLASS_AUDIO ? ROLE_AUDIO : ROLE_NONE;
}

static __always_inline void classification_send(const struct task_ctx *t, u64 ids, u8 old_role)
{
	struct event_classification e = {
		EVENT_INIT(CLASSIFICATION, ids), .role = t->role, .old_role = old_role,
		.source = t->source, .confidence = t->confidence, .class = t->class,
	};

	if (event_wanted(EVENT_CLASSIFICATION))
		EVENT_SEND(EVENT_CLASSIFICATION, classification_ring, &e);
}

/* Does anything besides Windows' priority make this role likely? */
static __always_inline bool evidence_says(const struct task_ctx *t, u8 role)
{
	return t->evidence[SOURCE_NAME].role == role || t->evidence[SOURCE_PATTERN].role == role ||
	       t->evidence[SOURCE_AUDIO].role == role || t->evidence[SOURCE_INPUT].role == role;
}

/*
 * Write the strongest living evidence that the class admits into the context. Where `now` is 0 (the
 * scheduler's clock cannot be read there), ended evidence stays until the next call.
 *
 * A global function, as are those below: the verifier then walks it once and not at each call.
 */
__noinline int evidence_strongest(struct task_ctx *t __arg_nonnull, u64 now)
{
	u32 roles = class_roles(t->class);
	u32 sources = t->class == CLASS_OTHER ? BIT(SOURCE_PATTERN) | BIT(SOURCE_LEARNED) : ~0U;
	int i;

	t->role = class_default_role(t->class);
	t->confidence = t->role ? NAME_CONFIDENCE : 0;
	t->source = SOURCE_NAME;
	t->until = 0;
	#pragma clang loop unroll(disable)
	for (i = SOURCE_NR - 1; i > SOURCE_NONE; i--) {
		struct evidence *e = &t->evidence[i];

		if (now && evidence_ended(e->until, now))
			e->role = ROLE_NONE;
		if (!e->role || !(roles & BIT(e->role & 31)) || !(sources & BIT(i)))
			continue;
		t->role = e->role;
		t->confidence = e->confidence;
		t->source = i;
		t->until = e->until;
		break;
	}
	return 0;
}

/*
 * Evidence becomes the role. The role that a thread acts as may differ: a name alone makes no thread
 * critical. While no game is known, the pattern decides what a thread acts as, so that a game that is not
 * recognised yet runs well too. The same holds for a compositor whose page flips no hook sees.
 */
__noinline int role_settle(struct task_ctx *t __arg_nonnull, u64 ids, u64 now)
{
	struct cpu_state *cs = cpu_here();
	u8 old_role = t->role, old_acts = t->acts_as, role, source;

	evidence_strongest(t, now);
	role = t->role;
	source = t->source;
	if (t->class == CLASS_COMPOSITOR && role == ROLE_GPU)
		role = ROLE_COMPOSITOR;
	else if (t->class == CLASS_GAME && role == ROLE_COMPOSITOR)
		role = ROLE_RENDER;
	if (source == SOURCE_PATTERN && role == ROLE_RENDER && t->evidence[SOURCE_DOORBELL].role) {
		role = ROLE_GPU;	/* the pattern confirms what the doorbell's driver said */
		source = SOURCE_DOORBELL;
	} else if (source == SOURCE_WINE && role == ROLE_RENDER) {
		/* Windows has one priority for these; Wine's own sound threads use it too. */
		if (evidence_says(t, ROLE_AUDIO))
			role = ROLE_AUDIO;
		else if (evidence_says(t, ROLE_INPUT))
			role = ROLE_INPUT;
	}
	t->role = role;
	t->source = role ? source : SOURCE_NONE;
	t->acts_as = t->confidence >= CONFIDENT || !role_is_critical(role) ? role : ROLE_NONE;
	if (t->class == CLASS_OTHER && t->evidence[SOURCE_PATTERN].confidence >= CONFIDENT &&
	    (!game_tgid || t->evidence[SOURCE_PATTERN].role == ROLE_COMPOSITOR))
		t->acts_as = t->evidence[SOURCE_PATTERN].role;
	if (role == old_role) {
		if (advising && t->acts_as != old_acts && t->class != CLASS_OTHER)
			classification_send(t, ids, old_role);	/* user space looks at all threads */
		return 0;
	}
	t->role_at_ns = bpf_ktime_get_ns();
	t->role_wakeups = t->wakeups;
	stat_inc(cs, BPF_STAT_ROLE_CHANGES);
	if (t->source < SOURCE_NR)
		cs->by_source[t->source]++;
	if (!old_role && t->seen_at_ns)
		hist_add(cs, HIST_DETECTION, t->role_at_ns - t->seen_at_ns);
	if (t->class != CLASS_OTHER || role_is_critical(old_role))
		classification_send(t, ids, old_role);
	return 0;
}

/* Note what a source says of a thread; role NONE takes it back. */
static __always_inline void evidence_set(struct task_struct *p, struct task_ctx *t, u8 source,
					 u8 role, u8 confidence, u64 now)
{
	struct evidence *e = &t->evidence[source];
	u8 seconds = source_seconds[source];
	bool same = e->role == role && e->confidence == confidence;

	if (seconds)
		e->until = evidence_clock(now + seconds * NSEC_PER_SEC);
	if (same && t->source == source)
		t->until = e->until;
	if (same)
		return;
	if (!t->seen_at_ns && role)
		t->seen_at_ns = bpf_ktime_get_ns();
	e->role = role;
	e->confidence = confidence;
	role_settle(t, task_ids(p), now);
}

static __always_inline bool name_is(const u64 *name, const volatile struct prefix *prefix)
{
	/* One branch for all comparisons: the verifier walks each branch for each entry of a table. */
	return !(((name[0] ^ prefix->value[0]) & prefix->mask[0]) |
		 ((name[1] ^ prefix->value[1]) & prefix->mask[1]) | !prefix->mask[0]);
}

/* The role that a thread's name tells, or NONE. */
static __always_inline u8 name_role(const u64 *name)
{
	int i;

	for (i = 0; i < THREAD_NAME_MAX; i++)
		if (name_is(name, &thread_names[i]))
			return thread_name_roles[i];
	return ROLE_NONE;
}

/* The role that Windows' thread priority tells; see SetThreadPriority. */
static __always_inline void wine_evidence(struct task_struct *p, struct task_ctx *t,
					  u8 process_class, u64 now)
{
	s8 prio = t->wine_priority;
	u8 role = !prio ? ROLE_NONE : prio < 0 ? ROLE_BACKGROUND : prio == 1 ? ROLE_PHYSICS : ROLE_RENDER;
	u8 confidence = prio ? 95 : 0;

	if (prio == WINE_TIME_CRITICAL) {
		confidence = 97;
		if (process_class == WINE_REALTIME_CLASS) {
			role = ROLE_AUDIO;
			confidence = 99;
		}
	}
	evidence_set(p, t, SOURCE_WINE, role, confidence, now);
}

/*
 * Look up what the task's process is, because the class of some process has changed. The class stands on
 * the process's first thread; the other threads look there once per change.
 */
__noinline int class_refresh(struct task_struct *p __arg_trusted, struct task_ctx *t __arg_nonnull,
			     u64 now)
{
	struct task_struct *leader = p->group_leader;
	struct task_ctx *first;
	u64 name[2];
	u32 *class;

	t->class_gen = class_gen;
	if (!leader)
		return 0;
	class = bpf_task_storage_get(&procs, leader, 0, 0);
	if (class && *class == CLASS_GAME && t->class != CLASS_GAME) {
		t->submits = 0;
		if (have_names) {
			__builtin_memcpy(name, p->comm, sizeof(name));
			evidence_set(p, t, SOURCE_NAME, name_role(name), NAME_CONFIDENCE, now);
		}
	}
	t->class = class ? *class : CLASS_OTHER;
	first = t->wine_priority ? task_ctx_of(leader) : NULL;
	if (first)
		wine_evidence(p, t, first->wine_class, now);
	role_settle(t, task_ids(p), now);
	return 0;
}

static __always_inline u8 task_class(struct task_struct *p, struct task_ctx *t, u64 now)
{
	if (t->class_gen != class_gen)
		class_refresh(p, t, now);
	return t->class;
}

static __always_inline bool thread_is_role(const struct task_ctx *t, u8 role, u8 min_confidence)
{
	return t->role == role && t->confidence >= min_confidence;
}

static __always_inline bool is_gpu_submit_thread(const struct task_ctx *t)
{
	return t->evidence[SOURCE_GPU].role == ROLE_GPU;
}

/* --- learning: how a program's tasks begin, and what they did --- */

/*
 * The tier of a task, by what the task did. A role that the database foretold does not count, or the
 * database would confirm itself.
 */
static __always_inline u8 learn_tier(const struct task_ctx *t)
{
	if (t->source > SOURCE_LEARNED && role_is_critical(t->acts_as))
		return TIER_LAT_CRITICAL;
	return t->class == CLASS_OTHER && t->learn_long_ns > t->learn_run_ns >> 1 ? TIER_BATCH : TIER_INTERACTIVE;
}

/* Take the foretold role back where the task does something else. */
static __always_inline void learn_doubt(struct task_struct *p, struct task_ctx *t, u8 tier, u8 role)
{
	u8 told = t->evidence[SOURCE_LEARNED].role;

	if (!told || t->bursts < LEARN_DOUBT)
		return;
	/* A thread may load for long before its first submit. */
	if (told == ROLE_CPU_BOUND ? tier != TIER_BATCH : told != role && t->bursts >= LEARN_AGAIN)
		evidence_set(p, t, SOURCE_LEARNED, ROLE_NONE, 0, compat_now());
}

/* Add an observation to the program's sum. Where several CPUs add at once, one may get lost. */
static __always_inline void learn_add(struct learn_sum *sum, u64 burst, u64 wakeups_hz,
				      u64 switches_hz, u8 tier, u8 role)
{
	u64 far = burst > sum->burst_ns ? burst - sum->burst_ns : sum->burst_ns - burst;

	if (sum->count++) {
		sum->dev_ns += ((s64)far - (s64)sum->dev_ns) >> EWMA_SHIFT;
		sum->burst_ns += ((s64)burst - (s64)sum->burst_ns) >> EWMA_SHIFT;
		sum->wakeups_hz += ((s64)wakeups_hz - (s64)sum->wakeups_hz) >> EWMA_SHIFT;
		sum->switches_hz += ((s64)switches_hz - (s64)sum->switches_hz) >> EWMA_SHIFT;
	} else {
		sum->burst_ns = burst;
		sum->wakeups_hz = wakeups_hz;
		sum->switches_hz = switches_hz;
	}
	if (tier < TIER_NR)
		sum->votes[tier]++;
	if (role && role != sum->role) {
		sum->role = role;
		sum->role_votes = 0;
	}
	if (role)
		sum->role_votes++;
}

/* Observe a task whose averages have matured, or that ends. Rare, and so not inlined into every sleep. */
__noinline int learn_observe(struct task_struct *p __arg_trusted, struct task_ctx *t __arg_nonnull)
{
	struct cpu_state *cs = cpu_here();
	u64 age = bpf_ktime_get_ns() - p->start_time, burst = t->burst_avg_ns;
	u8 tier = learn_tier(t), role = t->source >= SOURCE_NETWORK ? t->role : ROLE_NONE;
	struct learn_key key = { .exe = t->exe };
	struct learn_sum empty = {}, *sum;
	struct event_game e = { EVENT_INIT(GAME, 0ULL), .what = HINT_LEARNED };
	u64 last = learn_told_ns;

	if (t->observe_at == LEARN_MATURE && t->exe)
		stat_inc(cs, tier == t->began_as ? BPF_STAT_LEARN_RIGHT : BPF_STAT_LEARN_WRONG);
	t->observe_at = t->bursts < LEARN_DOUBT ? LEARN_DOUBT : LEARN_AGAIN;
	if (!t->exe)
		return 0;
	learn_doubt(p, t, tier, role);
	/* The average may have begun as foretold: then the database would confirm itself. */
	if (t->bursts && t->bursts <= LEARN_MATURE)
		burst = t->learn_run_ns / t->bursts;
	if (tier == TIER_BATCH && t->learn_longs)
		burst = t->learn_long_ns / t->learn_longs;
	if (t->bursts >= LEARN_AGAIN)
		t->bursts = LEARN_DOUBT;
	t->learn_run_ns = t->learn_long_ns = 0;
	t->learn_longs = 0;
	__builtin_memcpy(key.comm, p->comm, sizeof(key.comm));
	sum = bpf_map_lookup_elem(&learn_sums, &key);
	if (!sum) {
		bpf_map_update_elem(&learn_sums, &key, &empty, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&learn_sums, &key);
	}
	if (sum && age)
		learn_add(sum, burst, t->wakeups * NSEC_PER_SEC / age,
			  (p->nvcsw + p->nivcsw) * NSEC_PER_SEC / age, tier, role);
	else
		stat_inc(cs, BPF_STAT_LEARN_LOST);
	/* wake user space, which takes the sums: once per LEARN_TELL_NS at most */
	if (e.at_ns - last >= LEARN_TELL_NS &&
	    __sync_val_compare_and_swap(&learn_told_ns, last, e.at_ns) == last)
		EVENT_SEND(EVENT_GAME, game_ring, &e);
	return 0;
}

/* A burst ended in sleep. */
static __always_inline void learn_slept(struct task_struct *p, struct task_ctx *t)
{
	if (!learning)
		return;
	t->learn_run_ns += t->burst_ns;
	if (t->burst_ns > LONG_BURST_NS) {
		t->learn_long_ns += t->burst_ns;
		t->learn_longs++;
	}
	if (++t->bursts == t->observe_at)
		learn_observe(p, t);
}

/* Begin the task as the database foretells; what was foretold under another name is taken back. */
static __always_inline void learn_apply(struct task_struct *p, struct task_ctx *t,
					const struct prediction *to, bool young)
{
	u8 role = ROLE_NONE, confidence = 0;

	if (t->foretold && young)
		t->burst_avg_ns = t->gap_avg_ns = 0;
	t->foretold = 0;
	if (to && to->tier < TIER_NR) {
		t->foretold = 1;
		t->began_as = to->tier;
		t->burst_avg_ns = to->burst_ns;
		t->gap_avg_ns = to->gap_ns;
		t->gap_dev_ns = 0;
		if (to->tier == TIER_BATCH) {
			role = ROLE_CPU_BOUND;
			confidence = to->confidence;
		}
	}
	if (to && to->role) {
		role = to->role;
		confidence = to->role_confidence;
	}
	if (role || t->evidence[SOURCE_LEARNED].role)
		evidence_set(p, t, SOURCE_LEARNED, role, confidence, 0);
}

/*
 * A program begins in this task, or a thread gets a name: look it up in the database. The path of a
 * program that began before gamer is unknown, and then nothing is foretold.
 */
__noinline int learn_begin(struct task_struct *p __arg_trusted, struct task_ctx *t __arg_nonnull,
			   struct learn_key *key __arg_nonnull)
{
	bool young = t->observe_at == LEARN_MATURE;	/* its averages are hardly its own yet */
	struct prediction *to = NULL;

	t->learn_run_ns = t->learn_long_ns = 0;
	t->learn_longs = 0;
	t->bursts = t->preemptions = 0;
	t->observe_at = LEARN_MATURE;
	t->began_as = TIER_INTERACTIVE;
	if (!t->exe || !has_part(PART_LEARN))
		return 0;
	key->exe = t->exe;
	to = bpf_map_lookup_elem(&predictions, key);
	if (!to && predict_any) {
		key->exe = 0;
		to = bpf_map_lookup_elem(&predictions, key);
	}
	if (to)
		stat_inc(cpu_here(), BPF_STAT_LEARN_KNOWN);
	learn_apply(p, t, to, young);
	return 0;
}

/* The same for a name that may lie in the kernel's memory. */
static __always_inline void learn_named(struct task_struct *p, struct task_ctx *t, const void *comm)
{
	struct learn_key key = {};

	if (!learning)
		return;
	__builtin_memcpy(key.comm, comm, sizeof(key.comm));
	learn_begin(p, t, &key);
}

#define HZ_GAP_NS(hz)	(NSEC_PER_SEC / (hz))

static __always_inline bool gap_is_between(const struct task_ctx *t, u64 most_hz, u64 least_hz)
{
	return t->gap_avg_ns >= HZ_GAP_NS(most_hz) && t->gap_avg_ns <= HZ_GAP_NS(least_hz);
}

/* Under load a sound thread is late and takes long. If that cost it the role, it would be later yet. */
static __always_inline bool pattern_is_audio(const struct task_ctx *t)
{
	u64 burst = t->burst_avg_ns, gap = t->gap_avg_ns;
	bool known = t->pattern_role == ROLE_AUDIO || t->evidence[SOURCE_NAME].role == ROLE_AUDIO;

	return gap_is_between(t, AUDIO_RATE) && burst <= AUDIO_BURST_NS &&
	       t->gap_dev_ns < gap >> (known ? AUDIO_KNOWN_STEADY_SHIFT : STEADY_SHIFT) &&
	       burst < gap / 4 * (known ? AUDIO_KNOWN_QUARTERS : AUDIO_QUARTERS);
}

/* Frames under load likewise: those of the known game may come as rarely as 15 times a second. */
static __always_inline bool pattern_is_render(const struct task_ctx *t)
{
	bool game = t->class == CLASS_GAME;

	return (game ? gap_is_between(t, GAME_RENDER_RATE) : gap_is_between(t, RENDER_RATE)) &&
	       t->burst_avg_ns >= RENDER_BURST_MIN_NS &&
	       t->burst_avg_ns <= (game ? GAME_RENDER_BURST_MAX_NS : RENDER_BURST_MAX_NS);
}

/*
 * What one burst looks like, by its length and by the rate and regularity of wakeups. Only irq-woken
 * threads (a device, a timer or a critical thread wakes them) make frames: a thread that its peers wake
 * through pipes and waits has no such role, whatever its rate. A thread that is woken as one of several
 * by one thread does a share of that thread's work, whatever its rhythm. Outside of a known game there
 * are only compositors and sound servers.
 */
static __always_inline u8 pattern_of(const struct task_ctx *t)
{
	u64 burst = t->burst_avg_ns, gap = t->gap_avg_ns;
	bool game = t->class == CLASS_GAME, inside = game || !game_tgid, audio;
	u8 name = t->evidence[SOURCE_NAME].role;

	if (!gap || t->irq_woken < IRQ_WOKEN_MIN) {
		if (burst > LONG_BURST_NS && t->preempted)
			return ROLE_CPU_BOUND;
		return game && burst < BACKGROUND_BURST_NS ? ROLE_BACKGROUND : ROLE_NONE;
	}
	if (t->fanout >= FANOUT_MIN)
		return game ? ROLE_WORKER : ROLE_NONE;
	/* A sound thread of short bursts looks like one for input, if no name tells. */
	if (inside && gap_is_between(t, INPUT_RATE) && burst < INPUT_BURST_NS && name != ROLE_AUDIO)
		return ROLE_INPUT;
	/* Packets come by softirq; on a server's tick only that tells them from sound. */
	if (game && t->softirq >= SOFTIRQ_MIN && burst < gap / NETWORK_GAP_PARTS &&
	    burst < NETWORK_BURST_NS)
		return ROLE_NETWORK;
	/*
	 * Bursts of 1 to 3 ms fit both, and frames are by far the more common, if no name tells. Nor is a thread
	 * for sound whose name tells something else: a short frame that waits once for its jobs has that rhythm.
	 */
	audio = (inside || t->class == CLASS_AUDIO) && pattern_is_audio(t) && (!name || name == ROLE_AUDIO);
	if (inside && pattern_is_render(t) && !(audio && name))
		return ROLE_RENDER;
	if (audio)
		return ROLE_AUDIO;
	if (gap_is_between(t, COMPOSITOR_RATE) && burst >= COMPOSITOR_BURST_MIN_NS &&
	    burst <= COMPOSITOR_BURST_MAX_NS)
		return ROLE_COMPOSITOR;
	return ROLE_NONE;
}

/*
 * Critical work that comes back regularly should be done before it is due again. All that the thread
 * waited for counts, not only the wait for a CPU: the thread was late, whatever the cause.
 */
static __always_inline void deadline_check(struct task_struct *p, const struct task_ctx *t,
					   struct cpu_state *cs, u64 now)
{
	u64 took = now - t->last_wake_ns, period = t->gap_avg_ns;
	u8 role = t->acts_as;

	if (t->class == CLASS_OTHER || !role_is_critical(role) || !period ||
	    t->gap_dev_ns > period >> MISS_DEV_SHIFT ||
	    took <= period + (period >> MISS_LATE_SHIFT) || role >= ROLE_NR)
		return;
	cs->misses[role]++;
	if (event_wanted(EVENT_MISS)) {
		struct event_miss e = {
			EVENT_INIT(MISS, task_ids(p)), .role = role,
			.amount_ns = clamp_u32(took - period),
		};

		e.actual_ns = e.at_ns;
		e.expected_ns = e.at_ns - (took - period);
		EVENT_SEND(EVENT_MISS, deadline_miss_ring, &e);
	}
}

/* A burst ended in sleep: update the averages, then see what the task looks like now. */
static __always_inline void runtime_slept(struct task_struct *p, struct task_ctx *t,
					  struct cpu_state *cs, u64 now)
{
	u8 role, confidence = 0;

	deadline_check(p, t, cs, now);
	t->slept_at_ns = now;
	t->burst_avg_ns = t->burst_avg_ns ? ewma(t->burst_avg_ns, t->burst_ns) : t->burst_ns;
	learn_slept(p, t);
	t->burst_ns = 0;
	/* Looked at only now: when the first of several was woken, the others were not woken yet. */
	t->fanout -= t->fanout >> EWMA_SHIFT;
	if (t->waker_ns && cpu_state_of(t->waker_cpu)->fanout_ns == t->waker_ns)
		t->fanout += 256 >> EWMA_SHIFT;
	role = pattern_of(t);
	t->preempted = 0;
	if (role == t->pattern_role) {
		if (t->match < MATCH_SURE)
			t->match++;
	} else if (t->match >= MATCH_ODD) {
		/*
		 * An odd burst costs MATCH_ODD agreeing ones, so that a real change soon wins. Where both
		 * roles have one importance, it costs one: roles may waver, the importance must not.
		 */
		t->match -= role_prio(role) == role_prio(t->pattern_role) ? 1 : MATCH_ODD;
	} else {
		t->pattern_role = role;
		t->match = 1;
	}
	/*
	 * A role needs MATCH_TAKEN agreeing bursts and stays until another role takes over: a render
	 * thread that is late once, just after it was found, must not act as a worker for so long again.
	 */
	if (t->match < MATCH_TAKEN && t->evidence[SOURCE_PATTERN].role != t->pattern_role)
		role = ROLE_NONE;
	else
		role = t->pattern_role;
	if (have_patterns) {
		if (role)
			confidence = t->match < MATCH_LIKELY ? CONFIDENT : t->match < MATCH_SURE ? 75 : 100;
		/*
		 * A job that is alone in waiting for its frame looks as who makes the frame, and who makes a short
		 * frame as who makes sound, if no name tells.
		 */
		if ((role == ROLE_RENDER || role == ROLE_AUDIO) && confidence == 100 &&
		    t->evidence[SOURCE_NAME].role != role)
			confidence = 75;
		evidence_set(p, t, SOURCE_PATTERN, role, confidence, now);
	}
	if (evidence_ended(t->until, now))
		role_settle(t, task_ids(p), now);
}

/* A burst goes on for BUSY_BURST_NS. The scheduler sees that for itself; who advises has only the role. */
static __always_inline void runtime_busy(struct task_struct *p, struct task_ctx *t, u64 now)
{
	t->pattern_role = ROLE_CPU_BOUND;
	t->match = MATCH_TAKEN;
	evidence_set(p, t, SOURCE_PATTERN, ROLE_CPU_BOUND, CONFIDENT, now);
}

/* ===================================================================================== */
/* 7. detection hooks                                                                    */
/* ===================================================================================== */

/* Each is loaded only where its hook is wanted and the kernel has it; see PROGS in gamer.c. */

/* A hook that only calls a function. */
#define HOOK(section, name, call, args...) SEC(section) int BPF_PROG(name, ##args) { return call; }

/*
 * Anybody can rename a program or start one in a loop. So user space hears of one process
 * HINTS_OF_ONE times a second and of all HINTS_OF_ALL times, which costs user space 1 % of a CPU.
 * A process that is held back loses nothing: user space looks at it for over a second after each
 * hint (LOOK_AGAIN_NS), and a hint of activity that was held back is sent at the next frame or read. Hints beyond
 * HINTS_OF_ALL count as lost, and user space then looks at every process.
 */
static __always_inline bool hint_allowed(struct task_struct *leader, u64 now)
{
	struct task_ctx *first = leader ? task_ctx_make(leader) : NULL;

	if (first && now - first->hints_at_ns >= NSEC_PER_SEC) {
		first->hints_at_ns = now;
		first->hints = 0;
	}
	if (first && first->hints++ >= HINTS_OF_ONE) {
		first->hints = HINTS_OF_ONE;
		return false;
	}
	if ((s64)(now - hints_at_ns) >= (s64)NSEC_PER_SEC) {
		hints_at_ns = now;
		hints = 0;
	}
	if (hints >= HINTS_OF_ALL)
		return event_sent(EVENT_GAME, -1);
	__sync_fetch_and_add(&hints, 1);
	return true;
}

/* Tell user space of a process, of each activity until it is forgotten. */
static __always_inline void hint_send(struct task_struct *p, struct activity *a, u8 what)
{
	struct event_game e;

	if (a && (a->told & what))
		return;
	e = (struct event_game){ EVENT_INIT(GAME, task_ids(p)), .what = what };
	if (!hint_allowed(p->group_leader, e.at_ns))
		return;
	if (p->group_leader)
		__builtin_memcpy(e.comm, p->group_leader->comm, sizeof(e.comm));
	if (EVENT_SEND(EVENT_GAME, game_ring, &e) && a)
		a->told |= what;
}

static __always_inline struct activity *activity_of(struct task_struct *p)
{
	struct task_struct *leader = p->group_leader;

	return leader ? bpf_task_storage_get(&activities, leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE) :
			NULL;
}

/*
 * A process submits to a GPU: that is a frame, unless the last one has only begun. Starved, a game draws
 * a few frames a second, so no rate makes a candidate: user space judges how steadily it draws.
 */
static __always_inline void activity_drew(struct task_struct *p, bool is_game)
{
	struct activity *a = activity_of(p);
	u64 now = bpf_ktime_get_ns(), gap;
	u32 bin = now >> ACTIVITY_BIN_SHIFT, i;

	if (!a || now - a->frame_at_ns < FRAME_BREAK_NS)
		return;
	for (i = 0; i < ACTIVITY_BINS; i++)
		if (bin - a->bin > i)
			a->bins[(bin - i) % ACTIVITY_BINS] = 0;
	a->bin = bin;
	bin %= ACTIVITY_BINS;
	if (a->bins[bin] < 255)
		a->bins[bin]++;
	gap = now - a->frame_at_ns;
	a->frame_at_ns = now;
	if (gap >= FRAME_FRESH_NS) {
		a->frames = 0;
		a->told &= ~HINT_GPU;
	}
	if (++a->frames >= HINT_FRAMES && !is_game)
		hint_send(p, a, HINT_GPU);
}

/* The oldest input event that waits at `from` goes on to `to`, if there is a further stage. */
static __always_inline void input_hop(struct cpu_state *cs, u64 *from, u64 *to, enum hist hist,
				      u64 now)
{
	u64 at = *from;

	if (!at)
		return;
	*from = 0;
	if (now - at >= FRAME_FRESH_NS)
		return;
	hist_add(cs, hist, now - at);
	if (to && !*to)
		*to = at;
}

static __always_inline void input_taken(struct cpu_state *cs, u64 now)
{
	input_hop(cs, &input_path.event_ns, &input_path.read_ns, HIST_INPUT_READER, now);
}

/* --- runtime, for the observer: what the scheduler's callbacks see otherwise --- */

/*
 * Tells user space to look: a thread has shown enough bursts for a real-time thread; or it is one, and took
 * longer than it may.
 */
static __always_inline void runtime_overruns(struct task_struct *p, struct task_ctx *t, u64 ran_ns)
{
	bool over = p->policy == SCHED_FIFO && t->burst_ns + ran_ns > realtime_ns;

	if (!realtime_ns || t->overran || (!over && t->wakeups != REALTIME_WAKEUPS))
		return;
	t->overran = over;
	classification_send(t, task_ids(p), t->role);
}

/* Tells who ran, when and where. Attached only while a client wants that: run_watch(). */
SEC("tp_btf/sched_switch")
int BPF_PROG(run_ended, bool preempt, struct task_struct *prev)
{
	struct event_run e = { EVENT_INIT(RUN, task_ids(prev)) };
	struct cpu_state *cs = cpu_here();
	struct task_ctx *t;

	e.from_ns = cs->switched_ns;
	cs->switched_ns = e.at_ns;
	if (!prev->pid || e.from_ns < run_watched_ns || !event_wanted(EVENT_RUN))
		return 0;
	t = task_ctx_of(prev);
	e.role = t ? t->role : ROLE_NONE;
	__builtin_memcpy(e.comm, prev->comm, sizeof(e.comm));
	EVENT_SEND(EVENT_RUN, run_ring, &e);
	return 0;
}

/*
 * One look at a context per switch: that of a task that gets the CPU is looked at when the task leaves
 * the CPU, and before only if the task wakes another one (PRIO_UNKNOWN, see runtime_waking).
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(runtime_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	u32 game = game_tgid;
	struct cpu_state *cs;
	struct task_ctx *t;
	bool enters;
	u64 now;

	if (((u32)prev->tgid != game && (u32)next->tgid != game) || !game)
		return 0;
	cs = cpu_here();
	now = compat_now();
	/* a process that became the game while it ran has no start of this stint */
	if ((u32)prev->tgid == game && cs->tgid == game) {
		t = task_ctx_make(prev);
		if (t) {
			task_class(prev, t, now);
			task_moved(prev, t, cs, bpf_get_smp_processor_id(), cs->run_at_ns);
			runtime_waited(t, cs, cs->run_at_ns);
			if (input_path.event_ns && t->evidence[SOURCE_INPUT].role)
				input_taken(cs, now);
			runtime_overruns(prev, t, now - cs->run_at_ns);
			runtime_used(t, cs, now - cs->run_at_ns);
			runtime_ran(prev, t, cs, now, preempt || !prev_state);
		}
	}
	enters = (u32)next->tgid == game;
	cs->run_at_ns = now;
	cs->tgid = next->tgid;
	cs->class = enters ? CLASS_GAME : CLASS_OTHER;
	cs->prio = enters ? PRIO_UNKNOWN : PRIO_NORMAL;
	cs->fanout = 0;
	return 0;
}

/*
 * sched_waking and not sched_wakeup: the kernel may report sched_wakeup on the woken task's CPU, in an
 * interrupt, where the waker is no longer known.
 */
SEC("tp_btf/sched_waking")
int BPF_PROG(runtime_waking, struct task_struct *p)
{
	struct task_ctx *t, *waker;
	struct cpu_state *cs;
	u64 now;

	if ((u32)p->tgid != game_tgid || !game_tgid)
		return 0;
	t = task_ctx_make(p);
	if (!t)
		return 0;
	cs = cpu_here();
	now = compat_now();
	if (cs->prio == PRIO_UNKNOWN && !compat_in_interrupt()) {
		waker = task_ctx_of(bpf_get_current_task_btf());
		if (waker)
			runtime_judge(waker, cs, bpf_get_smp_processor_id(), now);
	}
	task_woke(p, t, cs, now);
	return 0;
}

/*
 * A call that the kernel refuses is no evidence: any program may ask for anything. So the hooks look at a
 * call when it returns, by its result.
 */
static __always_inline s32 call_result(u64 *ctx)
{
	u64 result = 0;

	bpf_get_func_ret(ctx, &result);
	return result;
}

/* --- gpu and frame --- */

#define IOC_NR(cmd)		((cmd) & 0xff)
#define IOC_TYPE(cmd)		(((cmd) >> 8) & 0xff)
#define DRM_MODE_PAGE_FLIP_NR	0xb0
#define DRM_MODE_ATOMIC_NR	0xbc
#define DRM_MODE_ATOMIC_TEST_ONLY 0x0100
#define DRM_EVENT_FLIP_COMPLETE	0x02

#define SUBMIT_ROW(name, number, symbol) { name, number },
static const struct { char driver[16]; u32 nr; } gpu_submits[] = { GPU_SUBMITS(SUBMIT_ROW) };

/* The entry by which request `nr` hands work to the GPU on this driver, or -1. */
static __always_inline s32 gpu_submit_of(struct file *filp, u32 nr)
{
	struct drm_file *file = filp->private_data;
	const char *text = BPF_CORE_READ(file, minor, dev, driver, name);
	char name[16] = {};
	u32 i;

	if (bpf_probe_read_kernel_str(name, sizeof(name), text) < 0)
		return -1;
	for (i = 0; i < sizeof(gpu_submits) / sizeof(gpu_submits[0]); i++)
		if (gpu_submits[i].nr == nr &&
		    *(u64 *)gpu_submits[i].driver == *(u64 *)name &&
		    *(u64 *)(gpu_submits[i].driver + 8) == *(u64 *)(name + 8))
			return i;
	return -1;
}

static __always_inline u64 ewma_u64(u64 avg, u64 sample)
{
	return avg ? avg - (avg >> EWMA_SHIFT) + (sample >> EWMA_SHIFT) : sample;
}

static __always_inline void frame_logged(u64 interval)
{
	u64 n = frames_logged;

	frame_log_ns[n & (FRAME_LOG - 1)] = clamp_u32(interval);
	frames_logged = n + 1;
	hist_add(cpu_here(), HIST_FRAME, interval);
}

/* Tell of the frame that was just presented. Times are 0 where unknown, or too old for this frame. */
static __always_inline void frame_send(u64 interval, u64 submit_to_present, u64 compositor,
				       u32 dropped, u32 missed)
{
	struct event_frame e = {
		EVENT_INIT(FRAME, (u64)primary_tgid << 32 | primary_tid), .role = ROLE_GPU,
		.interval_ns = interval < FRAME_FRESH_NS ? interval : 0,
		.submit_to_present_ns = submit_to_present < FRAME_FRESH_NS ? submit_to_present : 0,
		.compositor_ns = compositor < FRAME_FRESH_NS ? compositor : 0,
		.dropped = dropped, .missed = missed, .source = frame.source,
	};

	EVENT_SEND(EVENT_FRAME, frame_timing_ring, &e);
}

/* A new frame of the game begins: its primary thread submits again after a pause. */
static __always_inline void frame_begins(u64 now)
{
	u64 gap = now - frame.present_at_ns;

	frame.pending++;
	if (frame.source == FRAME_FLIP && now - frame.flip_at_ns < FRAME_FRESH_NS)
		return;
	/* No hook sees page flips: submits count as frames instead. */
	frame.source = FRAME_CADENCE;
	frame.presented++;
	if (gap < FRAME_FRESH_NS) {
		frame.interval_ns = ewma_u64(frame.interval_ns, gap);
		frame_logged(gap);
	}
	frame.present_at_ns = now;
	if (event_wanted(EVENT_FRAME))
		frame_send(gap, 0, 0, 0, 0);
}

/* The thread with the most submits since its process became the game. */
static __always_inline bool gpu_is_primary(struct task_struct *p, struct task_ctx *t)
{
	if (primary_tgid != (u32)p->tgid) {
		primary_tgid = p->tgid;
		primary_submits = 0;
	}
	if (t->submits <= primary_submits)
		return primary_tid == (u32)p->pid;
	primary_submits = t->submits;
	primary_tid = p->pid;
	return true;
}

static __always_inline void gpu_submitted(u64 now, u32 submit)
{
	struct cpu_state *cs = cpu_here();
	struct task_struct *p = bpf_get_current_task_btf();
	struct task_ctx *t = task_ctx_make(p);
	bool primary;
	u64 last, gap;
	u8 class;

	if (!t)
		return;
	class = task_class(p, t, now);
	last = t->submit_at_ns;
	gap = now - last;
	t->submit_at_ns = now;
	t->submits++;
	if (last && gap < FRAME_FRESH_NS)
		t->submit_gap_ns = ewma_u64(t->submit_gap_ns, gap);
	evidence_set(p, t, SOURCE_GPU, ROLE_GPU, 100, now);
	activity_drew(p, class == CLASS_GAME);
	if (class != CLASS_GAME)
		return;
	stat_inc(cs, BPF_STAT_GPU_SUBMITS);
	primary = gpu_is_primary(p, t);
	if (event_wanted(EVENT_SUBMIT)) {
		struct event_submit e = {
			EVENT_INIT(SUBMIT, task_ids(p)), .role = t->role, .submit = submit,
			.gap_ns = gap < FRAME_FRESH_NS ? gap : 0, .primary = primary,
		};

		EVENT_SEND(EVENT_SUBMIT, gpu_submit_ring, &e);
	}
	if (!primary)
		return;
	/* This submit answers all input that readers have read by now. */
	input_hop(cs, &input_path.read_ns, &input_path.submit_ns, HIST_INPUT_SUBMIT, now);
	if ((s64)(t->slept_at_ns - last) > 0 || gap > FRAME_BREAK_NS)
		frame_begins(now);
	frame.submit_at_ns = now;
	frame.submit_gap_ns = t->submit_gap_ns;
}

/* A process that flips pages is a compositor, unless it is the game itself. */
static __always_inline void flip_requested(u64 now)
{
	struct task_struct *p = bpf_get_current_task_btf(), *leader = p->group_leader;
	struct task_ctx *t = task_ctx_make(p);
	u32 class = CLASS_COMPOSITOR, *known;

	if (!t || !leader)
		return;
	if (task_class(p, t, now) == CLASS_OTHER) {
		known = bpf_task_storage_get(&procs, leader, &class,
					     BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (known)
			*known = CLASS_COMPOSITOR;
		__sync_fetch_and_add(&class_gen, 1);
	}
	if (t->class != CLASS_GAME)	/* at each flip, until one was sent */
		hint_send(p, activity_of(p), HINT_FLIP);
	evidence_set(p, t, SOURCE_GPU, t->class == CLASS_GAME ? ROLE_GPU : ROLE_COMPOSITOR, 100,
		     now);
	task_class(p, t, now);
	activity_drew(p, t->class == CLASS_GAME);
	frame.flip_at_ns = now;
	frame.shown_submit_ns = frame.submit_at_ns;
	frame.flip_replaced = frame.pending > 1 ? frame.pending - 1 : 0;
	frame.dropped += frame.flip_replaced;
	frame.flip_behind_ns = 0;
	if (now - frame.submit_at_ns < FRAME_FRESH_NS && frame.pending) {
		frame.flip_behind_ns = now - frame.submit_at_ns;
		frame.compositor_ns = ewma_u64(frame.compositor_ns, frame.flip_behind_ns);
		hist_add(cpu_here(), HIST_COMPOSITOR, frame.flip_behind_ns);
	}
	frame.pending = 0;
	if (!input_path.flip_ns) {
		input_path.flip_ns = input_path.submit_ns;
		input_path.submit_ns = 0;
	}
}

SEC("fexit/drm_ioctl")
int BPF_PROG(gpu_ioctl, struct file *filp, unsigned int cmd, unsigned long arg)
{
	u32 nr = IOC_NR(cmd), flags = 0;
	s32 submit;

	if (IOC_TYPE(cmd) != 'd' || nr < 0x40 || call_result(ctx) < 0)
		return 0;
	/* a commit that only asks whether it would work shows nothing */
	if (have_frames && nr == DRM_MODE_ATOMIC_NR)
		bpf_probe_read_user(&flags, sizeof(flags), (const void *)arg);
	if (have_frames && (nr == DRM_MODE_PAGE_FLIP_NR ||
			    (nr == DRM_MODE_ATOMIC_NR && !(flags & DRM_MODE_ATOMIC_TEST_ONLY))))
		flip_requested(compat_now());
	if (!have_gpu || nr >= 0x90)
		return 0;
	submit = gpu_submit_of(filp, nr);
	if (submit >= 0)
		gpu_submitted(compat_now(), submit);
	return 0;
}

/*
 * Add an interval between frames on the display. Returns 1 where the display waited longer than its
 * period. The period is the shortest interval seen; it may grow slowly (a new mode).
 */
static __always_inline u32 frame_paced(u64 interval)
{
	frame.interval_ns = ewma_u64(frame.interval_ns, interval);
	frame_logged(interval);
	if (!frame.refresh_ns || interval < frame.refresh_ns) {
		frame.refresh_ns = interval;
	} else if (interval < frame.refresh_ns + (frame.refresh_ns >> FRAME_MISSED_SHIFT)) {
		frame.refresh_ns += (interval - frame.refresh_ns) >> REFRESH_SHIFT;
	} else {
		frame.missed++;
		return 1;
	}
	return 0;
}

/*
 * A flip is on the screen. drm_crtc_send_vblank_event is not enough: drivers that arm the
 * event for the next vertical blank (vkms, newer i915 and virtio) never call it. Every one
 * ends here, in an interrupt or not.
 */
SEC("fentry/drm_send_event_timestamp_locked")
int BPF_PROG(frame_flipped, struct drm_device *dev, struct drm_pending_event *pending,
	     long long timestamp)
{
	struct drm_event_vblank e = {};
	struct cpu_state *cs = cpu_here();
	u64 now, interval, behind;
	u32 missed = 0;

	if (bpf_probe_read_kernel(&e, sizeof(e), pending->event) ||
	    e.type != DRM_EVENT_FLIP_COMPLETE)
		return 0;
	now = compat_now();
	interval = now - frame.present_at_ns;
	if (frame.crtc != e.crtc_id && frame.source == FRAME_FLIP && interval < FRAME_FRESH_NS)
		return 0;	/* the other display */
	frame.crtc = e.crtc_id;
	frame.present_at_ns = now;
	frame.presented++;
	if (frame.source != FRAME_FLIP) {
		frame.source = FRAME_FLIP;
		return 0;
	}
	behind = frame.shown_submit_ns ? now - frame.shown_submit_ns : FRAME_FRESH_NS;
	if (behind < FRAME_FRESH_NS) {
		frame.submit_to_present_ns = ewma_u64(frame.submit_to_present_ns, behind);
		hist_add(cs, HIST_SUBMIT_PRESENT, behind);
	}
	input_hop(cs, &input_path.flip_ns, NULL, HIST_INPUT_PRESENT, now);
	if (interval < FRAME_FRESH_NS)
		missed = frame_paced(interval);
	if (event_wanted(EVENT_FRAME))
		frame_send(interval, behind, frame.flip_behind_ns, frame.flip_replaced, missed);
	return 0;
}

/*
 * NVIDIA's own driver: work goes to the GPU by writes to mapped memory that no hook sees. The driver's
 * requests only show which threads use the GPU, so they are weak evidence until the run pattern agrees.
 */
SEC("kretprobe")
int gpu_doorbell(struct pt_regs *ctx)
{
	struct task_struct *p = bpf_get_current_task_btf();
	struct activity *a;
	struct task_ctx *t;

	if ((s32)ctx->ax < 0)
		return 0;
	t = task_ctx_make(p);
	if (!t)
		return 0;
	evidence_set(p, t, SOURCE_DOORBELL, ROLE_GPU, DOORBELL_CONFIDENCE, bpf_ktime_get_ns());
	activity_drew(p, t->class == CLASS_GAME);
	a = activity_of(p);
	if (a)
		a->nvidia = 1;
	return 0;
}

/* --- input --- */

#define EV_KEY		1
#define EV_REL		2
#define EV_ABS		3
#define BTN_MISC	0x100
#define ABS_CNT		64
#define KEY_CNT		768

struct held held[HELD_SLOTS];

/* The kind of a device by the keys and axes that it has; -1: none of these kinds, but a sensor. */
static __always_inline int input_kind(struct input_dev *dev, u32 type, u32 code)
{
	unsigned long buttons = dev->keybit[4], touch = dev->keybit[5] & (1 << 10);

	if (buttons >> 32)		/* BTN_JOYSTICK and BTN_GAMEPAD, 16 codes each */
		return INPUT_GAMEPAD;
	if (touch)			/* BTN_TOUCH */
		return INPUT_TOUCH;
	if ((buttons & (1 << 16)) && (dev->relbit[0] & 1) &&	/* BTN_LEFT, REL_X */
	    (type == EV_REL || code >= BTN_MISC))
		return INPUT_MOUSE;
	return type == EV_KEY ? INPUT_KEYBOARD : -1;
}

/*
 * Drivers report every key and axis each time, and sticks tremble: only a difference from the device's
 * present state is a person's doing.
 */
static __always_inline bool input_changes(struct input_dev *dev, u32 type, u32 code, s32 value)
{
	struct input_absinfo info = {};
	unsigned long word = 0;
	s32 delta, noise;

	if (type == EV_REL)
		return value;
	if (type == EV_KEY) {
		if (code >= KEY_CNT)
			return false;
		bpf_probe_read_kernel(&word, sizeof(word), &dev->key[code >> 6]);
		return ((word >> (code & 63)) & 1) != !!value;
	}
	if (code >= ABS_CNT || !dev->absinfo ||
	    bpf_probe_read_kernel(&info, sizeof(info), &dev->absinfo[code]))
		return false;
	delta = value > info.value ? value - info.value : info.value - value;
	noise = (info.maximum - info.minimum) >> INPUT_NOISE_SHIFT;
	return delta > info.fuzz && delta > noise;
}

/* Count a key that goes down or up, for its device and for all devices. */
static __always_inline void input_hold(u64 dev, bool down)
{
	u32 i;

	/* The device's slot first: a slot that another device left must not become its second one. */
	for (i = 0; i < HELD_SLOTS; i++)
		if (held[i].dev == dev && (down || held[i].keys))
			break;
	if (i == HELD_SLOTS && down)
		for (i = 0; i < HELD_SLOTS; i++)
			if (!__sync_val_compare_and_swap(&held[i].dev, 0, dev))
				break;
	if (i >= HELD_SLOTS)
		return;
	__sync_fetch_and_add(&held[i].keys, down ? 1 : -1);
	__sync_fetch_and_add(&input_held, down ? 1 : -1);
}

#define INPUT_MS(id, name, ms) ms,
static const u32 input_ms[] = { INPUT_KINDS(INPUT_MS) };
_Static_assert(BPF_STAT_INPUT_MOUSE + INPUT_TOUCH == (int)BPF_STAT_INPUT_TOUCH, "the same order");

SEC("fentry/input_event")
int BPF_PROG(input_event_seen, struct input_dev *dev, unsigned int type, unsigned int code,
	     int value)
{
	u64 now;
	int kind;

	if (type < EV_KEY || type > EV_ABS || !input_changes(dev, type, code, value))
		return 0;
	kind = input_kind(dev, type, code);
	if (kind < 0 || kind >= INPUT_KIND_NR)
		return 0;
	now = compat_now();
	stat_inc(cpu_here(), BPF_STAT_INPUT_MOUSE + kind);
	if (type == EV_KEY)
		input_hold((u64)dev, value);
	input_until_ns = later(input_until_ns, now + input_ms[kind] * NSEC_PER_MSEC);
	if (!input_path.event_ns || now - input_path.event_ns > FRAME_FRESH_NS)
		input_path.event_ns = now;
	if (event_wanted(EVENT_INPUT)) {
		struct event_input e = {
			EVENT_INIT(INPUT, 0ULL), .kind = kind,
			.what = type != EV_KEY ? INPUT_MOTION : value ? INPUT_PRESS : INPUT_RELEASE,
		};

		EVENT_SEND(EVENT_INPUT, input_ring, &e);
	}
	return 0;
}

/* The keys of a device that is unplugged never come up. */
SEC("fentry/input_unregister_device")
int BPF_PROG(input_gone, struct input_dev *dev)
{
	u32 i;

	for (i = 0; i < HELD_SLOTS; i++) {
		if (held[i].dev != (u64)dev)
			continue;
		__sync_fetch_and_sub(&input_held, held[i].keys);
		held[i].keys = 0;
		held[i].dev = 0;
	}
	return 0;
}

/* A process reads input or moves sound. */
static __always_inline void activity_did(struct task_struct *p, u8 hint, bool tell)
{
	struct activity *a = activity_of(p);
	u64 *at, now = bpf_ktime_get_ns();

	if (!a)
		return;
	at = hint == HINT_INPUT ? &a->input_at_ns : &a->sound_at_ns;
	if (now - *at >= HINT_AGAIN_NS)
		a->told &= ~hint;
	*at = now;
	if (tell)
		hint_send(p, a, hint);
}

/* What the current thread just did is evidence. User space is told of a process that it does not know. */
static __always_inline void current_did(u8 source, u8 role, u8 confidence, u8 hint)
{
	struct task_struct *p = bpf_get_current_task_btf();
	struct task_ctx *t = task_ctx_make(p);
	u64 now = compat_now();

	if (!t)
		return;
	task_class(p, t, now);
	evidence_set(p, t, source, role, confidence, now);
	if (hint)
		activity_did(p, hint, t->class == CLASS_OTHER);
	if (t->class != CLASS_OTHER && source == SOURCE_INPUT)
		input_taken(cpu_here(), now);
}

/*
 * Keyboards and mice are read by whoever serves the desktop, gamepads by games: only those tell of a game. Where
 * the kernel does not say what a file's device is (it may be in a module that gamer may not look into), each counts.
 */
static __always_inline bool is_gamepad(struct file *file)
{
	struct evdev_client *client = file->private_data;
	struct input_dev *dev;

	if (!bpf_core_field_exists(client->evdev) || !bpf_core_field_exists(struct evdev, handle))
		return true;
	dev = BPF_CORE_READ(client, evdev, handle.dev);
	return BPF_CORE_READ(dev, keybit[4]) >> 32;	/* as input_kind() has it */
}

/* A read that returns no event is no evidence either: any program can make such reads without end. */
static __always_inline int input_read(u64 *ctx, bool gamepad)
{
	if (call_result(ctx) > 0)
		current_did(SOURCE_INPUT, ROLE_INPUT, 95, gamepad ? HINT_INPUT : 0);
	return 0;
}

HOOK("fexit/evdev_read", readers_evdev, input_read(ctx, is_gamepad(file)), struct file *file)
HOOK("fexit/hidraw_read", readers_hidraw, input_read(ctx, true))

/* --- audio and network, in process context --- */

/* Requests that move sound or its pointers: HWSYNC, SYNC_PTR, and WRITEI to READN. */
SEC("fexit/snd_pcm_ioctl")
int BPF_PROG(audio_ioctl, struct file *file, unsigned int cmd)
{
	u32 nr = IOC_NR(cmd);

	if ((nr == 0x22 || nr == 0x23 || (nr >= 0x50 && nr <= 0x53)) && call_result(ctx) >= 0)
		current_did(SOURCE_AUDIO, ROLE_AUDIO, 95, HINT_AUDIO);
	return 0;
}

/*
 * A thread of the game that talks to a server has the network role, if that is what it wakes up for: one
 * that makes frames or sound sends a packet now and then, or with each frame, too. The first packet alone makes
 * nobody sure.
 */
static __always_inline int network_used(const struct sock *sk, int result)
{
	struct task_struct *p = bpf_get_current_task_btf();
	u8 role = ROLE_NETWORK, confidence = have_patterns ? CONFIDENT : 90;
	struct task_ctx *t;
	u32 last, since;
	bool works;
	u64 now;

	if ((u32)p->tgid != game_tgid || result < 0 || sk->sk_protocol != IPPROTO_UDP)
		return 0;
	t = task_ctx_make(p);
	if (!t)
		return 0;
	now = compat_now();
	task_class(p, t, now);
	last = t->network_wakeups;
	since = t->wakeups - last;
	t->network_wakeups = t->wakeups;
	/* its bursts take longer than packets do, or look like frames, whatever role it has by now */
	works = t->burst_avg_ns > NETWORK_BURST_NS || t->evidence[SOURCE_PATTERN].role == ROLE_RENDER ||
		thread_is_role(t, ROLE_RENDER, CONFIDENT) || is_gpu_submit_thread(t);
	if (last && !works && (!since || (since > NETWORK_WAKEUPS && since < NETWORK_ELSE)))
		return 0;
	if (last)
		confidence = 90;
	if (works || (last && since >= NETWORK_ELSE))
		role = confidence = ROLE_NONE;
	evidence_set(p, t, SOURCE_NETWORK, role, confidence, now);
	return 0;
}

HOOK("tp_btf/sock_send_length", network_sent, network_used(sk, result), struct sock *sk, int result)
HOOK("tp_btf/sock_recv_length", network_received, network_used(sk, result), struct sock *sk, int result)

/* --- game: programs that start, names that change --- */

/* Is this name of a program that user space should look at? */
static __always_inline bool name_matters(const u64 *name)
{
	const char *text = (const char *)name;
	u32 last = 0;
	int i;

	for (i = 0; i < PROGRAM_NAME_MAX; i++)
		if (name_is(name, &program_names[i]))
			return true;
	/* byte by byte: the verifier refuses unaligned reads of the stack */
	for (i = 0; i < 16; i++) {
		last = last >> 8 | (u32)(u8)text[i] << 24;
		if (last == 0x6578652e)		/* ".exe" */
			return true;
	}
	return false;
}

/* A walk over the strings of an environment. */
struct env_walk {
	u64 at, end;
	u32 within;		/* 1: `at` is not where a string begins */
	u32 found;
};

static long env_step(u32 i, struct env_walk *w)
{
	u64 text[ENV_PIECE / 8] = {};
	long len;
	u32 n;

	if (w->at >= w->end)
		return 1;
	len = bpf_probe_read_user_str(text, sizeof(text), (const void *)w->at);
	if (len <= 0)
		return 1;
	for (n = 0; n < ENV_NAME_MAX && !w->within; n++)
		if (name_is(text, &env_names[n])) {
			w->found = 1;
			return 1;
		}
	w->within = len == sizeof(text);
	w->at += len - w->within;	/* what was cut ends in a 0 of its own */
	return 0;
}

#define PATH_SEEN	200	/* bytes of a program's path that are looked at */

/*
 * FNV-1a hash of a path, never 0. The name must be the same too, so 32 bits tell programs apart. A path
 * and not an inode: another boot or an update changes the inode.
 */
static __always_inline u32 path_hash(const char *path)
{
	u32 hash = 2166136261, i;

	for (i = 0; i < PATH_SEEN && path[i]; i++)
		hash = (hash ^ (u8)path[i]) * 16777619;
	return hash ? hash : 1;
}

/* A program began in this process. What the process did before counts no more. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(game_exec, struct task_struct *p, int old_pid, struct linux_binprm *bprm)
{
	struct task_ctx *t = task_ctx_of(p);
	struct activity *a = bpf_task_storage_get(&activities, p, 0, 0);
	u32 class = CLASS_GAME;
	struct env_walk w = {};
	char path[PATH_SEEN] = {};
	u64 name[2];

	/* If another thread than the first called exec, the first is gone, and this is the first now. */
	if ((u32)p->tgid == game_tgid && !bpf_task_storage_get(&procs, p, 0, 0)) {
		bpf_task_storage_get(&procs, p, &class, BPF_LOCAL_STORAGE_GET_F_CREATE);
		__sync_fetch_and_add(&class_gen, 1);
	}
	if (t && t->seen_at_ns) {
		__builtin_memset(t->evidence, 0, sizeof(t->evidence));
		t->wine_priority = t->wine_class = 0;
		role_settle(t, task_ids(p), 0);
	}
	if (a)
		__builtin_memset(a, 0, sizeof(*a));
	__builtin_memcpy(name, p->comm, sizeof(name));
	if (bpf_probe_read_kernel_str(path, sizeof(path), bprm->filename) < 0)
		path[0] = 0;
	if (t && learning) {
		t->exe = path_hash(path);
		learn_named(p, t, name);
	}
	/* the environment may tell of a game; its pages were just written */
	w.at = BPF_CORE_READ(p, mm, env_start);
	w.end = BPF_CORE_READ(p, mm, env_end);
	if (name_matters(name) || (u32)p->tgid == game_tgid)
		w.found = 1;
	else
		bpf_loop(ENV_PIECES, env_step, &w, 0);
	if (w.found)
		hint_send(p, NULL, HINT_NAME);
	return 0;
}

/* Wine names a process after it started; engines name their threads. */
SEC("tp_btf/task_rename")
int BPF_PROG(name_changed, struct task_struct *p, const char *comm)
{
	struct task_ctx *t;
	char text[16] = {};
	u64 name[2], now;

	bpf_probe_read_kernel_str(text, sizeof(text), comm);
	__builtin_memcpy(name, text, sizeof(name));
	if (p->pid == p->tgid && name_matters(name))
		hint_send(p, NULL, HINT_NAME);
	t = learning ? task_ctx_of(p) : NULL;
	if (t)
		learn_named(p, t, name);
	if (!have_names || (u32)p->tgid != game_tgid)
		return 0;
	t = task_ctx_make(p);
	if (!t)
		return 0;
	now = compat_now();
	task_class(p, t, now);
	evidence_set(p, t, SOURCE_NAME, name_role(name), NAME_CONFIDENCE, now);
	return 0;
}

/* --- wine --- */

#define WINE_THREAD_BASE_PRIORITY	3
#define WINE_PROCESS_PRIORITY_CLASS	0x12

/*
 * NtSetInformationThread(handle, class, value, size) and its process twin. Wine 8 calls them by Windows'
 * convention, Wine 10 by System V's: the one whose registers show the wanted handle, class and size
 * holds. Only the pseudo handles of the caller itself say something about the caller.
 */
static __always_inline const void *wine_argument(struct pt_regs *ctx, long handle, u32 class,
						 u32 size)
{
	unsigned long r8 = ctx->r8, dx = ctx->dx;

	/* Read here, or the compiler picks one of two addresses, which the verifier refuses. */
	barrier_var(r8);
	barrier_var(dx);
	if (ctx->cx == (unsigned long)handle && (u32)dx == class && (u32)ctx->r9 == size)
		return (const void *)r8;
	if (ctx->di == (unsigned long)handle && (u32)ctx->si == class && (u32)ctx->cx == size)
		return (const void *)dx;
	return NULL;
}

SEC("uprobe.multi")
int wine_set_thread(struct pt_regs *ctx)
{
	const void *value = wine_argument(ctx, -2, WINE_THREAD_BASE_PRIORITY, 4);
	struct task_struct *p = bpf_get_current_task_btf();
	struct task_ctx *t, *first;
	s32 prio;

	if (!value || bpf_probe_read_user(&prio, sizeof(prio), value))
		return 0;
	t = task_ctx_make(p);
	first = p->group_leader ? task_ctx_of(p->group_leader) : NULL;
	if (!t)
		return 0;
	t->wine_priority = prio < -16 ? -16 : prio > 16 ? 16 : prio;
	wine_evidence(p, t, first ? first->wine_class : 0, 0);
	return 0;
}

/* The priority class of a process counts for all its threads: they look again. */
SEC("uprobe.multi")
int wine_set_process(struct pt_regs *ctx)
{
	const void *value = wine_argument(ctx, -1, WINE_PROCESS_PRIORITY_CLASS, 2);
	struct task_struct *p = bpf_get_current_task_btf();
	struct task_ctx *first;
	u8 class[2];	/* foreground or not, priority class */

	if (!value || !p->group_leader || bpf_probe_read_user(class, sizeof(class), value))
		return 0;
	first = task_ctx_make(p->group_leader);
	if (!first)
		return 0;
	first->wine_class = class[1];
	__sync_fetch_and_add(&class_gen, 1);
	return 0;
}

/* --- the threads that belong to the game or serve it, for whoever asks --- */

SEC("iter/task")
int threads(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task;
	struct thread_row row;
	struct task_ctx *t;
	u64 now = compat_now();

	input_open = input_window(now);
	if (!p || !p->group_leader)
		return 0;
	t = bpf_task_storage_get(&procs, p->group_leader, 0, 0) ? task_ctx_make(p) : task_ctx_of(p);
	if (!t)
		return 0;
	/* A thread of another process is shown only where its role says that it serves the game. */
	if (!task_class(p, t, now) && !role_is_critical(t->role))
		return 0;
	if (evidence_ended(t->until, now))
		role_settle(t, task_ids(p), now);
	row = (struct thread_row){
		.role_at_ns = t->role_at_ns, .seen_at_ns = t->seen_at_ns,
		.submits = t->submits, .submit_gap_ns = t->submit_gap_ns,
		.wakeups = t->wakeups, .role_wakeups = t->role_wakeups,
		.burst_ns = t->burst_avg_ns, .gap_ns = t->gap_avg_ns, .busy = t->burst_ns > BUSY_BURST_NS,
		.run_ns = t->run_ns, .wait_ns = t->wait_ns, .start_ns = p->start_boottime,
		.tid = p->pid, .tgid = p->tgid, .cpu = p->thread_info.cpu,
		.class = t->class, .role = t->role, .source = t->source, .confidence = t->confidence,
		.primary = primary_tid == (u32)p->pid && primary_tgid == (u32)p->tgid,
		.acts_as = t->acts_as, .overran = t->overran,
	};
	if (bpf_core_field_exists(p->se.custom_slice) && p->se.custom_slice)
		row.own_slice = 1;
	__builtin_memcpy(row.comm, p->comm, sizeof(row.comm));
	bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
	return 0;
}

/* ===================================================================================== */
/* 8. profiler                                                                           */
/* ===================================================================================== */

/*
 * For `gamer profile`, which loads these programs alone, without a scheduler or detection. A
 * thread is followed while it has a prof_task: those of the wanted process and its
 * descendants (prof_threads), and whatever they fork. All that is known of a thread is in
 * its own storage until it ends; only stacks and what happened at them are in shared maps.
 */

#define PROF_WAKE_NS		(50 * NSEC_PER_USEC)	/* from a wakeup to the switch that it overtook; not measured */
#define PF_USER_WORKER		0x00004000
#define TS_COMPAT		2	/* in thread_info.status: in a 32-bit call */
#define TASK_INTERRUPTIBLE	1
#define TASK_UNINTERRUPTIBLE	2
#define TASK_STOPPED		4
#define TASK_TRACED		8
#define TASK_DEAD		0x80	/* this switch is its last one */
#define TASK_NOLOAD		0x400

const volatile u64 prof_min_ns, prof_max_ns;	/* shorter and longer times off the CPU are left out */
const volatile u8 prof_state;			/* enum prof_state + 1 that alone counts, 0: all */
const volatile u8 prof_offcpu;			/* 1: times off the CPU are wanted */
const volatile u8 prof_kernel_stacks;		/* 1: kernel stacks too */
const volatile u8 prof_scope;			/* enum prof_scope */
const volatile u8 prof_command;			/* 1: prof_root is followed from its exec on */
const volatile u64 prof_entry, prof_entry_end;	/* do_syscall_64 in memory, 0, 0: unknown */
u32 prof_root;		/* process whose tree is followed, or thread, as gamer sees it; user space */
u32 prof_root_tgid;	/* the same as the kernel counts; prof_threads() */
u32 prof_level;		/* of gamer's PID namespace, 0: the first one; prof_threads() */
u32 prof_walk;		/* enum prof_walk; user space */
u32 prof_marked;	/* threads that it marked */
u32 prof_ids;		/* records so far */
struct prof_lost prof_lost;

/* A followed thread. Its record is filled by itself only, by the CPU that switches it. */
struct prof_task {
	u64 off_at_ns;		/* lost its CPU, 0: it runs; prof_out(), prof_in() */
	u64 wake_at_ns;		/* last wakeup; prof_waking() */
	u64 ran_ns;		/* CPU time then, as the kernel counts it; prof_out() */
	struct prof_key key;	/* what it is off its CPU for; prof_out() */
	u64 base[5];		/* the kernel's counters when it was marked; prof_mark() */
	struct prof_thread sum;
};

MAP_STORAGE(TASK, prof_tasks, struct prof_task);

MAP_TABLE(HASH, prof_offs, 65536, struct prof_key, struct prof_off);

/*
 * By a hash of the frames, so that no two stacks compete for a place. Its memory is there from
 * the start: in the scheduler the allocator has only a few blocks of such a size at hand.
 */
MAP_TABLE(HASH, prof_stacks, 16384, u64, struct prof_stack);

#define PROF_FRAME_MAX	(8 << 20)	/* a whole stack is no larger, so no frame is */
#define PROF_RAW	160	/* words of a kernel stack that are looked at */

struct prof_buffers {
	struct prof_stack stack;
	u64 raw[PROF_RAW];
};

MAP_TABLE(PERCPU_ARRAY, prof_scratch, 1, u32, struct prof_buffers);

/* Keys of kernel stacks by what the stack's memory looks like; prof_kernel_stack(). */
MAP_TABLE(HASH, prof_looks, 16384, u64, u64);

MAP_TABLE(PERCPU_ARRAY, prof_syscalls, 1, u32, struct prof_counts);

/* Records of threads that ended. */
MAP_RING(prof_ended, 2 * 1024 * 1024);

/* A block request under way, by its address. */
struct prof_io {
	u64 at_ns;	/* made; prof_io_start() */
	u64 bytes;
	u32 id;		/* record of whoever made it */
	u32 pad;
};

MAP_TABLE(HASH, prof_ios, 8192, u64, struct prof_io);

/* By the record of whoever made them. */
MAP_TABLE(HASH, prof_io_sums, 8192, u32, struct prof_io_sum);

static __always_inline struct prof_task *prof_task_of(struct task_struct *p)
{
	return bpf_task_storage_get(&prof_tasks, p, 0, 0);
}

/* The number of a thread where gamer runs: each PID namespace that it is in has its own. */
static __always_inline u32 prof_number(struct task_struct *p)
{
	u64 at = (u64)BPF_CORE_READ(p, thread_pid);
	u32 nr = 0;

	at += bpf_core_field_offset(struct pid, numbers) + prof_level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&nr, sizeof(nr), (void *)at);
	return nr;
}

static __always_inline void prof_begin(struct task_struct *p, struct prof_task *t, u64 now)
{
	__builtin_memset(&t->sum, 0, sizeof(t->sum));
	t->sum.id = __sync_fetch_and_add(&prof_ids, 1) + 1;
	t->sum.start_ns = now;
	/* the kernel takes these from a thread before its last switch */
	t->sum.tgid = prof_number(p->group_leader);
	t->sum.tid = prof_number(p);
	t->base[0] = p->min_flt;
	t->base[1] = p->maj_flt;
	t->base[2] = p->nvcsw;
	t->base[3] = p->nivcsw;
	t->base[4] = p->se.sum_exec_runtime;
}

/* Follow a thread from now on. */
static __always_inline struct prof_task *prof_mark(struct task_struct *p, u64 now)
{
	struct prof_task *t = bpf_task_storage_get(&prof_tasks, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (t)
		prof_begin(p, t, now);
	else
		__sync_fetch_and_add(&prof_lost.threads, 1);
	return t;
}

/* Completes the record for user space. */
static __always_inline void prof_record(struct task_struct *p, struct prof_task *t, u64 now)
{
	struct prof_thread *to = &t->sum;

	to->end_ns = now;
	to->minor_faults = p->min_flt - t->base[0];
	to->major_faults = p->maj_flt - t->base[1];
	to->voluntary = p->nvcsw - t->base[2];
	to->involuntary = p->nivcsw - t->base[3];
	to->cpu_ns = p->se.sum_exec_runtime - t->base[4];
	__builtin_memcpy(to->comm, p->comm, sizeof(to->comm));
}

/*
 * Send a complete record to user space. Where the ring is full, user space misses the record's id. The
 * next record begins before the send wakes user space, because the kernel brings the CPU time up to date
 * for that wakeup.
 */
static __always_inline void prof_tell(struct task_struct *p, struct prof_task *t, u64 now, bool ends)
{
	struct prof_thread *e = bpf_ringbuf_reserve(&prof_ended, sizeof(*e), 0);

	prof_record(p, t, now);
	if (e)
		*e = t->sum;
	if (ends)
		t->sum.gone = 1;
	else
		prof_begin(p, t, now);
	if (e)
		bpf_ringbuf_submit(e, 0);
}

#define PROF_HASH	14695981039346656037ULL

static __always_inline u64 prof_hash(u64 hash, u64 word)
{
	hash = (hash ^ word) * 1099511628211ULL;
	return hash ^ hash >> 29;
}

/* Key of the stack of the current task, 0: none. A stack that was the last one is known. */
static __always_inline u64 prof_stack(void *ctx, struct prof_stack *s, u64 size, u64 flags, u64 last)
{
	u64 hash = PROF_HASH;
	long n;
	u32 i;

	/* By way of memory, or 6.18's verifier follows each size apart and warns in the log at 8. */
	s->n = size;
	size = *(volatile u64 *)&s->n;
	n = size <= sizeof(s->ip) ? bpf_get_stack(ctx, s->ip, size, flags) : 0;
	if (n <= 0)
		return 0;
	s->n = (u32)n / sizeof(s->ip[0]);
	for (i = 0; i < PROF_FRAMES && i < (u32)n / sizeof(s->ip[0]); i++)
		hash = prof_hash(hash, s->ip[i]);
	if (hash == last || bpf_map_lookup_elem(&prof_stacks, &hash))
		return hash;
	if (bpf_map_update_elem(&prof_stacks, &hash, s, BPF_ANY)) {
		__sync_fetch_and_add(&prof_lost.stacks, 1);
		return 0;
	}
	return hash;
}

/*
 * The kernel takes 2 us to unwind its own stack. The return addresses in a stack's memory tell the
 * stack's frames. So where all words that may be return addresses are those of an earlier stack, in the
 * same order, the frames are the same too and need not be unwound again. Words that only look like return
 * addresses (left-overs, pointers to data) make a stack look new and do no other harm. ctx lies in the
 * frame that called us, the user's registers lie at the stack's beginning.
 *
 * A system call leaves a gap of random size at that beginning, full of left-overs. So the look ends at
 * the call's first frame. The distance of that frame counts too, or a left-over address of the same
 * function could pass for the frame.
 */
static __always_inline u64 prof_look(void *ctx, struct task_struct *p, u64 nr, u64 *raw)
{
	u64 bytes = (u64)bpf_task_pt_regs(p) - (u64)ctx, hash = prof_hash(PROF_HASH, nr);
	bool whole = bytes <= PROF_RAW * sizeof(*raw);
	u32 i;

	if (!prof_entry)
		return 0;
	if (!whole)
		bytes = PROF_RAW * sizeof(*raw);
	if (bpf_probe_read_kernel(raw, bytes, ctx))
		return 0;
	for (i = 0; i < PROF_RAW && i < bytes / sizeof(*raw); i++) {
		if (raw[i] < 0xffffffff80000000ULL)
			continue;
		if (raw[i] >= prof_entry && raw[i] < prof_entry_end)
			return prof_hash(hash, i);
		hash = prof_hash(hash, raw[i]);
	}
	return whole ? hash : 0;
}

static __always_inline u64 prof_kernel_stack(void *ctx, struct task_struct *p, u64 nr,
					     struct prof_buffers *b, u64 last)
{
	u64 look = prof_look(ctx, p, nr, b->raw), key, *known;

	known = look ? bpf_map_lookup_elem(&prof_looks, &look) : NULL;
	if (known)
		return *known;
	key = prof_stack(ctx, &b->stack, sizeof(b->stack.ip), 0, last);
	if (look && key)
		bpf_map_update_elem(&prof_looks, &look, &key, BPF_NOEXIST);
	return key;
}

/*
 * A frame pointer must point into the stack above the innermost frame. A program without frame pointers
 * has something else in that register, and a new thread has what its creator had. Then only the address
 * where the thread is counts.
 */
static __always_inline u64 prof_user_stack(void *ctx, struct task_struct *p, struct prof_buffers *b,
					   u64 last)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(p);
	u32 size = regs->bp - regs->sp < PROF_FRAME_MAX ? sizeof(b->stack.ip) : sizeof(u64);

	if (p->flags & (PF_KTHREAD | PF_USER_WORKER))
		return 0;
	return prof_stack(ctx, &b->stack, size, BPF_F_USER_STACK, last);
}

/* The system call that a task is in. */
static __always_inline u16 prof_syscall_of(struct task_struct *p)
{
	struct pt_regs *regs;
	u64 nr;

	if (p->flags & (PF_KTHREAD | PF_USER_WORKER))
		return PROF_NO_SYSCALL;
	regs = (struct pt_regs *)bpf_task_pt_regs(p);
	nr = regs->orig_ax;
	if (nr >= PROF_SYSCALLS)
		return PROF_NO_SYSCALL;
	return nr | (p->thread_info.status & TS_COMPAT ? PROF_IA32 : 0);
}

/* enum prof_state by the kernel's bits of task state, PROF_STATE_NR: it has ended. */
static __always_inline u8 prof_state_of(struct task_struct *p, u32 bits)
{
	if (!bits)
		return PROF_PREEMPTED;
	if (bits & (TASK_INTERRUPTIBLE | TASK_NOLOAD))
		return PROF_SLEEP;
	if (bits & TASK_UNINTERRUPTIBLE)
		return BPF_CORE_READ_BITFIELD_PROBED(p, in_iowait) ? PROF_DISK : PROF_LOCK;
	if (bits & TASK_STOPPED)
		return PROF_STOPPED;
	if (bits & TASK_TRACED)
		return PROF_TRACED;
	return bits & TASK_DEAD ? PROF_STATE_NR : PROF_OTHER;
}

static __always_inline void prof_sum(struct prof_thread *sum, u32 state, u64 ns)
{
	if (state < PROF_STATE_NR) {
		sum->n[state]++;
		sum->ns[state] += ns;
	}
}

static __always_inline void prof_sum_at(const struct prof_key *key, u64 ns, u64 wait_ns)
{
	struct prof_off first = { .n = 1, .ns = ns, .wait_ns = wait_ns, .max_ns = ns + wait_ns };
	struct prof_off *o = bpf_map_lookup_elem(&prof_offs, key);

	if (!o) {
		if (bpf_map_update_elem(&prof_offs, key, &first, BPF_NOEXIST))
			__sync_fetch_and_add(&prof_lost.offs, 1);
		return;
	}
	/* the thread's own entry: nobody else writes it */
	o->n++;
	o->ns += ns;
	o->wait_ns += wait_ns;
	if (ns + wait_ns > o->max_ns)
		o->max_ns = ns + wait_ns;
}

static __always_inline bool prof_is_futex(u16 nr)
{
	return nr == 202 || nr == 449 || nr == 455 || nr == (PROF_IA32 | 240) ||
	       nr == (PROF_IA32 | 422) || nr == (PROF_IA32 | 449) || nr == (PROF_IA32 | 455);
}

/* The time off the CPU is over. */
static __always_inline void prof_in(struct prof_task *t, u64 now)
{
	u64 off_ns = now - t->off_at_ns, wait_ns = 0;
	struct prof_thread *sum = &t->sum;
	u32 slot;

	/* the wakeup may have begun before the thread was off its CPU */
	if (t->key.state != PROF_PREEMPTED && t->wake_at_ns && t->wake_at_ns < now)
		wait_ns = t->wake_at_ns > t->off_at_ns ? now - t->wake_at_ns : off_ns;
	off_ns -= wait_ns;
	t->off_at_ns = 0;
	t->wake_at_ns = 0;
	if (prof_state == PROF_RUNQUEUE + 1)
		off_ns = 0;
	else if (prof_state && prof_state != t->key.state + 1)
		return;
	else if (prof_state)
		wait_ns = 0;
	if (off_ns + wait_ns < prof_min_ns || off_ns + wait_ns > prof_max_ns)
		return;
	if (off_ns)
		prof_sum(sum, t->key.state, off_ns);
	if (wait_ns) {
		prof_sum(sum, PROF_RUNQUEUE, wait_ns);
		slot = hist_slot(wait_ns >> HIST_SHIFT);
		asm volatile("" : "+r"(slot));	/* or the bound is taken off one register and used with another */
		if (slot < HIST_SLOTS)
			sum->waits[slot]++;
		if (wait_ns > sum->wait_max_ns)
			sum->wait_max_ns = wait_ns;
	}
	if (off_ns && t->key.state == PROF_SLEEP && prof_is_futex(t->key.nr)) {
		sum->futex_n++;
		sum->futex_ns += off_ns;
	}
	if (!sum->events++ || off_ns + wait_ns < sum->min_ns)
		sum->min_ns = off_ns + wait_ns;
	if (off_ns + wait_ns > sum->max_ns)
		sum->max_ns = off_ns + wait_ns;
	prof_sum_at(&t->key, off_ns, wait_ns);
}

/*
 * Some kernels now and then switch without calling us (6.18: about one switch of a thousand on
 * a busy machine). Where the thread runs and we think that it does not, its CPU time tells when
 * it got the CPU.
 */
static __always_inline void prof_catch_up(struct task_struct *p, struct prof_task *t, u64 now)
{
	u64 ran = p->se.sum_exec_runtime - t->ran_ns;

	if (t->off_at_ns)
		prof_in(t, ran < now - t->off_at_ns ? now - ran : t->off_at_ns + 1);
}

/* The current task loses its CPU. */
static __always_inline void prof_out(void *ctx, struct task_struct *p, struct prof_task *t,
				     u32 bits, u64 now)
{
	u8 state = prof_state_of(p, bits);
	u32 zero = 0;
	struct prof_buffers *b = bpf_map_lookup_elem(&prof_scratch, &zero);

	prof_catch_up(p, t, now);
	if (state == PROF_STATE_NR || !b)
		return;
	/* a wakeup that found the thread awake has nothing to do with this sleep */
	if (t->wake_at_ns && now - t->wake_at_ns > PROF_WAKE_NS)
		t->wake_at_ns = 0;
	t->ran_ns = p->se.sum_exec_runtime;
	t->off_at_ns = now;
	t->key.id = t->sum.id;
	t->key.state = state;
	t->key.nr = prof_syscall_of(p);
	t->key.ustack = prof_user_stack(ctx, p, b, t->key.ustack);
	if (prof_kernel_stacks)
		t->key.kstack = prof_kernel_stack(ctx, p, t->key.nr, b, t->key.kstack);
}

SEC("?tp_btf/sched_switch")
int BPF_PROG(prof_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	bool ends = prev_state & TASK_DEAD;
	struct prof_task *t = prof_offcpu || ends ? prof_task_of(prev) : NULL;
	u64 now = 0;

	if (t) {
		now = bpf_ktime_get_ns();
		if (prof_offcpu)
			prof_out(ctx, prev, t, preempt ? 0 : prev_state, now);
		/* only now are its CPU time and its switches complete */
		if (ends)
			prof_tell(prev, t, now, true);
	}
	t = prof_offcpu ? prof_task_of(next) : NULL;
	if (t && t->off_at_ns)
		prof_in(t, now ? now : bpf_ktime_get_ns());
	return 0;
}

/*
 * The wakeup may be seen before the switch that precedes it, so prof_in() takes an older wakeup too. The
 * wakeup is forgotten when the thread runs.
 */
SEC("?tp_btf/sched_waking")
int BPF_PROG(prof_waking, struct task_struct *p)
{
	struct prof_task *t = prof_task_of(p);

	if (t)
		t->wake_at_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("?tp_btf/sys_enter")
int BPF_PROG(prof_sys_enter, struct pt_regs *regs, long nr)
{
	struct task_struct *p = bpf_get_current_task_btf();
	struct prof_counts *c;
	u32 zero = 0;

	if (!prof_task_of(p))
		return 0;
	c = bpf_map_lookup_elem(&prof_syscalls, &zero);
	if (!c)
		return 0;
	if (nr < 0 || nr >= PROF_SYSCALLS)
		c->odd++;
	else
		c->n[!!(p->thread_info.status & TS_COMPAT)][nr]++;
	return 0;
}

/* --- the tree: forks, programs, ends --- */

SEC("?tp_btf/task_newtask")
int BPF_PROG(prof_fork, struct task_struct *child, u64 clone_flags)
{
	u64 now = bpf_ktime_get_ns();
	struct prof_task *t;

	t = prof_scope != PROF_THREAD && prof_task_of(bpf_get_current_task_btf()) ? prof_mark(child, now) : NULL;
	if (!t || !prof_offcpu)
		return 0;
	/* it waits for a CPU, as if it were woken now */
	t->off_at_ns = now;
	t->wake_at_ns = now;
	t->key.id = t->sum.id;
	t->key.state = PROF_RUNQUEUE;
	t->key.nr = prof_syscall_of(child);
	return 0;
}

/* The thread's stacks now lie in another program: a new record. */
SEC("?tp_btf/sched_process_exec")
int BPF_PROG(prof_exec, struct task_struct *p)
{
	struct prof_task *t = prof_task_of(p);
	u64 now = bpf_ktime_get_ns();

	if (!t && (!prof_command || (u32)p->tgid != prof_root_tgid))
		return 0;
	if (!t) {
		prof_mark(p, now);
		return 0;
	}
	prof_catch_up(p, t, now);
	prof_tell(p, t, now, false);
	return 0;
}

/* --- block I/O: from the request to its end, for whoever made it --- */

SEC("?tp_btf/block_io_start")
int BPF_PROG(prof_io_start, struct request *rq)
{
	struct prof_task *t = prof_task_of(bpf_get_current_task_btf());
	struct prof_io io;
	u64 key = (u64)rq;

	if (!t)
		return 0;
	io = (struct prof_io){ bpf_ktime_get_ns(), rq->__data_len, t->sum.id, 0 };
	if (bpf_map_update_elem(&prof_ios, &key, &io, BPF_ANY))
		__sync_fetch_and_add(&prof_lost.ios, 1);
	return 0;
}

SEC("?tp_btf/block_io_done")
int BPF_PROG(prof_io_done, struct request *rq)
{
	struct prof_io_sum none = {}, *sum;
	u64 key = (u64)rq, ns;
	struct prof_io *io = bpf_map_lookup_elem(&prof_ios, &key);

	if (!io)
		return 0;
	ns = bpf_ktime_get_ns() - io->at_ns;
	sum = bpf_map_lookup_elem(&prof_io_sums, &io->id);
	if (!sum) {
		bpf_map_update_elem(&prof_io_sums, &io->id, &none, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&prof_io_sums, &io->id);
	}
	if (sum) {
		__sync_fetch_and_add(&sum->n, 1);
		__sync_fetch_and_add(&sum->ns, ns);
		__sync_fetch_and_add(&sum->bytes, io->bytes);
		if (ns > sum->max_ns)
			sum->max_ns = ns;
	} else {
		__sync_fetch_and_add(&prof_lost.ios, 1);
	}
	bpf_map_delete_elem(&prof_ios, &key);
	return 0;
}

/* --- all threads of the tree: marks them, or shows what is known of them at the end --- */

SEC("?iter/task")
int prof_threads(struct bpf_iter__task *ctx)
{
	struct task_struct *p = ctx->task, *gamer = bpf_get_current_task_btf();
	u64 now = bpf_ktime_get_ns();
	struct prof_task *t;
	bool wanted;

	if (!p || !p->real_parent)
		return 0;
	prof_level = BPF_CORE_READ(gamer, thread_pid, level);
	t = prof_task_of(p);
	if (prof_walk != PROF_WALK_MARK) {
		if (!t || t->sum.gone)
			return 0;
		/* nothing else changes the record any more: the switch hook is gone */
		if (prof_walk == PROF_WALK_COLLECT && t->off_at_ns)
			prof_in(t, now);
		prof_record(p, t, now);
		bpf_seq_write(ctx->meta->seq, &t->sum, sizeof(t->sum));
		return 0;
	}
	wanted = prof_number(prof_scope == PROF_THREAD ? p : p->group_leader) == prof_root;
	if (wanted)
		prof_root_tgid = p->tgid;
	else if (prof_scope == PROF_TREE)
		wanted = prof_task_of(p->real_parent);
	else if (prof_scope == PROF_SYSTEM)
		wanted = p->tgid != gamer->tgid;
	if (t || prof_command || !wanted)
		return 0;
	t = prof_mark(p, now);
	if (!t)
		return 0;
	prof_marked++;
	if (p->on_cpu || !p->__state || !prof_offcpu)
		return 0;
	/* blocked since before: what for is known, from where is not */
	t->off_at_ns = now;
	t->ran_ns = p->se.sum_exec_runtime;
	t->key.id = t->sum.id;
	t->key.nr = prof_syscall_of(p);
	t->key.state = prof_state_of(p, p->__state);
	if (t->key.state == PROF_STATE_NR)
		t->off_at_ns = 0;
	return 0;
}

/* ===================================================================================== */
/* 9. ops table                                                                          */
/* ===================================================================================== */

SEC(".struct_ops.link")
struct sched_ext_ops gamer_ops = {
	.select_cpu	= (void *)gamer_select_cpu,
	.enqueue	= (void *)gamer_enqueue,
	.dispatch	= (void *)gamer_dispatch,
	.tick		= (void *)gamer_tick,
	.running	= (void *)gamer_running,
	.stopping	= (void *)gamer_stopping,
	.set_weight	= (void *)gamer_set_weight,
	.cgroup_init	= (void *)gamer_cgroup_init,
	.cgroup_move	= (void *)gamer_cgroup_move,
	.cgroup_set_weight = (void *)gamer_cgroup_set_weight,
	.cpu_release	= (void *)gamer_cpu_release,
	.init_task	= (void *)gamer_init_task,
	.exit_task	= (void *)gamer_exit_task,
	.enable		= (void *)gamer_enable,
	.init		= (void *)gamer_init,
	.exit		= (void *)gamer_exit,
	.timeout_ms	= 5000,
	.name		= "gamer",
};

#endif /* __bpf__ */
