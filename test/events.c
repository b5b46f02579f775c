/*
 * events MODE N [FIELDS]: a client of gamer's socket that asks for events. FIELDS goes into
 * the request as it is: '"types":"input,game","pid":7'. N: seconds, 0: until SIGTERM.
 *	print	every line as it comes
 *	count	at the end what came: "NAME LINES" per event, "lost.TYPE SUM" of what is said to
 *		be lost, "late_us MAX" from an event until it was read here
 *	stall	reads nothing but the answer; says "dropped" when the other side hangs up
 *	leave	not seconds but times: asks, reads the answer, goes
 * The answer to the request is printed first in each mode, once. Exit code 3: gamer hung up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NAMES 32

static struct { char name[48]; uint64_t n; } names[NAMES];
static uint64_t late_us;
static volatile sig_atomic_t over;

static void on_term(int sig)
{
	over = sig;
}

static int ask(const char *fields)
{
	const char *dir = getenv("RUNTIME_DIRECTORY");
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char request[256];
	int len;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/gamer.sock", dir ? dir : "/run/gamer");
	len = snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"events\"%s%s}\n",
		       *fields ? "," : "", fields);
	if (connect(fd, (void *)&at, sizeof(at)) || write(fd, request, len) != len) {
		perror(at.sun_path);
		exit(1);
	}
	return fd;
}

/* One line by single bytes: what follows stays where it is. False: there is none. */
static int answer(int fd, char *line, size_t size)
{
	size_t n = 0;

	while (n < size - 1 && read(fd, line + n, 1) == 1)
		if (line[n++] == '\n')
			break;
	line[n] = 0;
	return n && line[n - 1] == '\n';
}

/* What follows "KEY": in a line, or NULL */
static const char *value(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? at + strlen(key) : NULL;
}

static void add(const char *prefix, const char *name, uint64_t n)
{
	char full[48];
	int i;

	snprintf(full, sizeof(full), "%s%.*s", prefix, (int)strcspn(name, "\""), name);
	for (i = 0; i < NAMES - 1 && names[i].name[0] && strcmp(names[i].name, full); i++)
		;
	strcpy(names[i].name, full);
	names[i].n += n;
}

static void count(const char *line)
{
	const char *event = value(line, "\"event\":\""), *type = value(line, "\"type\":\"");
	const char *n = value(line, "\"count\":"), *at = value(line, "\"at_ns\":");
	struct timespec ts;
	uint64_t us;

	add("", event ? event : "strange\"", 1);
	if (type && n)
		add("lost.", type, strtoull(n, NULL, 10));
	clock_gettime(CLOCK_MONOTONIC, &ts);
	us = ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000 - (at ? strtoull(at, NULL, 10) / 1000 : 0);
	if (at && (int64_t)us > 0 && us > late_us)
		late_us = us;
}

/* Lines of a stream, until it ends or, told to end, until none is left; true: it was they who ended it. */
static int lines(int fd, int counting)
{
	static char buf[1 << 16];
	size_t have = 0;
	char *end, *at;
	ssize_t n;

	while ((n = recv(fd, buf + have, sizeof(buf) - 1 - have, over ? MSG_DONTWAIT : 0)) > 0 ||
	       (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		have += n;
		buf[have] = 0;
		for (at = buf; (end = strchr(at, '\n')); at = end + 1) {
			*end = 0;
			if (counting)
				count(at);
			else
				puts(at);
		}
		have -= at - buf;
		memmove(buf, at, have);
	}
	return !over;
}

static int stall(int fd)
{
	struct pollfd p = { .fd = fd };

	while (!over)
		if (poll(&p, 1, -1) > 0) {
			puts("dropped");
			return 1;
		}
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "", *fields = argc > 3 ? argv[3] : "";
	struct sigaction term = { .sa_handler = on_term };	/* interrupts read() */
	int n = argc > 2 ? atoi(argv[2]) : 0, fd, i, hung_up;
	char line[512];

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGTERM, &term, NULL);
	sigaction(SIGALRM, &term, NULL);
	for (i = strcmp(mode, "leave") ? 1 : n; i > 1; i--) {
		fd = ask(fields);
		if (!answer(fd, line, sizeof(line)))
			return 3;
		close(fd);
	}
	fd = ask(fields);
	if (!answer(fd, line, sizeof(line)))
		return 3;
	fputs(line, stdout);
	if (!strcmp(mode, "leave") || strstr(line, "\"error\""))
		return 0;
	alarm(n);
	hung_up = strcmp(mode, "stall") ? lines(fd, !strcmp(mode, "count")) : stall(fd);
	for (i = 0; !strcmp(mode, "count") && i < NAMES && names[i].name[0]; i++)
		printf("%s %llu\n", names[i].name, (unsigned long long)names[i].n);
	if (!strcmp(mode, "count"))
		printf("late_us %llu\n", (unsigned long long)late_us);
	return hung_up ? 3 : 0;
}
