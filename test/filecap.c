/* filecap MASK FILE: gives FILE these capabilities (hexadecimal, bit per capability), permitted and effective. */
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

int main(int argc, char **argv)
{
	unsigned long long mask = argc == 3 ? strtoull(argv[1], NULL, 16) : 0;
	struct vfs_cap_data cap = {
		.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
		.data = { { .permitted = mask }, { .permitted = mask >> 32 } },
	};

	if (argc != 3 || setxattr(argv[2], "security.capability", &cap, sizeof(cap), 0)) {
		perror("filecap MASK FILE");
		return 1;
	}
	return 0;
}
