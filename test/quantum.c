/*
 * quantum RATE: make QEMU's emulated clock chip tick 32768 >> (RATE - 1) times a second; 0: not.
 *
 * With one TCG thread and icount, QEMU divides the time until its next timer of any kind into
 * turns of its CPUs. The chip's periodic interrupt, which stays masked, so the guest pays
 * nothing, is such a timer: turns last 15 to 30 us (see EVEN_CPUS in test.sh). Without it
 * they last milliseconds and show as wakeup latency. Boot with initcall_blacklist=cmos_init:
 * the driver would switch it off. (PIT and HPET would do, but fire twice, nanoseconds apart.)
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

static unsigned char cmos_get(int reg)
{
	outb(reg, 0x70);
	return inb(0x71);
}

static void cmos_set(int reg, unsigned char value)
{
	outb(reg, 0x70);
	outb(value, 0x71);
}

int main(int argc, char **argv)
{
	int rate = argc == 2 ? atoi(argv[1]) : 0;

	if (argc != 2) {
		fprintf(stderr, "usage: quantum RATE\n");
		return 1;
	}
	if (ioperm(0x70, 2, 1)) {
		perror("ioperm");
		return 1;
	}
	cmos_set(10, (cmos_get(10) & 0xf0) | rate);	/* register A: rate */
	cmos_set(11, (cmos_get(11) & ~0x40) | (rate ? 0x40 : 0));	/* register B: periodic interrupt */
	cmos_get(12);					/* register C: acknowledge */
	return 0;
}
