/*
 * where THREADS PERIOD_US BURST_US COUNT HOGS: where threads run.
 *
 * A timer wakes the main thread COUNT times, once per PERIOD_US; it wakes THREADS others, each
 * of which then works for BURST_US of its own CPU time. They go to sleep on the CPUs of the
 * first core, so that it is the scheduler who brings them apart; the main thread goes to sleep
 * on the last CPU, or it would be in their way in one run and not in the next. HOGS more are
 * always busy. Prints how many bursts shared their core halfway through with another's, and
 * how often a busy thread changed its package: "bursts N shared N crossed N".
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "helper.h"

enum { CPUS = 64, THREADS = 16 };

static struct cpu {
	int core;		/* first CPU of its core; main */
	int package;		/* main */
	_Atomic int bursts;	/* going on there now; threads */
} cpus[CPUS];
static _Atomic int shared, crossed;	/* threads */
static int64_t period_ns, burst_ns;	/* main */
static unsigned int count;		/* main */
static _Atomic unsigned int turn;	/* futex; main */

static int read_first(int cpu, const char *name)
{
	char path[128];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%d", &n) != 1)
		n = -1;
	if (f)
		fclose(f);
	return n;
}

static int core_bursts(int cpu)
{
	int n = 0;

	for (int i = 0; i < CPUS; i++)
		if (cpus[i].core == cpus[cpu].core)
			n += atomic_load(&cpus[i].bursts);
	return n;
}

static void work(int64_t ns)
{
	uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ns;

	while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
		;
}

/* The CPU that the thread is seen on next time is `cpu`, and from there it may go anywhere. */
static void move_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	memset(&set, 255, sizeof(set));
	sched_setaffinity(0, sizeof(set), &set);
}

static void *worker(void *arg)
{
	for (unsigned int i = 0; i < count; i++) {
		int cpu;

		move_to((intptr_t)arg % 2);
		while (atomic_load(&turn) == i)
			syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, i, NULL);
		cpu = sched_getcpu() % CPUS;
		cpus[cpu].bursts++;
		work(burst_ns / 2);
		if (core_bursts(cpu) > 1)
			shared++;
		work(burst_ns / 2);
		cpus[cpu].bursts--;
	}
	return NULL;
}

static void *hog(void *arg)
{
	int package = cpus[sched_getcpu() % CPUS].package, now;

	for (;;) {
		work(100000);
		now = cpus[sched_getcpu() % CPUS].package;
		crossed += now != package;
		package = now;
	}
	return arg;
}

static void begin(pthread_t *t, void *(*what)(void *), intptr_t arg)
{
	if (pthread_create(t, NULL, what, (void *)arg))
		exit(1);
}

int main(int argc, char **argv)
{
	int threads = argc == 6 ? atoi(argv[1]) : 0;
	int last = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	pthread_t t[THREADS];

	if (threads < 1 || threads > THREADS) {
		fputs("usage: where THREADS PERIOD_US BURST_US COUNT HOGS\n", stderr);
		return 64;
	}
	period_ns = atoll(argv[2]) * 1000;
	burst_ns = atoll(argv[3]) * 1000;
	count = atoi(argv[4]);
	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < CPUS; i++) {
		cpus[i].core = read_first(i, "core_cpus_list");
		cpus[i].package = read_first(i, "physical_package_id");
	}
	for (int i = 0; i < atoi(argv[5]); i++)
		begin(&t[0], hog, 0);
	for (int i = 0; i < threads; i++)
		begin(&t[i], worker, i);
	for (int64_t due = clock_ns(CLOCK_MONOTONIC); turn < count;) {
		struct timespec at = { (due += period_ns) / 1000000000, due % 1000000000 };

		move_to(last);
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL))
			;
		turn++;
		syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, threads);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	printf("bursts %u shared %d crossed %d\n", threads * count, shared, crossed);
	return 0;
}
