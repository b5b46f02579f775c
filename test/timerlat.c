/*
 * timerlat N [HOGS]: sleeps N times for 1 ms next to HOGS spinning threads and prints by
 * how much it woke late: p50, p99 and maximum in nanoseconds, and the sum of all, in which
 * two runs differ if they differ anywhere.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static void *hog(void *arg)
{
	for (volatile unsigned int i = 0;; i++)	/* no pause: QEMU leaves its loop for it */
		;
	return arg;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1000, hogs = argc > 2 ? atoi(argv[2]) : 0;
	int64_t *late = calloc(n, sizeof(*late)), sum = 0;
	pthread_t t;

	prctl(PR_SET_TIMERSLACK, 1);
	for (int i = 0; i < hogs; i++)
		pthread_create(&t, NULL, hog, NULL);
	for (int i = 0; i < n; i++) {
		struct timespec ms = { 0, 1000000 };
		int64_t start = now_ns();

		clock_nanosleep(CLOCK_MONOTONIC, 0, &ms, NULL);
		late[i] = now_ns() - start - 1000000;
		sum += late[i];
	}
	qsort(late, n, sizeof(*late), by_value);
	printf("p50 %lld p99 %lld max %lld sum %lld\n", (long long)late[n / 2],
	       (long long)late[n * 99 / 100], (long long)late[n - 1], (long long)sum);
	return 0;
}
