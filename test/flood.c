/*
 * flood rename|exec N: N processes that rename themselves, or start programs, as fast as they
 * can, until the first process or who started it ends.
 *
 * Started as PATH/x.exe, its name is one that gamer wants to hear of.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void rename_self(char *path)
{
	(void)path;
	prctl(PR_SET_NAME, "x.exe");
}

static void exec_self(char *path)
{
	pid_t pid = vfork();

	if (!pid) {
		execl(path, path, "leave", NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	void (*act)(char *path) = argc > 1 && !strcmp(argv[1], "exec") ? exec_self : rename_self;
	int n = argc > 2 ? atoi(argv[2]) : 0;

	if (argc == 2 && !strcmp(argv[1], "leave"))
		return 0;
	if (n <= 0) {
		fprintf(stderr, "usage: flood rename|exec N\n");
		return 64;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);	/* the test that started it has ended */
	while (n--)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				act(argv[0]);
		}
	pause();
	return 0;
}
