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
 * The synthetic game:
 *
 *   GameThread --futex--> Job 0..N-1 --futex--> GameThread --futex--> RenderThread
 *     (frame limiter)      (fork-join)                                     | futex
 *   compositor process <--shared memory-- "GPU" <--submit-- SubmitThread <-+
 *     (vblank timer; listens where the game is connected, as displays do)
 *
 * Next to the frame chain: InputThread (uinput mouse or timer), AudioThread (period timer),
 * NetThread (UDP from a server process) and the load processes.
 *
 * Shared mappings hold all state, struct bench leads to it; helper processes are forked before
 * threads are made, all tasks meet at one barrier, and from then on each thread only sleeps on its
 * timer, its futex or its file descriptor: nothing spins, nothing reads the wall clock. What fails
 * before the barrier ends the program, and the children with it.
 *
 *   1. types   2. samples and waiting   3. devices   4. the game   5. helper processes   6. loads
 *   7. setup and run   8. figures   9. reports   10. side workloads   11. shapes   12. compare
 *   13. options
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
#define WARMUP_MS		1000	/* before the measured time */
#define INPUT_HZ		1000
#define IN_FLIGHT		2	/* frames between limiter and present call */
#define STAMPS			4	/* > IN_FLIGHT: none is overwritten unread */
#define COMPOSITOR_US		600	/* work per vblank */
#define INPUT_US		5	/* work per input event */
#define NET_US			20	/* work per datagram */
#define NET_HZ			100	/* server tick */
#define AUDIO_HZ		48000
#define AUDIO_PERIODS		2	/* in the device's buffer */
#define AUDIO_WORK_PCT		7	/* of a period */
#define HOG_US			250	/* one operation of a hog */
#define FORK_US			20	/* what a forked child does before it exits */
#define IO_BYTES		16384	/* one operation of the io load */
#define IO_FILE_BYTES		(1U << 20)
#define PIPE_BYTES		64
#define JITTER_NS		(500 * NSEC_PER_USEC)
#define SETUP_NS		(30 * NSEC_PER_SEC)	/* until all tasks are ready */
#define ANSWER_S		5	/* for a running gamer to say what it found, while the machine is busy */
#define ANSWER_NS		(ANSWER_S * NSEC_PER_SEC)
#define ANSWER_SIZE		(256 * 1024)
#define SCX			"/sys/kernel/sched_ext/"

/* How gamer may know a shape's game: by its name, not at all, by its environment */
enum as { AS_NAME, AS_STRANGER, AS_ENV, AS_NR };
static const char *const shape_as[AS_NR] = { "name", "stranger", "env" };

enum load { LOAD_NONE, LOAD_HOGS, LOAD_FORK, LOAD_PIPE, LOAD_IO, LOAD_MIXED, LOAD_NR };

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

enum stage {
	STAGE_SIM, STAGE_WORKER, STAGE_RENDER, STAGE_SUBMIT, STAGE_COMPOSITOR, STAGE_INPUT,
	STAGE_AUDIO, STAGE_NETWORK, STAGES
};

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

/* A thread of the game, or the compositor process. Owner: that thread, once started. */
struct thread {
	pthread_t pthread;	/* main */
	u32 role;		/* enum stage; main */
	u32 index;		/* within the role; main */
	u32 *wake_ns;		/* wakeup latencies, ns, in order; room for cap */
	u32 count;		/* of wake_ns */
	u32 cap;		/* main */
	u32 tid;		/* Linux thread */
	u64 woke_ns;		/* its first wakeup, CLOCK_MONOTONIC; 0: none yet */
	u64 event_ns;		/* the first event that tells its role at once; 0: none yet */
	struct found found;	/* main */
	struct work work;
} __attribute__((aligned(64)));

/* A counted futex: posts never get lost, each carries the time of its post. */
struct gate {
	_Atomic u32 seq;		/* posts so far, the futex word; poster */
	_Atomic u64 stamp_ns[STAMPS];	/* of post seq % STAMPS; poster */
} __attribute__((aligned(64)));

/* One frame. 0 in a time: has not happened. */
struct frame {
	u64 tick_ns;		/* limiter tick that started it; sim */
	u64 input_ns;		/* newest input event it used; sim */
	u64 call_ns;		/* present call, after the GPU submit; submit */
	_Atomic u64 gpu_done_ns;	/* completion, known in advance; submit */
	_Atomic u64 shown_ns;	/* composited and committed; compositor */
	_Atomic u32 jitter_ns;	/* largest wakeup latency on its chain; all of the chain */
};

/* One load task. Owner: the load process, if not said otherwise. */
struct slot {
	_Atomic u64 ops;	/* finished operations */
	u64 ops_at[2];		/* ops at the borders of the measured interval; main */
	u32 kind;		/* enum load, never NONE or MIXED; main */
	int fd[4];		/* pipe: request r/w, reply r/w; io: the file; main */
	struct work work;
} __attribute__((aligned(64)));

enum { RANK_P50, RANK_P95, RANK_P99, RANK_P999, RANK_MAX, RANKS };

static const struct {
	const char *label, *key;	/* for people; in JSON */
	double part;			/* of the samples that are at or below it */
} ranks[RANKS] = {
	{ "p50", "p50", 0.50 }, { "p95", "p95", 0.95 }, { "p99", "p99", 0.99 },
	{ "p99.9", "p999", 0.999 }, { "max", "max", 1 },
};

struct dist {
	u64 n;				/* samples */
	double v[RANKS];		/* nearest-rank percentiles; NAN without samples */
};

/* The figures of one run; main, after its end. */
struct result {
	double seconds;			/* measured */
	u64 frames;			/* started in the measured interval */
	u64 missed_ticks;		/* limiter ticks at which no frame started */
	u64 late_frames;		/* shown after the vblank that follows their tick */
	u64 dropped_frames;		/* never shown: a newer one was latched */
	u64 jitter_frames;		/* with a wakeup > JITTER_NS on their chain */
	double fps, low1_fps, low01_fps;
	double late_percent, xruns;
	double load_percent;		/* of what the first run's load did; NAN without load */
	struct dist frame_ms, input_ms, wake_us[STAGES];
	u64 load_ops[LOAD_NR];		/* by enum load */
	double load_rate[LOAD_NR];	/* ops per second; NAN without time */
	u64 *at_ns;			/* [frame_ms.n] end of each interval, from t0 */
	u32 *frame_ns;			/* [frame_ms.n] in order of frames */
};

/* One run of the game. Shared by all that take part in it. */
static struct bench {
	u64 period_ns, audio_period_ns, input_period_ns;	/* main */
	u64 gpu_ns;			/* GPU time of a frame; main */
	pid_t group;			/* process group of all children; main */
	u32 cpus, children, threads, frame_cap, slots;	/* main */
	int uinput, evdev, net, net_server;	/* descriptors or -1; main */
	int display, client;		/* where the compositor listens, and the game is connected; main */
	bool net_udp;			/* false: no loopback, a socket pair instead; main */
	bool interrupted;		/* main */
	char sched[64];			/* who schedules; main */

	/* the GPU stand-in; submit, if not said otherwise */
	struct gpu gpu;			/* main */

	/* start barrier and end; main, except ready */
	_Atomic u32 ready;		/* threads and processes at the barrier, futex; everybody */
	_Atomic u32 go;			/* futex */
	_Atomic u32 quit;		/* no more frames */
	_Atomic u32 stop;		/* measuring and the last frames are over */
	u64 epoch_ns, t0_ns;		/* vblank 0; start of the measured interval */
	_Atomic u64 t1_ns;		/* its end; pulled in by a signal */
	u64 load_ns[2];			/* when the loads' counters were really read */
	bool answered;			/* a running gamer said what it found; main */
	bool known;			/* and we are the game; main */
	u32 outside[ROLE_NR];		/* threads it named that are not ours, by role; main */

	/* the frame chain */
	struct gate jobs, joined, render, submit, retired;
	_Atomic u32 jobs_left;		/* sim sets, workers count down */
	_Atomic u32 quit_frame;		/* first frame that will not come; sim */
	_Atomic u32 called;		/* frames whose present call has been made; submit */
	_Atomic u64 newest_input_ns;	/* input */

	/* counted while measuring */
	u64 input_events;		/* input */
	u64 audio_periods, audio_xruns;	/* audio */
	u64 datagrams;			/* network */

	struct result result;		/* main, after the end */

	/* mappings of their own; main */
	struct frame *frame;	/* [frame_cap + 1], the last never starts */
	struct slot *slot;	/* [slots] */
	struct thread *thread;	/* [threads], by role */
	struct thread *role[STAGES];	/* first thread of each role */
} *bench;

static struct bench *runs[2];		/* all runs of this program, in order; main */
static u32 runs_nr;
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

/* Everybody counts itself ready, then waits for go. `game`: not a task of the load. */
static void barrier(bool game)
{
	if (game && cfg.realtime)
		policy(SCHED_FIFO);	/* game_setup() saw that it may */
	atomic_fetch_add(&bench->ready, 1);
	futex(&bench->ready, FUTEX_WAKE, 1, NULL);
	while (!atomic_load(&bench->go))
		futex(&bench->go, FUTEX_WAIT, 0, NULL);
}

static bool measured(u64 ns)
{
	return ns >= bench->t0_ns && ns < atomic_load(&bench->t1_ns);
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
static void woke(struct thread *t, u64 due_ns, u64 woke_ns, struct frame *frame)
{
	u32 late_ns = woke_ns > due_ns ? MIN(woke_ns - due_ns, (u64)UINT32_MAX) : 0;

	if (!t->woke_ns)
		t->woke_ns = woke_ns;
	if (measured(due_ns) && t->count < t->cap)
		t->wake_ns[t->count++] = late_ns;
	if (frame)
		raise_jitter(frame, late_ns);
}

/*
 * Sleeps until due_ns and returns the time. Whoever comes too late doesn't sleep, and what
 * doesn't sleep isn't woken: that is a late thread's overrun, not a wakeup latency.
 */
static u64 sleep_until(struct thread *t, u64 due_ns, struct frame *frame)
{
	struct timespec ts = timespec(due_ns);
	u64 now = now_ns();

	if (now >= due_ns)
		return now;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
	/* the clock that is read without a system call may lag the timer's by some ns */
	now = MAX(now_ns(), due_ns);
	if (t)
		woke(t, due_ns, now, frame);
	return now;
}

/* The return of a call that tells the thread's role at once: a submit, input, a datagram */
static void note_event(struct thread *t, u64 at_ns)
{
	if (!t->event_ns)
		t->event_ns = at_ns;
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
static void gate_wait(struct thread *t, struct gate *g, u32 want,
			    struct frame *frame)
{
	bool slept = false;
	u32 seq;

	while ((s32)((seq = atomic_load(&g->seq)) - want) < 0)
		slept = !futex(&g->seq, FUTEX_WAIT_PRIVATE, seq, NULL);
	if (slept)
		woke(t, atomic_load(&g->stamp_ns[want % STAMPS]), now_ns(), frame);
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

/* ==== 3. devices ==================================================================== */

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
		evdev = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	if (!ioctl(evdev, EVIOCSCLOCKID, &clock) && !ioctl(evdev, EVIOCGRAB, 1)) {
		bench->uinput = fd;
		bench->evdev = evdev;
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
		fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd[i] < 0)
			continue;
		bind(fd[i], (void *)&at[i], len);
		getsockname(fd[i], (void *)&at[i], &len);
	}
	bench->net_udp = fd[0] >= 0 && fd[1] >= 0 && !connect(fd[0], (void *)&at[1], sizeof(*at)) &&
			 !connect(fd[1], (void *)&at[0], sizeof(*at)) &&
			 send(fd[0], "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
	if (!bench->net_udp && socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fd))
		fatal(EX_OSERR, "no sockets: %s", strerror(errno));
	bench->net = fd[0];
	bench->net_server = fd[1];
}

/* ==== 4. the game =================================================================== */

/* Percent of a frame's work per stage; what the jobs get is split among the workers. */
static const u32 share_pct[STAGES] = {
	[STAGE_SIM] = 25, [STAGE_WORKER] = 40, [STAGE_RENDER] = 25, [STAGE_SUBMIT] = 10,
};

/* Frames differ by up to 25 %, by a hash of their number: the same in each run. */
static void frame_work(struct thread *t, u32 frame)
{
	const struct cfg *c = &cfg;
	u32 hash = (frame + 1) * 2654435761U;
	u64 iters = c->iters_per_ms * c->frame_work_us / 1000;

	hash ^= hash >> 15;
	iters = iters * share_pct[t->role] / 100 * (768 + hash % 513) / 1024;
	work(&t->work, t->role == STAGE_WORKER ? iters / c->workers : iters);
}

/* Waits for frame f at a stage's gate; false: there is none. */
static bool frame_wait(struct thread *t, struct gate *g, u32 f)
{
	gate_wait(t, g, f + 1, &bench->frame[f]);
	return f < atomic_load(&bench->quit_frame);
}

/*
 * The limiter's grid lies 1/16 period behind the vblanks, as with a game that is
 * called back when the compositor is done. A frame that overruns its period makes
 * the next one start at the next tick. At most IN_FLIGHT frames are under way.
 */
static void run_sim(struct thread *t)
{
	u64 tick_ns = bench->epoch_ns + bench->period_ns / 16;
	u32 f;

	for (f = 0; f < bench->frame_cap; f++, tick_ns += bench->period_ns) {
		struct frame *frame = &bench->frame[f];

		tick_ns = next_tick(tick_ns, bench->period_ns);
		if (atomic_load(&bench->quit))
			break;
		frame->tick_ns = tick_ns;
		sleep_until(t, tick_ns, frame);
		if (f >= IN_FLIGHT)
			gate_wait(t, &bench->retired, f - IN_FLIGHT + 1, frame);
		frame->input_ns = atomic_load(&bench->newest_input_ns);
		frame_work(t, f);
		atomic_store(&bench->jobs_left, cfg.workers);
		gate_post(&bench->jobs);
		gate_wait(t, &bench->joined, f + 1, frame);
		gate_post(&bench->render);
	}
	atomic_store(&bench->quit_frame, f);
	gate_post(&bench->jobs);
	gate_post(&bench->render);
}

static void run_worker(struct thread *t)
{
	for (u32 f = 0; frame_wait(t, &bench->jobs, f); f++) {
		frame_work(t, f);
		if (atomic_fetch_sub(&bench->jobs_left, 1) == 1)
			gate_post(&bench->joined);
	}
}

static void run_render(struct thread *t)
{
	for (u32 f = 0; frame_wait(t, &bench->render, f); f++) {
		frame_work(t, f);
		gate_post(&bench->submit);
	}
	gate_post(&bench->submit);
}

/* The GPU needs gpu_ns per frame, one frame after the other. */
static void run_submit(struct thread *t)
{
	u64 done_ns = 0;
	bool connected = false;

	for (u32 f = 0; frame_wait(t, &bench->submit, f); f++) {
		struct frame *frame = &bench->frame[f];

		connected = connected || !display_socket(bench->client, getpid(), connect);
		frame_work(t, f);
		gpu_submit(&bench->gpu);
		frame->call_ns = now_ns();
		if (bench->gpu.fd >= 0)
			note_event(t, frame->call_ns);
		done_ns = MAX(done_ns, frame->call_ns) + bench->gpu_ns;
		atomic_store(&frame->gpu_done_ns, done_ns);
		atomic_store(&bench->called, f + 1);
		gate_post(&bench->retired);
	}
}

/* Handles `events` input events, the newest from newest_ns. */
static void input_events(struct thread *t, u64 events, u64 newest_ns)
{
	atomic_store(&bench->newest_input_ns, newest_ns);
	if (measured(newest_ns))
		bench->input_events += events;
	work_us(&t->work, INPUT_US * MIN(events, 64ULL));
}

static void input_evdev(struct thread *t)
{
	struct pollfd pfd = { .fd = bench->evdev, .events = POLLIN };
	struct input_event ev[64];

	while (!atomic_load(&bench->stop)) {
		u64 before_ns = now_ns(), first_ns = 0, newest_ns = 0, events = 0, woke_ns;
		int ready = poll(&pfd, 1, 200);		/* in ms: sees the end without an event */
		ssize_t n;

		woke_ns = now_ns();
		n = ready > 0 ? read(bench->evdev, ev, sizeof(ev)) : 0;
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(*ev); i++) {
			if (ev[i].type != EV_SYN)
				continue;
			newest_ns = ev[i].input_event_sec * NSEC_PER_SEC +
				    ev[i].input_event_usec * NSEC_PER_USEC;
			first_ns = first_ns ? first_ns : newest_ns;
			events++;
		}
		if (!events)
			continue;
		note_event(t, woke_ns);
		/* the kernel's stamp has microseconds: it may lie up to 1 us too early */
		if (first_ns + NSEC_PER_USEC > before_ns)
			woke(t, first_ns, woke_ns, NULL);
		input_events(t, events, newest_ns);
	}
}

/* Without a device a timer does: a late thread finds several events, as read() would. */
static void run_input(struct thread *t)
{
	u64 due_ns = bench->epoch_ns, step_ns = bench->input_period_ns;

	if (bench->evdev >= 0)
		input_evdev(t);	/* until the end */
	while (!atomic_load(&bench->stop)) {
		u64 behind = (sleep_until(t, due_ns, NULL) - due_ns) / step_ns;

		due_ns += behind * step_ns;
		input_events(t, behind + 1, due_ns);
		due_ns += step_ns;
	}
}

/*
 * The device plays one period of its buffer while the thread fills the next one: what is
 * woken at the start of period k must be done AUDIO_PERIODS - 1 periods later. Done
 * later is an xrun, and the stream starts anew at the next period.
 */
static void run_audio(struct thread *t)
{
	u64 busy_us = bench->audio_period_ns * AUDIO_WORK_PCT / 100 / NSEC_PER_USEC;
	u64 due_ns = bench->epoch_ns, done_ns, deadline_ns;

	while (!atomic_load(&bench->stop)) {
		sleep_until(t, due_ns, NULL);
		work_us(&t->work, busy_us);
		done_ns = now_ns();
		deadline_ns = due_ns + (AUDIO_PERIODS - 1) * bench->audio_period_ns;
		if (measured(due_ns)) {
			bench->audio_periods++;
			bench->audio_xruns += done_ns > deadline_ns;
		}
		due_ns = done_ns > deadline_ns ? next_tick(due_ns, bench->audio_period_ns)
					       : due_ns + bench->audio_period_ns;
	}
}

/* A server's snapshot; the answer is the same bytes back. */
struct datagram {
	u64 sent_ns;		/* just before send */
	u8 state[120];
};

static void run_network(struct thread *t)
{
	struct datagram d;

	for (;;) {
		u64 before_ns = now_ns(), woke_ns;

		if (recv(bench->net, &d, sizeof(d), 0) != sizeof(d))
			return;		/* shut down by main at the end */
		woke_ns = now_ns();
		note_event(t, woke_ns);
		if (d.sent_ns > before_ns)
			woke(t, d.sent_ns, woke_ns, NULL);
		if (measured(d.sent_ns))
			bench->datagrams++;
		work_us(&t->work, NET_US);
		send(bench->net, &d, sizeof(d), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* ==== 5. helper processes =========================================================== */

/* At each vblank: latch the newest finished frame, composite it, commit it. */
static void run_compositor(struct slot *none)
{
	struct thread *t = bench->role[STAGE_COMPOSITOR];
	u64 vblank_ns = bench->epoch_ns, now;
	s64 f, shown = -1;

	(void)none;
	t->tid = gettid();
	listen(bench->display, 1);
	for (;; vblank_ns += bench->period_ns) {
		vblank_ns = next_tick(vblank_ns, bench->period_ns);
		now = sleep_until(t, vblank_ns, NULL);
		for (f = (s64)atomic_load(&bench->called) - 1; f > shown; f--) {
			u64 done_ns = atomic_load(&bench->frame[f].gpu_done_ns);

			if (done_ns && done_ns <= now)
				break;
		}
		work_us(&t->work, COMPOSITOR_US);
		if (f <= shown)
			continue;
		raise_jitter(&bench->frame[f], MIN(now - vblank_ns, (u64)UINT32_MAX));
		atomic_store(&bench->frame[f].shown_ns, now_ns());
		shown = f;
	}
}

/* The mouse's hardware. It is an ordinary task: when it is late, so are its reports. */
static void run_feeder(struct slot *none)
{
	struct input_event ev[2] = { { .type = EV_REL, .code = REL_X, .value = 1 },
				     { .type = EV_SYN, .code = SYN_REPORT } };
	u64 due_ns = bench->epoch_ns;

	(void)none;
	for (;; due_ns += bench->input_period_ns) {
		due_ns = next_tick(due_ns, bench->input_period_ns);
		sleep_until(NULL, due_ns, NULL);
		ev[0].value = -ev[0].value;
		if (write(bench->uinput, ev, sizeof(ev)) < 0)
			return;
	}
}

static void run_server(struct slot *none)
{
	struct datagram d = { 0 }, answer;
	u64 due_ns = bench->epoch_ns;

	(void)none;
	for (;; due_ns += NSEC_PER_SEC / NET_HZ) {
		due_ns = next_tick(due_ns, NSEC_PER_SEC / NET_HZ);
		sleep_until(NULL, due_ns, NULL);
		while (recv(bench->net_server, &answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
		d.sent_ns = now_ns();
		send(bench->net_server, &d, sizeof(d), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
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

/* Helpers and loads share one process group, so that one kill reaches them all, and their children. */
static void spawn(const char *comm, void (*fn)(struct slot *), struct slot *s)
{
	pid_t pid = fork_as(comm);

	if (pid == 0) {
		setpgid(0, bench->group);
		prctl(PR_SET_TIMERSLACK, 1);
		barrier(!s);
		fn(s);
		_exit(0);
	}
	if (!bench->group)
		bench->group = pid;
	setpgid(pid, bench->group);		/* both sides do it, whoever comes first */
	bench->children++;
}

/* ==== 6. loads ====================================================================== */

static void load_hog(struct slot *s)
{
	for (;;) {
		work_us(&s->work, HOG_US);
		atomic_fetch_add(&s->ops, 1);
	}
}

static void load_fork(struct slot *s)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			work_us(&s->work, FORK_US);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return;
		atomic_fetch_add(&s->ops, 1);
	}
}

static void load_ping(struct slot *s)
{
	char buf[PIPE_BYTES] = "";

	while (write(s->fd[1], buf, sizeof(buf)) == sizeof(buf) &&
	       read(s->fd[2], buf, sizeof(buf)) == sizeof(buf))
		atomic_fetch_add(&s->ops, 1);
}

static void load_pong(struct slot *s)
{
	char buf[PIPE_BYTES];

	while (read(s->fd[0], buf, sizeof(buf)) == sizeof(buf) &&
	       write(s->fd[3], buf, sizeof(buf)) == sizeof(buf))
		;
}

static void load_io(struct slot *s)
{
	static char buf[IO_BYTES];

	for (off_t at = 0; ; at = (at + sizeof(buf)) % IO_FILE_BYTES) {
		buf[0]++;
		if (pwrite(s->fd[0], buf, sizeof(buf), at) != sizeof(buf) || fsync(s->fd[0]) ||
		    pread(s->fd[0], buf, sizeof(buf), at) != sizeof(buf)) {
			fprintf(stderr, "gamer-bench: io load: %s\n", strerror(errno));
			return;
		}
		atomic_fetch_add(&s->ops, 1);
	}
}

/* A kind of load: one task, or two that are never runnable at once */
static const struct load_kind {
	const char *name;		/* in the report */
	const char *comm;		/* process name; NULL: no kind of its own */
	void (*run)(struct slot *s);
	void (*peer)(struct slot *s);	/* or NULL */
} loads[LOAD_NR] = {
	[LOAD_NONE] = { .name = "none" },
	[LOAD_HOGS] = { "hogs", "load-hog", load_hog, NULL },
	[LOAD_FORK] = { "fork", "load-fork", load_fork, NULL },
	[LOAD_PIPE] = { "pipe", "load-pipe", load_ping, load_pong },
	[LOAD_IO] = { "io", "load-io", load_io, NULL },
	[LOAD_MIXED] = { .name = "mixed" },
};

/* The io load's file has no name: on disk if possible, in memory where nothing is writable. */
static void load_start(struct slot *s)
{
	const char *const dirs[] = { getenv("TMPDIR") ?: "", "/var/tmp", "/tmp", "." };
	const struct load_kind *kind = &loads[s->kind];
	bool failed = false;

	memset(s->fd, -1, sizeof(s->fd));
	if (s->kind == LOAD_PIPE)
		failed = pipe2(s->fd, O_CLOEXEC) || pipe2(s->fd + 2, O_CLOEXEC);
	if (s->kind == LOAD_IO) {
		for (u32 i = 0; i < ARRAY_SIZE(dirs) && s->fd[0] < 0; i++)
			s->fd[0] = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (s->fd[0] < 0)
			failed = (s->fd[0] = memfd_create("gamer-bench", MFD_CLOEXEC)) < 0;
	}
	if (failed)
		fatal(EX_OSERR, "%s: %s", kind->comm, strerror(errno));
	spawn(kind->comm, kind->run, s);
	if (kind->peer)
		spawn(kind->comm, kind->peer, s);
	for (u32 i = 0; i < ARRAY_SIZE(s->fd); i++)	/* not for the next child to inherit */
		if (s->fd[i] >= 0)
			close(s->fd[i]);
}

/* ==== 7. setup and run ============================================================== */

static const struct stage_info {
	const char *name;	/* in the report */
	const char *comm;	/* thread name; %u: its index */
	void (*run)(struct thread *t);	/* NULL: a process, started by name */
	u32 truth;		/* enum role that a running gamer should find; see truth */
} stages[STAGES] = {
	[STAGE_SIM] = { "sim", "GameThread", run_sim, ROLE_RENDER },
	[STAGE_WORKER] = { "worker", "Job %u", run_worker, ROLE_WORKER },
	[STAGE_RENDER] = { "render", "RenderThread", run_render, ROLE_RENDER },
	[STAGE_SUBMIT] = { "submit", "SubmitThread", run_submit, ROLE_GPU },
	[STAGE_COMPOSITOR] = { "compositor", "compositor", NULL, ROLE_COMPOSITOR },
	[STAGE_INPUT] = { "input", "InputThread", run_input, ROLE_INPUT },
	[STAGE_AUDIO] = { "audio", "AudioThread", run_audio, ROLE_AUDIO },
	[STAGE_NETWORK] = { "network", "NetThread", run_network, ROLE_NETWORK },
};

/* Zeroed memory that children share, faulted in beforehand: measuring allocates nothing. */
static void *map(u64 n, size_t size)
{
	void *p = mmap(NULL, MAX(n, 1U) * size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		fatal(EX_OSERR, "%zu MB of memory: %s", (size_t)(n * size >> 20),
		    strerror(errno));
	return p;
}

/* The samples of a role's threads lie in one row: in the end they are one distribution. */
static void game_alloc(void)
{
	const struct cfg *c = &cfg;
	const u64 wakeups_hz[STAGES] = {	/* the most that a thread can count */
		[STAGE_SIM] = 3 * FPS, [STAGE_WORKER] = FPS, [STAGE_RENDER] = FPS,
		[STAGE_SUBMIT] = FPS, [STAGE_COMPOSITOR] = FPS, [STAGE_INPUT] = INPUT_HZ,
		[STAGE_NETWORK] = NET_HZ, [STAGE_AUDIO] = AUDIO_HZ / c->audio_frames + 1,
	};
	struct thread *t;

	bench->frame = map(bench->frame_cap + 1, sizeof(*bench->frame));
	bench->slot = map(bench->slots, sizeof(*bench->slot));
	bench->thread = t = map(bench->threads, sizeof(*t));
	for (u32 role = 0; role < STAGES; role++) {
		u32 n = role == STAGE_WORKER ? c->workers : 1;
		u32 cap = wakeups_hz[role] * (c->seconds + 1) + 16;
		u32 *wake_ns = map((u64)n * cap, sizeof(u32));

		bench->role[role] = t;
		for (u32 i = 0; i < n; i++, t++)
			*t = (struct thread){
				.role = role, .index = i, .wake_ns = wake_ns + (size_t)i * cap,
				.cap = cap, .work.x = t - bench->thread + 1,
			};
	}
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

/* One run more, as `bench`; it may be another process that runs it. */
static void game_new(void)
{
	cpu_set_t set;

	runs[runs_nr++] = bench = map(1, sizeof(*bench));
	bench->cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
	cfg_complete(bench->cpus);
	bench->uinput = bench->evdev = bench->gpu.fd = -1;
	bench->quit_frame = UINT32_MAX;
	bench->slots = cfg.load == LOAD_NONE ? 0 : cfg.load_threads;
	bench->period_ns = NSEC_PER_SEC / FPS;
	bench->input_period_ns = NSEC_PER_SEC / INPUT_HZ;
	bench->audio_period_ns = cfg.audio_frames * NSEC_PER_SEC / AUDIO_HZ;
	bench->gpu_ns = bench->period_ns / 4;
	/* frames go on until gamer has answered, or their threads would be gone by then */
	bench->frame_cap = FPS * (cfg.seconds + 1 + ANSWER_S) + FPS * WARMUP_MS / 1000 + 16;
	bench->threads = STAGES - 1 + cfg.workers;
	game_alloc();
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	char comm[16];

	snprintf(comm, sizeof(comm), stages[t->role].comm, t->index);
	t->tid = gettid();
	prctl(PR_SET_NAME, comm);
	prctl(PR_SET_TIMERSLACK, 1);	/* the default of 50 us would be counted as latency */
	barrier(true);
	stages[t->role].run(t);
	return NULL;
}

/* Has a child ended that should run until it is killed? It stays unreaped. */
static bool child_died(void)
{
	siginfo_t info = { 0 };

	return !waitid(P_PGID, bench->group, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid;
}

static void threads_start(void)
{
	for (u32 i = 0; i < bench->threads; i++) {
		struct thread *t = &bench->thread[i];
		int err = t->role == STAGE_COMPOSITOR ? 0 :
			  pthread_create(&t->pthread, NULL, thread_main, t);

		if (err)
			fatal(EX_OSERR, "cannot make threads: %s", strerror(err));
	}
}

static void threads_join(u32 first_role, u32 last_role)
{
	for (u32 i = 0; i < bench->threads; i++)
		if (bench->thread[i].role >= first_role && bench->thread[i].role <= last_role)
			pthread_join(bench->thread[i].pthread, NULL);
}

/* Until so many tasks wait at the barrier */
static void tasks_await(u32 want)
{
	const struct timespec ts = timespec(NSEC_PER_SEC / 5);
	u64 limit_ns = now_ns() + SETUP_NS;
	u32 ready;

	while ((ready = atomic_load(&bench->ready)) < want) {
		if (child_died() || now_ns() > limit_ns)
			fatal(EX_OSERR, "only %u of %u tasks started", ready, want);
		futex(&bench->ready, FUTEX_WAIT, ready, &ts);
	}
}

/* The barrier falls; returns when the measured time ends. */
static u64 tasks_go(void)
{
	u64 t1_ns;

	bench->epoch_ns = now_ns() + 20 * NSEC_PER_MSEC;
	bench->t0_ns = bench->epoch_ns + WARMUP_MS * NSEC_PER_MSEC;
	t1_ns = bench->t0_ns + cfg.seconds * NSEC_PER_SEC;
	atomic_store(&bench->t1_ns, t1_ns);
	atomic_store(&bench->go, 1);
	futex(&bench->go, FUTEX_WAKE, INT_MAX, NULL);
	return t1_ns;
}

/* Everything up to the barrier, where all threads and children wait */
static void game_setup(void)
{
	if (cfg.realtime && (!policy(SCHED_FIFO) || !policy(SCHED_OTHER)))
		fatal(errno == EPERM ? EX_NOPERM : EX_OSERR, "--realtime: %s", strerror(errno));
	if (!cfg.no_drm)
		bench->gpu = gpu_open();
	if (!cfg.no_uinput)
		uinput_open();
	net_open();
	bench->display = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bench->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	display_socket(bench->display, getpid(), bind);
	spawn(stages[STAGE_COMPOSITOR].comm, run_compositor, NULL);
	spawn("game-server", run_server, NULL);
	if (bench->evdev >= 0)
		spawn("mouse-feeder", run_feeder, NULL);
	for (u32 i = 0; i < bench->slots; i++) {
		struct slot *s = &bench->slot[i];

		s->kind = cfg.load == LOAD_MIXED ? LOAD_HOGS + i % 4 : cfg.load;
		s->work.x = i + 1;
		load_start(s);
	}
	if (!cfg.shape)
		prctl(PR_SET_NAME, BENCH_COMM);	/* now: no child may have it */
	threads_start();
	tasks_await(bench->children + bench->threads - 1);	/* the compositor is a child */
}

/* Ends and reaps every thread, child and orphan of a forking load; descriptors end with us. */
static void game_teardown(void)
{
	bool died = child_died();

	atomic_store(&bench->stop, 1);
	shutdown(bench->net, SHUT_RDWR);	/* wakes the network thread */
	threads_join(STAGE_INPUT, STAGE_NETWORK);
	kill(-bench->group, SIGKILL);
	while (waitpid(-bench->group, NULL, 0) > 0)
		;
	if (died)
		fatal(EX_OSERR, "a helper or load process ended early, no report");
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
				(atomic_load(&bench->t1_ns) - now) / 1e9,
				atomic_load(&bench->called));
		asked = sigtimedwait(&signals, NULL, &ts) > 0;
		if (show)
			fputs("\r\033[K", stderr);
	}
	return !asked;
}

/* Reads the loads' counters; the moment is noted, since main may be late under load. */
static void loads_read(u32 border)
{
	for (u32 i = 0; i < bench->slots; i++)
		bench->slot[i].ops_at[border] = atomic_load(&bench->slot[i].ops);
	bench->load_ns[border] = now_ns();
}

/* What follows "KEY": in a JSON object that begins here, or 0 */
static u64 number_of(const char *object, const char *key)
{
	const char *at = strstr(object, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* A thread of the answer: one of ours, or one that the game has nothing to do with */
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
	for (u32 i = 0; i < bench->threads; i++)
		if (bench->thread[i].tid == tid) {
			bench->thread[i].found = found;
			return;
		}
	if (pid == (u32)getpid())	/* the main thread only waits, whatever it is called */
		bench->known = true;
	else
		bench->outside[found.role]++;
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
		while (n > 0 && !whole && now_ns() < end_ns) {
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
 * Asks a running gamer what it takes each thread for, while they live; without one there
 * is nothing to tell.
 */
static void ask(void)
{
	const char *row = answer;

	memset(bench->outside, 0, sizeof(bench->outside));
	for (u32 i = 0; i < bench->threads; i++)
		bench->thread[i].found = (struct found){ 0 };	/* an earlier answer counts no more */
	bench->answered = gamer_says();
	while (bench->answered && (row = strstr(row, "{\"tid\":")))
		found_thread(row++);
}

/* A game loads for seconds before its first frame: a running gamer may see who we are. */
static void wait_known(void)
{
	u64 end_ns = now_ns() + ANSWER_NS;

	do {
		ask();
	} while (bench->answered && !bench->known && now_ns() < end_ns &&
		 !usleep(20 * NSEC_PER_MSEC / NSEC_PER_USEC));
}

/* The run itself, from the barrier's fall until the last frame has been shown */
static void game_measure(void)
{
	char sched[sizeof(bench->sched)];
	u64 t1_ns = tasks_go(), called;

	bench->interrupted = !main_wait(bench->t0_ns);
	loads_read(0);
	scheduler(bench->sched, sizeof(bench->sched));
	if (!bench->interrupted)
		bench->interrupted = !main_wait(t1_ns);
	loads_read(1);
	if (bench->interrupted)
		atomic_store(&bench->t1_ns, MIN(bench->load_ns[1], t1_ns));
	scheduler(sched, sizeof(sched));
	if (strcmp(sched, bench->sched)) {
		fprintf(stderr, "gamer-bench: the scheduler changed while measuring: %s, %s\n", bench->sched, sched);
		snprintf(bench->sched, sizeof(bench->sched), "mixed");
	}
	ask();
	atomic_store(&bench->quit, 1);

	threads_join(STAGE_SIM, STAGE_SUBMIT);
	called = atomic_load(&bench->called);
	for (u32 i = 0; i < 16 && called && !atomic_load(&bench->frame[called - 1].shown_ns); i++)
		sleep_until(NULL, now_ns() + bench->period_ns, NULL);
}

/* One run from its first child to its end; the figures are made of what it leaves. */
static void game_run(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);	/* to reap the forking load's orphans */
	game_setup();
	wait_known();
	game_measure();
	game_teardown();
}

/* ==== 8. figures ================================================================== */

/* Sorts the samples. */
static struct dist dist_of(u32 *ns, u64 n, double unit_ns)
{
	struct dist d = { .n = n };

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

/* Frame figures; what is sorted are copies, the plots need the order. */
static void sum_frames(struct result *r)
{
	u32 *input_ns = map(bench->frame_cap, sizeof(u32));
	u32 *sorted_ns = map(bench->frame_cap, sizeof(u32));
	u64 inputs = 0, n = 0, sum_ns = 0, calls = atomic_load(&bench->called);

	r->frame_ns = map(bench->frame_cap, sizeof(u32));
	r->at_ns = map(bench->frame_cap, sizeof(u64));
	for (u64 f = 0; f < calls; f++) {
		struct frame *frame = &bench->frame[f];
		u64 start = (frame->tick_ns - bench->epoch_ns) / bench->period_ns;
		u64 shown_ns = atomic_load(&frame->shown_ns), took_ns;

		if (!measured(frame->tick_ns))
			continue;
		r->frames++;
		r->jitter_frames += atomic_load(&frame->jitter_ns) > JITTER_NS;
		if (!shown_ns)
			r->dropped_frames++;
		else if ((shown_ns - bench->epoch_ns) / bench->period_ns > start + 1)
			r->late_frames++;
		if (shown_ns && frame->input_ns)
			input_ns[inputs++] = MIN(shown_ns - frame->input_ns, (u64)UINT32_MAX);
		if (!f)
			continue;
		took_ns = frame->call_ns - frame[-1].call_ns;
		sum_ns += took_ns;
		r->at_ns[n] = frame->call_ns - bench->t0_ns;
		sorted_ns[n] = r->frame_ns[n] = MIN(took_ns, (u64)UINT32_MAX);
		n++;
	}
	r->input_ms = dist_of(input_ns, inputs, NSEC_PER_MSEC);
	r->frame_ms = dist_of(sorted_ns, n, NSEC_PER_MSEC);
	r->fps = n ? n * (double)NSEC_PER_SEC / sum_ns : NAN;
	r->low1_fps = low_fps(sorted_ns, n, 0.01);
	r->low01_fps = low_fps(sorted_ns, n, 0.001);
}

/* The geometric mean over all kinds of load: those of more operations count no more than others */
static double load_percent(const struct result *r, const struct result *base)
{
	double product = 1;
	u32 kinds = 0;

	for (u32 kind = 0; kind < LOAD_NR; kind++)
		if (base->load_rate[kind] > 0) {
			product *= r->load_rate[kind] / base->load_rate[kind];
			kinds++;
		}
	return kinds ? 100 * pow(product, 1.0 / kinds) : NAN;
}

static void game_summarize(void)
{
	struct result *r = &bench->result;
	u64 t1_ns = atomic_load(&bench->t1_ns), ticks;
	double load_s = (bench->load_ns[1] - bench->load_ns[0]) / (double)NSEC_PER_SEC;

	r->seconds = t1_ns > bench->t0_ns ? (t1_ns - bench->t0_ns) / (double)NSEC_PER_SEC : 0;
	sum_frames(r);
	ticks = r->seconds * NSEC_PER_SEC / bench->period_ns;
	r->missed_ticks = ticks > r->frames ? ticks - r->frames : 0;
	for (u32 role = 0; role < STAGES; role++) {	/* a role's samples lie in one row */
		struct thread *t = bench->role[role];
		u32 *wake_ns = t->wake_ns, n = 0;

		for (; t < bench->thread + bench->threads && t->role == role; n += t++->count)
			memmove(wake_ns + n, t->wake_ns, t->count * sizeof(u32));
		r->wake_us[role] = dist_of(wake_ns, n, NSEC_PER_USEC);
	}
	for (u32 i = 0; i < bench->slots; i++) {
		struct slot *s = &bench->slot[i];

		r->load_ops[s->kind] += s->ops_at[1] - s->ops_at[0];
	}
	for (u32 kind = 0; kind < LOAD_NR; kind++)
		r->load_rate[kind] = load_s > 0 ? r->load_ops[kind] / load_s : NAN;
	r->late_percent = percent(r->late_frames, r->frames);
	r->xruns = bench->audio_xruns;
	r->load_percent = load_percent(r, &runs[0]->result);
}

/* ==== 9. reports ===================================================================== */

static bool json_first;		/* the next member is the first of its object */

static void json_key(FILE *o, const char *name)
{
	fprintf(o, "%s\"%s\":", json_first ? "" : ",", name);
	json_first = false;
}

static void json_open(FILE *o, const char *name)
{
	if (name)
		json_key(o, name);
	fputc('{', o);
	json_first = true;
}

static void json_close(FILE *o)
{
	fputc('}', o);
	json_first = false;
}

/* Texts are this program's words or a scheduler's name: in what follows is nothing to escape. */
static void field(FILE *o, const char *name, double v, int digits)
{
	json_key(o, name);
	if (isnan(v))
		fputs("null", o);
	else
		fprintf(o, "%.*f", digits, v);
}

static void field_dist(FILE *o, const char *name, const struct dist *d)
{
	json_open(o, name);
	field(o, "n", d->n, 0);
	for (u32 i = 0; i < RANKS; i++)
		field(o, ranks[i].key, d->v[i], 3);
	json_close(o);
}

/* Without a device to submit to, what submits is one more stage of the frame. */
static u32 truth(const struct thread *t)
{
	u32 role = stages[t->role].truth;

	return role == ROLE_GPU && bench->gpu.fd < 0 ? ROLE_RENDER : role;
}

/*
 * From the first event that tells the role, else the first wakeup, until it was known; us.
 * Less than 0: known before the call returned, or earlier by other evidence.
 */
static double role_us(const struct thread *t)
{
	u64 from_ns = t->event_ns ? t->event_ns : t->woke_ns;

	if (!t->found.role_at_ns || !from_ns)
		return NAN;
	return (s64)(t->found.role_at_ns - from_ns) / (double)NSEC_PER_USEC;
}

/* Each thread and what gamer found it to be; of others' threads only how many. */
static void json_roles(FILE *o)
{
	json_open(o, "roles");
	json_key(o, "threads");
	for (u32 i = 0; i < bench->threads; i++) {
		const struct thread *t = &bench->thread[i];

		fprintf(o, "%c{\"thread\":\"%s\",\"tid\":%u,\"truth\":\"%s\",\"found\":\"%s\",\"source\":\"%s\",\"confidence\":%u",
			i ? ',' : '[', stages[t->role].name, t->tid, role_names[truth(t)], role_names[t->found.role],
			t->found.source, t->found.confidence);
		field(o, "us", role_us(t), 3);
		field(o, "wakeups", t->found.role_wakeups, 0);
		json_close(o);
	}
	fputc(']', o);
	json_open(o, "outside");
	for (u32 role = 0; role < ROLE_NR; role++)
		field(o, role_names[role], bench->outside[role], 0);
	json_close(o);
	json_close(o);
}

/* Is that kind of load part of this run? */
static bool load_runs(u32 kind)
{
	return loads[kind].run && (cfg.load == kind || cfg.load == LOAD_MIXED);
}

static void json_config(FILE *o)
{
	fprintf(o, ",\"config\":{\"cpus\":%u,\"seconds\":%" PRIu64 ",\"fps\":%u,\"workers\":%" PRIu64
		",\"frame_work_us\":%" PRIu64 ",\"iters_per_ms\":%" PRIu64 ",\"input_hz\":%u,\"audio_frames\":%" PRIu64,
		bench->cpus, cfg.seconds, FPS, cfg.workers, cfg.frame_work_us, cfg.iters_per_ms, INPUT_HZ, cfg.audio_frames);
	fprintf(o, ",\"load\":\"%s\",\"load_threads\":%u,\"gpu\":\"%s\",\"input\":\"%s\",\"network\":\"%s\"}",
		loads[cfg.load].name, bench->slots, bench->gpu.fd < 0 ? "timer" : "vgem",
		bench->evdev >= 0 ? "uinput" : "timer", bench->net_udp ? "udp" : "unix");
}

/* One run; name: its place in a document of several, or NULL */
static void write_json(FILE *o, const char *name)
{
	const struct result *r = &bench->result;

	json_open(o, name);
	fprintf(o, "\"v\":1,\"command\":\"bench\",\"scheduler\":\"%s\"", bench->sched);
	json_first = false;
	json_config(o);
	field(o, "measured_s", r->seconds, 3);
	fprintf(o, ",\"interrupted\":%s,\"frames\":%" PRIu64 ",\"late_frames\":%" PRIu64 ",\"dropped_frames\":%" PRIu64
		",\"missed_ticks\":%" PRIu64 ",\"jitter_frames\":%" PRIu64 ",\"audio_periods\":%" PRIu64
		",\"audio_xruns\":%" PRIu64 ",\"input_events\":%" PRIu64 ",\"datagrams\":%" PRIu64,
		bench->interrupted ? "true" : "false", r->frames, r->late_frames, r->dropped_frames, r->missed_ticks,
		r->jitter_frames, bench->audio_periods, bench->audio_xruns, bench->input_events, bench->datagrams);
	field(o, "jitter_percent", percent(r->jitter_frames, r->frames), 2);
	field(o, "fps", r->fps, 3);
	field(o, "fps_low1", r->low1_fps, 3);
	field(o, "fps_low01", r->low01_fps, 3);
	field_dist(o, "frame_time_ms", &r->frame_ms);
	field_dist(o, "input_present_ms", &r->input_ms);
	json_open(o, "wakeup_us");
	for (u32 role = 0; role < STAGES; role++)
		field_dist(o, stages[role].name, &r->wake_us[role]);
	json_close(o);
	json_open(o, "load");
	for (u32 kind = 0; kind < LOAD_NR; kind++)
		if (load_runs(kind)) {
			json_open(o, loads[kind].name);
			field(o, "ops", r->load_ops[kind], 0);
			field(o, "ops_per_s", r->load_rate[kind], 1);
			json_close(o);
		}
	json_close(o);
	if (bench->answered)
		json_roles(o);
	json_close(o);
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
	fprintf(o, "  game     %u fps, %" PRIu64 " us of work per frame, %" PRIu64 " job worker%s, GPU: %s\n", FPS,
		cfg.frame_work_us, cfg.workers, cfg.workers == 1 ? "" : "s", bench->gpu.fd < 0 ? "timer" : "vgem");
	fprintf(o, "  beside   input %u Hz by %s, audio %" PRIu64 " frames, network %u Hz by %s\n", INPUT_HZ,
		bench->evdev >= 0 ? "uinput" : "timer", cfg.audio_frames, NET_HZ,
		bench->net_udp ? "UDP" : "socket pair");
	fprintf(o, "  repeat   the same work with --iters-per-ms %" PRIu64 "\n", cfg.iters_per_ms);
}

static const struct figure {
	const char *label, *unit;
	size_t at;		/* a double of struct result */
	bool less;		/* is better */
} figures[] = {
#define AT(member) offsetof(struct result, member)
	{ "frames per second", "", AT(fps), false },
	{ "1 % low", "", AT(low1_fps), false },
	{ "frames late", "%", AT(late_percent), true },
	{ "frame time p50", "ms", AT(frame_ms.v[RANK_P50]), true },
	{ "frame time p99", "ms", AT(frame_ms.v[RANK_P99]), true },
	{ "frame time p99.9", "ms", AT(frame_ms.v[RANK_P999]), true },
	{ "longest frame", "ms", AT(frame_ms.v[RANK_MAX]), true },
	{ "input to screen p99", "ms", AT(input_ms.v[RANK_P99]), true },
	{ "audio dropouts", "", AT(xruns), true },
	{ "load kept", "%", AT(load_percent), false },
	{ "sim wakeup p99", "us", AT(wake_us[STAGE_SIM].v[RANK_P99]), true },
	{ "worker wakeup p99", "us", AT(wake_us[STAGE_WORKER].v[RANK_P99]), true },
	{ "render wakeup p99", "us", AT(wake_us[STAGE_RENDER].v[RANK_P99]), true },
	{ "submit wakeup p99", "us", AT(wake_us[STAGE_SUBMIT].v[RANK_P99]), true },
	{ "compositor wakeup p99", "us", AT(wake_us[STAGE_COMPOSITOR].v[RANK_P99]), true },
	{ "input wakeup p99", "us", AT(wake_us[STAGE_INPUT].v[RANK_P99]), true },
	{ "audio wakeup p99", "us", AT(wake_us[STAGE_AUDIO].v[RANK_P99]), true },
	{ "network wakeup p99", "us", AT(wake_us[STAGE_NETWORK].v[RANK_P99]), true },
#undef AT
};

static double figure_of(const struct figure *f, u32 run)
{
	double v;

	memcpy(&v, (const char *)&runs[run]->result + f->at, sizeof(v));
	return v;
}

/* A column per run: one, or without and with COMMAND; `--json` has the other percentiles. */
static void write_text(FILE *o)
{
	fprintf(o, "gamer-bench: %" PRIu64 " s%s, %u CPUs, load %s", cfg.seconds, runs_nr > 1 ? " twice" : "", bench->cpus,
		loads[cfg.load].name);
	if (bench->slots)
		fprintf(o, " x %u", bench->slots);
	fprintf(o, "%s\n", bench->interrupted ? " (interrupted)" : "");
	write_work(o);
	if (cfg.compare)
		fprintf(o, "  with     %s\n\n%-24s%14s%14s", cfg.compare, "", "without", "with");
	fprintf(o, "\n%-24s", "scheduler");
	for (u32 run = 0; run < runs_nr; run++)
		fprintf(o, "%14.13s", runs[run]->sched);
	fputc('\n', o);
	for (u32 i = 0; i < ARRAY_SIZE(figures); i++) {
		const struct figure *f = &figures[i];
		double a = figure_of(f, 0), b = figure_of(f, runs_nr - 1);

		if (isnan(a) && isnan(b))
			continue;
		fprintf(o, "%-24s", f->label);
		cell(o, "", a, 14, 2);
		if (runs_nr > 1)
			cell(o, "", b, 14, 2);
		fprintf(o, " %-3s%s\n", f->unit, a == b || isnan(a) || isnan(b) ? "" :
			(b < a) == f->less ? "better" : "worse");
	}
}

/* The value of the first "key : value" or "key=value" line, without quotes and commas */
static void file_value(const char *path, const char *key, char *value, size_t size)
{
	FILE *f = fopen(path, "re");
	char line[512], *from;
	size_t n = 0;

	while (f && !n && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) || !(from = strpbrk(line, ":=")))
			continue;
		for (from += 1 + strspn(from + 1, " \t\""); *from && n + 1 < size; from++)
			if (!strchr("\",\n", *from))
				value[n++] = *from;
	}
	value[n] = 0;
	if (f)
		fclose(f);
}

/* A log as MangoHud 0.8 writes it; where it has no sensor it writes 0, and so does this. */
static void write_csv(FILE *o)
{
	const struct result *r = &bench->result;
	char os[128], cpu[128], ram[32];
	struct utsname u = { 0 };

	uname(&u);
	file_value("/etc/os-release", "PRETTY_NAME", os, sizeof(os));
	file_value("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
	file_value("/proc/meminfo", "MemTotal", ram, sizeof(ram));
	fprintf(o, "os,cpu,gpu,ram,kernel,driver,cpuscheduler\n%s,%s,%s,%.*s,%s,,%s\n", os, cpu,
		bench->gpu.fd < 0 ? "" : "vgem", (int)strcspn(ram, " "), ram, u.release, bench->sched);
	fprintf(o, "fps,frametime,cpu_load,cpu_power,gpu_load,cpu_temp,gpu_temp,gpu_core_clock,"
		"gpu_mem_clock,gpu_vram_used,gpu_power,ram_used,swap_used,process_rss,cpu_mhz,elapsed\n");
	for (u64 i = 0; i < r->frame_ms.n; i++)
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

/* Frame times over time: per column of pixels the largest and smallest, so no spike hides; a dot where a frame is late */
static void svg_line(FILE *o, double x, double y)
{
	const struct result *r = &bench->result;
	double xscale = PLOT_WIDTH / x, yscale = PLOT_HEIGHT / y, period = bench->period_ns / 1e6 * -yscale;

	for (u64 i = 0; i < r->frame_ms.n; ) {
		const char *pen = i ? "L" : "<path class='l' d='M";
		double column = floor(r->at_ns[i] / 1e9 * xscale);
		u32 lo = UINT32_MAX, hi = 0;

		for (; i < r->frame_ms.n && r->at_ns[i] / 1e9 * xscale < column + 1; i++) {
			lo = MIN(lo, r->frame_ns[i]);
			hi = MAX(hi, r->frame_ns[i]);
		}
		fprintf(o, "%s%g %.1fV%.1f", pen, column, hi / 1e6 * -yscale, lo / 1e6 * -yscale);
	}
	fprintf(o, "%s<path class='t' d='M0 %.1fh%d'/><text x='%d' y='%.1f'>%u fps</text>\n",
		r->frame_ms.n ? "'/>\n" : "", period, PLOT_WIDTH, PLOT_WIDTH + 4, period + 4, FPS);
	for (u64 i = 0; i < r->frame_ms.n; i++)
		if (r->frame_ns[i] > bench->period_ns * 3 / 2)
			fprintf(o, "<circle class='d' cx='%.1f' cy='%.1f' r='3'/>\n", r->at_ns[i] / 1e9 * xscale,
				r->frame_ns[i] / 1e6 * -yscale);
}

/* What changed from the first run to the second, in words */
static void svg_title(FILE *o)
{
	const struct result *a = &runs[0]->result, *b = &runs[1]->result;

	fprintf(o, "<text class='h' x='%d' y='26'>%s: 1 %% low %.0f → %.0f fps, sound dropouts %.0f → %.0f</text>\n",
		PLOT_LEFT, runs[1]->sched, a->low1_fps, b->low1_fps, a->xruns, b->xruns);
}

/* The runs one below the other, with the same axes so that their spikes can be compared; above what changed */
static void write_svg(FILE *o)
{
	double x = 0.001, y = 2e3 / FPS;
	u32 height, from = runs_nr > 1 ? 36 : 0;

	for (u32 i = 0; i < runs_nr; i++) {
		x = MAX(x, runs[i]->result.seconds);
		y = fmax(y, runs[i]->result.frame_ms.v[RANK_MAX] * 1.04);
	}
	height = from + runs_nr * PLOT_EACH + 20;
	fprintf(o, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1000 %u' width='1000' height='%u'"
		" font-family='system-ui,sans-serif' font-size='12'>\n%s<rect class='bg' width='1000' height='%u'/>\n",
		height, height, svg_style, height);
	if (runs_nr > 1)
		svg_title(o);
	for (u32 i = 0; i < runs_nr; i++) {
		const struct result *r = &(bench = runs[i])->result;
		u32 top = from + i * PLOT_EACH + 24;

		fprintf(o, "<text x='%d' y='%u' font-weight='600'>%s, load %s", PLOT_LEFT, top, bench->sched,
			loads[cfg.load].name);
		if (bench->slots)
			fprintf(o, " x %u", bench->slots);
		fprintf(o, "</text>\n<text x='%d' y='%u'>%" PRIu64 " frames", PLOT_LEFT, top + 22, r->frames);
		cell(o, ", fps ", r->fps, 0, 1);
		cell(o, ", 1 % low ", r->low1_fps, 0, 1);
		for (u32 rank = 0; rank < RANKS; rank++) {
			fprintf(o, ", %s", ranks[rank].label);
			cell(o, " ", r->frame_ms.v[rank], 0, 2);
		}
		fprintf(o, " ms</text>\n<g transform='translate(%d %d)'>\n", PLOT_LEFT,
			(int)(from + i * PLOT_EACH) + PLOT_TOP - 30 + PLOT_HEIGHT);
		svg_axes(o, x, y);
		svg_line(o, x, y);
		fprintf(o, "</g>\n");
	}
	fprintf(o, "</svg>\n");
}

/* ==== 10. side workloads ============================================================= */

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

/* The same sequence in each run; between low and high */
static u64 dice(u32 n, u64 low, u64 high)
{
	n = (n + 1) * 2654435761U;
	n ^= n >> 15;
	n *= 2246822519U;
	return low + (u64)(n >> 8) * (high - low) / (1U << 24);
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

/* ==== 11. shapes ===================================================================== */

/*
 * A shape is a table of rows; a row is tasks that do the same. Rows of one process stand one behind
 * the other. The runner forks and executes each process from a folder of its own, by a name and path
 * that nobody knows (a game: see --as), waits at a barrier for all, lets them go, and ends them when
 * the time is over. What they did stands in memory that all map at one address. Work is a fixed number
 * of iterations, so CPU time does not depend on who else runs.
 */
#define SHAPE_AT	((void *)0x10000000000)	/* where every process maps it */
#define SHAPE_TASKS	128
#define SHAPE_ROWS	8
#define SHAPE_SAMPLES	8192	/* wakeups of one task */
#define PIECE_US	250	/* a task looks at its clocks so often */
#define SHAPE_STAGES	3	/* of a frame, behind the first */
#define SHAPE_RING	8	/* frames, more than IN_FLIGHT */
#define CGROUPS		"/sys/fs/cgroup/"

enum { WAITING, WOKEN };
enum does { BUSY, TIMER, NAP, FRAMES, WRITE, READ, ANSWER, ASK, FORK, PING, DESKTOP };

struct row {
	const char *name;
	enum does does;
	s32 n, per_cpu;		/* tasks: n + per_cpu for each CPU; FRAMES: counted from what follows */
	u32 period_us;		/* TIMER, FRAMES, WRITE: 0: as soon as it can; NAP: sleeps so long */
	u32 work_us;		/* of a period */
	u32 to_us;		/* not 0: between work_us and this */
	u32 fan, fan_us;	/* FRAMES: forked and joined by the first stage */
	u32 stage_us[SHAPE_STAGES];	/* FRAMES: the stages that follow, a thread each */
	u32 offset_us;		/* TIMER: behind the common start */
	int policy, nice;
	u32 weight, parent;	/* of a control group of its own, and of that one's parent; 0: none */
	u32 quota;		/* percent of a CPU; 0: all */
	bool game;		/* the game: --as says what gamer knows; --realtime is for it */
	bool subject;		/* no game, but --realtime is for it */
	bool same;		/* in the process of the row before */
	u32 pin;		/* not 0: task i to CPU pin - 1 + i */
	bool pin0;		/* all to CPU 0 */
	bool gpu;		/* FRAMES: submits, where there is a device */
	bool spin;		/* FRAMES: waits by sched_yield() */
	bool clock;		/* works until that time has passed, not that many iterations */
	bool late;		/* starts when the measured time does */
};

struct shape {
	const char *name;
	u32 cpus;		/* all of it on so many; 0: the machine */
	bool alone;		/* no load beside it */
	enum load load;		/* DESKTOP: what the game itself starts beside it */
	struct row row[SHAPE_ROWS];
};

#define FRAME_US	(1000000 / FPS)
#define GAME60		{ "game", FRAMES, .period_us = FRAME_US, .work_us = 2000, .stage_us = { 1500, 500 }, .gpu = true, .game = true }
#define HOSTILE(name, others...)						\
	{ name, .alone = true, .row = {						\
		{ "crowd", NAP, .period_us = 100, others },			\
		{ "others", BUSY, .n = 4 } } },					\
	{ "game-" name, .alone = true, .row = {					\
		GAME60, { "crowd", NAP, .period_us = 100, others } } }

#define DESKTOP_BESIDE(name, what)						\
	{ "desktop-" name, .alone = true, .load = what, .row = { { "game", DESKTOP, .n = 1, .game = true } } }

static const struct shape shapes[] = {
	{ "desktop", .row = { { "game", DESKTOP, .n = 1, .game = true } } },
	DESKTOP_BESIDE("fork", LOAD_FORK), DESKTOP_BESIDE("pipe", LOAD_PIPE), DESKTOP_BESIDE("io", LOAD_IO),
	DESKTOP_BESIDE("mixed", LOAD_MIXED),
	{ "onethread", .row = { { "game", FRAMES, .period_us = FRAME_US, .work_us = 12000, .gpu = true, .game = true } } },
	{ "uncapped", .row = { { "game", FRAMES, .work_us = 6000, .stage_us = { 4200 }, .game = true } } },
	{ "uncapped-gpu", .row = { { "game", FRAMES, .work_us = 6000, .stage_us = { 4200 }, .gpu = true, .game = true } } },
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

static const struct row load_row = { "load", BUSY };

/* Owner: the task, if not said otherwise. */
struct task {
	struct thread t;
	u32 row;		/* runner */
	u32 index;		/* within the row; runner */
	bool first;		/* it has seen the start of the measured time */
	u64 cpu_ns[2];		/* CPU time when it first saw that start, and last before the end */
	_Atomic u32 state;	/* ANSWER: WAITING or WOKEN, futex */
	u64 asked_ns;		/* ANSWER: by whoever asked */
	u64 done;		/* pieces of work that ended in the measured time */
};

struct group {
	struct row row;		/* runner */
	struct task *task;	/* runner */
	struct gpu gpu;		/* FRAMES */
	u32 n;			/* runner */
	int fd[2];		/* pipe that this row and the next one share; or -1; runner */
	pid_t pid;		/* runner */
	struct gate jobs, joined, retired, stage[SHAPE_STAGES];
	_Atomic u32 jobs_left;
	struct frame ring[SHAPE_RING];
	u64 frames;		/* that ended in the measured time */
	u64 judged, late;	/* frames that began in it, and of these the late ones; TIMER: periods */
	struct { _Atomic u32 word; } __attribute__((aligned(64))) asked[2];
	struct result result;	/* DESKTOP */
};

static struct shape_run {
	struct cfg cfg;
	struct bench bench;
	u32 groups, tasks;
	struct group group[SHAPE_ROWS + 1];
	struct task task[SHAPE_TASKS];
	u32 wake_ns[SHAPE_TASKS][SHAPE_SAMPLES];
} *shape_run;

static const struct shape *shape;
static char shape_dir[] = "/tmp/shape-XXXXXX";

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
		work_us(&k->t.work, PIECE_US);
		task_look(k);
	}
	work_us(&k->t.work, us);
	task_look(k);
}

/* One period's work of that row */
static void row_work(struct task *k, const struct row *r, u32 n)
{
	u64 end_ns = now_ns() + r->work_us * NSEC_PER_USEC;

	if (!r->clock)
		task_work(k, r->to_us ? dice(n * 64 + k->index, r->work_us, r->to_us) : r->work_us);
	while (r->clock && now_ns() < end_ns)
		work_us(&k->t.work, 10);
	task_look(k);
}

static void task_busy(struct group *g, struct task *k)
{
	(void)g;
	for (;;)
		task_work(k, PIECE_US);
}

/* Tasks of a row share the period evenly, so that they do not all wake at once. */
static void task_timer(struct group *g, struct task *k)
{
	u64 period_ns = g->row.period_us * NSEC_PER_USEC, woke_ns;
	u64 due_ns = bench->epoch_ns + g->row.offset_us * NSEC_PER_USEC + period_ns * k->index / g->n;

	for (u32 n = 0;; n++) {
		due_ns = next_tick(due_ns, period_ns);
		woke_ns = sleep_until(&k->t, due_ns, NULL);
		row_work(k, &g->row, n);
		if (measured(due_ns)) {
			__atomic_fetch_add(&g->judged, 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(&g->late, woke_ns > due_ns + JITTER_NS ||
					   now_ns() > due_ns + period_ns, __ATOMIC_RELAXED);
		}
	}
}

static void task_nap(struct group *g, struct task *k)
{
	for (u32 n = 0;; n++) {
		sleep_until(&k->t, now_ns() + g->row.period_us * NSEC_PER_USEC, NULL);
		row_work(k, &g->row, n);
	}
}

/* Waits for a post, asleep or by yielding. */
static void frames_wait(struct group *g, struct task *k, struct gate *gate, u32 want, u32 f)
{
	if (!g->row.spin)
		gate_wait(&k->t, gate, want, &g->ring[f % SHAPE_RING]);
	while (g->row.spin && (s32)(atomic_load(&gate->seq) - want) < 0)
		sched_yield();
}

/* The last stage submits, and judges the frame. */
static void frames_end(struct group *g, u32 f)
{
	struct frame *frame = &g->ring[f % SHAPE_RING];
	u64 now;

	gpu_submit(&g->gpu);
	now = now_ns();
	g->frames += measured(now);
	if (g->row.period_us && measured(frame->tick_ns)) {
		g->judged++;
		g->late += atomic_load(&frame->jitter_ns) > JITTER_NS ||
			   now > frame->tick_ns + g->row.period_us * NSEC_PER_USEC;
	}
	gate_post(&g->retired);
}

static void frames_first(struct group *g, struct task *k)
{
	u64 period_ns = g->row.period_us * NSEC_PER_USEC, tick_ns = bench->epoch_ns;

	for (u32 f = 0;; f++) {
		struct frame *frame = &g->ring[f % SHAPE_RING];

		tick_ns = period_ns ? next_tick(tick_ns, period_ns) : now_ns();
		frame->tick_ns = tick_ns;
		atomic_store(&frame->jitter_ns, 0);
		while (g->row.spin && now_ns() < tick_ns)
			sched_yield();
		if (period_ns && !g->row.spin)
			sleep_until(&k->t, tick_ns, frame);
		if (f >= IN_FLIGHT)
			frames_wait(g, k, &g->retired, f - IN_FLIGHT + 1, f);
		task_work(k, g->row.work_us);
		if (g->row.fan) {
			atomic_store(&g->jobs_left, g->row.fan);
			gate_post(&g->jobs);
			frames_wait(g, k, &g->joined, f + 1, f);
		}
		if (g->row.stage_us[0])
			gate_post(&g->stage[0]);
		else
			frames_end(g, f);
	}
}

/* Task 0 is the first stage; then come the jobs, then the other stages. */
static void task_frames(struct group *g, struct task *k)
{
	u32 s = k->index - 1 - g->row.fan;

	if (!k->index)
		frames_first(g, k);
	for (u32 f = 0; k->index <= g->row.fan; f++) {
		frames_wait(g, k, &g->jobs, f + 1, f);
		task_work(k, g->row.fan_us);
		if (atomic_fetch_sub(&g->jobs_left, 1) == 1)
			gate_post(&g->joined);
	}
	for (u32 f = 0;; f++) {
		frames_wait(g, k, &g->stage[s], f + 1, f);
		task_work(k, g->row.stage_us[s]);
		if (s + 1 < SHAPE_STAGES && g->row.stage_us[s + 1])
			gate_post(&g->stage[s + 1]);
		else
			frames_end(g, f);
	}
}

/* Who is not read in time loses what it writes. */
static void task_write(struct group *g, struct task *k)
{
	u64 due_ns = bench->epoch_ns, period_ns = g->row.period_us * NSEC_PER_USEC, now;

	fcntl(g->fd[1], F_SETFL, O_NONBLOCK);
	for (;;) {
		if (period_ns) {
			due_ns = next_tick(due_ns, period_ns);
			sleep_until(&k->t, due_ns, NULL);
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
			woke(&k->t, sent_ns, now_ns(), NULL);
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
		woke(&k->t, k->asked_ns, now_ns(), NULL);
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

/* Forks, and waits for the child, which ends at once. */
static void task_fork(struct group *g, struct task *k)
{
	pid_t pid;

	(void)g;
	while ((pid = fork()) > 0 && waitpid(pid, NULL, 0) == pid) {
		k->done += measured(now_ns());
		task_look(k);
	}
	_exit(pid ? EX_OSERR : 0);
}

/* Sends a byte to a process of its own, which sends it back. */
static void task_ping(struct group *g, struct task *k)
{
	int to[2], from[2];
	char byte = 0;
	pid_t pid;

	(void)g;
	if (pipe(to) || pipe(from) || (pid = fork()) < 0)
		fatal(EX_OSERR, "no pipe: %s", strerror(errno));
	while (!pid && read(to[0], &byte, 1) == 1 && write(from[1], &byte, 1) == 1)
		;
	while (pid && write(to[1], &byte, 1) == 1 && read(from[0], &byte, 1) == 1) {
		k->done += measured(now_ns());
		task_look(k);
	}
	_exit(EX_OSERR);
}

static void (*const tasks[])(struct group *, struct task *) = {
	[BUSY] = task_busy, [TIMER] = task_timer, [NAP] = task_nap, [FRAMES] = task_frames,
	[WRITE] = task_write, [READ] = task_read, [ANSWER] = task_answer, [ASK] = task_ask,
	[FORK] = task_fork, [PING] = task_ping,
};

static void *task_main(void *arg)
{
	struct task *k = arg;
	struct group *g = &shape_run->group[k->row];
	const struct row *r = &g->row;
	cpu_set_t set;

	k->t.tid = gettid();
	if (gettid() != getpid())
		prctl(PR_SET_NAME, r->name);
	prctl(PR_SET_TIMERSLACK, 1);
	CPU_ZERO(&set);
	CPU_SET(r->pin0 ? 0 : (r->pin - 1 + k->index) % bench->cpus, &set);
	if ((r->pin || r->pin0) && sched_setaffinity(0, sizeof(set), &set))
		fatal(EX_OSERR, "%s: no CPU: %s", r->name, strerror(errno));
	if (r->nice && setpriority(PRIO_PROCESS, 0, r->nice))
		fatal(EX_NOPERM, "%s: nice %d: %s", r->name, r->nice, strerror(errno));
	if ((r->policy || (cfg.realtime && (r->game || r->subject))) &&
	    !policy(r->policy ? r->policy : SCHED_FIFO))
		fatal(EX_NOPERM, "%s: policy: %s", r->name, strerror(errno));
	barrier(false);
	tasks[r->does](g, k);
	return NULL;
}

/* Today's game in a shape: its processes, threads and figures are those of section 4. */
static void member_desktop(struct group *g)
{
	struct bench *shared = bench;

	game_new();
	game_setup();
	atomic_fetch_add(&shared->ready, 1);
	futex(&shared->ready, FUTEX_WAKE, 1, NULL);
	while (!atomic_load(&shared->go))
		futex(&shared->go, FUTEX_WAIT, 0, NULL);
	game_measure();
	game_teardown();
	game_summarize();
	g->result = bench->result;
}

/* A process of a shape: the rows from `first` on that belong to it */
static int member_main(int fd, u32 first)
{
	pthread_t thread;

	shape_run = mmap(SHAPE_AT, sizeof(*shape_run), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	if (shape_run != SHAPE_AT)
		fatal(EX_OSERR, "a process of a shape has no memory");
	cfg = shape_run->cfg;
	bench = &shape_run->bench;
	sigemptyset(&signals);
	if (shape_run->group[first].row.gpu)
		shape_run->group[first].gpu = gpu_open();
	if (shape_run->group[first].row.does == DESKTOP) {
		member_desktop(&shape_run->group[first]);
		return 0;
	}
	for (u32 i = 0; i < shape_run->tasks; i++) {
		struct task *k = &shape_run->task[i];
		u32 row = k->row;

		while (row > first && shape_run->group[row].row.same)
			row--;
		if (row == first && (k->row > first || k->index) &&
		    pthread_create(&thread, NULL, task_main, k))
			fatal(EX_OSERR, "cannot make threads: %s", strerror(errno));
	}
	task_main(shape_run->group[first].task);
	return 0;
}

/* ---- the runner */

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
static const char *const shape_programs[] = { "others", "stranger", BENCH_COMM };

static const char *shape_program(u32 i)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/%s", shape_dir, shape_programs[i]);
	return path;
}

static void shape_copy(u32 i)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(shape_program(i), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	char buf[1 << 14];
	ssize_t n;

	while ((n = read(from, buf, sizeof(buf))) > 0 && write(to, buf, n) == n)
		;
	if (from < 0 || to < 0 || n)
		fatal(EX_OSERR, "cannot copy this program to %s: %s", shape_program(i), strerror(errno));
	close(from);
	close(to);
}

/* Leaves nothing: processes, control groups, programs. Also when the runner fails. */
static void shape_clean(void)
{
	static pid_t owner;

	if (!owner) {
		owner = getpid();
		return;
	}
	if (owner != getpid())
		return;
	if (bench->group)
		kill(-bench->group, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	for (u32 i = 0; i < shape_run->groups; i++) {
		const struct row *r = &shape_run->group[i].row;

		if (r->weight)
			rmdir(cgroup_file(r, true, ""));
		if (r->parent)
			rmdir(cgroup_file(r, false, ""));
	}
	for (u32 i = 0; i < ARRAY_SIZE(shape_programs); i++)
		unlink(shape_program(i));
	rmdir(shape_dir);
}

static void shape_exec(u32 i, int fd)
{
	struct group *g = &shape_run->group[i];
	const char *program = shape_program(!g->row.game ? 0 : cfg.as ? 1 : 2);
	char numbers[2][12];

	setpgid(0, bench->group);
	snprintf(numbers[0], sizeof(*numbers), "%d", fd);
	snprintf(numbers[1], sizeof(*numbers), "%u", i);
	unsetenv("GAMER_GAME");
	if (g->row.game && cfg.as == AS_ENV)
		putenv("GAMER_GAME=1");
	if (g->row.weight)
		file_put(cgroup_file(&g->row, true, "/cgroup.procs"), "0");
	execl(program, program, "--member", numbers[0], numbers[1], NULL);
	fatal(EX_OSERR, "cannot start %s: %s", program, strerror(errno));
}

/* Starts those processes that begin with the others, or the late ones. */
static void shape_start(int fd, bool late)
{
	for (u32 i = 0; i < shape_run->groups; i++) {
		struct group *g = &shape_run->group[i];
		pid_t pid;

		if (g->row.same || g->row.late != late)
			continue;
		pid = fork_as("others");
		if (pid == 0)
			shape_exec(i, fd);
		g->pid = pid;	/* the child sees this memory too */
		if (!bench->group)
			bench->group = pid;
		setpgid(pid, bench->group);
	}
}

static void group_add(const struct row *r)
{
	struct group *g = &shape_run->group[shape_run->groups];
	u32 at = shape_run->tasks;

	g->row = *r;
	g->n = r->n + r->per_cpu * bench->cpus;
	if (r->does == FRAMES)
		for (g->n = 1 + r->fan; g->n - 1 - r->fan < SHAPE_STAGES && r->stage_us[g->n - 1 - r->fan]; )
			g->n++;
	g->task = &shape_run->task[at];
	g->gpu.fd = -1;
	if (at + g->n > SHAPE_TASKS)
		fatal(EX_SOFTWARE, "shape %s: too many tasks", shape->name);
	for (u32 i = 0; i < g->n; i++)
		g->task[i] = (struct task){
			.t = { .wake_ns = shape_run->wake_ns[at + i], .cap = SHAPE_SAMPLES, .work.x = at + i + 1 },
			.row = shape_run->groups, .index = i,
		};
	if (r->does == WRITE && pipe(g->fd))
		fatal(EX_OSERR, "no pipe: %s", strerror(errno));
	if (r->weight)
		cgroup_make(r);
	shape_run->tasks += g->n;
	shape_run->groups++;
}

/* Memory, tables, programs; returns the memory's descriptor. */
static int shape_setup(void)
{
	int fd = memfd_create("shape", 0);
	cpu_set_t set;

	if (fd < 0 || ftruncate(fd, sizeof(*shape_run)))
		fatal(EX_OSERR, "no memory: %s", strerror(errno));
	shape_run = mmap(SHAPE_AT, sizeof(*shape_run), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0);
	if (shape_run != SHAPE_AT)
		fatal(EX_OSERR, "no memory at %p: %s", SHAPE_AT, strerror(errno));
	bench = &shape_run->bench;
	if (!mkdtemp(shape_dir))
		fatal(EX_CANTCREAT, "%s: %s", shape_dir, strerror(errno));
	shape_clean();
	atexit(shape_clean);
	for (u32 i = 0; i < ARRAY_SIZE(shape_programs); i++)
		shape_copy(i);
	sched_getaffinity(0, sizeof(set), &set);
	for (u32 i = CPU_SETSIZE; i-- && shape->cpus && CPU_COUNT(&set) > (int)shape->cpus; )
		CPU_CLR(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
	bench->cpus = CPU_COUNT(&set);
	cfg_complete(bench->cpus);
	for (u32 i = 0; i < SHAPE_ROWS && shape->row[i].name; i++)
		group_add(&shape->row[i]);
	if (!shape->alone && !(cfg.load_name && cfg.load == LOAD_NONE)) {
		struct row r = load_row;

		r.n = cfg.load_threads;
		group_add(&r);
	}
	shape_run->cfg = cfg;
	shape_run->cfg.load = shape->load;
	return fd;
}

/* Does a gamer run? And is a game of ours the one that it knows? */
static bool shape_asked(void)
{
	char game[32];

	bench->known = false;
	if (!gamer_says())
		return false;
	for (u32 i = 0; i < shape_run->groups; i++) {
		snprintf(game, sizeof(game), "\"game\":{\"pid\":%d,", shape_run->group[i].pid);
		bench->known |= shape_run->group[i].row.game && strstr(answer, game);
	}
	return true;
}

/* Until all tasks wait at the barrier, and a running gamer, if it can, knows the game */
static void shape_ready(void)
{
	u32 want = 0, games = 0;
	u64 limit_ns;

	for (u32 i = 0; i < shape_run->groups; i++)
		if (!shape_run->group[i].row.late) {
			want += shape_run->group[i].n;
			games += shape_run->group[i].row.game;
		}
	tasks_await(want);
	limit_ns = now_ns() + ANSWER_NS;
	while (games && cfg.as != AS_STRANGER && shape_asked() && !bench->known && now_ns() < limit_ns)
		usleep(20 * NSEC_PER_MSEC / NSEC_PER_USEC);
}

static void shape_measure(int fd)
{
	u64 t1_ns = tasks_go();

	if (!main_wait(bench->t0_ns))
		fatal(128 + SIGINT, "interrupted, no figures");
	shape_start(fd, true);
	if (!main_wait(t1_ns))
		fatal(128 + SIGINT, "interrupted, no figures");
	scheduler(bench->sched, sizeof(bench->sched));
	shape_asked();
	for (u32 i = 0; i < shape_run->groups; i++)
		if (shape_run->group[i].row.does == DESKTOP)
			waitpid(shape_run->group[i].pid, NULL, 0);
}

/* ---- its figures */

enum better { LESS, MORE, SAME };

static void shape_figure(const char *group, const char *figure, double v, enum better better)
{
	static const char *const words[] = { "less", "more", "same" };

	if (isnan(v))
		return;
	if (!cfg.json) {
		printf("  %-12s %-14s %12.2f  %s\n", group, figure, v, words[better]);
		return;
	}
	printf("%s{\"shape\":\"%s\",\"group\":\"%s\",\"figure\":\"%s\",\"value\":%.3f,\"better\":\"%s\"}", json_first ? "" : ",",
	       shape->name, group, figure, v, words[better]);
	json_first = false;
}

static void figures_wake(const struct group *g, const double *us)
{
	char figure[24];

	for (u32 rank = 0; rank < RANKS; rank++) {
		snprintf(figure, sizeof(figure), "wake_%s_us", ranks[rank].key);
		shape_figure(g->row.name, figure, us[rank], LESS);
	}
}

static void figures_desktop(const struct group *g)
{
	const struct result *r = &g->result;
	double worst[RANKS] = { 0 };	/* of all its threads */

	for (u32 stage = 0; stage < STAGES; stage++)
		for (u32 rank = 0; rank < RANKS; rank++)
			worst[rank] = fmax(worst[rank], r->wake_us[stage].v[rank]);
	shape_figure(g->row.name, "fps", r->fps, MORE);
	shape_figure(g->row.name, "fps_low1", r->low1_fps, MORE);
	shape_figure(g->row.name, "late", percent(r->jitter_frames, r->frames), LESS);
	shape_figure(g->row.name, "dropped", r->dropped_frames, LESS);
	shape_figure(g->row.name, "xruns", r->xruns, LESS);
	shape_figure(g->row.name, "input_p99_ms", r->input_ms.v[RANK_P99], LESS);
	shape_figure(g->row.name, "frame_p99_ms", r->frame_ms.v[RANK_P99], LESS);
	figures_wake(g, worst);
	for (u32 kind = 0; kind < LOAD_NR; kind++)
		if (r->load_ops[kind])
			shape_figure(loads[kind].name, "rate", r->load_rate[kind], MORE);
}

/* Who competes for CPU time wants its share, whoever waits for something wants to wait shortly. */
static void figures_of(struct group *g)
{
	double seconds = cfg.seconds, cpu = 0, done = 0;
	u32 n = 0;

	for (u32 i = 0; i < g->n; i++) {
		struct task *k = &g->task[i];

		memmove(g->task->t.wake_ns + n, k->t.wake_ns, k->t.count * sizeof(u32));
		n += k->t.count;
		cpu += k->cpu_ns[1] - k->cpu_ns[0];
		done += k->done;
	}
	if (g->row.does == FRAMES)
		shape_figure(g->row.name, "fps", g->frames / seconds, MORE);
	if (done)
		shape_figure(g->row.name, "rate", done / seconds, MORE);
	shape_figure(g->row.name, "late", percent(g->late, g->judged), LESS);
	figures_wake(g, dist_of(g->task->t.wake_ns, n, NSEC_PER_USEC).v);
	shape_figure(g->row.name, "share", cpu / 1e7 / seconds / bench->cpus, g->row.does == BUSY ? SAME : LESS);
}

static void shape_report(void)
{
	if (cfg.json) {
		printf("{\"v\":1,\"command\":\"shape\",\"shape\":\"%s\",\"as\":\"%s\",\"scheduler\":\"%s\",\"cpus\":%u,\"seconds\":%" PRIu64
		       ",\"iters_per_ms\":%" PRIu64 ",\"recognised\":%u,\"figures\":[", shape->name, shape_as[cfg.as],
		       bench->sched, bench->cpus, cfg.seconds, cfg.iters_per_ms, bench->known);
		json_first = true;
	} else {
		printf("gamer-bench: shape %s, as %s%s, %" PRIu64 " s under %s, %u CPUs\n", shape->name,
		       shape_as[cfg.as], bench->known ? ", recognised" : "", cfg.seconds, bench->sched, bench->cpus);
	}
	for (u32 i = 0; i < shape_run->groups; i++)
		if (shape_run->group[i].row.does == DESKTOP)
			figures_desktop(&shape_run->group[i]);
		else
			figures_of(&shape_run->group[i]);
	if (cfg.json)
		fputs("]}\n", stdout);
}

/* "list": each shape, and whether it has a game, a subject (for --realtime), or neither */
static void shape_list(void)
{
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++) {
		const char *what = "-";

		for (u32 j = 0; j < SHAPE_ROWS; j++)
			what = shapes[i].row[j].game ? "game" :
			       shapes[i].row[j].subject && *what == '-' ? "subject" : what;
		printf("%s %s\n", shapes[i].name, what);
	}
	exit(0);
}

static void shape_main(void)
{
	int fd;

	if (!strcmp(cfg.shape, "list"))
		shape_list();
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++)
		if (!strcmp(shapes[i].name, cfg.shape))
			shape = &shapes[i];
	if (!shape)
		fatal(EX_USAGE, "no shape '%s'; 'list' tells them", cfg.shape);
	prctl(PR_SET_NAME, "shapes");	/* it is not this process that is the game */
	fd = shape_setup();
	shape_start(fd, false);
	shape_ready();
	shape_measure(fd);
	kill(-bench->group, SIGKILL);
	shape_report();
}

/* ==== 12. compare ==================================================================== */

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

/* Runs the game in a process of its own, which leaves its figures in run->. */
static void compare_run(struct bench *run)
{
	struct timespec ts = timespec(SLICE_NS);
	bool asked = false;
	u64 end_ns = UINT64_MAX;
	int status;
	pid_t pid;

	bench = run;
	pid = fork_as("bench-setup");
	if (pid == 0) {
		game_run();
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

static void write_compared_json(FILE *o)
{
	fputs("{\"v\":1,\"command\":\"compare\"", o);
	json_first = false;
	for (u32 i = 0; i < runs_nr; i++) {
		bench = runs[i];
		write_json(o, i ? "with" : "without");
	}
	json_close(o);
}

/* ==== 13. options ==================================================================== */

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
	  .help = "what else the machine does; default: none" },
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
	{ .name = "csv", .text = &cfg.csv, .arg = "FILE", .help = "frame times in MangoHud's columns; mangoplot plots from 10,000 frames: --seconds 170" },
};

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
	while (cfg.load_name && cfg.load < LOAD_NR && strcmp(loads[cfg.load].name, cfg.load_name))
		cfg.load++;
	if (cfg.load == LOAD_NR)
		fatal(EX_USAGE, "no load '%s'", cfg.load_name);
	while (cfg.as_name && cfg.as < AS_NR && strcmp(shape_as[cfg.as], cfg.as_name))
		cfg.as++;
	if (cfg.as == AS_NR)
		fatal(EX_USAGE, "a game is not known as '%s'", cfg.as_name);
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

/* The game alone, or without and with COMMAND */
static void measure_all(void)
{
	game_new();
	if (!cfg.compare) {
		game_run();
		return;
	}
	game_new();
	atexit(command_stop);
	prctl(PR_SET_NAME, "bench-compare");	/* it is not this process that is the game */
	compare_run(runs[0]);
	command_start();
	compare_run(runs[1]);
	command_check("while the game ran");
	command_stop();
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
	if (argc == 4 && !strcmp(argv[1], "--member"))
		return member_main(atoi(argv[2]), atoi(argv[3]));
	options_parse(argc, argv);
	svg = report_open(cfg.svg);
	csv = report_open(cfg.csv);
	/* blocked for good, in all threads and children: only the main thread waits for them */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	fflush(NULL);				/* or children would flush it once more */
	if (cfg.shape) {
		shape_main();
		return 0;
	}
	measure_all();
	for (u32 i = 0; i < runs_nr; i++) {
		bench = runs[i];
		game_summarize();
	}
	if (cfg.json && cfg.compare)
		write_compared_json(stdout);
	else if (cfg.json)
		write_json(stdout, NULL);
	else
		write_text(stdout);
	if (cfg.json)
		putchar('\n');
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
