/*
 * side WORKLOAD [SHARE]: work that schedulers are compared by, without a game; prints one JSON line.
 *
 *   messaging  senders and receivers over socket pairs, in groups (as hackbench): time
 *   pipe       round trips of a byte between two processes: time
 *   fork       processes that fork, exit and are waited for, by two parents per CPU: time
 *   compile    a make with two jobs per CPU, SHARE (default 40) in all, each a shell that runs a
 *              cc1, then an as: time
 *   build      for SHARE seconds a make of real programs, cc1 that waits for what it reads before it
 *              compiles, as, and now and then ld: units per second
 *   schbench   threads woken by message threads for small requests: wakeup latency, rate
 *   idle       ten seconds of nothing: switches, wakeups, interrupts, runs of BPF programs
 *   cost       one second of wakeups next to busy processes: BPF time and runs per switch;
 *              in the lab busy CPUs take turns, and one's turn is time for the others too: the
 *              time that a program took is on average SHARE (default 1) times what it used
 *
 * The amount of work is fixed: under the kernel's own scheduler on four CPUs of the lab,
 * which have one CPU's capacity, each takes about a second. Start reading at main().
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "bpf.h"

#define GROUP_SIZE	10	/* senders, and receivers, of a group */
#define MESSAGES	600	/* from each sender to each receiver of its group */
#define MESSAGE_BYTES	100
#define ROUND_TRIPS	40000
#define FORKS		5000	/* of all parents together */
#define JOBS		40	/* of the make, where SHARE does not say */
#define READS		6	/* of a cc1, that the disk lets wait */
#define LINKED		8	/* units, by an ld */
#define PROGRAMS	"/tmp/side-programs/"	/* one place: programs are known by their path */
#define REQUESTS	4000	/* of all workers together */
#define MESSENGERS	2
#define MAX_WORKERS	64

static int cpus, share = 1, jobs = JOBS;
static int gate[2];		/* children wait until it is closed */

/* About that many instructions, which in the lab are as many nanoseconds */
static void work_ns(uint64_t ns)
{
	uint64_t x = 88172645463325252ULL;

	for (uint64_t i = ns / 8; i; i--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__asm__ volatile("" : "+r"(x));
	}
}

/* The same sequence in each run; between low and high */
static uint64_t dice(uint32_t n, uint64_t low, uint64_t high)
{
	n = (n + 1) * 2654435761U;
	n ^= n >> 15;
	n *= 2246822519U;
	return low + (uint64_t)(n >> 8) * (high - low) / (1U << 24);
}

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		kill(0, SIGKILL);
	}
}

static pid_t spawn(const char *comm, void (*fn)(long), long arg)
{
	pid_t pid = fork();

	must(pid >= 0, "side: fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, comm);
	fn(arg);
	_exit(0);
}

static void gate_wait(void)
{
	char c;

	close(gate[1]);
	must(read(gate[0], &c, 1) == 0, "side: gate");
}

/* Lets everybody go who waits at the gate, and waits for their end; seconds it took */
static double race(void)
{
	uint64_t start = now_ns();

	close(gate[1]);
	while (wait(NULL) > 0)
		;
	return (now_ns() - start) / 1e9;
}

static void print_time(const char *name, double seconds)
{
	printf("{\"v\":1,\"side\":\"%s\",\"cpus\":%d,\"time_s\":%.6f}\n", name, cpus, seconds);
}

/* ---- messaging --------------------------------------------------------------------- */

static int sockets[GROUP_SIZE][2];

static void transfer(int fd, int receive)
{
	char buf[MESSAGE_BYTES] = "";

	for (ssize_t left = sizeof(buf), n; left; left -= n) {
		n = receive ? read(fd, buf, left) : write(fd, buf, left);
		must(n > 0, "side: socket");
	}
}

static void sender(long arg)
{
	(void)arg;
	gate_wait();
	for (int i = 0; i < MESSAGES; i++)
		for (int to = 0; to < GROUP_SIZE; to++)
			transfer(sockets[to][1], 0);
}

static void receiver(long me)
{
	gate_wait();
	for (int i = 0; i < MESSAGES * GROUP_SIZE; i++)
		transfer(sockets[me][0], 1);
}

static double messaging(void)
{
	for (int group = 0; group < (cpus + 1) / 2; group++) {
		for (int i = 0; i < GROUP_SIZE; i++) {
			must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sockets[i]), "side: socketpair");
			spawn("receiver", receiver, i);
		}
		for (int i = 0; i < GROUP_SIZE; i++)
			spawn("sender", sender, i);
		for (int i = 0; i < GROUP_SIZE; i++) {
			close(sockets[i][0]);
			close(sockets[i][1]);
		}
	}
	return race();
}

/* ---- pipe -------------------------------------------------------------------------- */

static int there[2], back[2];
static long round_trips = ROUND_TRIPS;

static void ping(long arg)
{
	char c = arg;

	gate_wait();
	for (long i = 0; i < round_trips; i++)
		must(write(there[1], &c, 1) == 1 && read(back[0], &c, 1) == 1, "side: ping");
}

static void pong(long arg)
{
	char c = arg;

	gate_wait();
	for (long i = 0; i < round_trips; i++)
		must(read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1, "side: pong");
}

static void pair_start(void)
{
	must(!pipe(there) && !pipe(back), "side: pipe");
	spawn("ping", ping, 0);
	spawn("pong", pong, 0);
}

static double pipes(void)
{
	pair_start();
	return race();
}

/* ---- fork, compile ----------------------------------------------------------------- */

static void nothing(long arg)
{
	(void)arg;
}

static void forker(long arg)
{
	(void)arg;
	gate_wait();
	for (int i = 0; i < FORKS / (2 * cpus); i++)
		waitpid(spawn("forked", nothing, 0), NULL, 0);
}

static double forks(void)
{
	for (int i = 0; i < 2 * cpus; i++)
		spawn("forker", forker, i);
	return race();
}

static void cc1(long job)
{
	work_ns(dice(job, 5000000, 40000000));
}

static void as(long job)
{
	work_ns(dice(job + JOBS, 1000000, 3000000));
}

static void shell(long job)
{
	waitpid(spawn("cc1", cc1, job), NULL, 0);
	waitpid(spawn("as", as, job), NULL, 0);
}

static void make(long arg)
{
	(void)arg;
	gate_wait();
	for (int job = 0; job < jobs; job++) {
		if (job >= 2 * cpus)
			wait(NULL);
		spawn("sh", shell, job);
	}
	while (wait(NULL) > 0)
		;
}

static double compile(void)
{
	spawn("make", make, 0);
	return race();
}

/* ---- build ------------------------------------------------------------------------- */

/* The disk's answer comes by an interrupt, as a timer's does. */
static void pass_cc1(long job)
{
	for (int i = 0; i < READS; i++) {
		struct timespec t = { .tv_nsec = dice(job * READS + i, 300000, 1000000) };

		work_ns(dice(job * READS + i, 30000, 80000));
		nanosleep(&t, NULL);
	}
	work_ns(dice(job, 5000000, 20000000));
}

/* What these read was just written: it is in memory. */
static void pass_as(long job)
{
	work_ns(dice(job, 50000, 150000));
}

static void pass_ld(long job)
{
	work_ns(dice(job, 8000000, 16000000));
}

static const struct pass {
	const char *program;
	void (*fn)(long);
} passes[] = {
	{ PROGRAMS "cc1", pass_cc1 }, { PROGRAMS "as", pass_as }, { PROGRAMS "ld", pass_ld },
};

static void pass_exec(long job)
{
	const char *program = passes[job % 4].program;
	char number[24];

	snprintf(number, sizeof(number), "%ld", job / 4);
	execl(program, program, number, NULL);
	must(0, program);
}

static void unit(long job)
{
	for (int i = 0; i < (job % LINKED ? 2 : 3); i++)
		waitpid(spawn("sh", pass_exec, job * 4 + i), NULL, 0);
}

static void build(void)
{
	uint64_t start = now_ns(), end = start + share * 1000000000ULL;
	long started = 0, running = 0;
	char self[256] = "";

	mkdir(PROGRAMS, 0755);
	must(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0, "side: /proc/self/exe");
	for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++)
		must(!symlink(self, passes[i].program) || errno == EEXIST, passes[i].program);
	prctl(PR_SET_NAME, "make");
	while (now_ns() < end || running) {
		if (now_ns() < end && running < 2 * cpus) {
			spawn("sh", unit, started++);
			running++;
		} else if (wait(NULL) > 0) {
			running--;
		}
	}
	printf("{\"v\":1,\"side\":\"build\",\"cpus\":%d,\"units_per_s\":%.2f}\n", cpus,
	       started / ((now_ns() - start) / 1e9));
}

/* ---- schbench ---------------------------------------------------------------------- */

enum { WAITING, WOKEN };

/* Owner: the worker; its message thread wakes it. */
static struct worker {
	pthread_t thread;
	_Atomic uint32_t state;		/* futex */
	uint64_t woken_ns;		/* when the messenger did it */
	uint32_t done;
} workers[MAX_WORKERS];
static int nr_workers;
static _Atomic uint32_t asked[MESSENGERS];	/* requests to be woken, futex */
static _Atomic uint32_t requests;		/* taken so far by all workers */
static uint64_t late_ns[REQUESTS];

static void futex(_Atomic uint32_t *word, int op, uint32_t val)
{
	syscall(SYS_futex, word, op, val, NULL, NULL, 0);
}

static void *worker(void *arg)
{
	struct worker *w = arg;
	_Atomic uint32_t *messenger = &asked[(w - workers) % MESSENGERS];
	uint32_t n;

	for (;;) {
		atomic_store(&w->state, WAITING);
		atomic_fetch_add(messenger, 1);
		futex(messenger, FUTEX_WAKE_PRIVATE, 1);
		while (atomic_load(&w->state) == WAITING)
			futex(&w->state, FUTEX_WAIT_PRIVATE, WAITING);
		n = atomic_fetch_add(&requests, 1);
		if (n >= REQUESTS)
			return NULL;
		late_ns[n] = now_ns() - w->woken_ns;
		work_ns(dice(n, 100000, 300000));
	}
}

static void *messenger(void *arg)
{
	_Atomic uint32_t *word = arg;
	uint32_t seen = 0, now;

	for (;;) {
		while ((now = atomic_load(word)) == seen)
			futex(word, FUTEX_WAIT_PRIVATE, seen);
		seen = now;
		for (int i = word - asked; i < nr_workers; i += MESSENGERS) {
			if (atomic_load(&workers[i].state) != WAITING)
				continue;
			workers[i].woken_ns = now_ns();
			atomic_store(&workers[i].state, WOKEN);
			futex(&workers[i].state, FUTEX_WAKE_PRIVATE, 1);
		}
	}
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void schbench(void)
{
	pthread_t t;
	uint64_t start = now_ns();
	double seconds;

	nr_workers = 2 * cpus < MAX_WORKERS ? 2 * cpus : MAX_WORKERS;
	for (int i = 0; i < nr_workers; i++)
		must(!pthread_create(&workers[i].thread, NULL, worker, &workers[i]), "side: thread");
	for (int i = 0; i < MESSENGERS; i++)
		must(!pthread_create(&t, NULL, messenger, &asked[i]), "side: thread");
	for (int i = 0; i < nr_workers; i++)
		pthread_join(workers[i].thread, NULL);
	seconds = (now_ns() - start) / 1e9;
	qsort(late_ns, REQUESTS, sizeof(*late_ns), by_value);
	printf("{\"v\":1,\"side\":\"schbench\",\"cpus\":%d,\"requests\":%d,\"p50_us\":%.3f,"
	       "\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f,\"requests_per_s\":%.1f}\n", cpus,
	       REQUESTS, late_ns[REQUESTS / 2] / 1e3, late_ns[REQUESTS * 99 / 100] / 1e3,
	       late_ns[REQUESTS * 999 / 1000] / 1e3, late_ns[REQUESTS - 1] / 1e3,
	       REQUESTS / seconds);
}

/* ---- what the kernel counts: idle, cost -------------------------------------------- */

static struct counters {
	uint64_t at_ns, switches, wakeups, timers, ipis;
	struct count bpf;
} before, after;

/* The sum of a line's numbers, of all CPUs */
static uint64_t numbers(const char *line)
{
	uint64_t sum = 0;
	char *end;

	for (;; line = end) {
		uint64_t n = strtoull(line, &end, 10);

		if (end == line)
			return sum;
		sum += n;
	}
}

/* Calls fn with each line of a file of /proc. */
static void lines(const char *path, void (*fn)(const char *line, struct counters *c),
		  struct counters *c)
{
	static char line[1 << 14];
	FILE *f = fopen(path, "r");

	must(f != NULL, path);
	while (fgets(line, sizeof(line), f))
		fn(line, c);
	fclose(f);
}

static void stat_line(const char *line, struct counters *c)
{
	sscanf(line, "ctxt %lu", &c->switches);
}

static void schedstat_line(const char *line, struct counters *c)
{
	uint64_t n;

	/* yields, nothing, schedule(), of them to idle, wakeups, ... */
	if (sscanf(line, "cpu%*u %*u %*u %*u %*u %lu", &n) == 1)
		c->wakeups += n;
}

static void interrupts_line(const char *line, struct counters *c)
{
	char name[8];
	int at;

	if (sscanf(line, " %7[A-Z]:%n", name, &at) != 1)
		return;
	if (!strcmp(name, "LOC"))
		c->timers = numbers(line + at);
	if (!strcmp(name, "RES") || !strcmp(name, "CAL"))
		c->ipis += numbers(line + at);
}

/* Of all programs that are loaded, whoever's they are */
static struct count bpf_all(void)
{
	union bpf_attr attr = { 0 };
	struct count sum = { 0 };

	while (!bpf(BPF_PROG_GET_NEXT_ID, &attr)) {
		int fd = fd_by_id(BPF_PROG_GET_FD_BY_ID, attr.next_id);
		struct count c = count(fd);

		sum.runs += c.runs;
		sum.ns += c.ns;
		close(fd);
		attr = (union bpf_attr){ .start_id = attr.next_id };
	}
	return sum;
}

static void counters_read(struct counters *c)
{
	*c = (struct counters){ .at_ns = now_ns(), .bpf = bpf_all() };
	lines("/proc/stat", stat_line, c);
	lines("/proc/schedstat", schedstat_line, c);
	lines("/proc/interrupts", interrupts_line, c);
}

static void measure(unsigned int seconds)
{
	FILE *f = fopen("/proc/sys/kernel/sched_schedstats", "w");

	must(f && fputs("1", f) >= 0 && !fclose(f), "side: schedstats");
	must(stats_on() >= 0, "side: BPF statistics");
	sleep(1);
	counters_read(&before);
	sleep(seconds);
	counters_read(&after);
}

static void idle(void)
{
	double s;

	measure(10);
	s = (after.at_ns - before.at_ns) / 1e9;
	printf("{\"v\":1,\"side\":\"idle\",\"cpus\":%d,\"switches_per_s\":%.2f,\"wakeups_per_s\":%.2f,"
	       "\"timers_per_s\":%.2f,\"ipis_per_s\":%.2f,\"bpf_runs_per_s\":%.2f}\n", cpus,
	       (after.switches - before.switches) / s, (after.wakeups - before.wakeups) / s,
	       (after.timers - before.timers) / s, (after.ipis - before.ipis) / s,
	       (after.bpf.runs - before.bpf.runs) / s);
}

static void hog(long arg)
{
	gate_wait();
	for (;;)
		work_ns(1000000 + arg);
}

static void cost(void)
{
	double switches;

	round_trips = 1L << 40;
	for (int i = 0; i < (cpus + 1) / 2; i++)
		pair_start();
	for (int i = 0; i < cpus; i++)
		spawn("hog", hog, 0);
	close(gate[1]);
	measure(1);
	switches = after.switches - before.switches;
	printf("{\"v\":1,\"side\":\"cost\",\"cpus\":%d,\"switches\":%.0f,\"bpf_runs_per_switch\":%.3f,"
	       "\"bpf_ns_per_switch\":%.2f}\n", cpus, switches,
	       (after.bpf.runs - before.bpf.runs) / switches,
	       (after.bpf.ns - before.bpf.ns) / switches / share);
	fflush(stdout);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
}

static const struct workload {
	const char *name;
	double (*time)(void);		/* seconds it took, or */
	void (*run)(void);		/* prints for itself */
} workloads[] = {
	{ "messaging", messaging }, { "pipe", pipes }, { "fork", forks }, { "compile", compile },
	{ "build", NULL, build }, { "schbench", NULL, schbench }, { "idle", NULL, idle }, { "cost", NULL, cost },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++)
		if (argc == 2 && !strcmp(argv[0], passes[i].program)) {
			passes[i].fn(atol(argv[1]));
			return 0;
		}
	if (argc == 3)
		share = jobs = atoi(argv[2]);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	setpgid(0, 0);			/* what goes wrong ends all of it, and nothing else */
	must(!pipe(gate), "side: pipe");
	for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++) {
		const struct workload *w = &workloads[i];

		if (argc < 2 || strcmp(argv[1], w->name))
			continue;
		if (w->time)
			print_time(w->name, w->time());
		else
			w->run();
		return 0;
	}
	fprintf(stderr, "usage: side WORKLOAD\n");
	return 64;
}
