/*
 * turns: how evenly an emulator shares one host CPU among the guest's. One busy thread is
 * pinned to each; prints the least and the most that one of them did within half a second,
 * in % of an equal share. They never read the clock: nothing but their work takes time.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define MOST_CPUS 64

static struct {
	volatile uint64_t done;		/* rounds; its thread */
	char apart[120];
} cpu[MOST_CPUS];

static void *busy(void *arg)
{
	long i = (long)arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (;;)
		cpu[i].done++;
	return arg;
}

int main(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t before[MOST_CPUS], sum = 0, least = UINT64_MAX, most = 0;
	pthread_t t;

	if (n > MOST_CPUS)
		n = MOST_CPUS;
	for (long i = 0; i < n; i++)
		pthread_create(&t, NULL, busy, (void *)i);
	usleep(200000);
	for (long i = 0; i < n; i++)
		before[i] = cpu[i].done;
	usleep(500000);
	for (long i = 0; i < n; i++) {
		uint64_t did = cpu[i].done - before[i];

		sum += did;
		least = did < least ? did : least;
		most = did > most ? did : most;
	}
	printf("%d %d\n", (int)(least * 100 * n / sum), (int)(most * 100 * n / sum));
	return 0;
}
