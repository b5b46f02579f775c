/*
 * churn SECONDS LIMIT [THREADS]: every kind of load at once, and proof that each thread moves on.
 *
 * Threads that spin, that fork, that change their own and each other's affinity all the time,
 * that pass a byte through pipes, that sleep for a millisecond, at several nice levels, and
 * THREADS more that sleep for seconds. Each counts its
 * rounds; a watcher ends the run with exit 1 if one of them stood still for LIMIT seconds,
 * and prints the longest standstill otherwise.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "helper.h"

struct worker {
	const char *kind;
	void (*round)(struct worker *w);	/* one unit of its work */
	int nice;
	pid_t tid;				/* by itself, 0: not started yet */
	unsigned int random;			/* its own generator */
	int fd[2];				/* a pipe to itself, or a pair's two ends */
	_Atomic uint64_t rounds;		/* written by the worker, read by the watcher */
	uint64_t seen, seen_ms, standstill_ms;	/* the watcher's */
};

#define PINNED 12	/* with room for none, which is the worker itself */

static int cpus;
static struct worker *pinned[PINNED];

static unsigned int dice(struct worker *w)
{
	w->random = w->random * 1103515245 + 12345;
	return w->random >> 16;
}

static void spin(struct worker *w)
{
	for (volatile unsigned int i = dice(w) & 0xffff; i; i--)
		;
}

static void sleep_ms(struct worker *w)
{
	struct timespec ms = { 0, 1000000 };

	spin(w);
	nanosleep(&ms, NULL);
}

/* From Linux's point of view a pinned task is a harder case than a roaming one. */
static void pin(struct worker *w)
{
	struct worker *other = pinned[dice(w) % PINNED];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(dice(w) % cpus, &set);
	if (dice(w) & 1)
		CPU_SET(dice(w) % cpus, &set);
	/* fails where those are offline; the other may run, wait or sleep */
	sched_setaffinity(other ? other->tid : 0, sizeof(set), &set);
	if (dice(w) & 1)
		sched_yield();
	spin(w);
}

static void forks(struct worker *w)
{
	pid_t pid = fork();

	if (!pid) {
		spin(w);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void pipes(struct worker *w)
{
	char byte = 0;

	if (write(w->fd[1], &byte, 1) != 1 || read(w->fd[0], &byte, 1) != 1)
		exit(2);
}

static void *run(void *arg)
{
	struct worker *w = arg;

	w->tid = syscall(SYS_gettid);
	setpriority(PRIO_PROCESS, w->tid, w->nice);
	for (;;) {
		w->round(w);
		atomic_fetch_add_explicit(&w->rounds, 1, memory_order_relaxed);
	}
	return NULL;
}

static uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

static struct worker workers[] = {
	{ "spin", spin, 0 }, { "spin", spin, 0 }, { "spin", spin, 10 }, { "spin", spin, 19 },
	{ "pin", pin, 0 }, { "pin", pin, 0 }, { "pin", pin, 5 }, { "pin", pin, 19 },
	{ "pin", pin, -10 }, { "pin", pin, 0 },
	{ "fork", forks, 0 }, { "fork", forks, 10 },
	{ "pipe", pipes, 0 }, { "pipe", pipes, 0 }, { "pipe", pipes, 0 }, { "pipe", pipes, 0 },
	{ "sleep", sleep_ms, 0 }, { "sleep", sleep_ms, -15 }, { "sleep", sleep_ms, 19 },
};
#define WORKERS (sizeof(workers) / sizeof(workers[0]))

static void *nap(void *arg)
{
	for (unsigned long i = (unsigned long)arg;; i += 7)
		usleep(5000000 + i % 100 * 100000);
	return NULL;
}

static void start(long sleepers)
{
	pthread_attr_t small;
	pthread_t t;
	int back[2], n = 0;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (long i = 0; i < sleepers; i++)
		if (pthread_create(&t, &small, nap, (void *)i)) {
			printf("only %ld threads\n", i);
			exit(2);
		}
	for (size_t i = 0; i < WORKERS; i++) {
		struct worker *w = &workers[i], *next = w + 1;

		if (w->round == pin)
			pinned[n++] = w;
		w->random = i + 1;
		w->seen_ms = now_ms();
		/* Two of them write to each other: each blocks until the other has run. */
		if (w->round == pipes && !w->fd[1]) {
			if (pipe(w->fd) || pipe(back))
				exit(2);
			next->fd[0] = w->fd[0];
			next->fd[1] = back[1];
			w->fd[0] = back[0];
		}
		if (pthread_create(&t, NULL, run, w))
			exit(2);
	}
}

int main(int argc, char **argv)
{
	uint64_t seconds = argc > 2 ? atoi(argv[1]) : 10, limit = argc > 2 ? atoi(argv[2]) : 10;
	uint64_t end = now_ms() + seconds * 1000, worst = 0;
	const char *who = "none";

	cpus = sysconf(_SC_NPROCESSORS_CONF);
	start(argc > 3 ? atol(argv[3]) : 0);
	while (now_ms() < end) {
		usleep(100000);
		for (size_t i = 0; i < WORKERS; i++) {
			struct worker *w = &workers[i];
			uint64_t rounds = atomic_load(&w->rounds), now = now_ms();

			if (rounds != w->seen) {
				w->seen = rounds;
				w->seen_ms = now;
			} else if (now - w->seen_ms > worst) {
				worst = now - w->seen_ms;
				who = w->kind;
			}
		}
		if (worst > limit * 1000)
			break;
	}
	printf("longest standstill: %llu ms (%s)\n", (unsigned long long)worst, who);
	return worst > limit * 1000;
}
