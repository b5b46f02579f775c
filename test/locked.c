/*
 * locked DIR NAME [UID [LIBRARY]]: a process NAME whose address space is locked. One of its threads
 * reads a page of a file system that never answers, as any user can mount one, and as a dead server
 * is one by accident; another thread waits to change the address space. From then on whoever asks
 * the kernel for its environment or its mappings waits, too. It has mapped LIBRARY, and is Wine by
 * its environment.
 *
 * Prints the process's number when it is locked, and ends, with the process, with its stdin. DIR is
 * an empty folder; the file system is mounted there, in a mount namespace of its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096

static void check(int bad, const char *what)
{
	if (bad) {
		perror(what);
		exit(1);
	}
}

static char *page;	/* of the file that nobody can read */

static void *reader(void *unused)
{
	char byte;
	int fd = open("/proc/self/mem", O_RDONLY);

	(void)unused;
	check(fd < 0, "/proc/self/mem");
	/* that keeps the address space locked while it waits; a plain access would not */
	check(pread(fd, &byte, 1, (off_t)page) != 1, "pread");
	return NULL;
}

/* The process. Its server starts it to lock itself when the first thread waits. */
static void victim(char **argv, int start)
{
	pthread_t thread;
	char path[256];
	int fd, uid = argv[3] ? atoi(argv[3]) : 0;

	snprintf(path, sizeof(path), "%s/f", argv[1]);
	fd = open(path, O_RDONLY);
	check(fd < 0, path);
	page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	check(page == MAP_FAILED, path);
	fd = argv[3] && argv[4] ? open(argv[4], O_RDONLY) : -1;
	if (fd >= 0)
		check(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED, argv[4]);
	check(setresuid(uid, uid, uid), "setresuid");
	prctl(PR_SET_DUMPABLE, 1);		/* as any process of a user's */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, argv[2]);
	check(pthread_create(&thread, NULL, reader, NULL), "pthread_create");
	check(read(start, path, 1) != 1, "read");
	mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	exit(1);
}

static void answer(int fd, uint64_t id, int error, const void *data, size_t size)
{
	struct fuse_out_header head = { .len = sizeof(head) + size, .error = error, .unique = id };
	struct iovec v[] = { { &head, sizeof(head) }, { (void *)data, size } };

	check(writev(fd, v, 2) < 0, "fuse");
}

static int wanted;	/* 1: a thread waits for its page; 2: another is to follow */

static void serve(int fd)
{
	static union {
		struct fuse_in_header head;
		char bytes[256 * 1024];
	} in;
	const struct fuse_attr attr = { .ino = 2, .size = PAGE, .mode = S_IFREG | 0444, .nlink = 1 };
	struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = PAGE };
	struct fuse_entry_out entry = { .nodeid = 2, .attr = attr, .attr_valid = 9999, .entry_valid = 9999 };
	struct fuse_attr_out got = { .attr = attr, .attr_valid = 9999 };
	struct fuse_open_out opened = { .open_flags = 0 };

	check(read(fd, &in, sizeof(in)) <= 0, "/dev/fuse");
	switch (in.head.opcode) {
	case FUSE_INIT:
		answer(fd, in.head.unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		answer(fd, in.head.unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		if (in.head.nodeid == 1) {
			got.attr.ino = 1;
			got.attr.mode = S_IFDIR | 0755;
		}
		answer(fd, in.head.unique, 0, &got, sizeof(got));
		break;
	case FUSE_OPEN:
		answer(fd, in.head.unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:		/* which never has an answer */
		wanted = 1;
		break;
	case FUSE_FORGET:
		break;
	default:
		answer(fd, in.head.unique, -ENOSYS, NULL, 0);
	}
}

/* Does it wait for good? */
static int locked(pid_t pid)
{
	char path[64], text[512] = "", *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY);
	check(fd < 0 || read(fd, text, sizeof(text) - 1) <= 0, path);
	close(fd);
	end = strrchr(text, ')');
	return end && end[2] == 'D';
}

int main(int argc, char **argv)
{
	struct pollfd p[] = { { .events = POLLIN }, { .events = POLLIN } };
	int start[2], told = 0;
	char options[64];
	pid_t pid;

	if (argc < 3)
		return 64;
	if (!getenv("WINEPREFIX")) {	/* in what the kernel takes for its environment, too */
		setenv("WINEPREFIX", "/nowhere", 1);
		execv("/proc/self/exe", argv);
	}
	p[1].fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	check(p[1].fd < 0, "/dev/fuse");
	check(unshare(CLONE_NEWNS) || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), "unshare");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", p[1].fd);
	check(mount("locked", argv[1], "fuse", 0, options), "mount");
	check(pipe(start), "pipe");
	pid = fork();
	if (!pid) {
		close(p[1].fd);		/* the file system ends with its server */
		victim(argv, start[0]);
	}
	while (poll(p, 2, wanted && !told ? 10 : -1) >= 0 && !p[0].revents) {
		if (p[1].revents)
			serve(p[1].fd);
		if (wanted == 1)
			wanted += write(start[1], "", 1);
		if (wanted && !told && locked(pid)) {
			printf("%d\n", pid);
			fflush(stdout);
			told = 1;
		}
	}
	kill(pid, SIGKILL);
	close(p[1].fd);
	waitpid(pid, NULL, 0);
	return 0;
}
