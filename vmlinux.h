/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel types that gamer.bpf.c reads, and no more of each than it reads.
 *
 * Every access is relocated at load time against the running kernel's BTF, so order, size
 * and missing neighbours don't matter here; only names and member types do. A name with a
 * ___suffix matches the kernel type without it.
 *
 *   1. basic types
 *   2. tasks and CPUs
 *   3. what detection hooks read: programs, DRM, input devices, registers, iterators
 *   4. sched_ext: task state, callback arguments, kfunc arguments, the ops table
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

/* --- 1. basic types ------------------------------------------------------------------ */
typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u8 u8;
typedef __s8 s8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s16 s16;
typedef __s32 s32;
typedef __u64 u64;
typedef __s64 s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

/* From the kernel's user-space ABI: fixed numbers. */
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_F_USER_STACK = 1 << 8,
	BPF_F_FAST_STACK_CMP = 1 << 9,
};

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_STACK_TRACE = 7,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_MAP_TYPE_CGRP_STORAGE = 32,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* --- 2. tasks and CPUs --------------------------------------------------------------- */
/* A forward declaration would not match the kernel's type in a kfunc's prototype. */
struct cpumask {
	unsigned long bits[1];
};

struct bpf_cpumask {
	struct cpumask cpumask;
};

struct cgroup {
	int level;
};

struct thread_info {
	u32 status;
	u32 cpu;
};

struct pcpu_hot {
	int preempt_count;
};

struct sched_ext_entity {
	u32 flags;
	u32 weight;
	u64 slice;
	u64 dsq_vtime;
};

/* In a map's value. */
struct bpf_timer {
	u64 __opaque[2];
};

/* On a program's stack, of the kernel's size. */
struct bpf_iter_scx_dsq {
	u64 __opaque[6];
};

struct rq;

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
	unsigned char custom_slice;	/* since 6.12, as slices that threads ask for */
};

struct upid {
	int nr;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

struct mm_struct {
	unsigned long env_start;
	unsigned long env_end;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	int prio;
	int static_prio;
	unsigned int policy;
	struct sched_entity se;
	struct sched_ext_entity scx;
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	struct mm_struct *mm;
	unsigned short migration_disabled;
	s32 pid;
	s32 tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	unsigned int __state;
	unsigned int on_cpu;
	unsigned int in_iowait : 1;
	unsigned long nvcsw;
	unsigned long nivcsw;
	unsigned long min_flt;
	unsigned long maj_flt;
	u64 start_time;
	u64 start_boottime;
	char comm[16];
};

struct rq {
	struct task_struct *curr;
};

/* --- 3. what detection hooks read ---------------------------------------------------- */
struct linux_binprm {
	const char *filename;
};

struct file {
	void *private_data;
};

#define IPPROTO_UDP	17

struct sock {
	u16 sk_protocol;
};

struct drm_driver {
	char *name;
};

struct drm_device {
	struct drm_driver *driver;
};

struct drm_minor {
	struct drm_device *dev;
};

struct drm_file {
	struct drm_minor *minor;
};

struct drm_event;

struct drm_pending_event {
	struct drm_event *event;
};

struct input_absinfo {
	s32 value;
	s32 minimum;
	s32 maximum;
	s32 fuzz;
	s32 flat;
	s32 resolution;
};

struct input_dev {
	unsigned long keybit[12];
	unsigned long relbit[1];
	struct input_absinfo *absinfo;
	unsigned long key[12];
};

struct input_handle {
	struct input_dev *dev;
};

struct evdev {
	struct input_handle handle;
};

struct evdev_client {
	struct evdev *evdev;
};

struct pt_regs {
	unsigned long bp;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long sp;
};

struct request {
	unsigned int cmd_flags;
	unsigned int __data_len;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/* --- 4. sched_ext -------------------------------------------------------------------- */
struct scx_init_task_args {
	bool fork;
	struct cgroup *cgroup;
};

struct scx_exit_task_args {
	bool cancelled;
};

struct scx_cpu_acquire_args;

struct scx_cpu_release_args {
	struct task_struct *task;
};

struct scx_cgroup_init_args {
	u32 weight;
};

enum scx_exit_kind {
	SCX_EXIT_NONE = 0,
};

struct scx_exit_info {
	enum scx_exit_kind kind;
	s64 exit_code;
	const char *reason;
	char *msg;
};

/* Kernels from 6.19 take these by pointer; their presence selects the call. */
struct scx_bpf_dsq_insert_vtime_args {
	u64 dsq_id;
	u64 slice;
	u64 vtime;
	u64 enq_flags;
};

struct scx_bpf_select_cpu_and_args {
	s32 prev_cpu;
	u64 wake_flags;
	u64 flags;
};

struct sched_ext_ops {
	s32 (*select_cpu)(struct task_struct *p, s32 prev_cpu, u64 wake_flags);
	void (*enqueue)(struct task_struct *p, u64 enq_flags);
	void (*dispatch)(s32 cpu, struct task_struct *prev);
	void (*tick)(struct task_struct *p);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, bool runnable);
	void (*set_weight)(struct task_struct *p, u32 weight);
	void (*cpu_acquire)(s32 cpu, struct scx_cpu_acquire_args *args);
	void (*cpu_release)(s32 cpu, struct scx_cpu_release_args *args);
	s32 (*init_task)(struct task_struct *p, struct scx_init_task_args *args);
	void (*exit_task)(struct task_struct *p, struct scx_exit_task_args *args);
	void (*enable)(struct task_struct *p);
	s32 (*cgroup_init)(struct cgroup *cgrp, struct scx_cgroup_init_args *args);
	void (*cgroup_move)(struct task_struct *p, struct cgroup *from, struct cgroup *to);
	void (*cgroup_set_weight)(struct cgroup *cgrp, u32 weight);
	s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	u32 dispatch_max_batch;
	u64 flags;
	u32 timeout_ms;
	u32 exit_dump_len;
	u64 hotplug_seq;
	char name[128];
};

#pragma clang attribute pop

/* From the kernel's user-space ABI: fixed layout. */
struct drm_event_vblank {
	u32 type;
	u32 length;
	u64 user_data;
	u32 tv_sec;
	u32 tv_usec;
	u32 sequence;
	u32 crtc_id;
};

#endif /* __VMLINUX_H__ */
