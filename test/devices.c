/*
 * devices [paused] [NAME=]JOB ARGS... [+ [NAME=]JOB ARGS...]...: what a game does to devices.
 *
 * Each job is one thread, named NAME or as its job. "ready PID" is printed when all are set
 * up; with `paused` they start at SIGUSR1, else at once. SIGTERM ends the program, which
 * prints for each job its thread, how often it did its work, between which two instants (ns,
 * CLOCK_MONOTONIC) it did so first, and for how long in all:
 *	NAME TID COUNT FIRST_BEGIN FIRST_END NS
 * The table at the end of the file lists the jobs. Start reading at main().
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/uhid.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sound/asound.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "helper.h"

struct job {
	const char *name;
	const struct kind *kind;
	char **arg;
	pid_t tid;
	_Atomic uint64_t count;
	uint64_t begin, end;	/* the first time it did its work */
	uint64_t next, started;
};

struct kind {
	const char *name;
	int args;
	void (*run)(struct job *j);
	const char *help;
};

#define JOBS 16
static struct job jobs[JOBS];
static int njobs;
static pthread_barrier_t set_up, started;

/* Sleeps until the next of HZ instants a second, for ever with 0; none is skipped. */
static void pace(struct job *j, unsigned int hz)
{
	struct timespec at;

	if (!hz)
		for (;;)
			pause();
	j->next = (j->next ? j->next : now_ns()) + 1000000000 / hz;
	at = (struct timespec){ j->next / 1000000000, j->next % 1000000000 };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL))
		;
}

/* Every job calls this when it is set up, and then works. */
static void ready(struct job *j)
{
	pthread_barrier_wait(&set_up);
	pthread_barrier_wait(&started);
	j->started = now_ns();
}

static void begin(struct job *j)
{
	if (!j->begin)
		j->begin = now_ns();
}

static void done(struct job *j)
{
	if (!j->end)
		j->end = now_ns();
	j->count++;
}

/* ------------------------------------------------------------------ GPU */
static struct gpu gpu_or_die(void)
{
	struct gpu gpu = gpu_open();

	if (gpu.fd < 0)
		die("vgem");
	return gpu;
}

static void gpu_work(struct job *j, const struct gpu *gpu)
{
	begin(j);
	if (gpu_submit(gpu))
		die("fence");
	done(j);
}

static void submit(struct job *j)
{
	struct gpu gpu = gpu_or_die();

	for (ready(j);; pace(j, atoi(j->arg[0])))
		gpu_work(j, &gpu);
}

/* As a desktop program draws: when there is something new, and then for a moment */
static void demand(struct job *j)
{
	struct gpu gpu = gpu_or_die();
	int hz = atoi(j->arg[0]), n;

	for (ready(j);; usleep(1300000 + random() % 1500000), j->next = 0)
		for (n = 5 + random() % hz; n; n--, pace(j, hz))
			gpu_work(j, &gpu);
}

/* What is asked for HZ times a second counts; FIRST_END is 0 as long as it is refused. */
static void asked(struct job *j, int refused)
{
	if (refused)
		j->count++;
	else
		done(j);
}

static void request(struct job *j)
{
	const char *node = j->arg[0];
	int fd = *node == '/' ? open(node, O_RDWR | O_NONBLOCK) : drm_open(node, "/dev/dri/renderD*");
	int type = *j->arg[1], nr = strtol(j->arg[2], NULL, 0), hz = atoi(j->arg[3]);

	if (fd < 0)
		die(node);
	for (ready(j);; pace(j, hz)) {
		uint32_t words[16] = { 0 };
		char *word = j->arg[4];

		for (int i = 0; i < 16 && *word; i++, word += *word == ',')
			words[i] = strtoul(word, &word, 0);
		begin(j);
		asked(j, ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, type, nr, sizeof(words)), words) < 0);
	}
}

static void look(struct job *j)
{
	int net = *j->arg[0] == '-', hz = atoi(j->arg[1]);
	int fd = net ? socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0) : open(j->arg[0], O_RDONLY | O_NONBLOCK);
	char data[1500];

	if (fd < 0)
		die(j->arg[0]);
	for (ready(j);; pace(j, hz)) {
		begin(j);
		asked(j, read(fd, data, sizeof(data)) < 0);
	}
}

/* ------------------------------------------------------------------ input */
static const struct device {
	const char *name;
	int type, code[8];	/* what `send` sends: this type, its first code */
	int keys[4];
} devices[] = {
	{ "mouse", EV_REL, { REL_X, REL_Y }, { BTN_LEFT, BTN_RIGHT } },
	{ "keyboard", EV_KEY, { KEY_A }, { KEY_ESC, KEY_A, KEY_Z, KEY_SPACE } },
	{ "gamepad", EV_ABS, { ABS_X, ABS_Y }, { BTN_SOUTH, BTN_EAST } },
	{ "touch", EV_ABS, { ABS_X, ABS_Y, ABS_MT_POSITION_X, ABS_MT_POSITION_Y }, { BTN_TOUCH } },
};
static char event_node[64];	/* of the device that `input` made */

static void emit(int fd, int type, int code, int value)
{
	struct input_event e[] = { { .type = type, .code = code, .value = value },
				   { .type = EV_SYN, .code = SYN_REPORT } };

	if (write(fd, e, sizeof(e)) != sizeof(e))
		die("/dev/uinput");
}

static void device_make(int fd, const struct device *d)
{
	static const int code_bit[] = { [EV_REL] = UI_SET_RELBIT, [EV_ABS] = UI_SET_ABSBIT, [EV_KEY] = UI_SET_KEYBIT };
	struct uinput_setup setup = { .id.bustype = BUS_VIRTUAL };
	char sys[64] = "", path[128];
	glob_t found;

	snprintf(setup.name, sizeof(setup.name), "test %s", d->name);
	ioctl(fd, UI_SET_EVBIT, EV_KEY);
	ioctl(fd, UI_SET_EVBIT, d->type);
	for (int i = 0; i < 8 && (!i || d->code[i]); i++)
		ioctl(fd, code_bit[d->type], d->code[i]);
	for (int i = 0; i < 4 && d->keys[i]; i++)
		ioctl(fd, UI_SET_KEYBIT, d->keys[i]);
	for (int i = 0; d->type == EV_ABS && i < 8 && (!i || d->code[i]); i++) {
		struct uinput_abs_setup abs = { .code = d->code[i], .absinfo = { .minimum = -99, .maximum = 99 } };

		ioctl(fd, UI_ABS_SETUP, &abs);
	}
	if (ioctl(fd, UI_DEV_SETUP, &setup) || ioctl(fd, UI_DEV_CREATE) || ioctl(fd, UI_GET_SYSNAME(63), sys) < 0)
		die("/dev/uinput");
	snprintf(path, sizeof(path), "/sys/devices/virtual/input/%s/event*", sys);
	while (glob(path, 0, NULL, &found))
		usleep(1000);
	snprintf(event_node, sizeof(event_node), "/dev/input/%s", strrchr(found.gl_pathv[0], '/') + 1);
}

/*
 * A device that does what stdin says, a line at a time: "send N HZ" (N events of its own
 * kind), "down [N]", "up [N]" (its first key, or its Nth from 0), "destroy". Answers each with how many events it has
 * sent so far; the reports' ends are not counted.
 */
static void input(struct job *j)
{
	int fd = open("/dev/uinput", O_RDWR), n, hz;
	const struct device *d = devices;
	char line[64];

	while (strcmp(d->name, j->arg[0]))
		if (++d == devices + sizeof(devices) / sizeof(*devices))
			die(j->arg[0]);
	if (fd < 0)
		die("/dev/uinput");
	device_make(fd, d);
	ready(j);
	while (fgets(line, sizeof(line), stdin)) {
		begin(j);
		if (sscanf(line, "send %d %d", &n, &hz) == 2)
			for (j->next = 0; n > 0; n--, done(j), pace(j, hz))
				emit(fd, d->type, d->code[0], d->type == EV_REL ? 1 : n & 1 ? 0 : d->type == EV_KEY ? 1 : 50);
		else if (!strncmp(line, "down", 4))
			emit(fd, EV_KEY, d->keys[atoi(line + 4)], 1), done(j);
		else if (!strncmp(line, "up", 2))
			emit(fd, EV_KEY, d->keys[atoi(line + 2)], 0), done(j);
		else if (ioctl(fd, UI_DEV_DESTROY))
			die("destroy");
		printf("sent %llu\n", (unsigned long long)j->count);
	}
}

/* A gamepad as the HID layer sees it: eight buttons, two axes; its x axis goes to and fro. */
static void uhid(struct job *j)
{
	static const uint8_t descriptor[] = {
		0x05, 0x01, 0x09, 0x05, 0xa1, 0x01,				/* game pad */
		0x05, 0x09, 0x19, 0x01, 0x29, 0x08, 0x15, 0x00, 0x25, 0x01,	/* buttons 1 to 8 */
		0x75, 0x01, 0x95, 0x08, 0x81, 0x02,
		0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x15, 0x81, 0x25, 0x7f,	/* x, y, -127 to 127 */
		0x75, 0x08, 0x95, 0x02, 0x81, 0x02, 0xc0,
	};
	static struct uhid_event make = { .type = UHID_CREATE2, .u.create2 = {
		.name = "test pad", .rd_size = sizeof(descriptor), .bus = BUS_USB } };
	static struct uhid_event report = { .type = UHID_INPUT2, .u.input2 = { .size = 3 } };
	int fd = open("/dev/uhid", O_RDWR);

	memcpy(make.u.create2.rd_data, descriptor, sizeof(descriptor));
	if (fd < 0 || write(fd, &make, sizeof(make)) < 0)
		die("/dev/uhid");
	for (ready(j);; pace(j, atoi(j->arg[0]))) {
		report.u.input2.data[1] = j->count & 1 ? -100 : 100;
		begin(j);
		if (write(fd, &report, sizeof(report)) < 0)
			die("/dev/uhid");
		done(j);
	}
}

/*
 * Reads an event or hidraw node when there is one, "-" for that of `input`; counts events but
 * the reports' ends, or reports.
 */
static void evdev(struct job *j)
{
	struct input_event e[64];
	struct pollfd p = { .events = POLLIN };
	ssize_t n;

	do {
		usleep(10000);
		p.fd = open(*j->arg[0] == '-' ? event_node : j->arg[0], O_RDONLY | O_NONBLOCK);
	} while (p.fd < 0);
	ready(j);
	while (poll(&p, 1, -1) >= 0) {
		begin(j);
		n = read(p.fd, e, sizeof(e));
		if (n < 0 && errno == ENODEV)
			break;
		if (!j->end)
			j->end = now_ns();
		if (n > 0 && n < (ssize_t)sizeof(*e))
			j->count++;
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(*e); i++)
			j->count += e[i].type != EV_SYN;
	}
}

/* ------------------------------------------------------------------ sound */
#define RATE 48000
#define PERIOD 512	/* frames: 94 periods a second */
#define BUFFER (4 * PERIOD)

static void pcm_exactly(struct snd_pcm_hw_params *p, int what, unsigned int value)
{
	p->intervals[what - SNDRV_PCM_HW_PARAM_FIRST_INTERVAL] =
		(struct snd_interval){ .min = value, .max = value, .integer = 1 };
}

static int pcm_open(const char *card, int access)
{
	struct snd_pcm_hw_params p = { .rmask = ~0U, .info = ~0U };
	char link[64], node[64];
	ssize_t n;
	int fd;

	snprintf(node, sizeof(node), "/proc/asound/%s", card);
	n = readlink(node, link, sizeof(link) - 1);	/* "cardN" */
	if (n < 5)
		die(node);
	snprintf(node, sizeof(node), "/dev/snd/pcmC%.*sD0p", (int)n - 4, link + 4);
	fd = open(node, O_RDWR);
	if (fd < 0)
		die(node);
	memset(p.masks, 0xff, sizeof(p.masks));
	for (size_t i = 0; i < sizeof(p.intervals) / sizeof(*p.intervals); i++)
		p.intervals[i].max = ~0U;
	p.masks[SNDRV_PCM_HW_PARAM_ACCESS] = (struct snd_mask){ { 1U << access } };
	p.masks[SNDRV_PCM_HW_PARAM_FORMAT] = (struct snd_mask){ { 1U << SNDRV_PCM_FORMAT_S16_LE } };
	pcm_exactly(&p, SNDRV_PCM_HW_PARAM_CHANNELS, 2);
	pcm_exactly(&p, SNDRV_PCM_HW_PARAM_RATE, RATE);
	pcm_exactly(&p, SNDRV_PCM_HW_PARAM_PERIOD_SIZE, PERIOD);
	pcm_exactly(&p, SNDRV_PCM_HW_PARAM_BUFFER_SIZE, BUFFER);
	if (ioctl(fd, SNDRV_PCM_IOCTL_HW_PARAMS, &p) || ioctl(fd, SNDRV_PCM_IOCTL_PREPARE))
		die("hw_params");
	return fd;
}

/* After an underrun, or whatever else stopped it */
static void pcm_again(int fd)
{
	ioctl(fd, SNDRV_PCM_IOCTL_DROP);
	if (ioctl(fd, SNDRV_PCM_IOCTL_PREPARE))
		die("prepare");
}

/* Writes a period at a time; counts periods. */
static void pcm_write(struct job *j)
{
	static short silence[2 * PERIOD];
	int fd = pcm_open(j->arg[0], SNDRV_PCM_ACCESS_RW_INTERLEAVED);

	for (ready(j);;) {
		struct snd_xferi x = { .buf = silence, .frames = PERIOD };

		begin(j);
		if (!ioctl(fd, SNDRV_PCM_IOCTL_WRITEI_FRAMES, &x))
			done(j);
		else
			pcm_again(fd);
	}
}

/* The same without copying: moves the pointer on whenever poll() says that there is room. */
static void pcm_mmap(struct job *j)
{
	int fd = pcm_open(j->arg[0], SNDRV_PCM_ACCESS_MMAP_INTERLEAVED);
	struct snd_pcm_sync_ptr s = { .c.control.avail_min = PERIOD };
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	for (ready(j);; poll(&p, 1, -1)) {
		begin(j);
		s.flags = SNDRV_PCM_SYNC_PTR_HWSYNC | SNDRV_PCM_SYNC_PTR_APPL | SNDRV_PCM_SYNC_PTR_AVAIL_MIN;
		if (ioctl(fd, SNDRV_PCM_IOCTL_SYNC_PTR, &s)) {
			pcm_again(fd);
			continue;
		}
		s.c.control.appl_ptr = s.s.status.hw_ptr + BUFFER;
		s.flags = 0;
		if (!ioctl(fd, SNDRV_PCM_IOCTL_SYNC_PTR, &s))
			done(j);
		if (s.s.status.state == SNDRV_PCM_STATE_PREPARED)
			ioctl(fd, SNDRV_PCM_IOCTL_START);
	}
}

/* ------------------------------------------------------------------ network */
static int udp(const char *port, struct sockaddr_in *to)
{
	*to = (struct sockaddr_in){ AF_INET, htons(atoi(port)), { htonl(INADDR_LOOPBACK) } };
	return socket(AF_INET, SOCK_DGRAM, 0);
}

static void udp_send(struct job *j)
{
	struct sockaddr_in to;
	int fd = udp(j->arg[0], &to), hz = atoi(j->arg[1]);

	for (ready(j);; pace(j, hz)) {
		begin(j);
		sendto(fd, &to, 100, 0, (void *)&to, sizeof(to));
		done(j);
	}
}

static void udp_recv(struct job *j)
{
	struct sockaddr_in at;
	int fd = udp(j->arg[0], &at);
	char packet[1500];

	if (bind(fd, (void *)&at, sizeof(at)))
		die("bind");
	for (ready(j);;) {
		begin(j);
		if (recv(fd, packet, sizeof(packet), 0) < 0)
			die("recv");
		done(j);
	}
}

/* ------------------------------------------------------------------ tasks */
static void idle(struct job *j)
{
	for (ready(j);; pace(j, atoi(j->arg[0])))
		done(j);
}

/* Real-time work that leaves a CPU to nobody else */
static void hog(struct job *j)
{
	struct sched_param fifo = { .sched_priority = 50 };
	uint64_t end;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(j->arg[0]), &set);
	ready(j);
	end = now_ns() + atoi(j->arg[1]) * 1000000ULL;
	begin(j);
	if (sched_setaffinity(0, sizeof(set), &set) || syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &fifo)) /* musl has none */
		die("hog");
	while (now_ns() < end)
		;
	done(j);
}

static void *asleep(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void threads(struct job *j)
{
	pthread_attr_t small;
	pthread_t t;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (ready(j); j->count < strtoul(j->arg[0], NULL, 0); done(j))
		if (pthread_create(&t, &small, asleep, NULL))
			die("threads");
}

/* Names as malware, accidents and games have them; none has a slash where it names a file. */
static const char *const names[] = {
	"a.exe", "wineserver", "pipewire", "0123456789abcdef0123456789", "123456789012345", " ", "a b\tc", "\n",
	"\033[2J\033[31m", "%s%n", "\"x\\", "$(id)`id`", "\xff\xfe\x80", "\xe2\x82", "dxvk-submit", "\x7f",
};
#define NAMES (sizeof(names) / sizeof(*names))

static void *renamed(void *arg)
{
	for (size_t i = 0; i < NAMES; i++)
		prctl(PR_SET_NAME, names[i]);
	prctl(PR_SET_NAME, "../../x");
	return arg;
}

/* A process that renames itself, has a thread, and ends or becomes a program of any name. */
static void storm_child(uint64_t n)
{
	char path[64];
	pthread_t t;

	prctl(PR_SET_NAME, names[n % NAMES]);
	if (!(n % 4) && !pthread_create(&t, NULL, renamed, NULL))
		pthread_join(t, NULL);
	snprintf(path, sizeof(path), "/tmp/storm/%s", names[n % NAMES]);
	if (n % 2)
		execl(path, path, "nothing", NULL);
	_exit(0);
}

static void storm(struct job *j)
{
	char self[256] = "", path[64];
	pthread_t t;
	pid_t pid;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		die("/proc/self/exe");
	mkdir("/tmp/storm", 0755);
	for (size_t i = 0; i < NAMES; i++) {
		snprintf(path, sizeof(path), "/tmp/storm/%s", names[i]);
		if (symlink(self, path) && errno != EEXIST)
			die(path);
	}
	for (ready(j);; done(j)) {
		begin(j);
		pid = fork();
		if (!pid)
			storm_child(j->count);
		/* The program's own threads come and go too. */
		if (!(j->count % 4) && !pthread_create(&t, NULL, renamed, NULL))
			pthread_join(t, NULL);
		waitpid(pid, NULL, 0);
	}
}

/* The program becomes another, which keeps its pid; the thread takes the first one's place. */
static void exec_here(struct job *j)
{
	ready(j);
	execl(j->arg[0], j->arg[0], NULL);
	die(j->arg[0]);
}

/* A child that runs a command, when this program has run for a time */
static void start(struct job *j)
{
	ready(j);
	begin(j);
	if (!fork()) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execl("/bin/sh", "sh", "-c", j->arg[0], NULL);
		_exit(1);
	}
	done(j);
}

static char *exec_path;

/* The same out of the first thread, which sigwait() leaves with this. */
static void exec_first(struct job *j)
{
	ready(j);
	exec_path = j->arg[0];
	kill(getpid(), SIGTERM);
}

/* ------------------------------------------------------------------ main */
static const struct kind kinds[] = {
	{ "submit", 1, submit, "HZ: work for vgem, which stands for a GPU; HZ 0: once" },
	{ "demand", 1, demand, "HZ: the same, on and off" },
	{ "request", 5, request, "NODE|DRIVER TYPE NR HZ WORD[,WORD]...: ioctl NR of a node, or of the driver's render node" },
	{ "look", 2, look, "NODE|- HZ: read without waiting, - a UDP socket to which nobody sends" },
	{ "input", 1, input, "mouse|keyboard|gamepad|touch: a device that does what stdin says" },
	{ "uhid", 1, uhid, "HZ: a gamepad by way of the HID layer" },
	{ "evdev", 1, evdev, "NODE|-: poll and read an event or hidraw node, - for that of `input`" },
	{ "pcm_write", 1, pcm_write, "CARD: play silence" },
	{ "pcm_mmap", 1, pcm_mmap, "CARD: the same without copying" },
	{ "udp_send", 2, udp_send, "PORT HZ: packets over loopback" },
	{ "udp_recv", 1, udp_recv, "PORT: and their receiver" },
	{ "idle", 1, idle, "HZ: wake up, nothing else" },
	{ "hog", 2, hog, "CPU MS: real-time work that leaves that CPU to nobody else" },
	{ "threads", 1, threads, "N: threads that sleep" },
	{ "storm", 0, storm, "fork, exec, rename, exit" },
	{ "start", 1, start, "COMMAND: a child that runs it" },
	{ "exec", 1, exec_here, "PROGRAM: become it" },
	{ "exec_first", 1, exec_first, "PROGRAM: the first thread becomes it" },
};
#define KINDS (sizeof(kinds) / sizeof(*kinds))

static void usage(void)
{
	for (size_t i = 0; i < KINDS; i++)
		printf("%s %s\n", kinds[i].name, kinds[i].help);
	exit(64);
}

/* [NAME=]JOB ARGS...; returns what follows */
static char **parse(struct job *j, char **arg)
{
	char *eq = strchr(*arg, '=');
	const char *kind = eq ? eq + 1 : *arg;

	for (size_t i = 0; i < KINDS; i++)
		if (!strcmp(kind, kinds[i].name))
			j->kind = &kinds[i];
	if (!j->kind)
		usage();
	j->name = eq ? strndup(*arg, eq - *arg) : kind;
	j->arg = ++arg;
	for (int i = 0; i < j->kind->args; i++)
		if (!*arg++)
			usage();
	return arg;
}

static void *run(void *arg)
{
	struct job *j = arg;

	j->tid = syscall(SYS_gettid);
	prctl(PR_SET_NAME, j->name);
	j->kind->run(j);
	for (;;)
		pause();
	return NULL;
}

int main(int argc, char **argv)
{
	int paused = argc > 1 && !strcmp(argv[1], "paused"), sig;
	char **arg = argv + 1 + paused;
	sigset_t set;
	pthread_t t;

	setvbuf(stdout, NULL, _IONBF, 0);
	if (*arg && !strcmp(*arg, "nothing"))
		return 0;
	do {
		if (!*arg || njobs == JOBS)
			usage();
		arg = parse(&jobs[njobs++], arg);
	} while (*arg && !strcmp(*arg++, "+"));
	if (*arg)
		usage();

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_barrier_init(&set_up, NULL, njobs + 1);
	pthread_barrier_init(&started, NULL, njobs + 1);
	for (int i = 0; i < njobs; i++)
		if (pthread_create(&t, NULL, run, &jobs[i]))
			die("thread");
	pthread_barrier_wait(&set_up);
	printf("ready %d\n", getpid());
	if (paused)
		sigwait(&set, &sig);
	pthread_barrier_wait(&started);
	do
		sigwait(&set, &sig);
	while (sig != SIGTERM);
	if (exec_path)
		execl(exec_path, exec_path, NULL);
	for (struct job *j = jobs; j < jobs + njobs; j++)
		printf("%s %d %llu %llu %llu %llu\n", j->name, j->tid, (unsigned long long)j->count,
		       (unsigned long long)j->begin, (unsigned long long)j->end,
		       (unsigned long long)(now_ns() - j->started));
	_exit(0);	/* exit() would wait for the thread that holds stdin */
}
