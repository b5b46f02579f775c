/*
 * helper.h: what the programs beside it share: clocks, the way out, vgem, which stands for a GPU, a mouse, and a
 * display's socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/uinput.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* As in <drm/drm.h>, <drm/drm_mode.h> and <drm/vgem_drm.h>, which a build machine may lack */
struct drm_version {
	int number[3];
	struct {
		size_t len;
		char *text;
	} name, date, desc;
};

struct drm_dumb {
	uint32_t height, width, bpp, flags, handle, pitch;
	uint64_t size;
};

struct vgem_attach {
	uint32_t handle, flags, fence, pad;
};

struct vgem_signal {
	uint32_t fence, flags;
};

#define DRM_VERSION	_IOWR('d', 0x00, struct drm_version)
#define DRM_DUMB	_IOWR('d', 0xb2, struct drm_dumb)
#define VGEM_ATTACH	_IOWR('d', 0x41, struct vgem_attach)
#define VGEM_SIGNAL	_IOW('d', 0x42, struct vgem_signal)

/* The first of these nodes that is of that driver, or -1 */
static inline int drm_open(const char *driver, const char *nodes)
{
	char name[32] = "";
	struct drm_version v = { .name = { sizeof(name) - 1, name } };
	glob_t found = { 0 };
	int fd = -1;

	glob(nodes, 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc && fd < 0; i++, v.name.len = sizeof(name) - 1) {
		memset(name, 0, sizeof(name));
		fd = open(found.gl_pathv[i], O_RDWR | O_CLOEXEC);
		if (fd >= 0 && (ioctl(fd, DRM_VERSION, &v) || strcmp(name, driver))) {
			close(fd);
			fd = -1;
		}
	}
	globfree(&found);
	return fd;
}

/* vgem's node, or -1: nothing to submit with; handle of what the fences guard */
struct gpu {
	int fd;
	uint32_t buffer;
};

/* vgem, the kernel's GPU without hardware, with a buffer. The other drivers want commands of their own hardware. */
static inline struct gpu gpu_open(void)
{
	struct drm_dumb dumb = { .height = 16, .width = 16, .bpp = 32 };
	int fd = drm_open("vgem", "/dev/dri/card*");

	if (fd < 0 || ioctl(fd, DRM_DUMB, &dumb))
		return (struct gpu){ .fd = -1 };
	return (struct gpu){ fd, dumb.handle };
}

/* A fence on the buffer, as work of a GPU leaves one, which is done at once; 0, or -1. */
static inline int gpu_submit(const struct gpu *gpu)
{
	struct vgem_attach attach = { .handle = gpu->buffer };
	struct vgem_signal signal = { 0 };

	if (gpu->fd < 0 || ioctl(gpu->fd, VGEM_ATTACH, &attach))
		return -1;
	signal.fence = attach.fence;
	return ioctl(gpu->fd, VGEM_SIGNAL, &signal);
}

/* A virtual mouse, or -1 */
static inline int mouse_make(const char *name)
{
	struct uinput_setup setup = { .id.bustype = BUS_VIRTUAL };
	int fd = open("/dev/uinput", O_WRONLY | O_CLOEXEC);

	snprintf(setup.name, sizeof(setup.name), "%s", name);
	if (fd >= 0 && !ioctl(fd, UI_SET_EVBIT, EV_KEY) && !ioctl(fd, UI_SET_KEYBIT, BTN_LEFT) &&
	    !ioctl(fd, UI_SET_EVBIT, EV_REL) && !ioctl(fd, UI_SET_RELBIT, REL_X) &&
	    !ioctl(fd, UI_SET_RELBIT, REL_Y) && !ioctl(fd, UI_DEV_SETUP, &setup) && !ioctl(fd, UI_DEV_CREATE))
		return fd;
	close(fd);
	return -1;
}

/* Binds or connects a socket to a name such as X displays have; it is in no folder, so none is left. 0, or -1. */
static inline int display_socket(int fd, int number, int (*call)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "/tmp/.X11-unix/X%d", number);

	return call(fd, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 1 + n);
}
