/*
 * timerlat N [HOGS [WORK_US]]: sleeps N times for 1 ms next to HOGS spinning threads and prints by
 * how much it woke late: p50, p99 and maximum in nanoseconds, and the sum of all, in which
 * two runs differ if they differ anywhere. With WORK_US it computes so long after each wakeup, and
 * prints the same of how long others ran meanwhile.
 */
#include <pthread.h>
#include <sys/prctl.h>
#include "helper.h"

static void *hog(void *arg)
{
	for (volatile unsigned int i = 0;; i++)	/* no pause: QEMU leaves its loop for it */
		;
	return arg;
}

/* Computes for so long; returns how long it did not run meanwhile, in ns. */
static int64_t work(int64_t ns)
{
	int64_t start = now_ns(), ran = clock_ns(CLOCK_THREAD_CPUTIME_ID), done;

	while ((done = clock_ns(CLOCK_THREAD_CPUTIME_ID) - ran) < ns)
		;
	return now_ns() - start - done;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void print(int64_t *ns, int n)
{
	int64_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += ns[i];
	qsort(ns, n, sizeof(*ns), by_value);
	printf("p50 %lld p99 %lld max %lld sum %lld\n", (long long)ns[n / 2],
	       (long long)ns[n * 99 / 100], (long long)ns[n - 1], (long long)sum);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1000, hogs = argc > 2 ? atoi(argv[2]) : 0;
	int64_t work_ns = argc > 3 ? atoi(argv[3]) * 1000LL : 0;
	int64_t *late = calloc(n, sizeof(*late)), *away = work_ns ? calloc(n, sizeof(*away)) : NULL;
	pthread_t t;

	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < hogs; i++)
		pthread_create(&t, NULL, hog, NULL);
	for (int i = 0; i < n; i++) {
		struct timespec ms = { 0, 1000000 };
		int64_t start = now_ns();

		clock_nanosleep(CLOCK_MONOTONIC, 0, &ms, NULL);
		late[i] = now_ns() - start - 1000000;
		if (work_ns)
			away[i] = work(work_ns);
	}
	print(late, n);
	if (work_ns)
		print(away, n);
	return 0;
}
