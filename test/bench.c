/*
 * gamer-bench [OPTIONS]: how well does a scheduler serve a game? Works under any scheduler, with
 * gamer or without. One binary of its own; `--help` tells the options.
 *
 *   gamer-bench                      a synthetic game beside a load, and its figures
 *   gamer-bench --compare COMMAND    the same work without and with COMMAND, a scheduler
 *   gamer-bench --shape NAME         a machine full of other work, or another kind of game: see shapes
 *   side WORKLOAD [SHARE]            work without a game (a link of that name: gamer takes whoever
 *                                    is called gamer-bench for a game)
 *
 * A shape is a table of rows; a row is tasks that do the same. Rows of one process stand one behind
 * the other. The synthetic game is such a table, too, and the only one with a compositor:
 *
 *   GameThread --futex--> Job 0..N-1 --futex--> GameThread --futex--> RenderThread
 *     (frame limiter)      (fork-join)                                     | futex
 *   compositor process <--shared memory-- "GPU" <--submit-- SubmitThread <-+
 *     (vblank timer; listens where the game connects, as displays do)
 *
 * Next to the frame chain: InputThread (uinput mouse or timer), AudioThread (period timer),
 * NetThread (UDP from a server process) and the processes of the load.
 *
 * Without --shape this process is the game, and forks the others. With it, it only looks on: it
 * executes each process from a folder of its own, by a name and path that nobody knows (a game: see
 * --as). All tasks meet at one barrier, and from then on each only sleeps on its timer, its futex or
 * its file descriptor: nothing spins that is not told to, nothing reads the wall clock. What they did
 * stands in memory that all map at one address. Work is a fixed number of iterations, so CPU time
 * does not depend on who else runs. What fails before the barrier ends the program, and its children.
 *
 *   1. types   2. samples and waiting   3. shapes   4. what tasks do   5. processes and devices
 *   6. what a running gamer says   7. a run   8. figures   9. reports   10. compare
 *   11. side workloads   12. options
 *
 * Start reading at main().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <linux/futex.h>
#include "bpf.h"
#include "../gamer.bpf.c"	/* the ABI: its words for roles, the name by which it knows the game */

typedef uint8_t u8;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;

#define NSEC_PER_USEC	1000ULL
#define NSEC_PER_MSEC	1000000ULL
#define NSEC_PER_SEC	1000000000ULL
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))

/* ==== 1. types ======================================================================= */

#define FPS			60		/* frame limiter and vblank, Hz */
#define FRAME_US		(1000000 / FPS)
#define WARMUP_MS		1000	/* before the measured time */
#define GRACE_MS		300	/* behind it, until its last frames are shown */
#define INPUT_HZ		1000
#define IN_FLIGHT		2	/* frames between limiter and present call */
#define STAMPS			4	/* > IN_FLIGHT: none is overwritten unread */
#define STAGES			3	/* of a frame, behind the first and its jobs */
#define COMPOSITOR_US		600	/* work per vblank */
#define INPUT_US		5	/* work per input event */
#define NET_US			20	/* work per datagram */
#define NET_HZ			100	/* server tick */
#define AUDIO_HZ		48000
#define AUDIO_WORK_PCT		7	/* of a period */
#define PIECE_US		250	/* a task looks at its clocks so often; one operation of a hog */
#define FORK_US			20	/* what a forked child of the load does before it exits */
#define IO_BYTES		16384	/* one operation of the io load */
#define IO_FILE_BYTES		(1U << 20)
#define PIPE_BYTES		64
#define JITTER_NS		(500 * NSEC_PER_USEC)
#define SETUP_NS		(30 * NSEC_PER_SEC)	/* until all tasks are ready */
#define ANSWER_S		5	/* for a running gamer to say what it found, while the machine is busy */
#define ANSWER_NS		(ANSWER_S * NSEC_PER_SEC)
#define ANSWER_SIZE		(256 * 1024)
#define RUN_AT			0x10000000000	/* where every process maps a run; the second one behind it */
#define RUN_SIZE		(1ULL << 36)	/* of what is mapped; memory takes what is used of it */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23	/* since 5.14 */
#endif
#define ROWS			16
#define TASKS			1024
#define SCX			"/sys/kernel/sched_ext/"
#define CGROUPS			"/sys/fs/cgroup/"

/* How gamer may know a shape's game: by its name, not at all, by its environment */
enum as { AS_NAME, AS_STRANGER, AS_ENV, AS_NR };
static const char *const as_names[AS_NR] = { "name", "stranger", "env" };

enum load { LOAD_NONE, LOAD_HOGS, LOAD_FORK, LOAD_PIPE, LOAD_IO, LOAD_MIXED, LOAD_NR };
static const char *const load_names[LOAD_NR] = { "none", "hogs", "fork", "pipe", "io", "mixed" };

/* gamer's roles by its own words */
static const char *const role_names[ROLE_NR] = {
#define X(id, name, ...) #name,
	ROLES(X)
#undef X
};

/* What the caller asks for; 0 means the default where one is named. Set before anything starts. */
static struct cfg {
	u64 seconds;		/* measured time, after WARMUP_MS */
	u64 workers;		/* fork-join job threads; 0: min(cpus - 1, 3), at least 1 */
	u64 audio_frames;	/* per period, at 48 kHz */
	u64 load_threads;	/* 0: 2 x cpus; each is one runnable task (a pipe pair is one) */
	u64 iters_per_ms;	/* 0: calibrate */
	u64 frame_work_us;	/* CPU work of one frame over all threads; 0: 24 % of 1/FPS */
	u64 no_uinput;		/* feed the input thread by a timer */
	u64 no_drm;		/* complete frames by a timer */
	u64 realtime;		/* the game's threads and processes under SCHED_FIFO */
	u64 json;		/* on stdout, instead of text */
	const char *load_name, *svg, *csv, *compare, *shape, *as_name;	/* or NULL */
	u32 as;			/* enum as */
	u32 load;		/* enum load */
} cfg = { .audio_frames = 256 };

/* Real computation on a small working set. Owner: the thread that works. */
struct work {
	u64 x;			/* integer state, never 0 */
	double f;		/* float state, bounded by 4 * 2^32 */
	u64 cell[128];		/* 1 KB, stays in the first-level cache */
};

/* What a running gamer says of a thread; main. */
struct found {
	u32 role;		/* enum role */
	u32 confidence;		/* 0..100 */
	char source[16];	/* its own word */
	u64 role_at_ns;		/* when it got the role, CLOCK_MONOTONIC; 0: never */
	u64 role_wakeups;	/* wakeups until then */
};

/* A counted futex: posts never get lost, each carries the time of its post. */
struct gate {
	_Atomic u32 seq;		/* posts so far, the futex word; poster */
	_Atomic u64 stamp_ns[STAMPS];	/* of post seq % STAMPS; poster */
} __attribute__((aligned(64)));

/* One frame. 0 in a time: has not happened. */
struct frame {
	u64 tick_ns;		/* limiter tick that started it; first stage */
	u64 input_ns;		/* newest input event it used; first stage */
	u64 call_ns;		/* present call, after the GPU submit; last stage */
	_Atomic u64 gpu_done_ns;	/* completion, known in advance; last stage */
	_Atomic u64 shown_ns;	/* composited and committed; compositor */
	_Atomic u32 jitter_ns;	/* largest wakeup latency on its chain; all of the chain */
};

/* What a thread of the desktop game is called, and what a running gamer should find it to be */
struct stage {
	const char *name, *comm;	/* in the report; of the thread, %u: its index */
	u32 truth;			/* enum role; see truth() */
};

enum does { BUSY, TIMER, NAP, FRAMES, WRITE, READ, ANSWER, ASK, FORK, PING, IO, COMPOSE, INPUT, FEED, NET, SERVE };

struct row {
	const char *name;
	enum does does;
	s32 n, per_cpu;		/* tasks: n + per_cpu for each CPU; FRAMES: counted from what follows */
	u32 period_us;		/* TIMER, FRAMES, WRITE: 0: as soon as it can; NAP: sleeps so long */
	u32 work_us;		/* of a period */
	u32 to_us;		/* not 0: between work_us and this */
	u32 fan, fan_us;	/* FRAMES: forked and joined by the first stage */
	u32 stage_us[STAGES];	/* FRAMES: the stages that follow, a thread each */
	u32 offset_us;		/* TIMER, FRAMES: behind the common start */
	int policy, nice;
	u32 weight, parent;	/* of a control group of its own, and of that one's parent; 0: none */
	u32 quota;		/* percent of a CPU; 0: all */
	const struct stage *stages;	/* of the desktop game; FRAMES: first, jobs, those that follow */
	const char *comm;	/* of its process, where that is not the row's name */
	bool game;		/* the game: --as says what gamer knows; --realtime is for it */
	bool subject;		/* no game, but --realtime is for it */
	bool same;		/* in the process of the row before */
	bool apart;		/* a process for each task */
	u32 pin;		/* not 0: task i to CPU pin - 1 + i */
	bool pin0;		/* all to CPU 0 */
	bool gpu;		/* FRAMES: submits, where there is a device */
	bool spin;		/* FRAMES: waits by sched_yield() */
	bool clock;		/* works until that time has passed, not that many iterations */
	bool late;		/* starts when the measured time does */
};

/* Owner: the task, if not said otherwise. */
struct task {
	u32 row;		/* main */
	u32 index;		/* within the row; main */
	u32 *wake_ns;		/* wakeup latencies, ns, in order; room for cap */
	u32 count;		/* of wake_ns */
	u32 cap;		/* main */
	u32 tid;		/* Linux thread */
	bool first;		/* it has seen the start of the measured time */
	u64 cpu_ns[2];		/* CPU time when it first saw that start, and last before the end */
	u64 woke_ns;		/* its first wakeup, CLOCK_MONOTONIC; 0: none yet */
	u64 event_ns;		/* the first event that tells its role at once; 0: none yet */
	_Atomic u32 state;	/* ANSWER: WAITING or WOKEN, futex */
	u64 asked_ns;		/* ANSWER: by whoever asked */
	u64 done;		/* pieces of work that ended in the measured time */
	struct found found;	/* main */
	struct work work;
} __attribute__((aligned(64)));

/* A row, and its tasks */
struct group {
	struct row row;		/* main */
	struct task *task;	/* [n]; main */
	u32 n;			/* main */
	int fd[2];		/* pipe that this row and the next one share; main */
	pid_t pid;		/* of its process; main */
	struct gpu gpu;		/* FRAMES; that process */
	struct gate jobs, joined, retired, stage[STAGES];
	_Atomic u32 jobs_left;
	struct frame *frame;	/* [frame_cap]: frame f is at f % frame_cap; main */
	u32 frame_cap;		/* main */
	_Atomic u32 called;	/* frames whose present call has been made; last stage */
	u64 judged, late;	/* TIMER: periods in the measured time, and of these the late ones */
	u64 overruns;		/* TIMER: of these, those that ended after the next one's start */
	struct { _Atomic u32 word; } __attribute__((aligned(64))) asked[2];	/* ASK */
};

/* One run. Shared by all that take part in it. */
static struct run {
	struct cfg cfg;				/* main */
	pid_t group_pid;			/* process group of all children; main */
	u32 cpus, groups, tasks;		/* main */
	int uinput, evdev, net, net_server;	/* descriptors or -1; main */
	bool net_udp;				/* false: no loopback, a socket pair instead; main */
	bool interrupted;			/* main */
	char sched[64];				/* who schedules; main */
	u64 used;				/* bytes of the mapping; main */
	pid_t display;				/* number of the compositor's socket; main */

	/* start barrier; main, except ready */
	_Atomic u32 ready;		/* tasks at the barrier, futex; everybody */
	_Atomic u32 go;			/* futex */
	u64 epoch_ns, t0_ns;		/* vblank 0; start of the measured interval */
	_Atomic u64 t1_ns;		/* its end; pulled in by a signal */

	bool answered;			/* a running gamer said what it found; main */
	bool known;			/* and a game of ours is the one that it knows; main */
	u32 outside[ROLE_NR];		/* threads it named that are not ours, by role; main */

	_Atomic u64 newest_input_ns;	/* input */
	struct group group[ROWS];
	struct task task[TASKS];
} *run;

static struct run *runs[2];		/* all runs of this program, in order; main */
static u32 runs_nr;
static int run_fd[2];			/* the memory of each; main */
static sigset_t signals;		/* that end a run early; blocked, and waited for */

/* ==== 2. samples and waiting ========================================================= */

/* Says in one line why nothing more is done, and ends; children end with their parent. */
__attribute__((format(printf, 2, 3), noreturn))
static void fatal(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("gamer-bench: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	exit(code);
}

/* A child with a name of its own, which ends with its parent, however that ends; 0: this is it. */
static pid_t fork_as(const char *comm)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		fatal(EX_OSERR, "cannot fork %s: %s", comm, strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		prctl(PR_SET_NAME, comm);
	}
	return pid;
}

static long futex(_Atomic u32 *word, int op, u32 val, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op, val, timeout, NULL, 0);
}

static struct timespec timespec(u64 ns)
{
	return (struct timespec){ .tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC };
}

/* The calling thread's; musl's sched_setscheduler() only says that it is not there. */
static bool policy(int policy)
{
	const struct sched_param param = { .sched_priority = policy == SCHED_FIFO };

	return !syscall(SYS_sched_setscheduler, 0, policy, &param);
}

/* Has a signal asked to stop? It stays pending, for main_wait(). */
static bool stop_asked(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) || sigismember(&pending, SIGHUP);
}

/* Everybody counts itself ready, then waits for go. */
static void barrier(void)
{
	atomic_fetch_add(&run->ready, 1);
	futex(&run->ready, FUTEX_WAKE, 1, NULL);
	while (!atomic_load(&run->go))
		futex(&run->go, FUTEX_WAIT, 0, NULL);
}

static bool measured(u64 ns)
{
	return ns >= run->t0_ns && ns < atomic_load(&run->t1_ns);
}

static void raise_jitter(struct frame *frame, u32 late_ns)
{
	u32 seen = atomic_load(&frame->jitter_ns);

	while (seen < late_ns && !atomic_compare_exchange_weak(&frame->jitter_ns, &seen, late_ns))
		;
}

/*
 * Counts one wakeup that was due at due_ns and is running since woke_ns; a wakeup
 * belongs to the interval in which it was due. frame: whose chain it is on, or NULL.
 */
static void woke(struct task *k, u64 due_ns, u64 woke_ns, struct frame *frame)
{
	u32 late_ns = woke_ns > due_ns ? MIN(woke_ns - due_ns, (u64)UINT32_MAX) : 0;

	if (!k->woke_ns)
		k->woke_ns = woke_ns;
	if (measured(due_ns) && k->count < k->cap)
		k->wake_ns[k->count++] = late_ns;
	if (frame)
		raise_jitter(frame, late_ns);
}

/*
 * Sleeps until due_ns and returns the time. Whoever comes too late doesn't sleep, and what
 * doesn't sleep isn't woken: that is a late thread's overrun, not a wakeup latency.
 */
static u64 sleep_until(struct task *k, u64 due_ns, struct frame *frame)
{
	struct timespec ts = timespec(due_ns);
	u64 now = now_ns();

	if (now >= due_ns)
		return now;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
	/* the clock that is read without a system call may lag the timer's by some ns */
	now = MAX(now_ns(), due_ns);
	if (k)
		woke(k, due_ns, now, frame);
	return now;
}

/* The return of a call that tells the thread's role at once: a submit, input, a datagram */
static void note_event(struct task *k, u64 at_ns)
{
	if (!k->event_ns)
		k->event_ns = at_ns;
}

/* The first point of the grid start + k * step that is still to come */
static u64 next_tick(u64 start_ns, u64 step_ns)
{
	u64 now = now_ns();

	return now <= start_ns ? start_ns : start_ns + ((now - start_ns) / step_ns + 1) * step_ns;
}

static void gate_post(struct gate *g)
{
	u32 seq = atomic_load(&g->seq) + 1;

	atomic_store(&g->stamp_ns[seq % STAMPS], now_ns());
	atomic_store(&g->seq, seq);
	futex(&g->seq, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}

/* Waits for post number `want`. Who finds it done has not slept, and is not counted. */
static void gate_wait(struct task *k, struct gate *g, u32 want, struct frame *frame)
{
	bool slept = false;
	u32 seq;

	while ((s32)((seq = atomic_load(&g->seq)) - want) < 0)
		slept = !futex(&g->seq, FUTEX_WAIT_PRIVATE, seq, NULL);
	if (slept)
		woke(k, atomic_load(&g->stamp_ns[want % STAMPS]), now_ns(), frame);
}

static void work(struct work *w, u64 iters)
{
	u64 x = w->x;
	double f = w->f;

	while (iters--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		f = f * 0.75 + (double)(u32)x;
		w->cell[x % ARRAY_SIZE(w->cell)] += x + (u64)(s64)f;
	}
	w->x = x;
	w->f = f;
}

static void work_us(struct work *w, u64 us)
{
	work(w, cfg.iters_per_ms * us / 1000);
}

static int cmp_u32(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return (x > y) - (x < y);
}

/*
 * Iterations per millisecond: the median of short runs, in CPU time so that other
 * tasks don't count. The first runs only bring the CPU to speed.
 */
static u64 calibrate(void)
{
	enum { RUNS = 41, SKIP = 20, ITERS = 400000 };
	struct work w = { .x = 1 };
	u32 took_ns[RUNS];

	for (int i = 0; i < RUNS; i++) {
		u64 from_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

		work(&w, ITERS);
		took_ns[i] = MAX(clock_ns(CLOCK_THREAD_CPUTIME_ID) - from_ns, 1ULL);
	}
	qsort(took_ns + SKIP, RUNS - SKIP, sizeof(*took_ns), cmp_u32);
	if (w.f < 0)	/* never; but the compiler may not drop the work */
		return 0;
	return MAX(ITERS * NSEC_PER_MSEC / took_ns[SKIP + (RUNS - SKIP) / 2], 1);
}

/* The same sequence in each run; between low and high */
static u64 dice(u32 n, u64 low, u64 high)
{
	n = (n + 1) * 2654435761U;
	n ^= n >> 15;
	n *= 2246822519U;
	return low + (u64)(n >> 8) * (high - low) / (1U << 24);
}

/* ==== 3. shapes ====================================================================== */

struct shape {
	const char *name;
	u32 cpus;		/* all of it on so many; 0: the machine */
	bool alone;		/* no load beside it */
	enum load load;		/* beside it, and no other; LOAD_NONE: what shape_choose() says */
	struct row row[8];
};

/* The desktop game. Its first row's stages have these percents of a frame's work; the workers share the jobs'. */
enum { SIM_PCT = 25, JOBS_PCT = 40, RENDER_PCT = 25, SUBMIT_PCT = 10 };
static const struct stage game_stages[] = {
	{ "sim", "GameThread", ROLE_RENDER }, { "worker", "Job %u", ROLE_WORKER },
	{ "render", "RenderThread", ROLE_RENDER }, { "submit", "SubmitThread", ROLE_GPU },
}, input_stage = { "input", "InputThread", ROLE_INPUT }, audio_stage = { "audio", "AudioThread", ROLE_AUDIO },
  network_stage = { "network", "NetThread", ROLE_NETWORK },
  compositor_stage = { "compositor", "compositor", ROLE_COMPOSITOR };

/* The limiter's grid lies 1/16 period behind the vblanks, as where a compositor that is done calls a game back. */
#define DESKTOP(name, what)							\
	{ name, .load = what, .row = {						\
		{ "game", FRAMES, .period_us = FRAME_US, .offset_us = FRAME_US / 16, .gpu = true, .game = true,	\
		  .stages = game_stages },					\
		{ "input", INPUT, .n = 1, .period_us = 1000000 / INPUT_HZ, .work_us = INPUT_US, .game = true,	\
		  .same = true, .stages = &input_stage },			\
		{ "audio", TIMER, .n = 1, .game = true, .same = true, .stages = &audio_stage },			\
		{ "network", NET, .n = 1, .period_us = 1000000 / NET_HZ, .work_us = NET_US, .game = true,	\
		  .same = true, .stages = &network_stage },			\
		{ "compositor", COMPOSE, .n = 1, .period_us = FRAME_US, .work_us = COMPOSITOR_US,		\
		  .subject = true, .stages = &compositor_stage },		\
		{ "server", SERVE, .n = 1, .period_us = 1000000 / NET_HZ, .subject = true,	\
		  .comm = "game-server" },					\
		{ "feeder", FEED, .n = 1, .period_us = 1000000 / INPUT_HZ, .subject = true,	\
		  .comm = "mouse-feeder" } } }
#define GAME60									\
	{ "game", FRAMES, .period_us = FRAME_US, .work_us = 2000, .stage_us = { 1500, 500 }, .gpu = true, .game = true }
#define HOSTILE(name, others...)						\
	{ name, .alone = true, .row = {						\
		{ "crowd", NAP, .period_us = 100, others },			\
		{ "others", BUSY, .n = 4 } } },					\
	{ "game-" name, .alone = true, .row = {					\
		GAME60, { "crowd", NAP, .period_us = 100, others } } }

static const struct shape shapes[] = {
	DESKTOP("desktop", LOAD_NONE),	/* the first: what there is without --shape */
	DESKTOP("desktop-fork", LOAD_FORK), DESKTOP("desktop-pipe", LOAD_PIPE), DESKTOP("desktop-io", LOAD_IO),
	DESKTOP("desktop-mixed", LOAD_MIXED),
	{ "onethread", .row = {
		{ "game", FRAMES, .period_us = FRAME_US, .work_us = 12000, .gpu = true, .game = true } } },
	{ "uncapped", .row = { { "game", FRAMES, .work_us = 6000, .stage_us = { 4200 }, .game = true } } },
	{ "uncapped-gpu", .row = {
		{ "game", FRAMES, .work_us = 6000, .stage_us = { 4200 }, .gpu = true, .game = true } } },
	{ "spin", .row = { { "game", FRAMES, .period_us = FRAME_US, .work_us = 4000, .stage_us = { 3000, 2000 },
			     .spin = true, .gpu = true, .game = true } } },
	{ "forkjoin", .row = { { "game", FRAMES, .period_us = 2000, .work_us = 100, .fan = 3, .fan_us = 300,
				 .game = true } } },
	{ "jobs", .alone = true, .row = {
		{ "game", FRAMES, .period_us = FRAME_US, .work_us = 500, .fan = 4, .fan_us = 8000, .gpu = true, .game = true },
		{ "sound", TIMER, .n = 1, .period_us = 5000, .work_us = 300, .game = true, .same = true },
		{ "others", BUSY, .per_cpu = 2 } } },
	{ "stages", .alone = true, .row = {
		{ "game", FRAMES, .period_us = FRAME_US, .work_us = 2000, .fan = 3, .fan_us = 3000, .stage_us = { 4000 },
		  .gpu = true, .game = true },
		{ "crowd", NAP, .n = 8, .period_us = 100, .work_us = 1800 } } },
	{ "ownthreads", .alone = true, .row = {
		GAME60, { "shaders", BUSY, .n = 4, .game = true, .same = true }, { "others", BUSY, .n = 4 } } },
	{ "twogames", .row = { GAME60, { "second", FRAMES, .period_us = FRAME_US, .work_us = 2000,
					 .stage_us = { 1500, 500 }, .gpu = true, .game = true } } },
	{ "loading", .alone = true, .row = {
		{ "game", BUSY, .per_cpu = 2, .game = true },
		{ "interactive", TIMER, .n = 1, .period_us = 10000, .work_us = 1000 } } },
	{ "crowd", .alone = true, .row = {
		GAME60, { "browser", NAP, .n = 20, .period_us = 40000, .work_us = 5000, .to_us = 20000 } } },
	{ "interactive1", .row = { { "task", TIMER, .n = 1, .period_us = 10000, .work_us = 1000, .subject = true } } },
	{ "interactive5", .row = { { "task", NAP, .n = 1, .period_us = 50000, .work_us = 5000, .subject = true } } },
	{ "interactive12", .row = { { "task", NAP, .n = 1, .period_us = 60000, .work_us = 12000, .subject = true } } },
	{ "relay1", .row = { { "writer", WRITE, .n = 1, .period_us = 10000, .work_us = 50 },
			     { "reader", READ, .n = 1, .work_us = 1000, .subject = true } } },
	{ "relay5", .row = { { "writer", WRITE, .n = 1, .period_us = 50000, .work_us = 50 },
			     { "reader", READ, .n = 1, .work_us = 5000, .subject = true } } },
	{ "relay-go", .row = { { "writer", WRITE, .n = 1, .work_us = 5000 },
			       { "reader", READ, .n = 1, .work_us = 50, .subject = true } } },
	{ "frames1", .alone = true, .row = {
		{ "frames", TIMER, .n = 4, .period_us = FRAME_US, .work_us = 1000, .game = true },
		{ "hogs", BUSY, .per_cpu = 1, .pin = 1 } } },
	{ "frames1-2n", .alone = true, .row = {
		{ "frames", TIMER, .n = 4, .period_us = FRAME_US, .work_us = 1000, .game = true },
		{ "hogs", BUSY, .per_cpu = 2, .pin = 1 } } },
	{ "frames4", .alone = true, .row = {
		{ "frames", TIMER, .n = 4, .period_us = FRAME_US, .work_us = 4000, .game = true },
		{ "hogs", BUSY, .per_cpu = 1, .pin = 1 } } },
	{ "frames4-2n", .alone = true, .row = {
		{ "frames", TIMER, .n = 4, .period_us = FRAME_US, .work_us = 4000, .game = true },
		{ "hogs", BUSY, .per_cpu = 2, .pin = 1 } } },
	{ "requests", .alone = true, .row = {
		{ "workers", ANSWER, .per_cpu = 2, .work_us = 100, .to_us = 300, .subject = true },
		{ "messengers", ASK, .n = 2, .subject = true, .same = true } } },
	{ "forks", .alone = true, .row = { { "tasks", FORK, .per_cpu = 2 } } },
	{ "pipes", .alone = true, .row = { { "tasks", PING, .per_cpu = 2 } } },
	{ "fifo-audio", .row = { { "driver", WRITE, .n = 1, .period_us = 5000, .work_us = 20, .policy = SCHED_FIFO },
				 { "audio", READ, .n = 1, .work_us = 1000, .subject = true } } },
	{ "rt-share", .alone = true, .row = {
		{ "rt", TIMER, .n = 1, .period_us = 4000, .work_us = 2000, .clock = true, .policy = SCHED_FIFO,
		  .pin0 = true },
		{ "hogs", BUSY, .per_cpu = 1, .n = -1, .pin = 2 },
		{ "waker", TIMER, .n = 1, .period_us = 4000, .offset_us = 100, .work_us = 100 } } },
	{ "nice19", .cpus = 2, .alone = true, .row = {
		{ "nice0", BUSY, .n = 2 }, { "nice19", BUSY, .n = 2, .nice = 19 } } },
	{ "nices", .alone = true, .row = {
		{ "nice-5", BUSY, .n = 4, .nice = -5 }, { "nice0", BUSY, .n = 4 },
		{ "nice5", BUSY, .n = 4, .nice = 5 }, { "nice19", BUSY, .n = 4, .nice = 19 } } },
	{ "idle4", .alone = true, .row = {
		{ "normal", BUSY, .n = 4 }, { "idle", BUSY, .n = 4, .policy = SCHED_IDLE } } },
	{ "idlenap", .cpus = 2, .alone = true, .row = {
		{ "normal", BUSY, .n = 2 },
		{ "idle", NAP, .n = 2, .period_us = 50, .work_us = 1900, .policy = SCHED_IDLE } } },
	{ "batch", .alone = true, .row = {
		{ "normal", BUSY, .n = 4 }, { "batch", BUSY, .n = 4, .policy = SCHED_BATCH } } },
	{ "cgroups", .alone = true, .row = {
		{ "w100", BUSY, .n = 4, .weight = 100 }, { "w1000", BUSY, .n = 4, .weight = 1000 } } },
	{ "nested", .alone = true, .row = {
		{ "p100", BUSY, .n = 4, .weight = 100, .parent = 100 },
		{ "p300", BUSY, .n = 4, .weight = 100, .parent = 300 } } },
	{ "quota", .alone = true, .row = { { "limited", BUSY, .n = 2, .weight = 100, .quota = 20 } } },
	{ "pinned", .alone = true, .row = {
		{ "pinned", BUSY, .n = 2, .pin0 = true }, { "free", BUSY, .n = 4 } } },
	HOSTILE("crowd50", .n = 50, .work_us = 400),
	HOSTILE("timers8", .n = 8, .work_us = 1800),
	HOSTILE("timers8-19", .n = 8, .work_us = 1800, .nice = 19),
	HOSTILE("timers8-idle", .n = 8, .work_us = 1800, .policy = SCHED_IDLE),
	{ "latestart", .row = { { "game", FRAMES, .period_us = FRAME_US, .work_us = 7000, .game = true,
				  .late = true } } },
};

/* Beside a shape that is not alone: threads of one process */
static const struct row load_row = { "load", BUSY };

/* Beside the desktop game: a process for each task, or two that are never runnable at once */
static const struct row load_rows[LOAD_MIXED] = {
	[LOAD_HOGS] = { "hogs", BUSY, .apart = true, .comm = "load-hog" },
	[LOAD_FORK] = { "fork", FORK, .work_us = FORK_US, .apart = true, .comm = "load-fork" },
	[LOAD_PIPE] = { "pipe", PING, .apart = true, .comm = "load-pipe" },
	[LOAD_IO] = { "io", IO, .apart = true, .comm = "load-io" },
};

static const struct shape *shape;	/* main */
static bool own;			/* without --shape: this process is the game; main */

/* ==== 4. what tasks do ================================================================ */

enum { WAITING, WOKEN };

/* Notes the task's CPU time, as long as that is measured. */
static void task_look(struct task *k)
{
	if (!measured(now_ns()))
		return;
	k->cpu_ns[k->first] = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (!k->first)
		k->cpu_ns[1] = k->cpu_ns[0];
	k->first = true;
}

static void task_work(struct task *k, u64 us)
{
	for (; us > PIECE_US; us -= PIECE_US) {
		work_us(&k->work, PIECE_US);
		task_look(k);
	}
	work_us(&k->work, us);
	task_look(k);
}

/* One period's work of that row */
static void row_work(struct task *k, const struct row *r, u32 n)
{
	u64 end_ns = now_ns() + r->work_us * NSEC_PER_USEC;

	if (!r->clock)
		task_work(k, r->to_us ? dice(n * 64 + k->index, r->work_us, r->to_us) : r->work_us);
	while (r->clock && now_ns() < end_ns)
		work_us(&k->work, 10);
	task_look(k);
}

static void task_busy(struct group *g, struct task *k)
{
	(void)g;
	for (;;) {
		task_work(k, PIECE_US);
		k->done += measured(now_ns());
	}
}

/*
 * Tasks of a row share the period evenly, so that they do not all wake at once. What ends after the next
 * period's start is an overrun: a sound device, which plays one period of its buffer while the thread fills
 * the next one, has none left, and the stream starts anew.
 */
static void task_timer(struct group *g, struct task *k)
{
	u64 period_ns = g->row.period_us * NSEC_PER_USEC, woke_ns;
	u64 due_ns = run->epoch_ns + g->row.offset_us * NSEC_PER_USEC + period_ns * k->index / g->n;

	for (u32 n = 0;; n++) {
		bool overrun;

		due_ns = next_tick(due_ns, period_ns);
		woke_ns = sleep_until(k, due_ns, NULL);
		row_work(k, &g->row, n);
		if (!measured(due_ns))
			continue;
		overrun = now_ns() > due_ns + period_ns;
		__atomic_fetch_add(&g->judged, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&g->late, woke_ns > due_ns + JITTER_NS || overrun, __ATOMIC_RELAXED);
		__atomic_fetch_add(&g->overruns, overrun, __ATOMIC_RELAXED);
	}
}

static void task_nap(struct group *g, struct task *k)
{
	for (u32 n = 0;; n++) {
		sleep_until(k, now_ns() + g->row.period_us * NSEC_PER_USEC, NULL);
		row_work(k, &g->row, n);
	}
}

static struct frame *frame_of(struct group *g, u32 f)
{
	return &g->frame[f % g->frame_cap];
}

/* Waits for a post, asleep or by yielding. */
static void frames_wait(struct group *g, struct task *k, struct gate *gate, u32 want, u32 f)
{
	if (!g->row.spin)
		gate_wait(k, gate, want, frame_of(g, f));
	while (g->row.spin && (s32)(atomic_load(&gate->seq) - want) < 0)
		sched_yield();
}

/* The desktop game's frames differ by up to 25 %, by a hash of their number: the same in each run. */
static void frames_work(struct group *g, struct task *k, u64 us, u32 f)
{
	u32 hash = (f + 1) * 2654435761U;

	hash ^= hash >> 15;
	task_work(k, g->row.stages ? us * (768 + hash % 513) / 1024 : us);
}

/* The last stage submits. The GPU needs a quarter of a period per frame, one frame after the other. */
static void frames_end(struct group *g, struct task *k, u32 f)
{
	struct frame *frame = frame_of(g, f);
	u64 before_ns = f ? atomic_load(&frame_of(g, f - 1)->gpu_done_ns) : 0;

	gpu_submit(&g->gpu);
	frame->call_ns = now_ns();
	if (g->gpu.fd >= 0)
		note_event(k, frame->call_ns);
	atomic_store(&frame->gpu_done_ns, MAX(before_ns, frame->call_ns) + g->row.period_us * NSEC_PER_USEC / 4);
	atomic_store(&g->called, f + 1);
	gate_post(&g->retired);
}

/* A frame that overruns its period makes the next one start at the next tick. At most IN_FLIGHT are under way. */
static void frames_first(struct group *g, struct task *k)
{
	u64 period_ns = g->row.period_us * NSEC_PER_USEC, tick_ns = run->epoch_ns + g->row.offset_us * NSEC_PER_USEC;

	for (u32 f = 0;; f++) {
		struct frame *frame = frame_of(g, f);

		tick_ns = period_ns ? next_tick(tick_ns, period_ns) : now_ns();
		*frame = (struct frame){ .tick_ns = tick_ns };
		while (g->row.spin && now_ns() < tick_ns)
			sched_yield();
		if (period_ns && !g->row.spin)
			sleep_until(k, tick_ns, frame);
		if (f >= IN_FLIGHT)
			frames_wait(g, k, &g->retired, f - IN_FLIGHT + 1, f);
		frame->input_ns = atomic_load(&run->newest_input_ns);
		frames_work(g, k, g->row.work_us, f);
		if (g->row.fan) {
			atomic_store(&g->jobs_left, g->row.fan);
			gate_post(&g->jobs);
			frames_wait(g, k, &g->joined, f + 1, f);
		}
		if (g->row.stage_us[0])
			gate_post(&g->stage[0]);
		else
			frames_end(g, k, f);
	}
}

/* Task 0 is the first stage; then come the jobs, then the other stages. */
static void task_frames(struct group *g, struct task *k)
{
	u32 s = k->index - 1 - g->row.fan;
	int display = -1;

	if (!k->index)
		frames_first(g, k);
	for (u32 f = 0; k->index <= g->row.fan; f++) {
		frames_wait(g, k, &g->jobs, f + 1, f);
		frames_work(g, k, g->row.fan_us, f);
		if (atomic_fetch_sub(&g->jobs_left, 1) == 1)
			gate_post(&g->joined);
	}
	for (u32 f = 0;; f++) {
		frames_wait(g, k, &g->stage[s], f + 1, f);
		frames_work(g, k, g->row.stage_us[s], f);
		if (s + 1 < STAGES && g->row.stage_us[s + 1]) {
			gate_post(&g->stage[s + 1]);
			continue;
		}
		if (g->row.stages && display < 0) {
			display = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
			display_socket(display, run->display, connect);
		}
		frames_end(g, k, f);
	}
}

/* At each vblank: latch the newest finished frame of the first row, composite it, commit it. */
static void task_compose(struct group *g, struct task *k)
{
	struct group *game = run->group;
	u64 period_ns = g->row.period_us * NSEC_PER_USEC, vblank_ns = run->epoch_ns, now;
	s64 f, shown = -1;

	for (;; vblank_ns += period_ns) {
		vblank_ns = next_tick(vblank_ns, period_ns);
		now = sleep_until(k, vblank_ns, NULL);
		for (f = (s64)atomic_load(&game->called) - 1; f > shown; f--)
			if (atomic_load(&frame_of(game, f)->gpu_done_ns) <= now)
				break;
		task_work(k, g->row.work_us);
		if (f <= shown)
			continue;
		raise_jitter(frame_of(game, f), MIN(now - vblank_ns, (u64)UINT32_MAX));
		atomic_store(&frame_of(game, f)->shown_ns, now_ns());
		shown = f;
	}
}

/* Handles `events` input events, the newest from newest_ns. */
static void input_events(struct group *g, struct task *k, u64 events, u64 newest_ns)
{
	atomic_store(&run->newest_input_ns, newest_ns);
	task_work(k, g->row.work_us * MIN(events, 64ULL));
}

static void input_evdev(struct group *g, struct task *k)
{
	struct pollfd pfd = { .fd = run->evdev, .events = POLLIN };
	struct input_event ev[64];

	for (;;) {
		u64 before_ns = now_ns(), first_ns = 0, newest_ns = 0, events = 0, woke_ns;
		int ready = poll(&pfd, 1, -1);
		ssize_t n;

		woke_ns = now_ns();
		n = ready > 0 ? read(run->evdev, ev, sizeof(ev)) : 0;
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(*ev); i++) {
			if (ev[i].type != EV_SYN)
				continue;
			newest_ns = ev[i].input_event_sec * NSEC_PER_SEC +
				    ev[i].input_event_usec * NSEC_PER_USEC;
			first_ns = first_ns ? first_ns : newest_ns;
			events++;
		}
		if (n < 0 && errno != EAGAIN)
			return;
		if (!events)
			continue;
		note_event(k, woke_ns);
		/* the kernel's stamp has microseconds: it may lie up to 1 us too early */
		if (first_ns + NSEC_PER_USEC > before_ns)
			woke(k, first_ns, woke_ns, NULL);
		input_events(g, k, events, newest_ns);
	}
}

/* Without a device a timer does: a late thread finds several events, as read() would. */
static void task_input(struct group *g, struct task *k)
{
	u64 due_ns = run->epoch_ns, step_ns = g->row.period_us * NSEC_PER_USEC;

	if (run->evdev >= 0)
		input_evdev(g, k);
	for (;; due_ns += step_ns) {
		u64 behind = (sleep_until(k, due_ns, NULL) - due_ns) / step_ns;

		due_ns += behind * step_ns;
		input_events(g, k, behind + 1, due_ns);
	}
}

/* The mouse's hardware. It is an ordinary task: when it is late, so are its reports. */
static void task_feed(struct group *g, struct task *k)
{
	struct input_event ev[2] = { { .type = EV_REL, .code = REL_X, .value = 1 },
				     { .type = EV_SYN, .code = SYN_REPORT } };
	u64 due_ns = run->epoch_ns;

	while (run->uinput >= 0 && write(run->uinput, ev, sizeof(ev)) >= 0) {
		due_ns = next_tick(due_ns, g->row.period_us * NSEC_PER_USEC);
		sleep_until(k, due_ns, NULL);
		ev[0].value = -ev[0].value;
	}
	for (;;)
		pause();
}

/* A server's snapshot; the answer is the same bytes back. */
struct datagram {
	u64 sent_ns;		/* just before send */
	u8 state[120];
};

static void task_net(struct group *g, struct task *k)
{
	struct datagram d;

	for (;;) {
		u64 before_ns = now_ns(), woke_ns;

		if (recv(run->net, &d, sizeof(d), 0) != sizeof(d))
			continue;
		woke_ns = now_ns();
		note_event(k, woke_ns);
		if (d.sent_ns > before_ns)
			woke(k, d.sent_ns, woke_ns, NULL);
		task_work(k, g->row.work_us);
		send(run->net, &d, sizeof(d), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static void task_serve(struct group *g, struct task *k)
{
	struct datagram d = { 0 }, answer;
	u64 due_ns = run->epoch_ns;

	for (;;) {
		due_ns = next_tick(due_ns, g->row.period_us * NSEC_PER_USEC);
		sleep_until(k, due_ns, NULL);
		while (recv(run->net_server, &answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
		d.sent_ns = now_ns();
		send(run->net_server, &d, sizeof(d), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* Who is not read in time loses what it writes. */
static void task_write(struct group *g, struct task *k)
{
	u64 due_ns = run->epoch_ns, period_ns = g->row.period_us * NSEC_PER_USEC, now;

	fcntl(g->fd[1], F_SETFL, O_NONBLOCK);
	for (;;) {
		if (period_ns) {
			due_ns = next_tick(due_ns, period_ns);
			sleep_until(k, due_ns, NULL);
		}
		row_work(k, &g->row, 0);
		now = now_ns();
		if (write(g->fd[1], &now, sizeof(now)) < 0 && errno != EAGAIN)
			return;
	}
}

static void task_read(struct group *g, struct task *k)
{
	u64 sent_ns, before_ns;

	for (;;) {
		before_ns = now_ns();
		if (read(g[-1].fd[0], &sent_ns, sizeof(sent_ns)) != sizeof(sent_ns))
			return;
		if (sent_ns > before_ns)
			woke(k, sent_ns, now_ns(), NULL);
		row_work(k, &g->row, 0);
		k->done += measured(now_ns());
	}
}

/* Asks to be woken, waits for it, does a request's work; the next row's tasks wake. */
static void task_answer(struct group *g, struct task *k)
{
	_Atomic u32 *asked = &g[1].asked[k->index % g[1].n].word;

	for (u32 n = 0;; n++) {
		atomic_store(&k->state, WAITING);
		atomic_fetch_add(asked, 1);
		futex(asked, FUTEX_WAKE_PRIVATE, 1, NULL);
		while (atomic_load(&k->state) == WAITING)
			futex(&k->state, FUTEX_WAIT_PRIVATE, WAITING, NULL);
		woke(k, k->asked_ns, now_ns(), NULL);
		row_work(k, &g->row, n);
		k->done += measured(now_ns());
	}
}

static void task_ask(struct group *g, struct task *k)
{
	_Atomic u32 *asked = &g->asked[k->index].word;
	u32 seen = 0, now;

	for (;;) {
		while ((now = atomic_load(asked)) == seen)
			futex(asked, FUTEX_WAIT_PRIVATE, seen, NULL);
		seen = now;
		for (u32 i = k->index; i < g[-1].n; i += g->n) {
			struct task *worker = &g[-1].task[i];

			if (atomic_load(&worker->state) != WAITING)
				continue;
			worker->asked_ns = now_ns();
			atomic_store(&worker->state, WOKEN);
			futex(&worker->state, FUTEX_WAKE_PRIVATE, 1, NULL);
		}
		task_look(k);
	}
}

/* Forks, and waits for the child, which works a little, or ends at once. */
static void task_fork(struct group *g, struct task *k)
{
	pid_t pid;

	while ((pid = fork()) > 0 && waitpid(pid, NULL, 0) == pid) {
		k->done += measured(now_ns());
		task_look(k);
	}
	if (!pid)
		work_us(&k->work, g->row.work_us);
	_exit(pid ? EX_OSERR : 0);
}

/* Sends a message to a process of its own, which sends it back. */
static void task_ping(struct group *g, struct task *k)
{
	int to[2], from[2];
	char buf[PIPE_BYTES] = "";
	const ssize_t n = g->row.apart ? sizeof(buf) : 1;
	pid_t pid;

	if (pipe(to) || pipe(from))
		fatal(EX_OSERR, "no pipe: %s", strerror(errno));
	pid = fork_as(g->row.comm ?: g->row.name);
	close(to[!pid]);	/* or who waits for the other would never see that it ended */
	close(from[!!pid]);
	while (!pid && read(to[0], buf, n) == n && write(from[1], buf, n) == n)
		;
	while (pid && write(to[1], buf, n) == n && read(from[0], buf, n) == n) {
		k->done += measured(now_ns());
		task_look(k);
	}
	_exit(EX_OSERR);
}

/* The file has no name: on disk if possible, in memory where nothing is writable. */
static void task_io(struct group *g, struct task *k)
{
	const char *const dirs[] = { getenv("TMPDIR") ?: "", "/var/tmp", "/tmp", "." };
	static char buf[IO_BYTES];
	int fd = -1;

	(void)g;
	for (u32 i = 0; i < ARRAY_SIZE(dirs) && fd < 0; i++)
		fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = memfd_create("gamer-bench", MFD_CLOEXEC);
	for (off_t at = 0; ; at = (at + sizeof(buf)) % IO_FILE_BYTES) {
		buf[0]++;
		if (pwrite(fd, buf, sizeof(buf), at) != sizeof(buf) || fsync(fd) ||
		    pread(fd, buf, sizeof(buf), at) != sizeof(buf))
			fatal(EX_OSERR, "io load: %s", strerror(errno));
		k->done += measured(now_ns());
		task_look(k);
	}
}

static void (*const tasks[])(struct group *, struct task *) = {
	[BUSY] = task_busy, [TIMER] = task_timer, [NAP] = task_nap, [FRAMES] = task_frames,
	[WRITE] = task_write, [READ] = task_read, [ANSWER] = task_answer, [ASK] = task_ask,
	[FORK] = task_fork, [PING] = task_ping, [IO] = task_io, [COMPOSE] = task_compose,
	[INPUT] = task_input, [FEED] = task_feed, [NET] = task_net, [SERVE] = task_serve,
};

/* ==== 5. processes and devices ====================================================== */

/*
 * A virtual mouse, grabbed so that no pointer moves on the user's screen. Its event node has
 * the number that /sys/devices/virtual/input/inputN/eventM tells.
 */
static void uinput_open(void)
{
	int clock = CLOCK_MONOTONIC, fd = mouse_make("gamer bench mouse"), evdev = -1;
	char sys[64] = "", path[128];

	if (fd < 0 || ioctl(fd, UI_GET_SYSNAME(sizeof(sys) - 1), sys) < 0)
		return;
	for (u32 i = 0; i < 2048 && evdev < 0; i++) {
		snprintf(path, sizeof(path), "/sys/devices/virtual/input/%s/event%u", sys, i);
		if (access(path, F_OK))
			continue;
		snprintf(path, sizeof(path), "/dev/input/event%u", i);
		evdev = open(path, O_RDONLY | O_NONBLOCK);
	}
	if (!ioctl(evdev, EVIOCSCLOCKID, &clock) && !ioctl(evdev, EVIOCGRAB, 1)) {
		fcntl(fd, F_SETFD, 0);	/* the feeder may be another program */
		run->uinput = fd;
		run->evdev = evdev;
		return;
	}
	close(evdev);
	close(fd);	/* no mouse that nobody reads */
}

/* Game and server, connected over UDP; where loopback is down (initramfs), a socket pair */
static void net_open(void)
{
	struct sockaddr_in at[2];
	socklen_t len = sizeof(*at);
	int fd[2];

	for (u32 i = 0; i < 2; i++) {
		at[i] = (struct sockaddr_in){ .sin_family = AF_INET,
					      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		fd[i] = socket(AF_INET, SOCK_DGRAM, 0);
		if (fd[i] < 0)
			continue;
		bind(fd[i], (void *)&at[i], len);
		getsockname(fd[i], (void *)&at[i], &len);
	}
	run->net_udp = fd[0] >= 0 && fd[1] >= 0 && !connect(fd[0], (void *)&at[1], sizeof(*at)) &&
		       !connect(fd[1], (void *)&at[0], sizeof(*at)) &&
		       send(fd[0], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	if (!run->net_udp && socketpair(AF_UNIX, SOCK_DGRAM, 0, fd))
		fatal(EX_OSERR, "no sockets: %s", strerror(errno));
	run->net = fd[0];
	run->net_server = fd[1];
}

/* Of the row's stages that of the task: the first, a job, one of those that follow; NULL: the row has none */
static const struct stage *stage_of(const struct group *g, u32 index)
{
	if (!g->row.stages || !index)
		return g->row.stages;
	return g->row.stages + (index <= g->row.fan ? 1 : index - g->row.fan + 1);
}

static void *task_main(void *arg)
{
	struct task *k = arg;
	struct group *g = &run->group[k->row];
	const struct row *r = &g->row;
	const struct stage *stage = stage_of(g, k->index);
	char comm[16];
	cpu_set_t set;
	int display;

	k->tid = gettid();
	snprintf(comm, sizeof(comm), stage ? stage->comm : r->comm ?: r->name, k->index - 1);
	if (gettid() != getpid() || stage || r->comm)
		prctl(PR_SET_NAME, comm);
	prctl(PR_SET_TIMERSLACK, 1);	/* the default of 50 us would be counted as latency */
	CPU_ZERO(&set);
	CPU_SET(r->pin0 ? 0 : (r->pin - 1 + k->index) % run->cpus, &set);
	if ((r->pin || r->pin0) && sched_setaffinity(0, sizeof(set), &set))
		fatal(EX_OSERR, "%s: no CPU: %s", r->name, strerror(errno));
	if (r->nice && setpriority(PRIO_PROCESS, 0, r->nice))
		fatal(EX_NOPERM, "%s: nice %d: %s", r->name, r->nice, strerror(errno));
	if ((r->policy || (cfg.realtime && (r->game || r->subject))) &&
	    !policy(r->policy ? r->policy : SCHED_FIFO))
		fatal(EX_NOPERM, "%s: policy: %s", r->name, strerror(errno));
	if (r->does == COMPOSE) {
		display = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		display_socket(display, run->display, bind);
		listen(display, 1);
	}
	barrier();
	tasks[r->does](g, k);
	return NULL;
}

/* A process of the run: the rows from `first` on that belong to it; of a row whose tasks are apart, that one. */
static void member_run(u32 first, u32 index)
{
	struct group *g = &run->group[first];
	/* a game as games are: its first thread looks on, or is ours */
	bool apart = g->row.apart, wait = g->row.does == FRAMES && g->row.stages;
	pthread_t thread;
	int err = 0;

	if (!g->row.game)	/* or it would look like a reader of input */
		close(run->evdev);
	if (g->row.gpu && !cfg.no_drm)
		g->gpu = gpu_open();
	for (u32 i = 0; i < run->tasks && !apart && !err; i++) {
		struct task *k = &run->task[i];
		u32 row = k->row;

		while (row > first && run->group[row].row.same)
			row--;
		if (row == first && (wait || k != g->task))
			err = pthread_create(&thread, NULL, task_main, k);
	}
	if (err)
		fatal(EX_OSERR, "cannot make threads: %s", strerror(err));
	if (!wait)
		task_main(&g->task[apart ? index : 0]);
	while (!own)
		pause();
}

/* Every process has the memory of run number n at the same place. */
static struct run *run_map(u32 n, int fd)
{
	void *at = (void *)(RUN_AT + n * RUN_SIZE);

	if (mmap(at, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != at)
		fatal(EX_OSERR, "no memory at %p: %s", at, strerror(errno));
	return at;
}

/* What --member starts: a process of a shape, by another program's name */
static int member_main(char **argv)
{
	run = run_map(atoi(argv[0]), atoi(argv[1]));
	cfg = run->cfg;
	member_run(atoi(argv[2]), atoi(argv[3]));
	return 0;
}

static void file_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fatal(EX_OSERR, "cannot write %s to %s: %s", text, path, strerror(errno));
	close(fd);
}

/* The control group at `path`, with a file of it behind the name; a static buffer */
static const char *cgroup_file(const struct row *r, bool leaf, const char *file)
{
	static char path[128];

	snprintf(path, sizeof(path), CGROUPS "bench-%s%s%s%s", r->name, leaf && r->parent ? "/" : "",
		 leaf && r->parent ? "leaf" : "", file);
	return path;
}

static void cgroup_make(const struct row *r)
{
	char number[32];

	file_put(CGROUPS "cgroup.subtree_control", "+cpu");
	for (u32 leaf = !r->parent; leaf < 2; leaf++) {
		if (mkdir(cgroup_file(r, leaf, ""), 0755) && errno != EEXIST)
			fatal(EX_OSERR, "%s: %s", cgroup_file(r, leaf, ""), strerror(errno));
		snprintf(number, sizeof(number), "%u", leaf ? r->weight : r->parent);
		file_put(cgroup_file(r, leaf, "/cpu.weight"), number);
		if (!leaf)
			file_put(cgroup_file(r, leaf, "/cgroup.subtree_control"), "+cpu");
	}
	snprintf(number, sizeof(number), "%u 100000", r->quota * 1000);
	if (r->quota)
		file_put(cgroup_file(r, true, "/cpu.max"), number);
}

/* Three programs, each a copy of this one: what is not the game, a game unknown to all, a known one */
static const char *const program_names[] = { "others", "stranger", BENCH_COMM };
static char programs_dir[] = "/tmp/shape-XXXXXX";

static const char *program_path(u32 i)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/%s", programs_dir, program_names[i]);
	return path;
}

static void program_copy(u32 i)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(program_path(i), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	char buf[1 << 14];
	ssize_t n;

	while ((n = read(from, buf, sizeof(buf))) > 0 && write(to, buf, n) == n)
		;
	if (from < 0 || to < 0 || n)
		fatal(EX_OSERR, "cannot copy this program to %s: %s", program_path(i), strerror(errno));
	close(from);
	close(to);
}

static pid_t run_owner;		/* the process that started the run's, and ends them */

/* Leaves nothing: processes, control groups, programs. Also when a run fails. */
static void run_clean(void)
{
	if (run_owner != getpid())
		return;
	if (run->group_pid)
		kill(-run->group_pid, SIGKILL);
	while (run->group_pid && waitpid(-run->group_pid, NULL, 0) > 0)
		;
	for (u32 i = 0; i < run->groups; i++) {
		const struct row *r = &run->group[i].row;

		if (r->weight)
			rmdir(cgroup_file(r, true, ""));
		if (r->parent)
			rmdir(cgroup_file(r, false, ""));
	}
	for (u32 i = 0; i < ARRAY_SIZE(program_names) && !own; i++)
		unlink(program_path(i));
	rmdir(programs_dir);
	run_owner = 0;
}

static void member_exec(u32 i, u32 index)
{
	struct group *g = &run->group[i];
	const char *program = program_path(!g->row.game ? 0 : cfg.as ? 1 : 2);
	const u32 n = run == runs[1], told[] = { n, run_fd[n], i, index };
	char numbers[ARRAY_SIZE(told)][12];

	for (u32 at = 0; at < ARRAY_SIZE(told); at++)
		snprintf(numbers[at], sizeof(*numbers), "%u", told[at]);
	unsetenv("GAMER_GAME");
	if (g->row.game && cfg.as == AS_ENV)
		putenv("GAMER_GAME=1");
	if (g->row.weight)
		file_put(cgroup_file(&g->row, true, "/cgroup.procs"), "0");
	execl(program, program, "--member", numbers[0], numbers[1], numbers[2], numbers[3], NULL);
	fatal(EX_OSERR, "cannot start %s: %s", program, strerror(errno));
}

/* All share one process group, so that one kill reaches them all, and their children. */
static void member_start(u32 i, u32 index)
{
	struct group *g = &run->group[i];
	pid_t pid = fork_as(!own ? "others" : g->row.comm ?: g->row.name);

	if (pid == 0) {
		setpgid(0, run->group_pid);
		if (!own)
			member_exec(i, index);
		own = false;
		member_run(i, index);
	}
	g->pid = pid;
	if (!run->group_pid)
		run->group_pid = pid;
	setpgid(pid, run->group_pid);		/* both sides do it, whoever comes first */
}

/* Starts those processes that begin with the others, or the late ones; of rows whose tasks are apart by turns. */
static void members_start(bool late)
{
	for (u32 index = 0; index < TASKS; index++)
		for (u32 i = own; i < run->groups; i++) {	/* what runs in this process comes last */
			const struct group *g = &run->group[i];

			if (!g->row.same && g->row.late == late && index < (g->row.apart ? g->n : 1))
				member_start(i, index);
		}
	if (!own || late)
		return;
	run->group->pid = getpid();
	prctl(PR_SET_NAME, BENCH_COMM);		/* now: no child may have it */
	member_run(0, 0);
}

/* ==== 6. what a running gamer says ==================================================== */

/* What follows "KEY": in a JSON object that begins here, or 0 */
static u64 number_of(const char *object, const char *key)
{
	const char *at = strstr(object, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* Is that the process of a game of ours? */
static bool game_is(pid_t pid)
{
	for (u32 i = 0; i < run->groups; i++)
		if (run->group[i].row.game && run->group[i].pid == pid)
			return true;
	return false;
}

/* A thread of the answer: one of the desktop game, or one that no game of ours has */
static void found_thread(const char *row)
{
	struct found found = {
		.role_at_ns = number_of(row, "\"role_at_ns\":"), .role_wakeups = number_of(row, "\"role_wakeups\":"),
	};
	char role[16];
	u32 tid, pid;

	if (sscanf(row, "{\"tid\":%u,\"pid\":%u,\"class\":\"%*[a-z]\",\"role\":\"%15[a-z_]\",\"source\":\"%15[a-z]\","
		   "\"confidence\":%u", &tid, &pid, role, found.source, &found.confidence) != 5)
		return;
	while (found.role < ROLE_NR - 1 && strcmp(role_names[found.role], role))
		found.role++;
	for (u32 i = 0; i < run->tasks; i++)
		if (run->task[i].tid == tid && run->group[run->task[i].row].row.stages) {
			run->task[i].found = found;
			return;
		}
	run->outside[found.role] += !game_is(pid);	/* a game's main thread may only wait, whatever it is called */
}

static char answer[ANSWER_SIZE];

/* Has a running gamer told its status, as JSON in answer? */
static bool gamer_says(void)
{
	static const char request[] = "{\"v\":1,\"cmd\":\"status\"}\n";
	const char *dir = getenv("RUNTIME_DIRECTORY");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct pollfd pfd = { .events = POLLIN };
	u64 end_ns = now_ns() + ANSWER_NS;
	bool whole = false;
	size_t len = 0;
	ssize_t n = 1;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/gamer.sock", dir ? dir : "/run/gamer");
	pfd.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (pfd.fd >= 0 && !connect(pfd.fd, (struct sockaddr *)&sa, sizeof(sa)) &&
	    send(pfd.fd, request, strlen(request), MSG_NOSIGNAL) > 0)
		while (n > 0 && !whole && !stop_asked() && now_ns() < end_ns) {
			if (poll(&pfd, 1, 100) <= 0)
				continue;
			n = read(pfd.fd, answer + len, sizeof(answer) - 1 - len);
			len += MAX(n, 0);
			answer[len] = 0;
			whole = len && answer[len - 1] == '\n';
		}
	close(pfd.fd);
	return whole;
}

/*
 * Asks a running gamer which process is the game, and what it takes each thread for, while they live; without one
 * there is nothing to tell. An earlier answer counts no more.
 */
static void ask(void)
{
	const char *row = answer, *game;

	memset(run->outside, 0, sizeof(run->outside));
	for (u32 i = 0; i < run->tasks; i++)
		run->task[i].found = (struct found){ 0 };
	run->answered = gamer_says();
	game = run->answered ? strstr(answer, "\"game\":{\"pid\":") : NULL;
	run->known = game && game_is(number_of(game, "\"pid\":"));
	while (run->answered && (row = strstr(row, "{\"tid\":")))
		found_thread(row++);
}

/* ==== 7. a run ======================================================================= */

/* Zeroed memory that all processes of the run share */
static void *run_alloc(u64 n, size_t size)
{
	void *p = (char *)run + run->used;

	run->used += (n * size + 63) & ~63ULL;
	if (run->used > RUN_SIZE)
		fatal(EX_OSERR, "no memory for runs of so many seconds");
	return p;
}

/* A row, as far as it depends on the machine and the options: the desktop game's work and sound */
static struct row row_of(const struct row *from)
{
	u64 us = cfg.frame_work_us;
	struct row r = *from;

	if (r.stages == game_stages) {
		r.work_us = us * SIM_PCT / 100;
		r.fan = cfg.workers;
		r.fan_us = us * JOBS_PCT / 100 / r.fan;
		r.stage_us[0] = MAX(us * RENDER_PCT / 100, 1U);
		r.stage_us[1] = MAX(us * SUBMIT_PCT / 100, 1U);
	}
	if (r.stages == &audio_stage) {
		r.period_us = cfg.audio_frames * 1000000 / AUDIO_HZ;
		r.work_us = r.period_us * AUDIO_WORK_PCT / 100;
	}
	return r;
}

static void group_add(const struct row *from, s32 n)
{
	struct group *g = &run->group[run->groups];
	const struct row r = g->row = row_of(from);
	bool waits = r.does == FRAMES || r.does == READ || r.does == ANSWER;
	/* how often a task wakes at most, or is taken to where others wake it; in a frame three times */
	u64 hz = r.period_us ? 1000000 / r.period_us + 1 : waits ? 4096 : 0;
	u64 most = hz * (r.period_us && waits ? 3 : 1) * (cfg.seconds + 1) + 16;
	u32 cap = r.period_us ? most : MIN(most, 1ULL << 20), *wake_ns;

	g->n = n + r.per_cpu * run->cpus;
	if (r.does == FRAMES) {
		for (g->n = 1 + r.fan; g->n - 1 - r.fan < STAGES && r.stage_us[g->n - 1 - r.fan]; )
			g->n++;
		/* frames go on until gamer has answered, or their threads would be gone by then */
		g->frame_cap = hz * (WARMUP_MS / 1000 + cfg.seconds + 1 + ANSWER_S) + 16;
		g->frame = run_alloc(g->frame_cap, sizeof(*g->frame));
	}
	if (run->groups + 1 >= ROWS || run->tasks + g->n > TASKS)
		fatal(EX_SOFTWARE, "shape %s: too many tasks", shape->name);
	g->task = &run->task[run->tasks];
	g->gpu.fd = -1;
	wake_ns = run_alloc((u64)g->n * cap, sizeof(u32));
	for (u32 i = 0; i < g->n; i++)
		g->task[i] = (struct task){
			.wake_ns = wake_ns + (size_t)i * cap, .cap = cap, .work.x = run->tasks + i + 1,
			.row = run->groups, .index = i,
		};
	run->tasks += g->n;
	run->groups++;
}

/* What is beside it: threads that are busy, or beside the desktop game what --load says or the shape's name */
static void load_add(void)
{
	for (u32 kind = LOAD_HOGS; kind < LOAD_MIXED; kind++)
		if (cfg.load == kind)
			group_add(!own && kind == LOAD_HOGS ? &load_row : &load_rows[kind], cfg.load_threads);
		else if (cfg.load == LOAD_MIXED && cfg.load_threads >= kind)
			group_add(&load_rows[kind], (cfg.load_threads - kind) / (LOAD_MIXED - LOAD_HOGS) + 1);
}

/* Defaults that depend on the machine; the work is measured once, so that all runs do the same. */
static void cfg_complete(u32 cpus)
{
	if (!cfg.workers)
		cfg.workers = MAX(MIN(cpus - 1, 3U), 1U);
	if (!cfg.load_threads)
		cfg.load_threads = 2 * cpus;
	if (!cfg.frame_work_us)
		cfg.frame_work_us = 240000 / FPS;
	if (!cfg.iters_per_ms)
		cfg.iters_per_ms = calibrate();
}

/* One run more, as `run`: its memory and rows; it may be another process that runs it. */
static void run_new(void)
{
	int fd = run_fd[runs_nr] = memfd_create("run", 0);
	cpu_set_t set;

	if (fd < 0 || ftruncate(fd, RUN_SIZE))
		fatal(EX_OSERR, "no memory: %s", strerror(errno));
	runs[runs_nr] = run = run_map(runs_nr, fd);
	runs_nr++;
	sched_getaffinity(0, sizeof(set), &set);
	for (u32 i = CPU_SETSIZE; i-- && shape->cpus && CPU_COUNT(&set) > (int)shape->cpus; )
		CPU_CLR(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
	run->cpus = CPU_COUNT(&set);
	run->used = (sizeof(*run) + 63) & ~63ULL;
	run->uinput = run->evdev = -1;
	cfg_complete(run->cpus);
	run->cfg = cfg;
	for (u32 i = 0; i < ARRAY_SIZE(shape->row) && shape->row[i].name; i++)
		group_add(&shape->row[i], shape->row[i].n);
	load_add();
	if (madvise(run, run->used, MADV_POPULATE_WRITE) && errno != EINVAL)	/* which older kernels do not know */
		fatal(EX_OSERR, "%" PRIu64 " MB of memory: %s", run->used >> 20, strerror(errno));
}

/* What the run's processes need: devices, sockets, pipes, control groups, programs */
static void run_setup(void)
{
	if (cfg.realtime && (!policy(SCHED_FIFO) || !policy(SCHED_OTHER)))
		fatal(errno == EPERM ? EX_NOPERM : EX_OSERR, "--realtime: %s", strerror(errno));
	prctl(PR_SET_CHILD_SUBREAPER, 1);	/* to reap the forking load's orphans */
	if (!own && !mkdtemp(programs_dir))
		fatal(EX_CANTCREAT, "%s: %s", programs_dir, strerror(errno));
	run->display = run_owner = getpid();
	for (u32 i = 0; i < ARRAY_SIZE(program_names) && !own; i++)
		program_copy(i);
	for (u32 i = 0; i < run->groups; i++) {
		struct group *g = &run->group[i];

		if (g->row.does == INPUT && !cfg.no_uinput)
			uinput_open();
		if (g->row.does == NET)
			net_open();
		if (g->row.does == WRITE && pipe(g->fd))
			fatal(EX_OSERR, "no pipe: %s", strerror(errno));
		if (g->row.weight)
			cgroup_make(&g->row);
	}
}

/* Has a child ended that should run until it is killed? It stays unreaped. */
static bool child_died(void)
{
	siginfo_t info = { 0 };

	return !waitid(P_PGID, run->group_pid, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

/* Until all tasks wait at the barrier, and a running gamer, if it can, knows the game: games load for seconds. */
static void run_ready(void)
{
	const struct timespec ts = timespec(NSEC_PER_SEC / 5);
	u64 limit_ns = now_ns() + SETUP_NS;
	u32 want = 0, games = 0, ready;

	for (u32 i = 0; i < run->groups; i++)
		if (!run->group[i].row.late) {
			want += run->group[i].n;
			games += run->group[i].row.game;
		}
	while ((ready = atomic_load(&run->ready)) < want && !stop_asked()) {
		if (child_died() || now_ns() > limit_ns)
			fatal(EX_OSERR, "only %u of %u tasks started", ready, want);
		futex(&run->ready, FUTEX_WAIT, ready, &ts);
	}
	limit_ns = now_ns() + ANSWER_NS;
	while (games && cfg.as != AS_STRANGER && (ask(), run->answered && !run->known) && !stop_asked() &&
	       now_ns() < limit_ns)
		usleep(20 * NSEC_PER_MSEC / NSEC_PER_USEC);
}

/* The first line of a file of the kernel, without its end; "": there is none */
static void read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(line, size, f))
		*line = 0;
	line[strcspn(line, "\n")] = 0;
	if (f)
		fclose(f);
}

/* The sched_ext scheduler by its own name, else the kernel's own by the kernel's age */
static void scheduler(char *name, size_t size)
{
	struct utsname u;

	read_line(SCX "state", name, size);
	if (*name && strcmp(name, "disabled")) {
		read_line(SCX "root/ops", name, size);
		return;
	}
	uname(&u);
	snprintf(name, size, "%s", strverscmp(u.release, "6.6") >= 0 ? "eevdf" : "cfs");
}

/* Sleeps until when_ns, with a line on a terminal; false: a signal asked to stop */
static bool main_wait(u64 when_ns)
{
	bool show = isatty(STDERR_FILENO), asked = false;
	u64 now;

	while (!asked && (now = now_ns()) < when_ns) {
		u64 sleep_ns = show ? MIN(when_ns - now, NSEC_PER_SEC) : when_ns - now;
		struct timespec ts = timespec(sleep_ns);

		if (show)
			fprintf(stderr, "\rbench: %.0f s to go, %u frames \033[K",
				(atomic_load(&run->t1_ns) - now) / 1e9, atomic_load(&run->group->called));
		asked = sigtimedwait(&signals, NULL, &ts) > 0;
		if (show)
			fputs("\r\033[K", stderr);
	}
	return !asked;
}

/* From the barrier's fall until the last frame has been shown, and a running gamer has said what it found */
static void run_measure(void)
{
	char sched[sizeof(run->sched)];
	u64 t1_ns;

	run->epoch_ns = now_ns() + 20 * NSEC_PER_MSEC;
	run->t0_ns = run->epoch_ns + WARMUP_MS * NSEC_PER_MSEC;
	t1_ns = run->t0_ns + cfg.seconds * NSEC_PER_SEC;
	atomic_store(&run->t1_ns, t1_ns);
	atomic_store(&run->go, 1);
	futex(&run->go, FUTEX_WAKE, INT_MAX, NULL);
	run->interrupted = !main_wait(run->t0_ns);
	members_start(true);
	scheduler(run->sched, sizeof(run->sched));
	if (!run->interrupted)
		run->interrupted = !main_wait(t1_ns);
	if (run->interrupted)
		atomic_store(&run->t1_ns, MIN(now_ns(), t1_ns));
	scheduler(sched, sizeof(sched));
	if (strcmp(sched, run->sched)) {
		fprintf(stderr, "gamer-bench: the scheduler changed while measuring: %s, %s\n", run->sched, sched);
		snprintf(run->sched, sizeof(run->sched), "mixed");
	}
	if (run->interrupted)	/* nobody waits; what gamer said before the first frame counts no more */
		run->answered = false;
	else
		ask();
	usleep(GRACE_MS * NSEC_PER_MSEC / NSEC_PER_USEC);
}

/* One run from its first child to its end; the figures are made of what it leaves. */
static void run_all(void)
{
	bool died;

	run_setup();
	members_start(false);
	run_ready();
	run_measure();
	died = child_died();
	run_clean();
	if (died)
		fatal(EX_OSERR, "a helper or load process ended early, no report");
}

/* ==== 8. figures ================================================================== */

enum { RANK_P50, RANK_P95, RANK_P99, RANK_P999, RANK_MAX, RANKS };

static const struct {
	const char *label, *key;	/* for people; in names of figures */
	double part;			/* of the samples that are at or below it */
} ranks[RANKS] = {
	{ "p50", "p50", 0.50 }, { "p95", "p95", 0.95 }, { "p99", "p99", 0.99 },
	{ "p99.9", "p999", 0.999 }, { "max", "max", 1 },
};

struct dist {
	double v[RANKS];		/* nearest-rank percentiles; NAN without samples */
};

/* What more of it means */
enum better { LESS, MORE, SAME };
static const char *const better_words[] = { "less", "more", "same" };

/* Of one run; main, after its end. NAN: there is none. All runs have the same figures in the same order. */
static struct result {
	u32 figures;
	struct figure {
		const char *group;
		char name[20];
		double v;
		enum better better;
	} figure[256];

	/* of the first game's frames */
	u32 frames;		/* intervals between present calls, whose later frame started in the measured time */
	u64 *at_ns;		/* [frames] end of each interval, from t0 */
	u32 *frame_ns;		/* [frames] in order of frames */
	struct dist frame_ms;
	double fps, low1_fps;
	double xruns;
} results[2], *result;

static void figure(const char *group, enum better better, const char *name, double v)
{
	struct figure *f = &result->figure[result->figures++];

	if (result->figures == ARRAY_SIZE(result->figure))
		fatal(EX_SOFTWARE, "too many figures");
	*f = (struct figure){ .group = group, .v = v, .better = better };
	snprintf(f->name, sizeof(f->name), "%s", name);
}

/* "WHAT_p50_UNIT" and so on */
static void figure_ranks(const char *group, const char *what, const char *unit, const double *v)
{
	char name[20];

	for (u32 i = 0; i < RANKS; i++) {
		snprintf(name, sizeof(name), "%s_%s_%s", what, ranks[i].key, unit);
		figure(group, LESS, name, v[i]);
	}
}

/* Sorts the samples. */
static struct dist dist_of(u32 *ns, u64 n, double unit_ns)
{
	struct dist d;

	qsort(ns, n, sizeof(*ns), cmp_u32);
	for (u32 i = 0; i < RANKS; i++)
		d.v[i] = n ? ns[(u64)ceil(ranks[i].part * n) - 1] / unit_ns : NAN;
	return d;
}

/* The frame that MangoHud's fps_metrics takes: the last of the slowest part of the frames, or the slowest. */
static double low_fps(const u32 *sorted_ns, u64 n, double part)
{
	u64 slowest = n * part;

	return n ? (double)NSEC_PER_SEC / MAX(sorted_ns[n - MAX(slowest, 1ULL)], 1U) : NAN;
}

static double percent(u64 n, u64 of)
{
	return of ? 100.0 * n / of : NAN;
}

static double measured_s(void)
{
	u64 t1_ns = atomic_load(&run->t1_ns);

	return t1_ns > run->t0_ns ? (t1_ns - run->t0_ns) / (double)NSEC_PER_SEC : NAN;
}

static void *alloc(u64 n, size_t size)
{
	return calloc(MAX(n, 1U), size) ?: (fatal(EX_OSERR, "no memory: %s", strerror(errno)), NULL);
}

static u64 vblanks(u64 until_ns, u64 period_ns)
{
	return (until_ns - run->epoch_ns) / period_ns;
}

/*
 * A frame is late with a wakeup > JITTER_NS on its chain, or where it takes longer than a period; shown late
 * after the vblank that follows its tick; dropped where it is never shown: a newer one was latched.
 */
static void figures_frames(struct group *g)
{
	u64 called = atomic_load(&g->called), period_ns = g->row.period_us * NSEC_PER_USEC;
	u64 n = 0, inputs = 0, ended = 0, started = 0, late = 0, shown_late = 0, dropped = 0;
	u32 *sorted_ns = alloc(called, sizeof(u32)), *input_ns = alloc(called, sizeof(u32));
	u32 *frame_ns = alloc(called, sizeof(u32));
	u64 *at_ns = alloc(called, sizeof(u64));
	const char *name = g->row.name;
	struct dist frame_ms;

	for (u64 f = called > g->frame_cap ? called - g->frame_cap + 1 : 0; f < called; f++) {
		struct frame *frame = frame_of(g, f);
		u64 shown_ns = atomic_load(&frame->shown_ns);

		ended += measured(frame->call_ns);
		if (!measured(frame->tick_ns))
			continue;
		started++;
		late += atomic_load(&frame->jitter_ns) > JITTER_NS || frame->call_ns > frame->tick_ns + period_ns;
		dropped += !shown_ns;
		if (shown_ns)
			shown_late += vblanks(shown_ns, period_ns) > vblanks(frame->tick_ns, period_ns) + 1;
		if (shown_ns && frame->input_ns)
			input_ns[inputs++] = MIN(shown_ns - frame->input_ns, (u64)UINT32_MAX);
		if (!f)
			continue;
		at_ns[n] = frame->call_ns - run->t0_ns;
		sorted_ns[n] = frame_ns[n] = MIN(frame->call_ns - frame_of(g, f - 1)->call_ns, (u64)UINT32_MAX);
		n++;
	}
	frame_ms = dist_of(sorted_ns, n, NSEC_PER_MSEC);
	figure(name, MORE, "fps", ended / measured_s());
	figure(name, MORE, "fps_low1", low_fps(sorted_ns, n, 0.01));
	figure(name, MORE, "fps_low01", low_fps(sorted_ns, n, 0.001));
	figure(name, LESS, "late", period_ns ? percent(late, started) : NAN);
	if (g->row.stages) {
		figure(name, LESS, "shown_late", percent(shown_late, started));
		figure(name, LESS, "dropped", started ? dropped : NAN);
	}
	figure_ranks(name, "frame", "ms", frame_ms.v);
	figure_ranks(name, "input", "ms", dist_of(input_ns, inputs, NSEC_PER_MSEC).v);
	if (g == run->group) {
		result->frames = n;
		result->at_ns = at_ns;
		result->frame_ns = frame_ns;
		result->frame_ms = frame_ms;
		result->fps = ended / measured_s();
		result->low1_fps = low_fps(sorted_ns, n, 0.01);
	}
}

/* How late the tasks from..to of a row woke, us. Their samples become one row. */
static struct dist wakes(struct group *g, u32 from, u32 to)
{
	u32 *wake_ns = g->task[from].wake_ns, n = 0;

	for (struct task *k = &g->task[from]; k < &g->task[to]; n += k++->count)
		memmove(wake_ns + n, k->wake_ns, k->count * sizeof(u32));
	return dist_of(wake_ns, n, NSEC_PER_USEC);
}

/* Who competes for CPU time wants its share, whoever waits for something wants to wait shortly. */
static void figures_of(struct group *g)
{
	double seconds = measured_s(), cpu = 0, done = 0;
	const struct row *r = &g->row;
	bool counts = r->apart || r->does == READ || r->does == ANSWER || r->does == FORK || r->does == PING;

	for (u32 i = 0; i < g->n; i++) {
		cpu += g->task[i].cpu_ns[1] - g->task[i].cpu_ns[0];
		done += g->task[i].done;
	}
	if (r->does == FRAMES)
		figures_frames(g);
	if (counts)
		figure(r->name, MORE, "rate", done / seconds);
	if (r->does == TIMER)
		figure(r->name, LESS, "late", percent(g->late, g->judged));
	if (r->stages || r->does == SERVE || r->does == FEED)
		return;
	figure_ranks(r->name, "wake", "us", wakes(g, 0, g->n).v);
	figure(r->name, r->does == BUSY || r->apart ? SAME : LESS, "share", cpu / 1e7 / seconds / run->cpus);
}

/* The desktop game's: its sound, how late each kind of its threads woke, and for the game the worst of these */
static void figures_desktop(void)
{
	const char *game = run->group->row.name;
	double worst[RANKS] = { NAN, NAN, NAN, NAN, NAN };
	u32 at = result->figures;

	figure_ranks(game, "wake", "us", worst);	/* to be filled in */
	for (u32 i = 0; i < run->groups; i++) {
		struct group *g = &run->group[i];

		if (g->row.does == TIMER) {
			result->xruns = g->judged ? g->overruns : NAN;
			figure(game, LESS, "xruns", result->xruns);
		}
		for (u32 from = 0, to; g->row.stages && from < g->n; from = to) {
			const struct stage *stage = stage_of(g, from);
			struct dist us;

			for (to = from; to < g->n && stage_of(g, to) == stage; to++)
				;
			us = wakes(g, from, to);
			figure_ranks(stage->name, "wake", "us", us.v);
			for (u32 rank = 0; rank < RANKS; rank++)
				worst[rank] = fmax(worst[rank], us.v[rank]);
		}
	}
	for (u32 rank = 0; rank < RANKS; rank++)
		result->figure[at + rank].v = worst[rank];
}

static void run_summarize(void)
{
	result->xruns = NAN;
	for (u32 i = 0; i < run->groups; i++) {
		figures_of(&run->group[i]);
		if (!i && run->group->row.stages)
			figures_desktop();
	}
}

/* ==== 9. reports ===================================================================== */

/* Without a device to submit to, what submits is one more stage of the frame. */
static u32 truth(const struct stage *stage)
{
	return stage->truth == ROLE_GPU && run->group->gpu.fd < 0 ? ROLE_RENDER : stage->truth;
}

/* A number of JSON; texts are this program's words or a scheduler's name: in these is nothing to escape. */
static void json_number(FILE *o, const char *name, double v)
{
	if (isnan(v))
		fprintf(o, ",\"%s\":null", name);
	else
		fprintf(o, ",\"%s\":%.3f", name, v);
}

/*
 * Each thread of the desktop game and what gamer found it to be; of others' threads only how many. us: from the
 * first event that tells the role, else the first wakeup, until it was known; less than 0: known before the call
 * returned, or earlier by other evidence.
 */
static void json_roles(FILE *o)
{
	const char *sep = "";

	fputs(",\"roles\":{\"threads\":[", o);
	for (u32 i = 0; i < run->tasks; i++) {
		const struct task *k = &run->task[i];
		const struct stage *stage = stage_of(&run->group[k->row], k->index);
		u64 from_ns = k->event_ns ? k->event_ns : k->woke_ns;

		if (!stage)
			continue;
		fprintf(o, "%s{\"thread\":\"%s\",\"tid\":%u,\"truth\":\"%s\",\"found\":\"%s\",\"source\":\"%s\"",
			sep, stage->name, k->tid, role_names[truth(stage)], role_names[k->found.role], k->found.source);
		fprintf(o, ",\"confidence\":%u,\"wakeups\":%" PRIu64, k->found.confidence, k->found.role_wakeups);
		json_number(o, "us", k->found.role_at_ns && from_ns ?
			    (s64)(k->found.role_at_ns - from_ns) / (double)NSEC_PER_USEC : NAN);
		fputc('}', o);
		sep = ",";
	}
	fputs("],\"outside\":{", o);
	for (u32 role = 0; role < ROLE_NR; role++)
		fprintf(o, "%s\"%s\":%u", role ? "," : "", role_names[role], run->outside[role]);
	fputs("}}", o);
}

static const char *gpu_name(void) { return run->group->gpu.fd < 0 ? "timer" : "vgem"; }
static const char *input_name(void) { return run->evdev < 0 ? "timer" : "uinput"; }

static void write_json(FILE *o)
{
	const char *sep = "";

	fprintf(o, "{\"v\":1,\"command\":\"bench\",\"shape\":\"%s\",\"as\":\"%s\",\"scheduler\":\"%s\",\"cpus\":%u"
		",\"interrupted\":%u,\"recognised\":%u", shape->name, as_names[cfg.as], run->sched, run->cpus,
		run->interrupted, run->known);
	json_number(o, "measured_s", measured_s());
	fprintf(o, ",\"config\":{\"seconds\":%" PRIu64 ",\"workers\":%" PRIu64 ",\"frame_work_us\":%" PRIu64
		",\"iters_per_ms\":%" PRIu64 ",\"audio_frames\":%" PRIu64 ",\"load\":\"%s\",\"load_threads\":%" PRIu64,
		cfg.seconds, cfg.workers, cfg.frame_work_us, cfg.iters_per_ms, cfg.audio_frames, load_names[cfg.load],
		cfg.load_threads);
	fprintf(o, ",\"gpu\":\"%s\",\"input\":\"%s\",\"network\":\"%s\"},\"figures\":[", gpu_name(), input_name(),
		run->net_udp ? "udp" : "unix");
	for (const struct figure *f = result->figure; f < result->figure + result->figures; f++) {
		if (isnan(f->v))
			continue;
		fprintf(o, "%s{\"shape\":\"%s\",\"group\":\"%s\",\"figure\":\"%s\",\"value\":%.3f", sep, shape->name,
			f->group, f->name, f->v);
		fprintf(o, ",\"better\":\"%s\"}", better_words[f->better]);
		sep = ",";
	}
	fputc(']', o);
	if (run->answered && run->group->row.stages)
		json_roles(o);
	fputc('}', o);
}

/* A figure in `width` columns behind its label, "-" where there is none */
static void cell(FILE *o, const char *label, double v, int width, int digits)
{
	if (isnan(v))
		fprintf(o, "%s%*s", label, width, "-");
	else
		fprintf(o, "%s%*.*f", label, width, digits, v);
}

/* What was done, in words; the same for both runs of --compare */
static void write_work(FILE *o)
{
	fprintf(o, "gamer-bench: %s, as %s, %" PRIu64 " s%s, %u CPUs%s\n", shape->name, as_names[cfg.as], cfg.seconds,
		runs_nr > 1 ? " twice" : "", run->cpus, run->interrupted ? " (interrupted)" : "");
	if (cfg.load)
		fprintf(o, "  load     %s x %" PRIu64 "\n", load_names[cfg.load], cfg.load_threads);
	if (run->group->row.stages) {
		fprintf(o, "  game     %u fps, %" PRIu64 " us of work per frame, %" PRIu64 " job worker%s, GPU: %s\n",
			FPS, cfg.frame_work_us, cfg.workers, cfg.workers == 1 ? "" : "s", gpu_name());
		fprintf(o, "  beside   input %u Hz by %s, audio %" PRIu64 " frames, network %u Hz by %s\n", INPUT_HZ,
			input_name(), cfg.audio_frames, NET_HZ, run->net_udp ? "UDP" : "socket pair");
	}
	fprintf(o, "  repeat   the same work with --iters-per-ms %" PRIu64 "\n", cfg.iters_per_ms);
	if (cfg.compare)
		fprintf(o, "  with     %s\n\n%-29s%14s%14s", cfg.compare, "", "without", "with");
}

/* Is it in the text? Of the desktop game's threads and its input only p99; `--json` has all. */
static bool in_text(const struct figure *f)
{
	size_t n = strlen(f->name) - strlen("_us");
	bool some = run->group->row.stages && (!strncmp(f->name, "wake_", 5) || !strncmp(f->name, "input_", 6));

	return !isnan(f->v) && (!some || !strncmp(f->name + n - 3, "p99", 3));
}

/* A column per run: one, or without and with COMMAND */
static void write_text(FILE *o)
{
	write_work(o);
	fprintf(o, "\n%-29s", "scheduler");
	for (u32 i = 0; i < runs_nr; i++)
		fprintf(o, "%13.13s%s", runs[i]->sched, runs[i]->known ? "*" : " ");
	fprintf(o, "%s\n", run->known ? "  * it knows the game" : "");
	for (u32 i = 0; i < results[0].figures; i++) {
		const struct figure *f = &results[0].figure[i];
		double a = f->v, b = results[runs_nr - 1].figure[i].v;
		const char *word = a == b || isnan(b) || f->better == SAME ? "" :
				   (b < a) == (f->better == LESS) ? "better" : "worse";

		if (!in_text(f))
			continue;
		fprintf(o, "%-13s%-16s", f->group, f->name);
		cell(o, "", a, 13, 2);
		if (runs_nr > 1)
			cell(o, "", b, 14, 2);
		fprintf(o, "  %s\n", runs_nr > 1 ? word : better_words[f->better]);
	}
}

/* A log as MangoHud 0.8 writes it, without the machine; where it has no sensor it writes 0, and so does this. */
static void write_csv(FILE *o)
{
	const struct result *r = result;
	struct utsname u = { 0 };

	uname(&u);
	fprintf(o, "os,cpu,gpu,ram,kernel,driver,cpuscheduler\n,,,,%s,,%s\n", u.release, run->sched);
	fprintf(o, "fps,frametime,cpu_load,cpu_power,gpu_load,cpu_temp,gpu_temp,gpu_core_clock,"
		"gpu_mem_clock,gpu_vram_used,gpu_power,ram_used,swap_used,process_rss,cpu_mhz,elapsed\n");
	for (u64 i = 0; i < r->frames; i++)
		fprintf(o, "%.4f,%.5f,0,0,0,0,0,0,0,0,0,0,0,0,0,%" PRIu64 "\n",
			(double)NSEC_PER_SEC / MAX(r->frame_ns[i], 1U), r->frame_ns[i] / 1e6, r->at_ns[i]);
}

/* A step of 1, 2 or 5 times a power of ten that divides span at most `most` times */
static double nice_step(double span, int most)
{
	static const double times[] = { 2, 2.5, 2 };
	double step = 0.001;

	for (u32 i = 0; span / step > most; i++)
		step *= times[i % ARRAY_SIZE(times)];
	return step;
}

enum { PLOT_WIDTH = 860, PLOT_HEIGHT = 230, PLOT_LEFT = 70, PLOT_TOP = 90, PLOT_EACH = 330 };	/* pixels */

static const char svg_style[] =
	"<style>.bg{fill:#fff}text{fill:#333}.h{font-size:17px;font-weight:600}.m{text-anchor:middle}"
	".e{text-anchor:end}.g{stroke:#ddd;fill:none}.l{stroke:#1668b8;fill:none;stroke-linejoin:round}"
	".t{stroke:#c2410c;fill:none;stroke-dasharray:5 3}.d{fill:#c2410c}"
	"@media(prefers-color-scheme:dark){.bg{fill:#16181c}text{fill:#d6d9de}.g{stroke:#363a41}"
	".l{stroke:#62b0ff}.t{stroke:#fb923c}.d{fill:#fb923c}}</style>\n";

/* Axes up to x seconds and y milliseconds. The plot's lower left corner is at 0,0: y is negative. */
static void svg_axes(FILE *o, double x, double y)
{
	double xstep = nice_step(x, 10), ystep = nice_step(y, 6);

	for (u32 i = 0; i * xstep <= x * (1 + 1e-9); i++)
		fprintf(o, "<path class='g' d='M%.1f 0v-%d'/><text class='m' x='%.1f' y='17'>%g</text>\n",
			i * xstep / x * PLOT_WIDTH, PLOT_HEIGHT, i * xstep / x * PLOT_WIDTH, i * xstep);
	for (u32 i = 0; i * ystep <= y * (1 + 1e-9); i++)
		fprintf(o, "<path class='g' d='M0 %.1fh%d'/><text class='e' x='-7' y='%.1f'>%g</text>\n",
			i * -ystep / y * PLOT_HEIGHT, PLOT_WIDTH, i * -ystep / y * PLOT_HEIGHT + 4, i * ystep);
	fprintf(o, "<text class='m' x='%d' y='36'>time, s</text>"
		"<text class='m' transform='translate(-48 -%d)rotate(-90)'>frame time, ms</text>\n",
		PLOT_WIDTH / 2, PLOT_HEIGHT / 2);
}

/* Frame times: per column of pixels the largest and smallest, so no spike hides; a dot where a frame is late */
static void svg_line(FILE *o, double x, double y)
{
	const struct result *r = result;
	double xscale = PLOT_WIDTH / x, yscale = PLOT_HEIGHT / y, period = 1e3 / FPS * -yscale;

	for (u64 i = 0; i < r->frames; ) {
		const char *pen = i ? "L" : "<path class='l' d='M";
		double column = floor(r->at_ns[i] / 1e9 * xscale);
		u32 lo = UINT32_MAX, hi = 0;

		for (; i < r->frames && r->at_ns[i] / 1e9 * xscale < column + 1; i++) {
			lo = MIN(lo, r->frame_ns[i]);
			hi = MAX(hi, r->frame_ns[i]);
		}
		fprintf(o, "%s%g %.1fV%.1f", pen, column, hi / 1e6 * -yscale, lo / 1e6 * -yscale);
	}
	fprintf(o, "%s<path class='t' d='M0 %.1fh%d'/><text x='%d' y='%.1f'>%u fps</text>\n",
		r->frames ? "'/>\n" : "", period, PLOT_WIDTH, PLOT_WIDTH + 4, period + 4, FPS);
	for (u64 i = 0; i < r->frames; i++)
		if (r->frame_ns[i] > FRAME_US * 1500)
			fprintf(o, "<circle class='d' cx='%.1f' cy='%.1f' r='3'/>\n", r->at_ns[i] / 1e9 * xscale,
				r->frame_ns[i] / 1e6 * -yscale);
}

/* What changed from the first run to the second, in words */
static void svg_title(FILE *o)
{
	const struct result *a = &results[0], *b = &results[1];

	fprintf(o, "<text class='h' x='%d' y='26'>%s", PLOT_LEFT, runs[1]->sched);
	if (a->frames && b->frames)
		fprintf(o, ": 1 %% low %.0f → %.0f fps", a->low1_fps, b->low1_fps);
	if (!isnan(a->xruns + b->xruns))
		fprintf(o, ", sound dropouts %.0f → %.0f", a->xruns, b->xruns);
	fputs("</text>\n", o);
}

/* The runs one below the other, with the same axes so that their spikes can be compared; above what changed */
static void write_svg(FILE *o)
{
	double x = 0.001, y = 2e3 / FPS;
	u32 height, from = runs_nr > 1 ? 36 : 0;

	for (u32 i = 0; i < runs_nr; i++) {
		run = runs[i];
		x = fmax(x, measured_s());
		y = fmax(y, results[i].frame_ms.v[RANK_MAX] * 1.04);
	}
	height = from + runs_nr * PLOT_EACH + 20;
	fprintf(o, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1000 %u' width='1000' height='%u'"
		" font-family='system-ui,sans-serif' font-size='12'>\n%s<rect class='bg' width='1000' height='%u'/>\n",
		height, height, svg_style, height);
	if (runs_nr > 1)
		svg_title(o);
	for (u32 i = 0; i < runs_nr; i++) {
		const struct result *r = result = &results[i];
		u32 top = from + i * PLOT_EACH + 24;

		run = runs[i];
		fprintf(o, "<text x='%d' y='%u' font-weight='600'>%s, load %s", PLOT_LEFT, top, run->sched,
			load_names[cfg.load]);
		if (cfg.load)
			fprintf(o, " x %" PRIu64, cfg.load_threads);
		fprintf(o, "</text>\n<text x='%d' y='%u'>", PLOT_LEFT, top + 22);
		if (r->frames) {
			fprintf(o, "%u frames", r->frames);
			cell(o, ", fps ", r->fps, 0, 1);
			cell(o, ", 1 % low ", r->low1_fps, 0, 1);
		}
		for (u32 rank = 0; rank < RANKS && r->frames; rank++) {
			fprintf(o, ", %s", ranks[rank].label);
			cell(o, " ", r->frame_ms.v[rank], 0, 2);
		}
		fprintf(o, "%s</text>\n<g transform='translate(%d %d)'>\n", r->frames ? " ms" : "", PLOT_LEFT,
			(int)(from + i * PLOT_EACH) + PLOT_TOP - 30 + PLOT_HEIGHT);
		svg_axes(o, x, y);
		svg_line(o, x, y);
		fprintf(o, "</g>\n");
	}
	fprintf(o, "</svg>\n");
}

/* ==== 10. compare ==================================================================== */

#define ATTACH_NS	(60 * NSEC_PER_SEC)	/* a kernel with sched_ext may take so long to load one */
#define SETTLE_NS	(2 * NSEC_PER_SEC)	/* what is no sched_ext scheduler has begun by then */
#define END_NS		(10 * NSEC_PER_SEC)	/* from SIGTERM to SIGKILL */
#define SLICE_NS	(50 * NSEC_PER_MSEC)	/* between two looks */

static struct command {
	pid_t owner;		/* the process that started it, and ends it */
	pid_t pid;		/* sh, and its process group; 0: none runs */
} command;

/* Waits a slice. Ends the program where somebody asks for it. */
static void compare_slice(void)
{
	struct timespec ts = timespec(SLICE_NS);

	if (sigtimedwait(&signals, NULL, &ts) > 0)
		fatal(128 + SIGINT, "interrupted, no figures");
}

/* Ends COMMAND and all that it started; at exit too. A group without a process is gone. */
static void command_stop(void)
{
	const struct timespec ts = timespec(SLICE_NS);
	u64 kill_ns = now_ns() + END_NS;

	if (!command.pid || command.owner != getpid())
		return;
	kill(-command.pid, SIGTERM);
	for (;;) {
		while (waitpid(-command.pid, NULL, WNOHANG) > 0)
			;
		if (kill(-command.pid, 0) && errno == ESRCH)
			break;
		if (now_ns() > kill_ns)
			kill(-command.pid, SIGKILL);
		nanosleep(&ts, NULL);
	}
	command.pid = 0;
}

/* COMMAND has no reason to end before it is asked to: without it there is nothing to compare. */
static void command_check(const char *when)
{
	siginfo_t info = { 0 };

	if (waitid(P_PID, command.pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
		return;
	fatal(EX_UNAVAILABLE, "'%s' ended %s (%s %d), no figures", cfg.compare, when,
	      info.si_code == CLD_EXITED ? "exit" : "signal", info.si_status);
}

/* Starts COMMAND and waits until it can be measured: a scheduler is attached that was not before. */
static void command_start(void)
{
	bool scx = !access(SCX "state", R_OK);
	char before[32], seq[32], state[32];
	u64 end_ns = now_ns() + (scx ? ATTACH_NS : SETTLE_NS);

	read_line(SCX "enable_seq", before, sizeof(before));
	prctl(PR_SET_CHILD_SUBREAPER, 1);	/* to reap what COMMAND leaves */
	command.owner = getpid();
	command.pid = fork();
	if (command.pid < 0) {
		command.pid = 0;
		fatal(EX_OSERR, "cannot fork: %s", strerror(errno));
	}
	if (command.pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		sigprocmask(SIG_UNBLOCK, &signals, NULL);
		dup2(STDERR_FILENO, STDOUT_FILENO);	/* stdout is the report's */
		execl("/bin/sh", "sh", "-c", cfg.compare, NULL);
		_exit(127);
	}
	setpgid(command.pid, command.pid);
	do {
		compare_slice();
		command_check("before it could be measured");
		read_line(SCX "enable_seq", seq, sizeof(seq));
		read_line(SCX "state", state, sizeof(state));
	} while (now_ns() < end_ns && (strcmp(state, "enabled") || !strcmp(seq, before)));
}

/* Measures in a process of its own, which leaves what it found in the run's memory. */
static void compare_run(void)
{
	struct timespec ts = timespec(SLICE_NS);
	bool asked = false;
	u64 end_ns = UINT64_MAX;
	int status;
	pid_t pid;

	pid = fork_as("bench-setup");
	if (pid == 0) {
		run_all();
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (sigtimedwait(&signals, NULL, &ts) > 0 && !asked) {
			asked = true;
			kill(pid, SIGTERM);	/* ends in order; Ctrl-C has told it already */
			end_ns = now_ns() + END_NS;
		}
		if (now_ns() > end_ns)
			kill(pid, SIGKILL);
	}
	if (asked || run->interrupted)
		fatal(128 + SIGINT, "interrupted, no figures");
	if (status)
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE);	/* it has said why */
}

/* Without and with COMMAND */
static void compare(void)
{
	atexit(command_stop);
	prctl(PR_SET_NAME, "bench-compare");	/* it is not this process that is the game */
	run_new();
	compare_run();
	run_new();
	command_start();
	compare_run();
	command_check("while the game ran");
	command_stop();
}

/* ==== 11. side workloads ============================================================= */

/*
 * side WORKLOAD [SHARE] prints one JSON line: a make with two jobs per CPU, each a shell that runs programs.
 *
 *   compile    SHARE jobs (default 40), each forks a cc1, then an as: time
 *   build      for SHARE seconds real programs: cc1 that waits for what it reads before it compiles, as, and now
 *              and then ld: units per second
 *
 * The amount of work of a compile is fixed: under the kernel's own scheduler on four CPUs of the lab,
 * which have one CPU's capacity, it takes about a second.
 */
#define JOBS		40	/* of the make, where SHARE does not say */
#define READS		6	/* of a cc1, that the disk lets wait */
#define LINKED		8	/* units, by an ld */
#define PROGRAMS	"/tmp/side-programs/"	/* one place: programs are known by their path */

static const struct program {
	const char *name;
	u32 reads;		/* before its work */
	u32 salt;		/* of its dice */
	u64 least_ns, most_ns;	/* of work */
} compiled[] = {
	{ "cc1", 0, 0, 5000000, 40000000 }, { "as", 0, JOBS, 1000000, 3000000 },
}, built[] = {	/* what as reads was just written: it is in memory */
	{ PROGRAMS "cc1", READS, 0, 5000000, 20000000 }, { PROGRAMS "as", 0, 0, 50000, 150000 },
	{ PROGRAMS "ld", 0, 0, 8000000, 16000000 },
};

/* About that many instructions, which in the lab are as many nanoseconds */
static void work_ns(u64 ns)
{
	u64 x = 88172645463325252ULL;

	for (u64 i = ns / 8; i; i--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__asm__ volatile("" : "+r"(x));
	}
}

/* The disk's answer comes by an interrupt, as a timer's does. */
static void program_run(const struct program *p, long job)
{
	for (u32 i = 0; i < p->reads; i++) {
		struct timespec t = timespec(dice(job * READS + i, 300000, 1000000));

		work_ns(dice(job * READS + i, 30000, 80000));
		nanosleep(&t, NULL);
	}
	work_ns(dice(job + p->salt, p->least_ns, p->most_ns));
}

/* A job of the make: its shell runs n programs, one after the other. Those with a path are executed. */
static void side_job(const struct program *p, u32 n, long job)
{
	char number[24];

	snprintf(number, sizeof(number), "%ld", job);
	for (; n--; p++) {
		pid_t pid = fork_as(*p->name == '/' ? "sh" : p->name);

		if (pid == 0 && *p->name == '/') {
			execl(p->name, p->name, number, NULL);
			perror(p->name);
			kill(0, SIGKILL);
		}
		if (pid == 0) {
			program_run(p, job);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

static void programs_link(void)
{
	char self[256] = "";

	mkdir(PROGRAMS, 0755);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0)
		fatal(EX_OSERR, "/proc/self/exe: %s", strerror(errno));
	for (u32 i = 0; i < ARRAY_SIZE(built); i++)
		if (symlink(self, built[i].name) && errno != EEXIST)
			fatal(EX_CANTCREAT, "%s: %s", built[i].name, strerror(errno));
}

/* `side` as a command: argv[1] names the workload. Returns the exit code. */
static int side_main(int argc, char **argv)
{
	bool build = argc > 1 && !strcmp(argv[1], "build"), more;
	long share = argc > 2 ? atol(argv[2]) : build ? 1 : JOBS, cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long started = 0, running = 0;
	u64 start = now_ns();
	double seconds;

	if (!build && (argc < 2 || strcmp(argv[1], "compile"))) {
		fprintf(stderr, "usage: side compile|build [SHARE]\n");
		return EX_USAGE;
	}
	setpgid(0, 0);			/* what goes wrong ends all of it, and nothing else */
	if (build)
		programs_link();
	prctl(PR_SET_NAME, "make");
	while ((more = build ? now_ns() < start + share * NSEC_PER_SEC : started < share) || running) {
		if (!more || running == 2 * cpus) {
			running -= wait(NULL) > 0;
			continue;
		}
		if (fork_as("sh") == 0) {
			side_job(build ? built : compiled, build && started % LINKED == 0 ? 3 : 2, started);
			_exit(0);
		}
		started++;
		running++;
	}
	seconds = (now_ns() - start) / 1e9;
	printf("{\"v\":1,\"side\":\"%s\",\"cpus\":%ld,\"time_s\":%.6f,\"units_per_s\":%.2f}\n", argv[1], cpus, seconds,
	       started / seconds);
	return 0;
}

/* ==== 12. options ==================================================================== */

static const struct option_info {
	const char *name;
	u64 *number, *flag;	/* one of these three says where it goes */
	const char **text;
	u64 min, max;		/* of numbers */
	const char *arg, *help;
} options[] = {
	{ .name = "seconds", .number = &cfg.seconds, .min = 1, .max = 86400, .arg = "N",
	  .help = "measured time; default: 10" },
	{ .name = "workers", .number = &cfg.workers, .max = 64, .arg = "N",
	  .help = "job threads; 0, the default: by CPUs" },
	{ .name = "audio-frames", .number = &cfg.audio_frames, .min = 64, .max = 1024, .arg = "N",
	  .help = "audio period in frames at 48 kHz; default: 256" },
	{ .name = "load", .text = &cfg.load_name, .arg = "none|hogs|fork|pipe|io|mixed",
	  .help = "what else the machine does; default: none. A shape has its own: only none goes with it" },
	{ .name = "load-threads", .number = &cfg.load_threads, .max = 512, .arg = "N",
	  .help = "tasks of the load; 0, the default: twice the CPUs" },
	{ .name = "iters-per-ms", .number = &cfg.iters_per_ms, .max = 1000000000, .arg = "N",
	  .help = "work of a millisecond; 0, the default: measured, and told in the report" },
	{ .name = "frame-work-us", .number = &cfg.frame_work_us, .max = 1000000, .arg = "N",
	  .help = "work of a frame over all threads; 0, the default: 24 % of its period" },
	{ .name = "no-uinput", .flag = &cfg.no_uinput, .help = "input from a timer, not a device" },
	{ .name = "no-drm", .flag = &cfg.no_drm, .help = "nothing is submitted to a GPU" },
	{ .name = "realtime", .flag = &cfg.realtime,
	  .help = "the game, not the load, runs under SCHED_FIFO: what schedulers are measured against" },
	{ .name = "compare", .text = &cfg.compare, .arg = "COMMAND",
	  .help = "the same without and with COMMAND, a scheduler, in one table" },
	{ .name = "shape", .text = &cfg.shape, .arg = "NAME",
	  .help = "other games and other work, of 2 s by default; 'list' tells them" },
	{ .name = "as", .text = &cfg.as_name, .arg = "name|stranger|env",
	  .help = "how gamer can know a shape's game: by its name, the default; not at all; by GAMER_GAME=1" },
	{ .name = "json", .flag = &cfg.json, .help = "print JSON" },
	{ .name = "svg", .text = &cfg.svg, .arg = "FILE", .help = "plot of the frame times" },
	{ .name = "csv", .text = &cfg.csv, .arg = "FILE",
	  .help = "frame times in MangoHud's columns; mangoplot plots from 10,000 frames: --seconds 170" },
};

/* "list": each shape, and whether it has a game, a subject (for --realtime), or neither */
static void shape_list(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++) {
		const char *what = "-";

		for (u32 j = 0; j < ARRAY_SIZE(shapes[i].row); j++)
			what = shapes[i].row[j].game ? "game" :
			       shapes[i].row[j].subject && *what == '-' ? "subject" : what;
		printf("%s %s\n", shapes[i].name, what);
	}
	exit(0);
}

/* Which of the words `name` is; 0 without a name */
static u32 word_of(const char *name, const char *const *words, u32 n, const char *what)
{
	for (u32 i = 0; name && i < n; i++)
		if (!strcmp(words[i], name))
			return i;
	if (name)
		fatal(EX_USAGE, what, name);
	return 0;
}

static void help(void)
{
	printf("usage: gamer-bench [OPTIONS]\n"
	       "A synthetic game: how long its frames, its input and its sound take under the scheduler that runs.\n\n");
	for (u32 i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option_info *o = &options[i];

		printf("  --%s%s%s\n        %s\n", o->name, o->arg ? " " : "", o->arg ? o->arg : "", o->help);
	}
	exit(0);
}

static void option_set(const struct option_info *o, const char *value)
{
	char *end;

	if (o->flag) {
		*o->flag = 1;
	} else if (o->text) {
		if (!*value)
			fatal(EX_USAGE, "--%s wants a value", o->name);
		*o->text = value;
	} else {
		errno = 0;
		*o->number = strtoull(value, &end, 10);
		if (*value < '0' || *value > '9' || *end || errno || *o->number < o->min || *o->number > o->max)
			fatal(EX_USAGE, "--%s wants a number from %" PRIu64 " to %" PRIu64 ", not '%s'", o->name,
			      o->min, o->max, value);
	}
}

static void options_parse(int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(options) + 2] = { { "help", no_argument, NULL, 'h' } };
	int at;

	for (u32 i = 0; i < ARRAY_SIZE(options); i++)
		longs[i + 1] = (struct option){ options[i].name, options[i].flag ? no_argument : required_argument,
						NULL, 256 + i };
	while ((at = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		if (at == 'h')
			help();
		if (at < 256)
			exit(EX_USAGE);		/* getopt_long() has said what is wrong */
		option_set(&options[at - 256], optarg);
	}
	if (optind < argc)
		fatal(EX_USAGE, "unknown argument '%s'", argv[optind]);
	cfg.load = word_of(cfg.load_name, load_names, LOAD_NR, "no load '%s'");
	cfg.as = word_of(cfg.as_name, as_names, AS_NR, "a game is not known as '%s'");
	if (!cfg.seconds)
		cfg.seconds = cfg.shape ? 2 : 10;
}

/* Opens a file of the report before anything is measured; NULL: none is wanted */
static FILE *report_open(const char *path)
{
	FILE *f = path ? fopen(path, "we") : NULL;

	if (path && !f)
		fatal(EX_CANTCREAT, "cannot write %s: %s", path, strerror(errno));
	return f;
}

static void report_close(FILE *f, const char *path)
{
	bool failed = ferror(f);

	if (fclose(f) || failed)
		fatal(EX_IOERR, "cannot write %s: %s", path, strerror(errno));
}

/* The shape that is asked for; the first without --shape, where this process is the game */
static void shape_choose(void)
{
	if (cfg.shape && !strcmp(cfg.shape, "list"))
		shape_list();
	own = !cfg.shape;
	for (u32 i = 0; i < ARRAY_SIZE(shapes) && !shape; i++)
		if (own || !strcmp(shapes[i].name, cfg.shape))
			shape = &shapes[i];
	if (!shape)
		fatal(EX_USAGE, "no shape '%s'; 'list' tells them", cfg.shape);
	if (!own && cfg.load)
		fatal(EX_USAGE, "--load %s does not go with --shape, which has its own load", cfg.load_name);
	if (own && cfg.as_name)
		fatal(EX_USAGE, "--as goes with --shape: without it this program is the game, by its name");
	if (own)
		return;
	cfg.load = shape->load ? shape->load : shape->alone || cfg.load_name ? LOAD_NONE : LOAD_HOGS;
	prctl(PR_SET_NAME, "shapes");	/* it is not this process that is the game */
}

static void report(void)
{
	for (u32 i = 0; i < runs_nr; i++) {
		run = runs[i];
		result = &results[i];
		run_summarize();
		if (cfg.json && cfg.compare)
			fputs(i ? ",\"with\":" : "{\"v\":1,\"command\":\"compare\",\"without\":", stdout);
		if (cfg.json)
			write_json(stdout);
	}
	if (cfg.json)
		puts(cfg.compare ? "}" : "");
	else
		write_text(stdout);
}

int main(int argc, char **argv)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	FILE *svg, *csv;

	name = name ? name + 1 : argv[0];
	for (u32 i = 0; i < ARRAY_SIZE(built); i++)
		if (argc == 2 && !strcmp(argv[0], built[i].name)) {
			program_run(&built[i], atol(argv[1]));
			return 0;
		}
	if (!strcmp(name, "side"))
		return side_main(argc, argv);
	if (argc == 6 && !strcmp(argv[1], "--member"))
		return member_main(argv + 2);
	options_parse(argc, argv);
	shape_choose();
	svg = report_open(cfg.svg);
	csv = report_open(cfg.csv);
	/* blocked for good, in all threads and children: only the main thread waits for them */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	fflush(NULL);				/* or children would flush it once more */
	atexit(run_clean);
	if (cfg.compare) {
		compare();
	} else {
		run_new();
		run_all();
	}
	report();
	if (csv) {
		write_csv(csv);
		report_close(csv, cfg.csv);
	}
	if (svg) {
		write_svg(svg);
		report_close(svg, cfg.svg);
	}
	report_close(stdout, "the report");
	return 0;
}
