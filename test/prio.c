/*
 * prio.exe: a Windows program that asks for every thread priority there is, for the wine
 * checks. test.sh builds it with mingw; it runs under Wine.
 *
 * Prints "thread TID NAME" for each thread (TID is Linux's), then "ready". All threads work
 * a little and sleep, over and over. Then it obeys lines on stdin, each answered by the same
 * line once it is done, and ends with stdin:
 *   set              each thread sets the priority that its name says, on itself
 *   normal, highest  the thread `raised` sets that one
 *   class-high, class-realtime
 *                    the priority class of the process
 */
#include <stdio.h>
#include <string.h>
#include <windows.h>

/* not in older headers of mingw */
WINBASEAPI HRESULT WINAPI SetThreadDescription(HANDLE thread, PCWSTR name);

#define UNSET	1000	/* no priority of Windows */

static struct thread {
	const char *name;
	int priority;			/* after "set"; UNSET: sets none */
	int work_us, sleep_ms;
	HANDLE handle;			/* main() */
	volatile LONG wanted, given;	/* priority: command(); run() */
} threads[] = {
	/* 1.5 ms in 16 ms is a render thread's pattern, nearly nothing at 1 kHz an input thread's. */
	{ "critical", THREAD_PRIORITY_TIME_CRITICAL, 1500, 14 },
	{ "highest", THREAD_PRIORITY_HIGHEST, 1500, 14 },
	{ "polling", THREAD_PRIORITY_HIGHEST, 0, 1 },
	{ "above", THREAD_PRIORITY_ABOVE_NORMAL, 0, 10 },
	{ "normal", THREAD_PRIORITY_NORMAL, 0, 10 },
	{ "below", THREAD_PRIORITY_BELOW_NORMAL, 0, 10 },
	{ "lowest", THREAD_PRIORITY_LOWEST, 0, 10 },
	{ "idle", THREAD_PRIORITY_IDLE, 0, 10 },
	{ "raised", THREAD_PRIORITY_HIGHEST, 1500, 14 },
	/* Sets that of `victim`, by a real handle: neither may get a role for it. */
	{ "setter", THREAD_PRIORITY_TIME_CRITICAL, 0, 10 },
	{ "victim", UNSET, 0, 10 },
};
#define THREADS ((int)(sizeof(threads) / sizeof(threads[0])))
#define RAISED (&threads[THREADS - 3])
#define SETTER (&threads[THREADS - 2])
#define VICTIM (&threads[THREADS - 1])

static volatile LONG started;

/* Wine runs this code as it is, so Linux answers. */
static long linux_tid(void)
{
	long tid = 186;

	__asm__ volatile("syscall" : "+a"(tid) : : "rcx", "r11", "memory");
	return tid;
}

static void must(BOOL done, const char *what)
{
	if (done)
		return;
	printf("error %lu: %s\n", GetLastError(), what);
	fflush(stdout);
	ExitProcess(1);
}

static void work(int us)
{
	LARGE_INTEGER rate, start, now;

	QueryPerformanceFrequency(&rate);
	QueryPerformanceCounter(&start);
	do
		QueryPerformanceCounter(&now);
	while ((now.QuadPart - start.QuadPart) * 1000000 / rate.QuadPart < us);
}

/* Becomes Linux's name too. */
static void set_name(const char *name)
{
	WCHAR wide[16] = { 0 };

	for (int i = 0; name[i]; i++)
		wide[i] = name[i];
	SetThreadDescription(GetCurrentThread(), wide);
}

static DWORD WINAPI run(void *arg)
{
	struct thread *t = arg;

	set_name(t->name);
	printf("thread %ld %s\n", linux_tid(), t->name);
	fflush(stdout);
	InterlockedIncrement(&started);
	for (;;) {
		if (t->work_us)
			work(t->work_us);
		Sleep(t->sleep_ms);
		if (t->given != t->wanted) {
			must(SetThreadPriority(t == SETTER ? VICTIM->handle : GetCurrentThread(), t->wanted),
			     t->name);
			t->given = t->wanted;
		}
	}
	return 0;
}

static void want(struct thread *t, int priority)
{
	t->wanted = priority;
	while (t->given != t->wanted)
		Sleep(1);
}

static void command(const char *line)
{
	if (!strcmp(line, "set"))
		for (struct thread *t = threads; t < threads + THREADS; t++)
			want(t, t->priority);
	if (!strcmp(line, "normal") || !strcmp(line, "highest"))
		want(RAISED, *line == 'n' ? THREAD_PRIORITY_NORMAL : THREAD_PRIORITY_HIGHEST);
	if (!strcmp(line, "class-high") || !strcmp(line, "class-realtime"))
		must(SetPriorityClass(GetCurrentProcess(), line[6] == 'h' ? HIGH_PRIORITY_CLASS : REALTIME_PRIORITY_CLASS), line);
	printf("%s\n", line);
	fflush(stdout);
}

int main(void)
{
	char line[32];

	printf("thread %ld main\n", linux_tid());
	for (struct thread *t = threads; t < threads + THREADS; t++) {
		t->wanted = t->given = UNSET;
		t->handle = CreateThread(NULL, 0, run, t, 0, NULL);
		must(t->handle != NULL, t->name);
	}
	while (started < THREADS)
		Sleep(1);
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\r\n")] = 0;
		command(line);
	}
	return 0;
}
